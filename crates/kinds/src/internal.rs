//! StorageVersion: how the servers of a cluster encode a resource.

use apimachinery::field::{Error, ErrorList, Path};
use apimachinery::names;
use serde_json::Value;

use crate::check::{items, present, qualified, subdomain, text};
use crate::meta::{keep_for_status, texts};
use crate::strategy::{GENERIC, Strategy};

pub fn strategy(kind: &str) -> Option<&'static Strategy> {
    const STORAGE_VERSION: Strategy = Strategy {
        name,
        allow_unconditional_update: false,
        prepare_for_update: |new, old, subresource| {
            if subresource == "status" {
                keep_for_status(new, old);
            }
        },
        validate: status,
        validate_update: |new, _, subresource, errors| {
            if subresource == "status" {
                status(new, errors);
            }
        },
        ..GENERIC
    };
    (kind == "StorageVersion").then_some(&STORAGE_VERSION)
}

/// `<group>.<resource>`.
fn name(name: &str, _prefix: bool) -> Vec<String> {
    let Some((group, resource)) = name.rsplit_once('.') else {
        return vec!["name must be in the form of <group>.<resource>".to_owned()];
    };
    let group =
        names::is_dns1123_subdomain(group).into_iter().map(|fault| format!("the group segment {fault}"));
    let resource =
        names::is_dns1035_label(resource).into_iter().map(|fault| format!("the resource segment {fault}"));
    group.chain(resource).collect()
}

fn status(object: &Value, errors: &mut ErrorList) {
    let path = Path::new("status");
    let status = &object["status"];
    let servers = items(status, "storageVersions");
    let list = path.child("storageVersions");
    for (index, server) in servers.iter().enumerate() {
        let at = list.index(index);
        let id = text(server, "apiServerID");
        if servers.iter().take(index).any(|earlier| text(earlier, "apiServerID") == id) {
            errors.push(Error::duplicate(&at.child("apiServerID"), id));
        }
        self::server(server, &at, errors);
    }
    common(status, &path, errors);
    let conditions = items(status, "conditions");
    for (index, condition) in conditions.iter().enumerate() {
        // The list's name is missing in upstream's answers.
        let at = path.index(index);
        let kind = text(condition, "type");
        if let Some(first) = conditions.iter().take(index).rposition(|earlier| text(earlier, "type") == kind)
        {
            let why =
                format!("the type of the condition is not unique, it also appears in conditions[{first}]");
            errors.push(Error::invalid(&at.child("type"), kind, why));
        }
        qualified(kind, &at.child("type"), errors);
        qualified(text(condition, "status"), &at.child("status"), errors);
        for field in ["reason", "message"] {
            if text(condition, field).is_empty() {
                errors.push(Error::required(&at.child(field), ""));
            }
        }
    }
}

fn server(server: &Value, path: &Path<'_>, errors: &mut ErrorList) {
    subdomain(text(server, "apiServerID"), &path.child("apiServerID"), errors);
    let encoding = text(server, "encodingVersion");
    version(encoding, &path.child("encodingVersion"), errors);
    let decodable: Vec<&str> = texts(server, "decodableVersions").collect();
    let list = path.child("decodableVersions");
    for (index, one) in decodable.iter().enumerate() {
        version(one, &list.index(index), errors);
    }
    if !decodable.contains(&encoding) {
        let why = format!("decodableVersions must include encodingVersion {encoding}");
        errors.push(Error::invalid(&list, decodable.clone(), why));
    }
    let list = path.child("servedVersions");
    for (index, one) in texts(server, "servedVersions").enumerate() {
        version(one, &list.index(index), errors);
        if !decodable.contains(&one) {
            let all = decodable.join(" ");
            let why =
                format!("individual served version : {one} must be included in decodableVersions : [{all}]");
            errors.push(Error::invalid(&list.index(index), one, why));
        }
    }
}

/// `version` or `group/version`.
fn version(version: &str, path: &Path<'_>, errors: &mut ErrorList) {
    const EMPTY: &str = "must be non-empty";
    let parts: Vec<&str> = version.split('/').collect();
    let mut faults = Vec::new();
    let (group, last) = match parts.as_slice() {
        [version] => (None, *version),
        [group, version] => (Some(*group), *version),
        _ => {
            let text = "an apiVersion is a DNS-1035 label, which must consist of lower case alphanumeric characters or \
                        '-', start with an alphabetic character, and end with an alphanumeric character";
            let rule = names::regex_error(text, "[a-z]([-a-z0-9]*[a-z0-9])?", &["my-name", "abc-123"]);
            let why = format!(
                "{rule} with an optional DNS subdomain prefix and '/' (e.g. 'example.com/MyVersion')"
            );
            errors.push(Error::invalid(path, version, why));
            return;
        }
    };
    let mut part = |what: &str, text: &str, rule: fn(&str) -> Vec<String>| {
        let told = if text.is_empty() { vec![EMPTY.to_owned()] } else { rule(text) };
        faults.extend(told.into_iter().map(|fault| format!("{what} part: {fault}")));
    };
    if let Some(group) = group {
        part("group", group, names::is_dns1123_subdomain);
    }
    part("version", last, names::is_dns1035_label);
    if !faults.is_empty() {
        errors.push(Error::invalid(path, version, faults.join(",")));
    }
}

fn common(status: &Value, path: &Path<'_>, errors: &mut ErrorList) {
    let mut encodings = items(status, "storageVersions").iter().map(|server| text(server, "encodingVersion"));
    let first = encodings.next();
    let agreed = first.filter(|first| encodings.all(|encoding| encoding == *first));
    let given = present(status, "commonEncodingVersion").and_then(Value::as_str);
    let at = path.child("commonEncodingVersion");
    let why = match (agreed, given) {
        (None, Some(_)) => {
            "should be nil if servers do not agree on the same encoding version, or if there is no server reporting \
             the supported versions yet"
                .to_owned()
        }
        (Some(agreed), None) => format!("the common encoding version is {agreed}"),
        (Some(agreed), Some(given)) if agreed != given => {
            format!("the actual common encoding version is {agreed}")
        }
        _ => return,
    };
    errors.push(Error::invalid(&at, given.map_or(Value::Null, Value::from), why));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::table::Table;
    use serde_json::json;

    #[test]
    fn storage_versions() {
        let table = Table::new("internal.apiserver.k8s.io", "v1alpha1", "StorageVersion", json!({}));
        let server = |id: &str, encoding: &str, decodable: &[&str]| json!({"apiServerID": id, "encodingVersion": encoding, "decodableVersions": decodable});
        let check = |status: Value, expect: &[&str]| {
            table.change(&json!({}), &json!({ "status": status }), "status", expect);
        };
        let one = server("fea", "v1alpha1", &["v1alpha1", "v1"]);
        check(json!({}), &[]);
        check(json!({"storageVersions": [one], "commonEncodingVersion": "v1alpha1"}), &[]);
        check(json!({"storageVersions": [one]}), &["status.commonEncodingVersion: Invalid"]);
        check(json!({"commonEncodingVersion": "v1"}), &["status.commonEncodingVersion: Invalid"]);
        check(
            json!({"storageVersions": [one], "commonEncodingVersion": "v1"}),
            &["status.commonEncodingVersion: Invalid"],
        );
        check(
            json!({"storageVersions": [one, server("FEA", "v1", &["v1alpha1"])]}),
            &[
                "status.storageVersions[1].apiServerID: Invalid",
                "status.storageVersions[1].decodableVersions: Invalid",
            ],
        );
        check(
            json!({"storageVersions": [one, one], "commonEncodingVersion": "v1alpha1"}),
            &["status.storageVersions[1].apiServerID: Duplicate"],
        );
        for bad in ["", "/v1", "a/", "a/b/c", "A/v1", "1"] {
            check(
                json!({"storageVersions": [server("a", bad, &[bad])], "commonEncodingVersion": bad}),
                &[
                    "status.storageVersions[0].encodingVersion: Invalid",
                    "status.storageVersions[0].decodableVersions[0]: Invalid",
                ],
            );
        }
        check(
            json!({"conditions": [{"type": "a", "status": "True", "reason": "r", "message": "m"}, {"type": "a", "status": "True"}]}),
            &["status[1].type: Invalid", "status[1].reason: Required", "status[1].message: Required"],
        );
        for (text, faults) in [("core.pods", 0), ("apps.example.com.pods", 0), ("pods", 1), ("A.Pods", 2)] {
            assert_eq!(name(text, false).len(), faults, "{text}");
        }
    }
}
