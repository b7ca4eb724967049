//! IngressClass.

use apimachinery::field::{Error, ErrorList, Path};
use apimachinery::names;
use serde_json::Value;

use super::typed_reference;
use crate::check::{immutable, label, present, text};
use crate::strategy::{GENERIC, Strategy};
use crate::workload::SPEC;

const MAX_CONTROLLER: usize = 250;

pub const STRATEGY: Strategy = Strategy {
    generation: true,
    validate: |object, errors| validate(&object["spec"], errors),
    validate_update: |new, old, _, errors| {
        let (new, old) = (&new["spec"], &old["spec"]);
        immutable(&new["controller"], &old["controller"], &SPEC.child("controller"), errors);
        validate(new, errors);
    },
    ..GENERIC
};

fn validate(spec: &Value, errors: &mut ErrorList) {
    let (at, controller) = (SPEC.child("controller"), text(spec, "controller"));
    if controller.len() > MAX_CONTROLLER {
        errors.push(Error::too_long(&at, MAX_CONTROLLER));
    }
    errors.extend(names::is_domain_prefixed_path(&at, controller));
    if let Some(reference) = present(spec, "parameters") {
        parameters(reference, &SPEC.child("parameters"), errors);
    }
}

fn parameters(reference: &Value, path: &Path<'_>, errors: &mut ErrorList) {
    typed_reference(reference, path, errors);
    let (at, namespace) = (path.child("namespace"), present(reference, "namespace").and_then(Value::as_str));
    match (present(reference, "scope").and_then(Value::as_str), namespace) {
        (None, _) => errors.push(Error::required(&path.child("scope"), "")),
        (Some("Namespace"), None) => {
            errors.push(Error::required(&at, "`parameters.scope` is set to 'Namespace'"));
        }
        (Some("Namespace"), Some(namespace)) => label(namespace, &at, errors),
        (Some("Cluster"), None) => {}
        (Some("Cluster"), Some(_)) => {
            errors.push(Error::forbidden(&at, "`parameters.scope` is set to 'Cluster'"));
        }
        (Some(scope), _) => {
            errors.push(Error::not_supported(&path.child("scope"), scope, ["Cluster", "Namespace"]));
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::rows::Subject;

    /// `TestValidateIngressClass`, `TestValidateIngressClassUpdate`
    #[test]
    fn ingress_class() {
        let good = json!({"metadata": {"name": "c"}, "spec": {"controller": "foo.co/bar"}});
        let subject = Subject { group: "networking.k8s.io", version: "v1", kind: "IngressClass", good };
        let check = |spec: Value, expect: &[&str]| subject.created(json!({"spec": spec}), expect);
        check(json!({}), &[]);
        check(json!({"controller": "foo.co/"}), &["spec.controller: Invalid"]);
        check(json!({"controller": "foo"}), &["spec.controller: Invalid"]);
        check(json!({"controller": null}), &["spec.controller: Required"]);
        check(json!({"controller": format!("foo.co/{}", "b".repeat(245))}), &["spec.controller: TooLong"]);
        let parameters = |more: Value, expect: &[&str]| {
            let mut reference = json!({"apiGroup": "example.com", "kind": "Foo", "name": "bar"});
            for (key, value) in more.as_object().unwrap() {
                reference[key] = value.clone();
            }
            check(json!({"parameters": reference}), expect);
        };
        parameters(json!({}), &[]);
        parameters(json!({"scope": "Namespace", "namespace": "n"}), &[]);
        parameters(json!({"scope": "Namespace"}), &["spec.parameters.namespace: Required"]);
        parameters(
            json!({"scope": "Namespace", "namespace": "A B"}),
            &["spec.parameters.namespace: Invalid"],
        );
        parameters(json!({"scope": "Cluster", "namespace": "n"}), &["spec.parameters.namespace: Forbidden"]);
        parameters(json!({"scope": "bad"}), &["spec.parameters.scope: NotSupported"]);
        parameters(
            json!({"apiGroup": "example.com:8080", "kind": "foo/", "name": "foo/bar"}),
            &[
                "spec.parameters.apiGroup: Invalid",
                "spec.parameters.kind: Invalid",
                "spec.parameters.name: Invalid",
            ],
        );
        check(
            json!({"parameters": {}}),
            &["spec.parameters.kind: Required", "spec.parameters.name: Required"],
        );
        subject.updated(json!({}), json!({"spec": {"parameters": {"kind": "a", "name": "b"}}}), "", &[]);
        subject.updated(
            json!({}),
            json!({"spec": {"controller": "foo.co/other"}}),
            "",
            &["spec.controller: Invalid"],
        );
        subject.updated(
            json!({}),
            json!({"spec": {"controller": "other"}}),
            "",
            &["spec.controller: Invalid"],
        );
    }
}
