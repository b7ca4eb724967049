//! Types: every expression gets one, every call the overloads that can be meant.

use std::sync::Arc;

use crate::ast::{Ast, Comprehension, Expr, Id, Literal};
use crate::decls::{Function, Overload};
use crate::environment::Environment;
use crate::issues::Issues;
use crate::types::Type;
use crate::unify::{Bindings, most_general};

/// An expression with its types.
pub struct Checked {
    /// With variables of dotted names, and functions of dotted names, in place of the selections they were written
    /// as.
    pub ast: Ast,
    pub types: Vec<Type>,
    /// Per call, the overloads that can be meant.
    pub overloads: Vec<Vec<&'static Overload>>,
    /// Identifiers that name a type.
    pub type_names: Vec<Option<Type>>,
}

impl Checked {
    pub fn kind(&self, id: Id) -> &Type {
        &self.types[id as usize]
    }

    /// The overload's name, where only one can be meant.
    pub fn overload(&self, id: Id) -> Option<&'static str> {
        match self.overloads[id as usize].as_slice() {
            [only] => Some(only.id),
            _ => None,
        }
    }

    pub fn result(&self) -> &Type {
        self.kind(self.ast.root)
    }
}

/// Checks a parsed expression.
///
/// # Errors
/// All faults.
pub fn check(ast: Ast, source: &str, environment: &Environment) -> Result<Checked, Issues> {
    let count = ast.nodes.len();
    let mut checker = Checker {
        environment,
        issues: Issues::new(source),
        bindings: Bindings::default(),
        scopes: Vec::new(),
        types: vec![None; count],
        overloads: vec![Vec::new(); count],
        type_names: vec![None; count],
        ast,
    };
    let root = checker.ast.root;
    checker.check(root);
    let Checker { ast, issues, bindings, types, overloads, type_names, .. } = checker;
    if !issues.is_empty() {
        return Err(issues);
    }
    let settle = |it: Option<Type>| it.map_or(Type::Dyn, |it| bindings.substitute(&it, true));
    Ok(Checked { ast, types: types.into_iter().map(settle).collect(), overloads, type_names })
}

struct Checker<'e> {
    environment: &'e Environment,
    issues: Issues,
    bindings: Bindings,
    scopes: Vec<(Arc<str>, Type)>,
    ast: Ast,
    types: Vec<Option<Type>>,
    overloads: Vec<Vec<&'static Overload>>,
    type_names: Vec<Option<Type>>,
}

impl Checker<'_> {
    fn report(&mut self, id: Id, message: String) {
        self.issues.report(self.ast.offset(id), message);
    }

    fn set(&mut self, id: Id, kind: Type) {
        self.types[id as usize] = Some(kind);
    }

    fn kind(&self, id: Id) -> Type {
        self.types[id as usize].clone().unwrap_or(Type::Error)
    }

    fn mismatch(&mut self, id: Id, expected: &Type, found: &Type) {
        self.report(id, format!("expected type '{expected}' but found '{found}'"));
    }

    fn check(&mut self, id: Id) {
        if self.types[id as usize].is_some() {
            return;
        }
        match self.ast.expr(id).clone() {
            Expr::Literal(literal) => self.set(id, literal_type(&literal)),
            Expr::Ident(name) => self.check_ident(id, &name),
            Expr::Select { operand, field, test_only } => self.check_select(id, operand, &field, test_only),
            Expr::Call { function, target, args } => self.check_call(id, &function, target, &args),
            Expr::List { elements, optional } => self.check_list(id, &elements, &optional),
            Expr::Map { .. } => self.check_map(id),
            Expr::Struct { .. } => self.check_struct(id),
            Expr::Comprehension(it) => self.check_comprehension(id, &it),
            Expr::Error => self.set(id, Type::Error),
        }
    }

    /// A variable, or a type by its name.
    fn lookup(&mut self, id: Id, name: &str) -> Option<Type> {
        let name = name.strip_prefix('.').unwrap_or(name);
        if let Some((_, kind)) = self.scopes.iter().rev().find(|(it, _)| **it == *name) {
            return Some(kind.clone());
        }
        if let Some(variable) = self.environment.variable(name) {
            return Some(variable.cel_type());
        }
        let named = Type::by_name(name).or_else(|| self.environment.object(name).map(|it| it.cel_type()))?;
        self.type_names[id as usize] = Some(named.clone());
        Some(match named {
            Type::Type(None) => Type::of(Type::Type(None)),
            Type::List(_) => Type::of(Type::list(self.bindings.fresh())),
            Type::Map(_) => {
                let (key, value) = (self.bindings.fresh(), self.bindings.fresh());
                Type::of(Type::map(key, value))
            }
            named => Type::of(named),
        })
    }

    fn check_ident(&mut self, id: Id, name: &str) {
        match self.lookup(id, name) {
            Some(kind) => {
                self.set(id, kind);
                self.strip_dot(id, name);
            }
            None => {
                self.set(id, Type::Error);
                self.report(id, undeclared(name));
            }
        }
    }

    fn strip_dot(&mut self, id: Id, name: &str) {
        self.ast.nodes[id as usize] = Expr::Ident(name.strip_prefix('.').unwrap_or(name).into());
    }

    fn check_select(&mut self, id: Id, operand: Id, field: &str, test_only: bool) {
        if !test_only
            && let Some(name) = self.ast.qualified_name(id)
            && let Some(kind) = self.lookup(id, &name)
        {
            self.set(id, kind);
            self.strip_dot(id, &name);
            return;
        }
        let kind = self.select(id, operand, field, false);
        let kind = if test_only { Type::Bool } else { self.bindings.substitute(&kind, false) };
        self.set(id, kind);
    }

    fn select(&mut self, id: Id, operand: Id, field: &str, optional: bool) -> Type {
        self.check(operand);
        let operand = self.bindings.substitute(&self.kind(operand), false);
        let (target, was_optional) = match operand.unwrap_optional() {
            Some(inner) => (inner.clone(), true),
            None => (operand, false),
        };
        let kind = match &target {
            Type::Map(pair) => pair.1.clone(),
            Type::Struct(name) => self.field_type(id, name, field).unwrap_or(Type::Error),
            Type::Variable(_) => {
                self.bindings.assignable(&Type::Dyn, &target);
                Type::Dyn
            }
            Type::Dyn | Type::Error => Type::Dyn,
            other => {
                self.report(id, format!("type '{other}' does not support field selection"));
                Type::Dyn
            }
        };
        if was_optional || optional { Type::optional(kind) } else { kind }
    }

    fn field_type(&mut self, id: Id, object: &str, field: &str) -> Option<Type> {
        let Some(declared) = self.environment.object(object) else {
            self.report(id, format!("unexpected failed resolution of '{object}'"));
            return None;
        };
        let found = declared.field_type(field);
        if found.is_none() {
            self.report(id, format!("undefined field '{field}'"));
        }
        found
    }

    fn check_call(&mut self, id: Id, name: &str, target: Option<Id>, args: &[Id]) {
        if name == "_?._" {
            if let [operand, field] = args
                && let Expr::Literal(Literal::String(field)) = self.ast.expr(*field).clone()
            {
                let kind = self.select(id, *operand, &field, true);
                self.set(args[1], Type::String);
                self.set(id, self.bindings.substitute(&kind, false));
            }
            return;
        }
        for arg in args {
            self.check(*arg);
        }
        let Some(target) = target else {
            let name = name.strip_prefix('.').unwrap_or(name);
            match self.environment.function(name) {
                Some(function) => {
                    self.rewrite_call(id, function, args);
                    self.resolve(id, function, None, args);
                }
                None => {
                    self.report(id, undeclared(name));
                    self.set(id, Type::Error);
                }
            }
            return;
        };
        if let Some(prefix) = self.ast.qualified_name(target) {
            let prefix = prefix.strip_prefix('.').unwrap_or(&prefix);
            if let Some(function) = self.environment.function(&format!("{prefix}.{name}")) {
                self.rewrite_call(id, function, args);
                self.resolve(id, function, None, args);
                return;
            }
        }
        self.check(target);
        match self.environment.function(name) {
            Some(function) => self.resolve(id, function, Some(target), args),
            None => {
                self.set(id, Type::Error);
                self.report(id, undeclared(name));
            }
        }
    }

    fn rewrite_call(&mut self, id: Id, function: &Function, args: &[Id]) {
        let call = Expr::Call { function: function.name.into(), target: None, args: args.to_vec() };
        self.ast.nodes[id as usize] = call;
    }

    fn resolve(&mut self, id: Id, function: &'static Function, target: Option<Id>, args: &[Id]) {
        let mut given: Vec<Type> = target.iter().chain(args).map(|arg| self.kind(*arg)).collect();
        if matches!(function.name, "_&&_" | "_||_") {
            self.overloads[id as usize] = vec![&function.overloads[0]];
            let mut kind = Type::Bool;
            for (arg, found) in args.iter().zip(&given) {
                if !self.bindings.assignable(found, &Type::Bool) {
                    self.mismatch(*arg, &Type::Bool, found);
                    kind = Type::Error;
                }
            }
            self.set(id, kind);
            return;
        }
        let mut result: Option<Type> = None;
        for overload in &function.overloads {
            if overload.member != target.is_some() {
                continue;
            }
            let fresh: Vec<Type> = overload.letters.iter().map(|_| self.bindings.fresh()).collect();
            let instantiate = |it: &Type| Bindings::instantiate(it, &overload.letters, &fresh);
            let wanted: Vec<Type> = overload.params.iter().map(instantiate).collect();
            if !self.bindings.all_assignable(&given, &wanted) {
                continue;
            }
            self.overloads[id as usize].push(overload);
            let this = self.bindings.substitute(&instantiate(&overload.result), false);
            match &result {
                None => result = Some(this),
                Some(Type::Dyn) => {}
                Some(before) if *before != this => result = Some(Type::Dyn),
                Some(_) => {}
            }
        }
        let Some(result) = result else {
            for it in &mut given {
                *it = self.bindings.substitute(it, true);
            }
            let listed = |types: &[Type]| types.iter().map(Type::to_string).collect::<Vec<_>>().join(", ");
            let signature = match (target, given.split_first()) {
                (Some(_), Some((target, args))) => format!("{target}.({})", listed(args)),
                _ => format!("({})", listed(&given)),
            };
            let name = function.name;
            self.report(id, format!("found no matching overload for '{name}' applied to '{signature}'"));
            self.set(id, Type::Error);
            return;
        };
        self.set(id, result);
    }

    /// The type of both; what does not go together is `dyn`, for the validators to refuse.
    fn join(&mut self, before: Option<Type>, current: Type) -> Type {
        match before {
            None => current,
            Some(before) if self.bindings.assignable(&before, &current) => most_general(&before, &current),
            Some(_) => Type::Dyn,
        }
    }

    /// What an entry marked optional adds.
    fn unwrapped(&mut self, id: Id, kind: Type) -> Type {
        match kind.unwrap_optional() {
            Some(inner) => inner.clone(),
            None => {
                if kind != Type::Dyn {
                    self.mismatch(id, &Type::optional(kind.clone()), &kind);
                }
                kind
            }
        }
    }

    fn check_list(&mut self, id: Id, elements: &[Id], optional: &[bool]) {
        let mut joined = None;
        for (element, optional) in elements.iter().zip(optional) {
            self.check(*element);
            let mut kind = self.kind(*element);
            if *optional {
                kind = self.unwrapped(*element, kind);
            }
            joined = Some(self.join(joined, kind));
        }
        let element = joined.unwrap_or_else(|| self.bindings.fresh());
        self.set(id, Type::list(element));
    }

    fn check_map(&mut self, id: Id) {
        let Expr::Map { entries } = self.ast.expr(id).clone() else { return };
        let (mut keys, mut values) = (None, None);
        for entry in entries {
            self.check(entry.key);
            let key = self.kind(entry.key);
            keys = Some(self.join(keys, key));
            self.check(entry.value);
            let mut value = self.kind(entry.value);
            if entry.optional {
                value = self.unwrapped(entry.value, value);
            }
            values = Some(self.join(values, value));
        }
        let (key, value) = match (keys, values) {
            (Some(key), Some(value)) => (key, value),
            _ => (self.bindings.fresh(), self.bindings.fresh()),
        };
        self.set(id, Type::map(key, value));
    }

    fn check_struct(&mut self, id: Id) {
        let Expr::Struct { name, fields } = self.ast.expr(id).clone() else { return };
        let Some(named) = self.lookup(id, &name) else {
            self.report(id, undeclared(&name));
            self.set(id, Type::Error);
            return;
        };
        let mut object = None;
        let mut kind = Type::Error;
        match &named {
            Type::Type(Some(inner)) => match &**inner {
                Type::Struct(name) => {
                    object = Some(name.clone());
                    kind = (**inner).clone();
                }
                other => self.report(id, format!("'{}' is not a message type", other.runtime_name())),
            },
            Type::Error => {}
            other => self.report(id, format!("'{}' is not a type", other.runtime_name())),
        }
        self.set(id, kind);
        for field in fields {
            self.check(field.value);
            let mut found = self.kind(field.value);
            let wanted = match &object {
                None => Type::Error,
                Some(object) => {
                    match self.environment.object(object).and_then(|it| it.field_type(&field.name)) {
                        Some(kind) => kind,
                        None => {
                            self.issues.report(field.offset, format!("undefined field '{}'", field.name));
                            Type::Error
                        }
                    }
                }
            };
            if field.optional {
                found = self.unwrapped(field.value, found);
            }
            if !self.bindings.assignable(&wanted, &found) {
                let message = format!(
                    "expected type of field '{}' is '{wanted}' but provided type is '{found}'",
                    field.name
                );
                self.issues.report(field.offset, message);
            }
        }
    }

    fn check_comprehension(&mut self, id: Id, it: &Comprehension) {
        self.check(it.range);
        self.check(it.init);
        let range = self.bindings.substitute(&self.kind(it.range), false);
        let accumulated = self.kind(it.init);
        let outside = self.scopes.len();
        self.scopes.push((it.accumulator.clone(), accumulated.clone()));
        let (first, second) = match &range {
            Type::List(element) if it.second.is_some() => (Type::Int, (**element).clone()),
            Type::List(element) => ((**element).clone(), Type::Error),
            Type::Map(pair) => pair.as_ref().clone(),
            Type::Dyn | Type::Error | Type::Variable(_) => {
                self.bindings.assignable(&Type::Dyn, &range);
                (Type::Dyn, Type::Dyn)
            }
            other => {
                let message = format!(
                    "expression of type '{other}' cannot be range of a comprehension (must be list, map, or dynamic)"
                );
                self.report(it.range, message);
                (Type::Error, Type::Error)
            }
        };
        let accumulator = self.scopes.len();
        self.scopes.push((it.variable.clone(), first));
        if let Some(name) = &it.second {
            self.scopes.push((name.clone(), second));
        }
        self.check(it.condition);
        self.assert(it.condition, &Type::Bool);
        self.check(it.step);
        self.assert(it.step, &accumulated);
        self.scopes.truncate(accumulator);
        self.check(it.result);
        self.scopes.truncate(outside);
        let result = self.bindings.substitute(&self.kind(it.result), false);
        self.set(id, result);
    }

    fn assert(&mut self, id: Id, wanted: &Type) {
        let found = self.kind(id);
        if !self.bindings.assignable(wanted, &found) {
            self.mismatch(id, wanted, &found);
        }
    }
}

fn undeclared(name: &str) -> String {
    format!("undeclared reference to '{name}' (in container '')")
}

pub(crate) fn literal_type(literal: &Literal) -> Type {
    match literal {
        Literal::Null => Type::Null,
        Literal::Bool(_) => Type::Bool,
        Literal::Int(_) => Type::Int,
        Literal::Uint(_) => Type::Uint,
        Literal::Double(_) => Type::Double,
        Literal::String(_) => Type::String,
        Literal::Bytes(_) => Type::Bytes,
    }
}
