//! Parameters of operations: names and types are upstream's, the words our own.

use apimachinery::schema::{Shape, TypeId};
use serde_json::{Map, Value, json};

/// Name, type, and what it is for.
type Parameter = (&'static str, &'static str, &'static str);

/// Every query parameter of the API's own operations, sorted by name.
const QUERY: &[Parameter] = &[
    (
        "allowWatchBookmarks",
        "boolean",
        "Whether a watch may carry events of type BOOKMARK, which only tell a newer resourceVersion. When they come is up \
         to the server.",
    ),
    (
        "continue",
        "string",
        "The token from the metadata of the last chunk of a list: the answer goes on behind it. When the token is too \
         old the answer is 410 with another token, which goes on from the newest state. Not for watches.",
    ),
    ("dryRun", "string", "\"All\": go through every step of the request, and store nothing."),
    (
        "fieldManager",
        "string",
        "Who makes this change, at most 128 printable characters; by default the beginning of the User-Agent. An apply \
         must name it.",
    ),
    ("fieldSelector", "string", "Only objects whose fields match. Default: all."),
    (
        "fieldValidation",
        "string",
        "What to do about unknown and duplicate fields: \"Ignore\" drops them, \"Warn\" (the default) drops them with a \
         warning, \"Strict\" refuses the request and names them all.",
    ),
    (
        "force",
        "boolean",
        "Whether an apply takes over the fields on which it conflicts with other managers. Only for apply.",
    ),
    (
        "gracePeriodSeconds",
        "integer",
        "For how many seconds the object may still run, not negative; 0: delete at once. Default: what its kind says.",
    ),
    (
        "ignoreStoreReadErrorWithClusterBreakingPotential",
        "boolean",
        "Whether to delete an object that cannot be read from the store, without its finalizers and preconditions. It \
         needs the feature gate AllowUnsafeMalformedObjectDeletion.",
    ),
    ("labelSelector", "string", "Only objects whose labels match. Default: all."),
    (
        "limit",
        "integer",
        "How many objects a list returns at most. If there are more, its metadata carries a continue token; chunks \
         fetched with it are of the same moment as the first one.",
    ),
    (
        "orphanDependents",
        "boolean",
        "Deprecated: see propagationPolicy. Whether dependents outlive the object.",
    ),
    ("pretty", "string", "\"true\": JSON with indentation. Default: only for browsers, curl and wget."),
    (
        "propagationPolicy",
        "string",
        "What happens to dependents: \"Orphan\" keeps them, \"Background\" deletes them after the object, \"Foreground\" \
         before it. Not together with orphanDependents.",
    ),
    (
        "resourceVersion",
        "string",
        "From which state the answer may be; see \
         https://kubernetes.io/docs/reference/using-api/api-concepts/#resource-versions.",
    ),
    (
        "resourceVersionMatch",
        "string",
        "How a list takes resourceVersion: \"Exact\" or \"NotOlderThan\"; see \
         https://kubernetes.io/docs/reference/using-api/api-concepts/#resource-versions.",
    ),
    (
        "sendInitialEvents",
        "boolean",
        "Whether a watch begins with what there is, as events, ended by a bookmark with the annotation \
         k8s.io/initial-events-end. It needs resourceVersionMatch=NotOlderThan.",
    ),
    (
        "shardSelector",
        "string",
        "Only objects whose hash lies in one of these ranges. It needs the feature gate ShardedListAndWatch.",
    ),
    ("timeoutSeconds", "integer", "After how many seconds a list or watch ends, whatever happens in it."),
    ("watch", "boolean", "Instead of a list, its changes as a stream of events, from resourceVersion on."),
];

pub const LIST: &[&str] = &[
    "allowWatchBookmarks",
    "continue",
    "fieldSelector",
    "labelSelector",
    "limit",
    "resourceVersion",
    "resourceVersionMatch",
    "sendInitialEvents",
    "shardSelector",
    "timeoutSeconds",
    "watch",
];
pub const WRITE: &[&str] = &["dryRun", "fieldManager", "fieldValidation"];
pub const PATCH: &[&str] = &["dryRun", "fieldManager", "fieldValidation", "force"];
pub const DELETE: &[&str] = &[
    "dryRun",
    "gracePeriodSeconds",
    "ignoreStoreReadErrorWithClusterBreakingPotential",
    "orphanDependents",
    "propagationPolicy",
];
pub const DELETE_COLLECTION: &[&str] = &[
    "continue",
    "dryRun",
    "fieldSelector",
    "gracePeriodSeconds",
    "ignoreStoreReadErrorWithClusterBreakingPotential",
    "labelSelector",
    "limit",
    "orphanDependents",
    "propagationPolicy",
    "resourceVersion",
    "resourceVersionMatch",
    "sendInitialEvents",
    "shardSelector",
    "timeoutSeconds",
];
pub const PRETTY: &[&str] = &["pretty"];

/// What the fields of `PodExecOptions` and the like are for: they come as parameters.
const OPTIONS: &[(&str, &str)] = &[
    ("command", "The program and its arguments, one parameter each. No shell reads it."),
    ("container", "Which container. Default: the only one, or the one that the pod's annotation names."),
    ("follow", "Go on with what is written from now on."),
    ("insecureSkipTLSVerifyBackend", "Trust the kubelet's serving certificate unseen."),
    ("limitBytes", "End after this many bytes, perhaps within a line."),
    ("path", "The rest of the URL, for what is behind the proxy."),
    ("ports", "Which ports of the pod; WebSocket clients must say."),
    ("previous", "The log of the container's instance before this one."),
    ("sinceSeconds", "Only lines of the last so many seconds. Not together with sinceTime."),
    ("stderr", "Whether the standard error comes back."),
    ("stdin", "Whether the standard input is sent."),
    ("stdout", "Whether the standard output comes back."),
    ("stream", "\"All\" (the default), \"Stdout\" or \"Stderr\"; with tailLines only \"All\"."),
    ("tailLines", "Only the last so many lines."),
    ("timestamps", "Whether each line begins with its time."),
    ("tty", "Whether the program gets a terminal."),
];

fn one(name: &str, place: &str, kind: &str, about: Option<&str>) -> Value {
    let mut out = json!({"name": name, "in": place, "schema": {"type": kind, "uniqueItems": true}});
    if let Some(about) = about {
        out["description"] = about.into();
    }
    if place == "path" {
        out["required"] = true.into();
    }
    out
}

/// Query parameters by their names.
pub fn query(names: &[&str]) -> Vec<Value> {
    let find = |name: &&str| {
        let at = QUERY.binary_search_by_key(name, |(n, ..)| n).ok()?;
        let (name, kind, about) = QUERY.get(at)?;
        Some(one(name, "query", kind, Some(about)))
    };
    names.iter().filter_map(find).collect()
}

/// A part of the path.
pub fn in_path(name: &str, about: &str) -> Value {
    one(name, "path", "string", Some(about))
}

/// The plain fields of an options type, as query parameters.
pub fn fields(options: TypeId) -> Vec<Value> {
    let fields = api::schema()[options].fields.iter();
    let parameter = |field: &apimachinery::schema::Field| {
        let shape = match &field.shape {
            Shape::List(list) => &list.element,
            other => other,
        };
        let kind = match shape {
            Shape::String => "string",
            Shape::Bool => "boolean",
            Shape::Int32 | Shape::Int64 => "integer",
            _ => return None,
        };
        if matches!(&*field.name, "kind" | "apiVersion") {
            return None;
        }
        let at = OPTIONS.binary_search_by_key(&&*field.name, |(name, _)| name).ok();
        Some(one(&field.name, "query", kind, at.and_then(|at| OPTIONS.get(at)).map(|(_, about)| *about)))
    };
    fields.filter_map(parameter).collect()
}

/// Moves to the path what all of its operations take, and sorts.
pub fn hoist(item: &mut Map<String, Value>, mut common: Vec<Value>) {
    let mut lists: Vec<Vec<Value>> = Vec::new();
    for operation in item.values_mut() {
        let taken = operation.as_object_mut().and_then(|operation| operation.remove("parameters"));
        lists.push(match taken {
            Some(Value::Array(list)) => list,
            _ => Vec::new(),
        });
    }
    let shared: Vec<Value> = match lists.split_first() {
        Some((first, others)) => {
            first.iter().filter(|p| others.iter().all(|list| list.contains(p))).cloned().collect()
        }
        None => Vec::new(),
    };
    for (operation, mut list) in item.values_mut().zip(lists) {
        list.retain(|parameter| !shared.contains(parameter));
        if !list.is_empty() {
            operation["parameters"] = list.into();
        }
    }
    common.extend(shared);
    common.sort_by(|a, b| {
        let key = |p: &Value| (p["name"].as_str().map(str::to_owned), p["in"].as_str().map(str::to_owned));
        key(a).cmp(&key(b))
    });
    if !common.is_empty() {
        item.insert("parameters".into(), common.into());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables() {
        assert!(QUERY.is_sorted_by_key(|(name, ..)| *name));
        assert!(OPTIONS.is_sorted_by_key(|(name, _)| *name));
        for set in [LIST, WRITE, PATCH, DELETE, DELETE_COLLECTION, PRETTY] {
            assert_eq!(query(set).len(), set.len());
        }
    }

    #[test]
    fn what_all_operations_take_is_said_once() {
        let (a, b) = (json!({"name": "a", "in": "query"}), json!({"name": "b", "in": "query"}));
        let name = json!({"name": "aa", "in": "path"});
        let table = [
            (json!({"get": {"parameters": [b, a]}}), json!({"get": {}, "parameters": [a, name, b]})),
            (
                json!({"get": {"parameters": [a, b]}, "put": {"parameters": [b]}}),
                json!({"get": {"parameters": [a]}, "put": {}, "parameters": [name, b]}),
            ),
            (
                json!({"get": {}, "put": {"parameters": [b]}}),
                json!({"get": {}, "put": {"parameters": [b]}, "parameters": [name]}),
            ),
        ];
        for (mut item, expect) in table {
            hoist(item.as_object_mut().unwrap(), vec![name.clone()]);
            assert_eq!(item, expect);
        }
    }
}
