//! Following the API, and keeping the kernel's tables as they should be.

use super::services::{ServicePort, observe};
use super::tables::{Check, Tables};
use super::{Config, Node, plan, stale_flows};
use api::core::v1::{Node as ApiNode, Service};
use api::discovery::v1::EndpointSlice;
use apimachinery::clock::Entropy;
use client::{Informer, ListParams, SharedInformers};
use linux::nftables::{self, Family};
use linux::{conntrack, sysctl};
use std::fmt::Write as _;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::sync::Notify;
use tokio::time::{Instant, MissedTickBehavior, interval_at, sleep_until};
use tokio_util::sync::CancellationToken;

const SWEEP_AFTER: Duration = Duration::from_secs(2);
const RETRY_AFTER: Duration = Duration::from_secs(1);
const NEVER: Duration = Duration::from_secs(86_400 * 365);

/// A proxy that is ready to run.
pub struct Proxy {
    config: Config,
    informers: SharedInformers,
    services: Informer<Service>,
    slices: Informer<EndpointSlice>,
    node: Informer<ApiNode>,
    handle: Handle,
}

/// A view of a running proxy for its health and metrics pages. Cheap to clone.
#[derive(Clone, Default)]
pub struct Handle {
    state: Arc<State>,
}

#[derive(Default)]
struct State {
    changed: Notify,
    /// When the oldest change came that is not in the kernel yet.
    waiting_since: Mutex<Option<Instant>>,
    synced: AtomicBool,
    transactions: AtomicU64,
    failures: AtomicU64,
    repairs: AtomicU64,
    service_ports: AtomicU64,
    endpoints: AtomicU64,
}

/// What `/healthz` says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Health {
    /// The first sync is done and no change has been waiting for longer than two sync periods or a minute.
    pub healthy: bool,
    /// How long the oldest change that is not in the kernel has been waiting.
    pub waiting: Option<Duration>,
}

impl Handle {
    pub fn health(&self) -> Health {
        let since = *self.state.waiting_since.lock().unwrap_or_else(|e| e.into_inner());
        let waiting = since.map(|s| s.elapsed());
        let synced = self.state.synced.load(Ordering::Relaxed);
        Health { healthy: synced && waiting.is_none_or(|w| w < Duration::from_secs(60)), waiting }
    }

    /// Whether the rules for what the API server had at the start are in the kernel.
    pub fn has_synced(&self) -> bool {
        self.state.synced.load(Ordering::Relaxed)
    }

    /// Transactions so far.
    pub fn transactions(&self) -> u64 {
        self.state.transactions.load(Ordering::Relaxed)
    }

    /// In Prometheus' text format.
    pub fn metrics(&self) -> String {
        let s = &self.state;
        let mut out = String::new();
        for (name, kind, help, value) in [
            ("sync_proxy_rules_transactions_total", "counter", "Transactions applied", &s.transactions),
            ("sync_proxy_rules_nftables_sync_failures_total", "counter", "Transactions refused", &s.failures),
            ("sync_proxy_rules_repairs_total", "counter", "Changes by others that were undone", &s.repairs),
            ("sync_proxy_rules_service_ports", "gauge", "Service ports known", &s.service_ports),
            ("sync_proxy_rules_endpoints", "gauge", "Endpoints known", &s.endpoints),
        ] {
            let value = value.load(Ordering::Relaxed);
            let _ = writeln!(
                out,
                "# HELP kubeproxy_{name} {help}\n# TYPE kubeproxy_{name} {kind}\nkubeproxy_{name} {value}"
            );
        }
        out
    }

    fn note_change(&self) {
        let mut since = self.state.waiting_since.lock().unwrap_or_else(|e| e.into_inner());
        since.get_or_insert_with(Instant::now);
        self.state.changed.notify_one();
    }
}

impl Proxy {
    /// Asks for the informers that it needs; nothing runs yet. `entropy` spreads retries.
    pub fn build(config: Config, informers: &SharedInformers, entropy: Arc<dyn Entropy>) -> Self {
        let own = ListParams {
            field_selector: format!("metadata.name={}", config.node_name),
            ..ListParams::default()
        };
        let proxy = Proxy {
            services: informers.get(),
            slices: informers.get(),
            node: Informer::new(informers.client().clone(), "", own, entropy),
            informers: informers.clone(),
            config,
            handle: Handle::default(),
        };
        let handle = proxy.handle.clone();
        proxy.services.add_handler(move |_| handle.note_change());
        let handle = proxy.handle.clone();
        proxy.slices.add_handler(move |_| handle.note_change());
        let (handle, mut known) = (proxy.handle.clone(), None);
        proxy.node.add_handler(move |event| {
            // A Node's status changes all the time; only these facts make a difference.
            let facts = Some(facts(event.object()));
            if facts != known {
                known = facts;
                handle.note_change();
            }
        });
        proxy
    }

    pub fn handle(&self) -> Handle {
        self.handle.clone()
    }

    /// Runs until `shutdown`, and leaves the rules in place then: connections outlive the proxy.
    /// [`cleanup`] removes them.
    pub async fn run(self, shutdown: CancellationToken) {
        self.informers.start(&shutdown);
        let node = self.node.clone();
        let stop = shutdown.clone();
        let follow_node = tokio::spawn(async move { node.run(stop).await });
        // Rules from half the objects would cut off the other half.
        let ready = self.services.wait_for_sync(&shutdown).await
            && self.slices.wait_for_sync(&shutdown).await
            && self.node.wait_for_sync(&shutdown).await;
        if ready {
            self.follow(&shutdown).await;
        }
        if let Err(error) = follow_node.await {
            tracing::error!(%error, "following the node failed");
        }
    }

    async fn follow(&self, shutdown: &CancellationToken) {
        let mut tables = Tables::new();
        let mut known: Vec<ServicePort> = Vec::new();
        let mut tick = interval_at(Instant::now() + self.config.sync_period, self.config.sync_period);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut sweep_at = Instant::now() + NEVER;
        loop {
            let synced = self.sync(&mut tables, &mut known).await;
            let now = Instant::now();
            let retry_at = if synced { now + NEVER } else { now + RETRY_AFTER };
            if tables.has_retired() {
                sweep_at = sweep_at.min(now + SWEEP_AFTER);
            }
            // What comes during this pause goes into one transaction.
            let pause = tokio::time::sleep(self.config.min_sync_period);
            tokio::select! {
                biased;
                () = shutdown.cancelled() => return,
                () = pause => {}
            }
            loop {
                tokio::select! {
                    biased;
                    () = shutdown.cancelled() => return,
                    () = self.handle.state.changed.notified() => break,
                    () = sleep_until(retry_at) => break,
                    () = sleep_until(sweep_at) => {
                        sweep_at = Instant::now() + NEVER;
                        if let Err(error) = tables.sweep().await {
                            warn("unused chains could not be deleted", &error);
                            break;
                        }
                    }
                    _ = tick.tick(), if synced => match tables.check().await {
                        Ok(Check::Unchanged) => self.open_loopback(),
                        Ok(Check::Intact) => self.pass_firewall().await,
                        Ok(Check::Damaged) => {
                            self.handle.state.repairs.fetch_add(1, Ordering::Relaxed);
                            tracing::warn!(table = %self.config.table, "our nftables rules were changed by somebody else; restoring them");
                            break;
                        }
                        Err(error) => warn("the rules could not be checked", &error),
                    },
                }
            }
        }
    }

    /// One round: read, plan, apply. `false` when it has to be tried again.
    async fn sync(&self, tables: &mut Tables, known: &mut Vec<ServicePort>) -> bool {
        let state = &self.handle.state;
        // Taken before reading: a change that comes while we work counts as waiting again.
        let waiting = state.waiting_since.lock().unwrap_or_else(|e| e.into_inner()).take();
        let ports =
            observe(&self.services.store().list(), &self.slices.store().list(), &self.config.node_name);
        let node = self.node.store().get("", &self.config.node_name);
        let node = node.map(|n| facts(&n)).unwrap_or_default();
        self.open_loopback();
        match tables.sync(plan(&self.config, &node, &ports)).await {
            Ok(changed) => {
                state.transactions.fetch_add(u64::from(changed), Ordering::Relaxed);
                state.service_ports.store(ports.len() as u64, Ordering::Relaxed);
                let endpoints: usize = ports.iter().map(|p| p.endpoints.len()).sum();
                state.endpoints.store(endpoints as u64, Ordering::Relaxed);
                for flows in stale_flows(known, &ports) {
                    if let Err(error) = conntrack::forget_udp(&flows).await {
                        warn("old UDP flows could not be forgotten", &error);
                        break;
                    }
                }
                *known = ports;
                state.synced.store(true, Ordering::Relaxed);
                true
            }
            Err(error) => {
                state.failures.fetch_add(1, Ordering::Relaxed);
                warn("the Service rules could not be applied; trying again", &error);
                let mut since = state.waiting_since.lock().unwrap_or_else(|e| e.into_inner());
                *since = waiting.or(*since).or_else(|| Some(Instant::now()));
                false
            }
        }
    }

    /// Somebody else changed the machine's firewall: our pods' traffic must still pass.
    async fn pass_firewall(&self) {
        if let Some(bridge) = &self.config.bridge
            && let Err(error) = crate::cni::allow_forwarding(bridge).await
        {
            warn("the firewall could not be asked to let the pods' traffic pass", &error);
        }
    }

    /// Packets from 127.0.0.1 may leave by our bridge only with this setting on it; the rules' guard chain
    /// keeps others from using the opening.
    fn open_loopback(&self) {
        let Some(bridge) = self.config.bridge.as_deref().filter(|_| self.config.loopback_node_ports) else {
            return;
        };
        let name = format!("net/ipv4/conf/{bridge}/route_localnet");
        if sysctl::exists(&name)
            && let Err(error) = sysctl::ensure(&name, "1")
        {
            warn("node ports will not answer on 127.0.0.1", &error);
        }
    }
}

fn facts(node: &ApiNode) -> Node {
    let spec = node.spec.as_ref();
    let listed = spec.and_then(|s| s.pod_cidrs.clone()).filter(|c| !c.is_empty());
    let cidrs = listed.or_else(|| spec.and_then(|s| s.pod_cidr.clone()).map(|c| vec![c])).unwrap_or_default();
    let addresses = node.status.as_ref().and_then(|s| s.addresses.as_deref()).unwrap_or_default();
    Node {
        pod_cidrs: cidrs.iter().filter_map(|c| c.parse().ok()).collect(),
        addresses: addresses
            .iter()
            .filter(|a| a.type_ == "InternalIP")
            .filter_map(|a| a.address.parse().ok())
            .collect(),
    }
}

fn warn(what: &str, error: &linux::Error) {
    tracing::warn!(error = %error.chain(), "{what}");
}

/// Removes all rules of the proxy with this configuration. Connections through them break.
pub async fn cleanup(config: &Config) -> linux::Result<()> {
    nftables::delete_table(Family::Ip, &config.table).await?;
    nftables::delete_table(Family::Ip6, &config.table).await
}
