//! What nobody claims any more: pods that went while no kubelet ran, with their directories and control groups.
//!
//! **Invariant.** Only what this kubelet made is touched: sandboxes that name it as their owner, directories below
//! its root, groups below its own.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::context::Context;
use crate::pod::cgroups;
use crate::pods::Pods;

const PERIOD: Duration = Duration::from_secs(60);

/// Runs until `shutdown`; begins at once, so it must not be started before all pods are known.
pub async fn run(context: Arc<Context>, pods: Pods, shutdown: CancellationToken) {
    loop {
        once(&context, &pods).await;
        tokio::select! {
            biased;
            () = shutdown.cancelled() => return,
            () = tokio::time::sleep(PERIOD) => {}
        }
    }
}

async fn once(context: &Context, pods: &Pods) {
    // Before the look at the runtime, so that what comes in between is not taken for an orphan.
    let overview = match context.runtime.overview().await {
        Ok(overview) => overview,
        Err(error) => {
            tracing::debug!("looking for orphans: {error}");
            return;
        }
    };
    let claimed: BTreeSet<String> = pods.uids().into_iter().collect();
    let owner = context.owner();
    let client = &context.runtime.client;
    let mut alive: BTreeSet<&String> = BTreeSet::new();
    for (uid, pod) in &overview {
        if claimed.contains(uid) {
            continue;
        }
        if pod.owner != owner {
            alive.insert(uid);
            continue;
        }
        tracing::info!(
            pod = pod.name,
            namespace = pod.namespace,
            uid,
            "removing a pod that is no longer wanted"
        );
        for id in pod.sandboxes.keys() {
            // Removing a sandbox removes its containers.
            let removed = match client.stop_pod_sandbox(id).await {
                Ok(()) => client.remove_pod_sandbox(id).await,
                Err(error) => Err(error),
            };
            if let Err(error) = removed {
                tracing::warn!(sandbox = id, "removing a sandbox: {error}");
                alive.insert(uid);
            }
        }
    }
    let orphan = |uid: &str| !claimed.contains(uid) && !alive.contains(&uid.to_owned());
    directories(context, orphan);
    groups(context, orphan);
}

fn directories(context: &Context, orphan: impl Fn(&str) -> bool) {
    let Ok(entries) = std::fs::read_dir(context.config.root_dir.join("pods")) else { return };
    for entry in entries.flatten() {
        let uid = entry.file_name().to_string_lossy().into_owned();
        if !orphan(&uid) {
            continue;
        }
        if let Err(error) = crate::volumes::setup::teardown(&entry.path()) {
            tracing::warn!(uid, "removing a pod's directory: {error}");
            continue;
        }
        let Ok(logs) = std::fs::read_dir(&context.config.pod_logs_dir) else { continue };
        for log in logs.flatten().filter(|l| l.file_name().to_string_lossy().ends_with(&format!("_{uid}"))) {
            let _ = std::fs::remove_dir_all(log.path());
        }
    }
}

fn groups(context: &Context, orphan: impl Fn(&str) -> bool) {
    let Some(all) = &context.cgroups else { return };
    for class in context.tree.classes() {
        for name in all.children(&class).unwrap_or_default() {
            if cgroups::uid_of(&name).is_some_and(&orphan) {
                let group = format!("{class}/{name}");
                let _ = all.kill(&group);
                if let Err(error) = all.remove(&group) {
                    tracing::debug!(group, "removing a group: {}", crate::kubelet::text(&error));
                }
            }
        }
    }
}
