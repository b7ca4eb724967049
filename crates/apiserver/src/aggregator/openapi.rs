//! OpenAPI of extension servers: their v3 documents stay with them and only stand in the index, their v2 documents
//! are merged into the one that everybody gets (upstream's `controllers/openapi` and `openapiv3`).

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};

use etcd::Store;
use serde_json::{Map, Value, json};
use sha2::{Digest as _, Sha256};

use super::registration::name_of;
use super::service::group_version;
use super::{Aggregator, Service};

const DEFINITION: &str = "#/definitions/";

/// The part of an OpenAPI v2 document that is about one version.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Specification {
    pub paths: Map<String, Value>,
    pub definitions: Map<String, Value>,
    /// Names the contents.
    pub sum: String,
}

/// The specifications that were merged last.
#[derive(Default)]
pub(crate) struct Merged(Mutex<Arc<Specification>>);

impl Specification {
    /// Keeps the paths with this beginning, and the definitions that they reach.
    pub(super) fn read(text: &[u8], prefix: &str) -> Result<Self, serde_json::Error> {
        let mut document: Value = serde_json::from_slice(text)?;
        let mut take = |key: &str| match document.get_mut(key).map(Value::take) {
            Some(Value::Object(map)) => map,
            _ => Map::new(),
        };
        let (mut paths, mut all) = (take("paths"), take("definitions"));
        paths.retain(|path, item| path.starts_with(prefix) && item.is_object());
        let mut definitions = Map::new();
        let mut reached = BTreeSet::new();
        paths.values().for_each(|item| references(item, &mut reached));
        while let Some(name) = reached.pop_first() {
            if let Some(definition) = all.remove(&name) {
                references(&definition, &mut reached);
                definitions.insert(name, definition);
            }
        }
        let sum = Sha256::new().chain_update(prefix).chain_update(text).finalize();
        Ok(Self { paths, definitions, sum: sum.iter().map(|b| format!("{b:02X}")).collect() })
    }
}

/// The names of the definitions that are referred to.
fn references(value: &Value, found: &mut BTreeSet<String>) {
    match value {
        Value::Object(fields) => {
            for (key, value) in fields {
                match (key.as_str(), value) {
                    ("$ref", Value::String(to)) => {
                        found.extend(to.strip_prefix(DEFINITION).map(str::to_owned))
                    }
                    (_, value) => references(value, found),
                }
            }
        }
        Value::Array(list) => list.iter().for_each(|value| references(value, found)),
        _ => {}
    }
}

fn renamed(value: &mut Value, names: &BTreeMap<String, String>) {
    match value {
        Value::Object(fields) => {
            for (key, value) in fields {
                match (key.as_str(), &mut *value) {
                    ("$ref", Value::String(to)) => {
                        if let Some(new) = to.strip_prefix(DEFINITION).and_then(|name| names.get(name)) {
                            *to = format!("{DEFINITION}{new}");
                        }
                    }
                    (_, value) => renamed(value, names),
                }
            }
        }
        Value::Array(list) => list.iter_mut().for_each(|value| renamed(value, names)),
        _ => {}
    }
}

/// The same type: who it is told to belong to does not count.
fn same(a: &Value, b: &Value) -> bool {
    let strip = |value: &Value| {
        let mut value = value.clone();
        if let Some(fields) = value.as_object_mut() {
            fields.remove("x-kubernetes-group-version-kind");
        }
        value
    };
    strip(a) == strip(b)
}

/// Everything of several servers beside our own: a definition that is there already is not said twice, and another of
/// the same name gets a new one, `NAME_v2`. `own` calls with each of our definitions.
fn merge(parts: &[Arc<Specification>], own: impl FnOnce(&mut dyn FnMut(&str, Value))) -> Specification {
    let mut taken: BTreeSet<String> = BTreeSet::new();
    // Name and number of the part: ours is the same.
    let mut shared: BTreeSet<(String, usize)> = BTreeSet::new();
    own(&mut |name, definition| {
        taken.insert(name.to_owned());
        for (number, part) in parts.iter().enumerate() {
            if part.definitions.get(name).is_some_and(|theirs| same(theirs, &definition)) {
                shared.insert((name.to_owned(), number));
            }
        }
    });
    let mut merged = Specification::default();
    for (number, part) in parts.iter().enumerate() {
        let mut names: BTreeMap<String, String> = BTreeMap::new();
        let mut new: Vec<(String, &Value)> = Vec::new();
        for (name, definition) in &part.definitions {
            let known = merged.definitions.get(name).is_some_and(|known| same(known, definition));
            if known || shared.contains(&(name.clone(), number)) {
                continue;
            }
            let mut candidates = (2..).map(|n| format!("{name}_v{n}"));
            let free = match taken.contains(name) {
                false => Some(name.clone()),
                true => candidates.find(|candidate| !taken.contains(candidate)),
            };
            let Some(free) = free else { continue };
            taken.insert(free.clone());
            if free != *name {
                names.insert(name.clone(), free.clone());
            }
            new.push((free, definition));
        }
        for (name, definition) in new {
            let mut definition = definition.clone();
            renamed(&mut definition, &names);
            merged.definitions.insert(name, definition);
        }
        for (path, item) in &part.paths {
            let mut item = item.clone();
            renamed(&mut item, &names);
            merged.paths.insert(path.clone(), item);
        }
    }
    merged.sum = sum_of(parts);
    merged
}

fn sum_of(parts: &[Arc<Specification>]) -> String {
    parts.iter().map(|part| part.sum.as_str()).collect::<Vec<_>>().join(",")
}

impl Aggregator {
    /// What extension servers add to the OpenAPI v2 document. `own` calls with each definition in it.
    pub(crate) fn specification(
        &self,
        store: &Store,
        own: impl FnOnce(&mut dyn FnMut(&str, Value)),
    ) -> Arc<Specification> {
        let services = self.services(store);
        let remotes = services.iter().filter_map(|service| service.remote.as_ref());
        let parts: Vec<Arc<Specification>> =
            remotes.filter_map(|remote| remote.documents().older.clone()).collect();
        let mut merged = self.merged.0.lock().unwrap_or_else(PoisonError::into_inner);
        if merged.sum != sum_of(&parts) {
            *merged = Arc::new(merge(&parts, own));
        }
        merged.clone()
    }

    /// Adds the documents of extension servers to the index of OpenAPI v3.
    pub(crate) fn add_to_index(&self, store: &Store, index: &mut Value) {
        for service in self.services(store) {
            let (of, Some(remote)) = (&service.description, &service.remote) else { continue };
            let Some(url) = remote.documents().newer.clone() else { continue };
            let path = format!("apis/{}/{}", of.group, of.version);
            index["paths"][path] = json!({ "serverRelativeURL": url });
        }
    }

    /// The APIService whose server has the OpenAPI v3 document at this path.
    pub(crate) fn document_elsewhere(&self, store: &Store, path: &str) -> Option<Arc<Service>> {
        let path = path.strip_prefix("/openapi/v3")?;
        let (group, version) = group_version(path).filter(|(group, _)| !group.is_empty())?;
        let service = self.service(store, &name_of(group, version))?;
        let has = service.remote.as_ref().is_some_and(|remote| remote.documents().newer.is_some());
        has.then_some(service)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn merging() {
        let document = |definitions: Value| {
            let text = json!({"paths": {
                "/apis/g/v1/a": {"get": {"schema": {"$ref": "#/definitions/A"}}},
                "/apis/other/v1/b": {"get": {"schema": {"$ref": "#/definitions/B"}}}},
                "definitions": definitions});
            Arc::new(Specification::read(text.to_string().as_bytes(), "/apis/g/v1/").unwrap())
        };
        let one =
            document(json!({"A": {"items": {"$ref": "#/definitions/M"}}, "M": {"type": "object"}, "B": {}}));
        assert_eq!(one.definitions.keys().collect::<Vec<_>>(), ["A", "M"]);
        assert_eq!(one.paths.len(), 1);
        let check = |own: Value, names: &[&str], reference: &str| {
            let merged = merge(std::slice::from_ref(&one), |take| {
                own.as_object().unwrap().iter().for_each(|(name, value)| take(name, value.clone()));
            });
            assert_eq!(merged.definitions.keys().collect::<Vec<_>>(), names);
            assert_eq!(merged.definitions["A"]["items"]["$ref"], reference);
        };
        check(json!({}), &["A", "M"], "#/definitions/M");
        let gvk = json!({"type": "object", "x-kubernetes-group-version-kind": []});
        check(json!({"M": gvk}), &["A"], "#/definitions/M");
        check(json!({"M": {"type": "string"}}), &["A", "M_v2"], "#/definitions/M_v2");
        check(json!({"M": {}, "M_v2": {}}), &["A", "M_v3"], "#/definitions/M_v3");
        for hostile in ["[]", "{\"paths\": 3, \"definitions\": []}", "{\"paths\": {\"/apis/g/v1/x\": 3}}"] {
            let read = Specification::read(hostile.as_bytes(), "/apis/g/v1/").unwrap();
            assert!(read.paths.is_empty() && read.definitions.is_empty());
        }
    }
}
