//! A whole one-node cluster in this process.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result, bail};
use api::core::v1::{Node, NodeCondition};
use apiserver::admission::{Chain, configuration::Configuration};
use apiserver::authentication::request_header;
use client::{Informer, ListParams, SharedInformers};
use controllers::Controllers;
use scheduler::Scheduler;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::{World, api_server, node, store, transport};
use crate::certificates::rotate::{self, Bundle, Identities, Wanted};
use crate::certificates::{self, store::write_file};
use crate::cluster::directory::Settings;
use crate::cluster::{Directory, kubeconfig};
use crate::commands::up::Progress;

/// Admission plugins that are off as long as the controllers are not built which take their finalizers off again.
const WITHOUT: [&str; 1] = ["StorageObjectInUseProtection"];

/// A cluster that runs. [`Cluster::run`] waits for its end and takes it apart in order.
pub struct Cluster {
    serving: api_server::Serving,
    opened: store::Opened,
    /// Everything that talks to the API server; ends by the shutdown token.
    parts: TaskTracker,
    failed: tokio::sync::mpsc::Receiver<anyhow::Error>,
}

/// Starts all parts and waits until the node is Ready, or until `shutdown`. When one does not start, those that
/// did are stopped.
pub async fn start(
    directory: &Directory,
    settings: &Settings,
    progress: &Progress,
    shutdown: &CancellationToken,
) -> Result<Cluster> {
    let parts = TaskTracker::new();
    let started = begin(directory, settings, progress, &parts, shutdown).await;
    if started.is_err() {
        shutdown.cancel();
        parts.close();
        parts.wait().await;
    }
    started
}

async fn begin(
    directory: &Directory,
    settings: &Settings,
    progress: &Progress,
    parts: &TaskTracker,
    shutdown: &CancellationToken,
) -> Result<Cluster> {
    let world = World::real();
    let (failure, failed) = tokio::sync::mpsc::channel(8);
    let node_parts = node::Parts { tracker: parts.clone(), failed: failure, shutdown: shutdown.clone() };

    // containerd takes longest, so it begins first.
    let runtime = node::start_runtime(directory, settings, &node_parts)?;

    let mut pki = certificates::Store::open(&directory.pki())?;
    if let Some(seconds) = settings.certificate_validity {
        pki = pki.with_validity(seconds);
    }
    let wanted = wanted(settings);
    let bundle = rotate::ensure(&pki, &wanted, world.clock.now())?;
    let identities = Identities::new(&bundle)?;
    let kubeconfigs = kubeconfig_paths(directory, settings);
    write_kubeconfigs(&kubeconfigs, settings, &bundle)?;
    let renewed = (kubeconfigs, settings.clone());
    parts.spawn(rotate::rotate(
        pki,
        wanted,
        identities.clone(),
        world.clock.clone(),
        move |bundle| write_kubeconfigs(&renewed.0, &renewed.1, bundle),
        shutdown.clone(),
    ));

    let opened = store::open(&directory.store(), &world)?;
    let options = api_server::Options {
        client_authority: Some(bundle.authority.certificate.clone()),
        request_header: Some(front_proxy(&bundle)?),
        issuers: vec![format!("https://kubernetes.default.svc.{}", settings.cluster_domain)],
        audiences: Vec::new(),
        service_account_signing_key: bundle.service_account_key.clone(),
        service_account_keys: vec![bundle.service_account_public_key.clone()],
        service_account_lookup: true,
        longest_token: None,
        extend_tokens: true,
        token_file: None,
        bootstrap_tokens: false,
        anonymous: settings.anonymous_auth,
        service_cidrs: settings.ranges.services.to_string(),
        advertise: Some((settings.advertise_address, settings.secure_port)),
        kubelets: Some(api_server::Kubelets {
            authority: Some(bundle.authority.certificate.clone()),
            identity: identities.api_server_kubelet_client.clone(),
        }),
        kubelet_address_types: Vec::new(),
    };
    let server = api_server::build_with(options, opened.store.clone(), &world, |config| {
        config.admission = Chain::new(&[], &WITHOUT, Configuration::default());
        // To the endpoints: cluster IPs need not lead anywhere from where this runs.
        config.aggregator.to_endpoints = true;
        config.aggregator.identity = Some(identities.front_proxy_client.clone());
        Ok(())
    })?;
    let address = SocketAddr::from((Ipv4Addr::UNSPECIFIED, settings.secure_port));
    let serving = api_server::start(server.clone(), address, identities.api_server.clone()).await?;
    progress.say(&format!("API server on port {}", settings.secure_port));

    start_controllers(&server, settings, &bundle, &world, parts, shutdown)?;
    start_scheduler(&server, &world, parts, shutdown);
    let node = node::start(directory, settings, &server, runtime, &world, &node_parts);
    let log = || format!("its log is {}", directory.containerd().join("containerd.log").display());
    tokio::select! {
        biased;
        () = shutdown.cancelled() => bail!("told to stop before the cluster was ready"),
        started = progress.patiently("the container runtime and its images", log, None, node) => started??,
    }
    progress.say("controllers, scheduler, kubelet, proxy and DNS");

    let mut cluster = Cluster { serving, opened, parts: parts.clone(), failed };
    let ready = tokio::select! {
        biased;
        () = shutdown.cancelled() => Ok(()),
        error = cluster.failed.recv() => Err(error.unwrap_or_else(|| anyhow::anyhow!("a part ended"))),
        ready = node_ready(&server, &settings.node_name, &world, progress, shutdown) => ready,
    };
    match ready {
        Ok(()) => {
            if !shutdown.is_cancelled() {
                progress.say(&format!("node {} is Ready", settings.node_name));
            }
            Ok(cluster)
        }
        Err(error) => {
            shutdown.cancel();
            cluster.stop().await;
            Err(error)
        }
    }
}

impl Cluster {
    /// Waits for `shutdown`, or for a part without which the cluster cannot go on, and takes it apart: first
    /// those who use the API, then the API server, the store last.
    pub async fn run(mut self, shutdown: &CancellationToken) -> Result<()> {
        let ended = tokio::select! {
            biased;
            () = shutdown.cancelled() => Ok(()),
            Some(error) = self.failed.recv() => Err(error),
        };
        shutdown.cancel();
        self.stop().await;
        ended
    }

    async fn stop(self) {
        self.parts.close();
        self.parts.wait().await;
        self.serving.stop().await;
        self.opened.close();
    }
}

/// Who may say who asks: this server, to extension servers, which read it in `extension-apiserver-authentication`.
fn front_proxy(bundle: &Bundle) -> Result<request_header::Verifier> {
    let names = request_header::Names {
        username: vec!["X-Remote-User".into()],
        uid: vec!["X-Remote-Uid".into()],
        group: vec!["X-Remote-Group".into()],
        extra_prefix: vec!["X-Remote-Extra-".into()],
    };
    let authority = bundle.front_proxy_authority.certificate.as_bytes();
    let verifier = request_header::Verifier::new(names, vec![rotate::FRONT_PROXY.into()], authority);
    verifier.context("reading the front proxy's authority")
}

fn wanted(settings: &Settings) -> Wanted {
    let mut addresses = vec![
        IpAddr::V4(Ipv4Addr::LOCALHOST),
        IpAddr::V6(std::net::Ipv6Addr::LOCALHOST),
        settings.ranges.api_server_address(),
        settings.advertise_address,
    ];
    addresses.dedup();
    let names = [
        "kubernetes",
        "kubernetes.default",
        "kubernetes.default.svc",
        "kubernetes.default.svc.cluster.local",
        "localhost",
    ];
    let mut names: Vec<String> = names.map(str::to_owned).into();
    names.push(settings.node_name.clone());
    Wanted {
        api_server_names: names,
        api_server_addresses: addresses,
        node_name: settings.node_name.clone(),
        node_addresses: vec![settings.advertise_address, IpAddr::V4(Ipv4Addr::LOCALHOST)],
    }
}

fn kubeconfig_paths(directory: &Directory, settings: &Settings) -> Vec<PathBuf> {
    std::iter::once(directory.admin_conf()).chain(settings.kubeconfig.clone()).collect()
}

fn write_kubeconfigs(paths: &[PathBuf], settings: &Settings, bundle: &Bundle) -> Result<()> {
    let server = format!("https://127.0.0.1:{}", settings.secure_port);
    let text = kubeconfig::render(
        "corten",
        &server,
        &bundle.authority.certificate,
        "kubernetes-admin",
        &bundle.admin,
    );
    paths.iter().try_for_each(|path| write_file(Path::new(path), text.as_bytes(), 0o600))
}

fn start_controllers(
    server: &Arc<apiserver::server::ApiServer>,
    settings: &Settings,
    bundle: &Bundle,
    world: &World,
    parts: &TaskTracker,
    shutdown: &CancellationToken,
) -> Result<()> {
    let config = controllers::Config {
        root_ca: bundle.authority.certificate.clone(),
        cluster_cidr: settings.ranges.pods.to_string(),
        // What the project was asked for: upstream's own program waits ten seconds longer.
        node_monitor_grace_period: std::time::Duration::from_secs(40),
        // One API server: nobody still admits objects into a namespace that is being deleted.
        namespace_deletion_delay: std::time::Duration::ZERO,
        ..controllers::Config::default()
    };
    let client = transport::client(server, "system:kube-controller-manager", &[], "kube-controller-manager");
    let server = server.clone();
    let controllers = Controllers::build(config, client, world.clock.clone(), world.entropy.clone())
        .context("configuring the controllers")?
        .with_identities(move |account| {
            let groups = ["system:serviceaccounts", "system:serviceaccounts:kube-system"];
            let user = format!("system:serviceaccount:kube-system:{account}");
            transport::client(&server, &user, &groups, &format!("kube-controller-manager/{account}"))
        });
    parts.spawn(controllers.run(shutdown.clone()));
    Ok(())
}

fn start_scheduler(
    server: &Arc<apiserver::server::ApiServer>,
    world: &World,
    parts: &TaskTracker,
    shutdown: &CancellationToken,
) {
    let client = transport::client(server, "system:kube-scheduler", &[], "kube-scheduler");
    let informers = SharedInformers::new(client.clone(), world.entropy.clone());
    let config = scheduler::Config::default();
    let scheduler = Scheduler::build(config, client, world.clock.clone(), world.entropy.clone(), informers);
    parts.spawn(scheduler.run(shutdown.clone()));
}

/// Waits for the Ready condition of the node, telling what its kubelet says meanwhile.
async fn node_ready(
    server: &Arc<apiserver::server::ApiServer>,
    name: &str,
    world: &World,
    progress: &Progress,
    shutdown: &CancellationToken,
) -> Result<()> {
    let client = transport::client(server, "system:admin", &["system:masters"], "corten");
    let own = ListParams::fields(format!("metadata.name={name}"));
    let nodes: Informer<Node> = Informer::new(client, "", own, world.entropy.clone());
    // `None` once it is ready, else why not.
    let (told, ready) = tokio::sync::watch::channel(Some("the kubelet has not reported yet".to_owned()));
    nodes.add_handler(move |event| {
        let status = event.object().status.as_ref();
        let conditions = status.and_then(|status| status.conditions.as_ref());
        if let Some(condition) = conditions.into_iter().flatten().find(|condition| condition.type_ == "Ready")
        {
            let why = condition.message.clone().unwrap_or_default();
            told.send_replace((condition.status != "True").then_some(why));
        }
    });
    let done = shutdown.child_token();
    let following = tokio::spawn({
        let (nodes, done) = (nodes.clone(), done.clone());
        async move { nodes.run(done).await }
    });
    let why = || ready.borrow().clone().unwrap_or_default();
    let mut changing = ready.clone();
    let wait = async { changing.wait_for(Option::is_none).await.map(|_| ()) };
    let what = format!("node {name} to be Ready");
    let waited = progress.patiently(&what, why, progress.ready_within, wait).await;
    let waited = waited.and_then(|waited| waited.context("waiting for the node"));
    done.cancel();
    following.await.context("waiting for the node")?;
    for pressure in nodes.store().list().iter().flat_map(|node| pressures(node)) {
        progress.say(&format!("but node {name} has {pressure}"));
    }
    waited
}

/// What keeps a node from taking new pods though it is Ready: `DiskPressure (kubelet has disk pressure)`.
pub fn pressures(node: &Node) -> Vec<String> {
    let conditions = node.status.iter().flat_map(|status| status.conditions.iter().flatten());
    let pressing = conditions.filter(|c| c.type_.ends_with("Pressure") && c.status == "True");
    let text = |c: &NodeCondition| format!("{} ({})", c.type_, c.message.as_deref().unwrap_or_default());
    pressing.map(|c| format!("{}: it takes no new pods", text(c))).collect()
}
