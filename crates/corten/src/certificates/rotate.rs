//! The certificates of one cluster, and the task that keeps them young.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;
use apimachinery::clock::Clock;
use jiff::Timestamp;
use tokio_util::sync::CancellationToken;

use super::issue::{Pair, Subject};
use super::store::Store;
use super::tls::Identity;

/// How often the certificates are looked at, at least. A renewal is due months ahead, so a missed look costs nothing.
const LOOK_EVERY: Duration = Duration::from_secs(6 * 3600);

/// The part of a certificate's life after which it is looked at again: well within the third in which it is renewed.
const LOOKS: u32 = 15;

/// How often to look at certificates that live for so many seconds.
fn look_every(validity: i64) -> Duration {
    let life = Duration::from_secs(u64::try_from(validity).unwrap_or_default());
    (life / LOOKS).min(LOOK_EVERY)
}

/// The name under which the API server speaks for others to extension servers, as kubeadm has it.
pub const FRONT_PROXY: &str = "front-proxy-client";

/// What the certificates of a cluster depend on.
#[derive(Clone, Debug)]
pub struct Wanted {
    /// DNS names and addresses under which clients reach the API server.
    pub api_server_names: Vec<String>,
    pub api_server_addresses: Vec<IpAddr>,
    pub node_name: String,
    pub node_addresses: Vec<IpAddr>,
}

/// All certificates of a cluster with one node, as `corten up` uses them.
#[derive(Clone)]
pub struct Bundle {
    pub authority: Pair,
    pub api_server: Pair,
    pub api_server_kubelet_client: Pair,
    pub admin: Pair,
    /// Of those who may say who asks, and what the API server shows extension servers.
    pub front_proxy_authority: Pair,
    pub front_proxy_client: Pair,
    pub service_account_key: String,
    pub service_account_public_key: String,
}

/// Reads all certificates, making or renewing those that are due.
pub fn ensure(store: &Store, wanted: &Wanted, now: Timestamp) -> Result<Bundle> {
    let authority = store.authority("ca", "kubernetes", now)?;
    let leaf =
        |name: &str, subject: &Subject| store.leaf(name, &authority, subject, now).map(|(pair, _)| pair);
    let front_proxy = store.authority("front-proxy-ca", "front-proxy-ca", now)?;
    let (service_account_key, service_account_public_key) = store.service_account_key()?;
    // Not in the bundle: the kubelet reads it from its file, and again when that changes.
    leaf(
        "kubelet",
        &Subject::server(
            &format!("system:node:{}", wanted.node_name),
            vec![wanted.node_name.clone()],
            wanted.node_addresses.clone(),
        ),
    )?;
    Ok(Bundle {
        api_server: leaf(
            "apiserver",
            &Subject::server(
                "kube-apiserver",
                wanted.api_server_names.clone(),
                wanted.api_server_addresses.clone(),
            ),
        )?,
        api_server_kubelet_client: leaf(
            "apiserver-kubelet-client",
            &Subject::client("kube-apiserver-kubelet-client", &["system:masters"]),
        )?,
        admin: leaf("admin", &Subject::client("kubernetes-admin", &["system:masters"]))?,
        front_proxy_client: store.leaf(FRONT_PROXY, &front_proxy, &Subject::client(FRONT_PROXY, &[]), now)?.0,
        front_proxy_authority: front_proxy.pair,
        authority: authority.pair.clone(),
        service_account_key,
        service_account_public_key,
    })
}

/// The identities that servers and clients hold while certificates change underneath. The kubelet reads its
/// own from the files.
#[derive(Clone)]
pub struct Identities {
    pub api_server: Arc<Identity>,
    pub api_server_kubelet_client: Arc<Identity>,
    pub front_proxy_client: Arc<Identity>,
}

impl Identities {
    pub fn new(bundle: &Bundle) -> Result<Identities> {
        Ok(Identities {
            api_server: Identity::new(&bundle.api_server)?,
            api_server_kubelet_client: Identity::new(&bundle.api_server_kubelet_client)?,
            front_proxy_client: Identity::new(&bundle.front_proxy_client)?,
        })
    }

    fn set(&self, bundle: &Bundle) -> Result<()> {
        self.api_server.set(&bundle.api_server)?;
        self.front_proxy_client.set(&bundle.front_proxy_client)?;
        self.api_server_kubelet_client.set(&bundle.api_server_kubelet_client)
    }
}

/// Keeps the certificates young until shutdown: renews what is due, exchanges the identities and calls
/// `renewed` (which rewrites the kubeconfig). A failure is logged and tried again at the next look.
pub async fn rotate(
    store: Store,
    wanted: Wanted,
    identities: Identities,
    clock: Arc<dyn Clock>,
    renewed: impl Fn(&Bundle) -> Result<()>,
    shutdown: CancellationToken,
) {
    let pause = look_every(store.validity());
    loop {
        tokio::select! {
            biased;
            () = shutdown.cancelled() => return,
            () = tokio::time::sleep(pause) => {}
        }
        let done = ensure(&store, &wanted, clock.now())
            .and_then(|bundle| identities.set(&bundle).and_then(|()| renewed(&bundle)));
        if let Err(error) = done {
            tracing::error!("renewing certificates: {error:#}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_certificate_runs_out_while_the_process_runs() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path()).unwrap();
        let wanted = Wanted {
            api_server_names: vec!["kubernetes".into()],
            api_server_addresses: vec!["127.0.0.1".parse().unwrap()],
            node_name: "node".into(),
            node_addresses: vec![],
        };
        let start = 1_800_000_000;
        // Thirty years, a look every twenty days: each certificate is valid at each look.
        let mut before: Option<Bundle> = None;
        for day in (0..30 * 365).step_by(20) {
            let now = Timestamp::from_second(start + day * 86_400).unwrap();
            let bundle = ensure(&store, &wanted, now).unwrap();
            for name in [
                "ca",
                "apiserver",
                "apiserver-kubelet-client",
                "kubelet",
                "admin",
                "front-proxy-ca",
                "front-proxy-client",
            ] {
                let pem = std::fs::read_to_string(store.certificate_path(name)).unwrap();
                let facts = super::super::plan::facts(&pem).unwrap();
                assert!(
                    facts.not_before <= now.as_second() && now.as_second() < facts.not_after,
                    "day {day}"
                );
            }
            if let Some(before) = before {
                // The keys that everybody trusts stay the same.
                assert!(before.authority.key == bundle.authority.key);
                assert!(before.service_account_key == bundle.service_account_key);
            }
            before = Some(bundle);
        }
    }
}
