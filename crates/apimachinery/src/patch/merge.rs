//! RFC 7386: the patch is laid over the object, null removes.
//!
//! As upstream's library does it, null values go from everything the patch brings in anew, objects within
//! new lists included.

use serde_json::{Map, Value};

use super::Error;
use crate::codec;

/// Reads the patch from the request's body and applies it.
pub fn apply_bytes(object: Value, body: &[u8]) -> Result<Value, Error> {
    let bad = || Error::BadRequest("Invalid JSON Patch".into());
    let (patch, _) = codec::json::parse(body).map_err(|_| bad())?;
    apply(object, patch)
}

/// Lays an object over the object. A list replaces the whole; anything else is no patch.
pub fn apply(mut object: Value, patch: Value) -> Result<Value, Error> {
    match (&mut object, patch) {
        (Value::Object(object), Value::Object(patch)) => merge_maps(object, patch),
        (_, mut patch @ (Value::Object(_) | Value::Array(_))) => {
            prune(&mut patch);
            return Ok(patch);
        }
        _ => return Err(Error::BadRequest("Invalid JSON Patch".into())),
    }
    Ok(object)
}

fn merge_maps(object: &mut Map<String, Value>, patch: Map<String, Value>) {
    for (key, mut value) in patch {
        if value.is_null() {
            object.remove(&key);
            continue;
        }
        match (object.get_mut(&key), value) {
            (Some(Value::Object(old)), Value::Object(new)) => merge_maps(old, new),
            (_, new) => {
                value = new;
                prune(&mut value);
                object.insert(key, value);
            }
        }
    }
}

fn prune(value: &mut Value) {
    match value {
        Value::Object(map) => {
            map.retain(|_, value| !value.is_null());
            map.values_mut().for_each(prune);
        }
        Value::Array(list) => list.iter_mut().for_each(prune),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn merging() {
        let check = |object: Value, patch: Value, expect: Value| {
            assert_eq!(apply(object, patch.clone()).unwrap(), expect, "{patch}");
        };
        check(json!({"a": 1, "b": 2}), json!({"a": null, "c": 3}), json!({"b": 2, "c": 3}));
        check(json!({"a": {"b": 1, "c": 2}}), json!({"a": {"b": null}}), json!({"a": {"c": 2}}));
        check(json!({"a": [1, 2]}), json!({"a": [3]}), json!({"a": [3]}));
        check(json!({"a": 1}), json!({"a": {"b": null, "c": 1}}), json!({"a": {"c": 1}}));
        check(json!({}), json!({"a": {"b": {"c": null}}}), json!({"a": {"b": {}}}));
        check(json!({}), json!({"a": [{"b": null}, null]}), json!({"a": [{}, null]}));
        check(json!({"a": null}), json!({"a": {"b": 1}}), json!({"a": {"b": 1}}));
        assert_eq!(apply(json!({}), json!("x")), Err(Error::BadRequest("Invalid JSON Patch".into())));
        assert_eq!(apply_bytes(json!({}), b"{"), Err(Error::BadRequest("Invalid JSON Patch".into())));
    }
}
