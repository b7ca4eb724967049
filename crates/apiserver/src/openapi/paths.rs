//! Paths and operations, as far as clients read them: kubectl looks here for the kind behind a resource
//! (`explain`) and for the parameters that a kind's writes take (`--validate`, `--dry-run=server`).

use apimachinery::schema::{Resource, Subresource};
use serde_json::{Map, Value, json};

use super::schemas::PATCH;
use super::{camel_group, capital, gvk, reference, tag};

const STATUS: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.Status";
const DELETE_OPTIONS: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.DeleteOptions";
const RESOURCE_LIST: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.APIResourceList";
const MEDIA_TYPES: [&str; 3] =
    ["application/json", "application/yaml", "application/vnd.kubernetes.protobuf"];
/// Of a list, which may turn out to be a watch.
const STREAM_TYPES: [&str; 2] =
    ["application/json;stream=watch", "application/vnd.kubernetes.protobuf;stream=watch"];
const PATCH_TYPES: [&str; 4] = [
    "application/apply-patch+yaml",
    "application/json-patch+json",
    "application/merge-patch+json",
    "application/strategic-merge-patch+json",
];

/// Names and types of query parameters.
type Parameters = &'static [(&'static str, &'static str)];

const LIST: Parameters = &[
    ("allowWatchBookmarks", "boolean"),
    ("continue", "string"),
    ("fieldSelector", "string"),
    ("labelSelector", "string"),
    ("limit", "integer"),
    ("resourceVersion", "string"),
    ("resourceVersionMatch", "string"),
    ("sendInitialEvents", "boolean"),
    ("timeoutSeconds", "integer"),
    ("watch", "boolean"),
];
const WRITE: Parameters = &[("dryRun", "string"), ("fieldManager", "string"), ("fieldValidation", "string")];
const PATCHING: Parameters =
    &[("dryRun", "string"), ("fieldManager", "string"), ("fieldValidation", "string"), ("force", "boolean")];
const DELETE: Parameters = &[
    ("dryRun", "string"),
    ("gracePeriodSeconds", "integer"),
    ("orphanDependents", "boolean"),
    ("propagationPolicy", "string"),
];
const DELETE_COLLECTION: Parameters = &[
    ("continue", "string"),
    ("dryRun", "string"),
    ("fieldSelector", "string"),
    ("gracePeriodSeconds", "integer"),
    ("labelSelector", "string"),
    ("limit", "integer"),
    ("orphanDependents", "boolean"),
    ("propagationPolicy", "string"),
    ("resourceVersion", "string"),
    ("resourceVersionMatch", "string"),
    ("timeoutSeconds", "integer"),
];

fn query(parameters: Parameters) -> Value {
    let one = |(name, kind): &(&str, &str)| json!({"name": name, "in": "query", "schema": {"type": kind, "uniqueItems": true}});
    parameters.iter().map(one).collect()
}

fn in_path(name: &str) -> Value {
    json!({"name": name, "in": "path", "required": true, "schema": {"type": "string", "uniqueItems": true}})
}

fn content(media_types: &[&str], name: &str) -> Value {
    let one = |media: &&str| (media.to_string(), json!({"schema": reference(name)}));
    Value::Object(media_types.iter().map(one).collect())
}

/// What an operation is about.
struct About<'a> {
    resource: &'a Resource,
    /// The kind in the body, and its type's name if it is one of the schema's.
    kind: (&'a str, &'a str, &'a str),
    body: Option<&'a str>,
    /// The end of the operation's id: `NamespacedDeploymentScale`.
    id: String,
}

impl About<'_> {
    fn operation(&self, verb: &str, action: &str, codes: &[&str], answer: Option<&str>) -> Value {
        let group = camel_group(&self.resource.group);
        let (id, version) = (&self.id, capital(&self.resource.version));
        let mut responses = Map::new();
        for code in codes {
            let text = match *code {
                "201" => "Created",
                "202" => "Accepted",
                _ => "OK",
            };
            let mut response = json!({ "description": text });
            if let Some(name) = answer {
                response["content"] = match verb {
                    "list" => content(&[&MEDIA_TYPES[..], &STREAM_TYPES].concat(), name),
                    _ => content(&MEDIA_TYPES, name),
                };
            }
            responses.insert((*code).into(), response);
        }
        responses.insert("401".into(), json!({"description": "Unauthorized"}));
        let (g, v, k) = self.kind;
        let mut operation = json!({
            "tags": [tag(self.resource)],
            "operationId": format!("{verb}{group}{version}{id}"),
            "responses": responses,
            "x-kubernetes-group-version-kind": gvk(g, v, k),
        });
        operation["x-kubernetes-action"] = action.into();
        operation
    }

    fn get(&self) -> Value {
        self.operation("read", "get", &["200"], self.body)
    }

    fn post(&self, action: &str) -> Value {
        let mut operation = self.operation("create", action, &["200", "201", "202"], self.body);
        operation["parameters"] = query(WRITE);
        if let Some(body) = self.body {
            operation["requestBody"] = json!({"required": true, "content": content(&["*/*"], body)});
        }
        operation
    }

    fn put(&self) -> Value {
        let mut operation = self.operation("replace", "put", &["200", "201"], self.body);
        operation["parameters"] = query(WRITE);
        if let Some(body) = self.body {
            operation["requestBody"] = json!({"required": true, "content": content(&["*/*"], body)});
        }
        operation
    }

    fn patch(&self) -> Value {
        let mut operation = self.operation("patch", "patch", &["200", "201"], self.body);
        operation["parameters"] = query(PATCHING);
        operation["requestBody"] = json!({"required": true, "content": content(&PATCH_TYPES, PATCH)});
        operation
    }

    fn delete(&self) -> Value {
        let mut operation = self.operation("delete", "delete", &["200", "202"], Some(STATUS));
        operation["parameters"] = query(DELETE);
        operation["requestBody"] = json!({"content": content(&["*/*"], DELETE_OPTIONS)});
        operation
    }
}

fn type_name(id: apimachinery::schema::TypeId) -> &'static str {
    &api::schema()[id].name
}

/// The paths of these resources, each version's own path before those of its resources.
pub fn all<'a>(resources: &'a [&'a Resource]) -> impl Iterator<Item = (String, Value)> + 'a {
    let mut last = None;
    resources.iter().flat_map(move |r| {
        let version = (&*r.group, &*r.version);
        let begins = last.replace(version) != Some(version);
        begins.then(|| of_version(r)).into_iter().chain(of(r))
    })
}

/// The path of a version itself, which lists its resources.
fn of_version(r: &Resource) -> (String, Value) {
    let path = match &*r.group {
        "" => format!("/api/{}/", r.version),
        group => format!("/apis/{group}/{}/", r.version),
    };
    let id = format!("get{}{}APIResources", camel_group(&r.group), capital(&r.version));
    let ok = json!({"description": "OK", "content": content(&MEDIA_TYPES, RESOURCE_LIST)});
    let operation = json!({
        "description": "get available resources",
        "tags": [tag(r)],
        "operationId": id,
        "responses": {"200": ok, "401": {"description": "Unauthorized"}},
    });
    (path, json!({ "get": operation }))
}

/// Every path of a resource and its subresources, with its operations.
fn of(r: &Resource) -> Vec<(String, Value)> {
    let base = match &*r.group {
        "" => format!("/api/{}", r.version),
        group => format!("/apis/{group}/{}", r.version),
    };
    let (scope, scoped) = if r.namespaced { ("/namespaces/{namespace}", "Namespaced") } else { ("", "") };
    let collection = format!("{base}{scope}/{}", r.plural);
    let about = About {
        resource: r,
        kind: (&r.group, &r.version, &r.kind),
        body: Some(type_name(r.object)),
        id: format!("{scoped}{}", r.kind),
    };
    let list = |id: String| {
        let about = About { id, ..About { resource: r, kind: about.kind, body: None, id: String::new() } };
        let mut operation = about.operation("list", "list", &["200"], r.list.map(type_name));
        operation["parameters"] = query(LIST);
        operation
    };
    let mut out = Vec::new();

    let mut item = Map::new();
    if r.has_verb("list") {
        item.insert("get".into(), list(about.id.clone()));
    }
    if r.has_verb("create") {
        item.insert("post".into(), about.post("post"));
    }
    if r.has_verb("deletecollection") {
        let many = About {
            id: format!("Collection{}", about.id),
            ..About { resource: r, kind: about.kind, body: None, id: String::new() }
        };
        let mut operation = many.operation("delete", "deletecollection", &["200"], Some(STATUS));
        operation["parameters"] = query(DELETE_COLLECTION);
        operation["requestBody"] = json!({"content": content(&["*/*"], DELETE_OPTIONS)});
        item.insert("delete".into(), operation);
    }
    push(&mut out, collection.clone(), item, r.namespaced, false);

    if r.namespaced && r.has_verb("list") {
        let mut item = Map::new();
        item.insert("get".into(), list(format!("{}ForAllNamespaces", r.kind)));
        push(&mut out, format!("{base}/{}", r.plural), item, false, false);
    }

    let mut item = Map::new();
    for (verb, method, make) in [
        ("get", "get", (|a: &About<'_>| a.get()) as fn(&About<'_>) -> Value),
        ("update", "put", |a| a.put()),
        ("patch", "patch", |a| a.patch()),
        ("delete", "delete", |a| a.delete()),
    ] {
        if r.has_verb(verb) {
            item.insert(method.into(), make(&about));
        }
    }
    push(&mut out, format!("{collection}/{{name}}"), item, r.namespaced, true);
    for sub in &r.subresources {
        let item = subresource(r, sub, scoped);
        push(&mut out, format!("{collection}/{{name}}/{}", sub.name), item, r.namespaced, true);
    }
    out
}

fn subresource(r: &Resource, sub: &Subresource, scoped: &str) -> Map<String, Value> {
    let about = About {
        resource: r,
        kind: (&sub.kind.group, &sub.kind.version, &sub.kind.kind),
        body: sub.object.map(type_name),
        id: format!("{scoped}{}{}", r.kind, capital(&sub.name)),
    };
    let mut item = Map::new();
    if matches!(&*sub.name, "exec" | "attach" | "portforward" | "proxy") {
        for method in ["get", "post", "put", "patch", "delete"] {
            let verb = match method {
                "post" => "create",
                "put" => "update",
                other => other,
            };
            if sub.verbs.iter().any(|v| v == verb) {
                let operation =
                    about.operation(&format!("connect{}", capital(method)), "connect", &["200"], None);
                item.insert(method.into(), operation);
            }
        }
        return item;
    }
    for verb in &sub.verbs {
        match &**verb {
            "get" => item.insert("get".into(), about.get()),
            "create" => item.insert("post".into(), about.post("post")),
            "update" => item.insert("put".into(), about.put()),
            "patch" => item.insert("patch".into(), about.patch()),
            "delete" => item.insert("delete".into(), about.delete()),
            _ => None,
        };
    }
    item
}

fn push(
    out: &mut Vec<(String, Value)>,
    path: String,
    mut item: Map<String, Value>,
    namespaced: bool,
    named: bool,
) {
    if item.is_empty() {
        return;
    }
    let mut parameters = Vec::new();
    if named {
        parameters.push(in_path("name"));
    }
    if namespaced {
        parameters.push(in_path("namespace"));
    }
    parameters
        .push(json!({"name": "pretty", "in": "query", "schema": {"type": "string", "uniqueItems": true}}));
    item.insert("parameters".into(), parameters.into());
    out.push((path, Value::Object(item)));
}
