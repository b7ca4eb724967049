//! Bad input gives upstream's error and changes nothing.

use serde_json::{Value, json};

use super::cluster::{Cluster, step};

const MAPS: &str = "/api/v1/namespaces/bad/configmaps";
const PODS: &str = "/api/v1/namespaces/bad/pods";
const DEPLOYMENTS: &str = "/apis/apps/v1/namespaces/bad/deployments";

/// A request, and what must come back.
struct Case {
    what: &'static str,
    method: &'static str,
    path: String,
    content: &'static str,
    body: String,
    code: u16,
    reason: &'static str,
    /// All of it, or its beginning when it ends in "…".
    message: String,
    /// What the Status says of the causes, as field and reason.
    causes: &'static [(&'static str, &'static str)],
}

fn post(what: &'static str, path: &str, body: impl Into<String>) -> Case {
    Case {
        what,
        method: "POST",
        path: path.to_owned(),
        content: "application/json",
        body: body.into(),
        code: 400,
        reason: "BadRequest",
        message: String::new(),
        causes: &[],
    }
}

impl Case {
    fn gives(mut self, code: u16, reason: &'static str, message: &str) -> Case {
        (self.code, self.reason, self.message) = (code, reason, message.to_owned());
        self
    }
    fn method(mut self, method: &'static str) -> Case {
        self.method = method;
        self
    }
    fn content(mut self, content: &'static str) -> Case {
        self.content = content;
        self
    }
    fn causes(mut self, causes: &'static [(&'static str, &'static str)]) -> Case {
        self.causes = causes;
        self
    }

    /// Whether the answer is as expected; if not, what it is.
    fn check(&self, c: &Cluster) -> Result<(), String> {
        eprintln!("    {}", self.what);
        let file = c.home.join("body");
        std::fs::write(&file, &self.body).unwrap();
        let (content, data) = (format!("Content-Type: {}", self.content), format!("@{}", file.display()));
        let args = ["-X", self.method, "-H", &content, "--data-binary", &data];
        let (code, body) = c.admin_curl(&self.path, &args);
        let status: Value = serde_json::from_str(&body).map_err(|error| format!("{error}: {body}"))?;
        let message = status["message"].as_str().unwrap_or_default();
        let fits = match self.message.strip_suffix('…') {
            Some(begin) => message.starts_with(begin),
            None => message == self.message,
        };
        let field = |cause: &Value, name: &str| cause[name].as_str().unwrap_or_default().to_owned();
        let causes = status["details"]["causes"].as_array().cloned().unwrap_or_default();
        let causes: Vec<_> =
            causes.iter().map(|cause| (field(cause, "field"), field(cause, "reason"))).collect();
        let expect: Vec<_> = self.causes.iter().map(|(f, r)| ((*f).to_owned(), (*r).to_owned())).collect();
        let good = fits
            && code == self.code
            && (&status["code"], &status["reason"]) == (&json!(self.code), &json!(self.reason))
            && (&status["kind"], &status["status"]) == (&json!("Status"), &json!("Failure"))
            && (expect.is_empty() || causes == expect);
        if good {
            Ok(())
        } else {
            Err(format!("{code}: {status:#}\ninstead of {}: {}", self.code, self.message))
        }
    }
}

fn map(name: &str, more: &str) -> String {
    format!(r#"{{"apiVersion": "v1", "kind": "ConfigMap", "metadata": {{"name": "{name}"{more}}}}}"#)
}

fn pod(spec: &str) -> String {
    format!(r#"{{"apiVersion": "v1", "kind": "Pod", "metadata": {{"name": "p"}}, "spec": {spec}}}"#)
}

fn cases() -> Vec<Case> {
    let one = format!("{MAPS}/taken");
    vec![
        post("a truncated body", MAPS, r#"{"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "x""#).gives(
            400,
            "BadRequest",
            "the object provided is unrecognized (must be of type ConfigMap): couldn't get version/kind; json parse error: unexpected end of JSON input ({\"apiVersion\": \"v1\", \"kind\": \" ...)",
        ),
        post("invalid YAML", MAPS, "kind: ConfigMap\n  apiVersion: v1\n\t- x").content("application/yaml").gives(
            400,
            "BadRequest",
            "…",
        ),
        post("an unknown field, held strictly", &format!("{MAPS}?fieldValidation=Strict"), r#"{"apiVersion": "v1",
            "kind": "ConfigMap", "metadata": {"name": "x"}, "dat": {"a": "b"}}"#)
        .gives(
            400,
            "BadRequest",
            "ConfigMap in version \"v1\" cannot be handled as a ConfigMap: strict decoding error: unknown field \"dat\"",
        ),
        post("a field twice, held strictly", &format!("{MAPS}?fieldValidation=Strict"), r#"{"apiVersion": "v1",
            "kind": "ConfigMap", "metadata": {"name": "x", "name": "y"}}"#)
        .gives(
            400,
            "BadRequest",
            "ConfigMap in version \"v1\" cannot be handled as a ConfigMap: strict decoding error: duplicate field \
             \"metadata.name\"",
        ),
        post("a wrong type", PODS, pod(r#"{"containers": "x"}"#)).gives(
            400,
            "BadRequest",
            "Pod in version \"v1\" cannot be handled as a Pod: json: cannot unmarshal string into Go struct field \
             PodSpec.spec.containers of type []v1.Container",
        ),
        post("another kind than the path's", MAPS, pod(r#"{"containers": []}"#)).gives(
            400,
            "BadRequest",
            "Pod in version \"v1\" cannot be handled as a ConfigMap: converting (v1.Pod) to (core.ConfigMap): unknown \
             conversion",
        ),
        post("data beyond a ConfigMap's size", MAPS, format!(r#"{{"apiVersion": "v1", "kind": "ConfigMap", "metadata": {{"name": "x"}},
            "data": {{"a": "{}"}}}}"#, "x".repeat(2 << 20)))
        .gives(422, "Invalid", "ConfigMap \"x\" is invalid: []: Too long: may not be more than 1048576 bytes")
        .causes(&[("[]", "FieldValueTooLong")]),
        post("a duplicate name", MAPS, map("taken", "")).gives(
            409,
            "AlreadyExists",
            "configmaps \"taken\" already exists",
        ),
        post("a stale resourceVersion", &one, map("taken", r#", "resourceVersion": "1""#)).method("PUT").gives(
            409,
            "Conflict",
            "Operation cannot be fulfilled on configmaps \"taken\": the object has been modified; please apply your \
             changes to the latest version and try again",
        ),
        post("a name that is not the path's", &one, map("other", "")).method("PUT").gives(
            400,
            "BadRequest",
            "the name of the object (other) does not match the name on the URL (taken)",
        ),
        post("a namespace that is not the path's", MAPS, map("x", r#", "namespace": "default""#)).gives(
            400,
            "BadRequest",
            "the namespace of the provided object does not match the namespace sent on the request",
        ),
        post("a namespace that is not there", "/api/v1/namespaces/none/configmaps", map("x", "")).gives(
            404,
            "NotFound",
            "namespaces \"none\" not found",
        ),
        post("an object that is not there", &format!("{MAPS}/none"), "").method("DELETE").gives(
            404,
            "NotFound",
            "configmaps \"none\" not found",
        ),
        post("an unsupported media type", MAPS, "x").content("text/plain").gives(
            415,
            "UnsupportedMediaType",
            "the body of the request was in an unknown format - accepted media types include: application/json, \
             application/yaml, application/vnd.kubernetes.protobuf…",
        ),
        post("a method that is not offered", MAPS, "{}").method("PUT").gives(
            405,
            "MethodNotAllowed",
            "the server does not allow this method on the requested resource",
        ),
        post("a JSON patch whose test fails", &one, r#"[{"op": "test", "path": "/data/a", "value": "no"}]"#)
            .method("PATCH")
            .content("application/json-patch+json")
            .gives(422, "Invalid", "the server rejected our request due to an error in our request"),
        post("an invalid name", MAPS, map("Bad_Name", ""))
            .gives(
                422,
                "Invalid",
                "ConfigMap \"Bad_Name\" is invalid: metadata.name: Invalid value: \"Bad_Name\": a lowercase RFC 1123 \
                 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with \
                 an alphanumeric character (e.g. 'example.com', regex used for validation is \
                 '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')",
            )
            .causes(&[("metadata.name", "FieldValueInvalid")]),
        post("a pod without containers", PODS, pod("{}"))
            .gives(422, "Invalid", "Pod \"p\" is invalid: spec.containers: Required value")
            .causes(&[("spec.containers", "FieldValueRequired")]),
        post("a container with everything wrong", PODS, pod(r#"{"restartPolicy": "Sometimes", "containers": [
            {"name": "c", "image": "", "ports": [{"containerPort": 70000}]}]}"#))
        .gives(422, "Invalid", "Pod \"p\" is invalid: …")
        .causes(&[
            ("spec.containers[0].image", "FieldValueRequired"),
            ("spec.containers[0].ports[0].containerPort", "FieldValueInvalid"),
            ("spec.restartPolicy", "FieldValueNotSupported"),
        ]),
        post("a selector that does not match the template", DEPLOYMENTS, r#"{"apiVersion": "apps/v1", "kind": "Deployment",
            "metadata": {"name": "d"}, "spec": {"selector": {"matchLabels": {"a": "b"}}, "template": {"metadata": {
            "labels": {"a": "c"}}, "spec": {"containers": [{"name": "c", "image": "i"}]}}}}"#)
        .gives(
            422,
            "Invalid",
            "Deployment.apps \"d\" is invalid: spec.template.metadata.labels: Invalid value: {\"a\":\"c\"}: `selector` \
             does not match template `labels`",
        )
        .causes(&[("spec.template.metadata.labels", "FieldValueInvalid")]),
    ]
}

#[test]
fn bad_input() {
    let Some(c) = Cluster::start() else { return };
    c.kubectl(&["create", "namespace", "bad"]).ok();
    c.kubectl(&["create", "configmap", "taken", "-n", "bad", "--from-literal=a=b"]).ok();
    super::cluster::eventually("the namespace is furnished", || {
        c.kubectl(&["get", "-n", "bad", "configmap/kube-root-ca.crt", "serviceaccount/default"]).done()
    });
    let all = [
        "get",
        "all,configmaps,serviceaccounts",
        "-n",
        "bad",
        "-o",
        "custom-columns=K:.kind,N:.metadata.name,V:.metadata.resourceVersion",
    ];
    let before = c.kubectl(&all).ok().out;
    assert!(before.contains("taken"), "{before}");

    step("requests");
    let mut wrong = Vec::new();
    for case in cases() {
        wrong.extend(case.check(&c).err().map(|got| format!("{}: {got}", case.what)));
        assert_eq!(c.kubectl(&all).ok().out, before, "{} has changed something", case.what);
    }

    assert!(wrong.is_empty(), "{}", wrong.join("\n\n"));

    let (code, body) = c.admin_curl("/apis/apps/v1/namespaces/bad/none", &["-X", "POST", "-d", "{}"]);
    assert_eq!(code, 404);
    assert!(body.contains("the server could not find the requested resource"), "{body}");
    // Not a Status: upstream's path is unknown before anything knows what a resource is.
    let (code, body) = c.admin_curl("/apis/none/v1/namespaces/bad/none", &["-X", "POST", "-d", "{}"]);
    assert_eq!((code, body.as_str()), (404, "404 page not found\n"));

    step("what kubectl says");
    let create = |text: &str| c.kubectl_with(&["create", "-n", "bad", "-f", "-"], text).fails();
    create("kind: ConfigMap\n  apiVersion: v1\n")
        .has(&["error: error parsing STDIN: error converting YAML to JSON"]);
    // Through kubectl, which waits for the answer even when it cannot send everything.
    let big =
        map("big", "").replace("}}", &format!("}}, \"data\": {{\"a\": \"{}\"}}}}", "x".repeat(10 << 20)));
    create(&big).has(&[
        "Error from server (RequestEntityTooLarge): error when creating \"STDIN\": Request entity too large: limit is \
         3145728",
    ]);
    create(r#"{"apiVersion": "v1", "kind": "Nonsense", "metadata": {"name": "x"}}"#)
        .has(&["no matches for kind \"Nonsense\" in version \"v1\"", "ensure CRDs are installed first"]);
    create(r#"{"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "x"}, "dat": {}}"#).has(&[
        "Error from server (BadRequest): error when creating \"STDIN\": ConfigMap in version \"v1\" cannot be handled \
         as a ConfigMap: strict decoding error: unknown field \"dat\"",
    ]);
    create(&map("taken", "")).has(&[
        "Error from server (AlreadyExists): error when creating \"STDIN\": configmaps \"taken\" already exists",
    ]);
    create(&pod("{}")).has(&["The Pod \"p\" is invalid: spec.containers: Required value"]);
    c.kubectl(&["get", "nonsense"])
        .fails()
        .has(&["error: the server doesn't have a resource type \"nonsense\""]);
    c.kubectl(&["get", "pod", "none", "-n", "bad"])
        .fails()
        .has(&["Error from server (NotFound): pods \"none\" not found"]);
    c.kubectl(&["logs", "none", "-n", "bad"]).fails().has(&["pods \"none\" not found"]);
    c.kubectl(&["patch", "cm", "taken", "-n", "bad", "--type=merge", "-p", r#"{"data": {"a": 1}}"#]).fails();
    assert_eq!(c.kubectl(&all).ok().out, before, "something has changed");
}
