//! IPAddress: an address in use, named by itself.

use apimachinery::field::{Error, ErrorList, Path};
use serde_json::Value;

use super::{required_segment, segment};
use crate::check::{immutable, present, subdomain, text};
use crate::ip;
use crate::strategy::{GENERIC, Strategy};
use crate::workload::SPEC;

pub const STRATEGY: Strategy = Strategy { name, validate, validate_update, ..GENERIC };

/// Only the proper form of the address, so that each has one name.
fn name(name: &str, _prefix: bool) -> Vec<String> {
    let mut errors = ErrorList::new();
    ip::strict(name, &Path::NIL, &mut errors);
    errors.into_iter().map(|error| error.detail).collect()
}

fn validate(object: &Value, errors: &mut ErrorList) {
    let path = SPEC.child("parentRef");
    let Some(parent) = present(&object["spec"], "parentRef") else {
        errors.push(Error::required(&path, ""));
        return;
    };
    let group = text(parent, "group");
    if !group.is_empty() {
        subdomain(group, &path.child("group"), errors);
    }
    required_segment(parent, "resource", &path, errors);
    required_segment(parent, "name", &path, errors);
    let namespace = text(parent, "namespace");
    if !namespace.is_empty() {
        segment(namespace, &path.child("namespace"), errors);
    }
}

fn validate_update(new: &Value, old: &Value, _subresource: &str, errors: &mut ErrorList) {
    validate(new, errors);
    let (after, before) = (&new["spec"]["parentRef"], &old["spec"]["parentRef"]);
    immutable(after, before, &SPEC.child("parentRef"), errors);
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::rows::Subject;

    /// `TestValidateIPAddress`, `TestValidateIPAddressUpdate`
    #[test]
    fn ip_address() {
        let parent = json!({"resource": "services", "namespace": "n", "name": "s"});
        let good = json!({"metadata": {"name": "192.168.1.1"}, "spec": {"parentRef": parent}});
        let subject = Subject { group: "networking.k8s.io", version: "v1", kind: "IPAddress", good };
        let check =
            |parent: Value, expect: &[&str]| subject.created(json!({"spec": {"parentRef": parent}}), expect);
        check(json!({}), &[]);
        check(Value::Null, &["spec.parentRef: Required"]);
        check(
            json!({"resource": null, "name": null}),
            &["spec.parentRef.resource: Required", "spec.parentRef.name: Required"],
        );
        check(
            json!({"group": "a b", "resource": "a/b", "name": "a%b", "namespace": "a/b"}),
            &[
                "spec.parentRef.group: Invalid",
                "spec.parentRef.resource: Invalid",
                "spec.parentRef.name: Invalid",
                "spec.parentRef.namespace: Invalid",
            ],
        );
        subject.updated(
            json!({}),
            json!({"spec": {"parentRef": {"name": "other"}}}),
            "",
            &["spec.parentRef: Invalid"],
        );
        assert_eq!(name("192.168.1.1", false), [""; 0]);
        assert_eq!(name("2001:4860:4860::8888", false), [""; 0]);
        assert_eq!(name("192.168.001.1", false), ["must not have leading 0s"]);
        assert_eq!(name("2001:4860::0", false), ["must be in canonical form (\"2001:4860::\")"]);
        assert_eq!(name("x", false).len(), 1);
    }
}
