use super::*;

#[test]
fn times() {
    let check = |text: &str, expect: &str| {
        let got = match parse(text) {
            Ok(at) => {
                let mut out = Vec::new();
                write(at.seconds, &mut out);
                String::from_utf8(out).unwrap()
            }
            Err(err) => err.to_string(),
        };
        assert_eq!(got, expect, "{text}");
    };
    check("2026-11-21T17:46:00Z", "2026-11-21T17:46:00Z");
    check("2024-02-29T23:59:59.999+02:00", "2024-02-29T21:59:59Z");
    check("1969-12-31T23:59:59Z", "1969-12-31T23:59:59Z");
    check("0001-01-01T00:00:00Z", "0001-01-01T00:00:00Z");
    check("2000-03-01T00:00:00-12:30", "2000-03-01T12:30:00Z");
    check("2023-02-29T00:00:00Z", "parsing time \"2023-02-29T00:00:00Z\": day out of range");
    check("2023-13-01T00:00:00Z", "parsing time \"2023-13-01T00:00:00Z\": month out of range");
    check("2023-01-01T00:00:00Zx", "parsing time \"2023-01-01T00:00:00Zx\": extra text: \"x\"");
    check(
        "yesterday",
        "parsing time \"yesterday\" as \"2006-01-02T15:04:05Z07:00\": cannot parse \"yesterday\" as \"2006\"",
    );
    check(
        "2023-01-01",
        "parsing time \"2023-01-01\" as \"2006-01-02T15:04:05Z07:00\": cannot parse \"\" as \"T\"",
    );
    check("", "parsing time \"\" as \"2006-01-02T15:04:05Z07:00\": cannot parse \"\" as \"2006\"");
    assert!(parse("0001-01-01T00:00:00Z").unwrap().is_zero());
    let micro = parse_micro("2026-11-21T17:46:00.000123Z").unwrap();
    assert_eq!(micro.nanos, 123_000);
    assert!(parse_micro("2026-11-21T17:46:00Z").is_err());
    let at = Timestamp::new(-1, 0).unwrap();
    assert_eq!(format(at), "1969-12-31T23:59:59Z");
    assert_eq!(format_micro(Timestamp::new(0, 1_000).unwrap()), "1970-01-01T00:00:00.000001Z");
    assert_eq!(timestamp("1970-01-01T00:00:01Z"), Timestamp::new(1, 0).ok());
}

#[test]
fn every_day_of_eight_centuries_comes_back() {
    for day in days(1600, 1, 1)..days(2400, 1, 1) {
        let (y, m, d) = civil(day);
        assert!((1..=days_in(y, m)).contains(&d));
        assert_eq!(days(y, m, d), day);
    }
}

#[test]
fn durations() {
    let check = |text: &str, expect: &str| {
        let got = match parse_duration(text) {
            Ok(nanos) => format_duration(nanos),
            Err(err) => err.to_string(),
        };
        assert_eq!(got, expect, "{text}");
    };
    check("0", "0s");
    check("90s", "1m30s");
    check("1h", "1h0m0s");
    check("1.5h", "1h30m0s");
    check("-2.25s", "-2.25s");
    check("1500us", "1.5ms");
    check("10ns", "10ns");
    check("1h2m3.5s", "1h2m3.5s");
    check("", "time: invalid duration \"\"");
    check("5", "time: missing unit in duration \"5\"");
    check("5d", "time: unknown unit \"d\" in duration \"5d\"");
    check(".s", "time: invalid duration \".s\"");
    check("99999999999999h", "time: invalid duration \"99999999999999h\"");
    assert_eq!(format_duration(i64::MIN), "-2562047h47m16.854775808s");
}
