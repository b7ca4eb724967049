//! Defaults of the core group (upstream's `pkg/apis/core/v1/defaults.go`).

use apimachinery::quantity::Quantity;
use serde_json::{Map, Value, json};

use super::image::pull_policy;
use super::{Rule, has, is_empty, set, sub, text, there};

pub const RULES: &[(&str, Rule)] = &[
    ("core.v1.ReplicationController", replication_controller),
    ("core.v1.Volume", volume),
    ("core.v1.Container", container),
    ("core.v1.EphemeralContainer", container),
    ("core.v1.ResourceRequirements", resource_requirements),
    ("core.v1.VolumeResourceRequirements", resource_requirements),
    ("core.v1.PersistentVolumeSpec", |map| round_up(map, "capacity")),
    ("core.v1.PersistentVolumeClaimStatus", |map| {
        round_up(map, "capacity");
        round_up(map, "allocatedResources");
    }),
    ("core.v1.ResourceQuotaSpec", |map| round_up(map, "hard")),
    ("core.v1.ResourceQuotaStatus", |map| {
        round_up(map, "hard");
        round_up(map, "used");
    }),
    ("core.v1.AzureDiskVolumeSource", azure_disk),
    ("core.v1.PodStatus", |map| round_up(map, "allocatedResources")),
    ("core.v1.ContainerStatus", |map| round_up(map, "allocatedResources")),
    ("core.v1.Service", service),
    ("core.v1.ServicePort", service_port),
    ("core.v1.Pod", pod),
    ("core.v1.PodSpec", pod_spec),
    ("core.v1.Probe", probe),
    ("core.v1.SecretVolumeSource", |map| set(map, "defaultMode", 0o644)),
    ("core.v1.ConfigMapVolumeSource", |map| set(map, "defaultMode", 0o644)),
    ("core.v1.DownwardAPIVolumeSource", |map| set(map, "defaultMode", 0o644)),
    ("core.v1.ProjectedVolumeSource", |map| set(map, "defaultMode", 0o644)),
    ("core.v1.ServiceAccountTokenProjection", |map| set(map, "expirationSeconds", 3600)),
    ("core.v1.Secret", |map| set(map, "type", "Opaque")),
    ("core.v1.PersistentVolume", persistent_volume),
    ("core.v1.PersistentVolumeClaim", persistent_volume_claim),
    ("core.v1.PersistentVolumeClaimSpec", |map| set(map, "volumeMode", "Filesystem")),
    ("core.v1.EndpointPort", |map| set(map, "protocol", "TCP")),
    ("core.v1.HTTPGetAction", http_get),
    ("core.v1.GRPCAction", grpc),
    ("core.v1.Namespace", namespace),
    ("core.v1.NodeStatus", node_status),
    ("core.v1.FileKeySelector", |map| set(map, "optional", false)),
    ("core.v1.ObjectFieldSelector", |map| set(map, "apiVersion", "v1")),
    ("core.v1.LimitRangeItem", limit_range_item),
    ("core.v1.HostPathVolumeSource", host_path),
];

fn replication_controller(map: &mut Map<String, Value>) {
    let labels = map.get("spec").and_then(|spec| spec.pointer("/template/metadata/labels")).cloned();
    let Some(labels) = labels else { return };
    if let Some(spec) = there(map, "spec")
        && is_empty(spec, "selector")
    {
        spec.insert("selector".to_owned(), labels.clone());
    }
    if let Some(metadata) = sub(map, "metadata")
        && is_empty(metadata, "labels")
    {
        metadata.insert("labels".to_owned(), labels);
    }
}

fn volume(map: &mut Map<String, Value>) {
    if !map.iter().any(|(name, value)| name != "name" && !value.is_null()) {
        map.insert("emptyDir".to_owned(), json!({}));
    }
    if let Some(image) = there(map, "image") {
        let policy = pull_policy(text(image, "reference"));
        set(image, "pullPolicy", policy);
    }
}

fn container(map: &mut Map<String, Value>) {
    let policy = pull_policy(text(map, "image"));
    set(map, "imagePullPolicy", policy);
    set(map, "terminationMessagePath", "/dev/termination-log");
    set(map, "terminationMessagePolicy", "File");
}

/// Amounts finer than a thousandth are rounded up.
fn round_up(map: &mut Map<String, Value>, name: &str) {
    for (_, amount) in there(map, name).into_iter().flatten() {
        if let Ok(mut quantity) = Quantity::from_value(amount)
            && !quantity.round_up(-3)
        {
            *amount = quantity.canonical().into();
        }
    }
}

fn resource_requirements(map: &mut Map<String, Value>) {
    round_up(map, "limits");
    round_up(map, "requests");
}

fn service(map: &mut Map<String, Value>) {
    let Some(spec) = there(map, "spec") else { return };
    set(spec, "sessionAffinity", "None");
    match text(spec, "sessionAffinity") {
        "None" => {
            spec.remove("sessionAffinityConfig");
        }
        "ClientIP" => {
            let seconds = spec
                .get("sessionAffinityConfig")
                .and_then(|config| config.pointer("/clientIP/timeoutSeconds"));
            if seconds.is_none_or(Value::is_null) {
                let config = json!({"clientIP": {"timeoutSeconds": 10800}});
                spec.insert("sessionAffinityConfig".to_owned(), config);
            }
        }
        _ => {}
    }
    set(spec, "type", "ClusterIP");
    let kind = text(spec, "type").to_owned();
    let external = matches!(kind.as_str(), "LoadBalancer" | "NodePort")
        || kind == "ClusterIP" && !is_empty(spec, "externalIPs");
    if external {
        set(spec, "externalTrafficPolicy", "Cluster");
    }
    if matches!(kind.as_str(), "LoadBalancer" | "NodePort" | "ClusterIP") {
        set(spec, "internalTrafficPolicy", "Cluster");
    }
    if kind == "LoadBalancer" {
        set(spec, "allocateLoadBalancerNodePorts", true);
        let ingress = map.get_mut("status").and_then(|status| status.pointer_mut("/loadBalancer/ingress"));
        for address in ingress.and_then(Value::as_array_mut).into_iter().flatten() {
            if let Some(address) = address.as_object_mut()
                && !text(address, "ip").is_empty()
            {
                set(address, "ipMode", "VIP");
            }
        }
    }
}

fn service_port(map: &mut Map<String, Value>) {
    if map.get("targetPort").is_none_or(|port| port.is_null() || *port == 0 || *port == "") {
        let port = map.get("port").cloned().unwrap_or(Value::from(0));
        map.insert("targetPort".to_owned(), port);
    }
}

/// Rules that hold for pods but not for pod templates.
fn pod(map: &mut Map<String, Value>) {
    let Some(spec) = there(map, "spec") else { return };
    // Of pods, not of templates.
    if let Some(seconds) = spec.get_mut("terminationGracePeriodSeconds")
        && seconds.as_i64().is_some_and(|seconds| seconds < 0)
    {
        *seconds = 1.into();
    }
    let host_network = spec.get("hostNetwork").and_then(Value::as_bool).unwrap_or(false);
    for list in ["containers", "initContainers"] {
        for container in spec.get_mut(list).and_then(Value::as_array_mut).into_iter().flatten() {
            let Some(container) = container.as_object_mut() else { continue };
            if let Some(resources) = there(container, "resources") {
                requests_from_limits(resources);
            }
            let ports = container.get_mut("ports").and_then(Value::as_array_mut);
            for port in ports.into_iter().flatten().filter(|_| host_network) {
                let number = port.get("containerPort").cloned().unwrap_or_default();
                if port.get("hostPort").is_none_or(|host| *host == 0)
                    && let Some(port) = port.as_object_mut()
                {
                    port.insert("hostPort".to_owned(), number);
                }
            }
        }
    }
    if let Some(spec) = map.get_mut("spec") {
        crate::core::pod::resources::default_pod_level(spec);
    }
    if let Some(spec) = there(map, "spec") {
        set(spec, "enableServiceLinks", true);
    }
}

fn requests_from_limits(resources: &mut Map<String, Value>) {
    let limits = resources.get("limits").and_then(Value::as_object).cloned();
    if let Some(limits) = limits
        && let Some(requests) = sub(resources, "requests")
    {
        for (name, amount) in limits {
            requests.entry(name).or_insert(amount);
        }
    }
}

fn pod_spec(map: &mut Map<String, Value>) {
    set(map, "dnsPolicy", "ClusterFirst");
    set(map, "restartPolicy", "Always");
    if !has(map, "securityContext") {
        map.insert("securityContext".to_owned(), json!({}));
    }
    set(map, "terminationGracePeriodSeconds", 30);
    set(map, "schedulerName", "default-scheduler");
    round_up(map, "overhead");
}

fn probe(map: &mut Map<String, Value>) {
    for (name, value) in
        [("timeoutSeconds", 1), ("periodSeconds", 10), ("successThreshold", 1), ("failureThreshold", 3)]
    {
        if map.get(name).is_none_or(|present| present.is_null() || *present == 0) {
            map.insert(name.to_owned(), value.into());
        }
    }
}

fn http_get(map: &mut Map<String, Value>) {
    set(map, "path", "/");
    set(map, "scheme", "HTTP");
}

/// The service is a pointer that always shows, even when empty.
fn grpc(map: &mut Map<String, Value>) {
    if !has(map, "service") {
        map.insert("service".to_owned(), "".into());
    }
}

fn persistent_volume(map: &mut Map<String, Value>) {
    if let Some(status) = sub(map, "status") {
        set(status, "phase", "Pending");
    }
    if let Some(spec) = there(map, "spec") {
        set(spec, "persistentVolumeReclaimPolicy", "Retain");
        set(spec, "volumeMode", "Filesystem");
    }
}

fn persistent_volume_claim(map: &mut Map<String, Value>) {
    if let Some(status) = sub(map, "status") {
        set(status, "phase", "Pending");
    }
}

fn namespace(map: &mut Map<String, Value>) {
    if let Some(metadata) = there(map, "metadata") {
        let name = text(metadata, "name").to_owned();
        if !name.is_empty()
            && let Some(labels) = sub(metadata, "labels")
        {
            labels.insert("kubernetes.io/metadata.name".to_owned(), name.into());
        }
    }
    if let Some(status) = sub(map, "status") {
        set(status, "phase", "Active");
    }
}

fn node_status(map: &mut Map<String, Value>) {
    round_up(map, "capacity");
    round_up(map, "allocatable");
    if !has(map, "allocatable")
        && let Some(capacity) = map.get("capacity").filter(|capacity| !capacity.is_null()).cloned()
    {
        map.insert("allocatable".to_owned(), capacity);
    }
}

fn limit_range_item(map: &mut Map<String, Value>) {
    for list in ["max", "min", "default", "defaultRequest", "maxLimitRequestRatio"] {
        round_up(map, list);
    }
    if text(map, "type") != "Container" {
        return;
    }
    for (target, source) in [("default", "max"), ("defaultRequest", "default"), ("defaultRequest", "min")] {
        let amounts = map.get(source).and_then(Value::as_object).cloned().unwrap_or_default();
        if !amounts.is_empty()
            && let Some(target) = sub(map, target)
        {
            for (name, amount) in amounts {
                target.entry(name).or_insert(amount);
            }
        }
    }
}

/// A pointer that always shows, even when false.
fn azure_disk(map: &mut Map<String, Value>) {
    if !has(map, "readOnly") {
        map.insert("readOnly".to_owned(), false.into());
    }
}

fn host_path(map: &mut Map<String, Value>) {
    if !has(map, "type") {
        map.insert("type".to_owned(), "".into());
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    /// The object with defaults, of which only what `expect` names is compared.
    fn check(kind: &str, mut object: Value, expect: Value) {
        let id = api::object_type("", "v1", kind).expect("a built-in kind");
        crate::defaults::apply(id, &mut object);
        let whole = apimachinery::patch::merge::apply(object.clone(), expect.clone()).expect("a merge patch");
        assert_eq!(object, whole, "{kind}");
        crate::defaults::apply(id, &mut object);
        assert_eq!(object, whole, "{kind} again");
    }

    /// Upstream's `defaults_test.go`.
    #[test]
    fn kinds_of_the_core_group() {
        let template = json!({"metadata": {"labels": {"a": "b"}}, "spec": {"containers": []}});
        check(
            "ReplicationController",
            json!({"spec": {"template": template}}),
            json!({"metadata": {"labels": {"a": "b"}}, "spec": {"replicas": 1, "selector": {"a": "b"}}}),
        );
        check(
            "PersistentVolume",
            json!({"spec": {"iscsi": {"targetPortal": "p"}, "rbd": {"image": "i"}, "hostPath": {"path": "/"}}}),
            json!({"status": {"phase": "Pending"}, "spec": {
                "persistentVolumeReclaimPolicy": "Retain", "volumeMode": "Filesystem",
                "iscsi": {"iscsiInterface": "default"}, "hostPath": {"type": ""},
                "rbd": {"pool": "rbd", "user": "admin", "keyring": "/etc/ceph/keyring"}}}),
        );
        check(
            "PersistentVolume",
            json!({"spec": {"scaleIO": {"gateway": "g"}, "azureDisk": {"diskName": "d"}}}),
            json!({"spec": {"scaleIO": {"storageMode": "ThinProvisioned", "fsType": "xfs"},
                "azureDisk": {"cachingMode": "ReadWrite", "kind": "Shared", "fsType": "ext4", "readOnly": false}}}),
        );
        check(
            "PersistentVolumeClaim",
            json!({"spec": {}}),
            json!({"status": {"phase": "Pending"}, "spec": {"volumeMode": "Filesystem"}}),
        );
        check(
            "ResourceQuota",
            json!({"spec": {"hard": {"cpu": "1u"}}, "status": {"used": {"cpu": "1500u"}}}),
            json!({"spec": {"hard": {"cpu": "1m"}}, "status": {"used": {"cpu": "2m"}}}),
        );
        check(
            "Endpoints",
            json!({"subsets": [{"ports": [{"port": 80}]}]}),
            json!({"subsets": [{"ports": [{"port": 80, "protocol": "TCP"}]}]}),
        );
        check(
            "LimitRange",
            json!({"spec": {"limits": [{"type": "Container", "max": {"cpu": "2"}, "min": {"cpu": "1", "memory": "1Gi"}}]}}),
            json!({"spec": {"limits": [{"type": "Container", "max": {"cpu": "2"}, "min": {"cpu": "1", "memory": "1Gi"},
                "default": {"cpu": "2"}, "defaultRequest": {"cpu": "2", "memory": "1Gi"}}]}}),
        );
        check(
            "Node",
            json!({"status": {"capacity": {"cpu": "1", "memory": "100500u"}}}),
            json!({"status": {"allocatable": {"cpu": "1", "memory": "101m"}, "capacity": {"memory": "101m"}}}),
        );
        check(
            "Service",
            json!({"spec": {"type": "LoadBalancer", "sessionAffinity": "ClientIP"}, "status": {"loadBalancer": {"ingress": [{"ip": "1.2.3.4"}]}}}),
            json!({"spec": {"allocateLoadBalancerNodePorts": true, "externalTrafficPolicy": "Cluster",
                "sessionAffinityConfig": {"clientIP": {"timeoutSeconds": 10800}}},
                "status": {"loadBalancer": {"ingress": [{"ip": "1.2.3.4", "ipMode": "VIP"}]}}}),
        );
        check(
            "Pod",
            json!({"spec": {"containers": [{"name": "c", "resources": {"requests": {"cpu": "1"}}}],
                "resources": {"limits": {"cpu": "4", "memory": "1Gi"}},
                "volumes": [{"name": "t", "projected": {"sources": [{"serviceAccountToken": {"path": "a"}}]}},
                    {"name": "s", "secret": {"secretName": "s"}}, {"name": "i", "image": {"reference": "a/b"}}]}}),
            json!({"spec": {"resources": {"requests": {"cpu": "1", "memory": "1Gi"}},
                "volumes": [{"name": "t", "projected": {"defaultMode": 420, "sources": [{"serviceAccountToken": {"path": "a", "expirationSeconds": 3600}}]}},
                    {"name": "s", "secret": {"secretName": "s", "defaultMode": 420}}, {"name": "i", "image": {"reference": "a/b", "pullPolicy": "Always"}}]}}),
        );
    }
}
