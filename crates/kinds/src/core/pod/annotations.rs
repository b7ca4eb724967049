//! Annotations of pods and templates that mean something, most of them from before the fields that say the same.

use apimachinery::field::{Error, ErrorList, Path};
use serde_json::{Value, json};

use super::options::Options;
use super::{security, validate, visit};
use crate::check::{descending, present, text};

/// Set by kubelets on pods that come from files.
pub const MIRROR: &str = "kubernetes.io/config.mirror";
const DELETION_COST: &str = "controller.kubernetes.io/pod-deletion-cost";
const TOLERATIONS: &str = "scheduler.alpha.kubernetes.io/tolerations";
pub const SECCOMP_POD: &str = "seccomp.security.alpha.kubernetes.io/pod";
pub const SECCOMP_CONTAINER: &str = "container.seccomp.security.alpha.kubernetes.io/";
pub const APP_ARMOR: &str = "container.apparmor.security.beta.kubernetes.io/";

fn get<'a>(metadata: &'a Value, key: &str) -> Option<&'a str> {
    metadata["annotations"].get(key).and_then(Value::as_str)
}

/// Name and value of each annotation of one prefix, without the prefix.
fn prefixed<'a>(metadata: &'a Value, prefix: &'a str) -> impl Iterator<Item = (&'a str, &'a str, &'a str)> {
    let all = metadata["annotations"].as_object().into_iter().flatten();
    all.filter_map(move |(key, value)| {
        Some((key.as_str(), key.strip_prefix(prefix)?, value.as_str().unwrap_or_default()))
    })
}

/// Every fault of the annotations; `path` leads to them.
pub fn check(metadata: &Value, spec: &Value, options: Options, path: &Path<'_>, errors: &mut ErrorList) {
    if let Some(mirror) = get(metadata, MIRROR)
        && text(spec, "nodeName").is_empty()
    {
        let why = "must set spec.nodeName if mirror pod annotation is set";
        errors.push(Error::invalid(&path.key(MIRROR), mirror, why));
    }
    if let Some(list) = get(metadata, TOLERATIONS).filter(|list| !list.is_empty()) {
        match serde_json::from_str::<Vec<Value>>(list) {
            Ok(list) => validate::pod_tolerations(&list, options, &path.child(TOLERATIONS), errors),
            Err(why) => errors.push(Error::invalid(path, TOLERATIONS, why.to_string())),
        }
    }
    if !options.deletion_cost {
        deletion_cost(metadata, path, errors);
    }
    if let Some(profile) = get(metadata, SECCOMP_POD) {
        seccomp(profile, &path.child(SECCOMP_POD), errors);
    }
    for (key, _, profile) in prefixed(metadata, SECCOMP_CONTAINER) {
        seccomp(profile, &path.child(key), errors);
    }
    for (key, name, profile) in prefixed(metadata, APP_ARMOR) {
        let mut found = false;
        visit(spec, path, |container, _| found |= text(container, "name") == name);
        if !found {
            errors.push(Error::invalid(&path.key(key), name, "container not found"));
        }
        let good =
            matches!(profile, "" | "runtime/default" | "unconfined") || profile.starts_with("localhost/");
        if !good {
            let why = format!("invalid AppArmor profile name: \"{profile}\"");
            errors.push(Error::invalid(&path.key(key), profile, why));
        }
    }
}

/// A whole number of 32 bits without sign or zeros in front (KEP-2255).
pub fn deletion_cost(metadata: &Value, path: &Path<'_>, errors: &mut ErrorList) {
    if let Some(cost) = get(metadata, DELETION_COST) {
        let starts =
            cost == "0" || cost.starts_with('-') || cost.starts_with(|first| ('1'..='9').contains(&first));
        if !starts || cost.parse::<i32>().is_err() {
            errors.push(Error::invalid(&path.key(DELETION_COST), cost, "must be a 32bit integer"));
        }
    }
}

fn seccomp(profile: &str, path: &Path<'_>, errors: &mut ErrorList) {
    match profile.strip_prefix("localhost/") {
        Some(file) => descending(file, path, errors),
        None if matches!(profile, "runtime/default" | "docker/default" | "unconfined") => {}
        None => errors.push(Error::invalid(path, profile, "must be a valid seccomp profile")),
    }
}

/// What of the annotations of a pod never changes; then [`check`].
pub fn update(new: &Value, old: &Value, options: Options, path: &Path<'_>, errors: &mut ErrorList) {
    let (after, before) = (&new["metadata"], &old["metadata"]);
    let keys = |metadata: &Value| -> Vec<String> {
        metadata["annotations"].as_object().into_iter().flat_map(|all| all.keys().cloned()).collect()
    };
    for key in keys(before) {
        if get(after, &key) == get(before, &key) {
            continue;
        }
        if key.starts_with(APP_ARMOR) {
            errors.push(Error::forbidden(&path.key(&key), "may not remove or update AppArmor annotations"));
        }
        if key == MIRROR {
            errors.push(Error::forbidden(&path.key(&key), "may not remove or update mirror pod annotation"));
        }
    }
    for key in keys(after).iter().filter(|key| get(before, key).is_none()) {
        if key.starts_with(APP_ARMOR) {
            errors.push(Error::forbidden(&path.key(key), "may not add AppArmor annotations"));
        }
        if key == MIRROR {
            errors.push(Error::forbidden(&path.key(key), "may not add mirror pod annotation"));
        }
    }
    check(after, &new["spec"], options, path, errors);
}

/// Where annotation and field both give a profile they agree. `path` leads to the spec.
pub fn profiles_agree(metadata: &Value, spec: &Value, path: &Path<'_>, errors: &mut ErrorList) {
    let pod = present(spec, "securityContext");
    let context = path.child("securityContext");
    let seccomp = pod.and_then(|context| present(context, "seccompProfile"));
    if let (Some(profile), Some(annotation)) = (seccomp, get(metadata, SECCOMP_POD)) {
        agrees(annotation, profile, "seccomp", &context.child("seccompProfile"), errors);
    }
    visit(spec, path, |container, path| {
        let profile = present(container, "securityContext").and_then(|c| present(c, "seccompProfile"));
        let key = format!("{SECCOMP_CONTAINER}{}", text(container, "name"));
        if let (Some(profile), Some(annotation)) = (profile, get(metadata, &key)) {
            agrees(annotation, profile, "seccomp", &path.child("securityContext.seccompProfile"), errors);
        }
    });
    if text(&spec["os"], "name") == "windows" {
        return;
    }
    let pod = pod.and_then(|context| present(context, "appArmorProfile"));
    visit(spec, path, |container, path| {
        let own = present(container, "securityContext").and_then(|c| present(c, "appArmorProfile"));
        let key = format!("{APP_ARMOR}{}", text(container, "name"));
        if let (Some(profile), Some(annotation)) = (own.or(pod), get(metadata, &key)) {
            agrees(annotation, profile, "apparmor", &path.child("securityContext.appArmorProfile"), errors);
        }
    });
}

fn agrees(annotation: &str, profile: &Value, what: &str, path: &Path<'_>, errors: &mut ErrorList) {
    let types = format!("{what} type in annotation and field must match");
    let good = match text(profile, "type") {
        "Unconfined" => annotation == "unconfined",
        "RuntimeDefault" => {
            annotation == "runtime/default" || what == "seccomp" && annotation == "docker/default"
        }
        "Localhost" => match annotation.strip_prefix("localhost/") {
            None => false,
            Some(file) => {
                if profile["localhostProfile"] != file {
                    let why = format!("{what} profile in annotation and field must match");
                    errors.push(Error::forbidden(&path.child("localhostProfile"), why));
                }
                true
            }
        },
        _ => true,
    };
    if !good {
        errors.push(Error::forbidden(&path.child("type"), types));
    }
}

/// The AppArmor profile that an annotation stands for; `None` if for none.
pub fn app_armor_profile(annotation: &str) -> Option<Value> {
    match annotation {
        "unconfined" => Some(json!({"type": "Unconfined"})),
        "runtime/default" => Some(json!({"type": "RuntimeDefault"})),
        other => {
            let file = other.strip_prefix("localhost/").filter(|file| !file.is_empty())?;
            Some(json!({"type": "Localhost", "localhostProfile": file}))
        }
    }
}

/// Fills in the field of each container that only has the annotation (KEP-24).
pub fn fill_app_armor(pod: &mut Value) {
    if text(&pod["spec"]["os"], "name") == "windows" {
        return;
    }
    let metadata = pod["metadata"].clone();
    let whole = pod.pointer("/spec/securityContext/appArmorProfile").filter(|p| !p.is_null()).cloned();
    for list in ["initContainers", "containers", "ephemeralContainers"] {
        let containers = pod["spec"].get_mut(list).and_then(Value::as_array_mut);
        for container in containers.into_iter().flatten() {
            let key = format!("{APP_ARMOR}{}", text(container, "name"));
            let own = container.pointer("/securityContext/appArmorProfile").is_some_and(|p| !p.is_null());
            let Some(profile) = get(&metadata, &key).filter(|_| !own).and_then(app_armor_profile) else {
                continue;
            };
            let mut errors = ErrorList::new();
            security::app_armor(&profile, &Path::NIL, &mut errors);
            if errors.is_empty() && whole.as_ref() != Some(&profile) {
                container["securityContext"]["appArmorProfile"] = profile;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(errors: &ErrorList) -> Vec<String> {
        errors.iter().map(|error| format!("{}: {:?}", error.field, error.kind)).collect()
    }

    #[test]
    fn annotations() {
        let check = |key: &str, value: &str, expect: &[&str]| {
            let mut errors = ErrorList::new();
            let spec = json!({"containers": [{"name": "c"}]});
            let metadata = json!({"annotations": {key: value}});
            super::check(&metadata, &spec, Options::default(), &Path::new("a"), &mut errors);
            assert_eq!(shown(&errors), expect, "{key}={value}");
        };
        check(MIRROR, "x", &["a[kubernetes.io/config.mirror]: Invalid"]);
        for good in ["0", "-5", "100", "2147483647"] {
            check(DELETION_COST, good, &[]);
        }
        for bad in ["", "+10", "001", "2147483648", "text"] {
            check(DELETION_COST, bad, &["a[controller.kubernetes.io/pod-deletion-cost]: Invalid"]);
        }
        check(
            TOLERATIONS,
            "[{\"key\": \"\", \"operator\": \"Equal\"}]",
            &["a.scheduler.alpha.kubernetes.io/tolerations[0].operator: Invalid"],
        );
        for good in ["localhost/foo", "docker/default", "unconfined", "runtime/default"] {
            check(SECCOMP_POD, good, &[]);
        }
        check(SECCOMP_POD, "foo", &["a.seccomp.security.alpha.kubernetes.io/pod: Invalid"]);
        check(
            &format!("{SECCOMP_CONTAINER}c"),
            "localhost//x",
            &["a.container.seccomp.security.alpha.kubernetes.io/c: Invalid"],
        );
        check(&format!("{APP_ARMOR}c"), "localhost/x", &[]);
        check(
            &format!("{APP_ARMOR}c"),
            "bad",
            &["a[container.apparmor.security.beta.kubernetes.io/c]: Invalid"],
        );
        check(
            &format!("{APP_ARMOR}d"),
            "unconfined",
            &["a[container.apparmor.security.beta.kubernetes.io/d]: Invalid"],
        );
    }

    #[test]
    fn fields_and_annotations_agree() {
        let check = |key: &str, annotation: &str, context: Value, expect: &[&str]| {
            let spec = json!({"containers": [{"name": "c", "securityContext": context}]});
            let mut errors = ErrorList::new();
            let metadata = json!({"annotations": {format!("{key}c"): annotation}});
            profiles_agree(&metadata, &spec, &Path::new("spec"), &mut errors);
            assert_eq!(shown(&errors), expect);
        };
        let seccomp = |profile: Value| json!({"seccompProfile": profile});
        check(SECCOMP_CONTAINER, "unconfined", seccomp(json!({"type": "Unconfined"})), &[]);
        check(SECCOMP_CONTAINER, "docker/default", seccomp(json!({"type": "RuntimeDefault"})), &[]);
        check(
            SECCOMP_CONTAINER,
            "unconfined",
            seccomp(json!({"type": "RuntimeDefault"})),
            &["spec.containers[0].securityContext.seccompProfile.type: Forbidden"],
        );
        check(
            SECCOMP_CONTAINER,
            "localhost/a",
            seccomp(json!({"type": "Localhost", "localhostProfile": "b"})),
            &["spec.containers[0].securityContext.seccompProfile.localhostProfile: Forbidden"],
        );
        check(
            APP_ARMOR,
            "unconfined",
            json!({"appArmorProfile": {"type": "RuntimeDefault"}}),
            &["spec.containers[0].securityContext.appArmorProfile.type: Forbidden"],
        );
    }

    #[test]
    fn app_armor_is_filled_in() {
        let mut pod = json!({"metadata": {"annotations": {format!("{APP_ARMOR}c"): "localhost/x", format!("{APP_ARMOR}d"): "odd"}},
            "spec": {"containers": [{"name": "c"}, {"name": "d"}]}});
        fill_app_armor(&mut pod);
        assert_eq!(
            pod["spec"]["containers"],
            json!([
            {"name": "c", "securityContext": {"appArmorProfile": {"type": "Localhost", "localhostProfile": "x"}}}, {"name": "d"}])
        );
    }
}
