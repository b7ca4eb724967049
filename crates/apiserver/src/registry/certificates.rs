//! Certificate signing requests say who asked: whoever signs goes by that.

use std::collections::BTreeMap;

use apimachinery::status::Status;
use serde_json::{Map, Value, json};

use super::core::service::Reservation;
use crate::{registry::generic::Scope, request::UserInfo};

pub fn begin_write(
    scope: &Scope<'_>,
    request: &mut Value,
    old: Option<&Value>,
    _dry_run: bool,
) -> Result<Option<Reservation>, Status> {
    if old.is_none()
        && let Some(spec) = request["spec"].as_object_mut()
    {
        sign(spec, scope.user);
    }
    Ok(None)
}

/// What the client says of itself counts for nothing.
fn sign(spec: &mut Map<String, Value>, user: &UserInfo) {
    for field in ["username", "uid", "groups", "extra"] {
        spec.remove(field);
    }
    for (field, text) in [("username", &user.name), ("uid", &user.uid)] {
        if !text.is_empty() {
            spec.insert(field.into(), text.as_str().into());
        }
    }
    if !user.groups.is_empty() {
        spec.insert("groups".into(), user.groups.clone().into());
    }
    if !user.extra.is_empty() {
        let extra: BTreeMap<&str, &Vec<String>> = user.extra.iter().map(|(k, v)| (k.as_str(), v)).collect();
        spec.insert("extra".into(), json!(extra));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_asks() {
        let mut spec = json!({"username": "system:admin", "groups": ["system:masters"], "request": "AA=="});
        let mut user = UserInfo::new("jane", &["system:authenticated"]);
        user.extra.insert("a/b".into(), vec!["c".into()]);
        let fields = spec.as_object_mut().expect("an object");
        sign(fields, &user);
        assert_eq!(
            spec,
            json!({"username": "jane", "groups": ["system:authenticated"], "extra": {"a/b": ["c"]}, "request": "AA=="})
        );
        let fields = spec.as_object_mut().expect("an object");
        sign(fields, &UserInfo::default());
        assert_eq!(spec, json!({"request": "AA=="}));
    }
}
