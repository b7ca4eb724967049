//! Security contexts of pods and containers.

use apimachinery::field::{Error, ErrorList, Path};
use apimachinery::names;
use serde_json::Value;

use crate::check::{flag, int, items, no_backsteps, one_of_if_set, present, text};

fn id(object: &Value, field: &str, path: &Path<'_>, errors: &mut ErrorList) {
    if let Some(id) = int(object, field) {
        check_id(id, &path.child(field), errors);
    }
}

fn check_id(id: i64, path: &Path<'_>, errors: &mut ErrorList) {
    if !(0..=i64::from(i32::MAX)).contains(&id) {
        errors.push(Error::invalid(path, id, names::inclusive_range_error(0, i64::from(i32::MAX))));
    }
}

/// A container's.
pub fn container(context: &Value, path: &Path<'_>, errors: &mut ErrorList) {
    id(context, "runAsUser", path, errors);
    id(context, "runAsGroup", path, errors);
    one_of_if_set(context.get("procMount"), &["Default", "Unmasked"], &path.child("procMount"), errors);
    profiles(context, path, errors);
    let escalation = context.get("allowPrivilegeEscalation").and_then(Value::as_bool);
    if escalation == Some(false) {
        if flag(context, "privileged") {
            let why = "cannot set `allowPrivilegeEscalation` to false and `privileged` to true";
            errors.push(Error::invalid(path, context.clone(), why));
        }
        let added = present(context, "capabilities").map(|set| items(set, "add")).unwrap_or_default();
        if added.iter().any(|capability| capability == "CAP_SYS_ADMIN") {
            let why = "cannot set `allowPrivilegeEscalation` to false and `capabilities.Add` CAP_SYS_ADMIN";
            errors.push(Error::invalid(path, context.clone(), why));
        }
    }
}

fn profiles(context: &Value, path: &Path<'_>, errors: &mut ErrorList) {
    for field in ["seccompProfile", "appArmorProfile"] {
        let Some(profile) = present(context, field) else { continue };
        let path = path.child(field);
        let local = present(profile, "localhostProfile").and_then(Value::as_str);
        match text(profile, "type") {
            "Localhost" => match local {
                None | Some("") => {
                    errors.push(Error::required(
                        &path.child("localhostProfile"),
                        "must be set when type is Localhost",
                    ));
                }
                Some(file) if field == "seccompProfile" => {
                    crate::check::descending(file, &path.child("localhostProfile"), errors);
                }
                Some(_) => {}
            },
            "RuntimeDefault" | "Unconfined" => {
                if let Some(file) = local {
                    let why = "can only be set when type is Localhost";
                    errors.push(Error::invalid(&path.child("localhostProfile"), file, why));
                }
            }
            "" => errors
                .push(Error::required(&path.child("type"), "type is required when seccompProfile is set")),
            other => {
                let supported = ["Localhost", "RuntimeDefault", "Unconfined"];
                errors.push(Error::not_supported(&path.child("type"), other, supported));
            }
        }
    }
}

/// A pod's. `spec` has the host namespaces that it must go with.
pub fn pod(context: &Value, path: &Path<'_>, errors: &mut ErrorList) {
    for field in ["fsGroup", "runAsUser", "runAsGroup"] {
        id(context, field, path, errors);
    }
    for (index, group) in items(context, "supplementalGroups").iter().enumerate() {
        let groups = path.child("supplementalGroups");
        check_id(group.as_i64().unwrap_or(0), &groups.index(index), errors);
    }
    let mut seen = std::collections::BTreeSet::new();
    for (index, sysctl) in items(context, "sysctls").iter().enumerate() {
        let list = path.child("sysctls");
        let at = list.index(index);
        let name = text(sysctl, "name");
        if name.is_empty() {
            errors.push(Error::required(&at.child("name"), ""));
        } else if !is_sysctl(name) {
            let why = "must have at most 253 characters and match regex ^([a-z0-9]([-_a-z0-9]*[a-z0-9])?[\\./])*[a-z0-9]([-_a-z0-9]*[a-z0-9])?$";
            errors.push(Error::invalid(&at.child("name"), name, why));
        } else if !seen.insert(name.replace('/', ".")) {
            errors.push(Error::duplicate(&at.child("name"), name));
        }
    }
    let policy = path.child("fsGroupChangePolicy");
    one_of_if_set(context.get("fsGroupChangePolicy"), &["Always", "OnRootMismatch"], &policy, errors);
    let policy = path.child("supplementalGroupsPolicy");
    one_of_if_set(context.get("supplementalGroupsPolicy"), &["Merge", "Strict"], &policy, errors);
    profiles(context, path, errors);
}

fn is_sysctl(name: &str) -> bool {
    let segment = |segment: &str| {
        let ends =
            |byte: Option<u8>| byte.is_some_and(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit());
        ends(segment.bytes().next())
            && ends(segment.bytes().next_back())
            && segment.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-' || b == b'_')
    };
    name.len() <= 253 && name.split(['.', '/']).all(segment)
}

/// Host namespaces do not go with user namespaces of their own.
pub fn host_users(spec: &Value, path: &Path<'_>, errors: &mut ErrorList) {
    if spec.get("hostUsers").and_then(Value::as_bool) != Some(false) {
        return;
    }
    for (field, name) in [("hostNetwork", "hostNetwork"), ("hostPID", "HostPID"), ("hostIPC", "HostIPC")] {
        if flag(spec, field) {
            errors.push(Error::forbidden(&path.child(name), "when `hostUsers` is false"));
        }
    }
}

/// A path on the node.
pub fn host_path(source: &Value, path: &Path<'_>, errors: &mut ErrorList) {
    const TYPES: &[&str] = &[
        "",
        "BlockDevice",
        "CharDevice",
        "Directory",
        "DirectoryOrCreate",
        "File",
        "FileOrCreate",
        "Socket",
    ];
    let target = text(source, "path");
    if target.is_empty() {
        errors.push(Error::required(&path.child("path"), ""));
        return;
    }
    no_backsteps(target, &path.child("path"), errors);
    one_of_if_set(source.get("type"), TYPES, &path.child("type"), errors);
}
