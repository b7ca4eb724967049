//! The group `discovery.k8s.io`: EndpointSlice.

use std::collections::BTreeSet;

use apimachinery::field::{Error, ErrorList, Path};
use apimachinery::names;
use serde_json::Value;

use crate::check::{immutable, items, label, messages, present, qualified, subdomain, text};
use crate::ip;
use crate::strategy::{GENERIC, Strategy};
use crate::workload;

const MAX_ENDPOINTS: usize = 1000;
const MAX_ADDRESSES: usize = 100;
const MAX_PORTS: usize = 20_000;
const MAX_HINTS: usize = 8;

/// Controllers whose addresses come from elsewhere in the cluster and are warned about there.
const OURS: [&str; 2] = ["endpointslice-controller.k8s.io", "endpointslicemirroring-controller.k8s.io"];
const HOSTNAME: &str = "kubernetes.io/hostname";

pub fn strategy(kind: &str) -> Option<&'static Strategy> {
    const ENDPOINT_SLICE: Strategy = Strategy {
        generation: true,
        prepare_for_create: |slice| drop_topology(slice, None),
        prepare_for_update,
        validate,
        validate_update,
        warnings,
        ..GENERIC
    };
    (kind == "EndpointSlice").then_some(&ENDPOINT_SLICE)
}

/// Labels say whose the slice is, so they count as a change.
fn prepare_for_update(new: &mut Value, old: &Value, _subresource: &str) {
    let labels =
        |slice: &Value| slice["metadata"]["labels"].as_object().filter(|map| !map.is_empty()).cloned();
    if labels(new) != labels(old) {
        workload::next_generation(new, old);
    }
    drop_topology(new, Some(old));
}

/// `v1` does not take the topology of `v1beta1`. An update that touches the endpoints moves the node's name to its
/// own field, where the old object shows that it was one.
fn drop_topology(slice: &mut Value, old: Option<&Value>) {
    let hostname = |endpoint: &Value| endpoint["deprecatedTopology"][HOSTNAME].as_str().map(str::to_owned);
    if old.is_some_and(|old| old.get("endpoints") == slice.get("endpoints")) {
        return;
    }
    let known: BTreeSet<String> =
        old.map(|old| items(old, "endpoints")).unwrap_or_default().iter().filter_map(hostname).collect();
    for endpoint in slice.get_mut("endpoints").and_then(Value::as_array_mut).into_iter().flatten() {
        if present(endpoint, "nodeName").is_none()
            && let Some(name) = hostname(endpoint)
            && known.contains(&name)
            && names::is_dns1123_subdomain(&name).is_empty()
        {
            endpoint["nodeName"] = name.into();
        }
        if let Some(endpoint) = endpoint.as_object_mut() {
            endpoint.remove("deprecatedTopology");
        }
    }
}

fn validate(slice: &Value, errors: &mut ErrorList) {
    address_type(slice, errors);
    ports(slice, errors);
    endpoints(slice, errors);
}

fn validate_update(new: &Value, old: &Value, _subresource: &str, errors: &mut ErrorList) {
    address_type(new, errors);
    ports(new, errors);
    // Endpoints that were stored in spite of faults may stay.
    if new.get("endpoints") != old.get("endpoints") {
        endpoints(new, errors);
    }
    immutable(&new["addressType"], &old["addressType"], &Path::new("addressType"), errors);
}

fn address_type(slice: &Value, errors: &mut ErrorList) {
    let types = ["FQDN", "IPv4", "IPv6"];
    crate::check::one_of(text(slice, "addressType"), &types, &Path::new("addressType"), errors);
}

fn ports(slice: &Value, errors: &mut ErrorList) {
    let (path, ports) = (Path::new("ports"), items(slice, "ports"));
    if ports.len() > MAX_PORTS {
        errors.push(Error::too_many(&path, ports.len(), MAX_PORTS));
        return;
    }
    let mut seen = BTreeSet::new();
    for (index, port) in ports.iter().enumerate() {
        let (at, name) = (path.index(index), text(port, "name"));
        if !name.is_empty() {
            label(name, &at.child("name"), errors);
        }
        if !seen.insert(name) {
            errors.push(Error::duplicate(&at.child("name"), name));
        }
        match present(port, "protocol").and_then(Value::as_str) {
            None => errors.push(Error::required(&at.child("protocol"), "")),
            Some("SCTP" | "TCP" | "UDP") => {}
            Some(other) => {
                errors.push(Error::not_supported(&at.child("protocol"), other, ["SCTP", "TCP", "UDP"]));
            }
        }
        if let Some(protocol) = present(port, "appProtocol").and_then(Value::as_str) {
            qualified(protocol, &at.child("appProtocol"), errors);
        }
    }
}

fn endpoints(slice: &Value, errors: &mut ErrorList) {
    let (path, endpoints) = (Path::new("endpoints"), items(slice, "endpoints"));
    if endpoints.len() > MAX_ENDPOINTS {
        errors.push(Error::too_many(&path, endpoints.len(), MAX_ENDPOINTS));
        return;
    }
    for (index, endpoint) in endpoints.iter().enumerate() {
        let at = path.index(index);
        let (list, addresses) = (at.child("addresses"), items(endpoint, "addresses"));
        if addresses.is_empty() {
            errors.push(Error::required(&list, "must contain at least 1 address"));
        } else if addresses.len() > MAX_ADDRESSES {
            errors.push(Error::too_many(&list, addresses.len(), MAX_ADDRESSES));
        }
        for (index, value) in addresses.iter().enumerate() {
            let value = value.as_str().unwrap_or_default();
            address(value, text(slice, "addressType"), &list, index, errors);
        }
        if let Some(node) = present(endpoint, "nodeName").and_then(Value::as_str) {
            subdomain(node, &at.child("nodeName"), errors);
        }
        if let Some(hostname) = present(endpoint, "hostname").and_then(Value::as_str) {
            label(hostname, &at.child("hostname"), errors);
        }
        if let Some(hints) = present(endpoint, "hints") {
            self::hints(hints, &at.child("hints"), errors);
        }
    }
}

fn address(text: &str, kind: &str, list: &Path<'_>, index: usize, errors: &mut ErrorList) {
    let (at, before) = (list.index(index), errors.len());
    match kind {
        "IPv4" => ip::legacy(text, &[], &at, errors),
        "IPv6" => ip::strict(text, &at, errors),
        "FQDN" => return domain(text, &at, errors),
        _ => return,
    }
    if errors.len() > before {
        return;
    }
    let is_v4 = ip::parse(text).is_some_and(|ip| ip.is_ipv4());
    if is_v4 != (kind == "IPv4") {
        errors.push(Error::invalid(list, text, format!("must be an {kind} address")));
    }
    ip::endpoint(text, &at, errors);
}

/// Upstream's `IsFullyQualifiedDomainName`: two labels at least; a dot may follow.
fn domain(name: &str, path: &Path<'_>, errors: &mut ErrorList) {
    if name.is_empty() {
        errors.push(Error::required(path, ""));
        return;
    }
    let name = name.strip_suffix('.').unwrap_or(name);
    let faults = names::is_dns1123_subdomain(name);
    if !faults.is_empty() {
        errors.push(Error::invalid(path, name, faults.join(",")));
        return;
    }
    if !name.contains('.') {
        let why = "should be a domain with at least two segments separated by dots";
        errors.push(Error::invalid(path, name, why));
        return;
    }
    for part in name.split('.') {
        let faults = names::is_dns1123_label(part);
        if !faults.is_empty() {
            errors.push(Error::invalid(path, part, faults.join(",")));
        }
    }
}

fn hints(hints: &Value, path: &Path<'_>, errors: &mut ErrorList) {
    for (field, rule) in [
        ("forZones", names::is_label_value as fn(&str) -> Vec<String>),
        ("forNodes", names::is_dns1123_subdomain),
    ] {
        let (list, all) = (path.child(field), items(hints, field));
        if all.len() > MAX_HINTS {
            errors.push(Error::too_many(&list, all.len(), MAX_HINTS));
            return;
        }
        let mut seen = BTreeSet::new();
        for (index, hint) in all.iter().enumerate() {
            let (entry, name) = (list.index(index), text(hint, "name"));
            let at = entry.child("name");
            if !seen.insert(name) {
                errors.push(Error::duplicate(&at, name));
            }
            messages(rule(name), &name.into(), &at, errors);
        }
    }
}

fn warnings(new: &Value, old: Option<&Value>, _subresource: &str) -> Vec<String> {
    let mut warnings = Vec::new();
    if old.is_none() && text(new, "addressType") == "FQDN" {
        // The path is upstream's.
        warnings.push("spec.addressType: FQDN endpoints are deprecated".to_owned());
    }
    let manager = &new["metadata"]["labels"]["endpointslice.kubernetes.io/managed-by"];
    if manager.as_str().is_some_and(|manager| OURS.contains(&manager)) {
        return warnings;
    }
    let path = Path::new("endpoints");
    for (index, endpoint) in items(new, "endpoints").iter().enumerate() {
        let at = path.index(index);
        let list = at.child("addresses");
        for (index, address) in items(endpoint, "addresses").iter().enumerate() {
            warnings.extend(ip::warning(address.as_str().unwrap_or_default(), &list.index(index)));
        }
    }
    warnings
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::rows::Subject;

    fn subject(kind: &str, addresses: &[&str]) -> Subject {
        let good = json!({
            "metadata": {"name": "s", "namespace": "n"}, "addressType": kind,
            "ports": [{"name": "http", "port": 80}], "endpoints": [{"addresses": addresses}],
        });
        Subject { group: "discovery.k8s.io", version: "v1", kind: "EndpointSlice", good }
    }

    fn check(patch: Value, expect: &[&str]) {
        subject("IPv4", &["10.1.2.3"]).created(patch, expect);
    }

    /// `TestValidateEndpointSlice`
    #[test]
    fn create() {
        check(json!({}), &[]);
        check(json!({"addressType": null}), &["addressType: Required"]);
        check(json!({"addressType": "other"}), &["addressType: NotSupported"]);
        check(json!({"ports": [{}, {}]}), &["ports[1].name: Duplicate"]);
        check(json!({"ports": [{"name": "-A"}]}), &["ports[0].name: Invalid"]);
        check(json!({"ports": [{"protocol": "foo"}]}), &["ports[0].protocol: NotSupported"]);
        check(
            json!({"ports": [{"appProtocol": "--"}, {"name": "b", "appProtocol": "kubernetes.io/h2c"}]}),
            &["ports[0].appProtocol: Invalid"],
        );
        check(json!({"endpoints": [{"addresses": []}]}), &["endpoints[0].addresses: Required"]);
        check(
            json!({"endpoints": [{"addresses": vec!["10.1.2.3"; 101]}]}),
            &["endpoints[0].addresses: TooMany"],
        );
        check(json!({"endpoints": vec![json!({"addresses": ["10.1.2.3"]}); 1001]}), &["endpoints: TooMany"]);
        let endpoint = |more: Value, expect: &[&str]| {
            let mut endpoint = json!({"addresses": ["10.1.2.3"]});
            endpoint.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            let expect: Vec<String> = expect.iter().map(|rest| format!("endpoints[0].{rest}")).collect();
            let expect: Vec<&str> = expect.iter().map(String::as_str).collect();
            check(json!({"endpoints": [endpoint]}), &expect);
        };
        endpoint(
            json!({"hostname": "valid-123", "nodeName": "n.example.com", "deprecatedTopology": {"--bad": "x"}}),
            &[],
        );
        endpoint(
            json!({"hostname": "--INVALID", "nodeName": "A"}),
            &["nodeName: Invalid", "hostname: Invalid"],
        );
        let names = |names: &[&str]| -> Value { names.iter().map(|name| json!({"name": name})).collect() };
        endpoint(json!({"hints": {"forZones": names(&["a", "b"]), "forNodes": names(&["n1"])}}), &[]);
        endpoint(
            json!({"hints": {"forZones": names(&["a", "a", "a b"]), "forNodes": names(&["n", "n", "-"])}}),
            &[
                "hints.forZones[1].name: Duplicate",
                "hints.forZones[2].name: Invalid",
                "hints.forNodes[1].name: Duplicate",
                "hints.forNodes[2].name: Invalid",
            ],
        );
        endpoint(
            json!({"hints": {"forZones": names(&["1", "2", "3", "4", "5", "6", "7", "8", "9"])}}),
            &["hints.forZones: TooMany"],
        );
        endpoint(
            json!({"hints": {"forNodes": names(&["1", "2", "3", "4", "5", "6", "7", "8", "9"])}}),
            &["hints.forNodes: TooMany"],
        );
    }

    #[test]
    fn addresses() {
        let one = |kind: &str, address: &str, expect: &[&str]| {
            let expect: Vec<String> =
                expect.iter().map(|rest| format!("endpoints[0].addresses{rest}")).collect();
            let expect: Vec<&str> = expect.iter().map(String::as_str).collect();
            subject(kind, &[address]).created(json!({}), &expect);
        };
        one("IPv6", "2001:db8::1", &[]);
        one("IPv4", "2001:db8::1", &[": Invalid"]);
        one("IPv6", "10.1.2.3", &[": Invalid"]);
        for bad in ["example", "10.01.2.3", "127.0.0.1", "169.254.1.1", "0.0.0.0", "224.0.0.1"] {
            one("IPv4", bad, &["[0]: Invalid"]);
        }
        for bad in ["2001:db8:0::1", "::1", "fe80::1", "::ffff:10.1.2.3"] {
            one("IPv6", bad, &["[0]: Invalid"]);
        }
        one("FQDN", "foo.example.com.", &[]);
        one("FQDN", "foo", &["[0]: Invalid"]);
        one("FQDN", "foo.*", &["[0]: Invalid"]);
        one("FQDN", "", &["[0]: Required"]);
    }

    /// `TestValidateEndpointSliceUpdate`, `Test_dropTopologyOnV1`, `TestWarningsOnEndpointSlice`
    #[test]
    fn update() {
        let slice = subject("IPv4", &["10.1.2.3"]);
        slice.updated(
            json!({}),
            json!({"endpoints": [{"addresses": ["x"]}]}),
            "",
            &["endpoints[0].addresses[0]: Invalid"],
        );
        slice.updated(json!({"endpoints": [{"addresses": ["x"]}]}), json!({"ports": []}), "", &[]);
        slice.updated(
            json!({"endpoints": []}),
            json!({"addressType": "IPv6"}),
            "",
            &["addressType: Invalid"],
        );
        let generation =
            |after: Value| slice.update(&json!({}), &after, "").1["metadata"]["generation"].clone();
        assert_eq!(generation(json!({"metadata": {"labels": {"a": "b"}}})), 1);
        assert_eq!(generation(json!({"metadata": {"annotations": {"a": "b"}}})), Value::Null);
        slice.warns(
            json!({"addressType": "FQDN", "endpoints": []}),
            &["spec.addressType: FQDN endpoints are deprecated"],
        );
        let odd = json!({"endpoints": [{"addresses": ["2001:db8:0::1"]}]});
        slice.warns(odd.clone(), &["endpoints[0].addresses[0]: IPv6 address \"2001:db8:0::1\" should be in RFC 5952 canonical format \
            (\"2001:db8::1\")"]);
        let mut managed = odd;
        managed["metadata"] = json!({"labels": {"endpointslice.kubernetes.io/managed-by": OURS[0]}});
        slice.warns(managed, &[]);
        let old = json!({"endpoints": [{"addresses": ["10.1.2.3"], "deprecatedTopology": {HOSTNAME: "n1"}}]});
        let mut new = json!({"endpoints": [{"addresses": ["10.1.2.4"], "deprecatedTopology": {HOSTNAME: "n1"}},
            {"addresses": ["10.1.2.5"], "deprecatedTopology": {HOSTNAME: "n2"}}]});
        prepare_for_update(&mut new, &old, "");
        assert_eq!(
            new["endpoints"],
            json!([{"addresses": ["10.1.2.4"], "nodeName": "n1"}, {"addresses": ["10.1.2.5"]}])
        );
    }
}
