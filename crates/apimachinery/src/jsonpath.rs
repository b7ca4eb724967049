//! JSONPath as client-go's `util/jsonpath` understands it, as far as one path goes: what printer columns and
//! selectable fields of custom resources are written in, and kubectl's sorting. Templates with text and `range` are
//! kubectl's own matter.

use serde_json::Value;

/// How deep filters may stand in filters.
const DEEPEST: usize = 16;

/// A path that was read.
#[derive(Clone, Debug, PartialEq)]
pub struct JsonPath {
    steps: Vec<Step>,
}

#[derive(Clone, Debug, PartialEq)]
enum Step {
    Field(Box<str>),
    Wildcard,
    /// `..`: everything below, in the order in which it stands there.
    Recursive,
    /// `[from:to:step]`; `[3]` is a slice of one.
    Slice {
        from: Option<i64>,
        to: Option<i64>,
        step: Option<i64>,
        single: bool,
    },
    Union(Vec<Vec<Step>>),
    Filter(Box<Filter>),
}

#[derive(Clone, Debug, PartialEq)]
struct Filter {
    left: Operand,
    /// With what it is compared; `None`: it only needs to be there.
    right: Option<(Comparison, Operand)>,
}

#[derive(Clone, Debug, PartialEq)]
enum Operand {
    Path(Vec<Step>),
    Literal(Value),
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Comparison {
    Equal,
    NotEqual,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
}

/// A path that cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    #[error("unterminated array")]
    Array,
    #[error("unterminated filter")]
    Filter,
    #[error("invalid array index {0}")]
    Index(String),
    #[error("unrecognized character in action: {0:?}")]
    Character(char),
    #[error("filters are nested too deeply")]
    Depth,
}

impl JsonPath {
    /// Reads `.spec.containers[0].name`, with or without braces around it.
    ///
    /// # Errors
    /// What cannot be read.
    pub fn parse(text: &str) -> Result<JsonPath, Error> {
        let text = text.trim();
        let text = text.strip_prefix('{').and_then(|text| text.strip_suffix('}')).unwrap_or(text);
        Ok(JsonPath { steps: steps(text, 0)? })
    }

    /// Everything that the path leads to; nothing where it leads nowhere.
    pub fn find<'v>(&self, value: &'v Value) -> Vec<&'v Value> {
        follow(&self.steps, vec![value])
    }
}

fn steps(text: &str, depth: usize) -> Result<Vec<Step>, Error> {
    if depth > DEEPEST {
        return Err(Error::Depth);
    }
    let mut steps = Vec::new();
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        rest = match first {
            ' ' | '@' | '$' => &rest[1..],
            '.' if rest[1..].starts_with('.') => {
                steps.push(Step::Recursive);
                // What follows two dots is a field without a dot of its own.
                let rest = &rest[2..];
                if rest.starts_with('[') { rest } else { field(rest, &mut steps) }
            }
            '.' => field(&rest[1..], &mut steps),
            '[' => {
                let end = closing(rest)?;
                steps.push(subscript(&rest[1..end], depth)?);
                &rest[end + 1..]
            }
            c if c.is_alphanumeric() || matches!(c, '_' | '-' | '*' | '\\') => field(rest, &mut steps),
            other => return Err(Error::Character(other)),
        };
    }
    Ok(steps)
}

/// Reads a field's name, in which a backslash takes what follows as it is.
fn field<'t>(text: &'t str, steps: &mut Vec<Step>) -> &'t str {
    let (mut name, mut end, mut escaped) = (String::new(), text.len(), false);
    for (at, c) in text.char_indices() {
        match c {
            _ if escaped => {
                name.push(c);
                escaped = false;
            }
            '\\' => escaped = true,
            '.' | '[' | ']' | ' ' | ')' | '(' | '@' | '$' | '\'' | '"' | '=' | '<' | '>' | '!' | ','
            | '|' => {
                end = at;
                break;
            }
            c => name.push(c),
        }
    }
    match name.as_str() {
        "" => {}
        "*" => steps.push(Step::Wildcard),
        name => steps.push(Step::Field(name.into())),
    }
    &text[end..]
}

/// Where the bracket that opens `text` is closed, quotes and brackets inside set aside.
fn closing(text: &str) -> Result<usize, Error> {
    let (mut depth, mut quote, mut escaped) = (0_usize, None, false);
    for (at, c) in text.char_indices() {
        match (c, quote) {
            _ if escaped => escaped = false,
            ('\\', _) => escaped = true,
            (c, Some(open)) if c == open => quote = None,
            (_, Some(_)) => {}
            ('\'' | '"', None) => quote = Some(c),
            ('[', None) => depth += 1,
            (']', None) => {
                depth -= 1;
                if depth == 0 {
                    return Ok(at);
                }
            }
            _ => {}
        }
    }
    Err(Error::Array)
}

fn subscript(text: &str, depth: usize) -> Result<Step, Error> {
    let text = text.trim();
    if let Some(inner) = text.strip_prefix("?(") {
        let inner = inner.strip_suffix(')').ok_or(Error::Filter)?;
        return Ok(Step::Filter(Box::new(filter(inner, depth + 1)?)));
    }
    if text == "*" {
        return Ok(Step::Wildcard);
    }
    let parts = split(text);
    if parts.len() > 1 {
        let parts = parts.into_iter().map(|part| match subscript(part, depth + 1) {
            Ok(step) => Ok(vec![step]),
            Err(_) if depth < DEEPEST => steps(part, depth + 1),
            Err(why) => Err(why),
        });
        return Ok(Step::Union(parts.collect::<Result<_, _>>()?));
    }
    if let Some(name) = quoted(text) {
        return Ok(Step::Field(name.into()));
    }
    let wrong = || Error::Index(text.to_owned());
    let number = |text: &str| match text.trim() {
        "" => Ok(None),
        digits => digits.parse::<i64>().map(Some).map_err(|_| wrong()),
    };
    let numbers: Vec<&str> = text.split(':').collect();
    match numbers[..] {
        [index] => {
            let index = number(index)?.ok_or_else(wrong)?;
            Ok(Step::Slice { from: Some(index), to: None, step: None, single: true })
        }
        [from, to] => Ok(Step::Slice { from: number(from)?, to: number(to)?, step: None, single: false }),
        [from, to, step] => {
            Ok(Step::Slice { from: number(from)?, to: number(to)?, step: number(step)?, single: false })
        }
        _ => Err(wrong()),
    }
}

fn quoted(text: &str) -> Option<String> {
    let quote = text.chars().next().filter(|c| matches!(c, '\'' | '"'))?;
    let inner = text.strip_prefix(quote)?.strip_suffix(quote)?;
    let (mut out, mut escaped) = (String::with_capacity(inner.len()), false);
    for c in inner.chars() {
        if c == '\\' && !escaped {
            escaped = true;
            continue;
        }
        escaped = false;
        out.push(c);
    }
    Some(out)
}

/// At the commas outside quotes.
fn split(text: &str) -> Vec<&str> {
    let (mut parts, mut from, mut quote) = (Vec::new(), 0, None);
    for (at, c) in text.char_indices() {
        match (c, quote) {
            (c, Some(open)) if c == open => quote = None,
            (_, Some(_)) => {}
            ('\'' | '"', None) => quote = Some(c),
            (',', None) => {
                parts.push(text[from..at].trim());
                from = at + 1;
            }
            _ => {}
        }
    }
    parts.push(text[from..].trim());
    parts
}

fn filter(text: &str, depth: usize) -> Result<Filter, Error> {
    let mut quote = None;
    for (at, c) in text.char_indices() {
        match (c, quote) {
            (c, Some(open)) if c == open => quote = None,
            (_, Some(_)) => {}
            ('\'' | '"', None) => quote = Some(c),
            ('=' | '!' | '<' | '>', None) => {
                let two = text.get(at..at + 2).unwrap_or_default();
                let (comparison, length) = match two {
                    "==" => (Comparison::Equal, 2),
                    "!=" => (Comparison::NotEqual, 2),
                    "<=" => (Comparison::LessOrEqual, 2),
                    ">=" => (Comparison::GreaterOrEqual, 2),
                    two if two.starts_with('<') => (Comparison::Less, 1),
                    two if two.starts_with('>') => (Comparison::Greater, 1),
                    _ => return Err(Error::Filter),
                };
                let right = operand(&text[at + length..], depth)?;
                return Ok(Filter { left: operand(&text[..at], depth)?, right: Some((comparison, right)) });
            }
            _ => {}
        }
    }
    Ok(Filter { left: operand(text, depth)?, right: None })
}

fn operand(text: &str, depth: usize) -> Result<Operand, Error> {
    let text = text.trim();
    if let Some(text) = quoted(text) {
        return Ok(Operand::Literal(text.into()));
    }
    if let Ok(number @ (Value::Number(_) | Value::Bool(_))) = serde_json::from_str(text) {
        return Ok(Operand::Literal(number));
    }
    Ok(Operand::Path(steps(text, depth)?))
}

fn follow<'v>(steps: &[Step], mut values: Vec<&'v Value>) -> Vec<&'v Value> {
    for step in steps {
        let mut next = Vec::new();
        for value in values {
            take(step, value, &mut next);
        }
        values = next;
    }
    values
}

fn take<'v>(step: &Step, value: &'v Value, out: &mut Vec<&'v Value>) {
    match (step, value) {
        (Step::Field(name), Value::Object(fields)) => out.extend(fields.get(&**name)),
        (Step::Wildcard, Value::Object(fields)) => out.extend(fields.values()),
        (Step::Wildcard, Value::Array(items)) => out.extend(items),
        (Step::Recursive, value) => below(value, out),
        (Step::Slice { from, to, step, single }, Value::Array(items)) => {
            out.extend(slice(items, *from, *to, *step, *single));
        }
        (Step::Union(parts), value) => {
            parts.iter().for_each(|steps| out.extend(follow(steps, vec![value])));
        }
        (Step::Filter(filter), Value::Array(items)) => {
            out.extend(items.iter().filter(|item| filter.admits(item)))
        }
        (Step::Filter(filter), Value::Object(fields)) => {
            out.extend(fields.values().filter(|item| filter.admits(item)));
        }
        _ => {}
    }
}

fn below<'v>(value: &'v Value, out: &mut Vec<&'v Value>) {
    out.push(value);
    match value {
        Value::Array(items) => items.iter().for_each(|item| below(item, out)),
        Value::Object(fields) => fields.values().for_each(|item| below(item, out)),
        _ => {}
    }
}

fn slice(
    items: &[Value],
    from: Option<i64>,
    to: Option<i64>,
    step: Option<i64>,
    single: bool,
) -> Vec<&Value> {
    let length = items.len() as i64;
    let place = |at: i64| if at < 0 { at + length } else { at };
    let from = place(from.unwrap_or(0));
    let to = if single { from.saturating_add(1) } else { place(to.unwrap_or(length)) };
    let to = to.clamp(0, length);
    let step = step.unwrap_or(1);
    if from < 0 || from >= to || step <= 0 {
        return Vec::new();
    }
    let items = items.get(from as usize..to as usize).unwrap_or_default();
    items.iter().step_by(usize::try_from(step).unwrap_or(usize::MAX)).collect()
}

impl Filter {
    fn admits(&self, item: &Value) -> bool {
        let value = |operand: &Operand| match operand {
            Operand::Literal(value) => Some(value.clone()),
            Operand::Path(steps) => follow(steps, vec![item]).first().copied().cloned(),
        };
        let Some(left) = value(&self.left) else { return false };
        let Some((comparison, right)) = &self.right else { return true };
        let Some(right) = value(right) else { return false };
        let order = match (&left, &right) {
            (Value::Number(a), Value::Number(b)) => a.as_f64().partial_cmp(&b.as_f64()),
            (Value::String(a), Value::String(b)) => Some(a.cmp(b)),
            (Value::Bool(a), Value::Bool(b)) => Some(a.cmp(b)),
            _ => None,
        };
        let Some(order) = order else { return false };
        match comparison {
            Comparison::Equal => order.is_eq(),
            Comparison::NotEqual => order.is_ne(),
            Comparison::Less => order.is_lt(),
            Comparison::LessOrEqual => order.is_le(),
            Comparison::Greater => order.is_gt(),
            Comparison::GreaterOrEqual => order.is_ge(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn paths() {
        let object = json!({
            "metadata": {"name": "n", "annotations": {"a.b/c": "dotted"}},
            "spec": {"list": [{"name": "x", "n": 1}, {"name": "y", "n": 5}], "numbers": [0, 1, 2, 3, 4]},
            "status": {"conditions": [{"type": "Ready", "status": "True"}, {"type": "Synced", "status": "False"}]},
        });
        let check = |path: &str, expect: Value| {
            let found: Vec<Value> = JsonPath::parse(path)
                .unwrap_or_else(|e| panic!("{path}: {e}"))
                .find(&object)
                .into_iter()
                .cloned()
                .collect();
            assert_eq!(Value::Array(found), expect, "{path}");
        };
        check(".metadata.name", json!(["n"]));
        check("{.metadata.name}", json!(["n"]));
        check(".metadata.missing.x", json!([]));
        check(".metadata.annotations['a.b/c']", json!(["dotted"]));
        check(r".metadata.annotations.a\.b/c", json!(["dotted"]));
        check(".spec.list[0].name", json!(["x"]));
        check(".spec.list[-1].name", json!(["y"]));
        check(".spec.list[*].name", json!(["x", "y"]));
        check(".spec.list[7].name", json!([]));
        check(".spec.numbers[1:3]", json!([1, 2]));
        check(".spec.numbers[::2]", json!([0, 2, 4]));
        check(".spec.numbers[0,3]", json!([0, 3]));
        check("$.metadata['name']", json!(["n"]));
        check(r#".status.conditions[?(@.type=="Ready")].status"#, json!(["True"]));
        check(".status.conditions[?(@.type=='Synced')].status", json!(["False"]));
        check(".status.conditions[?(@.type!='Synced')].status", json!(["True"]));
        check(".spec.list[?(@.n>1)].name", json!(["y"]));
        check(".spec.list[?(@.name)].n", json!([1, 5]));
        check("..type", json!(["Ready", "Synced"]));
    }

    #[test]
    fn faults() {
        for path in [".a[", ".a[x]", ".a[?(@.b]", ".a[1:2:3:4]", ".a|b", ".a[?(@.b=c)]"] {
            assert!(JsonPath::parse(path).is_err(), "{path}");
        }
        assert!(JsonPath::parse(&format!("{}{}", ".a[?(@".repeat(1000), ")]".repeat(1000))).is_err());
    }
}
