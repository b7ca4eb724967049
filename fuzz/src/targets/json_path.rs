//! Paths of printer columns and selectable fields, on the first line; on a second one what they lead through, in JSON.

use apimachinery::jsonpath::JsonPath;
use serde_json::Value;

use super::first_line;
use crate::{bounded, is_large};

pub fn run(bytes: &[u8]) {
    let (path, object) = first_line(bytes);
    let text = String::from_utf8_lossy(path);
    let Ok(path) = bounded(|| JsonPath::parse(&text)) else { return };
    let braced = format!("{{{}}}", text.trim().trim_start_matches('{').trim_end_matches('}'));
    if let Ok(again) = JsonPath::parse(&braced) {
        let plain = braced.trim_start_matches('{').trim_end_matches('}');
        assert_eq!(JsonPath::parse(plain).as_ref(), Ok(&again), "{text:?} with and without braces");
    }
    if is_large(bytes) {
        return;
    }
    let Ok(object) = serde_json::from_slice::<Value>(object) else { return };
    let found = path.find(&object);
    assert_eq!(found, path.find(&object), "{text:?} twice");
    assert!(
        path.find(&Value::Null).iter().all(|value| value.is_null()),
        "{text:?} finds something in nothing"
    );
}
