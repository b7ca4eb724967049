//! The `scale` subresource: replicas of a workload as an `autoscaling/v1` Scale. All kinds that have it keep
//! their replicas and selector in the same places.

use apimachinery::{labels, schema::Resource, status::Status};
use serde_json::{Value, json};

use super::meta;
use crate::custom;

/// The Scale of a workload, or of a custom object that says where it keeps its replicas.
///
/// # Errors
/// 500 when a custom object does not say how many are wanted.
pub fn of(resource: &Resource, object: &Value) -> Result<Value, Status> {
    if let Some(paths) = custom::of(resource).and_then(|custom| custom.compiled().scale.as_ref()) {
        let (wanted, there, selector) = paths.read(object)?;
        return Ok(build(object, wanted, there, &selector));
    }
    let replicas = |part: &str| object[part]["replicas"].as_i64().unwrap_or(0);
    Ok(build(object, replicas("spec"), replicas("status"), &selector(object)))
}

fn selector(object: &Value) -> String {
    match &object["spec"]["selector"] {
        // ReplicationControllers select by a plain map.
        Value::Object(map) if !map.contains_key("matchLabels") && !map.contains_key("matchExpressions") => {
            let pairs = map.iter().filter_map(|(k, v)| Some((k.as_str(), v.as_str()?)));
            labels::Selector::from_set(pairs).to_string()
        }
        value => labels::Selector::of_value(value).map(|s| s.to_string()).unwrap_or_default(),
    }
}

fn build(object: &Value, wanted: i64, there: i64, selector: &str) -> Value {
    let mut metadata = json!({});
    for field in ["name", "namespace", "uid", "resourceVersion", "creationTimestamp"] {
        if let Some(value) = object["metadata"].get(field) {
            metadata[field] = value.clone();
        }
    }
    let mut scale = json!({
        "kind": "Scale",
        "apiVersion": "autoscaling/v1",
        "metadata": metadata,
        "spec": {},
        "status": {"replicas": there},
    });
    if wanted != 0 {
        scale["spec"]["replicas"] = json!(wanted);
    }
    if !selector.is_empty() {
        scale["status"]["selector"] = json!(selector);
    }
    scale
}

/// The workload with the replicas of a Scale.
///
/// # Errors
/// 422 for a negative number, 409 when the Scale is of another version.
pub fn apply(resource: &Resource, scale: &Value, object: &Value) -> Result<Value, Status> {
    use apimachinery::field::{Error, Path};
    let replicas = scale["spec"]["replicas"].as_i64().unwrap_or(0);
    if replicas < 0 {
        let path = Path::new("spec");
        let error = Error::invalid(&path.child("replicas"), replicas, "must be greater than or equal to 0");
        return Err(Status::invalid("autoscaling", "Scale", meta::name(scale), &[error]));
    }
    let mut object = object.clone();
    match custom::of(resource).and_then(|custom| custom.compiled().scale.as_ref()) {
        Some(paths) => paths.write(&mut object, replicas),
        None => object["spec"]["replicas"] = json!(replicas),
    }
    // A Scale without a version is for whatever is newest.
    let version = meta::text(scale, "resourceVersion");
    let version = (!version.is_empty()).then(|| Value::from(version));
    if version.is_some() {
        meta::set(&mut object, "resourceVersion", version);
    }
    let uid = meta::text(scale, "uid");
    if !uid.is_empty() {
        meta::set(&mut object, "uid", Some(uid.into()));
    }
    Ok(object)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn deployments() -> &'static Resource {
        api::resource("apps", "v1", "deployments").unwrap()
    }

    #[test]
    fn scales() {
        let deployment = json!({
            "metadata": {"name": "d", "namespace": "n", "resourceVersion": "5", "labels": {"x": "y"}},
            "spec": {"replicas": 3, "selector": {"matchLabels": {"app": "d"}}},
            "status": {"replicas": 2},
        });
        let of = |object: &Value| super::of(deployments(), object).unwrap();
        let mut scale = of(&deployment);
        assert_eq!(scale["spec"], json!({"replicas": 3}));
        assert_eq!(scale["status"], json!({"replicas": 2, "selector": "app=d"}));
        assert_eq!(scale["metadata"], json!({"name": "d", "namespace": "n", "resourceVersion": "5"}));
        scale["spec"]["replicas"] = json!(7);
        assert_eq!(apply(deployments(), &scale, &deployment).unwrap()["spec"]["replicas"], 7);
        scale["spec"]["replicas"] = json!(-1);
        assert_eq!(apply(deployments(), &scale, &deployment).unwrap_err().code, 422);
        let rc = json!({"metadata": {}, "spec": {"selector": {"b": "2", "a": "1"}}});
        assert_eq!(of(&rc)["status"]["selector"], "a=1,b=2");
    }
}
