//! What `pods/x/proxy`, `services/x/proxy` and `nodes/x/proxy` lead to. Rules and texts of upstream's
//! `ResourceLocation` of these three kinds. Pure.

use std::net::IpAddr;

use apimachinery::{field::quote, status::Status};
use serde_json::Value;

/// The name in such a request: `name`, `name:port` or `scheme:name:port`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Target<'a> {
    /// `http`, `https` or empty.
    pub scheme: &'a str,
    pub name: &'a str,
    /// A number, for a Service also a port's name; empty for the usual one.
    pub port: &'a str,
}

/// An address that a proxied request goes to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Address {
    pub tls: bool,
    pub host: String,
    pub port: u16,
}

impl<'a> Target<'a> {
    /// `None` for what is none of the three forms.
    pub fn parse(id: &'a str) -> Option<Self> {
        let parts: Vec<&str> = id.split(':').collect();
        let target = match parts[..] {
            [name] => Self { scheme: "", name, port: "" },
            [name, port] => Self { scheme: "", name, port },
            [scheme, name, port] => Self { scheme, name, port },
            _ => return None,
        };
        (!target.name.is_empty() && matches!(target.scheme, "" | "http" | "https")).then_some(target)
    }

    fn at(&self, host: &str, port: u16) -> Address {
        Address { tls: self.scheme == "https", host: host.to_owned(), port }
    }

    /// The port as a number; without one the scheme's own.
    fn number(&self, port: &str) -> Result<u16, Status> {
        match port {
            "" => Ok(if self.scheme == "https" { 443 } else { 80 }),
            text => text.parse().map_err(|_| Status::bad_request(format!("invalid port {}", quote(text)))),
        }
    }

    /// The pod's first address, at the port asked for or else the first one that a container names.
    ///
    /// # Errors
    /// 400 for a pod without an address that may be reached.
    pub fn pod(&self, pod: &Value) -> Result<Address, Status> {
        let host = pod["status"]["podIPs"][0]["ip"].as_str().unwrap_or_default();
        if !is_unicast(host) {
            return Err(Status::bad_request("address not allowed"));
        }
        let containers = pod["spec"]["containers"].as_array().into_iter().flatten();
        let named = containers.filter_map(|c| c["ports"][0]["containerPort"].as_u64()).next();
        match named.and_then(|port| u16::try_from(port).ok()) {
            Some(port) if self.port.is_empty() => Ok(self.at(host, port)),
            _ => Ok(self.at(host, self.number(self.port)?)),
        }
    }

    /// A port of a node that is not its kubelet's.
    ///
    /// # Errors
    /// 400 for a port that is none.
    pub fn node(&self, host: &str) -> Result<Address, Status> {
        Ok(self.at(host, self.number(self.port)?))
    }

    /// An endpoint behind the Service, `random` says which. Only pods are gone to: `pod_has` tells whether the
    /// pod of `(namespace, name)` has this address.
    ///
    /// # Errors
    /// 503 when nothing is there.
    pub fn service(
        &self,
        id: &str,
        service: &Value,
        endpoints: &Value,
        random: usize,
        pod_has: impl Fn(&str, &str, &str) -> bool,
    ) -> Result<Address, Status> {
        let mut port = self.port;
        if let Ok(number) = port.parse::<i64>() {
            let ports = service["spec"]["ports"].as_array().into_iter().flatten();
            let found = ports.into_iter().find(|p| p["port"].as_i64() == Some(number)).ok_or_else(|| {
                let name = quote(self.name);
                Status::service_unavailable(format!("no service port {number} found for service {name}"))
            })?;
            port = found["name"].as_str().unwrap_or_default();
        }
        let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
        let mut found = Vec::new();
        for subset in list(&endpoints["subsets"]) {
            for at in list(&subset["ports"]) {
                let number = at["port"].as_u64().and_then(|p| u16::try_from(p).ok());
                let (true, Some(number)) = (at["name"].as_str().unwrap_or_default() == port, number) else {
                    continue;
                };
                found.extend(list(&subset["addresses"]).into_iter().filter_map(|address| {
                    let ip = address["ip"].as_str()?;
                    let pod = &address["targetRef"];
                    let of = (pod["namespace"].as_str()?, pod["name"].as_str()?);
                    let good = pod["kind"] == "Pod" && is_unicast(ip) && pod_has(of.0, of.1, ip);
                    good.then(|| self.at(ip, number))
                }));
            }
        }
        let nothing =
            || Status::service_unavailable(format!("no endpoints available for service {}", quote(id)));
        let index = random.checked_rem(found.len()).ok_or_else(nothing)?;
        Ok(found.swap_remove(index))
    }
}

/// Go's `IsGlobalUnicast`: no loopback, link-local, multicast, broadcast or unspecified address.
fn is_unicast(text: &str) -> bool {
    match text.parse() {
        Ok(IpAddr::V4(ip)) => {
            !(ip.is_loopback()
                || ip.is_link_local()
                || ip.is_multicast()
                || ip.is_broadcast()
                || ip.is_unspecified())
        }
        Ok(IpAddr::V6(ip)) => {
            !(ip.is_loopback() || ip.is_unicast_link_local() || ip.is_multicast() || ip.is_unspecified())
        }
        Err(_) => false,
    }
}

/// What follows `/proxy` in a request's path, as it came; empty if nothing does.
pub fn rest(path: &str, segments: usize) -> &str {
    let mut left = segments;
    let mut within = false;
    for (at, byte) in path.bytes().enumerate() {
        match (byte == b'/', within) {
            (true, true) if left == 0 => return &path[at..],
            (true, _) => within = false,
            (false, false) => {
                within = true;
                left = left.saturating_sub(1);
            }
            (false, true) => {}
        }
    }
    ""
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn names() {
        let some = |scheme, name, port| Some(Target { scheme, name, port });
        for (id, expect) in [
            ("a", some("", "a", "")),
            ("a:80", some("", "a", "80")),
            ("https:a:web", some("https", "a", "web")),
            ("http:a:", some("http", "a", "")),
            ("ftp:a:1", None),
            (":1", None),
            ("", None),
            ("a:b:c:d", None),
        ] {
            assert_eq!(Target::parse(id), expect, "{id}");
        }
    }

    #[test]
    fn pods() {
        let pod = json!({"spec": {"containers": [{}, {"ports": [{"containerPort": 8080}]}]},
            "status": {"podIPs": [{"ip": "10.0.0.7"}]}});
        let bare = json!({"spec": {"containers": []}, "status": {"podIPs": [{"ip": "fd00::1"}]}});
        let local = json!({"spec": {"containers": []}, "status": {"podIPs": [{"ip": "127.0.0.1"}]}});
        for (id, pod, expect) in [
            ("p", &pod, Ok("http 10.0.0.7 8080")),
            ("p:81", &pod, Ok("http 10.0.0.7 81")),
            ("https:p:", &pod, Ok("https 10.0.0.7 8080")),
            ("p", &bare, Ok("http fd00::1 80")),
            ("https:p:", &bare, Ok("https fd00::1 443")),
            ("p:web", &pod, Err("invalid port \"web\"")),
            ("p", &local, Err("address not allowed")),
            ("p", &json!({}), Err("address not allowed")),
        ] {
            let got = Target::parse(id).unwrap().pod(pod).map(show).map_err(|s| s.message);
            assert_eq!(got, expect.map(str::to_owned).map_err(str::to_owned), "{id}");
        }
    }

    fn show(address: Address) -> String {
        format!("{} {} {}", if address.tls { "https" } else { "http" }, address.host, address.port)
    }

    #[test]
    fn services() {
        let service = json!({"spec": {"ports": [{"name": "web", "port": 80}, {"name": "tls", "port": 443}]}});
        let pod = |name: &str, ip: &str| json!({"ip": ip, "targetRef": {"kind": "Pod", "namespace": "n", "name": name}});
        let endpoints = json!({"subsets": [
            {"addresses": [pod("a", "10.0.0.1"), pod("b", "10.0.0.2"), {"ip": "10.0.0.9"}],
             "ports": [{"name": "web", "port": 8080}, {"name": "tls", "port": 8443}]},
        ]});
        let check = |id: &str, endpoints: &Value, random: usize, expect: Result<&str, &str>| {
            let has = |_: &str, name: &str, ip: &str| (name, ip) != ("b", "10.0.0.2");
            let got = Target::parse(id).unwrap().service(id, &service, endpoints, random, has);
            let got = got.map(show).map_err(|s| s.message);
            assert_eq!(got, expect.map(str::to_owned).map_err(str::to_owned), "{id}");
        };
        check("s:web", &endpoints, 5, Ok("http 10.0.0.1 8080"));
        check("s:80", &endpoints, 0, Ok("http 10.0.0.1 8080"));
        check("https:s:443", &endpoints, 0, Ok("https 10.0.0.1 8443"));
        check("s", &endpoints, 0, Err("no endpoints available for service \"s\""));
        check("s:web", &json!({}), 0, Err("no endpoints available for service \"s:web\""));
        check("s:81", &endpoints, 0, Err("no service port 81 found for service \"s\""));
    }

    #[test]
    fn rests() {
        let pods = "/api/v1/namespaces/n/pods/p/proxy";
        for (path, segments, expect) in [
            (pods.to_owned(), 7, ""),
            (format!("{pods}/"), 7, "/"),
            (format!("{pods}/a%2Fb//c/"), 7, "/a%2Fb//c/"),
            ("/api/v1/nodes/n/proxy/stats".into(), 5, "/stats"),
        ] {
            assert_eq!(rest(&path, segments), expect, "{path}");
        }
    }
}
