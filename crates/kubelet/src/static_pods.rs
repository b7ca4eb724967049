//! Pods from files on the node. They run without the API server, which sees them as mirror pods.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use api::core::v1::{Node, Pod};
use api::meta::v1::{DeleteOptions, OwnerReference};
use sha2::{Digest, Sha256};
use tokio_util::sync::CancellationToken;

use crate::context::Context;
use crate::pod::{spec, status};
use crate::pods::Pods;

const SOURCE: &str = "file";
/// How soon a mirror shows a change of its pod.
const MIRROR: std::time::Duration = std::time::Duration::from_secs(1);

/// Reads the directory again and again until `shutdown`, and keeps mirrors in the API.
pub async fn run(context: Arc<Context>, pods: Pods, shutdown: CancellationToken) {
    let Some(dir) = context.config.static_pod_path.clone() else { return };
    let mut known: BTreeMap<String, Arc<Pod>> = BTreeMap::new();
    loop {
        let found = read(&dir, &context.config.node_name);
        for (uid, pod) in &known {
            if !found.contains_key(uid) {
                pods.remove(pod);
            }
        }
        for (uid, pod) in &found {
            if !known.contains_key(uid) {
                pods.put(pod.clone());
            }
        }
        known = found;
        let read_again = tokio::time::Instant::now() + context.config.file_check_frequency;
        loop {
            mirror(&context, &pods, &known).await;
            // Statuses are compared in memory: only a change costs a request.
            let quick = if known.is_empty() && pods.mirrors().is_empty() {
                read_again
            } else {
                tokio::time::Instant::now() + MIRROR
            };
            tokio::select! {
                biased;
                () = shutdown.cancelled() => return,
                () = tokio::time::sleep_until(quick.min(read_again)) => {}
            }
            if tokio::time::Instant::now() >= read_again {
                break;
            }
        }
    }
}

/// The pods of a directory by uid. A file that is no pod is said in the log and passed over.
fn read(dir: &Path, node_name: &str) -> BTreeMap<String, Arc<Pod>> {
    let mut out = BTreeMap::new();
    let Ok(entries) = std::fs::read_dir(dir) else { return out };
    for entry in entries.flatten() {
        let path = entry.path();
        let hidden = entry.file_name().to_string_lossy().starts_with('.');
        if hidden || !path.is_file() {
            continue;
        }
        match std::fs::read_to_string(&path)
            .map_err(|e| e.to_string())
            .and_then(|text| parse(&text, node_name))
        {
            Ok(pod) => {
                out.insert(spec::uid(&pod).to_owned(), Arc::new(pod));
            }
            Err(error) => tracing::warn!(path = %path.display(), "reading a static pod: {error}"),
        }
    }
    out
}

/// A pod from its manifest (YAML or JSON): named after the node, with upstream's annotations and the defaults
/// that the API server would have set.
pub fn parse(text: &str, node_name: &str) -> Result<Pod, String> {
    let value: serde_json::Value = serde_saphyr::from_str(text).map_err(|e| e.to_string())?;
    let kind = value.get("kind").and_then(|k| k.as_str()).unwrap_or_default();
    if kind != "Pod" {
        return Err(format!("it is a {kind:?}, not a Pod"));
    }
    let mut pod: Pod = serde_json::from_value(value).map_err(|e| e.to_string())?;
    let name = spec::name(&pod).to_owned();
    if name.is_empty() || pod.spec.is_none() {
        return Err("it has no name or no spec".into());
    }
    let hash: String =
        Sha256::digest(format!("{node_name}\n{text}")).iter().take(16).map(|b| format!("{b:02x}")).collect();
    let meta = &mut pod.metadata;
    meta.name = Some(format!("{name}-{}", node_name.to_lowercase()));
    meta.namespace.get_or_insert_with(|| "default".into());
    if meta.uid.as_deref().unwrap_or_default().is_empty() {
        meta.uid = Some(hash.clone());
    }
    let annotations = meta.annotations.get_or_insert_default();
    annotations.insert(spec::CONFIG_HASH.into(), hash);
    annotations.insert(spec::CONFIG_SOURCE.into(), SOURCE.into());
    if let Some(pod_spec) = &mut pod.spec {
        pod_spec.node_name = Some(node_name.into());
        pod_spec.restart_policy.get_or_insert_with(|| "Always".into());
        pod_spec.dns_policy.get_or_insert_with(|| "ClusterFirst".into());
        pod_spec.termination_grace_period_seconds.get_or_insert(30);
        pod_spec.enable_service_links.get_or_insert(true);
        // They must not be evicted for a taint.
        let tolerations = pod_spec.tolerations.get_or_insert_default();
        tolerations.push(api::core::v1::Toleration {
            operator: Some("Exists".into()),
            effect: Some("NoExecute".into()),
            ..Default::default()
        });
        for c in pod_spec.containers.iter_mut().chain(pod_spec.init_containers.iter_mut().flatten()) {
            c.termination_message_path.get_or_insert_with(|| "/dev/termination-log".into());
            c.termination_message_policy.get_or_insert_with(|| "File".into());
        }
    }
    Ok(pod)
}

/// Brings the API's mirrors in line, with their statuses.
async fn mirror(context: &Context, pods: &Pods, known: &BTreeMap<String, Arc<Pod>>) {
    let client = &context.client;
    for mirror in pods.mirrors() {
        let hash = spec::annotation(&mirror, spec::CONFIG_MIRROR).unwrap_or_default();
        if known.values().any(|p| spec::annotation(p, spec::CONFIG_HASH) == Some(hash)) {
            continue;
        }
        let options = DeleteOptions { grace_period_seconds: Some(0), ..DeleteOptions::default() };
        let options = client::with_uid(options, spec::uid(&mirror));
        let deleted = client.delete::<Pod>(spec::namespace(&mirror), spec::name(&mirror), &options).await;
        if let Err(error) = deleted.or_else(|e| if e.is_not_found() { Ok(()) } else { Err(e) }) {
            tracing::debug!("deleting a mirror pod: {}", error.chain());
        }
    }
    for pod in known.values() {
        let Some(mirror) = pods.mirror(pod) else {
            if let Err(error) = create(context, pod).await {
                tracing::debug!("making a mirror pod: {error}");
            }
            continue;
        };
        let Some(handle) = pods.get(spec::uid(pod)) else { continue };
        let wanted = handle.status();
        let Some(patch) = status::patch(spec::uid(&mirror), spec::status(&mirror), &wanted) else { continue };
        let patch = client::Patch::Strategic(patch);
        if let Err(error) = client.patch_status::<Pod>(spec::namespace(pod), spec::name(pod), &patch).await {
            tracing::debug!("writing a mirror pod's status: {}", error.chain());
        }
    }
}

async fn create(context: &Context, pod: &Pod) -> Result<(), String> {
    let node: Node = context.client.get("", &context.config.node_name).await.map_err(|e| e.chain())?;
    let mut mirror = pod.clone();
    let hash = spec::annotation(pod, spec::CONFIG_HASH).unwrap_or_default().to_owned();
    mirror.metadata.uid = None;
    mirror.metadata.annotations.get_or_insert_default().insert(spec::CONFIG_MIRROR.into(), hash);
    mirror.metadata.owner_references = Some(vec![OwnerReference {
        api_version: "v1".into(),
        kind: "Node".into(),
        name: context.config.node_name.clone(),
        uid: node.metadata.uid.unwrap_or_default(),
        controller: Some(true),
        ..OwnerReference::default()
    }]);
    match context.client.create(&mirror).await {
        Err(error) if !error.is_already_exists() => Err(error.chain()),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn manifests() {
        let text =
            "apiVersion: v1\nkind: Pod\nmetadata: {name: a}\nspec:\n  containers:\n  - {name: c, image: i}\n";
        let pod = parse(text, "Node1").expect("a pod");
        assert_eq!((spec::namespace(&pod), spec::name(&pod)), ("default", "a-node1"));
        assert!(spec::is_static(&pod) && !spec::is_mirror(&pod));
        assert_eq!(spec::uid(&pod).len(), 32);
        assert_ne!(spec::uid(&pod), spec::uid(&parse(text, "Node2").expect("a pod")));
        for bad in ["", "kind: Service", "kind: Pod\nmetadata: {}", ": :"] {
            assert!(parse(bad, "n").is_err(), "{bad}");
        }
    }
}
