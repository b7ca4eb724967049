//! The Common Expression Language as Kubernetes has it: for validation rules of custom resources, admission policies,
//! match conditions and device selectors.
//!
//! An expression is compiled against an [`Environment`], which says what it may name: [`compile`] parses, checks types
//! and literals, and reports faults as users know them. What it can cost at most is [`Compiled::estimate`]. Its
//! [`Program`] is evaluated against JSON, which is viewed through its declaration ([`DeclType`]) and not copied, and
//! every evaluation has a budget.
//!
//! ```
//! use std::sync::Arc;
//! use cel::{DeclType, Environment, Value};
//!
//! let schema = serde_json::json!({"type": "object", "properties": {"replicas": {"type": "integer"}}});
//! let declared = Arc::new(DeclType::from_schema(&schema, false).unwrap().named("self"));
//! let environment = Environment::new().with_variable("self", declared.clone());
//! let program = cel::compile("self.replicas > 2", &environment).unwrap().program(&environment).unwrap();
//! let object = serde_json::json!({"replicas": 3});
//! let variables = [Some(Value::declared(&object, &declared).unwrap())];
//! let outcome = program.evaluate(&variables, cel::cost::PER_CALL_LIMIT);
//! assert_eq!(outcome.value.unwrap().as_bool(), Some(true));
//! ```
//!
//! Start reading at `parser`, `checker`, `plan`, `eval`, in the order in which an expression goes through them; the
//! functions are in `library/` and their signatures in `functions.tsv`. What is not here: anything that asks a clock,
//! a network or an authorizer (the caller supplies decisions, see [`authz`]).

mod ast;
mod checker;
pub mod cost;
mod decl_type;
mod decls;
mod environment;
mod error;
pub mod escaping;
mod estimate;
mod estimate_calls;
mod eval;
mod issues;
mod lexer;
mod library;
mod macros;
mod numbers;
mod ops;
mod parser;
mod plan;
pub mod re2;
mod time;
mod types;
mod unify;
mod validators;
mod value;
mod view;

pub use decl_type::{DeclType, Field, Kind, ListType, Object, Schema};
pub use environment::Environment;
pub use error::Error;
pub use estimate::Range;
pub use eval::Outcome;
pub use issues::{Issue, Issues, Location};
pub use library::authz;
pub use plan::Program;
pub use time::Time;
pub use types::Type;
pub use value::{Constructed, List, Lookup, Map, Result, Text, Value};

/// An expression that is well formed.
pub struct Compiled {
    checked: checker::Checked,
}

/// Parses an expression and checks it.
///
/// # Errors
/// All faults, with their places.
pub fn compile(source: &str, environment: &Environment) -> std::result::Result<Compiled, Issues> {
    let ast = parser::parse(source, environment.binds())?;
    let checked = checker::check(ast, source, environment)?;
    validators::validate(&checked, source)?;
    Ok(Compiled { checked })
}

impl Compiled {
    /// The type of what it evaluates to.
    pub fn result(&self) -> &Type {
        self.checked.result()
    }

    /// Whether it names a variable.
    pub fn uses(&self, variable: &str) -> bool {
        self.checked.ast.nodes.iter().any(|it| matches!(it, ast::Expr::Ident(name) if **name == *variable))
    }

    /// Whether it selects this field, plainly or optionally, of a variable or, without one, of anything.
    pub fn selects(&self, variable: Option<&str>, name: &str) -> bool {
        let ast = &self.checked.ast;
        let of = |operand: ast::Id| match variable {
            None => true,
            Some(variable) => matches!(ast.expr(operand), ast::Expr::Ident(it) if **it == *variable),
        };
        let is = |field: ast::Id| matches!(ast.expr(field), ast::Expr::Literal(ast::Literal::String(it)) if **it == *name);
        ast.nodes.iter().any(|node| match node {
            ast::Expr::Select { operand, field, .. } => **field == *name && of(*operand),
            ast::Expr::Call { function, args, .. } if &**function == "_?._" => {
                matches!(args[..], [operand, field] if is(field) && of(operand))
            }
            _ => false,
        })
    }

    /// What it costs at least and at most.
    pub fn estimate(&self, environment: &Environment) -> Range {
        estimate::estimate(&self.checked, environment)
    }

    /// What is evaluated.
    ///
    /// # Errors
    /// A conversion of a constant that fails, and a constant pattern that is none.
    pub fn program(&self, environment: &Environment) -> std::result::Result<Program, String> {
        plan::plan(&self.checked, environment)
    }
}
