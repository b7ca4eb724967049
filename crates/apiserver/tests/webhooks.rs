//! Webhooks of admission through the whole server, over HTTPS: what they are asked, what becomes of their answers, and
//! what hostile ones can do.

use serde_json::{Value, json};

use crate::{
    hooks::{Hooks, Reply, patch},
    world::{World, config_map},
};

const MAPS: &str = "/api/v1/namespaces/default/configmaps";
const GROUP: &str = "/apis/admissionregistration.k8s.io/v1";

/// A hook on config maps, and what is said otherwise.
fn hook(client: Value, more: Value) -> Value {
    let mut hook = json!({
        "name": "w.example.com",
        "clientConfig": client,
        "rules": [{"operations": ["*"], "apiGroups": [""], "apiVersions": ["v1"], "resources": ["configmaps"]}],
        "sideEffects": "None",
        "admissionReviewVersions": ["v1"],
        "timeoutSeconds": 1,
    });
    hook.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    hook
}

/// `kind`: `validating` or `mutating`.
async fn configure(w: &World, kind: &str, name: &str, hooks: Vec<Value>) {
    let path = format!("{GROUP}/{kind}webhookconfigurations");
    w.post(&path, json!({"metadata": {"name": name}, "webhooks": hooks})).await.ok();
}

async fn forget(w: &World, kind: &str, name: &str) {
    w.delete(&format!("{GROUP}/{kind}webhookconfigurations/{name}")).await.ok();
}

fn allow() -> Reply {
    Reply::Response(json!({"allowed": true}))
}

#[tokio::test]
async fn what_is_asked() {
    let hooks = Hooks::new(|_, _| allow()).await;
    let w = World::new().await;
    configure(&w, "validating", "v", vec![hook(hooks.url("v"), json!({}))]).await;
    w.post(&format!("{MAPS}?fieldManager=me"), config_map("a", &[])).await.ok();
    let asked = hooks.asked();
    let (path, request) = &asked[0];
    assert_eq!((asked.len(), &**path), (1, "v"));
    let kind = json!({"group": "", "version": "v1", "kind": "ConfigMap"});
    let resource = json!({"group": "", "version": "v1", "resource": "configmaps"});
    for (field, expect) in [
        ("kind", kind.clone()),
        ("requestKind", kind),
        ("resource", resource.clone()),
        ("requestResource", resource),
        ("name", json!("a")),
        ("namespace", json!("default")),
        ("operation", json!("CREATE")),
        ("oldObject", Value::Null),
        ("dryRun", json!(false)),
        ("options", json!({"kind": "CreateOptions", "apiVersion": "meta.k8s.io/v1", "fieldManager": "me"})),
        ("userInfo", json!({"username": "admin", "groups": ["system:masters", "system:authenticated"]})),
    ] {
        assert_eq!(request[field], expect, "{field}");
    }
    let object = &request["object"];
    assert_eq!((&object["kind"], &object["data"]["k"]), (&json!("ConfigMap"), &json!("v")));
    assert!(object["metadata"]["uid"].is_string());

    w.patch("merge", &format!("{MAPS}/a?dryRun=All"), json!({"data": {"k": "w"}})).await.ok();
    w.delete(&format!("{MAPS}/a?gracePeriodSeconds=0")).await.ok();
    let asked = hooks.asked();
    let brief: Vec<Value> = asked
        .iter()
        .map(|(_, r)| {
            json!([
                r["operation"],
                r["object"]["data"]["k"],
                r["oldObject"]["data"]["k"],
                r["dryRun"],
                r["options"]
            ])
        })
        .collect();
    assert_eq!(
        json!(brief),
        json!([
            ["UPDATE", "w", "v", true, {"kind": "UpdateOptions", "apiVersion": "meta.k8s.io/v1", "dryRun": ["All"]}],
            ["DELETE", null, "v", false, {"kind": "DeleteOptions", "apiVersion": "meta.k8s.io/v1", "gracePeriodSeconds": 0}],
        ])
    );
    // One connection has carried all of it.
    assert_eq!(hooks.connections(), 1);

    // A collection is asked about one by one; a generated name is not the request's.
    for _ in 0..2 {
        w.post(MAPS, json!({"metadata": {"generateName": "g-"}})).await.ok();
    }
    let names: Vec<Value> = hooks.asked().into_iter().map(|(_, r)| r["name"].clone()).collect();
    assert_eq!(names, [Value::Null, Value::Null]);
    w.delete(MAPS).await.ok();
    let deleted = hooks.asked();
    assert_eq!(deleted.len(), 2);
    assert!(
        deleted.iter().all(|(_, r)| r["name"] == r["oldObject"]["metadata"]["name"] && r["name"].is_string())
    );

    // What configures webhooks is not sent to them, and what nobody configures costs no call.
    let all = json!({"rules": [{"operations": ["*"], "apiGroups": ["*"], "apiVersions": ["*"], "resources": ["*/*"]}]});
    configure(&w, "validating", "all", vec![hook(hooks.url("all"), all)]).await;
    forget(&w, "validating", "v").await;
    assert_eq!(hooks.asked(), []);
    forget(&w, "validating", "all").await;
    w.post(MAPS, config_map("b", &[])).await.ok();
    assert_eq!(hooks.asked(), []);
}

#[tokio::test]
async fn refusals_and_warnings() {
    let hooks = Hooks::new(|path, _| {
        Reply::Response(match path {
            "no" => {
                json!({"allowed": false, "status": {"code": 418, "message": "not today", "reason": "Teapot"}})
            }
            "silent" => json!({"allowed": false}),
            _ => json!({"allowed": true, "warnings": ["careful"], "auditAnnotations": {"a": "b"}}),
        })
    })
    .await;
    let w = World::new().await;
    let named =
        |name: &str, path: &str| hook(hooks.url(path), json!({"name": format!("{name}.example.com")}));
    configure(
        &w,
        "validating",
        "v",
        vec![named("warns", "warns"), named("silent", "silent"), named("no", "no")],
    )
    .await;
    let answer = w.post(MAPS, config_map("a", &[])).await;
    let fault = answer.fault();
    assert_eq!(fault.0, 400);
    assert_eq!(fault.2, "admission webhook \"silent.example.com\" denied the request without explanation");
    assert_eq!(answer.headers["warning"], "299 - \"careful\"");
    // All of them were asked.
    assert_eq!(hooks.asked().len(), 3);
    forget(&w, "validating", "v").await;
    configure(&w, "mutating", "m", vec![named("no", "no")]).await;
    let fault = w.post(MAPS, config_map("a", &[])).await.fault();
    let message = "admission webhook \"no.example.com\" denied the request: not today".to_owned();
    assert_eq!(fault, (418, "Teapot".to_owned(), message));
    let text = w.get("/metrics").await.text;
    for line in [
        "apiserver_admission_webhook_rejection_count{name=\"no.example.com\",type=\"admit\",operation=\"CREATE\",error_type=\"no_error\",rejection_code=\"418\"} 1",
        "apiserver_admission_webhook_request_total{name=\"warns.example.com\",type=\"validating\",operation=\"CREATE\",code=\"200\",rejected=\"false\"} 1",
    ] {
        assert!(text.contains(line), "{line}");
    }
}

#[tokio::test]
async fn mutation() {
    let hooks = Hooks::new(|path, asked| {
        Reply::Response(match path {
            "add" => {
                let stage = asked["object"]["data"].as_object().map_or(0, serde_json::Map::len);
                patch(json!([{"op": "add", "path": format!("/data/stage-{stage}"), "value": "x"}]))
            }
            "once" if asked["object"]["data"].get("once").is_none() => {
                patch(json!([{"op": "add", "path": "/data/once", "value": "x"}]))
            }
            "unknown" => patch(json!([{"op": "add", "path": "/nonsense", "value": 1}, {"op": "add", "path": "/data/known", "value": "x"}])),
            "pod" => patch(json!([{"op": "add", "path": "/spec/initContainers", "value": [{"name": "i", "image": "webhook-added"}]}])),
            "nothing" => patch(json!([])),
            _ => json!({"allowed": true}),
        })
    })
    .await;
    let w = World::new().await;
    // In the order of the configurations' names, whatever they were made in.
    configure(&w, "mutating", "b", vec![hook(hooks.url("add"), json!({}))]).await;
    configure(
        &w,
        "mutating",
        "a",
        vec![hook(hooks.url("add"), json!({})), hook(hooks.url("nothing"), json!({"name": "n.example.com"}))],
    )
    .await;
    configure(&w, "mutating", "c", vec![hook(hooks.url("unknown"), json!({}))]).await;
    let made = w.post(MAPS, config_map("a", &[])).await.ok();
    assert_eq!(made["data"], json!({"k": "v", "stage-1": "x", "stage-2": "x", "known": "x"}));
    assert!(made.get("nonsense").is_none());
    let paths: Vec<String> = hooks.asked().into_iter().map(|(path, _)| path).collect();
    assert_eq!(paths, ["add", "nothing", "add", "unknown"]);
    for name in ["a", "b", "c"] {
        forget(&w, "mutating", name).await;
    }

    // Who asks for it sees what others have changed since; once.
    let again = |path: &str, policy: &str| {
        hook(hooks.url(path), json!({"name": format!("{path}.example.com"), "reinvocationPolicy": policy}))
    };
    configure(
        &w,
        "mutating",
        "r",
        vec![again("once", "IfNeeded"), again("never", "Never"), again("add", "IfNeeded")],
    )
    .await;
    w.post(MAPS, config_map("b", &[])).await.ok();
    let paths: Vec<String> = hooks.asked().into_iter().map(|(path, _)| path).collect();
    assert_eq!(paths, ["once", "never", "add", "once"]);
    forget(&w, "mutating", "r").await;

    // Defaults come after the patch, and built-in plugins look again.
    let pods = json!({"rules": [{"operations": ["CREATE"], "apiGroups": [""], "apiVersions": ["v1"], "resources": ["pods"]}]});
    configure(&w, "mutating", "p", vec![hook(hooks.url("pod"), pods)]).await;
    let pod = json!({"metadata": {"name": "p"}, "spec": {"containers": [{"name": "c", "image": "i"}]}});
    let made = w.post("/api/v1/namespaces/default/pods", pod).await.ok();
    let added = &made["spec"]["initContainers"][0];
    assert_eq!(added["terminationMessagePolicy"], "File");
    assert!(added["volumeMounts"][0]["mountPath"].is_string(), "{added}");
}

#[tokio::test]
async fn versions_scales_and_connections() {
    let hooks = Hooks::new(|path, asked| {
        Reply::Response(match path {
            "scale" => patch(json!([{"op": "replace", "path": "/spec/replicas", "value": 2}])),
            "labels" if asked["operation"] == "CREATE" => {
                patch(json!([{"op": "add", "path": "/metadata/labels", "value": {"seen": asked["kind"]["version"]}}]))
            }
            "attach" => json!({"allowed": false, "status": {"message": "attaching is not allowed"}}),
            _ => json!({"allowed": true}),
        })
    })
    .await;
    let w = World::new().await;
    let about = |group: &str, version: &str, resource: &str| {
        json!({"rules": [{"operations": ["*"], "apiGroups": [group], "apiVersions": [version], "resources": [resource]}],
            "matchPolicy": "Equivalent"})
    };
    let scalers = "horizontalpodautoscalers";
    configure(&w, "mutating", "m", vec![hook(hooks.url("labels"), about("autoscaling", "v2", scalers))])
        .await;
    configure(&w, "validating", "v", vec![hook(hooks.url("v"), about("autoscaling", "v2", scalers))]).await;
    let path = format!("/apis/autoscaling/v1/namespaces/default/{scalers}");
    let target = json!({"kind": "Deployment", "name": "d", "apiVersion": "apps/v1"});
    let object = json!({"metadata": {"name": "h"},
        "spec": {"maxReplicas": 3, "scaleTargetRef": target, "targetCPUUtilizationPercentage": 80}});
    let made = w.post(&path, object).await.ok();
    assert_eq!(
        (&made["metadata"]["labels"]["seen"], &made["spec"]["targetCPUUtilizationPercentage"]),
        (&json!("v2"), &json!(80))
    );
    for (path, request) in hooks.asked() {
        let shown = &request["object"];
        assert_eq!(
            (&shown["apiVersion"], &shown["spec"]["metrics"][0]["type"]),
            (&json!("autoscaling/v2"), &json!("Resource")),
            "{path}"
        );
        assert_eq!(
            (&request["requestKind"]["version"], &request["kind"]["version"]),
            (&json!("v1"), &json!("v2"))
        );
    }
    forget(&w, "mutating", "m").await;

    let labels = json!({"app": "d"});
    let deployment = json!({"metadata": {"name": "d"}, "spec": {"replicas": 1, "selector": {"matchLabels": labels},
        "template": {"metadata": {"labels": labels}, "spec": {"containers": [{"name": "c", "image": "i"}]}}}});
    w.post("/apis/apps/v1/namespaces/default/deployments", deployment).await.ok();
    configure(&w, "mutating", "s", vec![hook(hooks.url("scale"), about("apps", "v1", "deployments/scale"))])
        .await;
    let scale = json!({"spec": {"replicas": 7}});
    let scaled = w.patch("merge", "/apis/apps/v1/namespaces/default/deployments/d/scale", scale).await.ok();
    assert_eq!(scaled["spec"]["replicas"], 2);
    let (_, request) = hooks.asked().remove(0);
    assert_eq!(
        json!([
            request["kind"],
            request["subResource"],
            request["object"]["spec"],
            request["oldObject"]["spec"]
        ]),
        json!([{"group": "autoscaling", "version": "v1", "kind": "Scale"}, "scale", {"replicas": 7}, {"replicas": 1}])
    );

    configure(&w, "validating", "c", vec![hook(hooks.url("attach"), about("", "v1", "pods/attach"))]).await;
    let url = "/api/v1/namespaces/default/pods/p/attach?container=c&stdin=true&stdout=true";
    let fault = w.send("POST", url, &[], Vec::new()).await.fault();
    assert_eq!(
        (fault.0, &*fault.2),
        (400, "admission webhook \"w.example.com\" denied the request: attaching is not allowed")
    );
    let (_, request) = hooks.asked().remove(0);
    assert_eq!(
        json!([request["operation"], request["object"], request["oldObject"], request["options"]]),
        json!(["CONNECT", {"kind": "PodAttachOptions", "apiVersion": "v1", "stdin": true, "stdout": true, "container": "c"}, null, null])
    );
}

#[tokio::test]
async fn who_is_asked() {
    let hooks = Hooks::new(|_, _| allow()).await;
    let w = World::new().await;
    w.post("/api/v1/namespaces", json!({"metadata": {"name": "other", "labels": {"hooks": "no"}}}))
        .await
        .ok();
    let selector = |key: &str, value: &str| json!({"matchExpressions": [{"key": key, "operator": "NotIn", "values": [value]}]});
    let conditions = json!([
        {"name": "not-me", "expression": "request.name != 'skip-me'"},
        {"name": "labels", "expression": "!has(object.metadata.labels) || object.metadata.labels.x != 'fault' || object.nothing == 1"},
    ]);
    let more = json!({"namespaceSelector": selector("hooks", "no"), "objectSelector": selector("hooks", "no"),
        "matchConditions": conditions});
    configure(&w, "validating", "v", vec![hook(hooks.url("v"), more.clone())]).await;
    let table = [
        ("default", config_map("asked", &[]), 1),
        ("other", config_map("elsewhere", &[]), 0),
        ("default", config_map("labelled", &[("hooks", "no")]), 0),
        ("default", config_map("skip-me", &[]), 0),
        ("default", config_map("asked-too", &[("x", "y")]), 1),
    ];
    for (namespace, object, expect) in table {
        w.post(&format!("/api/v1/namespaces/{namespace}/configmaps"), object.clone()).await.ok();
        assert_eq!(hooks.asked().len(), expect, "{object}");
    }
    // A condition that cannot be evaluated refuses, unless failures are ignored.
    let fault = w.post(MAPS, config_map("faulty", &[("x", "fault")])).await.fault();
    assert_eq!((fault.0, &*fault.1), (403, "Forbidden"));
    assert!(
        fault.2.starts_with("configmaps \"faulty\" is forbidden: ")
            && fault.2.contains("no such key: nothing"),
        "{}",
        fault.2
    );
    forget(&w, "validating", "v").await;
    let mut ignores = hook(hooks.url("v"), more);
    ignores["failurePolicy"] = json!("Ignore");
    configure(&w, "validating", "i", vec![ignores]).await;
    w.post(MAPS, config_map("faulty", &[("x", "fault")])).await.ok();
    assert_eq!(hooks.asked(), []);
    forget(&w, "validating", "i").await;

    // What does not compile is refused when it is written.
    let broken = json!({"matchConditions": [{"name": "bad", "expression": "... [] bad expression"}]});
    let path = format!("{GROUP}/validatingwebhookconfigurations");
    let fault = w
        .post(&path, json!({"metadata": {"name": "bad"}, "webhooks": [hook(hooks.url("v"), broken)]}))
        .await
        .fault();
    assert_eq!(fault.0, 422);
    assert!(
        fault.2.contains("webhooks[0].matchConditions[0].expression: Invalid value:")
            && fault.2.contains("compilation failed"),
        "{}",
        fault.2
    );

    // Side effects keep a hook from what is only tried.
    let mut older = hook(hooks.url("v"), json!({"admissionReviewVersions": ["v9", "v1beta1"]}));
    configure(&w, "validating", "beta", vec![older.clone()]).await;
    w.post(&format!("{MAPS}?dryRun=All"), config_map("dry", &[])).await.ok();
    assert_eq!(hooks.asked().len(), 1);
    older["admissionReviewVersions"] = json!(["v1"]);
}

#[tokio::test]
async fn reached_through_a_service() {
    let hooks = Hooks::new(|_, _| allow()).await;
    let w = World::new().await;
    let port = hooks.port;
    let client = |name: &str| json!({"service": {"name": name, "namespace": "default", "path": "/v", "port": port}, "caBundle": hooks.bundle});
    configure(&w, "validating", "v", vec![hook(client("hooks"), json!({}))]).await;
    let url = format!("https://hooks.default.svc:{port}/v?timeout=1s");
    let failed = |why: &str| {
        let why = format!(
            "Internal error occurred: failed calling webhook \"w.example.com\": failed to call webhook: Post \"{url}\": {why}"
        );
        (500, "InternalError".to_owned(), why)
    };
    let fault = w.post(MAPS, config_map("a", &[])).await.fault();
    assert_eq!(fault, failed("service \"hooks\" not found"));
    let services = "/api/v1/namespaces/default/services";
    let spec = json!({"selector": {"app": "hooks"}, "ports": [{"port": port}]});
    w.post(services, json!({"metadata": {"name": "hooks"}, "spec": spec})).await.ok();
    let fault = w.post(MAPS, config_map("a", &[])).await.fault();
    assert_eq!(fault, failed("no endpoints available for service \"hooks\""));
    w.delete(&format!("{services}/hooks")).await.ok();
    let named = json!({"type": "ExternalName", "externalName": "localhost"});
    w.post(services, json!({"metadata": {"name": "hooks"}, "spec": named})).await.ok();
    w.post(MAPS, config_map("a", &[])).await.ok();
    assert_eq!(hooks.asked().len(), 1);
}

#[tokio::test]
async fn certificates() {
    let w = World::new().await;
    let (good, other) = (Hooks::new(|_, _| allow()).await, Hooks::new(|_, _| allow()).await);
    let own = Hooks::self_signed(&["127.0.0.1"]).await;
    let misnamed = Hooks::self_signed(&["elsewhere.example.com"]).await;
    let with = |hooks: &Hooks, bundle: &str| {
        let mut client = hooks.url("v");
        client["caBundle"] = json!(bundle);
        client
    };
    let unknown = "tls: failed to verify certificate: x509: certificate signed by unknown authority";
    let table = [
        (with(&good, &good.bundle), None),
        (with(&good, &other.bundle), Some(unknown)),
        // Nothing that this machine trusts has signed it.
        (json!({"url": good.url("v")["url"]}), Some(unknown)),
        (with(&own, &own.bundle), None),
        (with(&own, &good.bundle), Some(unknown)),
        (
            with(&misnamed, &misnamed.bundle),
            Some(
                "tls: failed to verify certificate: x509: certificate is valid for elsewhere.example.com, not 127.0.0.1",
            ),
        ),
    ];
    for (client, expect) in table {
        configure(&w, "validating", "v", vec![hook(client.clone(), json!({}))]).await;
        let answer = w.post(&format!("{MAPS}?dryRun=All"), config_map("a", &[])).await;
        match expect {
            None => drop(answer.ok()),
            Some(why) => assert!(answer.fault().2.ends_with(why), "{}", answer.text),
        }
        forget(&w, "validating", "v").await;
    }
}

/// Whatever a webhook does, the request ends in time with a clear error, or goes on unharmed if that is the policy.
#[tokio::test]
async fn hostile_webhooks() {
    const BIG: usize = 10 << 20;
    let hooks = Hooks::new(|path, _| {
        let response = |value: Value| Reply::Response(value);
        match path {
            "hang" => Reply::Hang,
            "drip" => Reply::Drip,
            "close" => Reply::Close,
            "big" => Reply::Raw(200, "application/json", vec![b' '; BIG]),
            "garbage" => Reply::Raw(200, "application/json", vec![0xff; 100]),
            "page" => Reply::Raw(200, "text/html", b"<html>".to_vec()),
            "empty" => Reply::Raw(200, "application/json", Vec::new()),
            "broken" => Reply::Raw(500, "text/plain", b"oh no".to_vec()),
            "elsewhere" => Reply::Raw(302, "text/plain", Vec::new()),
            "deep" => Reply::Raw(200, "application/json", vec![b'['; 1 << 20]),
            "other" => response(json!({"allowed": true, "uid": "x"})),
            "half" => response(json!({"allowed": true, "patch": "W10="})),
            "unbased" => response(json!({"allowed": true, "patch": "!", "patchType": "JSONPatch"})),
            "merge" => response(json!({"allowed": true, "patch": "W3sib3AiOiJ0ZXN0IiwicGF0aCI6IiIsInZhbHVlIjowfV0=", "patchType": "Merge"})),
            "nonsense" => response(patch(json!({"op": "add"}))),
            "warns" => {
                let warnings: Vec<String> = (0..100_000).map(|n| format!("warning {n}")).collect();
                response(json!({"allowed": true, "warnings": warnings}))
            }
            "nowhere" => response(patch(json!([{"op": "remove", "path": "/data/nothing"}]))),
            "kind" => response(patch(json!([{"op": "replace", "path": "/kind", "value": "Secret"}]))),
            "nobody" => response(patch(json!([{"op": "replace", "path": "", "value": 7}]))),
            "type" => response(patch(json!([{"op": "replace", "path": "/data", "value": [1]}]))),
            _ => allow(),
        }
    })
    .await;
    let w = World::new().await;
    let port = hooks.port;
    let post = |path: &str, why: &str| {
        format!("failed to call webhook: Post \"https://127.0.0.1:{port}/{path}?timeout=1s\": {why}")
    };
    let read = |why: &str| {
        format!(
            "failed to call webhook: unexpected error when reading response body. Please retry. Original error: {why}"
        )
    };
    let table = [
        ("hang", post("hang", "context deadline exceeded")),
        ("drip", post("drip", "context deadline exceeded")),
        ("close", post("close", "")),
        ("big", read("the body is larger than 3145728 bytes")),
        ("garbage", "failed to call webhook: couldn't get version/kind; json parse error: ".to_owned()),
        ("deep", "failed to call webhook: couldn't get version/kind; json parse error: ".to_owned()),
        ("page", "failed to call webhook: couldn't get version/kind; json parse error: ".to_owned()),
        ("empty", "failed to call webhook: 0-length response with status code: 200 and content type: application/json".to_owned()),
        ("broken", "failed to call webhook: an error on the server (\"oh no\") has prevented the request from succeeding".to_owned()),
        ("elsewhere", "failed to call webhook: the server responded with the status code 302 but did not return more information".to_owned()),
        ("other", "received invalid webhook response: expected response.uid=".to_owned()),
        ("half", "received invalid webhook response: webhook returned response.patch but not response.patchType".to_owned()),
        ("unbased", "failed to call webhook: ".to_owned()),
        ("merge", "unsupported patch type \"Merge\"".to_owned()),
        ("nonsense", "received undecodable patch in webhook response: ".to_owned()),
    ];
    for (path, why) in table {
        configure(&w, "mutating", "m", vec![hook(hooks.url(path), json!({}))]).await;
        let fault = w.post(MAPS, config_map(path, &[])).await.fault();
        let expect = format!("Internal error occurred: failed calling webhook \"w.example.com\": {why}");
        assert!(fault.0 == 500 && fault.2.starts_with(&expect), "{path}: {fault:?}");
        assert_eq!(w.get(&format!("{MAPS}/{path}")).await.code, 404, "{path}");
        forget(&w, "mutating", "m").await;
        configure(&w, "mutating", "m", vec![hook(hooks.url(path), json!({"failurePolicy": "Ignore"}))]).await;
        let made = w.post(MAPS, config_map(path, &[])).await.ok();
        assert_eq!(made["data"], json!({"k": "v"}), "{path}");
        forget(&w, "mutating", "m").await;
    }
    // A patch that does not fit is no failure to call: no policy lets it pass.
    for path in ["nowhere", "kind", "nobody", "type"] {
        configure(&w, "mutating", "m", vec![hook(hooks.url(path), json!({"failurePolicy": "Ignore"}))]).await;
        let fault = w.post(MAPS, config_map(path, &[])).await.fault();
        assert_eq!((fault.0, &*fault.1), (500, "InternalError"), "{path}: {fault:?}");
        forget(&w, "mutating", "m").await;
    }
    let text = w.get("/metrics").await.text;
    assert!(
        text.contains(
            "apiserver_admission_webhook_fail_open_count{name=\"w.example.com\",type=\"admit\"} 15"
        ),
        "{text}"
    );
    // Warnings without end are cut.
    configure(&w, "validating", "v", vec![hook(hooks.url("warns"), json!({}))]).await;
    let answer = w.post(MAPS, config_map("warned", &[])).await;
    let warned: usize = answer.headers.get_all("warning").iter().map(|warning| warning.len()).sum();
    assert!(answer.code == 201 && warned > 4096 && warned < 16 << 10, "{} {warned}", answer.code);
    forget(&w, "validating", "v").await;
    // Nobody listens there.
    let gone = json!({"url": "https://127.0.0.1:1/x", "caBundle": hooks.bundle});
    configure(&w, "validating", "v", vec![hook(gone, json!({}))]).await;
    let fault = w.post(MAPS, config_map("gone", &[])).await.fault();
    assert!(fault.2.ends_with("dial tcp 127.0.0.1:1: connect: connection refused"), "{fault:?}");
}
