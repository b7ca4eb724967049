//! Fields behind gates that are off in v1.36: a new object does not have them, an old one keeps them (upstream's
//! `DropDisabledPodFields`).

use serde_json::Value;

use super::volumes;
use crate::check::{items, present};

const CONTAINERS: [&str; 3] = ["initContainers", "containers", "ephemeralContainers"];
const STATUSES: [&str; 3] = ["containerStatuses", "initContainerStatuses", "ephemeralContainerStatuses"];

fn each(object: &Value, lists: &[&str], mut look: impl FnMut(&Value) -> bool) -> bool {
    lists.iter().flat_map(|list| items(object, list)).any(&mut look)
}

fn each_mut(object: &mut Value, lists: &[&str], mut change: impl FnMut(&mut Value)) {
    for list in lists {
        let list = object.get_mut(list).and_then(Value::as_array_mut);
        list.into_iter().flatten().for_each(&mut change);
    }
}

fn remove(object: &mut Value, field: &str) {
    if let Some(object) = object.as_object_mut() {
        object.remove(field);
    }
}

/// Drops what is off from a pod's spec; `old` is the one it replaces, if any.
pub fn spec(spec: &mut Value, old: Option<&Value>) {
    let old = old.unwrap_or(&Value::Null);
    if !spec.is_object() {
        return;
    }
    for source in ["clusterTrustBundle", "podCertificate"] {
        let uses = |spec: &Value| volumes::projections(spec).any(|own| present(own, source).is_some());
        if uses(spec) && !uses(old) {
            each_mut(spec, &["volumes"], |volume| {
                if let Some(projected) = volume.get_mut("projected") {
                    each_mut(projected, &["sources"], |own| remove(own, source));
                }
            });
        }
    }
    // KEP-4671.
    if present(old, "schedulingGroup").is_none() {
        remove(spec, "schedulingGroup");
    }
    // KEP-4960.
    let signals = |container: &Value| {
        present(container, "lifecycle").is_some_and(|lifecycle| present(lifecycle, "stopSignal").is_some())
    };
    if each(spec, &CONTAINERS, signals) && !each(old, &CONTAINERS, signals) {
        each_mut(spec, &CONTAINERS, |container| {
            if let Some(lifecycle) = container.get_mut("lifecycle").and_then(Value::as_object_mut)
                && lifecycle.remove("stopSignal").is_some()
                && lifecycle.is_empty()
            {
                remove(container, "lifecycle");
            }
        });
    }
}

/// Drops what is off from a pod's status.
pub fn status(status: &mut Value, old: &Value) {
    let digests = |status: &Value| {
        let mounts =
            |own: &Value| each(own, &["volumeMounts"], |mount| present(mount, "volumeStatus").is_some());
        each(status, &STATUSES, mounts)
    };
    // KEP-5365.
    if digests(status) && !digests(old) {
        each_mut(status, &STATUSES, |own| {
            each_mut(own, &["volumeMounts"], |mount| remove(mount, "volumeStatus"));
        });
    }
    // KEP-5517.
    let claims = "nodeAllocatableResourceClaimStatuses";
    if items(old, claims).is_empty() {
        remove(status, claims);
    }
}

/// Drops what is off from a template; `old` is `null` for a new one.
pub fn template(template: &mut Value, old: &Value) {
    if let Some(own) = template.get_mut("spec") {
        spec(own, old.get("spec"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn only_who_has_it_keeps_it() {
        let full = json!({
            "schedulingGroup": {"podGroupName": "g"},
            "containers": [{"name": "a", "lifecycle": {"stopSignal": "SIGTERM"}}, {"name": "b", "lifecycle": {"stopSignal": "SIGTERM", "preStop": {}}}],
            "volumes": [{"name": "v", "projected": {"sources": [{"clusterTrustBundle": {"name": "x"}}, {"podCertificate": {}}]}}],
        });
        let mut new = full.clone();
        spec(&mut new, None);
        assert_eq!(
            new,
            json!({"containers": [{"name": "a"}, {"name": "b", "lifecycle": {"preStop": {}}}],
            "volumes": [{"name": "v", "projected": {"sources": [{}, {}]}}]})
        );
        let mut kept = full.clone();
        spec(&mut kept, Some(&full));
        assert_eq!(kept, full);
        let mounted = json!({"containerStatuses": [{"volumeMounts": [{"name": "v", "volumeStatus": {}}]}],
            "nodeAllocatableResourceClaimStatuses": [{}]});
        let mut new = mounted.clone();
        status(&mut new, &json!({}));
        assert_eq!(new, json!({"containerStatuses": [{"volumeMounts": [{"name": "v"}]}]}));
        let mut kept = mounted.clone();
        status(&mut kept, &mounted);
        assert_eq!(kept, mounted);
    }
}
