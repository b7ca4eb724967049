//! YAML: of no type, and of the type that it names.

use apimachinery::codec::{json, yaml};

use super::{Kind, same};
use crate::{bounded, is_large};

pub fn run(bytes: &[u8]) {
    let Ok((value, _)) = bounded(|| yaml::parse(bytes)) else { return };
    if is_large(bytes) {
        let _ = bounded(|| yaml::decode(api::schema(), Kind::of_value(&value).ty, bytes));
        return;
    }
    let text = yaml::to_string(&value);
    let (again, duplicate) = yaml::parse(text.as_bytes()).unwrap_or_else(|e| panic!("{e} in\n{text}"));
    assert!(same(&again, &value) && duplicate.is_none(), "{value} is written as\n{text}");

    let schema = api::schema();
    let ty = Kind::of_value(&value).ty;
    let Ok(decoded) = yaml::decode(schema, ty, bytes) else { return };
    let written = json::to_vec(schema, ty, &decoded.value);
    let read = json::decode(schema, ty, &written).expect("JSON that was written is read");
    assert!(same(&read.value, &decoded.value), "{} is in JSON and back {}", decoded.value, read.value);
    let written = yaml::to_string(&decoded.value);
    let read = yaml::decode(schema, ty, written.as_bytes()).expect("YAML that was written is read");
    assert!(same(&read.value, &decoded.value), "{} is in YAML and back {}", decoded.value, read.value);
}
