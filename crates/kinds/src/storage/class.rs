//! StorageClass and VolumeAttributesClass.

use std::collections::{BTreeMap, BTreeSet};

use apimachinery::field::{Error, ErrorList, Path};
use apimachinery::labels::validate_label_name;
use serde_json::Value;

use crate::check::{entries, items, qualified, text};
use crate::meta::{deprecated_node_label, texts, unchanged};

/// All parameters of a class together, in bytes, and how many there may be.
const PARAMETER_BYTES: usize = 256 * 1024;
const PARAMETERS: usize = 512;

pub fn storage_class(class: &Value, errors: &mut ErrorList) {
    provisioner(class, "provisioner", errors);
    parameters(class, true, errors);
    let policy = text(class, "reclaimPolicy");
    if !["", "Delete", "Retain"].contains(&policy) {
        errors.push(Error::not_supported(&Path::new("reclaimPolicy"), policy, ["Delete", "Retain"]));
    }
    let path = Path::new("volumeBindingMode");
    match class.get("volumeBindingMode").and_then(Value::as_str) {
        None => errors.push(Error::required(&path, "")),
        Some("Immediate" | "WaitForFirstConsumer") => {}
        Some(other) => errors.push(Error::not_supported(&path, other, ["Immediate", "WaitForFirstConsumer"])),
    }
    topologies(items(class, "allowedTopologies"), &Path::new("allowedTopologies"), errors);
}

pub fn storage_class_update(new: &Value, old: &Value, _subresource: &str, errors: &mut ErrorList) {
    storage_class(new, errors);
    for field in ["parameters", "provisioner", "reclaimPolicy", "volumeBindingMode"] {
        unchanged(&new[field], &old[field], &Path::new(field), errors);
    }
}

pub fn storage_class_warnings(class: &Value) -> Vec<String> {
    let mut warnings = Vec::new();
    let list = Path::new("allowedTopologies");
    for (index, term) in items(class, "allowedTopologies").iter().enumerate() {
        let term_at = list.index(index);
        let expressions = term_at.child("matchLabelExpressions");
        for (index, expression) in items(term, "matchLabelExpressions").iter().enumerate() {
            if let Some(why) = deprecated_node_label(text(expression, "key")) {
                warnings.push(format!("{}: {why}", expressions.index(index).child("key")));
            }
        }
    }
    warnings
}

fn provisioner(class: &Value, field: &str, errors: &mut ErrorList) {
    match text(class, field) {
        "" => errors.push(Error::required(&Path::new(field), "")),
        name => qualified(&name.to_lowercase(), &Path::new(field), errors),
    }
}

fn parameters(class: &Value, may_be_empty: bool, errors: &mut ErrorList) {
    let path = Path::new("parameters");
    let count = entries(class, "parameters").count();
    if count > PARAMETERS {
        errors.push(Error::too_long(&path, PARAMETERS));
        return;
    }
    let mut size = 0;
    for (key, value) in entries(class, "parameters") {
        if key.is_empty() {
            errors.push(Error::invalid(&path, "", "field can not be empty."));
        }
        size += key.len() + value.as_str().unwrap_or_default().len();
    }
    if size > PARAMETER_BYTES {
        errors.push(Error::too_long(&path, PARAMETER_BYTES));
    }
    if !may_be_empty && count == 0 {
        errors.push(Error::required(&path, "must contain at least one key/value pair"));
    }
}

fn topologies(terms: &[Value], path: &Path<'_>, errors: &mut ErrorList) {
    // Upstream starts with one empty term for each there is, so that every empty term counts as repeated that often.
    let mut seen: Vec<BTreeMap<&str, BTreeSet<&str>>> = vec![BTreeMap::new(); terms.len()];
    for (index, term) in terms.iter().enumerate() {
        let at = path.index(index);
        let list = at.child("matchLabelExpressions");
        let mut map = BTreeMap::new();
        for (index, expression) in items(term, "matchLabelExpressions").iter().enumerate() {
            let at = list.index(index);
            let values_at = at.child("values");
            let mut values = BTreeSet::new();
            if items(expression, "values").is_empty() {
                errors.push(Error::required(&values_at, ""));
            }
            for (index, value) in texts(expression, "values").enumerate() {
                if !values.insert(value) {
                    errors.push(Error::duplicate(&values_at.index(index), value));
                }
            }
            let key = text(expression, "key");
            errors.extend(validate_label_name(key, &at.child("key")));
            if map.contains_key(key) {
                errors.push(Error::duplicate(&at.child("key"), key));
            }
            map.insert(key, values);
        }
        for _ in seen.iter().filter(|earlier| **earlier == map) {
            errors.push(Error::duplicate(&list, ""));
        }
        seen.push(map);
    }
}

pub fn volume_attributes_class(class: &Value, errors: &mut ErrorList) {
    provisioner(class, "driverName", errors);
    parameters(class, false, errors);
}

pub fn volume_attributes_class_update(new: &Value, old: &Value, _subresource: &str, errors: &mut ErrorList) {
    for field in ["driverName", "parameters"] {
        if new[field] != old[field] {
            errors.push(Error::forbidden(&Path::new(field), format!("updates to {field} are forbidden.")));
        }
    }
    volume_attributes_class(new, errors);
}

#[cfg(test)]
mod tests {
    use crate::table::Table;
    use serde_json::{Value, json};

    #[test]
    fn storage_classes() {
        let table =
            Table::new("storage.k8s.io", "v1", "StorageClass", json!({"provisioner": "kubernetes.io/foo"}));
        let many = |n: usize| -> Value {
            (0..n).map(|i| (format!("k{i}"), json!("v"))).collect::<serde_json::Map<_, _>>().into()
        };
        let topology = |terms: Value| json!({"allowedTopologies": terms});
        let term =
            |key: &str, values: &[&str]| json!({"matchLabelExpressions": [{"key": key, "values": values}]});
        table.create(&[
            (json!({"provisioner": "kubernetes.io/Foo-Provisioner"}), &[]),
            (json!({"provisioner": ""}), &["provisioner: Required"]),
            (json!({"provisioner": "../foo"}), &["provisioner: Invalid"]),
            (json!({"provisioner": "-"}), &["provisioner: Invalid"]),
            (json!({"parameters": many(512)}), &[]),
            (json!({"parameters": many(513)}), &["parameters: TooLong"]),
            (json!({"parameters": {"k": "v".repeat(256 * 1024)}}), &["parameters: TooLong"]),
            (json!({"parameters": {"": "v"}}), &["parameters: Invalid"]),
            (json!({"reclaimPolicy": "Recycle"}), &["reclaimPolicy: NotSupported"]),
            (json!({"volumeBindingMode": "foo"}), &["volumeBindingMode: NotSupported"]),
            (topology(json!([term("a", &["x", "y"]), term("b", &["x"])])), &[]),
            (
                topology(json!([term("a", &["x", "y"]), term("a", &["y", "x"])])),
                &["allowedTopologies[1].matchLabelExpressions: Duplicate"],
            ),
            (
                topology(json!([term("a", &[])])),
                &["allowedTopologies[0].matchLabelExpressions[0].values: Required"],
            ),
            (
                topology(json!([term("a", &["x", "x"])])),
                &["allowedTopologies[0].matchLabelExpressions[0].values[1]: Duplicate"],
            ),
            (
                topology(json!([term("a b", &["x"])])),
                &["allowedTopologies[0].matchLabelExpressions[0].key: Invalid"],
            ),
            (topology(json!([{}])), &["allowedTopologies[0].matchLabelExpressions: Duplicate"]),
        ]);
        table.update(&[
            (json!({"metadata": {"labels": {"a": "b"}}, "allowVolumeExpansion": true}), &[]),
            (json!({"parameters": {}}), &[]),
            (json!({"parameters": {"a": "b"}}), &["parameters: Invalid"]),
            (json!({"provisioner": "kubernetes.io/bar"}), &["provisioner: Invalid"]),
            (json!({"reclaimPolicy": "Retain"}), &["reclaimPolicy: Invalid"]),
            (json!({"volumeBindingMode": "WaitForFirstConsumer"}), &["volumeBindingMode: Invalid"]),
        ]);
        table.warnings(
            topology(json!([term("beta.kubernetes.io/arch", &["x"])])),
            &["allowedTopologies[0].matchLabelExpressions[0].key: deprecated since v1.14; use \
               \"kubernetes.io/arch\" instead"],
        );
        table.warnings(topology(json!([term("kubernetes.io/arch", &["x"])])), &[]);
    }

    #[test]
    fn volume_attributes_classes() {
        let good = json!({"driverName": "foo", "parameters": {"a": "b"}});
        let table = Table::new("storage.k8s.io", "v1", "VolumeAttributesClass", good);
        table.create(&[
            (json!({"driverName": ""}), &["driverName: Required"]),
            (json!({"driverName": "a b"}), &["driverName: Invalid"]),
            (json!({"parameters": null}), &["parameters: Required"]),
            (json!({"parameters": {"": "b"}}), &["parameters: Invalid"]),
        ]);
        table.update(&[
            (json!({"metadata": {"labels": {"a": "b"}}}), &[]),
            (json!({"driverName": "bar"}), &["driverName: Forbidden"]),
            (json!({"parameters": {"a": "c"}}), &["parameters: Forbidden"]),
            (json!({"parameters": null}), &["parameters: Forbidden", "parameters: Required"]),
        ]);
    }
}
