//! Who asks, and may they: a client certificate, or a token that the API server knows; and the API server's word
//! on `nodes/<subresource>` (upstream's webhook mode).

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use api::authentication::v1::{TokenReview, TokenReviewSpec};
use api::authorization::v1::{ResourceAttributes, SubjectAccessReview, SubjectAccessReviewSpec};
use client::Client;
use http::{Request, StatusCode, header};
use sha2::{Digest, Sha256};
use tokio::time::Instant;

use crate::config::{Authorization, Config};

/// How long answers are believed: upstream's `cacheTTL`s.
const TOKEN_FOR: Duration = Duration::from_secs(120);
const ALLOWED_FOR: Duration = Duration::from_secs(300);
const DENIED_FOR: Duration = Duration::from_secs(30);
/// Caches are emptied beyond this size.
const MOST: usize = 1000;

pub struct Auth {
    client: Client,
    anonymous: bool,
    authorization: Authorization,
    tokens: Mutex<BTreeMap<Vec<u8>, (Instant, User)>>,
    answers: Mutex<BTreeMap<Question, (Instant, bool)>>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord)]
struct User {
    name: String,
    uid: Option<String>,
    groups: Vec<String>,
    extra: BTreeMap<String, Vec<String>>,
}

type Question = (User, String, String);

/// A request that is not answered.
pub struct Refusal {
    pub status: StatusCode,
    pub text: String,
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Auth {
    pub fn new(config: &Config, client: Client) -> Auth {
        Auth {
            client,
            anonymous: config.anonymous_auth,
            authorization: config.authorization,
            tokens: Mutex::default(),
            answers: Mutex::default(),
        }
    }

    /// Lets a request pass or says why not. `certificate` is a client certificate that TLS has verified.
    pub async fn check<B>(
        &self,
        request: &Request<B>,
        certificate: Option<&[u8]>,
        node: &str,
    ) -> Result<(), Refusal> {
        let user = match self.user(request, certificate).await {
            Ok(Some(user)) => user,
            Ok(None) => {
                return Err(Refusal { status: StatusCode::UNAUTHORIZED, text: "Unauthorized".into() });
            }
            Err(error) => {
                tracing::warn!("asking who a token belongs to: {error}");
                return Err(Refusal { status: StatusCode::UNAUTHORIZED, text: "Unauthorized".into() });
            }
        };
        if self.authorization == Authorization::AlwaysAllow {
            return Ok(());
        }
        let verb = verb(request.method());
        let subresources = subresources(request.uri().path());
        for subresource in &subresources {
            match self.allowed(&user, verb, subresource, node).await {
                Ok(true) => return Ok(()),
                Ok(false) => {}
                Err(error) => {
                    let who = &user.name;
                    let text = format!(
                        "Authorization error (user={who}, verb={verb}, resource=nodes, subresource(s)=[{}])",
                        subresources.join(" ")
                    );
                    tracing::warn!("{text}: {error}");
                    return Err(Refusal { status: StatusCode::INTERNAL_SERVER_ERROR, text });
                }
            }
        }
        let text = format!(
            "Forbidden (user={}, verb={verb}, resource=nodes, subresource(s)=[{}])\n",
            user.name,
            subresources.join(" ")
        );
        Err(Refusal { status: StatusCode::FORBIDDEN, text })
    }

    async fn user<B>(
        &self,
        request: &Request<B>,
        certificate: Option<&[u8]>,
    ) -> Result<Option<User>, String> {
        if let Some(user) = certificate.and_then(user_of_certificate) {
            return Ok(Some(user));
        }
        let header = request.headers().get(header::AUTHORIZATION).and_then(|v| v.to_str().ok());
        if let Some(token) = header.and_then(|h| h.strip_prefix("Bearer ")).map(str::trim) {
            return self.user_of_token(token).await;
        }
        Ok(self.anonymous.then(|| User {
            name: "system:anonymous".into(),
            groups: vec!["system:unauthenticated".into()],
            ..User::default()
        }))
    }

    async fn user_of_token(&self, token: &str) -> Result<Option<User>, String> {
        // Not the token itself: memory is read more easily than one thinks.
        let key = Sha256::digest(token).to_vec();
        let now = Instant::now();
        let known = lock(&self.tokens).get(&key).filter(|(until, _)| now < *until).map(|(_, u)| u.clone());
        if known.is_some() {
            return Ok(known);
        }
        let review = TokenReview {
            spec: TokenReviewSpec { token: token.to_owned(), audiences: None },
            ..TokenReview::default()
        };
        let review = self.client.create(&review).await.map_err(|e| e.chain())?;
        let status = review.status.unwrap_or_default();
        if status.authenticated != Some(true) {
            return Ok(None);
        }
        let info = status.user.unwrap_or_default();
        let user = User {
            name: info.username.unwrap_or_default(),
            uid: info.uid,
            groups: info.groups.unwrap_or_default(),
            extra: info.extra.unwrap_or_default(),
        };
        let mut tokens = lock(&self.tokens);
        if tokens.len() >= MOST {
            tokens.clear();
        }
        tokens.insert(key, (now + TOKEN_FOR, user.clone()));
        Ok(Some(user))
    }

    async fn allowed(&self, user: &User, verb: &str, subresource: &str, node: &str) -> Result<bool, String> {
        let question = (user.clone(), verb.to_owned(), subresource.to_owned());
        let now = Instant::now();
        let known = lock(&self.answers).get(&question).filter(|(until, _)| now < *until).map(|(_, a)| *a);
        if let Some(known) = known {
            return Ok(known);
        }
        let review = SubjectAccessReview {
            spec: SubjectAccessReviewSpec {
                user: Some(user.name.clone()),
                uid: user.uid.clone(),
                groups: Some(user.groups.clone()),
                extra: Some(user.extra.clone()),
                resource_attributes: Some(ResourceAttributes {
                    verb: Some(verb.into()),
                    version: Some("v1".into()),
                    resource: Some("nodes".into()),
                    subresource: Some(subresource.into()),
                    name: Some(node.into()),
                    ..ResourceAttributes::default()
                }),
                ..SubjectAccessReviewSpec::default()
            },
            ..SubjectAccessReview::default()
        };
        let review = self.client.create(&review).await.map_err(|e| e.chain())?;
        let allowed = review.status.is_some_and(|s| s.allowed);
        let mut answers = lock(&self.answers);
        if answers.len() >= MOST {
            answers.clear();
        }
        answers.insert(question, (now + if allowed { ALLOWED_FOR } else { DENIED_FOR }, allowed));
        Ok(allowed)
    }
}

/// The common name is the user, the organizations are the groups.
fn user_of_certificate(der: &[u8]) -> Option<User> {
    let (_, certificate) = x509_parser::parse_x509_certificate(der).ok()?;
    let subject = certificate.subject();
    let name = subject.iter_common_name().next()?.as_str().ok()?.to_owned();
    let mut groups: Vec<String> =
        subject.iter_organization().filter_map(|o| o.as_str().ok().map(str::to_owned)).collect();
    groups.push("system:authenticated".into());
    Some(User { name, groups, ..User::default() })
}

fn verb(method: &http::Method) -> &'static str {
    match method.as_str() {
        "POST" => "create",
        "GET" => "get",
        "PUT" => "update",
        "PATCH" => "patch",
        "DELETE" => "delete",
        _ => "",
    }
}

/// The subresources of `nodes` that allow a path; one of them is enough (KEP 2862).
fn subresources(path: &str) -> Vec<&'static str> {
    let below =
        |prefix: &str| path.strip_prefix(prefix).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
    let mut out = Vec::new();
    for (prefix, name) in
        [("/pods", "pods"), ("/healthz", "healthz"), ("/configz", "configz"), ("/runningpods", "pods")]
    {
        if below(prefix) {
            out.push(name);
        }
    }
    let coarse = [
        ("/stats", "stats"),
        ("/metrics", "metrics"),
        ("/logs", "log"),
        ("/checkpoint", "checkpoint"),
        ("/statusz", "statusz"),
        ("/flagz", "configz"),
    ];
    out.push(coarse.into_iter().find(|(prefix, _)| below(prefix)).map_or("proxy", |(_, name)| name));
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_belong_to_subresources() {
        for (path, expect) in [
            ("/exec/n/p/c", "proxy"),
            ("/containerLogs/n/p/c", "proxy"),
            ("/pods", "pods proxy"),
            ("/podsx", "proxy"),
            ("/runningpods/", "pods proxy"),
            ("/metrics/cadvisor", "metrics"),
            ("/stats/summary", "stats"),
            ("/healthz", "healthz proxy"),
            ("/configz", "configz proxy"),
        ] {
            assert_eq!(subresources(path).join(" "), expect, "{path}");
        }
    }

    #[test]
    fn a_certificate_names_user_and_groups() {
        let mut params = rcgen::CertificateParams::default();
        for (kind, value) in [
            (rcgen::DnType::CommonName, "kube-apiserver-kubelet-client"),
            (rcgen::DnType::OrganizationName, "kubeadm:cluster-admins"),
        ] {
            params.distinguished_name.push(kind, value);
        }
        let key = rcgen::KeyPair::generate().expect("a key");
        let certificate = params.self_signed(&key).expect("a certificate");
        let user = user_of_certificate(certificate.der()).expect("a user");
        assert_eq!(user.name, "kube-apiserver-kubelet-client");
        assert_eq!(user.groups, ["kubeadm:cluster-admins", "system:authenticated"]);
        assert!(user_of_certificate(b"no certificate").is_none());
    }
}
