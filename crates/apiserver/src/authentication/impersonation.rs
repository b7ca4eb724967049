//! `Impersonate-*` headers: one user acts as another (upstream `endpoints/filters/impersonation`).
//!
//! There are several ways in which that may be allowed, tried in order (KEP-5284, constrained impersonation): as
//! the node that a service account's own pod runs on, as any node, as a service account, as another user. Each
//! asks whether the request may be made so (`impersonate-on:<mode>:<verb>`) and whether every part of that
//! identity may be taken (`impersonate:<mode>`). The last is the way of old: `impersonate` on every part,
//! whatever the request.

use std::sync::Arc;

use apimachinery::names;
use apimachinery::status::Status;
use http::HeaderMap;

use super::service_account;
use super::{ANONYMOUS, AUTHENTICATED, UNAUTHENTICATED, UserInfo, unescape};
use crate::authorization::{Attributes, PRIVILEGED_GROUP, forbidden};

const USER: &str = "impersonate-user";
const GROUP: &str = "impersonate-group";
const UID: &str = "impersonate-uid";
const EXTRA: &str = "impersonate-extra-";
const NODES: &str = "system:nodes";
/// In a service account's `extra`: where the pod of its token runs.
const NODE_NAME: &str = "authentication.kubernetes.io/node-name";
/// From here on one question about all of them is asked first.
const MANY: usize = 4;

/// Says whether somebody may do something, or gives the denial.
pub type May<'a> = dyn Fn(&UserInfo, &Attributes<'_>) -> Result<(), Box<Status>> + 'a;

/// The user that a request is carried out as: the one who sent it, or the one that its headers name. `request`
/// is what is to be done.
///
/// # Errors
/// 403 if that identity may not be taken, in no way: the denial of the first. 400 if the headers name parts of
/// nobody.
pub fn impersonate(
    user: Arc<UserInfo>,
    headers: &HeaderMap,
    request: &Attributes<'_>,
    may: &May<'_>,
) -> Result<Arc<UserInfo>, Status> {
    let Some(wanted) = wanted(headers)? else { return Ok(user) };
    let mut denial = None;
    for mode in MODES.iter().filter(|mode| mode.applies(&wanted, &user)) {
        match mode.check(&wanted, &user, request, may) {
            Ok(taken) => return Ok(Arc::new(taken)),
            Err(status) => drop(denial.get_or_insert(status)),
        }
    }
    Err(denial.unwrap_or_else(|| Status::internal("all impersonation modes failed")))
}

/// Whom the headers name, as they stand.
fn wanted(headers: &HeaderMap) -> Result<Option<UserInfo>, Status> {
    // Most requests have none of them.
    if !headers.keys().any(|name| name.as_str().starts_with("impersonate-")) {
        return Ok(None);
    }
    let text = |value: &http::HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
    let one = |name: &str| headers.get(name).map(text).unwrap_or_default();
    let mut wanted = UserInfo { name: one(USER), uid: one(UID), ..UserInfo::default() };
    wanted.groups.extend(headers.get_all(GROUP).iter().map(text));
    for name in headers.keys() {
        if let Some(key) = name.as_str().strip_prefix(EXTRA) {
            let values = headers.get_all(name).iter().map(text);
            wanted.extra.entry(unescape(key)).or_default().extend(values);
        }
    }
    match only_name(&wanted) && wanted.name.is_empty() {
        true => Ok(None),
        false if wanted.name.is_empty() => Err(Status::bad_request(format!(
            "requested {} without impersonating a user name",
            shown(&wanted)
        ))),
        false => Ok(Some(wanted)),
    }
}

/// A user as upstream shows one (`%#v`).
fn shown(user: &UserInfo) -> String {
    let list = |values: &[String]| {
        let values: Vec<String> = values.iter().map(|value| format!("{value:?}")).collect();
        format!("[]string{{{}}}", values.join(", "))
    };
    let groups = if user.groups.is_empty() { "[]string(nil)".to_owned() } else { list(&user.groups) };
    let extra: Vec<String> =
        user.extra.iter().map(|(key, values)| format!("{key:?}:{}", list(values))).collect();
    let extra = match extra.is_empty() {
        true => "(nil)".to_owned(),
        false => format!("{{{}}}", extra.join(", ")),
    };
    let (name, uid) = (&user.name, &user.uid);
    format!(
        "&user.DefaultInfo{{Name:{name:?}, UID:{uid:?}, Groups:{groups}, Extra:map[string][]string{extra}}}"
    )
}

fn only_name(user: &UserInfo) -> bool {
    user.uid.is_empty() && user.groups.is_empty() && user.extra.is_empty()
}

fn node(name: &str) -> Option<&str> {
    name.strip_prefix("system:node:").filter(|node| names::is_dns1123_subdomain(node).is_empty())
}

fn account(name: &str) -> Option<(&str, &str)> {
    let (namespace, name) = name.strip_prefix("system:serviceaccount:")?.split_once(':')?;
    (!namespace.is_empty() && !name.is_empty() && !name.contains(':')).then_some((namespace, name))
}

#[derive(Clone, Copy, PartialEq)]
enum Mode {
    AssociatedNode,
    ArbitraryNode,
    ServiceAccount,
    UserInfo,
    Legacy,
}

const MODES: [Mode; 5] =
    [Mode::AssociatedNode, Mode::ArbitraryNode, Mode::ServiceAccount, Mode::UserInfo, Mode::Legacy];

impl Mode {
    fn name(self) -> &'static str {
        match self {
            Self::AssociatedNode => "associated-node",
            Self::ArbitraryNode => "arbitrary-node",
            Self::ServiceAccount => "serviceaccount",
            Self::UserInfo => "user-info",
            Self::Legacy => "",
        }
    }

    fn applies(self, wanted: &UserInfo, user: &UserInfo) -> bool {
        let runs_on = || user.extra.get(NODE_NAME).map(Vec::as_slice);
        match self {
            Self::AssociatedNode => {
                let node = node(&wanted.name).filter(|_| only_name(wanted) && account(&user.name).is_some());
                node.is_some_and(|node| matches!(runs_on(), Some([name]) if name == node))
            }
            Self::ArbitraryNode => only_name(wanted) && node(&wanted.name).is_some(),
            Self::ServiceAccount => only_name(wanted) && account(&wanted.name).is_some(),
            Self::UserInfo => node(&wanted.name).is_none() && account(&wanted.name).is_none(),
            Self::Legacy => true,
        }
    }

    fn check(
        self,
        wanted: &UserInfo,
        user: &UserInfo,
        request: &Attributes<'_>,
        may: &May<'_>,
    ) -> Result<UserInfo, Status> {
        let constrained = self != Self::Legacy;
        if constrained {
            let verb = format!("impersonate-on:{}:{}", self.name(), request.verb);
            may(user, &Attributes { verb: &verb, ..*request }).map_err(|denial| *denial)?;
        }
        let verb = if constrained { format!("impersonate:{}", self.name()) } else { "impersonate".into() };
        const AUTHENTICATION: (&str, &str) = ("authentication.k8s.io", "v1");
        let (group, version) = if constrained { AUTHENTICATION } else { ("", "v1") };
        let part = |resource| Attributes {
            is_resource: true,
            verb: &verb,
            group,
            version,
            resource,
            ..Attributes::default()
        };
        let mut new = wanted.clone();
        let name = match (node(&wanted.name).filter(|_| constrained), account(&wanted.name)) {
            (Some(node), _) => {
                new.groups = vec![NODES.into()];
                let name = if self == Self::AssociatedNode { "*" } else { node };
                Attributes { name, ..part("nodes") }
            }
            (None, Some((namespace, name))) => {
                if wanted.groups.is_empty() {
                    new.groups = service_account::groups(namespace).into();
                }
                Attributes { namespace, name, ..part("serviceaccounts") }
            }
            (None, None) => Attributes { name: &wanted.name, ..part("users") },
        };
        may(user, &name).map_err(|denial| *denial)?;
        let own =
            |resource| Attributes { group: AUTHENTICATION.0, version: AUTHENTICATION.1, ..part(resource) };
        if !wanted.uid.is_empty() {
            may(user, &Attributes { name: &wanted.uid, ..own("uids") }).map_err(|denial| *denial)?;
        }
        let refuse = |a: &Attributes<'_>, why: String| Err(forbidden(user, a, &why.into()));
        let groups = part("groups");
        if constrained && wanted.groups.iter().any(String::is_empty) {
            return refuse(&groups, "impersonating the empty string group is not allowed".into());
        }
        if constrained && wanted.groups.iter().any(|group| group == PRIVILEGED_GROUP) {
            let masters = Attributes { name: PRIVILEGED_GROUP, ..groups };
            return refuse(&masters, "impersonating the system:masters group is not allowed".into());
        }
        let all = |a: &Attributes<'_>, count| constrained && count >= MANY && may(user, a).is_ok();
        if !all(&Attributes { name: "*", ..groups }, wanted.groups.len()) {
            for group in &wanted.groups {
                may(user, &Attributes { name: group, ..groups }).map_err(|denial| *denial)?;
            }
        }
        let extras = own("userextras");
        if constrained && let Some(why) = wanted.extra.iter().find_map(|(key, values)| fault(key, values)) {
            return refuse(&extras, why);
        }
        let values: usize = wanted.extra.values().map(Vec::len).sum();
        if !all(&Attributes { name: "*", subresource: "*", ..extras }, values.max(wanted.extra.len())) {
            for (key, values) in &wanted.extra {
                for value in values {
                    may(user, &Attributes { subresource: key, name: value, ..extras })
                        .map_err(|denial| *denial)?;
                }
            }
        }
        let has = |group: &str| new.groups.iter().any(|g| g == group);
        if new.name == ANONYMOUS {
            if !has(UNAUTHENTICATED) {
                new.groups.push(UNAUTHENTICATED.into());
            }
        } else if !has(AUTHENTICATED) && !has(UNAUTHENTICATED) {
            new.groups.push(AUTHENTICATED.into());
        }
        Ok(new)
    }
}

/// What is wrong with a part of `extra`, for the modes that are strict about it.
fn fault(key: &str, values: &[String]) -> Option<String> {
    let (domain, path) = key.split_once('/').unwrap_or((key, ""));
    if key.is_empty() {
        return Some("impersonating the empty string key in extra is not allowed".into());
    }
    if path.is_empty() || !names::is_dns1123_subdomain(domain).is_empty() {
        return Some(format!(
            "impersonating an invalid key in extra is not allowed: extra.key: Invalid value: {key:?}: must be a \
             domain-prefixed path (such as \"acme.io/foo\")"
        ));
    }
    if values.iter().any(String::is_empty) {
        return Some("impersonating the empty string value in extra is not allowed".into());
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Who asks, with which headers, what is allowed, and who comes out of it.
    type Case<'a> = (&'a UserInfo, &'a [(&'static str, &'a str)], &'a [&'a str], Result<&'a str, &'a str>);

    #[test]
    fn modes() {
        let pods = Attributes { is_resource: true, verb: "list", resource: "pods", ..Attributes::default() };
        let jane = UserInfo::new("jane", &[AUTHENTICATED]);
        let mut agent = UserInfo::new("system:serviceaccount:ns:agent", &[AUTHENTICATED]);
        agent.extra.insert(NODE_NAME.into(), vec!["a".into()]);
        const OLD: &[&str] = &["impersonate users joe", "impersonate groups g", "impersonate uids 7"];
        const MASTERS: &[&str] = &["impersonate users joe", "impersonate groups system:masters"];
        const NEW: &[&str] = &[
            "impersonate-on:user-info:list pods ",
            "impersonate:user-info users joe",
            "impersonate:user-info groups g",
            "impersonate:user-info userextras example.org/x v",
        ];
        const NODE: &[&str] =
            &["impersonate-on:arbitrary-node:list pods ", "impersonate:arbitrary-node nodes a"];
        const OWN_NODE: &[&str] =
            &["impersonate-on:associated-node:list pods ", "impersonate:associated-node nodes *"];
        const ACCOUNT: &[&str] =
            &["impersonate-on:serviceaccount:list pods ", "impersonate:serviceaccount serviceaccounts ns/x"];
        let joe = ("impersonate-user", "joe");
        let g = ("impersonate-group", "g");
        let extra = ("impersonate-extra-example.org%2fx", "v");
        let node = ("impersonate-user", "system:node:a");
        let account = ("impersonate-user", "system:serviceaccount:ns:x");
        let denied = "cannot impersonate-on:user-info:list resource \"pods\"";
        let table: [Case<'_>; 15] = [
            (&jane, &[], &[], Ok("jane system:authenticated")),
            (&jane, &[joe], OLD, Ok("joe system:authenticated")),
            (&jane, &[joe, g, ("impersonate-uid", "7")], OLD, Ok("joe g,system:authenticated")),
            (&jane, &[joe, g, extra], OLD, Err(denied)),
            (&jane, &[joe, g, extra], NEW, Ok("joe g,system:authenticated")),
            (
                &jane,
                &[joe, ("impersonate-group", "h")],
                NEW,
                Err("cannot impersonate:user-info resource \"groups\""),
            ),
            (&jane, &[joe], &NEW[..1], Err("cannot impersonate:user-info resource \"users\"")),
            (
                &jane,
                &[joe, ("impersonate-group", "system:masters")],
                NEW,
                Err("the system:masters group is not allowed"),
            ),
            (
                &jane,
                &[joe, ("impersonate-group", "system:masters")],
                MASTERS,
                Ok("joe system:masters,system:authenticated"),
            ),
            (&jane, &[node], NODE, Ok("system:node:a system:nodes,system:authenticated")),
            (&jane, &[node], OWN_NODE, Err("cannot impersonate-on:arbitrary-node:list")),
            (&agent, &[node], OWN_NODE, Ok("system:node:a system:nodes,system:authenticated")),
            (
                &jane,
                &[account],
                ACCOUNT,
                Ok(
                    "system:serviceaccount:ns:x system:serviceaccounts,system:serviceaccounts:ns,system:authenticated",
                ),
            ),
            (&jane, &[g], OLD, Err("without impersonating a user name")),
            (
                &jane,
                &[("impersonate-user", ANONYMOUS)],
                &["impersonate users system:anonymous"],
                Ok("system:anonymous system:unauthenticated"),
            ),
        ];
        for (user, headers, allowed, expect) in table {
            let mut map = HeaderMap::new();
            for (name, value) in headers {
                map.append(http::HeaderName::from_static(name), value.parse().unwrap());
            }
            let may = |user: &UserInfo, a: &Attributes<'_>| {
                let parts = [a.namespace, a.subresource, a.name];
                let name: Vec<&str> = parts.into_iter().filter(|part| !part.is_empty()).collect();
                let joint = if a.resource == "userextras" { " " } else { "/" };
                let asked = format!("{} {} {}", a.verb, a.resource, name.join(joint));
                match allowed.contains(&asked.as_str()) {
                    true => Ok(()),
                    false => Err(forbidden(user, a, &String::new().into()).into()),
                }
            };
            let got = impersonate(Arc::new(user.clone()), &map, &pods, &may);
            match (got, expect) {
                (Ok(user), Ok(expect)) => {
                    assert_eq!(format!("{} {}", user.name, user.groups.join(",")), expect);
                }
                (Err(status), Err(expect)) => {
                    assert!(status.message.contains(expect), "{headers:?}: {}", status.message);
                }
                (got, expect) => panic!("{headers:?}: {got:?}, and not {expect:?}"),
            }
        }
    }
}
