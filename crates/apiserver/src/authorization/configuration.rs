//! `--authorization-config`: an `AuthorizationConfiguration` of `apiserver.config.k8s.io` lists who is asked, in order,
//! webhooks among them. Rules and words are upstream's (`apiserver/pkg/apis/apiserver/validation`,
//! `pkg/kubeapiserver/authorizer`); of all that is wrong, all is told.

use std::collections::BTreeSet;
use std::path::Path as File;
use std::time::Duration;

use apimachinery::field::{Error as Fault, Path, aggregate, aggregate_messages};
use apimachinery::names;
use serde::{Deserialize, Deserializer};

use super::Mode;
use super::webhook::Condition;
use crate::authentication::configuration::document;

/// What a configuration file says.
#[derive(Clone, Debug, Default, Deserialize, PartialEq)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Configuration {
    pub authorizers: Vec<AuthorizerSettings>,
}

#[derive(Clone, Debug, Default, Deserialize, PartialEq)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct AuthorizerSettings {
    /// `Webhook`, or a [`Mode`].
    #[serde(rename = "type")]
    pub kind: String,
    pub name: String,
    pub webhook: Option<WebhookSettings>,
}

#[derive(Clone, Debug, Deserialize, PartialEq)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct WebhookSettings {
    #[serde(rename = "authorizedTTL", deserialize_with = "duration")]
    pub authorized_ttl: i64,
    pub cache_authorized_requests: bool,
    #[serde(rename = "unauthorizedTTL", deserialize_with = "duration")]
    pub unauthorized_ttl: i64,
    pub cache_unauthorized_requests: bool,
    /// Nanoseconds, as the others.
    #[serde(deserialize_with = "duration")]
    pub timeout: i64,
    pub subject_access_review_version: String,
    pub match_condition_subject_access_review_version: String,
    pub failure_policy: String,
    pub connection_info: ConnectionInfo,
    pub match_conditions: Vec<MatchCondition>,
}

const SECOND: i64 = 1_000_000_000;
const AUTHORIZED: i64 = 300 * SECOND;
const UNAUTHORIZED: i64 = 30 * SECOND;

impl Default for WebhookSettings {
    fn default() -> Self {
        Self {
            authorized_ttl: AUTHORIZED,
            cache_authorized_requests: true,
            unauthorized_ttl: UNAUTHORIZED,
            cache_unauthorized_requests: true,
            timeout: 0,
            subject_access_review_version: String::new(),
            match_condition_subject_access_review_version: String::new(),
            failure_policy: String::new(),
            connection_info: ConnectionInfo::default(),
            match_conditions: Vec::new(),
        }
    }
}

#[derive(Clone, Debug, Default, Deserialize, PartialEq)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct ConnectionInfo {
    #[serde(rename = "type")]
    pub kind: String,
    pub kube_config_file: Option<String>,
}

#[derive(Clone, Debug, Default, Deserialize, PartialEq)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct MatchCondition {
    pub expression: String,
}

fn duration<'de, D: Deserializer<'de>>(d: D) -> Result<i64, D::Error> {
    let text = String::deserialize(d)?;
    apimachinery::time::parse_duration(&text)
        .map_err(|_| serde::de::Error::custom(format!("time: invalid duration {text:?}")))
}

/// Why a configuration is not taken: all of it.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum Error {
    #[error("failed to load AuthorizationConfiguration from file: {0}")]
    Syntax(String),
    #[error("{0}")]
    Invalid(String),
}

/// One of those who are asked, ready to be built.
#[derive(Debug)]
pub enum Planned {
    Mode(Mode),
    Webhook { name: String, settings: Box<WebhookSettings>, conditions: Vec<Condition> },
}

impl Configuration {
    /// Reads a file's text; nothing in it is checked yet.
    ///
    /// # Errors
    /// When it is no such configuration.
    pub fn parse(text: &str) -> Result<Self, Error> {
        let versions = ["v1", "v1beta1", "v1alpha1"];
        let value = document(text, "AuthorizationConfiguration", &versions).map_err(Error::Syntax)?;
        let mut read: Self = serde_json::from_value(value)
            .map_err(|e| Error::Syntax(format!("strict decoding error: {e}")))?;
        for webhook in read.authorizers.iter_mut().filter_map(|authorizer| authorizer.webhook.as_mut()) {
            if webhook.authorized_ttl == 0 {
                webhook.authorized_ttl = AUTHORIZED;
            }
            if webhook.unauthorized_ttl == 0 {
                webhook.unauthorized_ttl = UNAUTHORIZED;
            }
        }
        Ok(read)
    }

    /// Checks everything, and compiles what is to be evaluated. `required` are modes that must be among those that are
    /// listed; `is_file` says whether there is a regular file of this name, or why not.
    ///
    /// # Errors
    /// Every fault.
    pub fn compile(
        &self,
        required: &[Mode],
        is_file: &dyn Fn(&File) -> Result<(), String>,
    ) -> Result<Vec<Planned>, Error> {
        let (mut faults, mut planned) = (Vec::new(), Vec::new());
        let root = Path::new("authorizers");
        if self.authorizers.is_empty() {
            faults.push(Fault::required(&root, "at least one authorization mode must be defined"));
        }
        let (mut kinds, mut taken) = (BTreeSet::new(), BTreeSet::new());
        for (i, authorizer) in self.authorizers.iter().enumerate() {
            let path = root.index(i);
            let (kind, name) = (authorizer.kind.as_str(), path.child("name"));
            let mode = kind.parse::<Mode>().ok();
            if kind.is_empty() {
                faults.push(Fault::required(&path.child("type"), ""));
                continue;
            }
            if mode.is_none() && kind != "Webhook" {
                let known = ["AlwaysAllow", "AlwaysDeny", "Node", "RBAC", "Webhook"];
                faults.push(Fault::not_supported(&path.child("type"), kind, known));
                continue;
            }
            if mode.is_some() && !kinds.insert(kind) {
                faults.push(Fault::duplicate(&path.child("type"), kind));
                continue;
            }
            if authorizer.name.is_empty() {
                faults.push(Fault::required(&name, ""));
            } else if taken.contains(&authorizer.name) {
                faults.push(Fault::duplicate(&name, authorizer.name.as_str()));
            } else {
                let wrong = names::is_dns1123_subdomain(&authorizer.name);
                if !wrong.is_empty() {
                    let why = format!("authorizer name is invalid: {}", wrong.join(", "));
                    faults.push(Fault::invalid(&name, authorizer.name.as_str(), why));
                }
            }
            taken.insert(&authorizer.name);
            match (mode, &authorizer.webhook) {
                (None, None) => {
                    faults.push(Fault::required(&path.child("webhook"), "required when type=Webhook"));
                }
                (None, Some(settings)) => {
                    let conditions = settings.check(&path, is_file, &mut faults);
                    let (name, settings) = (authorizer.name.clone(), settings.clone());
                    planned.push(Planned::Webhook { name, settings: Box::new(settings), conditions });
                }
                (Some(mode), None) => planned.push(Planned::Mode(mode)),
                (Some(_), Some(_)) => {
                    let why = "may only be specified when type=Webhook";
                    faults.push(Fault::invalid(&path.child("webhook"), "non-null", why));
                }
            }
        }
        if let Some(text) = aggregate(&faults) {
            return Err(Error::Invalid(text));
        }
        match aggregate_messages(self.disagreements(required, &planned)) {
            Some(text) => Err(Error::Invalid(text)),
            None => Ok(planned),
        }
    }

    /// Built-in authorizers have their own names, and those of the start stay.
    fn disagreements(&self, required: &[Mode], planned: &[Planned]) -> Vec<String> {
        let built_in = self.authorizers.iter().filter(|authorizer| authorizer.kind != "Webhook");
        let misnamed = built_in.filter(|authorizer| authorizer.kind.to_lowercase() != authorizer.name);
        let mut found: Vec<String> = misnamed
            .map(|it| {
                let expect = it.kind.to_lowercase();
                format!("expected name {expect} for authorizer {} instead of {}", it.kind, it.name)
            })
            .collect();
        let has = |mode: &Mode| planned.iter().any(|it| matches!(it, Planned::Mode(other) if other == mode));
        let missing: BTreeSet<&str> =
            required.iter().filter(|mode| !has(mode)).map(|mode| mode.name()).collect();
        if !missing.is_empty() {
            let missing: Vec<&str> = missing.into_iter().collect();
            found.push(format!("missing required types: [{}]", missing.join(" ")));
        }
        found
    }
}

impl WebhookSettings {
    /// What the `--authorization-webhook-*` flags say.
    pub fn of_flags(file: &str, version: &str, authorized: Duration, unauthorized: Duration) -> Self {
        let nanoseconds = |time: Duration| i64::try_from(time.as_nanos()).unwrap_or(i64::MAX);
        Self {
            authorized_ttl: nanoseconds(authorized),
            unauthorized_ttl: nanoseconds(unauthorized),
            timeout: 30 * SECOND,
            subject_access_review_version: version.into(),
            failure_policy: "NoOpinion".into(),
            connection_info: ConnectionInfo {
                kind: "KubeConfigFile".into(),
                kube_config_file: Some(file.into()),
            },
            ..Self::default()
        }
    }

    /// For how long an answer holds.
    pub fn holds(&self, allowed: bool) -> Duration {
        let (cached, time) = match allowed {
            true => (self.cache_authorized_requests, self.authorized_ttl),
            false => (self.cache_unauthorized_requests, self.unauthorized_ttl),
        };
        if cached { Duration::from_nanos(u64::try_from(time).unwrap_or_default()) } else { Duration::ZERO }
    }

    fn check(
        &self,
        path: &Path<'_>,
        is_file: &dyn Fn(&File) -> Result<(), String>,
        faults: &mut Vec<Fault>,
    ) -> Vec<Condition> {
        let shown = |time: i64| apimachinery::time::format_duration(time);
        let timeout = path.child("timeout");
        match self.timeout {
            0 => faults.push(Fault::required(&timeout, "")),
            time if !(0..=30 * SECOND).contains(&time) => {
                faults.push(Fault::invalid(&timeout, shown(time), "must be > 0s and <= 30s"));
            }
            _ => {}
        }
        for (field, time) in
            [("authorizedTTL", self.authorized_ttl), ("unauthorizedTTL", self.unauthorized_ttl)]
        {
            if time < 0 {
                faults.push(Fault::invalid(&path.child(field), shown(time), "must be > 0s"));
            }
        }
        let version = path.child("subjectAccessReviewVersion");
        one_of(&self.subject_access_review_version, &["v1", "v1beta1"], &version, faults);
        let version = path.child("matchConditionSubjectAccessReviewVersion");
        match self.match_condition_subject_access_review_version.as_str() {
            "" if !self.match_conditions.is_empty() => {
                faults.push(Fault::required(&version, "required if match conditions are specified"));
            }
            "" | "v1" => {}
            other => faults.push(Fault::not_supported(&version, other, ["v1"])),
        }
        one_of(&self.failure_policy, &["NoOpinion", "Deny"], &path.child("failurePolicy"), faults);
        self.connection_info.check(&path.child("connectionInfo"), is_file, faults);
        self.conditions(&path.child("matchConditions"), faults)
    }

    fn conditions(&self, path: &Path<'_>, faults: &mut Vec<Fault>) -> Vec<Condition> {
        let mut compiled = Vec::new();
        if self.match_conditions.len() > 64 {
            faults.push(Fault::too_many(path, self.match_conditions.len(), 64));
            return compiled;
        }
        let mut seen = BTreeSet::new();
        for (i, condition) in self.match_conditions.iter().enumerate() {
            let path = path.index(i);
            let path = path.child("expression");
            let source = condition.expression.as_str();
            if source.trim().is_empty() {
                faults.push(Fault::required(&path, ""));
            } else if !seen.insert(source) {
                faults.push(Fault::duplicate(&path, source));
            } else {
                match Condition::compile(source) {
                    Ok(condition) => compiled.push(condition),
                    Err(why) => faults.push(Fault::invalid(&path, source, why)),
                }
            }
        }
        compiled
    }
}

impl ConnectionInfo {
    fn check(&self, path: &Path<'_>, is_file: &dyn Fn(&File) -> Result<(), String>, faults: &mut Vec<Fault>) {
        let file = path.child("kubeConfigFile");
        let given = self.kube_config_file.as_deref().unwrap_or_default();
        match self.kind.as_str() {
            "" => faults.push(Fault::required(&path.child("type"), "")),
            "InClusterConfig" => {
                if let Some(given) = &self.kube_config_file {
                    let why = "can only be set when type=KubeConfigFile";
                    faults.push(Fault::invalid(&file, given.as_str(), why));
                }
                let why = "InClusterConfig is not built: an API server has no service account";
                faults.push(Fault::invalid(&path.child("type"), self.kind.as_str(), why));
            }
            "KubeConfigFile" if given.is_empty() => faults.push(Fault::required(&file, "")),
            "KubeConfigFile" if !File::new(given).is_absolute() => {
                faults.push(Fault::invalid(&file, given, "must be an absolute path"));
            }
            "KubeConfigFile" => {
                if let Err(why) = is_file(File::new(given)) {
                    faults.push(Fault::invalid(&file, given, why));
                }
            }
            other => {
                let known = ["InClusterConfig", "KubeConfigFile"];
                faults.push(Fault::not_supported(&path.child("type"), other, known));
            }
        }
    }
}

fn one_of(value: &str, known: &[&str], path: &Path<'_>, faults: &mut Vec<Fault>) {
    if value.is_empty() {
        faults.push(Fault::required(path, ""));
    } else if !known.contains(&value) {
        faults.push(Fault::not_supported(path, value, known));
    }
}
