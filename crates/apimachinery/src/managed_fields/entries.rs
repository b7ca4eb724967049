//! `metadata.managedFields` in memory: who owns what.

use jiff::Timestamp;
use serde_json::{Map, Value};

use super::set::FieldSet;

/// How a manager writes. The order is that of the entries.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Operation {
    Apply,
    Update,
}

impl Operation {
    pub const fn text(self) -> &'static str {
        match self {
            Operation::Apply => "Apply",
            Operation::Update => "Update",
        }
    }
}

/// One manager and its fields.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    pub manager: String,
    pub operation: Operation,
    pub api_version: String,
    /// Empty for writes to the object itself.
    pub subresource: String,
    pub time: Option<Timestamp>,
    pub fields: FieldSet,
}

/// Why `managedFields` cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    #[error("operation must be `Apply` or `Update`")]
    Operation,
    #[error("apiVersion must not be empty")]
    ApiVersion,
    #[error("missing fieldsType in managed fields entry {0}")]
    NoFieldsType(usize),
    #[error("invalid fieldsType {1:?} in managed fields entry {0}")]
    FieldsType(usize, String),
    #[error("error decoding set of managed fields entry {0}")]
    Fields(usize),
}

impl Entry {
    /// Whether both are of one manager. An applier is the same one in every version of the API.
    pub fn same_manager(&self, other: &Entry) -> bool {
        self.manager == other.manager
            && self.operation == other.operation
            && self.subresource == other.subresource
            && (self.operation == Operation::Apply || self.api_version == other.api_version)
    }

    pub(super) fn seconds(&self) -> i64 {
        self.time.map_or(0, Timestamp::as_second)
    }

    pub(super) fn to_value(&self) -> Value {
        let mut map = Map::new();
        let mut put = |key: &str, text: &str| {
            if !text.is_empty() {
                map.insert(key.to_string(), Value::String(text.to_string()));
            }
        };
        put("manager", &self.manager);
        put("operation", self.operation.text());
        put("apiVersion", &self.api_version);
        if let Some(time) = self.time {
            put("time", &self::time(time));
        }
        put("fieldsType", "FieldsV1");
        put("subresource", &self.subresource);
        map.insert("fieldsV1".to_string(), Value::String(self.fields.to_text()));
        Value::Object(map)
    }
}

/// As Go writes a time.
pub(super) fn time(time: Timestamp) -> String {
    crate::time::format(time)
}

/// Whether entries are in order but for their fields.
pub(super) fn check(entries: &[Value]) -> Result<(), Error> {
    entries.iter().enumerate().try_for_each(|(at, value)| operation(at, value).map(|_| ()))
}

fn operation(at: usize, value: &Value) -> Result<Operation, Error> {
    let text = |key: &str| value[key].as_str().unwrap_or_default();
    let operation = match text("operation") {
        "Apply" => Operation::Apply,
        "Update" => Operation::Update,
        _ => return Err(Error::Operation),
    };
    if text("apiVersion").is_empty() {
        return Err(Error::ApiVersion);
    }
    match text("fieldsType") {
        "FieldsV1" => Ok(operation),
        "" => Err(Error::NoFieldsType(at)),
        other => Err(Error::FieldsType(at, other.to_string())),
    }
}

/// Reads the list; absent or null is an empty one. Of several entries of one manager the last counts.
pub fn decode(managed: Option<&Value>) -> Result<Vec<Entry>, Error> {
    let mut entries: Vec<Entry> = Vec::new();
    for (at, value) in managed.and_then(Value::as_array).into_iter().flatten().enumerate() {
        let text = |key: &str| value[key].as_str().unwrap_or_default();
        let operation = operation(at, value)?;
        let fields = match &value["fieldsV1"] {
            Value::Null => FieldSet::new(),
            Value::String(text) => FieldSet::from_json(text).ok_or(Error::Fields(at))?,
            tree => FieldSet::from_json(&tree.to_string()).ok_or(Error::Fields(at))?,
        };
        let entry = Entry {
            manager: text("manager").to_string(),
            operation,
            api_version: text("apiVersion").to_string(),
            subresource: text("subresource").to_string(),
            time: text("time").parse().ok(),
            fields,
        };
        match entries.iter_mut().find(|known| known.same_manager(&entry)) {
            Some(known) => *known = entry,
            None => entries.push(entry),
        }
    }
    Ok(entries)
}

/// The list in its canonical order: appliers first, older entries first. `None` if there is none.
pub fn encode(mut entries: Vec<Entry>) -> Option<Value> {
    entries.sort_by(|a, b| {
        (a.operation, a.seconds(), &a.manager, &a.api_version, &a.subresource).cmp(&(
            b.operation,
            b.seconds(),
            &b.manager,
            &b.api_version,
            &b.subresource,
        ))
    });
    (!entries.is_empty()).then(|| Value::Array(entries.iter().map(Entry::to_value).collect()))
}
