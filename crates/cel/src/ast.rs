//! The syntax tree: an arena of expressions, each with the place where it began.

use std::sync::Arc;

/// An expression's place in [`Ast::nodes`].
pub type Id = u32;

/// A constant as written.
#[derive(Debug, Clone, PartialEq)]
pub enum Literal {
    Null,
    Bool(bool),
    Int(i64),
    Uint(u64),
    Double(f64),
    String(Arc<str>),
    Bytes(Arc<[u8]>),
}

/// `key: value` in a map literal.
#[derive(Debug, Clone)]
pub struct Entry {
    pub key: Id,
    pub value: Id,
    pub optional: bool,
}

/// `name: value` in an object literal.
#[derive(Debug, Clone)]
pub struct FieldInit {
    pub name: Arc<str>,
    pub value: Id,
    pub optional: bool,
    /// Offset of the colon, in code points.
    pub offset: u32,
}

/// What the macros over lists and maps become.
#[derive(Debug, Clone)]
pub struct Comprehension {
    pub range: Id,
    pub variable: Arc<str>,
    /// The second variable of the two-variable macros: with it, the first one is the index or the key.
    pub second: Option<Arc<str>>,
    pub accumulator: Arc<str>,
    pub init: Id,
    pub condition: Id,
    pub step: Id,
    pub result: Id,
}

#[derive(Debug, Clone)]
pub enum Expr {
    Literal(Literal),
    Ident(Arc<str>),
    Select {
        operand: Id,
        field: Arc<str>,
        test_only: bool,
    },
    Call {
        function: Arc<str>,
        target: Option<Id>,
        args: Vec<Id>,
    },
    List {
        elements: Vec<Id>,
        optional: Vec<bool>,
    },
    Map {
        entries: Vec<Entry>,
    },
    Struct {
        name: Arc<str>,
        fields: Vec<FieldInit>,
    },
    Comprehension(Box<Comprehension>),
    /// Stands where an error was reported.
    Error,
}

/// A parsed expression. The macros `optMap` and `optFlatMap` use their target twice, so that a node can have
/// two parents; whoever walks the tree remembers what it has seen.
#[derive(Debug, Clone)]
pub struct Ast {
    pub nodes: Vec<Expr>,
    /// Per node, the offset in code points where it is reported.
    pub offsets: Vec<u32>,
    pub root: Id,
}

impl Ast {
    pub fn expr(&self, id: Id) -> &Expr {
        &self.nodes[id as usize]
    }

    pub fn offset(&self, id: Id) -> u32 {
        self.offsets[id as usize]
    }

    /// The children in the order in which they are written.
    pub fn children(&self, id: Id) -> Vec<Id> {
        match self.expr(id) {
            Expr::Literal(_) | Expr::Ident(_) | Expr::Error => Vec::new(),
            Expr::Select { operand, .. } => vec![*operand],
            Expr::Call { target, args, .. } => target.iter().chain(args).copied().collect(),
            Expr::List { elements, .. } => elements.clone(),
            Expr::Map { entries } => entries.iter().flat_map(|entry| [entry.key, entry.value]).collect(),
            Expr::Struct { fields, .. } => fields.iter().map(|field| field.value).collect(),
            Expr::Comprehension(it) => {
                vec![it.range, it.init, it.condition, it.step, it.result]
            }
        }
    }

    /// How deep the tree is. Children always come before their parents in the arena, so one pass suffices.
    pub fn depth(&self) -> usize {
        let mut depths = vec![0usize; self.nodes.len()];
        for id in 0..self.nodes.len() {
            let below = self.children(id as Id).into_iter().map(|child| depths[child as usize]).max();
            depths[id] = 1 + below.unwrap_or(0);
        }
        depths.get(self.root as usize).copied().unwrap_or(0)
    }

    /// `a.b.c` as a dotted name, when the expression is nothing else.
    pub fn qualified_name(&self, id: Id) -> Option<String> {
        match self.expr(id) {
            Expr::Ident(name) => Some(name.to_string()),
            Expr::Select { operand, field, test_only: false } => {
                let mut name = self.qualified_name(*operand)?;
                name.push('.');
                name.push_str(field);
                Some(name)
            }
            _ => None,
        }
    }
}
