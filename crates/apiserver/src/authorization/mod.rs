//! May this user do this? [`Authorizer::decide`] asks the configured modes in order (upstream's union:
//! `Node,RBAC`), after the short-cut for `system:masters`; the first that allows or denies decides.
//!
//! [`rbac`] holds the roles and bindings, compiled, and follows the store; [`node`] knows what belongs to a
//! kubelet's node; a [`webhook`] is another program. [`configuration`] is the file that lists them. Texts of denials are upstream's (`endpoints/handlers/responsewriters/errors.go`).

pub mod configuration;
mod follow;
pub mod node;
pub mod rbac;
pub mod webhook;

use std::fmt;
use std::sync::{Arc, OnceLock};

use apimachinery::field::aggregate_messages;
use apimachinery::status::Status;
use arc_swap::ArcSwap;
use tokio::runtime::{Handle, RuntimeFlavor};

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
    /// Likewise; webhooks hear of it.
    pub label_selector: &'a str,
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
            label_selector: &info.label_selector,
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
    /// What was said, and why somebody could say nothing proper: to the client, if nobody allows it, the server's own
    /// fault.
    Failed(String, String),
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
            Self::Text(text) | Self::Failed(text, _) => text.is_empty(),
        }
    }

    /// Why there was no proper answer.
    pub fn failure(&self) -> Option<&str> {
        match self {
            Self::Failed(_, why) => Some(why),
            _ => None,
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
            Self::Text(text) | Self::Failed(text, _) => f.write_str(text),
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

impl Mode {
    /// As in a configuration.
    pub fn name(self) -> &'static str {
        match self {
            Self::AlwaysAllow => "AlwaysAllow",
            Self::AlwaysDeny => "AlwaysDeny",
            Self::Node => "Node",
            Self::Rbac => "RBAC",
        }
    }
}

/// One of those who are asked.
#[derive(Clone)]
pub enum Asked {
    Mode(Mode),
    Webhook(Arc<webhook::Webhook>),
}

impl From<Mode> for Asked {
    fn from(mode: Mode) -> Self {
        Self::Mode(mode)
    }
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

/// The union of those who are configured.
pub struct Authorizer {
    asked: ArcSwap<Vec<Asked>>,
    pub rbac: Arc<rbac::Rbac>,
    pub node: Arc<node::Node>,
    followed: OnceLock<follow::Followed>,
}

impl Authorizer {
    pub fn new(asked: Vec<Asked>, rbac: Arc<rbac::Rbac>, node: Arc<node::Node>) -> Self {
        Self { asked: ArcSwap::from_pointee(asked), rbac, node, followed: OnceLock::new() }
    }

    /// Asks others from now on. What the store must be followed for stays what it was at first.
    pub fn reconfigure(&self, asked: Vec<Asked>) {
        self.asked.store(Arc::new(asked));
    }

    /// The built-in ones among those who are asked.
    pub fn modes(&self) -> Vec<Mode> {
        let mode = |asked: &Asked| match asked {
            Asked::Mode(mode) => Some(*mode),
            Asked::Webhook(_) => None,
        };
        self.asked.load().iter().filter_map(mode).collect()
    }

    /// Loads roles, bindings and what nodes need from the store, and follows it from then on: every decision
    /// counts in what was written before it. Once; decisions before that know no roles.
    pub fn follow(&self, store: &etcd::Store) {
        let _ = self.followed.set(follow::Followed::new(store, &self.modes()));
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
        let note = |error: Option<String>, more: Option<String>| match (error, more) {
            (Some(a), Some(b)) => Some(format!("[{a}, {b}]")),
            (a, b) => a.or(b),
        };
        for asked in self.asked.load().iter() {
            let Asked::Mode(mode) = asked else {
                let why = "webhook authorizer does not support user rule resolution";
                error = note(error, Some(why.to_owned()));
                continue;
            };
            match mode {
                Mode::AlwaysAllow => {
                    rules.push(rbac::Rule::resources(&["*"], &["*"], &["*"], &[]));
                    rules.push(rbac::Rule::urls(&["*"], &["*"]));
                }
                Mode::AlwaysDeny => {}
                Mode::Node if node::identity(user).is_some() => {
                    let why = "node authorizer does not support user rule resolution";
                    error = note(error, Some(why.to_owned()));
                }
                Mode::Node => {}
                Mode::Rbac => {
                    let (more, missing) = self.rbac.rules_for(user, namespace);
                    rules.extend(more);
                    error = note(error, missing);
                }
            }
        }
        (rules, error)
    }

    /// Decides, and says why. About a microsecond: no allocation unless the answer is no. Where a webhook must be asked,
    /// the thread waits for it: [`Authorizer::ask`] does not.
    pub fn decide(&self, user: &UserInfo, a: &Attributes<'_>) -> Decision {
        match self.decide_alone(user, a) {
            Ok(decision) => decision,
            Err(asking) => wait(asking.finish(self, user, a)),
        }
    }

    /// As [`Authorizer::decide`], and webhooks are waited for.
    pub async fn ask(&self, user: &UserInfo, a: &Attributes<'_>) -> Decision {
        match self.decide_alone(user, a) {
            Ok(decision) => decision,
            Err(asking) => asking.finish(self, user, a).await,
        }
    }

    /// The decision, unless a webhook has a say in it.
    fn decide_alone(&self, user: &UserInfo, a: &Attributes<'_>) -> Result<Decision, Asking> {
        if user.groups.iter().any(|g| g == PRIVILEGED_GROUP) {
            return Ok(Decision::Allow(Reason::None));
        }
        self.catch_up(node::identity(user).is_some());
        let asked = self.asked.load();
        let mut said = Said::default();
        for (at, one) in asked.iter().enumerate() {
            match one {
                Asked::Mode(mode) => {
                    if let Some(decision) = said.take(self.by_mode(*mode, user, a)) {
                        return Ok(decision);
                    }
                }
                Asked::Webhook(_) => return Err(Asking { asked: asked.clone(), at, said }),
            }
        }
        Ok(said.nothing())
    }

    fn by_mode(&self, mode: Mode, user: &UserInfo, a: &Attributes<'_>) -> Decision {
        match mode {
            Mode::AlwaysAllow => Decision::Allow(Reason::None),
            Mode::AlwaysDeny => Decision::NoOpinion(Reason::Text("Everything is forbidden.".into())),
            Mode::Node => self.node.authorize(user, a),
            Mode::Rbac => self.rbac.authorize(user, a),
        }
    }
}

/// What those said who had no opinion.
#[derive(Default)]
struct Said {
    reasons: String,
    failures: Vec<String>,
}

impl Said {
    /// The decision, if this is one.
    fn take(&mut self, decision: Decision) -> Option<Decision> {
        let Decision::NoOpinion(reason) = decision else { return Some(decision) };
        self.failures.extend(reason.failure().map(str::to_owned));
        if !reason.is_empty() {
            if !self.reasons.is_empty() {
                self.reasons.push('\n');
            }
            self.reasons.push_str(&reason.to_string());
        }
        None
    }

    fn nothing(self) -> Decision {
        Decision::NoOpinion(match aggregate_messages(self.failures) {
            None => Reason::Text(self.reasons),
            Some(why) => Reason::Failed(self.reasons, why),
        })
    }
}

/// A decision on the way, which a webhook has the next say in.
struct Asking {
    asked: Arc<Vec<Asked>>,
    at: usize,
    said: Said,
}

impl Asking {
    async fn finish(mut self, authorizer: &Authorizer, user: &UserInfo, a: &Attributes<'_>) -> Decision {
        while let Some(one) = self.asked.get(self.at).cloned() {
            self.at += 1;
            let decision = match one {
                Asked::Mode(mode) => authorizer.by_mode(mode, user, a),
                Asked::Webhook(webhook) => webhook.authorize(user, a).await,
            };
            if let Some(decision) = self.said.take(decision) {
                return decision;
            }
        }
        self.said.nothing()
    }
}

/// Waits on this thread, while others take over its tasks. On a runtime of one thread nobody could: then there is no
/// opinion.
fn wait(decision: impl Future<Output = Decision>) -> Decision {
    match Handle::try_current() {
        Ok(handle) if handle.runtime_flavor() == RuntimeFlavor::MultiThread => {
            tokio::task::block_in_place(|| handle.block_on(decision))
        }
        _ => {
            let why = "a webhook cannot be waited for on a runtime of one thread";
            Decision::NoOpinion(Reason::Failed(String::new(), why.into()))
        }
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
