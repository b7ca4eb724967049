//! Discovery of extension servers among our own: which groups and versions there are besides those in the tables, and
//! in which order all of them stand (upstream's `handler_discovery.go` and `handler_apis.go`).

use apimachinery::gvk::api_version;
use etcd::Store;
use serde_json::{Map, Value, json};

use super::Aggregator;
use super::service::{CUSTOM_PRIORITY, Place, by_version, group_rank, priority};
use crate::metrics_api;

/// A version that others answer for.
pub(crate) struct Extra {
    place: Place,
    /// In the aggregated form, with `freshness`.
    entry: Value,
}

impl Aggregator {
    /// The versions that are not in the tables: those of extension servers, and the built-in metrics unless somebody
    /// else has them.
    pub(crate) fn extras(&self, store: &Store) -> Vec<Extra> {
        let services = self.services(store);
        let mut extras = Vec::new();
        if !services.iter().any(|service| service.description.name == metrics_api::NAME) {
            let place = Place {
                group: metrics_api::GROUP.into(),
                version: metrics_api::VERSION.into(),
                priority: metrics_api::PRIORITY,
            };
            extras.push(Extra { place, entry: metrics_api::entry() });
        }
        for service in services {
            let of = &service.description;
            let Some(remote) = service.remote.as_ref().filter(|_| !of.group.is_empty()) else { continue };
            let documents = remote.documents();
            let mut entry = documents.discovery.clone().unwrap_or_else(|| json!({ "version": of.version }));
            let fresh = documents.fresh && of.available;
            entry["freshness"] = if fresh { "Current" } else { "Stale" }.into();
            let place = Place { group: of.group.clone(), version: of.version.clone(), priority: of.priority };
            extras.push(Extra { place, entry });
        }
        extras
    }

    /// The paths of the versions that others answer for.
    pub(crate) fn paths(&self, store: &Store) -> Vec<String> {
        let both = |extra: Extra| {
            let of = extra.place;
            [format!("/apis/{}", of.group), format!("/apis/{}/{}", of.group, of.version)]
        };
        self.extras(store).into_iter().flat_map(both).collect()
    }

    /// Adds the others to an `APIGroupDiscoveryList`, and puts all of it in order.
    pub(crate) fn add_to_aggregated(&self, store: &Store, document: &mut Value) {
        let extras = self.extras(store);
        let Some(items) = document["items"].as_array_mut() else { return };
        for extra in &extras {
            let of = &extra.place;
            let item = match items.iter().position(|item| item["metadata"]["name"] == of.group) {
                Some(at) => &mut items[at],
                None => {
                    items.push(json!({"metadata": {"name": of.group}, "versions": []}));
                    let last = items.len() - 1;
                    &mut items[last]
                }
            };
            let Some(versions) = item["versions"].as_array_mut() else { continue };
            match versions.iter_mut().find(|version| version["version"] == of.version) {
                // Who is asked is who describes it.
                Some(version) => *version = extra.entry.clone(),
                None => versions.push(extra.entry.clone()),
            }
        }
        let name = |item: &Value| item["metadata"]["name"].as_str().unwrap_or_default().to_owned();
        order(&extras, items, name, true);
    }

    /// Adds the others to an `APIGroupList`, and puts all of it in order.
    pub(crate) fn add_to_groups(&self, store: &Store, document: &mut Value) {
        let extras = self.extras(store);
        let Some(groups) = document["groups"].as_array_mut() else { return };
        for extra in &extras {
            let of = &extra.place;
            let group = match groups.iter().position(|group| group["name"] == of.group) {
                Some(at) => &mut groups[at],
                None => {
                    groups.push(json!({"name": of.group, "versions": []}));
                    let last = groups.len() - 1;
                    &mut groups[last]
                }
            };
            add_version(group, of);
        }
        let name = |group: &Value| group["name"].as_str().unwrap_or_default().to_owned();
        order(&extras, groups, name, false);
        groups.iter_mut().for_each(prefer_first);
    }

    /// The `APIGroup` of this name with the versions that others serve; `None` if nobody has any.
    pub(crate) fn group(&self, store: &Store, name: &str, own: Option<Value>) -> Option<Value> {
        let extras = self.extras(store);
        let mut theirs = extras.iter().filter(|extra| extra.place.group == name).peekable();
        if theirs.peek().is_none() {
            return own;
        }
        let mut group = own
            .unwrap_or_else(|| json!({"kind": "APIGroup", "apiVersion": "v1", "name": name, "versions": []}));
        theirs.for_each(|extra| add_version(&mut group, &extra.place));
        if let Some(versions) = group["versions"].as_array_mut() {
            sort_versions(versions, |version| place(&extras, name, text(&version["version"])));
        }
        prefer_first(&mut group);
        Some(group)
    }
}

/// Where a version stands.
fn place(extras: &[Extra], group: &str, version: &str) -> Place {
    let extra = extras.iter().find(|e| e.place.group == group && e.place.version == version);
    let priority = match extra {
        Some(extra) => extra.place.priority,
        None => priority(group, version).unwrap_or(CUSTOM_PRIORITY),
    };
    Place { group: group.into(), version: version.into(), priority }
}

/// Puts groups, and the versions in each, in their order.
fn order(extras: &[Extra], groups: &mut [Value], name: impl Fn(&Value) -> String, by_group_name: bool) {
    for group in groups.iter_mut() {
        let name = name(group);
        if let Some(versions) = group["versions"].as_array_mut() {
            sort_versions(versions, |version| place(extras, &name, text(&version["version"])));
        }
    }
    groups.sort_by_cached_key(|group| {
        let name = name(group);
        let versions = group["versions"].as_array().map(Vec::as_slice).unwrap_or_default();
        let places: Vec<Place> = versions.iter().map(|v| place(extras, &name, text(&v["version"]))).collect();
        group_rank(&places.iter().collect::<Vec<_>>(), by_group_name)
    });
}

/// Puts versions in their order.
fn sort_versions(versions: &mut Vec<Value>, place: impl Fn(&Value) -> Place) {
    let mut placed: Vec<(Place, Value)> =
        std::mem::take(versions).into_iter().map(|version| (place(&version), version)).collect();
    placed.sort_by(|(a, _), (b, _)| by_version(a, b));
    *versions = placed.into_iter().map(|(_, version)| version).collect();
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

fn add_version(group: &mut Value, of: &Place) {
    let Some(versions) = group["versions"].as_array_mut() else { return };
    if !versions.iter().any(|version| version["version"] == of.version) {
        versions.push(json!({"groupVersion": api_version(&of.group, &of.version), "version": of.version}));
    }
}

fn prefer_first(group: &mut Value) {
    if let Some(first) = group["versions"].get(0).cloned() {
        group["preferredVersion"] = first;
    }
}

/// A version's entry in an `APIGroupDiscoveryList` of somebody else, with nothing in it that does not belong there.
/// What is not there has no resources.
pub(super) fn entry(list: &Value, group: &str, version: &str) -> Value {
    let groups = list["items"].as_array().into_iter().flatten();
    let versions = groups
        .filter(|item| item["metadata"]["name"] == group)
        .filter_map(|item| item["versions"].as_array())
        .flatten();
    let found = versions.into_iter().find(|entry| entry["version"] == version);
    let mut out = json!({ "version": version });
    let resources = found.and_then(|found| found["resources"].as_array());
    if let Some(resources) = resources.filter(|list| !list.is_empty()) {
        out["resources"] = resources.iter().filter_map(resource).collect();
    }
    out
}

fn resource(of: &Value) -> Option<Value> {
    let name = of["resource"].as_str()?;
    let mut out = json!({"resource": name, "responseKind": kind(&of["responseKind"]),
        "scope": text(&of["scope"]), "singularResource": text(&of["singularResource"]),
        "verbs": words(&of["verbs"])});
    for key in ["shortNames", "categories"] {
        let words = words(&of[key]);
        if !words.is_empty() {
            out[key] = words.into();
        }
    }
    let parts = of["subresources"].as_array().into_iter().flatten();
    let parts: Vec<Value> = parts
        .filter_map(|part| {
            let name = part["subresource"].as_str()?;
            Some(json!({"subresource": name, "responseKind": kind(&part["responseKind"]),
                "verbs": words(&part["verbs"])}))
        })
        .collect();
    if !parts.is_empty() {
        out["subresources"] = parts.into();
    }
    Some(out)
}

/// Clients trip over one that is missing (kubernetes issue 118361).
fn kind(of: &Value) -> Value {
    json!({"group": text(&of["group"]), "version": text(&of["version"]), "kind": text(&of["kind"])})
}

fn words(list: &Value) -> Vec<Value> {
    list.as_array().into_iter().flatten().filter(|word| word.is_string()).cloned().collect()
}

/// An `APIResourceList` as an entry of the aggregated form.
pub(super) fn converted(list: &Value, version: &str) -> Value {
    let rows: Vec<(&str, &Value)> = list["resources"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|row| Some((row["name"].as_str()?, row)))
        .collect();
    let mut resources: Vec<Map<String, Value>> = Vec::new();
    let mut at = |name: &str, row: &Value| -> usize {
        if let Some(at) = resources.iter().position(|resource| resource["resource"] == name) {
            return at;
        }
        let scope = if row["namespaced"] == true { "Namespaced" } else { "Cluster" };
        resources.push(Map::from_iter([("resource".into(), name.into()), ("scope".into(), scope.into())]));
        resources.len() - 1
    };
    let places: Vec<usize> =
        rows.iter().map(|(name, row)| at(name.split('/').next().unwrap_or_default(), row)).collect();
    for (&(name, row), at) in rows.iter().zip(places) {
        let Some(out) = resources.get_mut(at) else { continue };
        match name.split_once('/') {
            None => {
                out.insert("responseKind".into(), kind(row));
                out.insert("singularResource".into(), text(&row["singularName"]).into());
                out.insert("verbs".into(), words(&row["verbs"]).into());
                for key in ["shortNames", "categories"] {
                    out.insert(key.into(), words(&row[key]).into());
                }
            }
            Some((_, part)) => {
                let part =
                    json!({"subresource": part, "responseKind": kind(row), "verbs": words(&row["verbs"])});
                match out.get_mut("subresources").and_then(Value::as_array_mut) {
                    Some(parts) => parts.push(part),
                    None => drop(out.insert("subresources".into(), json!([part]))),
                }
            }
        }
    }
    let resources: Vec<Value> =
        resources.into_iter().filter_map(|one| resource(&Value::Object(one))).collect();
    let mut out = json!({ "version": version });
    if !resources.is_empty() {
        out["resources"] = resources.into();
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_others_say() {
        let pods = json!({"resource": "pods", "responseKind": {"group": "", "version": "", "kind": "P"},
            "scope": "Namespaced", "singularResource": "pod", "verbs": ["get"], "shortNames": ["po"]});
        let mut said = pods.clone();
        said["nonsense"] = json!([1]);
        said["verbs"] = json!(["get", 7]);
        said["subresources"] = json!([{"subresource": "log"}, 3]);
        let mut understood = pods.clone();
        let nothing = json!({"group": "", "version": "", "kind": ""});
        understood["subresources"] = json!([{"subresource": "log", "responseKind": nothing, "verbs": []}]);
        let list = |resources: Value| {
            json!({"items": [{"metadata": {"name": "g"},
            "versions": [{"version": "v1", "resources": resources}]}]})
        };
        for (document, expect) in [
            (list(json!([said, {"verbs": []}, "x"])), json!({"version": "v1", "resources": [understood]})),
            (list(json!("x")), json!({"version": "v1"})),
            (json!({"items": 3}), json!({"version": "v1"})),
            (json!([]), json!({"version": "v1"})),
        ] {
            assert_eq!(entry(&document, "g", "v1"), expect, "{document}");
        }
        let older = json!({"resources": [
            {"name": "pods/log", "namespaced": true, "kind": "P", "verbs": ["get"]},
            {"name": "pods", "singularName": "pod", "namespaced": true, "kind": "P", "verbs": ["get"],
                "shortNames": ["po"]},
            {"kind": "nameless"}]});
        let mut expect = pods;
        expect["subresources"] = json!([{"subresource": "log",
            "responseKind": {"group": "", "version": "", "kind": "P"}, "verbs": ["get"]}]);
        assert_eq!(converted(&older, "v1"), json!({"version": "v1", "resources": [expect]}));
    }
}
