//! What controllers want to know about a pod.

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::time::Duration;

use api::core::v1::{Pod, PodCondition, PodStatus};
use client::Informer;
use jiff::Timestamp;

/// The index that [`index_by_node`] makes.
pub(crate) const BY_NODE: &str = "spec.nodeName";

/// Lets pods be found by their node, for all controllers that share the informer.
pub(crate) fn index_by_node(pods: &Informer<Pod>) {
    pods.store().add_index(BY_NODE, |pod| {
        let node = node_name(pod);
        if node.is_empty() { Vec::new() } else { vec![node.to_owned()] }
    });
}

/// `status.phase`.
pub(crate) fn phase(pod: &Pod) -> &str {
    pod.status.as_ref().and_then(|status| status.phase.as_deref()).unwrap_or_default()
}

/// It has ended and will not run again.
pub(crate) fn is_terminal(pod: &Pod) -> bool {
    matches!(phase(pod), "Succeeded" | "Failed")
}

/// It counts as a replica: neither ended nor being deleted.
pub(crate) fn is_active(pod: &Pod) -> bool {
    !is_terminal(pod) && pod.metadata.deletion_timestamp.is_none()
}

/// It is being deleted but has not ended.
pub(crate) fn is_terminating(pod: &Pod) -> bool {
    !is_terminal(pod) && pod.metadata.deletion_timestamp.is_some()
}

/// The node that it is bound to, empty if none.
pub(crate) fn node_name(pod: &Pod) -> &str {
    pod.spec.as_ref().and_then(|spec| spec.node_name.as_deref()).unwrap_or_default()
}

/// A condition by its type.
pub(crate) fn condition<'a>(status: Option<&'a PodStatus>, kind: &str) -> Option<&'a PodCondition> {
    status?.conditions.iter().flatten().find(|condition| condition.type_ == kind)
}

/// The Ready condition holds.
pub(crate) fn is_ready(pod: &Pod) -> bool {
    condition(pod.status.as_ref(), "Ready").is_some_and(|ready| ready.status == "True")
}

/// Since when it has been ready.
pub(crate) fn ready_since(pod: &Pod) -> Option<Timestamp> {
    let ready = condition(pod.status.as_ref(), "Ready").filter(|ready| ready.status == "True")?;
    ready.last_transition_time.as_ref().map(|time| time.0)
}

/// It has been ready for at least `min_ready` seconds.
pub(crate) fn is_available(pod: &Pod, min_ready: i32, now: Timestamp) -> bool {
    if !is_ready(pod) {
        return false;
    }
    min_ready <= 0 || ready_since(pod).is_some_and(|since| until(since, min_ready, now).is_zero())
}

/// How long until a pod that is ready becomes available; `None` if it is not ready or available already.
pub(crate) fn available_in(pod: &Pod, min_ready: i32, now: Timestamp) -> Option<Duration> {
    ready_since(pod).map(|since| until(since, min_ready, now)).filter(|left| !left.is_zero())
}

fn until(since: Timestamp, seconds: i32, now: Timestamp) -> Duration {
    let due = since.saturating_add(jiff::SignedDuration::from_secs(i64::from(seconds))).unwrap_or(since);
    Duration::try_from(due.duration_since(now)).unwrap_or_default()
}

/// Sorts pods so that those whose deletion hurts least come first (upstream's ActivePodsWithRanks): not bound,
/// pending, not ready, with many companions on the same node, ready for a short time, with many restarts,
/// young. `rank` gives the number of companions.
pub(crate) fn sort_for_deletion<P: AsRef<Pod>>(
    pods: &mut [P],
    rank: &BTreeMap<String, usize>,
    now: Timestamp,
) {
    pods.sort_by(|a, b| compare_for_deletion(a.as_ref(), b.as_ref(), rank, now));
}

fn compare_for_deletion(a: &Pod, b: &Pod, rank: &BTreeMap<String, usize>, now: Timestamp) -> Ordering {
    let bound = |pod| !node_name(pod).is_empty();
    let place = |pod| match phase(pod) {
        "Pending" => 0,
        "Unknown" => 1,
        "Running" => 2,
        _ => 0,
    };
    let cost = |pod: &Pod| -> i32 {
        let annotations = pod.metadata.annotations.as_ref();
        let cost = annotations.and_then(|a| a.get("controller.kubernetes.io/pod-deletion-cost"));
        cost.and_then(|cost| cost.parse().ok()).unwrap_or_default()
    };
    let companions = |pod| rank.get(node_name(pod)).copied().unwrap_or_default();
    let by_time = |a: Option<Timestamp>, b: Option<Timestamp>| match (a, b) {
        (Some(a), Some(b)) => magnitude(a, now).cmp(&magnitude(b, now)),
        // One without a time is taken for the youngest.
        (a, b) => a.is_some().cmp(&b.is_some()),
    };
    let created = |pod: &Pod| pod.metadata.creation_timestamp.as_ref().map(|time| time.0);
    bound(a)
        .cmp(&bound(b))
        .then_with(|| place(a).cmp(&place(b)))
        .then_with(|| is_ready(a).cmp(&is_ready(b)))
        .then_with(|| cost(a).cmp(&cost(b)))
        .then_with(|| companions(b).cmp(&companions(a)))
        .then_with(|| by_time(ready_since(a), ready_since(b)))
        .then_with(|| restarts(b).cmp(&restarts(a)))
        .then_with(|| by_time(created(a), created(b)))
        .then_with(|| a.metadata.uid.cmp(&b.metadata.uid))
}

/// Ages are compared by their order of magnitude, so that among pods of like age chance (the uid) decides and
/// not always the youngest goes (KEP-2185).
fn magnitude(time: Timestamp, now: Timestamp) -> i64 {
    let age = now.duration_since(time).as_nanos();
    if age > 0 { i64::from(age.ilog2()) } else { -1 }
}

/// Most restarts of any container, and of any sidecar.
fn restarts(pod: &Pod) -> (i32, i32) {
    let Some(status) = &pod.status else { return (0, 0) };
    let most = status.container_statuses.iter().flatten().map(|c| c.restart_count).max().unwrap_or_default();
    let sidecars = pod.spec.iter().flat_map(|spec| spec.init_containers.iter().flatten());
    let sidecars: Vec<&str> =
        sidecars.filter(|c| c.restart_policy.as_deref() == Some("Always")).map(|c| c.name.as_str()).collect();
    let inits = status.init_container_statuses.iter().flatten();
    let most_sidecar = inits.filter(|c| sidecars.contains(&c.name.as_str())).map(|c| c.restart_count).max();
    (most, most_sidecar.unwrap_or_default())
}
