//! Kinds that ask who somebody is, and the tokens of service accounts: nothing here is stored.

mod token_request;

pub use token_request::token_request;

use std::collections::BTreeMap;

use apimachinery::status::Status;
use serde_json::{Value, json};

use crate::{
    handlers::options::WriteOptions,
    registry::{generic::Scope, meta},
    request::{Operation, UserInfo},
};

/// Answers a create of a kind of `authentication.k8s.io`.
pub async fn create(scope: &Scope<'_>, mut object: Value, options: &WriteOptions) -> Result<Value, Status> {
    scope.admit(Operation::Create, &mut object, None, options.into()).await?;
    scope.check(Operation::Create, &object, None, options.into()).await?;
    match &*scope.resource.plural {
        "selfsubjectreviews" => {
            meta::set(&mut object, "creationTimestamp", Some(meta::time(scope.server.clock.now())));
            object["status"] = json!({ "userInfo": user_info(scope.user) });
            Ok(object)
        }
        "tokenreviews" => review(scope, object).await,
        other => Err(Status::method_not_supported(&scope.resource.group, other, "create")),
    }
}

/// `UserInfo` of `authentication.k8s.io`.
pub fn user_info(user: &UserInfo) -> Value {
    let mut out = serde_json::Map::new();
    if !user.name.is_empty() {
        out.insert("username".into(), user.name.as_str().into());
    }
    if !user.uid.is_empty() {
        out.insert("uid".into(), user.uid.as_str().into());
    }
    if !user.groups.is_empty() {
        out.insert("groups".into(), user.groups.clone().into());
    }
    if !user.extra.is_empty() {
        let extra: BTreeMap<&str, &Vec<String>> = user.extra.iter().map(|(k, v)| (k.as_str(), v)).collect();
        out.insert("extra".into(), json!(extra));
    }
    Value::Object(out)
}

/// TokenReview: is this token good, for these audiences (the server's own, if none are given), and whose is it?
async fn review(scope: &Scope<'_>, mut object: Value) -> Result<Value, Status> {
    let token = object["spec"]["token"].as_str().unwrap_or_default();
    if token.is_empty() {
        return Err(Status::bad_request("token is required for TokenReview in authentication"));
    }
    let server = scope.server;
    let asked: Vec<String> = object["spec"]["audiences"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
        .map(String::from)
        .collect();
    let audiences = if asked.is_empty() { server.authenticator.audiences().to_vec() } else { asked };
    let now = server.clock.now();
    let found = server.authenticator.authenticate_token(token, Some(&audiences), &server.lookup(), now);
    let found = found.await;
    let mut status = json!({"user": {}});
    match found {
        Ok(Some(found)) => {
            // A token that knows no audience is for the server itself.
            let shared = match found.audiences.is_empty() {
                true => server
                    .authenticator
                    .audiences()
                    .iter()
                    .filter(|a| audiences.contains(a))
                    .cloned()
                    .collect(),
                false => found.audiences,
            };
            if shared.is_empty() && !audiences.is_empty() {
                status["error"] = "invalid bearer token".into();
            } else {
                status["authenticated"] = true.into();
                status["user"] = user_info(&found.user);
                if !shared.is_empty() {
                    status["audiences"] = shared.into();
                }
            }
        }
        Ok(None) => status["error"] = "invalid bearer token".into(),
        Err(why) => status["error"] = format!("[invalid bearer token, {why}]").into(),
    }
    object["status"] = status;
    Ok(object)
}
