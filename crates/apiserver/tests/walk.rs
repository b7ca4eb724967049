//! Authorization is closed by default: every resource, subresource and verb, asked by an outsider, by somebody
//! without a role, as each role of the beginning, and as a node. What each may do stands in `walk.txt`; with
//! `BLESS=1` the test writes it.

use std::fmt::Write as _;

use apiserver::authorization::Attributes;
use apiserver::request::UserInfo;
use apiserver::server::Peer;
use http::Request;
use serde_json::json;

use crate::access::cluster;
use crate::world::World;

const TABLE: &str = include_str!("walk.txt");
/// A letter for each verb; `D` is deletecollection.
const VERBS: [(&str, char); 8] = [
    ("get", 'g'),
    ("list", 'l'),
    ("watch", 'w'),
    ("create", 'c'),
    ("update", 'u'),
    ("patch", 'p'),
    ("delete", 'd'),
    ("deletecollection", 'D'),
];

/// Who asks: the name in the table, and the user.
fn identities() -> Vec<(&'static str, UserInfo)> {
    let user =
        |name: &str, groups: &[&str]| UserInfo::new(name, &[groups, &["system:authenticated"]].concat());
    let account = |name: &str| {
        let groups = ["system:serviceaccounts", "system:serviceaccounts:kube-system"];
        user(&format!("system:serviceaccount:kube-system:{name}"), &groups)
    };
    vec![
        ("outsider", UserInfo::new("system:anonymous", &["system:unauthenticated"])),
        ("user", user("jane", &[])),
        ("view", user("view", &[])),
        ("edit", user("edit", &[])),
        ("admin", user("admin", &[])),
        ("cluster-admin", user("cluster-admin", &[])),
        ("node", user("system:node:n", &["system:nodes"])),
        ("node-proxier", user("system:kube-proxy", &[])),
        ("scheduler", user("system:kube-scheduler", &[])),
        ("controller-manager", user("system:kube-controller-manager", &[])),
        ("monitoring", user("m", &["system:monitoring"])),
        ("dns", account("kube-dns")),
        ("namespace-controller", account("namespace-controller")),
    ]
}

/// `view`, `edit` and `admin` have their roles in the namespace `default`, `cluster-admin` everywhere.
async fn bound() -> World {
    let world = cluster(true).await;
    let rbac = "/apis/rbac.authorization.k8s.io/v1";
    for role in ["view", "edit", "admin", "cluster-admin"] {
        let (kind, path) = match role {
            "cluster-admin" => ("ClusterRoleBinding", format!("{rbac}/clusterrolebindings")),
            _ => ("RoleBinding", format!("{rbac}/namespaces/default/rolebindings")),
        };
        let binding = json!({"kind": kind, "metadata": {"name": format!("walk-{role}")},
            "subjects": [{"kind": "User", "name": role, "apiGroup": "rbac.authorization.k8s.io"}],
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": role}});
        world.post(&path, binding).await.ok();
    }
    world
}

/// Which verbs of a resource a user may use, as letters; `-`: none.
fn letters(world: &World, user: &UserInfo, a: &Attributes<'_>) -> String {
    let mut out = String::new();
    for (verb, letter) in VERBS {
        let named =
            !matches!(verb, "list" | "watch" | "create" | "deletecollection") || !a.subresource.is_empty();
        let asked = Attributes { verb, name: if named { "x" } else { "" }, ..*a };
        if world.server.authorizer.decide(user, &asked).is_allowed() {
            out.push(letter);
        }
    }
    if out.is_empty() { "-".into() } else { out }
}

#[tokio::test]
async fn every_resource_and_verb() {
    let world = bound().await;
    let identities = identities();
    let mut table = String::from(
        "# Made by tests/walk.rs. g get, l list, w watch, c create, u update, p patch, d delete, D deletecollection.\n",
    );
    for resource in api::resources().iter().filter(|r| r.default_on) {
        let subresources = resource.subresources.iter().map(|sub| &*sub.name);
        for subresource in [""].into_iter().chain(subresources) {
            let attributes = Attributes {
                is_resource: true,
                group: &resource.group,
                version: &resource.version,
                resource: &resource.plural,
                subresource,
                namespace: if resource.namespaced { "default" } else { "" },
                ..Attributes::default()
            };
            let slash = if subresource.is_empty() { "" } else { "/" };
            let _ = write!(table, "{}/{}{slash}{subresource}:", resource.api_version(), resource.plural);
            for (name, user) in &identities {
                let letters = letters(&world, user, &attributes);
                if letters != "-" {
                    let _ = write!(table, " {name}={letters}");
                }
            }
            table.push('\n');
        }
    }
    for path in [
        "/",
        "/api",
        "/apis/apps/v1",
        "/healthz",
        "/livez/ping",
        "/metrics",
        "/openapi/v3",
        "/openid/v1/jwks",
        "/readyz",
        "/version",
        "/debug/pprof",
        "/logs",
    ] {
        let _ = write!(table, "{path}:");
        for (name, user) in &identities {
            let asked = Attributes { verb: "get", path, ..Attributes::default() };
            if world.server.authorizer.decide(user, &asked).is_allowed() {
                let _ = write!(table, " {name}");
            }
        }
        table.push('\n');
    }
    if std::env::var_os("BLESS").is_some() {
        std::fs::write(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/walk.txt"), &table).unwrap();
        return;
    }
    for (got, expect) in table.lines().zip(TABLE.lines()) {
        assert_eq!(got, expect);
    }
    assert_eq!(table.lines().count(), TABLE.lines().count());
}

/// The same from outside: whatever the path, a stranger is told that it is forbidden, before anything else.
#[tokio::test]
async fn strangers_see_nothing() {
    let world = cluster(true).await;
    for resource in api::resources().iter().filter(|r| r.default_on) {
        let prefix = match &*resource.group {
            "" => format!("/api/{}", resource.version),
            group => format!("/apis/{group}/{}", resource.version),
        };
        let scope = if resource.namespaced { "/namespaces/default" } else { "" };
        let collection = format!("{prefix}{scope}/{}", resource.plural);
        let subs = resource.subresources.iter().map(|sub| format!("{collection}/x/{}", sub.name));
        let paths = [collection.clone(), format!("{collection}/x")].into_iter().chain(subs);
        for path in paths {
            for method in ["GET", "POST", "PUT", "PATCH", "DELETE"] {
                let request =
                    Request::builder().method(method).uri(&path).body(apiserver::server::body("{}"));
                let response = world.server.handle(Peer::Plain, request.unwrap()).await;
                assert_eq!(response.status(), 403, "{method} {path}");
            }
        }
    }
}
