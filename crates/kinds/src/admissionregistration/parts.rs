//! What webhooks and policies have in common: the requests that they are about, and match conditions.

use std::collections::BTreeSet;

use apimachinery::field::{Error, ErrorList, Path};
use apimachinery::names;
use serde_json::Value;

use super::expression::{Declared, Typed, Variables, Wanted, compile, environment};
use crate::check::{items, messages, one_of_if_set, present, qualified, text};
use crate::meta::{selector, texts};

pub const FAILURE_POLICIES: [&str; 2] = ["Fail", "Ignore"];
pub const MATCH_POLICIES: [&str; 2] = ["Equivalent", "Exact"];
pub const REINVOCATION_POLICIES: [&str; 2] = ["IfNeeded", "Never"];
const OPERATIONS: [&str; 5] = ["*", "CONNECT", "CREATE", "DELETE", "UPDATE"];
const MOST_CONDITIONS: usize = 64;

/// What the expressions of an object are compiled against.
pub struct Language {
    /// With the variables so far, if there may be any.
    variables: Option<Variables>,
    /// There is a kind of parameters.
    pub params: bool,
}

impl Language {
    pub fn new(params: bool, composes: bool) -> Self {
        Self { variables: composes.then(Variables::default), params }
    }

    /// An expression that is required and compiled as it stands; with its type.
    pub fn expression(
        &self,
        (object, field, missing): (&Value, &str, &str),
        (declared, wanted): (Declared, Wanted),
        path: &Path<'_>,
        errors: &mut ErrorList,
    ) -> Option<cel::Type> {
        let source = text(object, field);
        if source.trim().is_empty() {
            errors.push(Error::required(&path.child(field), missing));
            return None;
        }
        self.compile((source, source), (declared, wanted), &path.child(field), errors)
    }

    /// Compiles `source`; if it is faulty, `shown` is what the error shows.
    pub fn compile(
        &self,
        (source, shown): (&str, &str),
        (declared, wanted): (Declared, Wanted),
        path: &Path<'_>,
        errors: &mut ErrorList,
    ) -> Option<cel::Type> {
        let declared = Declared { params: self.params, ..declared };
        let environment = environment(declared, self.variables.as_ref(), Typed::default());
        match compile(source, &environment, wanted) {
            Ok((_, kind)) => Some(kind),
            Err(why) => {
                errors.push(Error::invalid(path, shown, why));
                None
            }
        }
    }

    /// The variables of a policy, each of which may name those before it.
    pub fn variables(&mut self, spec: &Value, path: &Path<'_>, errors: &mut ErrorList) {
        let list = path.child("variables");
        for (index, variable) in items(spec, "variables").iter().enumerate() {
            let at = list.index(index);
            let name = text(variable, "name");
            if name.trim().is_empty() {
                errors.push(Error::required(&at.child("name"), "name is not specified"));
            } else if !is_identifier(name) {
                errors.push(Error::invalid(&at.child("name"), name, "must be a valid CEL identifier"));
            }
            let given = (variable, "expression", "expression is not specified");
            let kind = self.expression(given, (ASKING, Wanted::Anything), &at, errors);
            if !text(variable, "expression").trim().is_empty()
                && let Some(variables) = &mut self.variables
            {
                variables.add(name, kind.as_ref());
            }
        }
    }
}

/// What most expressions may name.
pub const ASKING: Declared = Declared { params: false, authorizer: true, mutation: false };

/// A name in CEL that is none of its words.
fn is_identifier(name: &str) -> bool {
    const RESERVED: &[&str] = &[
        "as",
        "break",
        "const",
        "continue",
        "else",
        "false",
        "for",
        "function",
        "if",
        "import",
        "in",
        "let",
        "loop",
        "namespace",
        "null",
        "package",
        "return",
        "true",
        "var",
        "void",
        "while",
    ];
    let first = |byte: u8| byte.is_ascii_alphabetic() || byte == b'_';
    name.bytes().next().is_some_and(first)
        && name.bytes().all(|byte| first(byte) || byte.is_ascii_digit())
        && !RESERVED.contains(&name)
}

fn no_wildcard_among(rule: &Value, field: &str, what: &str, path: &Path<'_>, errors: &mut ErrorList) {
    let all = items(rule, field);
    if all.is_empty() {
        errors.push(Error::required(&path.child(field), ""));
    }
    if all.len() > 1 && all.iter().any(|one| one == "*") {
        let why = format!("if '*' is present, must not specify other {what}");
        errors.push(Error::invalid(&path.child(field), all.to_vec(), why));
    }
}

/// Which operations on which resources.
pub fn rule(rule: &Value, path: &Path<'_>, errors: &mut ErrorList) {
    no_wildcard_among(rule, "operations", "operations", path, errors);
    let list = path.child("operations");
    for (index, operation) in texts(rule, "operations").enumerate() {
        if !OPERATIONS.contains(&operation) {
            errors.push(Error::not_supported(&list.index(index), operation, OPERATIONS));
        }
    }
    no_wildcard_among(rule, "apiGroups", "API groups", path, errors);
    no_wildcard_among(rule, "apiVersions", "API versions", path, errors);
    let list = path.child("apiVersions");
    for (index, _) in texts(rule, "apiVersions").enumerate().filter(|(_, version)| version.is_empty()) {
        errors.push(Error::required(&list.index(index), ""));
    }
    resources(rule, &path.child("resources"), errors);
    let scopes = ["*", "Cluster", "Namespaced"];
    one_of_if_set(present(rule, "scope"), &scopes, &path.child("scope"), errors);
}

/// `pods`, `pods/status`, `pods/*`, `*/status`, `*`, `*/*`; nothing that another one holds already.
fn resources(rule: &Value, path: &Path<'_>, errors: &mut ErrorList) {
    let all: Vec<&str> = texts(rule, "resources").collect();
    if all.is_empty() {
        errors.push(Error::required(path, ""));
    }
    let (mut whole, mut every) = (BTreeSet::new(), BTreeSet::new());
    let mut plain = false;
    for (index, one) in all.iter().enumerate() {
        let at = path.index(index);
        if one.is_empty() {
            errors.push(Error::required(&at, ""));
            continue;
        }
        let Some((resource, sub)) = one.split_once('/') else {
            // The last one decides, as upstream has it.
            plain = *one != "*";
            continue;
        };
        if whole.contains(resource) {
            let why = format!("if '{resource}/*' is present, must not specify {one}");
            errors.push(Error::invalid(&at, *one, why));
        }
        if every.contains(sub) {
            errors.push(Error::invalid(
                &at,
                *one,
                format!("if '*/{sub}' is present, must not specify {one}"),
            ));
        }
        if sub == "*" {
            whole.insert(resource);
        }
        if resource == "*" {
            every.insert(sub);
        }
    }
    if all.len() > 1 && all.contains(&"*/*") {
        let why = "if '*/*' is present, must not specify other resources";
        errors.push(Error::invalid(path, all.clone(), why));
    }
    if plain && all.contains(&"*") {
        let why = "if '*' is present, must not specify other resources without subresources";
        errors.push(Error::invalid(path, all, why));
    }
}

/// Which requests a policy or a binding is about.
pub fn match_resources(object: &Value, field: &str, path: &Path<'_>, errors: &mut ErrorList) {
    let Some(resources) = present(object, field) else { return };
    let path = path.child(field);
    if present(resources, "matchPolicy").is_none() {
        errors.push(Error::required(&path.child("matchPolicy"), ""));
    }
    one_of_if_set(present(resources, "matchPolicy"), &MATCH_POLICIES, &path.child("matchPolicy"), errors);
    for field in ["namespaceSelector", "objectSelector"] {
        match present(resources, field) {
            None => errors.push(Error::required(&path.child(field), "")),
            Some(value) => selector(value, false, &path.child(field), errors),
        }
    }
    for field in ["resourceRules", "excludeResourceRules"] {
        let list = path.child(field);
        for (index, rule) in items(resources, field).iter().enumerate() {
            named_rule(rule, &list.index(index), errors);
        }
    }
}

fn named_rule(rule: &Value, path: &Path<'_>, errors: &mut ErrorList) {
    let list = path.child("resourceNames");
    let mut seen = BTreeSet::new();
    for (index, name) in texts(rule, "resourceNames").enumerate() {
        messages(names::is_path_segment_name(name), &name.into(), &list.index(index), errors);
        if !seen.insert(name) {
            errors.push(Error::duplicate(&list.index(index), name));
        }
    }
    self::rule(rule, path, errors);
}

/// Conditions under which a webhook or policy is asked at all; `params`: of a policy with a kind of parameters.
pub fn match_conditions(object: &Value, params: bool, path: &Path<'_>, errors: &mut ErrorList) {
    let language = Language::new(params, false);
    let list = path.child("matchConditions");
    let conditions = items(object, "matchConditions");
    if conditions.len() > MOST_CONDITIONS {
        errors.push(Error::too_many(&list, conditions.len(), MOST_CONDITIONS));
    }
    let mut seen = BTreeSet::new();
    for (index, condition) in conditions.iter().enumerate() {
        let at = list.index(index);
        let at_expression = at.child("expression");
        match text(condition, "expression").trim() {
            "" => errors.push(Error::required(&at_expression, "")),
            source => {
                language.compile((source, source), (ASKING, Wanted::Bool), &at_expression, errors);
            }
        }
        match text(condition, "name") {
            "" => errors.push(Error::required(&at.child("name"), "")),
            name => {
                qualified(name, &at.child("name"), errors);
                if !seen.insert(name) {
                    errors.push(Error::duplicate(&at.child("name"), name));
                }
            }
        }
    }
}
