//! Where a Service leads by its cluster IP (upstream's `util/proxy`); by its endpoints it is [`crate::proxy::service`].
//! Pure.

use apimachinery::field::quote;
use serde_json::Value;

/// A host and a port to connect to.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Address {
    pub host: String,
    pub port: u16,
}

impl Address {
    /// As it stands in a URL.
    pub fn authority(&self) -> String {
        match self.host.contains(':') {
            true => format!("[{}]:{}", self.host, self.port),
            false => format!("{}:{}", self.host, self.port),
        }
    }
}

fn port_of(service: &Value, port: u16) -> Result<&Value, String> {
    let ports = service["spec"]["ports"].as_array().into_iter().flatten();
    let found = ports.into_iter().find(|one| one["port"].as_u64() == Some(u64::from(port)));
    let name = service["metadata"]["name"].as_str().unwrap_or_default();
    found.ok_or_else(|| format!("no service port {port} found for service {}", quote(name)))
}

fn type_of(service: &Value) -> &str {
    service["spec"]["type"].as_str().unwrap_or("ClusterIP")
}

/// The cluster IP, or the name that an ExternalName stands for.
///
/// # Errors
/// What is wrong with the Service, in upstream's words.
pub fn cluster_ip(service: &Value, port: u16) -> Result<Address, String> {
    let ip = service["spec"]["clusterIP"].as_str().unwrap_or_default();
    match type_of(service) {
        "ClusterIP" if ip == "None" => Err("cannot route to service with ClusterIP \"None\"".into()),
        "ClusterIP" | "LoadBalancer" | "NodePort" => {
            port_of(service, port)?;
            Ok(Address { host: ip.to_owned(), port })
        }
        "ExternalName" => {
            let host = service["spec"]["externalName"].as_str().unwrap_or_default();
            Ok(Address { host: host.to_owned(), port })
        }
        other => Err(format!("unsupported service type {}", quote(other))),
    }
}

/// An endpoint that does not say counts as ready.
pub fn is_ready(endpoint: &Value) -> bool {
    endpoint["conditions"]["ready"].as_bool().unwrap_or(true)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn where_services_lead() {
        let service = |kind: &str, ip: &str| {
            json!({"metadata": {"name": "s"}, "spec": {"type": kind, "clusterIP": ip, "externalName": "e.test",
                "ipFamilies": ["IPv4"], "ports": [{"name": "https", "port": 443, "targetPort": 8443}]}})
        };
        for (kind, ip, port, expect) in [
            ("ClusterIP", "10.0.0.1", 443, Ok("10.0.0.1:443")),
            ("ClusterIP", "fd00::1", 443, Ok("[fd00::1]:443")),
            ("ClusterIP", "None", 443, Err("cannot route to service with ClusterIP \"None\"")),
            ("NodePort", "10.0.0.1", 1, Err("no service port 1 found for service \"s\"")),
            ("ExternalName", "", 1, Ok("e.test:1")),
            ("Other", "", 1, Err("unsupported service type \"Other\"")),
        ] {
            let got = cluster_ip(&service(kind, ip), port).map(|address| address.authority());
            assert_eq!(got, expect.map(str::to_owned).map_err(str::to_owned), "{kind} {ip} {port}");
        }
    }
}
