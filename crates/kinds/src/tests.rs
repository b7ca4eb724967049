//! Validation of whole objects, defaults first, as a request goes.

use apimachinery::field::{ErrorList, aggregate};
use serde_json::{Value, json};

fn defaulted(group: &str, kind: &str, mut object: Value) -> Value {
    let id = api::object_type(group, "v1", kind).expect("a built-in kind");
    crate::defaults::apply(id, &mut object);
    object
}

fn create(group: &str, kind: &str, object: Value, expect: &str) {
    let object = defaulted(group, kind, object);
    let mut errors = ErrorList::new();
    (crate::strategy(group, kind).validate)(&object, &mut errors);
    assert_eq!(aggregate(&errors).unwrap_or_default(), expect);
}

fn update(group: &str, kind: &str, old: Value, new: Value, expect: &str) {
    let (old, new) = (defaulted(group, kind, old), defaulted(group, kind, new));
    let mut errors = ErrorList::new();
    (crate::strategy(group, kind).validate_update)(&new, &old, "", &mut errors);
    let got = aggregate(&errors).unwrap_or_default();
    assert!(if expect.is_empty() { got.is_empty() } else { got.starts_with(expect) }, "{got}");
}

#[test]
fn deployments() {
    let deployment = |spec: Value| {
        let mut whole = json!({
            "selector": {"matchLabels": {"app": "x"}},
            "template": {"metadata": {"labels": {"app": "x"}}, "spec": {"containers": [{"name": "c", "image": "x"}]}},
        });
        whole.as_object_mut().unwrap().extend(spec.as_object().unwrap().clone());
        json!({"spec": whole})
    };
    let check = |spec: Value, expect: &str| create("apps", "Deployment", deployment(spec), expect);
    check(json!({}), "");
    check(json!({"replicas": -1}), "spec.replicas: Invalid value: -1: must be greater than or equal to 0");
    check(
        json!({"selector": {"matchLabels": {"app": "y"}}}),
        "spec.template.metadata.labels: Invalid value: {\"app\":\"x\"}: `selector` does not match template `labels`",
    );
    check(
        json!({"strategy": {"type": "Recreate", "rollingUpdate": {}}}),
        "spec.strategy.rollingUpdate: Forbidden: may not be specified when strategy `type` is 'Recreate'",
    );
    check(
        json!({"strategy": {"rollingUpdate": {"maxUnavailable": 0, "maxSurge": "0%"}}}),
        "spec.strategy.rollingUpdate.maxUnavailable: Invalid value: 0: may not be 0 when `maxSurge` is 0",
    );
    let changed = deployment(json!({"selector": {"matchLabels": {"app": "x", "b": "c"}},
        "template": {"metadata": {"labels": {"app": "x", "b": "c"}}, "spec": {"containers": [{"name": "c", "image": "x"}]}}}));
    update("apps", "Deployment", deployment(json!({})), changed, "spec.selector: Invalid value: {");
}

#[test]
fn bindings() {
    create(
        "rbac.authorization.k8s.io",
        "ClusterRoleBinding",
        json!({"roleRef": {"kind": "Role", "name": "r"}, "subjects": [{"kind": "ServiceAccount", "name": "a"}]}),
        "[roleRef.kind: Unsupported value: \"Role\": supported values: \"ClusterRole\", subjects[0].namespace: \
         Required value]",
    );
    create(
        "rbac.authorization.k8s.io",
        "Role",
        json!({"rules": [{"verbs": ["get"]}]}),
        "[rules[0].apiGroups: Required value: resource rules must supply at least one api group, \
         rules[0].resources: Required value: resource rules must supply at least one resource]",
    );
}
