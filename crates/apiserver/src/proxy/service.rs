//! Where a service of the cluster is reached by the API server itself: for webhooks and for aggregated servers.
//! Rules and texts of upstream's `apiserver/pkg/util/proxy`, as with `--enable-aggregator-routing`: an endpoint is gone
//! to and not the service's address, so that it works on a machine without service rules. Pure.

use apimachinery::{field::quote, status::Status};
use serde_json::Value;

/// Host and port of an endpoint that is ready, those of the service's first family before others; `random` says which.
/// Of a service that is only a name: that name.
///
/// # Errors
/// 404 for no such service, 503 when it has no such port or nothing behind it, 500 for a type that leads nowhere.
pub fn locate(
    name: &str,
    port: u16,
    service: Option<&Value>,
    slices: &[Value],
    random: usize,
) -> Result<(String, u16), Status> {
    let spec = &service.ok_or_else(|| Status::not_found("", "service", name))?["spec"];
    match spec["type"].as_str().unwrap_or("ClusterIP") {
        "ClusterIP" | "LoadBalancer" | "NodePort" => {}
        "ExternalName" => {
            let host = spec["externalName"].as_str().unwrap_or_default();
            return Ok((host.to_owned(), port));
        }
        other => return Err(Status::failure(500, "", format!("unsupported service type {}", quote(other)))),
    }
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let list = |value: &'_ Value| value.as_array().cloned().unwrap_or_default();
    let ports = list(&spec["ports"]);
    let Some(wanted) = ports.iter().find(|p| p["port"].as_u64() == Some(port.into())) else {
        let why = format!("no service port {port} found for service {}", quote(name));
        return Err(Status::service_unavailable(why));
    };
    let wanted = text(&wanted["name"]);
    let family = text(&spec["ipFamilies"][0]);
    let mut slices: Vec<&Value> = slices.iter().collect();
    let turn = random.checked_rem(slices.len()).unwrap_or(0);
    slices.rotate_left(turn);
    slices.sort_by_key(|slice| slice["addressType"] != family.as_str());
    let found = slices.into_iter().find_map(|slice| {
        let at = list(&slice["ports"]).into_iter().find_map(|p| {
            let number = p["port"].as_u64().and_then(|n| u16::try_from(n).ok())?;
            (text(&p["name"]) == wanted).then_some(number)
        })?;
        let ready: Vec<Value> =
            list(&slice["endpoints"]).into_iter().filter(|e| e["conditions"]["ready"] != false).collect();
        let endpoint = ready.get(random.checked_rem(ready.len())?)?;
        Some((endpoint["addresses"][0].as_str()?.to_owned(), at))
    });
    found.ok_or_else(|| {
        Status::service_unavailable(format!("no endpoints available for service {}", quote(name)))
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn endpoints() {
        let service = json!({"spec": {"type": "ClusterIP", "ipFamilies": ["IPv4"],
            "ports": [{"port": 443, "name": "https"}, {"port": 8080, "name": "web"}]}});
        let slice = |family: &str, ready: Value, addresses: &[&str]| {
            let endpoints: Vec<Value> =
                addresses.iter().map(|a| json!({"addresses": [a], "conditions": {"ready": ready}})).collect();
            json!({"addressType": family, "endpoints": endpoints,
                "ports": [{"name": "https", "port": 8443}, {"name": "web"}]})
        };
        let at = |host: &str, port: u16| Ok((host.to_owned(), port));
        let nothing = || Err("no endpoints available for service \"s\"".to_owned());
        let (v4, v6) =
            (slice("IPv4", json!(true), &["10.0.0.1", "10.0.0.2"]), slice("IPv6", json!(true), &["fd::1"]));
        let unready = slice("IPv4", json!(false), &["10.0.0.3"]);
        let unknown = slice("IPv4", Value::Null, &["10.0.0.4"]);
        let named = json!({"spec": {"type": "ExternalName", "externalName": "x.example"}});
        let table = [
            (Some(&service), vec![&v4], 443, 0, at("10.0.0.1", 8443)),
            (Some(&service), vec![&v4], 443, 1, at("10.0.0.2", 8443)),
            (Some(&service), vec![&v6, &v4], 443, 0, at("10.0.0.1", 8443)),
            (Some(&service), vec![&v6, &unready], 443, 0, at("fd::1", 8443)),
            (Some(&service), vec![&unknown], 443, 7, at("10.0.0.4", 8443)),
            (Some(&service), vec![&unready], 443, 0, nothing()),
            (Some(&service), vec![], 443, 3, nothing()),
            // The port of the slice has no number.
            (Some(&service), vec![&v4], 8080, 0, nothing()),
            (Some(&service), vec![&v4], 80, 0, Err("no service port 80 found for service \"s\"".to_owned())),
            (Some(&named), vec![], 80, 0, at("x.example", 80)),
            (None, vec![], 443, 0, Err("service \"s\" not found".to_owned())),
        ];
        for (service, slices, port, random, expect) in table {
            let slices: Vec<Value> = slices.into_iter().cloned().collect();
            let got = locate("s", port, service, &slices, random).map_err(|status| status.message);
            assert_eq!(got, expect, "{port} {random} {slices:?}");
        }
    }
}
