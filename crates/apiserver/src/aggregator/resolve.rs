//! Where a Service leads: to its cluster IP, or to one of its endpoints (upstream's `util/proxy`). Pure.

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

/// A ready endpoint behind the Service, of its first address family if it has one there; `random` says which.
///
/// # Errors
/// Nothing is there, in upstream's words.
pub fn endpoint(service: &Value, slices: &[Value], port: u16, random: usize) -> Result<Address, String> {
    if !matches!(type_of(service), "ClusterIP" | "LoadBalancer" | "NodePort") {
        return Err(format!("unsupported service type {}", quote(type_of(service))));
    }
    let port_name = port_of(service, port)?["name"].as_str().unwrap_or_default();
    let family = &service["spec"]["ipFamilies"][0];
    let (mut first, mut others) = (Vec::new(), Vec::new());
    for slice in slices {
        let ports = slice["ports"].as_array().into_iter().flatten();
        let number = ports
            .filter(|p| p["name"].as_str() == Some(port_name))
            .find_map(|p| u16::try_from(p["port"].as_u64()?).ok());
        let Some(port) = number else { continue };
        let list = if family.is_null() || slice["addressType"] == *family { &mut first } else { &mut others };
        for one in slice["endpoints"].as_array().into_iter().flatten().filter(|one| is_ready(one)) {
            if let Some(host) = one["addresses"][0].as_str() {
                list.push(Address { host: host.to_owned(), port });
            }
        }
    }
    let mut found = if first.is_empty() { others } else { first };
    let name = service["metadata"]["name"].as_str().unwrap_or_default();
    let index = random.checked_rem(found.len());
    let index = index.ok_or_else(|| format!("no endpoints available for service {}", quote(name)))?;
    Ok(found.swap_remove(index))
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

        let ready = |ip: &str, ready: Value| json!({"addresses": [ip], "conditions": {"ready": ready}});
        let slice = |kind: &str, port: &str, endpoints: Vec<Value>| json!({"addressType": kind, "ports": [{"name": port, "port": 8443}], "endpoints": endpoints});
        let nothing = Err("no endpoints available for service \"s\"");
        for (slices, random, expect) in [
            (vec![], 0, nothing),
            (vec![slice("IPv4", "other", vec![ready("10.0.0.1", true.into())])], 0, nothing),
            (vec![slice("IPv4", "https", vec![ready("10.0.0.1", false.into())])], 0, nothing),
            (
                vec![slice(
                    "IPv4",
                    "https",
                    vec![ready("10.0.0.1", true.into()), ready("10.0.0.2", Value::Null)],
                )],
                3,
                Ok("10.0.0.2:8443"),
            ),
            (
                vec![
                    slice("IPv6", "https", vec![ready("fd00::1", true.into())]),
                    slice("IPv4", "https", vec![ready("10.0.0.3", true.into())]),
                ],
                0,
                Ok("10.0.0.3:8443"),
            ),
            (vec![slice("IPv6", "https", vec![ready("fd00::1", true.into())])], 0, Ok("[fd00::1]:8443")),
        ] {
            let got = endpoint(&service("ClusterIP", "10.0.0.1"), &slices, 443, random);
            let got = got.map(|address| address.authority());
            assert_eq!(got, expect.map(str::to_owned).map_err(str::to_owned), "{slices:?}");
        }
    }
}
