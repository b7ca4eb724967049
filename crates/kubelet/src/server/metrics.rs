//! `/metrics`, `/metrics/resource` and `/stats/summary`.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use http::{Response, StatusCode};
use jiff::Timestamp;
use serde_json::{Value, json};

use super::usage::{self, Snapshot, Usage};
use super::{Body, Shared, full, json_of};
use crate::pod::{labels, spec};

const TEXT: &str = "text/plain; version=0.0.4; charset=utf-8";

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
    full(StatusCode::OK, TEXT, out)
}

/// What metrics-server reads.
pub fn resource(shared: &Shared) -> Response<Body> {
    full(StatusCode::OK, TEXT, resources(&usage::read(shared)))
}

/// Values by their labels.
type Values = Vec<(String, f64)>;

/// A family of metrics: its name, what it says, its type, and its values.
type Family = (&'static str, &'static str, &'static str, Values);

/// Upstream's names (`pkg/kubelet/metrics/collectors/resource_metrics.go`), each value with its time.
fn resources(seen: &Snapshot) -> String {
    const NANO: f64 = 1e9;
    let cpu = |usage: &Usage| usage.stats.cpu_ns as f64 / NANO;
    let memory = |usage: &Usage| usage.stats.memory_working_set as f64;
    let mut container: [Values; 3] = Default::default();
    let mut pod: [Values; 2] = Default::default();
    for one in &seen.pods {
        let of = format!("namespace={:?},pod={:?}", spec::namespace(&one.pod), spec::name(&one.pod));
        for each in &one.containers {
            let of = format!("{{container={:?},{of}}}", each.name);
            container[0].push((of.clone(), cpu(&each.usage)));
            container[1].push((of.clone(), memory(&each.usage)));
            container[2].extend(each.started.map(|at| (of, at.as_millisecond() as f64 / 1e3)));
        }
        pod[0].push((format!("{{{of}}}"), cpu(&one.usage)));
        pod[1].push((format!("{{{of}}}"), memory(&one.usage)));
    }
    let ([container_cpu, container_memory, container_start], [pod_cpu, pod_memory]) = (container, pod);
    let none = String::new;
    let families: [Family; 8] = [
        (
            "container_cpu_usage_seconds_total",
            "Cumulative cpu time consumed by the container in core-seconds",
            "counter",
            container_cpu,
        ),
        (
            "container_memory_working_set_bytes",
            "Current working set of the container in bytes",
            "gauge",
            container_memory,
        ),
        (
            "container_start_time_seconds",
            "Start time of the container since unix epoch in seconds",
            "gauge",
            container_start,
        ),
        (
            "node_cpu_usage_seconds_total",
            "Cumulative cpu time consumed by the node in core-seconds",
            "counter",
            vec![(none(), cpu(&seen.node))],
        ),
        (
            "node_memory_working_set_bytes",
            "Current working set of the node in bytes",
            "gauge",
            vec![(none(), memory(&seen.node))],
        ),
        (
            "pod_cpu_usage_seconds_total",
            "Cumulative cpu time consumed by the pod in core-seconds",
            "counter",
            pod_cpu,
        ),
        ("pod_memory_working_set_bytes", "Current working set of the pod in bytes", "gauge", pod_memory),
        (
            "resource_scrape_error",
            "1 if there was an error while getting container metrics, 0 otherwise",
            "gauge",
            vec![(none(), f64::from(u8::from(seen.incomplete)))],
        ),
    ];
    let at = seen.at.as_millisecond();
    let mut out = String::new();
    for (name, help, kind, values) in families {
        if values.is_empty() {
            continue;
        }
        let _ = writeln!(out, "# HELP {name} [STABLE] {help}\n# TYPE {name} {kind}");
        for (of, value) in values {
            // Of this one upstream says no time.
            let time = if name == "resource_scrape_error" { String::new() } else { format!(" {at}") };
            let _ = writeln!(out, "{name}{of} {value}{time}");
        }
    }
    out
}

/// `/stats/summary`; with `?only_cpu_and_memory=true` no more than that.
pub async fn summary(shared: &Shared, brief: bool) -> Response<Body> {
    let context = &shared.context;
    let seen = usage::measure(shared).await;
    let total = u64::try_from(context.machine.memory).unwrap_or_default();
    let layers = if brief { BTreeMap::new() } else { layers(shared).await };
    let mut node = figures(&seen.node, seen.at, Some(total));
    node["nodeName"] = json!(context.config.node_name);
    node["systemContainers"] = json!([]);
    node["startTime"] = json!(linux::sysinfo::uptime().ok().and_then(|seconds| {
        let up = jiff::SignedDuration::try_from_secs_f64(seconds).ok()?;
        seen.at.checked_sub(up).ok().map(apimachinery::time::format)
    }));
    if !brief {
        if let Ok(disk) = linux::mount::usage(&context.config.root_dir) {
            node["fs"] = json!({"time": seen.at.to_string(), "availableBytes": disk.available,
                "capacityBytes": disk.capacity, "usedBytes": disk.used, "inodes": disk.inodes,
                "inodesFree": disk.inodes_free, "inodesUsed": disk.inodes.saturating_sub(disk.inodes_free)});
        }
        node["rlimit"] = json!({"time": seen.at.to_string(), "curproc": seen.node.stats.pids});
    }
    let pods: Vec<Value> = seen
        .pods
        .iter()
        .map(|one| {
            let containers: Vec<Value> = one
                .containers
                .iter()
                .map(|each| {
                    let mut out = figures(&each.usage, seen.at, None);
                    out["name"] = json!(each.name);
                    out["startTime"] = json!(each.started.map(apimachinery::time::format));
                    if let Some(layer) = layers.get(&(spec::uid(&one.pod).to_owned(), each.name.clone())) {
                        out["rootfs"] = layer.clone();
                    }
                    out
                })
                .collect();
            let mut out = figures(&one.usage, seen.at, None);
            out["podRef"] = json!({"name": spec::name(&one.pod), "namespace": spec::namespace(&one.pod),
                "uid": spec::uid(&one.pod)});
            out["startTime"] = json!(one.started.map(apimachinery::time::format));
            out["containers"] = containers.into();
            if !brief {
                out["process_stats"] = json!({"process_count": one.usage.stats.pids});
            }
            out
        })
        .collect();
    json_of(&json!({"node": node, "pods": pods}))
}

/// Processor and memory as the summary has them. Without a limit there is no saying what is available.
fn figures(usage: &Usage, at: Timestamp, total: Option<u64>) -> Value {
    let (s, at) = (&usage.stats, at.to_string());
    let mut cpu = json!({"time": at, "usageCoreNanoSeconds": s.cpu_ns});
    if let Some(rate) = usage.rate {
        cpu["usageNanoCores"] = rate.into();
    }
    let mut memory = json!({"time": at, "usageBytes": s.memory_usage, "workingSetBytes": s.memory_working_set,
        "rssBytes": s.memory_rss, "pageFaults": s.page_faults, "majorPageFaults": s.major_page_faults});
    if let Some(limit) = s.memory_limit.or(total) {
        memory["availableBytes"] = limit.saturating_sub(s.memory_working_set).into();
    }
    json!({"cpu": cpu, "memory": memory})
}

/// What containers have written, by pod and name, as the runtime knows it.
async fn layers(shared: &Shared) -> BTreeMap<(String, String), Value> {
    let all = match shared.context.runtime.client.list_container_stats().await {
        Ok(all) => all,
        Err(error) => {
            tracing::warn!(%error, "asking the runtime what containers have written");
            return BTreeMap::new();
        }
    };
    let layer = |stats: cri::v1::ContainerStats| {
        let (of, layer) = (stats.attributes?, stats.writable_layer?);
        let uid = of.labels.get(labels::POD_UID)?.clone();
        let at = Timestamp::from_nanosecond(i128::from(layer.timestamp)).ok()?;
        let used = json!({"time": at.to_string(), "usedBytes": layer.used_bytes.map_or(0, |v| v.value),
            "inodesUsed": layer.inodes_used.map_or(0, |v| v.value)});
        Some(((uid, of.metadata?.name), used))
    };
    all.into_iter().filter_map(layer).collect()
}
