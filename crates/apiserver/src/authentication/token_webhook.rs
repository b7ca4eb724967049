//! `--authentication-token-webhook-config-file`: another program is asked about tokens that nobody here knows, with a
//! TokenReview (upstream `plugin/pkg/authenticator/token/webhook`).

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use super::{Authenticated, Cache, UserInfo, authenticated};
use crate::remote::{self, Endpoint};

/// How long one question may take.
const PATIENCE: Duration = Duration::from_secs(30);

/// The program that knows.
pub struct Webhook {
    endpoint: Endpoint,
    /// Of `authentication.k8s.io`: `v1` or `v1beta1`.
    version: String,
    /// For how long an answer holds, good or bad.
    holds: SignedDuration,
    /// The server's own audiences: what a user is for whose review names none.
    own: Vec<String>,
    cache: Cache<Result<Option<Authenticated>, String>>,
}

impl Webhook {
    /// # Errors
    /// When there is no such version.
    pub fn new(
        endpoint: Endpoint,
        version: &str,
        holds: SignedDuration,
        own: Vec<String>,
    ) -> Result<Self, remote::Error> {
        if !matches!(version, "v1" | "v1beta1") {
            return Err(remote::Error::Configuration(format!(
                "unsupported authentication webhook version {version:?}, supported versions are \"v1\", \"v1beta1\""
            )));
        }
        Ok(Self { endpoint, version: version.into(), holds, own, cache: Cache::default() })
    }

    /// # Errors
    /// What the program says against it, or that it could not be asked.
    pub async fn authenticate(
        &self,
        token: &str,
        audiences: Option<&[String]>,
        now: Timestamp,
    ) -> Result<Option<Authenticated>, String> {
        let key = format!("{}\n{token}", audiences.map(|names| names.join("\n")).unwrap_or_default());
        if let Some(known) = self.cache.get(&key, now) {
            return known;
        }
        let mut spec = json!({ "token": token });
        if let Some(audiences) = audiences {
            spec["audiences"] = json!(audiences);
        }
        let review = json!({
            "kind": "TokenReview",
            "apiVersion": format!("authentication.k8s.io/{}", self.version),
            "metadata": {"creationTimestamp": null},
            "spec": spec,
            "status": {"user": {}},
        });
        let answer = match self.endpoint.post(&review, PATIENCE).await {
            Ok(answer) => answer,
            Err(error) => {
                tracing::error!(%error, "failed to make webhook authenticator request");
                return Err(error.to_string());
            }
        };
        let found = self.read(&answer["status"], audiences);
        if !self.holds.is_zero() {
            self.cache.put(&key, now, now + self.holds, found.clone());
        }
        found
    }

    fn read(&self, status: &Value, audiences: Option<&[String]>) -> Result<Option<Authenticated>, String> {
        let mut shared = Vec::new();
        if let Some(wanted) = audiences {
            let given = strings(&status["audiences"]);
            let given = if given.is_empty() { &self.own } else { &given };
            shared.extend(wanted.iter().filter(|name| given.contains(name)).cloned());
            if shared.is_empty() {
                return Ok(None);
            }
        }
        if status["authenticated"].as_bool() != Some(true) {
            return match status["error"].as_str().unwrap_or_default() {
                "" => Ok(None),
                why => Err(why.to_owned()),
            };
        }
        let user = &status["user"];
        let text = |key: &str| user[key].as_str().unwrap_or_default().to_owned();
        let extra: BTreeMap<String, Vec<String>> = user["extra"]
            .as_object()
            .into_iter()
            .flatten()
            .map(|(key, values)| (key.clone(), strings(values)))
            .collect();
        let user =
            UserInfo { name: text("username"), uid: text("uid"), groups: strings(&user["groups"]), extra };
        Ok(Some(Authenticated { user: authenticated(user), audiences: shared }))
    }
}

fn strings(value: &Value) -> Vec<String> {
    value.as_array().into_iter().flatten().filter_map(Value::as_str).map(str::to_owned).collect()
}
