//! What is decided: pods say which team they belong to, and run no image without a version. Pure.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde_json::{Value, json};

const TEAM: &str = "example.com/team";

/// The answer to a review, by one of the rules.
pub fn review(review: &Value, decide: fn(&Value) -> Value) -> Value {
    let request = &review["request"];
    let mut response = decide(request);
    response["uid"] = request["uid"].clone();
    json!({"kind": "AdmissionReview", "apiVersion": "admission.k8s.io/v1", "response": response})
}

/// A pod without a team belongs to its namespace's.
pub fn mutate(request: &Value) -> Value {
    let labels = &request["object"]["metadata"]["labels"];
    if !labels[TEAM].is_null() {
        return json!({"allowed": true});
    }
    let namespace = &request["namespace"];
    let patch = match labels.is_object() {
        true => json!([{"op": "add", "path": "/metadata/labels/example.com~1team", "value": namespace}]),
        false => json!([{"op": "add", "path": "/metadata/labels", "value": {TEAM: namespace}}]),
    };
    json!({"allowed": true, "patchType": "JSONPatch", "patch": STANDARD.encode(patch.to_string())})
}

/// No container runs `image`, `image:latest`; what is fetched at every start is warned of.
pub fn validate(request: &Value) -> Value {
    let spec = &request["object"]["spec"];
    let containers = || {
        ["initContainers", "containers"]
            .into_iter()
            .flat_map(|list| spec[list].as_array().into_iter().flatten())
    };
    let name = |container: &Value| container["name"].as_str().unwrap_or_default().to_owned();
    let floating: Vec<String> = containers()
        .filter(|container| is_floating(container["image"].as_str().unwrap_or_default()))
        .map(|container| format!("container {:?} needs an image with a version", name(container)))
        .collect();
    if !floating.is_empty() {
        return json!({"allowed": false, "status": {"code": 403, "reason": "Forbidden", "message": floating.join(", ")}});
    }
    let warnings: Vec<String> = containers()
        .filter(|container| container["imagePullPolicy"] == "Always")
        .map(|container| format!("container {:?} fetches its image at every start", name(container)))
        .collect();
    json!({"allowed": true, "warnings": warnings})
}

/// Neither a digest nor a tag but `latest`.
fn is_floating(image: &str) -> bool {
    let last = image.rsplit('/').next().unwrap_or_default();
    if last.contains('@') {
        return false;
    }
    last.split_once(':').is_none_or(|(_, tag)| matches!(tag, "" | "latest"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn images() {
        for (image, expect) in [
            ("web", true),
            ("web:latest", true),
            ("web:1", false),
            ("registry:5000/web", true),
            ("registry:5000/web:1", false),
            ("web@sha256:abc", false),
        ] {
            assert_eq!(is_floating(image), expect, "{image}");
        }
    }

    #[test]
    fn answers() {
        let pod = |image: &str| json!({"spec": {"containers": [{"name": "c", "image": image, "imagePullPolicy": "Always"}]}});
        let refused = validate(&json!({"object": pod("web")}));
        assert_eq!(refused["status"]["message"], "container \"c\" needs an image with a version");
        let allowed = validate(&json!({"object": pod("web:1")}));
        assert_eq!(allowed["warnings"], json!(["container \"c\" fetches its image at every start"]));
        let patch = |labels: Value| {
            let answer = mutate(&json!({"namespace": "ns", "object": {"metadata": {"labels": labels}}}));
            answer["patch"].as_str().map(|patch| String::from_utf8(STANDARD.decode(patch).unwrap()).unwrap())
        };
        assert_eq!(patch(json!({TEAM: "x"})), None);
        assert!(patch(json!({"a": "b"})).unwrap().contains("/metadata/labels/example.com~1team"));
        assert!(patch(Value::Null).unwrap().contains("\"path\":\"/metadata/labels\""));
        let whole = review(&json!({"request": {"uid": "u"}}), validate);
        assert_eq!(whole["response"]["uid"], "u");
    }
}
