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

fn pod(spec: Value) -> Value {
    let mut whole = json!({"containers": [{"name": "c", "image": "nginx"}]});
    whole.as_object_mut().unwrap().extend(spec.as_object().unwrap().clone());
    json!({"metadata": {"name": "p"}, "spec": whole})
}

fn container(fields: Value) -> Value {
    let mut whole = json!({"name": "c", "image": "nginx"});
    whole.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
    pod(json!({"containers": [whole]}))
}

#[test]
fn pods() {
    create("", "Pod", pod(json!({})), "");
    create("", "Pod", pod(json!({"containers": []})), "spec.containers: Required value");
    create(
        "",
        "Pod",
        pod(json!({"containers": [{"name": "c"}, {"name": "c", "image": "x"}]})),
        "[spec.containers[0].image: Required value, spec.containers[1].name: Duplicate value: \"c\"]",
    );
    create(
        "",
        "Pod",
        container(json!({"volumeMounts": [{"name": "v", "mountPath": "/v"}]})),
        "spec.containers[0].volumeMounts[0].name: Not found: \"v\"",
    );
    create(
        "",
        "Pod",
        container(
            json!({"livenessProbe": {"successThreshold": 2, "tcpSocket": {"port": 80}}, "readinessProbe": {}}),
        ),
        "[spec.containers[0].livenessProbe.successThreshold: Invalid value: 2: must be 1, \
         spec.containers[0].readinessProbe: Required value: must specify a handler type]",
    );
    create(
        "",
        "Pod",
        container(json!({"resources": {"requests": {"cpu": "2"}, "limits": {"cpu": "1"}}})),
        "spec.containers[0].resources.requests: Invalid value: \"2\": must be less than or equal to cpu limit of 1",
    );
    create(
        "",
        "Pod",
        container(json!({"env": [{"name": "A", "valueFrom": {"fieldRef": {"fieldPath": "spec.nope"}}}]})),
        "spec.containers[0].env[0].valueFrom.fieldRef.fieldPath: Invalid value: \"spec.nope\": error converting \
         fieldPath: field label not supported: spec.nope",
    );
    create(
        "",
        "Pod",
        pod(json!({"restartPolicy": "Sometimes"})),
        "spec.restartPolicy: Unsupported value: \"Sometimes\": supported values: \"Always\", \"OnFailure\", \"Never\"",
    );
    create(
        "",
        "Pod",
        pod(json!({"tolerations": [{"operator": "Equal", "value": "x"}]})),
        "spec.tolerations[0].operator: Invalid value: \"Equal\": operator must be Exists when `key` is empty, which \
         means \"match all values and all keys\"",
    );
    create(
        "",
        "Pod",
        pod(json!({"volumes": [{"name": "v", "emptyDir": {}, "hostPath": {"path": "/x"}}]})),
        "spec.volumes[0].hostPath: Forbidden: may not specify more than 1 volume type",
    );
}

#[test]
fn a_pod_hardly_changes() {
    update("", "Pod", pod(json!({})), pod(json!({})), "");
    update(
        "",
        "Pod",
        pod(json!({})),
        container(json!({"image": "nginx:2", "imagePullPolicy": "Always"})),
        "",
    );
    update(
        "",
        "Pod",
        pod(json!({})),
        container(json!({"command": ["x"]})),
        "spec: Forbidden: pod updates may not change fields other than `spec.containers[*].image`",
    );
    update(
        "",
        "Pod",
        pod(json!({})),
        pod(json!({"initContainers": [{"name": "i", "image": "x"}]})),
        "spec.initContainers: Forbidden: pod updates may not add or remove containers",
    );
    let gated = |gates: Value| pod(json!({"schedulingGates": gates}));
    update("", "Pod", gated(json!([{"name": "a/b"}])), gated(json!([])), "");
    update(
        "",
        "Pod",
        pod(json!({})),
        gated(json!([{"name": "a/b"}])),
        "spec.schedulingGates[0].name: Forbidden: only deletion is allowed, but found new scheduling gate 'a/b'",
    );
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
fn services() {
    let check = |spec: Value, expect: &str| create("", "Service", json!({"spec": spec}), expect);
    check(json!({"ports": [{"port": 80}]}), "");
    check(json!({}), "spec.ports: Required value");
    check(json!({"clusterIP": "None"}), "");
    check(
        json!({"ports": [{"port": 80}, {"port": 80, "name": "b"}]}),
        "[spec.ports[0].name: Required value, spec.ports[1]: Duplicate value: {\"AppProtocol\":null,\"Name\":\"\",\
         \"NodePort\":0,\"Port\":80,\"Protocol\":\"TCP\",\"TargetPort\":0}]",
    );
    check(
        json!({"ports": [{"port": 0, "protocol": "ICMP"}]}),
        "[spec.ports[0].port: Invalid value: 0: must be between 1 and 65535, inclusive, spec.ports[0].protocol: \
         Unsupported value: \"ICMP\": supported values: \"SCTP\", \"TCP\", \"UDP\", spec.ports[0].targetPort: \
         Invalid value: 0: must be between 1 and 65535, inclusive]",
    );
    check(
        json!({"ports": [{"port": 80, "nodePort": 30000}]}),
        "spec.ports[0].nodePort: Forbidden: may not be used when `type` is 'ClusterIP'",
    );
    update(
        "",
        "Service",
        json!({"spec": {"clusterIP": "10.0.0.1", "ports": [{"port": 80}]}}),
        json!({"spec": {"clusterIP": "10.0.0.2", "ports": [{"port": 80}]}}),
        "spec.clusterIPs[0]: Invalid value: \"10.0.0.2\": may not change once set",
    );
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
