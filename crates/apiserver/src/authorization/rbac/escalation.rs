//! Nobody hands out rights that they do not have (upstream `registry/rbac/escalation_check.go`,
//! `component-helpers/auth/rbac/validation`).

use std::collections::{BTreeMap, BTreeSet};

use super::{Rbac, RoleRef, Rule};
use crate::authorization::{Attributes, Authorizer};
use crate::request::UserInfo;

/// The parts of `wanted` that `held` does not grant, atoms of one verb each.
pub fn missing(held: &[Rule], wanted: &[Rule]) -> Vec<Rule> {
    let atoms = wanted.iter().flat_map(Rule::breakdown);
    atoms.filter(|atom| !held.iter().any(|own| own.covers(atom))).collect()
}

/// `Err` carries upstream's text, for the "forbidden" of a role or binding.
pub fn confirm_no_escalation(
    rbac: &Rbac,
    user: &UserInfo,
    namespace: &str,
    wanted: &[Rule],
) -> Result<(), String> {
    let (held, errors) = rbac.rules_for(user, namespace);
    let missing = missing(&held, wanted);
    if missing.is_empty() {
        return Ok(());
    }
    let lines: BTreeSet<String> = compact(missing).iter().map(Rule::to_string).collect();
    let groups: Vec<String> = user.groups.iter().map(|g| format!("{g:?}")).collect();
    let mut message = format!(
        "user {:?} (groups=[{}]) is attempting to grant RBAC permissions not currently held:\n{}",
        user.name,
        groups.join(" "),
        lines.into_iter().collect::<Vec<_>>().join("\n"),
    );
    if let Some(errors) = errors {
        message.push_str(&format!("; resolution errors: [{errors}]"));
    }
    Err(message)
}

/// Atoms of the same group, resource and name become one rule with all their verbs.
fn compact(rules: Vec<Rule>) -> Vec<Rule> {
    type Key = (Box<[Box<str>]>, Box<[Box<str>]>, Box<[Box<str>]>);
    let mut out = Vec::new();
    let mut simple: BTreeMap<Key, Vec<Box<str>>> = BTreeMap::new();
    for rule in rules {
        if rule.urls.is_empty() {
            let key = (rule.groups, rule.resources, rule.names);
            simple.entry(key).or_default().extend(rule.verbs);
        } else {
            out.push(rule);
        }
    }
    for ((groups, resources, names), verbs) in simple {
        out.push(Rule::of_resources(verbs.into(), groups, resources, names));
    }
    out
}

/// Whether the user may write these rules into a role: `escalate` on roles, or every right held.
pub fn check_role_write(
    authorizer: &Authorizer,
    user: &UserInfo,
    attributes: &Attributes<'_>,
    rules: &[Rule],
) -> Result<(), String> {
    if may_skip(authorizer, user, attributes, "escalate", attributes.resource, attributes.name) {
        return Ok(());
    }
    confirm_no_escalation(&authorizer.rbac, user, attributes.namespace, rules)
}

/// Why a binding may not be written.
#[derive(Debug, PartialEq, Eq)]
pub enum Refusal {
    /// The role is not there, so nobody knows what it would grant.
    NoSuchRole,
    /// Upstream's text.
    Escalation(String),
}

/// Whether the user may write a binding to this role: `bind` on the role, or every right of it held.
/// A role that is missing cannot be bound without `bind`.
pub fn check_binding_write(
    authorizer: &Authorizer,
    user: &UserInfo,
    attributes: &Attributes<'_>,
    role: &RoleRef,
) -> Result<(), Refusal> {
    let resource = match role.kind.as_str() {
        "ClusterRole" => "clusterroles",
        _ => "roles",
    };
    if may_skip(authorizer, user, attributes, "bind", resource, &role.name) {
        return Ok(());
    }
    let rules = authorizer.rbac.rules(role, attributes.namespace).map_err(|_| Refusal::NoSuchRole)?;
    confirm_no_escalation(&authorizer.rbac, user, attributes.namespace, &rules).map_err(Refusal::Escalation)
}

fn may_skip(
    authorizer: &Authorizer,
    user: &UserInfo,
    attributes: &Attributes<'_>,
    verb: &str,
    resource: &str,
    name: &str,
) -> bool {
    let question = Attributes { verb, resource, name, subresource: "", ..*attributes };
    authorizer.decide(user, &question).is_allowed()
}
