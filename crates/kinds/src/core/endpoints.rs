//! Endpoints.

use apimachinery::field::{Error, ErrorList, Path};
use apimachinery::names;
use serde_json::Value;

use crate::check::{int, items, label, messages, one_of, present, qualified, subdomain, text};
use crate::strategy::{GENERIC, Strategy};
use crate::{ip, meta};

pub const STRATEGY: Strategy = Strategy {
    allow_create_on_update: true,
    validate: |endpoints, errors| subsets(items(endpoints, "subsets"), errors),
    validate_update,
    warnings,
    ..GENERIC
};

/// Subsets that were stored under older rules may stay as they are.
fn validate_update(new: &Value, old: &Value, _subresource: &str, errors: &mut ErrorList) {
    if !meta::same(&new["subsets"], &old["subsets"]) {
        subsets(items(new, "subsets"), errors);
    }
}

fn subsets(list: &[Value], errors: &mut ErrorList) {
    let path = Path::new("subsets");
    for (index, subset) in list.iter().enumerate() {
        let at = path.index(index);
        let (ready, others) = (items(subset, "addresses"), items(subset, "notReadyAddresses"));
        if ready.is_empty() && others.is_empty() {
            errors.push(Error::required(&at, "must specify `addresses` or `notReadyAddresses`"));
        }
        for (field, list) in [("addresses", ready), ("notReadyAddresses", others)] {
            let path = at.child(field);
            for (index, entry) in list.iter().enumerate() {
                address(entry, &path.index(index), errors);
            }
        }
        let ports = items(subset, "ports");
        let path = at.child("ports");
        for (index, entry) in ports.iter().enumerate() {
            port(entry, ports.len() > 1, &path.index(index), errors);
        }
    }
}

fn address(address: &Value, path: &Path<'_>, errors: &mut ErrorList) {
    let value = text(address, "ip");
    ip::legacy(value, &[], &path.child("ip"), errors);
    let host = text(address, "hostname");
    if !host.is_empty() {
        label(host, &path.child("hostname"), errors);
    }
    if let Some(node) = present(address, "nodeName").and_then(Value::as_str) {
        subdomain(node, &path.child("nodeName"), errors);
    }
    ip::endpoint(value, &path.child("ip"), errors);
}

fn port(port: &Value, named: bool, path: &Path<'_>, errors: &mut ErrorList) {
    match text(port, "name") {
        "" if named => errors.push(Error::required(&path.child("name"), "")),
        "" => {}
        name => label(name, &path.child("name"), errors),
    }
    let number = int(port, "port").unwrap_or(0);
    messages(names::is_port_number(number), &number.into(), &path.child("port"), errors);
    one_of(text(port, "protocol"), &["SCTP", "TCP", "UDP"], &path.child("protocol"), errors);
    if let Some(protocol) = present(port, "appProtocol").and_then(Value::as_str) {
        qualified(protocol, &path.child("appProtocol"), errors);
    }
}

/// The controller's own are not commented on: it copies what pods have.
fn warnings(endpoints: &Value, _old: Option<&Value>, _subresource: &str) -> Vec<String> {
    let keeper = &endpoints["metadata"]["labels"]["endpoints.kubernetes.io/managed-by"];
    let mut warnings = Vec::new();
    if keeper == "endpoint-controller" {
        return warnings;
    }
    let path = Path::new("subsets");
    for (index, subset) in items(endpoints, "subsets").iter().enumerate() {
        let at = path.index(index);
        for field in ["addresses", "notReadyAddresses"] {
            let list = at.child(field);
            for (index, address) in items(subset, field).iter().enumerate() {
                warnings.extend(ip::warning(text(address, "ip"), &list.index(index).child("ip")));
            }
        }
    }
    warnings
}

#[cfg(test)]
mod tests {
    use crate::table::Table;
    use serde_json::{Value, json};

    /// Upstream's `TestValidateEndpointsCreate`, `TestValidateEndpointsUpdate`.
    #[test]
    fn endpoints() {
        let table = Table::new(
            "",
            "v1",
            "Endpoints",
            json!({"metadata": {"name": "e", "namespace": "n"}, "subsets": [
            {"addresses": [{"ip": "10.10.1.1"}, {"ip": "10.10.2.2", "hostname": "h", "nodeName": "n"}],
             "ports": [{"name": "a", "port": 8675, "protocol": "TCP"}, {"name": "b", "port": 309, "appProtocol": "HTTP"}]},
            {"notReadyAddresses": [{"ip": "10.10.3.3"}], "ports": [{"port": 93, "protocol": "UDP"}]}]}),
        );
        let subset = |fields: Value| {
            let mut whole = json!({"addresses": [{"ip": "10.10.1.1"}], "ports": [{"name": "a", "port": 1}]});
            whole.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
            json!({"subsets": [whole]})
        };
        table.create(&[
            (subset(json!({"addresses": null})), &["subsets[0]: Required"]),
            (
                subset(json!({"addresses": [{"ip": "[2001:0db8::]"}]})),
                &["subsets[0].addresses[0].ip: Invalid", "subsets[0].addresses[0].ip: Invalid"],
            ),
            (subset(json!({"addresses": [{"ip": "127.0.0.1"}]})), &["subsets[0].addresses[0].ip: Invalid"]),
            (
                subset(json!({"addresses": [{"ip": "169.254.169.254"}]})),
                &["subsets[0].addresses[0].ip: Invalid"],
            ),
            (subset(json!({"addresses": [{"ip": "010.10.1.1"}]})), &["subsets[0].addresses[0].ip: Invalid"]),
            (
                subset(json!({"ports": [{"port": 1}, {"port": 2, "name": "b"}]})),
                &["subsets[0].ports[0].name: Required"],
            ),
            (subset(json!({"ports": [{"port": 1, "name": "-"}]})), &["subsets[0].ports[0].name: Invalid"]),
            (subset(json!({"ports": [{"port": 66000}]})), &["subsets[0].ports[0].port: Invalid"]),
            (
                subset(json!({"ports": [{"port": 93, "protocol": "XTP"}]})),
                &["subsets[0].ports[0].protocol: NotSupported"],
            ),
            (
                subset(json!({"ports": [{"port": 93, "appProtocol": "lots of[invalid]{chars}"}]})),
                &["subsets[0].ports[0].appProtocol: Invalid"],
            ),
        ]);
        let legacy = subset(json!({"addresses": [{"ip": "010.10.1.1"}]}));
        let mut labelled = legacy.clone();
        labelled["metadata"] = json!({"labels": {"a": "b"}});
        table.change(&legacy, &labelled, "", &[]);
        table.change(
            &legacy,
            &subset(json!({"addresses": [{"ip": "010.10.1.1"}, {"ip": "1.1.1.1"}]})),
            "",
            &["subsets[0].addresses[0].ip: Invalid"],
        );
        table.warnings(subset(json!({"addresses": [{"ip": "2001:DB8::1"}]})), &[
            "subsets[0].addresses[0].ip: IPv6 address \"2001:DB8::1\" should be in RFC 5952 canonical format (\"2001:db8::1\")"]);
    }
}
