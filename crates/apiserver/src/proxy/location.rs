//! Where on a node a request about a pod belongs. Rules and texts of upstream's
//! `registry/core/pod/strategy.go` and `kubelet/client`.

use apimachinery::status::Status;
use serde_json::Value;

use crate::request::Query;

/// `(path, query)` on the kubelet for `pods/{log,exec,attach,portforward}`.
///
/// # Errors
/// 400 for a container that is not there or not named, or a pod without a node. `Ok(None)`: a pod without a
/// node has no logs yet.
pub fn of_pod(pod: &Value, subresource: &str, query: &Query) -> Result<Option<String>, Status> {
    let name = pod["metadata"]["name"].as_str().unwrap_or_default();
    let namespace = pod["metadata"]["namespace"].as_str().unwrap_or_default();
    let container = match subresource {
        "portforward" => String::new(),
        _ => container(pod, name, query.get("container").unwrap_or_default())?,
    };
    if node_of(pod).is_empty() {
        if subresource == "log" {
            return Ok(None);
        }
        return Err(Status::bad_request(format!("pod {name} does not have a host assigned")));
    }
    let mut pairs: Vec<(&str, &str)> = Vec::new();
    let path = match subresource {
        "log" => {
            for flag in ["follow", "previous", "timestamps"] {
                pairs.extend(query.flag(flag).then_some((flag, "true")));
            }
            for key in ["sinceSeconds", "sinceTime", "tailLines", "limitBytes"] {
                pairs.extend(query.get(key).filter(|v| !v.is_empty()).map(|v| (key, v)));
            }
            pairs.push(("stream", query.get("stream").filter(|v| !v.is_empty()).unwrap_or("All")));
            "containerLogs"
        }
        "portforward" => {
            pairs.extend(query.all("ports").map(|ports| ("port", ports)));
            "portForward"
        }
        other => {
            for (option, name) in
                [("stdin", "input"), ("stdout", "output"), ("stderr", "error"), ("tty", "tty")]
            {
                pairs.extend(query.flag(option).then_some((name, "1")));
            }
            if other == "exec" {
                pairs.extend(query.all("command").map(|c| ("command", c)));
            }
            if other == "exec" { "exec" } else { "attach" }
        }
    };
    let mut out = format!("/{path}/{}/{}", escape(namespace), escape(name));
    if !container.is_empty() {
        out.push('/');
        out.push_str(&escape(&container));
    }
    for (i, (key, value)) in pairs.iter().enumerate() {
        out.push(if i == 0 { '?' } else { '&' });
        out.push_str(&escape(key));
        out.push('=');
        out.push_str(&escape(value));
    }
    Ok(Some(out))
}

/// The node that a pod is bound to; empty for none.
pub fn node_of(pod: &Value) -> &str {
    pod["spec"]["nodeName"].as_str().unwrap_or_default()
}

fn container(pod: &Value, pod_name: &str, wanted: &str) -> Result<String, Status> {
    let names = |list: &str| -> Vec<String> {
        let list = pod["spec"][list].as_array();
        list.into_iter().flatten().filter_map(|c| c["name"].as_str()).map(str::to_owned).collect()
    };
    let regular = names("containers");
    let all = [names("initContainers"), regular.clone(), names("ephemeralContainers")].concat();
    if !wanted.is_empty() {
        if all.iter().any(|name| name == wanted) {
            return Ok(wanted.to_owned());
        }
        return Err(Status::bad_request(format!("container {wanted} is not valid for pod {pod_name}")));
    }
    match regular.as_slice() {
        [only] => Ok(only.clone()),
        [] => Err(Status::bad_request(format!("a container name must be specified for pod {pod_name}"))),
        _ => Err(Status::bad_request(format!(
            "a container name must be specified for pod {pod_name}, choose one of: [{}]",
            all.join(" ")
        ))),
    }
}

/// Address and port of a node's kubelet: its own port, else `default_port`; the first address of the preferred
/// type.
///
/// # Errors
/// 500, as upstream, when the node has no such address.
pub fn of_node(node: &Value, preferred: &[String], default_port: u16) -> Result<(String, u16), Status> {
    let addresses = node["status"]["addresses"].as_array().map(Vec::as_slice).unwrap_or_default();
    let address = preferred.iter().find_map(|kind| {
        addresses.iter().find(|a| a["type"] == kind.as_str()).and_then(|a| a["address"].as_str())
    });
    let Some(address) = address else {
        let found: Vec<String> = addresses
            .iter()
            .map(|a| {
                let text = |key: &str| a[key].as_str().unwrap_or_default().to_owned();
                format!("{{{} {}}}", text("type"), text("address"))
            })
            .collect();
        return Err(Status::internal(format_args!(
            "no preferred addresses found; known addresses: [{}]",
            found.join(" ")
        )));
    };
    let port = node["status"]["daemonEndpoints"]["kubeletEndpoint"]["Port"].as_u64();
    let port = port.and_then(|p| u16::try_from(p).ok()).filter(|p| *p != 0).unwrap_or(default_port);
    Ok((address.to_owned(), port))
}

/// Percent-encoding for one path segment or query part.
pub fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.' | b'~') {
            out.push(byte as char);
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn pods() {
        let pod = |containers: &[&str], node: &str| {
            let containers: Vec<Value> = containers.iter().map(|n| json!({"name": n})).collect();
            json!({"metadata": {"name": "p", "namespace": "n"}, "spec": {"nodeName": node, "containers": containers}})
        };
        let one = pod(&["c"], "node");
        let table = [
            (&one, "log", "", Ok(Some("/containerLogs/n/p/c?stream=All"))),
            (
                &one,
                "log",
                "follow=true&tailLines=5&previous=false",
                Ok(Some("/containerLogs/n/p/c?follow=true&tailLines=5&stream=All")),
            ),
            (
                &one,
                "exec",
                "command=sh&command=-c&command=echo%20a%26b&stdin=true&stdout=true&stderr=true",
                Ok(Some("/exec/n/p/c?input=1&output=1&error=1&command=sh&command=-c&command=echo%20a%26b")),
            ),
            (
                &one,
                "attach",
                "container=c&stdin=1&stdout=1&stderr=false&tty=true",
                Ok(Some("/attach/n/p/c?input=1&output=1&tty=1")),
            ),
            (&one, "portforward", "ports=80", Ok(Some("/portForward/n/p?port=80"))),
            (&one, "log", "container=x", Err("container x is not valid for pod p")),
            (
                &pod(&["a", "b"], "node"),
                "log",
                "",
                Err("a container name must be specified for pod p, choose one of: [a b]"),
            ),
            (&pod(&["a"], ""), "log", "", Ok(None)),
            (&pod(&["a"], ""), "exec", "", Err("pod p does not have a host assigned")),
        ];
        for (pod, subresource, query, expect) in table {
            let got = of_pod(pod, subresource, &Query::parse(Some(query)));
            let got = got.as_ref().map(|o| o.as_deref()).map_err(|e| e.message.as_str());
            assert_eq!(got, expect, "{subresource} {query}");
        }
    }

    #[test]
    fn nodes() {
        let node = json!({"status": {
            "addresses": [{"type": "Hostname", "address": "h"}, {"type": "InternalIP", "address": "10.0.0.1"}],
            "daemonEndpoints": {"kubeletEndpoint": {"Port": 12345}},
        }});
        let preferred = ["InternalIP".to_owned(), "Hostname".to_owned()];
        assert_eq!(of_node(&node, &preferred, 10250).unwrap(), ("10.0.0.1".into(), 12345));
        let error = of_node(&json!({}), &preferred, 10250).unwrap_err();
        assert_eq!(error.code, 500);
    }
}
