//! Values at run time. Data stays the JSON it is: a list or an object is a view on it through its declaration, and
//! only what an expression touches is converted.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;
use std::ops::Deref;
use std::sync::Arc;

use apimachinery::quantity::Quantity;
use serde_json::Value as Json;

use crate::decl_type::{DeclType, Kind};
use crate::error::Error;
use crate::library::{authz, format::NamedFormat, ip, semver, url};
use crate::time::Time;

pub type Result<T> = std::result::Result<T, Error>;

/// Items of the longest list that is made, where a request holds a million and a half at most.
pub(crate) const LONGEST: usize = 2_000_000;
/// Bytes of a value in a message.
const SHOWN: usize = 64 << 10;
/// Parts of a value that is made JSON.
const PARTS: u32 = 2_000_000;

/// Text, of the data or made by the expression.
#[derive(Clone)]
pub enum Text<'a> {
    Borrowed(&'a str),
    Shared(Arc<str>),
}

impl Deref for Text<'_> {
    type Target = str;
    fn deref(&self) -> &str {
        match self {
            Text::Borrowed(text) => text,
            Text::Shared(text) => text,
        }
    }
}

impl fmt::Debug for Text<'_> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(out)
    }
}

/// Values that the caller works out when they are asked for: the `variables` of a policy.
pub trait Lookup: Sync {
    /// The value of a field; none if there is no such field.
    fn get(&self, name: &str) -> Option<Result<Value<'_>>>;
    /// The fields that there are.
    fn names(&self) -> Vec<&str>;
}

/// An object that an expression constructed: `Object{…}`, `JSONPatch{…}`.
#[derive(Debug)]
pub struct Constructed<'a> {
    pub name: Arc<str>,
    pub fields: BTreeMap<Arc<str>, Value<'a>>,
}

#[derive(Clone)]
pub enum Value<'a> {
    Null,
    Bool(bool),
    Int(i64),
    Uint(u64),
    Double(f64),
    String(Text<'a>),
    Bytes(Arc<[u8]>),
    /// In nanoseconds.
    Duration(i64),
    Timestamp(Time),
    List(List<'a>),
    Map(Map<'a>),
    /// A type, by its name at run time.
    Type(Arc<str>),
    Optional(Option<Arc<Value<'a>>>),
    Quantity(Arc<Quantity>),
    Url(Arc<url::Url>),
    Ip(std::net::IpAddr),
    Cidr(ip::Cidr),
    Semver(Arc<semver::Version>),
    Format(&'static NamedFormat),
    Authz(authz::Subject<'a>),
    Constructed(Arc<Constructed<'a>>),
    /// Data without a declared type: good for comparing only.
    Preserved(&'a Json),
}

impl fmt::Debug for Value<'_> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.show())
    }
}

#[derive(Clone)]
pub enum List<'a> {
    Json {
        items: &'a [Json],
        declared: Option<&'a DeclType>,
    },
    Owned {
        items: Arc<Vec<Value<'a>>>,
        declared: Option<&'a DeclType>,
    },
    /// One after the other, as deep as the expression adds.
    Joined {
        parts: Arc<(List<'a>, List<'a>)>,
        length: usize,
    },
}

#[derive(Clone)]
pub enum Map<'a> {
    Json { object: &'a serde_json::Map<String, Json>, declared: Option<&'a DeclType> },
    Owned(Arc<Entries<'a>>),
    Lazy(&'a dyn Lookup),
}

/// A map made by the expression: the key to look up by, and the key and value themselves.
pub type Entries<'a> = BTreeMap<Key<'a>, (Value<'a>, Value<'a>)>;

/// What a map is looked up by: numbers of different types are one key if they are equal.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Key<'a> {
    Bool(bool),
    Number(i128),
    /// The bits of a number that is no integer.
    Fraction(u64),
    String(Cow<'a, str>),
    /// Anything else, as text.
    Other(String),
}

impl<'a> Value<'a> {
    pub fn string(text: impl AsRef<str>) -> Value<'a> {
        Value::String(Text::Shared(text.as_ref().into()))
    }

    pub fn list(items: Vec<Value<'a>>) -> Value<'a> {
        Value::List(List::Owned { items: Arc::new(items), declared: None })
    }

    pub fn strings(items: impl IntoIterator<Item = String>) -> Value<'a> {
        Value::list(items.into_iter().map(Value::string).collect())
    }

    pub fn some(value: Value<'a>) -> Value<'a> {
        Value::Optional(Some(Arc::new(value)))
    }

    pub fn map(entries: impl IntoIterator<Item = (Value<'a>, Value<'a>)>) -> Value<'a> {
        let entries = entries.into_iter().map(|(key, value)| (key.key(), (key, value))).collect();
        Value::Map(Map::Owned(Arc::new(entries)))
    }

    /// JSON without a declaration: integers are `int`, other numbers `double`.
    pub fn json(json: &'a Json) -> Value<'a> {
        match json {
            Json::Null => Value::Null,
            Json::Bool(it) => Value::Bool(*it),
            Json::Number(it) => match it.as_i64() {
                Some(it) => Value::Int(it),
                None => Value::Double(it.as_f64().unwrap_or(f64::NAN)),
            },
            Json::String(it) => Value::String(Text::Borrowed(it)),
            Json::Array(items) => Value::List(List::Json { items, declared: None }),
            Json::Object(object) => Value::Map(Map::Json { object, declared: None }),
        }
    }

    /// JSON as its declaration has it.
    ///
    /// # Errors
    /// Data that does not fit the declaration.
    pub fn declared(json: &'a Json, declared: &'a DeclType) -> Result<Value<'a>> {
        crate::view::declared(json, declared)
    }

    pub fn as_str(&self) -> Option<&str> {
        match self {
            Value::String(text) => Some(text),
            _ => None,
        }
    }

    pub fn as_bool(&self) -> Option<bool> {
        match self {
            Value::Bool(it) => Some(*it),
            _ => None,
        }
    }

    pub fn as_int(&self) -> Option<i64> {
        match self {
            Value::Int(it) => Some(*it),
            _ => None,
        }
    }

    pub fn key(&self) -> Key<'a> {
        match self {
            Value::Bool(it) => Key::Bool(*it),
            Value::Int(it) => Key::Number((*it).into()),
            Value::Uint(it) => Key::Number((*it).into()),
            Value::Double(it) if it.fract() == 0.0 && it.abs() < 2e19 => Key::Number(*it as i128),
            Value::Double(it) => Key::Fraction(it.to_bits()),
            Value::String(Text::Borrowed(text)) => Key::String(Cow::Borrowed(text)),
            Value::String(Text::Shared(text)) => Key::String(Cow::Owned(text.to_string())),
            other => Key::Other(other.show()),
        }
    }

    /// The name of the value's type, as `type(x)` gives it.
    pub fn type_name(&self) -> &str {
        match self {
            Value::Null => "null_type",
            Value::Bool(_) => "bool",
            Value::Int(_) => "int",
            Value::Uint(_) => "uint",
            Value::Double(_) => "double",
            Value::String(_) => "string",
            Value::Bytes(_) => "bytes",
            Value::Duration(_) => "google.protobuf.Duration",
            Value::Timestamp(_) => "google.protobuf.Timestamp",
            Value::List(_) => "list",
            Value::Map(_) => "map",
            Value::Type(_) => "type",
            Value::Optional(_) => crate::types::OPTIONAL,
            Value::Quantity(_) => "kubernetes.Quantity",
            Value::Url(_) => "kubernetes.URL",
            Value::Ip(_) => "net.IP",
            Value::Cidr(_) => "net.CIDR",
            Value::Semver(_) => "kubernetes.Semver",
            Value::Format(_) => "kubernetes.NamedFormat",
            Value::Authz(it) => it.type_name(),
            Value::Constructed(it) => &it.name,
            Value::Preserved(_) => "unknown",
        }
    }

    /// How large the value is to the cost rules: characters, bytes, items or entries; 1 for the rest.
    pub fn size(&self) -> u64 {
        match self {
            Value::String(text) => text.chars().count() as u64,
            Value::Bytes(bytes) => bytes.len() as u64,
            Value::List(list) => list.len() as u64,
            Value::Map(map) => map.len() as u64,
            Value::Ip(std::net::IpAddr::V4(_)) => 4,
            Value::Ip(std::net::IpAddr::V6(_)) => 16,
            Value::Cidr(cidr) => u64::from(cidr.bits).div_ceil(8),
            _ => 1,
        }
    }

    /// Whether `optional.ofNonZeroValue` takes it for nothing. Declared data is always something.
    pub(crate) fn is_zero(&self) -> bool {
        match self {
            Value::Null => true,
            Value::Bool(it) => !it,
            Value::Int(it) => *it == 0,
            Value::Uint(it) => *it == 0,
            Value::Double(it) => *it == 0.0,
            Value::String(it) => it.is_empty(),
            Value::Bytes(it) => it.is_empty(),
            Value::Duration(it) => *it == 0,
            Value::Timestamp(it) => it.is_zero(),
            Value::List(List::Json { items, declared: None }) => items.is_empty(),
            Value::List(List::Owned { items, declared: None }) => items.is_empty(),
            Value::Map(Map::Json { object, declared: None }) => object.is_empty(),
            Value::Map(Map::Owned(entries)) => entries.is_empty(),
            Value::Constructed(it) => it.fields.is_empty(),
            _ => false,
        }
    }

    /// The value for messages, as `%v` would print it.
    pub fn show(&self) -> String {
        match self {
            Value::Null => "null".to_owned(),
            Value::Bool(it) => it.to_string(),
            Value::Int(it) => it.to_string(),
            Value::Uint(it) => it.to_string(),
            Value::Double(it) => crate::numbers::go_float(*it, 21),
            Value::String(text) => text.to_string(),
            Value::Bytes(bytes) => format!("{bytes:?}").replace(',', ""),
            Value::Duration(nanos) => apimachinery::time::format_duration(*nanos),
            Value::Timestamp(time) => time.to_string(),
            Value::List(_) | Value::Map(_) | Value::Optional(Some(_)) => {
                let mut out = String::new();
                self.show_into(&mut out);
                out
            }
            Value::Type(name) => name.to_string(),
            Value::Optional(None) => "optional.none()".to_owned(),
            Value::Quantity(it) => it.canonical(),
            Value::Url(it) => it.to_string(),
            Value::Ip(it) => it.to_string(),
            Value::Cidr(it) => it.to_string(),
            Value::Semver(it) => it.to_string(),
            Value::Format(it) => it.name.to_owned(),
            Value::Preserved(json) => json.to_string(),
            Value::Authz(_) | Value::Constructed(_) => self.type_name().to_owned(),
        }
    }

    /// Stops when there is enough: values can hold the same list many times over.
    fn show_into(&self, out: &mut String) {
        if out.len() > SHOWN {
            return;
        }
        match self {
            Value::List(list) => {
                out.push('[');
                for (index, item) in list.iter().enumerate().take(SHOWN) {
                    if index > 0 {
                        out.push_str(", ");
                    }
                    match item {
                        Ok(item) => item.show_into(out),
                        Err(error) => out.push_str(&error.to_string()),
                    }
                }
                out.push(']');
            }
            Value::Map(map) => {
                out.push('{');
                for (index, key) in map.keys().iter().enumerate().take(SHOWN) {
                    if index > 0 {
                        out.push_str(", ");
                    }
                    key.show_into(out);
                    out.push_str(": ");
                    if let Ok(Some(value)) = map.find(key) {
                        value.show_into(out);
                    }
                }
                out.push('}');
            }
            Value::Optional(Some(inner)) => {
                out.push_str("optional(");
                inner.show_into(out);
                out.push(')');
            }
            other => out.push_str(&other.show()),
        }
    }

    /// The value as JSON, for patches and messages to be made of.
    ///
    /// # Errors
    /// A map with keys that are no strings, a number that JSON cannot write, a value of a library's type; a value too
    /// large.
    pub fn to_json(&self) -> Result<Json> {
        let mut left = PARTS;
        self.json_within(&mut left)
    }

    fn json_within(&self, left: &mut u32) -> Result<Json> {
        *left = left.checked_sub(1).ok_or(Error::CostExceeded)?;
        Ok(match self {
            Value::Null => Json::Null,
            Value::Bool(it) => Json::Bool(*it),
            Value::Int(it) => (*it).into(),
            Value::Uint(it) => (*it).into(),
            Value::Double(it) => serde_json::Number::from_f64(*it)
                .map(Json::Number)
                .ok_or_else(|| Error::new("unsupported number"))?,
            Value::String(text) => Json::String(text.to_string()),
            Value::Bytes(bytes) => Json::String(crate::library::text::base64(bytes)),
            Value::Duration(_) | Value::Timestamp(_) => {
                Json::String(crate::library::convert::to_string(self)?.to_string())
            }
            Value::List(List::Json { items, .. }) => Json::Array(items.to_vec()),
            Value::List(list) => {
                Json::Array(list.iter().map(|it| it?.json_within(left)).collect::<Result<_>>()?)
            }
            Value::Map(Map::Json { object, .. }) => Json::Object((*object).clone()),
            Value::Map(map) => {
                let mut object = serde_json::Map::new();
                for key in map.keys() {
                    let Value::String(name) = &key else {
                        return Err(Error::new(format!(
                            "map key {:?} is of type {}, not string",
                            key.show(),
                            key.type_name()
                        )));
                    };
                    if let Some(value) = map.find(&key)? {
                        object.insert(name.to_string(), value.json_within(left)?);
                    }
                }
                Json::Object(object)
            }
            Value::Constructed(it) => {
                let fields =
                    it.fields.iter().map(|(name, value)| Ok((name.to_string(), value.json_within(left)?)));
                Json::Object(fields.collect::<Result<_>>()?)
            }
            Value::Optional(Some(inner)) => inner.json_within(left)?,
            Value::Preserved(json) => (*json).clone(),
            other => {
                return Err(Error::new(format!("unsupported conversion from {} to JSON", other.type_name())));
            }
        })
    }
}

impl<'a> List<'a> {
    pub fn len(&self) -> usize {
        match self {
            List::Json { items, .. } => items.len(),
            List::Owned { items, .. } => items.len(),
            List::Joined { length, .. } => *length,
        }
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub fn declared(&self) -> Option<&'a DeclType> {
        match self {
            List::Json { declared, .. } | List::Owned { declared, .. } => *declared,
            List::Joined { .. } => None,
        }
    }

    /// The item at an index that exists.
    pub fn at(&self, index: usize) -> Result<Value<'a>> {
        match self {
            List::Json { items, declared } => match items.get(index) {
                None => Err(Error::new(format!("index out of bounds: {index}"))),
                Some(item) => match declared.map(|it| &it.kind) {
                    Some(Kind::List { element, .. }) => Value::declared(item, element),
                    _ => Ok(Value::json(item)),
                },
            },
            List::Owned { items, .. } => {
                items.get(index).cloned().ok_or_else(|| Error::new(format!("index out of bounds: {index}")))
            }
            List::Joined { parts, .. } => match index.checked_sub(parts.0.len()) {
                None => parts.0.at(index),
                Some(index) => parts.1.at(index),
            },
        }
    }

    pub fn iter(&self) -> impl Iterator<Item = Result<Value<'a>>> + '_ {
        (0..self.len()).map(|index| self.at(index))
    }

    /// All items.
    ///
    /// # Errors
    /// Data that does not fit its declaration; more items than can be held.
    pub fn to_vec(&self) -> Result<Vec<Value<'a>>> {
        if self.len() > LONGEST {
            return Err(Error::CostExceeded);
        }
        self.iter().collect()
    }

    /// The item that an index value means, or none past the ends.
    pub fn index(&self, index: &Value<'_>) -> Result<Option<Value<'a>>> {
        let unsupported = || Error::new(format!("unsupported index value {} in list", index.show()));
        let at = match index {
            Value::Int(it) => *it,
            Value::Uint(it) => i64::try_from(*it).map_err(|_| unsupported())?,
            Value::Double(it) if it.fract() == 0.0 && it.abs() < 9.2e18 => *it as i64,
            Value::Double(_) => return Err(unsupported()),
            other => {
                return Err(Error::new(format!("unsupported index type '{}' in list", other.type_name())));
            }
        };
        match usize::try_from(at) {
            Ok(at) if at < self.len() => self.at(at).map(Some),
            _ => Ok(None),
        }
    }
}

impl<'a> Map<'a> {
    pub fn len(&self) -> usize {
        match self {
            Map::Json { object, .. } => object.len(),
            Map::Owned(entries) => entries.len(),
            Map::Lazy(lookup) => lookup.names().len(),
        }
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The keys, in order.
    pub fn keys(&self) -> Vec<Value<'a>> {
        match self {
            Map::Json { object, declared: None } => {
                object.keys().map(|key| Value::String(Text::Borrowed(key))).collect()
            }
            Map::Json { object, declared: Some(declared) } => crate::view::keys(object, declared),
            Map::Owned(entries) => entries.values().map(|(key, _)| key.clone()).collect(),
            Map::Lazy(lookup) => lookup.names().into_iter().map(Value::string).collect(),
        }
    }

    /// The value of a key.
    ///
    /// # Errors
    /// Data that does not fit its declaration; a key that is no string where only strings are.
    pub fn find(&self, key: &Value<'_>) -> Result<Option<Value<'a>>> {
        match (self, key) {
            (Map::Owned(entries), _) => Ok(entries.get(&key.key()).map(|(_, value)| value.clone())),
            (_, Value::String(name)) => self.field(name),
            (Map::Json { declared: Some(_), .. }, _) => Err(Error::no_such_overload()),
            _ => Ok(None),
        }
    }

    /// The value of a key that is a string; identifiers of declared objects are unescaped.
    pub fn field(&self, name: &str) -> Result<Option<Value<'a>>> {
        match self {
            Map::Json { object, declared: None } => Ok(object.get(name).map(Value::json)),
            Map::Json { object, declared: Some(declared) } => crate::view::field(object, declared, name),
            Map::Owned(entries) => {
                let key = Key::String(Cow::Borrowed(name));
                Ok(entries.get(&key).map(|(_, value)| value.clone()))
            }
            Map::Lazy(lookup) => lookup.get(name).transpose(),
        }
    }
}
