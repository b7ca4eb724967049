//! What is wrong with the schema of a CustomResourceDefinition's version, apart from its being structural: upstream's
//! `ValidateCustomResourceDefinitionOpenAPISchema` and what it is called by. Expressions are judged by whoever can
//! compile them; here they are text.

use apimachinery::field::{Error, ErrorList, Path};
use serde_json::{Map, Value};

use crate::structural::{Kind, Structural, compile, defaults, metadata, prune, rules, validate};
use apimachinery::schema::{Schema, TypeId};

/// What is asked of a schema. A definition that broke a rule before the rule was made may go on breaking it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Strictness {
    pub structural: bool,
    pub known_types: bool,
    pub pruned_defaults: bool,
    pub atomic_sets: bool,
    pub keyed_maps: bool,
}

impl Strictness {
    /// Of a new definition.
    pub const FULL: Strictness = Strictness {
        structural: true,
        known_types: true,
        pruned_defaults: true,
        atomic_sets: true,
        keyed_maps: true,
    };

    /// Of a change of a definition whose versions had these schemas.
    pub fn after<'a>(old: impl IntoIterator<Item = &'a Value>, meta: (&Schema, TypeId)) -> Strictness {
        let mut strictness = Strictness::FULL;
        for schema in old {
            strictness.structural &= compile(schema).is_ok() && rules::check(schema, &Path::NIL).is_empty();
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
    defaults::prune_defaults(&mut after, meta);
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

/// Some node of a schema is so.
fn any(schema: &Value, is_so: &dyn Fn(&Map<String, Value>) -> bool) -> bool {
    let Some(fields) = schema.as_object() else { return false };
    is_so(fields) || below(fields).any(|(_, schema)| any(schema, is_so))
}

/// Every schema right below a node, with where it stands.
fn below(fields: &Map<String, Value>) -> impl Iterator<Item = (Place<'_>, &Value)> {
    fields.iter().flat_map(|(field, value)| -> Vec<(Place<'_>, &Value)> {
        match (field.as_str(), value) {
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
    let mut unsupported = None;
    if strictness.structural
        || any(schema, &says_kubernetes)
        || any(schema, &|node| node.contains_key("default"))
    {
        match compile(schema) {
            Err(why) => unsupported = Some(Error::invalid(path, "", why.to_string())),
            Ok(structural) => {
                let broken = rules::check(schema, path);
                match broken.is_empty() {
                    true => {
                        let mut judge = Defaults { meta, check_meta, pruned: strictness.pruned_defaults };
                        judge.check(&structural.as_root(), path, errors);
                    }
                    false => errors.extend(broken),
                }
            }
        }
    }
    let mut scope = Scope { strictness, within_meta: false, no_defaults: None };
    node(fields, &mut scope, true, path, errors);
    if errors.len() == before {
        errors.extend(unsupported);
    }
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
#[derive(Clone)]
struct Scope {
    strictness: Strictness,
    /// In the metadata, kind or apiVersion of a resource.
    within_meta: bool,
    /// Why no defaults may be here.
    no_defaults: Option<String>,
}

const UNSUPPORTED: [&str; 5] =
    ["additionalItems", "patternProperties", "definitions", "dependencies", "$ref"];

fn node(
    fields: &Map<String, Value>,
    scope: &mut Scope,
    is_root: bool,
    path: &Path<'_>,
    errors: &mut ErrorList,
) {
    if let Some(kind) = unknown_type(fields).filter(|_| scope.strictness.known_types) {
        let known = ["array", "boolean", "integer", "number", "object", "string"];
        errors.push(Error::not_supported(&path.child("type"), kind, known));
    }
    if let Some(why) = scope.no_defaults.as_ref().filter(|_| is_set(fields, "default")) {
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
    let embedded = flag(fields, "x-kubernetes-embedded-resource");
    if scope.within_meta && embedded {
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
    for (place, schema) in below(fields) {
        let Some(schema) = schema.as_object() else { continue };
        match place {
            Place::Field("additionalItems") | Place::Key("patternProperties", _) => {}
            Place::Field(field) => {
                let mut scope = scope.clone();
                if field == "additionalProperties" && scope.within_meta {
                    scope.no_defaults =
                        Some("inside additionalProperties applying to object metadata".into());
                }
                node(schema, &mut scope, false, &path.child(field), errors);
            }
            Place::Index(field, index) => node(schema, scope, false, &path.child(field).index(index), errors),
            Place::Key("properties", name) => {
                let mut scope = scope.clone();
                if (is_root || embedded) && matches!(name, "metadata" | "kind" | "apiVersion") {
                    scope.within_meta = true;
                    if is_root {
                        scope.no_defaults = Some(format!("in top-level {name}"));
                    }
                }
                node(schema, &mut scope, false, &path.child("properties").key(name), errors);
            }
            Place::Key(field, name) => node(schema, scope, false, &path.child(field).key(name), errors),
        }
    }
    lists_and_maps(fields, scope.strictness, path, errors);
    expressions(fields, path, errors);
}

fn unknown_type(fields: &Map<String, Value>) -> Option<&str> {
    let kind = text(fields, "type");
    (!kind.is_empty() && Kind::parse(kind).is_none()).then_some(kind)
}

/// `x-kubernetes-list-type` and its like, each with what it wants around it.
fn lists_and_maps(
    fields: &Map<String, Value>,
    strictness: Strictness,
    path: &Path<'_>,
    errors: &mut ErrorList,
) {
    if fields.get("x-kubernetes-preserve-unknown-fields") == Some(&Value::Bool(false)) {
        let at = path.child("x-kubernetes-preserve-unknown-fields");
        errors.push(Error::invalid(&at, false, "must be true or undefined"));
    }
    let kind = text(fields, "type");
    let of_type = path.child("type");
    let must_be = |wanted: &str, extension: &str| {
        let why = format!("must be {wanted} if {extension} is specified");
        match kind {
            "" => Error::required(&of_type, why),
            _ => Error::invalid(&of_type, kind, why),
        }
    };
    let (map_type, list_type) =
        (given(fields, "x-kubernetes-map-type"), given(fields, "x-kubernetes-list-type"));
    if let Some(map_type) = map_type {
        if kind != "object" {
            errors.push(must_be("object", "x-kubernetes-map-type"));
        }
        if !matches!(map_type, "atomic" | "granular") {
            let at = path.child("x-kubernetes-map-type");
            errors.push(Error::not_supported(&at, map_type, ["atomic", "granular"]));
        }
    }
    let keys: Vec<&str> =
        list(fields, "x-kubernetes-list-map-keys").iter().filter_map(Value::as_str).collect();
    let at = path.child("x-kubernetes-list-type");
    if let Some(list_type) = list_type {
        if kind != "array" {
            errors.push(must_be("array", "x-kubernetes-list-type"));
        } else if strictness.atomic_sets {
            atomic_set(fields, path, errors);
        }
        if !matches!(list_type, "atomic" | "set" | "map") {
            errors.push(Error::not_supported(&at, list_type, ["atomic", "set", "map"]));
        }
    }
    if !keys.is_empty() && list_type != Some("map") {
        let why = "must be map if x-kubernetes-list-map-keys is non-empty";
        errors.push(match list_type {
            None => Error::required(&at, why),
            Some(other) => Error::invalid(&at, other, why),
        });
    }
    if list_type == Some("map") {
        map_list(fields, &keys, path, errors);
    }
    if strictness.keyed_maps {
        keyed_map(fields, path, errors);
    }
}

fn map_list(fields: &Map<String, Value>, keys: &[&str], path: &Path<'_>, errors: &mut ErrorList) {
    let (at, of_items) = (path.child("x-kubernetes-list-map-keys"), path.child("items"));
    if keys.is_empty() {
        errors.push(Error::required(&at, "must not be empty if x-kubernetes-list-type is map"));
    }
    let items = match fields.get("items") {
        Some(Value::Object(items)) => items,
        None | Some(Value::Null) => {
            let why = "must have a schema if x-kubernetes-list-type is map";
            errors.push(Error::required(&of_items, why));
            return;
        }
        Some(other) => {
            let why = "must only have a single schema if x-kubernetes-list-type is map";
            errors.push(Error::invalid(&of_items, other.clone(), why));
            return;
        }
    };
    let kind = text(items, "type");
    if kind != "object" {
        let why = "must be object if parent array's x-kubernetes-list-type is map";
        errors.push(Error::invalid(&of_items.child("type"), kind, why));
        return;
    }
    for (index, key) in keys.iter().enumerate() {
        let properties = of_items.child("properties");
        match items.get("properties").and_then(|all| all.get(*key)) {
            Some(property) if matches!(property["type"].as_str(), Some("array" | "object")) => {
                let why = "must be a scalar type if parent array's x-kubernetes-list-type is map";
                errors.push(Error::invalid(&properties.key(key).child("type"), kind, why));
            }
            Some(_) => {}
            None => errors.push(Error::invalid(
                &at,
                keys.to_vec(),
                "entries must all be names of item properties",
            )),
        }
        if keys[..index].contains(key) {
            errors.push(Error::invalid(&at, keys.to_vec(), "must not contain duplicate entries"));
        }
    }
}

/// Elements of a set are compared as a whole.
fn atomic_set(fields: &Map<String, Value>, path: &Path<'_>, errors: &mut ErrorList) {
    let Some(items) = fields.get("items").and_then(Value::as_object) else { return };
    if given(fields, "x-kubernetes-list-type") != Some("set") {
        return;
    }
    let (list_type, map_type) =
        (given(items, "x-kubernetes-list-type"), given(items, "x-kubernetes-map-type"));
    let field = match text(items, "type") {
        "array" if list_type.is_some_and(|list_type| list_type != "atomic") => "x-kubernetes-list-type",
        "object" if map_type != Some("atomic") => "x-kubernetes-map-type",
        _ => return,
    };
    let why = "must be atomic as item of a list with x-kubernetes-list-type=set";
    // Upstream shows the list type in both cases.
    let shown = list_type.map_or(Value::Null, Value::from);
    errors.push(Error::invalid(&path.child("items").child(field), shown, why));
}

/// Elements of sets and maps, and keys of maps, are never absent.
fn keyed_map(fields: &Map<String, Value>, path: &Path<'_>, errors: &mut ErrorList) {
    let Some(items) = fields.get("items").and_then(Value::as_object) else { return };
    let Some(list_type @ ("set" | "map")) = given(fields, "x-kubernetes-list-type") else { return };
    let of_items = path.child("items");
    if flag(items, "nullable") {
        let why = format!("cannot be nullable when x-kubernetes-list-type is {list_type}");
        errors.push(Error::forbidden(&of_items.child("nullable"), why));
    }
    if list_type == "set" {
        return;
    }
    let required = list(items, "required");
    let properties = of_items.child("properties");
    for key in list(fields, "x-kubernetes-list-map-keys").iter().filter_map(Value::as_str) {
        let Some(property) = items.get("properties").and_then(|all| all.get(key)?.as_object()) else {
            continue;
        };
        let at = properties.key(key);
        if !required.iter().any(|name| name == key) && !is_set(property, "default") {
            let why = "this property is in x-kubernetes-list-map-keys, so it must have a default or be a required \
                       property";
            errors.push(Error::required(&at.child("default"), why));
        }
        if flag(property, "nullable") {
            let why = "this property is in x-kubernetes-list-map-keys, so it cannot be nullable";
            errors.push(Error::forbidden(&at.child("nullable"), why));
        }
    }
}

const REASONS: [&str; 4] =
    ["FieldValueDuplicate", "FieldValueForbidden", "FieldValueInvalid", "FieldValueRequired"];

/// What is wrong with rules before anybody reads their expressions.
fn expressions(fields: &Map<String, Value>, path: &Path<'_>, errors: &mut ErrorList) {
    let all = path.child("x-kubernetes-validations");
    let broken = |text: &str| text.contains(['\n', '\r']);
    for (index, rule) in list(fields, "x-kubernetes-validations").iter().enumerate() {
        let at = all.index(index);
        let text = |field: &str| rule[field].as_str().unwrap_or_default();
        let (expression, message) = (text("rule").trim(), text("message"));
        if expression.is_empty() {
            errors.push(Error::required(&at.child("rule"), "rule is not specified"));
        } else if !message.is_empty() && message.trim().is_empty() {
            errors.push(Error::invalid(&at.child("message"), message, "must be non-empty if specified"));
        } else if broken(message.trim()) {
            errors.push(Error::invalid(&at.child("message"), message, "must not contain line breaks"));
        } else if broken(expression) && message.trim().is_empty() {
            let why = "message must be specified if rule contains line breaks";
            errors.push(Error::required(&at.child("message"), why));
        }
        let message_expression = text("messageExpression");
        if !message_expression.is_empty() && message_expression.trim().is_empty() {
            let why = "messageExpression must be non-empty if specified";
            errors.push(Error::required(&at.child("messageExpression"), why));
        }
        if let Some(reason) = rule["reason"].as_str().filter(|reason| !REASONS.contains(reason)) {
            errors.push(Error::not_supported(&at.child("reason"), reason, REASONS));
        }
        let of_path = at.child("fieldPath");
        let field_path = text("fieldPath");
        if field_path.is_empty() {
            continue;
        }
        if field_path.trim().is_empty() {
            errors.push(Error::invalid(&of_path, field_path, "must be non-empty if specified"));
        }
        if broken(field_path) {
            errors.push(Error::invalid(&of_path, field_path, "must not contain line breaks"));
        }
        let leads = |schema: Structural| self::field_path(field_path, &schema, true).is_ok();
        if !compile(&Value::Object(fields.clone())).map_or(true, leads) {
            errors.push(Error::invalid(&of_path, field_path, "must be a valid path"));
        }
    }
}

/// Fields that selectors may name: each a path to text, a number or a flag outside of metadata. `may_be_many`: there
/// were too many before, and they stay as they are.
pub fn selectable_fields(
    fields: &[Value],
    schema: &Structural,
    may_be_many: bool,
    path: &Path<'_>,
    errors: &mut ErrorList,
) {
    const MOST: usize = 8;
    let mut seen: Vec<String> = Vec::new();
    for (index, field) in fields.iter().enumerate() {
        let at = path.index(index);
        let at = at.child("jsonPath");
        let text = field["jsonPath"].as_str().unwrap_or_default();
        if text.is_empty() {
            errors.push(Error::required(&at, ""));
            continue;
        }
        let (steps, found) = match field_path(text, schema, false) {
            Ok(found) => found,
            Err(why) => {
                errors.push(Error::invalid(&at, text, format!("is an invalid path: {why}")));
                continue;
            }
        };
        if steps.first().is_some_and(|step| step == "metadata") {
            errors.push(Error::invalid(&at, text, "must not point to fields in metadata"));
        }
        if !found
            .is_some_and(|found| matches!(found.kind, Some(Kind::String | Kind::Boolean | Kind::Integer)))
        {
            let why = "must point to a field of type string, boolean or integer. Enum string fields and strings with \
                       formats are allowed.";
            errors.push(Error::invalid(&at, text, why));
        }
        let told = steps.join(".");
        if seen.contains(&told) {
            errors.push(Error::duplicate(&at, text));
        } else {
            seen.push(told);
        }
    }
    if seen.len() > MOST && !may_be_many {
        errors.push(Error::too_many(path, seen.len(), MOST));
    }
}

/// The steps of a path such as `.spec.a['b.c']` through a schema, and where it leads (nowhere that is known: `None`).
///
/// # Errors
/// What is wrong with the path, in upstream's words.
pub fn field_path<'s>(
    text: &str,
    schema: &'s Structural,
    subscripts: bool,
) -> Result<(Vec<String>, Option<&'s Structural>), String> {
    let (mut steps, mut at, mut rest) = (Vec::new(), Some(schema), text);
    const END: &str = "unexpected end of JSON path";
    while let Some(first) = rest.chars().next() {
        let name;
        match first {
            '[' if !subscripts => return Err("array notation is not allowed".into()),
            '[' => {
                let (token, after) = token(&rest[1..]).ok_or(END)?;
                let inner = token.strip_prefix('\'').and_then(|rest| rest.strip_suffix('\''));
                let inner = inner.ok_or_else(|| format!("expected single quoted string but got {token}"))?;
                name = unescape(inner)?;
                let (close, after) = self::token(after).ok_or(END)?;
                if close != "]" {
                    return Err(format!("expected ] but got {close}"));
                }
                rest = after;
            }
            '.' => {
                let (token, after) = token(&rest[1..]).ok_or(END)?;
                name = token.to_owned();
                rest = after;
            }
            _ => {
                let told = token(rest).map_or(rest, |(token, _)| token);
                return Err(format!("expected [ or . but got: {told}"));
            }
        }
        const NOWHERE: &str = "does not refer to a valid field";
        let here = at.ok_or(NOWHERE)?;
        at = match here.properties.is_empty() {
            false => Some(here.properties.get(&*name).ok_or(NOWHERE)?),
            true if matches!(here.additional, crate::structural::Additional::Absent) => {
                return Err(NOWHERE.into());
            }
            true => here.additional.schema(),
        };
        steps.push(name);
    }
    Ok((steps, at))
}

/// A delimiter, a quoted text, or what stands before the next delimiter; and what follows.
fn token(text: &str) -> Option<(&str, &str)> {
    let first = text.chars().next()?;
    let length = match first {
        '.' | '[' | ']' => 1,
        '\'' => {
            let bytes = text.as_bytes();
            let end = (1..bytes.len()).find(|at| bytes[*at] == b'\'' && bytes[at - 1] != b'\\');
            end.map_or(text.len(), |at| at + 1)
        }
        _ => text.find(['.', '[', ']']).unwrap_or(text.len()),
    };
    Some(text.split_at(length))
}

fn unescape(text: &str) -> Result<String, String> {
    let (mut out, mut characters) = (String::with_capacity(text.len()), text.chars());
    while let Some(c) = characters.next() {
        if c != '\\' {
            out.push(c);
            continue;
        }
        out.push(match characters.next() {
            Some('a') => '\x07',
            Some('b') => '\x08',
            Some('f') => '\x0c',
            Some('n') => '\n',
            Some('r') => '\r',
            Some('t') => '\t',
            Some('v') => '\x0b',
            Some(c @ ('\'' | '\\')) => c,
            other => {
                let told = other.map(String::from).unwrap_or_default();
                return Err(format!("invalid string literal: invalid escape char \\{told}"));
            }
        });
    }
    Ok(out)
}

/// Defaults are values of their schema.
struct Defaults<'a> {
    meta: (&'a Schema, TypeId),
    check_meta: CheckMeta<'a>,
    pruned: bool,
}

impl Defaults<'_> {
    /// Every default at or below `node`. Those inside of kind, apiVersion and metadata are held to their schema alone;
    /// whether the object around them would be good cannot be said without it.
    fn check(&mut self, node: &Structural, path: &Path<'_>, errors: &mut ErrorList) {
        if let Some(default) = &node.default {
            self.value(default, node, &path.child("default"), errors);
        }
        if let Some(items) = &node.items {
            self.check(items, &path.child("items"), errors);
        }
        let all = path.child("properties");
        for (name, property) in &node.properties {
            self.check(property, &all.key(name), errors);
        }
    }

    fn value(&mut self, default: &Value, node: &Structural, path: &Path<'_>, errors: &mut ErrorList) {
        if self.pruned {
            let mut pruned = default.clone();
            let gone = match node.embedded {
                true => prune::prune(&mut pruned, node),
                false => prune::prune_value(&mut pruned, node),
            };
            if !gone.is_empty() || pruned != *default {
                errors.push(Error::invalid(path, default.clone(), "must not have unknown fields"));
            }
        }
        let mut coerced = default.clone();
        if let Err(why) = metadata::coerce(&mut coerced, node, self.meta, path) {
            errors.push(why);
            return;
        }
        let before = errors.len();
        metadata::validate(&mut coerced, node, path, self.check_meta, errors);
        if errors.len() == before {
            errors.extend(validate::validate(default, node, None, path));
        }
    }
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
