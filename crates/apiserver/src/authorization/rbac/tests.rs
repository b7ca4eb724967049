//! Decisions, positive and negative, after upstream's `rbac_test.go`, `rule_test.go` and
//! `policy_comparator_test.go`.

use serde_json::json;

use super::*;
use crate::authorization::Reason;

fn state() -> Rbac {
    let rbac = Rbac::default();
    let role = |rules| json!({"rules": rules});
    let binding = |ns: &str, name: &str, kind: &str, role: &str, subjects| {
        json!({
            "metadata": {"name": name, "namespace": ns},
            "roleRef": {"apiGroup": GROUP, "kind": kind, "name": role},
            "subjects": subjects,
        })
    };
    for (ns, name, rules) in [
        ("", "admin", json!([{"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"]}])),
        ("", "scaler", json!([{"verbs": ["update", "use"], "apiGroups": ["*"], "resources": ["*/scale"]}])),
        ("", "urls", json!([{"verbs": ["get"], "nonResourceURLs": ["/healthz", "/apis/*"]}])),
        (
            "n",
            "pods",
            json!([
                {"verbs": ["get", "list"], "apiGroups": [""], "resources": ["pods", "pods/log"]},
                {"verbs": ["get", "patch"], "apiGroups": [""], "resources": ["secrets"], "resourceNames": ["mine"]},
            ]),
        ),
    ] {
        let resource = if ns.is_empty() { "clusterroles" } else { "roles" };
        rbac.observe(resource, ns, name, Some(&role(rules)));
    }
    for (ns, name, kind, target, subjects) in [
        ("", "root", "ClusterRole", "admin", json!([{"kind": "User", "name": "root"}])),
        (
            "",
            "scalers",
            "ClusterRole",
            "scaler",
            json!([
            {"kind": "ServiceAccount", "name": "sa", "namespace": "n"}, {"kind": "Group", "name": "scale"}]),
        ),
        ("", "urls", "ClusterRole", "urls", json!([{"kind": "Group", "name": "everybody"}])),
        (
            "n",
            "readers",
            "Role",
            "pods",
            json!([{"kind": "User", "name": "eve"}, {"kind": "ServiceAccount", "name": "here"}]),
        ),
        ("m", "admins", "ClusterRole", "admin", json!([{"kind": "Group", "name": "m-admins"}])),
        ("m", "broken", "Role", "gone", json!([{"kind": "User", "name": "eve"}])),
    ] {
        let resource = if ns.is_empty() { "clusterrolebindings" } else { "rolebindings" };
        rbac.observe(resource, ns, name, Some(&binding(ns, name, kind, target, subjects)));
    }
    rbac
}

/// `"get [group] resource[/sub] [@namespace] [#name]"` or `"get /path"`.
fn ask(rbac: &Rbac, user: &str, groups: &[&str], question: &str) -> Decision {
    let mut words = question.split(' ');
    let verb = words.next().unwrap();
    let mut a = Attributes { verb, ..Attributes::default() };
    for word in words {
        if word.starts_with('/') {
            a.path = word;
        } else if let Some(ns) = word.strip_prefix('@') {
            a.namespace = ns;
        } else if let Some(name) = word.strip_prefix('#') {
            a.name = name;
        } else {
            a.is_resource = true;
            let (resource, group) = word.split_once('.').unwrap_or((word, ""));
            a.group = group;
            (a.resource, a.subresource) = resource.split_once('/').unwrap_or((resource, ""));
        }
    }
    rbac.authorize(&UserInfo::new(user, groups), &a)
}

#[test]
fn decisions() {
    let rbac = state();
    let table: &[(&str, &[&str], &str, bool)] = &[
        ("root", &[], "delete deployments.apps @x #y", true),
        ("root", &[], "frobnicate anything/thing.any", true),
        ("root", &[], "get /healthz", false),
        ("eve", &[], "get pods @n #p", true),
        ("eve", &[], "list pods @n", true),
        ("eve", &[], "get pods/log @n #p", true),
        ("eve", &[], "get pods/exec @n #p", false),
        ("eve", &[], "watch pods @n", false),
        ("eve", &[], "list pods", false),
        ("eve", &[], "list pods @m", false),
        ("eve", &[], "get pods.metrics.k8s.io @n", false),
        ("eve", &[], "get secrets @n #mine", true),
        ("eve", &[], "get secrets @n #other", false),
        ("eve", &[], "list secrets @n", false),
        ("eve", &[], "deletecollection pods @n", false),
        ("Eve", &[], "list pods @n", false),
        ("system:serviceaccount:n:here", &[], "list pods @n", true),
        ("system:serviceaccount:m:here", &[], "list pods @n", false),
        ("here", &[], "list pods @n", false),
        ("system:serviceaccount:n:sa", &[], "update deployments/scale.apps @q #d", true),
        ("system:serviceaccount:n:sa", &[], "update deployments.apps @q #d", false),
        ("system:serviceaccount:n:sa", &[], "use deployments/scale.apps @q #d", true),
        ("system:serviceaccount:n:sa", &[], "abuse deployments/scale.apps @q #d", false),
        ("x", &["scale"], "update widgets/scale.example.com", true),
        ("x", &["scale"], "update widgets/status.example.com", false),
        ("x", &["scale"], "update widgets/upscale.example.com", false),
        ("x", &["m-admins"], "delete pods @m #p", true),
        ("x", &["m-admins"], "delete pods @n #p", false),
        ("x", &["m-admins"], "delete pods #p", false),
        ("x", &["everybody"], "get /healthz", true),
        ("x", &["everybody"], "get /healthz/etcd", false),
        ("x", &["everybody"], "get /apis/apps", true),
        ("x", &["everybody"], "get /apis", false),
        ("x", &["everybody"], "post /apis/apps", false),
        ("", &[], "get pods @n", false),
    ];
    for (user, groups, question, allowed) in table {
        let decision = ask(&rbac, user, groups, question);
        assert_eq!(decision.is_allowed(), *allowed, "{user} {groups:?} {question}: {decision:?}");
    }
}

#[test]
fn reasons() {
    let rbac = state();
    let table: &[(&str, &[&str], &str, &str)] = &[
        (
            "root",
            &[],
            "get pods",
            r#"RBAC: allowed by ClusterRoleBinding "root" of ClusterRole "admin" to User "root""#,
        ),
        (
            "eve",
            &[],
            "get pods @n",
            r#"RBAC: allowed by RoleBinding "readers/n" of Role "pods" to User "eve""#,
        ),
        (
            "system:serviceaccount:n:sa",
            &[],
            "update a/scale",
            r#"RBAC: allowed by ClusterRoleBinding "scalers" of ClusterRole "scaler" to ServiceAccount "sa/n""#,
        ),
        ("eve", &[], "get pods @m", r#"RBAC: role.rbac.authorization.k8s.io "gone" not found"#),
        ("nobody", &[], "get pods", ""),
    ];
    for (user, groups, question, reason) in table {
        assert_eq!(ask(&rbac, user, groups, question).reason().to_string(), *reason, "{user} {question}");
    }
    assert!(matches!(ask(&rbac, "nobody", &[], "get pods"), Decision::NoOpinion(Reason::None)));
}

#[test]
fn objects_that_change_or_go_count_at_once() {
    let rbac = state();
    let allowed = |rbac: &Rbac| ask(rbac, "eve", &[], "get pods @n").is_allowed();
    assert!(allowed(&rbac));
    rbac.observe("roles", "n", "pods", Some(&json!({"rules": null})));
    assert!(!allowed(&rbac));
    rbac.observe(
        "roles",
        "n",
        "pods",
        Some(&json!({"rules": [
        {"verbs": ["get"], "apiGroups": [""], "resources": ["pods"]}]})),
    );
    assert!(allowed(&rbac));
    rbac.observe(
        "rolebindings",
        "n",
        "readers",
        Some(&json!({
        "metadata": {"name": "readers", "namespace": "n"},
        "roleRef": {"kind": "Role", "name": "pods"},
        "subjects": [{"kind": "User", "name": "adam"}]})),
    );
    assert!(!allowed(&rbac) && ask(&rbac, "adam", &[], "get pods @n").is_allowed());
    rbac.observe("rolebindings", "n", "readers", None);
    assert!(!ask(&rbac, "adam", &[], "get pods @n").is_allowed());
    rbac.observe("clusterrolebindings", "", "root", None);
    assert!(!ask(&rbac, "root", &[], "get pods").is_allowed());
}

#[test]
fn covering() {
    let r = Rule::resources;
    let table = [
        (vec![r(&["*"], &["*"], &["*"], &[])], vec![r(&["get"], &["a"], &["b/c"], &["d"])], 0),
        (vec![r(&["get"], &[""], &["pods"], &[])], vec![r(&["get", "list"], &[""], &["pods"], &[])], 1),
        (vec![r(&["get"], &[""], &["pods"], &["x"])], vec![r(&["get"], &[""], &["pods"], &[])], 1),
        (vec![r(&["get"], &[""], &["pods"], &[])], vec![r(&["get"], &[""], &["pods"], &["x"])], 0),
        (vec![r(&["get"], &[""], &["pods"], &["x"])], vec![r(&["get"], &[""], &["pods"], &["x", "y"])], 1),
        (vec![r(&["get"], &[""], &["*/scale"], &[])], vec![r(&["get"], &[""], &["a/scale", "a"], &[])], 1),
        (
            vec![r(&["get"], &[""], &["pods"], &[]), r(&["list"], &[""], &["pods"], &[])],
            vec![r(&["get", "list"], &[""], &["pods"], &[])],
            0,
        ),
        (vec![Rule::urls(&["get"], &["/apis/*"])], vec![Rule::urls(&["get"], &["/apis/x", "/api"])], 1),
        (vec![Rule::urls(&["*"], &["*"])], vec![Rule::urls(&["get"], &["/apis/*", "/x"])], 0),
        (vec![], vec![], 0),
        (vec![], vec![r(&["get"], &[""], &["*"], &[])], 1),
    ];
    for (held, wanted, missing) in table {
        assert_eq!(escalation::missing(&held, &wanted).len(), missing, "{held:?} {wanted:?}");
    }
}

#[test]
fn escalation_text() {
    let rbac = state();
    let wanted = [
        Rule::resources(&["get", "list", "watch"], &["", "apps"], &["pods"], &[]),
        Rule::urls(&["get"], &["/x"]),
    ];
    let error = escalation::confirm_no_escalation(&rbac, &UserInfo::new("eve", &["g", "h"]), "n", &wanted);
    assert_eq!(
        error.unwrap_err(),
        "user \"eve\" (groups=[\"g\" \"h\"]) is attempting to grant RBAC permissions not currently held:\n\
         {APIGroups:[\"\"], Resources:[\"pods\"], Verbs:[\"watch\"]}\n\
         {APIGroups:[\"apps\"], Resources:[\"pods\"], Verbs:[\"get\" \"list\" \"watch\"]}\n\
         {NonResourceURLs:[\"/x\"], Verbs:[\"get\"]}"
    );
    let root = UserInfo::new("root", &[]);
    assert!(escalation::confirm_no_escalation(&rbac, &root, "n", &wanted[..1]).is_ok());
}
