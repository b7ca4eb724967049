//! The kubelet, put together.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use api::core::v1::{Pod, Service};
use apimachinery::clock::{Clock, Entropy};
use client::{Client, Event, Informer, ListParams, Recorder};
use linux::cgroup::{Cgroups, Resources};
use tokio::net::TcpListener;
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

use crate::config::Config;
use crate::context::{Context, Machine, Readiness};
use crate::events::Events;
use crate::images::Images;
use crate::node;
use crate::objects::Objects;
use crate::pod::cgroups::Tree;
use crate::pod::{resources, spec};
use crate::pods::Pods;
use crate::probe::Probes;
use crate::runtime::Runtime;
use crate::server::{self, Server};
use crate::volumes::tokens::Tokens;
use crate::{housekeeping, pleg, static_pods};

/// Why a kubelet cannot be built.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("the kubelet needs root: it makes mounts and control groups")]
    NotRoot,
    #[error(transparent)]
    Cri(#[from] cri::Error),
    #[error("{0}")]
    Machine(String),
    #[error("listening on {address}")]
    Listen { address: SocketAddr, source: std::io::Error },
    #[error("making {path}")]
    Directory { path: String, source: std::io::Error },
    #[error(transparent)]
    Tls(#[from] server::TlsError),
}

/// An error of the kernel's side with its cause.
pub fn text(error: &linux::Error) -> String {
    match std::error::Error::source(error) {
        Some(source) => format!("{error}: {source}"),
        None => error.to_string(),
    }
}

/// A kubelet about to be run.
pub struct Kubelet {
    context: Arc<Context>,
    pods: Pods,
    readiness: watch::Sender<Readiness>,
    server: Server,
    healthz: Option<TcpListener>,
    /// Ends everything that was started while building.
    stop: CancellationToken,
}

impl Kubelet {
    /// Checks what is needed and opens the ports. Must be called within a tokio runtime.
    pub async fn build(
        config: Config,
        client: Client,
        clock: Arc<dyn Clock>,
        entropy: Arc<dyn Entropy>,
    ) -> Result<Kubelet, Error> {
        if !linux::is_root() {
            return Err(Error::NotRoot);
        }
        let machine_error = |e: linux::Error| Error::Machine(text(&e));
        for path in [&config.root_dir, &config.pod_logs_dir] {
            std::fs::create_dir_all(path)
                .map_err(|source| Error::Directory { path: path.display().to_string(), source })?;
        }
        let cgroups =
            if config.cgroups_per_qos { Some(Cgroups::discover().map_err(machine_error)?) } else { None };
        let disk = linux::mount::usage(&config.root_dir).map_err(machine_error)?;
        let machine = Machine {
            milli_cpu: linux::sysinfo::cpu_count() as i64 * 1000,
            memory: linux::sysinfo::memory().map_err(machine_error)?.total as i64,
            disk: disk.capacity as i64,
        };
        let host_ips = match config.node_ips.is_empty() {
            false => config.node_ips.iter().map(ToString::to_string).collect(),
            true => vec![node::find_address().map_err(Error::Machine)?.to_string()],
        };
        let address = SocketAddr::new(config.address, config.port);
        let listener =
            TcpListener::bind(address).await.map_err(|source| Error::Listen { address, source })?;
        let server = Server::build(&config, listener, client.clone())?;
        let healthz = match config.healthz {
            Some(address) => {
                Some(TcpListener::bind(address).await.map_err(|source| Error::Listen { address, source })?)
            }
            None => None,
        };

        let cri = cri::Client::lazy(&config.container_runtime_endpoint)?;
        let stop = CancellationToken::new();
        let recorder =
            Recorder::start(client.clone(), "kubelet", &config.node_name, clock.clone(), stop.clone());
        let events = Events::new(recorder, &config.node_name);
        let unknown = Err("container runtime status check may not have completed yet".to_owned());
        let (readiness, ready) = watch::channel(Readiness { runtime: unknown.clone(), network: unknown });
        let allocatable = node::allocatable(&config, &machine);
        let context = Arc::new(Context {
            runtime: Runtime::new(cri.clone(), config.pod_logs_dir.clone()),
            images: Images::new(cri.clone(), clock.clone(), events.clone(), config.serialize_image_pulls),
            objects: Objects::new(client.clone(), entropy.clone()),
            tokens: Tokens::new(client.clone(), clock.clone()),
            probes: Arc::new(Probes::new(cri, clock.clone(), events.clone())),
            services: Informer::<Service>::new(client.clone(), "", ListParams::default(), entropy.clone()),
            tree: Tree::new(&config.cgroup_root),
            events,
            cgroups,
            machine,
            allocatable,
            host_ips,
            readiness: ready,
            client,
            clock,
            entropy,
            config,
        });
        Ok(Kubelet { pods: Pods::new(context.clone()), context, readiness, server, healthz, stop })
    }

    /// Where the HTTPS server listens.
    pub fn address(&self) -> SocketAddr {
        self.server.address()
    }

    /// Runs until `shutdown`. Pods go on without it.
    pub async fn run(self, shutdown: CancellationToken) {
        let Kubelet { context, pods, readiness, server, healthz, stop } = self;
        let port = server.address().port();
        context.events.node(false, "Starting", "Starting kubelet.");
        if let Err(error) = ensure_tree(&context) {
            tracing::error!("making the control groups of pods: {error}");
        }
        let mut tasks = tokio::task::JoinSet::new();
        tasks.spawn(watch_runtime(context.clone(), readiness, stop.clone()));
        tasks.spawn(node::run(context.clone(), port, stop.clone()));
        let services = context.services.clone();
        let until = stop.clone();
        tasks.spawn(async move { services.run(until).await });
        tasks.spawn(pleg::run(context.clone(), pods.clone(), stop.clone()));
        tasks.spawn(server.run(context.clone(), pods.clone(), stop.clone()));
        if let Some(listener) = healthz {
            tasks.spawn(server::health(listener, stop.clone()));
        }
        tasks.spawn(follow(context.clone(), pods.clone(), stop.clone()));

        shutdown.cancelled().await;
        stop.cancel();
        let _ = tokio::time::timeout(Duration::from_secs(5), async {
            while tasks.join_next().await.is_some() {}
        })
        .await;
        tasks.abort_all();
    }
}

/// Takes pods from the API and from files, and cleans up once both are known.
async fn follow(context: Arc<Context>, pods: Pods, stop: CancellationToken) {
    let (sender, mut events) = mpsc::unbounded_channel();
    let mine = ListParams::fields(format!("spec.nodeName={}", context.config.node_name));
    let informer = Informer::<Pod>::new(context.client.clone(), "", mine, context.entropy.clone());
    informer.add_handler(move |event| {
        let removed = matches!(event, Event::Deleted(_));
        let _ = sender.send((removed, event.object().clone()));
    });
    let (running, until) = (informer.clone(), stop.clone());
    let _informer = tokio::spawn(async move { running.run(until).await });

    // Static pods run without the API.
    let _files = tokio::spawn(static_pods::run(context.clone(), pods.clone(), stop.clone()));
    // Pods wait for the runtime; cleaning up waits for the pods.
    let mut ready = context.readiness.clone();
    if ready.wait_for(|r| r.runtime.is_ok()).await.is_err() {
        return;
    }
    let mut cleaning = None;
    loop {
        tokio::select! {
            biased;
            () = stop.cancelled() => break,
            event = events.recv() => match event {
                Some((true, pod)) => pods.remove(&pod),
                Some((false, pod)) => pods.put(pod),
                None => break,
            },
            synced = informer.wait_for_sync(&stop), if cleaning.is_none() => if synced && events.is_empty() {
                cleaning = Some(tokio::spawn(housekeeping::run(context.clone(), pods.clone(), stop.clone())));
            },
            () = pods.changed.notified() => class_shares(&context, &pods),
        }
    }
}

/// A runtime that is silent for this long counts as down; upstream's.
const RUNTIME_WITHIN: Duration = Duration::from_secs(30);

/// Asks the runtime every five seconds how it is, as upstream does; more often until it is ready.
async fn watch_runtime(context: Arc<Context>, readiness: watch::Sender<Readiness>, stop: CancellationToken) {
    loop {
        let asked = tokio::time::timeout(RUNTIME_WITHIN, context.runtime.client.status()).await;
        let now = match asked.map_err(|_| format!("no answer within {} s", RUNTIME_WITHIN.as_secs())) {
            Ok(Ok(answer)) => {
                let conditions = answer.status.unwrap_or_default().conditions;
                let of = |name: &str| match conditions.iter().find(|c| c.r#type == name) {
                    Some(c) if c.status => Ok(()),
                    Some(c) => Err(format!(
                        "container runtime network not ready: {name}={} reason:{} message:{}",
                        c.status, c.reason, c.message
                    )),
                    None => Err(format!("container runtime condition {name} is not set")),
                };
                Readiness { runtime: of("RuntimeReady"), network: of("NetworkReady") }
            }
            Ok(Err(error)) => Readiness::down(&error.to_string()),
            Err(silent) => Readiness::down(&silent),
        };
        let all = now.runtime.is_ok() && now.network.is_ok();
        readiness.send_if_modified(|old| {
            let modified = *old != now;
            *old = now;
            modified
        });
        let period = if all { Duration::from_secs(5) } else { Duration::from_millis(100) };
        tokio::select! {
            biased;
            () = stop.cancelled() => return,
            () = tokio::time::sleep(period) => {}
        }
    }
}

/// The groups above the pods' own, with the share of the machine that pods may have.
fn ensure_tree(context: &Context) -> Result<(), String> {
    let Some(cgroups) = &context.cgroups else { return Ok(()) };
    let [cpu, memory, _] = context.allocatable;
    let all = Resources {
        cpu_shares: Some(resources::shares(cpu)),
        memory_limit: Some(memory),
        ..Resources::default()
    };
    cgroups.create(&context.tree.kubepods(), &all).map_err(|e| text(&e))?;
    for class in ["Burstable", "BestEffort"] {
        let least = Resources { cpu_shares: Some(resources::shares(0)), ..Resources::default() };
        cgroups.create(&context.tree.class(class), &least).map_err(|e| text(&e))?;
    }
    Ok(())
}

/// What burstable pods ask for together is their class's share.
fn class_shares(context: &Context, pods: &Pods) {
    let Some(cgroups) = &context.cgroups else { return };
    let all: Vec<Arc<Pod>> = pods.list().iter().map(|h| h.pod()).collect();
    let active = all.iter().filter(|p| !spec::is_terminal(spec::status(p).phase.as_deref())).map(|p| &**p);
    let shares = crate::pod::cgroups::class_shares("Burstable", active);
    let limits = Resources { cpu_shares: Some(shares), ..Resources::default() };
    if let Err(error) = cgroups.set(&context.tree.class("Burstable"), &limits) {
        tracing::debug!("setting the share of burstable pods: {}", text(&error));
    }
}
