//! LimitRanges: what containers get that say nothing, and between which bounds they, their pods and claims must stay
//! (upstream `plugin/pkg/admission/limitranger`).

use std::collections::BTreeSet;

use api::core::v1::PodSpec;
use apimachinery::field;
use apimachinery::quantity::Quantity;
use apimachinery::status::Status;
use kinds::pod::resources::{self, Amounts};
use serde::Deserialize;
use serde_json::Value;

use super::{AdmissionAttributes, Operation, View, forbidden, is_about, items, map_mut, text};

const ANNOTATION: &str = "kubernetes.io/limit-ranger";
/// Where containers are in a spec, and what they are called.
const CONTAINERS: [(&str, &str); 2] = [("/containers", "container"), ("/initContainers", "init container")];

fn is_limited(a: &AdmissionAttributes<'_>) -> bool {
    let about = match a.operation {
        Operation::Create => is_about(a, "", "pods", "") || is_about(a, "", "persistentvolumeclaims", ""),
        Operation::Update => {
            is_about(a, "", "pods", "resize") || is_about(a, "", "persistentvolumeclaims", "")
        }
        Operation::Delete | Operation::Connect => false,
    };
    // What is going away is left in peace.
    about && a.old.is_none_or(|old| old["metadata"]["deletionTimestamp"].is_null())
}

pub fn mutate(view: &View<'_>, a: &AdmissionAttributes<'_>, object: &mut Value) -> Result<(), Status> {
    if is_limited(a) && a.resource == "pods" {
        for range in (view.list)("", "limitranges", a.namespace) {
            set_defaults(&range, object);
        }
    }
    Ok(())
}

pub fn validate(view: &View<'_>, a: &AdmissionAttributes<'_>, object: &Value) -> Result<(), Status> {
    if !is_limited(a) {
        return Ok(());
    }
    for range in (view.list)("", "limitranges", a.namespace) {
        let faults = match a.resource {
            "pods" => of_pod(&range, object).map_err(|e| Status::bad_request(e.to_string()))?,
            _ => of_claim(&range, object),
        };
        if let Some(why) = field::aggregate_messages(faults) {
            return Err(forbidden(a, object, why));
        }
    }
    Ok(())
}

/// Gives containers what they do not say, and notes on the pod what was given.
fn set_defaults(range: &Value, pod: &mut Value) {
    let mut notes = Vec::new();
    for (list, word) in CONTAINERS {
        for container in pod["spec"].pointer_mut(list).and_then(Value::as_array_mut).into_iter().flatten() {
            let name = text(container, "/name").to_owned();
            for (default, kind, noun) in
                [("defaultRequest", "requests", "request"), ("default", "limits", "limit")]
            {
                let set = fill(range, default, container, kind);
                if !set.is_empty() {
                    let set: Vec<&str> = set.iter().map(String::as_str).collect();
                    notes.push(format!("{} {noun} for {word} {name}", set.join(", ")));
                }
            }
        }
    }
    if !notes.is_empty()
        && map_mut(pod, "metadata").is_some()
        && let Some(annotations) = map_mut(&mut pod["metadata"], "annotations")
    {
        annotations.insert(ANNOTATION.into(), format!("LimitRanger plugin set: {}", notes.join("; ")).into());
    }
}

/// Which resources were given. What a later limit of the range says overrides an earlier one.
fn fill(range: &Value, default: &str, container: &mut Value, kind: &str) -> BTreeSet<String> {
    let mut set = BTreeSet::new();
    for limit in items(range, "/spec/limits").filter(|limit| limit["type"] == "Container") {
        for (name, amount) in limit[default].as_object().into_iter().flatten() {
            let given = container.pointer("/resources").and_then(|r| r.get(kind)?.get(name)).is_some();
            if given && !set.contains(name) {
                continue;
            }
            if map_mut(container, "resources").is_some()
                && let Some(amounts) = map_mut(&mut container["resources"], kind)
            {
                amounts.insert(name.clone(), amount.clone());
                set.insert(name.clone());
            }
        }
    }
    set
}

fn amounts(value: &Value) -> Amounts {
    let all = value.as_object().into_iter().flatten();
    all.filter_map(|(name, amount)| Some((name.clone(), Quantity::from_value(amount).ok()?))).collect()
}

/// What is asked for and limited, and what both are measured against.
struct Measure<'a> {
    kind: &'a str,
    requests: &'a Amounts,
    limits: &'a Amounts,
}

fn of_pod(range: &Value, pod: &Value) -> Result<Vec<String>, serde_json::Error> {
    let mut faults = Vec::new();
    for limit in items(range, "/spec/limits") {
        match text(limit, "/type") {
            kind @ "Container" => {
                for container in CONTAINERS.iter().flat_map(|(list, _)| items(&pod["spec"], list)) {
                    let given = &container["resources"];
                    let (requests, limits) = (amounts(&given["requests"]), amounts(&given["limits"]));
                    bounds(limit, &Measure { kind, requests: &requests, limits: &limits }, &mut faults);
                }
            }
            kind @ "Pod" => {
                let spec = PodSpec::deserialize(&pod["spec"])?;
                let requests = resources::requests_of_containers(&spec);
                let limits = resources::limits_of_containers(&spec);
                bounds(limit, &Measure { kind, requests: &requests, limits: &limits }, &mut faults);
            }
            _ => {}
        }
    }
    Ok(faults)
}

fn bounds(limit: &Value, of: &Measure<'_>, faults: &mut Vec<String>) {
    faults.extend(amounts(&limit["min"]).iter().filter_map(|(name, bound)| of.min(name, bound)));
    faults.extend(amounts(&limit["max"]).iter().filter_map(|(name, bound)| of.max(name, bound)));
    let ratios = amounts(&limit["maxLimitRequestRatio"]);
    faults.extend(ratios.iter().filter_map(|(name, bound)| of.ratio(name, bound)));
}

/// A claim has requests only.
fn of_claim(range: &Value, claim: &Value) -> Vec<String> {
    let requests = amounts(&claim["spec"]["resources"]["requests"]);
    let mut faults = Vec::new();
    for limit in items(range, "/spec/limits").filter(|limit| limit["type"] == "PersistentVolumeClaim") {
        let of = Measure { kind: text(limit, "/type"), requests: &requests, limits: &Amounts::new() };
        faults.extend(amounts(&limit["min"]).iter().filter_map(|(name, bound)| of.min(name, bound)));
        faults.extend(amounts(&limit["max"]).iter().filter_map(|(name, bound)| of.max_request(name, bound)));
    }
    faults
}

/// The values in thousandths if all of them can be, else whole; what is absent is nothing.
fn comparable<const N: usize>(all: [Option<&Quantity>; N]) -> [i64; N] {
    const MAX: i64 = i64::MAX / 1000;
    let milli = all.iter().flatten().all(|quantity| quantity.value() <= MAX);
    all.map(|q| q.map_or(0, |q| if milli { q.milli_value() } else { q.value() }))
}

impl Measure<'_> {
    fn min(&self, name: &str, bound: &Quantity) -> Option<String> {
        let (request, limit) = (self.requests.get(name), self.limits.get(name));
        let [asked, allowed, least] = comparable([request, limit, Some(bound)]);
        let head = format!("minimum {name} usage per {} is {}", self.kind, bound.canonical());
        match (request, limit) {
            (None, _) => Some(format!("{head}.  No request is specified")),
            (Some(q), _) if asked < least => Some(format!("{head}, but request is {}", q.canonical())),
            (_, Some(q)) if allowed < least => Some(format!("{head}, but limit is {}", q.canonical())),
            _ => None,
        }
    }

    fn max(&self, name: &str, bound: &Quantity) -> Option<String> {
        let (request, limit) = (self.requests.get(name), self.limits.get(name));
        let [asked, allowed, most] = comparable([request, limit, Some(bound)]);
        let head = format!("maximum {name} usage per {} is {}", self.kind, bound.canonical());
        match (request, limit) {
            (_, None) => Some(format!("{head}.  No limit is specified")),
            (_, Some(q)) if allowed > most => Some(format!("{head}, but limit is {}", q.canonical())),
            (Some(q), _) if asked > most => Some(format!("{head}, but request is {}", q.canonical())),
            _ => None,
        }
    }

    fn max_request(&self, name: &str, bound: &Quantity) -> Option<String> {
        let request = self.requests.get(name);
        let [asked, most] = comparable([request, Some(bound)]);
        let head = format!("maximum {name} usage per {} is {}", self.kind, bound.canonical());
        match request {
            None => Some(format!("{head}.  No request is specified")),
            Some(q) if asked > most => Some(format!("{head}, but request is {}", q.canonical())),
            Some(_) => None,
        }
    }

    fn ratio(&self, name: &str, bound: &Quantity) -> Option<String> {
        let (request, limit) = (self.requests.get(name), self.limits.get(name));
        let [asked, allowed, _] = comparable([request, limit, Some(bound)]);
        let head = format!("{name} max limit to request ratio per {} is {}", self.kind, bound.canonical());
        if asked == 0 {
            return Some(format!("{head}, but no request is specified or request is 0"));
        }
        if allowed == 0 {
            return Some(format!("{head}, but no limit is specified or limit is 0"));
        }
        let ratio = allowed as f64 / asked as f64;
        (ratio * 1000.0 > bound.milli_value() as f64)
            .then(|| format!("{head}, but provided ratio is {ratio:.6}"))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn range(limit: Value) -> Value {
        json!({"spec": {"limits": [limit]}})
    }

    fn pod(containers: &[Value]) -> Value {
        json!({"metadata": {"name": "p"}, "spec": {"containers": containers}})
    }

    fn container(requests: Value, limits: Value) -> Value {
        json!({"name": "c", "resources": {"requests": requests, "limits": limits}})
    }

    /// Upstream's `TestMergePodResourceRequirements`.
    #[test]
    fn defaults() {
        let range = range(json!({"type": "Container", "default": {"cpu": "75m", "memory": "10Mi"},
            "defaultRequest": {"cpu": "50m", "memory": "5Mi"}}));
        let mut object = pod(&[json!({"name": "a"}), container(json!({"cpu": "1"}), json!({}))]);
        object["spec"]["initContainers"] = json!([{"name": "i", "resources": {"limits": {"memory": "1"}}}]);
        set_defaults(&range, &mut object);
        let of = |pointer: &str| object.pointer(pointer).unwrap();
        assert_eq!(
            *of("/spec/containers/0/resources"),
            json!({"requests": {"cpu": "50m", "memory": "5Mi"}, "limits": {"cpu": "75m", "memory": "10Mi"}})
        );
        assert_eq!(*of("/spec/containers/1/resources/requests"), json!({"cpu": "1", "memory": "5Mi"}));
        assert_eq!(*of("/spec/initContainers/0/resources/limits"), json!({"cpu": "75m", "memory": "1"}));
        assert_eq!(
            of("/metadata/annotations")[ANNOTATION],
            "LimitRanger plugin set: cpu, memory request for container a; cpu, memory limit for container a; memory \
             request for container c; cpu, memory limit for container c; cpu, memory request for init container i; cpu \
             limit for init container i"
        );
        let mut nothing = pod(&[container(json!({"cpu": "1"}), json!({}))]);
        let before = nothing.clone();
        set_defaults(&super::tests::range(json!({"type": "Pod", "default": {"cpu": "1"}})), &mut nothing);
        assert_eq!(nothing, before);
    }

    /// The texts of upstream's `TestPodLimitFunc` and `TestPersistentVolumeClaimLimitFunc`.
    #[test]
    fn limits() {
        let small = || container(json!({"cpu": "100m"}), json!({"cpu": "200m"}));
        let of = |kind: &str, what: &str, amount: &str| range(json!({"type": kind, what: {"cpu": amount}}));
        let table: &[(Value, &[Value], &[&str])] = &[
            (of("Container", "min", "50m"), &[small()], &[]),
            (
                of("Container", "min", "150m"),
                &[small()],
                &["minimum cpu usage per Container is 150m, but request is 100m"],
            ),
            (
                of("Container", "min", "50m"),
                &[container(json!({}), json!({}))],
                &["minimum cpu usage per Container is 50m.  No request is specified"],
            ),
            (
                of("Container", "max", "50m"),
                &[container(json!({"cpu": "100m"}), json!({}))],
                &["maximum cpu usage per Container is 50m.  No limit is specified"],
            ),
            (
                of("Container", "max", "150m"),
                &[small(), small()],
                &[
                    "maximum cpu usage per Container is 150m, but limit is 200m",
                    "maximum cpu usage per Container is 150m, but limit is 200m",
                ],
            ),
            (of("Pod", "max", "400m"), &[small(), small()], &[]),
            (
                of("Pod", "max", "399m"),
                &[small(), small()],
                &["maximum cpu usage per Pod is 399m, but limit is 400m"],
            ),
            (of("Container", "maxLimitRequestRatio", "2"), &[small()], &[]),
            (
                of("Container", "maxLimitRequestRatio", "1500m"),
                &[small()],
                &["cpu max limit to request ratio per Container is 1500m, but provided ratio is 2.000000"],
            ),
            (
                of("Container", "maxLimitRequestRatio", "2"),
                &[container(json!({"cpu": "0"}), json!({}))],
                &[
                    "cpu max limit to request ratio per Container is 2, but no request is specified or request is 0",
                ],
            ),
            (
                of("Container", "maxLimitRequestRatio", "2"),
                &[container(json!({"cpu": "1"}), json!({}))],
                &[
                    "cpu max limit to request ratio per Container is 2, but no limit is specified or limit is 0",
                ],
            ),
        ];
        for (range, containers, expect) in table {
            assert_eq!(of_pod(range, &pod(containers)).unwrap(), *expect, "{range} {containers:?}");
        }
        let claim = json!({"spec": {"resources": {"requests": {"storage": "10Gi"}}}});
        let range = |what: &str, amount: &str| {
            range(json!({"type": "PersistentVolumeClaim", what: {"storage": amount}}))
        };
        let table: [(Value, &[&str]); 3] = [
            (range("min", "1Gi"), &[]),
            (
                range("min", "11Gi"),
                &["minimum storage usage per PersistentVolumeClaim is 11Gi, but request is 10Gi"],
            ),
            (
                range("max", "9Gi"),
                &["maximum storage usage per PersistentVolumeClaim is 9Gi, but request is 10Gi"],
            ),
        ];
        for (range, expect) in table {
            assert_eq!(of_claim(&range, &claim), expect, "{range}");
        }
    }
}
