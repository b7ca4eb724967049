//! The interpreter: a walk over the planned tree that counts what it costs and stops when that is too much.
//!
//! Selections have a price of their own: each step costs one, and where they start from costs one more, except in a
//! branch of a conditional or in an index. That is the reference's way of counting, not a choice.

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::sync::Arc;

use crate::cost::{LIST, MAP, OBJECT, Rule};
use crate::error::Error;
use crate::library::{self, regex};
use crate::ops;
use crate::plan::{Fold, Function, Node, NodeId, Operator, Program, empty_map, set_key};
use crate::value::{Constructed, Entries, List, Map, Result, Text, Value};

/// What an evaluation gave, and what it cost.
#[derive(Debug)]
pub struct Outcome<'a> {
    pub value: Result<Value<'a>>,
    pub cost: u64,
}

impl Program {
    /// Evaluates with the values of the environment's variables in their order; a variable without a value fails the
    /// expression that needs it. Costs beyond the limit end the evaluation with [`Error::CostExceeded`].
    pub fn evaluate<'a>(&'a self, variables: &'a [Option<Value<'a>>], limit: u64) -> Outcome<'a> {
        let mut places = Vec::new();
        places.resize_with(self.places, || Place::Ready(Ok(Value::Null)));
        let mut run = Run { program: self, variables, places, cost: 0, limit };
        let value = run.eval(self.root);
        Outcome { value, cost: run.cost }
    }
}

/// A variable of a comprehension.
#[derive(Clone)]
enum Place<'a> {
    /// What an accumulator starts from, worked out when it is first asked for.
    Pending(NodeId),
    Ready(Result<Value<'a>>),
}

struct Run<'a> {
    program: &'a Program,
    variables: &'a [Option<Value<'a>>],
    places: Vec<Place<'a>>,
    cost: u64,
    limit: u64,
}

/// Where a chain of selections has got to.
enum Reached<'a> {
    Plain(Value<'a>),
    /// Within an optional value that is there.
    Optional(Value<'a>),
    Absent,
}

impl<'a> Reached<'a> {
    fn from(value: Value<'a>) -> Reached<'a> {
        match value {
            Value::Optional(None) => Reached::Absent,
            Value::Optional(Some(inner)) => Reached::Optional((*inner).clone()),
            other => Reached::Plain(other),
        }
    }

    fn value(self) -> Value<'a> {
        match self {
            Reached::Plain(value) => value,
            Reached::Optional(value) => Value::some(value),
            Reached::Absent => Value::Optional(None),
        }
    }
}

impl<'a> Run<'a> {
    fn node(&self, id: NodeId) -> &'a Node {
        &self.program.nodes[id as usize]
    }

    fn charge(&mut self, cost: u64) -> Result<()> {
        self.cost = self.cost.saturating_add(cost);
        if self.cost > self.limit { Err(Error::CostExceeded) } else { Ok(()) }
    }

    // The arms are functions of their own so that this one, which recurses, needs little stack.
    fn eval(&mut self, id: NodeId) -> Result<Value<'a>> {
        match self.node(id) {
            Node::Constant(value) => Ok(value.clone()),
            Node::Variable { .. } | Node::Local(_) => {
                self.charge(1)?;
                self.named(id)
            }
            Node::Select { .. } | Node::Index { .. } | Node::Has { .. } => self.selection(id),
            Node::Conditional(parts) => self.conditional(parts),
            Node::And(terms) => self.logic(terms, false),
            Node::Or(terms) => self.logic(terms, true),
            Node::OptionalOr { args, value } => self.optional_or(args, *value),
            Node::InSet { item, set } => {
                let item = self.eval(*item)?;
                Ok(Value::Bool(set_key(&item).is_some_and(|key| set.contains(&key))))
            }
            Node::Call { function, args, rule } => self.call(function, args, *rule),
            Node::List { elements, optional } => self.list(elements, optional),
            Node::Map { entries } => self.map(entries),
            Node::Object { name, fields } => self.object(name, fields),
            Node::Fold(fold) => self.fold(fold),
            Node::Append { place, list } => self.append(*place, *list),
            Node::Insert { place, args } => self.insert(*place, args),
        }
    }

    /// A variable's value, without a price.
    fn named(&mut self, id: NodeId) -> Result<Value<'a>> {
        match self.node(id) {
            Node::Local(place) => self.local(*place),
            Node::Variable { place, name } => match self.variables.get(*place) {
                Some(Some(value)) => Ok(value.clone()),
                _ => Err(Error::new(format!("no such attribute(s): {name}"))),
            },
            _ => self.eval(id),
        }
    }

    fn local(&mut self, place: usize) -> Result<Value<'a>> {
        if let Place::Pending(init) = self.places[place] {
            let value = self.eval(init);
            self.places[place] = Place::Ready(value);
        }
        match &self.places[place] {
            Place::Ready(value) => value.clone(),
            Place::Pending(_) => Ok(Value::Null),
        }
    }

    #[inline(never)]
    fn selection(&mut self, id: NodeId) -> Result<Value<'a>> {
        let reached = self.resolve(id);
        if reached.as_ref().is_err_and(Error::is_final) {
            return reached.map(Reached::value);
        }
        let free = match self.node(id) {
            Node::Select { conditional, .. } | Node::Index { conditional, .. } => *conditional,
            // A presence test costs nothing beyond its steps.
            _ => true,
        };
        if !free {
            self.charge(1)?;
        }
        reached.map(Reached::value)
    }

    /// What stands for an expression within another's price: selections without their start.
    fn within(&mut self, id: NodeId) -> Result<Reached<'a>> {
        match self.node(id) {
            Node::Variable { .. } | Node::Local(_) => self.named(id).map(Reached::from),
            Node::Select { .. } | Node::Index { .. } | Node::Has { .. } => self.resolve(id),
            _ => self.eval(id).map(Reached::from),
        }
    }

    #[inline(never)]
    fn resolve(&mut self, id: NodeId) -> Result<Reached<'a>> {
        match self.node(id) {
            Node::Select { operand, field, optional, .. } => {
                let object = self.within(*operand)?;
                let Some((object, optional)) = step(object, *optional) else { return Ok(Reached::Absent) };
                let found = select(&object, field);
                self.stepped(found, optional, || format!("no such key: {field}"))
            }
            Node::Index { operand, index, optional, .. } => {
                let object = self.within(*operand)?;
                let Some((object, optional)) = step(object, *optional) else { return Ok(Reached::Absent) };
                let index = self.within(*index)?.value();
                let found = at(&object, &index);
                let list = matches!(object, Value::List(_));
                self.stepped(found, optional, || {
                    format!("{}: {}", if list { "index out of bounds" } else { "no such key" }, index.show())
                })
            }
            Node::Has { operand, field } => {
                let (object, optional) = match self.within(*operand)? {
                    Reached::Absent => return Ok(Reached::Plain(Value::Bool(false))),
                    Reached::Plain(value) => (value, false),
                    Reached::Optional(value) => (value, true),
                };
                let present = present(&object, field);
                // Of something optional, a step is charged only if it led somewhere.
                if !optional || present != Ok(false) {
                    self.charge(1)?;
                }
                Ok(Reached::Plain(Value::Bool(present?)))
            }
            _ => self.within(id),
        }
    }

    /// After a step: what it found, charged.
    fn stepped(
        &mut self,
        found: Result<Option<Value<'a>>>,
        optional: bool,
        missing: impl Fn() -> String,
    ) -> Result<Reached<'a>> {
        if optional && matches!(found, Ok(None)) {
            return Ok(Reached::Absent);
        }
        self.charge(1)?;
        match found? {
            Some(value) if optional => Ok(Reached::Optional(value)),
            Some(value) => Ok(Reached::Plain(value)),
            None => Err(Error::new(missing())),
        }
    }

    #[inline(never)]
    fn conditional(&mut self, parts: &[NodeId; 3]) -> Result<Value<'a>> {
        let branch = match self.eval(parts[0])? {
            Value::Bool(true) => parts[1],
            Value::Bool(false) => parts[2],
            _ => return Err(Error::no_such_overload()),
        };
        self.within(branch).map(Reached::value)
    }

    /// `||` is decided by a `true`, `&&` by a `false`; errors count only where nothing decides.
    #[inline(never)]
    fn logic(&mut self, terms: &[NodeId; 2], decides: bool) -> Result<Value<'a>> {
        let mut failed = None;
        for term in terms {
            match self.eval(*term) {
                Ok(Value::Bool(it)) if it == decides => return Ok(Value::Bool(decides)),
                Ok(Value::Bool(_)) => {}
                Ok(_) => failed = failed.or(Some(Error::no_such_overload())),
                Err(error) if error.is_final() => return Err(error),
                Err(error) => failed = failed.or(Some(error)),
            }
        }
        failed.map_or(Ok(Value::Bool(!decides)), Err)
    }

    #[inline(never)]
    fn optional_or(&mut self, args: &[NodeId; 2], unwrap: bool) -> Result<Value<'a>> {
        match self.eval(args[0])? {
            Value::Optional(Some(inner)) if unwrap => Ok((*inner).clone()),
            Value::Optional(None) => self.eval(args[1]),
            other => Ok(other),
        }
    }

    #[inline(never)]
    fn call(&mut self, function: &'a Function, args: &[NodeId], rule: Rule) -> Result<Value<'a>> {
        if let Function::Operator(Operator::NotStrictlyFalse) = function {
            let value = self.eval(args[0]);
            self.charge(1)?;
            return match value {
                Err(error) if error.is_final() => Err(error),
                Ok(Value::Bool(false)) => Ok(Value::Bool(false)),
                _ => Ok(Value::Bool(true)),
            };
        }
        match args {
            [one] => match self.eval(*one) {
                Ok(value) => self.apply(function, &[value], rule),
                Err(error) => self.failed(rule.cost(&[Value::Null], None), error),
            },
            [one, other] => {
                let first = self.eval(*one);
                if first.as_ref().is_err_and(Error::is_final) {
                    return first;
                }
                // Both are evaluated, whatever became of the first, and the first one's error counts.
                let second = self.eval(*other);
                if second.as_ref().is_err_and(Error::is_final) {
                    return second;
                }
                match (first, second) {
                    (Ok(first), Ok(second)) => self.apply(function, &[first, second], rule),
                    (Ok(first), Err(error)) => self.failed(rule.cost(&[first, Value::Null], None), error),
                    (Err(error), second) => {
                        let cost = rule.cost(&[Value::Null, second.unwrap_or(Value::Null)], None);
                        self.failed(cost, error)
                    }
                }
            }
            several => {
                let values = several.iter().map(|it| self.eval(*it)).collect::<Result<Vec<_>>>()?;
                self.apply(function, &values, rule)
            }
        }
    }

    /// What failed for its parts has its price all the same.
    fn failed(&mut self, cost: u64, error: Error) -> Result<Value<'a>> {
        if !error.is_final() {
            self.charge(cost)?;
        }
        Err(error)
    }

    #[inline(never)]
    fn apply(&mut self, function: &'a Function, values: &[Value<'a>], rule: Rule) -> Result<Value<'a>> {
        // Results are not needed by most rules; what is over the budget already need not be worked out.
        if !matches!(rule, Rule::Output | Rule::Joined) {
            self.charge(rule.cost(values, None))?;
        }
        let result = match function {
            Function::Operator(operator) => operate(*operator, values),
            Function::Library { run, overload } => run(values, overload),
            Function::Pattern { name, pattern } => regex::apply(name, pattern, values),
        };
        if matches!(rule, Rule::Output | Rule::Joined) {
            self.charge(rule.cost(values, result.as_ref().ok()))?;
        }
        result
    }

    #[inline(never)]
    fn list(&mut self, elements: &[NodeId], optional: &[bool]) -> Result<Value<'a>> {
        let mut items = Vec::with_capacity(elements.len());
        for (element, optional) in elements.iter().zip(optional) {
            let value = match self.eval(*element) {
                Ok(value) => value,
                Err(error) => return self.failed(LIST, error),
            };
            if !optional {
                items.push(value);
                continue;
            }
            match value {
                Value::Optional(inner) => items.extend(inner.map(|it| (*it).clone())),
                other => {
                    let shown = other.show();
                    let text =
                        format!("cannot initialize optional list element from non-optional value {shown}");
                    return Err(Error::new(text));
                }
            }
        }
        self.charge(LIST)?;
        Ok(Value::list(items))
    }

    #[inline(never)]
    fn map(&mut self, entries: &[(NodeId, NodeId, bool)]) -> Result<Value<'a>> {
        let mut made = Entries::new();
        for (key, value, optional) in entries {
            let key = self.eval(*key)?;
            let value = self.eval(*value)?;
            match unwrapped(&key.show(), value, *optional)? {
                Some(value) => made.insert(key.key(), (key, value)),
                None => made.remove(&key.key()),
            };
        }
        self.charge(MAP)?;
        Ok(Value::Map(Map::Owned(Arc::new(made))))
    }

    #[inline(never)]
    fn object(&mut self, name: &Arc<str>, fields: &[(Arc<str>, NodeId, bool)]) -> Result<Value<'a>> {
        let mut made = BTreeMap::new();
        for (field, value, optional) in fields {
            let value = self.eval(*value)?;
            match unwrapped(field, value, *optional)? {
                Some(value) => made.insert(field.clone(), value),
                None => made.remove(field),
            };
        }
        self.charge(OBJECT)?;
        Ok(Value::Constructed(Arc::new(Constructed { name: name.clone(), fields: made })))
    }

    #[inline(never)]
    fn fold(&mut self, fold: &'a Fold) -> Result<Value<'a>> {
        let range = self.eval(fold.range)?;
        self.places[fold.accumulator] = Place::Pending(fold.init);
        match &range {
            Value::List(list) => {
                for index in 0..list.len() {
                    let item = list.at(index);
                    if item.as_ref().is_err_and(Error::is_final) {
                        return item;
                    }
                    match fold.second {
                        Some(second) => {
                            self.places[fold.variable] = Place::Ready(Ok(Value::Int(index as i64)));
                            self.places[second] = Place::Ready(item);
                        }
                        None => self.places[fold.variable] = Place::Ready(item),
                    }
                    if !self.turn(fold)? {
                        break;
                    }
                }
            }
            Value::Map(map) => {
                for key in map.keys() {
                    if let Some(second) = fold.second {
                        let value = map.find(&key).map(|it| it.unwrap_or(Value::Null));
                        self.places[second] = Place::Ready(value);
                    }
                    self.places[fold.variable] = Place::Ready(Ok(key));
                    if !self.turn(fold)? {
                        break;
                    }
                }
            }
            other => {
                let kind = match other {
                    Value::Bool(_) => "types.Bool",
                    Value::Int(_) => "types.Int",
                    Value::Uint(_) => "types.Uint",
                    Value::Double(_) => "types.Double",
                    Value::String(_) => "types.String",
                    other => other.type_name(),
                };
                return Err(Error::new(format!("got '{kind}', expected iterable type")));
            }
        }
        self.eval(fold.result)
    }

    /// One item; whether to go on. Errors of the step are the accumulator's value.
    fn turn(&mut self, fold: &'a Fold) -> Result<bool> {
        match self.eval(fold.condition) {
            Ok(Value::Bool(false)) => return Ok(false),
            Err(error) if error.is_final() => return Err(error),
            _ => {}
        }
        let next = self.eval(fold.step);
        if let Err(error) = &next
            && error.is_final()
        {
            return Err(error.clone());
        }
        self.places[fold.accumulator] = Place::Ready(next);
        Ok(true)
    }

    /// Takes the accumulator out of its place, for its price, so that it can be changed.
    fn take(&mut self, place: usize) -> Result<Value<'a>> {
        self.charge(1)?;
        if let Place::Pending(_) = self.places[place] {
            return self.local(place);
        }
        match std::mem::replace(&mut self.places[place], Place::Ready(Ok(Value::Null))) {
            Place::Ready(value) => value,
            Place::Pending(_) => Ok(Value::Null),
        }
    }

    #[inline(never)]
    fn append(&mut self, place: usize, list: NodeId) -> Result<Value<'a>> {
        let so_far = self.take(place);
        if so_far.as_ref().is_err_and(Error::is_final) {
            return so_far;
        }
        let added = match self.eval(list) {
            Ok(added) => added,
            Err(error) => return self.failed(1, so_far.err().unwrap_or(error)),
        };
        self.charge(1)?;
        match (so_far?, added) {
            (Value::List(List::Owned { mut items, declared: None }), Value::List(added)) => {
                Arc::make_mut(&mut items).extend(added.to_vec()?);
                Ok(Value::List(List::Owned { items, declared: None }))
            }
            (so_far, added) => ops::add(&so_far, &added),
        }
    }

    #[inline(never)]
    fn insert(&mut self, place: usize, args: &[NodeId]) -> Result<Value<'a>> {
        let so_far = self.take(place)?;
        let values = args.iter().map(|it| self.eval(*it)).collect::<Result<Vec<_>>>()?;
        self.charge(1)?;
        let mut entries = match so_far {
            Value::Map(Map::Owned(entries)) => entries,
            _ => match empty_map() {
                Map::Owned(entries) => entries,
                _ => Arc::default(),
            },
        };
        let added = match &values[..] {
            [key, value] => Entries::from([(key.key(), (key.clone(), value.clone()))]),
            [Value::Map(map)] => {
                let mut added = Entries::new();
                for key in map.keys() {
                    if let Some(value) = map.find(&key)? {
                        added.insert(key.key(), (key, value));
                    }
                }
                added
            }
            _ => return Err(Error::no_such_overload()),
        };
        library::insert_all(Arc::make_mut(&mut entries), added)?;
        Ok(Value::Map(Map::Owned(entries)))
    }
}

/// Into an object: none when there is none to go into.
fn step(object: Reached<'_>, optional: bool) -> Option<(Value<'_>, bool)> {
    match object {
        Reached::Plain(value) => Some((value, optional)),
        Reached::Optional(value) => Some((value, true)),
        Reached::Absent => None,
    }
}

/// The value for an entry that may be marked optional.
fn unwrapped<'a>(name: &str, value: Value<'a>, optional: bool) -> Result<Option<Value<'a>>> {
    match value {
        value if !optional => Ok(Some(value)),
        Value::Optional(inner) => Ok(inner.map(|it| (*it).clone())),
        other => {
            let shown = other.show();
            Err(Error::new(format!(
                "cannot initialize optional entry '{name}' from non-optional value {shown}"
            )))
        }
    }
}

fn select<'a>(object: &Value<'a>, field: &str) -> Result<Option<Value<'a>>> {
    match object {
        Value::Map(map) => map.field(field),
        Value::Constructed(it) => {
            let unset = if &*it.name == "JSONPatch" && field != "value" {
                Value::String(Text::Borrowed(""))
            } else {
                Value::Null
            };
            Ok(Some(it.fields.get(field).cloned().unwrap_or(unset)))
        }
        Value::List(_) => Err(Error::new("unsupported index type 'string' in list")),
        _ => Ok(None),
    }
}

fn present(object: &Value<'_>, field: &str) -> Result<bool> {
    match object {
        Value::Constructed(it) => Ok(it.fields.contains_key(field)),
        _ => select(object, field).map(|it| it.is_some()),
    }
}

fn at<'a>(object: &Value<'a>, index: &Value<'a>) -> Result<Option<Value<'a>>> {
    match (object, index) {
        (_, Value::String(_) | Value::Int(_) | Value::Uint(_) | Value::Bool(_) | Value::Double(_)) => {}
        (_, other) => return Err(Error::new(format!("invalid qualifier type: {}", other.type_name()))),
    }
    match object {
        Value::List(list) => list.index(index),
        Value::Map(map) => map.find(index),
        Value::Constructed(_) => match index.as_str() {
            Some(field) => select(object, field),
            None => Ok(None),
        },
        _ => Ok(None),
    }
}

fn operate<'a>(operator: Operator, values: &[Value<'a>]) -> Result<Value<'a>> {
    let (one, other) = match values {
        [one] => (one, one),
        [one, other] => (one, other),
        _ => return Err(Error::no_such_overload()),
    };
    let ordered = |test: fn(Ordering) -> bool| ops::compare(one, other).map(|it| Value::Bool(test(it)));
    match operator {
        Operator::Not => one.as_bool().map(|it| Value::Bool(!it)).ok_or_else(Error::no_such_overload),
        Operator::Negate => ops::negate(one),
        Operator::NotStrictlyFalse => Ok(Value::Bool(one.as_bool() != Some(false))),
        Operator::Equal => ops::equal(one, other).map(Value::Bool),
        // What cannot be compared is not equal.
        Operator::NotEqual => Ok(Value::Bool(ops::equal(one, other) != Ok(true))),
        Operator::Less => ordered(Ordering::is_lt),
        Operator::LessEqual => ordered(Ordering::is_le),
        Operator::Greater => ordered(Ordering::is_gt),
        Operator::GreaterEqual => ordered(Ordering::is_ge),
        Operator::Add => ops::add(one, other),
        Operator::Subtract => ops::subtract(one, other),
        Operator::Multiply => ops::multiply(one, other),
        Operator::Divide => ops::divide(one, other),
        Operator::Modulo => ops::modulo(one, other),
        Operator::In => ops::contains(one, other).map(Value::Bool),
    }
}
