//! Fields that say the same in two ways. Upstream's conversions to and from the internal types keep them equal
//! (`pkg/apis/core/v1/conversion.go`); here that is done to the one object there is.

use base64::{Engine, engine::general_purpose::STANDARD};
use serde_json::{Map, Value, json};

/// Makes the older field and the newer one agree. Idempotent.
pub fn agree(group: &str, kind: &str, object: &mut Value) {
    match (group, kind) {
        ("", "Secret") => string_data(object),
        ("", "Pod") => {
            service_account(object.get_mut("spec"));
            first_of_list(object.get_mut("status"), "podIP", "podIPs", Some("ip"));
        }
        ("", "Node") => first_of_list(object.get_mut("spec"), "podCIDR", "podCIDRs", None),
        ("", "PodTemplate") => service_account(object.pointer_mut("/template/spec")),
        ("", "ReplicationController") | ("apps", _) | ("batch", "Job") => {
            service_account(object.pointer_mut("/spec/template/spec"));
        }
        ("batch", "CronJob") => service_account(object.pointer_mut("/spec/jobTemplate/spec/template/spec")),
        _ => {}
    }
}

/// `stringData` is written only: it goes into `data`.
fn string_data(secret: &mut Value) {
    let Some(fields) = secret.as_object_mut() else { return };
    let Some(Value::Object(texts)) = fields.remove("stringData") else { return };
    if texts.is_empty() {
        return;
    }
    let slot = fields.entry("data").or_insert(Value::Null);
    if !slot.is_object() {
        *slot = Value::Object(Map::new());
    }
    if let Some(data) = slot.as_object_mut() {
        for (key, text) in texts {
            data.insert(key, STANDARD.encode(text.as_str().unwrap_or_default()).into());
        }
    }
}

/// `serviceAccount` is the old name of `serviceAccountName`.
fn service_account(spec: Option<&mut Value>) {
    let Some(spec) = spec.filter(|s| s.is_object()) else { return };
    let text = |spec: &Value, key: &str| spec[key].as_str().unwrap_or_default().to_owned();
    let name = match text(spec, "serviceAccountName") {
        name if name.is_empty() => text(spec, "serviceAccount"),
        name => name,
    };
    if !name.is_empty() {
        spec["serviceAccountName"] = json!(name);
        spec["serviceAccount"] = json!(name);
    }
}

/// The single field is the first of the list; where they differ, the single one came from an older client and
/// counts.
fn first_of_list(parent: Option<&mut Value>, single: &str, list: &str, inner: Option<&str>) {
    let Some(parent) = parent.filter(|p| p.is_object()) else { return };
    let text_of = |entry: &Value| match inner {
        Some(key) => entry[key].as_str().unwrap_or_default().to_owned(),
        None => entry.as_str().unwrap_or_default().to_owned(),
    };
    let one = parent[single].as_str().unwrap_or_default().to_owned();
    let first = parent[list].as_array().and_then(|l| l.first()).map(text_of).unwrap_or_default();
    if !one.is_empty() && one != first {
        parent[list] = match inner {
            Some(key) => json!([{ key: one }]),
            None => json!([one]),
        };
    } else if one.is_empty() && !first.is_empty() {
        parent[single] = json!(first);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_names_for_one_thing() {
        let check = |kind: &str, mut object: Value, expect: Value| {
            let group = if kind == "Deployment" { "apps" } else { "" };
            for _ in 0..2 {
                agree(group, kind, &mut object);
                assert_eq!(object, expect, "{kind}");
            }
        };
        check(
            "Secret",
            json!({"data": {"a": "eA==", "b": "eA=="}, "stringData": {"a": "hello", "c": ""}}),
            json!({"data": {"a": "aGVsbG8=", "b": "eA==", "c": ""}}),
        );
        check("Secret", json!({"stringData": {"a": "x"}}), json!({"data": {"a": "eA=="}}));
        check(
            "Pod",
            json!({"spec": {"serviceAccount": "s"}, "status": {"podIP": "10.0.0.1"}}),
            json!({"spec": {"serviceAccount": "s", "serviceAccountName": "s"},
                "status": {"podIP": "10.0.0.1", "podIPs": [{"ip": "10.0.0.1"}]}}),
        );
        check(
            "Pod",
            json!({"spec": {"serviceAccount": "old", "serviceAccountName": "new"}, "status": {"podIPs": [{"ip": "1"}]}}),
            json!({"spec": {"serviceAccount": "new", "serviceAccountName": "new"},
                "status": {"podIP": "1", "podIPs": [{"ip": "1"}]}}),
        );
        check(
            "Node",
            json!({"spec": {"podCIDR": "a/1"}}),
            json!({"spec": {"podCIDR": "a/1", "podCIDRs": ["a/1"]}}),
        );
        check(
            "Deployment",
            json!({"spec": {"template": {"spec": {"serviceAccountName": "s"}}}}),
            json!({"spec": {"template": {"spec": {"serviceAccountName": "s", "serviceAccount": "s"}}}}),
        );
        check("Pod", json!({}), json!({}));
    }
}
