//! CronJob.

use apimachinery::field::{Error, ErrorList, Path};
use apimachinery::names;
use serde_json::Value;

use super::job;
use crate::check::{flag, not_negative, one_of, present, text};
use crate::cron;
use crate::strategy::{GENERIC, Strategy};
use crate::workload::{self, SPEC};

/// Jobs append the time, eleven characters, to the name.
const MAX_NAME: usize = 63 - 11;

pub const STRATEGY: Strategy = Strategy {
    generation: true,
    prepare_for_create: |new| workload::drop_disabled(new, &Value::Null, TEMPLATE),
    prepare_for_update: |new, old, _| workload::drop_disabled(new, old, TEMPLATE),
    validate,
    validate_update,
    warnings,
    ..GENERIC
};

const TEMPLATE: &str = "/spec/jobTemplate/spec/template";

fn validate(object: &Value, errors: &mut ErrorList) {
    spec(&object["spec"], None, errors);
    let name = text(&object["metadata"], "name");
    if name.len() > MAX_NAME {
        errors.push(Error::invalid(&Path::new("metadata.name"), name, names::max_len_error(MAX_NAME)));
    }
}

fn validate_update(new: &Value, old: &Value, subresource: &str, errors: &mut ErrorList) {
    if subresource != "status" {
        spec(&new["spec"], Some(&old["spec"]), errors);
    }
}

fn spec(spec: &Value, old: Option<&Value>, errors: &mut ErrorList) {
    let zone = present(spec, "timeZone").and_then(Value::as_str);
    match text(spec, "schedule") {
        "" => errors.push(Error::required(&SPEC.child("schedule"), "")),
        schedule => {
            let old = old.is_some_and(|old| text(old, "schedule").contains("TZ"));
            self::schedule(schedule, old, zone.is_some(), errors);
        }
    }
    not_negative(spec, "startingDeadlineSeconds", &SPEC, errors);
    if let Some(zone) = zone
        && old.is_none_or(|old| old.get("timeZone") != spec.get("timeZone"))
    {
        time_zone(zone, &SPEC.child("timeZone"), errors);
    }
    let at = SPEC.child("concurrencyPolicy");
    one_of(text(spec, "concurrencyPolicy"), &["Allow", "Forbid", "Replace"], &at, errors);
    let (template, at) = (&spec["jobTemplate"]["spec"], SPEC.child("jobTemplate.spec"));
    let before = old.map_or(&Value::Null, |old| &old["jobTemplate"]["spec"]);
    job::job_spec(template, before, &at, errors);
    if let Some(selector) = present(template, "selector") {
        let why = "`selector` will be auto-generated";
        errors.push(Error::invalid(&at.child("selector"), selector.clone(), why));
    }
    if flag(template, "manualSelector") {
        errors.push(Error::not_supported(&at.child("manualSelector"), true, ["nil", "false"]));
    }
    not_negative(spec, "successfulJobsHistoryLimit", &SPEC, errors);
    not_negative(spec, "failedJobsHistoryLimit", &SPEC, errors);
}

/// A zone within the schedule was never meant to work; where one stands already it may stay.
fn schedule(schedule: &str, old: bool, zone: bool, errors: &mut ErrorList) {
    let at = SPEC.child("schedule");
    if let Err(error) = cron::parse(schedule) {
        errors.push(Error::invalid(&at, schedule, error.to_string()));
    }
    let why = match schedule.contains("TZ") {
        true if old && zone => "cannot use both timeZone field and TZ or CRON_TZ in schedule",
        true if !old => "cannot use TZ or CRON_TZ in schedule, use timeZone field instead",
        _ => return,
    };
    errors.push(Error::invalid(&at, schedule, why));
}

fn time_zone(zone: &str, path: &Path<'_>, errors: &mut ErrorList) {
    if zone.is_empty() {
        errors.push(Error::invalid(path, zone, "timeZone must be nil or non-empty string"));
        return;
    }
    let character = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_' | b'+');
    let part = |part: &str| {
        !matches!(part, "." | "..")
            && !part.starts_with('-')
            && (1..=14).contains(&part.len())
            && part.bytes().all(character)
    };
    if !zone.split('/').all(part) {
        errors.push(Error::invalid(path, zone, format!("unknown time zone {zone}")));
        return;
    }
    if zone.eq_ignore_ascii_case("Local") {
        let why = "timeZone must be an explicit time zone as defined in https://www.iana.org/time-zones";
        errors.push(Error::invalid(path, zone, why));
    }
    if zone != "Local" && cron::time_zone(zone).is_none() {
        errors.push(Error::invalid(path, zone, format!("unknown time zone {zone}")));
    }
}

fn warnings(new: &Value, old: Option<&Value>, subresource: &str) -> Vec<String> {
    let mut warnings = workload::name_warning(new, old);
    if subresource == "status" {
        return warnings;
    }
    warnings.extend(job::spec_warnings(new, old, "/spec/jobTemplate/spec", "spec.jobTemplate.spec"));
    if old.is_some() && text(&new["spec"], "schedule").contains("TZ") {
        // The path is upstream's.
        warnings.push(
            "cannot use TZ or CRON_TZ in spec.spec.schedule, use timeZone instead, see \
             https://kubernetes.io/docs/concepts/workloads/controllers/cron-jobs/ for more details"
                .to_owned(),
        );
    }
    warnings
}

#[cfg(test)]
mod tests {
    use apimachinery::field::quote;
    use serde_json::json;

    use super::*;
    use crate::rows::Subject;

    fn subject() -> Subject {
        let good = json!({
            "metadata": {"name": "c", "namespace": "n"},
            "spec": {
                "schedule": "5 5 * * ?",
                "jobTemplate": {"spec": {"template": {"spec": {"restartPolicy": "OnFailure",
                    "containers": [{"name": "c", "image": "i"}]}}}},
            },
        });
        Subject { group: "batch", version: "v1", kind: "CronJob", good }
    }

    /// `TestValidateCronJob`, `TestValidateCronJobScheduleTZ`, `TestValidateTimeZone`
    #[test]
    fn create() {
        let check = |spec: Value, expect: &[&str]| subject().created(json!({"spec": spec}), expect);
        for good in ["* * * * ?", "@every 1h30m", "@daily", "*/5 0-4,8 * jan MON-fri", "0 0 31 2 *"] {
            check(json!({"schedule": good}), &[]);
        }
        check(json!({"schedule": "error"}), &["spec.schedule: Invalid"]);
        check(json!({"schedule": ""}), &["spec.schedule: Required"]);
        check(json!({"schedule": "TZ=UTC 0 * * * *"}), &["spec.schedule: Invalid"]);
        check(json!({"schedule": "TZ=0"}), &["spec.schedule: Invalid"]);
        for zone in ["America/New_York", "UTC", "Etc/GMT+5", "US/Eastern"] {
            check(json!({"timeZone": zone}), &[]);
        }
        for zone in [
            "",
            " ",
            "broken",
            "-America/New_York",
            "America/New_York ",
            "Local",
            "local",
            "America/Amsterdam/../UTC",
            "america/new_york",
        ] {
            check(json!({"timeZone": zone}), &["spec.timeZone: Invalid"]);
        }
        check(json!({"startingDeadlineSeconds": -1}), &["spec.startingDeadlineSeconds: Invalid"]);
        check(
            json!({"successfulJobsHistoryLimit": -1, "failedJobsHistoryLimit": -1}),
            &["spec.successfulJobsHistoryLimit: Invalid", "spec.failedJobsHistoryLimit: Invalid"],
        );
        check(json!({"concurrencyPolicy": "Sometimes"}), &["spec.concurrencyPolicy: NotSupported"]);
        let job = |job: Value, expect: &[&str]| check(json!({"jobTemplate": {"spec": job}}), expect);
        job(
            json!({"parallelism": -1, "completions": -1}),
            &["spec.jobTemplate.spec.parallelism: Invalid", "spec.jobTemplate.spec.completions: Invalid"],
        );
        job(json!({"activeDeadlineSeconds": -1}), &["spec.jobTemplate.spec.activeDeadlineSeconds: Invalid"]);
        job(json!({"selector": {"matchLabels": {"a": "b"}}}), &["spec.jobTemplate.spec.selector: Invalid"]);
        job(json!({"manualSelector": true}), &["spec.jobTemplate.spec.manualSelector: NotSupported"]);
        job(
            json!({"template": {"spec": {"restartPolicy": "Always"}}}),
            &["spec.jobTemplate.spec.template.spec.restartPolicy: Required"],
        );
        job(
            json!({"template": {"spec": {"restartPolicy": "Invalid"}}}),
            &["spec.jobTemplate.spec.template.spec.restartPolicy: NotSupported"],
        );
        job(
            json!({"ttlSecondsAfterFinished": -1}),
            &["spec.jobTemplate.spec.ttlSecondsAfterFinished: Invalid"],
        );
        subject().created(json!({"metadata": {"name": "a".repeat(52)}}), &[]);
        subject().says(
            json!({"metadata": {"name": "a".repeat(53)}}),
            &format!(
                "metadata.name: Invalid value: {}: must be no more than 52 characters",
                quote(&"a".repeat(53))
            ),
        );
    }

    #[test]
    fn update() {
        let zone = |schedule: &str| json!({"spec": {"schedule": schedule}});
        let tz = || zone("TZ=UTC 0 * * * *");
        subject().updated(json!({}), tz(), "", &["spec.schedule: Invalid"]);
        subject().updated(tz(), zone("CRON_TZ=UTC 0 * * * *"), "", &[]);
        subject().updated(tz(), json!({"spec": {"timeZone": "UTC"}}), "", &["spec.schedule: Invalid"]);
        // A zone that is not known any more may stay.
        subject().updated(
            json!({"spec": {"timeZone": "broken"}}),
            json!({"spec": {"suspend": true}}),
            "",
            &[],
        );
        subject().updated(
            json!({"spec": {"timeZone": "broken"}}),
            json!({"spec": {"timeZone": "broken2"}}),
            "",
            &["spec.timeZone: Invalid"],
        );
        subject().updated(
            json!({"metadata": {"name": "a".repeat(60)}}),
            json!({"spec": {"suspend": true}}),
            "",
            &[],
        );
        subject().updated(
            json!({}),
            json!({"status": {"lastScheduleTime": "2026-01-01T00:00:00Z"}}),
            "status",
            &[],
        );
    }
}
