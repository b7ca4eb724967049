//! Clients that act as service accounts, with tokens that are asked for and renewed: what
//! `--use-service-account-credentials` is about.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use api::authentication::v1::{TokenRequest, TokenRequestSpec};
use api::core::v1::ServiceAccount;
use api::meta::v1::ObjectMeta;
use bytes::Bytes;
use client::{Access, Body, Client, HttpTransport, Transport, TransportError};
use futures::future::BoxFuture;
use http::{HeaderValue, Request, Response, StatusCode, header};
use tokio::sync::Mutex;
use tokio::time::Instant;

use crate::wiring::World;

const NAMESPACE: &str = "kube-system";
/// What is asked for; upstream's.
const LIFETIME_SECONDS: i64 = 3600;
/// A token counts for this long at least, however the clocks differ.
const SHORTEST: Duration = Duration::from_secs(600);
/// The part of its life after which a token is renewed, in hundredths.
const RENEWED_AT: u32 = 80;

/// Makes clients of service accounts. All share their connections.
#[derive(Clone)]
pub struct ServiceAccounts {
    root: Client,
    plain: Arc<HttpTransport>,
    world: World,
}

impl ServiceAccounts {
    /// `root` may make service accounts and their tokens; `access` says where the server is, its credentials
    /// are not used.
    pub fn new(root: Client, access: Access, world: World) -> Result<ServiceAccounts> {
        let access =
            Access { client_certificate: None, client_key: None, token: None, basic: None, ..access };
        let plain = HttpTransport::new(access).context("preparing the way to the API server")?;
        Ok(ServiceAccounts { root, plain: Arc::new(plain), world })
    }

    /// A client that acts as the account of this name. Nothing is asked before its first request.
    pub fn client(&self, account: &str, agent: &str) -> Client {
        let token = Token { of: self.clone(), account: account.to_owned(), current: Mutex::default() };
        Client::new(Arc::new(WithToken { plain: self.plain.clone(), token: Arc::new(token) }), agent)
    }

    /// A fresh token, and for how long to use it.
    async fn token(&self, account: &str) -> client::Result<(String, Duration)> {
        let request = TokenRequest {
            spec: Some(TokenRequestSpec {
                expiration_seconds: Some(LIFETIME_SECONDS),
                ..TokenRequestSpec::default()
            }),
            ..TokenRequest::default()
        };
        let ask = || {
            self.root
                .create_subresource::<ServiceAccount, _, TokenRequest>(NAMESPACE, account, "token", &request)
        };
        let answer = match ask().await {
            Err(error) if error.is_not_found() => {
                self.create(account).await?;
                ask().await?
            }
            answer => answer?,
        };
        let status = answer.status.unwrap_or_default();
        let expires = status.expiration_timestamp.map(|at| at.0).unwrap_or_default();
        let left = expires.duration_since(self.world.clock.now());
        Ok((status.token.unwrap_or_default(), usable(Duration::try_from(left).unwrap_or_default())))
    }

    async fn create(&self, account: &str) -> client::Result<()> {
        let fresh = ServiceAccount {
            metadata: ObjectMeta {
                name: Some(account.to_owned()),
                namespace: Some(NAMESPACE.to_owned()),
                ..ObjectMeta::default()
            },
            ..ServiceAccount::default()
        };
        match self.root.create(&fresh).await {
            // Another instance was faster.
            Err(error) if error.is_already_exists() => Ok(()),
            made => made.map(|_| ()),
        }
    }
}

/// For how long a token that has this long to live is used.
fn usable(left: Duration) -> Duration {
    left.max(SHORTEST) * RENEWED_AT / 100
}

/// One account's token as it is now, and when to renew it.
struct Token {
    of: ServiceAccounts,
    account: String,
    current: Mutex<Option<(HeaderValue, Instant)>>,
}

impl Token {
    /// Requests that come while a token is asked for wait for that one.
    async fn bearer(&self) -> Result<HeaderValue, TransportError> {
        let mut current = self.current.lock().await;
        if let Some((bearer, until)) = &*current
            && Instant::now() < *until
        {
            return Ok(bearer.clone());
        }
        let fail = |source: client::BoxError| TransportError::Config {
            what: format!("asking for the token of service account {NAMESPACE}/{}", self.account),
            source,
        };
        let (token, used_for) = self.of.token(&self.account).await.map_err(|error| fail(error.into()))?;
        let mut bearer =
            HeaderValue::from_str(&format!("Bearer {token}")).map_err(|error| fail(error.into()))?;
        bearer.set_sensitive(true);
        *current = Some((bearer.clone(), Instant::now() + used_for));
        Ok(bearer)
    }

    /// The server does not take this one any more: its account was made anew, or the key changed.
    async fn refused(&self, bearer: &HeaderValue) {
        let mut current = self.current.lock().await;
        if current.as_ref().is_some_and(|(now, _)| now == bearer) {
            *current = None;
        }
    }
}

struct WithToken {
    plain: Arc<HttpTransport>,
    token: Arc<Token>,
}

impl Transport for WithToken {
    fn send(
        &self,
        mut request: Request<Bytes>,
    ) -> BoxFuture<'static, Result<Response<Body>, TransportError>> {
        let (plain, token) = (self.plain.clone(), self.token.clone());
        Box::pin(async move {
            let bearer = token.bearer().await?;
            request.headers_mut().insert(header::AUTHORIZATION, bearer.clone());
            let response = plain.send(request).await?;
            if response.status() == StatusCode::UNAUTHORIZED {
                token.refused(&bearer).await;
            }
            Ok(response)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn renewal() {
        for (left, expect) in [(3600, 2880), (86_400, 69_120), (60, 480), (0, 480)] {
            assert_eq!(usable(Duration::from_secs(left)), Duration::from_secs(expect), "{left}");
        }
    }
}
