//! Where objects lie in the store.

use apimachinery::{field, names, schema::Resource, status::Status};
use bytes::Bytes;
use etcd::KeyRange;

pub const ROOT: &str = "/registry";

/// The key of an object.
///
/// # Errors
/// 400 for names that cannot be part of a path.
pub fn key(resource: &Resource, namespace: &str, name: &str) -> Result<Bytes, Status> {
    let mut key = prefix_string(resource, namespace, name.len())?;
    if resource.namespaced && namespace.is_empty() {
        return Err(Status::bad_request("Namespace parameter required."));
    }
    if name.is_empty() {
        return Err(Status::bad_request("Name parameter required."));
    }
    let faults = names::is_path_segment_name(name);
    if !faults.is_empty() {
        return Err(Status::bad_request(format!(
            "Name parameter invalid: {}: {}",
            field::quote(name),
            faults.join(";")
        )));
    }
    key.push_str(name);
    Ok(key.into())
}

/// What the keys of a resource's objects begin with, those of one namespace if one is given.
pub fn prefix(resource: &Resource, namespace: &str) -> Result<Bytes, Status> {
    Ok(prefix_string(resource, namespace, 0)?.into())
}

/// The prefix, with room for `more` bytes and no others: keys stay in memory as they are made.
pub(super) fn prefix_string(resource: &Resource, namespace: &str, more: usize) -> Result<String, Status> {
    let at =
        resource.storage.as_ref().ok_or_else(|| Status::internal("nothing of this resource is stored"))?;
    let inner = if resource.namespaced && !namespace.is_empty() { namespace.len() + 1 } else { 0 };
    let mut key = String::with_capacity(ROOT.len() + at.prefix.len() + 2 + inner + more);
    key.push_str(ROOT);
    key.push('/');
    key.push_str(&at.prefix);
    key.push('/');
    if resource.namespaced && !namespace.is_empty() {
        let faults = names::is_path_segment_name(namespace);
        if !faults.is_empty() {
            return Err(Status::bad_request(format!(
                "Namespace parameter invalid: {}: {}",
                field::quote(namespace),
                faults.join(";")
            )));
        }
        key.push_str(namespace);
        key.push('/');
    }
    Ok(key)
}

/// The range of keys of a resource's objects, or exactly one object's.
pub fn range(resource: &Resource, namespace: &str, name: Option<&str>) -> Result<KeyRange, Status> {
    match name {
        Some(name) if !resource.namespaced || !namespace.is_empty() => {
            Ok(KeyRange::key(key(resource, namespace, name)?))
        }
        _ => Ok(KeyRange::prefix(prefix(resource, namespace)?)),
    }
}

/// Namespace and name as they stand in a key.
pub fn name_in<'a>(resource: &Resource, key: &'a [u8]) -> (&'a str, &'a str) {
    let key = std::str::from_utf8(key).unwrap_or_default();
    let Some((rest, name)) = key.rsplit_once('/') else { return ("", key) };
    let namespace = if resource.namespaced { rest.rsplit('/').next().unwrap_or_default() } else { "" };
    (namespace, name)
}
