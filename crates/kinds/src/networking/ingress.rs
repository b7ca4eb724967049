//! Ingress.

use apimachinery::field::{Error, ErrorList, Path};
use apimachinery::names;
use serde_json::Value;

use super::typed_reference;
use crate::check::{int, items, label, messages, port, present, subdomain, text};
use crate::ip;
use crate::strategy::{GENERIC, Strategy};
use crate::workload::SPEC;

/// The class as it was named before `spec.ingressClassName`.
const CLASS: &str = "kubernetes.io/ingress.class";

pub const STRATEGY: Strategy = Strategy { generation: true, validate, validate_update, warnings, ..GENERIC };

/// What an older object is let have.
#[derive(Clone, Copy)]
struct Rules {
    secret_names: bool,
    wildcard_rules: bool,
}

const NEW: Rules = Rules { secret_names: true, wildcard_rules: true };

impl Rules {
    fn of(old: &Value) -> Rules {
        let spec = &old["spec"];
        let bad_secret = |tls: &Value| {
            let name = text(tls, "secretName");
            !name.is_empty() && !names::is_dns1123_subdomain(name).is_empty()
        };
        let bad_wildcard = |rule: &Value| {
            let mut faults = ErrorList::new();
            http(rule, &Path::NIL, &mut faults);
            text(rule, "host").contains('*') && !faults.is_empty()
        };
        Rules {
            secret_names: !items(spec, "tls").iter().any(bad_secret),
            wildcard_rules: !items(spec, "rules").iter().any(bad_wildcard),
        }
    }
}

fn validate(object: &Value, errors: &mut ErrorList) {
    spec(&object["spec"], NEW, errors);
    let annotation = object["metadata"]["annotations"][CLASS].as_str();
    let class = present(&object["spec"], "ingressClassName").and_then(Value::as_str);
    if let (Some(annotation), Some(class)) = (annotation, class)
        && annotation != class
    {
        let path = Path::new("annotations");
        let why = "must match `ingressClassName` when both are specified";
        errors.push(Error::invalid(&path.child(CLASS), annotation, why));
    }
}

fn validate_update(new: &Value, old: &Value, subresource: &str, errors: &mut ErrorList) {
    if subresource == "status" {
        status(new, old, errors)
    } else {
        spec(&new["spec"], Rules::of(old), errors)
    }
}

fn spec(spec: &Value, old: Rules, errors: &mut ErrorList) {
    let (rules, backend) = (items(spec, "rules"), present(spec, "defaultBackend"));
    if rules.is_empty() && backend.is_none() {
        let value = spec.get("rules").cloned().unwrap_or_default();
        errors.push(Error::invalid(&SPEC, value, "either `defaultBackend` or `rules` must be specified"));
    }
    if let Some(backend) = backend {
        self::backend(backend, &SPEC.child("defaultBackend"), errors);
    }
    let list = SPEC.child("rules");
    for (index, rule) in rules.iter().enumerate() {
        let (at, host) = (list.index(index), text(rule, "host"));
        if !host.is_empty() && ip::parse(host).is_some() {
            errors.push(Error::invalid(&at.child("host"), host, "must be a DNS name, not an IP address"));
        }
        if !host.is_empty() {
            self::host(host, &at.child("host"), errors);
        }
        if old.wildcard_rules || !host.contains('*') {
            http(rule, &at, errors);
        }
    }
    tls(items(spec, "tls"), old, &SPEC.child("tls"), errors);
    if let Some(class) = present(spec, "ingressClassName").and_then(Value::as_str) {
        subdomain(class, &SPEC.child("ingressClassName"), errors);
    }
}

fn host(host: &str, path: &Path<'_>, errors: &mut ErrorList) {
    let rule =
        if host.contains('*') { names::is_wildcard_dns1123_subdomain } else { names::is_dns1123_subdomain };
    messages(rule(host), &host.into(), path, errors);
}

fn tls(list: &[Value], old: Rules, path: &Path<'_>, errors: &mut ErrorList) {
    for (index, tls) in list.iter().enumerate() {
        let at = path.index(index);
        let hosts = at.child("hosts");
        for (index, name) in items(tls, "hosts").iter().enumerate() {
            host(name.as_str().unwrap_or_default(), &hosts.index(index), errors);
        }
        let secret = text(tls, "secretName");
        if old.secret_names && !secret.is_empty() {
            subdomain(secret, &at.child("secretName"), errors);
        }
    }
}

fn http(rule: &Value, path: &Path<'_>, errors: &mut ErrorList) {
    let Some(http) = present(rule, "http") else { return };
    let at = path.child("http");
    let (list, paths) = (at.child("paths"), items(http, "paths"));
    if paths.is_empty() {
        errors.push(Error::required(&list, ""));
    }
    for (index, path) in paths.iter().enumerate() {
        http_path(path, &list.index(index), errors);
    }
}

fn http_path(value: &Value, path: &Path<'_>, errors: &mut ErrorList) {
    let (at, text) = (path.child("path"), text(value, "path"));
    let Some(kind) = present(value, "pathType").and_then(Value::as_str) else {
        errors.push(Error::required(&path.child("pathType"), "pathType must be specified"));
        return;
    };
    match kind {
        "Exact" | "Prefix" => {
            if !text.starts_with('/') {
                errors.push(Error::invalid(&at, text, "must be an absolute path"));
            }
            for sequence in ["//", "/./", "/../", "%2f", "%2F"] {
                if text.contains(sequence) {
                    errors.push(Error::invalid(&at, text, format!("must not contain '{sequence}'")));
                }
            }
            for suffix in ["/..", "/."] {
                if text.ends_with(suffix) {
                    errors.push(Error::invalid(&at, text, format!("cannot end with '{suffix}'")));
                }
            }
        }
        "ImplementationSpecific" => {
            if !text.is_empty() && !text.starts_with('/') {
                errors.push(Error::invalid(&at, text, "must be an absolute path"));
            }
        }
        other => {
            let supported = ["Exact", "ImplementationSpecific", "Prefix"];
            errors.push(Error::not_supported(&path.child("pathType"), other, supported));
        }
    }
    backend(&value["backend"], &path.child("backend"), errors);
}

fn backend(backend: &Value, path: &Path<'_>, errors: &mut ErrorList) {
    let service = match (present(backend, "resource"), present(backend, "service")) {
        (Some(_), Some(_)) => {
            errors.push(Error::invalid(path, "", "cannot set both resource and service backends"));
            return;
        }
        (Some(resource), None) => return typed_reference(resource, &path.child("resource"), errors),
        (None, None) => {
            errors.push(Error::invalid(path, "", "resource or service backend is required"));
            return;
        }
        (None, Some(service)) => service,
    };
    let at = path.child("service");
    match text(service, "name") {
        "" => errors.push(Error::required(&at.child("name"), "")),
        name => label(name, &at.child("name"), errors),
    }
    let value = &service["port"];
    match (text(value, "name"), int(value, "number").unwrap_or(0)) {
        ("", 0) => errors.push(Error::required(path, "port name or number is required")),
        ("", number) => port(&number.into(), &at.child("port.number"), errors),
        (name, 0) => port(&name.into(), &at.child("port.name"), errors),
        _ => errors.push(Error::invalid(path, "", "cannot set both port name & port number")),
    }
}

fn status(new: &Value, old: &Value, errors: &mut ErrorList) {
    let path = Path::new("status.loadBalancer.ingress");
    let before: Vec<&str> = ingress(old).iter().map(|entry| text(entry, "ip")).collect();
    for (index, entry) in ingress(new).iter().enumerate() {
        let (at, address, hostname) = (path.index(index), text(entry, "ip"), text(entry, "hostname"));
        if !address.is_empty() {
            ip::legacy(address, &before, &at.child("ip"), errors);
        }
        if !hostname.is_empty() {
            subdomain(hostname, &at.child("hostname"), errors);
            if ip::parse(hostname).is_some() {
                let why = "must be a DNS name, not an IP address";
                errors.push(Error::invalid(&at.child("hostname"), hostname, why));
            }
        }
    }
}

/// Where traffic enters, as the status says.
fn ingress(object: &Value) -> &[Value] {
    items(&object["status"]["loadBalancer"], "ingress")
}

fn warnings(new: &Value, old: Option<&Value>, subresource: &str) -> Vec<String> {
    if subresource == "status" {
        let path = Path::new("status.loadBalancer.ingress");
        let all = ingress(new).iter().enumerate();
        return all.filter_map(|(index, entry)| ip::warning(text(entry, "ip"), &path.index(index))).collect();
    }
    let annotated = new["metadata"]["annotations"][CLASS].is_string();
    if old.is_none() && annotated && present(&new["spec"], "ingressClassName").is_none() {
        return vec![format!(
            "annotation {CLASS:?} is deprecated, please use 'spec.ingressClassName' instead"
        )];
    }
    Vec::new()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::rows::Subject;

    fn service(name: &str, port: Value) -> Value {
        json!({"service": {"name": name, "port": port}})
    }

    fn subject() -> Subject {
        let path = json!({"path": "/foo", "pathType": "ImplementationSpecific", "backend": service("svc", json!({"number": 80}))});
        let good = json!({
            "metadata": {"name": "i", "namespace": "n"},
            "spec": {"rules": [{"host": "foo.bar.com", "http": {"paths": [path]}}], "defaultBackend": service("def", json!({"name": "http"}))},
        });
        Subject { group: "networking.k8s.io", version: "v1", kind: "Ingress", good }
    }

    fn host(host: &str) -> Value {
        json!({"spec": {"rules": [{"host": host}]}})
    }

    /// `TestValidateIngress`, `TestValidateIngressCreate`
    #[test]
    fn create() {
        let check = |spec: Value, expect: &[&str]| subject().created(json!({"spec": spec}), expect);
        check(json!({}), &[]);
        check(json!({"rules": null, "defaultBackend": null}), &["spec: Invalid"]);
        for good in ["*.bar.com", "foo.bar.com", ""] {
            subject().created(host(good), &[]);
        }
        for bad in ["*", "foo.*.bar.com", "*.", "foobar:80", "Foo.com"] {
            subject().created(host(bad), &["spec.rules[0].host: Invalid"]);
        }
        subject().says(
            host("127.0.0.1"),
            "spec.rules[0].host: Invalid value: \"127.0.0.1\": must be a DNS name, not an IP address",
        );
        let path = |path: Value, expect: &[&str]| {
            let mut whole = json!({"path": "/foo", "pathType": "Exact", "backend": service("svc", json!({"number": 80}))});
            for (key, value) in path.as_object().unwrap() {
                whole[key] = value.clone();
            }
            let expect: Vec<String> =
                expect.iter().map(|rest| format!("spec.rules[0].http.paths[0].{rest}")).collect();
            let expect: Vec<&str> = expect.iter().map(String::as_str).collect();
            check(json!({"rules": [{"http": {"paths": [whole]}}]}), &expect);
        };
        path(json!({}), &[]);
        path(json!({"pathType": null}), &["pathType: Required"]);
        path(json!({"pathType": "Other"}), &["pathType: NotSupported"]);
        for bad in [
            "",
            "foo",
            "/foo//bar",
            "/foo/./bar",
            "/foo/../bar",
            "/foo/..",
            "/foo/.",
            "/foo%2fbar",
            "/foo%2Fbar",
        ] {
            path(json!({"path": bad}), &["path: Invalid"]);
        }
        path(json!({"pathType": "ImplementationSpecific", "path": "invalid"}), &["path: Invalid"]);
        path(json!({"pathType": "ImplementationSpecific", "path": ""}), &[]);
        path(json!({"pathType": "ImplementationSpecific", "path": "/foo//bar/[a-z]"}), &[]);
        check(json!({"rules": [{"http": {"paths": []}}]}), &["spec.rules[0].http.paths: Required"]);
        let backend = |backend: Value, expect: &[&str]| {
            let expect: Vec<String> =
                expect.iter().map(|rest| format!("spec.defaultBackend{rest}")).collect();
            let expect: Vec<&str> = expect.iter().map(String::as_str).collect();
            let mut object = json!({"service": null});
            object.as_object_mut().unwrap().extend(backend.as_object().unwrap().clone());
            check(json!({"defaultBackend": object}), &expect);
        };
        let resource = |resource: Value| json!({"resource": resource});
        backend(resource(json!({"apiGroup": "example.com", "kind": "foo", "name": "bar"})), &[]);
        backend(
            resource(json!({"apiGroup": "example.com:8080", "kind": "foo/bar", "name": "bar/bar"})),
            &[".resource.apiGroup: Invalid", ".resource.kind: Invalid", ".resource.name: Invalid"],
        );
        backend(resource(json!({})), &[".resource.kind: Required", ".resource.name: Required"]);
        backend(json!({}), &[": Invalid"]);
        backend(
            json!({"resource": {"kind": "a", "name": "b"}, "service": {"name": "x", "port": {"number": 1}}}),
            &[": Invalid"],
        );
        let port = |name: &str, port: Value, expect: &[&str]| backend(service_with(name, port), expect);
        port("", json!({"number": 80}), &[".service.name: Required"]);
        port("1-starts-with-a-digit", json!({"number": 80}), &[]);
        port("Not.Valid", json!({"number": 80}), &[".service.name: Invalid"]);
        port("svc", json!({}), &[": Required"]);
        port("svc", json!({"number": 80, "name": "x"}), &[": Invalid"]);
        port("svc", json!({"number": 65536}), &[".service.port.number: Invalid"]);
        port("svc", json!({"name": "Bad_Name"}), &[".service.port.name: Invalid"]);
        check(json!({"tls": [{"hosts": ["foo.com", "*.bar.com"], "secretName": "s"}]}), &[]);
        check(
            json!({"tls": [{"hosts": ["a*.com", "A"], "secretName": "invalid name"}]}),
            &[
                "spec.tls[0].hosts[0]: Invalid",
                "spec.tls[0].hosts[1]: Invalid",
                "spec.tls[0].secretName: Invalid",
            ],
        );
        check(json!({"ingressClassName": "Bad Class"}), &["spec.ingressClassName: Invalid"]);
        let class = |annotation: &str| json!({"metadata": {"annotations": {CLASS: annotation}}, "spec": {"ingressClassName": "foo"}});
        subject().created(class("foo"), &[]);
        subject().created(class("foo2"), &["annotations.kubernetes.io/ingress.class: Invalid"]);
        subject().warns(json!({"metadata": {"annotations": {CLASS: "foo"}}}),
            &["annotation \"kubernetes.io/ingress.class\" is deprecated, please use 'spec.ingressClassName' instead"]);
    }

    /// The default backend as a merge patch on one with a named port.
    fn service_with(name: &str, port: Value) -> Value {
        let mut all = json!({"name": null, "number": null});
        all.as_object_mut().unwrap().extend(port.as_object().unwrap().clone());
        json!({"service": {"name": name, "port": all}})
    }

    /// `TestValidateIngressUpdate`, `TestValidateIngressStatusUpdate`
    #[test]
    fn update() {
        let class = json!({"metadata": {"annotations": {CLASS: "a"}}});
        subject().updated(class, json!({"spec": {"ingressClassName": "b"}}), "", &[]);
        subject().updated(
            json!({}),
            json!({"spec": {"tls": [{"secretName": "a b"}]}}),
            "",
            &["spec.tls[0].secretName: Invalid"],
        );
        subject().updated(
            json!({"spec": {"tls": [{"secretName": "a b"}]}}),
            json!({"spec": {"tls": [{"secretName": "c d"}]}}),
            "",
            &[],
        );
        let wild = |kind: &str| {
            json!({"spec": {"rules": [{"host": "*.foo.bar", "http": {"paths": [
            {"path": "foo", "pathType": kind, "backend": service("svc", json!({"number": 80}))}]}}]}})
        };
        subject().updated(json!({}), wild("Exact"), "", &["spec.rules[0].http.paths[0].path: Invalid"]);
        subject().updated(wild("Exact"), wild("Prefix"), "", &[]);
        let status = |status: Value| json!({"status": {"loadBalancer": {"ingress": status}}});
        subject().updated(
            json!({}),
            status(json!([{"ip": "127.0.0.1", "hostname": "foo.bar.com"}])),
            "status",
            &[],
        );
        subject().updated(
            json!({}),
            status(json!([{"ip": "abcd"}, {"hostname": "127.0.0.1"}, {"hostname": "a b"}])),
            "status",
            &[
                "status.loadBalancer.ingress[0].ip: Invalid",
                "status.loadBalancer.ingress[1].hostname: Invalid",
                "status.loadBalancer.ingress[2].hostname: Invalid",
            ],
        );
        subject().updated(
            status(json!([{"ip": "010.0.0.1"}])),
            status(json!([{"ip": "010.0.0.1"}, {"ip": "11.0.0.1"}])),
            "status",
            &[],
        );
    }
}
