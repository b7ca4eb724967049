//! The objects that are there for the server itself.

use std::net::IpAddr;

use serde_json::{Value, json};

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

/// The Service by which pods find this server, and where it leads. Nothing if we do not know where we are.
pub fn kubernetes_service(server: &ApiServer) -> Vec<Value> {
    let settings = &server.settings;
    let (Some(cidr), Some((address, port))) = (settings.service_cidrs.first(), settings.advertise) else {
        return Vec::new();
    };
    service(cidr.first(), address, port)
}

fn service(cluster_ip: IpAddr, address: IpAddr, port: u16) -> Vec<Value> {
    let ports = json!([{"name": "https", "port": port, "protocol": "TCP"}]);
    let family = if address.is_ipv4() { "IPv4" } else { "IPv6" };
    vec![
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
        }),
        json!({
            "apiVersion": "v1",
            "kind": "Endpoints",
            "metadata": {"name": "kubernetes", "namespace": "default",
                "labels": {"endpointslice.kubernetes.io/skip-mirror": "true"}},
            "subsets": [{"addresses": [{"ip": address.to_string()}], "ports": ports}],
        }),
        json!({
            "apiVersion": "discovery.k8s.io/v1",
            "kind": "EndpointSlice",
            "metadata": {"name": "kubernetes", "namespace": "default",
                "labels": {"kubernetes.io/service-name": "kubernetes"}},
            "addressType": family,
            "endpoints": [{"addresses": [address.to_string()], "conditions": {"ready": true}}],
            "ports": ports,
        }),
    ]
}

/// Which client CA the server trusts, for extension servers that trust the same.
pub fn authentication(server: &ApiServer) -> Vec<Value> {
    let Some(ca) = server.authenticator.client_ca() else { return Vec::new() };
    vec![json!({
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": "extension-apiserver-authentication", "namespace": "kube-system"},
        "data": {"client-ca-file": ca},
    })]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn where_the_service_leads() {
        let [service, endpoints, slice] = &service([10, 96, 0, 1].into(), [192, 0, 2, 7].into(), 6443)[..]
        else {
            panic!("three objects");
        };
        assert_eq!(service["spec"]["clusterIP"], "10.96.0.1");
        assert_eq!(service["spec"]["ports"][0]["targetPort"], 6443);
        assert_eq!(endpoints["subsets"][0]["addresses"], json!([{"ip": "192.0.2.7"}]));
        assert_eq!(slice["addressType"], "IPv4");
        assert_eq!(slice["ports"], json!([{"name": "https", "port": 6443, "protocol": "TCP"}]));
    }
}
