//! Claims of devices: who may look after devices that others use is for the namespace to say (KEP-5018).

use apimachinery::field::{Error, ErrorList, Path};
use serde_json::Value;

use crate::registry::generic::Scope;

const LABEL: &str = "resource.kubernetes.io/admin-access";

/// Admin access, asked for by a new claim or template, or given by a status.
pub fn faults(scope: &Scope<'_>, new: &Value, old: Option<&Value>) -> ErrorList {
    let found = match (scope.subresource, old) {
        ("", None) => asked(new),
        ("status", Some(old)) if given(old).is_none() => given(new),
        _ => None,
    };
    let Some((list, index)) = found else { return ErrorList::new() };
    let list = Path::new(list);
    let at = list.index(index);
    let path = at.child("adminAccess");
    let namespaces = api::resource("", "v1", "namespaces");
    let namespace = namespaces.map(|resource| scope.server.storage.read(resource, "", scope.namespace));
    match namespace {
        Some(Ok(Some(namespace))) if namespace["metadata"]["labels"][LABEL] == "true" => ErrorList::new(),
        Some(Ok(Some(_))) => {
            let why = format!(
                "admin access to devices requires the `{LABEL}: true` label on the containing namespace"
            );
            vec![Error::forbidden(&path, why)]
        }
        _ => vec![Error::internal(&path, "could not retrieve namespace to verify admin access")],
    }
}

/// The first request of a claim, or of a template's, that asks.
fn asked(object: &Value) -> Option<(&'static str, usize)> {
    let requests =
        object.pointer("/spec/devices/requests").or_else(|| object.pointer("/spec/spec/devices/requests"));
    first(requests?, |request| &request["exactly"]).map(|index| ("spec.devices.requests", index))
}

/// The first result of an allocation that has it.
fn given(claim: &Value) -> Option<(&'static str, usize)> {
    let results = claim.pointer("/status/allocation/devices/results")?;
    first(results, |result| result).map(|index| ("status.allocation.devices.results", index))
}

fn first(list: &Value, part: fn(&Value) -> &Value) -> Option<usize> {
    list.as_array()?.iter().position(|item| part(item)["adminAccess"] == true)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn where_admin_access_is() {
        let check = |claim: Value, in_spec: Option<usize>, in_status: Option<usize>| {
            assert_eq!(asked(&claim).map(|(_, index)| index), in_spec, "{claim}");
            assert_eq!(given(&claim).map(|(_, index)| index), in_status, "{claim}");
        };
        let requests = json!([{"name": "a", "exactly": {}}, {"name": "b", "exactly": {"adminAccess": true}}]);
        check(json!({}), None, None);
        check(json!({"spec": {"devices": {"requests": requests}}}), Some(1), None);
        check(json!({"spec": {"spec": {"devices": {"requests": requests}}}}), Some(1), None);
        check(json!({"spec": {"devices": {"requests": [{"exactly": {"adminAccess": false}}]}}}), None, None);
        check(
            json!({"status": {"allocation": {"devices": {"results": [{"adminAccess": true}]}}}}),
            None,
            Some(0),
        );
    }
}
