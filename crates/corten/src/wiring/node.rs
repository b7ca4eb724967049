//! The node's half: containerd, kubelet, pod network, Service proxy and DNS.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Context, Result};
use api::core::v1::{Node, Service};
use api::discovery::v1::EndpointSlice;
use apiserver::server::ApiServer;
use client::{Client, Informer, ListParams, SharedInformers};
use cri::containerd::{Containerd, Images, Mirror};
use kubelet::Kubelet;
use linux::cgroup::Cgroups;
use linux::netlink::Prefix;
use network::{cni, dns, proxy};
use tokio::sync::mpsc::Sender;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::{World, transport};
use crate::cluster::directory::Settings;
use crate::cluster::{Directory, preflight};

/// The image that holds a pod's namespaces open; made by this program at the first start.
pub const PAUSE: &str = "corten.local/pause:1";

/// What a part of the node needs of the rest.
#[derive(Clone)]
pub struct Parts {
    pub tracker: TaskTracker,
    pub failed: Sender<anyhow::Error>,
    pub shutdown: CancellationToken,
}

impl Parts {
    /// Runs a part without which the cluster cannot go on.
    fn spawn_vital(&self, what: &'static str, part: impl Future<Output = Result<()>> + Send + 'static) {
        let (failed, shutdown) = (self.failed.clone(), self.shutdown.clone());
        self.tracker.spawn(async move {
            if let Err(error) = part.await
                && !shutdown.is_cancelled()
            {
                let _ = failed.try_send(error.context(what));
            }
        });
    }
}

/// The container runtime: ours, or one that was there before.
pub enum Runtime {
    Own(Box<cri::containerd::Handle>, Images),
    Given(String),
}

impl Runtime {
    fn endpoint(&self, directory: &Directory) -> String {
        match self {
            Runtime::Own(..) => format!("unix://{}", directory.containerd_socket().display()),
            Runtime::Given(endpoint) => endpoint.clone(),
        }
    }
}

/// The configuration of the cluster's own containerd.
pub fn containerd_config(directory: &Directory, mirrors: &[Mirror]) -> cri::containerd::Config {
    let mut config = cri::containerd::Config::below(&directory.containerd());
    config.sandbox_image = PAUSE.to_owned();
    config.cni_conf_dir = directory.cni();
    config.mirrors = mirrors.to_vec();
    if let Some(plugins) = preflight::cni_directory() {
        config.cni_bin_dir = plugins;
    }
    config
}

/// `docker.io=http://127.0.0.1:5000`.
fn mirrors(given: &[String]) -> Vec<Mirror> {
    let mut mirrors: Vec<Mirror> = Vec::new();
    for (registry, endpoint) in given.iter().filter_map(|mirror| mirror.split_once('=')) {
        match mirrors.iter_mut().find(|mirror| mirror.registry == registry) {
            Some(mirror) => mirror.endpoints.push(endpoint.to_owned()),
            None => mirrors.push(Mirror {
                registry: registry.to_owned(),
                endpoints: vec![endpoint.to_owned()],
                skip_verify: false,
            }),
        }
    }
    mirrors
}

/// Starts containerd, unless another runtime is given.
pub fn start_runtime(directory: &Directory, settings: &Settings, parts: &Parts) -> Result<Runtime> {
    if let Some(endpoint) = &settings.container_runtime_endpoint {
        return Ok(Runtime::Given(endpoint.clone()));
    }
    let config = containerd_config(directory, &mirrors(&settings.registry_mirrors));
    let images = Images::new(&config);
    let containerd = Containerd::build(config).context("preparing containerd")?;
    let handle = containerd.handle();
    let shutdown = parts.shutdown.clone();
    parts.spawn_vital("running containerd", async move { Ok(containerd.run(shutdown).await?) });
    Ok(Runtime::Own(Box::new(handle), images))
}

/// Imports the pause image and the archives of `D/images` that the runtime does not have in this form yet.
async fn import_images(directory: Directory, runtime: &Runtime) -> Result<()> {
    let Runtime::Own(handle, images) = runtime else { return Ok(()) };
    handle.ready().await.context("starting containerd")?;
    if handle.client().image_status(PAUSE).await?.is_none() {
        let file = directory.containerd().join("pause.tar");
        oci::pause(PAUSE)?.write_to(&file)?;
        images.import(&file).await.context("importing the pause image")?;
    }
    let listing = std::fs::read_dir(directory.images())
        .with_context(|| format!("listing {}", directory.images().display()))?;
    let mut files: Vec<PathBuf> =
        listing.flatten().map(|entry| entry.path()).filter(|path| path.is_file()).collect();
    files.sort();
    let done = directory.containerd().join("imported.json");
    let mut known: std::collections::BTreeMap<String, String> =
        std::fs::read(&done).ok().and_then(|text| serde_json::from_slice(&text).ok()).unwrap_or_default();
    for file in files {
        let stamp = std::fs::metadata(&file).ok().map(|data| {
            use std::os::unix::fs::MetadataExt;
            format!("{} {}.{}", data.size(), data.mtime(), data.mtime_nsec())
        });
        let (Some(stamp), name) = (stamp, file.display().to_string()) else { continue };
        if known.get(&name) == Some(&stamp) {
            continue;
        }
        match images.import(&file).await {
            Ok(names) => {
                tracing::info!(file = %file.display(), images = %names.join(" "), "imported");
                known.insert(name, stamp);
            }
            // One bad archive must not keep the node from starting.
            Err(error) => tracing::error!(file = %file.display(), "importing an archive: {error}"),
        }
    }
    let text = serde_json::to_vec_pretty(&known)?;
    crate::certificates::store::write_file(&done, &text, 0o644)
}

/// Everything on the node that talks to the API server.
pub async fn start(
    directory: &Directory,
    settings: &Settings,
    server: &Arc<ApiServer>,
    runtime: Runtime,
    world: &World,
    parts: &Parts,
) -> Result<()> {
    let endpoint = runtime.endpoint(directory);
    import_images(directory.clone(), &runtime).await?;
    let node_user = format!("system:node:{}", settings.node_name);
    let client = transport::client(server, &node_user, &["system:nodes"], "kubelet");
    let config = kubelet_config(directory, settings, &endpoint);
    let kubelet = Kubelet::build(config, client, world.clock.clone(), world.entropy.clone())
        .await
        .context("starting the kubelet")?;
    parts.tracker.spawn(kubelet.run(parts.shutdown.clone()));

    let client = transport::client(server, "system:kube-proxy", &[], "kube-proxy");
    let informers = SharedInformers::new(client.clone(), world.entropy.clone());
    let proxy = proxy::Proxy::build(proxy_config(directory, settings), &informers, world.entropy.clone());
    parts.tracker.spawn(proxy.run(parts.shutdown.clone()));
    let network = PodNetwork {
        directory: directory.clone(),
        settings: settings.clone(),
        domain: settings.cluster_domain.clone(),
        // The objects of the DNS Service are the cluster's own, like those that bootstrap makes.
        admin: transport::client(server, "system:admin", &["system:masters"], "corten"),
        client,
        informers,
        world: world.clone(),
        parts: parts.clone(),
    };
    parts.spawn_vital("setting up the pod network", network.run());
    Ok(())
}

fn kubelet_config(directory: &Directory, settings: &Settings, endpoint: &str) -> kubelet::Config {
    let mut config = kubelet::Config::new(&settings.node_name);
    config.root_dir = directory.kubelet();
    config.pod_logs_dir = directory.logs().join("pods");
    config.container_logs_dir = None;
    config.container_runtime_endpoint = endpoint.to_owned();
    config.cluster_dns = vec![settings.ranges.dns_address()];
    config.cluster_domain = settings.cluster_domain.clone();
    config.port = settings.kubelet_port;
    config.healthz = None;
    config.tls_cert_file = directory.pki().join("kubelet.crt");
    config.tls_private_key_file = directory.pki().join("kubelet.key");
    config.client_ca_file = Some(directory.pki().join("ca.crt"));
    config.cgroup_root = cgroup_root(settings);
    config.node_ips = vec![settings.advertise_address];
    config
}

/// Pods of several clusters on one machine have groups of their own.
fn cgroup_root(settings: &Settings) -> String {
    format!("/corten-{}", settings.id)
}

fn prefix(range: crate::cluster::ranges::Range) -> Option<Prefix> {
    range.to_string().parse().ok()
}

pub fn proxy_config(directory: &Directory, settings: &Settings) -> proxy::Config {
    let names = cni::names(&directory.root);
    proxy::Config {
        table: names.table,
        cluster_cidrs: prefix(settings.ranges.pods).into_iter().collect(),
        service_cidrs: prefix(settings.ranges.services).into_iter().collect(),
        bridge: Some(names.bridge),
        foreign_interfaces: Some(names.all_bridges.to_owned()),
        ..proxy::Config::new(&settings.node_name)
    }
}

pub fn cni_config(directory: &Directory, settings: &Settings, pod_cidrs: Vec<Prefix>) -> cni::Config {
    let names = cni::names(&directory.root);
    cni::Config {
        network: names.table,
        bridge: names.bridge,
        pod_cidrs,
        service_cidrs: prefix(settings.ranges.services).into_iter().collect(),
        conf_dir: directory.cni(),
        state_dir: directory.root.join("ipam"),
        mtu: None,
    }
}

/// The bridge and the DNS behind it, once the node knows its range.
struct PodNetwork {
    directory: Directory,
    settings: Settings,
    domain: String,
    admin: Client,
    client: Client,
    informers: SharedInformers,
    world: World,
    parts: Parts,
}

impl PodNetwork {
    async fn run(self) -> Result<()> {
        let Some(cidrs) = self.pod_cidrs().await? else { return Ok(()) };
        let setup = cni::setup(&cni_config(&self.directory, &self.settings, cidrs))
            .await
            .context("making the bridge for pods")?;
        for warning in &setup.warnings {
            tracing::warn!("{warning}");
        }
        let gateway = *setup.gateways.first().context("the node has no pod range")?;
        self.dns(gateway).await
    }

    /// Waits for node IPAM.
    async fn pod_cidrs(&self) -> Result<Option<Vec<Prefix>>> {
        let own = ListParams::fields(format!("metadata.name={}", self.settings.node_name));
        let nodes: Informer<Node> = Informer::new(self.client.clone(), "", own, self.world.entropy.clone());
        let (told, mut known) = tokio::sync::watch::channel(Vec::new());
        nodes.add_handler(move |event| {
            let spec = event.object().spec.as_ref();
            let cidrs = spec.and_then(|spec| spec.pod_cidrs.clone()).unwrap_or_default();
            if !cidrs.is_empty() {
                told.send_replace(cidrs);
            }
        });
        let done = self.parts.shutdown.child_token();
        let following = tokio::spawn({
            let (nodes, done) = (nodes.clone(), done.clone());
            async move { nodes.run(done).await }
        });
        let cidrs = tokio::select! {
            biased;
            () = self.parts.shutdown.cancelled() => None,
            found = known.wait_for(|cidrs| !cidrs.is_empty()) => found.ok().map(|cidrs| cidrs.clone()),
        };
        done.cancel();
        following.await.context("following the node")?;
        let Some(cidrs) = cidrs else { return Ok(None) };
        let parse = |text: &String| text.parse().with_context(|| format!("the node's pod range {text}"));
        cidrs.iter().map(parse).collect::<Result<_>>().map(Some)
    }

    /// DNS on the bridge, on a port of its own: pods come to it through the Service.
    async fn dns(&self, gateway: IpAddr) -> Result<()> {
        let mut config = dns::Config::new(vec![SocketAddr::new(gateway, 0)]);
        config.domain = self.domain.clone();
        let resolv_conf = std::fs::read_to_string("/etc/resolv.conf").unwrap_or_default();
        config.resolvers =
            dns::parse_resolv_conf(&resolv_conf, &[gateway, self.settings.ranges.dns_address()]);
        config.reverse = [self.settings.ranges.pods, self.settings.ranges.services]
            .into_iter()
            .filter_map(prefix)
            .collect();
        let server = dns::Server::build(config, &self.informers, self.world.entropy.clone()).await?;
        let address = *server.addresses().first().context("the DNS listens nowhere")?;
        self.parts.tracker.spawn(server.run(self.parts.shutdown.clone()));
        let (service, slice) = dns::service_objects(self.settings.ranges.dns_address(), address);
        self.ensure_service(service).await.context("making the Service kube-dns")?;
        self.ensure_slice(slice).await.context("making the endpoints of kube-dns")
    }

    /// Looked for first: creating it again would fail for its address before its name.
    async fn ensure_service(&self, service: Service) -> Result<()> {
        let meta = &service.metadata;
        let (namespace, name) =
            (meta.namespace.as_deref().unwrap_or_default(), meta.name.as_deref().unwrap_or_default());
        match self.admin.get::<Service>(namespace, name).await {
            Err(error) if error.is_not_found() => {
                self.admin.create(&service).await?;
                Ok(())
            }
            found => found.map(|_| ()).map_err(Into::into),
        }
    }

    /// The port is another one at every start.
    async fn ensure_slice(&self, mut slice: EndpointSlice) -> Result<()> {
        let (namespace, name) = (
            slice.metadata.namespace.clone().unwrap_or_default(),
            slice.metadata.name.clone().unwrap_or_default(),
        );
        match self.admin.get::<EndpointSlice>(&namespace, &name).await {
            Ok(present) => {
                slice.metadata.resource_version = present.metadata.resource_version;
                self.admin.update(&slice).await?;
            }
            Err(error) if error.is_not_found() => {
                self.admin.create(&slice).await?;
            }
            Err(error) => return Err(error.into()),
        }
        Ok(())
    }
}

/// Unmounts the volumes of pods that are gone.
pub fn unmount_volumes(directory: &Directory) -> Result<()> {
    for root in [directory.kubelet(), directory.containerd()] {
        if root.exists() {
            linux::mount::unmount_below(&root)?;
        }
    }
    Ok(())
}

/// How long processes that were killed may take to go.
const ENDING: std::time::Duration = std::time::Duration::from_secs(5);

/// Removes the cluster's control groups. They are empty by now, unless containerd has lost sight of something.
pub fn remove_cgroups(settings: &Settings) -> Result<()> {
    let groups = Cgroups::discover()?;
    let root = cgroup_root(settings);
    if groups.exists(&root) {
        let begin = std::time::Instant::now();
        while groups.kill(&root)? > 0 && begin.elapsed() < ENDING {
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
        groups.remove(&root)?;
    }
    Ok(())
}
