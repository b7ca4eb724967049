//! A proxy in front of the API server says who asks, in headers (upstream's
//! `authentication/request/headerrequest`). It is believed if it shows a certificate of its own CA, under one of
//! the allowed names. Without that the headers are nothing but headers.

use std::sync::Arc;

use http::HeaderMap;
use jiff::Timestamp;

use super::{UserInfo, authenticated, unescape, x509};

/// Which headers say what. `--requestheader-*-headers`, `--requestheader-extra-headers-prefix`; in lower case.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Names {
    /// The first that is there and not empty counts.
    pub username: Vec<String>,
    pub uid: Vec<String>,
    pub group: Vec<String>,
    pub extra_prefix: Vec<String>,
}

/// Believes a proxy.
pub struct Verifier {
    names: Names,
    /// Common names that a proxy's certificate may have; empty: any.
    allowed: Vec<String>,
    ca: x509::Verifier,
}

/// `--requestheader-*` that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("empty header {0:?}")]
    Empty(String),
    #[error(transparent)]
    Authority(#[from] x509::Error),
}

impl Verifier {
    /// `ca_pem`: who signs the proxies' certificates (`--requestheader-client-ca-file`).
    ///
    /// # Errors
    /// A header without a name, or a bundle without a certificate.
    pub fn new(names: Names, allowed: Vec<String>, ca_pem: &[u8]) -> Result<Self, Error> {
        let tidy = |list: Vec<String>| -> Result<Vec<String>, Error> {
            let one = |name: String| match name.trim() {
                "" => Err(Error::Empty(name)),
                trimmed => Ok(trimmed.to_owned()),
            };
            list.into_iter().map(one).collect()
        };
        let names = Names {
            username: tidy(names.username)?,
            uid: tidy(names.uid)?,
            group: tidy(names.group)?,
            extra_prefix: tidy(names.extra_prefix)?,
        };
        Ok(Self { names, allowed, ca: x509::Verifier::new(ca_pem)? })
    }

    pub fn names(&self) -> &Names {
        &self.names
    }

    pub fn allowed(&self) -> &[String] {
        &self.allowed
    }

    /// Believes proxies of other authorities from now on.
    ///
    /// # Errors
    /// When there is no certificate in it.
    pub fn rotate(&self, ca_pem: &[u8]) -> Result<(), x509::Error> {
        self.ca.rotate(ca_pem)
    }

    pub fn ca_pem(&self) -> String {
        self.ca.ca_pem()
    }

    /// The user that a proxy names. `None`: no header names one. `Err`: one does, and who sent it is not to be
    /// believed.
    pub fn authenticate(
        &self,
        chain: &Arc<[Vec<u8>]>,
        headers: &HeaderMap,
        now: Timestamp,
    ) -> Result<Option<Arc<UserInfo>>, String> {
        // Looked at first, since most requests have none and a chain costs much to check.
        let Some(user) = self.read(headers) else { return Ok(None) };
        let proxy = self.ca.authenticate(chain, now)?;
        let name = proxy.as_ref().map_or("", |proxy| &proxy.name);
        if !self.allowed.is_empty() && !self.allowed.iter().any(|allowed| allowed == name) {
            return Err(format!("x509: subject with cn={name} is not in the allowed list"));
        }
        Ok(Some(authenticated(user)))
    }

    fn read(&self, headers: &HeaderMap) -> Option<UserInfo> {
        let text = |value: &http::HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
        let first = |names: &[String]| {
            names.iter().filter_map(|name| headers.get(name).map(text)).find(|value| !value.is_empty())
        };
        let mut user = UserInfo::new(first(&self.names.username)?, &[]);
        user.uid = first(&self.names.uid).unwrap_or_default();
        for name in &self.names.group {
            user.groups.extend(headers.get_all(name).iter().map(text).filter(|group| !group.is_empty()));
        }
        for prefix in &self.names.extra_prefix {
            let prefix = prefix.to_ascii_lowercase();
            for name in headers.keys() {
                if let Some(key) = name.as_str().strip_prefix(&*prefix) {
                    let values = headers.get_all(name).iter().map(text);
                    user.extra.entry(unescape(key)).or_default().extend(values);
                }
            }
        }
        Some(user)
    }
}

#[cfg(test)]
mod tests {
    use rcgen::{
        BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    };

    use super::*;

    struct Authority(Issuer<'static, KeyPair>, String);

    impl Authority {
        fn new() -> Self {
            let key = KeyPair::generate().unwrap();
            let mut params = CertificateParams::default();
            params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
            let pem = params.self_signed(&key).unwrap().pem();
            Self(Issuer::new(params, key), pem)
        }

        fn chain(&self, name: &str) -> Arc<[Vec<u8>]> {
            let mut params = CertificateParams::default();
            params.distinguished_name.push(DnType::CommonName, name);
            params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
            let leaf = params.signed_by(&KeyPair::generate().unwrap(), &self.0).unwrap();
            [leaf.der().to_vec()].into()
        }
    }

    #[test]
    fn proxies() {
        let (front, other) = (Authority::new(), Authority::new());
        let list = |names: &[&str]| names.iter().map(|n| n.to_string()).collect::<Vec<_>>();
        let names = Names {
            username: list(&["X-Remote-User", "X-User"]),
            uid: list(&["X-Remote-Uid"]),
            group: list(&["X-Remote-Group"]),
            extra_prefix: list(&["X-Remote-Extra-"]),
        };
        let verifier =
            Verifier::new(names.clone(), list(&["front-proxy-client"]), front.1.as_bytes()).unwrap();
        let any = Verifier::new(names, Vec::new(), front.1.as_bytes()).unwrap();
        let jane = [
            ("x-remote-user", "jane"),
            ("x-remote-group", "a"),
            ("x-remote-group", "b"),
            ("x-remote-uid", "7"),
            ("x-remote-extra-scopes.example%2eorg%2Fx", "view"),
        ];
        let check = |verifier: &Verifier, chain: &Arc<[Vec<u8>]>, headers: &[(&'static str, &str)]| {
            let mut map = HeaderMap::new();
            for (name, value) in headers {
                map.append(http::HeaderName::from_bytes(name.as_bytes()).unwrap(), value.parse().unwrap());
            }
            let now = "2026-06-01T00:00:00Z".parse().unwrap();
            verifier.authenticate(chain, &map, now).map(|user| {
                let user = user?;
                let extra: Vec<_> = user.extra.iter().map(|(k, v)| format!("{k}={}", v.join("+"))).collect();
                Some(format!("{} {} {} {}", user.name, user.uid, user.groups.join(","), extra.join(" ")))
            })
        };
        let whole = "jane 7 a,b,system:authenticated scopes.example.org/x=view";
        let good = front.chain("front-proxy-client");
        assert_eq!(check(&verifier, &good, &jane), Ok(Some(whole.into())));
        assert_eq!(
            check(&verifier, &good, &[("x-user", "joe"), ("x-remote-user", "")]),
            Ok(Some("joe  system:authenticated ".into()))
        );
        assert_eq!(check(&verifier, &good, &jane[1..]), Ok(None), "nobody is named");
        assert_eq!(check(&any, &front.chain("x"), &jane), Ok(Some(whole.into())));
        let refused = check(&verifier, &front.chain("x"), &jane);
        assert_eq!(refused, Err("x509: subject with cn=x is not in the allowed list".into()));
        for chain in [other.chain("front-proxy-client"), [].into()] {
            assert!(check(&verifier, &chain, &jane).is_err());
        }
    }
}
