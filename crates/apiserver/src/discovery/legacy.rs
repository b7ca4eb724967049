//! One document per group and version: `APIVersions`, `APIGroupList`, `APIGroup`, `APIResourceList`.

use apimachinery::gvk::api_version;
use apimachinery::schema::{Resource, ResourceRef, Subresource};
use serde_json::{Map, Value, json};

use crate::custom;
use crate::server::ApiServer;

/// `/api`
pub fn versions(server: &ApiServer) -> Value {
    let mut addresses = Vec::new();
    if let Some((address, port)) = server.settings.advertise {
        let address = std::net::SocketAddr::new(address, port).to_string();
        addresses.push(json!({"clientCIDR": "0.0.0.0/0", "serverAddress": address}));
    }
    json!({"kind": "APIVersions", "versions": ["v1"], "serverAddressByClientCIDRs": addresses})
}

/// `/apis`
pub fn groups(served: &[ResourceRef]) -> Value {
    let mut names: Vec<&str> = Vec::new();
    for resource in served.iter().filter(|r| !r.group.is_empty()) {
        if !names.contains(&&*resource.group) {
            names.push(&resource.group);
        }
    }
    let groups: Vec<Value> = names.into_iter().filter_map(|name| entry(served, name)).collect();
    json!({"kind": "APIGroupList", "apiVersion": "v1", "groups": groups})
}

/// `/apis/{group}`
pub fn group(served: &[ResourceRef], name: &str) -> Option<Value> {
    let mut group = entry(served, name)?;
    group["kind"] = "APIGroup".into();
    group["apiVersion"] = "v1".into();
    Some(group)
}

fn entry(served: &[ResourceRef], name: &str) -> Option<Value> {
    let mut versions: Vec<Value> = Vec::new();
    for resource in served.iter().filter(|r| r.group == name && !name.is_empty()) {
        let version =
            json!({"groupVersion": api_version(name, &resource.version), "version": &*resource.version});
        if !versions.contains(&version) {
            versions.push(version);
        }
    }
    let preferred = versions.first()?.clone();
    Some(json!({"name": name, "versions": versions, "preferredVersion": preferred}))
}

/// `/api/v1`, `/apis/{group}/{version}`
pub fn resources(served: &[ResourceRef], group: &str, version: &str) -> Option<Value> {
    let mut list: Vec<(String, Value)> = Vec::new();
    for resource in served.iter().filter(|r| r.group == group && r.version == version) {
        list.push((resource.plural.to_string(), resource_entry(resource)));
        for sub in &resource.subresources {
            list.push((format!("{}/{}", resource.plural, sub.name), subresource_entry(resource, sub)));
        }
    }
    if list.is_empty() {
        return None;
    }
    list.sort_by(|a, b| a.0.cmp(&b.0));
    let resources: Vec<Value> = list.into_iter().map(|(_, entry)| entry).collect();
    let mut document = json!({
        "kind": "APIResourceList",
        "groupVersion": api_version(group, version),
        "resources": resources,
    });
    if !group.is_empty() {
        document["apiVersion"] = "v1".into();
    }
    Some(document)
}

fn strings(list: &[apimachinery::schema::Name]) -> Value {
    list.iter().map(|s| Value::from(&**s)).collect()
}

fn resource_entry(r: &Resource) -> Value {
    let mut out = Map::new();
    out.insert("name".into(), (&*r.plural).into());
    out.insert("singularName".into(), (&*r.singular).into());
    out.insert("namespaced".into(), r.namespaced.into());
    out.insert("kind".into(), (&*r.kind).into());
    out.insert("verbs".into(), strings(&custom::shown_verbs(r)));
    if !r.short_names.is_empty() {
        out.insert("shortNames".into(), strings(&r.short_names));
    }
    if !r.categories.is_empty() {
        out.insert("categories".into(), strings(&r.categories));
    }
    if let Some(hash) = r.storage.as_ref().map(|s| &*s.hash).filter(|h| !h.is_empty()) {
        out.insert("storageVersionHash".into(), hash.into());
    }
    Value::Object(out)
}

fn subresource_entry(r: &Resource, sub: &Subresource) -> Value {
    let mut out = json!({
        "name": format!("{}/{}", r.plural, sub.name),
        "singularName": "",
        "namespaced": r.namespaced,
        "kind": &*sub.kind.kind,
        "verbs": strings(&sub.verbs),
    });
    // Only where it is not the parent's.
    if (&*sub.kind.group, &*sub.kind.version) != (&*r.group, &*r.version) {
        if !sub.kind.group.is_empty() {
            out["group"] = (&*sub.kind.group).into();
        }
        out["version"] = (&*sub.kind.version).into();
    }
    out
}
