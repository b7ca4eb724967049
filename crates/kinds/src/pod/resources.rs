//! What a pod asks for (upstream's `component-helpers/resource`, KEP-753 for sidecars, KEP-2837 for pod-level
//! resources).

use std::collections::BTreeMap;

use api::core::v1::{Container, PodSpec, ResourceRequirements};
use api::resource::Quantity as Text;
use apimachinery::quantity::Quantity;

/// Resource name → amount.
pub type Amounts = BTreeMap<String, Quantity>;

/// What the scheduler must find room for: the sum of the containers, or the largest init container with the
/// sidecars that run beside it, whichever is more; pod-level requests replace that for cpu and memory; plus the
/// overhead.
pub fn requests(spec: &PodSpec) -> Amounts {
    let mut amounts = effective(spec, |resources| resources.requests.as_ref());
    if let Some(level) = spec.resources.as_ref().and_then(|resources| resources.requests.as_ref()) {
        amounts.extend(parsed(level));
    }
    add(&mut amounts, &spec.overhead.as_ref().map(parsed).unwrap_or_default());
    amounts
}

/// The same for limits. A container without a limit adds nothing, so the result is a bound only when every
/// container has one.
pub fn limits(spec: &PodSpec) -> Amounts {
    let mut amounts = effective(spec, |resources| resources.limits.as_ref());
    if let Some(level) = spec.resources.as_ref().and_then(|resources| resources.limits.as_ref()) {
        amounts.extend(parsed(level));
    }
    let overhead = spec.overhead.as_ref().map(parsed).unwrap_or_default();
    for (name, amount) in overhead {
        if let Some(limit) = amounts.get_mut(&name) {
            limit.add(&amount);
        }
    }
    amounts
}

fn effective(
    spec: &PodSpec,
    of: impl Fn(&ResourceRequirements) -> Option<&BTreeMap<String, Text>>,
) -> Amounts {
    let amounts_of =
        |container: &Container| container.resources.as_ref().and_then(&of).map(parsed).unwrap_or_default();
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
}
