//! DeviceClass.

use apimachinery::field::{Error, ErrorList, Path};
use apimachinery::names;
use serde_json::Value;

use super::claim::MOST_CONFIG;
use super::parts::{configuration, list, selectors};
use crate::check::{items, present};
use crate::meta::same;

pub fn class(class: &Value, old: Option<&Value>, errors: &mut ErrorList) {
    let path = Path::new("spec");
    let spec = &class["spec"];
    selectors(spec, &path, errors);
    // Configuration from before the limit may stay.
    let stored = old.is_some_and(|old| same(&old["spec"]["config"], &spec["config"]));
    list(items(spec, "config"), MOST_CONFIG, &path.child("config"), errors, &mut |config, at, errors| {
        configuration(config, stored, at, errors);
    });
    if let Some(name) = present(spec, "extendedResourceName").and_then(Value::as_str)
        && !is_extended(name)
    {
        let why = "must be a valid extended resource name";
        errors.push(Error::invalid(&path.child("extendedResourceName"), name, why));
    }
}

/// With a domain that is not Kubernetes' own, and good for a quota's name too.
fn is_extended(name: &str) -> bool {
    name.contains('/')
        && !name.contains("kubernetes.io/")
        && !name.starts_with("requests.")
        && names::is_qualified_name(&format!("requests.{name}")).is_empty()
}

#[cfg(test)]
mod tests {
    use crate::table::Table;
    use serde_json::{Value, json};

    #[test]
    fn device_classes() {
        let table = Table::new("resource.k8s.io", "v1", "DeviceClass", json!({"spec": {}}));
        let spec = |patch: Value| json!({ "spec": patch });
        let config = |length: usize| {
            spec(json!({"config": [{"opaque": {"driver": "d", "parameters": {"a": "x".repeat(length)}}}]}))
        };
        let selectors =
            |count: usize| spec(json!({"selectors": vec![json!({"cel": {"expression": "true"}}); count]}));
        table.create(&[
            (selectors(32), &[]),
            (selectors(33), &["spec.selectors: TooMany"]),
            (spec(json!({"selectors": [{}]})), &["spec.selectors[0].cel: Required"]),
            (config(1), &[]),
            (config(10 * 1024), &["spec.config[0].opaque.parameters: TooLong"]),
            (
                spec(json!({"config": [{"opaque": {"driver": "A_b", "parameters": {}}}]})),
                &["spec.config[0].opaque.driver: Invalid"],
            ),
            (spec(json!({"config": vec![json!({}); 33]})), &["spec.config: TooMany"]),
            (spec(json!({"extendedResourceName": "example.com/gpu"})), &[]),
            (spec(json!({"extendedResourceName": "gpu"})), &["spec.extendedResourceName: Invalid"]),
            (
                spec(json!({"extendedResourceName": "kubernetes.io/gpu"})),
                &["spec.extendedResourceName: Invalid"],
            ),
        ]);
        table.update(&[
            (selectors(1), &[]),
            (spec(json!({"selectors": [{}]})), &["spec.selectors[0].cel: Required"]),
        ]);
        table.change(&config(10 * 1024), &config(10 * 1024), "", &[]);
    }
}
