//! `rbac.authorization.k8s.io`

use serde_json::Value;

use super::cell::{created, list, name, string};
use super::{AGE, Column, Columns, Kinds, NAME};

const BINDING: Columns = Columns::new(
    &[
        NAME,
        Column::text("Role", "The role that is granted."),
        AGE,
        Column::wide("Users", "Users that it is granted to."),
        Column::wide("Groups", "Groups that it is granted to."),
        Column::wide("ServiceAccounts", "Service accounts that it is granted to."),
    ],
    |o, now| {
        let role = format!("{}/{}", string(&o["roleRef"]["kind"]), string(&o["roleRef"]["name"]));
        let of = |kind: &str, text: fn(&Value) -> String| -> Value {
            let subjects = list(&o["subjects"]).iter().filter(|s| s["kind"] == kind);
            subjects.map(text).collect::<Vec<_>>().join(", ").into()
        };
        let plain = |s: &Value| string(&s["name"]).to_string();
        let account = |s: &Value| format!("{}/{}", string(&s["namespace"]), string(&s["name"]));
        vec![
            name(o),
            role.into(),
            created(o, now),
            of("User", plain),
            of("Group", plain),
            of("ServiceAccount", account),
        ]
    },
);

pub(super) static KINDS: Kinds = &[("RoleBinding", BINDING), ("ClusterRoleBinding", BINDING)];
