//! What a pod asks for (upstream's `component-helpers/resource`, KEP-753 for sidecars, KEP-2837 for pod-level
//! resources).

use std::collections::BTreeMap;

use api::core::v1::{Container, ContainerStatus, Pod, PodSpec, ResourceRequirements};
use api::resource::Quantity as Text;
use apimachinery::quantity::Quantity;

/// Resource name → amount.
pub type Amounts = BTreeMap<String, Quantity>;

/// What the scheduler must find room for: the sum of the containers, or the largest init container with the
/// sidecars that run beside it, whichever is more; pod-level requests replace that for cpu and memory; plus the
/// overhead.
pub fn requests(spec: &PodSpec) -> Amounts {
    let mut amounts = requests_of_containers(spec);
    add(&mut amounts, &spec.overhead.as_ref().map(parsed).unwrap_or_default());
    amounts
}

/// The same for limits. A container without a limit adds nothing, so the result is a bound only when every
/// container has one.
pub fn limits(spec: &PodSpec) -> Amounts {
    let mut amounts = limits_of_containers(spec);
    raise_by_overhead(&mut amounts, spec);
    amounts
}

/// [`requests`] without the overhead.
pub fn requests_of_containers(spec: &PodSpec) -> Amounts {
    let mut amounts = effective(spec, |container| given(container, |r| r.requests.as_ref()));
    amounts.extend(of_pod_level(spec, |resources| resources.requests.as_ref()));
    amounts
}

/// [`limits`] without the overhead.
pub fn limits_of_containers(spec: &PodSpec) -> Amounts {
    let mut amounts = effective(spec, |container| given(container, |r| r.limits.as_ref()));
    amounts.extend(of_pod_level(spec, |resources| resources.limits.as_ref()));
    amounts
}

/// [`requests`] and [`limits`] while containers are being resized (KEP-1287): a container counts with the most of
/// what it wants, was promised and has; when the node has refused for good, what it wants does not count.
pub fn with_status(pod: &Pod) -> (Amounts, Amounts) {
    let Some(spec) = &pod.spec else { return Default::default() };
    let requests = effective(spec, |container| {
        let wanted = given(container, |r| r.requests.as_ref());
        let Some((status, has)) = resized(pod, container) else { return wanted };
        let mut most = has.requests.as_ref().map(parsed).unwrap_or_default();
        raise(&mut most, &status.allocated_resources.as_ref().map(parsed).unwrap_or_default());
        if !is_infeasible(pod) {
            raise(&mut most, &wanted);
        }
        most
    });
    let limits = effective(spec, |container| {
        let wanted = given(container, |r| r.limits.as_ref());
        let Some((_, has)) = resized(pod, container) else { return wanted };
        let mut most = has.limits.as_ref().map(parsed).unwrap_or_default();
        if !is_infeasible(pod) {
            raise(&mut most, &wanted);
        }
        most
    });
    let (mut requests, mut limits) = (requests, limits);
    requests.extend(of_pod_level(spec, |resources| resources.requests.as_ref()));
    limits.extend(of_pod_level(spec, |resources| resources.limits.as_ref()));
    add(&mut requests, &spec.overhead.as_ref().map(parsed).unwrap_or_default());
    raise_by_overhead(&mut limits, spec);
    (requests, limits)
}

/// The status of a container that goes on running, when it tells what the container has.
fn resized<'a>(
    pod: &'a Pod,
    container: &Container,
) -> Option<(&'a ContainerStatus, &'a ResourceRequirements)> {
    let status = pod.status.as_ref()?;
    let is_init = pod.spec.as_ref()?.init_containers.iter().flatten().any(|init| init.name == container.name);
    if is_init && !is_sidecar(container) {
        return None;
    }
    let mut all = status.init_container_statuses.iter().chain(&status.container_statuses).flatten();
    let own = all.find(|status| status.name == container.name)?;
    Some((own, own.resources.as_ref()?))
}

fn is_infeasible(pod: &Pod) -> bool {
    let mut conditions = pod.status.iter().flat_map(|status| status.conditions.iter().flatten());
    let pending = conditions.find(|condition| condition.type_ == "PodResizePending");
    pending.is_some_and(|condition| condition.reason.as_deref() == Some("Infeasible"))
}

/// Which resources a pod as a whole may ask for (KEP-2837).
pub fn is_pod_level(name: &str) -> bool {
    matches!(name, "cpu" | "memory") || name.starts_with("hugepages-")
}

/// The pod as a whole asks for something, or limits it.
pub fn has_pod_level(spec: &PodSpec) -> bool {
    let level = spec.resources.iter().flat_map(|level| [&level.requests, &level.limits]);
    level.flatten().flat_map(BTreeMap::keys).any(|name| is_pod_level(name))
}

fn of_pod_level(
    spec: &PodSpec,
    of: impl Fn(&ResourceRequirements) -> Option<&BTreeMap<String, Text>>,
) -> Amounts {
    let mut amounts = spec.resources.as_ref().and_then(of).map(parsed).unwrap_or_default();
    amounts.retain(|name, _| is_pod_level(name));
    amounts
}

fn given(
    container: &Container,
    of: impl Fn(&ResourceRequirements) -> Option<&BTreeMap<String, Text>>,
) -> Amounts {
    container.resources.as_ref().and_then(of).map(parsed).unwrap_or_default()
}

/// What has no limit gets none from the overhead.
fn raise_by_overhead(limits: &mut Amounts, spec: &PodSpec) {
    for (name, amount) in spec.overhead.as_ref().map(parsed).unwrap_or_default() {
        if let Some(limit) = limits.get_mut(&name).filter(|limit| !limit.is_zero()) {
            limit.add(&amount);
        }
    }
}

fn effective(spec: &PodSpec, amounts_of: impl Fn(&Container) -> Amounts) -> Amounts {
    let mut sum = Amounts::new();
    for container in &spec.containers {
        add(&mut sum, &amounts_of(container));
    }
    let (mut sidecars, mut peak) = (Amounts::new(), Amounts::new());
    for container in spec.init_containers.iter().flatten() {
        let own = amounts_of(container);
        if is_sidecar(container) {
            add(&mut sidecars, &own);
            add(&mut sum, &own);
            raise(&mut peak, &sidecars);
        } else {
            let mut now = sidecars.clone();
            add(&mut now, &own);
            raise(&mut peak, &now);
        }
    }
    raise(&mut sum, &peak);
    sum
}

/// An init container that goes on running (restartPolicy Always).
pub fn is_sidecar(container: &Container) -> bool {
    container.restart_policy.as_deref() == Some("Always")
}

/// Amounts that do not parse are left out: validation has refused them before.
pub fn parsed(list: &BTreeMap<String, Text>) -> Amounts {
    list.iter().filter_map(|(name, text)| Some((name.clone(), Quantity::parse(&text.0).ok()?))).collect()
}

pub fn add(to: &mut Amounts, more: &Amounts) {
    for (name, amount) in more {
        match to.get_mut(name) {
            Some(present) => present.add(amount),
            None => {
                to.insert(name.clone(), amount.clone());
            }
        }
    }
}

/// Raises every amount to at least the other one.
fn raise(to: &mut Amounts, least: &Amounts) {
    for (name, amount) in least {
        match to.get_mut(name) {
            Some(present) if *present >= *amount => {}
            _ => {
                to.insert(name.clone(), amount.clone());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn check(spec: serde_json::Value, expect: &[(&str, &str)]) {
        let spec: PodSpec = serde_json::from_value(spec).unwrap();
        let got: Vec<(String, String)> =
            requests(&spec).into_iter().map(|(name, amount)| (name, amount.canonical())).collect();
        let expect: Vec<(String, String)> =
            expect.iter().map(|(name, amount)| ((*name).into(), (*amount).into())).collect();
        assert_eq!(got, expect);
    }

    fn container(cpu: &str) -> serde_json::Value {
        json!({"name": "c", "resources": {"requests": {"cpu": cpu}}})
    }

    fn init(cpu: &str, policy: Option<&str>) -> serde_json::Value {
        let mut container = container(cpu);
        if let Some(policy) = policy {
            container["restartPolicy"] = policy.into();
        }
        container
    }

    #[test]
    fn sums_and_peaks() {
        check(json!({"containers": [container("100m"), container("200m")]}), &[("cpu", "300m")]);
        check(
            json!({"containers": [container("100m")], "initContainers": [init("2", None)]}),
            &[("cpu", "2")],
        );
        // A sidecar runs beside what starts after it.
        check(
            json!({"containers": [container("1")],
                   "initContainers": [init("1", Some("Always")), init("3", None)]}),
            &[("cpu", "4")],
        );
        check(
            json!({"containers": [container("3")],
                   "initContainers": [init("3", None), init("1", Some("Always"))]}),
            &[("cpu", "4")],
        );
        check(
            json!({"containers": [container("3")], "overhead": {"cpu": "1", "memory": "1Mi"}}),
            &[("cpu", "4"), ("memory", "1Mi")],
        );
        check(
            json!({"containers": [container("3")], "resources": {"requests": {"cpu": "5"}}}),
            &[("cpu", "5")],
        );
    }

    #[test]
    fn resizes() {
        let pod = |reason: &str| {
            let pod = json!({
                "spec": {"containers": [container("1"), {"name": "d"}], "overhead": {"cpu": "100m"}},
                "status": {"conditions": [{"type": "PodResizePending", "status": "True", "reason": reason}],
                    "containerStatuses": [{"name": "c", "image": "", "imageID": "", "ready": true, "restartCount": 0,
                        "allocatedResources": {"cpu": "500m"}, "resources": {"requests": {"cpu": "700m"}}}]},
            });
            serde_json::from_value::<Pod>(pod).unwrap()
        };
        for (reason, expect) in [("Deferred", "1100m"), ("Infeasible", "800m")] {
            assert_eq!(with_status(&pod(reason)).0["cpu"].canonical(), expect, "{reason}");
        }
    }
}
