//! One policy rule and how it matches.

use std::fmt;

use serde_json::{Map, Value};

use crate::authorization::Attributes;

/// A `PolicyRule` as stored, plus a bit set of its verbs, which settles most comparisons at once.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rule {
    pub verbs: Box<[Box<str>]>,
    pub groups: Box<[Box<str>]>,
    pub resources: Box<[Box<str>]>,
    pub names: Box<[Box<str>]>,
    pub urls: Box<[Box<str>]>,
    verb_bits: u16,
}

const ANY: u16 = 1 << 15;
const OTHER: u16 = 1 << 14;

fn verb_bit(verb: &str) -> u16 {
    match verb {
        "*" => ANY,
        "get" => 1,
        "list" => 1 << 1,
        "watch" => 1 << 2,
        "create" => 1 << 3,
        "update" => 1 << 4,
        "patch" => 1 << 5,
        "delete" => 1 << 6,
        "deletecollection" => 1 << 7,
        _ => OTHER,
    }
}

fn boxed(list: &[&str]) -> Box<[Box<str>]> {
    list.iter().map(|s| Box::from(*s)).collect()
}

fn has(set: &[Box<str>], element: &str) -> bool {
    set.iter().any(|s| &**s == element)
}

impl Rule {
    fn with_bits(mut self) -> Self {
        self.verb_bits = self.verbs.iter().map(|v| verb_bit(v)).fold(0, |a, b| a | b);
        self
    }

    pub fn resources(verbs: &[&str], groups: &[&str], resources: &[&str], names: &[&str]) -> Self {
        Self {
            verbs: boxed(verbs),
            groups: boxed(groups),
            resources: boxed(resources),
            names: boxed(names),
            ..Self::default()
        }
        .with_bits()
    }

    pub(super) fn of_resources(
        verbs: Box<[Box<str>]>,
        groups: Box<[Box<str>]>,
        resources: Box<[Box<str>]>,
        names: Box<[Box<str>]>,
    ) -> Self {
        Self { verbs, groups, resources, names, ..Self::default() }.with_bits()
    }

    pub fn urls(verbs: &[&str], urls: &[&str]) -> Self {
        Self { verbs: boxed(verbs), urls: boxed(urls), ..Self::default() }.with_bits()
    }

    /// From the JSON form; what is not a list of strings is absent.
    pub fn from_value(value: &Value) -> Self {
        let list = |key: &str| {
            let items = value.get(key).and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
            items.iter().filter_map(Value::as_str).map(Box::from).collect()
        };
        Self {
            verbs: list("verbs"),
            groups: list("apiGroups"),
            resources: list("resources"),
            names: list("resourceNames"),
            urls: list("nonResourceURLs"),
            verb_bits: 0,
        }
        .with_bits()
    }

    /// The rules of a Role or ClusterRole object.
    pub fn list(role: &Value) -> Vec<Self> {
        role.get("rules").and_then(Value::as_array).into_iter().flatten().map(Self::from_value).collect()
    }

    /// JSON with the empty lists left out; `verbs` is always there.
    pub fn to_value(&self) -> Value {
        let mut out = Map::new();
        let parts = [
            ("apiGroups", &self.groups),
            ("nonResourceURLs", &self.urls),
            ("resourceNames", &self.names),
            ("resources", &self.resources),
        ];
        for (key, list) in parts {
            if !list.is_empty() {
                out.insert(key.into(), list.iter().map(|s| Value::from(&**s)).collect());
            }
        }
        out.insert("verbs".into(), self.verbs.iter().map(|s| Value::from(&**s)).collect());
        Value::Object(out)
    }

    /// Whether this rule alone allows the request.
    pub fn allows(&self, a: &Attributes<'_>) -> bool {
        if !self.verb_matches(a.verb) {
            return false;
        }
        if a.is_resource {
            self.group_matches(a.group)
                && self.resources.iter().any(|r| resource_matches(r, a.resource, a.subresource))
                && (self.names.is_empty() || has(&self.names, a.name))
        } else {
            self.urls.iter().any(|u| &**u == "*" || url_covers(u, a.path))
        }
    }

    fn verb_matches(&self, verb: &str) -> bool {
        let bit = verb_bit(verb);
        if self.verb_bits & ANY != 0 {
            return true;
        }
        self.verb_bits & bit != 0 && (bit != OTHER || has(&self.verbs, verb))
    }

    fn group_matches(&self, group: &str) -> bool {
        self.groups.iter().any(|g| &**g == "*" || &**g == group)
    }

    /// The smallest rules that together say the same: one group, resource, verb and name each.
    pub(super) fn breakdown(&self) -> Vec<Self> {
        let mut out = Vec::new();
        for group in &self.groups {
            for resource in &self.resources {
                for verb in &self.verbs {
                    if self.names.is_empty() {
                        out.push(Self::resources(&[verb], &[group], &[resource], &[]));
                    }
                    for name in &self.names {
                        out.push(Self::resources(&[verb], &[group], &[resource], &[name]));
                    }
                }
            }
        }
        for url in &self.urls {
            for verb in &self.verbs {
                out.push(Self::urls(&[verb], &[url]));
            }
        }
        out
    }

    /// Whether this rule grants everything that `part`, an atom from [`breakdown`](Self::breakdown), grants.
    pub(super) fn covers(&self, part: &Self) -> bool {
        let all = |own: &[Box<str>], wanted: &[Box<str>]| wanted.iter().all(|w| has(own, w));
        (has(&self.verbs, "*") || all(&self.verbs, &part.verbs))
            && (has(&self.groups, "*") || all(&self.groups, &part.groups))
            && (has(&self.resources, "*") || part.resources.iter().all(|r| self.covers_resource(r)))
            && (self.names.is_empty() || (!part.names.is_empty() && all(&self.names, &part.names)))
            && part.urls.iter().all(|u| self.urls.iter().any(|own| url_covers(own, u)))
    }

    fn covers_resource(&self, resource: &str) -> bool {
        has(&self.resources, resource)
            || resource.split_once('/').is_some_and(|(_, sub)| has(&self.resources, &format!("*/{sub}")))
    }
}

/// The form of escalation messages: `{APIGroups:[""], Resources:["pods"], Verbs:["get"]}`.
impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let parts = [
            ("APIGroups", &self.groups),
            ("Resources", &self.resources),
            ("NonResourceURLs", &self.urls),
            ("ResourceNames", &self.names),
            ("Verbs", &self.verbs),
        ];
        f.write_str("{")?;
        for (i, (key, list)) in parts.iter().filter(|(_, list)| !list.is_empty()).enumerate() {
            let quoted: Vec<String> = list.iter().map(|s| format!("{s:?}")).collect();
            write!(f, "{}{key}:[{}]", if i == 0 { "" } else { ", " }, quoted.join(" "))?;
        }
        f.write_str("}")
    }
}

fn resource_matches(rule: &str, resource: &str, subresource: &str) -> bool {
    if rule == "*" {
        return true;
    }
    if subresource.is_empty() {
        return rule == resource;
    }
    rule.strip_suffix(subresource)
        .and_then(|head| head.strip_suffix('/'))
        .is_some_and(|head| head == resource || head == "*")
}

/// `/healthz/*` covers what begins with `/healthz/`; otherwise equality.
fn url_covers(owner: &str, url: &str) -> bool {
    owner == url || (owner.ends_with('*') && url.starts_with(owner.trim_end_matches('*')))
}
