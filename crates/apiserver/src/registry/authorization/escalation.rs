//! Writes of roles and bindings: nobody grants what they do not have (upstream `registry/rbac/*/policybased`).

use apimachinery::status::Status;
use serde_json::Value;

use crate::{
    authorization::{
        Attributes,
        rbac::{RoleRef, Rule, escalation},
    },
    registry::{core::service::Reservation, generic::Scope, meta},
};

fn attributes<'a>(scope: &'a Scope<'_>) -> Attributes<'a> {
    Attributes {
        is_resource: true,
        group: &scope.resource.group,
        version: "*",
        resource: &scope.resource.plural,
        namespace: scope.namespace,
        name: scope.name,
        ..Attributes::default()
    }
}

fn forbidden(scope: &Scope<'_>, object: &Value, why: &str) -> Status {
    Status::forbidden(&scope.resource.group, &scope.resource.plural, meta::name(object), why)
}

/// Owner references and finalizers are the garbage collector's business.
pub fn only_owners_change(new: &Value, old: &Value) -> bool {
    let rest = |object: &Value| {
        let mut object = object.clone();
        for field in ["ownerReferences", "finalizers", "managedFields"] {
            meta::set(&mut object, field, None);
        }
        object
    };
    rest(new) == rest(old)
}

/// Before a Role or ClusterRole is written.
pub fn role(
    scope: &Scope<'_>,
    new: &mut Value,
    old: Option<&Value>,
    _dry_run: bool,
) -> Result<Option<Reservation>, Status> {
    let same = |key: &str| {
        old.is_some_and(|old| old.get(key).unwrap_or(&Value::Null) == new.get(key).unwrap_or(&Value::Null))
    };
    if (same("rules") && same("aggregationRule")) || old.is_some_and(|old| only_owners_change(new, old)) {
        return Ok(None);
    }
    let (authorizer, attributes) = (&*scope.server.authorizer, attributes(scope));
    let check = |rules: &[Rule]| escalation::check_role_write(authorizer, scope.user, &attributes, rules);
    check(&Rule::list(new)).map_err(|why| forbidden(scope, new, &why))?;
    if new.get("aggregationRule").is_some_and(|rule| !rule.is_null()) {
        // It may gather any right there is.
        let all = [Rule::resources(&["*"], &["*"], &["*"], &[]), Rule::urls(&["*"], &["*"])];
        let why = "must have cluster-admin privileges to use the aggregationRule";
        check(&all).map_err(|_| forbidden(scope, new, why))?;
    }
    Ok(None)
}

/// Before a RoleBinding or ClusterRoleBinding is written.
pub fn binding(
    scope: &Scope<'_>,
    new: &mut Value,
    old: Option<&Value>,
    _dry_run: bool,
) -> Result<Option<Reservation>, Status> {
    if old.is_some_and(|old| only_owners_change(new, old)) {
        return Ok(None);
    }
    let text = |key: &str| new["roleRef"][key].as_str().unwrap_or_default().to_owned();
    let role = RoleRef { kind: text("kind"), name: text("name") };
    let (authorizer, attributes) = (&*scope.server.authorizer, attributes(scope));
    match escalation::check_binding_write(authorizer, scope.user, &attributes, &role) {
        Ok(()) => Ok(None),
        Err(escalation::Refusal::NoSuchRole) => {
            let plural = if role.kind == "ClusterRole" { "clusterroles" } else { "roles" };
            Err(Status::not_found(&scope.resource.group, plural, &role.name))
        }
        Err(escalation::Refusal::Escalation(why)) => Err(forbidden(scope, new, &why)),
    }
}
