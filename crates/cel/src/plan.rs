//! From a checked expression to what is evaluated: names become places, constants are worked out, functions are found,
//! patterns compiled, and every call knows its cost rule.

use std::collections::BTreeSet;
use std::sync::Arc;

use regex::Regex;

use crate::ast::{Comprehension, Expr, Id, Literal};
use crate::checker::Checked;
use crate::cost::Rule;
use crate::environment::Environment;
use crate::library::{self, Implementation};
use crate::macros::ACCUMULATOR;
use crate::value::{Key, Map, Text, Value};

pub(crate) type NodeId = u32;

/// Operators, and functions that are evaluated like them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Operator {
    Not,
    Negate,
    NotStrictlyFalse,
    Equal,
    NotEqual,
    Less,
    LessEqual,
    Greater,
    GreaterEqual,
    Add,
    Subtract,
    Multiply,
    Divide,
    Modulo,
    In,
}

pub(crate) enum Function {
    Operator(Operator),
    Library { run: Implementation, overload: &'static str },
    Pattern { name: Arc<str>, pattern: Box<Regex> },
}

pub(crate) enum Node {
    Constant(Value<'static>),
    Variable {
        place: usize,
        name: Arc<str>,
    },
    Local(usize),
    Select {
        operand: NodeId,
        field: Arc<str>,
        optional: bool,
        conditional: bool,
    },
    Index {
        operand: NodeId,
        index: NodeId,
        optional: bool,
        conditional: bool,
    },
    Has {
        operand: NodeId,
        field: Arc<str>,
    },
    Conditional([NodeId; 3]),
    And([NodeId; 2]),
    Or([NodeId; 2]),
    OptionalOr {
        args: [NodeId; 2],
        value: bool,
    },
    InSet {
        item: NodeId,
        set: BTreeSet<(u8, Key<'static>)>,
    },
    Call {
        function: Function,
        args: Vec<NodeId>,
        rule: Rule,
    },
    List {
        elements: Vec<NodeId>,
        optional: Vec<bool>,
    },
    Map {
        entries: Vec<(NodeId, NodeId, bool)>,
    },
    Object {
        name: Arc<str>,
        fields: Vec<(Arc<str>, NodeId, bool)>,
    },
    Fold(Box<Fold>),
    /// A list appended to the accumulator in its place.
    Append {
        place: usize,
        list: NodeId,
    },
    /// An entry, or a map, put into the accumulator in its place.
    Insert {
        place: usize,
        args: Vec<NodeId>,
    },
}

pub(crate) struct Fold {
    pub range: NodeId,
    pub init: NodeId,
    pub condition: NodeId,
    pub step: NodeId,
    pub result: NodeId,
    pub accumulator: usize,
    pub variable: usize,
    pub second: Option<usize>,
}

/// An expression ready to be evaluated, any number of times and from any thread.
pub struct Program {
    pub(crate) nodes: Vec<Node>,
    pub(crate) root: NodeId,
    pub(crate) places: usize,
}

/// Plans a checked expression.
///
/// # Errors
/// A constant conversion that fails, or a constant pattern that is none.
pub(crate) fn plan(checked: &Checked, environment: &Environment) -> Result<Program, String> {
    let mut planner = Planner {
        checked,
        environment,
        nodes: Vec::new(),
        planned: vec![None; checked.ast.nodes.len()],
        scopes: Vec::new(),
        places: 0,
    };
    let root = planner.plan(checked.ast.root)?;
    Ok(Program { nodes: planner.nodes, root, places: planner.places })
}

struct Planner<'c> {
    checked: &'c Checked,
    environment: &'c Environment,
    nodes: Vec<Node>,
    /// What has been planned: an expression can have two parents.
    planned: Vec<Option<NodeId>>,
    scopes: Vec<(Arc<str>, usize)>,
    places: usize,
}

type Planned = Result<NodeId, String>;

impl Planner<'_> {
    fn push(&mut self, node: Node) -> NodeId {
        self.nodes.push(node);
        (self.nodes.len() - 1) as NodeId
    }

    fn constant(&self, id: NodeId) -> Option<&Value<'static>> {
        match &self.nodes[id as usize] {
            Node::Constant(value) => Some(value),
            _ => None,
        }
    }

    fn constants(&self, ids: impl IntoIterator<Item = NodeId>) -> Option<Vec<Value<'static>>> {
        ids.into_iter().map(|id| self.constant(id).cloned()).collect()
    }

    fn plan(&mut self, id: Id) -> Planned {
        if let Some(done) = self.planned[id as usize] {
            return Ok(done);
        }
        let node = match self.checked.ast.expr(id) {
            Expr::Literal(literal) => self.push(Node::Constant(literal_value(literal))),
            Expr::Ident(name) => self.ident(id, name),
            Expr::Select { operand, field, test_only } => {
                let operand = self.plan(*operand)?;
                let field = field.clone();
                if *test_only {
                    self.push(Node::Has { operand, field })
                } else {
                    let conditional = self.conditional(operand);
                    self.push(Node::Select { operand, field, optional: false, conditional })
                }
            }
            Expr::Call { function, target, args } => {
                let ids: Vec<Id> = target.iter().chain(args).copied().collect();
                self.call(id, function, &ids)?
            }
            Expr::List { elements, optional } => self.list(elements, optional)?,
            Expr::Map { entries } => {
                let mut planned = Vec::with_capacity(entries.len());
                for entry in entries {
                    planned.push((self.plan(entry.key)?, self.plan(entry.value)?, entry.optional));
                }
                self.map(planned)
            }
            Expr::Struct { name, fields } => {
                let mut planned = Vec::with_capacity(fields.len());
                for field in fields {
                    planned.push((field.name.clone(), self.plan(field.value)?, field.optional));
                }
                let name = name.strip_prefix('.').unwrap_or(name).into();
                self.push(Node::Object { name, fields: planned })
            }
            Expr::Comprehension(it) => self.fold(it)?,
            Expr::Error => return Err("expression with faults".to_owned()),
        };
        self.planned[id as usize] = Some(node);
        Ok(node)
    }

    fn ident(&mut self, id: Id, name: &Arc<str>) -> NodeId {
        if let Some((_, place)) = self.scopes.iter().rev().find(|(it, _)| it == name) {
            return self.push(Node::Local(*place));
        }
        if let Some(named) = &self.checked.type_names[id as usize] {
            return self.push(Node::Constant(Value::Type(named.runtime_name().into())));
        }
        let place = self.environment.position(name).unwrap_or(usize::MAX);
        self.push(Node::Variable { place, name: name.clone() })
    }

    /// Whether what selections start from is a conditional, which has no cost of its own.
    fn conditional(&self, id: NodeId) -> bool {
        match &self.nodes[id as usize] {
            Node::Conditional(_) => true,
            Node::Select { conditional, .. } | Node::Index { conditional, .. } => *conditional,
            _ => false,
        }
    }

    fn list(&mut self, elements: &[Id], optional: &[bool]) -> Planned {
        let elements = elements.iter().map(|it| self.plan(*it)).collect::<Result<Vec<_>, _>>()?;
        if !optional.contains(&true)
            && let Some(values) = self.constants(elements.iter().copied())
        {
            return Ok(self.push(Node::Constant(Value::list(values))));
        }
        Ok(self.push(Node::List { elements, optional: optional.to_vec() }))
    }

    fn map(&mut self, entries: Vec<(NodeId, NodeId, bool)>) -> NodeId {
        if entries.iter().all(|(_, _, optional)| !optional)
            && let Some(keys) = self.constants(entries.iter().map(|it| it.0))
            && let Some(values) = self.constants(entries.iter().map(|it| it.1))
        {
            return self.push(Node::Constant(Value::map(keys.into_iter().zip(values))));
        }
        self.push(Node::Map { entries })
    }

    fn call(&mut self, id: Id, name: &Arc<str>, ids: &[Id]) -> Planned {
        if let Some(node) = self.in_place(name, ids)? {
            return Ok(node);
        }
        let args = ids.iter().map(|it| self.plan(*it)).collect::<Result<Vec<_>, _>>()?;
        let overload = self.checked.overload(id).unwrap_or("");
        if let [one, other] = args[..] {
            let conditional = self.conditional(one);
            let node = match &**name {
                "_&&_" => Some(Node::And([one, other])),
                "_||_" => Some(Node::Or([one, other])),
                "_[_]" => Some(Node::Index { operand: one, index: other, optional: false, conditional }),
                "_[?_]" => Some(Node::Index { operand: one, index: other, optional: true, conditional }),
                "_?._" => self.constant(other).and_then(Value::as_str).map(|field| Node::Select {
                    operand: one,
                    field: field.into(),
                    optional: true,
                    conditional,
                }),
                "or" => Some(Node::OptionalOr { args: [one, other], value: false }),
                "orValue" => Some(Node::OptionalOr { args: [one, other], value: true }),
                "@in" if overload == "in_list" => self.in_set(one, other),
                _ => None,
            };
            if let Some(node) = node {
                return Ok(self.push(node));
            }
        }
        if let ("_?_:_", &[condition, then, otherwise]) = (&**name, &args[..]) {
            return Ok(self.push(Node::Conditional([condition, then, otherwise])));
        }
        if let Some(value) = args.is_empty().then(|| library::format::constant(name)).flatten() {
            // A call all the same, so that it costs what a call costs.
            let constant = self.push(Node::Constant(value));
            let function = Function::Library { run: |args, _| Ok(args[0].clone()), overload };
            return Ok(self.push(Node::Call { function, args: vec![constant], rule: Rule::Fixed(1) }));
        }
        let rule = Rule::of(name, overload);
        let function = match operator(name) {
            Some(operator) => Function::Operator(operator),
            None => {
                let run = library::implementation(name).ok_or_else(|| format!("no such overload: {name}"))?;
                if args.len() == 1
                    && library::convert::is_conversion(name)
                    && let Some(argument) = self.constant(args[0])
                {
                    let value =
                        run(std::slice::from_ref(argument), overload).map_err(|error| error.to_string())?;
                    return Ok(self.push(Node::Constant(value)));
                }
                match args.get(1).and_then(|it| self.constant(*it)).and_then(Value::as_str) {
                    Some(pattern) if library::regex::takes_pattern(name) => {
                        let pattern = Box::new(library::regex::compile(pattern)?);
                        Function::Pattern { name: name.clone(), pattern }
                    }
                    _ => Function::Library { run, overload },
                }
            }
        };
        Ok(self.push(Node::Call { function, args, rule }))
    }

    /// Additions to the accumulator of a comprehension, which nothing else holds.
    fn in_place(&mut self, name: &str, ids: &[Id]) -> Result<Option<NodeId>, String> {
        let Some(first) = ids.first() else { return Ok(None) };
        if !matches!(self.checked.ast.expr(*first), Expr::Ident(it) if **it == *ACCUMULATOR) {
            return Ok(None);
        }
        let place = self.scopes.iter().rev().find(|(it, _)| **it == *ACCUMULATOR).map(|(_, place)| *place);
        let Some(place) = place else { return Ok(None) };
        let node = match (name, &ids[1..]) {
            ("_+_", [list]) if matches!(self.checked.ast.expr(*list), Expr::List { .. }) => {
                Node::Append { place, list: self.plan(*list)? }
            }
            ("cel.@mapInsert", rest) => {
                let args = rest.iter().map(|it| self.plan(*it)).collect::<Result<_, _>>()?;
                Node::Insert { place, args }
            }
            _ => return Ok(None),
        };
        Ok(Some(self.push(node)))
    }

    /// `x in ['a', 'b']`, as a set.
    fn in_set(&self, item: NodeId, list: NodeId) -> Option<Node> {
        let Some(Value::List(list)) = self.constant(list) else { return None };
        if list.is_empty() {
            return Some(Node::Constant(Value::Bool(false)));
        }
        let mut set = BTreeSet::new();
        for value in list.iter() {
            set.insert(set_key(&value.ok()?)?);
        }
        Some(Node::InSet { item, set })
    }

    fn fold(&mut self, it: &Comprehension) -> Planned {
        let init = self.plan(it.init)?;
        let range = self.plan(it.range)?;
        // Every comprehension has places of its own, since what it starts from can be worked out within another.
        let accumulator = self.places;
        let (variable, second) = (accumulator + 1, it.second.as_ref().map(|_| accumulator + 2));
        self.places += 3;
        let outside = self.scopes.len();
        self.scopes.push((it.accumulator.clone(), accumulator));
        self.scopes.push((it.variable.clone(), variable));
        if let (Some(name), Some(place)) = (&it.second, second) {
            self.scopes.push((name.clone(), place));
        }
        let condition = self.plan(it.condition)?;
        let step = self.plan(it.step)?;
        self.scopes.truncate(outside + 1);
        let result = self.plan(it.result)?;
        self.scopes.truncate(outside);
        let fold = Fold { range, init, condition, step, result, accumulator, variable, second };
        Ok(self.push(Node::Fold(Box::new(fold))))
    }
}

/// How a value is looked up in a set of constants; none for what has to be compared.
pub(crate) fn set_key<'a>(value: &Value<'a>) -> Option<(u8, Key<'a>)> {
    Some(match value {
        Value::Int(_) | Value::Uint(_) | Value::Double(_) => (0, value.key()),
        Value::Bool(_) => (1, value.key()),
        Value::String(_) => (2, value.key()),
        Value::Null => (3, Key::Bool(false)),
        _ => return None,
    })
}

fn operator(name: &str) -> Option<Operator> {
    Some(match name {
        "!_" => Operator::Not,
        "-_" => Operator::Negate,
        "@not_strictly_false" => Operator::NotStrictlyFalse,
        "_==_" => Operator::Equal,
        "_!=_" => Operator::NotEqual,
        "_<_" => Operator::Less,
        "_<=_" => Operator::LessEqual,
        "_>_" => Operator::Greater,
        "_>=_" => Operator::GreaterEqual,
        "_+_" => Operator::Add,
        "_-_" => Operator::Subtract,
        "_*_" => Operator::Multiply,
        "_/_" => Operator::Divide,
        "_%_" => Operator::Modulo,
        "@in" => Operator::In,
        _ => return None,
    })
}

fn literal_value(literal: &Literal) -> Value<'static> {
    match literal {
        Literal::Null => Value::Null,
        Literal::Bool(it) => Value::Bool(*it),
        Literal::Int(it) => Value::Int(*it),
        Literal::Uint(it) => Value::Uint(*it),
        Literal::Double(it) => Value::Double(*it),
        Literal::String(it) => Value::String(Text::Shared(it.clone())),
        Literal::Bytes(it) => Value::Bytes(it.clone()),
    }
}

/// The empty map that comprehensions over maps begin with.
pub(crate) fn empty_map<'a>() -> Map<'a> {
    Map::Owned(Arc::default())
}
