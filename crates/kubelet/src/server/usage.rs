//! What this node, its pods and their containers use, as far as the kernel counts it in control groups. Nothing is
//! read unless somebody asks.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use api::core::v1::Pod;
use jiff::Timestamp;
use linux::cgroup::Stats;
use tokio::time::Instant;

use super::Shared;

/// A rate is taken over at least this long, and not over longer than that.
const SHORTEST: Duration = Duration::from_secs(5);
const LONGEST: Duration = Duration::from_secs(60);
/// Who is the first to ask for a long while waits this long for a rate.
const PAUSE: Duration = Duration::from_secs(1);

/// What one group uses.
#[derive(Debug, Clone, Default)]
pub struct Usage {
    /// Where it is counted.
    group: String,
    pub stats: Stats,
    /// Billionths of a processor, lately; `None`: not known yet.
    pub rate: Option<u64>,
}

pub struct ContainerUsage {
    pub name: String,
    pub started: Option<Timestamp>,
    pub usage: Usage,
}

pub struct PodUsage {
    pub pod: Arc<Pod>,
    pub started: Option<Timestamp>,
    pub usage: Usage,
    /// Those that run, by name.
    pub containers: Vec<ContainerUsage>,
}

/// Everything at one time.
pub struct Snapshot {
    pub at: Timestamp,
    taken: Instant,
    pub node: Usage,
    pub pods: Vec<PodUsage>,
    /// Something that runs could not be read.
    pub incomplete: bool,
}

/// How much processor time groups had used when somebody asked last, and the rates since the time before.
#[derive(Default)]
pub struct Rates {
    last: Option<(Instant, BTreeMap<String, u64>)>,
    known: BTreeMap<String, u64>,
}

/// Reads everything.
pub fn read(shared: &Shared) -> Snapshot {
    let context = &shared.context;
    let mut incomplete = false;
    let mut usage = |group: String| {
        let stats = context.cgroups.as_ref().and_then(|groups| groups.stats(&group).ok());
        incomplete |= stats.is_none();
        Usage { group, stats: stats.unwrap_or_default(), rate: None }
    };
    let mut node = usage("/".into());
    // Version 2 does not count the memory of its root.
    if node.stats.memory_usage == 0
        && let Ok(memory) = linux::sysinfo::memory()
    {
        node.stats.memory_usage = memory.total.saturating_sub(memory.available);
        node.stats.memory_working_set = node.stats.memory_usage;
    }
    let mut pods = Vec::new();
    for handle in shared.pods.list() {
        let (pod, status) = (handle.pod(), handle.status());
        let parent = context.tree.pod(&pod);
        let all = status.init_container_statuses.iter().chain(&status.container_statuses);
        let all = all.chain(&status.ephemeral_container_statuses).flatten();
        let mut containers: Vec<ContainerUsage> = all
            .filter_map(|container| {
                let running = container.state.as_ref()?.running.as_ref()?;
                let id = container.container_id.as_deref()?.rsplit('/').next()?;
                Some(ContainerUsage {
                    name: container.name.clone(),
                    started: running.started_at.as_ref().map(|at| at.0),
                    usage: usage(format!("{parent}/{id}")),
                })
            })
            .collect();
        if containers.is_empty() {
            continue;
        }
        containers.sort_by(|a, b| a.name.cmp(&b.name));
        let started = status.start_time.as_ref().map(|at| at.0);
        pods.push(PodUsage { pod, started, usage: usage(parent), containers });
    }
    Snapshot { at: context.clock.now(), taken: Instant::now(), node, pods, incomplete }
}

/// Reads everything with rates. Takes a second when nobody has asked for some time.
pub async fn measure(shared: &Shared) -> Snapshot {
    let mut rates = shared.rates.lock().await;
    let mut snapshot = read(shared);
    if !rates.reach(snapshot.taken) {
        rates.begin(&snapshot);
        tokio::time::sleep(PAUSE).await;
        snapshot = read(shared);
    }
    rates.advance(&snapshot);
    let known = |usage: &mut Usage| usage.rate = rates.known.get(&usage.group).copied();
    known(&mut snapshot.node);
    for pod in &mut snapshot.pods {
        known(&mut pod.usage);
        pod.containers.iter_mut().for_each(|container| known(&mut container.usage));
    }
    snapshot
}

fn counters(snapshot: &Snapshot) -> BTreeMap<String, u64> {
    let pods = snapshot.pods.iter().flat_map(|pod| {
        std::iter::once(&pod.usage).chain(pod.containers.iter().map(|container| &container.usage))
    });
    let all = std::iter::once(&snapshot.node).chain(pods);
    all.map(|usage| (usage.group.clone(), usage.stats.cpu_ns)).collect()
}

impl Rates {
    /// Whether what is known is good enough to take rates from now.
    fn reach(&self, now: Instant) -> bool {
        self.last.as_ref().is_some_and(|(at, _)| now.duration_since(*at) <= LONGEST)
    }

    fn begin(&mut self, snapshot: &Snapshot) {
        self.last = Some((snapshot.taken, counters(snapshot)));
        self.known.clear();
    }

    /// Takes the rates since the last time, unless that was just now: then those hold.
    fn advance(&mut self, snapshot: &Snapshot) {
        let Some((at, before)) = &self.last else { return };
        let passed = snapshot.taken.duration_since(*at);
        if !self.known.is_empty() && passed < SHORTEST {
            return;
        }
        let now = counters(snapshot);
        self.known = rates(before, &now, passed);
        self.last = Some((snapshot.taken, now));
    }
}

/// Billionths of a processor. What was not there before, or began anew, has no rate.
fn rates(
    before: &BTreeMap<String, u64>,
    now: &BTreeMap<String, u64>,
    passed: Duration,
) -> BTreeMap<String, u64> {
    let rate = |(group, used): (&String, &u64)| {
        let used = u128::from(used.checked_sub(*before.get(group)?)?);
        let rate = (used * 1_000_000_000).checked_div(passed.as_nanos())?;
        Some((group.clone(), u64::try_from(rate).ok()?))
    };
    now.iter().filter_map(rate).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_of_groups() {
        let map = |list: &[(&str, u64)]| list.iter().map(|(k, v)| (k.to_string(), *v)).collect();
        let before = map(&[("a", 1_000_000_000), ("again", 5), ("gone", 1)]);
        let now = map(&[("a", 4_000_000_000), ("again", 3), ("new", 7)]);
        assert_eq!(rates(&before, &now, Duration::from_secs(2)), map(&[("a", 1_500_000_000)]));
        assert_eq!(rates(&before, &now, Duration::ZERO), map(&[]));
    }
}
