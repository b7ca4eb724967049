//! Parts that objects of many groups share: label selectors, conditions, names of drivers and signers, labels of
//! nodes that are going away, and what an update of the status may not touch.

use apimachinery::field::{Error, ErrorList, Path};
use apimachinery::labels::{LabelSelector, Validation, validate_label_name};
use apimachinery::names;
use serde_json::Value;

use crate::check::{int, items, messages, subdomain, text};

/// Every fault of a `meta/v1.LabelSelector`, none if it is absent. With `lenient`, values of labels in expressions
/// may be malformed, as they may be in objects from before the rule.
pub fn selector(selector: &Value, lenient: bool, path: &Path<'_>, errors: &mut ErrorList) {
    if let Some(selector) = LabelSelector::from_value(selector) {
        let options = Validation { allow_invalid_label_value: lenient, allow_unknown_operator: false };
        errors.extend(selector.validate(options, path));
    }
}

/// Whether [`selector`] finds nothing, which earns the object leniency in its next updates.
pub fn selector_is_good(value: &Value) -> bool {
    let mut errors = ErrorList::new();
    selector(value, false, &Path::NIL, &mut errors);
    errors.is_empty()
}

/// `meta/v1.Condition`s: each type once, and each well-formed (upstream's `ValidateConditions`).
pub fn conditions(list: &[Value], path: &Path<'_>, errors: &mut ErrorList) {
    let mut seen = Vec::new();
    for (index, condition) in list.iter().enumerate() {
        let at = path.index(index);
        let (kind, status, reason) =
            (text(condition, "type"), text(condition, "status"), text(condition, "reason"));
        if seen.contains(&kind) {
            errors.push(Error::duplicate(&at.child("type"), kind));
        }
        seen.push(kind);
        errors.extend(validate_label_name(kind, &at.child("type")));
        if !STATUSES.contains(&status) {
            errors.push(Error::not_supported(&at.child("status"), status, STATUSES));
        }
        if let Some(observed) = int(condition, "observedGeneration").filter(|observed| *observed < 0) {
            let why = "must be greater than or equal to zero";
            errors.push(Error::invalid(&at.child("observedGeneration"), observed, why));
        }
        if text(condition, "lastTransitionTime").is_empty() {
            errors.push(Error::required(&at.child("lastTransitionTime"), ""));
        }
        condition_reason(reason, &at.child("reason"), errors);
        if text(condition, "message").len() > 32 * 1024 {
            errors.push(Error::too_long(&at.child("message"), 32 * 1024));
        }
    }
}

/// What a condition's status may be, as upstream lists it.
pub const STATUSES: [&str; 3] = ["False", "True", "Unknown"];

fn condition_reason(reason: &str, path: &Path<'_>, errors: &mut ErrorList) {
    const PATTERN: &str = "[A-Za-z]([A-Za-z0-9_,:]*[A-Za-z0-9_])?";
    const MESSAGE: &str = "a condition reason must start with alphabetic character, optionally followed by a string \
                           of alphanumeric characters or '_,:', and must end with an alphanumeric character or '_'";
    if reason.is_empty() {
        errors.push(Error::required(path, ""));
        return;
    }
    let word = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    let bytes = reason.as_bytes();
    let good = bytes.first().is_some_and(u8::is_ascii_alphabetic)
        && bytes.last().is_some_and(|last| word(*last))
        && (bytes.len() > 1 || bytes.iter().all(u8::is_ascii_alphabetic))
        && bytes.iter().all(|byte| word(*byte) || matches!(byte, b',' | b':'));
    if !good {
        let examples = ["my_name", "MY_NAME", "MyName", "ReasonA,ReasonB", "ReasonA:ReasonB"];
        errors.push(Error::invalid(path, reason, names::regex_error(MESSAGE, PATTERN, &examples)));
    }
    if reason.len() > 1024 {
        errors.push(Error::too_long(path, 1024));
    }
}

/// The name of a CSI driver: a subdomain of at most 63 bytes, in any case.
pub fn csi_driver_name(name: &str, path: &Path<'_>, errors: &mut ErrorList) {
    if name.is_empty() {
        errors.push(Error::required(path, ""));
        return;
    }
    if name.len() > 63 {
        errors.push(Error::too_long(path, 63));
    }
    messages(names::is_dns1123_subdomain(&name.to_lowercase()), &name.into(), path, errors);
}

/// The name of a signer of certificates, `example.com/signer-name` (upstream's `ValidateSignerName`).
pub fn signer_name(name: &str, path: &Path<'_>, errors: &mut ErrorList) {
    if name.is_empty() {
        errors.push(Error::required(path, ""));
        return;
    }
    let Some((domain, rest)) = name.split_once('/').filter(|(_, rest)| !rest.contains('/')) else {
        let why = "must be a fully qualified domain and path of the form 'example.com/signer-name'";
        errors.push(Error::invalid(path, name, why));
        return;
    };
    let most = names::SUBDOMAIN_MAX;
    if domain.len() > most {
        errors.push(Error::too_long(path, most));
    }
    dotted(domain, names::is_dns1123_label, path, errors);
    if !domain.contains('.') {
        let why = "should be a domain with at least two segments separated by dots";
        errors.push(Error::invalid(path, domain, why));
    }
    dotted(rest, names::is_dns1123_subdomain, path, errors);
    let whole = most + 1 + most + names::LABEL_MAX + 1;
    if name.len() > whole {
        errors.push(Error::too_long(path, whole));
    }
}

/// The faults of the first bad part; those of several could not be told apart.
fn dotted(whole: &str, rule: fn(&str) -> Vec<String>, path: &Path<'_>, errors: &mut ErrorList) {
    let bad = whole.split('.').map(|part| (part, rule(part))).find(|(_, faults)| !faults.is_empty());
    if let Some((part, faults)) = bad {
        let told = faults.into_iter().map(|fault| format!("validating label {part:?}: {fault}"));
        errors.extend(told.map(|why| Error::invalid(path, whole, why)));
    }
}

/// Labels of nodes that have been replaced, and what the warning about them says.
pub fn deprecated_node_label(key: &str) -> Option<&'static str> {
    Some(match key {
        "beta.kubernetes.io/arch" => "deprecated since v1.14; use \"kubernetes.io/arch\" instead",
        "beta.kubernetes.io/os" => "deprecated since v1.14; use \"kubernetes.io/os\" instead",
        "failure-domain.beta.kubernetes.io/region" => {
            "deprecated since v1.17; use \"topology.kubernetes.io/region\" instead"
        }
        "failure-domain.beta.kubernetes.io/zone" => {
            "deprecated since v1.17; use \"topology.kubernetes.io/zone\" instead"
        }
        "beta.kubernetes.io/instance-type" => {
            "deprecated since v1.17; use \"node.kubernetes.io/instance-type\" instead"
        }
        "app.kubernetes.io/created-by" => "deprecated since v1.9",
        "scheduler.alpha.kubernetes.io/preferAvoidPods" => {
            "deprecated since v1.22; use Taints and Tolerations instead"
        }
        "node-role.kubernetes.io/master" => "use \"node-role.kubernetes.io/control-plane\" instead",
        _ => return None,
    })
}

/// The values are the same to the API: as Go's semantic equality, no list and an empty one are one.
pub fn same(a: &Value, b: &Value) -> bool {
    let nothing = |value: &Value| match value {
        Value::Null => true,
        Value::Array(items) => items.is_empty(),
        _ => false,
    };
    a == b || nothing(a) && nothing(b)
}

/// A field that cannot change after creation; lists and maps that are empty count as absent.
pub fn unchanged(new: &Value, old: &Value, path: &Path<'_>, errors: &mut ErrorList) {
    let empty_map = |value: &Value| value.is_null() || value.as_object().is_some_and(|map| map.is_empty());
    let unchanged = same(new, old) || empty_map(new) && empty_map(old);
    if !unchanged {
        errors.push(Error::invalid(path, new.clone(), "field is immutable"));
    }
}

/// An update of the status changes of the metadata only who manages which fields, and what the system keeps
/// (upstream's `ResetObjectMetaForStatus`).
pub fn keep_for_status(new: &mut Value, old: &Value) {
    for field in ["generation", "labels", "annotations", "finalizers", "ownerReferences", "deletionTimestamp"]
    {
        keep(new, old, field);
    }
}

/// An update of the status changes nothing of the metadata but who manages which fields.
pub fn keep_all_for_status(new: &mut Value, old: &Value) {
    let managed = new["metadata"]["managedFields"].take();
    new["metadata"] = old["metadata"].clone();
    match managed {
        Value::Null => drop(new["metadata"].as_object_mut().map(|all| all.remove("managedFields"))),
        managed => new["metadata"]["managedFields"] = managed,
    }
}

/// A field of the metadata stays as it was.
pub fn keep(new: &mut Value, old: &Value, field: &str) {
    match old["metadata"].get(field) {
        Some(value) => new["metadata"][field] = value.clone(),
        None => drop(new["metadata"].as_object_mut().map(|all| all.remove(field))),
    }
}

/// Both or none of a reference to a secret: name and namespace are needed.
pub fn secret_reference(reference: &Value, path: &Path<'_>, errors: &mut ErrorList) {
    match text(reference, "name") {
        "" => errors.push(Error::required(&path.child("name"), "")),
        name => subdomain(name, &path.child("name"), errors),
    }
    match text(reference, "namespace") {
        "" => errors.push(Error::required(&path.child("namespace"), "")),
        namespace => crate::check::label(namespace, &path.child("namespace"), errors),
    }
}

/// The texts of a list.
pub fn texts<'a>(value: &'a Value, field: &str) -> impl Iterator<Item = &'a str> {
    items(value, field).iter().map(|item| item.as_str().unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn shown(errors: &ErrorList) -> Vec<String> {
        errors.iter().map(|error| format!("{}: {:?}", error.field, error.kind)).collect()
    }

    #[test]
    fn signers() {
        let check = |name: &str, expect: &[&str]| {
            let mut errors = ErrorList::new();
            signer_name(name, &Path::new("s"), &mut errors);
            let got: Vec<String> = errors.iter().map(|error| error.body()).collect();
            assert_eq!(got.len(), expect.len(), "{name}: {got:?}");
            for (got, expect) in got.iter().zip(expect) {
                assert!(got.starts_with(expect), "{name}: {got}");
            }
        };
        check("example.com/signer", &[]);
        check("kubernetes.io/kube-apiserver-client", &[]);
        check(
            "example.com/Signer",
            &[r#"Invalid value: "Signer": validating label "Signer": a lowercase RFC 1123 sub"#],
        );
        check("", &["Required value"]);
        check("example.com", &["Invalid value: \"example.com\": must be a fully qualified domain"]);
        check("example.com/a/b", &["Invalid value"]);
        check("example/a", &["Invalid value: \"example\": should be a domain with at least two segments"]);
        check(
            "exa_mple.com/a",
            &[r#"Invalid value: "exa_mple.com": validating label "exa_mple": a lowercase RFC 1123 label"#],
        );
        check(&format!("{}.com/a", "a".repeat(64)), &["Invalid value"]);
    }

    #[test]
    fn conditions_of_a_status() {
        let good = json!({"type": "Ready", "status": "True", "reason": "Fine", "message": "",
            "lastTransitionTime": "2020-01-01T00:00:00Z"});
        let check = |patch: Value, expect: &[&str]| {
            let mut one = good.clone();
            one.as_object_mut().unwrap().extend(patch.as_object().unwrap().clone());
            let mut errors = ErrorList::new();
            conditions(&[one], &Path::new("c"), &mut errors);
            assert_eq!(shown(&errors), expect, "{patch}");
        };
        check(json!({}), &[]);
        check(json!({"type": "a b"}), &["c[0].type: Invalid"]);
        check(json!({"status": "yes"}), &["c[0].status: NotSupported"]);
        check(json!({"observedGeneration": -1}), &["c[0].observedGeneration: Invalid"]);
        check(json!({"lastTransitionTime": null}), &["c[0].lastTransitionTime: Required"]);
        check(json!({"reason": ""}), &["c[0].reason: Required"]);
        check(json!({"reason": "a,b:c_"}), &[]);
        check(json!({"reason": "1a"}), &["c[0].reason: Invalid"]);
        check(json!({"reason": "a b"}), &["c[0].reason: Invalid"]);
        check(json!({"reason": "_"}), &["c[0].reason: Invalid"]);
        check(json!({"reason": "a".repeat(1025)}), &["c[0].reason: TooLong"]);
        check(json!({"message": "a".repeat(32 * 1024 + 1)}), &["c[0].message: TooLong"]);
        let mut errors = ErrorList::new();
        conditions(&[good.clone(), good], &Path::new("c"), &mut errors);
        assert_eq!(shown(&errors), ["c[1].type: Duplicate"]);
    }
}
