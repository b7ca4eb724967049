//! The *field plan*: what is known of a type as plain records, from which everything else is worked out
//! (decoding in three encodings, strictness, pruning, merging, ownership, documentation).
//!
//! [`Schema`] is a value: the built-in one comes from `api::schema()`, and a custom resource compiles to a
//! small one that [extends](Schema::extending) it. Read [`Type`], then [`Field`], then [`Shape`].

use std::borrow::Cow;
use std::collections::HashMap;
use std::ops::Index;

mod resource;
mod wire;

pub use resource::{Resource, ResourceRef, Resources, Storage, Subresource};
pub use wire::Wire;
pub(crate) use wire::WirePlan;

/// A name: borrowed from the static tables for built-in types, owned for types made at run time.
pub type Name = Cow<'static, str>;

/// A type of one [`Schema`] or of the schema it extends. Meaningless in any other schema.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct TypeId(u32);

/// What a value looks like.
///
/// Each shape has one form in JSON, one in protobuf and one as `serde_json::Value`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Shape {
    String,
    Bool,
    Int32,
    Int64,
    Double,
    /// Base64 text in JSON.
    Bytes,
    /// `resource.Quantity`: text or a number in JSON, canonical text when written.
    Quantity,
    /// `intstr.IntOrString`: an int32 or a text in JSON.
    IntOrString,
    /// `metav1.Time`: RFC 3339, UTC, whole seconds; zero is `null`.
    Time,
    /// `metav1.MicroTime`: RFC 3339, UTC, six digits; zero is `null`.
    MicroTime,
    /// `metav1.Duration`: Go's notation (`1h2m3.5s`).
    Duration,
    /// `metav1.FieldsV1`: any JSON, carried as JSON text in protobuf.
    FieldsV1,
    /// `runtime.RawExtension`: any JSON, carried as JSON text in protobuf.
    RawExtension,
    /// `apiextensions.JSON`: any JSON, carried as JSON text in protobuf.
    Json,
    /// `JSONSchemaPropsOrBool`: `true`, `false` or the message.
    SchemaOrBool(TypeId),
    /// `JSONSchemaPropsOrArray`: the message or a list of it.
    SchemaOrArray(TypeId),
    /// `JSONSchemaPropsOrStringArray`: the message or a list of strings.
    SchemaOrStrings(TypeId),
    Message(TypeId),
    List(Box<List>),
    Map(Box<Map>),
}

impl Shape {
    /// The message that objects of this shape are, if it is one.
    pub fn message(&self) -> Option<TypeId> {
        match self {
            Shape::Message(id) => Some(*id),
            _ => None,
        }
    }

    pub fn as_list(&self) -> Option<&List> {
        match self {
            Shape::List(list) => Some(list),
            _ => None,
        }
    }

    pub fn as_map(&self) -> Option<&Map> {
        match self {
            Shape::Map(map) => Some(map),
            _ => None,
        }
    }

    /// Any JSON that is passed on as it is.
    pub fn is_free(&self) -> bool {
        matches!(self, Shape::FieldsV1 | Shape::RawExtension | Shape::Json)
    }

    /// A Go type that has a zero value other than nil and that `omitempty` never omits: a struct in Go,
    /// whatever it looks like in JSON.
    pub(crate) fn is_struct(&self) -> bool {
        !matches!(
            self,
            Shape::String
                | Shape::Bool
                | Shape::Int32
                | Shape::Int64
                | Shape::Double
                | Shape::Bytes
                | Shape::List(_)
                | Shape::Map(_)
        )
    }

    /// A list, a map or bytes: nil is its zero value.
    pub(crate) fn is_nilable(&self) -> bool {
        matches!(self, Shape::Bytes | Shape::List(_) | Shape::Map(_))
    }

    /// Protobuf can tell an empty one from nil.
    pub(crate) fn keeps_empty(&self) -> bool {
        matches!(self, Shape::Bytes) || self.as_list().is_some_and(|list| list.wrapped)
    }
}

/// A list and how its elements are told apart when two lists are merged.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct List {
    pub element: Shape,
    pub kind: ListType,
    /// `x-kubernetes-list-map-keys`, for [`ListType::Map`].
    pub keys: Vec<Name>,
    /// In protobuf the list is a message of its own with one field `items` (`ExtraValue`, `Verbs`).
    pub wrapped: bool,
}

/// `x-kubernetes-list-type`; absent means atomic.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum ListType {
    #[default]
    Atomic,
    Set,
    Map,
}

/// A map from string to one shape.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Map {
    pub value: Shape,
}

/// When a field that holds Go's zero value is left out of JSON.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Omit {
    /// Always written; a nil list, map, pointer or time is `null`.
    #[default]
    Never,
    /// `omitempty`: false, 0, "", nil, empty list or map. A Go struct is written all the same (`{}`).
    Empty,
    /// `omitzero`: also a struct that is all zero.
    Zero,
}

/// How strategic merge patch treats a field (`x-kubernetes-patch-strategy`, `x-kubernetes-patch-merge-key`).
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Patch {
    /// Merge a list's elements instead of replacing the list.
    pub merge: bool,
    /// Replace an object instead of merging it (lists are replaced unless they merge).
    pub replace: bool,
    /// Only the keys in the patch survive (`retainKeys`).
    pub retain_keys: bool,
    /// The key that identifies an element; `None` for a merged list of scalars.
    pub key: Option<Name>,
}

/// One field of a [`Type`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Field {
    /// The JSON name.
    pub name: Name,
    /// The protobuf tag; 0: the field has no place in protobuf (`kind`, `apiVersion`, custom types).
    pub tag: u16,
    pub shape: Shape,
    /// A pointer in Go: absent and zero differ, in every encoding.
    pub pointer: bool,
    pub omit: Omit,
    /// In the OpenAPI schema's `required`. (Whether a value must be non-empty is validation's matter.)
    pub required: bool,
    /// `null` is a value of its own here (custom resources' `nullable`).
    pub nullable: bool,
    /// `x-kubernetes-map-type` on this field: `Some(true)` atomic, `Some(false)` granular, `None` as its type says.
    pub atomic: Option<bool>,
    pub patch: Patch,
    /// OpenAPI `default`, as JSON text.
    pub default: Option<Name>,
    /// The named Go type of a string, for error texts and known values.
    pub named: Option<NamedId>,
    /// Go names of the embedded structs through which this field is reached (`VolumeSource`), joined by
    /// dots; empty for a field of the struct itself. Only error texts show it.
    pub via: Name,
}

impl Field {
    /// A field as custom resources have it: no protobuf, absent when not given.
    pub fn new(name: impl Into<Name>, shape: Shape) -> Field {
        Field {
            name: name.into(),
            tag: 0,
            shape,
            pointer: true,
            omit: Omit::Empty,
            required: false,
            nullable: false,
            atomic: None,
            patch: Patch::default(),
            default: None,
            named: None,
            via: Name::Borrowed(""),
        }
    }

    /// Written to protobuf even when it holds the zero value.
    pub(crate) fn always_on_wire(&self) -> bool {
        !self.pointer && !self.shape.is_nilable()
    }
}

/// A named string type of Go and its constants.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct NamedId(u16);

/// A named string type: `io.k8s.api.core.v1.Protocol`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Named {
    pub name: Name,
    /// The constants upstream declares, in its order. Whether others are allowed is validation's matter.
    pub values: Vec<Name>,
}

impl Named {
    /// As Go prints it: `v1.Protocol`.
    pub fn go_name(&self) -> &str {
        go_name(&self.name)
    }
}

/// A struct, or an object of a custom resource.
#[derive(Clone, Debug)]
pub struct Type {
    /// The OpenAPI name: `io.k8s.api.core.v1.Container`.
    pub name: Name,
    /// Every JSON field in Go's order; fields of structs that Go inlines are among them.
    pub fields: Vec<Field>,
    /// `x-kubernetes-map-type: atomic` (or `struct-type`): merged as a whole.
    pub atomic: bool,
    /// Unknown fields are kept as they are (custom resources' `x-kubernetes-preserve-unknown-fields`).
    pub preserve_unknown: bool,
    /// `x-kubernetes-group-version-kind`: (group, version, kind).
    pub kinds: Vec<(Name, Name, Name)>,
    /// `x-kubernetes-unions`, as JSON text.
    pub unions: Option<Name>,
    by_name: Box<[u16]>,
    wire: WirePlan,
}

/// What a [`Type`] is made of: a field, or a struct whose fields are inlined in JSON but which is a message
/// of its own in protobuf.
#[derive(Clone, Debug)]
pub enum Member {
    Field(Field),
    Inline { tag: u16, members: Vec<Member> },
}

impl Type {
    /// Puts a type together; the order of `members` is the order of JSON.
    pub fn new(name: impl Into<Name>, members: Vec<Member>) -> Type {
        let mut fields = Vec::with_capacity(members.len());
        let wire = WirePlan::build(members, &mut fields);
        let mut by_name: Vec<u16> = (0..fields.len()).filter_map(|i| u16::try_from(i).ok()).collect();
        by_name.sort_by(|a, b| fields[*a as usize].name.cmp(&fields[*b as usize].name));
        Type {
            name: name.into(),
            fields,
            atomic: false,
            preserve_unknown: false,
            kinds: Vec::new(),
            unions: None,
            by_name: by_name.into(),
            wire,
        }
    }

    /// The field of this JSON name. Names are case-sensitive.
    pub fn field(&self, name: &str) -> Option<&Field> {
        self.position(name).and_then(|at| self.fields.get(at))
    }

    /// Where in [`Type::fields`] the field of this JSON name is.
    pub fn position(&self, name: &str) -> Option<usize> {
        let found = self.by_name.binary_search_by(|i| (*self.fields[*i as usize].name).cmp(name)).ok()?;
        Some(self.by_name[found] as usize)
    }

    /// The last part of the name: `Container`.
    pub fn short_name(&self) -> &str {
        self.name.rsplit('.').next().unwrap_or_default()
    }

    /// As Go prints it: `v1.Container`.
    pub fn go_name(&self) -> &str {
        go_name(&self.name)
    }

    /// The protobuf message: `k8s.io.api.core.v1.Container`.
    pub fn message(&self) -> String {
        let rest = self.name.strip_prefix("io.k8s.").unwrap_or(&self.name);
        format!("k8s.io.{}", rest.replace('-', "_"))
    }

    pub(crate) fn wire(&self) -> &WirePlan {
        &self.wire
    }
}

/// The last two parts of a dotted name.
fn go_name(name: &str) -> &str {
    let mut dots = name.rmatch_indices('.').map(|(at, _)| at);
    match (dots.next(), dots.next()) {
        (Some(_), Some(second)) => &name[second + 1..],
        _ => name,
    }
}

/// Types that refer to each other.
#[derive(Debug, Default)]
pub struct Schema {
    base: Option<&'static Schema>,
    types: Vec<Type>,
    named: Vec<Named>,
    by_name: HashMap<Name, TypeId>,
}

impl Schema {
    pub fn new() -> Schema {
        Schema::default()
    }

    /// An empty schema whose types can refer to those of `base` (a custom resource's to `ObjectMeta`).
    pub fn extending(base: &'static Schema) -> Schema {
        Schema { base: Some(base), ..Schema::default() }
    }

    /// Room for a type that others may already refer to; [`Schema::set`] fills it.
    pub fn reserve(&mut self, name: impl Into<Name>) -> TypeId {
        let name = name.into();
        let id = TypeId(self.offset() + self.types.len() as u32);
        self.types.push(Type::new(name.clone(), Vec::new()));
        self.by_name.insert(name, id);
        id
    }

    /// Fills what [`Schema::reserve`] returned. A type of the base schema is not touched.
    pub fn set(&mut self, id: TypeId, ty: Type) {
        let at = id.0.checked_sub(self.offset());
        if let Some(slot) = at.and_then(|at| self.types.get_mut(at as usize)) {
            *slot = ty;
        }
    }

    /// `reserve` and `set` in one, for a type that refers only to types already there.
    pub fn add(&mut self, ty: Type) -> TypeId {
        let id = self.reserve(ty.name.clone());
        self.set(id, ty);
        id
    }

    /// Adds a named string type. More than 65,535 of them: `None`.
    pub fn add_named(&mut self, named: Named) -> Option<NamedId> {
        let id = u16::try_from(self.named.len()).ok()?;
        self.named.push(named);
        Some(NamedId(id))
    }

    /// The named string type of a field of this schema.
    pub fn named(&self, id: NamedId) -> Option<&Named> {
        self.named.get(id.0 as usize).or_else(|| self.base.and_then(|base| base.named(id)))
    }

    /// The type of this OpenAPI name.
    pub fn find(&self, name: &str) -> Option<TypeId> {
        self.by_name.get(name).copied().or_else(|| self.base.and_then(|base| base.find(name)))
    }

    /// Every type of this schema (not of its base), in the order they were added.
    pub fn types(&self) -> impl Iterator<Item = (TypeId, &Type)> {
        let offset = self.offset();
        self.types.iter().enumerate().map(move |(at, ty)| (TypeId(offset + at as u32), ty))
    }

    /// Every named string type of this schema.
    pub fn named_types(&self) -> impl Iterator<Item = (NamedId, &Named)> {
        self.named.iter().enumerate().map(|(at, named)| (NamedId(at as u16), named))
    }

    fn offset(&self) -> u32 {
        self.base.map_or(0, |base| base.offset() + base.types.len() as u32)
    }
}

impl Index<TypeId> for Schema {
    type Output = Type;

    /// Panics on an id of another schema: ids come from code, never from input.
    fn index(&self, id: TypeId) -> &Type {
        let offset = self.offset();
        match (id.0.checked_sub(offset), self.base) {
            (Some(at), _) => &self.types[at as usize],
            (None, Some(base)) => &base[id],
            (None, None) => &self.types[id.0 as usize],
        }
    }
}

#[cfg(test)]
mod tests;
