//! ConfigMap and Secret.

use apimachinery::field::{Error, ErrorList, Path};
use apimachinery::names;
use serde_json::Value;

use crate::check::{entries, flag, immutable, messages, text};
use crate::strategy::{GENERIC, Strategy};

/// All values of one object together.
const MOST_BYTES: usize = 1024 * 1024;

pub const CONFIG_MAP: Strategy =
    Strategy { validate: config_map, validate_update: config_map_update, ..GENERIC };

pub const SECRET: Strategy = Strategy {
    validate: secret,
    validate_update: secret_update,
    selectable: &[("type", "/type", "")],
    ..GENERIC
};

/// How many bytes a base64 text stands for.
fn decoded_length(text: &str) -> usize {
    text.len() / 4 * 3 - text.bytes().rev().take_while(|byte| *byte == b'=').count().min(2)
}

fn config_map(map: &Value, errors: &mut ErrorList) {
    let mut size = 0;
    for field in ["data", "binaryData"] {
        let path = Path::new(field);
        for (key, value) in entries(map, field) {
            let at = path.key(key);
            messages(names::is_config_map_key(key), &key.as_str().into(), &at, errors);
            let length = value.as_str().unwrap_or_default();
            size += if field == "data" { length.len() } else { decoded_length(length) };
            if field == "data" && map["binaryData"].get(key).is_some() {
                errors.push(Error::invalid(&at, key.as_str(), "duplicate of key present in binaryData"));
            }
        }
    }
    if size > MOST_BYTES {
        errors.push(Error::too_long(&Path::new(""), MOST_BYTES));
    }
}

fn config_map_update(new: &Value, old: &Value, _subresource: &str, errors: &mut ErrorList) {
    frozen(new, old, &["data", "binaryData"], errors);
    config_map(new, errors);
}

/// With `immutable` set neither that nor the data change any more.
fn frozen(new: &Value, old: &Value, fields: &[&str], errors: &mut ErrorList) {
    if !flag(old, "immutable") {
        return;
    }
    let why = "field is immutable when `immutable` is set";
    if !flag(new, "immutable") {
        errors.push(Error::forbidden(&Path::new("immutable"), why));
    }
    for field in fields {
        if new.get(field) != old.get(field) {
            errors.push(Error::forbidden(&Path::new(field), why));
        }
    }
}

fn secret(secret: &Value, errors: &mut ErrorList) {
    let path = Path::new("data");
    let mut size = 0;
    for (key, value) in entries(secret, "data") {
        messages(names::is_config_map_key(key), &key.as_str().into(), &path.key(key), errors);
        size += decoded_length(value.as_str().unwrap_or_default());
    }
    if size > MOST_BYTES {
        errors.push(Error::too_long(&path, MOST_BYTES));
    }
    let has = |key: &str| secret["data"].get(key).is_some();
    let mut require = |keys: &[&str]| {
        for key in keys.iter().filter(|key| !has(key)) {
            errors.push(Error::required(&path.key(key), ""));
        }
    };
    match text(secret, "type") {
        "kubernetes.io/dockercfg" => require(&[".dockercfg"]),
        "kubernetes.io/dockerconfigjson" => require(&[".dockerconfigjson"]),
        "kubernetes.io/basic-auth" if !has("username") && !has("password") => {
            require(&["username", "password"])
        }
        "kubernetes.io/ssh-auth" => require(&["ssh-privatekey"]),
        "kubernetes.io/tls" => require(&["tls.crt", "tls.key"]),
        "kubernetes.io/service-account-token" => {
            let key = "kubernetes.io/service-account.name";
            if secret["metadata"]["annotations"][key].as_str().unwrap_or_default().is_empty() {
                let metadata = Path::new("metadata");
                errors.push(Error::required(&metadata.child("annotations").key(key), ""));
            }
        }
        _ => {}
    }
    for (kind, key) in
        [("kubernetes.io/dockercfg", ".dockercfg"), ("kubernetes.io/dockerconfigjson", ".dockerconfigjson")]
    {
        if text(secret, "type") == kind
            && let Some(encoded) = secret["data"].get(key).and_then(Value::as_str)
            && !is_json_object(encoded)
        {
            let hidden = "<secret contents redacted>";
            errors.push(Error::invalid(&path.key(key), hidden, "invalid character in JSON object"));
        }
    }
}

fn is_json_object(encoded: &str) -> bool {
    use base64::Engine;
    let bytes = base64::engine::general_purpose::STANDARD.decode(encoded).unwrap_or_default();
    serde_json::from_slice::<serde_json::Map<String, Value>>(&bytes).is_ok()
}

fn secret_update(new: &Value, old: &Value, _subresource: &str, errors: &mut ErrorList) {
    immutable(&new["type"], &old["type"], &Path::new("type"), errors);
    frozen(new, old, &["data"], errors);
    secret(new, errors);
}

#[cfg(test)]
mod tests {
    use super::*;
    use apimachinery::field::aggregate;
    use serde_json::json;

    #[test]
    fn config_maps() {
        let check = |new: Value, old: Option<Value>, expect: &str| {
            let mut errors = ErrorList::new();
            match old {
                Some(old) => config_map_update(&new, &old, "", &mut errors),
                None => config_map(&new, &mut errors),
            }
            assert_eq!(aggregate(&errors).unwrap_or_default(), expect);
        };
        check(json!({"data": {"a.b": "c"}}), None, "");
        check(
            json!({"data": {"a": "c"}, "binaryData": {"a": "AA=="}}),
            None,
            "data[a]: Invalid value: \"a\": duplicate of key present in binaryData",
        );
        check(
            json!({"data": {"a": "x".repeat(MOST_BYTES + 1)}}),
            None,
            "[]: Too long: may not be more than 1048576 bytes",
        );
        check(
            json!({"data": {"a": "c"}, "immutable": true}),
            Some(json!({"data": {"a": "b"}, "immutable": true})),
            "data: Forbidden: field is immutable when `immutable` is set",
        );
    }

    #[test]
    fn lengths() {
        for (text, expect) in [("", 0), ("AA==", 1), ("AAA=", 2), ("AAAA", 3)] {
            assert_eq!(decoded_length(text), expect, "{text}");
        }
    }
}
