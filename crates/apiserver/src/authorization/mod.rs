//! May this user do this? [`Authorizer::decide`] asks the configured modes in order (upstream's union:
//! `Node,RBAC`), after the short-cut for `system:masters`; the first that allows or denies decides.
//!
//! [`rbac`] holds the roles and bindings, compiled, and follows the store; [`node`] knows what belongs to a
//! kubelet's node. Texts of denials are upstream's (`endpoints/handlers/responsewriters/errors.go`).

mod follow;
pub mod node;
pub mod rbac;

use std::fmt;
use std::sync::{Arc, OnceLock};

use apimachinery::status::Status;

pub(crate) use self::follow::Set;
use crate::request::{RequestInfo, UserInfo};

/// The group whose members may do everything, whatever the stored roles say.
pub const PRIVILEGED_GROUP: &str = "system:masters";

/// What a request wants to do, borrowed from wherever it stands: a request or an access review.
#[derive(Clone, Copy, Debug, Default)]
pub struct Attributes<'a> {
    pub is_resource: bool,
    pub verb: &'a str,
    pub group: &'a str,
    pub version: &'a str,
    pub resource: &'a str,
    pub subresource: &'a str,
    pub namespace: &'a str,
    pub name: &'a str,
    /// Of a non-resource request.
    pub path: &'a str,
    /// Raw, of list, watch and deletecollection; the node authorizer reads it.
    pub field_selector: &'a str,
}

impl<'a> From<&'a RequestInfo> for Attributes<'a> {
    fn from(info: &'a RequestInfo) -> Self {
        Self {
            is_resource: info.is_resource_request,
            verb: &info.verb,
            group: &info.api_group,
            version: &info.api_version,
            resource: &info.resource,
            subresource: &info.subresource,
            namespace: &info.namespace,
            name: &info.name,
            path: &info.path,
            field_selector: &info.field_selector,
        }
    }
}

impl Attributes<'_> {
    /// `pods/log`, or `pods` without a subresource.
    pub fn combined_resource(&self) -> String {
        match self.subresource {
            "" => self.resource.to_owned(),
            sub => format!("{}/{sub}", self.resource),
        }
    }
}

/// Why somebody decided. Cheap to make on the hot path, text only when printed.
#[derive(Clone, Debug, Default)]
pub enum Reason {
    #[default]
    None,
    /// The binding that allows, and which of its subjects is the user.
    Binding(Arc<rbac::Binding>, usize),
    Text(String),
}

impl From<String> for Reason {
    fn from(text: String) -> Self {
        Self::Text(text)
    }
}

impl Reason {
    pub fn is_empty(&self) -> bool {
        match self {
            Self::None => true,
            Self::Binding(..) => false,
            Self::Text(text) => text.is_empty(),
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::None => Ok(()),
            Self::Binding(binding, subject) => {
                f.write_str("RBAC: allowed by ")?;
                binding.describe(*subject, f)
            }
            Self::Text(text) => f.write_str(text),
        }
    }
}

/// One authorizer's answer. `NoOpinion` of the last one means no.
#[derive(Clone, Debug)]
pub enum Decision {
    Allow(Reason),
    Deny(Reason),
    NoOpinion(Reason),
}

impl Decision {
    pub fn is_allowed(&self) -> bool {
        matches!(self, Self::Allow(_))
    }

    pub fn reason(&self) -> &Reason {
        match self {
            Self::Allow(r) | Self::Deny(r) | Self::NoOpinion(r) => r,
        }
    }
}

/// `--authorization-mode`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    AlwaysAllow,
    AlwaysDeny,
    Node,
    Rbac,
}

impl std::str::FromStr for Mode {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Ok(match text {
            "AlwaysAllow" => Self::AlwaysAllow,
            "AlwaysDeny" => Self::AlwaysDeny,
            "Node" => Self::Node,
            "RBAC" => Self::Rbac,
            other => return Err(format!("unknown authorization mode {other:?}")),
        })
    }
}

/// The union of the configured modes.
pub struct Authorizer {
    modes: Vec<Mode>,
    pub rbac: Arc<rbac::Rbac>,
    pub node: Arc<node::Node>,
    followed: OnceLock<follow::Followed>,
}

impl Authorizer {
    pub fn new(modes: Vec<Mode>, rbac: Arc<rbac::Rbac>, node: Arc<node::Node>) -> Self {
        Self { modes, rbac, node, followed: OnceLock::new() }
    }

    /// Loads roles, bindings and what nodes need from the store, and follows it from then on: every decision
    /// counts in what was written before it. Once; decisions before that know no roles.
    pub fn follow(&self, store: &etcd::Store) {
        let _ = self.followed.set(follow::Followed::new(store, &self.modes));
        self.catch_up(false);
    }

    fn catch_up(&self, node: bool) {
        if let Some(followed) = self.followed.get() {
            followed.catch_up(node, self);
        }
    }

    /// Every right that the user has in a namespace as far as rules can tell, and what could not be found out.
    pub fn rules_for(&self, user: &UserInfo, namespace: &str) -> (Vec<rbac::Rule>, Option<String>) {
        self.catch_up(false);
        let (mut rules, mut error) = (Vec::new(), None);
        for mode in &self.modes {
            match mode {
                Mode::AlwaysAllow => {
                    rules.push(rbac::Rule::resources(&["*"], &["*"], &["*"], &[]));
                    rules.push(rbac::Rule::urls(&["*"], &["*"]));
                }
                Mode::AlwaysDeny => {}
                Mode::Node if node::identity(user).is_some() => {
                    error = Some("node authorizer does not support user rule resolution".to_owned());
                }
                Mode::Node => {}
                Mode::Rbac => {
                    let (more, missing) = self.rbac.rules_for(user, namespace);
                    rules.extend(more);
                    error = match (error, missing) {
                        (Some(a), Some(b)) => Some(format!("[{a}, {b}]")),
                        (a, b) => a.or(b),
                    };
                }
            }
        }
        (rules, error)
    }

    /// Decides, and says why. About a microsecond: no allocation unless the answer is no.
    pub fn decide(&self, user: &UserInfo, a: &Attributes<'_>) -> Decision {
        if user.groups.iter().any(|g| g == PRIVILEGED_GROUP) {
            return Decision::Allow(Reason::None);
        }
        self.catch_up(node::identity(user).is_some());
        let mut reasons = String::new();
        for mode in &self.modes {
            let decision = match mode {
                Mode::AlwaysAllow => Decision::Allow(Reason::None),
                Mode::AlwaysDeny => Decision::NoOpinion(Reason::Text("Everything is forbidden.".into())),
                Mode::Node => self.node.authorize(user, a),
                Mode::Rbac => self.rbac.authorize(user, a),
            };
            match decision {
                Decision::NoOpinion(reason) => {
                    if !reason.is_empty() {
                        if !reasons.is_empty() {
                            reasons.push('\n');
                        }
                        reasons.push_str(&reason.to_string());
                    }
                }
                decided => return decided,
            }
        }
        Decision::NoOpinion(Reason::Text(reasons))
    }
}

/// The denial: 403 with upstream's text.
pub fn forbidden(user: &UserInfo, a: &Attributes<'_>, reason: &Reason) -> Status {
    let (group, resource) = if a.is_resource { (a.group, a.resource) } else { ("", "") };
    Status::forbidden(group, resource, a.name, forbidden_message(user, a, reason))
}

/// What stands in the denial: upstream's `forbiddenMessage`, cleaned of what looks like HTML, and the reason.
pub fn forbidden_message(user: &UserInfo, a: &Attributes<'_>, reason: &Reason) -> String {
    let user = &user.name;
    let what = if !a.is_resource {
        format!("User {user:?} cannot {} path {:?}", a.verb, a.path)
    } else {
        let scope = match a.namespace {
            "" => "at the cluster scope".to_owned(),
            ns => format!("in the namespace {ns:?}"),
        };
        let resource = a.combined_resource();
        format!("User {user:?} cannot {} resource {resource:?} in API group {:?} {scope}", a.verb, a.group)
    };
    let what = what.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
    match reason.to_string() {
        reason if reason.is_empty() => what,
        reason => format!("{what}: {reason}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn denial_texts() {
        let pods = Attributes { is_resource: true, verb: "list", resource: "pods", ..Attributes::default() };
        let table = [
            (
                Attributes { namespace: "y", ..pods },
                Reason::None,
                r#"User "x" cannot list resource "pods" in API group "" in the namespace "y""#,
            ),
            (
                pods,
                Reason::None,
                r#"User "x" cannot list resource "pods" in API group "" at the cluster scope"#,
            ),
            (
                Attributes {
                    subresource: "scale",
                    resource: "deployments",
                    group: "apps",
                    verb: "get",
                    ..pods
                },
                Reason::Text("RBAC: no".into()),
                r#"User "x" cannot get resource "deployments/scale" in API group "apps" at the cluster scope: RBAC: no"#,
            ),
            (
                Attributes { verb: "get", path: "/metrics<", ..Attributes::default() },
                Reason::None,
                r#"User "x" cannot get path "/metrics&lt;""#,
            ),
        ];
        for (attributes, reason, expect) in table {
            assert_eq!(forbidden_message(&UserInfo::new("x", &[]), &attributes, &reason), expect);
        }
    }
}
