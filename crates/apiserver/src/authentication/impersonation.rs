//! `Impersonate-*` headers: one user acts as another, if it may `impersonate` every part of that identity
//! (upstream `endpoints/filters/impersonation`).

use std::sync::Arc;

use apimachinery::status::Status;
use http::HeaderMap;

use super::service_account;
use super::{ANONYMOUS, AUTHENTICATED, UNAUTHENTICATED, UserInfo};
use crate::authorization::Attributes;

const USER: &str = "impersonate-user";
const GROUP: &str = "impersonate-group";
const UID: &str = "impersonate-uid";
const EXTRA: &str = "impersonate-extra-";

/// The user that a request is carried out as: the one who sent it, or the one that its headers name. `may` says
/// whether somebody may do something, or gives the denial.
///
/// # Errors
/// 403 if a part of that identity may not be taken, 400 if the headers name parts of nobody.
pub fn impersonate(
    user: Arc<UserInfo>,
    headers: &HeaderMap,
    may: &dyn Fn(&UserInfo, &Attributes<'_>) -> Result<(), Status>,
) -> Result<Arc<UserInfo>, Status> {
    let text = |value: &http::HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
    let one = |name: &str| headers.get(name).map(text).filter(|v| !v.is_empty());
    let groups: Vec<String> = headers.get_all(GROUP).iter().map(text).collect();
    let mut extra: Vec<(String, String)> = Vec::new();
    for name in headers.keys() {
        if let Some(key) = name.as_str().strip_prefix(EXTRA) {
            let key = unescape(key);
            extra.extend(headers.get_all(name).iter().map(|v| (key.clone(), text(v))));
        }
    }
    let uid = one(UID);
    let Some(name) = one(USER) else {
        if groups.is_empty() && extra.is_empty() && uid.is_none() {
            return Ok(user);
        }
        return Err(Status::bad_request("requested impersonation without impersonating a user"));
    };

    let may = |a: Attributes<'_>| may(&user, &Attributes { is_resource: true, verb: "impersonate", ..a });
    let none = Attributes::default();
    let mut new = UserInfo::new(name.clone(), &[]);
    let account = name.strip_prefix("system:serviceaccount:").and_then(|rest| rest.split_once(':'));
    match account.filter(|(ns, name)| !ns.is_empty() && !name.is_empty() && !name.contains(':')) {
        Some((namespace, name)) => {
            may(Attributes { resource: "serviceaccounts", namespace, name, version: "v1", ..none })?;
            if groups.is_empty() {
                new.groups.extend(service_account::groups(namespace));
            }
        }
        None => may(Attributes { resource: "users", name: &name, ..none })?,
    }
    for group in groups {
        may(Attributes { resource: "groups", name: &group, ..none })?;
        new.groups.push(group);
    }
    const AUTHN: (&str, &str) = ("authentication.k8s.io", "v1");
    for (key, value) in extra {
        may(Attributes {
            group: AUTHN.0,
            version: AUTHN.1,
            resource: "userextras",
            subresource: &key,
            name: &value,
            ..none
        })?;
        new.extra.entry(key).or_default().push(value);
    }
    if let Some(uid) = uid {
        may(Attributes { group: AUTHN.0, version: AUTHN.1, resource: "uids", name: &uid, ..none })?;
        new.uid = uid;
    }
    let has = |group: &str| new.groups.iter().any(|g| g == group);
    if new.name == ANONYMOUS {
        if !has(UNAUTHENTICATED) {
            new.groups.push(UNAUTHENTICATED.into());
        }
    } else if !has(AUTHENTICATED) && !has(UNAUTHENTICATED) {
        new.groups.push(AUTHENTICATED.into());
    }
    Ok(Arc::new(new))
}

/// Percent-decoded; a key with a broken escape stays as it is.
fn unescape(key: &str) -> String {
    let mut out = Vec::with_capacity(key.len());
    let mut bytes = key.bytes();
    while let Some(b) = bytes.next() {
        if b != b'%' {
            out.push(b);
            continue;
        }
        let digit = |b: Option<u8>| b.and_then(|b| (b as char).to_digit(16));
        match (digit(bytes.next()), digit(bytes.next())) {
            (Some(high), Some(low)) => out.push((high * 16 + low) as u8),
            _ => return key.to_owned(),
        }
    }
    String::from_utf8(out).unwrap_or_else(|_| key.to_owned())
}
