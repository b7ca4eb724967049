//! Roles and bindings.

use apimachinery::field::{Error, ErrorList, Path};
use apimachinery::names;
use serde_json::Value;

use crate::check::{items, messages, present, text};
use crate::strategy::{GENERIC, Strategy, path_segment};

const GROUP: &str = "rbac.authorization.k8s.io";

const RBAC: Strategy = Strategy { name: path_segment, allow_create_on_update: true, ..GENERIC };

pub fn strategy(kind: &str) -> Option<&'static Strategy> {
    const ROLE: Strategy =
        Strategy { validate: role, validate_update: |new, _, _, errors| role(new, errors), ..RBAC };
    const CLUSTER_ROLE: Strategy = Strategy {
        validate: cluster_role,
        validate_update: |new, _, _, errors| cluster_role(new, errors),
        ..RBAC
    };
    const ROLE_BINDING: Strategy = Strategy {
        validate: |object, errors| binding(object, true, errors),
        validate_update: |new, old, _, errors| binding_update(new, old, true, errors),
        ..RBAC
    };
    const CLUSTER_ROLE_BINDING: Strategy = Strategy {
        validate: |object, errors| binding(object, false, errors),
        validate_update: |new, old, _, errors| binding_update(new, old, false, errors),
        ..RBAC
    };
    Some(match kind {
        "Role" => &ROLE,
        "ClusterRole" => &CLUSTER_ROLE,
        "RoleBinding" => &ROLE_BINDING,
        _ => &CLUSTER_ROLE_BINDING,
    })
}

fn role(role: &Value, errors: &mut ErrorList) {
    rules(role, true, errors);
}

fn cluster_role(role: &Value, errors: &mut ErrorList) {
    rules(role, false, errors);
    if let Some(aggregation) = present(role, "aggregationRule")
        && items(aggregation, "clusterRoleSelectors").is_empty()
    {
        let path = Path::new("aggregationRule");
        let why = "at least one clusterRoleSelector required if aggregationRule is non-nil";
        errors.push(Error::required(&path.child("clusterRoleSelectors"), why));
    }
}

fn rules(role: &Value, namespaced: bool, errors: &mut ErrorList) {
    let list = Path::new("rules");
    for (index, rule) in items(role, "rules").iter().enumerate() {
        let at = list.index(index);
        let has = |field: &str| !items(rule, field).is_empty();
        if !has("verbs") {
            errors.push(Error::required(&at.child("verbs"), "verbs must contain at least one value"));
        }
        if has("nonResourceURLs") {
            let urls = rule["nonResourceURLs"].clone();
            let path = at.child("nonResourceURLs");
            if namespaced {
                let why = "namespaced rules cannot apply to non-resource URLs";
                errors.push(Error::invalid(&path, urls.clone(), why));
            }
            if has("apiGroups") || has("resources") || has("resourceNames") {
                let why = "rules cannot apply to both regular resources and non-resource URLs";
                errors.push(Error::invalid(&path, urls, why));
            }
            continue;
        }
        if !has("apiGroups") {
            errors.push(Error::required(
                &at.child("apiGroups"),
                "resource rules must supply at least one api group",
            ));
        }
        if !has("resources") {
            errors.push(Error::required(
                &at.child("resources"),
                "resource rules must supply at least one resource",
            ));
        }
    }
}

fn binding(binding: &Value, namespaced: bool, errors: &mut ErrorList) {
    let path = Path::new("roleRef");
    let role = &binding["roleRef"];
    if text(role, "apiGroup") != GROUP {
        errors.push(Error::not_supported(&path.child("apiGroup"), text(role, "apiGroup"), [GROUP]));
    }
    let kinds: &[&str] = if namespaced { &["Role", "ClusterRole"] } else { &["ClusterRole"] };
    if !kinds.contains(&text(role, "kind")) {
        errors.push(Error::not_supported(&path.child("kind"), text(role, "kind"), kinds));
    }
    match text(role, "name") {
        "" => errors.push(Error::required(&path.child("name"), "")),
        name => messages(names::is_path_segment_name(name), &name.into(), &path.child("name"), errors),
    }
    let list = Path::new("subjects");
    for (index, subject) in items(binding, "subjects").iter().enumerate() {
        self::subject(subject, namespaced, &list.index(index), errors);
    }
}

fn subject(subject: &Value, namespaced: bool, path: &Path<'_>, errors: &mut ErrorList) {
    if text(subject, "name").is_empty() {
        errors.push(Error::required(&path.child("name"), ""));
    }
    let group = text(subject, "apiGroup");
    match text(subject, "kind") {
        "ServiceAccount" => {
            let name = text(subject, "name");
            if !name.is_empty() {
                messages(names::is_dns1123_subdomain(name), &name.into(), &path.child("name"), errors);
            }
            if !group.is_empty() {
                errors.push(Error::not_supported(&path.child("apiGroup"), group, [""]));
            }
            if !namespaced && text(subject, "namespace").is_empty() {
                errors.push(Error::required(&path.child("namespace"), ""));
            }
        }
        "User" | "Group" => {
            if group != GROUP {
                errors.push(Error::not_supported(&path.child("apiGroup"), group, [GROUP]));
            }
        }
        other => {
            errors.push(Error::not_supported(
                &path.child("kind"),
                other,
                ["ServiceAccount", "User", "Group"],
            ));
        }
    }
}

fn binding_update(new: &Value, old: &Value, namespaced: bool, errors: &mut ErrorList) {
    binding(new, namespaced, errors);
    if new["roleRef"] != old["roleRef"] {
        errors.push(Error::invalid(&Path::new("roleRef"), new["roleRef"].clone(), "cannot change roleRef"));
    }
}
