//! The scale subresource of a custom resource: where it keeps its replicas (upstream's `scaleFromCustomResource`).

use apimachinery::{
    field::{Error, ErrorList, Path},
    status::Status,
};
use serde_json::{Map, Value};

/// `subresources.scale`, each path as the names on it.
#[derive(Debug, PartialEq)]
pub struct Paths {
    spec: Box<str>,
    status: Box<str>,
    selector: Option<Box<str>>,
}

impl Paths {
    pub(super) fn new(scale: &Value) -> Option<Paths> {
        let text = |field: &str| scale[field].as_str().filter(|text| !text.is_empty()).map(Box::from);
        Some(Paths {
            spec: text("specReplicasPath")?,
            status: text("statusReplicasPath")?,
            selector: text("labelSelectorPath"),
        })
    }

    /// Replicas wanted, replicas there, and the selector of what is counted.
    ///
    /// # Errors
    /// 500 when the object does not say how many are wanted.
    pub fn read(&self, object: &Value) -> Result<(i64, i64, String), Status> {
        let wanted = find(object, &self.spec).and_then(Value::as_i64);
        let wanted = wanted.ok_or_else(|| {
            Status::internal(format_args!("the spec replicas field {:?} does not exist", self.spec))
        })?;
        let there = find(object, &self.status).and_then(Value::as_i64).unwrap_or(0);
        let selector = self.selector.as_deref().and_then(|path| find(object, path)?.as_str());
        Ok((wanted, there, selector.unwrap_or_default().to_owned()))
    }

    /// Sets the replicas wanted.
    pub fn write(&self, object: &mut Value, replicas: i64) {
        let mut at = object;
        for name in names(&self.spec) {
            if !at.is_object() {
                *at = Value::Object(Map::new());
            }
            let Some(fields) = at.as_object_mut() else { return };
            at = fields.entry(name).or_insert(Value::Null);
        }
        *at = replicas.into();
    }

    /// What is wrong with the numbers of an object; of the wanted ones only if `spec`.
    pub fn faults(&self, object: &Value, spec: bool, errors: &mut ErrorList) {
        if spec {
            replicas(object, &self.spec, errors);
        }
        replicas(object, &self.status, errors);
        if let Some(path) = &self.selector
            && let Some(other) = find(object, path).filter(|value| !value.is_string())
        {
            let why = format!("{path} accessor error: {other} is of the wrong type, expected string");
            errors.push(Error::invalid(&Path::new(path), "", why));
        }
    }
}

fn replicas(object: &Value, path: &str, errors: &mut ErrorList) {
    let Some(value) = find(object, path) else { return };
    let at = Path::new(path);
    match value.as_i64() {
        None => {
            let why = format!("{path} accessor error: {value} is of the wrong type, expected int64");
            errors.push(Error::invalid(&at, 0, why));
        }
        Some(number) if number < 0 => {
            errors.push(Error::invalid(&at, number, "should be a non-negative integer"));
        }
        Some(number) if number > i64::from(i32::MAX) => {
            let why = format!("should be less than or equal to {}", i32::MAX);
            errors.push(Error::invalid(&at, number, why));
        }
        Some(_) => {}
    }
}

fn names(path: &str) -> impl Iterator<Item = &str> {
    path.trim_start_matches('.').split('.')
}

fn find<'v>(object: &'v Value, path: &str) -> Option<&'v Value> {
    names(path).try_fold(object, |value, name| value.get(name))
}
