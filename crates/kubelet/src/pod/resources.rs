//! Requests and limits turned into what the kernel takes: quality of service, shares, quotas, OOM scores.

use std::collections::BTreeMap;

use api::core::v1::{Container, Pod, ResourceRequirements};
use api::resource::Quantity;
use apimachinery::quantity::Quantity as Number;

use super::spec;

/// Microseconds of one scheduling period (upstream's `--cpu-cfs-quota-period`).
pub const CPU_PERIOD: u64 = 100_000;
const MIN_SHARES: u64 = 2;
const MAX_SHARES: u64 = 262_144;
const MIN_QUOTA: i64 = 1_000;

type List = BTreeMap<String, Quantity>;

fn number(list: Option<&List>, name: &str) -> Option<Number> {
    list.and_then(|l| l.get(name)).and_then(|q| Number::parse(&q.0).ok())
}

/// A container's limit, in thousandths for `cpu` and whole units for others; 0 when there is none.
pub fn limit(container: &Container, name: &str) -> i64 {
    amount(container.resources.as_ref().and_then(|r| r.limits.as_ref()), name)
}

/// A container's request; its limit when it states only that.
pub fn request(container: &Container, name: &str) -> i64 {
    let requests = container.resources.as_ref().and_then(|r| r.requests.as_ref());
    if requests.is_some_and(|r| r.contains_key(name)) {
        amount(requests, name)
    } else {
        limit(container, name)
    }
}

fn amount(list: Option<&List>, name: &str) -> i64 {
    let number = number(list, name);
    number.map(|n| if name == "cpu" { n.milli_value() } else { n.value() }).unwrap_or_default()
}

/// `Guaranteed`, `Burstable` or `BestEffort`.
pub fn qos_class(pod: &Pod) -> &'static str {
    let pod_spec = spec::spec(pod);
    let positive = |r: Option<&List>, name: &str| number(r, name).filter(|n| n.sign() > 0);
    let of = |r: &ResourceRequirements| {
        let mut any = false;
        let mut guaranteed = true;
        for name in ["cpu", "memory"] {
            let request = positive(r.requests.as_ref(), name);
            let limit = positive(r.limits.as_ref(), name);
            any |= request.is_some() || limit.is_some();
            let equal = match (&request, &limit) {
                (Some(request), Some(limit)) => {
                    request.canonical() == limit.canonical() || {
                        let mut difference = request.clone();
                        difference.sub(limit);
                        difference.is_zero()
                    }
                }
                (None, Some(_)) => true,
                _ => false,
            };
            guaranteed &= equal;
        }
        (any, guaranteed)
    };
    let results: Vec<(bool, bool)> =
        match pod_spec.resources.as_ref().filter(|r| r.requests.is_some() || r.limits.is_some()) {
            Some(resources) => vec![of(resources)],
            None => {
                let none = ResourceRequirements::default();
                let all = pod_spec.containers.iter().chain(spec::init_containers(pod));
                all.map(|c| of(c.resources.as_ref().unwrap_or(&none))).collect()
            }
        };
    if results.iter().all(|(any, _)| !any) {
        "BestEffort"
    } else if results.iter().all(|(_, guaranteed)| *guaranteed) {
        "Guaranteed"
    } else {
        "Burstable"
    }
}

/// Shares for thousandths of a processor.
pub fn shares(milli: i64) -> u64 {
    let shares = u64::try_from(milli).unwrap_or_default() * 1024 / 1000;
    shares.clamp(MIN_SHARES, MAX_SHARES)
}

/// Microseconds per period for thousandths of a processor; 0 for no limit.
pub fn quota(milli: i64) -> i64 {
    if milli == 0 { 0 } else { (milli * CPU_PERIOD as i64 / 1000).max(MIN_QUOTA) }
}

/// How readily the kernel kills a container's processes for want of memory: -997 to 1000.
pub fn oom_score_adj(pod: &Pod, container: &Container, memory_capacity: i64) -> i64 {
    if spec::spec(pod).priority_class_name.as_deref() == Some("system-node-critical") {
        return -997;
    }
    match qos_class(pod) {
        "Guaranteed" => return -997,
        "BestEffort" => return 1000,
        _ => {}
    }
    let score_of = |requested: i64| 1000 - 1000 * requested / memory_capacity.max(1);
    let mut score = score_of(request(container, "memory"));
    if spec::is_sidecar(container) {
        let least = spec::spec(pod).containers.iter().map(|c| request(c, "memory")).min().unwrap_or_default();
        score = score.min(score_of(least));
    }
    score.clamp(3, 999)
}

/// What a pod as a whole asks for and is held to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Total {
    pub cpu_request: i64,
    pub memory_request: i64,
    /// `None` when a container has no limit.
    pub cpu_limit: Option<i64>,
    pub memory_limit: Option<i64>,
}

/// Containers add up; init containers count when one of them needs more; sidecars add to both; overhead last
/// (upstream's `PodRequests` and `PodLimits`).
pub fn total(pod: &Pod) -> Total {
    let pod_spec = spec::spec(pod);
    let sum = |of: &dyn Fn(&Container) -> i64| {
        let mut running: i64 = pod_spec.containers.iter().map(of).sum();
        let (mut sidecars, mut peak) = (0, 0);
        for init in spec::init_containers(pod) {
            if spec::is_sidecar(init) {
                running += of(init);
                sidecars += of(init);
                peak = peak.max(sidecars);
            } else {
                peak = peak.max(sidecars + of(init));
            }
        }
        running.max(peak)
    };
    let pod_level = |limits: bool, name: &str| {
        let resources = pod_spec.resources.as_ref()?;
        let list = if limits { resources.limits.as_ref() } else { resources.requests.as_ref() };
        list?.contains_key(name).then(|| amount(list, name))
    };
    let overhead = |name: &str| amount(pod_spec.overhead.as_ref(), name);
    let request_of = |name: &'static str| {
        pod_level(false, name).unwrap_or_else(|| sum(&|c| request(c, name))) + overhead(name)
    };
    let limit_of = |name: &'static str| {
        if let Some(limit) = pod_level(true, name) {
            return Some(limit + overhead(name));
        }
        let mut all = pod_spec.containers.iter().chain(spec::init_containers(pod));
        let declared = all.all(|c| limit(c, name) != 0);
        declared.then(|| sum(&|c| limit(c, name)) + overhead(name))
    };
    Total {
        cpu_request: request_of("cpu"),
        memory_request: request_of("memory"),
        cpu_limit: limit_of("cpu"),
        memory_limit: limit_of("memory"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn container(requests: &[(&str, &str)], limits: &[(&str, &str)]) -> Container {
        let list = |l: &[(&str, &str)]| {
            (!l.is_empty()).then(|| l.iter().map(|(k, v)| ((*k).into(), Quantity((*v).into()))).collect())
        };
        let resources =
            ResourceRequirements { requests: list(requests), limits: list(limits), ..Default::default() };
        Container { resources: Some(resources), ..Container::default() }
    }

    fn pod(containers: Vec<Container>) -> Pod {
        let mut pod = Pod::default();
        pod.spec.get_or_insert_default().containers = containers;
        pod
    }

    #[test]
    fn classes_and_scores() {
        let gi = 1 << 30;
        for (requests, limits, class, score) in [
            (&[][..], &[][..], "BestEffort", 1000),
            (&[("cpu", "100m")], &[], "Burstable", 999),
            (&[("memory", "512Mi")], &[], "Burstable", 500),
            (&[("memory", "1Gi")], &[], "Burstable", 3),
            (&[], &[("cpu", "1"), ("memory", "1Gi")], "Guaranteed", -997),
            (
                &[("cpu", "1"), ("memory", "1Gi")],
                &[("cpu", "1000m"), ("memory", "1024Mi")],
                "Guaranteed",
                -997,
            ),
            (&[("cpu", "500m"), ("memory", "1Gi")], &[("cpu", "1"), ("memory", "1Gi")], "Burstable", 3),
            (&[], &[("cpu", "1")], "Burstable", 999),
        ] {
            let c = container(requests, limits);
            let pod = pod(vec![c.clone()]);
            assert_eq!(qos_class(&pod), class, "{requests:?} {limits:?}");
            assert_eq!(oom_score_adj(&pod, &c, gi), score, "{requests:?} {limits:?}");
        }
    }

    #[test]
    fn shares_and_quotas() {
        for (milli, expect_shares, expect_quota) in [
            (0, 2, 0),
            (1, 2, 1000),
            (5, 5, 1000),
            (100, 102, 10_000),
            (1000, 1024, 100_000),
            (1_000_000, 262_144, 100_000_000),
        ] {
            assert_eq!((shares(milli), quota(milli)), (expect_shares, expect_quota), "{milli}");
        }
    }

    #[test]
    fn a_pod_is_the_sum_or_its_greatest_init_container() {
        let mut p =
            pod(vec![container(&[("cpu", "100m")], &[("cpu", "200m")]), container(&[("cpu", "1")], &[])]);
        assert_eq!((total(&p).cpu_request, total(&p).cpu_limit), (1100, None));
        p.spec.get_or_insert_default().init_containers = Some(vec![container(&[("cpu", "2")], &[])]);
        assert_eq!(total(&p).cpu_request, 2000);
    }
}
