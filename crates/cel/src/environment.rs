//! What an expression may name: variables, object types, functions.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::decl_type::{DeclType, Kind};
use crate::decls::{self, Function};
use crate::types::Type;

/// The names that expressions are compiled against. Cheap to build; one serves any number of expressions.
#[derive(Debug, Clone, Default)]
pub struct Environment {
    variables: Vec<(Arc<str>, Arc<DeclType>)>,
    objects: BTreeMap<Arc<str>, Arc<DeclType>>,
    mutation: bool,
    binds: bool,
}

impl Environment {
    pub fn new() -> Environment {
        Environment::default()
    }

    /// Declares a variable. Objects in its type must have names ([`DeclType::named`]).
    pub fn with_variable(mut self, name: &str, kind: Arc<DeclType>) -> Environment {
        kind.objects(&mut self.objects);
        self.variables.retain(|(it, _)| **it != *name);
        self.variables.push((name.into(), kind));
        self
    }

    /// Declares a variable of one of the language's or the libraries' types.
    pub fn with(self, name: &str, kind: Type) -> Environment {
        self.with_variable(name, Arc::new(DeclType::plain(kind)))
    }

    /// Declares an object type that no variable has.
    pub fn with_object(mut self, kind: Arc<DeclType>) -> Environment {
        kind.objects(&mut self.objects);
        self
    }

    /// Adds what mutating policies have: `JSONPatch{…}`, `Object{…}` and `jsonpatch.escapeKey`.
    pub fn with_mutation(mut self) -> Environment {
        self.mutation = true;
        let text = || DeclType::plain(Type::String);
        let fields = [("op", text()), ("path", text()), ("from", text()), ("value", DeclType::dynamic())];
        let fields = fields.map(|(name, kind)| (name.to_owned(), kind));
        self.with_object(Arc::new(DeclType::object("JSONPatch", fields)))
    }

    /// Adds what selectors of devices have: the macro `cel.bind(name, value, expression)`.
    pub fn with_bindings(mut self) -> Environment {
        self.binds = true;
        self
    }

    pub(crate) fn binds(&self) -> bool {
        self.binds
    }

    pub fn variable(&self, name: &str) -> Option<&Arc<DeclType>> {
        self.variables.iter().find(|(it, _)| **it == *name).map(|(_, kind)| kind)
    }

    /// A variable's place among [`Environment::variables`].
    pub(crate) fn position(&self, name: &str) -> Option<usize> {
        self.variables.iter().position(|(it, _)| **it == *name)
    }

    /// The variables in the order in which they were declared, which is the order of values for evaluation.
    pub fn variables(&self) -> impl Iterator<Item = (&str, &Arc<DeclType>)> {
        self.variables.iter().map(|(name, kind)| (&**name, kind))
    }

    pub(crate) fn object(&self, name: &str) -> Option<Arc<DeclType>> {
        if self.mutation && (name == "Object" || name.starts_with("Object.")) {
            let kind = Kind::Open(name.into());
            return Some(Arc::new(DeclType { kind, max_elements: 0, min_size: 2, nullable: false }));
        }
        self.objects.get(name).cloned()
    }

    pub(crate) fn function(&self, name: &str) -> Option<&'static Function> {
        if name == "jsonpatch.escapeKey" && !self.mutation {
            return None;
        }
        decls::functions().get(name)
    }
}
