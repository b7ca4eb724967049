//! Environment variables, and the fields and resources that they and files can show.

use apimachinery::field::{Error, ErrorList, Path};
use apimachinery::names;
use apimachinery::quantity::Quantity;
use serde_json::Value;

use super::visit;
use crate::check::{items, label, messages, no_backsteps, present, qualified, text};
use crate::strategy;

pub fn env(list: &[Value], path: &Path<'_>, errors: &mut ErrorList) {
    for (index, variable) in list.iter().enumerate() {
        let path = path.index(index);
        match text(variable, "name") {
            "" => errors.push(Error::required(&path.child("name"), "")),
            name => messages(names::is_relaxed_env_var_name(name), &name.into(), &path.child("name"), errors),
        }
        if let Some(source) = present(variable, "valueFrom") {
            value_from(source, text(variable, "value"), &path.child("valueFrom"), errors);
        }
    }
}

const ENV_FIELDS: &[&str] = &[
    "metadata.name",
    "metadata.namespace",
    "metadata.uid",
    "spec.nodeName",
    "spec.serviceAccountName",
    "status.hostIP",
    "status.hostIPs",
    "status.podIP",
    "status.podIPs",
];

fn value_from(source: &Value, value: &str, path: &Path<'_>, errors: &mut ErrorList) {
    let mut sources = 0;
    if let Some(field) = present(source, "fieldRef") {
        sources += 1;
        field_selector(field, ENV_FIELDS, &path.child("fieldRef"), errors);
    }
    if let Some(field) = present(source, "resourceFieldRef") {
        sources += 1;
        resource_selector(field, false, &path.child("resourceFieldRef"), errors);
    }
    for name in ["configMapKeyRef", "secretKeyRef"] {
        if let Some(selector) = present(source, name) {
            sources += 1;
            key_selector(selector, &path.child(name), errors);
        }
    }
    if let Some(selector) = present(source, "fileKeyRef") {
        sources += 1;
        file_key_selector(selector, &path.child("fileKeyRef"), errors);
    }
    if sources == 0 {
        let why = "must specify one of: `fieldRef`, `resourceFieldRef`, `configMapKeyRef`, `secretKeyRef` or `fileKeyRef`";
        errors.push(Error::invalid(path, "", why));
    } else if !value.is_empty() {
        errors.push(Error::invalid(path, "", "may not be specified when `value` is not empty"));
    } else if sources > 1 {
        errors.push(Error::invalid(path, "", "may not have more than one field specified at a time"));
    }
}

fn key_selector(selector: &Value, path: &Path<'_>, errors: &mut ErrorList) {
    let name = text(selector, "name");
    messages(names::is_dns1123_subdomain(name), &name.into(), &path.child("name"), errors);
    match text(selector, "key") {
        "" => errors.push(Error::required(&path.child("key"), "")),
        key => messages(names::is_config_map_key(key), &key.into(), &path.child("key"), errors),
    }
}

/// A variable out of a file (KEP-3721).
fn file_key_selector(selector: &Value, path: &Path<'_>, errors: &mut ErrorList) {
    let of = |field: &str| text(selector, field);
    for (field, rule) in [
        (
            "key",
            (|key: &str, path: &Path<'_>, errors: &mut ErrorList| {
                messages(names::is_relaxed_env_var_name(key), &key.into(), path, errors);
            }) as fn(&str, &Path<'_>, &mut ErrorList),
        ),
        ("volumeName", label),
        ("path", no_backsteps),
    ] {
        match of(field) {
            "" => errors.push(Error::required(&path.child(field), "")),
            value => rule(value, &path.child(field), errors),
        }
    }
}

/// Files with variables lie in volumes of the pod that its containers fill.
pub fn file_volumes(spec: &Value, path: &Path<'_>, errors: &mut ErrorList) {
    let volumes = items(spec, "volumes");
    visit(spec, path, |container, path| {
        let list = path.child("env");
        for (index, variable) in items(container, "env").iter().enumerate() {
            let source = present(variable, "valueFrom").and_then(|source| present(source, "fileKeyRef"));
            let Some(name) = source.map(|source| text(source, "volumeName")) else { continue };
            let at = list.index(index);
            let at = at.child("valueFrom.fileKeyRef.volumeName");
            match volumes.iter().rev().find(|volume| text(volume, "name") == name) {
                None => errors.push(Error::not_found(&at, name)),
                Some(volume) if present(volume, "emptyDir").is_none() => {
                    errors.push(Error::invalid(&at, name, "referenced volume must be of type emptyDir"));
                }
                Some(_) => {}
            }
        }
    });
}

/// `metadata.labels['x']` and the like, or one of the plain fields.
pub fn field_selector(selector: &Value, plain: &[&str], path: &Path<'_>, errors: &mut ErrorList) {
    const KNOWN: &[&str] = &[
        "metadata.annotations",
        "metadata.labels",
        "metadata.name",
        "metadata.namespace",
        "metadata.uid",
        "spec.nodeName",
        "spec.restartPolicy",
        "spec.schedulerName",
        "spec.serviceAccountName",
        "status.hostIP",
        "status.hostIPs",
        "status.phase",
        "status.podIP",
        "status.podIPs",
    ];
    for name in ["apiVersion", "fieldPath"] {
        if text(selector, name).is_empty() {
            errors.push(Error::required(&path.child(name), ""));
            return;
        }
    }
    let (version, field) = (text(selector, "apiVersion"), text(selector, "fieldPath"));
    let subscript = field.strip_suffix("']").and_then(|field| field.split_once("['"));
    let subscript = subscript.filter(|(field, _)| !field.is_empty());
    // The name that the first version of the API had.
    let plain_field = if field == "spec.host" { "spec.nodeName" } else { field };
    let why = match subscript {
        _ if version != "v1" => format!("unsupported pod version: {version}"),
        Some(("metadata.annotations", key)) => return qualified(&key.to_lowercase(), path, errors),
        Some(("metadata.labels", key)) => return qualified(key, path, errors),
        Some(_) => format!("field label does not support subscript: {field}"),
        None if plain.contains(&plain_field) => return,
        None if KNOWN.contains(&plain_field) => {
            errors.push(Error::not_supported(&path.child("fieldPath"), plain_field, plain));
            return;
        }
        None => format!("field label not supported: {field}"),
    };
    errors.push(Error::invalid(
        &path.child("fieldPath"),
        field,
        format!("error converting fieldPath: {why}"),
    ));
}

/// A container's request or limit as a value; in a volume the container must be named.
pub fn resource_selector(selector: &Value, volume: bool, path: &Path<'_>, errors: &mut ErrorList) {
    const FIELDS: &[&str] = &[
        "limits.cpu",
        "limits.ephemeral-storage",
        "limits.memory",
        "requests.cpu",
        "requests.ephemeral-storage",
        "requests.memory",
    ];
    const SIZES: &[&str] =
        &["1", "1k", "1M", "1G", "1T", "1P", "1E", "1Ki", "1Mi", "1Gi", "1Ti", "1Pi", "1Ei"];
    let resource = text(selector, "resource");
    let huge = resource.starts_with("limits.hugepages-") || resource.starts_with("requests.hugepages-");
    if volume && text(selector, "containerName").is_empty() {
        errors.push(Error::required(&path.child("containerName"), ""));
    } else if resource.is_empty() {
        errors.push(Error::required(&path.child("resource"), ""));
    } else if !FIELDS.contains(&resource) && !huge {
        errors.push(Error::not_supported(&path.child("resource"), resource, FIELDS));
    }
    let divisor = present(selector, "divisor").and_then(|divisor| Quantity::from_value(divisor).ok());
    let Some(divisor) = divisor.filter(|divisor| !divisor.is_zero()) else { return };
    let divisor = divisor.to_string();
    let sizes = |what: &str| {
        format!("only divisor's values {} are supported with the {what} resource", SIZES.join(", "))
    };
    let (known, why): (&[&str], String) = match resource {
        "limits.cpu" | "requests.cpu" => {
            (&["1m", "1"], "only divisor's values 1m and 1 are supported with the cpu resource".to_owned())
        }
        "limits.memory" | "requests.memory" => (SIZES, sizes("memory")),
        "limits.ephemeral-storage" | "requests.ephemeral-storage" => {
            (SIZES, sizes("local ephemeral storage"))
        }
        _ if huge => (SIZES, sizes("hugepages")),
        _ => return,
    };
    if !known.contains(&divisor.as_str()) {
        errors.push(Error::invalid(&path.child("divisor"), resource, why));
    }
}

pub fn env_from(list: &[Value], path: &Path<'_>, errors: &mut ErrorList) {
    for (index, source) in list.iter().enumerate() {
        let at = path.index(index);
        let prefix = text(source, "prefix");
        if !prefix.is_empty() {
            messages(names::is_relaxed_env_var_name(prefix), &prefix.into(), &at.child("prefix"), errors);
        }
        let mut sources = 0;
        for name in ["configMapRef", "secretRef"] {
            let Some(reference) = present(source, name) else { continue };
            sources += 1;
            let at = at.child(name);
            match text(reference, "name") {
                "" => errors.push(Error::required(&at.child("name"), "")),
                // Upstream lets the name end with a dash here.
                name => messages(strategy::subdomain(name, true), &name.into(), &at.child("name"), errors),
            }
        }
        // Upstream reports these two at the whole list.
        match sources {
            0 => errors.push(Error::invalid(path, "", "must specify one of: `configMapRef` or `secretRef`")),
            1 => {}
            _ => {
                errors.push(Error::invalid(path, "", "may not have more than one field specified at a time"))
            }
        }
    }
}
