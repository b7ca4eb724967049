//! This node in the API: its object, its status, its lease.

mod lease;
pub mod status;

use std::collections::BTreeMap;
use std::net::{IpAddr, UdpSocket};
use std::sync::Arc;
use std::time::Duration;

use api::core::v1::{Node, NodeSpec};
use api::meta::v1::ObjectMeta;
use apimachinery::quantity::Quantity;
use client::Patch;
use tokio_util::sync::CancellationToken;

use crate::config::Config;
use crate::context::{Context, Machine};

const RETRY: Duration = Duration::from_millis(200);
const LONGEST_RETRY: Duration = Duration::from_secs(7);
/// A runtime that says nothing does not keep the node from saying so.
const REFRESH_WITHIN: Duration = Duration::from_secs(5);

/// The address from which this machine would reach others; nothing is sent.
pub fn find_address() -> Result<IpAddr, String> {
    let ask = |to: &str| -> std::io::Result<IpAddr> {
        let socket = UdpSocket::bind(if to.contains('[') { "[::]:0" } else { "0.0.0.0:0" })?;
        socket.connect(to)?;
        Ok(socket.local_addr()?.ip())
    };
    let found = ask("192.0.2.1:9").or_else(|_| ask("[2001:db8::1]:9"));
    let usable = |ip: &IpAddr| !ip.is_loopback() && !ip.is_unspecified();
    found
        .ok()
        .filter(usable)
        .ok_or_else(|| "can't get ip address of node: no default route; name one with --node-ip".to_owned())
}

/// What pods may have of this machine: thousandths of processors, bytes of memory and of disk.
pub fn allocatable(config: &Config, machine: &Machine) -> [i64; 3] {
    let reserved = |name: &str| config.reserved.get(name).and_then(|text| Quantity::parse(text).ok());
    let cpu = reserved("cpu").map_or(0, |q| q.milli_value());
    let memory = reserved("memory").map_or(0, |q| q.value());
    let disk = reserved("ephemeral-storage").map_or(0, |q| q.value());
    let held = config.eviction_hard.memory_available.of(machine.memory as u64) as i64;
    let held_disk = config.eviction_hard.nodefs_available.of(machine.disk as u64) as i64;
    [
        (machine.milli_cpu - cpu).max(0),
        (machine.memory - memory - held).max(0),
        (machine.disk - disk - held_disk).max(0),
    ]
}

/// Registers the node and keeps status and lease fresh until `shutdown`.
pub async fn run(context: Arc<Context>, port: u16, shutdown: CancellationToken) {
    let mut readiness = context.readiness.clone();
    let mut identity = status::Identity::read(&context, port);
    if context.config.register_node {
        // The runtime usually answers at once, and then the node begins its life ready.
        let all = |r: &crate::context::Readiness| r.runtime.is_ok() && r.network.is_ok();
        let _ = tokio::time::timeout(Duration::from_secs(1), readiness.wait_for(all)).await;
        let _ = tokio::time::timeout(REFRESH_WITHIN, identity.refresh(&context)).await;
        let mut pause = RETRY;
        loop {
            let first = status::status(&context, &identity, &Default::default()).await;
            match register(&context, first).await {
                Ok(()) => break,
                Err(error) => tracing::warn!("registering the node: {error}"),
            }
            tokio::select! {
                biased;
                () = shutdown.cancelled() => return,
                () = tokio::time::sleep(pause) => {}
            }
            pause = (pause * 2).min(LONGEST_RETRY);
        }
    }
    let _lease = tokio::spawn(lease::run(context.clone(), shutdown.clone()));
    let mut reported = None;
    loop {
        let _ = tokio::time::timeout(REFRESH_WITHIN, identity.refresh(&context)).await;
        if let Err(error) = status::report(&context, &identity, &mut reported).await {
            tracing::warn!("reporting the node's status: {error}");
        }
        tokio::select! {
            biased;
            () = shutdown.cancelled() => return,
            // A change of readiness is told at once.
            changed = readiness.changed() => if changed.is_err() { return },
            () = tokio::time::sleep(context.config.node_status_update_frequency) => {}
        }
    }
}

/// Labels that every node bears.
fn labels(config: &Config) -> BTreeMap<String, String> {
    let arch = status::architecture();
    let mut out = BTreeMap::from([
        ("kubernetes.io/hostname".to_owned(), config.hostname.clone()),
        ("kubernetes.io/os".to_owned(), "linux".to_owned()),
        ("kubernetes.io/arch".to_owned(), arch.to_owned()),
        ("beta.kubernetes.io/os".to_owned(), "linux".to_owned()),
        ("beta.kubernetes.io/arch".to_owned(), arch.to_owned()),
    ]);
    out.extend(config.node_labels.clone());
    out
}

async fn register(context: &Context, status: api::core::v1::NodeStatus) -> Result<(), String> {
    let config = &context.config;
    let taints = config.register_with_taints.clone();
    let annotations =
        [("volumes.kubernetes.io/controller-managed-attach-detach".to_owned(), "true".to_owned())];
    let node = Node {
        metadata: ObjectMeta {
            name: Some(config.node_name.clone()),
            labels: Some(labels(config)),
            annotations: Some(annotations.into()),
            ..ObjectMeta::default()
        },
        spec: Some(NodeSpec {
            taints: (!taints.is_empty()).then_some(taints),
            provider_id: (!config.provider_id.is_empty()).then(|| config.provider_id.clone()),
            ..NodeSpec::default()
        }),
        status: Some(status),
    };
    match context.client.create(&node).await {
        Ok(_) => return Ok(()),
        Err(error) if error.is_already_exists() => {}
        Err(error) => return Err(error.chain()),
    }
    // It was here before: labels may have changed.
    let there: Node = context.client.get("", &config.node_name).await.map_err(|e| e.chain())?;
    let have = there.metadata.labels.unwrap_or_default();
    let missing: BTreeMap<_, _> =
        labels(config).into_iter().filter(|(k, v)| have.get(k) != Some(v)).collect();
    if missing.is_empty() {
        return Ok(());
    }
    let patch = Patch::Strategic(serde_json::json!({"metadata": {"labels": missing}}));
    context.client.patch::<Node>("", &config.node_name, &patch).await.map(drop).map_err(|e| e.chain())
}
