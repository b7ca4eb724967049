//! Small texts that stand in fields: quantities, durations, times, schedules, names.

use apimachinery::intstr::IntOrString;
use apimachinery::quantity::{Format, Quantity};
use apimachinery::{field, gvk, names, time};
use jiff::Timestamp;
use jiff::tz::TimeZone;
use kinds::cron;
use serde_json::Value;

use crate::bounded;

pub fn run(bytes: &[u8]) {
    bounded(|| read(bytes));
}

fn read(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    quantity(&text);
    times(&text);
    schedule(&text);
    all_names(&text);
    let number = IntOrString::parse(&text);
    let _ = (number.int_value(), number.scaled(i32::MAX, true), number.scaled(i32::MIN, false));
    if let Ok(version) = gvk::GroupVersion::parse(&text) {
        assert_eq!(gvk::GroupVersion::parse(&version.to_string()), Ok(version));
    }
    let _ = field::quote(&text);
}

fn quantity(text: &str) {
    let _ = Quantity::from_value(&Value::from(text));
    let Ok(amount) = Quantity::parse(text) else { return };
    let mut size = amount.clone();
    if size.sign() < 0 {
        size.neg();
    }
    if amount.format() == Format::DecimalSI && size >= Quantity::parse("1e21").expect("a quantity") {
        return; // upstream, and so we, write them without the exponent for which there is no suffix
    }
    let canonical = amount.canonical();
    let again = Quantity::parse(&canonical);
    let again = again.unwrap_or_else(|e| panic!("{text:?} is written as {canonical:?}: {e}"));
    assert_eq!(again, amount, "{text:?} is written as {canonical:?}");
    assert_eq!(again.canonical(), canonical, "canonical twice");
    let written = amount.to_string();
    assert_eq!(Quantity::parse(&written).as_ref(), Ok(&amount), "{text:?} is written as {written:?}");
    let mut sum = amount.clone();
    sum.add(&Quantity::from_milli(1));
    assert!(sum >= amount, "{text:?} and a little");
    sum.mul(3);
    let mut difference = amount.clone();
    difference.sub(&amount);
    assert!(difference.is_zero(), "{text:?} less itself");
    let mut negative = amount.clone();
    negative.neg();
    assert_eq!(negative.sign(), -amount.sign());
    if let Some(whole) = amount.as_i64() {
        assert_eq!(Quantity::new(whole, amount.format()), amount);
    }
    let _ = (amount.value(), amount.milli_value(), amount.as_f64(), sum.canonical(), sum.scaled_value(9));
    let mut rounded = amount.clone();
    rounded.round_up(0);
    assert!(rounded.sign() * amount.sign() >= 0);
}

fn times(text: &str) {
    if let Ok(nanos) = time::parse_duration(text) {
        let written = time::format_duration(nanos);
        assert_eq!(time::parse_duration(&written), Ok(nanos), "{text:?} is written as {written:?}");
    }
    let _ = time::parse_micro(text);
    if let Ok(moment) = time::parse(text) {
        assert!(moment.nanos < 1_000_000_000);
    }
    if let Some(at) = time::timestamp(text) {
        let written = time::format(at);
        let again = time::parse(&written).unwrap_or_else(|e| panic!("{written:?}: {e}"));
        assert_eq!(again.seconds, time::parse(text).expect("just read").seconds, "{text:?} as {written:?}");
        time::parse_micro(&time::format_micro(at)).expect("a time that was written");
    }
}

fn schedule(text: &str) {
    let _ = cron::time_zone(text);
    let Ok(schedule) = cron::parse(text) else { return };
    for second in [0, 1_700_000_000, -1, 253_402_207_000] {
        let Ok(mut at) = Timestamp::from_second(second) else { continue };
        for _ in 0..3 {
            let Some(next) = schedule.next(at, &TimeZone::UTC) else { break };
            assert!(next > at, "{text:?}: {next} is not after {at}");
            at = next;
        }
    }
}

fn all_names(text: &str) {
    let path = field::Path::new("metadata");
    for check in [
        names::is_dns1123_label,
        names::is_dns1123_subdomain,
        names::is_dns1123_subdomain_with_underscore,
        names::is_wildcard_dns1123_subdomain,
        names::is_dns1035_label,
        names::is_qualified_name,
        names::is_label_value,
        names::is_path_segment_name,
        names::is_path_segment_prefix,
        names::is_config_map_key,
        names::is_env_var_name,
        names::is_relaxed_env_var_name,
        names::is_c_identifier,
        names::is_port_name,
        names::is_percent,
        names::is_http_header_name,
    ] as [fn(&str) -> Vec<String>; 16]
    {
        assert!(check(text).iter().all(|fault| !fault.is_empty()));
    }
    if names::is_dns1035_label(text).is_empty() {
        assert_eq!(names::is_dns1123_label(text), [""; 0], "{text:?}");
    }
    if names::is_dns1123_label(text).is_empty() {
        assert_eq!(names::is_dns1123_subdomain(text), [""; 0], "{text:?}");
    }
    let _ = names::is_fully_qualified_name(&path, text);
    let _ = names::is_domain_prefixed_path(&path, text);
    let _ = names::validate_field_manager(text, &path);
}
