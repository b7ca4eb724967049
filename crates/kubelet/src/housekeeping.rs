//! What nobody claims any more: pods that went while no kubelet ran, with their directories and control groups.
//!
//! **Invariant.** Only what this kubelet made is touched: sandboxes that name it as their owner, directories below
//! its root, groups below its own.

use std::collections::BTreeSet;
use std::path::Path;
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
    if let Some(links) = &context.config.container_logs_dir {
        dangling(links, &context.config.pod_logs_dir);
    }
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

/// Removes the links for log collectors whose logs, below `logs`, are gone.
fn dangling(links: &Path, logs: &Path) {
    let Ok(entries) = std::fs::read_dir(links) else { return };
    for entry in entries.flatten() {
        let link = entry.path();
        let ours = std::fs::read_link(&link).is_ok_and(|target| target.starts_with(logs));
        // `exists` follows the link.
        if ours && link.extension().is_some_and(|end| end == "log") && !link.exists() {
            let _ = std::fs::remove_file(&link);
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_without_logs() {
        let temporary = tempfile::tempdir().expect("tempdir");
        let (links, logs) = (temporary.path().join("containers"), temporary.path().join("pods"));
        std::fs::create_dir_all(&links).expect("links");
        std::fs::create_dir_all(logs.join("a")).expect("logs");
        std::fs::write(logs.join("a/0.log"), "").expect("log");
        let link = |name: &str, to: std::path::PathBuf| {
            std::os::unix::fs::symlink(to, links.join(name)).expect("link");
        };
        link("stays.log", logs.join("a/0.log"));
        link("gone.log", logs.join("b/0.log"));
        link("odd", logs.join("b/0.log"));
        link("foreign.log", temporary.path().join("elsewhere/0.log"));
        dangling(&links, &logs);
        let mut left: Vec<_> =
            std::fs::read_dir(&links).expect("links").flatten().map(|e| e.file_name()).collect();
        left.sort();
        assert_eq!(left, ["foreign.log", "odd", "stays.log"]);
    }
}
