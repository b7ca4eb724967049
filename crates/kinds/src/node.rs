//! Runtime classes.

use std::collections::BTreeSet;

use apimachinery::field::{Error, ErrorList, Path};
use apimachinery::labels::validate_labels;
use serde_json::{Value, json};

use crate::check::{entries, items, label, present, text};
use crate::core::pod;
use crate::meta::{deprecated_node_label, unchanged};
use crate::strategy::{GENERIC, Strategy};

pub fn strategy(kind: &str) -> Option<&'static Strategy> {
    const RUNTIME_CLASS: Strategy = Strategy {
        allow_create_on_update: true,
        allow_unconditional_update: false,
        validate: class,
        validate_update: class_update,
        warnings: |class, _, _| warnings(class),
        ..GENERIC
    };
    (kind == "RuntimeClass").then_some(&RUNTIME_CLASS)
}

fn class(class: &Value, errors: &mut ErrorList) {
    match text(class, "handler") {
        "" => errors.push(Error::required(&Path::new("handler"), "")),
        handler => label(handler, &Path::new("handler"), errors),
    }
    if let Some(overhead) = present(class, "overhead") {
        // Upstream checks it as the limits of a container, and says so in the path.
        let limits = json!({"limits": overhead["podFixed"]});
        pod::container::resources(&limits, &Path::new("overhead"), errors);
    }
    if let Some(scheduling) = present(class, "scheduling") {
        let path = Path::new("scheduling");
        let selector = scheduling["nodeSelector"].as_object();
        errors.extend(validate_labels(selector, &path.child("nodeSelector")));
        tolerations(items(scheduling, "tolerations"), &path.child("tolerations"), errors);
    }
}

/// As a pod's, and each only once.
fn tolerations(list: &[Value], path: &Path<'_>, errors: &mut ErrorList) {
    pod::validate::tolerations(list, path, errors);
    let mut seen = BTreeSet::new();
    for (index, toleration) in list.iter().enumerate() {
        let field = |name: &str| text(toleration, name);
        if !seen.insert((field("key"), field("operator"), field("value"), field("effect"))) {
            let told = json!({"Key": field("key"), "Operator": field("operator"), "Value": field("value"),
                "Effect": field("effect"), "TolerationSeconds": toleration["tolerationSeconds"]});
            errors.push(Error::duplicate(&path.index(index), told));
        }
    }
}

fn class_update(new: &Value, old: &Value, _subresource: &str, errors: &mut ErrorList) {
    class(new, errors);
    unchanged(&new["handler"], &old["handler"], &Path::new("handler"), errors);
}

fn warnings(class: &Value) -> Vec<String> {
    entries(&class["scheduling"], "nodeSelector")
        .filter_map(|(label, _)| deprecated_node_label(label))
        .map(|why| format!("scheduling.nodeSelector: {why}"))
        .collect()
}

#[cfg(test)]
mod tests {
    use crate::table::Table;
    use serde_json::{Value, json};

    #[test]
    fn runtime_classes() {
        let table = Table::new("node.k8s.io", "v1", "RuntimeClass", json!({"handler": "foo"}));
        let scheduling = |patch: Value| json!({ "scheduling": patch });
        let toleration = json!({"key": "a", "operator": "Equal", "value": "b", "effect": "NoSchedule"});
        table.create(&[
            (json!({"handler": "bar-baz"}), &[]),
            (json!({"handler": ""}), &["handler: Required"]),
            (json!({"handler": "&!@#"}), &["handler: Invalid"]),
            (json!({"handler": "a.b"}), &["handler: Invalid"]),
            (json!({"overhead": {"podFixed": {"cpu": "10", "memory": "10G"}}}), &[]),
            (
                json!({"overhead": {"podFixed": {"my.org": "10m"}}}),
                &["overhead.limits[my.org]: Invalid", "overhead.limits[my.org]: Invalid"],
            ),
            (json!({"overhead": {"podFixed": {"cpu": "-1"}}}), &["overhead.limits[cpu]: Invalid"]),
            (scheduling(json!({"nodeSelector": {"valid": "yes"}})), &[]),
            (
                scheduling(json!({"nodeSelector": {"not a valid key!!!": "nope"}})),
                &["scheduling.nodeSelector: Invalid"],
            ),
            (scheduling(json!({"tolerations": [toleration]})), &[]),
            (
                scheduling(json!({"tolerations": [toleration, toleration]})),
                &["scheduling.tolerations[1]: Duplicate"],
            ),
            (
                scheduling(json!({"tolerations": [{"key": "not a valid key!!!", "operator": "Exists"}]})),
                &["scheduling.tolerations[0].key: Invalid"],
            ),
        ]);
        table.update(&[
            (json!({"metadata": {"labels": {"foo": "bar"}}}), &[]),
            (json!({"handler": "somethingelse"}), &["handler: Invalid"]),
        ]);
        table.warnings(
            scheduling(json!({"nodeSelector": {"beta.kubernetes.io/arch": "x"}})),
            &["scheduling.nodeSelector: deprecated since v1.14; use \"kubernetes.io/arch\" instead"],
        );
    }
}
