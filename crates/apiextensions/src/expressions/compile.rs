//! From the text of a rule to programs.

use std::sync::Arc;

use cel::{DeclType, Environment, Program, Type};

use crate::definition;
use crate::structural::{Rule, Structural};

/// The variable for the value that a rule stands at.
pub(crate) const SELF: &str = "self";
/// The variable for what was there before.
pub(crate) const OLD_SELF: &str = "oldSelf";

/// The declaration of what rules at a schema see; `root`: the schema is a resource's. None if expressions know no
/// such type.
pub(crate) fn declare(schema: &Structural, root: bool) -> Option<Arc<DeclType>> {
    DeclType::from_schema(schema, root).map(|declared| Arc::new(declared.named("selfType")))
}

/// The declaration of a property, within that of its object.
pub(crate) fn declared_property<'d>(object: &'d DeclType, name: &str) -> Option<&'d Arc<DeclType>> {
    match &object.kind {
        cel::Kind::Object(object) => object.properties.get(name),
        _ => None,
    }
}

/// The declaration of a list's or a map's elements.
pub(crate) fn declared_element(container: &DeclType) -> Option<&Arc<DeclType>> {
    match &container.kind {
        cel::Kind::List { element, .. } => Some(element),
        cel::Kind::Map { value } => Some(value),
        _ => None,
    }
}

/// What the rules of one node are compiled against: with `oldSelf` as it is, or optional.
pub(crate) struct Environments {
    declared: Arc<DeclType>,
    plain: Environment,
    optional: Option<Environment>,
}

impl Environments {
    pub fn new(declared: &Arc<DeclType>) -> Environments {
        let plain = Environment::new().with_variable(SELF, declared.clone());
        let plain = plain.with_variable(OLD_SELF, declared.clone());
        Environments { declared: declared.clone(), plain, optional: None }
    }

    fn of(&mut self, rule: &Rule) -> &Environment {
        if rule.optional_old_self != Some(true) {
            return &self.plain;
        }
        let declared = &self.declared;
        self.optional.get_or_insert_with(|| {
            let environment = Environment::new().with_variable(SELF, declared.clone());
            environment.with(OLD_SELF, Type::optional(declared.cel_type()))
        })
    }
}

/// What became of a rule.
#[derive(Default)]
pub(crate) struct Compiled {
    /// Why there is no program, in upstream's words. Neither this nor a program: the rule is empty.
    pub error: Option<String>,
    pub program: Option<Program>,
    pub uses_old: bool,
    /// What an evaluation costs at most.
    pub cost: u64,
    pub message_error: Option<String>,
    pub message: Option<Program>,
    pub message_cost: u64,
    /// `fieldPath`, as it is put behind the path of the node.
    pub field_path: Box<str>,
}

/// Compiles a rule that stands at `schema`. Costs are worked out with `estimated` only.
///
/// Source: `schema/cel/compilation.go`.
pub(crate) fn compile(
    rule: &Rule,
    schema: &Structural,
    environments: &mut Environments,
    estimated: bool,
) -> Compiled {
    let mut compiled = Compiled::default();
    if rule.rule.trim().is_empty() {
        return compiled;
    }
    let environment = environments.of(rule);
    let expression = match cel::compile(&rule.rule, environment) {
        Ok(expression) => expression,
        Err(issues) => {
            compiled.error = Some(format!("compilation failed: {issues}"));
            return compiled;
        }
    };
    if *expression.result() != Type::Bool {
        compiled.error = Some("cel expression must evaluate to a bool".to_owned());
        return compiled;
    }
    compiled.uses_old = expression.uses(OLD_SELF);
    match expression.program(environment) {
        Ok(program) => compiled.program = Some(program),
        Err(why) => {
            compiled.error = Some(format!("program instantiation failed: {why}"));
            return compiled;
        }
    }
    if estimated {
        compiled.cost = expression.estimate(environment).max;
    }
    if !rule.message_expression.is_empty()
        && let Err(why) = message(&rule.message_expression, environment, estimated, &mut compiled)
    {
        compiled.message_error = Some(why);
        return compiled;
    }
    if let Ok(path) = definition::field_path(&rule.field_path, schema, true) {
        compiled.field_path = path.text.into();
    }
    compiled
}

fn message(
    source: &str,
    environment: &Environment,
    estimated: bool,
    compiled: &mut Compiled,
) -> Result<(), String> {
    let expression = cel::compile(source, environment)
        .map_err(|issues| format!("messageExpression compilation failed: {issues}"))?;
    if *expression.result() != Type::String {
        return Err("messageExpression must evaluate to a string".to_owned());
    }
    let program = expression
        .program(environment)
        .map_err(|why| format!("messageExpression instantiation failed: {why}"))?;
    compiled.message = Some(program);
    if estimated {
        compiled.message_cost = expression.estimate(environment).max;
    }
    Ok(())
}
