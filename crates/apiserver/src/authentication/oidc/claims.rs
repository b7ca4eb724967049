//! What a token's claims say about its user: pure, and in the order in which upstream looks
//! (`plugin/pkg/authenticator/token/oidc`).

use std::sync::Arc;

use apimachinery::field::{Error as Fault, Path};
use cel::{DeclType, Environment, List, Program, Type, Value as CelValue};
use serde_json::{Map, Value, json};

use crate::authentication::CREDENTIAL_ID;
use crate::request::UserInfo;

/// Where a part of the user comes from.
#[derive(Default)]
pub enum Source {
    #[default]
    Nothing,
    Claim {
        name: String,
        prefix: String,
    },
    Expression(Expression),
}

/// An expression over the claims or over the user.
pub struct Expression {
    source: String,
    program: Program,
    /// Which of the claims' fields it may select: kept for the check of `email_verified`.
    compiled: cel::Compiled,
}

/// An expression that must be true.
pub struct Rule {
    pub expression: Expression,
    message: String,
}

/// From claims to a user.
#[derive(Default)]
pub struct Mapper {
    pub username: Source,
    pub groups: Source,
    pub uid: Source,
    pub extra: Vec<(String, Expression)>,
    /// Claims that must have a value.
    pub required: Vec<(String, String)>,
    pub claim_rules: Vec<Rule>,
    pub user_rules: Vec<Rule>,
}

fn claims_environment() -> Environment {
    Environment::new().with_variable("claims", Arc::new(DeclType::map(DeclType::dynamic(), None)))
}

fn user_type() -> Arc<DeclType> {
    let text = || DeclType::plain(Type::String);
    let fields = [
        ("username", text()),
        ("uid", text()),
        ("groups", DeclType::list(text(), None)),
        ("extra", DeclType::map(DeclType::list(text(), None), None)),
    ];
    let fields = fields.map(|(name, kind)| (name.to_owned(), kind));
    Arc::new(DeclType::object("kubernetes.UserInfo", fields))
}

fn compile(
    source: &str,
    environment: &Environment,
    must_be: Option<Type>,
    path: &Path<'_>,
    faults: &mut Vec<Fault>,
) -> Option<Expression> {
    let compiled = match cel::compile(source, environment) {
        Ok(compiled) => compiled,
        Err(issues) => {
            faults.push(Fault::invalid(path, source, format!("compilation failed: {issues}")));
            return None;
        }
    };
    if let Some(expect) = must_be
        && *compiled.result() != expect
    {
        faults.push(Fault::invalid(path, source, format!("must evaluate to {expect}")));
        return None;
    }
    match compiled.program(environment) {
        Ok(program) => Some(Expression { source: source.into(), program, compiled }),
        Err(why) => {
            faults.push(Fault::internal(path, format!("program instantiation failed: {why}")));
            None
        }
    }
}

impl Expression {
    pub fn selects(&self, claim: &str) -> bool {
        self.compiled.selects(Some("claims"), claim)
    }

    fn evaluate<T>(
        &self,
        variable: CelValue<'_>,
        read: impl FnOnce(&CelValue<'_>) -> Result<T, String>,
    ) -> Result<T, String> {
        let variables = [Some(variable)];
        let outcome = self.program.evaluate(&variables, cel::cost::PER_CALL_LIMIT);
        let value =
            outcome.value.map_err(|e| format!("expression '{}' resulted in error: {e}", self.source))?;
        read(&value)
    }
}

impl Rule {
    pub fn of_claims(source: &str, message: &str, path: &Path<'_>, faults: &mut Vec<Fault>) -> Option<Self> {
        let expression = compile(source, &claims_environment(), Some(Type::Bool), path, faults)?;
        Some(Self { expression, message: message.into() })
    }

    pub fn of_user(source: &str, message: &str, path: &Path<'_>, faults: &mut Vec<Fault>) -> Option<Self> {
        let environment = Environment::new().with_variable("user", user_type());
        let expression = compile(source, &environment, Some(Type::Bool), path, faults)?;
        Some(Self { expression, message: message.into() })
    }

    fn check(&self, variable: CelValue<'_>) -> Result<(), String> {
        self.expression.evaluate(variable, |value| match value.as_bool() {
            Some(true) => Ok(()),
            Some(false) => {
                Err(format!("validation expression '{}' failed: {}", self.expression.source, self.message))
            }
            None => Err("validation expression must return a boolean".into()),
        })
    }
}

impl Source {
    pub fn expression(source: &str, path: &Path<'_>, faults: &mut Vec<Fault>) -> Self {
        compile(source, &claims_environment(), None, path, faults).map_or(Self::Nothing, Self::Expression)
    }

    pub fn selects(&self, claim: &str) -> bool {
        matches!(self, Self::Expression(expression) if expression.selects(claim))
    }
}

impl Mapper {
    /// The user of a token whose signature, issuer, audience and time are good.
    ///
    /// # Errors
    /// Why these claims are no user's.
    pub fn user(&self, claims: &Map<String, Value>) -> Result<UserInfo, String> {
        let seen = as_expressions_see(claims);
        let mut user = UserInfo { name: self.name(claims, &seen)?, ..UserInfo::default() };
        user.groups = self.groups(claims, &seen)?;
        user.uid = match &self.uid {
            Source::Nothing => String::new(),
            Source::Claim { name, .. } => {
                text(claims, name).map_err(|e| format!("oidc: parse uid claim {name:?}: {e}"))?
            }
            Source::Expression(expression) => expression
                .evaluate(CelValue::json(&seen), |value| one(value, "uid"))
                .map_err(|e| format!("oidc: error evaluating uid claim expression: {e}"))?,
        };
        if let Some(id) = claims.get("jti").and_then(Value::as_str).filter(|id| !id.is_empty()) {
            user.extra.insert(CREDENTIAL_ID.into(), vec![format!("JTI={id}")]);
        }
        for (key, expression) in &self.extra {
            let values = expression.evaluate(CelValue::json(&seen), strings).map_err(|e| {
                format!("oidc: error evaluating extra claim expression: {}: {e}", expression.source)
            })?;
            if !values.is_empty() {
                user.extra.insert(key.clone(), values);
            }
        }
        self.check(claims, &seen, &user)?;
        Ok(user)
    }

    fn check(&self, claims: &Map<String, Value>, seen: &Value, user: &UserInfo) -> Result<(), String> {
        for (claim, expect) in &self.required {
            if !claims.contains_key(claim) {
                return Err(format!("oidc: required claim {claim} not present in ID token"));
            }
            let found = text(claims, claim).map_err(|e| format!("oidc: parse claim {claim}: {e}"))?;
            if found != *expect {
                return Err(format!(
                    "oidc: required claim {claim} value does not match. Got = {found}, want = {expect}"
                ));
            }
        }
        for rule in &self.claim_rules {
            let checked = rule.check(CelValue::json(seen));
            checked.map_err(|e| format!("oidc: error evaluating claim validation expression: {e}"))?;
        }
        if self.user_rules.is_empty() {
            return Ok(());
        }
        let wrong = |e: String| format!("oidc: error evaluating user info validation rule: {e}");
        let (kind, shown) = (user_type(), shown(user));
        for rule in &self.user_rules {
            let value = CelValue::declared(&shown, &kind).map_err(|e| wrong(e.to_string()))?;
            rule.check(value).map_err(wrong)?;
        }
        Ok(())
    }

    fn name(&self, claims: &Map<String, Value>, seen: &Value) -> Result<String, String> {
        match &self.username {
            Source::Nothing => Err("oidc: no user name".into()),
            Source::Expression(expression) => {
                let name = expression
                    .evaluate(CelValue::json(seen), |value| one(value, "username"))
                    .map_err(|e| format!("oidc: error evaluating username claim expression: {e}"))?;
                if name.is_empty() {
                    return Err("oidc: empty username via CEL expression is not allowed".into());
                }
                Ok(name)
            }
            Source::Claim { name, prefix } => {
                let found =
                    text(claims, name).map_err(|e| format!("oidc: parse username claims {name:?}: {e}"))?;
                // A provider that says whether an address was verified is believed.
                match claims.get("email_verified") {
                    Some(Value::Bool(true)) | None => {}
                    Some(Value::Bool(false)) if name == "email" => {
                        return Err("oidc: email not verified".into());
                    }
                    Some(_) if name == "email" => {
                        return Err("oidc: parse 'email_verified' claim: it is no boolean".into());
                    }
                    Some(_) => {}
                }
                Ok(format!("{prefix}{found}"))
            }
        }
    }

    fn groups(&self, claims: &Map<String, Value>, seen: &Value) -> Result<Vec<String>, String> {
        match &self.groups {
            Source::Nothing => Ok(Vec::new()),
            Source::Claim { name, prefix } => {
                let found = match claims.get(name) {
                    None | Some(Value::Null) => return Ok(Vec::new()),
                    Some(Value::String(one)) => Some(vec![one.clone()]),
                    Some(Value::Array(items)) => {
                        items.iter().map(|item| item.as_str().map(str::to_owned)).collect()
                    }
                    Some(_) => None,
                };
                let found = found
                    .ok_or_else(|| format!("oidc: parse groups claim {name:?}: it is no list of strings"))?;
                Ok(found.into_iter().map(|group| format!("{prefix}{group}")).collect())
            }
            Source::Expression(expression) => expression
                .evaluate(CelValue::json(seen), strings)
                .map_err(|e| format!("oidc: error evaluating group claim expression: {e}")),
        }
    }
}

fn text(claims: &Map<String, Value>, name: &str) -> Result<String, &'static str> {
    match claims.get(name) {
        None => Err("claim not present"),
        Some(Value::String(text)) => Ok(text.clone()),
        Some(Value::Null) => Ok(String::new()),
        Some(_) => Err("it is no string"),
    }
}

fn one(value: &CelValue<'_>, what: &str) -> Result<String, String> {
    value.as_str().map(str::to_owned).ok_or_else(|| format!("{what} claim expression must return a string"))
}

/// A string or a list of them; what is empty does not count.
fn strings(value: &CelValue<'_>) -> Result<Vec<String>, String> {
    let wrong = || "expression must return a string or a list of strings".to_owned();
    let found = match value {
        CelValue::Null => Vec::new(),
        CelValue::List(list) => items(list).ok_or_else(wrong)?,
        other => vec![other.as_str().map(str::to_owned).ok_or_else(wrong)?],
    };
    Ok(found.into_iter().filter(|text| !text.is_empty()).collect())
}

fn items(list: &List<'_>) -> Option<Vec<String>> {
    list.iter().map(|item| item.ok()?.as_str().map(str::to_owned)).collect()
}

/// Numbers are doubles, as Go reads them; a name that is no identifier has its escaped one beside it.
fn as_expressions_see(claims: &Map<String, Value>) -> Value {
    fn seen(value: &Value) -> Value {
        match value {
            Value::Number(number) => number.as_f64().map_or(Value::Null, |number| json!(number)),
            Value::Array(items) => items.iter().map(seen).collect(),
            Value::Object(fields) => object(fields),
            other => other.clone(),
        }
    }
    fn object(fields: &Map<String, Value>) -> Value {
        let mut out = Map::new();
        for (name, value) in fields {
            let value = seen(value);
            if let Some(escaped) = cel::escaping::escape(name)
                && *escaped != **name
            {
                out.insert(escaped.into_owned(), value.clone());
            }
            out.insert(name.clone(), value);
        }
        Value::Object(out)
    }
    object(claims)
}

fn shown(user: &UserInfo) -> Value {
    let mut extra: Map<String, Value> = Map::new();
    for (key, values) in &user.extra {
        extra.insert(key.clone(), json!(values));
    }
    json!({"username": user.name, "uid": user.uid, "groups": user.groups, "extra": extra})
}
