//! The normal form: what Go writes after reading a value, and the rules that lead there.
//!
//! * A value field (no pointer) with `omitempty` and Go's zero value is absent; without it the zero is written.
//! * A pointer is present when it was given, zero or not.
//! * A nil list, map or bytes without `omitempty` is `null`. Protobuf cannot tell an empty list or map from nil,
//!   so in fields that have a tag an empty one is nil too; bytes and lists that are messages stay empty.
//! * With `omitempty` both are absent, and so is a pointer to the zero of a time: protobuf could tell, JSON cannot.
//! * A Go struct is written even with `omitempty` (`"status": {}`, `"lastProbeTime": null`), not with
//!   `omitzero`.
//! * Times are RFC 3339 in UTC, quantities and durations canonical, unknown fields gone.
//! * Numbers are whole where they can be: `1.0` in a double is `1`.
//! * FieldsV1 are a text, the JSON that they are on the wire: a set of fields as a tree of values is large, and few
//!   writes look at it. Who shows an object without its type has to [unfold](crate::managed_fields::unfold) them.

use std::borrow::Cow;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Number, Value};

use super::budget::Budget;
use super::{Decoded, Error, MAX_DEPTH};
use crate::quantity::Quantity;
use crate::schema::{Field, Omit, Schema, Shape, Type, TypeId};
use crate::time;

/// Brings a value of this type into normal form, in place.
///
/// Unknown fields are dropped. On an error (a value of the wrong type, in Go's words) the value is left
/// half-way.
pub fn normalize(schema: &Schema, ty: TypeId, value: &mut Value) -> Result<(), Error> {
    conform(schema, ty, std::mem::take(value)).map(|decoded| *value = decoded.value)
}

/// As [`normalize`], and says which fields were unknown.
pub fn conform(schema: &Schema, ty: TypeId, value: Value) -> Result<Decoded, Error> {
    let mut walk = Walk {
        schema,
        trail: Trail::default(),
        quiet: 0,
        problem: None,
        unknown: Vec::new(),
        budget: Budget::new(0),
    };
    let value = match value {
        Value::Object(object) => walk.message(&schema[ty], object)?,
        Value::Null => zero(schema, &Shape::Message(ty)),
        other => {
            walk.mismatch(kind_of(&other), &Shape::Message(ty));
            Value::Null
        }
    };
    match walk.problem {
        Some(problem) => Err(problem),
        None => {
            Ok(Decoded { value, strict: walk.unknown.clone(), unknown: walk.unknown, duplicates: vec![] })
        }
    }
}

/// The way from the root to where a walk is, for error texts.
#[derive(Default)]
pub(super) struct Trail<'s> {
    steps: Vec<Step<'s>>,
}

pub(super) enum Step<'s> {
    /// A field of a struct.
    Field(&'s Type, &'s Field),
    Key(String),
    Index(usize),
}

impl<'s> Trail<'s> {
    pub(super) fn push(&mut self, step: Step<'s>) {
        self.steps.push(step);
    }

    pub(super) fn pop(&mut self) {
        self.steps.pop();
    }

    pub(super) fn set_index(&mut self, index: usize) {
        if let Some(Step::Index(last)) = self.steps.last_mut() {
            *last = index;
        }
    }

    pub(super) fn set_key(&mut self, key: &str) {
        if let Some(Step::Key(last)) = self.steps.last_mut() {
            last.clear();
            last.push_str(key);
        }
    }

    /// `spec.containers[0].name` of a name below the trail: how strict errors name a field.
    pub(super) fn strict(&self, last: &str) -> String {
        let mut path = String::new();
        for step in &self.steps {
            let name = match step {
                Step::Field(_, field) => &*field.name,
                Step::Key(key) => key,
                Step::Index(index) => {
                    path.push_str(&format!("[{index}]"));
                    continue;
                }
            };
            if !path.is_empty() {
                path.push('.');
            }
            path.push_str(name);
        }
        if !path.is_empty() {
            path.push('.');
        }
        path + last
    }

    /// `DeploymentSpec.spec.replicas`: the innermost struct, then every field from the root. Lists and maps do
    /// not show; embedded structs do.
    pub(super) fn go(&self) -> Option<String> {
        let mut path = String::new();
        let mut owner = None;
        for step in &self.steps {
            if let Step::Field(ty, field) = step {
                owner = Some(ty);
                for part in [&*field.via, &*field.name] {
                    if !part.is_empty() {
                        path.push('.');
                        path.push_str(part);
                    }
                }
            }
        }
        owner.map(|ty| format!("{}{path}", ty.short_name()))
    }

    /// The field that the trail is at or inside of.
    fn field(&self) -> Option<&'s Field> {
        self.steps.iter().rev().find_map(|step| match step {
            Step::Field(_, field) => Some(*field),
            _ => None,
        })
    }

    /// Go's `UnmarshalTypeError`.
    pub(super) fn mismatch(&self, schema: &Schema, found: &str, shape: &Shape) -> Error {
        let target = go_type(schema, shape, self.field());
        Error::Type(match self.go() {
            Some(path) => {
                format!("json: cannot unmarshal {found} into Go struct field {path} of type {target}")
            }
            None => format!("json: cannot unmarshal {found} into Go value of type {target}"),
        })
    }
}

fn go_type(schema: &Schema, shape: &Shape, field: Option<&Field>) -> String {
    match shape {
        Shape::String => field
            .and_then(|f| f.named)
            .and_then(|id| schema.named(id))
            .map_or_else(|| "string".into(), |named| named.go_name().to_owned()),
        Shape::Bool => "bool".into(),
        Shape::Int32 => "int32".into(),
        Shape::Int64 => "int64".into(),
        Shape::Double => "float64".into(),
        Shape::Bytes => "[]uint8".into(),
        Shape::Message(id) => schema[*id].go_name().to_owned(),
        Shape::List(list) => format!("[]{}", go_type(schema, &list.element, field)),
        Shape::Map(map) => format!("map[string]{}", go_type(schema, &map.value, field)),
        Shape::SchemaOrBool(_) | Shape::SchemaOrArray(_) | Shape::SchemaOrStrings(_) => {
            "v1.JSONSchemaProps".into()
        }
        _ => "string".into(),
    }
}

/// A JSON scalar that is not null.
pub(super) enum Scalar<'a> {
    Bool(bool),
    /// A number that is an int64.
    Int(i64),
    /// Any other number, as it was written.
    Number(&'a str),
    String(Cow<'a, str>),
}

/// Why a scalar does not fit.
pub(super) enum Misfit {
    /// Go names what it found (`string`, `number 1.5`) and the field.
    Kind(String),
    /// The type reads itself and says this.
    Text(String),
}

/// Reads a scalar as Go's type of this shape would, into normal form. Not for lists, maps, messages and free
/// JSON.
pub(super) fn scalar(shape: &Shape, found: Scalar) -> Result<Value, Misfit> {
    let kind = |found: &Scalar| match found {
        Scalar::Bool(_) => "bool".to_owned(),
        Scalar::Int(_) | Scalar::Number(_) => "number".to_owned(),
        Scalar::String(_) => "string".to_owned(),
    };
    let literal = |text: &str| Misfit::Kind(format!("number {text}"));
    // types with an `UnmarshalJSON` of their own decode into a plain Go value and lose the field's name
    let own = |found: &Scalar, target: &str| {
        Misfit::Text(format!("json: cannot unmarshal {} into Go value of type {target}", kind(found)))
    };
    match (shape, found) {
        (Shape::String, Scalar::String(text)) => Ok(Value::String(text.into_owned())),
        (Shape::Bool, Scalar::Bool(flag)) => Ok(Value::Bool(flag)),
        (Shape::Int32, Scalar::Int(n)) if i32::try_from(n).is_ok() => Ok(n.into()),
        (Shape::Int64, Scalar::Int(n)) => Ok(n.into()),
        (Shape::Int32, Scalar::Int(n)) => Err(literal(&n.to_string())),
        (Shape::Int32 | Shape::Int64, Scalar::Number(text)) => Err(literal(text)),
        (Shape::Double, Scalar::Int(n)) => Ok(double(n as f64)),
        (Shape::Double, Scalar::Number(text)) => match text.parse::<f64>() {
            Ok(n) if n.is_finite() => Ok(double(n)),
            _ => Err(literal(text)),
        },
        (Shape::Bytes, Scalar::String(text)) => base64_text(&text).map(Value::String),
        (Shape::Quantity, Scalar::String(text)) => quantity(&text).map(Value::String),
        (Shape::Quantity, Scalar::Int(n)) => quantity(&n.to_string()).map(Value::String),
        (Shape::Quantity, Scalar::Number(text)) => quantity(text).map(Value::String),
        (Shape::Quantity, Scalar::Bool(flag)) => quantity(&flag.to_string()).map(Value::String),
        (Shape::IntOrString, Scalar::String(text)) => Ok(Value::String(text.into_owned())),
        (Shape::IntOrString, Scalar::Int(n)) if i32::try_from(n).is_ok() => Ok(n.into()),
        (Shape::IntOrString, Scalar::Int(n)) => {
            Err(Misfit::Text(format!("json: cannot unmarshal number {n} into Go value of type int32")))
        }
        (Shape::IntOrString, Scalar::Number(n)) => {
            Err(Misfit::Text(format!("json: cannot unmarshal number {n} into Go value of type int32")))
        }
        (Shape::IntOrString, found) => Err(own(&found, "int32")),
        (Shape::Time, Scalar::String(text)) => {
            let at = time::parse(&text).map_err(|e| Misfit::Text(e.to_string()))?;
            Ok(time_value(at.seconds))
        }
        (Shape::MicroTime, Scalar::String(text)) => {
            let at = time::parse_micro(&text).map_err(|e| Misfit::Text(e.to_string()))?;
            Ok(micro_time_value(at))
        }
        (Shape::Duration, Scalar::String(text)) => {
            let nanos = time::parse_duration(&text).map_err(|e| Misfit::Text(e.to_string()))?;
            Ok(Value::String(time::format_duration(nanos)))
        }
        (Shape::Time | Shape::MicroTime | Shape::Duration, found) => Err(own(&found, "string")),
        (Shape::SchemaOrBool(_), Scalar::Bool(flag)) => Ok(Value::Bool(flag)),
        (Shape::SchemaOrBool(_), _) => Err(Misfit::Text("boolean or JSON schema expected".into())),
        // Go leaves these two empty whatever the scalar is
        (Shape::SchemaOrArray(_) | Shape::SchemaOrStrings(_), _) => Ok(Value::Null),
        (_, found) => Err(Misfit::Kind(kind(&found))),
    }
}

pub(super) fn time_value(seconds: i64) -> Value {
    if seconds == time::GO_ZERO {
        return Value::Null;
    }
    let mut out = Vec::with_capacity(20);
    time::write(seconds, &mut out);
    Value::String(String::from_utf8(out).unwrap_or_default())
}

pub(super) fn micro_time_value(at: time::Moment) -> Value {
    if at.is_zero() {
        return Value::Null;
    }
    let mut out = Vec::with_capacity(27);
    time::write_micro(at, &mut out);
    Value::String(String::from_utf8(out).unwrap_or_default())
}

/// A double in normal form: whole where it is whole and exactly so.
pub(super) fn double(n: f64) -> Value {
    if n.fract() == 0.0 && n.abs() < 9e15 {
        return Value::from(n as i64);
    }
    Number::from_f64(n).map_or(Value::Null, Value::Number)
}

fn quantity(text: &str) -> Result<String, Misfit> {
    let parsed = Quantity::parse(text.trim()).map_err(|e| Misfit::Text(e.to_string()))?;
    // as Go: a text that is canonical but for odd looks (`+1k`, `1.500`) stays
    Ok(parsed.to_string())
}

/// Canonical base64; line ends inside are ignored as Go does.
fn base64_text(text: &str) -> Result<String, Misfit> {
    let clean: Cow<str> = match text.contains(['\r', '\n']) {
        true => text.replace(['\r', '\n'], "").into(),
        false => text.into(),
    };
    let bytes = STANDARD.decode(&*clean).map_err(|error| {
        let at = match error {
            base64::DecodeError::InvalidByte(at, _) | base64::DecodeError::InvalidLastSymbol(at, _) => at,
            base64::DecodeError::InvalidLength(_) | base64::DecodeError::InvalidPadding => clean.len(),
        };
        Misfit::Text(format!("illegal base64 data at input byte {at}"))
    })?;
    Ok(STANDARD.encode(bytes))
}

/// What a field of this shape holds in Go before anything is read into it.
pub(super) fn zero(schema: &Schema, shape: &Shape) -> Value {
    match shape {
        Shape::String => Value::String(String::new()),
        Shape::Bool | Shape::SchemaOrBool(_) => Value::Bool(false),
        Shape::Int32 | Shape::Int64 | Shape::Double | Shape::IntOrString => Value::from(0),
        Shape::Quantity => Value::from("0"),
        Shape::Duration => Value::from("0s"),
        Shape::Message(id) => zero_message(schema, &schema[*id]),
        _ => Value::Null,
    }
}

fn zero_message(schema: &Schema, ty: &Type) -> Value {
    let mut object = Map::new();
    for field in &ty.fields {
        if let Some(value) = settle(schema, field, None) {
            object.insert(field.name.clone().into_owned(), value);
        }
    }
    Value::Object(object)
}

/// An element of a list or a value of a map that was `null`.
pub(super) fn zero_element(schema: &Schema, shape: &Shape) -> Value {
    match shape {
        // a nil one comes back from protobuf as an empty one
        Shape::Bytes => Value::String(String::new()),
        Shape::List(_) => Value::Array(Vec::new()),
        _ => zero(schema, shape),
    }
}

/// What normal form holds for a field: `found` is `None` for absent or null. `None`: the field is absent.
pub(super) fn settle(schema: &Schema, field: &Field, found: Option<Value>) -> Option<Value> {
    if field.pointer {
        return match found {
            Some(value) => Some(value),
            None if field.omit == Omit::Never => Some(Value::Null),
            None => None,
        };
    }
    if field.shape.is_nilable() {
        let empty = found.as_ref().is_none_or(is_empty);
        return match (empty, field.omit) {
            (false, _) => found,
            (true, Omit::Never) if field.tag > 0 && !field.shape.keeps_empty() => Some(Value::Null),
            (true, Omit::Never) => Some(found.unwrap_or(Value::Null)),
            (true, _) => None,
        };
    }
    if field.shape.is_struct() {
        let value = found.unwrap_or_else(|| zero(schema, &field.shape));
        return match field.omit {
            Omit::Zero if value.is_null() || value == zero(schema, &field.shape) => None,
            _ => Some(value),
        };
    }
    match found {
        Some(value) if field.omit == Omit::Never || !is_zero_scalar(&value) => Some(value),
        None if field.omit == Omit::Never => Some(zero(schema, &field.shape)),
        _ => None,
    }
}

fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::String(text) => text.is_empty(),
        Value::Array(list) => list.is_empty(),
        Value::Object(object) => object.is_empty(),
        _ => false,
    }
}

fn is_zero_scalar(value: &Value) -> bool {
    match value {
        Value::Bool(flag) => !flag,
        Value::Number(number) => number.as_i64() == Some(0),
        Value::String(text) => text.is_empty(),
        _ => false,
    }
}

/// FieldsV1 as JSON text. What is a text already is taken to be that, unless it is no JSON.
fn fields(value: Value) -> String {
    let written = |value: &Value| {
        let mut out = Vec::new();
        super::json::write_value(value, &mut out);
        String::from_utf8(out).unwrap_or_default()
    };
    match &value {
        Value::String(text) => super::json::compacted(text.as_bytes()).unwrap_or_else(|_| written(&value)),
        tree => written(tree),
    }
}

/// What Go calls a JSON value.
pub(super) fn kind_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "bool",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}

struct Walk<'s> {
    schema: &'s Schema,
    trail: Trail<'s>,
    /// Above zero inside types that read themselves: upstream loses strictness there.
    quiet: usize,
    problem: Option<Error>,
    unknown: Vec<String>,
    /// For what stands in for what is absent.
    budget: Budget,
}

impl<'s> Walk<'s> {
    fn mismatch(&mut self, found: &str, shape: &Shape) {
        if self.problem.is_none() {
            self.problem = Some(self.trail.mismatch(self.schema, found, shape));
        }
    }

    fn message(&mut self, ty: &'s Type, mut object: Map<String, Value>) -> Result<Value, Error> {
        check_depth(self.trail.steps.len())?;
        let mut out = Map::new();
        for field in &ty.fields {
            let found = match object.remove(&*field.name) {
                Some(Value::Null) if field.nullable => {
                    out.insert(field.name.clone().into_owned(), Value::Null);
                    continue;
                }
                None | Some(Value::Null) => None,
                Some(value) => {
                    self.trail.push(Step::Field(ty, field));
                    let found = self.value(&field.shape, value)?;
                    self.trail.pop();
                    found
                }
            };
            let absent = found.is_none();
            if let Some(value) = settle(self.schema, field, found) {
                if absent {
                    self.budget.entry(out.len())?;
                    self.budget.within(&value)?;
                }
                out.insert(field.name.clone().into_owned(), value);
            }
        }
        if ty.preserve_unknown {
            out.append(&mut object);
        }
        for name in object.keys() {
            if self.quiet == 0 && self.unknown.len() < 100 {
                self.unknown.push(format!("unknown field {:?}", self.trail.strict(name)));
            }
        }
        Ok(Value::Object(out))
    }

    /// `None`: null, or wrong (and noted).
    fn value(&mut self, shape: &'s Shape, value: Value) -> Result<Option<Value>, Error> {
        Ok(match (shape, value) {
            (_, Value::Null) => None,
            (Shape::FieldsV1, value) => Some(fields(value)).filter(|text| text != "null").map(Value::String),
            (Shape::RawExtension | Shape::Json, value) => Some(value),
            (Shape::Message(id), Value::Object(object)) => Some(self.message(&self.schema[*id], object)?),
            (
                Shape::SchemaOrBool(id) | Shape::SchemaOrArray(id) | Shape::SchemaOrStrings(id),
                Value::Object(object),
            ) => {
                self.quiet += 1;
                let value = self.message(&self.schema[*id], object);
                self.quiet -= 1;
                Some(value?)
            }
            (Shape::List(list), Value::Array(items)) => Some(self.list(&list.element, items)?),
            (Shape::SchemaOrArray(id), Value::Array(items)) => {
                self.quiet += 1;
                let mut out = Vec::with_capacity(items.len());
                for item in items {
                    match item {
                        Value::Object(object) => out.push(self.message(&self.schema[*id], object)?),
                        other => self.mismatch(kind_of(&other), shape),
                    }
                }
                self.quiet -= 1;
                Some(Value::Array(out)).filter(|list| !is_empty(list))
            }
            (Shape::SchemaOrStrings(_), Value::Array(items)) => {
                Some(self.list(&Shape::String, items)?).filter(|list| !is_empty(list))
            }
            (Shape::Map(map), Value::Object(object)) => {
                let mut out = Map::new();
                self.trail.push(Step::Key(String::new()));
                check_depth(self.trail.steps.len())?;
                for (key, value) in object {
                    self.trail.set_key(&key);
                    let value = match self.value(&map.value, value)? {
                        Some(value) => value,
                        None => self.zero_element(&map.value)?,
                    };
                    out.insert(key, value);
                }
                self.trail.pop();
                Some(Value::Object(out))
            }
            (shape, Value::String(text)) => self.scalar(shape, Scalar::String(text.into())),
            (shape, Value::Bool(flag)) => self.scalar(shape, Scalar::Bool(flag)),
            (shape, Value::Number(number)) => match number.as_i64() {
                Some(n) => self.scalar(shape, Scalar::Int(n)),
                None => self.scalar(shape, Scalar::Number(&number.to_string())),
            },
            (shape, value) => {
                match compound_misfit(shape, kind_of(&value)) {
                    Misfit::Kind(kind) => self.mismatch(&kind, shape),
                    Misfit::Text(text) => self.note(text),
                }
                None
            }
        })
    }

    fn list(&mut self, element: &'s Shape, items: Vec<Value>) -> Result<Value, Error> {
        let mut out = Vec::with_capacity(items.len());
        self.trail.push(Step::Index(0));
        check_depth(self.trail.steps.len())?;
        for (index, item) in items.into_iter().enumerate() {
            self.trail.set_index(index);
            let item = match self.value(element, item)? {
                Some(item) => item,
                None => self.zero_element(element)?,
            };
            out.push(item);
        }
        self.trail.pop();
        Ok(Value::Array(out))
    }

    fn zero_element(&mut self, shape: &Shape) -> Result<Value, Error> {
        let value = zero_element(self.schema, shape);
        self.budget.within(&value)?;
        Ok(value)
    }

    fn scalar(&mut self, shape: &Shape, found: Scalar) -> Option<Value> {
        match scalar(shape, found) {
            Ok(Value::Null) => None,
            Ok(value) => Some(value),
            Err(Misfit::Kind(kind)) => {
                self.mismatch(&kind, shape);
                None
            }
            Err(Misfit::Text(text)) => {
                self.note(text);
                None
            }
        }
    }

    fn note(&mut self, text: String) {
        self.problem.get_or_insert(Error::Type(text));
    }
}

/// What Go says of an object or list where a scalar belongs, or the other way round.
pub(super) fn compound_misfit(shape: &Shape, found: &str) -> Misfit {
    match shape {
        Shape::Time | Shape::MicroTime | Shape::Duration => {
            Misfit::Text(format!("json: cannot unmarshal {found} into Go value of type string"))
        }
        Shape::IntOrString => {
            Misfit::Text(format!("json: cannot unmarshal {found} into Go value of type int32"))
        }
        Shape::Quantity => match quantity("{}") {
            Err(misfit) => misfit,
            Ok(_) => Misfit::Kind(found.to_owned()),
        },
        Shape::SchemaOrBool(_) => Misfit::Text("boolean or JSON schema expected".into()),
        _ => Misfit::Kind(found.to_owned()),
    }
}

pub(super) fn check_depth(depth: usize) -> Result<(), Error> {
    if depth > MAX_DEPTH { Err(Error::Syntax("exceeded max depth".into())) } else { Ok(()) }
}
