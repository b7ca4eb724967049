//! Another program is asked whether somebody may do something, with a SubjectAccessReview (upstream
//! `plugin/pkg/authorizer/webhook`). Match conditions in CEL say which requests it is asked about at all.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use apimachinery::{fields, labels};
use cel::{DeclType, Environment, Program, Type, Value as CelValue};
use serde_json::{Map, Value, json};
use tokio::time::Instant;

use super::configuration::WebhookSettings;
use super::{Attributes, Decision, Reason};
use crate::remote::{Endpoint, Error};
use crate::request::UserInfo;

/// Answers kept.
const CACHED: usize = 8192;
/// Questions as long as this are not kept: somebody may want to fill memory.
const LONGEST: usize = 10_000;

/// An expression over a SubjectAccessReview's spec, `request`, that must be true.
pub struct Condition {
    source: String,
    program: Program,
    declared: Arc<DeclType>,
    uses: Uses,
}

/// Whether selectors are looked at.
#[derive(Clone, Copy, Debug, Default)]
struct Uses {
    field_selector: bool,
    label_selector: bool,
}

impl std::fmt::Debug for Condition {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.source)
    }
}

fn declared() -> DeclType {
    let text = || DeclType::plain(Type::String);
    let texts = || DeclType::list(text(), None);
    let object = |name: &str, fields: Vec<(&str, DeclType)>| {
        let fields = fields.into_iter().map(|(name, kind)| (name.to_owned(), kind));
        DeclType::object(&format!("kubernetes.{name}"), fields.collect::<Vec<_>>())
    };
    let requirement =
        || object("SelectorRequirement", vec![("key", text()), ("operator", text()), ("values", texts())]);
    let selector = |name| {
        object(name, vec![("rawSelector", text()), ("requirements", DeclType::list(requirement(), None))])
    };
    let parts = ["namespace", "verb", "group", "version", "resource", "subresource", "name"];
    let mut resource: Vec<(&str, DeclType)> = parts.into_iter().map(|name| (name, text())).collect();
    resource.push(("fieldSelector", selector("FieldSelectorAttributes")));
    resource.push(("labelSelector", selector("LabelSelectorAttributes")));
    object(
        "SubjectAccessReviewSpec",
        vec![
            ("resourceAttributes", object("ResourceAttributes", resource)),
            (
                "nonResourceAttributes",
                object("NonResourceAttributes", vec![("path", text()), ("verb", text())]),
            ),
            ("user", text()),
            ("groups", texts()),
            ("extra", DeclType::map(texts(), None)),
            ("uid", text()),
        ],
    )
}

impl Condition {
    /// # Errors
    /// What is wrong with it, in upstream's words.
    pub fn compile(source: &str) -> Result<Self, String> {
        let declared = Arc::new(declared());
        let environment = Environment::new().with_variable("request", declared.clone());
        let compiled =
            cel::compile(source, &environment).map_err(|issues| format!("compilation failed: {issues}"))?;
        if *compiled.result() != Type::Bool {
            return Err(format!("must evaluate to bool but got {}", compiled.result()));
        }
        let uses = Uses {
            field_selector: compiled.selects(None, "fieldSelector"),
            label_selector: compiled.selects(None, "labelSelector"),
        };
        let program =
            compiled.program(&environment).map_err(|why| format!("program instantiation failed: {why}"))?;
        Ok(Self { source: source.into(), program, declared, uses })
    }

    fn holds(&self, spec: &Value) -> Result<bool, String> {
        let wrong = |e: &dyn std::fmt::Display| {
            format!("cel evaluation error: expression '{}' resulted in error: {e}", self.source)
        };
        let value = CelValue::declared(spec, &self.declared).map_err(|e| wrong(&e))?;
        let variables = [Some(value)];
        let outcome = self.program.evaluate(&variables, cel::cost::PER_CALL_LIMIT);
        let value = outcome.value.map_err(|e| wrong(&e))?;
        value.as_bool().ok_or_else(|| wrong(&"it gave no bool"))
    }
}

/// What the program said of a question.
#[derive(Clone, Debug, Default)]
struct Answer {
    allowed: bool,
    denied: bool,
    reason: String,
}

impl Answer {
    fn decision(self) -> Decision {
        let reason = if self.reason.is_empty() { Reason::None } else { Reason::Text(self.reason) };
        match (self.denied, self.allowed) {
            (true, true) => {
                let why = "webhook subject access review returned both allow and deny response";
                Decision::Deny(Reason::Failed(reason.to_string(), why.into()))
            }
            (true, false) => Decision::Deny(reason),
            (false, true) => Decision::Allow(reason),
            (false, false) => Decision::NoOpinion(reason),
        }
    }
}

/// A program that is asked.
pub struct Webhook {
    name: String,
    endpoint: Endpoint,
    settings: WebhookSettings,
    conditions: Vec<Condition>,
    cache: Mutex<HashMap<String, (Instant, Answer)>>,
}

impl Webhook {
    pub fn new(
        name: String,
        endpoint: Endpoint,
        settings: WebhookSettings,
        conditions: Vec<Condition>,
    ) -> Self {
        Self { name, endpoint, settings, conditions, cache: Mutex::default() }
    }

    pub async fn authorize(&self, user: &UserInfo, a: &Attributes<'_>) -> Decision {
        match self.matches(user, a) {
            Ok(true) => {}
            Ok(false) => return Decision::NoOpinion(Reason::None),
            Err(why) => return self.failed(why),
        }
        let spec = spec(user, a, &self.settings.subject_access_review_version);
        let key = spec.to_string();
        if let Some(known) = self.known(&key) {
            return known.decision();
        }
        match self.ask(&spec).await {
            Ok(answer) => {
                let holds = self.settings.holds(answer.allowed);
                if !holds.is_zero() && length(a) < LONGEST {
                    self.remember(key, answer.clone(), holds);
                }
                answer.decision()
            }
            Err(error) => {
                tracing::error!(webhook = self.name, %error, "failed to make webhook authorizer request");
                self.failed(error.to_string())
            }
        }
    }

    /// Whether it is to be asked: all conditions hold. One that does not settles it, whatever is wrong with others.
    fn matches(&self, user: &UserInfo, a: &Attributes<'_>) -> Result<bool, String> {
        if self.conditions.is_empty() {
            return Ok(true);
        }
        let mut faults = Vec::new();
        let uses = self.conditions.iter().fold(Uses::default(), |all, one| Uses {
            field_selector: all.field_selector | one.uses.field_selector,
            label_selector: all.label_selector | one.uses.label_selector,
        });
        let seen = as_conditions_see(user, a, uses);
        for condition in &self.conditions {
            match condition.holds(&seen) {
                Ok(true) => {}
                Ok(false) => return Ok(false),
                Err(why) => faults.push(why),
            }
        }
        match apimachinery::field::aggregate_messages(faults) {
            None => Ok(true),
            Some(why) => Err(why),
        }
    }

    fn failed(&self, why: String) -> Decision {
        let reason = Reason::Failed(String::new(), why);
        match self.settings.failure_policy.as_str() {
            "Deny" => Decision::Deny(reason),
            _ => Decision::NoOpinion(reason),
        }
    }

    async fn ask(&self, spec: &Value) -> Result<Answer, Error> {
        let version = &self.settings.subject_access_review_version;
        let review = json!({
            "kind": "SubjectAccessReview",
            "apiVersion": format!("authorization.k8s.io/{version}"),
            "metadata": {"creationTimestamp": null},
            "spec": spec,
            "status": {"allowed": false},
        });
        let patience = Duration::from_nanos(u64::try_from(self.settings.timeout).unwrap_or_default());
        let answer = self.endpoint.post(&review, patience).await?;
        let status = &answer["status"];
        let flag = |key: &str| status[key].as_bool().unwrap_or_default();
        let reason = status["reason"].as_str().unwrap_or_default().to_owned();
        Ok(Answer { allowed: flag("allowed"), denied: flag("denied"), reason })
    }

    fn known(&self, key: &str) -> Option<Answer> {
        let cache = self.cache.lock().unwrap_or_else(PoisonError::into_inner);
        let (until, answer) = cache.get(key)?;
        (Instant::now() < *until).then(|| answer.clone())
    }

    fn remember(&self, key: String, answer: Answer, holds: Duration) {
        let mut cache = self.cache.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        if cache.len() >= CACHED {
            cache.retain(|_, (until, _)| now < *until);
            if cache.len() >= CACHED {
                cache.clear();
            }
        }
        cache.insert(key, (now + holds, answer));
    }
}

/// Bytes of what the client chose.
fn length(a: &Attributes<'_>) -> usize {
    [a.namespace, a.verb, a.group, a.version, a.resource, a.subresource, a.name, a.path]
        .iter()
        .map(|part| part.len())
        .sum()
}

/// A SubjectAccessReview's spec, as Go writes it.
fn spec(user: &UserInfo, a: &Attributes<'_>, version: &str) -> Value {
    let mut spec = Map::new();
    let put = |map: &mut Map<String, Value>, key: &str, value: &str| {
        if !value.is_empty() {
            map.insert(key.into(), value.into());
        }
    };
    let mut about = Map::new();
    if a.is_resource {
        for (key, value) in [
            ("namespace", a.namespace),
            ("verb", a.verb),
            ("group", a.group),
            ("version", a.version),
            ("resource", a.resource),
            ("subresource", a.subresource),
            ("name", a.name),
        ] {
            put(&mut about, key, value);
        }
        for (key, requirements) in
            [("fieldSelector", field_requirements(a)), ("labelSelector", label_requirements(a))]
        {
            if !requirements.is_empty() {
                about.insert(key.into(), json!({ "requirements": requirements }));
            }
        }
        spec.insert("resourceAttributes".into(), about.into());
    } else {
        put(&mut about, "path", a.path);
        put(&mut about, "verb", a.verb);
        spec.insert("nonResourceAttributes".into(), about.into());
    }
    put(&mut spec, "user", &user.name);
    if !user.groups.is_empty() {
        let key = if version == "v1beta1" { "group" } else { "groups" };
        spec.insert(key.into(), json!(user.groups));
    }
    if !user.extra.is_empty() {
        spec.insert("extra".into(), json!(user.extra));
    }
    put(&mut spec, "uid", &user.uid);
    spec.into()
}

/// The same with every text there, empty or not; selectors only where an expression looks at them.
fn as_conditions_see(user: &UserInfo, a: &Attributes<'_>, uses: Uses) -> Value {
    let mut spec = json!({"user": user.name, "groups": user.groups, "uid": user.uid, "extra": user.extra});
    if !a.is_resource {
        spec["nonResourceAttributes"] = json!({"verb": a.verb, "path": a.path});
        return spec;
    }
    let mut about = json!({
        "namespace": a.namespace, "verb": a.verb, "group": a.group, "version": a.version,
        "resource": a.resource, "subresource": a.subresource, "name": a.name,
    });
    for (key, used, requirements) in [
        ("fieldSelector", uses.field_selector, field_requirements(a)),
        ("labelSelector", uses.label_selector, label_requirements(a)),
    ] {
        if used && !requirements.is_empty() {
            about[key] = json!({ "requirements": requirements });
        }
    }
    spec["resourceAttributes"] = about;
    spec
}

/// What does not parse only narrows less.
fn field_requirements(a: &Attributes<'_>) -> Vec<Value> {
    let Ok(selector) = fields::Selector::parse(a.field_selector) else { return Vec::new() };
    let requirement = |term: &fields::Term| {
        let operator = if term.not { "NotIn" } else { "In" };
        json!({"key": &*term.field, "operator": operator, "values": [&*term.value]})
    };
    selector.terms().iter().map(requirement).collect()
}

fn label_requirements(a: &Attributes<'_>) -> Vec<Value> {
    use labels::Operator;
    let Ok(selector) = labels::Selector::parse(a.label_selector) else { return Vec::new() };
    let requirement = |requirement: &labels::Requirement| {
        let operator = match requirement.operator() {
            Operator::Equals | Operator::DoubleEquals | Operator::In => "In",
            Operator::NotEquals | Operator::NotIn => "NotIn",
            Operator::Exists => "Exists",
            Operator::DoesNotExist => "DoesNotExist",
            _ => return None,
        };
        let mut out = json!({"key": requirement.key(), "operator": operator});
        if !requirement.values().is_empty() {
            out["values"] = json!(requirement.values());
        }
        Some(out)
    };
    selector.requirements().iter().filter_map(requirement).collect()
}
