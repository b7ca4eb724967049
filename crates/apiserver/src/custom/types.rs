//! A definition's schemas as types of the field plan: what managed fields are worked out by (upstream's
//! `controller/openapi/builder` and kube-openapi's `schemaconv`).

use std::sync::LazyLock;

use apiextensions::structural::{Additional, Kind, Structural};
use apimachinery::schema::{Field, List, ListType, Map, Member, Name, Schema, Shape, Type, TypeId};

use super::{Definition, metadata_type};

/// The first type of any schema that extends the built-in one: what a record names without having made its types.
static ROOT: LazyLock<TypeId> = LazyLock::new(|| Schema::extending(api::schema()).reserve("root"));

pub(super) fn root() -> TypeId {
    *ROOT
}

/// The types of all versions of a definition.
#[derive(Debug)]
pub struct Types {
    schema: Schema,
    roots: Vec<TypeId>,
}

impl Types {
    pub(super) fn new(definition: &Definition) -> Types {
        let mut maker = Maker { schema: Schema::extending(api::schema()), made: 0 };
        let versions = 0..definition.versions.len();
        let roots = versions.map(|at| maker.root(&definition.compiled(at).structural)).collect();
        Types { schema: maker.schema, roots }
    }

    /// The type of objects of a version.
    pub fn of(&self, version: usize) -> (&Schema, TypeId) {
        (&self.schema, self.roots[version])
    }
}

struct Maker {
    schema: Schema,
    made: usize,
}

impl Maker {
    fn root(&mut self, schema: &Structural) -> TypeId {
        self.message(schema, true)
    }

    fn message(&mut self, schema: &Structural, resource: bool) -> TypeId {
        self.made += 1;
        let name = format!("custom.{}", self.made);
        let id = self.schema.reserve(name.clone());
        let mut fields = Vec::with_capacity(schema.properties.len() + 3);
        if resource || schema.embedded {
            fields.push(Field::new("apiVersion", Shape::String));
            fields.push(Field::new("kind", Shape::String));
            fields.push(Field::new("metadata", Shape::Message(metadata_type().1)));
        }
        for (name, property) in &schema.properties {
            let implied = fields.iter().any(|field: &Field| *field.name == **name);
            if !implied {
                let field = self.field(name, property);
                fields.push(field);
            }
        }
        let mut ty = Type::new(name, fields.into_iter().map(Member::Field).collect());
        ty.atomic = schema.atomic_map;
        ty.preserve_unknown = schema.preserve_unknown || matches!(schema.additional, Additional::Any);
        self.schema.set(id, ty);
        id
    }

    fn field(&mut self, name: &str, schema: &Structural) -> Field {
        let mut field = Field::new(Name::Owned(name.to_owned()), self.shape(schema));
        field.nullable = schema.nullable;
        field.atomic = schema.atomic_map.then_some(true);
        field.default = schema.default.as_ref().map(|default| Name::Owned(default.to_string()));
        field
    }

    fn shape(&mut self, schema: &Structural) -> Shape {
        if schema.int_or_string {
            return Shape::IntOrString;
        }
        match schema.kind {
            Some(Kind::String) => Shape::String,
            Some(Kind::Boolean) => Shape::Bool,
            Some(Kind::Integer) => Shape::Int64,
            Some(Kind::Number) => Shape::Double,
            Some(Kind::Array) => match &schema.items {
                Some(items) => Shape::List(Box::new(List {
                    element: self.shape(items),
                    kind: schema.list_type.unwrap_or(ListType::Atomic),
                    keys: schema.list_keys.iter().map(|key| Name::Owned(key.to_string())).collect(),
                    wrapped: false,
                })),
                None => Shape::Json,
            },
            Some(Kind::Object) => match &schema.additional {
                Additional::Schema(value) if schema.properties.is_empty() => {
                    Shape::Map(Box::new(Map { value: self.shape(value) }))
                }
                _ if schema.properties.is_empty() && !schema.embedded => Shape::Json,
                _ => Shape::Message(self.message(schema, false)),
            },
            None => Shape::Json,
        }
    }
}
