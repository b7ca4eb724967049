//! The grammar, by recursive descent. Faults are worded as the reference parser words them, as far as a parser
//! without error recovery can know: it mends one surplus token and otherwise stops at the first fault.
//!
//! Source: the cel-spec grammar, with the optional syntax (`a.?b`, `a[?b]`, `[?a]`, `{?k: v}`).

use std::sync::Arc;

use crate::ast::{Ast, Entry, Expr, FieldInit, Id, Literal};
use crate::issues::{Issues, Location};
use crate::lexer::{self, Lexeme, Token};

/// Code points of the longest expression.
const LONGEST: usize = 100_000;
/// Nesting of one grammar rule within itself.
const DEEPEST: usize = 250;
/// Depth of the tree after the macros have been expanded: what everything after the parser recurses over. An
/// expression within the other limits gets here only by nesting macros a hundred deep.
const DEEPEST_TREE: usize = 512;

const FIRST: &str = "{'[', '{', '(', '.', '-', '!', 'true', 'false', 'null', NUM_FLOAT, NUM_INT, NUM_UINT, STRING, BYTES, IDENTIFIER}";
const FIRST_OR_CLOSE: &str = "{'[', '{', '(', ')', '.', '-', '!', 'true', 'false', 'null', NUM_FLOAT, NUM_INT, NUM_UINT, STRING, BYTES, IDENTIFIER}";
const FIRST_IN_LIST: &str = "{'[', ']', '{', '(', '.', ',', '-', '!', '?', 'true', 'false', 'null', NUM_FLOAT, NUM_INT, NUM_UINT, STRING, BYTES, IDENTIFIER}";
const FIRST_IN_MAP: &str = "{'[', '{', '}', '(', '.', ',', '-', '!', '?', 'true', 'false', 'null', NUM_FLOAT, NUM_INT, NUM_UINT, STRING, BYTES, IDENTIFIER}";
const FIRST_IN_INDEX: &str = "{'[', '{', '(', '.', '-', '!', '?', 'true', 'false', 'null', NUM_FLOAT, NUM_INT, NUM_UINT, STRING, BYTES, IDENTIFIER}";

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
    "package",
    "namespace",
    "null",
    "return",
    "true",
    "var",
    "void",
    "while",
];

/// Parsing cannot go on; the fault has been reported.
struct Stop;
type Parsed<T> = Result<T, Stop>;

/// Reads an expression.
///
/// # Errors
/// All faults found.
pub fn parse(source: &str, binds: bool) -> Result<Ast, Issues> {
    let mut issues = Issues::new(source);
    let size = source.chars().count();
    if size > LONGEST {
        let message = format!("expression code point size exceeds limit: size: {size}, limit {LONGEST}");
        issues.report_at(Location::NONE, message);
        return Err(issues);
    }
    let lexemes = lexer::lex(source, &mut issues);
    let mut parser = Parser {
        lexemes,
        at: 0,
        issues,
        ast: Ast { nodes: Vec::new(), offsets: Vec::new(), root: 0 },
        depths: [0; 4],
        binds,
    };
    let root = parser.start();
    let Parser { mut ast, mut issues, .. } = parser;
    if let Ok(root) = root {
        ast.root = root;
        if issues.is_empty() && ast.depth() > DEEPEST_TREE {
            issues.report_at(Location::NONE, "max recursion depth exceeded");
        }
    }
    if issues.is_empty() { Ok(ast) } else { Err(issues) }
}

/// The grammar rules whose nesting is limited.
#[derive(Clone, Copy)]
enum Rule {
    Expr,
    Relation,
    Calc,
    Member,
}

pub(crate) struct Parser<'s> {
    lexemes: Vec<Lexeme<'s>>,
    at: usize,
    issues: Issues,
    ast: Ast,
    depths: [usize; 4],
    /// Whether `cel.bind` is a macro.
    pub(crate) binds: bool,
}

impl<'s> Parser<'s> {
    fn peek(&self) -> Lexeme<'s> {
        self.ahead(0)
    }

    /// The last lexeme is the end, and stays so however far one looks.
    fn ahead(&self, by: usize) -> Lexeme<'s> {
        self.lexemes[(self.at + by).min(self.lexemes.len() - 1)]
    }

    fn take(&mut self) -> Lexeme<'s> {
        let lexeme = self.peek();
        self.at += 1;
        lexeme
    }

    fn sees(&self, symbol: &str) -> bool {
        matches!(self.peek().token, Token::Symbol(it) if it == symbol)
    }

    fn accept(&mut self, symbol: &str) -> Option<Lexeme<'s>> {
        self.sees(symbol).then(|| self.take())
    }

    fn fault(&mut self, offset: u32, message: impl Into<String>) {
        self.issues.report(offset, message);
    }

    fn syntax(&mut self, lexeme: Lexeme<'_>, message: String) -> Stop {
        self.fault(lexeme.offset, format!("Syntax error: {message}"));
        Stop
    }

    /// A symbol that must follow. One surplus token before it is reported and skipped; a missing one is reported,
    /// and taken as read where what follows would fit.
    fn expect(&mut self, symbol: &'static str, expecting: &str) -> Parsed<Lexeme<'s>> {
        if let Some(lexeme) = self.accept(symbol) {
            return Ok(lexeme);
        }
        let seen = self.peek();
        if matches!(self.ahead(1).token, Token::Symbol(it) if it == symbol) {
            self.syntax(seen, format!("extraneous input '{}' expecting {expecting}", seen.text));
            self.at += 1;
            return Ok(self.take());
        }
        let fits = match symbol {
            ":" => starts_expression(seen.token),
            ")" | "]" => seen.token == Token::End && !expecting.starts_with('{'),
            _ => false,
        };
        if fits {
            self.syntax(seen, format!("missing '{symbol}' at '{}'", seen.text));
            return Ok(seen);
        }
        Err(self.syntax(seen, format!("mismatched input '{}' expecting {expecting}", seen.text)))
    }

    fn nested<T>(&mut self, rule: Rule, inner: impl FnOnce(&mut Self) -> Parsed<T>) -> Parsed<T> {
        let before = self.depths[rule as usize];
        self.deeper(rule)?;
        let result = inner(self);
        self.depths[rule as usize] = before;
        result
    }

    fn deeper(&mut self, rule: Rule) -> Parsed<()> {
        self.depths[rule as usize] += 1;
        if self.depths[rule as usize] > DEEPEST {
            let message = format!("expression recursion limit exceeded: {DEEPEST}");
            self.issues.report_at(Location::NONE, message);
            return Err(Stop);
        }
        Ok(())
    }

    fn start(&mut self) -> Parsed<Id> {
        let root = self.expression(FIRST)?;
        let seen = self.peek();
        if seen.token != Token::End {
            let word = if self.ahead(1).token == Token::End { "extraneous" } else { "mismatched" };
            return Err(self.syntax(seen, format!("{word} input '{}' expecting <EOF>", seen.text)));
        }
        Ok(root)
    }

    fn expression(&mut self, first: &str) -> Parsed<Id> {
        self.nested(Rule::Expr, |this| {
            let condition = this.or(first)?;
            let Some(mark) = this.accept("?") else { return Ok(condition) };
            let then = this.or(FIRST)?;
            this.expect(":", "':'")?;
            let otherwise = this.expression(FIRST)?;
            Ok(this.call(mark.offset, "_?_:_", None, vec![condition, then, otherwise]))
        })
    }

    fn or(&mut self, first: &str) -> Parsed<Id> {
        let mut terms = vec![self.and(first)?];
        let mut marks = Vec::new();
        while let Some(mark) = self.accept("||") {
            marks.push(mark.offset);
            terms.push(self.and(FIRST)?);
        }
        Ok(self.balanced("_||_", &terms, &marks))
    }

    fn and(&mut self, first: &str) -> Parsed<Id> {
        let mut terms = vec![self.nested(Rule::Relation, |this| this.relation(first))?];
        let mut marks = Vec::new();
        while let Some(mark) = self.accept("&&") {
            marks.push(mark.offset);
            terms.push(self.nested(Rule::Relation, |this| this.relation(FIRST))?);
        }
        Ok(self.balanced("_&&_", &terms, &marks))
    }

    /// Long chains become balanced trees, so that they are not deep.
    fn balanced(&mut self, function: &str, terms: &[Id], marks: &[u32]) -> Id {
        if marks.is_empty() {
            return terms[0];
        }
        let middle = marks.len() / 2;
        let left = self.balanced(function, &terms[..=middle], &marks[..middle]);
        let right = self.balanced(function, &terms[middle + 1..], &marks[middle + 1..]);
        self.call(marks[middle], function, None, vec![left, right])
    }

    fn relation(&mut self, first: &str) -> Parsed<Id> {
        let mut left = self.nested(Rule::Calc, |this| this.calc(0, first))?;
        loop {
            let function = match self.peek().token {
                Token::Symbol("<") => "_<_",
                Token::Symbol("<=") => "_<=_",
                Token::Symbol(">=") => "_>=_",
                Token::Symbol(">") => "_>_",
                Token::Symbol("==") => "_==_",
                Token::Symbol("!=") => "_!=_",
                Token::Symbol("in") => "@in",
                _ => return Ok(left),
            };
            self.deeper(Rule::Relation)?;
            let mark = self.take();
            let right = self.nested(Rule::Calc, |this| this.calc(0, FIRST))?;
            left = self.call(mark.offset, function, None, vec![left, right]);
        }
    }

    fn calc(&mut self, above: u8, first: &str) -> Parsed<Id> {
        let mut left = self.unary(first)?;
        loop {
            let (function, level) = match self.peek().token {
                Token::Symbol("*") => ("_*_", 2),
                Token::Symbol("/") => ("_/_", 2),
                Token::Symbol("%") => ("_%_", 2),
                Token::Symbol("+") => ("_+_", 1),
                Token::Symbol("-") => ("_-_", 1),
                _ => return Ok(left),
            };
            if level <= above {
                return Ok(left);
            }
            self.deeper(Rule::Calc)?;
            let mark = self.take();
            let right = self.nested(Rule::Calc, |this| this.calc(level, FIRST))?;
            left = self.call(mark.offset, function, None, vec![left, right]);
        }
    }

    fn unary(&mut self, first: &str) -> Parsed<Id> {
        let mark = self.peek();
        let count = |this: &mut Self, symbol| {
            let mut count = 0;
            while this.accept(symbol).is_some() {
                count += 1;
            }
            count
        };
        let nots = count(self, "!");
        if nots > 0 {
            let seen = self.peek();
            if !starts_member(seen.token) {
                return Err(self.syntax(seen, format!("extraneous input '{}' expecting {FIRST}", seen.text)));
            }
            let operand = self.member(FIRST)?;
            return Ok(if nots % 2 == 0 {
                operand
            } else {
                self.call(mark.offset, "!_", None, vec![operand])
            });
        }
        let signed = matches!(self.ahead(1).token, Token::Int | Token::Double);
        if self.sees("-") && !signed {
            let minuses = count(self, "-");
            let seen = self.peek();
            if !starts_member(seen.token) {
                let end = seen.token == Token::End;
                let text = if end { "" } else { seen.text };
                let stop = self.syntax(seen, format!("no viable alternative at input '-{text}'"));
                if end {
                    self.syntax(seen, format!("mismatched input '{}' expecting {FIRST}", seen.text));
                }
                return Err(stop);
            }
            let operand = self.member(FIRST)?;
            return Ok(if minuses % 2 == 0 {
                operand
            } else {
                self.call(mark.offset, "-_", None, vec![operand])
            });
        }
        self.member(first)
    }

    fn member(&mut self, first: &str) -> Parsed<Id> {
        self.nested(Rule::Member, |this| {
            let mut operand = this.primary(first)?;
            loop {
                if let Some(dot) = this.accept(".") {
                    this.deeper(Rule::Member)?;
                    operand = this.after_dot(operand, dot)?;
                } else if let Some(open) = this.accept("[") {
                    this.deeper(Rule::Member)?;
                    let optional = this.accept("?").is_some();
                    let index = this.expression(if optional { FIRST } else { FIRST_IN_INDEX })?;
                    this.expect("]", "']'")?;
                    let function = if optional { "_[?_]" } else { "_[_]" };
                    operand = this.call(open.offset, function, None, vec![operand, index]);
                } else {
                    return Ok(operand);
                }
            }
        })
    }

    fn after_dot(&mut self, operand: Id, dot: Lexeme<'s>) -> Parsed<Id> {
        let optional = self.accept("?").is_some();
        let name = self.peek();
        match name.token {
            Token::Ident => {}
            Token::Escaped => {
                self.fault(name.offset, "unsupported syntax: '`'");
                return Err(Stop);
            }
            _ if optional => {
                let message =
                    format!("mismatched input '{}' expecting {{IDENTIFIER, ESC_IDENTIFIER}}", name.text);
                return Err(self.syntax(name, message));
            }
            Token::Symbol(word @ ("true" | "false" | "null")) => {
                return Err(self.syntax(name, format!("mismatched input '{word}' expecting IDENTIFIER")));
            }
            Token::End => return Err(self.syntax(name, "no viable alternative at input '.'".to_owned())),
            _ => {
                return Err(self.syntax(name, format!("no viable alternative at input '.{}'", name.text)));
            }
        }
        self.at += 1;
        if optional {
            let field = self.push(name.offset, Expr::Literal(Literal::String(name.text.into())));
            return Ok(self.call(dot.offset, "_?._", None, vec![operand, field]));
        }
        if let Some(open) = self.accept("(") {
            let args = self.arguments()?;
            return Ok(self.call_or_macro(open.offset, name.text, Some(operand), args));
        }
        let select = Expr::Select { operand, field: name.text.into(), test_only: false };
        Ok(self.push(dot.offset, select))
    }

    /// What is between the brackets of a call, and the closing one.
    fn arguments(&mut self) -> Parsed<Vec<Id>> {
        let mut args = Vec::new();
        if self.accept(")").is_some() {
            return Ok(args);
        }
        let seen = self.peek();
        if !starts_expression(seen.token) && matches!(self.ahead(1).token, Token::Symbol(")")) {
            self.syntax(seen, format!("extraneous input '{}' expecting {FIRST_OR_CLOSE}", seen.text));
            self.at += 2;
            return Ok(args);
        }
        args.push(self.expression(FIRST_OR_CLOSE)?);
        while self.accept(",").is_some() {
            args.push(self.expression(FIRST)?);
        }
        self.expect(")", "')'")?;
        Ok(args)
    }

    fn primary(&mut self, first: &str) -> Parsed<Id> {
        if !starts_member(self.peek().token) {
            let seen = self.peek();
            if seen.token == Token::End || !starts_expression(self.ahead(1).token) {
                return Err(self.syntax(seen, format!("mismatched input '{}' expecting {first}", seen.text)));
            }
            self.syntax(seen, format!("extraneous input '{}' expecting {first}", seen.text));
            self.at += 1;
            return self.unary(first);
        }
        let lexeme = self.take();
        match lexeme.token {
            Token::Symbol("-") => {
                let number = self.take();
                Ok(self.number(lexeme.offset, number, true))
            }
            Token::Int | Token::Uint | Token::Double => Ok(self.number(lexeme.offset, lexeme, false)),
            Token::String | Token::Bytes => Ok(self.quoted(lexeme)),
            Token::Symbol("true") => Ok(self.push(lexeme.offset, Expr::Literal(Literal::Bool(true)))),
            Token::Symbol("false") => Ok(self.push(lexeme.offset, Expr::Literal(Literal::Bool(false)))),
            Token::Symbol("null") => Ok(self.push(lexeme.offset, Expr::Literal(Literal::Null))),
            Token::Symbol("(") => {
                let inner = self.expression(FIRST)?;
                self.expect(")", "')'")?;
                Ok(inner)
            }
            Token::Symbol("[") => self.list(lexeme.offset),
            Token::Symbol("{") => self.map(lexeme.offset),
            Token::Symbol(".") => {
                let name = self.peek();
                if name.token != Token::Ident {
                    let text = if name.token == Token::End { "" } else { name.text };
                    return Err(self.syntax(name, format!("no viable alternative at input '.{text}'")));
                }
                self.at += 1;
                self.named(name, ".")
            }
            _ => self.named(lexeme, ""),
        }
    }

    /// An identifier, a call of a function, or an object of a named type.
    fn named(&mut self, name: Lexeme<'s>, dot: &str) -> Parsed<Id> {
        if let Some(length) = self.object_name() {
            let mut full = format!("{dot}{}", name.text);
            for step in 0..length {
                full.push_str(self.ahead(step).text);
            }
            self.at += length;
            let open = self.take();
            return self.object(open.offset, &full);
        }
        let reserved = RESERVED.contains(&name.text);
        let full = format!("{dot}{}", name.text);
        let open = self.accept("(");
        let args = match open {
            Some(_) => self.arguments()?,
            None => Vec::new(),
        };
        if reserved {
            self.fault(name.offset, format!("reserved identifier: {}", name.text));
            return Ok(self.push(name.offset, Expr::Error));
        }
        Ok(match open {
            Some(open) => self.call_or_macro(open.offset, &full, None, args),
            None => self.push(name.offset, Expr::Ident(full.into())),
        })
    }

    /// How many lexemes after a name (`.b.c`) still belong to the name of an object literal.
    fn object_name(&self) -> Option<usize> {
        let mut length = 0;
        loop {
            match (self.ahead(length).token, self.ahead(length + 1).token) {
                (Token::Symbol("{"), _) => return Some(length),
                (Token::Symbol("."), Token::Ident) => length += 2,
                _ => return None,
            }
        }
    }

    fn list(&mut self, offset: u32) -> Parsed<Id> {
        let (mut elements, mut optional) = (Vec::new(), Vec::new());
        if self.accept(",").is_some() {
            self.expect("]", "']'")?;
        } else if self.accept("]").is_none() {
            let mut first = FIRST_IN_LIST;
            loop {
                optional.push(self.accept("?").is_some());
                elements.push(self.expression(first)?);
                first = FIRST;
                if self.accept(",").is_none() {
                    self.expect("]", "{']', ','}")?;
                    break;
                }
                if !starts_expression(self.peek().token) && !self.sees("?") {
                    self.expect("]", "']'")?;
                    break;
                }
            }
        }
        Ok(self.push(offset, Expr::List { elements, optional }))
    }

    fn map(&mut self, offset: u32) -> Parsed<Id> {
        let mut entries = Vec::new();
        if self.accept(",").is_some() {
            self.expect("}", "'}'")?;
        } else if self.accept("}").is_none() {
            let mut first = FIRST_IN_MAP;
            loop {
                let optional = self.accept("?").is_some();
                let key = self.expression(first)?;
                first = FIRST;
                self.expect(":", "':'")?;
                let value = self.expression(FIRST)?;
                entries.push(Entry { key, value, optional });
                if self.accept(",").is_none() {
                    self.expect("}", "{'}', ','}")?;
                    break;
                }
                if !starts_expression(self.peek().token) && !self.sees("?") {
                    self.expect("}", "'}'")?;
                    break;
                }
            }
        }
        Ok(self.push(offset, Expr::Map { entries }))
    }

    fn object(&mut self, offset: u32, name: &str) -> Parsed<Id> {
        let mut fields = Vec::new();
        if self.accept(",").is_some() {
            self.expect("}", "'}'")?;
        } else if self.accept("}").is_none() {
            loop {
                let optional = self.accept("?").is_some();
                let field = self.take();
                if field.token == Token::Escaped {
                    self.fault(field.offset, "unsupported syntax: '`'");
                    return Err(Stop);
                }
                if field.token != Token::Ident {
                    let expecting = "{'}', ',', '?', IDENTIFIER, ESC_IDENTIFIER}";
                    return Err(self
                        .syntax(field, format!("mismatched input '{}' expecting {expecting}", field.text)));
                }
                let colon = self.expect(":", "':'")?;
                let value = self.expression(FIRST)?;
                fields.push(FieldInit { name: field.text.into(), value, optional, offset: colon.offset });
                if self.accept(",").is_none() {
                    self.expect("}", "{'}', ','}")?;
                    break;
                }
                if !matches!(self.peek().token, Token::Ident | Token::Escaped) && !self.sees("?") {
                    self.expect("}", "'}'")?;
                    break;
                }
            }
        }
        Ok(self.push(offset, Expr::Struct { name: name.into(), fields }))
    }

    fn number(&mut self, offset: u32, lexeme: Lexeme<'s>, negative: bool) -> Id {
        let sign = if negative { "-" } else { "" };
        let (digits, radix) = match lexeme.text.strip_prefix("0x") {
            Some(rest) => (rest, 16),
            None => (lexeme.text, 10),
        };
        let (literal, kind) = match lexeme.token {
            Token::Int => {
                (i64::from_str_radix(&format!("{sign}{digits}"), radix).ok().map(Literal::Int), "int")
            }
            Token::Uint => {
                let digits = digits.trim_end_matches(['u', 'U']);
                (u64::from_str_radix(digits, radix).ok().map(Literal::Uint), "uint")
            }
            _ => {
                let value = format!("{sign}{digits}").parse::<f64>().ok().filter(|it| it.is_finite());
                (value.map(Literal::Double), "double")
            }
        };
        match literal {
            Some(literal) => self.push(offset, Expr::Literal(literal)),
            None => {
                self.fault(offset, format!("invalid {kind} literal"));
                self.push(offset, Expr::Error)
            }
        }
    }

    fn quoted(&mut self, lexeme: Lexeme<'s>) -> Id {
        let bytes = lexeme.token == Token::Bytes;
        let text = if bytes { &lexeme.text[1..] } else { lexeme.text };
        let literal = lexer::unquote(text, bytes).and_then(|value| {
            if bytes {
                return Ok(Literal::Bytes(value.into()));
            }
            let text = String::from_utf8(value).map_err(|_| "unable to unescape string")?;
            Ok(Literal::String(text.into()))
        });
        match literal {
            Ok(literal) => self.push(lexeme.offset, Expr::Literal(literal)),
            Err(message) => {
                self.fault(lexeme.offset, message);
                self.push(lexeme.offset, Expr::Error)
            }
        }
    }

    pub(crate) fn push(&mut self, offset: u32, expr: Expr) -> Id {
        self.ast.nodes.push(expr);
        self.ast.offsets.push(offset);
        (self.ast.nodes.len() - 1) as Id
    }

    pub(crate) fn expr(&self, id: Id) -> &Expr {
        self.ast.expr(id)
    }

    pub(crate) fn call(&mut self, offset: u32, function: &str, target: Option<Id>, args: Vec<Id>) -> Id {
        self.push(offset, Expr::Call { function: Arc::from(function), target, args })
    }

    fn call_or_macro(&mut self, offset: u32, function: &str, target: Option<Id>, args: Vec<Id>) -> Id {
        match self.expand(offset, function, target, &args) {
            None => self.call(offset, function, target, args),
            Some(Ok(expanded)) => expanded,
            Some(Err((at, message))) => {
                self.fault(self.ast.offset(at), message);
                self.push(offset, Expr::Error)
            }
        }
    }
}

fn starts_member(token: Token) -> bool {
    match token {
        Token::Ident | Token::Int | Token::Uint | Token::Double | Token::String | Token::Bytes => true,
        Token::Symbol(it) => matches!(it, "[" | "{" | "(" | "." | "-" | "true" | "false" | "null"),
        Token::Escaped | Token::End => false,
    }
}

fn starts_expression(token: Token) -> bool {
    starts_member(token) || token == Token::Symbol("!")
}
