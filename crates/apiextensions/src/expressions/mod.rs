//! Rules of a schema (`x-kubernetes-validations`), as far as objects are held to them. What is wrong with the rules
//! themselves is said when the definition is written, by [`crate::definition::check`].
//!
//! [`Rules::compile`] notes where in a schema rules stand; a rule is compiled when an object is first held to it.
//! [`Rules::validate`] walks an object along with them. Source: upstream's `apiextensions-apiserver/pkg/apiserver/
//! schema/cel`, KEP-2876 (rules), KEP-4008 (ratcheting).
//!
//! ```
//! use apiextensions::{expressions::Rules, structural};
//! use apimachinery::field::Path;
//! use serde_json::json;
//!
//! let schema = structural::compile(&json!({"type": "object", "properties": {"spec": {
//!     "type": "object",
//!     "properties": {"replicas": {"type": "integer"}},
//!     "x-kubernetes-validations": [{"rule": "self.replicas < 10", "message": "too many"}]}}})).unwrap();
//! let rules = Rules::compile(&schema);
//! let object = json!({"spec": {"replicas": 12}});
//! let mut budget = Rules::BUDGET;
//! let found = rules.validate(&schema, &object, None, &Path::NIL, &mut budget);
//! assert_eq!(found.errors[0].to_string(), "spec: Invalid value: too many");
//! ```

use std::sync::{Arc, OnceLock};

use apimachinery::field::{ErrorList, Path};
use cel::{DeclType, Program};
use serde_json::Value;

use crate::structural::Structural;

pub(crate) mod compile;
mod correlate;
mod declare;
mod validate;

/// Where in a schema rules stand, and those that have been compiled.
pub struct Rules {
    root: Option<Box<Node>>,
}

/// What objects break.
#[derive(Debug, Default, PartialEq)]
pub struct Findings {
    pub errors: ErrorList,
    /// Texts of faults that were there before, in what has not changed: they are let pass, and the client is warned.
    pub warnings: Vec<String>,
}

/// A node of a schema at or below which rules stand.
#[derive(Default)]
struct Node {
    own: Option<Box<Own>>,
    /// Sorted by name.
    properties: Box<[(Arc<str>, Node)]>,
    items: Option<Box<Node>>,
    additional: Option<Box<Node>>,
}

/// The rules of one node.
struct Own {
    /// The node is the root of a resource.
    root: bool,
    ready: OnceLock<Ready>,
}

struct Ready {
    /// How expressions see the node; none if they cannot.
    declared: Option<Arc<DeclType>>,
    /// As many as the schema has.
    rules: Box<[Prepared]>,
    /// Some rule asks what was there before.
    use_old: bool,
}

/// A rule that can be evaluated.
struct Prepared {
    /// None if the rule is empty; else why there is no program.
    program: Result<Option<Program>, Box<str>>,
    message: Option<Program>,
    uses_old: bool,
    field_path: Box<str>,
}

impl Rules {
    /// What all rules may cost for one object.
    pub const BUDGET: i64 = cel::cost::RUNTIME_BUDGET as i64;

    /// The rules of a resource's schema.
    pub fn compile(schema: &Structural) -> Rules {
        Rules::at(schema, true)
    }

    /// The rules of a schema anywhere in a resource's; `root`: it is the root of a resource.
    pub(crate) fn at(schema: &Structural, root: bool) -> Rules {
        Rules { root: node(schema, root).map(Box::new) }
    }

    /// No rules: there is nothing to validate.
    pub fn is_empty(&self) -> bool {
        self.root.is_none()
    }

    /// What is wrong with an object. `schema` is the one that the rules were made of, `old` what the object was, in
    /// the same version; `path` where it stands, [`Path::NIL`] for a whole one. `budget` is lowered by what rules
    /// cost ([`Rules::BUDGET`] at the start); it is negative afterwards if rules were left out because it was used up
    /// or one rule cost too much, of which the last error tells.
    ///
    /// A resource that breaks its schema is not for this: upstream leaves rules out if an error is of the kinds that
    /// [`is_blocking`] names.
    pub fn validate(
        &self,
        schema: &Structural,
        object: &Value,
        old: Option<&Value>,
        path: &Path<'_>,
        budget: &mut i64,
    ) -> Findings {
        let mut findings = Findings::default();
        if let Some(root) = &self.root {
            validate::run(root, schema, object, old, path, (budget, &mut findings));
        }
        findings
    }

    /// As [`Rules::validate`], with nothing let pass for having been there before.
    pub(crate) fn validate_strictly(
        &self,
        schema: &Structural,
        object: &Value,
        old: Option<&Value>,
        path: &Path<'_>,
        budget: &mut i64,
    ) -> ErrorList {
        let mut findings = Findings::default();
        if let Some(root) = &self.root {
            validate::run_strictly(root, schema, object, old, path, (budget, &mut findings));
        }
        findings.errors
    }
}

/// Whether these faults of an object leave rules unchecked, since they could not be evaluated to any use. What is said
/// then is [`unchecked`].
///
/// Source: `hasBlockingErr` in `registry/customresource/strategy.go`.
pub fn is_blocking(errors: &ErrorList) -> bool {
    use apimachinery::field::ErrorType::{NotSupported, Required, TooLong, TooMany, TypeInvalid};
    errors.iter().any(|error| matches!(error.kind, NotSupported | Required | TooLong | TooMany | TypeInvalid))
}

/// The fault that stands for rules that were left out because of [`is_blocking`] others.
pub fn unchecked() -> apimachinery::field::Error {
    let why = "some validation rules were not checked because the object was invalid; correct the existing errors to \
               complete validation";
    apimachinery::field::Error::invalid(&Path::NIL, Value::Null, why)
}

fn node(schema: &Structural, root: bool) -> Option<Node> {
    let below = |schema: &Structural| node(schema, schema.embedded).map(Box::new);
    let properties = schema.properties.iter().filter(|(_, property)| declare::is_declared(property));
    let node = Node {
        own: (!schema.rules.is_empty()).then(|| Box::new(Own { root, ready: OnceLock::new() })),
        properties: properties
            .filter_map(|(name, property)| Some((name.clone(), node(property, property.embedded)?)))
            .collect(),
        items: schema.items.as_deref().and_then(below),
        additional: schema.additional.schema().and_then(below),
    };
    let has_some = node.own.is_some()
        || !node.properties.is_empty()
        || node.items.is_some()
        || node.additional.is_some();
    has_some.then_some(node)
}

impl Own {
    /// The rules of `schema`, compiled when this is asked for the first time. `known`: how expressions see the node,
    /// if a node above has found out.
    fn ready(&self, schema: &Structural, known: Option<&Arc<DeclType>>) -> &Ready {
        self.ready.get_or_init(|| {
            let declared = known.cloned().or_else(|| compile::declare(schema, self.root));
            let rules = declared.as_ref().map_or_else(Box::default, |declared| {
                let mut environments = compile::Environments::new(declared);
                schema.rules.iter().map(|rule| prepare(rule, schema, &mut environments)).collect()
            });
            let use_old = rules.iter().any(|rule| rule.uses_old);
            Ready { declared, rules, use_old }
        })
    }
}

fn prepare(
    rule: &crate::structural::Rule,
    schema: &Structural,
    environments: &mut compile::Environments,
) -> Prepared {
    let compiled = compile::compile(rule, schema, environments, false);
    Prepared {
        program: match compiled.error {
            Some(why) => Err(why.into()),
            None => Ok(compiled.program),
        },
        message: compiled.message,
        uses_old: compiled.uses_old,
        field_path: compiled.field_path,
    }
}

#[cfg(test)]
mod tests;
