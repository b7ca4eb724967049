//! RFC 6902: a list of operations.
//!
//! Own code and no library, because clients have come to rely on how upstream's one (evanphx/json-patch v4)
//! differs from the standard: negative indices count from the end, `replace` of an absent key adds it, a
//! `test` against null holds for an absent key, text before the first slash of a path is ignored.

use serde_json::{Map, Value};

use super::Error;
use crate::codec::{self, MAX_DEPTH};
use crate::field::quote;

/// How many operations one patch may have.
pub const MAX_OPERATIONS: usize = 10_000;
/// How many bytes of JSON the copy operations of one patch may add.
const MAX_COPIED: usize = 3 * 1024 * 1024;
/// How many bytes of memory they may take: empty objects weigh far more than their text.
const MAX_HELD: usize = 32 << 20;
/// How many values one patch may shift within lists, copy and walk over. It takes well below a second.
const MAX_WORK: usize = 50_000_000;

/// A patch that has been read but not checked against any object.
#[derive(Clone, Debug)]
pub struct Patch {
    operations: Vec<Value>,
}

impl Patch {
    /// From the request's body.
    pub fn parse(body: &[u8]) -> Result<Patch, Error> {
        let (value, _) = codec::json::parse(body).map_err(|e| Error::BadRequest(e.to_string()))?;
        Patch::from_value(value)
    }

    /// From a value.
    pub fn from_value(value: Value) -> Result<Patch, Error> {
        let wrong = |what: &str, into: &str| {
            Error::BadRequest(format!("json: cannot unmarshal {what} into Go value of type jsonpatch.{into}"))
        };
        let operations = match value {
            Value::Array(operations) => operations,
            Value::Null => Vec::new(),
            other => return Err(wrong(go_name(&other), "Patch")),
        };
        if let Some(other) = operations.iter().find(|o| !o.is_object() && !o.is_null()) {
            return Err(wrong(go_name(other), "Operation"));
        }
        if operations.len() > MAX_OPERATIONS {
            return Err(Error::TooLarge(format!(
                "The allowed maximum operations in a JSON patch is {MAX_OPERATIONS}, got {}",
                operations.len()
            )));
        }
        Ok(Patch { operations })
    }

    /// What strict field validation has to say about the operations themselves.
    pub fn unknown_fields(&self) -> Vec<String> {
        let mut errors = Vec::new();
        for (i, operation) in self.operations.iter().enumerate() {
            for key in operation.as_object().into_iter().flat_map(Map::keys) {
                if !["op", "path", "from", "value"].contains(&key.as_str()) {
                    errors.push(format!("json patch unknown field {}", quote(&format!("[{i}].{key}"))));
                }
            }
        }
        errors
    }

    /// Carries out the operations in order. If one fails, none has happened.
    pub fn apply(&self, mut object: Value) -> Result<Value, Error> {
        let mut account = Account { depth: Size::of(&object).depth, ..Account::default() };
        for operation in &self.operations {
            apply(&mut object, operation, &mut account).map_err(Error::Unprocessable)?;
            account.settle(&object).map_err(Error::Unprocessable)?;
        }
        Ok(object)
    }
}

/// What a patch has cost so far. A few operations could otherwise make an object so deep that whoever walks it runs
/// out of stack, or so large that it fills the memory, or keep a processor busy for minutes.
#[derive(Default)]
struct Account {
    /// Bytes of JSON that were copied, and of memory that they take.
    copied: usize,
    held: usize,
    work: usize,
    /// No value of the object is deeper than this.
    depth: usize,
}

impl Account {
    fn work(&mut self, values: usize) -> Result<(), String> {
        self.work = self.work.saturating_add(values);
        if self.work > MAX_WORK {
            return Err(format!("the operations move more than {MAX_WORK} values"));
        }
        Ok(())
    }

    fn copy(&mut self, value: &Value) -> Result<(), String> {
        let size = Size::of(value);
        self.copied += value.to_string().len();
        self.held += size.held;
        if self.copied > MAX_COPIED || self.held > MAX_HELD {
            return Err(format!(
                "Unable to complete the copy, the accumulated size increase of copy is {}, exceeding the limit \
                 {MAX_COPIED}",
                self.copied
            ));
        }
        self.work(size.values)
    }

    /// Something of this depth now stands at the path.
    fn put(&mut self, path: &str, depth: usize) {
        self.depth = self.depth.max(parts(path) + depth);
    }

    /// After an operation. Only a patch that may have gone too deep has its object measured again.
    fn settle(&mut self, object: &Value) -> Result<(), String> {
        if self.depth > MAX_DEPTH {
            let size = Size::of(object);
            self.work(size.values)?;
            self.depth = size.depth;
        }
        if self.depth > MAX_DEPTH { Err("exceeded max depth".into()) } else { Ok(()) }
    }
}

/// How large a value is.
#[derive(Default)]
struct Size {
    values: usize,
    depth: usize,
    /// Bytes of memory, about.
    held: usize,
}

impl Size {
    fn of(value: &Value) -> Size {
        let mut size = Size { values: 1, depth: 0, held: size_of::<Value>() };
        let mut inner = |value: &Value| {
            let inner = Size::of(value);
            size.values += inner.values;
            size.held += inner.held;
            size.depth = size.depth.max(inner.depth);
        };
        match value {
            Value::Array(list) => list.iter().for_each(&mut inner),
            Value::Object(map) => map.values().for_each(&mut inner),
            _ => {}
        }
        match value {
            Value::Array(_) => size.depth += 1,
            Value::Object(map) => {
                // a node of the tree has room for eleven entries, and is half full at least
                let entry = size_of::<String>() + size_of::<Value>();
                size.held += 11 * entry * map.len().div_ceil(6);
                size.held += map.keys().map(String::len).sum::<usize>();
                size.depth += 1;
            }
            Value::String(text) => size.held += text.len(),
            _ => {}
        }
        size
    }
}

/// How deep a path leads.
fn parts(path: &str) -> usize {
    path.bytes().filter(|b| *b == b'/').count()
}

fn go_name(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "bool",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}

fn apply(object: &mut Value, operation: &Value, account: &mut Account) -> Result<(), String> {
    let text = |name: &str| {
        operation[name].as_str().ok_or_else(|| format!("operation missing {name} field: missing value"))
    };
    let value = || operation.get("value").cloned().unwrap_or_default();
    match operation["op"].as_str().unwrap_or("unknown") {
        "add" => {
            let path = text("path")?;
            let (container, key) = find(object, path)?;
            let value = value();
            account.put(path, Size::of(&value).depth);
            add(container, &key, value, account)
        }
        "remove" => {
            let path = text("path")?;
            let (container, key) = find(object, path)?;
            remove(container, &key, account).map(|_| ())
        }
        "replace" => {
            let path = text("path")?;
            if path.is_empty() {
                *object = match value() {
                    value @ (Value::Array(_) | Value::Object(_)) => value,
                    _ => return Err("replace operation value must be object or array".into()),
                };
                account.put(path, Size::of(object).depth);
                return Ok(());
            }
            let (container, key) = find(object, path)?;
            let value = value();
            account.put(path, Size::of(&value).depth);
            match container {
                Value::Array(list) => {
                    let at = index(&key, list.len())?;
                    list[at] = value;
                }
                Value::Object(map) => {
                    map.insert(key, value);
                }
                _ => return Err(missing(path)),
            }
            Ok(())
        }
        "move" => {
            let (from, path) = (text("from")?, text("path")?);
            let (container, key) = find(object, from)?;
            let value = remove(container, &key, account)?;
            account.put(path, account.depth.saturating_sub(parts(from)));
            let (container, key) = find(object, path)?;
            add(container, &key, value, account)
        }
        "copy" => {
            let (from, path) = (text("from")?, text("path")?);
            let (container, key) = find(object, from)?;
            let value = get(container, &key)?.unwrap_or(&Value::Null);
            account.copy(value)?;
            account.put(path, Size::of(value).depth);
            let value = value.clone();
            let (container, key) = find(object, path)?;
            add(container, &key, value, account)
        }
        "test" => {
            let path = text("path")?;
            let have = match path.is_empty() {
                true => Some(&*object),
                false => {
                    let (container, key) = find(object, path)?;
                    get(container, &key)?
                }
            };
            let same = have.unwrap_or(&Value::Null) == operation.get("value").unwrap_or(&Value::Null);
            same.then_some(()).ok_or_else(|| format!("testing value {path} failed: test failed"))
        }
        other => Err(format!("Unexpected kind: {other}")),
    }
}

fn missing(path: &str) -> String {
    format!("doc is missing path: {}: missing value", quote(path))
}

/// The container of what the path names, and its key there. The container is a list or an object.
fn find<'a>(object: &'a mut Value, path: &str) -> Result<(&'a mut Value, String), String> {
    let mut parts = path.split('/').skip(1).map(|part| part.replace("~1", "/").replace("~0", "~")).peekable();
    let mut at = object;
    while let Some(part) = parts.next() {
        if parts.peek().is_none() {
            let container = at.is_array() || at.is_object();
            return container.then_some((at, part)).ok_or_else(|| missing(path));
        }
        at = match at {
            Value::Object(map) => map.get_mut(&part).ok_or_else(|| missing(path))?,
            Value::Array(list) => {
                let at = index(&part, list.len()).map_err(|_| missing(path))?;
                &mut list[at]
            }
            _ => return Err(missing(path)),
        };
    }
    Err(missing(path))
}

/// A place in a list of this length; negative numbers count from the end.
fn index(key: &str, length: usize) -> Result<usize, String> {
    let number = parse(key)?;
    let at = if number < 0 { number + length as i64 } else { number };
    usize::try_from(at)
        .ok()
        .filter(|at| *at < length)
        .ok_or_else(|| format!("Unable to access invalid index: {number}: invalid index referenced"))
}

fn parse(key: &str) -> Result<i64, String> {
    key.parse::<i32>()
        .map(i64::from)
        .map_err(|_| format!("strconv.Atoi: parsing {}: invalid syntax", quote(key)))
}

fn get<'a>(container: &'a Value, key: &str) -> Result<Option<&'a Value>, String> {
    match container {
        Value::Array(list) => index(key, list.len()).map(|at| list.get(at)),
        other => Ok(other.get(key)),
    }
}

fn add(container: &mut Value, key: &str, value: Value, account: &mut Account) -> Result<(), String> {
    match container {
        Value::Array(list) if key == "-" => list.push(value),
        Value::Array(list) => {
            let at = index(key, list.len() + 1)?;
            account.work(list.len() - at)?;
            list.insert(at, value);
        }
        Value::Object(map) => {
            map.insert(key.to_string(), value);
        }
        _ => return Err(missing(key)),
    }
    Ok(())
}

fn remove(container: &mut Value, key: &str, account: &mut Account) -> Result<Value, String> {
    match container {
        Value::Array(list) => {
            let at = index(key, list.len())?;
            account.work(list.len() - at)?;
            Ok(list.remove(at))
        }
        Value::Object(map) => {
            map.remove(key).ok_or_else(|| format!("Unable to remove nonexistent key: {key}: missing value"))
        }
        _ => Err(missing(key)),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn operations() {
        let object = json!({"a": {"b": [1, 2, 3]}, "x/y": 1, "n": null});
        let check = |patch: Value, expect: Option<Value>| {
            let got = Patch::from_value(patch.clone()).unwrap().apply(object.clone());
            assert_eq!(got.as_ref().ok(), expect.as_ref(), "{patch} {got:?}");
        };
        let with = |a: Value| Some(json!({"a": a, "x/y": 1, "n": null}));
        check(json!([]), Some(object.clone()));
        check(json!([{"op": "add", "path": "/a/c", "value": 1}]), with(json!({"b": [1, 2, 3], "c": 1})));
        check(json!([{"op": "add", "path": "/a/b/0", "value": 0}]), with(json!({"b": [0, 1, 2, 3]})));
        check(json!([{"op": "add", "path": "/a/b/-", "value": 4}]), with(json!({"b": [1, 2, 3, 4]})));
        check(json!([{"op": "add", "path": "/a/b/3", "value": 4}]), with(json!({"b": [1, 2, 3, 4]})));
        check(json!([{"op": "add", "path": "/a/b/5", "value": 4}]), None);
        check(json!([{"op": "add", "path": "/z/b", "value": 4}]), None);
        check(json!([{"op": "remove", "path": "/a/b/-1"}]), with(json!({"b": [1, 2]})));
        check(json!([{"op": "remove", "path": "/a/c"}]), None);
        check(json!([{"op": "replace", "path": "/a/c", "value": 1}]), with(json!({"b": [1, 2, 3], "c": 1})));
        check(json!([{"op": "replace", "path": "/a/b/3", "value": 1}]), None);
        check(json!([{"op": "replace", "path": "", "value": {"q": 1}}]), Some(json!({"q": 1})));
        check(json!([{"op": "move", "from": "/a/b/0", "path": "/a/c"}]), with(json!({"b": [2, 3], "c": 1})));
        check(
            json!([{"op": "copy", "from": "/a/b/0", "path": "/a/c"}]),
            with(json!({"b": [1, 2, 3], "c": 1})),
        );
        check(json!([{"op": "test", "path": "/x~1y", "value": 1}]), Some(object.clone()));
        check(json!([{"op": "test", "path": "/x~1y", "value": 2}]), None);
        check(json!([{"op": "test", "path": "/absent", "value": null}]), Some(object.clone()));
        check(json!([{"op": "test", "path": "/n"}]), Some(object.clone()));
        check(json!([{"op": "jump", "path": "/n"}]), None);
        check(json!([{"op": "add", "path": "n", "value": 1}]), None);
        check(json!([{"op": "add", "value": 1}]), None);
        check(json!([null]), None);
    }

    #[test]
    fn answers() {
        let check = |body: &[u8], code: u16, message: &str| {
            let error = Patch::parse(body).and_then(|p| p.apply(json!({}))).unwrap_err();
            let status = error.to_status();
            assert_eq!((status.code, status.message.as_str()), (code, message));
        };
        check(b"{}", 400, "json: cannot unmarshal object into Go value of type jsonpatch.Patch");
        check(
            br#"[{"op":"remove","path":"/x"}]"#,
            422,
            "the server rejected our request due to an error in our request",
        );
        let many = format!("[{}null]", "null,".repeat(10_000));
        check(
            many.as_bytes(),
            413,
            "Request entity too large: The allowed maximum operations in a JSON patch is 10000, got 10001",
        );
        let big = json!({"a": "x".repeat(1 << 20)});
        let copy = json!([{"op": "copy", "from": "/a", "path": "/b"}, {"op": "copy", "from": "/a", "path": "/c"},
            {"op": "copy", "from": "/a", "path": "/d"}]);
        assert!(Patch::from_value(copy).unwrap().apply(big).is_err());
        // each copy puts the whole below itself: refused before anybody's stack is too short
        let doubling: Vec<Value> =
            (0..20).map(|n| json!({"op": "copy", "from": "/a", "path": "/a".repeat((1 << n) + 1)})).collect();
        let doubled = Patch::from_value(doubling.into()).unwrap().apply(json!({"a": {"a": 1}}));
        assert_eq!(doubled, Err(Error::Unprocessable("exceeded max depth".into())));
        let shift = json!({"op": "add", "path": "/a/0", "value": 0});
        let shifts =
            Patch::from_value(vec![shift; 10_000].into()).unwrap().apply(json!({"a": vec![0; 50_000]}));
        assert_eq!(shifts, Err(Error::Unprocessable("the operations move more than 50000000 values".into())));
        let light = json!({"a": vec![json!({}); 1000]});
        let heavy = json!({"a": vec![json!({"b": 0}); 1000]});
        let copies = |object: Value| {
            let copy = json!({"op": "copy", "from": "/a", "path": "/b"});
            Patch::from_value(vec![copy; 100].into()).unwrap().apply(object).is_ok()
        };
        assert_eq!((copies(light), copies(heavy)), (true, false));
        let odd = Patch::from_value(json!([{"op": "test", "path": "/a", "valeu": 1}])).unwrap();
        assert_eq!(odd.unknown_fields(), ["json patch unknown field \"[0].valeu\""]);
    }
}
