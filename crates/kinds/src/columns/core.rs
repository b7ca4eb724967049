//! The core group, and events of either group. Pods are in [`super::pod`].

use std::collections::BTreeSet;

use jiff::Timestamp;
use serde_json::Value;

use super::cell::{
    annotated, condition, containers, count, created, given_or, is_true, joined, labels, list, map, name,
    number, since, string, text, text_or, with_more,
};
use super::{AGE, Column, Columns, Kinds, NAME};

pub(super) static KINDS: Kinds = &[
    ("Pod", super::pod::POD),
    (
        "PodTemplate",
        Columns::new(
            &[
                NAME,
                Column::text("Containers", "Names of each container in the template."),
                Column::text("Images", "Images referenced by each container in the template."),
                Column::text("Pod Labels", "The labels for the pod template."),
            ],
            |o, _| {
                let [names, images] = containers(&o["template"]);
                vec![name(o), names, images, labels(&o["template"]["metadata"]["labels"])]
            },
        ),
    ),
    (
        "ReplicationController",
        Columns::new(super::apps::REPLICAS, |o, now| {
            let mut cells = super::apps::replicas(o);
            cells.push(created(o, now));
            cells.extend(containers(&o["spec"]["template"]));
            cells.push(labels(&o["spec"]["selector"]));
            cells
        }),
    ),
    (
        "Service",
        Columns::new(
            &[
                NAME,
                Column::text("Type", "How the service is exposed."),
                Column::text("Cluster-IP", "Address of the service within the cluster."),
                Column::text("External-IP", "Addresses of the service from outside."),
                Column::text("Port(s)", "Ports of the service, with node ports."),
                AGE,
                super::SELECTOR,
            ],
            |o, now| {
                let spec = &o["spec"];
                let ports: Vec<String> = list(&spec["ports"]).iter().map(port).collect();
                vec![
                    name(o),
                    text(&spec["type"]),
                    given_or(&spec["clusterIPs"][0], "<none>"),
                    external_ip(o).into(),
                    text_or(&ports.join(",").into(), "<none>"),
                    created(o, now),
                    labels(&spec["selector"]),
                ]
            },
        ),
    ),
    (
        "Endpoints",
        Columns::new(&[NAME, Column::text("Endpoints", "Addresses behind the service."), AGE], |o, now| {
            vec![name(o), endpoints(o).into(), created(o, now)]
        }),
    ),
    (
        "Node",
        Columns::new(
            &[
                NAME,
                Column::text("Status", "The status of the node"),
                Column::text("Roles", "The roles of the node"),
                AGE,
                Column::text("Version", "Version of the kubelet."),
                Column::wide("Internal-IP", "Address of the node within the cluster."),
                Column::wide("External-IP", "Address of the node from outside."),
                Column::wide("OS-Image", "Operating system of the node."),
                Column::wide("Kernel-Version", "Kernel of the node."),
                Column::wide("Container-Runtime", "Container runtime of the node."),
            ],
            node,
        ),
    ),
    ("Event", EVENT),
    (
        "Namespace",
        Columns::new(&[NAME, Column::text("Status", "The status of the namespace"), AGE], |o, now| {
            vec![name(o), text(&o["status"]["phase"]), created(o, now)]
        }),
    ),
    (
        "Secret",
        Columns::new(
            &[
                NAME,
                Column::text("Type", "What the data is for."),
                Column::text("Data", "How many keys it has."),
                AGE,
            ],
            |o, now| vec![name(o), text(&o["type"]), count(&o["data"]).into(), created(o, now)],
        ),
    ),
    (
        "ConfigMap",
        Columns::new(&[NAME, Column::text("Data", "How many keys it has."), AGE], |o, now| {
            let keys = count(&o["data"]) + count(&o["binaryData"]);
            vec![name(o), keys.into(), created(o, now)]
        }),
    ),
    ("ServiceAccount", Columns::new(&[NAME, AGE], |o, now| vec![name(o), created(o, now)])),
    (
        "PersistentVolume",
        Columns::new(
            &[
                NAME,
                Column::text("Capacity", "How much it holds."),
                Column::text("Access Modes", "How it can be mounted."),
                Column::text("Reclaim Policy", "What becomes of it once it is released."),
                Column::text("Status", "Whether it is available, bound or released."),
                Column::text("Claim", "The claim that it is bound to."),
                Column::text("StorageClass", "StorageClass of the pv"),
                Column::text("VolumeAttributesClass", "VolumeAttributesClass of the pv"),
                Column::text("Reason", "Why it failed."),
                AGE,
                Column::wide("VolumeMode", "Block device or file system."),
            ],
            |o, now| {
                let (spec, status) = (&o["spec"], &o["status"]);
                let claim = match &spec["claimRef"] {
                    Value::Null => String::new(),
                    claim => format!("{}/{}", string(&claim["namespace"]), string(&claim["name"])),
                };
                vec![
                    name(o),
                    text_or(&spec["capacity"]["storage"], "0"),
                    access_modes(&spec["accessModes"]).into(),
                    text(&spec["persistentVolumeReclaimPolicy"]),
                    phase(o),
                    claim.into(),
                    storage_class(o),
                    given_or(&spec["volumeAttributesClassName"], "<unset>"),
                    text(&status["reason"]),
                    created(o, now),
                    given_or(&spec["volumeMode"], "<unset>"),
                ]
            },
        ),
    ),
    (
        "PersistentVolumeClaim",
        Columns::new(
            &[
                NAME,
                Column::text("Status", "Whether it is pending, bound or lost."),
                Column::text("Volume", "The volume that it is bound to."),
                Column::text("Capacity", "How much the volume holds."),
                Column::text("Access Modes", "How the volume can be mounted."),
                Column::text("StorageClass", "StorageClass of the pvc"),
                Column::text("VolumeAttributesClass", "VolumeAttributesClass of the pvc"),
                AGE,
                Column::wide("VolumeMode", "Block device or file system."),
            ],
            |o, now| {
                let (spec, status) = (&o["spec"], &o["status"]);
                let (capacity, modes) = match string(&spec["volumeName"]) {
                    "" => (text(&Value::Null), String::new()),
                    _ => (text_or(&status["capacity"]["storage"], "0"), access_modes(&status["accessModes"])),
                };
                vec![
                    name(o),
                    phase(o),
                    text(&spec["volumeName"]),
                    capacity,
                    modes.into(),
                    storage_class(o),
                    given_or(&spec["volumeAttributesClassName"], "<unset>"),
                    created(o, now),
                    given_or(&spec["volumeMode"], "<unset>"),
                ]
            },
        ),
    ),
    (
        "ComponentStatus",
        Columns::new(
            &[
                NAME,
                Column::text("Status", "Status of the component conditions"),
                Column::text("Message", "Message of the component conditions"),
                Column::text("Error", "Error of the component conditions"),
            ],
            |o, _| {
                let healthy = list(&o["conditions"]).iter().find(|c| c["type"] == "Healthy");
                let status = match healthy.map(|c| string(&c["status"])) {
                    None => "Unknown",
                    Some("True") => "Healthy",
                    Some(_) => "Unhealthy",
                };
                let part = |field: &str| healthy.map_or("".into(), |c| text(&c[field]));
                vec![name(o), status.into(), part("message"), part("error")]
            },
        ),
    ),
    (
        "ResourceQuota",
        Columns::new(
            &[
                NAME,
                Column::text("Request", "What is used of the quota, other than limits."),
                Column::text("Limit", "What is used of the quota for limits."),
                AGE,
            ],
            |o, now| {
                let (mut requests, mut limits) = (Vec::new(), Vec::new());
                let status = &o["status"];
                let mut hard: Vec<_> = map(&status["hard"]).collect();
                hard.sort_unstable_by_key(|(resource, _)| *resource);
                for (resource, hard) in hard {
                    let used = text_or(&status["used"][resource.as_str()], "0");
                    let column = if resource.starts_with("limits.") { &mut limits } else { &mut requests };
                    column.push(format!("{resource}: {}/{}", string(&used), string(hard)));
                }
                vec![name(o), requests.join(", ").into(), limits.join(", ").into(), created(o, now)]
            },
        ),
    ),
];

pub(super) static EVENTS: Kinds = &[("Event", EVENT)];

const EVENT: Columns = Columns::new(
    &[
        Column::text("Last Seen", "Time since it last happened."),
        Column::text("Type", "Normal or Warning."),
        Column::text("Reason", "What happened, in one word."),
        Column::text("Object", "What it happened to."),
        Column::wide("Subobject", "The part of the object."),
        Column::wide("Source", "Who reported it."),
        Column::text("Message", "What happened, for humans."),
        Column::wide("First Seen", "Time since it first happened."),
        Column::wide("Count", "How often it happened."),
        Column::wide("Name", "Name of the event.").named(),
    ],
    event,
);

/// Either shape of an event: `v1` or `events.k8s.io/v1`, whose older fields have other names.
fn event(o: &Value, now: Timestamp) -> Vec<Value> {
    let either = |core: &str, new: &str| if o[core].is_null() { &o[new] } else { &o[core] };
    let time_or =
        |time: &Value, other: &str| if time.is_null() { other.to_string() } else { since(time, now) };
    let first = either("firstTimestamp", "deprecatedFirstTimestamp");
    let first = time_or(first, &since(&o["eventTime"], now));
    let mut last = time_or(either("lastTimestamp", "deprecatedLastTimestamp"), &first);
    let mut count = number(either("count", "deprecatedCount")).max(1);
    if let series @ Value::Object(_) = &o["series"] {
        last = since(&series["lastObservedTime"], now);
        count = number(&series["count"]);
    }
    let object = either("involvedObject", "regarding");
    let kind = string(&object["kind"]).to_lowercase();
    let target = match string(&object["name"]) {
        "" => kind,
        name => format!("{kind}/{name}"),
    };
    let source = either("source", "deprecatedSource");
    let reporter = either("reportingComponent", "reportingController");
    let component = text_or(&source["component"], string(reporter));
    let instance = text_or(&source["host"], string(&o["reportingInstance"]));
    let source = match string(&instance) {
        "" => string(&component).to_string(),
        instance => format!("{}, {instance}", string(&component)),
    };
    vec![
        last.into(),
        text(&o["type"]),
        text(&o["reason"]),
        target.into(),
        text(&object["fieldPath"]),
        source.into(),
        string(either("message", "note")).trim().into(),
        first.into(),
        count.into(),
        name(o),
    ]
}

fn port(port: &Value) -> String {
    let (own, protocol) = (number(&port["port"]), string(&port["protocol"]));
    match number(&port["nodePort"]) {
        node_port @ 1.. => format!("{own}:{node_port}/{protocol}"),
        _ => format!("{own}/{protocol}"),
    }
}

/// Addresses of a load balancer, sorted.
pub(super) fn load_balancer(o: &Value) -> String {
    let ingress = list(&o["status"]["loadBalancer"]["ingress"]);
    let addresses: BTreeSet<&str> =
        ingress
            .iter()
            .map(|point| {
                if string(&point["ip"]).is_empty() {
                    string(&point["hostname"])
                } else {
                    string(&point["ip"])
                }
            })
            .filter(|address| !address.is_empty())
            .collect();
    addresses.into_iter().collect::<Vec<_>>().join(",")
}

fn external_ip(o: &Value) -> String {
    let spec = &o["spec"];
    let given = joined(&spec["externalIPs"]);
    match string(&spec["type"]) {
        "ClusterIP" | "NodePort" if given.is_empty() => "<none>".to_string(),
        "ClusterIP" | "NodePort" => given,
        "LoadBalancer" => match (load_balancer(o), given) {
            (assigned, given) if assigned.is_empty() && given.is_empty() => "<pending>".to_string(),
            (assigned, given) if given.is_empty() => assigned,
            (assigned, given) if assigned.is_empty() => given,
            (assigned, given) => format!("{assigned},{given}"),
        },
        "ExternalName" => string(&spec["externalName"]).to_string(),
        _ => "<unknown>".to_string(),
    }
}

fn host_port(address: &str, port: i64) -> String {
    if address.contains(':') { format!("[{address}]:{port}") } else { format!("{address}:{port}") }
}

fn endpoints(o: &Value) -> String {
    let subsets = list(&o["subsets"]);
    if subsets.is_empty() {
        return "<none>".to_string();
    }
    let mut all = Vec::new();
    for subset in subsets {
        let addresses: Vec<&str> = list(&subset["addresses"]).iter().map(|a| string(&a["ip"])).collect();
        let ports = list(&subset["ports"]);
        if ports.is_empty() {
            all.extend(addresses.iter().map(|address| (*address).to_string()));
        }
        for port in ports {
            all.extend(addresses.iter().map(|address| host_port(address, number(&port["port"]))));
        }
    }
    with_more(&all, 3)
}

fn node(o: &Value, now: Timestamp) -> Vec<Value> {
    let info = &o["status"]["nodeInfo"];
    let status = match condition(o, "Ready") {
        None => "Unknown",
        ready if is_true(ready) => "Ready",
        Some(_) => "NotReady",
    };
    let cordoned = if o["spec"]["unschedulable"] == true { ",SchedulingDisabled" } else { "" };
    let roles: BTreeSet<&str> = map(&o["metadata"]["labels"])
        .filter_map(|(key, value)| match key.as_str() {
            "kubernetes.io/role" => Some(string(value)),
            key => key.strip_prefix("node-role.kubernetes.io/"),
        })
        .filter(|role| !role.is_empty())
        .collect();
    let roles = roles.into_iter().collect::<Vec<_>>().join(",");
    let address = |kind: &str| {
        let addresses = list(&o["status"]["addresses"]);
        addresses.iter().find(|a| a["type"] == kind).map_or("<none>".into(), |a| text(&a["address"]))
    };
    let kernel = text_or(&info["kernelVersion"], "<unknown>");
    let kernel = match string(&info["architecture"]) {
        "" => kernel,
        architecture => format!("{} ({architecture})", string(&kernel)).into(),
    };
    vec![
        name(o),
        format!("{status}{cordoned}").into(),
        text_or(&roles.into(), "<none>"),
        created(o, now),
        text(&info["kubeletVersion"]),
        address("InternalIP"),
        address("ExternalIP"),
        text_or(&info["osImage"], "<unknown>"),
        kernel,
        text_or(&info["containerRuntimeVersion"], "<unknown>"),
    ]
}

fn phase(o: &Value) -> Value {
    if o["metadata"]["deletionTimestamp"].is_null() {
        text(&o["status"]["phase"])
    } else {
        "Terminating".into()
    }
}

/// Of a volume or claim; the annotation of old still counts first.
fn storage_class(o: &Value) -> Value {
    let annotation = &o["metadata"]["annotations"]["volume.beta.kubernetes.io/storage-class"];
    if annotation.is_null() { text(&o["spec"]["storageClassName"]) } else { text(annotation) }
}

fn access_modes(modes: &Value) -> String {
    let known = [
        ("ReadWriteOnce", "RWO"),
        ("ReadOnlyMany", "ROX"),
        ("ReadWriteMany", "RWX"),
        ("ReadWriteOncePod", "RWOP"),
    ];
    let has = |mode: &str| list(modes).iter().any(|m| m == mode);
    known.iter().filter(|(mode, _)| has(mode)).map(|(_, short)| *short).collect::<Vec<_>>().join(",")
}

/// The name of a class, marked if it is the default one.
pub(super) fn class_name(o: &Value, annotations: &[&str]) -> Value {
    let default = if annotations.iter().any(|key| annotated(o, key)) { " (default)" } else { "" };
    format!("{}{default}", string(&o["metadata"]["name"])).into()
}
