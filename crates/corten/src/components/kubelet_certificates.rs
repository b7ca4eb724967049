//! The kubelet's own certificates: the one that it serves with when it is given none, and the one by which the API
//! server knows it, asked for and renewed through CertificateSigningRequests (KEP-266, "TLS bootstrapping" in the
//! documentation). File names are upstream's, so that what kubeadm writes fits.

use std::io::ErrorKind;
use std::net::IpAddr;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use api::certificates::v1::{CertificateSigningRequest, CertificateSigningRequestSpec};
use api::core::v1::ObjectReference;
use api::meta::v1::ObjectMeta;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use client::{Access, Client, EventType, HttpTransport, Informer, ListParams, Recorder, Secret};
use jiff::{SignedDuration, Timestamp};
use rcgen::{CertificateParams, DistinguishedName, DnType, KeyPair};
use tokio_util::sync::CancellationToken;

use crate::certificates::issue::Subject;
use crate::certificates::plan::{Facts, facts};
use crate::certificates::store::{Store, write_file};
use crate::wiring::World;

const SIGNER: &str = "kubernetes.io/kube-apiserver-client-kubelet";
/// How long a request may wait for approval and signature before another one is made; upstream's.
const SIGNED_WITHIN: Duration = Duration::from_secs(15 * 60);
/// The pauses between requests that fail, the first and the longest.
const PAUSES: [Duration; 2] = [Duration::from_secs(2), Duration::from_secs(300)];
/// Renewal comes at a random moment within this part of a certificate's life, in hundredths; upstream's.
const RENEWED_WITHIN: [i64; 2] = [70, 90];
/// How long to sleep at most: clocks are set, and machines sleep.
const LOOK_EVERY: Duration = Duration::from_secs(600);

/// A serving certificate by an authority of the kubelet's own, for a kubelet that is given none: made when it is
/// missing or old. Answers with the files of certificate and key.
pub fn serving(
    directory: &Path,
    node: &str,
    addresses: &[IpAddr],
    now: Timestamp,
) -> Result<(PathBuf, PathBuf)> {
    let store = Store::open(directory)?;
    let authority = store.authority("kubelet-ca", &format!("{node}-ca"), now)?;
    store.leaf(
        "kubelet",
        &authority,
        &Subject::server(node, vec![node.to_owned()], addresses.to_vec()),
        now,
    )?;
    Ok((store.certificate_path("kubelet"), store.key_path("kubelet")))
}

/// Keeps the serving certificate young; the server reads it again when it has changed.
pub async fn keep_serving(
    directory: PathBuf,
    node: String,
    addresses: Vec<IpAddr>,
    world: World,
    shutdown: CancellationToken,
) {
    loop {
        tokio::select! {
            biased;
            () = shutdown.cancelled() => return,
            () = tokio::time::sleep(LOOK_EVERY) => {}
        }
        if let Err(error) = serving(&directory, &node, &addresses, world.clock.now()) {
            tracing::error!("renewing the serving certificate: {error:#}");
        }
    }
}

/// The certificate by which the API server knows the kubelet of a node.
pub struct ClientCertificate {
    /// Where certificate and key lie together, and in what they were before.
    directory: PathBuf,
    node: String,
    world: World,
}

impl ClientCertificate {
    pub fn new(directory: PathBuf, node: &str, world: World) -> ClientCertificate {
        ClientCertificate { directory, node: node.to_owned(), world }
    }

    /// A link to the newest.
    fn current(&self) -> PathBuf {
        self.directory.join("kubelet-client-current.pem")
    }

    /// Asks for a first certificate as whoever `bootstrap` names, unless `kubeconfig` can be used already, and
    /// writes `kubeconfig`. Waits until somebody approves and signs, however long that takes.
    pub async fn bootstrap(
        &self,
        bootstrap: &Path,
        kubeconfig: &Path,
        shutdown: &CancellationToken,
    ) -> Result<()> {
        if let Ok(access) = Access::from_kubeconfig(kubeconfig, None)
            && self.usable(&access)
        {
            return Ok(());
        }
        let access = super::access(bootstrap)?;
        let client = client_of(access.clone())?;
        tracing::info!(node = self.node, "asking for a first certificate");
        self.renew(&client, shutdown).await?;
        write_file(kubeconfig, render(&access, &self.current()).as_bytes(), 0o600)
    }

    /// Whether an access needs no bootstrapping: its certificate has not run out, or it has another way.
    fn usable(&self, access: &Access) -> bool {
        match bytes(access.client_certificate.as_ref()) {
            Ok(Some(pem)) => {
                let now = self.world.clock.now().as_second();
                facts(&String::from_utf8_lossy(&pem)).is_some_and(|facts| now < facts.not_after)
            }
            Ok(None) => access.token.is_some() || access.basic.is_some(),
            Err(_) => false,
        }
    }

    /// The access with the certificate that is kept here, which begins as the kubeconfig's.
    pub fn adopt(&self, mut access: Access) -> Result<Access> {
        let given = bytes(access.client_certificate.as_ref())?.zip(bytes(access.client_key.as_ref())?);
        let given = given.map(|(certificate, key)| {
            (String::from_utf8_lossy(&certificate).into_owned(), String::from_utf8_lossy(&key).into_owned())
        });
        let until = |pem: &str| facts(pem).map(|facts| facts.not_after);
        let kept = std::fs::read_to_string(self.current()).ok().and_then(|pem| until(&pem));
        match given {
            Some((certificate, key)) if until(&certificate) > kept => self.keep(&certificate, &key)?,
            None if kept.is_none() => {
                bail!(
                    "rotateCertificates needs a kubeconfig with a client certificate, or --bootstrap-kubeconfig"
                )
            }
            _ => {}
        }
        let current = Some(Secret::File(self.current()));
        (access.client_certificate, access.client_key) = (current.clone(), current);
        Ok(access)
    }

    /// Renews the certificate for as long as the kubelet runs. The way to the API server reads it again when it has
    /// changed.
    pub async fn rotate(self, client: Client, shutdown: CancellationToken) {
        let clock = self.world.clock.clone();
        let events = Recorder::start(client.clone(), "kubelet", &self.node, clock, shutdown.clone());
        let mut pause = PAUSES[0];
        loop {
            let kept = std::fs::read_to_string(self.current()).ok().and_then(|pem| facts(&pem));
            let mut random = [0; 8];
            self.world.entropy.fill(&mut random);
            let at = kept.map_or(Timestamp::UNIX_EPOCH, |facts| deadline(&facts, u64::from_le_bytes(random)));
            tracing::debug!(%at, "the client certificate's renewal");
            while self.world.clock.now() < at {
                let left = Duration::try_from(at.duration_since(self.world.clock.now())).unwrap_or_default();
                if !sleep(left.min(LOOK_EVERY), &shutdown).await {
                    return;
                }
            }
            match self.renew(&client, &shutdown).await {
                Ok(()) => {
                    tracing::info!(node = self.node, "renewed the client certificate");
                    pause = PAUSES[0];
                }
                Err(error) => {
                    if shutdown.is_cancelled() {
                        return;
                    }
                    let message = format!("renewing the client certificate: {error:#}");
                    tracing::error!(node = self.node, "{message}");
                    events.record(self.reference(), EventType::Warning, "FailedCertificateRenewal", message);
                    if !sleep(pause, &shutdown).await {
                        return;
                    }
                    pause = (pause * 2).min(PAUSES[1]);
                }
            }
        }
    }

    /// The node in events, under its name as upstream's kubelet has it.
    fn reference(&self) -> ObjectReference {
        ObjectReference {
            kind: Some("Node".to_owned()),
            name: Some(self.node.clone()),
            uid: Some(self.node.clone()),
            ..ObjectReference::default()
        }
    }

    /// One request, from its making to the certificate in its place.
    async fn renew(&self, client: &Client, shutdown: &CancellationToken) -> Result<()> {
        let key = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).context("generating a key")?;
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::OrganizationName, "system:nodes");
        params.distinguished_name.push(DnType::CommonName, format!("system:node:{}", self.node));
        let request = params.serialize_request(&key).and_then(|request| request.pem());
        let request = CertificateSigningRequest {
            metadata: ObjectMeta { generate_name: Some("csr-".to_owned()), ..ObjectMeta::default() },
            spec: CertificateSigningRequestSpec {
                request: api::ByteString(request.context("writing a request")?.into_bytes()),
                signer_name: SIGNER.to_owned(),
                usages: Some(vec!["digital signature".to_owned(), "client auth".to_owned()]),
                ..CertificateSigningRequestSpec::default()
            },
            status: None,
        };
        let made = client.create(&request).await.context("asking for a certificate")?;
        let name = made.metadata.name.unwrap_or_default();
        tracing::warn!(
            request = name,
            "waiting for a certificate: somebody has to approve the request, and a signer to sign it"
        );
        let signed = tokio::time::timeout(SIGNED_WITHIN, self.signed(client, &name, shutdown)).await;
        let certificate = match signed {
            Ok(certificate) => certificate.with_context(|| format!("certificate request {name}"))?,
            Err(_) => bail!("certificate request {name} was not signed within {SIGNED_WITHIN:?}"),
        };
        let certificate = String::from_utf8(certificate).context("the certificate is no PEM text")?;
        if facts(&certificate).is_none() {
            bail!("certificate request {name} was answered with what is no certificate");
        }
        self.keep(&certificate, &key.serialize_pem())
    }

    /// Waits for the answer to a request.
    async fn signed(&self, client: &Client, name: &str, shutdown: &CancellationToken) -> Result<Vec<u8>> {
        let own = ListParams::fields(format!("metadata.name={name}"));
        let requests: Informer<CertificateSigningRequest> =
            Informer::new(client.clone(), "", own, self.world.entropy.clone());
        let (told, mut known) = tokio::sync::watch::channel(None);
        requests.add_handler(move |event| {
            if let Some(answer) = answer(event.object()) {
                told.send_replace(Some(answer));
            }
        });
        let done = shutdown.child_token();
        let _ends = done.clone().drop_guard();
        let following = tokio::spawn(async move { requests.run(done).await });
        let answered = tokio::select! {
            biased;
            () = shutdown.cancelled() => bail!("the kubelet stops"),
            answered = known.wait_for(Option::is_some) => {
                answered.context("following the request")?.clone().unwrap_or_else(|| Err(String::new()))
            }
        };
        following.abort();
        answered.map_err(anyhow::Error::msg)
    }

    /// Puts a certificate with its key into a file of its own, and the link to it.
    fn keep(&self, certificate: &str, key: &str) -> Result<()> {
        std::fs::create_dir_all(&self.directory)
            .with_context(|| format!("making {}", self.directory.display()))?;
        let now = self.world.clock.now();
        // Two may come within one second.
        let (second, rest) = (now.strftime("%Y-%m-%d-%H-%M-%S"), now.subsec_nanosecond());
        let name = format!("kubelet-client-{second}.{rest:09}.pem");
        let text = format!("{}\n{}", certificate.trim_end(), key);
        write_file(&self.directory.join(&name), text.as_bytes(), 0o600)?;
        let link = self.directory.join("kubelet-client-current.pem.new");
        match std::fs::remove_file(&link) {
            Err(error) if error.kind() != ErrorKind::NotFound => {
                return Err(error).with_context(|| format!("removing {}", link.display()));
            }
            _ => {}
        }
        symlink(&name, &link)
            .and_then(|()| std::fs::rename(&link, self.current()))
            .with_context(|| format!("writing {}", self.current().display()))
    }
}

/// Sleeps; false when it is time to stop.
async fn sleep(time: Duration, shutdown: &CancellationToken) -> bool {
    tokio::select! {
        biased;
        () = shutdown.cancelled() => false,
        () = tokio::time::sleep(time) => true,
    }
}

/// When to renew, with `random` of all 64 bits choosing the moment: many kubelets that were made together do not ask
/// together.
fn deadline(facts: &Facts, random: u64) -> Timestamp {
    let life = (facts.not_after - facts.not_before).max(0);
    let [from, to] = RENEWED_WITHIN;
    let spread = life * (to - from) / 100;
    let chosen = i64::try_from((u128::from(random) * u128::from(spread.unsigned_abs())) >> 64).unwrap_or(0);
    let after = SignedDuration::from_secs(life * from / 100 + chosen);
    let begin = Timestamp::from_second(facts.not_before).unwrap_or(Timestamp::UNIX_EPOCH);
    begin.checked_add(after).unwrap_or(Timestamp::MAX)
}

/// The certificate, or why there will be none; `None` as long as nobody has decided.
fn answer(request: &CertificateSigningRequest) -> Option<Result<Vec<u8>, String>> {
    let status = request.status.as_ref()?;
    let conditions = status.conditions.as_deref().unwrap_or_default();
    let is = |wanted: &str| conditions.iter().find(|c| c.type_ == wanted && c.status == "True");
    if let Some(refused) = is("Denied").or_else(|| is("Failed")) {
        let text = |text: &Option<String>| text.clone().unwrap_or_default();
        return Some(Err(format!(
            "{}: {}: {}",
            refused.type_,
            text(&refused.reason),
            text(&refused.message)
        )));
    }
    is("Approved")?;
    let certificate = status.certificate.as_ref().filter(|certificate| !certificate.0.is_empty())?;
    Some(Ok(certificate.0.clone()))
}

pub fn client_of(access: Access) -> Result<Client> {
    let transport = HttpTransport::new(access).context("preparing the way to the API server")?;
    Ok(Client::new(std::sync::Arc::new(transport), "kubelet"))
}

/// What is at hand or in a file.
fn bytes(secret: Option<&Secret>) -> Result<Option<Vec<u8>>> {
    match secret {
        None => Ok(None),
        Some(Secret::Inline(bytes)) => Ok(Some(bytes.clone())),
        Some(Secret::File(path)) => {
            std::fs::read(path).map(Some).with_context(|| format!("reading {}", path.display()))
        }
    }
}

/// The kubeconfig of a kubelet that has got its certificate.
fn render(bootstrap: &Access, certificate: &Path) -> String {
    let authority = match &bootstrap.certificate_authority {
        Some(Secret::Inline(pem)) => format!("\n    certificate-authority-data: {}", STANDARD.encode(pem)),
        Some(Secret::File(path)) => format!("\n    certificate-authority: {:?}", path.display().to_string()),
        None => String::new(),
    };
    let (server, file) = (&bootstrap.server, certificate.display().to_string());
    format!(
        "apiVersion: v1\nkind: Config\n\
         clusters:\n- name: default-cluster\n  cluster:\n    server: {server}{authority}\n\
         contexts:\n- name: default-context\n  context:\n    cluster: default-cluster\n    namespace: default\n    \
         user: default-auth\n\
         current-context: default-context\n\
         users:\n- name: default-auth\n  user:\n    client-certificate: {file:?}\n    client-key: {file:?}\n"
    )
}

#[cfg(test)]
mod tests {
    use api::certificates::v1::{CertificateSigningRequestCondition, CertificateSigningRequestStatus};

    use super::*;
    use crate::certificates::issue::Authority;

    #[test]
    fn renewal_comes_late_in_the_life() {
        let facts = Facts { not_before: 1000, not_after: 2000, names: vec![], addresses: vec![] };
        for (random, expect) in [(0, 1700), (1 << 63, 1800), (u64::MAX, 1899)] {
            assert_eq!(deadline(&facts, random).as_second(), expect, "{random}");
        }
    }

    #[test]
    fn answers() {
        let condition = |type_: &str| CertificateSigningRequestCondition {
            type_: type_.to_owned(),
            status: "True".to_owned(),
            reason: Some("R".to_owned()),
            message: Some("m".to_owned()),
            ..CertificateSigningRequestCondition::default()
        };
        for (conditions, certificate, expect) in [
            (vec![], None, None),
            (vec!["Approved"], None, None),
            (vec!["Approved"], Some("c"), Some(Ok(b"c".to_vec()))),
            (vec!["Denied"], None, Some(Err("Denied: R: m".to_owned()))),
            (vec!["Approved", "Failed"], None, Some(Err("Failed: R: m".to_owned()))),
        ] {
            let request = CertificateSigningRequest {
                status: Some(CertificateSigningRequestStatus {
                    certificate: certificate.map(|text| api::ByteString(text.as_bytes().to_vec())),
                    conditions: Some(conditions.iter().map(|c| condition(c)).collect()),
                }),
                ..CertificateSigningRequest::default()
            };
            assert_eq!(answer(&request), expect, "{conditions:?}");
        }
    }

    #[test]
    fn certificates_are_kept_and_adopted() {
        let dir = tempfile::tempdir().unwrap();
        let (pki, kubeconfig) = (dir.path().join("pki"), dir.path().join("kubelet.conf"));
        let world = World::real();
        let now = world.clock.now();
        let kept = ClientCertificate::new(pki.clone(), "n", world);
        let authority = Authority::new("kubernetes", None, now).unwrap();
        let subject = Subject::client("system:node:n", &["system:nodes"]);
        let pair = authority.sign(&subject, now).unwrap();
        let inline = |text: &str| Some(Secret::Inline(text.as_bytes().to_vec()));
        let access = Access {
            server: "https://192.0.2.1:6443".to_owned(),
            certificate_authority: inline(&authority.pair.certificate),
            client_certificate: inline(&pair.certificate),
            client_key: inline(&pair.key),
            ..Access::default()
        };
        assert!(kept.adopt(Access::default()).is_err());
        // The kubeconfig's is the first; an older one does not come back.
        let adopted = kept.adopt(access.clone()).unwrap();
        assert_eq!(adopted.client_certificate, Some(Secret::File(kept.current())));
        let text = std::fs::read_to_string(kept.current()).unwrap();
        assert!(text.starts_with(pair.certificate.trim_end()) && text.contains(&pair.key));
        let old = authority.sign_for(&subject, now, 60).unwrap();
        let older = Access {
            client_certificate: inline(&old.certificate),
            client_key: inline(&old.key),
            ..access.clone()
        };
        kept.adopt(older.clone()).unwrap();
        assert_eq!(std::fs::read_to_string(kept.current()).unwrap(), text);

        // What is written after bootstrapping can be read, and is usable.
        std::fs::write(&kubeconfig, render(&access, &kept.current())).unwrap();
        let written = Access::from_kubeconfig(&kubeconfig, None).unwrap();
        assert_eq!(
            (written.server.as_str(), &written.client_key),
            ("https://192.0.2.1:6443", &adopted.client_key)
        );
        assert!(written.certificate_authority == access.certificate_authority && kept.usable(&written));
        let gone = authority.sign_for(&subject, now, -1).unwrap();
        assert!(!kept.usable(&Access { client_certificate: inline(&gone.certificate), ..older }));
        assert!(!kept.usable(&Access::default()));

        let (certificate, key) = serving(&pki, "n", &["192.0.2.7".parse().unwrap()], now).unwrap();
        assert!(certificate.ends_with("kubelet.crt") && key.ends_with("kubelet.key"));
        let before = std::fs::read(&certificate).unwrap();
        serving(&pki, "n", &["192.0.2.7".parse().unwrap()], now).unwrap();
        assert_eq!(std::fs::read(&certificate).unwrap(), before);
        serving(&pki, "n", &["192.0.2.8".parse().unwrap()], now).unwrap();
        assert_ne!(std::fs::read(&certificate).unwrap(), before);
    }
}
