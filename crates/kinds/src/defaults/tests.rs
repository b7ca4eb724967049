use serde_json::{Value, json};

fn check(group: &str, kind: &str, mut object: Value, expect: Value) {
    let id = api::object_type(group, "v1", kind).expect("a built-in kind");
    super::apply(id, &mut object);
    assert_eq!(object, expect, "{kind}");
    super::apply(id, &mut object);
    assert_eq!(object, expect, "{kind} again");
}

#[test]
fn deployment() {
    check(
        "apps",
        "Deployment",
        json!({"spec": {"template": {"spec": {"containers": [{"name": "c", "image": "nginx:1.27",
            "ports": [{"containerPort": 80}], "readinessProbe": {"httpGet": {"port": 80}}}]}}}}),
        json!({"spec": {
            "replicas": 1, "revisionHistoryLimit": 10, "progressDeadlineSeconds": 600,
            "strategy": {"type": "RollingUpdate",
                         "rollingUpdate": {"maxSurge": "25%", "maxUnavailable": "25%"}},
            "template": {"spec": {
                "dnsPolicy": "ClusterFirst", "restartPolicy": "Always", "schedulerName": "default-scheduler",
                "securityContext": {}, "terminationGracePeriodSeconds": 30,
                "containers": [{"name": "c", "image": "nginx:1.27", "imagePullPolicy": "IfNotPresent",
                    "terminationMessagePath": "/dev/termination-log", "terminationMessagePolicy": "File",
                    "ports": [{"containerPort": 80, "protocol": "TCP"}],
                    "readinessProbe": {"httpGet": {"port": 80, "path": "/", "scheme": "HTTP"},
                        "timeoutSeconds": 1, "periodSeconds": 10, "successThreshold": 1, "failureThreshold": 3}}],
            }},
        }}),
    );
}

#[test]
fn pod_rules_are_not_for_templates() {
    let spec = json!({"containers": [{"name": "c", "image": "busybox", "resources": {"limits": {"cpu": "1"}},
        "ports": [{"containerPort": 80}]}], "hostNetwork": true, "volumes": [{"name": "v"}]});
    let id = api::object_type("", "v1", "Pod").unwrap();
    let mut pod = json!({"spec": spec});
    super::apply(id, &mut pod);
    let container = &pod["spec"]["containers"][0];
    assert_eq!(container["resources"]["requests"], json!({"cpu": "1"}));
    assert_eq!(container["ports"][0]["hostPort"], 80);
    assert_eq!(container["imagePullPolicy"], "Always");
    assert_eq!(pod["spec"]["volumes"], json!([{"name": "v", "emptyDir": {}}]));
    assert_eq!(pod["spec"]["enableServiceLinks"], true);
    let id = api::object_type("", "v1", "PodTemplate").unwrap();
    let mut template = json!({"template": {"spec": pod["spec"]}});
    template["template"]["spec"]["containers"][0]["resources"] = json!({"limits": {"cpu": "1"}});
    super::apply(id, &mut template);
    assert_eq!(template["template"]["spec"]["containers"][0]["resources"], json!({"limits": {"cpu": "1"}}));
}

#[test]
fn service() {
    check(
        "",
        "Service",
        json!({"spec": {"type": "NodePort", "ports": [{"port": 80}, {"port": 53, "protocol": "UDP", "targetPort": "dns"}]}}),
        json!({"spec": {"type": "NodePort", "sessionAffinity": "None", "externalTrafficPolicy": "Cluster",
            "internalTrafficPolicy": "Cluster",
            "ports": [{"port": 80, "targetPort": 80, "protocol": "TCP"},
                      {"port": 53, "protocol": "UDP", "targetPort": "dns"}]}}),
    );
    check(
        "",
        "Service",
        json!({"spec": {"type": "ExternalName"}}),
        json!({"spec": {"type": "ExternalName", "sessionAffinity": "None"}}),
    );
}

#[test]
fn small_ones() {
    check("", "ConfigMap", json!({"data": {"a": "b"}}), json!({"data": {"a": "b"}}));
    check("", "Secret", json!({}), json!({"type": "Opaque"}));
    check(
        "",
        "Namespace",
        json!({"metadata": {"name": "n"}}),
        json!({"metadata": {"name": "n", "labels": {"kubernetes.io/metadata.name": "n"}}, "status": {"phase": "Active"}}),
    );
    check(
        "rbac.authorization.k8s.io",
        "RoleBinding",
        json!({"roleRef": {"kind": "Role"}, "subjects": [{"kind": "User"}, {"kind": "ServiceAccount"}]}),
        json!({"roleRef": {"kind": "Role", "apiGroup": "rbac.authorization.k8s.io"},
               "subjects": [{"kind": "User", "apiGroup": "rbac.authorization.k8s.io"}, {"kind": "ServiceAccount"}]}),
    );
    check(
        "batch",
        "Job",
        json!({"spec": {}}),
        json!({"spec": {"completions": 1, "parallelism": 1, "backoffLimit": 6, "completionMode": "NonIndexed",
            "suspend": false, "podReplacementPolicy": "TerminatingOrFailed", "manualSelector": false}}),
    );
}

#[test]
fn every_rule_has_its_type() {
    for (name, _) in super::core::RULES.iter().chain(super::groups::RULES).chain(super::cluster::RULES) {
        let found = api::schema().find(&format!("io.k8s.api.{name}"));
        assert!(found.or_else(|| api::schema().find(&format!("io.k8s.{name}"))).is_some(), "{name}");
    }
}

#[test]
fn cluster() {
    check(
        "storage.k8s.io",
        "CSIDriver",
        json!({"spec": {"attachRequired": false}}),
        json!({"spec": {"attachRequired": false, "podInfoOnMount": false, "storageCapacity": false,
            "requiresRepublish": false, "seLinuxMount": false, "fsGroupPolicy": "ReadWriteOnceWithFSType",
            "volumeLifecycleModes": ["Persistent"]}}),
    );
    check(
        "storage.k8s.io",
        "StorageClass",
        json!({"provisioner": "p"}),
        json!({"provisioner": "p", "reclaimPolicy": "Delete", "volumeBindingMode": "Immediate"}),
    );
    check(
        "scheduling.k8s.io",
        "PriorityClass",
        json!({"value": 1}),
        json!({"value": 1, "preemptionPolicy": "PreemptLowerPriority"}),
    );
    check(
        "flowcontrol.apiserver.k8s.io",
        "PriorityLevelConfiguration",
        json!({"spec": {"limited": {"limitResponse": {"queuing": {}}}}}),
        json!({"spec": {"limited": {"nominalConcurrencyShares": 30, "lendablePercent": 0,
            "limitResponse": {"queuing": {"queues": 64, "handSize": 8, "queueLengthLimit": 50}}}}}),
    );
    let selectors = json!({"matchPolicy": "Equivalent", "namespaceSelector": {}, "objectSelector": {}});
    let with = |mut base: Value, more: &Value| {
        base.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        base
    };
    let webhook = json!({"failurePolicy": "Fail", "timeoutSeconds": 10, "reinvocationPolicy": "Never",
        "rules": [{"scope": "*"}], "clientConfig": {"service": {"port": 443}}});
    check(
        "admissionregistration.k8s.io",
        "MutatingWebhookConfiguration",
        json!({"webhooks": [{"rules": [{}], "clientConfig": {"service": {}}}]}),
        json!({"webhooks": [with(webhook, &selectors)]}),
    );
    check(
        "admissionregistration.k8s.io",
        "ValidatingAdmissionPolicy",
        json!({"spec": {"matchConstraints": {"resourceRules": [{}]}}}),
        json!({"spec": {"failurePolicy": "Fail",
            "matchConstraints": with(json!({"resourceRules": [{"scope": "*"}]}), &selectors)}}),
    );
    check(
        "resource.k8s.io",
        "ResourceClaim",
        json!({"spec": {"devices": {"requests": [{"exactly": {}}, {"exactly": {"allocationMode": "All"}},
            {"firstAvailable": [{"tolerations": [{"key": "a"}]}]}]}}}),
        json!({"spec": {"devices": {"requests": [
            {"exactly": {"allocationMode": "ExactCount", "count": 1}}, {"exactly": {"allocationMode": "All"}},
            {"firstAvailable": [{"allocationMode": "ExactCount", "count": 1,
                "tolerations": [{"key": "a", "operator": "Equal"}]}]}]}}}),
    );
    check(
        "apiextensions.k8s.io",
        "CustomResourceDefinition",
        json!({"spec": {"names": {"kind": "CronTab"}, "versions": [{"name": "v1", "storage": true}]}}),
        json!({"spec": {"names": {"kind": "CronTab", "singular": "crontab", "listKind": "CronTabList"},
            "versions": [{"name": "v1", "storage": true}], "conversion": {"strategy": "None"}},
            "status": {"storedVersions": ["v1"]}}),
    );
    // A request needs a signer: there is none for all.
    check("certificates.k8s.io", "CertificateSigningRequest", json!({"spec": {}}), json!({"spec": {}}));
}

/// What normal form has for a message of which one field is given, some way down.
fn nested(path: &[&str], value: Value) -> Value {
    path.iter().rev().fold(value, |value, name| match name.strip_suffix("[]") {
        Some(name) => json!({name: [value]}),
        None => json!({*name: value}),
    })
}

fn at<'a>(object: &'a Value, path: &[&str]) -> &'a Value {
    path.iter().fold(object, |value, name| match name.strip_suffix("[]") {
        Some(name) => &value[name][0],
        None => &value[*name],
    })
}

/// Every text of a type and of what it holds: where it is and whether it is a pointer.
fn texts(ty: apimachinery::schema::TypeId, path: &mut Vec<String>, found: &mut Vec<(Vec<String>, bool)>) {
    use apimachinery::schema::{Omit, Shape};
    for field in &api::schema()[ty].fields {
        let listed = matches!(field.shape, Shape::List(_));
        path.push(format!("{}{}", field.name, if listed { "[]" } else { "" }));
        match (&field.shape, super::inner(&field.shape)) {
            (Shape::String, _) if field.pointer || field.omit == Omit::Never => {
                found.push((path.clone(), field.pointer));
            }
            (Shape::IntOrString, _) if field.pointer => found.push((path.clone(), true)),
            (_, Some(inner)) if path.len() < 4 => texts(inner, path, found),
            _ => {}
        }
        path.pop();
    }
}

/// Go's defaults go by nil: an empty text behind a pointer has been given, one that is no pointer has not.
#[test]
fn empty_texts() {
    for (id, ty) in api::schema().types().filter(|(id, _)| super::PLAN.rules.contains_key(id)) {
        let mut found = Vec::new();
        texts(id, &mut Vec::new(), &mut found);
        for (path, pointer) in found {
            let path: Vec<&str> = path.iter().map(String::as_str).collect();
            let mut given = nested(&path, json!(""));
            super::apply(id, &mut given);
            if pointer {
                assert_eq!(at(&given, &path), "", "{} {path:?}", ty.name);
                continue;
            }
            let mut absent = nested(&path[..path.len() - 1], json!({}));
            super::apply(id, &mut absent);
            if !at(&absent, &path).is_null() {
                assert_eq!(at(&given, &path), at(&absent, &path), "{} {path:?}", ty.name);
            }
        }
    }
}

/// What upstream's own program puts into objects that nobody would write: `docs/ORACLE.md` says how it was asked.
#[test]
fn upstreams_own_program_agrees() {
    use apimachinery::codec::json;
    let mut seen = 0;
    for line in include_str!("oracle.jsonl").lines() {
        let case: Value = serde_json::from_str(line).unwrap();
        let text = |field: &str| case[field].as_str().unwrap_or_default();
        let id = api::object_type(text("group"), text("version"), text("kind")).expect("a built-in kind");
        let read = |text: &str| json::decode(api::schema(), id, text.as_bytes()).unwrap().value;
        let mut object = read(text("input"));
        super::apply(id, &mut object);
        assert_eq!(object, read(text("json")), "{}", text("input"));
        seen += 1;
    }
    assert!(seen > 100, "{seen}");
}
