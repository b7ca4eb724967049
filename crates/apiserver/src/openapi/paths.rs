//! Paths and their operations. Clients read them: kubectl looks here for the kind behind a resource (`explain`) and
//! for the parameters that a kind's writes take (`--validate`, `--dry-run=server`).

use std::borrow::Cow;

use apimachinery::schema::{Resource, Subresource};
use serde_json::{Map, Value, json};

use super::operations::{About, MEDIA_TYPES, content, type_name};
use super::parameters::{self, PRETTY, hoist, in_path};
use super::{camel_group, capital, reference, tag};
use crate::custom;

const RESOURCE_LIST: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.APIResourceList";

/// The paths of these resources, each version's own path before those of its resources.
pub fn all<'a>(resources: &'a [&'a Resource]) -> impl Iterator<Item = (String, Value)> + 'a {
    let mut last = None;
    resources.iter().flat_map(move |r| {
        let version = (&*r.group, &*r.version);
        let begins = last.replace(version) != Some(version);
        begins.then(|| of_version(r)).into_iter().chain(of(r))
    })
}

/// A path with nothing but a GET: of discovery and the like.
pub fn plain(tag: &str, id: &str, about: &str, content: Value) -> Value {
    let ok = json!({"description": "OK", "content": content});
    json!({"get": {
        "tags": [tag],
        "description": about,
        "operationId": id,
        "responses": {"200": ok, "401": {"description": "Unauthorized"}},
    }})
}

/// The path of a version itself, which lists its resources.
fn of_version(r: &Resource) -> (String, Value) {
    let id = format!("get{}{}APIResources", camel_group(&r.group), capital(&r.version));
    let content = content(&MEDIA_TYPES, &reference(RESOURCE_LIST));
    (format!("{}/", base(r)), plain(&tag(r), &id, "get available resources", content))
}

/// `/api/v1`, `/apis/apps/v1`
fn base(r: &Resource) -> String {
    match &*r.group {
        "" => format!("/api/{}", r.version),
        group => format!("/apis/{group}/{}", r.version),
    }
}

/// The name of the type of a resource's objects.
fn object_type(r: &Resource) -> Cow<'static, str> {
    match custom::of(r) {
        Some(_) => super::custom::name(r, &r.kind).into(),
        None => type_name(r.object),
    }
}

fn list_type(r: &Resource) -> Option<Cow<'static, str>> {
    match custom::of(r) {
        Some(custom) => Some(super::custom::name(r, &custom.definition.list_kind).into()),
        None => r.list.map(type_name),
    }
}

/// Every path of a resource and its subresources, with its operations.
fn of(r: &Resource) -> Vec<(String, Value)> {
    let base = base(r);
    let (scope, scoped) = if r.namespaced { ("/namespaces/{namespace}", "Namespaced") } else { ("", "") };
    let collection = format!("{scope}/{}", r.plural);
    let about = |id: String| About {
        resource: r,
        kind: (&r.group, &r.version, &r.kind),
        body: Some(object_type(r)),
        id,
        subresource: "",
    };
    let one = || about(format!("{scoped}{}", r.kind));
    let everywhere = || about(format!("{}ForAllNamespaces", r.kind));
    let list = list_type(r);
    let (lists, watches) = (r.has_verb("list"), r.has_verb("watch"));
    let mut out = Paths { resource: r, paths: Vec::new() };

    let mut item = Map::new();
    if lists {
        item.insert("get".into(), one().list(list.as_deref()));
    }
    if r.has_verb("create") {
        item.insert("post".into(), one().post());
    }
    if r.has_verb("deletecollection") {
        let many = about(format!("Collection{scoped}{}", r.kind));
        item.insert("delete".into(), many.delete_collection());
    }
    out.push(format!("{base}{collection}"), item, In { namespaced: r.namespaced, ..In::default() });

    if r.namespaced && lists {
        let item = Map::from_iter([("get".to_owned(), everywhere().list(list.as_deref()))]);
        out.push(format!("{base}/{}", r.plural), item, In::default());
    }

    let mut item = Map::new();
    for (verb, method, make) in [
        ("get", "get", (|a: &About<'_>| a.get()) as fn(&About<'_>) -> Value),
        ("update", "put", |a| a.put()),
        ("patch", "patch", |a| a.patch()),
        ("delete", "delete", |a| a.delete()),
    ] {
        if r.has_verb(verb) {
            item.insert(method.into(), make(&one()));
        }
    }
    let named = In { namespaced: r.namespaced, named: Some(&r.kind), ..In::default() };
    out.push(format!("{base}{collection}/{{name}}"), item, named);
    for sub in &r.subresources {
        out.subresource(&format!("{base}{collection}/{{name}}/{}", sub.name), sub, scoped);
    }
    if watches {
        let get = |operation: Value| Map::from_iter([("get".to_owned(), operation)]);
        let many = about(format!("{scoped}{}List", r.kind));
        let place = In { namespaced: r.namespaced, ..In::default() };
        out.push(format!("{base}/watch{collection}"), get(many.watch(true)), place);
        out.push(format!("{base}/watch{collection}/{{name}}"), get(one().watch(false)), named);
        if r.namespaced {
            let many = about(format!("{}ListForAllNamespaces", r.kind));
            out.push(format!("{base}/watch/{}", r.plural), get(many.watch(true)), In::default());
        }
    }
    out.paths
}

/// What a path's own parameters are.
#[derive(Clone, Copy, Default)]
struct In<'a> {
    namespaced: bool,
    /// The kind that it names one object of.
    named: Option<&'a str>,
    /// It ends with whatever comes after.
    rest: bool,
    /// Nobody asks for indentation.
    bytes: bool,
}

struct Paths<'a> {
    resource: &'a Resource,
    paths: Vec<(String, Value)>,
}

impl Paths<'_> {
    fn push(&mut self, path: String, mut item: Map<String, Value>, place: In<'_>) {
        self.push_with(path, &mut item, place, Vec::new());
    }

    fn push_with(
        &mut self,
        path: String,
        item: &mut Map<String, Value>,
        place: In<'_>,
        mut more: Vec<Value>,
    ) {
        if item.is_empty() {
            return;
        }
        if let Some(kind) = place.named {
            more.push(in_path("name", &format!("name of the {kind}")));
        }
        if place.namespaced {
            more.push(in_path("namespace", "the namespace"));
        }
        if place.rest {
            more.push(in_path("path", "path to the resource"));
        }
        if !place.bytes {
            more.extend(parameters::query(PRETTY));
        }
        hoist(item, more);
        self.paths.push((path, Value::Object(std::mem::take(item))));
    }

    fn subresource(&mut self, path: &str, sub: &Subresource, scoped: &str) {
        let r = self.resource;
        let about = About {
            resource: r,
            kind: (&sub.kind.group, &sub.kind.version, &sub.kind.kind),
            // The status of a custom resource takes the whole object.
            body: match sub.kind.kind == r.kind && custom::of(r).is_some() {
                true => Some(object_type(r)),
                false => sub.object.map(type_name),
            },
            id: format!("{scoped}{}{}", r.kind, capital(&sub.name)),
            subresource: &sub.name,
        };
        let place = In { namespaced: r.namespaced, named: Some(&sub.kind.kind), ..In::default() };
        if let Some(methods) = connections(&sub.name) {
            let place = In { bytes: true, ..place };
            let options = || sub.object.map(parameters::fields).unwrap_or_default();
            let item = |about: &About<'_>| -> Map<String, Value> {
                methods.iter().map(|method| ((*method).to_owned(), about.connect(method))).collect()
            };
            self.push_with(path.to_owned(), &mut item(&about), place, options());
            if sub.name == "proxy" {
                let about = About { id: format!("{}WithPath", about.id), ..about };
                let place = In { rest: true, ..place };
                self.push_with(format!("{path}/{{path}}"), &mut item(&about), place, options());
            }
            return;
        }
        let mut item = Map::new();
        for verb in &sub.verbs {
            match &**verb {
                "get" => item.insert("get".into(), about.get()),
                "create" => item.insert("post".into(), about.post()),
                "update" => item.insert("put".into(), about.put()),
                "patch" => item.insert("patch".into(), about.patch()),
                "delete" => item.insert("delete".into(), about.delete()),
                _ => None,
            };
        }
        let log = (sub.name == "log").then(|| api::schema().find(LOG_OPTIONS)).flatten();
        self.push_with(path.to_owned(), &mut item, place, log.map(parameters::fields).unwrap_or_default());
    }
}

const LOG_OPTIONS: &str = "io.k8s.api.core.v1.PodLogOptions";

/// The methods of subresources that connect to somebody else.
fn connections(name: &str) -> Option<&'static [&'static str]> {
    match name {
        "exec" | "attach" | "portforward" => Some(&["get", "post"]),
        "proxy" => Some(&["get", "put", "post", "delete", "options", "head", "patch"]),
        _ => None,
    }
}
