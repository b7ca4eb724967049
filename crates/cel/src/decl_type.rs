//! Types of data as a schema declares them: what the checker knows of fields, what the cost estimate knows of sizes,
//! and how JSON looks to an expression.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::Value as Json;

use crate::escaping::{escape, is_reserved};
use crate::types::Type;

/// Bytes of the largest request: what bounds what a schema does not bound.
const REQUEST: u64 = 3 * 1024 * 1024;

/// How a list compares and merges (`x-kubernetes-list-type`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ListType {
    Atomic,
    Set,
    /// With the fields that are its keys.
    Map(Vec<String>),
}

#[derive(Debug, Clone)]
pub enum Kind {
    /// A type of the language. JSON strings are read as what it says: bytes are base64, durations and timestamps text.
    Plain(Type),
    /// A timestamp that is a day.
    Date,
    IntOrString,
    /// Data without a type (`x-kubernetes-preserve-unknown-fields`): cannot be named, only compared.
    Preserved,
    List {
        element: Arc<DeclType>,
        list_type: ListType,
    },
    Map {
        value: Arc<DeclType>,
    },
    Object(Object),
    /// An object of which every field may be set, to anything: what mutating policies construct.
    Open(Arc<str>),
}

/// An object with fields.
#[derive(Debug, Clone)]
pub struct Object {
    pub name: Arc<str>,
    /// By identifier.
    pub fields: BTreeMap<Arc<str>, Field>,
    /// All properties by their names in JSON, those too that no identifier can name.
    pub properties: BTreeMap<String, Arc<DeclType>>,
}

#[derive(Debug, Clone)]
pub struct Field {
    /// The property's name in JSON.
    pub property: String,
    pub kind: Arc<DeclType>,
}

#[derive(Debug, Clone)]
pub struct DeclType {
    pub kind: Kind,
    /// The most characters, items or properties; 0 for what has no size.
    pub max_elements: u64,
    /// Bytes of the shortest JSON.
    pub min_size: u64,
    pub nullable: bool,
}

impl DeclType {
    pub fn plain(kind: Type) -> DeclType {
        let min_size = match kind {
            Type::Bool => 4,
            Type::String | Type::Bytes => 2,
            Type::Duration => 3,
            Type::Timestamp => 12,
            _ => 1,
        };
        DeclType { kind: Kind::Plain(kind), max_elements: 0, min_size, nullable: false }
    }

    pub fn dynamic() -> DeclType {
        DeclType::plain(Type::Dyn)
    }

    pub fn list(element: DeclType, max_items: Option<u64>) -> DeclType {
        let max_elements = max_items.unwrap_or((REQUEST - 2) / (element.min_size + 1));
        let kind = Kind::List { element: Arc::new(element), list_type: ListType::Atomic };
        DeclType { kind, max_elements, min_size: 2, nullable: false }
    }

    pub fn map(value: DeclType, max_properties: Option<u64>) -> DeclType {
        let max_elements = max_properties.unwrap_or((REQUEST - 2) / (value.min_size + 6));
        let kind = Kind::Map { value: Arc::new(value) };
        DeclType { kind, max_elements, min_size: 2, nullable: false }
    }

    /// An object by its properties.
    pub fn object(name: &str, properties: impl IntoIterator<Item = (String, DeclType)>) -> DeclType {
        let mut object = Object { name: name.into(), fields: BTreeMap::new(), properties: BTreeMap::new() };
        for (property, kind) in properties {
            let kind = Arc::new(kind);
            if !matches!(kind.kind, Kind::Preserved)
                && let Some(identifier) = escape(&property)
            {
                let field = Field { property: property.clone(), kind: kind.clone() };
                object.fields.insert(identifier.as_ref().into(), field);
            }
            object.properties.insert(property, kind);
        }
        DeclType { kind: Kind::Object(object), max_elements: 0, min_size: 2, nullable: false }
    }

    pub fn with_max_elements(mut self, max: u64) -> DeclType {
        self.max_elements = max;
        self
    }

    /// The declaration of an OpenAPI v3 schema (of a CRD or of a built-in kind, `$ref` resolved). With `root`, the
    /// type is a resource: it has `apiVersion`, `kind` and the names in `metadata` whatever the schema says.
    /// None where the schema has no type that an expression can use.
    ///
    /// Source: the tests of apiserver's `cel/openapi` and of `apiextensions-apiserver`'s `schema/cel/model`.
    pub fn from_schema(schema: &impl Schema, root: bool) -> Option<DeclType> {
        read(schema, root || schema.embedded())
    }

    /// The same with names for all objects in it: the root is `name`, what it holds `name.field`, `name.@idx` and so
    /// on. Objects that have a name keep it.
    pub fn named(&self, name: &str) -> DeclType {
        self.named_after(name, &mut 0)
    }

    /// `long`: how many names were too long to go on from, and got a number in their place.
    fn named_after(&self, name: &str, long: &mut u32) -> DeclType {
        const LONGEST: usize = 500;
        let mut this = self.clone();
        let numbered = (name.len() > LONGEST).then(|| {
            *long += 1;
            format!("@{long}")
        });
        let name = numbered.as_deref().unwrap_or(name);
        match &mut this.kind {
            Kind::Object(object) => {
                if &*object.name == "object" {
                    object.name = name.into();
                }
                let below = object.name.to_string();
                for (property, kind) in &mut object.properties {
                    let identifier = escape(property);
                    let path = format!("{below}.{}", identifier.as_deref().unwrap_or(property));
                    *kind = Arc::new(kind.named_after(&path, long));
                }
                for field in object.fields.values_mut() {
                    if let Some(kind) = object.properties.get(&field.property) {
                        field.kind = kind.clone();
                    }
                }
            }
            Kind::Map { value } => *value = Arc::new(value.named_after(&format!("{name}.@elem"), long)),
            Kind::List { element, .. } => {
                *element = Arc::new(element.named_after(&format!("{name}.@idx"), long));
            }
            _ => {}
        }
        this
    }

    pub fn cel_type(&self) -> Type {
        match &self.kind {
            Kind::Plain(kind) => kind.clone(),
            Kind::Date => Type::Timestamp,
            Kind::IntOrString | Kind::Preserved => Type::Dyn,
            Kind::List { element, .. } => Type::list(element.cel_type()),
            Kind::Map { value } => Type::map(Type::String, value.cel_type()),
            Kind::Object(object) => Type::Struct(object.name.clone()),
            Kind::Open(name) => Type::Struct(name.clone()),
        }
    }

    /// A field's type, by identifier. Words of the language need no underscores.
    pub(crate) fn field_type(&self, name: &str) -> Option<Type> {
        match &self.kind {
            Kind::Open(_) => Some(Type::Dyn),
            _ => self.field(name).map(|field| field.kind.cel_type()),
        }
    }

    pub fn field(&self, name: &str) -> Option<&Field> {
        let Kind::Object(object) = &self.kind else { return None };
        object.fields.get(name).or_else(|| {
            if is_reserved(name) { object.fields.get(format!("__{name}__").as_str()) } else { None }
        })
    }

    /// The bound on the number of such values in one request.
    pub fn max_cardinality(&self) -> u64 {
        REQUEST / (self.min_size + 1)
    }

    /// All objects in it, by name.
    pub(crate) fn objects(self: &Arc<DeclType>, found: &mut BTreeMap<Arc<str>, Arc<DeclType>>) {
        match &self.kind {
            Kind::Object(object) if found.insert(object.name.clone(), self.clone()).is_none() => {
                object.properties.values().for_each(|kind| kind.objects(found));
            }
            Kind::List { element, .. } => element.objects(found),
            Kind::Map { value } => value.objects(found),
            _ => {}
        }
    }
}

/// A schema as declarations are made of it: JSON, or what a caller has made of it.
pub trait Schema {
    /// `array`, `boolean`, `integer`, `number`, `object` or `string`; empty if it is not said.
    fn kind(&self) -> &str;
    fn nullable(&self) -> bool;
    /// `x-kubernetes-int-or-string`
    fn int_or_string(&self) -> bool;
    /// `x-kubernetes-embedded-resource`
    fn embedded(&self) -> bool;
    fn has_default(&self) -> bool;
    /// Empty if it is not said.
    fn format(&self) -> &str;
    fn max_length(&self) -> Option<u64>;
    fn max_items(&self) -> Option<u64>;
    fn max_properties(&self) -> Option<u64>;
    /// Bytes of the longest text that `enum` allows.
    fn longest_choice(&self) -> Option<u64>;
    fn list_type(&self) -> ListType;
    fn items(&self) -> Option<&Self>;
    /// `additionalProperties`, if it is a schema.
    fn additional(&self) -> Option<&Self>;
    fn properties(&self) -> impl Iterator<Item = (&str, &Self)>;
    /// The names of required properties.
    fn required(&self) -> Vec<&str>;
}

impl Schema for Json {
    fn kind(&self) -> &str {
        let kind = match self.get("type") {
            Some(Json::Array(several)) => several.first().and_then(Json::as_str),
            Some(one) => one.as_str(),
            None => None,
        };
        kind.unwrap_or_default()
    }

    fn nullable(&self) -> bool {
        flag(self, "nullable")
    }

    fn int_or_string(&self) -> bool {
        flag(self, "x-kubernetes-int-or-string")
    }

    fn embedded(&self) -> bool {
        flag(self, "x-kubernetes-embedded-resource")
    }

    fn has_default(&self) -> bool {
        self.get("default").is_some()
    }

    fn format(&self) -> &str {
        self.get("format").and_then(Json::as_str).unwrap_or_default()
    }

    fn max_length(&self) -> Option<u64> {
        limit(self, "maxLength")
    }

    fn max_items(&self) -> Option<u64> {
        limit(self, "maxItems")
    }

    fn max_properties(&self) -> Option<u64> {
        limit(self, "maxProperties")
    }

    fn longest_choice(&self) -> Option<u64> {
        let values = self.get("enum").and_then(Json::as_array).filter(|it| !it.is_empty())?;
        values.iter().map(|it| it.as_str().map_or(0, str::len) as u64).max()
    }

    fn list_type(&self) -> ListType {
        match self.get("x-kubernetes-list-type").and_then(Json::as_str) {
            Some("set") => ListType::Set,
            Some("map") => {
                let keys = self.get("x-kubernetes-list-map-keys").and_then(Json::as_array);
                let keys = keys.into_iter().flatten().filter_map(Json::as_str).map(str::to_owned);
                ListType::Map(keys.collect())
            }
            _ => ListType::Atomic,
        }
    }

    fn items(&self) -> Option<&Json> {
        self.get("items")
    }

    fn additional(&self) -> Option<&Json> {
        self.get("additionalProperties").filter(|it| it.is_object())
    }

    fn properties(&self) -> impl Iterator<Item = (&str, &Json)> {
        let all = self.get("properties").and_then(Json::as_object);
        all.into_iter().flatten().map(|(name, schema)| (name.as_str(), schema))
    }

    fn required(&self) -> Vec<&str> {
        let all = self.get("required").and_then(Json::as_array);
        all.into_iter().flatten().filter_map(Json::as_str).collect()
    }
}

fn flag(schema: &Json, name: &str) -> bool {
    schema.get(name).and_then(Json::as_bool).unwrap_or(false)
}

fn limit(schema: &Json, name: &str) -> Option<u64> {
    schema.get(name).and_then(Json::as_i64).map(|it| it.max(0) as u64)
}

fn read(schema: &impl Schema, root: bool) -> Option<DeclType> {
    let mut declared = read_kind(schema, root)?;
    declared.nullable = schema.nullable();
    Some(declared)
}

/// A property's declaration, where it has one that can be used.
fn property(schema: &impl Schema) -> DeclType {
    read(schema, schema.embedded()).unwrap_or(DeclType {
        kind: Kind::Preserved,
        max_elements: 0,
        min_size: 0,
        nullable: schema.nullable(),
    })
}

fn read_kind(schema: &impl Schema, root: bool) -> Option<DeclType> {
    if schema.int_or_string() {
        let max = schema.max_length().map_or(REQUEST - 2, |it| it.saturating_mul(4));
        let declared = DeclType { kind: Kind::IntOrString, max_elements: max, min_size: 1, nullable: false };
        return Some(declared);
    }
    match schema.kind() {
        "array" => read_list(schema),
        "object" => read_object(schema, root),
        "string" => Some(read_string(schema)),
        "boolean" => Some(DeclType::plain(Type::Bool)),
        "number" => Some(DeclType::plain(Type::Double)),
        "integer" => Some(DeclType::plain(Type::Int)),
        // A resource's schema may leave its type out.
        _ if root && schema.properties().next().is_some() => read_object(schema, root),
        _ => None,
    }
}

fn read_list(schema: &impl Schema) -> Option<DeclType> {
    let items = schema.items()?;
    let element = read(items, items.embedded())?;
    let mut declared = DeclType::list(element, schema.max_items());
    if let Kind::List { list_type, .. } = &mut declared.kind {
        *list_type = schema.list_type();
    }
    Some(declared)
}

fn read_object(schema: &impl Schema, root: bool) -> Option<DeclType> {
    if let Some(additional) = schema.additional() {
        let value = read(additional, additional.embedded())?;
        return Some(DeclType::map(value, schema.max_properties()));
    }
    let mut required = schema.required();
    required.sort_unstable();
    let mut properties = BTreeMap::new();
    let mut min_size = 2;
    for (name, schema) in schema.properties() {
        let declared = property(schema);
        let usable = !matches!(declared.kind, Kind::Preserved);
        if usable && required.binary_search(&name).is_ok() && !schema.has_default() {
            min_size += name.len() as u64 + declared.min_size + 4;
        }
        properties.insert(name.to_owned(), declared);
    }
    if root {
        add_type_and_names(&mut properties);
    }
    let mut declared = DeclType::object("object", properties);
    declared.min_size = min_size;
    Some(declared)
}

/// What every resource has. Of `metadata` an expression sees the names only.
fn add_type_and_names(properties: &mut BTreeMap<String, DeclType>) {
    let text = || DeclType::plain(Type::String).with_max_elements(REQUEST - 2);
    let names = |declared: &DeclType| ["name", "generateName"].iter().all(|it| declared.field(it).is_some());
    let complete = ["kind", "apiVersion"].iter().all(|it| properties.contains_key(*it))
        && properties.get("metadata").is_some_and(names);
    if complete {
        return;
    }
    properties.insert("kind".to_owned(), text());
    properties.insert("apiVersion".to_owned(), text());
    let metadata = [("name".to_owned(), text()), ("generateName".to_owned(), text())];
    properties.insert("metadata".to_owned(), DeclType::object("object", metadata));
}

fn read_string(schema: &impl Schema) -> DeclType {
    let length = schema.max_length();
    match schema.format() {
        "byte" => DeclType::plain(Type::Bytes).with_max_elements(length.unwrap_or(REQUEST - 2)),
        "duration" => DeclType::plain(Type::Duration).with_max_elements(32),
        "date" => DeclType { kind: Kind::Date, max_elements: 12, min_size: 12, nullable: false },
        "date-time" => {
            let declared = DeclType::plain(Type::Timestamp).with_max_elements(32);
            DeclType { min_size: 21, ..declared }
        }
        _ => {
            // A character is at most four bytes, and it is bytes that the request limits.
            let max = length.map(|it| it.saturating_mul(4)).or_else(|| schema.longest_choice());
            DeclType::plain(Type::String).with_max_elements(max.unwrap_or(REQUEST - 2))
        }
    }
}
