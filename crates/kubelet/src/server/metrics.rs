//! `/metrics` and `/stats/summary`, from the pods' control groups.

use std::fmt::Write as _;

use http::{Response, StatusCode};
use serde_json::json;

use super::{Body, Shared, full, json_of};
use crate::pod::spec;

pub async fn answer(shared: &Shared) -> Response<Body> {
    let mut out = String::new();
    let handles = shared.pods.list();
    let mut running = 0;
    for handle in &handles {
        let status = handle.status();
        let states = status.container_statuses.iter().flatten().filter_map(|s| s.state.as_ref());
        running += states.filter(|s| s.running.is_some()).count();
    }
    let _ = writeln!(out, "# HELP kubelet_running_pods Number of pods that have a running pod sandbox");
    let _ = writeln!(out, "# TYPE kubelet_running_pods gauge\nkubelet_running_pods {}", handles.len());
    let _ = writeln!(out, "# HELP kubelet_running_containers Number of containers currently running");
    let _ = writeln!(out, "# TYPE kubelet_running_containers gauge");
    let _ = writeln!(out, "kubelet_running_containers{{container_state=\"running\"}} {running}");
    let name = &shared.context.config.node_name;
    let _ = writeln!(out, "# HELP kubelet_node_name The node's name. The count is always 1.");
    let _ = writeln!(out, "# TYPE kubelet_node_name gauge\nkubelet_node_name{{node={name:?}}} 1");
    full(StatusCode::OK, "text/plain; version=0.0.4; charset=utf-8", out)
}

/// Usage per pod, as far as the kernel counts it.
pub async fn summary(shared: &Shared) -> Response<Body> {
    let context = &shared.context;
    let now = context.clock.now();
    let stats = |group: &str| context.cgroups.as_ref().and_then(|c| c.stats(group).ok());
    let usage = |group: &str| {
        let s = stats(group).unwrap_or_default();
        json!({
            "cpu": {"time": now.to_string(), "usageCoreNanoSeconds": s.cpu_ns},
            "memory": {"time": now.to_string(), "usageBytes": s.memory_usage, "workingSetBytes": s.memory_working_set,
                "rssBytes": s.memory_rss, "pageFaults": s.page_faults, "majorPageFaults": s.major_page_faults},
        })
    };
    let mut pods = Vec::new();
    for handle in shared.pods.list() {
        let pod = handle.pod();
        let mut entry = usage(&context.tree.pod(&pod));
        if let Some(entry) = entry.as_object_mut() {
            entry.insert(
                "podRef".into(),
                json!({"name": spec::name(&pod), "namespace": spec::namespace(&pod), "uid": spec::uid(&pod)}),
            );
            entry.insert("startTime".into(), json!(handle.status().start_time));
        }
        pods.push(entry);
    }
    let mut node = usage("/");
    if let Some(node) = node.as_object_mut() {
        node.insert("nodeName".into(), json!(context.config.node_name));
        if let Ok(disk) = linux::mount::usage(&context.config.root_dir) {
            node.insert("fs".into(), json!({"time": now.to_string(), "availableBytes": disk.available,
                "capacityBytes": disk.capacity, "usedBytes": disk.used, "inodes": disk.inodes, "inodesFree": disk.inodes_free}));
        }
    }
    json_of(&json!({"node": node, "pods": pods}))
}
