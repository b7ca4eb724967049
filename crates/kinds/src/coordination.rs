//! The group `coordination.k8s.io`: Lease and LeaseCandidate.

use std::cmp::Ordering;

use apimachinery::field::{Error, ErrorList};
use apimachinery::names;
use serde_json::Value;

use crate::check::{immutable, int, not_negative, present, qualified, text};
use crate::strategy::{GENERIC, Strategy};
use crate::workload::SPEC;

const LEASE: Strategy = Strategy {
    allow_create_on_update: true,
    allow_unconditional_update: false,
    prepare_for_create: |lease| drop_coordination(lease, &Value::Null),
    prepare_for_update: |new, old, _| drop_coordination(new, old),
    validate: lease,
    validate_update: |new, _, _, errors| lease(new, errors),
    ..GENERIC
};

const CANDIDATE: Strategy = Strategy {
    name: |name, _| names::is_config_map_key(name),
    allow_create_on_update: true,
    allow_unconditional_update: false,
    validate: candidate,
    validate_update: |new, old, _, errors| {
        candidate(new, errors);
        let (new, old) = (&new["spec"]["leaseName"], &old["spec"]["leaseName"]);
        immutable(new, old, &SPEC.child("leaseName"), errors);
    },
    selectable: &[("spec.leaseName", "/spec/leaseName", "")],
    ..GENERIC
};

pub fn strategy(kind: &str) -> Option<&'static Strategy> {
    Some(match kind {
        "Lease" => &LEASE,
        "LeaseCandidate" => &CANDIDATE,
        _ => return None,
    })
}

/// `CoordinatedLeaderElection` is off in v1.36: its fields stay only where they already are.
fn drop_coordination(new: &mut Value, old: &Value) {
    for field in ["strategy", "preferredHolder"] {
        if present(&old["spec"], field).is_none()
            && let Some(spec) = new.get_mut("spec").and_then(Value::as_object_mut)
        {
            spec.remove(field);
        }
    }
}

fn lease(lease: &Value, errors: &mut ErrorList) {
    let spec = &lease["spec"];
    if let Some(seconds) = int(spec, "leaseDurationSeconds").filter(|seconds| *seconds <= 0) {
        errors.push(Error::invalid(&SPEC.child("leaseDurationSeconds"), seconds, "must be greater than 0"));
    }
    not_negative(spec, "leaseTransitions", &SPEC, errors);
    let strategy = present(spec, "strategy").and_then(Value::as_str);
    if let Some(strategy) = strategy {
        self::election(strategy, errors);
    }
    if !text(spec, "preferredHolder").is_empty() && strategy.is_none_or(str::is_empty) {
        let why = "may only be specified if `strategy` is defined";
        errors.push(Error::forbidden(&SPEC.child("preferredHolder"), why));
    }
}

const OLDEST: &str = "OldestEmulationVersion";

/// How a leader is chosen. Upstream names the field twice.
fn election(strategy: &str, errors: &mut ErrorList) {
    let path = SPEC.child("strategy.strategy");
    if strategy.contains('/') {
        qualified(strategy, &path, errors);
    } else if strategy != OLDEST {
        errors.push(Error::not_supported(&path, strategy, [OLDEST]));
    }
}

fn candidate(candidate: &Value, errors: &mut ErrorList) {
    let spec = &candidate["spec"];
    if text(spec, "leaseName").is_empty() {
        errors.push(Error::required(&SPEC.child("leaseName"), ""));
    }
    let read = |field: &str, errors: &mut ErrorList| {
        let given = text(spec, field);
        let version = Version::parse(given);
        if version.is_none() && !given.is_empty() {
            errors.push(Error::invalid(&SPEC.child(field), given, "must be a valid semantic version"));
        }
        version.unwrap_or_default()
    };
    let emulation = read("emulationVersion", errors);
    if text(spec, "binaryVersion").is_empty() {
        errors.push(Error::required(&SPEC.child("binaryVersion"), ""));
    }
    let binary = read("binaryVersion", errors);
    let both = !text(spec, "binaryVersion").is_empty() && !text(spec, "emulationVersion").is_empty();
    if both && binary.compare(&emulation).is_lt() {
        let why = "must be greater than or equal to `emulationVersion`";
        errors.push(Error::invalid(&SPEC.child("binaryVersion"), text(spec, "binaryVersion"), why));
    }
    match text(spec, "strategy") {
        "" => errors.push(Error::required(&SPEC.child("strategy"), "")),
        strategy => {
            if strategy == OLDEST && emulation.compare(&Version::default()).is_eq() {
                let why = "must be specified when `strategy` is 'OldestEmulationVersion'";
                errors.push(Error::required(&SPEC.child("emulationVersion"), why));
            }
            election(strategy, errors);
        }
    }
}

/// A semantic version; what follows `+` does not count.
#[derive(Default)]
struct Version<'a> {
    numbers: [u64; 3],
    pre: Option<&'a str>,
}

impl<'a> Version<'a> {
    fn parse(text: &'a str) -> Option<Version<'a>> {
        let word = |text: &str| text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
        let (text, build) = text.split_once('+').map_or((text, None), |(text, build)| (text, Some(build)));
        let (text, pre) = text.split_once('-').map_or((text, None), |(text, pre)| (text, Some(pre)));
        let good_build =
            build.is_none_or(|build| build.split('.').all(|part| !part.is_empty() && word(part)));
        let good_pre = pre.is_none_or(|pre| {
            pre.split('.').all(|part| {
                let digits = part.bytes().all(|b| b.is_ascii_digit());
                !part.is_empty() && word(part) && (!digits || number(part).is_some())
            })
        });
        let mut parts = text.splitn(3, '.');
        let mut next = || number(parts.next()?);
        let numbers = [next()?, next()?, next()?];
        (good_build && good_pre).then_some(Version { numbers, pre })
    }

    fn compare(&self, other: &Version<'_>) -> Ordering {
        self.numbers.cmp(&other.numbers).then_with(|| match (self.pre, other.pre) {
            (None, None) => Ordering::Equal,
            (None, Some(_)) => Ordering::Greater,
            (Some(_), None) => Ordering::Less,
            (Some(one), Some(other)) => compare_pre(one, other),
        })
    }
}

/// Numbers before words, fewer parts before more.
fn compare_pre(one: &str, other: &str) -> Ordering {
    let parts = |text: &str| -> Vec<(bool, u64, String)> {
        let part =
            |part: &str| number(part).map_or((true, 0, part.to_owned()), |n| (false, n, String::new()));
        text.split('.').map(part).collect()
    };
    parts(one).cmp(&parts(other))
}

/// Digits without zeros in front.
fn number(text: &str) -> Option<u64> {
    let good = text == "0" || !text.starts_with('0');
    (good && text.bytes().all(|b| b.is_ascii_digit())).then(|| text.parse().ok())?
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::rows::Subject;

    /// `TestValidateLease`, `TestValidateLeaseSpec`, `TestValidateLeaseSpecUpdate`
    #[test]
    fn leases() {
        let good = json!({"metadata": {"name": "l", "namespace": "n"}, "spec": {"holderIdentity": "h"}});
        let subject = Subject { group: "coordination.k8s.io", version: "v1", kind: "Lease", good };
        let check = |spec: Value, expect: &[&str]| subject.created(json!({"spec": spec}), expect);
        check(json!({"leaseDurationSeconds": 1, "leaseTransitions": 0}), &[]);
        check(
            json!({"leaseDurationSeconds": 0, "leaseTransitions": -1}),
            &["spec.leaseDurationSeconds: Invalid", "spec.leaseTransitions: Invalid"],
        );
        check(json!({"leaseDurationSeconds": -1}), &["spec.leaseDurationSeconds: Invalid"]);
        // Not taken while the gate is off.
        check(json!({"strategy": "x", "preferredHolder": "y"}), &[]);
        subject.updated(
            json!({}),
            json!({"spec": {"leaseDurationSeconds": -1}}),
            "",
            &["spec.leaseDurationSeconds: Invalid"],
        );
        let faults = |spec: Value| {
            let mut errors = ErrorList::new();
            lease(&json!({"spec": spec}), &mut errors);
            errors.into_iter().map(|error| format!("{}: {:?}", error.field, error.kind)).collect::<Vec<_>>()
        };
        assert_eq!(faults(json!({"strategy": OLDEST, "preferredHolder": "h"})), [""; 0]);
        assert_eq!(faults(json!({"preferredHolder": "h"})), ["spec.preferredHolder: Forbidden"]);
        assert_eq!(faults(json!({"strategy": "x"})), ["spec.strategy.strategy: NotSupported"]);
        assert_eq!(faults(json!({"strategy": "foo.com/bar/baz"})), ["spec.strategy.strategy: Invalid"]);
    }

    /// `TestValidateLeaseCandidate`
    #[test]
    fn candidates() {
        let spec = json!({"binaryVersion": "1.30.0", "emulationVersion": "1.30.0", "leaseName": "l", "strategy": OLDEST});
        let good = json!({"metadata": {"name": "c", "namespace": "n"}, "spec": spec});
        let subject =
            Subject { group: "coordination.k8s.io", version: "v1beta1", kind: "LeaseCandidate", good };
        let check = |spec: Value, expect: &[&str]| subject.created(json!({"spec": spec}), expect);
        check(json!({}), &[]);
        check(json!({"strategy": "foo.com/bar", "emulationVersion": null}), &[]);
        check(
            json!({"leaseName": null, "strategy": null, "binaryVersion": null}),
            &["spec.leaseName: Required", "spec.binaryVersion: Required", "spec.strategy: Required"],
        );
        check(json!({"emulationVersion": null}), &["spec.emulationVersion: Required"]);
        check(json!({"binaryVersion": "1.30.1.6"}), &["spec.binaryVersion: Invalid"]);
        check(json!({"emulationVersion": "1.31.0"}), &["spec.binaryVersion: Invalid"]);
        check(
            json!({"emulationVersion": "1.30"}),
            &["spec.emulationVersion: Invalid", "spec.emulationVersion: Required"],
        );
        subject.updated(json!({}), json!({"spec": {"leaseName": "m"}}), "", &["spec.leaseName: Invalid"]);
    }

    #[test]
    fn versions() {
        let order = [
            "1.0.0-1",
            "1.0.0-2",
            "1.0.0-10",
            "1.0.0-alpha",
            "1.0.0-alpha.1",
            "1.0.0-beta",
            "1.0.0",
            "1.0.1",
            "1.10.0",
            "2.0.0+x",
        ];
        let versions: Vec<Version<'_>> = order.iter().map(|text| Version::parse(text).expect(text)).collect();
        assert!(versions.is_sorted_by(|a, b| a.compare(b).is_lt()));
        for bad in ["", "1", "1.2", "1.02.3", "a.b.c", "1.2.3-", "1.2.3-01", "1.2.3+", "1.2.3-a_b", "-1.2.3"]
        {
            assert!(Version::parse(bad).is_none(), "{bad}");
        }
    }
}
