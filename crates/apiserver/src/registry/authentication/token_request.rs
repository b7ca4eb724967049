//! `serviceaccounts/token` (upstream `registry/core/serviceaccount/storage/token.go`).

use apimachinery::{
    field::{self, Path},
    gvk,
    status::Status,
};
use jiff::SignedDuration;
use serde_json::{Value, json};

use crate::{
    authentication::service_account::{Bound, EXTENDED_SECONDS, Ref, Request, WARN_ONLY_SECONDS},
    handlers::options::WriteOptions,
    registry::{generic::Scope, meta},
    request::Operation,
};

const GROUP: &str = "authentication.k8s.io";
const KIND: &str = "TokenRequest";
const DEFAULT_SECONDS: i64 = 3600;
const LEAST_SECONDS: i64 = 600;
const MOST_SECONDS: i64 = 1 << 32;

/// Answers a create of `serviceaccounts/token`: the scope names the account.
pub async fn token_request(
    scope: &Scope<'_>,
    mut object: Value,
    options: &WriteOptions,
) -> Result<Value, Status> {
    let server = scope.server;
    let Some(issuer) = &server.issuer else {
        return Err(Status::method_not_supported("", "serviceaccounts", "create"));
    };
    scope.admit(Operation::Create, &mut object, None, options.into()).await?;
    for (key, own, word) in [("name", scope.name, "name"), ("namespace", scope.namespace, "namespace")] {
        let given = meta::text(&object, key);
        if !given.is_empty() && given != own {
            let metadata = Path::new("metadata");
            let why = format!("must match the service account {word} if specified");
            let error = field::Error::invalid(&metadata.child(key), given, why);
            return Err(Status::invalid(GROUP, KIND, scope.name, &[error]));
        }
    }
    let account = read(scope, "serviceaccounts", scope.namespace, scope.name)?;
    let uid = meta::text(&account, "uid");
    let given = meta::text(&object, "uid");
    if !given.is_empty() && given != uid {
        let why = format!(
            "the UID in the token request ({given}) does not match the UID of the service account ({uid})"
        );
        return Err(Status::conflict(GROUP, KIND, scope.name, why));
    }
    let now = server.clock.now();
    meta::set(&mut object, "name", Some(scope.name.into()));
    meta::set(&mut object, "namespace", Some(scope.namespace.into()));
    meta::set(&mut object, "uid", Some(uid.into()));
    meta::set(&mut object, "creationTimestamp", Some(meta::time(now)));
    if !object["spec"].is_object() {
        object["spec"] = json!({});
    }
    let own_audiences = server.authenticator.audiences();
    let spec = &mut object["spec"];
    if spec["audiences"].as_array().is_none_or(|a| a.is_empty()) {
        spec["audiences"] = own_audiences.into();
    }
    if spec["expirationSeconds"].is_null() {
        spec["expirationSeconds"] = DEFAULT_SECONDS.into();
    }
    let asked = spec["expirationSeconds"].as_i64().unwrap_or(0);
    check_seconds(asked)?;
    let seconds = issuer.longest_seconds.map_or(asked, |longest| asked.min(longest));
    if seconds < asked {
        scope.warnings.add(format!("requested expiration of {asked} seconds shortened to {seconds} seconds"));
        spec["expirationSeconds"] = seconds.into();
    }
    scope.check(Operation::Create, &object, None, options.into()).await?;

    let bound = bound(scope, &object["spec"]["boundObjectRef"])?;
    let audiences: Vec<String> = object["spec"]["audiences"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
        .map(String::from)
        .collect();
    // Clients of old never reload their token: they get a long one, and are only complained about.
    let extended = issuer.extend
        && matches!(bound, Bound::Pod(..))
        && seconds == WARN_ONLY_SECONDS
        && audiences.iter().all(|a| own_audiences.contains(a));
    let token = issuer
        .issue(Request {
            namespace: scope.namespace,
            service_account: Ref::to(&account),
            bound,
            audiences,
            seconds: if extended {
                issuer.longest_seconds.unwrap_or(EXTENDED_SECONDS).max(seconds)
            } else {
                seconds
            },
            warn_after: extended.then_some(seconds),
            now,
            jti: meta::uid(&*server.entropy),
        })
        .map_err(|e| Status::internal(format_args!("failed to generate token: {e}")))?;
    let expires = now.saturating_add(SignedDuration::from_secs(seconds)).unwrap_or(now);
    object["status"] = json!({"token": token, "expirationTimestamp": meta::time(expires)});
    object["kind"] = KIND.into();
    object["apiVersion"] = format!("{GROUP}/v1").into();
    Ok(object)
}

fn check_seconds(seconds: i64) -> Result<(), Status> {
    let why = match seconds {
        s if s < LEAST_SECONDS => "may not specify a duration less than 10 minutes",
        s if s > MOST_SECONDS => "may not specify a duration larger than 2^32 seconds",
        _ => return Ok(()),
    };
    let spec = Path::new("spec");
    let error = field::Error::invalid(&spec.child("expirationSeconds"), seconds, why);
    Err(Status::invalid(GROUP, KIND, "", &[error]))
}

fn read(scope: &Scope<'_>, plural: &str, namespace: &str, name: &str) -> Result<Value, Status> {
    let resource = api::resource("", "v1", plural).ok_or_else(|| Status::internal("no such resource"))?;
    let found = scope.server.storage.read(resource, namespace, name)?;
    found.ok_or_else(|| Status::not_found("", plural, name))
}

/// The object that the token shall die with. It must be there, and be the one that was meant.
fn bound(scope: &Scope<'_>, reference: &Value) -> Result<Bound, Status> {
    if reference.is_null() {
        return Ok(Bound::Nothing);
    }
    let text = |key: &str| reference[key].as_str().unwrap_or_default();
    let (api_version, kind, name) = (text("apiVersion"), text("kind"), text("name"));
    let (group, version) = gvk::split(api_version).unwrap_or(("", api_version));
    let (bound, uid) = match (group, kind) {
        ("", "Pod") => {
            let pod = read(scope, "pods", scope.namespace, name)?;
            if pod["spec"]["serviceAccountName"].as_str().unwrap_or_default() != scope.name {
                return Err(Status::bad_request(format!(
                    "cannot bind token for serviceaccount {:?} to pod running with different serviceaccount name.",
                    scope.name
                )));
            }
            let node = match pod["spec"]["nodeName"].as_str().unwrap_or_default() {
                "" => None,
                node => Some(match read(scope, "nodes", "", node) {
                    Ok(found) => Ref::to(&found),
                    // Gone or not there yet: its name is still worth telling.
                    Err(status) if status.is_not_found() => Ref { name: node.into(), uid: String::new() },
                    Err(status) => return Err(status),
                }),
            };
            let pod = Ref::to(&pod);
            (Bound::Pod(pod.clone(), node), pod.uid)
        }
        ("", "Node") => {
            let node = Ref::to(&read(scope, "nodes", "", name)?);
            (Bound::Node(node.clone()), node.uid)
        }
        ("", "Secret") => {
            let secret = Ref::to(&read(scope, "secrets", scope.namespace, name)?);
            (Bound::Secret(secret.clone()), secret.uid)
        }
        _ => {
            return Err(Status::bad_request(format!(
                "cannot bind token to object of type {group}/{version}, Kind={kind}"
            )));
        }
    };
    let wanted = text("uid");
    if !wanted.is_empty() && wanted != uid {
        let why = format!(
            "the UID in the bound object reference ({wanted}) does not match the UID in record. The object might \
             have been deleted and then recreated"
        );
        return Err(Status::conflict(group, kind, name, why));
    }
    Ok(bound)
}
