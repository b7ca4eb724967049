//! ResourceQuota: what an object uses, and whether the quotas of its namespace have room for it (upstream
//! `apiserver/pkg/quota/v1`, `pkg/quota/v1/evaluator/core`, `apiserver/pkg/admission/plugin/resourcequota`).
//!
//! [`Object`] is what is counted; its functions are upstream's evaluators. [`Quota`] is the part of a ResourceQuota
//! that counts. [`charge`] is the decision at admission; whoever recounts a namespace adds up [`Object::usage`] of
//! what [`Quota::covers`].

mod claims;
mod count;
mod pods;
pub mod recount;
mod services;

use std::borrow::Cow;
use std::collections::BTreeSet;

use api::core::v1::{PersistentVolumeClaim, Pod, Service};
use api::dynamic_resources::v1::ResourceClaim;
use apimachinery::labels::{Operator, Requirement};
use apimachinery::quantity::{Format, Quantity};
use jiff::Timestamp;
use serde::Deserialize;
use serde_json::{Value, json};

pub use crate::pod::resources::Amounts;
use crate::pod::resources::{add, parsed};

/// Resources that have no quota: what is never stored, and events (upstream's `DefaultIgnoredResources`).
pub fn is_ignored(group: &str, resource: &str) -> bool {
    match group {
        "" => matches!(resource, "bindings" | "componentstatuses" | "events"),
        "events.k8s.io" => resource == "events",
        "authentication.k8s.io" => matches!(resource, "tokenreviews" | "selfsubjectreviews"),
        "authorization.k8s.io" => matches!(
            resource,
            "subjectaccessreviews"
                | "selfsubjectaccessreviews"
                | "localsubjectaccessreviews"
                | "selfsubjectrulesreviews"
        ),
        _ => false,
    }
}

/// An object as quotas see it.
#[derive(Clone, Debug)]
pub enum Object<'a> {
    Pod(Box<Pod>),
    Service(Box<Service>),
    PersistentVolumeClaim(Box<PersistentVolumeClaim>),
    ResourceClaim(Box<ResourceClaim>),
    /// Only their number counts: group and resource.
    Other(Cow<'a, str>, Cow<'a, str>),
}

/// What is done to the object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Write {
    Create,
    Update,
}

impl<'a> Object<'a> {
    /// Reads what quotas count from a value in normal form.
    ///
    /// # Errors
    /// When the value is not of its kind.
    pub fn read(group: &'a str, resource: &'a str, value: &Value) -> Result<Self, serde_json::Error> {
        Ok(match (group, resource) {
            ("", "pods") => Self::Pod(Box::new(Pod::deserialize(value)?)),
            ("", "services") => Self::Service(Box::new(Service::deserialize(value)?)),
            ("", "persistentvolumeclaims") => {
                Self::PersistentVolumeClaim(Box::new(PersistentVolumeClaim::deserialize(value)?))
            }
            ("resource.k8s.io", "resourceclaims") => {
                Self::ResourceClaim(Box::new(ResourceClaim::deserialize(value)?))
            }
            _ => Self::Other(group.into(), resource.into()),
        })
    }

    /// The same without borrowing anything.
    pub fn into_owned(self) -> Object<'static> {
        match self {
            Self::Pod(pod) => Object::Pod(pod),
            Self::Service(service) => Object::Service(service),
            Self::PersistentVolumeClaim(claim) => Object::PersistentVolumeClaim(claim),
            Self::ResourceClaim(claim) => Object::ResourceClaim(claim),
            Self::Other(group, resource) => {
                Object::Other(Cow::Owned(group.into_owned()), Cow::Owned(resource.into_owned()))
            }
        }
    }

    /// Whether a write of this object is looked at (upstream's `Handles`).
    pub fn is_charged(&self, write: Write, subresource: &str, old: Option<&Object<'_>>) -> bool {
        match (self, subresource, write) {
            (Self::Pod(_), "", Write::Create) | (Self::Pod(_), "resize", Write::Update) => true,
            (Self::Pod(pod), "", Write::Update) => match old {
                Some(Object::Pod(old)) => pods::is_terminating(pod) != pods::is_terminating(old),
                _ => false,
            },
            (Self::PersistentVolumeClaim(_), "status", _) => true,
            (Self::Other(..), "", Write::Create) => true,
            (Self::Pod(_) | Self::Other(..), ..) => false,
            (_, subresource, _) => subresource.is_empty(),
        }
    }

    /// Which of the names are about objects of this kind.
    pub fn matching<'n>(&self, names: impl IntoIterator<Item = &'n str>) -> BTreeSet<&'n str> {
        let is_ours: &dyn Fn(&str) -> bool = match self {
            Self::Pod(_) => &pods::is_counted,
            Self::Service(_) => &services::is_counted,
            Self::PersistentVolumeClaim(_) => &claims::is_counted,
            Self::ResourceClaim(_) => &claims::is_counted_device,
            Self::Other(group, resource) => &|name| count::names(group, resource).any(|own| own == name),
        };
        names.into_iter().filter(|name| is_ours(name)).collect()
    }

    /// Whether a scope selects this object.
    pub fn is_in(&self, scope: &Scope) -> bool {
        match self {
            Self::Pod(pod) => pods::is_in(pod, scope),
            Self::PersistentVolumeClaim(claim) => claims::is_in(claim, scope),
            _ => false,
        }
    }

    /// What a quota on these resources demands of the object.
    ///
    /// # Errors
    /// Upstream's words: `must specify limits.cpu for: a,b; …`.
    pub fn constraints(&self, resources: &BTreeSet<&str>) -> Result<(), String> {
        match self {
            Self::Pod(pod) => pods::constraints(pod, resources),
            _ => Ok(()),
        }
    }

    /// What the object uses. Pods stop counting some time after their end; `now` tells.
    pub fn usage(&self, now: Timestamp) -> Amounts {
        match self {
            Self::Pod(pod) => pods::usage(pod, now),
            Self::Service(service) => services::usage(service),
            Self::PersistentVolumeClaim(claim) => claims::usage(claim),
            Self::ResourceClaim(claim) => claims::device_usage(claim),
            Self::Other(group, resource) => {
                count::names(group, resource).map(|name| (name, whole(1))).collect()
            }
        }
    }
}

/// A whole number as a quota writes it.
fn whole(count: usize) -> Quantity {
    Quantity::new(i64::try_from(count).unwrap_or(i64::MAX), Format::DecimalSI)
}

/// One of a quota's scopes, or one of the expressions of its scope selector.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Scope {
    pub scope_name: String,
    /// `In`, `NotIn`, `Exists`, `DoesNotExist`.
    pub operator: String,
    #[serde(default)]
    pub values: Option<Vec<String>>,
}

impl Scope {
    /// Whether the operator holds for a value under the scope's name; never if it is none of the four.
    fn matches(&self, value: Option<&str>) -> bool {
        let operator = match &*self.operator {
            "In" => Operator::In,
            "NotIn" => Operator::NotIn,
            "Exists" => Operator::Exists,
            "DoesNotExist" => Operator::DoesNotExist,
            _ => return false,
        };
        let values = self.values.clone().unwrap_or_default();
        Requirement::new(&self.scope_name, operator, values).is_ok_and(|r| r.matches(value))
    }
}

/// As Go prints the struct.
impl std::fmt::Display for Scope {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let values = self.values.as_deref().unwrap_or_default().join(" ");
        write!(f, "{{{} {} [{values}]}}", self.scope_name, self.operator)
    }
}

/// What of a ResourceQuota counts.
#[derive(Clone, Debug)]
pub struct Quota {
    pub name: String,
    /// From the status: what the quota controller has taken note of.
    pub hard: Amounts,
    pub used: Amounts,
    pub scopes: Vec<Scope>,
}

impl Quota {
    pub fn of(quota: &Value) -> Self {
        let amounts = |value: &Value| {
            let all = value.as_object().into_iter().flatten();
            let read =
                |(name, value): (&String, &Value)| Some((name.clone(), Quantity::from_value(value).ok()?));
            all.filter_map(read).collect()
        };
        let plain = quota["spec"]["scopes"].as_array().into_iter().flatten().filter_map(Value::as_str);
        let plain = plain.map(|name| Scope {
            scope_name: name.to_owned(),
            operator: "Exists".to_owned(),
            values: None,
        });
        let selected = quota["spec"]["scopeSelector"]["matchExpressions"].as_array().into_iter().flatten();
        let selected = selected.filter_map(|expression| Scope::deserialize(expression).ok());
        Self {
            name: quota["metadata"]["name"].as_str().unwrap_or_default().to_owned(),
            hard: amounts(&quota["status"]["hard"]),
            used: amounts(&quota["status"]["used"]),
            scopes: plain.chain(selected).collect(),
        }
    }

    /// Whether an object counts here: the quota limits its kind, and all scopes select it.
    pub fn covers(&self, object: &Object<'_>) -> bool {
        let limits = !object.matching(self.hard.keys().map(String::as_str)).is_empty();
        limits && self.scopes.iter().all(|scope| object.is_in(scope))
    }

    /// `status.used` as it is written.
    pub fn used_value(&self) -> Value {
        Value::Object(self.used.iter().map(|(name, q)| (name.clone(), json!(q.canonical()))).collect())
    }
}

/// A resource that nobody may use without a quota (`ResourceQuotaConfiguration.limitedResources`).
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Limited {
    pub api_group: String,
    pub resource: String,
    /// Parts of names of what is limited.
    pub match_contains: Vec<String>,
    pub match_scopes: Vec<Scope>,
}

/// A write as quotas see it.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    pub object: &'a Object<'a>,
    /// On update, what is stored.
    pub old: Option<&'a Object<'a>>,
    /// A write of `status` is counted, but never refused.
    pub is_status: bool,
    pub group: &'a str,
    pub resource: &'a str,
    pub now: Timestamp,
}

/// Why a write does not go on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// A 403 with these words.
    Forbidden(String),
    /// Upstream answers 500 with these words.
    Plain(String),
}

/// Charges the quotas with what a write will use: `used` grows, in memory only. `true` if anything changed. On
/// refusal nothing has changed.
///
/// # Errors
/// [`Refusal`], in upstream's words.
pub fn charge(quotas: &mut [Quota], limited: &[Limited], request: &Request<'_>) -> Result<bool, Refusal> {
    let Request { object, now, .. } = *request;
    let usage = object.usage(now);
    let limited_scopes: Vec<&Scope> =
        limited.iter().flat_map(|l| &l.match_scopes).filter(|scope| object.is_in(scope)).collect();
    let limited_names: BTreeSet<&str> = limited
        .iter()
        .filter(|l| l.api_group == request.group && l.resource == request.resource)
        .flat_map(|l| {
            let used = usage.iter().filter(|(_, amount)| amount.sign() > 0).map(|(name, _)| name.as_str());
            used.filter(|name| l.match_contains.iter().any(|part| name.contains(part.as_str())))
        })
        .collect();

    let mut covered_names = BTreeSet::new();
    let mut covered_scopes: BTreeSet<&str> = BTreeSet::new();
    let mut covering = Vec::new();
    for (index, quota) in quotas.iter().enumerate() {
        let matched = quota.scopes.iter().filter(|scope| object.is_in(scope));
        covered_scopes.extend(matched.map(|scope| scope.scope_name.as_str()));
        if !quota.covers(object) {
            continue;
        }
        let names = object.matching(quota.hard.keys().map(String::as_str));
        let failed = |why| Refusal::Forbidden(format!("failed quota: {}: {why}", quota.name));
        object.constraints(&names).map_err(failed)?;
        if names.iter().any(|name| !quota.used.contains_key(*name)) {
            let names = join(names);
            let why = format!("status unknown for quota: {}, resources: {names}", quota.name);
            return Err(Refusal::Forbidden(why));
        }
        covered_names.extend(names);
        covering.push(index);
    }

    let negative: Vec<&str> =
        usage.iter().filter(|(_, amount)| amount.sign() < 0).map(|(name, _)| name.as_str()).collect();
    if !negative.is_empty() {
        let why = format!("quota usage is negative for resource(s): {}", join(negative));
        return Err(Refusal::Forbidden(why));
    }

    // An update costs the difference where the quota counted the object before.
    let difference = request.old.map(|old| subtract(&usage, &old.usage(now)));
    let cost = |quota: &Quota| {
        let known = request.old.filter(|old| quota.covers(old)).and(difference.as_ref());
        without_zeros(known.unwrap_or(&usage))
    };
    let costs: Vec<(usize, Amounts)> = covering
        .iter()
        .filter_map(|index| Some((*index, cost(quotas.get(*index)?))))
        .filter(|(_, cost)| !cost.is_empty())
        .collect();
    let is_free = match covering.is_empty() {
        true => without_zeros(difference.as_ref().unwrap_or(&usage)).is_empty(),
        false => costs.is_empty(),
    };
    if is_free {
        return Ok(false);
    }

    let uncovered: Vec<&str> = limited_names.difference(&covered_names).copied().collect();
    if !uncovered.is_empty() {
        return Err(Refusal::Forbidden(format!("insufficient quota to consume: {}", join(uncovered))));
    }
    let uncovered: Vec<String> = limited_scopes
        .iter()
        .filter(|scope| !covered_scopes.contains(scope.scope_name.as_str()))
        .map(ToString::to_string)
        .collect();
    if !uncovered.is_empty() {
        let why = format!("insufficient quota to match these scopes: [{}]", uncovered.join(" "));
        return Err(Refusal::Plain(why));
    }

    let mut changes = Vec::with_capacity(costs.len());
    for (index, mut cost) in costs {
        let Some(quota) = quotas.get(index) else { continue };
        cost.retain(|name, _| quota.hard.contains_key(name));
        let mut used = quota.used.clone();
        add(&mut used, &cost);
        let over = |name: &str| used.get(name).zip(quota.hard.get(name)).is_some_and(|(u, h)| u > h);
        let exceeded: BTreeSet<&str> = cost.keys().map(String::as_str).filter(|name| over(name)).collect();
        if !exceeded.is_empty() && !request.is_status {
            let print = |amounts: &Amounts| {
                let some = amounts.iter().filter(|(name, _)| exceeded.contains(name.as_str()));
                join(some.map(|(name, amount)| format!("{name}={}", amount.canonical())))
            };
            return Err(Refusal::Forbidden(format!(
                "exceeded quota: {}, requested: {}, used: {}, limited: {}",
                quota.name,
                print(&cost),
                print(&quota.used),
                print(&quota.hard)
            )));
        }
        changes.push((index, used));
    }
    let mut changed = false;
    for (index, used) in changes {
        if let Some(quota) = quotas.get_mut(index) {
            changed |= quota.used != used;
            quota.used = used;
        }
    }
    Ok(changed)
}

/// Sorted already where they come from a map or a set.
fn join<T: AsRef<str>>(names: impl IntoIterator<Item = T>) -> String {
    let names: Vec<T> = names.into_iter().collect();
    names.iter().map(AsRef::as_ref).collect::<Vec<&str>>().join(",")
}

fn without_zeros(amounts: &Amounts) -> Amounts {
    amounts.iter().filter(|(_, q)| !q.is_zero()).map(|(name, q)| (name.clone(), q.clone())).collect()
}

/// What `new` has more than `old`, never less than nothing.
fn subtract(new: &Amounts, old: &Amounts) -> Amounts {
    let mut rest = new.clone();
    for (name, amount) in old {
        if let Some(left) = rest.get_mut(name) {
            left.sub(amount);
        }
    }
    rest.retain(|_, left| left.sign() > 0);
    rest
}

#[cfg(test)]
mod tests;
