//! What kubectl reads must be there, and every reference must lead somewhere.

use std::collections::BTreeSet;

use super::*;

fn document(path: &str) -> Value {
    let compressed = Documents::default().get(path, &[], false).unwrap().unwrap();
    let mut text = String::new();
    GzDecoder::new(&*compressed).read_to_string(&mut text).unwrap();
    serde_json::from_str(&text).unwrap()
}

fn references(value: &Value, out: &mut BTreeSet<String>) {
    match value {
        Value::Object(map) => {
            if let Some(Value::String(to)) = map.get("$ref") {
                out.insert(to.strip_prefix("#/components/schemas/").unwrap().to_owned());
            }
            map.values().for_each(|v| references(v, out));
        }
        Value::Array(list) => list.iter().for_each(|v| references(v, out)),
        _ => {}
    }
}

#[test]
fn every_reference_leads_somewhere() {
    let index = Documents::default().index(&[]);
    let paths = index["paths"].as_object().unwrap();
    assert!(paths.contains_key("api/v1") && paths.contains_key("apis/apps/v1"));
    for path in paths.keys() {
        let document = document(path);
        let schemas = document["components"]["schemas"].as_object().unwrap();
        let mut used = BTreeSet::new();
        references(&document, &mut used);
        for name in used {
            assert!(schemas.contains_key(&name), "{path}: {name}");
        }
    }
}

#[test]
fn a_deployment() {
    let document = document("apis/apps/v1");
    let schemas = &document["components"]["schemas"];
    let spec = &schemas["io.k8s.api.apps.v1.DeploymentSpec"];
    assert_eq!(
        spec["properties"]["strategy"],
        json!({"allOf": [{"$ref": "#/components/schemas/io.k8s.api.apps.v1.DeploymentStrategy"}], "default": {},
            "description": "The deployment strategy to use to replace existing pods with new ones.",
            "x-kubernetes-patch-strategy": "retainKeys"})
    );
    assert_eq!(spec["required"], json!(["selector", "template"]));
    let ports = &schemas["io.k8s.api.core.v1.Container"]["properties"]["ports"];
    assert_eq!(ports["x-kubernetes-list-map-keys"], json!(["containerPort", "protocol"]));
    assert_eq!(ports["x-kubernetes-patch-merge-key"], "containerPort");
    assert_eq!(
        schemas["io.k8s.api.apps.v1.Deployment"]["x-kubernetes-group-version-kind"],
        json!([{"group": "apps", "version": "v1", "kind": "Deployment"}])
    );
    let item = &document["paths"]["/apis/apps/v1/namespaces/{namespace}/deployments/{name}"];
    assert_eq!(item["patch"]["operationId"], "patchAppsV1NamespacedDeployment");
    assert_eq!(item["patch"]["x-kubernetes-group-version-kind"]["kind"], "Deployment");
    assert_eq!(item["patch"]["x-kubernetes-action"], "patch");
    let names: Vec<&str> =
        item["patch"]["parameters"].as_array().unwrap().iter().map(|p| p["name"].as_str().unwrap()).collect();
    assert!(names.contains(&"fieldValidation") && names.contains(&"dryRun"));
    let list = &document["paths"]["/apis/apps/v1/namespaces/{namespace}/deployments"];
    assert_eq!(list["get"]["operationId"], "listAppsV1NamespacedDeployment");
    assert_eq!(list["delete"]["operationId"], "deleteAppsV1CollectionNamespacedDeployment");
    let scale = &document["paths"]["/apis/apps/v1/namespaces/{namespace}/deployments/{name}/scale"];
    assert_eq!(scale["put"]["operationId"], "replaceAppsV1NamespacedDeploymentScale");
    assert_eq!(scale["put"]["x-kubernetes-group-version-kind"]["group"], "autoscaling");
}

#[test]
fn names_of_operations() {
    let table =
        [("", "core_v1", "Core"), ("rbac.authorization.k8s.io", "rbacAuthorization_v1", "RbacAuthorization")];
    for (group, expect, camel) in table {
        assert_eq!(camel_group(group), camel);
        let resource = api::resources().iter().find(|r| r.group == group && r.version == "v1").unwrap();
        assert_eq!(tag(resource), expect);
    }
}

#[test]
fn few_documents_are_kept() {
    let documents = Documents::default();
    for resource in api::resources().iter().filter(|r| r.default_on) {
        documents.get(&path_of(resource), &[], false).unwrap();
    }
    let kept = documents.kept.lock().unwrap();
    assert!(kept.iter().map(|(_, b)| b.len()).sum::<usize>() <= KEPT && !kept.is_empty());
    drop(kept);
    assert!(documents.get("apis/none/v1", &[], true).unwrap().is_none());
}
