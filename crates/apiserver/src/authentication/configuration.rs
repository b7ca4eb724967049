//! `--authentication-config`: an `AuthenticationConfiguration` of `apiserver.config.k8s.io` says whose tokens are good
//! and which paths are open to anybody. The `--oidc-*` flags are the same thing with less to say. Rules and words
//! are upstream's (`apiserver/pkg/apis/apiserver/validation`); of all that is wrong, all is told.

use std::collections::BTreeSet;

use apimachinery::field::{Error as Fault, Path, aggregate};
use apimachinery::names;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use serde::Deserialize;
use serde_json::Value;

use super::oidc::claims::{Mapper, Rule, Source};

/// What a configuration file says.
#[derive(Clone, Debug, Default, Deserialize, PartialEq)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Configuration {
    pub jwt: Vec<JwtAuthenticator>,
    pub anonymous: Option<Anonymous>,
}

/// Who offers nothing.
#[derive(Clone, Debug, Default, Deserialize, PartialEq)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Anonymous {
    pub enabled: bool,
    /// Only at these paths; none: everywhere.
    pub conditions: Vec<AnonymousCondition>,
}

#[derive(Clone, Debug, Default, Deserialize, PartialEq)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct AnonymousCondition {
    pub path: String,
}

impl Anonymous {
    /// On or off for all paths.
    pub fn everywhere(enabled: bool) -> Self {
        Self { enabled, conditions: Vec::new() }
    }

    pub fn allows(&self, path: &str) -> bool {
        self.enabled && (self.conditions.is_empty() || self.conditions.iter().any(|c| c.path == path))
    }
}

/// Whose tokens, and what they say about a user.
#[derive(Clone, Debug, Default, Deserialize, PartialEq)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct JwtAuthenticator {
    pub issuer: Issuer,
    pub claim_validation_rules: Vec<ClaimValidationRule>,
    pub claim_mappings: ClaimMappings,
    pub user_validation_rules: Vec<UserValidationRule>,
}

#[derive(Clone, Debug, Default, Deserialize, PartialEq)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Issuer {
    pub url: String,
    #[serde(rename = "discoveryURL")]
    pub discovery_url: String,
    /// PEM; empty: those that the machine believes.
    pub certificate_authority: String,
    pub audiences: Vec<String>,
    pub audience_match_policy: String,
    pub egress_selector_type: String,
}

#[derive(Clone, Debug, Default, Deserialize, PartialEq)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct ClaimValidationRule {
    pub claim: String,
    pub required_value: String,
    pub expression: String,
    pub message: String,
}

#[derive(Clone, Debug, Default, Deserialize, PartialEq)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct ClaimMappings {
    pub username: PrefixedClaimOrExpression,
    pub groups: PrefixedClaimOrExpression,
    pub uid: ClaimOrExpression,
    pub extra: Vec<ExtraMapping>,
}

#[derive(Clone, Debug, Default, Deserialize, PartialEq)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct PrefixedClaimOrExpression {
    pub claim: String,
    pub prefix: Option<String>,
    pub expression: String,
}

#[derive(Clone, Debug, Default, Deserialize, PartialEq)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct ClaimOrExpression {
    pub claim: String,
    pub expression: String,
}

#[derive(Clone, Debug, Default, Deserialize, PartialEq)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct ExtraMapping {
    pub key: String,
    pub value_expression: String,
}

#[derive(Clone, Debug, Default, Deserialize, PartialEq)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct UserValidationRule {
    pub expression: String,
    pub message: String,
}

/// Why a configuration is not taken.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum Error {
    #[error("{0}")]
    Syntax(String),
    #[error("invalid authentication configuration: {0}")]
    Invalid(String),
}

/// A document of `apiserver.config.k8s.io` of this kind, in YAML or JSON, without `apiVersion` and `kind`. What is null
/// is absent.
///
/// # Errors
/// When it is none, or of another kind.
pub(crate) fn document(text: &str, kind: &str, versions: &[&str]) -> Result<Value, String> {
    let mut value = crate::admission::configuration::parse(text)?;
    drop_nulls(&mut value);
    let object = value.as_object_mut().ok_or_else(|| format!("expected {kind}"))?;
    let mut take = |key: &str| match object.remove(key) {
        Some(Value::String(text)) => text,
        _ => String::new(),
    };
    let (version, found) = (take("apiVersion"), take("kind"));
    if found.is_empty() || version.is_empty() {
        let missing = if found.is_empty() { "Kind" } else { "apiVersion" };
        return Err(format!("Object '{missing}' is missing in the configuration"));
    }
    let known = version.strip_prefix("apiserver.config.k8s.io/").is_some_and(|v| versions.contains(&v));
    if !known || found != kind {
        return Err(format!("no kind {found:?} is registered for version {version:?}: expected {kind}"));
    }
    Ok(value)
}

fn drop_nulls(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            fields.retain(|_, field| !field.is_null());
            fields.values_mut().for_each(drop_nulls);
        }
        Value::Array(items) => items.iter_mut().for_each(drop_nulls),
        _ => {}
    }
}

impl Configuration {
    /// Reads a file's text; nothing in it is checked yet.
    ///
    /// # Errors
    /// When it is no such configuration.
    pub fn parse(text: &str) -> Result<Self, Error> {
        let value = document(text, "AuthenticationConfiguration", &["v1", "v1beta1", "v1alpha1"]);
        let value = value.map_err(Error::Syntax)?;
        serde_json::from_value(value).map_err(|e| Error::Syntax(format!("strict decoding error: {e}")))
    }

    /// Checks everything, and compiles what is to be evaluated. `own` are the issuers of service account tokens,
    /// which nobody else may be.
    ///
    /// # Errors
    /// Every fault.
    pub fn compile(&self, own: &[String]) -> Result<Vec<(Issuer, Mapper)>, Error> {
        let mut faults = Vec::new();
        let root = Path::new("jwt");
        if self.jwt.len() > 64 {
            faults.push(Fault::too_many(&root, self.jwt.len(), 64));
        }
        let (mut urls, mut discoveries) = (BTreeSet::new(), BTreeSet::new());
        let mut compiled = Vec::new();
        for (i, jwt) in self.jwt.iter().enumerate().take(64) {
            let path = root.index(i);
            let issuer = path.child("issuer");
            check_issuer(&jwt.issuer, own, &issuer, &mut faults);
            let mapper = Mapper::compile(jwt, &path, &mut faults);
            compiled.push((jwt.issuer.clone(), mapper));
            if !urls.insert(&jwt.issuer.url) {
                faults.push(Fault::duplicate(&issuer.child("url"), jwt.issuer.url.as_str()));
            }
            let discovery = &jwt.issuer.discovery_url;
            if !discovery.is_empty() && !discoveries.insert(discovery) {
                faults.push(Fault::duplicate(&issuer.child("discoveryURL"), discovery.as_str()));
            }
        }
        if let Some(anonymous) = &self.anonymous
            && !anonymous.enabled
            && !anonymous.conditions.is_empty()
        {
            let shown: Vec<Value> =
                anonymous.conditions.iter().map(|c| serde_json::json!({"Path": c.path})).collect();
            faults.push(Fault::invalid(
                &Path::new("anonymous").child("conditions"),
                shown,
                "enabled should be set to true when conditions are defined",
            ));
        }
        match aggregate(&faults) {
            Some(text) => Err(Error::Invalid(text)),
            None => Ok(compiled),
        }
    }
}

fn check_issuer(issuer: &Issuer, own: &[String], path: &Path<'_>, faults: &mut Vec<Fault>) {
    let url = path.child("url");
    match issuer.url.is_empty() {
        true => faults.push(Fault::required(&url, "")),
        false => check_url(&issuer.url, own, &url, faults),
    }
    let discovery = path.child("discoveryURL");
    if !issuer.discovery_url.is_empty() {
        let plain = |url: &'_ str| url.trim_end_matches('/').to_owned();
        if !issuer.url.is_empty() && plain(&issuer.url) == plain(&issuer.discovery_url) {
            let why = "discoveryURL must be different from URL";
            faults.push(Fault::invalid(&discovery, issuer.discovery_url.as_str(), why));
        }
        check_url(&issuer.discovery_url, &[], &discovery, faults);
    }
    check_audiences(issuer, path, faults);
    let authority = path.child("certificateAuthority");
    if !issuer.certificate_authority.is_empty() {
        let read: Result<Vec<_>, _> =
            CertificateDer::pem_slice_iter(issuer.certificate_authority.as_bytes()).collect();
        if !read.is_ok_and(|found| !found.is_empty()) {
            let why = "data does not contain any valid RSA or ECDSA certificates";
            faults.push(Fault::invalid(&authority, "<omitted>", why));
        }
    }
    if !issuer.egress_selector_type.is_empty() {
        let why = "egress selection is not built";
        faults.push(Fault::invalid(
            &path.child("egressSelectorType"),
            issuer.egress_selector_type.as_str(),
            why,
        ));
    }
}

fn check_audiences(issuer: &Issuer, path: &Path<'_>, faults: &mut Vec<Fault>) {
    let (audiences, policy) = (path.child("audiences"), path.child("audienceMatchPolicy"));
    if issuer.audiences.is_empty() {
        faults.push(Fault::required(&audiences, format!("at least one {audiences} is required")));
        return;
    }
    let mut seen = BTreeSet::new();
    for (i, audience) in issuer.audiences.iter().enumerate() {
        let path = audiences.index(i);
        if audience.is_empty() {
            faults.push(Fault::required(&path, ""));
        }
        if !seen.insert(audience) {
            faults.push(Fault::duplicate(&path, audience.as_str()));
        }
    }
    let given = issuer.audience_match_policy.as_str();
    let why = match (issuer.audiences.len(), given) {
        (_, "MatchAny") | (1, "") => return,
        (1, _) => "audienceMatchPolicy must be empty or MatchAny for single audience",
        _ => "audienceMatchPolicy must be MatchAny for multiple audiences",
    };
    faults.push(Fault::invalid(&policy, given, why));
}

fn check_url(url: &str, own: &[String], path: &Path<'_>, faults: &mut Vec<Fault>) {
    let mut wrong = |why: String| faults.push(Fault::invalid(path, url, why));
    if own.iter().any(|issuer| issuer == url) {
        let mut own = own.to_vec();
        own.sort();
        wrong(format!("URL must not overlap with disallowed issuers: [{}]", own.join(" ")));
    }
    let (before, fragment) = url.split_once('#').unwrap_or((url, ""));
    let (before, query) = before.split_once('?').unwrap_or((before, ""));
    let (scheme, rest) = before.split_once("://").unwrap_or(("", before));
    let authority = rest.split('/').next().unwrap_or_default();
    if !scheme.eq_ignore_ascii_case("https") {
        wrong("URL scheme must be https".into());
    } else if before.parse::<http::Uri>().is_err() {
        wrong(format!("parse {url:?}: invalid URL"));
    }
    if authority.contains('@') {
        wrong("URL must not contain a username or password".into());
    }
    if !query.is_empty() {
        wrong("URL must not contain a query".into());
    }
    if !fragment.is_empty() {
        wrong("URL must not contain a fragment".into());
    }
}

impl Mapper {
    fn compile(jwt: &JwtAuthenticator, path: &Path<'_>, faults: &mut Vec<Fault>) -> Self {
        let mut mapper = Mapper::default();
        let rules = path.child("claimValidationRules");
        let (mut claims, mut expressions) = (BTreeSet::new(), BTreeSet::new());
        let mut verified = false;
        for (i, rule) in jwt.claim_validation_rules.iter().enumerate() {
            let path = rules.index(i);
            match (rule.claim.is_empty(), rule.expression.is_empty()) {
                (false, false) => {
                    let why = "claim and expression can't both be set";
                    faults.push(Fault::invalid(&path, rule.claim.as_str(), why));
                }
                (true, true) => faults.push(Fault::required(&path, "claim or expression is required")),
                (false, true) => {
                    if !rule.message.is_empty() {
                        let why = "may not be specified when claim is set";
                        faults.push(Fault::invalid(&path.child("message"), rule.message.as_str(), why));
                    }
                    if !claims.insert(&rule.claim) {
                        faults.push(Fault::duplicate(&path.child("claim"), rule.claim.as_str()));
                    }
                    mapper.required.push((rule.claim.clone(), rule.required_value.clone()));
                }
                (true, false) => {
                    if !rule.required_value.is_empty() {
                        let why = "may not be specified when expression is set";
                        let path = path.child("requiredValue");
                        faults.push(Fault::invalid(&path, rule.required_value.as_str(), why));
                    }
                    let path = path.child("expression");
                    if !expressions.insert(&rule.expression) {
                        faults.push(Fault::duplicate(&path, rule.expression.as_str()));
                    } else if let Some(rule) = Rule::of_claims(&rule.expression, &rule.message, &path, faults)
                    {
                        verified |= rule.expression.selects("email_verified");
                        mapper.claim_rules.push(rule);
                    }
                }
            }
        }
        mapper.map(&jwt.claim_mappings, verified, &path.child("claimMappings"), faults);
        let rules = path.child("userValidationRules");
        let mut seen = BTreeSet::new();
        for (i, rule) in jwt.user_validation_rules.iter().enumerate() {
            let path = rules.index(i);
            let path = path.child("expression");
            if rule.expression.is_empty() {
                faults.push(Fault::required(&path, ""));
            } else if !seen.insert(&rule.expression) {
                faults.push(Fault::duplicate(&path, rule.expression.as_str()));
            } else {
                mapper.user_rules.extend(Rule::of_user(&rule.expression, &rule.message, &path, faults));
            }
        }
        mapper
    }

    fn map(&mut self, given: &ClaimMappings, mut verified: bool, path: &Path<'_>, faults: &mut Vec<Fault>) {
        self.username = prefixed(&given.username, true, &path.child("username"), faults);
        let email = self.username.selects("email");
        verified |= self.username.selects("email_verified");
        self.groups = prefixed(&given.groups, false, &path.child("groups"), faults);
        let uid = path.child("uid");
        self.uid = match (given.uid.claim.as_str(), given.uid.expression.as_str()) {
            ("", "") => Source::Nothing,
            (claim, "") => Source::Claim { name: claim.into(), prefix: String::new() },
            ("", expression) => Source::expression(expression, &uid.child("expression"), faults),
            _ => {
                faults.push(Fault::invalid(&uid, "", "claim and expression can't both be set"));
                Source::Nothing
            }
        };
        let extra = path.child("extra");
        let mut seen = BTreeSet::new();
        for (i, mapping) in given.extra.iter().enumerate() {
            let path = extra.index(i);
            let key = path.child("key");
            check_key(&mapping.key, &key, faults);
            if !seen.insert(&mapping.key) {
                faults.push(Fault::duplicate(&key, mapping.key.as_str()));
                continue;
            }
            let value = path.child("valueExpression");
            if mapping.value_expression.is_empty() {
                faults.push(Fault::required(&value, ""));
            } else if let Source::Expression(expression) =
                Source::expression(&mapping.value_expression, &value, faults)
            {
                verified |= expression.selects("email_verified");
                self.extra.push((mapping.key.clone(), expression));
            }
        }
        if email && !verified {
            let username = path.child("username");
            faults.push(Fault::invalid(
                &username.child("expression"),
                given.username.expression.as_str(),
                "claims.email_verified must be used in claimMappings.username.expression or \
                 claimMappings.extra[*].valueExpression or claimValidationRules[*].expression when claims.email is used \
                 in claimMappings.username.expression",
            ));
        }
    }
}

fn prefixed(
    given: &PrefixedClaimOrExpression,
    required: bool,
    path: &Path<'_>,
    faults: &mut Vec<Fault>,
) -> Source {
    match (given.claim.as_str(), given.expression.as_str()) {
        ("", "") => {
            if required {
                faults.push(Fault::required(path, "claim or expression is required"));
            }
            Source::Nothing
        }
        ("", expression) => {
            if let Some(prefix) = &given.prefix {
                let why = "may not be specified when expression is set";
                faults.push(Fault::invalid(&path.child("prefix"), prefix.as_str(), why));
            }
            Source::expression(expression, &path.child("expression"), faults)
        }
        (claim, "") => {
            if given.prefix.is_none() {
                let why = "prefix is required when claim is set. It can be set to an empty string to disable prefixing";
                faults.push(Fault::required(&path.child("prefix"), why));
            }
            Source::Claim { name: claim.into(), prefix: given.prefix.clone().unwrap_or_default() }
        }
        _ => {
            faults.push(Fault::invalid(path, "", "claim and expression can't both be set"));
            Source::Nothing
        }
    }
}

/// `domain/path`, in lower case, and not of Kubernetes' own.
fn check_key(key: &str, path: &Path<'_>, faults: &mut Vec<Fault>) {
    let (domain, rest) = key.split_once('/').unwrap_or((key, ""));
    if key.is_empty() {
        faults.push(Fault::required(path, ""));
    } else if !key.contains('/') || domain.is_empty() || rest.is_empty() {
        let why = "must be a domain-prefixed path (such as \"acme.io/foo\")";
        faults.push(Fault::invalid(path, key, why));
    } else {
        for why in names::is_dns1123_subdomain(domain) {
            faults.push(Fault::invalid(path, domain, why));
        }
        let fits = |c: char| c.is_ascii_alphanumeric() || "-._~%!$&'()*+,;=:/".contains(c);
        if !rest.chars().all(fits) {
            let why = "Invalid path (regex used for validation is '[A-Za-z0-9/\\-._~%!$&'()*+,;=:]+')";
            faults.push(Fault::invalid(path, rest, why));
        }
    }
    if key != key.to_lowercase() {
        faults.push(Fault::invalid(path, key, "must be lowercase"));
    }
    let reserved = |root: &str| domain == root || domain.strip_suffix(root).is_some_and(|d| d.ends_with('.'));
    if key.contains('/') && (reserved("kubernetes.io") || reserved("k8s.io")) {
        let why = "k8s.io, kubernetes.io and their subdomains are reserved for Kubernetes use";
        faults.push(Fault::invalid(path, key, why));
    }
}

/// What the `--oidc-*` flags say.
#[derive(Clone, Debug, Default)]
pub struct Flags {
    pub issuer_url: String,
    pub client_id: String,
    /// PEM; empty: those that the machine believes.
    pub authorities: String,
    pub username_claim: String,
    pub username_prefix: String,
    pub groups_claim: String,
    pub groups_prefix: String,
    pub required_claims: Vec<(String, String)>,
}

impl From<Flags> for JwtAuthenticator {
    fn from(flags: Flags) -> Self {
        let prefix = match (flags.username_prefix.as_str(), flags.username_claim.as_str()) {
            ("-", _) | ("", "email") => String::new(),
            // Claims of different issuers must not meet.
            ("", _) => format!("{}#", flags.issuer_url),
            (prefix, _) => prefix.to_owned(),
        };
        let mut mappings = ClaimMappings::default();
        mappings.username.claim = flags.username_claim;
        mappings.username.prefix = Some(prefix);
        if !flags.groups_claim.is_empty() {
            mappings.groups.claim = flags.groups_claim;
            mappings.groups.prefix = Some(flags.groups_prefix);
        }
        let rule = |(claim, required_value)| ClaimValidationRule {
            claim,
            required_value,
            ..ClaimValidationRule::default()
        };
        Self {
            issuer: Issuer {
                url: flags.issuer_url,
                audiences: vec![flags.client_id],
                certificate_authority: flags.authorities,
                ..Issuer::default()
            },
            claim_validation_rules: flags.required_claims.into_iter().map(rule).collect(),
            claim_mappings: mappings,
            user_validation_rules: Vec::new(),
        }
    }
}
