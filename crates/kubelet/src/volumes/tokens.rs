//! Service account tokens for projected volumes.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use api::authentication::v1::{BoundObjectReference, TokenRequest, TokenRequestSpec};
use api::core::v1::{Pod, ServiceAccount};
use apimachinery::clock::Clock;
use client::Client;
use jiff::{SignedDuration, Timestamp};

use super::payload::TokenKey;
use crate::pod::spec;

/// A token is asked for anew after this time, however long it lasts.
const OLDEST: SignedDuration = SignedDuration::from_hours(24);

/// Tokens that were asked for, by pod.
pub struct Tokens {
    client: Client,
    clock: Arc<dyn Clock>,
    cache: Mutex<BTreeMap<(String, TokenKey), Token>>,
}

#[derive(Clone)]
struct Token {
    text: String,
    issued: Timestamp,
    expires: Timestamp,
}

impl Token {
    /// From when on a new one is wanted: 80 % of its life, or a day.
    fn refresh_at(&self) -> Timestamp {
        let life = self.expires.duration_since(self.issued);
        let early = self.issued.checked_add(life * 4 / 5).unwrap_or(self.expires);
        let day = self.issued.checked_add(OLDEST).unwrap_or(self.expires);
        early.min(day)
    }
}

impl Tokens {
    pub fn new(client: Client, clock: Arc<dyn Clock>) -> Tokens {
        Tokens { client, clock, cache: Mutex::default() }
    }

    /// A valid token for a pod's service account, bound to the pod, and when to come again.
    pub async fn get(&self, pod: &Pod, key: &TokenKey) -> Result<(String, Timestamp), String> {
        let id = (spec::uid(pod).to_owned(), key.clone());
        let now = self.clock.now();
        let cached = self.cache().get(&id).cloned();
        if let Some(token) = cached.as_ref().filter(|t| now < t.refresh_at()) {
            return Ok((token.text.clone(), token.refresh_at()));
        }
        match self.request(pod, key).await {
            Ok(token) => {
                let answer = (token.text.clone(), token.refresh_at());
                self.cache().insert(id, token);
                Ok(answer)
            }
            // The old one still works: try again in a while.
            Err(error) => match cached.filter(|t| now < t.expires) {
                Some(token) => {
                    tracing::warn!(pod = spec::full(pod), "a token could not be renewed: {error}");
                    let again = now.checked_add(SignedDuration::from_secs(30)).unwrap_or(now);
                    Ok((token.text, again))
                }
                None => Err(error),
            },
        }
    }

    async fn request(&self, pod: &Pod, key: &TokenKey) -> Result<Token, String> {
        let account = spec::spec(pod).service_account_name.clone().filter(|n| !n.is_empty());
        let account = account.unwrap_or_else(|| "default".into());
        let request = TokenRequest {
            spec: Some(TokenRequestSpec {
                audiences: (!key.audience.is_empty()).then(|| vec![key.audience.clone()]),
                expiration_seconds: Some(key.seconds),
                bound_object_ref: Some(BoundObjectReference {
                    api_version: Some("v1".into()),
                    kind: Some("Pod".into()),
                    name: Some(spec::name(pod).into()),
                    uid: Some(spec::uid(pod).into()),
                }),
            }),
            ..TokenRequest::default()
        };
        let issued = self.clock.now();
        let answer: TokenRequest = self
            .client
            .create_subresource::<ServiceAccount, _, _>(spec::namespace(pod), &account, "token", &request)
            .await
            .map_err(|e| format!("failed to fetch token: {}", e.chain()))?;
        let status = answer.status.ok_or("failed to fetch token: the answer has no status")?;
        let expires = status.expiration_timestamp.ok_or("failed to fetch token: the answer has no expiry")?;
        let text = status.token.ok_or("failed to fetch token: the answer has no token")?;
        Ok(Token { text, issued, expires: expires.0 })
    }

    /// Forgets a pod's tokens.
    pub fn forget(&self, uid: &str) {
        self.cache().retain(|(of, _), _| of != uid);
    }

    fn cache(&self) -> std::sync::MutexGuard<'_, BTreeMap<(String, TokenKey), Token>> {
        self.cache.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn renewal_is_early() {
        let at = |s: i64| Timestamp::from_second(s).expect("in range");
        for (life, expect) in [(3600, 2880), (600, 480), (7 * 86400, 86400)] {
            let token = Token { text: String::new(), issued: at(0), expires: at(life) };
            assert_eq!(token.refresh_at(), at(expect));
        }
    }
}
