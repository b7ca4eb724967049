//! Bootstrap tokens (`abcdef.0123456789abcdef`): a Secret of `kube-system` is the record (upstream
//! `plugin/pkg/auth/authenticator/token/bootstrap`).

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use serde_json::Value;

use super::{Lookup, UserInfo, authenticated, same};

const SECRET_TYPE: &str = "bootstrap.kubernetes.io/token";
const GROUP: &str = "system:bootstrappers";

/// `None` if this is no such token, or no usable one: that is never an error upstream, the caller says 401.
pub fn authenticate(token: &str, lookup: &Lookup, now: Timestamp) -> Result<Option<Arc<UserInfo>>, String> {
    let Some((id, secret)) = parse(token) else { return Ok(None) };
    let name = format!("bootstrap-token-{id}");
    let Some(object) = lookup("secrets", "kube-system", &name) else { return Ok(None) };
    let data = |key: &str| {
        let bytes = STANDARD.decode(object["data"][key].as_str()?).ok()?;
        String::from_utf8(bytes).ok()
    };
    let is = |key: &str, expect: &str| same(data(key).unwrap_or_default().as_bytes(), expect.as_bytes());
    let good = object["type"].as_str() == Some(SECRET_TYPE)
        && object["metadata"].get("deletionTimestamp").is_none_or(Value::is_null)
        && is("token-secret", secret)
        && is("token-id", id)
        && is("usage-bootstrap-authentication", "true")
        && data("expiration").is_none_or(|at| at.parse::<Timestamp>().is_ok_and(|at| now < at));
    if !good {
        return Ok(None);
    }
    let mut user = UserInfo::new(format!("system:bootstrap:{id}"), &[GROUP]);
    let extra = data("auth-extra-groups").unwrap_or_default();
    for group in extra.split(',').filter(|g| !g.is_empty()) {
        if !is_extra_group(group) {
            return Ok(None);
        }
        if !user.groups.iter().any(|g| g == group) {
            user.groups.push(group.to_owned());
        }
    }
    Ok(Some(authenticated(user)))
}

fn parse(token: &str) -> Option<(&str, &str)> {
    let (id, secret) = token.split_once('.')?;
    let plain = |s: &str| s.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
    (id.len() == 6 && secret.len() == 16 && plain(id) && plain(secret)).then_some((id, secret))
}

/// `system:bootstrappers:` and lower-case words.
fn is_extra_group(group: &str) -> bool {
    let Some(rest) = group.strip_prefix("system:bootstrappers:") else { return false };
    let word = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    (1..=256).contains(&rest.len())
        && rest.bytes().all(|b| word(b) || b == b':' || b == b'-')
        && rest.bytes().last().is_some_and(word)
}
