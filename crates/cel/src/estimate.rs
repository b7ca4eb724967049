//! What an expression can cost at most, from what the schema says of sizes. As cel-go estimates it, with Kubernetes'
//! rules for its libraries.

use std::collections::HashMap;
use std::sync::Arc;

use crate::ast::{Comprehension, Expr, Id, Literal};
use crate::checker::Checked;
use crate::cost::{CHECK, LIST, MAP, OBJECT, REGEX, TRAVERSAL};
use crate::decl_type::{DeclType, Kind};
use crate::environment::Environment;
use crate::estimate_calls::Call;
use crate::macros::ACCUMULATOR;
use crate::types::Type;

/// A least and a greatest cost, or size.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Range {
    pub min: u64,
    pub max: u64,
}

impl Range {
    pub const UNKNOWN: Range = Range { min: 0, max: u64::MAX };

    pub const fn fixed(value: u64) -> Range {
        Range { min: value, max: value }
    }

    pub const fn new(min: u64, max: u64) -> Range {
        Range { min, max }
    }

    pub(crate) fn plus(self, other: Range) -> Range {
        Range { min: self.min.saturating_add(other.min), max: self.max.saturating_add(other.max) }
    }

    pub(crate) fn times(self, other: Range) -> Range {
        Range { min: self.min.saturating_mul(other.min), max: self.max.saturating_mul(other.max) }
    }

    pub(crate) fn scaled(self, factor: f64) -> Range {
        // Conversion saturates, as the reference's does.
        let scale = |it: u64| (it as f64 * factor).ceil() as u64;
        Range { min: scale(self.min), max: scale(self.max) }
    }

    pub(crate) fn union(self, other: Range) -> Range {
        Range { min: self.min.min(other.min), max: self.max.max(other.max) }
    }
}

/// Sizes of what is in a container.
#[derive(Debug, Clone, Copy)]
struct Entries {
    list: bool,
    key: Range,
    value: Range,
}

impl Entries {
    fn union(one: Option<Entries>, other: Option<Entries>) -> Option<Entries> {
        let (one, other) = (one?, other?);
        Some(Entries { list: one.list, key: one.key.union(other.key), value: one.value.union(other.value) })
    }
}

type Path = Vec<Arc<str>>;

#[derive(Clone)]
struct Local {
    path: Path,
    size: Option<Range>,
    entries: Option<Entries>,
}

/// Estimates a checked expression.
pub(crate) fn estimate(checked: &Checked, environment: &Environment) -> Range {
    let mut coster = Coster {
        checked,
        environment,
        costs: vec![None; checked.ast.nodes.len()],
        paths: HashMap::new(),
        sizes: HashMap::new(),
        entries: HashMap::new(),
        locals: Vec::new(),
    };
    coster.cost(checked.ast.root)
}

pub(crate) struct Coster<'c> {
    checked: &'c Checked,
    environment: &'c Environment,
    /// An expression can have two parents.
    costs: Vec<Option<Range>>,
    paths: HashMap<Id, Path>,
    sizes: HashMap<Id, Range>,
    entries: HashMap<Id, Entries>,
    locals: Vec<(Arc<str>, Local)>,
}

/// An argument as a function's estimate sees it.
pub(crate) struct Argument<'c> {
    pub id: Id,
    pub kind: &'c Type,
    path: Path,
    computed: Option<Range>,
}

impl<'c> Coster<'c> {
    fn cost(&mut self, id: Id) -> Range {
        if let Some(done) = self.costs[id as usize] {
            return done;
        }
        let checked = self.checked;
        let cost = match checked.ast.expr(id) {
            Expr::Literal(_) | Expr::Error => Range::fixed(0),
            Expr::Ident(name) => {
                let path = self.local(name).map_or_else(|| vec![name.clone()], |it| it.path.clone());
                self.paths.insert(id, path);
                Range::fixed(1)
            }
            Expr::Select { operand, field, test_only } => self.select(id, *operand, field, *test_only),
            Expr::Call { function, target, args } => self.call(id, function, *target, args),
            Expr::List { elements, .. } => self.list(id, elements),
            Expr::Map { entries } => {
                let entries: Vec<(Id, Id)> = entries.iter().map(|it| (it.key, it.value)).collect();
                self.map(id, &entries)
            }
            Expr::Struct { fields, .. } => {
                let values: Vec<Id> = fields.iter().map(|it| it.value).collect();
                values.into_iter().fold(Range::fixed(OBJECT), |sum, it| sum.plus(self.cost(it)))
            }
            Expr::Comprehension(it) => {
                if self.binds(it) {
                    self.bind(id, it)
                } else {
                    self.comprehension(id, it)
                }
            }
        };
        self.costs[id as usize] = Some(cost);
        cost
    }

    fn local(&self, name: &str) -> Option<&Local> {
        self.locals.iter().rev().find(|(it, _)| **it == *name).map(|(_, local)| local)
    }

    fn path(&self, id: Id) -> Path {
        if let Expr::Ident(name) = self.checked.ast.expr(id)
            && let Some(local) = self.local(name)
        {
            return local.path.clone();
        }
        self.paths.get(&id).cloned().unwrap_or_default()
    }

    fn extended(&self, id: Id, step: &str) -> Path {
        let mut path = self.path(id);
        path.push(step.into());
        path
    }

    fn select(&mut self, id: Id, operand: Id, field: &Arc<str>, test_only: bool) -> Range {
        let sum = self.cost(operand);
        if test_only {
            return sum;
        }
        let path = self.extended(operand, field);
        self.paths.insert(id, path);
        match self.checked.kind(operand) {
            Type::Map(_) | Type::Struct(_) | Type::Param(_) | Type::Variable(_) => sum.plus(Range::fixed(1)),
            _ => sum,
        }
    }

    fn list(&mut self, id: Id, elements: &[Id]) -> Range {
        let mut sum = Range::fixed(LIST);
        let mut value = Range::new(if elements.is_empty() { 0 } else { u64::MAX }, 0);
        for element in elements {
            sum = sum.plus(self.cost(*element));
            value = value.union(self.size_or_unknown(*element));
        }
        self.entries.insert(id, Entries { list: true, key: Range::fixed(1), value });
        sum
    }

    fn map(&mut self, id: Id, entries: &[(Id, Id)]) -> Range {
        let mut sum = Range::fixed(MAP);
        let mut key_size = Range::new(if entries.is_empty() { 0 } else { u64::MAX }, 0);
        let mut value_size = key_size;
        for (key, value) in entries {
            sum = sum.plus(self.cost(*key)).plus(self.cost(*value));
            key_size = key_size.union(self.size_or_unknown(*key));
            value_size = value_size.union(self.size_or_unknown(*value));
        }
        self.entries.insert(id, Entries { list: false, key: key_size, value: value_size });
        sum
    }

    /// Whether a comprehension only binds a name.
    fn binds(&self, it: &Comprehension) -> bool {
        let nothing =
            matches!(self.checked.ast.expr(it.range), Expr::List { elements, .. } if elements.is_empty());
        let never = matches!(self.checked.ast.expr(it.condition), Expr::Literal(Literal::Bool(false)));
        nothing && never
    }

    fn bind(&mut self, id: Id, it: &Comprehension) -> Range {
        let sum = self.cost(it.range).plus(self.cost(it.init));
        self.push_local(&it.accumulator, it.init);
        let sum = sum.plus(self.cost(it.result));
        self.locals.pop();
        self.copy_sizes(id, it.result);
        sum
    }

    fn push_local(&mut self, name: &Arc<str>, id: Id) {
        let local = Local { path: self.path(id), size: self.size(id), entries: self.entries_of(id) };
        self.locals.push((name.clone(), local));
    }

    fn copy_sizes(&mut self, to: Id, from: Id) {
        if let Some(size) = self.size(from) {
            self.sizes.insert(to, size);
        }
        if let Some(entries) = self.entries_of(from) {
            self.entries.insert(to, entries);
        }
    }

    fn comprehension(&mut self, id: Id, it: &Comprehension) -> Range {
        let mut sum = self.cost(it.range).plus(self.cost(it.init));
        let outside = self.locals.len();
        self.push_local(&it.accumulator, it.init);
        let entries = self.entries_of(it.range);
        let list = entries.map_or_else(|| matches!(self.checked.kind(it.range), Type::List(_)), |it| it.list);
        let (keys, values) = if list { ("@indices", "@items") } else { ("@keys", "@values") };
        let path_of = |this: &Self, step: &str| this.extended(it.range, step);
        let local = |path, size| Local { path, size, entries: None };
        if let Some(second) = &it.second {
            let key = local(path_of(self, keys), entries.map(|it| it.key));
            let value = local(path_of(self, values), entries.map(|it| it.value));
            self.locals.push((it.variable.clone(), key));
            self.locals.push((second.clone(), value));
        } else {
            let step = if list { "@items" } else { "@keys" };
            let size = entries.map(|it| if list { it.value } else { it.key });
            let item = local(path_of(self, step), size);
            self.locals.push((it.variable.clone(), item));
        }
        let turn = self.cost(it.condition).plus(self.cost(it.step));
        self.locals.truncate(outside + 1);
        sum = sum.plus(self.cost(it.result));
        self.locals.truncate(outside);
        let count = self.size_or_unknown(it.range);
        sum = sum.plus(count.times(turn));
        match self.checked.ast.expr(it.init) {
            Expr::Literal(_) => {
                if let Some(size) = self.size(it.init) {
                    self.sizes.insert(id, size);
                }
            }
            Expr::List { .. } | Expr::Map { .. } => {
                self.sizes.insert(id, count);
                if let Some(entries) = self.entries_of(it.step) {
                    self.entries.insert(id, entries);
                }
            }
            _ => {}
        }
        sum
    }

    fn argument(&mut self, id: Id) -> Argument<'c> {
        let mut path = self.path(id);
        if path.first().is_some_and(|it| **it == *ACCUMULATOR) {
            path.clear();
        }
        let computed = self.size(id);
        Argument { id, kind: self.checked.kind(id), path, computed }
    }

    fn call(&mut self, id: Id, function: &str, target: Option<Id>, args: &[Id]) -> Range {
        if function == "dyn"
            && let [arg] = args
        {
            let cost = self.cost(*arg).plus(Range::fixed(1));
            self.copy_sizes(id, *arg);
            return cost;
        }
        let mut costs = Vec::with_capacity(args.len());
        let mut arguments = Vec::with_capacity(args.len());
        for arg in args {
            costs.push(self.cost(*arg));
            arguments.push(self.argument(*arg));
        }
        let overloads = self.overloads(id, function);
        if overloads.is_empty() {
            return Range::fixed(0);
        }
        let mut sum = Range::fixed(0);
        let mut on = None;
        if let Some(target) = target {
            sum = self.cost(target);
            on = Some(self.argument(target));
        }
        let mut cost = Range::new(u64::MAX, 0);
        let mut size: Option<Range> = None;
        for overload in overloads {
            let this = self.overload(id, function, overload, on.as_ref(), &arguments, &costs);
            cost = cost.union(this.0);
            if let Some(found) = this.1 {
                size = Some(size.map_or(found, |it| it.union(found)));
            }
            let step = match overload {
                "index_list" => Some("@items"),
                "index_map" => Some("@values"),
                _ => None,
            };
            if let (Some(step), Some(container)) = (step, args.first()) {
                size = self.entries_of(*container).map(|it| it.value);
                let path = self.extended(*container, step);
                self.paths.insert(id, path);
            }
            if size.is_none() {
                size = self.size(id);
            }
        }
        if let Some(size) = size {
            self.sizes.insert(id, size);
        }
        sum.plus(cost)
    }

    fn overloads(&self, id: Id, function: &str) -> Vec<&'static str> {
        let found: Vec<&'static str> = self.checked.overloads[id as usize].iter().map(|it| it.id).collect();
        if found.is_empty() && function == "_?._" { vec!["select_optional_field"] } else { found }
    }

    /// The cost of a call with its arguments', and the size of what it gives.
    fn overload(
        &mut self,
        id: Id,
        function: &str,
        overload: &str,
        target: Option<&Argument<'c>>,
        args: &[Argument<'c>],
        costs: &[Range],
    ) -> (Range, Option<Range>) {
        let all = costs.iter().fold(Range::fixed(0), |sum, it| sum.plus(*it));
        let found = Call { coster: self, function, overload, target, args }.estimate();
        if let Some((cost, size)) = found {
            return (cost.plus(all), size);
        }
        let sizes: Vec<Range> = args.iter().map(|it| it.computed.unwrap_or(Range::UNKNOWN)).collect();
        let on = target.map_or(Range::UNKNOWN, |it| it.computed.unwrap_or(Range::UNKNOWN));
        let (cost, size) = match (overload, &sizes[..]) {
            ("string_format", _) if target.is_some() => (on.scaled(TRAVERSAL), None),
            ("string_to_bytes", [it]) => {
                (it.scaled(TRAVERSAL), Some(Range::new(it.min, it.max.wrapping_mul(4))))
            }
            ("bytes_to_string", [it]) => (it.scaled(TRAVERSAL), Some(Range::new(it.min / 4, it.max))),
            ("strings_quote", [it]) => {
                let size = Range::new(it.min.wrapping_add(2), it.max.wrapping_mul(2).wrapping_add(2));
                (it.scaled(TRAVERSAL), Some(size))
            }
            ("starts_with_string" | "ends_with_string", [it]) => (it.scaled(TRAVERSAL), None),
            ("in_list", [_, list]) => (list.scaled(1.0), None),
            ("matches_string", [pattern]) if target.is_some() => {
                let through = on.plus(Range::fixed(1)).scaled(TRAVERSAL);
                (through.times(pattern.scaled(REGEX)), None)
            }
            ("contains_string", [part]) if target.is_some() => {
                (on.scaled(TRAVERSAL).times(part.scaled(TRAVERSAL)), None)
            }
            ("logical_or" | "logical_and", _) if costs.len() == 2 => {
                // The second may be left out.
                return (Range::new(costs[0].min, costs[0].plus(costs[1]).max), None);
            }
            ("conditional", [_, then, otherwise]) => {
                let size = then.union(*otherwise);
                let entries = Entries::union(self.entries_of(args[1].id), self.entries_of(args[2].id));
                if let Some(entries) = entries {
                    self.entries.insert(id, entries);
                }
                return (costs[0].plus(costs[1].union(costs[2])), Some(size));
            }
            ("add_string" | "add_bytes" | "add_list", [one, other]) => {
                let size = one.plus(*other);
                let entries = Entries::union(self.entries_of(args[0].id), self.entries_of(args[1].id));
                if let Some(entries) = entries {
                    self.entries.insert(id, entries);
                }
                let cost = if overload == "add_list" { Range::fixed(1) } else { size.scaled(TRAVERSAL) };
                (cost, Some(size))
            }
            (
                "less_string"
                | "greater_string"
                | "less_equals_string"
                | "greater_equals_string"
                | "less_bytes"
                | "greater_bytes"
                | "less_equals_bytes"
                | "greater_equals_bytes"
                | "equals"
                | "not_equals",
                [one, other],
            ) => {
                let shorter = one.max.min(other.max);
                (Range::new(u64::from(shorter > 0), shorter).scaled(TRAVERSAL), None)
            }
            _ => (Range::fixed(1), None),
        };
        (cost.plus(all), size)
    }

    pub(crate) fn literal(&self, id: Id) -> Option<&Literal> {
        match self.checked.ast.expr(id) {
            Expr::Literal(literal) => Some(literal),
            _ => None,
        }
    }

    /// The size of an argument, or of everything that fits into a request.
    pub(crate) fn size_of(&self, argument: &Argument<'_>) -> Range {
        argument.computed.or_else(|| self.declared(&argument.path)).unwrap_or(Range::UNKNOWN)
    }

    /// The size of an argument as far as the expression says it.
    pub(crate) fn computed(&self, argument: &Argument<'_>) -> Option<Range> {
        argument.computed
    }

    /// The size of a list's item.
    pub(crate) fn item_size(&self, list: &Argument<'_>) -> Range {
        if list.path.is_empty() {
            return Range::UNKNOWN;
        }
        let mut path = list.path.clone();
        path.push("@items".into());
        self.declared(&path).unwrap_or(Range::UNKNOWN)
    }

    fn size_or_unknown(&mut self, id: Id) -> Range {
        self.size(id).unwrap_or(Range::UNKNOWN)
    }

    fn size(&mut self, id: Id) -> Option<Range> {
        if let Some(size) = self.sizes.get(&id) {
            return Some(*size);
        }
        match self.checked.ast.expr(id) {
            Expr::Literal(Literal::String(text)) => return Some(Range::fixed(text.chars().count() as u64)),
            Expr::Literal(Literal::Bytes(bytes)) => return Some(Range::fixed(bytes.len() as u64)),
            Expr::Literal(_) => return Some(Range::fixed(1)),
            Expr::List { elements, .. } => return Some(Range::fixed(elements.len() as u64)),
            Expr::Map { entries } => return Some(Range::fixed(entries.len() as u64)),
            _ => {}
        }
        if let Some(size) = self.declared(&self.path(id)) {
            self.sizes.insert(id, size);
            return Some(size);
        }
        if self.checked.kind(id).is_scalar() {
            return Some(Range::fixed(1));
        }
        match self.checked.ast.expr(id) {
            Expr::Ident(name) => self.local(name).and_then(|it| it.size),
            _ => None,
        }
    }

    fn entries_of(&self, id: Id) -> Option<Entries> {
        if let Some(entries) = self.entries.get(&id) {
            return Some(*entries);
        }
        match self.checked.ast.expr(id) {
            Expr::Ident(name) => self.local(name).and_then(|it| it.entries),
            _ => None,
        }
    }

    /// What the declaration of a variable says of a place in it.
    fn declared(&self, path: &[Arc<str>]) -> Option<Range> {
        let (variable, steps) = path.split_first()?;
        // The reference knows one schema only, that of `self`, and takes whatever has no variable for a part of it.
        let sized = |name: &str| self.environment.variable(name).filter(|it| has_sizes(it));
        let known = sized(variable).or_else(|| sized("self"));
        let mut declared: &Arc<DeclType> = known?;
        for step in steps {
            declared = match (&declared.kind, &**step) {
                (Kind::List { element, .. }, "@items" | "@values") => element,
                (Kind::Map { value }, "@items" | "@values") => value,
                // Keys are text without a bound of their own.
                (Kind::Map { .. }, "@keys") => return Some(Range::new(0, 0)),
                // A field that is a word of the language is known by its escaped name only.
                (Kind::Object(object), field) => &object.fields.get(field)?.kind,
                _ => return None,
            };
        }
        Some(Range::new(0, declared.max_elements))
    }
}

/// Only what has a schema says anything of sizes.
fn has_sizes(declared: &DeclType) -> bool {
    match &declared.kind {
        Kind::Plain(Type::Bool | Type::Int | Type::Double) => true,
        Kind::Plain(_) => declared.max_elements > 0,
        _ => true,
    }
}

/// The cost of asking the authorizer.
pub(crate) const ASKING: Range = Range::fixed(CHECK);
