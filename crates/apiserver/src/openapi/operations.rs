//! Operations: what one method does on one path.

use std::borrow::Cow;

use apimachinery::schema::{Resource, TypeId};
use serde_json::{Map, Value, json};

use super::schemas::PATCH;
use super::{camel_group, capital, gvk, parameters, reference, tag};
use crate::custom;

const STATUS: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.Status";
const DELETE_OPTIONS: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.DeleteOptions";
const WATCH_EVENT: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.WatchEvent";
pub const MEDIA_TYPES: [&str; 3] =
    ["application/json", "application/yaml", "application/vnd.kubernetes.protobuf"];
/// Of a list, which may turn out to be a watch.
const STREAM_TYPES: [&str; 5] = [
    MEDIA_TYPES[0],
    MEDIA_TYPES[1],
    MEDIA_TYPES[2],
    "application/json;stream=watch",
    "application/vnd.kubernetes.protobuf;stream=watch",
];
const LOG_TYPES: [&str; 4] = ["text/plain", MEDIA_TYPES[0], MEDIA_TYPES[1], MEDIA_TYPES[2]];
const PATCH_TYPES: [&str; 4] = [
    "application/apply-patch+yaml",
    "application/json-patch+json",
    "application/merge-patch+json",
    "application/strategic-merge-patch+json",
];

/// One schema in several media types.
pub fn content(media_types: &[&str], schema: &Value) -> Value {
    let one = |media: &&str| (media.to_string(), json!({ "schema": schema }));
    Value::Object(media_types.iter().map(one).collect())
}

pub fn type_name(id: TypeId) -> Cow<'static, str> {
    Cow::Borrowed(&api::schema()[id].name)
}

/// ` a Pod`, ` an Event`, ` Endpoints`: as upstream's installer writes it.
fn article(noun: &str) -> String {
    let plural = noun.ends_with('s') && !noun.ends_with("ss");
    let vowel = noun.starts_with(['A', 'E', 'I', 'O', 'U']);
    match (plural, vowel) {
        (true, _) => format!(" {noun}"),
        (_, true) => format!(" an {noun}"),
        _ => format!(" a {noun}"),
    }
}

/// What an operation is about.
pub struct About<'a> {
    pub resource: &'a Resource,
    /// Group, version and kind of the body.
    pub kind: (&'a str, &'a str, &'a str),
    /// The body's type.
    pub body: Option<Cow<'static, str>>,
    /// The end of the operation's id: `NamespacedDeploymentScale`.
    pub id: String,
    /// The subresource; else empty.
    pub subresource: &'a str,
}

/// What makes one operation differ from another.
struct Kind<'a> {
    /// `read`: the beginning of its id.
    verb: &'a str,
    action: &'a str,
    about: String,
    codes: &'a [&'a str],
    parameters: &'a [&'a str],
}

impl About<'_> {
    fn operation(&self, kind: &Kind<'_>, answers: &[&str], schema: Option<&Value>) -> Value {
        let group = camel_group(&self.resource.group);
        let mut responses = Map::new();
        for code in kind.codes {
            let text = match *code {
                "201" => "Created",
                "202" => "Accepted",
                _ => "OK",
            };
            let mut response = json!({ "description": text });
            if let Some(schema) = schema {
                response["content"] = content(&self.forms(answers), schema);
            }
            responses.insert((*code).into(), response);
        }
        responses.insert("401".into(), json!({"description": "Unauthorized"}));
        let (g, v, k) = self.kind;
        let mut operation = json!({
            "tags": [tag(self.resource)],
            "description": kind.about,
            "operationId": format!("{}{group}{}{}", kind.verb, capital(&self.resource.version), self.id),
            "responses": responses,
            "x-kubernetes-action": kind.action,
            "x-kubernetes-group-version-kind": gvk(g, v, k),
        });
        if !kind.parameters.is_empty() {
            operation["parameters"] = parameters::query(kind.parameters).into();
        }
        operation
    }

    /// The first of these forms; custom objects have none in protobuf.
    fn forms<'m>(&self, all: &'m [&'m str]) -> Vec<&'m str> {
        let custom = custom::of(self.resource).is_some();
        all.iter().copied().filter(|form| !custom || !form.contains("protobuf")).collect()
    }

    /// `the specified Pod`, `status of the specified Pod`
    fn specified(&self) -> String {
        let kind = &self.resource.kind;
        match self.subresource {
            "" => format!("the specified {kind}"),
            sub => format!("{sub} of the specified {kind}"),
        }
    }

    fn schema(&self) -> Option<Value> {
        self.body.as_deref().map(reference)
    }

    fn with_body(&self, mut operation: Value) -> Value {
        if let Some(schema) = self.schema() {
            operation["requestBody"] = json!({"required": true, "content": content(&["*/*"], &schema)});
        }
        operation
    }

    pub fn get(&self) -> Value {
        let kind = Kind {
            verb: "read",
            action: "get",
            about: format!("read {}", self.specified()),
            codes: &["200"],
            parameters: &[],
        };
        if self.subresource == "log" {
            return self.operation(&kind, &LOG_TYPES, Some(&json!({"type": "string"})));
        }
        self.operation(&kind, &MEDIA_TYPES, self.schema().as_ref())
    }

    /// `list`: the type of the list.
    pub fn list(&self, list: Option<&str>) -> Value {
        let watch = if self.resource.has_verb("watch") { "list or watch" } else { "list" };
        let kind = Kind {
            verb: "list",
            action: "list",
            about: format!("{watch} objects of kind {}", self.resource.kind),
            codes: &["200"],
            parameters: parameters::LIST,
        };
        self.operation(&kind, &STREAM_TYPES, list.map(reference).as_ref())
    }

    /// A watch by the old path, of a list or of one object.
    pub fn watch(&self, many: bool) -> Value {
        let kind = &self.resource.kind;
        let about = if many {
            format!(
                "watch individual changes to a list of {kind}. deprecated: use the 'watch' parameter with a list operation \
                 instead."
            )
        } else {
            format!(
                "watch changes to an object of kind {kind}. deprecated: use the 'watch' parameter with a list operation \
                 instead, filtered to a single item with the 'fieldSelector' parameter."
            )
        };
        let action = if many { "watchlist" } else { "watch" };
        let kind = Kind { verb: "watch", action, about, codes: &["200"], parameters: parameters::LIST };
        self.operation(&kind, &STREAM_TYPES, Some(&reference(WATCH_EVENT)))
    }

    pub fn post(&self) -> Value {
        let about = match self.subresource {
            "" => format!("create{}", article(&self.resource.kind)),
            sub => format!("create {sub} of{}", article(&self.resource.kind)),
        };
        let kind = Kind {
            verb: "create",
            action: "post",
            about,
            codes: &["200", "201", "202"],
            parameters: parameters::WRITE,
        };
        self.with_body(self.operation(&kind, &MEDIA_TYPES, self.schema().as_ref()))
    }

    pub fn put(&self) -> Value {
        let kind = Kind {
            verb: "replace",
            action: "put",
            about: format!("replace {}", self.specified()),
            codes: &["200", "201"],
            parameters: parameters::WRITE,
        };
        self.with_body(self.operation(&kind, &MEDIA_TYPES, self.schema().as_ref()))
    }

    pub fn patch(&self) -> Value {
        let kind = Kind {
            verb: "patch",
            action: "patch",
            about: format!("partially update {}", self.specified()),
            codes: &["200", "201"],
            parameters: parameters::PATCH,
        };
        let mut operation = self.operation(&kind, &MEDIA_TYPES, self.schema().as_ref());
        operation["requestBody"] =
            json!({"required": true, "content": content(self.patches(), &reference(PATCH))});
        operation
    }

    /// Custom objects cannot be merged strategically.
    fn patches(&self) -> &'static [&'static str] {
        let strategic = custom::of(self.resource).is_none();
        if strategic { &PATCH_TYPES } else { &PATCH_TYPES[..3] }
    }

    pub fn delete(&self) -> Value {
        let kind = Kind {
            verb: "delete",
            action: "delete",
            about: format!("delete{}", article(&self.resource.kind)),
            codes: &["200", "202"],
            parameters: parameters::DELETE,
        };
        let returned = crate::registry::strategy::returns_deleted(self.resource).then(|| self.schema());
        let schema = returned.flatten().unwrap_or_else(|| reference(STATUS));
        self.deletion(&kind, &schema)
    }

    pub fn delete_collection(&self) -> Value {
        let kind = Kind {
            verb: "delete",
            action: "deletecollection",
            about: format!("delete collection of {}", self.resource.kind),
            codes: &["200"],
            parameters: parameters::DELETE_COLLECTION,
        };
        self.deletion(&kind, &reference(STATUS))
    }

    fn deletion(&self, kind: &Kind<'_>, schema: &Value) -> Value {
        let mut operation = self.operation(kind, &MEDIA_TYPES, Some(schema));
        operation["requestBody"] = json!({"content": content(&["*/*"], &reference(DELETE_OPTIONS))});
        operation
    }

    /// A stream of bytes: exec and proxies.
    pub fn connect(&self, method: &str) -> Value {
        let about = format!(
            "connect {} requests to {} of {}",
            method.to_uppercase(),
            self.subresource,
            self.resource.kind
        );
        let verb = format!("connect{}", capital(method));
        let kind = Kind { verb: &verb, action: "connect", about, codes: &["200"], parameters: &[] };
        self.operation(&kind, &["*/*"], Some(&json!({"type": "string"})))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn articles() {
        for (noun, expect) in [
            ("Pod", " a Pod"),
            ("Event", " an Event"),
            ("Endpoints", " Endpoints"),
            ("IPAddress", " an IPAddress"),
            ("APIService", " an APIService"),
        ] {
            assert_eq!(article(noun), expect);
        }
    }
}
