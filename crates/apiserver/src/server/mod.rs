//! The server itself: what it is built from, who can talk to it, and how a request goes through it.
//!
//! [`ApiServer::handle`] (in `pipeline`) is the whole way of a request; [`serve`] feeds it from connections.

mod audit;
mod drain;
pub mod features;
pub mod flow;
pub mod headers;
mod listener;
mod pipeline;
mod pool;
mod served;
pub mod tls;
mod turns;
mod upkeep;
mod wire;

use std::{
    collections::BTreeSet,
    net::{IpAddr, SocketAddr},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use apimachinery::{
    clock::{Clock, Entropy},
    schema::ResourceRef,
};
use bytes::Bytes;
use etcd::Store;
use http_body_util::{BodyExt, Full, combinators::UnsyncBoxBody};
use tokio_util::sync::CancellationToken;

pub(crate) use self::drain::drained;
pub use self::listener::serve;
pub use self::served::{Error as ServedError, Served};
use crate::{
    admission, authentication, authorization,
    proxy::Backend,
    registry::core::service::{Allocators, Cidr},
    request::UserInfo,
    storage::Storage,
};

pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// Bodies in both directions.
pub type Body = UnsyncBoxBody<Bytes, BoxError>;

/// A body of known bytes.
pub fn body(bytes: impl Into<Bytes>) -> Body {
    Full::new(bytes.into()).map_err(|never| match never {}).boxed_unsync()
}

/// Who is at the other end of a connection, as far as the connection tells.
#[derive(Clone, Debug)]
pub enum Peer {
    /// Over TLS. The certificates are what the client sent, leaf first, in DER and *not verified*: that is the
    /// authenticator's part.
    Tls { address: SocketAddr, certificates: Arc<[Vec<u8>]> },
    /// In this process, with an identity given by the wiring; authorization and admission apply as to anybody.
    Identity(UserInfo),
    /// In this process or a test, without an identity: only headers can authenticate it.
    Plain,
}

/// What a server is built from. [`Config::new`] has upstream's defaults.
pub struct Config {
    pub authentication: authentication::Config,
    pub authorization: Vec<authorization::Asked>,
    pub admission: admission::Chain,
    /// Makes tokens of service accounts; without it TokenRequest is refused.
    pub issuer: Option<Arc<authentication::service_account::Issuer>>,
    /// `--service-cluster-ip-range`: one range, or one of each family.
    pub service_cidrs: Vec<Cidr>,
    /// `--service-node-port-range`: first and last.
    pub node_ports: (u16, u16),
    /// Where clients reach this server: what the `kubernetes` Service points at.
    pub advertise: Option<(IpAddr, u16)>,
    /// For connections to kubelets: trusts their CA, presents the API server's certificate.
    pub kubelet_tls: Option<Arc<rustls::ClientConfig>>,
    /// `--kubelet-preferred-address-types`. Upstream begins with the host name, which a cluster of one command
    /// cannot expect to resolve.
    pub kubelet_address_types: Vec<String>,
    /// `--kubelet-port`, for nodes that name none.
    pub kubelet_port: u16,
    /// `--event-ttl`.
    pub event_ttl: Duration,
    /// `--request-timeout`, for requests that are not long-running.
    pub request_timeout: Duration,
    /// `--min-request-timeout`: watches last this long or up to twice as long, unless they say otherwise.
    pub min_watch: Duration,
    /// Request bodies up to this many bytes.
    pub max_body: usize,
    /// JSON of stored objects kept in memory, in bytes.
    pub encoding_bytes: usize,
    /// This machine's name: what tells API servers apart.
    pub hostname: String,
    /// `--endpoint-reconciler-type=lease`: the `kubernetes` Service leads to [`Config::advertise`].
    pub publish_endpoints: bool,
    /// `--max-requests-inflight` and `--max-mutating-requests-inflight`.
    pub max_in_flight: (u32, u32),
    /// `--enable-priority-and-fairness`.
    pub fair: bool,
    /// `--goaway-chance`: the part of HTTP/2 requests after which their client is asked to connect again.
    pub goaway_chance: f64,
    /// `--etcd-compaction-interval`; zero: nothing is compacted.
    pub compaction: Duration,
    /// `--runtime-config`.
    pub served: Served,
    /// `--feature-gates`.
    pub gates: features::Gates,
    /// `--service-account-jwks-uri`: where relying parties find the keys, if not at this server.
    pub jwks_uri: Option<String>,
    /// `--cors-allowed-origins` and `--strict-transport-security-directives`.
    pub headers: headers::Extra,
    /// `--allow-privileged`: whether containers may be.
    pub allow_privileged: bool,
    /// The way to extension servers.
    pub aggregator: crate::aggregator::Config,
}

impl Config {
    pub fn new(authentication: authentication::Config) -> Self {
        Self {
            authentication,
            authorization: vec![authorization::Mode::Node.into(), authorization::Mode::Rbac.into()],
            admission: admission::Chain::default(),
            issuer: None,
            service_cidrs: "10.96.0.0/12".parse().into_iter().collect(),
            node_ports: (30000, 32767),
            advertise: None,
            kubelet_tls: None,
            kubelet_address_types: ["InternalIP", "InternalDNS", "Hostname", "ExternalIP", "ExternalDNS"]
                .map(String::from)
                .into(),
            kubelet_port: 10250,
            event_ttl: Duration::from_secs(3600),
            request_timeout: Duration::from_secs(60),
            min_watch: Duration::from_secs(1800),
            max_body: 3 << 20,
            encoding_bytes: 16 << 20,
            hostname: "localhost".into(),
            publish_endpoints: true,
            max_in_flight: (400, 200),
            fair: true,
            goaway_chance: 0.0,
            compaction: Duration::from_secs(300),
            served: Served::default(),
            gates: features::Gates::default(),
            jwks_uri: None,
            headers: headers::Extra::default(),
            allow_privileged: true,
            aggregator: crate::aggregator::Config::default(),
        }
    }
}

/// The API server. Cheap to call from many tasks; built once.
pub struct ApiServer {
    pub storage: Storage,
    pub clock: Arc<dyn Clock>,
    pub entropy: Arc<dyn Entropy>,
    pub authenticator: authentication::Authenticator,
    pub authorizer: Arc<authorization::Authorizer>,
    pub admission: admission::Chain,
    pub issuer: Option<Arc<authentication::service_account::Issuer>>,
    pub allocators: Arc<Allocators>,
    pub kubelets: Option<Backend>,
    /// Ends watches.
    pub shutdown: CancellationToken,
    /// Set once what must exist before the first request exists.
    pub ready: AtomicBool,
    /// Set when the end was asked for: `/readyz` says so, requests are still answered.
    pub terminating: AtomicBool,
    /// The steps of `bootstrap::run` that are done.
    hooks: Mutex<BTreeSet<String>>,
    pub flow: flow::FlowControl,
    audit_ids: audit::AuditIds,
    pub settings: Settings,
    pub metrics: crate::metrics::Metrics,
    pub served: Served,
    pub gates: features::Gates,
    pub openapi: crate::openapi::Documents,
    /// Who answers for what is not served here.
    pub aggregator: crate::aggregator::Aggregator,
    /// What kubelets said last of what is used.
    pub scrapes: crate::metrics_api::Scrapes,
    /// The custom resources.
    pub catalog: crate::custom::Catalog,
    /// Calls webhooks.
    pub webhooks: crate::webhook::Client,
}

/// The plain values of [`Config`].
#[derive(Clone, Debug)]
pub struct Settings {
    pub service_cidrs: Vec<Cidr>,
    pub advertise: Option<(IpAddr, u16)>,
    pub kubelet_address_types: Vec<String>,
    pub kubelet_port: u16,
    pub event_ttl: Duration,
    pub request_timeout: Duration,
    pub min_watch: Duration,
    pub max_body: usize,
    pub jwks_uri: Option<String>,
    pub headers: headers::Extra,
    pub allow_privileged: bool,
    pub hostname: String,
    pub publish_endpoints: bool,
    pub goaway_chance: f64,
    pub compaction: Duration,
}

impl ApiServer {
    /// Builds the server over a store. Reads what is stored (Services, for their addresses; roles), writes
    /// nothing: that is `bootstrap::run`'s part.
    pub fn build(
        config: Config,
        store: Store,
        clock: Arc<dyn Clock>,
        entropy: Arc<dyn Entropy>,
    ) -> Arc<Self> {
        let allocators = Arc::new(Allocators::new(&config.service_cidrs, config.node_ports, entropy.clone()));
        let rbac = Arc::<authorization::rbac::Rbac>::default();
        let node = Arc::new(authorization::node::Node::new(crate::bootstrap::policy::node_rules()));
        let metrics = crate::metrics::Metrics::default();
        let mut storage = Storage::new(store, config.encoding_bytes, config.event_ttl);
        storage.times = metrics.store_times();
        let shutdown = CancellationToken::new();
        let server = Arc::new(Self {
            webhooks: crate::webhook::Client::new(storage.clone(), entropy.clone()),
            catalog: crate::custom::Catalog::new(storage.store(), shutdown.clone()),
            storage,
            clock,
            audit_ids: audit::AuditIds::new(&*entropy),
            entropy,
            authenticator: authentication::Authenticator::new(config.authentication),
            authorizer: Arc::new(authorization::Authorizer::new(config.authorization, rbac, node)),
            admission: config.admission,
            issuer: config.issuer,
            allocators,
            kubelets: config.kubelet_tls.map(Backend::new),
            shutdown,
            ready: AtomicBool::new(false),
            terminating: AtomicBool::new(false),
            hooks: Mutex::default(),
            flow: flow::FlowControl::new(config.fair, config.max_in_flight, config.request_timeout),
            metrics,
            openapi: crate::openapi::Documents::new(config.served.clone()),
            aggregator: crate::aggregator::Aggregator::new(config.aggregator),
            scrapes: crate::metrics_api::Scrapes::default(),
            served: config.served,
            gates: config.gates,
            settings: Settings {
                service_cidrs: config.service_cidrs,
                advertise: config.advertise,
                kubelet_address_types: config.kubelet_address_types,
                kubelet_port: config.kubelet_port,
                event_ttl: config.event_ttl,
                request_timeout: config.request_timeout,
                min_watch: config.min_watch,
                max_body: config.max_body,
                jwks_uri: config.jwks_uri,
                headers: config.headers,
                allow_privileged: config.allow_privileged,
                hostname: config.hostname,
                publish_endpoints: config.publish_endpoints,
                goaway_chance: config.goaway_chance,
                compaction: config.compaction,
            },
        });
        server.authorizer.follow(server.storage.store());
        crate::registry::restore(&server);
        server
    }

    /// Everything that is served, built-in kinds first.
    pub fn resources(&self) -> Vec<ResourceRef> {
        let custom = self.catalog.all().into_iter().map(ResourceRef::Custom);
        self.served.iter().map(ResourceRef::from).chain(custom).collect()
    }

    /// From now on `/readyz` fails, so that nobody sends anything new; everything is still answered.
    pub fn begin_shutdown(&self) {
        self.terminating.store(true, Ordering::Release);
    }

    pub(crate) fn finish_hooks(&self, names: &[&str]) {
        let mut hooks = self.hooks.lock().unwrap_or_else(PoisonError::into_inner);
        hooks.extend(names.iter().map(|name| name.to_string()));
    }

    /// A step of the start is done.
    pub(crate) fn hook_is_finished(&self, name: &str) -> bool {
        self.hooks.lock().unwrap_or_else(PoisonError::into_inner).contains(name)
    }

    /// `--goaway-chance` met: the client of this request is to connect again, elsewhere if there are others.
    pub(crate) fn wants_goaway(&self) -> bool {
        let chance = self.settings.goaway_chance;
        if chance <= 0.0 {
            return false;
        }
        let mut bytes = [0; 4];
        self.entropy.fill(&mut bytes);
        f64::from(u32::from_le_bytes(bytes)) / f64::from(u32::MAX) < chance
    }

    /// Ends every watch and tells the listener's connections to go. Further requests are still answered.
    pub fn stop(&self) {
        self.begin_shutdown();
        self.shutdown.cancel();
    }
}
