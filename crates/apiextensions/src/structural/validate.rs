//! Values against a schema, in the words of upstream's kube-openapi (`pkg/validation/validate`) and with upstream's
//! ratcheting (KEP-4008): what was wrong before and has not changed is let pass on update.

use std::fmt;

use serde_json::{Number, Value};

use super::formats;
use super::items::Items;
use super::{Additional, Kind, Limits, MOST_FAULTS, Structural};
use apimachinery::field::{self, Error, ErrorList, ErrorType};

/// Every fault of `value`. With `old`, those that stood there before are no faults. `base` is where in an object the
/// value is; [`field::Path::NIL`] for a whole one.
pub fn validate(
    value: &Value,
    schema: &Structural,
    old: Option<&Value>,
    base: &field::Path<'_>,
) -> ErrorList {
    let root = At { parent: None, step: Step::Root };
    let outcome = match old {
        Some(old) => ratchet(value, schema, old, &root),
        None => check(value, schema, None, &root),
    };
    outcome.faults.into_iter().map(|fault| fault.into_error(base)).collect()
}

/// Where in the value a node is, in the validator's own notation: `spec.a[0].b`, empty at the root.
#[derive(Clone, Copy)]
struct At<'a> {
    parent: Option<&'a At<'a>>,
    step: Step<'a>,
}

#[derive(Clone, Copy)]
enum Step<'a> {
    Root,
    Name(&'a str),
    Index(usize),
}

impl<'a> At<'a> {
    fn name(&'a self, name: &'a str) -> At<'a> {
        At { parent: Some(self), step: Step::Name(name) }
    }

    fn index(&'a self, index: usize) -> At<'a> {
        At { parent: Some(self), step: Step::Index(index) }
    }

    fn is_root(&self) -> bool {
        matches!(self.step, Step::Root)
    }
}

/// Cut where it is too long to be told.
impl fmt::Display for At<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&field::cut(&Whole(self)))
    }
}

struct Whole<'a>(&'a At<'a>);

impl fmt::Display for Whole<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let At { parent, step } = self.0;
        if let Some(parent) = parent {
            Whole(parent).fmt(f)?;
        }
        match step {
            Step::Root => Ok(()),
            Step::Name(name) if parent.is_none_or(At::is_root) => f.write_str(name),
            Step::Name(name) => write!(f, ".{name}"),
            Step::Index(index) => write!(f, "[{index}]"),
        }
    }
}

/// A fault, before it is known where the value stands in an object.
struct Fault {
    kind: ErrorType,
    /// `None`: said of the whole, wherever it was found.
    at: Option<String>,
    value: Option<Value>,
    detail: String,
}

impl Fault {
    fn new(kind: ErrorType, at: &At<'_>, value: impl Into<Value>, detail: String) -> Fault {
        Fault { kind, at: Some(at.to_string()), value: Some(value.into()), detail }
    }

    fn whole(detail: String) -> Fault {
        Fault { kind: ErrorType::Invalid, at: None, value: Some("".into()), detail }
    }

    fn into_error(self, base: &field::Path<'_>) -> Error {
        let field = match self.at.as_deref() {
            None | Some("") => base.text(),
            Some(at) => base.child(at).text(),
        };
        Error { kind: self.kind, field, bad_value: self.value, detail: self.detail }
    }

    fn is_same(&self, other: &Fault) -> bool {
        self.kind == other.kind && self.at == other.at && self.detail == other.detail
    }
}

/// What was found, and how many checks were made: of several alternatives the one that was followed furthest tells
/// best what is wrong.
#[derive(Default)]
struct Outcome {
    faults: Vec<Fault>,
    matches: u32,
}

impl Outcome {
    fn add(&mut self, fault: Fault) {
        if !self.is_full() && !self.faults.iter().any(|known| known.is_same(&fault)) {
            self.faults.push(fault);
        }
    }

    fn merge(&mut self, other: Outcome) {
        self.matches += other.matches;
        other.faults.into_iter().for_each(|fault| self.add(fault));
    }

    fn is_valid(&self) -> bool {
        self.faults.is_empty()
    }

    /// Enough has been found.
    fn is_full(&self) -> bool {
        self.faults.len() >= MOST_FAULTS
    }
}

/// A value that can be told to be the same thing as an old one.
fn ratchet(value: &Value, schema: &Structural, old: &Value, at: &At<'_>) -> Outcome {
    let mut outcome = check(value, schema, Some(old), at);
    if !outcome.is_valid() && value == old {
        outcome.faults.clear();
    }
    outcome
}

fn below(value: &Value, schema: &Structural, old: Option<&Value>, at: &At<'_>) -> Outcome {
    match old {
        Some(old) => ratchet(value, schema, old, at),
        None => check(value, schema, None, at),
    }
}

fn check(value: &Value, schema: &Structural, old: Option<&Value>, at: &At<'_>) -> Outcome {
    let mut outcome = Outcome::default();
    let none = Limits::default();
    let limits = schema.limits.as_deref().unwrap_or(&none);
    let format = if formats::is_known(schema.kind, &limits.format) { &*limits.format } else { "" };
    let typed = schema.kind.is_some() || schema.int_or_string;
    if value.is_null() {
        if typed && !schema.nullable {
            outcome.add(wrong_type(at, &names(schema), "null"));
        } else {
            outcome.matches += 1;
        }
        values(value, limits, at, &mut outcome);
        return outcome;
    }
    if typed || !format.is_empty() {
        match type_fault(value, schema, format, at) {
            Some(fault) => outcome.add(fault),
            None => outcome.matches += 1,
        }
        outcome.matches += 1;
    }
    combined(value, limits, old, at, &mut outcome);
    outcome.matches += 1;
    match value {
        Value::String(text) => {
            string(text, limits, at, &mut outcome);
            outcome.matches += 1;
            if !format.is_empty() && schema.kind.is_none_or(|kind| kind == Kind::String) {
                if !formats::is_valid(format, text) {
                    let detail = format!("{at} in body must be of type {format}: {}", field::quote(text));
                    outcome.add(Fault::new(ErrorType::TypeInvalid, at, text.as_str(), detail));
                }
                outcome.matches += 1;
            }
        }
        Value::Number(number) => {
            self::number(number, schema, limits, at, &mut outcome);
            outcome.matches += 2;
        }
        Value::Array(items) => {
            array(items, schema, limits, old, at, &mut outcome);
            outcome.matches += 2;
        }
        _ => {}
    }
    values(value, limits, at, &mut outcome);
    outcome.matches += 1;
    if value.is_object() {
        object(value, schema, limits, old, at, &mut outcome);
        outcome.matches += 1;
    }
    outcome.matches += 1;
    outcome
}

fn names(schema: &Structural) -> String {
    match (schema.int_or_string, schema.kind) {
        (true, _) => "integer,string".into(),
        (false, Some(kind)) => kind.name().into(),
        (false, None) => String::new(),
    }
}

fn wrong_type(at: &At<'_>, wanted: &str, given: &str) -> Fault {
    let detail = format!("{at} in body must be of type {wanted}: {}", field::quote(given));
    Fault::new(ErrorType::TypeInvalid, at, given, detail)
}

/// What a value is, in JSON Schema's words, and how Go would hold a number.
fn kind_of(value: &Value) -> (Option<Kind>, &'static str) {
    match value {
        Value::Null => (None, ""),
        Value::Bool(_) => (Some(Kind::Boolean), ""),
        Value::Number(number) if number.is_f64() => (Some(Kind::Number), "float64"),
        Value::Number(_) => (Some(Kind::Integer), "int64"),
        Value::String(_) => (Some(Kind::String), ""),
        Value::Array(_) => (Some(Kind::Array), ""),
        Value::Object(_) => (Some(Kind::Object), ""),
    }
}

fn type_fault(value: &Value, schema: &Structural, format: &str, at: &At<'_>) -> Option<Fault> {
    let takes = |kind: Kind| match schema.int_or_string {
        true => matches!(kind, Kind::Integer | Kind::String),
        false => schema.kind == Some(kind),
    };
    let (kind, held) = kind_of(value);
    let whole = value.as_f64().is_some_and(is_whole);
    let fits = kind.is_some_and(takes)
        || kind == Some(Kind::Number) && whole && takes(Kind::Integer)
        || kind == Some(Kind::Integer) && takes(Kind::Number);
    let textual = matches!(value, Value::String(_) | Value::Array(_));
    if !textual && !format.is_empty() && !fits && format != held {
        return Some(wrong_type(at, format, held));
    }
    let numeric = takes(Kind::Number) || takes(Kind::Integer);
    if textual && !numeric && !format.is_empty() {
        return None;
    }
    (!fits).then(|| wrong_type(at, &names(schema), kind.map_or("", Kind::name)))
}

/// A number without a fraction, within what JSON's numbers tell exactly.
fn is_whole(number: f64) -> bool {
    if !number.is_finite() || number.abs() > 9_007_199_254_740_991.0 {
        return false;
    }
    let apart = (number - number.round()).abs();
    let most = number.abs().max(number.round().abs());
    number == number.trunc() || number != 0.0 && apart / most < 1e-9
}

fn combined(value: &Value, limits: &Limits, old: Option<&Value>, at: &At<'_>, outcome: &mut Outcome) {
    if !limits.any_of.is_empty() {
        match furthest(value, &limits.any_of, old, at) {
            (0, best) => {
                outcome.add(Fault::whole(format!(
                    "{} must validate at least one schema (anyOf)",
                    field::quote(&at.to_string())
                )));
                outcome.merge(best.unwrap_or_default());
            }
            (_, best) => outcome.merge(best.unwrap_or_default()),
        }
    }
    if !limits.one_of.is_empty() {
        let (valid, best) = furthest(value, &limits.one_of, old, at);
        if valid != 1 {
            let found = match valid {
                0 => "Found none valid".to_owned(),
                many => format!("Found {many} valid alternatives"),
            };
            outcome.add(Fault::whole(format!(
                "{} must validate one and only one schema (oneOf). {found}",
                field::quote(&at.to_string())
            )));
        }
        if valid <= 1 {
            outcome.merge(best.unwrap_or_default());
        }
    }
    if !limits.all_of.is_empty() {
        let results: Vec<Outcome> =
            limits.all_of.iter().map(|schema| check(value, schema, old, at)).collect();
        let valid = results.iter().filter(|result| result.is_valid()).count();
        results.into_iter().for_each(|result| outcome.merge(result));
        if valid != limits.all_of.len() {
            let none = if valid == 0 { ". None validated" } else { "" };
            outcome.add(Fault::whole(format!(
                "{} must validate all the schemas (allOf){none}",
                field::quote(&at.to_string())
            )));
        }
    }
    if let Some(not) = &limits.not
        && check(value, not, old, at).is_valid()
    {
        outcome.add(Fault::whole(format!(
            "{} must not validate the schema (not)",
            field::quote(&at.to_string())
        )));
    }
    outcome.matches += 1;
}

/// How many schemas a value fits, and the first of those, or the one that it came closest to.
fn furthest(
    value: &Value,
    schemas: &[Structural],
    old: Option<&Value>,
    at: &At<'_>,
) -> (usize, Option<Outcome>) {
    let (mut valid, mut best): (usize, Option<Outcome>) = (0, None);
    for schema in schemas {
        let outcome = check(value, schema, old, at);
        if outcome.is_valid() {
            valid += 1;
            if valid == 1 {
                best = Some(outcome);
            }
        } else if valid == 0 && best.as_ref().is_none_or(|best| outcome.matches > best.matches) {
            best = Some(outcome);
        }
    }
    (valid, best)
}

fn string(text: &str, limits: &Limits, at: &At<'_>, outcome: &mut Outcome) {
    let length = || i64::try_from(text.chars().count()).unwrap_or(i64::MAX);
    if let Some(max) = limits.max_length.filter(|max| length() > *max) {
        let unit = if max == 1 { "byte" } else { "bytes" };
        let detail = format!("may not be more than {max} {unit}");
        outcome.add(Fault { kind: ErrorType::TooLong, at: Some(at.to_string()), value: None, detail });
        return;
    }
    if let Some(min) = limits.min_length.filter(|min| length() < *min) {
        let detail = format!("{at} in body should be at least {min} chars long");
        outcome.add(Fault::new(ErrorType::Invalid, at, text, detail));
        return;
    }
    let Some(pattern) = &limits.pattern else { return };
    let told = match pattern.regex() {
        Ok(regex) if regex.is_match(text) => return,
        Ok(_) => pattern.text().to_owned(),
        Err(why) => format!("{}, but pattern is invalid: {why}", pattern.text()),
    };
    let detail = format!("{at} in body should match '{told}'");
    outcome.add(Fault::new(ErrorType::Invalid, at, text, detail));
}

fn number(number: &Number, schema: &Structural, limits: &Limits, at: &At<'_>, outcome: &mut Outcome) {
    let kind = if schema.int_or_string { None } else { schema.kind };
    let format = match kind {
        Some(kind @ (Kind::Integer | Kind::Number)) if formats::is_known(Some(kind), &limits.format) => {
            &*limits.format
        }
        _ => "",
    };
    let fits = |value: f64, exact: Option<i64>, what: &str| -> Result<(), Fault> {
        let good = match (kind, format) {
            (Some(Kind::Integer), "int32") => exact.is_some_and(|exact| i32::try_from(exact).is_ok()),
            (Some(Kind::Integer), _) => exact.is_some(),
            (_, "float") => value.abs() <= f64::from(f32::MAX),
            _ => true,
        };
        let name = kind.map_or("", Kind::name);
        match (good, format) {
            (true, _) => Ok(()),
            (false, "") => {
                Err(Fault::whole(format!("{what} value must be of type {name} (default format) in {at}")))
            }
            (false, _) => {
                Err(Fault::whole(format!("{what} value must be of type {name} with format {format} in {at}")))
            }
        }
    };
    let (value, whole) = (number.as_f64().unwrap_or_default(), number.as_i64());
    let exact = |value: f64| (value == value.trunc() && value.abs() < 9.3e18).then_some(value as i64);
    if let Err(fault) = fits(value, whole.or_else(|| exact(value)), "Checked") {
        outcome.add(fault);
    }
    let told = Value::Number(number.clone());
    let say = |outcome: &mut Outcome, what: String| {
        outcome.add(Fault::new(
            ErrorType::Invalid,
            at,
            told.clone(),
            format!("{at} in body should be {what}"),
        ));
    };
    if let Some(factor) = limits.multiple_of {
        let native = fits(factor, exact(factor), "MultipleOf").map_err(|fault| outcome.add(fault)).is_ok();
        let good = match whole.filter(|_| native) {
            Some(whole) if factor as i64 > 0 => whole % (factor as i64) == 0,
            Some(_) => false,
            None if factor < 1.0 => is_whole(1.0 / factor * value),
            None => is_whole(value / factor),
        };
        if !good {
            say(outcome, format!("a multiple of {}", go_number(factor)));
        }
    }
    let mut bound = |limit: Option<f64>, exclusive: bool, what: &str, words: [&str; 2], above: bool| {
        let Some(limit) = limit else { return };
        let native = fits(limit, exact(limit), what).map_err(|fault| outcome.add(fault)).is_ok();
        let (beyond, equal, shown) = match whole.filter(|_| native) {
            // As Go: a whole number is compared with the whole part of the bound.
            Some(whole) => {
                let limit = limit as i64;
                (if above { whole > limit } else { whole < limit }, whole == limit, limit.to_string())
            }
            None => (if above { value > limit } else { value < limit }, value == limit, go_number(limit)),
        };
        if beyond || exclusive && equal {
            say(outcome, format!("{} {shown}", words[usize::from(exclusive)]));
        }
    };
    let most = ["less than or equal to", "less than"];
    bound(limits.maximum, limits.exclusive_maximum, "Maximum boundary", most, true);
    let least = ["greater than or equal to", "greater than"];
    bound(limits.minimum, limits.exclusive_minimum, "Minimum boundary", least, false);
}

/// A float as Go's `%v` prints it.
fn go_number(value: f64) -> String {
    let exponent = if value == 0.0 { 0 } else { value.abs().log10().floor() as i32 };
    if (-4..21).contains(&exponent) {
        return value.to_string();
    }
    let text = format!("{value:e}");
    match text.split_once('e') {
        Some((digits, exponent)) => {
            let (sign, exponent) =
                exponent.strip_prefix('-').map_or(('+', exponent), |exponent| ('-', exponent));
            format!("{digits}e{sign}{exponent:0>2}")
        }
        None => text,
    }
}

fn array(
    items: &[Value],
    schema: &Structural,
    limits: &Limits,
    old: Option<&Value>,
    at: &At<'_>,
    outcome: &mut Outcome,
) {
    if let Some(element) = &schema.items {
        let before = Items::new(schema, old.and_then(Value::as_array));
        for (index, item) in items.iter().enumerate() {
            if outcome.is_full() {
                break;
            }
            outcome.merge(below(item, element, before.get(item), &at.index(index)));
        }
    }
    let size = i64::try_from(items.len()).unwrap_or(i64::MAX);
    if let Some(min) = limits.min_items.filter(|min| size < *min) {
        let detail = format!("{at} in body should have at least {min} items");
        outcome.add(Fault::new(ErrorType::Invalid, at, size, detail));
    }
    if let Some(max) = limits.max_items.filter(|max| size > *max) {
        outcome.add(too_many(at, size, max));
    }
    if limits.unique_items && items.iter().enumerate().any(|(index, item)| items[..index].contains(item)) {
        let detail = format!("{at} in body shouldn't contain duplicates");
        outcome.add(Fault::new(ErrorType::Invalid, at, "", detail));
    }
}

fn too_many(at: &At<'_>, size: i64, max: i64) -> Fault {
    let unit = if max == 1 { "item" } else { "items" };
    Fault::new(ErrorType::TooMany, at, size, format!("must have at most {max} {unit}"))
}

fn object(
    value: &Value,
    schema: &Structural,
    limits: &Limits,
    old: Option<&Value>,
    at: &At<'_>,
    outcome: &mut Outcome,
) {
    let Some(fields) = value.as_object() else { return };
    let size = i64::try_from(fields.len()).unwrap_or(i64::MAX);
    if let Some(min) = limits.min_properties.filter(|min| size < *min) {
        let detail = format!("{at} in body should have at least {min} properties");
        outcome.add(Fault::new(ErrorType::Invalid, at, size, detail));
    }
    if let Some(max) = limits.max_properties.filter(|max| size > *max) {
        outcome.add(too_many(at, size, max));
    }
    // kind and apiVersion of a resource were converted: what stood there before is not known.
    let before = |name: &str| match at.is_root() && matches!(name, "kind" | "apiVersion") {
        true => None,
        false => old.and_then(|old| old.get(name)),
    };
    let is_other = |name: &str| !schema.properties.contains_key(name);
    match &schema.additional {
        Additional::Never => {
            for name in fields.keys().filter(|name| is_other(name)).take(MOST_FAULTS) {
                let detail = format!("{at}.{name} in body is a forbidden property");
                outcome.add(Fault::new(ErrorType::Invalid, at, name.as_str(), detail));
            }
        }
        Additional::Schema(others) => {
            for (name, value) in fields.iter().filter(|(name, _)| is_other(name)) {
                if outcome.is_full() {
                    break;
                }
                outcome.merge(below(value, others, before(name), &at.name(name)));
            }
        }
        Additional::Absent | Additional::Any => {}
    }
    for (name, property) in &schema.properties {
        if let Some(value) = fields.get(&**name) {
            outcome.merge(below(value, property, before(name), &at.name(name)));
        }
    }
    for name in limits.required.iter().filter(|name| !fields.contains_key(&***name)) {
        let at = Some(at.name(name).to_string());
        outcome.add(Fault { kind: ErrorType::Required, at, value: None, detail: String::new() });
    }
}

fn values(value: &Value, limits: &Limits, at: &At<'_>, outcome: &mut Outcome) {
    let allowed = &limits.one_of_values;
    // As Go, which converts a number to the type of the one that it compares with.
    let same = |allowed: &Value| match (allowed, value) {
        (Value::Number(allowed), Value::Number(given)) => match allowed.as_i64() {
            Some(allowed) => given.as_f64().is_some_and(|given| given.trunc() as i64 == allowed),
            None => allowed.as_f64() == given.as_f64(),
        },
        _ => allowed == value && !value.is_null(),
    };
    if allowed.is_empty() || allowed.iter().any(same) {
        return;
    }
    let shown = |value: &Value| match value {
        Value::String(text) => field::quote(text),
        other => field::quote(&field::go_json(other)),
    };
    let all: Vec<String> = allowed.iter().map(shown).collect();
    let detail = format!("supported values: {}", all.join(", "));
    outcome.add(Fault::new(ErrorType::NotSupported, at, value.clone(), detail));
}
