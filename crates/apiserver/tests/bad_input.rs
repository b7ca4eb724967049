//! Bad input gives upstream's error and changes nothing.

use serde_json::json;

use crate::world::{World, config_map};

const MAPS: &str = "/api/v1/namespaces/default/configmaps";
const PODS: &str = "/api/v1/namespaces/default/pods";
const JSON: (&str, &str) = ("content-type", "application/json");

#[tokio::test]
async fn bodies() {
    let w = World::new().await;
    w.post(MAPS, config_map("taken", &[])).await.ok();
    let before = w.store.revision();
    let pod =
        |spec: &str| format!(r#"{{"kind":"Pod","apiVersion":"v1","metadata":{{"name":"p"}},"spec":{spec}}}"#);
    let table: Vec<(&str, String, u16, &str, &str)> = vec![
        (
            MAPS,
            r#"{"metadata":{"name":"x""#.into(),
            400,
            "BadRequest",
            "couldn't get version/kind; json parse error: unexpected end of JSON input",
        ),
        (
            MAPS,
            "".into(),
            400,
            "BadRequest",
            "the object provided is unrecognized (must be of type ConfigMap)",
        ),
        (
            MAPS,
            r#"{"kind":"Foo","apiVersion":"v1"}"#.into(),
            400,
            "BadRequest",
            r#"Foo in version "v1" cannot be handled as a ConfigMap: no kind "Foo" is registered for version "v1" in scheme"#,
        ),
        (
            MAPS,
            r#"{"kind":"Pod","apiVersion":"v1"}"#.into(),
            400,
            "BadRequest",
            r#"Pod in version "v1" cannot be handled as a ConfigMap: converting (v1.Pod) to (core.ConfigMap): unknown conversion"#,
        ),
        (
            PODS,
            pod(r#"{"containers":"x"}"#),
            400,
            "BadRequest",
            r#"Pod in version "v1" cannot be handled as a Pod: json: cannot unmarshal string into Go struct field PodSpec.spec.containers of type []v1.Container"#,
        ),
        (
            MAPS,
            r#"{"metadata":{}}"#.into(),
            422,
            "Invalid",
            r#"ConfigMap "" is invalid: metadata.name: Required value: name or generateName is required"#,
        ),
        (
            MAPS,
            r#"{"metadata":{"name":"UPPER"}}"#.into(),
            422,
            "Invalid",
            r#"ConfigMap "UPPER" is invalid: metadata.name: Invalid value: "UPPER": a lowercase RFC 1123 subdomain"#,
        ),
        (
            MAPS,
            r#"{"metadata":{"name":"x","namespace":"other"}}"#.into(),
            400,
            "BadRequest",
            "the namespace of the provided object does not match the namespace sent on the request",
        ),
        (
            MAPS,
            r#"{"metadata":{"name":"taken"}}"#.into(),
            409,
            "AlreadyExists",
            r#"configmaps "taken" already exists"#,
        ),
        (
            "/api/v1/namespaces/none/configmaps",
            r#"{"metadata":{"name":"x"}}"#.into(),
            404,
            "NotFound",
            r#"namespaces "none" not found"#,
        ),
        (
            MAPS,
            format!(r#"{{"metadata":{{"name":"x"}},"data":{{"k":"{}"}}}}"#, "x".repeat(10 << 20)),
            413,
            "RequestEntityTooLarge",
            "Request entity too large: limit is 3145728",
        ),
    ];
    for (path, body, code, reason, message) in table {
        let answer = w.send("POST", path, &[JSON], body.clone().into_bytes()).await;
        let fault = answer.fault();
        let shown = &body[..body.len().min(80)];
        assert_eq!((fault.0, fault.1.as_str()), (code, reason), "{shown} {}", fault.2);
        assert!(fault.2.contains(message), "{shown}\n{}\n{message}", fault.2);
    }
    let media = w.send("POST", MAPS, &[("content-type", "text/plain")], b"{}".to_vec()).await.fault();
    assert_eq!((media.0, media.1.as_str()), (415, "UnsupportedMediaType"));
    assert_eq!(w.store.revision(), before);
}

#[tokio::test]
async fn field_validation() {
    let w = World::new().await;
    let body =
        br#"{"metadata":{"name":"s"},"dta":{"a":"b"},"data":{"a":"1"},"immutable":true,"immutable":false}"#
            .to_vec();
    let strict =
        w.send("POST", &format!("{MAPS}?fieldValidation=Strict"), &[JSON], body.clone()).await.fault();
    assert_eq!(
        strict,
        (
            400,
            "BadRequest".into(),
            r#"ConfigMap in version "v1" cannot be handled as a ConfigMap: strict decoding error: unknown field "dta", duplicate field "immutable""#
                .into()
        )
    );
    let warned = w.send("POST", MAPS, &[JSON], body.clone()).await;
    assert_eq!(warned.code, 201);
    let warnings: Vec<_> = warned.headers.get_all("warning").iter().map(|v| v.to_str().unwrap()).collect();
    assert_eq!(warnings, [r#"299 - "unknown field \"dta\"""#, r#"299 - "duplicate field \"immutable\"""#]);
    let ignored = w.send("PUT", &format!("{MAPS}/s?fieldValidation=Ignore"), &[JSON], body).await;
    assert!(ignored.headers.get("warning").is_none());
    let patch =
        w.patch("merge", &format!("{MAPS}/s?fieldValidation=Strict"), json!({"foo": 1})).await.fault();
    assert_eq!(patch.0, 422);
    assert!(patch.2.contains(r#"strict decoding error: unknown field "foo""#), "{}", patch.2);
}

#[tokio::test]
async fn paths() {
    let w = World::new().await;
    w.post(MAPS, config_map("a", &[])).await.ok();
    let table = [
        ("GET", "/api/v1/foos", 404),
        ("GET", "/apis/none/v1/foos", 404),
        ("GET", "/api/v1/configmaps/a", 404),
        ("GET", "/api/v1/namespaces/default/nodes", 404),
        ("GET", "/api/v1/namespaces/default/configmaps/a/status", 404),
        ("GET", "/nothing", 404),
    ];
    for (method, path, code) in table {
        let answer = w.send(method, path, &[], vec![]).await;
        // Below what is served a route is looked for; elsewhere nobody is asked.
        let status = path.starts_with("/api/");
        assert_eq!((answer.code, answer.text == "404 page not found\n"), (code, !status), "{path}");
        assert_eq!(answer.text.contains("could not find the requested resource"), status, "{path}");
    }
    for (method, path) in [
        ("POST", "/api/v1/namespaces/default/configmaps/a"),
        ("PUT", MAPS),
        ("DELETE", "/api/v1/namespaces"),
        ("POST", "/api/v1/configmaps"),
    ] {
        let answer = w.send(method, path, &[JSON], b"{}".to_vec()).await;
        assert_eq!(answer.fault().0, 405, "{method} {path}");
    }
    let put = w.put(&format!("{MAPS}/a"), config_map("b", &[])).await.fault();
    assert_eq!(put.2, "the name of the object (b) does not match the name on the URL (a)");
    let put = w.put(&format!("{MAPS}/none"), config_map("none", &[])).await.fault();
    assert_eq!(put, (404, "NotFound".into(), r#"configmaps "none" not found"#.into()));
    // Where upstream lets updates create, so do we.
    let leases = "/apis/coordination.k8s.io/v1/namespaces/default/leases";
    let lease = w.put(&format!("{leases}/l"), json!({"metadata": {"name": "l"}})).await;
    assert_eq!(lease.code, 201);
    // … but not by mistake: this uid was somebody else's.
    w.delete(&format!("{leases}/l")).await.ok();
    let mut gone = lease.ok();
    assert_eq!(w.put(&format!("{leases}/l"), gone.clone()).await.fault().1, "Conflict");
    gone["metadata"].as_object_mut().unwrap().remove("uid");
    assert_eq!(w.put(&format!("{leases}/l"), gone).await.code, 201);
    let odd = w.get("/api/v1/watch").await;
    assert_eq!(odd.code, 500);
    assert!(odd.text.contains("unable to determine kind and namespace from url"), "{}", odd.text);
}
