//! Roles and bindings, found by subject. Pure: objects in, decisions out.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::sync::Arc;

use serde_json::Value;

use super::Rule;
use crate::authorization::{Attributes, Decision, Reason};
use crate::request::UserInfo;

/// Who a binding is for. A service account is kept as the user name that it has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Subject {
    User(String),
    Group(String),
    ServiceAccount { namespace: String, name: String },
}

/// Which role a binding hands out.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RoleRef {
    /// `Role`, `ClusterRole` or something else, which is an error at every decision.
    pub kind: String,
    pub name: String,
}

/// A RoleBinding, or with an empty namespace a ClusterRoleBinding.
#[derive(Clone, Debug)]
pub struct Binding {
    pub namespace: String,
    pub name: String,
    pub role: RoleRef,
    pub subjects: Vec<Subject>,
}

fn text<'a>(value: &'a Value, key: &str) -> &'a str {
    value.get(key).and_then(Value::as_str).unwrap_or_default()
}

impl Binding {
    /// From the stored object. Subjects of unknown kinds match nobody and are left out.
    pub fn from_value(object: &Value) -> Self {
        let metadata = &object["metadata"];
        let namespace = text(metadata, "namespace").to_owned();
        let subjects = object.get("subjects").and_then(Value::as_array).into_iter().flatten();
        let subjects = subjects.filter_map(|s| {
            let name = text(s, "name").to_owned();
            Some(match text(s, "kind") {
                "User" => Subject::User(name),
                "Group" => Subject::Group(name),
                "ServiceAccount" => {
                    let own = text(s, "namespace");
                    let namespace = if own.is_empty() { namespace.clone() } else { own.to_owned() };
                    if namespace.is_empty() {
                        return None;
                    }
                    Subject::ServiceAccount { namespace, name }
                }
                _ => return None,
            })
        });
        let subjects = subjects.collect();
        let role = RoleRef {
            kind: text(&object["roleRef"], "kind").to_owned(),
            name: text(&object["roleRef"], "name").to_owned(),
        };
        Self { name: text(metadata, "name").to_owned(), namespace, role, subjects }
    }

    /// `RoleBinding "name/namespace" of Role "r" to User "u"`, the words of an access review.
    pub fn describe(&self, subject: usize, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.namespace.is_empty() {
            write!(f, "ClusterRoleBinding {:?}", self.name)?;
        } else {
            write!(f, "RoleBinding {:?}", format!("{}/{}", self.name, self.namespace))?;
        }
        write!(f, " of {} {:?} to ", self.role.kind, self.role.name)?;
        match self.subjects.get(subject) {
            Some(Subject::User(name)) => write!(f, "User {name:?}"),
            Some(Subject::Group(name)) => write!(f, "Group {name:?}"),
            Some(Subject::ServiceAccount { namespace, name }) => {
                write!(f, "ServiceAccount {:?}", format!("{name}/{namespace}"))
            }
            None => Ok(()),
        }
    }
}

type BySubject = HashMap<String, BTreeMap<String, (Arc<Binding>, usize)>>;

/// The bindings of one namespace, or the cluster's.
#[derive(Default)]
struct Bindings {
    all: HashMap<String, Arc<Binding>>,
    users: BySubject,
    groups: BySubject,
}

impl Bindings {
    fn slot(&mut self, subject: &Subject) -> (&mut BySubject, String) {
        match subject {
            Subject::User(name) => (&mut self.users, name.clone()),
            Subject::Group(name) => (&mut self.groups, name.clone()),
            Subject::ServiceAccount { namespace, name } => {
                (&mut self.users, format!("system:serviceaccount:{namespace}:{name}"))
            }
        }
    }

    fn put(&mut self, binding: Binding) {
        self.remove(&binding.name);
        let binding = Arc::new(binding);
        for (i, subject) in binding.subjects.iter().enumerate() {
            let (map, key) = self.slot(subject);
            map.entry(key).or_default().entry(binding.name.clone()).or_insert((binding.clone(), i));
        }
        self.all.insert(binding.name.clone(), binding);
    }

    fn remove(&mut self, name: &str) {
        let Some(binding) = self.all.remove(name) else { return };
        for subject in &binding.subjects {
            let (map, key) = self.slot(subject);
            if let Some(bindings) = map.get_mut(&key) {
                bindings.remove(name);
                if bindings.is_empty() {
                    map.remove(&key);
                }
            }
        }
    }

    /// The bindings for a user. One that names the user twice comes twice; that changes no decision.
    fn of<'a>(&'a self, user: &'a UserInfo) -> impl Iterator<Item = &'a (Arc<Binding>, usize)> {
        let by_group = user.groups.iter().filter_map(|g| self.groups.get(g));
        self.users.get(&user.name).into_iter().chain(by_group).flat_map(BTreeMap::values)
    }
}

/// Every role and binding, compiled.
#[derive(Default)]
pub struct Index {
    cluster_roles: HashMap<String, Arc<[Rule]>>,
    roles: HashMap<String, HashMap<String, Arc<[Rule]>>>,
    cluster: Bindings,
    namespaced: HashMap<String, Bindings>,
}

impl Index {
    /// Takes the object of a role (namespace empty: a ClusterRole) in, or with `None` out.
    pub fn set_role(&mut self, namespace: &str, name: &str, rules: Option<Vec<Rule>>) {
        let roles = match namespace {
            "" => &mut self.cluster_roles,
            ns => self.roles.entry(ns.to_owned()).or_default(),
        };
        match rules {
            Some(rules) => roles.insert(name.to_owned(), rules.into()),
            None => roles.remove(name),
        };
        if roles.is_empty() {
            self.roles.remove(namespace);
        }
    }

    /// Takes a binding in (namespace empty: a ClusterRoleBinding), or with `None` out.
    pub fn set_binding(&mut self, namespace: &str, name: &str, binding: Option<Binding>) {
        let bindings = match namespace {
            "" => &mut self.cluster,
            ns => self.namespaced.entry(ns.to_owned()).or_default(),
        };
        match binding {
            Some(binding) => bindings.put(binding),
            None => bindings.remove(name),
        }
        if bindings.all.is_empty() {
            self.namespaced.remove(namespace);
        }
    }

    /// The rules behind a role reference. `Err` is upstream's text.
    pub fn rules(&self, role: &RoleRef, namespace: &str) -> Result<&Arc<[Rule]>, String> {
        let missing = |kind| format!("{kind}.rbac.authorization.k8s.io {:?} not found", role.name);
        match role.kind.as_str() {
            "ClusterRole" => self.cluster_roles.get(&role.name).ok_or_else(|| missing("clusterrole")),
            "Role" => self
                .roles
                .get(namespace)
                .and_then(|roles| roles.get(&role.name))
                .ok_or_else(|| missing("role")),
            other => Err(format!("unsupported role reference kind: {other:?}")),
        }
    }

    fn bindings<'a>(
        &'a self,
        user: &'a UserInfo,
        namespace: &str,
    ) -> impl Iterator<Item = &'a (Arc<Binding>, usize)> {
        let local = if namespace.is_empty() { None } else { self.namespaced.get(namespace) };
        self.cluster.of(user).chain(local.into_iter().flat_map(|b| b.of(user)))
    }

    pub fn authorize(&self, user: &UserInfo, a: &Attributes<'_>) -> Decision {
        let mut errors = Vec::new();
        for (binding, subject) in self.bindings(user, a.namespace) {
            match self.rules(&binding.role, &binding.namespace) {
                Ok(rules) if rules.iter().any(|r| r.allows(a)) => {
                    return Decision::Allow(Reason::Binding(binding.clone(), *subject));
                }
                Ok(_) => {}
                Err(e) => errors.push(e),
            }
        }
        Decision::NoOpinion(match aggregate(errors) {
            Some(text) => Reason::Text(format!("RBAC: {text}")),
            None => Reason::None,
        })
    }

    /// Everything a user may do in a namespace, and what could not be found out.
    pub fn rules_for(&self, user: &UserInfo, namespace: &str) -> (Vec<Rule>, Option<String>) {
        let (mut rules, mut errors) = (Vec::new(), Vec::new());
        for (binding, _) in self.bindings(user, namespace) {
            match self.rules(&binding.role, &binding.namespace) {
                Ok(found) => rules.extend(found.iter().cloned()),
                Err(e) => errors.push(e),
            }
        }
        (rules, aggregate(errors))
    }
}

/// Go's aggregate error: one stands alone, several in brackets, no text twice.
fn aggregate(errors: Vec<String>) -> Option<String> {
    let mut unique: Vec<String> = Vec::new();
    for error in errors {
        if !unique.contains(&error) {
            unique.push(error);
        }
    }
    match unique.as_slice() {
        [] => None,
        [one] => Some(one.clone()),
        many => Some(format!("[{}]", many.join(", "))),
    }
}
