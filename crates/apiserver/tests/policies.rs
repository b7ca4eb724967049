//! Admission policies through the whole server, after upstream's documentation and its tests
//! (`test/integration/apiserver/cel`, `plugin/policy/*/`).

use apiserver::request::UserInfo;
use apiserver::server::{Peer, body};
use http::Request;
use http_body_util::BodyExt as _;
use serde_json::{Value, json};

use crate::world::{Answer, World};

const GROUP: &str = "/apis/admissionregistration.k8s.io/v1";
const MAPS: &str = "/api/v1/namespaces/default/configmaps";
const DEPLOYMENTS: &str = "/apis/apps/v1/namespaces/default/deployments";

fn rules(group: &str, version: &str, resources: &[&str]) -> Value {
    json!({"resourceRules": [{"apiGroups": [group], "apiVersions": [version], "operations": ["*"], "resources": resources}]})
}

/// Writes a policy and its binding, each with the same name.
async fn policy(w: &World, kind: &str, name: &str, mut spec: Value, mut binding: Value) {
    if spec.get("matchConstraints").is_none() {
        spec["matchConstraints"] = rules("", "v1", &["configmaps"]);
    }
    if kind == "mutating" {
        spec["matchConstraints"]["resourceRules"][0]["operations"] = json!(["CREATE", "UPDATE"]);
    }
    binding["policyName"] = name.into();
    if kind == "validating" && binding.get("validationActions").is_none() {
        binding["validationActions"] = json!(["Deny"]);
    }
    for (plural, spec) in [("policies", spec), ("policybindings", binding)] {
        let path = format!("{GROUP}/{kind}admission{plural}");
        w.post(&path, json!({"metadata": {"name": name}, "spec": spec})).await.ok();
    }
}

async fn gone(w: &World, kind: &str, name: &str) {
    for plural in ["policies", "policybindings"] {
        w.delete(&format!("{GROUP}/{kind}admission{plural}/{name}")).await.ok();
    }
}

fn map(name: &str, data: Value) -> Value {
    json!({"metadata": {"name": name, "labels": {"x": "y"}}, "data": data})
}

fn deployment(name: &str, replicas: i64) -> Value {
    json!({"metadata": {"name": name}, "spec": {"replicas": replicas, "selector": {"matchLabels": {"a": "b"}},
        "template": {"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [{"name": "c", "image": "i"}]}}}})
}

fn warnings(answer: &Answer) -> Vec<String> {
    answer.headers.get_all("warning").iter().map(|v| v.to_str().unwrap().to_owned()).collect()
}

/// One validation of config maps each: its fields, and what is said about a creation; nothing if it is let through.
#[tokio::test]
async fn validations() {
    let w = World::new().await;
    let denied = |message: &str| {
        format!(
            "configmaps \"m\" is forbidden: ValidatingAdmissionPolicy 'p' with binding 'p' denied request: {message}"
        )
    };
    for (validation, expect) in [
        (
            json!({"expression": "object.metadata.name == 'm' && object.kind == 'ConfigMap' && object.apiVersion == 'v1'"}),
            None,
        ),
        (json!({"expression": "object.data.a == 'b'"}), None),
        (
            json!({"expression": "object.data.a == 'c'"}),
            Some((422, "Invalid", "failed expression: object.data.a == 'c'")),
        ),
        (json!({"expression": "false", "message": " not today "}), Some((422, "Invalid", "not today"))),
        (
            json!({"expression": "false", "message": "no", "messageExpression": "'have ' + object.data.a", "reason": "Forbidden"}),
            Some((403, "Forbidden", "have b")),
        ),
        (
            json!({"expression": "false", "message": "no", "messageExpression": "string(object.data.none)"}),
            Some((422, "Invalid", "no")),
        ),
        (
            json!({"expression": "false", "message": "no", "messageExpression": "'a\\nb'"}),
            Some((422, "Invalid", "no")),
        ),
        (
            json!({"expression": "false", "reason": "RequestEntityTooLarge"}),
            Some((413, "RequestEntityTooLarge", "failed expression: false")),
        ),
        (
            json!({"expression": "object.data.none == ''"}),
            Some((
                422,
                "Invalid",
                "expression 'object.data.none == ''' resulted in error: no such key: none",
            )),
        ),
        (
            json!({"expression": "oldObject == null && request.operation == 'CREATE' && request.name == 'm'"}),
            None,
        ),
        (
            json!({"expression": "request.userInfo.username == 'admin' && 'system:masters' in request.userInfo.groups"}),
            None,
        ),
        (
            json!({"expression": "request.kind.kind == 'ConfigMap' && request.resource.resource == 'configmaps' && request.requestKind.version == 'v1'"}),
            None,
        ),
        (
            json!({"expression": "namespaceObject.metadata.name == 'default' && request.namespace == 'default'"}),
            None,
        ),
        (json!({"expression": "!has(request.subResource) && !request.dryRun"}), None),
        (
            json!({"expression": "authorizer.group('').resource('pods').namespace('default').check('get').allowed()"}),
            None,
        ),
        (json!({"expression": "authorizer.requestResource.check('create').allowed()"}), None),
        (
            json!({"expression": "authorizer.serviceAccount('default', 'default').group('').resource('pods').check('get').allowed()"}),
            Some((
                422,
                "Invalid",
                "failed expression: authorizer.serviceAccount('default', 'default').group('').resource('pods').check('get').allowed()",
            )),
        ),
        (json!({"expression": "[1, 2, 3].all(i, [1, 2, 3].all(j, i * j < 10))"}), None),
        (
            json!({"expression": "lists.range(1000).all(i, lists.range(1000).all(j, i + j >= 0))"}),
            Some((
                422,
                "Invalid",
                "expression 'lists.range(1000).all(i, lists.range(1000).all(j, i + j >= 0))' resulted in error: \
                operation cancelled: actual cost limit exceeded",
            )),
        ),
    ] {
        policy(&w, "validating", "p", json!({"validations": [validation]}), json!({})).await;
        let answer = w.post(MAPS, map("m", json!({"a": "b"}))).await;
        match expect {
            None => {
                assert_eq!(answer.code, 201, "{validation}: {}", answer.text);
                gone(&w, "validating", "p").await;
                w.delete(&format!("{MAPS}/m")).await.ok();
            }
            Some((code, reason, message)) => {
                assert_eq!(answer.fault(), (code, reason.to_owned(), denied(message)), "{validation}");
                let cause = &answer.json()["details"]["causes"][0]["message"];
                assert_eq!(*cause, denied(message)["configmaps \"m\" is forbidden: ".len()..]);
                gone(&w, "validating", "p").await;
            }
        }
    }
}

/// What the binding and the policy say about refusals and failures.
#[tokio::test]
async fn actions_and_failures() {
    let w = World::new().await;
    let fails = json!({"validations": [{"expression": "object.data.none == ''"}]});
    let refuses = json!({"validations": [{"expression": "false", "message": "no"}]});
    let ignoring = |mut spec: Value| {
        spec["failurePolicy"] = "Ignore".into();
        spec
    };
    let condition = |source: &str| json!({"validations": [{"expression": "false", "message": "no"}], "matchConditions": [{"name": "c", "expression": source}]});
    let said = "299 - \"Validation failed for ValidatingAdmissionPolicy 'p' with binding 'p': no\"";
    for (spec, actions, code, warning) in [
        (refuses.clone(), json!(["Deny"]), 422, None),
        (refuses.clone(), json!(["Warn", "Audit"]), 201, Some(said)),
        (refuses.clone(), json!(["Audit"]), 201, None),
        (refuses, json!(["Deny", "Audit"]), 422, None),
        (fails.clone(), json!(["Deny"]), 422, None),
        (ignoring(fails), json!(["Deny"]), 201, None),
        (condition("true"), json!(["Deny"]), 422, None),
        (condition("false"), json!(["Deny"]), 201, None),
        (condition("object.data.a == 'b'"), json!(["Deny"]), 422, None),
        (condition("object.data.none == ''"), json!(["Deny"]), 422, None),
        (ignoring(condition("object.data.none == ''")), json!(["Deny"]), 201, None),
        (
            json!({"auditAnnotations": [{"key": "k", "valueExpression": "'v' + object.data.a"}]}),
            json!(["Deny"]),
            201,
            None,
        ),
        (
            json!({"auditAnnotations": [{"key": "k", "valueExpression": "object.data.none + ''"}]}),
            json!(["Deny"]),
            422,
            None,
        ),
        (
            json!({"variables": [{"name": "n", "expression": "object.data.size()"}, {"name": "m", "expression": "variables.n + 1"}],
                "validations": [{"expression": "variables.m == 2"}]}),
            json!(["Deny"]),
            201,
            None,
        ),
        (
            json!({"variables": [{"name": "n", "expression": "object.data.none"}], "validations": [{"expression": "variables.n == 2"}]}),
            json!(["Deny"]),
            422,
            None,
        ),
    ] {
        let binding = json!({ "validationActions": actions });
        policy(&w, "validating", "p", spec.clone(), binding).await;
        let answer = w.post(&format!("{MAPS}?dryRun=All"), map("m", json!({"a": "b"}))).await;
        assert_eq!(answer.code, code, "{spec}: {}", answer.text);
        assert_eq!(
            warnings(&answer),
            warning.iter().map(|it| (*it).to_owned()).collect::<Vec<_>>(),
            "{spec}"
        );
        gone(&w, "validating", "p").await;
    }
    // All the same after the fact.
    let metrics = w.get("/metrics").await.text;
    for line in [
        "apiserver_validating_admission_policy_check_total{enforcement_action=\"deny\",error_type=\"no_error\",policy=\"p\",\
         policy_binding=\"p\"}",
        "apiserver_validating_admission_policy_check_total{enforcement_action=\"warn\",",
        "apiserver_validating_admission_policy_check_duration_seconds_count{enforcement_action=\"audit\",",
    ] {
        assert!(metrics.contains(line), "{line}");
    }
}

/// Which requests a policy is asked about, over versions, updates, deletions and subresources.
#[tokio::test]
async fn matching() {
    let w = World::new().await;
    let constraints = rules("apps", "v1", &["deployments", "deployments/scale"]);
    let spec = json!({"matchConstraints": constraints, "validations": [{"expression":
        "request.operation == 'DELETE' ? oldObject.spec.replicas == 0 : (object.spec.replicas < 5 && (object.kind == 'Scale') == (has(request.subResource) && request.subResource == 'scale'))"}]});
    policy(&w, "validating", "p", spec, json!({})).await;
    w.post(DEPLOYMENTS, deployment("a", 2)).await.ok();
    assert_eq!(w.post(DEPLOYMENTS, deployment("b", 7)).await.code, 422);
    let one = format!("{DEPLOYMENTS}/a");
    assert_eq!(w.patch("merge", &one, json!({"spec": {"replicas": 9}})).await.code, 422);
    assert_eq!(w.patch("merge", &format!("{one}/scale"), json!({"spec": {"replicas": 9}})).await.code, 422);
    w.patch("merge", &format!("{one}/scale"), json!({"spec": {"replicas": 3}})).await.ok();
    assert_eq!(w.delete(&one).await.code, 422);
    w.patch("merge", &one, json!({"spec": {"replicas": 0}})).await.ok();
    w.delete(&one).await.ok();
    gone(&w, "validating", "p").await;

    // By another version of the same thing, shown in the version that the policy names.
    let autoscaler = |api: &str| {
        let target = json!({"apiVersion": "apps/v1", "kind": "Deployment", "name": "d"});
        let path = format!("/apis/autoscaling/{api}/namespaces/default/horizontalpodautoscalers?dryRun=All");
        (path, json!({"metadata": {"name": "h"}, "spec": {"maxReplicas": 3, "scaleTargetRef": target}}))
    };
    for (policy_name, expect) in [("Equivalent", 422), ("Exact", 201)] {
        let mut constraints = rules("autoscaling", "v2", &["horizontalpodautoscalers"]);
        constraints["matchPolicy"] = policy_name.into();
        let spec = json!({"matchConstraints": constraints, "validations": [{"expression":
            "object.apiVersion == 'autoscaling/v2' && has(object.spec.metrics) && request.requestKind.version == 'v2'"}]});
        policy(&w, "validating", "p", spec, json!({})).await;
        let (path, object) = autoscaler("v1");
        assert_eq!(w.post(&path, object).await.code, expect);
        let (path, object) = autoscaler("v2");
        w.post(&path, object).await.ok();
        gone(&w, "validating", "p").await;
    }

    // By the labels of the namespace and of the object, in the policy and in the binding.
    let refuses = json!({"validations": [{"expression": "false"}]});
    let selecting =
        |field: &str, value: &str| json!({"matchResources": {field: {"matchLabels": {"x": value}}}});
    w.patch("merge", "/api/v1/namespaces/default", json!({"metadata": {"labels": {"x": "ns"}}})).await.ok();
    for (binding, expect) in [
        (selecting("objectSelector", "y"), 422),
        (selecting("objectSelector", "z"), 201),
        (selecting("namespaceSelector", "ns"), 422),
        (selecting("namespaceSelector", "other"), 201),
        (
            json!({"matchResources": {"excludeResourceRules": rules("", "v1", &["configmaps"])["resourceRules"]}}),
            201,
        ),
    ] {
        policy(&w, "validating", "p", refuses.clone(), binding.clone()).await;
        let answer = w.post(&format!("{MAPS}?dryRun=All"), map("m", json!({}))).await;
        assert_eq!(answer.code, expect, "{binding}: {}", answer.text);
        gone(&w, "validating", "p").await;
    }

    // What configures admission is never asked about, nor what is asked to be decided.
    let everything =
        json!({"matchConstraints": rules("*", "*", &["*"]), "validations": [{"expression": "false"}]});
    policy(&w, "validating", "p", everything, json!({})).await;
    let review = json!({"spec": {"nonResourceAttributes": {"verb": "get", "path": "/"}}});
    w.post("/apis/authorization.k8s.io/v1/selfsubjectaccessreviews", review).await.ok();
    assert_eq!(w.post("/api/v1/namespaces", json!({"metadata": {"name": "n"}})).await.code, 422);
    gone(&w, "validating", "p").await;
    w.post("/api/v1/namespaces", json!({"metadata": {"name": "n"}})).await.ok();
}

/// Parameters: by name, by labels, in a namespace or none, there or not.
#[tokio::test]
async fn parameters() {
    let w = World::new().await;
    w.post("/api/v1/namespaces", json!({"metadata": {"name": "other"}})).await.ok();
    for (name, most) in [("few", "3"), ("many", "30")] {
        let limits = json!({"metadata": {"name": name, "labels": {"limits": name, "all": "yes"}}, "data": {"max": most}});
        w.post("/api/v1/namespaces/other/configmaps", limits).await.ok();
    }
    let spec = |kind: Value| {
        json!({"paramKind": kind, "matchConstraints": rules("apps", "v1", &["deployments"]), "validations": [
            {"expression": "params == null || object.spec.replicas <= int(params.data.max)",
             "messageExpression": "'at most ' + params.data.max + ' by ' + params.kind"}]})
    };
    let maps = || json!({"apiVersion": "v1", "kind": "ConfigMap"});
    let named = |name: &str, namespace: &str, action: &str| {
        let mut reference = json!({"name": name, "parameterNotFoundAction": action});
        if !namespace.is_empty() {
            reference["namespace"] = namespace.into();
        }
        json!({ "paramRef": reference })
    };
    let labelled = |key: &str, value: &str| json!({"paramRef": {"selector": {"matchLabels": {key: value}}, "namespace": "other", "parameterNotFoundAction": "Deny"}});
    let denied = |why: &str| {
        format!(
            "deployments.apps \"d\" is forbidden: ValidatingAdmissionPolicy 'p' with binding 'p' denied request: {why}"
        )
    };
    let missing =
        "failed to configure binding: no params found for policy binding with `Deny` parameterNotFoundAction";
    for (kind, binding, expect) in [
        (maps(), json!({}), None),
        (maps(), named("few", "other", "Deny"), Some("at most 3 by ConfigMap".to_owned())),
        (maps(), named("many", "other", "Deny"), None),
        // In the namespace of the request.
        (maps(), named("few", "", "Deny"), Some(missing.to_owned())),
        (maps(), named("few", "", "Allow"), None),
        (maps(), labelled("limits", "many"), None),
        (maps(), labelled("all", "yes"), Some("at most 3 by ConfigMap".to_owned())),
        (maps(), labelled("all", "no"), Some(missing.to_owned())),
        (
            json!({"apiVersion": "example.com/v1", "kind": "Limit"}),
            named("few", "", "Allow"),
            Some("failed to find resource referenced by paramKind: 'example.com/v1, Kind=Limit'".to_owned()),
        ),
        (
            json!({"apiVersion": "v1", "kind": "Namespace"}),
            named("few", "other", "Allow"),
            Some("failed to configure binding: paramRef.namespace must not be provided for a cluster-scoped `paramKind`".to_owned()),
        ),
    ] {
        policy(&w, "validating", "p", spec(kind.clone()), binding.clone()).await;
        let answer = w.post(&format!("{DEPLOYMENTS}?dryRun=All"), deployment("d", 5)).await;
        match expect {
            None => assert_eq!(answer.code, 201, "{kind} {binding}: {}", answer.text),
            Some(why) if why.starts_with("failed to find") => {
                let expect = format!(
                    "deployments.apps \"d\" is forbidden: ValidatingAdmissionPolicy 'p' denied request: failed to configure \
                     policy: {why}"
                );
                assert_eq!(answer.fault().2, expect);
            }
            Some(why) => assert_eq!(answer.fault().2, denied(&why), "{kind} {binding}"),
        }
        gone(&w, "validating", "p").await;
    }
    // A change counts at once.
    policy(&w, "validating", "p", spec(maps()), named("few", "other", "Deny")).await;
    w.patch("merge", "/api/v1/namespaces/other/configmaps/few", json!({"data": {"max": "5"}})).await.ok();
    w.post(DEPLOYMENTS, deployment("d", 5)).await.ok();
}

/// Mutations, and what has become of the object.
#[tokio::test]
async fn mutations() {
    let w = World::new().await;
    let apply = |source: &str| json!({"patchType": "ApplyConfiguration", "applyConfiguration": {"expression": source}});
    let patch = |source: &str| json!({"patchType": "JSONPatch", "jsonPatch": {"expression": source}});
    let said = |why: &str| format!("policy 'p' with binding 'p' denied request: {why}");
    let denied = |why: &str| Err(said(why));
    for (mutations, expect) in [
        (
            vec![apply("Object{metadata: Object.metadata{labels: {'added': object.metadata.name}}}")],
            Ok(("/metadata/labels", json!({"x": "y", "added": "m"}))),
        ),
        (vec![apply("Object{data: {'c': 'd'}}")], Ok(("/data", json!({"a": "b", "c": "d"})))),
        (
            vec![apply("Object{data: {'n': '1'}}"), apply("Object{data: {'n': object.data.n + '2'}}")],
            Ok(("/data", json!({"a": "b", "n": "12"}))),
        ),
        (
            vec![patch(
                "[JSONPatch{op: 'add', path: '/metadata/labels/' + jsonpatch.escapeKey('a/b'), value: 'z'}, JSONPatch{op: 'remove', path: '/metadata/labels/x'}]",
            )],
            Ok(("/metadata/labels", json!({"a/b": "z"}))),
        ),
        (
            vec![patch(
                "[JSONPatch{op: 'test', path: '/data/a', value: 'no'}, JSONPatch{op: 'remove', path: '/data/a'}]",
            )],
            Ok(("/data", json!({"a": "b"}))),
        ),
        (
            vec![patch("has(object.data.none) ? [JSONPatch{op: 'remove', path: '/data/none'}] : []")],
            Ok(("/data", json!({"a": "b"}))),
        ),
        (
            vec![patch(
                "[JSONPatch{op: 'add', path: '/metadata/labels', value: Object.metadata.labels{o: 'p'}}]",
            )],
            Ok(("/metadata/labels", json!({"o": "p"}))),
        ),
        (
            vec![patch("[JSONPatch{op: 'remove', path: '/data/none'}]")],
            denied("JSON Patch: Unable to remove nonexistent key: none: missing value"),
        ),
        (
            vec![apply("Object{metadata: Object.spec{}}")],
            denied(
                "type mismatch: unexpected type name \"Object.spec\", expected \"Object.metadata\", which matches field name \
                path from root Object type",
            ),
        ),
        (
            vec![apply("Object{none: 1}")],
            denied(
                "error applying patch: failed to convert patch object to typed object: .none: field not declared in schema",
            ),
        ),
        (
            vec![apply("Object{data: {'a': object.data.none}}")],
            denied("expression 'Object{data: {'a': object.data.none}}' resulted in error: no such key: none"),
        ),
    ] {
        let spec = json!({"mutations": mutations, "reinvocationPolicy": "Never"});
        policy(&w, "mutating", "p", spec, json!({})).await;
        let answer = w.post(&format!("{MAPS}?dryRun=All"), map("m", json!({"a": "b"}))).await;
        match expect {
            Ok((pointer, expect)) => {
                assert_eq!(answer.ok().pointer(pointer), Some(&expect), "{mutations:?}");
            }
            Err(expect) => assert_eq!(answer.fault(), (403, "Invalid".to_owned(), expect), "{mutations:?}"),
        }
        gone(&w, "mutating", "p").await;
    }
    // Lists by their keys, defaults of what is new, what is replaced as a whole refused.
    for (source, expect) in [
        (
            "Object{spec: Object.spec{template: Object.spec.template{spec: Object.spec.template.spec{containers: \
             [Object.spec.template.spec.containers{name: 'side', image: 'j'}]}}}}",
            Ok(json!(["c", "side"])),
        ),
        (
            "Object{spec: Object.spec{selector: Object.spec.selector{matchLabels: {'q': 'r'}}}}",
            Err(said(
                "error applying patch: invalid ApplyConfiguration: may not mutate atomic arrays, maps or structs: .spec.selector",
            )),
        ),
    ] {
        let spec = json!({"matchConstraints": rules("apps", "v1", &["deployments"]), "mutations": [apply(source)],
            "reinvocationPolicy": "Never"});
        policy(&w, "mutating", "p", spec, json!({})).await;
        let answer = w.post(&format!("{DEPLOYMENTS}?dryRun=All"), deployment("d", 1)).await;
        match expect {
            Ok(expect) => {
                let made = answer.ok();
                let containers = made.pointer("/spec/template/spec/containers").unwrap().as_array().unwrap();
                let names: Vec<&Value> = containers.iter().map(|c| &c["name"]).collect();
                assert_eq!(json!(names), expect);
                assert_eq!(containers[1]["terminationMessagePath"], "/dev/termination-log");
            }
            Err(expect) => assert_eq!(answer.fault().2, expect),
        }
        gone(&w, "mutating", "p").await;
    }
    let metrics = w.get("/metrics").await.text;
    let line = "apiserver_mutating_admission_policy_check_total{error_type=\"no_error\",policy=\"p\",policy_binding=\"p\"}";
    assert!(metrics.contains(line));
}

/// In order; again if somebody changes the object afterwards; and validations see what has become of it.
#[tokio::test]
async fn order() {
    let w = World::new().await;
    let append = |letter: &str, condition: Value, again: &str| {
        let source = format!("Object{{data: {{'s': object.data.s + '{letter}'}}}}");
        json!({"mutations": [{"patchType": "ApplyConfiguration", "applyConfiguration": {"expression": source}}],
            "matchConditions": condition, "reinvocationPolicy": again})
    };
    policy(&w, "mutating", "a", append("a", json!([]), "IfNeeded"), json!({})).await;
    policy(&w, "mutating", "b", append("b", json!([]), "Never"), json!({})).await;
    policy(
        &w,
        "mutating",
        "c",
        append("c", json!([{"name": "n", "expression": "false"}]), "Never"),
        json!({}),
    )
    .await;
    let spec = json!({"validations": [{"expression": "object.data.s == '-aba'", "messageExpression": "string(object.data.s)"}]});
    policy(&w, "validating", "v", spec, json!({})).await;
    let made = w.post(MAPS, map("m", json!({"s": "-"}))).await.ok();
    assert_eq!(made["data"]["s"], "-aba");
    // Nothing of it belongs to anybody who wrote it.
    assert!(!made["metadata"]["managedFields"].to_string().contains("aba"));
}

/// Custom kinds as what is asked about, and as parameters.
#[tokio::test]
async fn custom_kinds() {
    let w = World::new().await;
    tokio::spawn(apiserver::custom::controller::keep(w.server.clone()));
    for (plural, kind, scope) in [("widgets", "Widget", "Namespaced"), ("limits", "Limit", "Cluster")] {
        let item = json!({"type": "object", "required": ["name"], "properties": {"name": {"type": "string"}, "n": {"type": "integer", "default": 7}}});
        let schema = json!({"type": "object", "properties": {"spec": {"type": "object", "properties": {
            "size": {"type": "integer"}, "whole": {"type": "array", "items": {"type": "string"}},
            "parts": {"type": "array", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"], "items": item}}}}});
        let version = |name: &str, storage: bool| json!({"name": name, "served": true, "storage": storage, "schema": {"openAPIV3Schema": schema}});
        let definition = json!({"metadata": {"name": format!("{plural}.example.com")}, "spec": {"group": "example.com",
            "scope": scope, "names": {"plural": plural, "kind": kind}, "versions": [version("v1", true), version("v2", false)]}});
        w.post("/apis/apiextensions.k8s.io/v1/customresourcedefinitions", definition).await.ok();
        for _ in 0..500 {
            if w.get(&format!("/apis/example.com/v1/{plural}")).await.code == 200 {
                break;
            }
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
    }
    let object = |kind: &str, version: &str, spec: Value| json!({"apiVersion": format!("example.com/{version}"), "kind": kind, "metadata": {"name": "x"}, "spec": spec});
    w.post("/apis/example.com/v1/limits", object("Limit", "v1", json!({"size": 3}))).await.ok();
    let spec = json!({"paramKind": {"apiVersion": "example.com/v2", "kind": "Limit"},
        "matchConstraints": rules("example.com", "v2", &["widgets"]),
        "validations": [{"expression": "object.spec.size <= params.spec.size && params.apiVersion == object.apiVersion",
            "messageExpression": "object.apiVersion + ' at most ' + string(params.spec.size)"}]});
    policy(
        &w,
        "validating",
        "p",
        spec,
        json!({"paramRef": {"name": "x", "parameterNotFoundAction": "Deny"}}),
    )
    .await;
    let widgets =
        |version: &str| format!("/apis/example.com/{version}/namespaces/default/widgets?dryRun=All");
    let denied = "widgets.example.com \"x\" is forbidden: ValidatingAdmissionPolicy 'p' with binding 'p' denied request: \
                  example.com/v2 at most 3";
    for version in ["v1", "v2"] {
        w.post(&widgets(version), object("Widget", version, json!({"size": 3}))).await.ok();
        let refused = w.post(&widgets(version), object("Widget", version, json!({"size": 4}))).await;
        assert_eq!(refused.fault().2, denied);
    }
    let mutation = |source: &str| {
        json!({"matchConstraints": rules("example.com", "v1", &["widgets"]), "reinvocationPolicy": "Never",
            "mutations": [{"patchType": "ApplyConfiguration", "applyConfiguration": {"expression": source}}]})
    };
    let adds = "Object{spec: Object.spec{parts: [Object.spec.parts{name: 'b'}]}}";
    policy(&w, "mutating", "m", mutation(adds), json!({})).await;
    let given = json!({"size": 1, "parts": [{"name": "a", "n": 1}]});
    let made = w.post(&widgets("v1"), object("Widget", "v1", given.clone())).await.ok();
    assert_eq!(made["spec"]["parts"], json!([{"name": "a", "n": 1}, {"name": "b", "n": 7}]));
    gone(&w, "mutating", "m").await;
    policy(&w, "mutating", "m", mutation("Object{spec: Object.spec{whole: ['b']}}"), json!({})).await;
    let refused = w.post(&widgets("v1"), object("Widget", "v1", given)).await;
    assert_eq!(
        refused.fault().2,
        "policy 'm' with binding 'm' denied request: error applying patch: invalid ApplyConfiguration: may not mutate atomic \
         arrays, maps or structs: .spec.whole"
    );
}

/// Whoever cannot read parameters cannot let a policy read them.
#[tokio::test]
async fn parameters_that_the_author_may_not_read() {
    let w = World::new().await;
    let role = json!({"metadata": {"name": "author"}, "rules": [
        {"apiGroups": ["admissionregistration.k8s.io"], "resources": ["*"], "verbs": ["*"]},
        {"apiGroups": [""], "resources": ["configmaps"], "verbs": ["get"]}]});
    w.post("/apis/rbac.authorization.k8s.io/v1/clusterroles", role).await.ok();
    let binding = json!({"metadata": {"name": "author"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "author"},
        "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": "bob"}]});
    w.post("/apis/rbac.authorization.k8s.io/v1/clusterrolebindings", binding).await.ok();
    let write = async |plural: &str, name: &str, spec: Value| {
        let object = json!({"metadata": {"name": name}, "spec": spec}).to_string();
        let bob = UserInfo::new("bob", &["system:authenticated"]);
        let request = Request::post(format!("{GROUP}/{plural}")).header("content-type", "application/json");
        let request = request.body(body(object.into_bytes())).unwrap();
        let answer = w.server.handle(Peer::Identity(bob), request).await;
        let code = answer.status().as_u16();
        let bytes = answer.into_body().collect().await.unwrap().to_bytes();
        let answer: Value = serde_json::from_slice(&bytes).unwrap();
        (code, answer["details"]["causes"][0]["message"].as_str().unwrap_or_default().to_owned())
    };
    let user = "user &{bob  [system:authenticated] map[]}";
    let spec = |kind: &str| {
        json!({"paramKind": {"apiVersion": "v1", "kind": kind}, "matchConstraints": rules("", "v1", &["pods"]),
            "validations": [{"expression": "params != null"}]})
    };
    let policies = "validatingadmissionpolicies";
    let refused = format!(
        "Forbidden: {user} must have \"get\" permission on all objects of the referenced paramKind (kind=Secret, apiVersion=v1)"
    );
    assert_eq!(write(policies, "secrets", spec("Secret")).await, (422, refused));
    assert_eq!(write(policies, "maps", spec("ConfigMap")).await, (201, String::new()));
    let bind = |reference: Value| {
        let mut spec = json!({"policyName": "maps", "validationActions": ["Deny"], "paramRef": reference});
        spec["paramRef"]["parameterNotFoundAction"] = "Deny".into();
        spec
    };
    let bindings = "validatingadmissionpolicybindings";
    assert_eq!(
        write(bindings, "named", bind(json!({"name": "x", "namespace": "n"}))).await,
        (201, String::new())
    );
    let refused =
        format!("Forbidden: {user} does not have \"list\" permission on the object referenced by paramRef");
    assert_eq!(write(bindings, "all", bind(json!({"selector": {}}))).await, (422, refused));
}
