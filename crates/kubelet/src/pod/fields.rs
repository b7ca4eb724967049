//! The downward API: fields and resources of a pod as text.

use api::core::v1::{Container, Pod, ResourceFieldSelector};
use apimachinery::quantity::Quantity as Number;

use super::spec;

/// What is known of a pod beside its object.
#[derive(Debug, Clone, Default)]
pub struct Facts {
    pub pod_ips: Vec<String>,
    pub host_ips: Vec<String>,
    /// Allocatable of the node: thousandths of processors, bytes of memory, bytes of disk. A container without a
    /// limit is told these.
    pub allocatable: [i64; 3],
}

/// A pod's field, as `fieldRef` names it.
pub fn field(pod: &Pod, path: &str, facts: &Facts) -> Result<String, String> {
    let meta = &pod.metadata;
    let pod_spec = spec::spec(pod);
    if let Some((map, key)) = path.split_once("['").and_then(|(m, k)| Some((m, k.strip_suffix("']")?))) {
        let map = match map {
            "metadata.labels" => &meta.labels,
            "metadata.annotations" => &meta.annotations,
            _ => return Err(format!("invalid field path with subscript: {path:?}")),
        };
        return Ok(map.as_ref().and_then(|m| m.get(key)).cloned().unwrap_or_default());
    }
    Ok(match path {
        "metadata.name" => spec::name(pod).to_owned(),
        "metadata.namespace" => spec::namespace(pod).to_owned(),
        "metadata.uid" => spec::uid(pod).to_owned(),
        "metadata.labels" => format_map(meta.labels.as_ref()),
        "metadata.annotations" => format_map(meta.annotations.as_ref()),
        "spec.nodeName" => pod_spec.node_name.clone().unwrap_or_default(),
        "spec.serviceAccountName" => pod_spec.service_account_name.clone().unwrap_or_default(),
        "status.hostIP" => facts.host_ips.first().cloned().unwrap_or_default(),
        "status.hostIPs" => facts.host_ips.join(","),
        "status.podIP" => facts.pod_ips.first().cloned().unwrap_or_default(),
        "status.podIPs" => facts.pod_ips.join(","),
        _ => return Err(format!("unsupported fieldPath: {path}")),
    })
}

/// `key="value"` lines by key.
fn format_map(map: Option<&std::collections::BTreeMap<String, String>>) -> String {
    let lines: Vec<String> = map.into_iter().flatten().map(|(k, v)| format!("{k}={v:?}")).collect();
    lines.join("\n")
}

/// A container's resource, as `resourceFieldRef` names it; `own` is the container that asks.
pub fn resource(
    pod: &Pod,
    own: Option<&Container>,
    selector: &ResourceFieldSelector,
    facts: &Facts,
) -> Result<String, String> {
    let named = selector.container_name.as_deref().filter(|n| !n.is_empty());
    let container = match named {
        Some(name) => spec::container(pod, name).ok_or_else(|| format!("container {name} not found"))?,
        None => own.cloned().ok_or("container name is required")?,
    };
    let (list, name) = selector
        .resource
        .split_once('.')
        .ok_or_else(|| format!("unsupported container resource : {}", selector.resource))?;
    let resources = container.resources.unwrap_or_default();
    let list = match list {
        "limits" => resources.limits,
        "requests" => resources.requests,
        _ => return Err(format!("unsupported container resource : {}", selector.resource)),
    };
    let stated = list.as_ref().and_then(|l| l.get(name)).and_then(|q| Number::parse(&q.0).ok());
    let is_cpu = name == "cpu";
    let mut amount = stated.map(|n| if is_cpu { n.milli_value() } else { n.value() }).unwrap_or_default();
    if amount == 0 && selector.resource.starts_with("limits.") {
        amount = match name {
            "cpu" => facts.allocatable[0],
            "memory" => facts.allocatable[1],
            "ephemeral-storage" => facts.allocatable[2],
            _ => 0,
        };
    }
    let divisor = selector.divisor.as_ref().and_then(|q| Number::parse(&q.0).ok()).filter(|n| n.sign() > 0);
    let divisor = divisor.map(|n| if is_cpu { n.milli_value() } else { n.value() });
    let divisor = divisor.unwrap_or(if is_cpu { 1000 } else { 1 }).max(1);
    Ok((amount + divisor - 1).div_euclid(divisor).to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use api::resource::Quantity;

    #[test]
    fn fields_of_a_pod() {
        let mut pod = Pod::default();
        pod.metadata.name = Some("p".into());
        pod.metadata.labels = Some([("b".into(), "2".into()), ("a".into(), "say \"hi\"".into())].into());
        let facts = Facts { pod_ips: vec!["10.0.0.1".into(), "fd00::1".into()], ..Facts::default() };
        for (path, expect) in [
            ("metadata.name", "p"),
            ("metadata.labels", "a=\"say \\\"hi\\\"\"\nb=\"2\""),
            ("metadata.labels['b']", "2"),
            ("metadata.annotations['x']", ""),
            ("status.podIP", "10.0.0.1"),
            ("status.podIPs", "10.0.0.1,fd00::1"),
        ] {
            assert_eq!(field(&pod, path, &facts).as_deref(), Ok(expect), "{path}");
        }
        assert!(field(&pod, "spec.nope", &facts).is_err());
    }

    #[test]
    fn resources_are_rounded_up() {
        let mut c = Container { name: "c".into(), ..Container::default() };
        let limits = [("cpu".into(), Quantity("1500m".into())), ("memory".into(), Quantity("64Mi".into()))];
        c.resources.get_or_insert_default().limits = Some(limits.into());
        let facts = Facts { allocatable: [2000, 1 << 30, 0], ..Facts::default() };
        for (resource_name, divisor, expect) in [
            ("limits.cpu", "", "2"),
            ("limits.cpu", "1m", "1500"),
            ("limits.memory", "1Mi", "64"),
            ("limits.memory", "", "67108864"),
            ("requests.cpu", "1m", "0"),
        ] {
            let selector = ResourceFieldSelector {
                resource: resource_name.into(),
                divisor: (!divisor.is_empty()).then(|| Quantity(divisor.into())),
                ..ResourceFieldSelector::default()
            };
            let got = resource(&Pod::default(), Some(&c), &selector, &facts);
            assert_eq!(got.as_deref(), Ok(expect), "{resource_name} {divisor}");
        }
    }
}
