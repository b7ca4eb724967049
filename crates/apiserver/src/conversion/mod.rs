//! One object in another version of its kind. Most versions have one shape and only change their name; the
//! exceptions are here, one file each, but for the autoscaler, which `kinds` knows.

mod aliases;
mod event;
mod resource;

use kinds::autoscaling::conversion as autoscaling;
use serde_json::Value;

pub use aliases::agree;

/// Rewrites an object between two `(group, version)` pairs. What the target version cannot say goes into
/// annotations where upstream does so, else it is dropped by whoever writes the target's fields. `apiVersion`
/// is left to the caller.
pub fn convert(object: &mut Value, kind: &str, from: (&str, &str), to: (&str, &str)) {
    if from == to {
        return;
    }
    match (kind, from, to) {
        ("Event", ("", "v1"), ("events.k8s.io", _)) => event::to_events(object),
        ("Event", ("events.k8s.io", _), ("", "v1")) => event::to_core(object),
        ("HorizontalPodAutoscaler", (_, "v2"), (_, "v1")) => autoscaling::to_v1(object),
        ("HorizontalPodAutoscaler", (_, "v1"), (_, "v2")) => autoscaling::to_v2(object),
        (_, ("resource.k8s.io", "v1beta1"), _) => resource::to_v1(kind, object),
        (_, _, ("resource.k8s.io", "v1beta1")) => resource::to_v1beta1(kind, object),
        _ => {}
    }
}

/// The version whose shape the rules of `kinds` are written for, where it is not the one served: upstream's internal
/// one, after which fields are named in errors.
pub fn rules_version(group: &str, version: &str) -> Option<&'static str> {
    matches!((group, version), ("resource.k8s.io", "v1beta1")).then_some("v1")
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn there_and_back(kind: &str, a: (&str, &str), b: (&str, &str), object: Value, expect: Value) {
        let mut converted = object.clone();
        convert(&mut converted, kind, a, b);
        assert_eq!(converted, expect);
        convert(&mut converted, kind, b, a);
        assert_eq!(converted, object);
    }

    #[test]
    fn events() {
        there_and_back(
            "Event",
            ("", "v1"),
            ("events.k8s.io", "v1"),
            json!({"metadata": {"name": "e"}, "involvedObject": {"name": "p"}, "message": "m", "count": 2,
                "source": {"component": "c"}, "reportingComponent": "r", "reason": "x"}),
            json!({"metadata": {"name": "e"}, "regarding": {"name": "p"}, "note": "m", "deprecatedCount": 2,
                "deprecatedSource": {"component": "c"}, "reportingController": "r", "reason": "x"}),
        );
    }

    #[test]
    fn devices() {
        let (beta, stable) = (("resource.k8s.io", "v1beta1"), ("resource.k8s.io", "v1"));
        let exactly = json!({"deviceClassName": "gpu", "count": 2});
        let old = json!({"name": "a", "deviceClassName": "gpu", "count": 2});
        let first = json!({"name": "b", "firstAvailable": [{"name": "c", "deviceClassName": "gpu"}]});
        let requests = |list: Value| json!({"devices": {"requests": list}});
        let (before, after) =
            (requests(json!([old, first])), requests(json!([{"name": "a", "exactly": exactly}, first])));
        for (kind, wrap) in [
            ("ResourceClaim", (|spec: &Value| json!({"spec": spec})) as fn(&Value) -> Value),
            ("ResourceClaimTemplate", |spec| json!({"spec": {"spec": spec}})),
        ] {
            there_and_back(kind, beta, stable, wrap(&before), wrap(&after));
        }
        there_and_back(
            "ResourceSlice",
            beta,
            stable,
            json!({"spec": {"driver": "d", "devices": [{"name": "x", "basic": {"attributes": {"k": {"int": 1}}}}]}}),
            json!({"spec": {"driver": "d", "devices": [{"name": "x", "attributes": {"k": {"int": 1}}}]}}),
        );
        // Between the later ones nothing moves.
        let same = json!({"spec": after});
        there_and_back("ResourceClaim", ("resource.k8s.io", "v1beta2"), stable, same.clone(), same);
    }

    #[test]
    fn autoscalers() {
        let cpu = json!({"type": "Resource", "resource": {"name": "cpu",
            "target": {"type": "Utilization", "averageUtilization": 80}}});
        let (v1, v2) = (("autoscaling", "v1"), ("autoscaling", "v2"));
        there_and_back(
            "HorizontalPodAutoscaler",
            v1,
            v2,
            json!({"metadata": {"name": "h"}, "spec": {"maxReplicas": 3, "targetCPUUtilizationPercentage": 80},
                "status": {"currentReplicas": 1, "desiredReplicas": 1}}),
            json!({"metadata": {"name": "h"}, "spec": {"maxReplicas": 3, "metrics": [cpu]},
                "status": {"currentReplicas": 1, "desiredReplicas": 1}}),
        );
    }
}
