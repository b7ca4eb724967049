//! Claims of devices: who may look after devices that others use is for the namespace to say (KEP-5018); who may
//! allocate, and who may speak for a driver, is authorized apart from the status that they write (KEP-4817).

use std::collections::BTreeSet;

use apimachinery::field::{Error, ErrorList, Path};
use serde_json::Value;

use crate::{
    authorization::{Attributes, forbidden},
    registry::generic::Scope,
    request::UserInfo,
};

const LABEL: &str = "resource.kubernetes.io/admin-access";
const NODE_NAME: &str = "authentication.kubernetes.io/node-name";

/// What a claim's writer lacks.
pub fn faults(scope: &Scope<'_>, new: &Value, old: Option<&Value>) -> ErrorList {
    let mut errors = admin_access(scope, new, old);
    if let (Some(old), "status") = (old, scope.subresource) {
        let (new, old) = (&new["status"], &old["status"]);
        let path = Path::new("status");
        if new["allocation"] != old["allocation"] || new["reservedFor"] != old["reservedFor"] {
            binding(scope, &path.child("allocation"), &mut errors);
        }
        if new["allocation"].is_object() {
            devices(scope, new, old, &path.child("devices"), &mut errors);
        }
    }
    errors
}

/// The denial of something that the request does not name, in words; none if it is allowed.
fn denial(scope: &Scope<'_>, verb: &str, subresource: &str, namespace: &str, name: &str) -> Option<String> {
    let attributes = Attributes {
        is_resource: true,
        verb,
        group: &scope.resource.group,
        version: &scope.resource.version,
        resource: &scope.resource.plural,
        subresource,
        namespace,
        name,
        ..Attributes::default()
    };
    let decision = scope.server.authorizer.decide(scope.user, &attributes);
    (!decision.is_allowed()).then(|| forbidden(scope.user, &attributes, decision.reason()).message)
}

/// Allocating and reserving: the scheduler's, for all claims.
fn binding(scope: &Scope<'_>, path: &Path<'_>, errors: &mut ErrorList) {
    let verb = scope.verb;
    if let Some(why) = denial(scope, verb, "binding", "", "") {
        let why = format!(
            "changing status.allocation or status.reservedFor requires resource=\"resourceclaims/binding\", \
             verb=\"{verb}\" permission: {why}"
        );
        errors.push(Error::forbidden(path, why));
    }
}

/// What is said of devices: their driver's, on any node or on the one where the devices are.
fn devices(scope: &Scope<'_>, new: &Value, old: &Value, path: &Path<'_>, errors: &mut ErrorList) {
    let mut verbs = vec![format!("arbitrary-node:{}", scope.verb)];
    if is_on(scope.user, allocated_node(&new["allocation"])) {
        verbs.insert(0, format!("associated-node:{}", scope.verb));
    }
    for driver in changed_drivers(new, old) {
        let denials: Option<Vec<String>> =
            verbs.iter().map(|verb| denial(scope, verb, "driver", scope.namespace, driver)).collect();
        if let Some(first) = denials.and_then(|denials| denials.into_iter().next()) {
            let why = format!(
                "changing status.devices requires resource=\"resourceclaims/driver\", verb=\"[{}]\" permission: \
                 {first}",
                verbs.join(" ")
            );
            errors.push(Error::forbidden(path, why));
        }
    }
}

/// Drivers of which something is said anew, otherwise, or no longer.
fn changed_drivers<'a>(new: &'a Value, old: &'a Value) -> BTreeSet<&'a str> {
    let all = |status: &'a Value| status["devices"].as_array().map(Vec::as_slice).unwrap_or_default();
    let added = all(new).iter().filter(|device| !all(old).contains(device));
    let gone = all(old).iter().filter(|device| !all(new).contains(device));
    added.chain(gone).map(|device| device["driver"].as_str().unwrap_or_default()).collect()
}

/// The one node that an allocation is for, if it names one.
fn allocated_node(allocation: &Value) -> Option<&str> {
    let only = |list: &'_ Value| {
        list.as_array().filter(|list| list.len() == 1).and_then(|list| list.first()).cloned()
    };
    let term = only(&allocation["nodeSelector"]["nodeSelectorTerms"])?;
    let field = only(&term["matchFields"])?;
    let plain = term["matchExpressions"].as_array().is_none_or(Vec::is_empty);
    if !plain
        || field["key"] != "metadata.name"
        || field["operator"] != "In"
        || only(&field["values"]).is_none()
    {
        return None;
    }
    allocation.pointer("/nodeSelector/nodeSelectorTerms/0/matchFields/0/values/0")?.as_str()
}

/// A service account whose token is bound to the node.
fn is_on(user: &UserInfo, node: Option<&str>) -> bool {
    let nodes = user.extra.get(NODE_NAME).map(Vec::as_slice).unwrap_or_default();
    user.name.starts_with("system:serviceaccount:")
        && node.is_some_and(|node| matches!(nodes, [only] if only == node))
}

/// Admin access, asked for by a new claim or template, or given by a status.
fn admin_access(scope: &Scope<'_>, new: &Value, old: Option<&Value>) -> ErrorList {
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
    fn drivers_and_nodes() {
        let device = |driver: &str, data: i64| json!({"driver": driver, "pool": "p", "device": "d", "data": {"n": data}});
        let status = |devices: &[&Value]| json!({ "devices": devices });
        let (a, changed, b) = (device("a", 1), device("a", 2), device("b", 1));
        for (new, old, expect) in [
            (status(&[&a]), status(&[&a]), vec![]),
            (status(&[&a, &b]), status(&[&a]), vec!["b"]),
            (status(&[]), status(&[&a]), vec!["a"]),
            (status(&[&changed, &b]), status(&[&b, &a]), vec!["a"]),
        ] {
            assert_eq!(changed_drivers(&new, &old), expect.into_iter().collect(), "{new} {old}");
        }
        let selected = |terms: Value| json!({"nodeSelector": {"nodeSelectorTerms": terms}});
        let by_name = |values: Value| json!({"matchFields": [{"key": "metadata.name", "operator": "In", "values": values}]});
        for (allocation, expect) in [
            (json!({}), None),
            (selected(json!([by_name(json!(["n"]))])), Some("n")),
            (selected(json!([by_name(json!(["n", "m"]))])), None),
            (selected(json!([by_name(json!(["n"])), by_name(json!(["m"]))])), None),
            (selected(json!([{"matchExpressions": [{"key": "a", "operator": "Exists"}]}])), None),
        ] {
            assert_eq!(allocated_node(&allocation), expect, "{allocation}");
        }
        let mut account = UserInfo::new("system:serviceaccount:ns:driver", &[]);
        assert!(!is_on(&account, Some("n")));
        account.extra.insert(NODE_NAME.into(), vec!["n".into()]);
        assert!(is_on(&account, Some("n")));
        assert!(!is_on(&account, Some("m")) && !is_on(&account, None));
        account.name = "jane".into();
        assert!(!is_on(&account, Some("n")));
    }

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
