//! The types that the checker reasons about.

use std::fmt;
use std::sync::Arc;

/// A type. `Display` prints it as error messages do: `list(int)`, `map(string, dyn)`, `kubernetes.URL`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Type {
    Dyn,
    /// Of an expression that has been reported already; fits everywhere.
    Error,
    Null,
    Bool,
    Int,
    Uint,
    Double,
    String,
    Bytes,
    Duration,
    Timestamp,
    List(Arc<Type>),
    Map(Arc<(Type, Type)>),
    /// An object type by name: declared in an environment, or one of the libraries' (`kubernetes.Quantity`).
    Struct(Arc<str>),
    /// `optional_type(V)`, `net.IP` and the like.
    Opaque(Arc<str>, Option<Arc<Type>>),
    /// A type parameter of a declaration: `A` is 0.
    Param(u8),
    /// A type not yet known, while checking.
    Variable(u32),
    /// The type of a type; without a parameter, `type` itself.
    Type(Option<Arc<Type>>),
}

/// What [`Type`]s are named in [`crate::decls`]' table.
const SIMPLE: &[(&str, Type)] = &[
    ("dyn", Type::Dyn),
    ("null", Type::Null),
    ("bool", Type::Bool),
    ("int", Type::Int),
    ("uint", Type::Uint),
    ("double", Type::Double),
    ("string", Type::String),
    ("bytes", Type::Bytes),
    ("duration", Type::Duration),
    ("timestamp", Type::Timestamp),
];

pub const OPTIONAL: &str = "optional_type";

impl Type {
    pub fn list(element: Type) -> Type {
        Type::List(Arc::new(element))
    }

    pub fn map(key: Type, value: Type) -> Type {
        Type::Map(Arc::new((key, value)))
    }

    pub fn optional(inner: Type) -> Type {
        Type::Opaque(OPTIONAL.into(), Some(Arc::new(inner)))
    }

    pub fn of(inner: Type) -> Type {
        Type::Type(Some(Arc::new(inner)))
    }

    pub fn structure(name: &str) -> Type {
        Type::Struct(name.into())
    }

    pub fn is_dyn_or_error(&self) -> bool {
        matches!(self, Type::Dyn | Type::Error)
    }

    /// What an optional holds.
    pub fn unwrap_optional(&self) -> Option<&Type> {
        match self {
            Type::Opaque(name, Some(inner)) if **name == *OPTIONAL => Some(inner),
            _ => None,
        }
    }

    /// Numbers and the like, which have the size 1.
    pub fn is_scalar(&self) -> bool {
        match self {
            Type::Bool | Type::Double | Type::Duration | Type::Int | Type::Timestamp | Type::Uint => true,
            _ => self.unwrap_optional().is_some_and(Type::is_scalar),
        }
    }

    /// A list's element.
    pub fn element(&self) -> Option<&Type> {
        match self {
            Type::List(element) => Some(element),
            _ => None,
        }
    }

    /// Reads a type as the table of functions writes it.
    pub(crate) fn parse(text: &str) -> Option<Type> {
        let text = text.trim();
        if let Some((_, simple)) = SIMPLE.iter().find(|(name, _)| *name == text) {
            return Some(simple.clone());
        }
        if text.len() == 1 {
            return Some(Type::Param(text.as_bytes()[0].wrapping_sub(b'A')));
        }
        if let Some((name, inner)) = text.strip_suffix(')').and_then(|text| text.split_once('(')) {
            return match name {
                "list" => Type::parse(inner).map(Type::list),
                "type" => Type::parse(inner).map(Type::of),
                OPTIONAL => Type::parse(inner).map(Type::optional),
                "map" => {
                    let (key, value) = inner.split_once(", ")?;
                    Some(Type::map(Type::parse(key)?, Type::parse(value)?))
                }
                _ => None,
            };
        }
        Some(if text.starts_with("net.") { Type::Opaque(text.into(), None) } else { Type::structure(text) })
    }

    /// What a value's type is called at run time: `type(x)` prints it.
    pub fn runtime_name(&self) -> String {
        match self {
            Type::Duration => "google.protobuf.Duration".to_owned(),
            Type::Timestamp => "google.protobuf.Timestamp".to_owned(),
            Type::Null => "null_type".to_owned(),
            Type::List(_) => "list".to_owned(),
            Type::Map(_) => "map".to_owned(),
            Type::Type(_) => "type".to_owned(),
            Type::Opaque(name, _) => name.to_string(),
            other => other.to_string(),
        }
    }

    /// The type that an identifier names.
    pub(crate) fn by_name(name: &str) -> Option<Type> {
        Some(match name {
            "list" => Type::list(Type::Dyn),
            "map" => Type::map(Type::Dyn, Type::Dyn),
            "null_type" => Type::Null,
            "type" => Type::Type(None),
            "google.protobuf.Duration" => Type::Duration,
            "google.protobuf.Timestamp" => Type::Timestamp,
            OPTIONAL => Type::Opaque(OPTIONAL.into(), None),
            "net.IP" | "net.CIDR" => Type::Opaque(name.into(), None),
            "bool" | "bytes" | "double" | "int" | "string" | "uint" => {
                return SIMPLE.iter().find(|(it, _)| *it == name).map(|(_, it)| it.clone());
            }
            _ => return None,
        })
    }
}

impl fmt::Display for Type {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some((name, _)) = SIMPLE.iter().find(|(_, it)| it == self) {
            return out.write_str(name);
        }
        match self {
            Type::Error => out.write_str("!error!"),
            Type::List(element) => write!(out, "list({element})"),
            Type::Map(pair) => write!(out, "map({}, {})", pair.0, pair.1),
            Type::Struct(name) | Type::Opaque(name, None) => out.write_str(name),
            Type::Opaque(name, Some(inner)) => write!(out, "{name}({inner})"),
            Type::Param(letter) => write!(out, "{}", char::from(b'A' + letter)),
            Type::Variable(number) => write!(out, "_var{number}"),
            Type::Type(None) => out.write_str("type"),
            Type::Type(Some(inner)) => write!(out, "type({inner})"),
            _ => Ok(()),
        }
    }
}
