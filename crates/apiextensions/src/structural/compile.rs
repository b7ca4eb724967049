//! From `JSONSchemaProps` to [`Structural`].

use std::collections::{HashMap, HashSet};
use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;

use serde_json::{Map, Value};

use super::{Additional, Kind, Limits, Pattern, Rule, Structural};
use apimachinery::schema::ListType;

/// Something of JSON Schema that structural schemas do without.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unsupported {
    #[error("OpenAPIV3Schema '{0}' is not supported")]
    Field(&'static str),
    #[error("OpenAPIV3Schema 'items' must be a schema, but is an array")]
    ListOfItems,
    #[error("internal error: 'x-kubernetes-preserve-unknown-fields' must be true or undefined")]
    NotPreserving,
}

const UNSUPPORTED: [(&str, &str); 7] = [
    ("id", "id"),
    ("$schema", "schema"),
    ("$ref", "$ref"),
    ("patternProperties", "patternProperties"),
    ("dependencies", "dependencies"),
    ("additionalItems", "additionalItems"),
    ("definitions", "definitions"),
];

/// Makes trees of schemas, which share what they have alike: the versions of a definition mostly differ little.
#[derive(Default)]
pub struct Compiler {
    /// By hash.
    nodes: HashMap<u64, Vec<Arc<Structural>>>,
    state: RandomState,
    names: HashSet<Arc<str>>,
}

/// Makes the tree of a schema in normal form. Descriptions, titles, examples and links are left behind: who needs
/// them reads the definition.
///
/// # Errors
/// [`Unsupported`], in upstream's words.
pub fn compile(schema: &Value) -> Result<Structural, Unsupported> {
    Compiler::default().compile(schema)
}

fn unsupported(fields: &Map<String, Value>) -> Result<(), Unsupported> {
    for (field, name) in UNSUPPORTED {
        let is_set = match fields.get(field) {
            None | Some(Value::Null) => false,
            Some(Value::String(text)) => !text.is_empty(),
            Some(Value::Object(object)) => !object.is_empty() || field == "additionalItems",
            Some(_) => true,
        };
        if is_set {
            return Err(Unsupported::Field(name));
        }
    }
    if fields.get("x-kubernetes-preserve-unknown-fields") == Some(&Value::Bool(false)) {
        return Err(Unsupported::NotPreserving);
    }
    match fields.get("items") {
        Some(Value::Array(_)) => Err(Unsupported::ListOfItems),
        _ => Ok(()),
    }
}

impl Compiler {
    /// As [`compile`].
    ///
    /// # Errors
    /// [`Unsupported`], in upstream's words.
    pub fn compile(&mut self, schema: &Value) -> Result<Structural, Unsupported> {
        let empty = Map::new();
        let fields = schema.as_object().unwrap_or(&empty);
        unsupported(fields)?;
        let items = fields.get("items").filter(|items| !items.is_null());
        let items = items.map(|items| self.node(items)).transpose()?;
        let additional = match fields.get("additionalProperties") {
            None | Some(Value::Null) => Additional::Absent,
            Some(Value::Bool(true)) => Additional::Any,
            Some(Value::Bool(false)) => Additional::Never,
            Some(schema) => Additional::Schema(self.node(schema)?),
        };
        let properties = fields.get("properties").and_then(Value::as_object);
        let properties = properties
            .into_iter()
            .flatten()
            .map(|(name, schema)| Ok((self.name(name), self.node(schema)?)))
            .collect::<Result<_, _>>()?;
        Ok(Structural {
            kind: Kind::parse(text(fields, "type")),
            items,
            properties,
            additional,
            default: fields.get("default").filter(|value| !value.is_null()).cloned(),
            nullable: flag(fields, "nullable"),
            int_or_string: flag(fields, "x-kubernetes-int-or-string"),
            embedded: flag(fields, "x-kubernetes-embedded-resource"),
            preserve_unknown: flag(fields, "x-kubernetes-preserve-unknown-fields"),
            list_type: match text(fields, "x-kubernetes-list-type") {
                "map" => Some(ListType::Map),
                "set" => Some(ListType::Set),
                "atomic" => Some(ListType::Atomic),
                _ => None,
            },
            list_keys: texts(fields, "x-kubernetes-list-map-keys"),
            atomic_map: text(fields, "x-kubernetes-map-type") == "atomic",
            rules: list(fields, "x-kubernetes-validations").iter().map(rule).collect(),
            limits: self.limits(fields)?.map(Box::new),
        })
    }

    fn node(&mut self, schema: &Value) -> Result<Arc<Structural>, Unsupported> {
        let node = self.compile(schema)?;
        let alike = self.nodes.entry(self.state.hash_one(&node)).or_default();
        if let Some(known) = alike.iter().find(|known| ***known == node) {
            return Ok(known.clone());
        }
        let node = Arc::new(node);
        alike.push(node.clone());
        Ok(node)
    }

    fn name(&mut self, name: &str) -> Arc<str> {
        if let Some(known) = self.names.get(name) {
            return known.clone();
        }
        let name: Arc<str> = name.into();
        self.names.insert(name.clone());
        name
    }

    fn limits(&mut self, fields: &Map<String, Value>) -> Result<Option<Limits>, Unsupported> {
        if !LIMITS.iter().any(|limit| fields.contains_key(*limit)) {
            return Ok(None);
        }
        let number = |field: &str| fields.get(field).and_then(Value::as_f64);
        let whole = |field: &str| fields.get(field).and_then(Value::as_i64);
        let mut schemas =
            |field: &str| list(fields, field).iter().map(|it| self.compile(it)).collect::<Result<_, _>>();
        let (all_of, any_of, one_of) = (schemas("allOf")?, schemas("anyOf")?, schemas("oneOf")?);
        let not = fields.get("not").filter(|schema| schema.is_object());
        Ok(Some(Limits {
            format: text(fields, "format").into(),
            maximum: number("maximum"),
            exclusive_maximum: flag(fields, "exclusiveMaximum"),
            minimum: number("minimum"),
            exclusive_minimum: flag(fields, "exclusiveMinimum"),
            max_length: whole("maxLength"),
            min_length: whole("minLength"),
            pattern: Some(text(fields, "pattern")).filter(|text| !text.is_empty()).map(Pattern::new),
            max_items: whole("maxItems"),
            min_items: whole("minItems"),
            unique_items: flag(fields, "uniqueItems"),
            multiple_of: number("multipleOf"),
            one_of_values: list(fields, "enum").into(),
            max_properties: whole("maxProperties"),
            min_properties: whole("minProperties"),
            required: texts(fields, "required"),
            all_of,
            any_of,
            one_of,
            not: not.map(|schema| self.compile(schema)).transpose()?.map(Box::new),
        }))
    }
}

fn rule(value: &Value) -> Rule {
    let text = |field: &str| value[field].as_str().unwrap_or_default().into();
    Rule {
        rule: text("rule"),
        message: text("message"),
        message_expression: text("messageExpression"),
        reason: text("reason"),
        field_path: text("fieldPath"),
        optional_old_self: value["optionalOldSelf"].as_bool(),
    }
}

const LIMITS: [&str; 20] = [
    "format",
    "maximum",
    "exclusiveMaximum",
    "minimum",
    "exclusiveMinimum",
    "maxLength",
    "minLength",
    "pattern",
    "maxItems",
    "minItems",
    "uniqueItems",
    "multipleOf",
    "enum",
    "maxProperties",
    "minProperties",
    "required",
    "allOf",
    "anyOf",
    "oneOf",
    "not",
];

pub(super) fn text<'a>(fields: &'a Map<String, Value>, field: &str) -> &'a str {
    fields.get(field).and_then(Value::as_str).unwrap_or_default()
}

pub(super) fn flag(fields: &Map<String, Value>, field: &str) -> bool {
    fields.get(field) == Some(&Value::Bool(true))
}

pub(super) fn list<'a>(fields: &'a Map<String, Value>, field: &str) -> &'a [Value] {
    fields.get(field).and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default()
}

fn texts(fields: &Map<String, Value>, field: &str) -> Box<[Box<str>]> {
    list(fields, field).iter().filter_map(Value::as_str).map(Box::from).collect()
}
