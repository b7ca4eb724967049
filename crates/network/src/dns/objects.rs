use api::core::v1::{Service, ServicePort, ServiceSpec};
use api::discovery::v1::{Endpoint, EndpointConditions, EndpointPort, EndpointSlice};
use api::intstr::IntOrString;
use api::meta::v1::ObjectMeta;
use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

const NAMESPACE: &str = "kube-system";
const NAME: &str = "kube-dns";

/// The Service `kube-system/kube-dns` under `cluster_ip`, and the EndpointSlice that leads it to `server`.
///
/// Names and labels are those that clients and tests look for in every cluster. The Service has no selector,
/// so no controller touches the slice.
pub fn service_objects(cluster_ip: IpAddr, server: SocketAddr) -> (Service, EndpointSlice) {
    let labels = |more: &[(&str, &str)]| -> BTreeMap<String, String> {
        let common = [("k8s-app", "kube-dns"), ("kubernetes.io/cluster-service", "true")];
        let pairs = common.iter().chain(more);
        pairs.map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect()
    };
    let family = if server.is_ipv4() { "IPv4" } else { "IPv6" };
    let ports = [("dns", "UDP"), ("dns-tcp", "TCP")];
    let service = Service {
        metadata: ObjectMeta {
            namespace: Some(NAMESPACE.into()),
            name: Some(NAME.into()),
            labels: Some(labels(&[("kubernetes.io/name", "CoreDNS")])),
            ..ObjectMeta::default()
        },
        spec: Some(ServiceSpec {
            type_: Some("ClusterIP".into()),
            cluster_ip: Some(cluster_ip.to_string()),
            cluster_ips: Some(vec![cluster_ip.to_string()]),
            ports: Some(
                ports
                    .iter()
                    .map(|(name, protocol)| ServicePort {
                        name: Some((*name).into()),
                        protocol: Some((*protocol).into()),
                        port: 53,
                        target_port: Some(IntOrString::Int(server.port().into())),
                        ..ServicePort::default()
                    })
                    .collect(),
            ),
            ..ServiceSpec::default()
        }),
        ..Service::default()
    };
    let slice = EndpointSlice {
        metadata: ObjectMeta {
            namespace: Some(NAMESPACE.into()),
            name: Some(format!("{NAME}-{}", family.to_lowercase())),
            labels: Some(labels(&[
                ("kubernetes.io/service-name", NAME),
                ("endpointslice.kubernetes.io/managed-by", "corten-dns"),
            ])),
            ..ObjectMeta::default()
        },
        address_type: family.into(),
        endpoints: Some(vec![Endpoint {
            addresses: vec![server.ip().to_string()],
            conditions: Some(EndpointConditions {
                ready: Some(true),
                serving: Some(true),
                terminating: Some(false),
            }),
            ..Endpoint::default()
        }]),
        ports: Some(
            ports
                .iter()
                .map(|(name, protocol)| EndpointPort {
                    name: Some((*name).into()),
                    protocol: Some((*protocol).into()),
                    port: Some(server.port().into()),
                    app_protocol: None,
                })
                .collect(),
        ),
    };
    (service, slice)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The proxy must lead the cluster IP to the server, over both protocols.
    #[test]
    fn the_proxy_understands_them() {
        let (service, slice) =
            service_objects("10.96.0.10".parse().unwrap(), "10.244.0.1:5300".parse().unwrap());
        let ports = crate::proxy::observe(&[service.into()], &[slice.into()], "here");
        let seen: Vec<String> = ports
            .iter()
            .map(|p| {
                format!(
                    "{} {}:{} {} {}",
                    p.protocol, p.cluster_ip, p.port, p.endpoints[0].address, p.endpoints[0].port
                )
            })
            .collect();
        assert_eq!(seen, ["tcp 10.96.0.10:53 10.244.0.1 5300", "udp 10.96.0.10:53 10.244.0.1 5300"]);
    }
}
