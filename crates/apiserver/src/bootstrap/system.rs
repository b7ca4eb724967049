//! The objects that are there for the server itself.

use std::net::IpAddr;

use serde_json::{Value, json};

use crate::registry::core::service::Cidr;
use crate::registry::core::service::addresses::{DEFAULT, cidrs, resources};
use crate::registry::meta;
use crate::server::ApiServer;

const NAMESPACES: [&str; 4] = ["kube-system", "kube-public", "kube-node-lease", "default"];

pub fn namespaces() -> Vec<Value> {
    let one = |name| json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}});
    NAMESPACES.into_iter().map(one).collect()
}

/// The two classes that only system pods may have, with upstream's values and descriptions.
pub fn priority_classes() -> Vec<Value> {
    let one = |(name, value, description): (&str, i64, &str)| {
        json!({"apiVersion": "scheduling.k8s.io/v1", "kind": "PriorityClass", "metadata": {"name": name},
            "value": value, "globalDefault": false, "description": description,
            "preemptionPolicy": "PreemptLowerPriority"})
    };
    [
        (
            "system-node-critical",
            2_000_001_000,
            "Used for system critical pods that must not be moved from their current node.",
        ),
        (
            "system-cluster-critical",
            2_000_000_000,
            "Used for system critical pods that must run in the cluster, but can be moved to another node if necessary.",
        ),
    ]
    .map(one)
    .into()
}

/// The ServiceCIDR that stands for the ranges in the settings.
pub fn service_cidr(server: &ApiServer) -> Vec<Value> {
    let cidrs: Vec<String> = server.settings.service_cidrs.iter().map(Cidr::to_string).collect();
    if cidrs.is_empty() {
        return Vec::new();
    }
    vec![json!({
        "apiVersion": "networking.k8s.io/v1",
        "kind": "ServiceCIDR",
        "metadata": {"name": DEFAULT},
        "spec": {"cidrs": cidrs},
    })]
}

/// The default ServiceCIDR with its Ready condition, if that is ours to set: nobody has yet, it says what the
/// settings say, and it is not going (upstream's `controlplane/controller/defaultservicecidr`).
pub fn ready_service_cidr(server: &ApiServer) -> Option<Value> {
    let (_, resource) = resources()?;
    let mut object = server.storage.read(resource, "", DEFAULT).ok().flatten()?;
    let conditions = object["status"]["conditions"].as_array().cloned().unwrap_or_default();
    let said = conditions.iter().find(|condition| condition["type"] == "Ready");
    let same = cidrs(&object).eq(server.settings.service_cidrs.iter().copied());
    if said.is_some_and(|ready| ready["status"] != "Unknown") || !same || meta::is_being_deleted(&object) {
        return None;
    }
    let mut conditions: Vec<Value> = conditions.into_iter().filter(|c| c["type"] != "Ready").collect();
    conditions.push(json!({"type": "Ready", "status": "True", "reason": "",
        "message": "Kubernetes default Service CIDR is ready",
        "lastTransitionTime": apimachinery::time::format(server.clock.now())}));
    object["status"] = json!({ "conditions": conditions });
    Some(object)
}

/// The Service by which pods find the API servers. Nothing if we do not know where we are.
pub fn kubernetes_service(server: &ApiServer) -> Vec<Value> {
    let settings = &server.settings;
    let (Some(cidr), Some((_, port))) = (settings.service_cidrs.first(), settings.advertise) else {
        return Vec::new();
    };
    vec![service(cidr.first(), port)]
}

fn service(cluster_ip: IpAddr, port: u16) -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": "kubernetes", "namespace": "default",
            "labels": {"component": "apiserver", "provider": "kubernetes"}},
        "spec": {
            "type": "ClusterIP",
            "clusterIP": cluster_ip.to_string(),
            "ports": [{"name": "https", "port": 443, "protocol": "TCP", "targetPort": port}],
            "sessionAffinity": "None",
        },
    })
}

/// Where that Service leads: to every server that lives.
pub fn endpoints(server: &ApiServer) -> Vec<Value> {
    match server.settings.advertise {
        Some((own, port)) if server.settings.publish_endpoints => {
            leads_to(&super::presence::addresses(server), own.is_ipv4(), port).into()
        }
        _ => Vec::new(),
    }
}

fn leads_to(addresses: &[IpAddr], ipv4: bool, port: u16) -> [Value; 2] {
    let ports = json!([{"name": "https", "port": port, "protocol": "TCP"}]);
    let texts: Vec<String> = addresses.iter().map(IpAddr::to_string).collect();
    let subsets = match texts.as_slice() {
        [] => json!([]),
        some => {
            let list: Vec<Value> = some.iter().map(|ip| json!({ "ip": ip })).collect();
            json!([{"addresses": list, "ports": ports}])
        }
    };
    let list: Vec<Value> = addresses
        .iter()
        .filter(|address| address.is_ipv4() == ipv4)
        .map(|address| json!({"addresses": [address.to_string()], "conditions": {"ready": true}}))
        .collect();
    [
        json!({
            "apiVersion": "v1",
            "kind": "Endpoints",
            "metadata": {"name": "kubernetes", "namespace": "default",
                "labels": {"endpointslice.kubernetes.io/skip-mirror": "true"}},
            "subsets": subsets,
        }),
        json!({
            "apiVersion": "discovery.k8s.io/v1",
            "kind": "EndpointSlice",
            "metadata": {"name": "kubernetes", "namespace": "default",
                "labels": {"kubernetes.io/service-name": "kubernetes"}},
            "addressType": if ipv4 { "IPv4" } else { "IPv6" },
            "endpoints": list,
            "ports": ports,
        }),
    ]
}

/// Since when the use of service account tokens in Secrets is noted on them.
pub fn legacy_tokens(server: &ApiServer) -> Vec<Value> {
    vec![json!({
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": "kube-apiserver-legacy-service-account-token-tracking", "namespace": "kube-system"},
        "data": {"since": server.clock.now().strftime("%Y-%m-%d").to_string()},
    })]
}

/// Which client CA the server trusts, and which proxy, for extension servers that trust the same.
pub fn authentication(server: &ApiServer) -> Vec<Value> {
    let mut data = serde_json::Map::new();
    if let Some(ca) = server.authenticator.client_ca() {
        data.insert("client-ca-file".into(), ca.into());
    }
    if let Some(proxy) = server.authenticator.request_header() {
        let names = proxy.names();
        data.insert("requestheader-client-ca-file".into(), proxy.ca_pem().into());
        for (key, list) in [
            ("requestheader-allowed-names", proxy.allowed()),
            ("requestheader-extra-headers-prefix", &names.extra_prefix),
            ("requestheader-group-headers", &names.group),
            ("requestheader-uid-headers", &names.uid),
            ("requestheader-username-headers", &names.username),
        ] {
            data.insert(key.into(), json!(list).to_string().into());
        }
        if names.uid.is_empty() {
            data.remove("requestheader-uid-headers");
        }
    }
    if data.is_empty() {
        return Vec::new();
    }
    vec![json!({
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": "extension-apiserver-authentication", "namespace": "kube-system"},
        "data": data,
    })]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn where_the_service_leads() {
        let service = service([10, 96, 0, 1].into(), 6443);
        assert_eq!(service["spec"]["clusterIP"], "10.96.0.1");
        assert_eq!(service["spec"]["ports"][0]["targetPort"], 6443);
        let one = [192, 0, 2, 7].into();
        let other = "2001:db8::7".parse().unwrap();
        let [endpoints, slice] = leads_to(&[one, other], true, 6443);
        assert_eq!(endpoints["subsets"][0]["addresses"], json!([{"ip": "192.0.2.7"}, {"ip": "2001:db8::7"}]));
        assert_eq!(slice["addressType"], "IPv4");
        assert_eq!(slice["endpoints"], json!([{"addresses": ["192.0.2.7"], "conditions": {"ready": true}}]));
        assert_eq!(slice["ports"], json!([{"name": "https", "port": 6443, "protocol": "TCP"}]));
        let [nowhere, _] = leads_to(&[], true, 6443);
        assert_eq!(nowhere["subsets"], json!([]));
    }
}
