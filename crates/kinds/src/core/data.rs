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
    warnings: secret_warnings,
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
    let of = |key: &str| secret["data"].get(key).and_then(Value::as_str);
    let mut require = |keys: &[&str]| {
        for key in keys.iter().filter(|key| of(key).is_none()) {
            errors.push(Error::required(&path.key(key), ""));
        }
    };
    match text(secret, "type") {
        "kubernetes.io/dockercfg" => docker_config(of(".dockercfg"), &path.key(".dockercfg"), errors),
        "kubernetes.io/dockerconfigjson" => {
            docker_config(of(".dockerconfigjson"), &path.key(".dockerconfigjson"), errors);
        }
        "kubernetes.io/basic-auth" if of("username").is_none() && of("password").is_none() => {
            require(&["username", "password"]);
        }
        "kubernetes.io/ssh-auth" if of("ssh-privatekey").unwrap_or_default().is_empty() => {
            errors.push(Error::required(&path.key("ssh-privatekey"), ""));
        }
        "kubernetes.io/tls" => require(&["tls.crt", "tls.key"]),
        "kubernetes.io/service-account-token" => {
            let key = "kubernetes.io/service-account.name";
            if secret["metadata"]["annotations"][key].as_str().unwrap_or_default().is_empty() {
                let metadata = Path::new("metadata.annotations");
                errors.push(Error::required(&metadata.key(key), ""));
            }
        }
        _ => {}
    }
}

fn decoded(encoded: &str) -> Vec<u8> {
    use base64::Engine;
    base64::engine::general_purpose::STANDARD.decode(encoded).unwrap_or_default()
}

/// Credentials of registries are a JSON object.
fn docker_config(encoded: Option<&str>, path: &Path<'_>, errors: &mut ErrorList) {
    let Some(encoded) = encoded else { return errors.push(Error::required(path, "")) };
    let bytes = decoded(encoded);
    // In the words of Go's decoder.
    let why = match serde_json::from_slice::<Value>(&bytes) {
        Ok(Value::Object(_) | Value::Null) => return,
        Ok(other) => {
            let what = match other {
                Value::Array(_) => "array",
                Value::String(_) => "string",
                Value::Bool(_) => "bool",
                _ => "number",
            };
            format!("json: cannot unmarshal {what} into Go value of type map[string]interface {{}}")
        }
        Err(why) if why.is_eof() => "unexpected end of JSON input".to_owned(),
        Err(why) => {
            let at = String::from_utf8_lossy(&bytes);
            let line = at.lines().nth(why.line().saturating_sub(1)).unwrap_or_default();
            let odd = line.chars().nth(why.column().saturating_sub(1)).unwrap_or(' ');
            format!("invalid character '{odd}' looking for beginning of value")
        }
    };
    errors.push(Error::invalid(path, "<secret contents redacted>", why));
}

fn secret_update(new: &Value, old: &Value, _subresource: &str, errors: &mut ErrorList) {
    immutable(&new["type"], &old["type"], &Path::new("type"), errors);
    frozen(new, old, &["data"], errors);
    secret(new, errors);
}

/// A certificate or key of which not even the frame is there.
fn secret_warnings(secret: &Value, _old: Option<&Value>, _subresource: &str) -> Vec<String> {
    if text(secret, "type") != "kubernetes.io/tls" {
        return Vec::new();
    }
    let framed = |key: &str| {
        let bytes = decoded(secret["data"].get(key).and_then(Value::as_str).unwrap_or_default());
        String::from_utf8_lossy(&bytes).lines().any(|line| line.starts_with("-----BEGIN "))
    };
    let missing = [("tls.crt", "certificate"), ("tls.key", "key")].into_iter().find(|(key, _)| !framed(key));
    let warning = |(_, what)| format!("tls: failed to find any PEM data in {what} input");
    missing.map(warning).into_iter().collect()
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

    /// Upstream's `TestValidateSecret`, `TestValidateDockerConfigSecret` and others.
    #[test]
    fn secrets() {
        use crate::table::Table;
        let table = Table::new(
            "",
            "v1",
            "Secret",
            json!({"metadata": {"name": "s", "namespace": "n"}, "data": {"data-1": "YmFy"}}),
        );
        let typed = |kind: &str, data: Value| json!({"type": format!("kubernetes.io/{kind}"), "data": data});
        let encoded = |text: &str| {
            use base64::Engine;
            base64::engine::general_purpose::STANDARD.encode(text)
        };
        table.create(&[
            (json!({"data": {"a..b": "", "..": ""}}), &["data[..]: Invalid"]),
            (json!({"data": {"over": encoded(&"x".repeat(MOST_BYTES + 1))}}), &["data: TooLong"]),
            (
                typed("service-account-token", json!({})),
                &["metadata.annotations[kubernetes.io/service-account.name]: Required"],
            ),
            (typed("dockercfg", json!({})), &["data[.dockercfg]: Required"]),
            (typed("dockercfg", json!({".dockercfg": encoded("{}")})), &[]),
            (typed("dockercfg", json!({".dockercfg": encoded("[]")})), &["data[.dockercfg]: Invalid"]),
            (
                typed("dockerconfigjson", json!({".dockerconfigjson": encoded("{")})),
                &["data[.dockerconfigjson]: Invalid"],
            ),
            (typed("basic-auth", json!({})), &["data[username]: Required", "data[password]: Required"]),
            (typed("basic-auth", json!({"password": ""})), &[]),
            (typed("ssh-auth", json!({"ssh-privatekey": ""})), &["data[ssh-privatekey]: Required"]),
            (typed("tls", json!({"tls.crt": ""})), &["data[tls.key]: Required"]),
        ]);
        let fixed = json!({"immutable": true});
        table.change(&json!({}), &typed("x", json!({})), "", &["type: Invalid"]);
        table.change(&fixed, &fixed, "", &[]);
        table.change(&fixed, &json!({}), "", &["immutable: Forbidden"]);
        table.change(&fixed, &json!({"immutable": true, "data": {"a": "YQ=="}}), "", &["data: Forbidden"]);
        table.warnings(
            typed("tls", json!({"tls.crt": encoded("x"), "tls.key": ""})),
            &["tls: failed to find any PEM data in certificate input"],
        );
    }

    #[test]
    fn lengths() {
        for (text, expect) in [("", 0), ("AA==", 1), ("AAA=", 2), ("AAAA", 3)] {
            assert_eq!(decoded_length(text), expect, "{text}");
        }
    }
}
