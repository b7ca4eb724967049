//! What is wrong with the schema of a CustomResourceDefinition's version, its rules included: upstream's
//! `ValidateCustomResourceDefinitionOpenAPISchema` and what it is called by.

use std::fmt;

use apimachinery::field::{Error, ErrorList, Path};
use apimachinery::schema::{Schema, TypeId};
use serde_json::{Map, Value};

use self::defaults::Defaults;
use self::lists::{atomic_set, keyed_map, lists_and_maps};
use self::rules::{Context, Expressions, Within, texts};
use crate::structural::{self, Kind, MOST_FAULTS, Structural, compile};

mod costs;
mod defaults;
mod lists;
mod paths;
mod rules;

pub use paths::{FieldPath, field_path, selectable_fields};

/// What is asked of a schema. A definition that broke a rule before the rule was made may go on breaking it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Strictness {
    pub structural: bool,
    pub known_types: bool,
    pub pruned_defaults: bool,
    pub atomic_sets: bool,
    pub keyed_maps: bool,
    /// A rule may not be too expensive. Not asked of a version whose schema is what it was.
    pub rule_costs: bool,
}

impl Strictness {
    /// Of a new definition.
    pub const FULL: Strictness = Strictness {
        structural: true,
        known_types: true,
        pruned_defaults: true,
        atomic_sets: true,
        keyed_maps: true,
        rule_costs: true,
    };

    /// Of a change of a definition whose versions had these schemas.
    pub fn after<'a>(old: impl IntoIterator<Item = &'a Value>, meta: (&Schema, TypeId)) -> Strictness {
        let mut strictness = Strictness::FULL;
        for schema in old {
            strictness.structural &=
                compile(schema).is_ok() && structural::rules::check(schema, &Path::NIL).is_empty();
            strictness.known_types &= !any(schema, &|node| unknown_type(node).is_some());
            strictness.atomic_sets &= !any(schema, &|node| {
                let mut errors = ErrorList::new();
                atomic_set(node, &Path::NIL, &mut errors);
                !errors.is_empty()
            });
            strictness.keyed_maps &= !any(schema, &|node| {
                let mut errors = ErrorList::new();
                keyed_map(node, &Path::NIL, &mut errors);
                !errors.is_empty()
            });
            strictness.pruned_defaults &= compile(schema).is_err() || !has_unpruned(schema, meta);
        }
        strictness
    }
}

fn has_unpruned(schema: &Value, meta: (&Schema, TypeId)) -> bool {
    let Ok(before) = compile(schema) else { return false };
    let mut after = before.clone();
    structural::defaults::prune_defaults(&mut after, meta);
    !same_defaults(&before, &after)
}

fn same_defaults(before: &Structural, after: &Structural) -> bool {
    let below = |before: Option<&Structural>, after: Option<&Structural>| match (before, after) {
        (Some(before), Some(after)) => same_defaults(before, after),
        _ => true,
    };
    before.default == after.default
        && below(before.items.as_deref(), after.items.as_deref())
        && below(before.additional.schema(), after.additional.schema())
        && before.properties.iter().all(|(name, property)| below(Some(property), after.properties.get(name)))
}

/// Some node of a schema, given as JSON, is so.
pub fn any(schema: &Value, is_so: &dyn Fn(&Map<String, Value>) -> bool) -> bool {
    let Some(fields) = schema.as_object() else { return false };
    is_so(fields) || below(fields).any(|(_, schema)| any(schema, is_so))
}

/// Where in a schema schemas stand, in the order in which faults are told.
const BELOW: [&str; 11] = [
    "additionalProperties",
    "properties",
    "not",
    "allOf",
    "oneOf",
    "anyOf",
    "definitions",
    "items",
    "dependencies",
    "additionalItems",
    "patternProperties",
];

/// Every schema right below a node, with where it stands.
fn below(fields: &Map<String, Value>) -> impl Iterator<Item = (Place<'_>, &Value)> {
    let given = BELOW.into_iter().filter_map(|field| Some((field, fields.get(field)?)));
    given.flat_map(|(field, value)| -> Vec<(Place<'_>, &Value)> {
        match (field, value) {
            ("items" | "not" | "additionalProperties" | "additionalItems", Value::Object(_)) => {
                vec![(Place::Field(field), value)]
            }
            ("items" | "allOf" | "anyOf" | "oneOf", Value::Array(all)) => {
                all.iter().enumerate().map(|(index, schema)| (Place::Index(field, index), schema)).collect()
            }
            ("properties" | "definitions" | "patternProperties" | "dependencies", Value::Object(all)) => {
                all.iter().map(|(name, schema)| (Place::Key(field, name), schema)).collect()
            }
            _ => Vec::new(),
        }
    })
}

#[derive(Clone, Copy)]
enum Place<'a> {
    Field(&'a str),
    Index(&'a str, usize),
    Key(&'a str, &'a str),
}

/// Metadata as the engine judges it: `(metadata, path, errors)`.
pub type CheckMeta<'a> = &'a dyn Fn(&Value, &Path<'_>, &mut ErrorList);

/// Every fault of `openAPIV3Schema`, which stands at `path`. `has_status`: the version has a status subresource.
pub fn check(
    schema: &Value,
    has_status: bool,
    strictness: Strictness,
    meta: (&Schema, TypeId),
    check_meta: CheckMeta<'_>,
    path: &Path<'_>,
    errors: &mut ErrorList,
) {
    let Some(fields) = schema.as_object() else { return };
    let before = errors.len();
    if has_status {
        root_with_status(fields, schema, path, errors);
    }
    if fields.get("nullable") == Some(&Value::Bool(true)) {
        errors.push(Error::forbidden(&path.child("nullable"), "nullable cannot be true at the root"));
    }
    let (mut unsupported, mut judged) = (None, None);
    if strictness.structural
        || any(schema, &says_kubernetes)
        || any(schema, &|node| node.contains_key("default"))
    {
        match compile(schema) {
            Err(why) => unsupported = Some(Error::invalid(path, "", why.to_string())),
            Ok(structural) => {
                let mut broken = structural::rules::check(schema, path);
                let structural = structural.as_root();
                if broken.is_empty() {
                    Defaults::new(meta, check_meta, strictness.pruned_defaults).check(
                        &structural,
                        path,
                        &mut broken,
                    );
                }
                // Expressions are judged only where what they are about is sound.
                match broken.is_empty() {
                    true => judged = Some(structural),
                    false => errors.extend(broken),
                }
            }
        }
    }
    let context = judged.as_ref().map(Context::root);
    let scope = Scope {
        strictness,
        within_meta: false,
        no_defaults: None,
        uncorrelatable: None,
        context: context.as_ref(),
    };
    let mut walk = Walk { errors, expressions: Expressions::default() };
    walk.node(fields, scope, true, path);
    let expressions = walk.expressions;
    errors.extend(expressions.errors);
    if errors.len() == before {
        errors.extend(unsupported);
    }
    expressions.costs.check(path, errors);
}

/// Extensions of Kubernetes mean something in structural schemas only.
fn says_kubernetes(fields: &Map<String, Value>) -> bool {
    [
        "embedded-resource",
        "int-or-string",
        "list-map-keys",
        "list-type",
        "preserve-unknown-fields",
        "validations",
    ]
    .iter()
    .any(|name| fields.contains_key(&format!("x-kubernetes-{name}")))
}

/// Of a schema from which the status is cut out, these fields still hold what they say.
const ALLOWED_AT_ROOT: [(&str, &str); 22] = [
    ("description", "Description"),
    ("type", "Type"),
    ("format", "Format"),
    ("title", "Title"),
    ("maximum", "Maximum"),
    ("exclusiveMaximum", "ExclusiveMaximum"),
    ("minimum", "Minimum"),
    ("exclusiveMinimum", "ExclusiveMinimum"),
    ("maxLength", "MaxLength"),
    ("minLength", "MinLength"),
    ("pattern", "Pattern"),
    ("maxItems", "MaxItems"),
    ("minItems", "MinItems"),
    ("uniqueItems", "UniqueItems"),
    ("multipleOf", "MultipleOf"),
    ("required", "Required"),
    ("items", "Items"),
    ("properties", "Properties"),
    ("externalDocs", "ExternalDocs"),
    ("example", "Example"),
    ("x-kubernetes-preserve-unknown-fields", "XPreserveUnknownFields"),
    ("x-kubernetes-validations", "XValidations"),
];

fn root_with_status(fields: &Map<String, Value>, schema: &Value, path: &Path<'_>, errors: &mut ErrorList) {
    let kind = text(fields, "type");
    if !kind.is_empty() && kind != "object" {
        let why = "only \"object\" is allowed as the type at the root of the schema if the status subresource is \
                   enabled";
        errors.push(Error::invalid(&path.child("type"), kind, why));
    } else if fields.keys().any(|field| !ALLOWED_AT_ROOT.iter().any(|(name, _)| name == field)) {
        let names: Vec<&str> = ALLOWED_AT_ROOT.iter().map(|(_, name)| *name).collect();
        let why = format!(
            "only [{}] fields are allowed at the root of the schema if the status subresource is enabled",
            names.join(" ")
        );
        errors.push(Error::invalid(path, schema.clone(), why));
    }
}

/// What is known of the way to a node.
#[derive(Clone, Copy)]
struct Scope<'a> {
    strictness: Strictness,
    /// In the metadata, kind or apiVersion of a resource.
    within_meta: bool,
    no_defaults: Option<NoDefaults<'a>>,
    /// The first node above whose parts cannot be told to be the same as before.
    uncorrelatable: Option<&'a Path<'a>>,
    /// What the rules of the node see; none where they are not judged.
    context: Option<&'a Context<'a>>,
}

/// Why no defaults may be here.
#[derive(Clone, Copy)]
enum NoDefaults<'a> {
    TopLevel(&'a str),
    Metadata,
}

impl fmt::Display for NoDefaults<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            NoDefaults::TopLevel(name) => write!(f, "in top-level {name}"),
            NoDefaults::Metadata => f.write_str("inside additionalProperties applying to object metadata"),
        }
    }
}

const UNSUPPORTED: [&str; 5] =
    ["additionalItems", "patternProperties", "definitions", "dependencies", "$ref"];

struct Walk<'w> {
    errors: &'w mut ErrorList,
    /// Faults of expressions are told after all others.
    expressions: Expressions,
}

impl Walk<'_> {
    fn node(&mut self, fields: &Map<String, Value>, scope: Scope<'_>, is_root: bool, path: &Path<'_>) {
        if self.errors.len() + self.expressions.errors.len() >= MOST_FAULTS {
            return;
        }
        let before = self.errors.len();
        standard(fields, &scope, path, self.errors);
        let embedded = flag(fields, "x-kubernetes-embedded-resource");
        let map_type = given(fields, "x-kubernetes-map-type");
        let is_keyed = given(fields, "x-kubernetes-list-type") == Some("map");
        for (place, schema) in below(fields) {
            let Some(schema) = schema.as_object() else { continue };
            let mut scope = scope;
            let context = scope.context.take();
            match place {
                Place::Field("additionalItems") | Place::Key("patternProperties", _) => {}
                Place::Field("additionalProperties") => {
                    if scope.within_meta {
                        scope.no_defaults = Some(NoDefaults::Metadata);
                    }
                    let context = context.and_then(Context::additional);
                    scope.context = context.as_ref();
                    self.node(schema, scope, false, &path.child("additionalProperties"));
                }
                Place::Field("items") => {
                    if !is_keyed {
                        scope.uncorrelatable = scope.uncorrelatable.or(Some(path));
                    }
                    let context = context.and_then(Context::items);
                    scope.context = context.as_ref();
                    self.node(schema, scope, false, &path.child("items"));
                }
                Place::Field(field) => self.node(schema, scope, false, &path.child(field)),
                Place::Index(field, index) => {
                    self.node(schema, scope, false, &path.child(field).index(index))
                }
                Place::Key("properties", name) => {
                    if map_type.is_some_and(|map_type| !matches!(map_type, "granular" | "atomic")) {
                        scope.uncorrelatable = scope.uncorrelatable.or(Some(path));
                    }
                    if (is_root || embedded) && matches!(name, "metadata" | "kind" | "apiVersion") {
                        scope.within_meta = true;
                        if is_root {
                            scope.no_defaults = Some(NoDefaults::TopLevel(name));
                        }
                    }
                    let context = context.and_then(|context| context.property(name));
                    scope.context = context.as_ref();
                    self.node(schema, scope, false, &path.child("properties").key(name));
                }
                Place::Key(field, name) => {
                    self.node(schema, scope, false, &path.child(field).key(name));
                }
            }
        }
        lists_and_maps(fields, scope.strictness, path, self.errors);
        texts(fields, path, self.errors);
        // Faults of a schema make for confusing ones of the expressions about it.
        if self.errors.len() == before
            && let Some(context) = scope.context
        {
            let within =
                Within { limited: scope.strictness.rule_costs, uncorrelatable: scope.uncorrelatable };
            self.expressions.check(context, fields, within, path);
        }
    }
}

/// Upstream's `specStandardValidatorV3`.
fn standard(fields: &Map<String, Value>, scope: &Scope<'_>, path: &Path<'_>, errors: &mut ErrorList) {
    if let Some(kind) = unknown_type(fields).filter(|_| scope.strictness.known_types) {
        let known = ["array", "boolean", "integer", "number", "object", "string"];
        errors.push(Error::not_supported(&path.child("type"), kind, known));
    }
    if let Some(why) = scope.no_defaults.filter(|_| is_set(fields, "default")) {
        errors.push(Error::forbidden(&path.child("default"), format!("must not be set {why}")));
    }
    if !text(fields, "id").is_empty() {
        errors.push(Error::forbidden(&path.child("id"), "id is not supported"));
    }
    for field in UNSUPPORTED {
        if is_set(fields, field) {
            errors.push(Error::forbidden(&path.child(field), format!("{field} is not supported")));
        }
    }
    if text(fields, "type") == "null" {
        let why = "type cannot be set to null, use nullable as an alternative";
        errors.push(Error::forbidden(&path.child("type"), why));
    }
    if fields.get("items").and_then(Value::as_array).is_some_and(|items| !items.is_empty()) {
        let why = "items must be a schema object and not an array";
        errors.push(Error::forbidden(&path.child("items"), why));
    }
    if scope.within_meta && flag(fields, "x-kubernetes-embedded-resource") {
        let why = "must not be used inside of resource meta";
        errors.push(Error::forbidden(&path.child("x-kubernetes-embedded-resource"), why));
    }
    if flag(fields, "uniqueItems") {
        let why = "uniqueItems cannot be set to true since the runtime complexity becomes quadratic";
        errors.push(Error::forbidden(&path.child("uniqueItems"), why));
    }
    let additional = fields.get("additionalProperties").filter(|value| !value.is_null());
    let has_properties =
        fields.get("properties").and_then(Value::as_object).is_some_and(|all| !all.is_empty());
    if has_properties && additional.is_some_and(|value| *value != Value::Bool(true)) {
        let why = "additionalProperties and properties are mutual exclusive";
        errors.push(Error::forbidden(&path.child("additionalProperties"), why));
    }
}

fn unknown_type(fields: &Map<String, Value>) -> Option<&str> {
    let kind = text(fields, "type");
    (!kind.is_empty() && Kind::parse(kind).is_none()).then_some(kind)
}

fn text<'a>(fields: &'a Map<String, Value>, field: &str) -> &'a str {
    given(fields, field).unwrap_or_default()
}

fn given<'a>(fields: &'a Map<String, Value>, field: &str) -> Option<&'a str> {
    fields.get(field).and_then(Value::as_str)
}

fn flag(fields: &Map<String, Value>, field: &str) -> bool {
    fields.get(field) == Some(&Value::Bool(true))
}

fn is_set(fields: &Map<String, Value>, field: &str) -> bool {
    fields.get(field).is_some_and(|value| !value.is_null())
}

fn list<'a>(fields: &'a Map<String, Value>, field: &str) -> &'a [Value] {
    fields.get(field).and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default()
}

#[cfg(test)]
mod tests;
