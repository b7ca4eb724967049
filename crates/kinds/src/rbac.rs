//! Roles and bindings.

use apimachinery::field::{Error, ErrorList, Path};
use apimachinery::labels::Selector;
use apimachinery::names;
use serde_json::Value;

use crate::check::{items, messages, present, text};
use crate::meta;
use crate::strategy::{GENERIC, Strategy, path_segment};

const GROUP: &str = "rbac.authorization.k8s.io";

const RBAC: Strategy = Strategy { name: path_segment, allow_create_on_update: true, ..GENERIC };

pub fn strategy(kind: &str) -> Option<&'static Strategy> {
    const ROLE: Strategy =
        Strategy { validate: role, validate_update: |new, _, _, errors| role(new, errors), ..RBAC };
    const CLUSTER_ROLE: Strategy = Strategy {
        validate: |object, errors| cluster_role(object, false, errors),
        validate_update: |new, old, _, errors| {
            let selectors = items(&old["aggregationRule"], "clusterRoleSelectors");
            cluster_role(new, !selectors.iter().all(meta::selector_is_good), errors);
        },
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

fn cluster_role(role: &Value, lenient_selectors: bool, errors: &mut ErrorList) {
    rules(role, false, errors);
    let Some(aggregation) = present(role, "aggregationRule") else { return };
    let path = Path::new("aggregationRule.clusterRoleSelectors");
    let selectors = items(aggregation, "clusterRoleSelectors");
    if selectors.is_empty() {
        let why = "at least one clusterRoleSelector required if aggregationRule is non-nil";
        errors.push(Error::required(&path, why));
    }
    for (index, selector) in selectors.iter().enumerate() {
        let at = path.index(index);
        meta::selector(selector, lenient_selectors, &at, errors);
        if Selector::of_value(selector).is_err() {
            errors.push(Error::invalid(&at, Value::Null, "invalid label selector."));
        }
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

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::rows::Subject;

    fn subject(kind: &'static str, good: Value) -> Subject {
        Subject { group: GROUP, version: "v1", kind, good }
    }

    /// `TestValidateRole`, `TestValidateClusterRole`
    #[test]
    fn roles() {
        let rule = json!({"verbs": ["get"], "apiGroups": ["g"], "resources": ["r"]});
        let good = || json!({"metadata": {"name": "system:a b", "namespace": "n"}, "rules": [rule]});
        let (role, cluster_role) = (subject("Role", good()), subject("ClusterRole", good()));
        let rules = |rule: Value, in_role: &[&str], in_cluster_role: &[&str]| {
            role.created(json!({"rules": [rule]}), in_role);
            cluster_role.created(json!({"rules": [rule]}), in_cluster_role);
        };
        rules(rule.clone(), &[], &[]);
        let urls = "rules[0].nonResourceURLs: Invalid";
        rules(json!({"verbs": ["get"], "nonResourceURLs": ["/*"]}), &[urls], &[]);
        rules(json!({"verbs": ["get"], "nonResourceURLs": ["/*"], "resources": ["r"]}), &[urls], &[urls]);
        let missing = ["rules[0].apiGroups: Required", "rules[0].resources: Required"];
        rules(json!({"verbs": ["get"]}), &missing, &missing);
        rules(
            json!({"verbs": [], "apiGroups": ["g"], "resources": ["r"]}),
            &["rules[0].verbs: Required"],
            &["rules[0].verbs: Required"],
        );
        let aggregation = |selectors: Value| json!({"aggregationRule": {"clusterRoleSelectors": selectors}});
        cluster_role.created(aggregation(json!([{"matchLabels": {"a": "b"}}])), &[]);
        cluster_role.created(aggregation(json!([])), &["aggregationRule.clusterRoleSelectors: Required"]);
        let odd =
            aggregation(json!([{"matchExpressions": [{"key": "a", "operator": "In", "values": ["-x"]}]}]));
        let value = "aggregationRule.clusterRoleSelectors[0].matchExpressions[0].values[0]: Invalid";
        let selector = "aggregationRule.clusterRoleSelectors[0]: Invalid";
        cluster_role.created(odd.clone(), &[value, selector]);
        cluster_role.updated(odd, json!({"rules": []}), "", &[selector]);
    }

    /// `TestValidateRoleBinding`, `TestValidateClusterRoleBinding` and their updates
    #[test]
    fn bindings() {
        let good = |kind: &str| {
            json!({"metadata": {"name": "b", "namespace": "n"}, "roleRef": {"kind": kind, "name": "r"},
            "subjects": [{"kind": "User", "name": "u"}, {"kind": "Group", "name": "g"}, {"kind": "ServiceAccount", "name": "s", "namespace": "n"}]})
        };
        for (kind, namespaced) in [("RoleBinding", true), ("ClusterRoleBinding", false)] {
            let binding = subject(kind, good("ClusterRole"));
            binding.created(json!({}), &[]);
            binding.created(
                json!({"roleRef": {"kind": "Role"}}),
                if namespaced { &[] } else { &["roleRef.kind: NotSupported"] },
            );
            binding.created(
                json!({"roleRef": {"apiGroup": "other", "kind": "Other", "name": ""}}),
                &["roleRef.apiGroup: NotSupported", "roleRef.kind: NotSupported", "roleRef.name: Required"],
            );
            binding.created(json!({"roleRef": {"name": "a/b"}}), &["roleRef.name: Invalid"]);
            let one = |one: Value, expect: &[&str]| binding.created(json!({"subjects": [one]}), expect);
            one(json!({"kind": "User"}), &["subjects[0].name: Required"]);
            one(
                json!({"kind": "User", "name": "u", "apiGroup": "x"}),
                &["subjects[0].apiGroup: NotSupported"],
            );
            one(json!({"kind": "Other", "name": "u"}), &["subjects[0].kind: NotSupported"]);
            one(
                json!({"kind": "ServiceAccount", "name": "A B", "namespace": "n", "apiGroup": "x"}),
                &["subjects[0].name: Invalid", "subjects[0].apiGroup: NotSupported"],
            );
            one(
                json!({"kind": "ServiceAccount", "name": "s"}),
                if namespaced { &[] } else { &["subjects[0].namespace: Required"] },
            );
            binding.updated(json!({}), json!({"subjects": []}), "", &[]);
            binding.updated(json!({}), json!({"roleRef": {"name": "other"}}), "", &["roleRef: Invalid"]);
        }
    }
}
