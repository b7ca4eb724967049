//! The `resize` subresource: cpu and memory of containers that run (KEP-1287), and of pods as a whole (KEP-5419).

use apimachinery::field::{Error, ErrorList, Path};
use serde_json::{Map, Value};

use super::update::{equal, options};
use super::{annotations, qos_class, validate};
use crate::check::{entries, items, present, text};

const LISTS: [&str; 2] = ["containers", "initContainers"];

/// Everything but what a resize may change stays as it was. Containers that do not pair up are left for
/// [`validate`](check) to refuse.
pub fn prepare(new: &mut Value, old: &Value) {
    let (after, before) = (&new["spec"], &old["spec"]);
    if LISTS.iter().any(|list| items(after, list).len() != items(before, list).len()) {
        return;
    }
    let mut spec = before.clone();
    match after.get("resources") {
        Some(level) => spec["resources"] = level.clone(),
        None => drop(spec.as_object_mut().map(|spec| spec.remove("resources"))),
    }
    for list in LISTS {
        let (now, was) = (items(after, list), items(before, list));
        if now.is_empty() {
            continue;
        }
        let paired = now.iter().zip(was).all(|(now, was)| text(now, "name") == text(was, "name"));
        let merged = now.iter().zip(was).map(|(now, was)| {
            let mut container = was.clone();
            super::update::restore(&mut container, now, "resources");
            super::update::restore(&mut container, now, "resizePolicy");
            container
        });
        spec[list] = if paired { merged.collect() } else { Value::from(now.to_vec()) };
    }
    new["spec"] = spec;
    super::keep_status_and_metadata(new, old);
}

/// Every fault of a resize.
pub fn check(new: &Value, old: &Value, errors: &mut ErrorList) {
    let (path, nowhere) = (Path::new("spec"), Path::new(""));
    if old["metadata"]["annotations"].get(annotations::MIRROR).is_some() {
        errors.push(Error::forbidden(&nowhere, "static pods cannot be resized"));
        return;
    }
    if text(&old["spec"]["os"], "name") == "windows" {
        errors.push(Error::forbidden(&nowhere, "windows pods cannot be resized"));
        return;
    }
    let before_all = errors.len();
    validate::whole(new, options(old), errors);
    let (after, before) = (&new["spec"], &old["spec"]);
    let class = match text(&old["status"], "qosClass") {
        "" => qos_class(before),
        class => class,
    };
    if class != qos_class(after) {
        let shown = text(&new["status"], "qosClass");
        errors.push(Error::invalid(&path, shown, "Pod QOS Class may not change as a result of resizing"));
    }
    let running = items(&old["status"], "containerStatuses")
        .iter()
        .find(|status| present(&status["state"], "running").is_some());
    if running.is_some_and(|status| present(status, "resources").is_none()) {
        errors.push(Error::forbidden(&path, "Pod running on node without support for resize"));
    }
    let mut masked = after.clone();
    if has_level(before) || has_level(after) {
        pod_level(after, before, &mut masked, &path, errors);
    }
    if !items(&old["status"], "nodeAllocatableResourceClaimStatuses").is_empty() {
        let why = "pods with node allocatable resource claims cannot be resized";
        errors.push(Error::forbidden(&path, why));
    }
    if !in_order(after, before, &path, errors) {
        return;
    }
    for list in ["initContainers", "containers"] {
        let at = path.child(list);
        for (index, (now, was)) in items(after, list).iter().zip(items(before, list)).enumerate() {
            let at = at.index(index);
            let at = at.child("resources");
            for (field, what) in [("requests", "resource requests"), ("limits", "resource limits")] {
                if removed(&now["resources"], &was["resources"], field) {
                    errors.push(Error::forbidden(&at.child(field), format!("{what} cannot be removed")));
                }
            }
        }
    }
    mask(&mut masked, before, &path, errors);
    if errors.len() == before_all && !equal(&masked, before) {
        errors.push(Error::forbidden(&path, "only cpu and memory resources are mutable"));
    }
}

fn has_level(spec: &Value) -> bool {
    ["requests", "limits"].iter().any(|list| entries(&spec["resources"], list).next().is_some())
}

fn removed(new: &Value, old: &Value, list: &str) -> bool {
    entries(old, list).any(|(name, _)| new[list].get(name).is_none())
}

fn pod_level(after: &Value, before: &Value, masked: &mut Value, path: &Path<'_>, errors: &mut ErrorList) {
    let at = path.child("resources");
    let (now, was) = (present(after, "resources"), present(before, "resources"));
    if was.is_some() && now.is_none() {
        errors.push(Error::forbidden(&at, "pod-level resources cannot be removed"));
        return;
    }
    if let (Some(now), Some(was)) = (now, was) {
        for list in ["requests", "limits"] {
            if removed(now, was, list) {
                let why = format!("pod-level resource {list} cannot be removed");
                errors.push(Error::forbidden(&at.child(list), why));
            }
        }
    }
    let Some(now) = now else { return };
    let (own, old) =
        (keep_cpu_and_memory(now, was.unwrap_or(&Value::Null)), was.cloned().unwrap_or_default());
    let empty = |level: &Value| {
        ["requests", "limits"].iter().all(|list| entries(level, list).next().is_none())
            && items(level, "claims").is_empty()
    };
    let same = if empty(&own) { empty(&old) } else { own == old };
    if !same {
        let why = "only cpu and memory resources are mutable at pod-level";
        errors.push(Error::forbidden(path, why));
    }
    super::update::restore(masked, before, "resources");
    if !same {
        masked["resources"] = own;
    }
}

/// The new lists with cpu and memory as they were.
fn keep_cpu_and_memory(new: &Value, old: &Value) -> Value {
    let mut kept = new.clone();
    for list in ["requests", "limits"] {
        let mut amounts: Map<String, Value> = entries(new, list)
            .filter(|(name, _)| !matches!(name.as_str(), "cpu" | "memory"))
            .map(|(name, amount)| (name.clone(), amount.clone()))
            .collect();
        for name in ["cpu", "memory"] {
            if let Some(amount) = old[list].get(name) {
                amounts.insert(name.to_owned(), amount.clone());
            }
        }
        match amounts.is_empty() && old.get(list).is_none() {
            true => drop(kept.as_object_mut().map(|kept| kept.remove(list))),
            false => kept[list] = Value::Object(amounts),
        }
    }
    kept
}

fn in_order(after: &Value, before: &Value, path: &Path<'_>, errors: &mut ErrorList) -> bool {
    let start = errors.len();
    for list in LISTS {
        let at = path.child(list);
        let (now, was) = (items(after, list), items(before, list));
        if now.len() != was.len() {
            errors.push(Error::forbidden(&at, format!("{list} may not be added or removed on resize")));
            continue;
        }
        for (index, (now, was)) in now.iter().zip(was).enumerate() {
            if text(now, "name") != text(was, "name") {
                let why = format!("{list} may not be renamed or reordered on resize");
                errors.push(Error::forbidden(&at.index(index).child("name"), why));
            }
        }
    }
    errors.len() == start
}

/// Takes the changes of cpu and memory out of every container; what else changed is a fault.
fn mask(masked: &mut Value, before: &Value, path: &Path<'_>, errors: &mut ErrorList) {
    for list in LISTS {
        let at = path.child(list);
        let containers = masked.get_mut(list).and_then(Value::as_array_mut);
        for (index, (own, was)) in containers.into_iter().flatten().zip(items(before, list)).enumerate() {
            let modified = own != was;
            let null = Value::Null;
            let mut resources = keep_cpu_and_memory(
                own.get("resources").unwrap_or(&null),
                was.get("resources").unwrap_or(&null),
            );
            // Claims are taken out of the new form only, so that who has some cannot be resized.
            if let Some(resources) = resources.as_object_mut() {
                resources.remove("claims");
            }
            if own.get("resources").is_some() {
                own["resources"] = resources;
            }
            let changed = own != was;
            if list == "containers" {
                if changed {
                    errors.push(Error::forbidden(path, "only cpu and memory resources are mutable"));
                }
                continue;
            }
            if changed {
                let why = "only cpu and memory resources for init or sidecar containers are mutable";
                errors.push(Error::forbidden(&at.index(index), why));
            }
            if modified && text(own, "restartPolicy") != "Always" {
                for policy in items(own, "resizePolicy") {
                    if text(policy, "restartPolicy") == "RestartContainer" {
                        let why = "non-sidecar init containers with a resize policy of RestartContainer cannot be \
                                   resized";
                        errors.push(Error::forbidden(&at.index(index), why));
                    }
                }
            }
        }
    }
}
