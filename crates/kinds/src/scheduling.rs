//! Priority classes.

use apimachinery::field::{Error, ErrorList, Path};
use serde_json::{Value, json};

use crate::check::{flag, int, one_of, present, text};
use crate::meta::unchanged;
use crate::strategy::{GENERIC, Strategy};

/// The highest priority that users may define; critical system pods are above.
const HIGHEST_OF_USERS: i64 = 1_000_000_000;
/// The system's own classes, which nobody may define otherwise.
const SYSTEM: [(&str, i64); 2] =
    [("system-node-critical", 2_000_001_000), ("system-cluster-critical", 2_000_000_000)];

pub fn strategy(kind: &str) -> Option<&'static Strategy> {
    const PRIORITY_CLASS: Strategy = Strategy {
        prepare_for_create: |class| class["metadata"]["generation"] = json!(1),
        validate: class,
        validate_update: class_update,
        ..GENERIC
    };
    (kind == "PriorityClass").then_some(&PRIORITY_CLASS)
}

fn class(class: &Value, errors: &mut ErrorList) {
    let name = class["metadata"]["name"].as_str().unwrap_or_default();
    let value = int(class, "value").unwrap_or(0);
    if name.starts_with("system-") {
        if let Some(why) = not_a_system_class(name, value, flag(class, "globalDefault")) {
            let why = format!(
                "priority class names with 'system-' prefix are reserved for system use only. error: {why}"
            );
            errors.push(Error::forbidden(&Path::new("metadata").child("name"), why));
        }
    } else if value > HIGHEST_OF_USERS {
        let why = format!("maximum allowed value of a user defined priority is {HIGHEST_OF_USERS}");
        errors.push(Error::forbidden(&Path::new("value"), why));
    }
    if present(class, "preemptionPolicy").is_some() {
        let policies = ["PreemptLowerPriority", "Never"];
        one_of(text(class, "preemptionPolicy"), &policies, &Path::new("preemptionPolicy"), errors);
    }
}

fn not_a_system_class(name: &str, value: i64, global_default: bool) -> Option<String> {
    match SYSTEM.iter().find(|(known, _)| *known == name) {
        None => Some(format!("{name} is not a known system priority class")),
        Some((_, known)) if *known != value => Some(format!("value of {name} PriorityClass must be {known}")),
        Some(_) if global_default => Some(format!("globalDefault of {name} PriorityClass must be false")),
        Some(_) => None,
    }
}

/// Upstream looks only at what may not change.
fn class_update(new: &Value, old: &Value, _subresource: &str, errors: &mut ErrorList) {
    if new["value"] != old["value"] {
        errors.push(Error::forbidden(&Path::new("value"), "may not be changed in an update."));
    }
    let field = "preemptionPolicy";
    unchanged(&new[field], &old[field], &Path::new(field), errors);
}

#[cfg(test)]
mod tests {
    use crate::table::Table;
    use serde_json::json;

    #[test]
    fn priority_classes() {
        let good = json!({"metadata": {"name": "tier1"}, "value": 100, "description": "Used for the highest priority pods"});
        let table = Table::new("scheduling.k8s.io", "v1", "PriorityClass", good);
        table.create(&[
            (json!({"globalDefault": true, "preemptionPolicy": "Never"}), &[]),
            (json!({"value": 1_000_000_000}), &[]),
            (json!({"value": 1_000_000_001}), &["value: Forbidden"]),
            (json!({"value": -1}), &[]),
            (json!({"preemptionPolicy": "x"}), &["preemptionPolicy: NotSupported"]),
            (json!({"metadata": {"name": "system-cluster-critical"}}), &["metadata.name: Forbidden"]),
            (json!({"metadata": {"name": "system-foo"}}), &["metadata.name: Forbidden"]),
            (json!({"metadata": {"name": "system-cluster-critical"}, "value": 2_000_000_000}), &[]),
            (
                json!({"metadata": {"name": "system-node-critical"}, "value": 2_000_001_000, "globalDefault": true}),
                &["metadata.name: Forbidden"],
            ),
        ]);
        table.update(&[
            (json!({"globalDefault": true, "description": "x"}), &[]),
            (json!({"value": 101}), &["value: Forbidden"]),
            (json!({"preemptionPolicy": "Never"}), &["preemptionPolicy: Invalid"]),
        ]);
    }
}
