//! An API server from certificates and ranges: for `up`, and for `corten kube-apiserver`.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use anyhow::{Context, Result};
use apiserver::authentication::{self, jwt, request_header, service_account, token_file, x509};
use apiserver::server::{ApiServer, Config, serve, tls};
use etcd::Store;
use rustls::client::ResolvesClientCert;
use rustls::server::ResolvesServerCert;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::World;
use crate::certificates::tls::certificates;

/// Upstream's default issuer of service account tokens.
pub const ISSUER: &str = "https://kubernetes.default.svc.cluster.local";

/// What an API server is told, keys and certificates read.
pub struct Options {
    pub client_authority: Option<String>,
    /// A proxy that is believed who asks.
    pub request_header: Option<request_header::Verifier>,
    /// Of service account tokens: the first signs, all are believed.
    pub issuers: Vec<String>,
    /// Whom tokens must be for; empty: the issuers.
    pub audiences: Vec<String>,
    pub service_account_signing_key: String,
    pub service_account_keys: Vec<String>,
    /// Tokens die with the objects that they are bound to.
    pub service_account_lookup: bool,
    /// No token lives longer than this, in seconds.
    pub longest_token: Option<i64>,
    /// Tokens of projected volumes last a year, for old clients.
    pub extend_tokens: bool,
    pub token_file: Option<String>,
    pub bootstrap_tokens: bool,
    pub anonymous: bool,
    pub service_cidrs: String,
    pub advertise: Option<(IpAddr, u16)>,
    pub kubelets: Option<Kubelets>,
    /// Which of a node's addresses its kubelet is reached under, the best first; empty for the default.
    pub kubelet_address_types: Vec<String>,
}

/// The way to the kubelets.
pub struct Kubelets {
    /// Who signs their serving certificates; without it nobody checks them (upstream's default).
    pub authority: Option<String>,
    /// What to show them.
    pub identity: Arc<dyn ResolvesClientCert>,
}

/// Builds the server over a store; nothing is served yet. `tune` has the last word on what is not in the
/// options.
pub fn build_with(
    options: Options,
    store: Store,
    world: &World,
    tune: impl FnOnce(&mut Config) -> Result<()>,
) -> Result<Arc<ApiServer>> {
    let x509 = match &options.client_authority {
        Some(pem) => {
            let verifier = x509::Verifier::new(pem.as_bytes()).context("reading the client CA")?;
            Some(Arc::new(verifier))
        }
        None => None,
    };
    let mut keys = Vec::new();
    for pem in &options.service_account_keys {
        keys.extend(jwt::VerifyingKey::from_pem(pem.as_bytes()).context("reading a service account key")?);
    }
    let issuers = options.issuers;
    let issuer = issuers.first().cloned().context("an issuer of service account tokens is needed")?;
    let audiences = if options.audiences.is_empty() { issuers.clone() } else { options.audiences };
    let lookup = options.service_account_lookup;
    let verifier = service_account::Verifier::new(issuers, audiences, keys, lookup);
    let signing = jwt::SigningKey::from_pem(options.service_account_signing_key.as_bytes())
        .context("reading the key that signs service account tokens")?;
    let tokens = match &options.token_file {
        Some(text) => Some(token_file::Tokens::parse(text).context("reading the token file")?),
        None => None,
    };
    let mut config = Config::new(authentication::Config {
        anonymous: options.anonymous,
        request_header: options.request_header,
        x509,
        service_accounts: Some(Arc::new(verifier)),
        token_file: tokens,
        bootstrap_tokens: options.bootstrap_tokens,
        ..authentication::Config::default()
    });
    let mut issuer = service_account::Issuer::new(issuer, signing);
    issuer.longest_seconds = options.longest_token;
    issuer.extend = options.extend_tokens;
    config.issuer = Some(Arc::new(issuer));
    config.service_cidrs = options
        .service_cidrs
        .split(',')
        .map(|cidr| cidr.trim().parse().with_context(|| format!("{cidr:?} is not a service range")))
        .collect::<Result<_>>()?;
    config.advertise = options.advertise;
    config.hostname = nix::unistd::gethostname().unwrap_or_default().to_string_lossy().into_owned();
    if !options.kubelet_address_types.is_empty() {
        config.kubelet_address_types = options.kubelet_address_types;
    }
    if let Some(kubelets) = options.kubelets {
        config.kubelet_tls = Some(kubelet_tls(kubelets)?);
    }
    tune(&mut config)?;
    Ok(ApiServer::build(config, store, world.clock.clone(), world.entropy.clone()))
}

fn kubelet_tls(kubelets: Kubelets) -> Result<Arc<rustls::ClientConfig>> {
    let builder =
        rustls::ClientConfig::builder_with_provider(tls::provider()).with_safe_default_protocol_versions()?;
    let builder = match kubelets.authority {
        Some(authority) => {
            let mut roots = rustls::RootCertStore::empty();
            for certificate in certificates(&authority)? {
                roots.add(certificate).context("reading the CA of the kubelets")?;
            }
            builder.with_root_certificates(roots)
        }
        None => builder.dangerous().with_custom_certificate_verifier(tls::any_server()),
    };
    Ok(Arc::new(builder.with_client_cert_resolver(kubelets.identity)))
}

/// A server that listens. [`Serving::stop`] ends its watches and waits for requests in flight.
pub struct Serving {
    pub server: Arc<ApiServer>,
    pub address: SocketAddr,
    shutdown: CancellationToken,
    listening: JoinHandle<()>,
}

/// Binds, serves, and does what must be done before the first request (`bootstrap`).
pub async fn start(
    server: Arc<ApiServer>,
    address: SocketAddr,
    identity: Arc<dyn ResolvesServerCert>,
) -> Result<Serving> {
    start_with(server, address, identity, &tls::Agreement::default()).await
}

/// As [`start`], with a say in what TLS agrees on.
pub async fn start_with(
    server: Arc<ApiServer>,
    address: SocketAddr,
    identity: Arc<dyn ResolvesServerCert>,
    agreement: &tls::Agreement,
) -> Result<Serving> {
    let listener = TcpListener::bind(address).await.with_context(|| {
        format!("binding the API server to {address}; --secure-port chooses another port")
    })?;
    let address = listener.local_addr()?;
    let tls = tls::server_config_with(identity, agreement).context("preparing TLS")?;
    let shutdown = CancellationToken::new();
    let listening = tokio::spawn(serve(server.clone(), listener, tls, shutdown.clone()));
    apiserver::bootstrap::run(&server)
        .await
        .map_err(anyhow::Error::new)
        .context("laying the first objects")?;
    Ok(Serving { server, address, shutdown, listening })
}

impl Serving {
    pub async fn stop(self) {
        // Others must not be led here any more; the store may already be gone, and then nobody is.
        if let Err(error) = apiserver::bootstrap::leave(&self.server).await {
            tracing::debug!(%error, "taking this server's address away");
        }
        self.server.stop();
        self.shutdown.cancel();
        if let Err(error) = self.listening.await {
            tracing::error!("the API server's listener: {error}");
        }
    }
}
