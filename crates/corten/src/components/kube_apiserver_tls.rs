//! `kube-apiserver`'s flags about TLS: what a handshake may agree on, and which certificate whoever is asked for shows.

use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Context, Result, bail};
use apiserver::server::tls::{Agreement, suites};
use rustls::pki_types::ServerName;
use rustls::server::{ClientHello, ParsedCertificate, ResolvesServerCert};
use rustls::sign::CertifiedKey;

use super::read;
use crate::certificates::Pair;
use crate::certificates::tls::Identity;

#[derive(Clone, Debug, Default, clap::Args)]
pub struct TlsFlags {
    /// The oldest version of TLS: VersionTLS12 or VersionTLS13
    #[arg(long, value_name = "VERSION", default_value = "VersionTLS12")]
    tls_min_version: String,
    /// Cipher suites of TLS 1.2 [default: all that there are]
    #[arg(long, value_name = "NAMES", value_delimiter = ',')]
    tls_cipher_suites: Vec<String>,
    /// A certificate and its key for some host names, `certificate,key:names`; without names for those in the
    /// certificate. May be repeated
    #[arg(long, value_name = "FILES")]
    tls_sni_cert_key: Vec<String>,
}

impl TlsFlags {
    /// What a handshake may agree on.
    pub fn agreement(&self) -> Result<Agreement> {
        let only_tls13 = match self.tls_min_version.as_str() {
            "" | "VersionTLS12" => false,
            "VersionTLS13" => true,
            old @ ("VersionTLS10" | "VersionTLS11") => {
                bail!("--tls-min-version {old}: TLS 1.2 is the oldest version that is built")
            }
            other => bail!("--tls-min-version: unknown tls version {other:?}"),
        };
        let known = suites();
        let find = |name: &String| {
            // Go's older names leave the hash out.
            let named = |(known, ..): &&(String, _, _)| known == name || *known == format!("{name}_SHA256");
            let found = known.iter().find(named);
            found.map(|(_, suite, _)| *suite).with_context(|| {
                let names: Vec<&str> = known.iter().map(|(name, ..)| name.as_str()).collect();
                format!("--tls-cipher-suites: {name} is not supported: there are {}", names.join(", "))
            })
        };
        Ok(Agreement { only_tls13, suites: self.tls_cipher_suites.iter().map(find).collect::<Result<_>>()? })
    }

    /// The certificates by the names that clients ask for.
    pub fn certificates(&self, default: Arc<Identity>) -> Result<Arc<ByName>> {
        let named = self.tls_sni_cert_key.iter().map(|text| {
            let wrong = || format!("--tls-sni-cert-key {text:?}: expected certificate,key:names");
            let (files, names) = text.split_once(':').unwrap_or((text, ""));
            let (certificate, key) = files.split_once(',').with_context(wrong)?;
            let files = [PathBuf::from(certificate), PathBuf::from(key)];
            let pair = Pair { certificate: read(&files[0])?, key: read(&files[1])? };
            let names = names.split(',').filter(|name| !name.is_empty()).map(str::to_lowercase).collect();
            Ok(Named { names, files, identity: Identity::new(&pair).with_context(wrong)? })
        });
        let named: Vec<Named> = named.collect::<Result<_>>()?;
        Ok(Arc::new(ByName { named, default }))
    }
}

#[derive(Debug)]
struct Named {
    /// Empty: those in the certificate.
    names: Vec<String>,
    /// Certificate and key.
    files: [PathBuf; 2],
    identity: Arc<Identity>,
}

/// Which certificate is shown to whom.
#[derive(Debug)]
pub struct ByName {
    named: Vec<Named>,
    default: Arc<Identity>,
}

impl ByName {
    /// The certificates that have names of their own, with the files of certificate and key.
    pub fn named(&self) -> impl Iterator<Item = (&[PathBuf; 2], &Arc<Identity>)> {
        self.named.iter().map(|named| (&named.files, &named.identity))
    }
}

impl Named {
    fn is_for(&self, host: &str) -> bool {
        let fits = |pattern: &String| match pattern.strip_prefix("*.") {
            Some(domain) => host.split_once('.').is_some_and(|(_, rest)| rest == domain),
            None => pattern == host,
        };
        if !self.names.is_empty() {
            return self.names.iter().any(fits);
        }
        let identity = self.identity.key();
        let name = ServerName::try_from(host);
        let certificate = identity.cert.first().and_then(|c| ParsedCertificate::try_from(c).ok());
        match (certificate, name) {
            (Some(certificate), Ok(name)) => rustls::client::verify_server_name(&certificate, &name).is_ok(),
            _ => false,
        }
    }
}

impl ResolvesServerCert for ByName {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let host = hello.server_name().unwrap_or_default().to_lowercase();
        // Names that were given count before names that are in certificates.
        let given = self.named.iter().filter(|named| !named.names.is_empty());
        let found = given.chain(self.named.iter().filter(|named| named.names.is_empty()));
        let found = found.into_iter().find(|named| !host.is_empty() && named.is_for(&host));
        Some(found.map_or(&self.default, |named| &named.identity).key())
    }
}

#[cfg(test)]
mod tests {
    use rustls::{CipherSuite, ClientConfig, ClientConnection, ProtocolVersion, ServerConnection};

    use super::*;

    /// A certificate for these names, its key, and both as files.
    fn pair(directory: &std::path::Path, file: &str, names: &[&str]) -> (Pair, Vec<u8>, String) {
        let key = rcgen::KeyPair::generate().unwrap();
        let names: Vec<String> = names.iter().map(|name| (*name).into()).collect();
        let certificate = rcgen::CertificateParams::new(names).unwrap().self_signed(&key).unwrap();
        let pair = Pair { certificate: certificate.pem(), key: key.serialize_pem() };
        let at = |end: &str| directory.join(format!("{file}.{end}"));
        std::fs::write(at("crt"), &pair.certificate).unwrap();
        std::fs::write(at("key"), &pair.key).unwrap();
        let flag = format!("{},{}", at("crt").display(), at("key").display());
        (pair, certificate.der().to_vec(), flag)
    }

    /// Shakes hands in memory: the certificate that was shown, the version and the suite agreed on.
    fn shake(
        server: Arc<rustls::ServerConfig>,
        host: &str,
        versions: &[&'static rustls::SupportedProtocolVersion],
    ) -> Result<(Vec<u8>, ProtocolVersion, CipherSuite), String> {
        let client = ClientConfig::builder_with_provider(apiserver::server::tls::provider())
            .with_protocol_versions(versions)
            .unwrap()
            .dangerous()
            .with_custom_certificate_verifier(apiserver::server::tls::any_server())
            .with_no_client_auth();
        let name = ServerName::try_from(host.to_owned()).unwrap();
        let mut client = ClientConnection::new(Arc::new(client), name).unwrap();
        let mut server = ServerConnection::new(server).unwrap();
        while client.is_handshaking() || server.is_handshaking() {
            let mut bytes = Vec::new();
            while client.wants_write() {
                client.write_tls(&mut bytes).unwrap();
            }
            server.read_tls(&mut bytes.as_slice()).unwrap();
            server.process_new_packets().map_err(|error| error.to_string())?;
            let mut bytes = Vec::new();
            while server.wants_write() {
                server.write_tls(&mut bytes).unwrap();
            }
            client.read_tls(&mut bytes.as_slice()).unwrap();
            client.process_new_packets().map_err(|error| error.to_string())?;
        }
        let suite = client.negotiated_cipher_suite().unwrap().suite();
        let shown = client.peer_certificates().unwrap()[0].to_vec();
        Ok((shown, client.protocol_version().unwrap(), suite))
    }

    #[test]
    fn handshakes() {
        let directory = tempfile::tempdir().unwrap();
        let (default, default_der, _) = pair(directory.path(), "default", &["api.example.org"]);
        let (_, by_certificate, one) = pair(directory.path(), "one", &["one.example.org", "*.b.example.org"]);
        let (_, by_name, two) = pair(directory.path(), "two", &["elsewhere.example.org"]);
        let flags = |version: &str, suite: &[&str]| TlsFlags {
            tls_min_version: version.into(),
            tls_cipher_suites: suite.iter().map(|name| (*name).into()).collect(),
            tls_sni_cert_key: vec![one.clone(), format!("{two}:two.example.org,*.c.example.org")],
        };
        let config = |flags: &TlsFlags| {
            let identity = Identity::new(&default).unwrap();
            let certificates = flags.certificates(identity).unwrap();
            apiserver::server::tls::server_config_with(certificates, &flags.agreement().unwrap()).unwrap()
        };
        let any = config(&flags("", &[]));
        for (host, expect) in [
            ("api.example.org", &default_der),
            ("unknown.example.org", &default_der),
            ("127.0.0.1", &default_der),
            ("one.example.org", &by_certificate),
            ("ONE.example.org", &by_certificate),
            ("x.b.example.org", &by_certificate),
            ("two.example.org", &by_name),
            ("x.c.example.org", &by_name),
            ("x.y.c.example.org", &default_der),
            ("elsewhere.example.org", &default_der),
        ] {
            let (shown, ..) = shake(any.clone(), host, rustls::DEFAULT_VERSIONS).unwrap();
            assert!(shown == *expect, "{host}");
        }
        let old = [&rustls::version::TLS12];
        let host = "api.example.org";
        let chosen = "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256";
        let only = config(&flags("", &[chosen]));
        let (_, version, suite) = shake(only.clone(), host, &old).unwrap();
        assert_eq!((version, suite.as_str()), (ProtocolVersion::TLSv1_2, Some(chosen)));
        // Those of 1.3 stay.
        let (_, version, _) = shake(only, host, rustls::DEFAULT_VERSIONS).unwrap();
        assert_eq!(version, ProtocolVersion::TLSv1_3);
        let new = config(&flags("VersionTLS13", &[]));
        assert!(shake(new.clone(), host, &old).is_err());
        assert_eq!(shake(new, host, rustls::DEFAULT_VERSIONS).unwrap().1, ProtocolVersion::TLSv1_3);
        let mut wrong = flags("", &[]);
        for (flag, why) in [("x", "expected certificate,key:names"), ("/no/such,/file", "reading /no/such")] {
            wrong.tls_sni_cert_key = vec![flag.into()];
            let error = wrong.certificates(Identity::new(&default).unwrap()).err().unwrap();
            assert!(format!("{error:#}").contains(why), "{error:#}");
        }
    }

    #[test]
    fn agreements() {
        let flags = |version: &str, suites: &[&str]| TlsFlags {
            tls_min_version: version.into(),
            tls_cipher_suites: suites.iter().map(|name| (*name).into()).collect(),
            tls_sni_cert_key: Vec::new(),
        };
        type Row<'a> = (TlsFlags, Result<(bool, usize), &'a str>);
        let table: [Row<'_>; 6] = [
            (flags("", &[]), Ok((false, 0))),
            (flags("VersionTLS13", &[]), Ok((true, 0))),
            (flags("VersionTLS11", &[]), Err("TLS 1.2 is the oldest version that is built")),
            (flags("1.3", &[]), Err("unknown tls version")),
            (
                flags(
                    "",
                    &["TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256", "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305"],
                ),
                Ok((false, 2)),
            ),
            (flags("", &["TLS_RSA_WITH_AES_128_CBC_SHA"]), Err("is not supported: there are TLS_")),
        ];
        for (flags, expect) in table {
            match (flags.agreement(), expect) {
                (Ok(made), Ok(expect)) => assert_eq!((made.only_tls13, made.suites.len()), expect),
                (Err(error), Err(why)) => assert!(format!("{error:#}").contains(why), "{error:#}"),
                (made, expect) => panic!("{made:?} for {expect:?}"),
            }
        }
    }
}
