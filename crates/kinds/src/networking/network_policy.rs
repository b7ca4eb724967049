//! NetworkPolicy.

use apimachinery::field::{Error, ErrorList, Path};
use serde_json::Value;

use crate::check::{int, items, port, present, text};
use crate::ip::{self, Cidr};
use crate::meta;
use crate::strategy::{GENERIC, Strategy};
use crate::workload::SPEC;

pub const STRATEGY: Strategy = Strategy {
    generation: true,
    validate: |object, errors| validate(&object["spec"], &Rules::default(), errors),
    validate_update: |new, old, _, errors| validate(&new["spec"], &Rules::of(&old["spec"]), errors),
    warnings: |new, _, _| warnings(&new["spec"]),
    ..GENERIC
};

/// Both directions: the rules' field, and where their peers stand.
const DIRECTIONS: [(&str, &str); 2] = [("ingress", "from"), ("egress", "to")];

/// What an older policy is let have.
#[derive(Default)]
struct Rules<'a> {
    lenient_selectors: bool,
    cidrs: Vec<&'a str>,
}

impl Rules<'_> {
    fn of(old: &Value) -> Rules<'_> {
        let mut cidrs = Vec::new();
        for (direction, peers) in DIRECTIONS {
            for peer in items(old, direction).iter().flat_map(|rule| items(rule, peers)) {
                let block = &peer["ipBlock"];
                cidrs.extend(block["cidr"].as_str());
                cidrs.extend(items(block, "except").iter().filter_map(Value::as_str));
            }
        }
        Rules { lenient_selectors: !meta::selector_is_good(&old["podSelector"]), cidrs }
    }
}

fn validate(spec: &Value, rules: &Rules<'_>, errors: &mut ErrorList) {
    meta::selector(&spec["podSelector"], rules.lenient_selectors, &SPEC.child("podSelector"), errors);
    for (direction, peers) in DIRECTIONS {
        let list = SPEC.child(direction);
        for (index, rule) in items(spec, direction).iter().enumerate() {
            let at = list.index(index);
            let ports = at.child("ports");
            for (index, port) in items(rule, "ports").iter().enumerate() {
                policy_port(port, &ports.index(index), errors);
            }
            let list = at.child(peers);
            for (index, peer) in items(rule, peers).iter().enumerate() {
                self::peer(peer, rules, &list.index(index), errors);
            }
        }
    }
    let (list, types) = (SPEC.child("policyTypes"), items(spec, "policyTypes"));
    if types.len() > 2 {
        errors.push(Error::invalid(&list, types.to_vec(), "may not specify more than two policyTypes"));
        return;
    }
    for (index, kind) in types.iter().enumerate() {
        let kind = kind.as_str().unwrap_or_default();
        if !matches!(kind, "Ingress" | "Egress") {
            errors.push(Error::not_supported(&list.index(index), kind, ["Ingress", "Egress"]));
        }
    }
}

fn policy_port(value: &Value, path: &Path<'_>, errors: &mut ErrorList) {
    if let Some(protocol) = present(value, "protocol").and_then(Value::as_str)
        && !matches!(protocol, "TCP" | "UDP" | "SCTP")
    {
        errors.push(Error::not_supported(&path.child("protocol"), protocol, ["TCP", "UDP", "SCTP"]));
    }
    let (at, end) = (path.child("endPort"), int(value, "endPort"));
    match (present(value, "port"), end) {
        (None, None) => {}
        (None, Some(end)) => {
            errors.push(Error::invalid(&at, end, "may not be specified when `port` is not specified"));
        }
        (Some(first @ Value::String(_)), end) => {
            if let Some(end) = end {
                let why = "may not be specified when `port` is non-numeric";
                errors.push(Error::invalid(&at, end, why));
            }
            port(first, &path.child("port"), errors);
        }
        (Some(first), end) => {
            port(first, &path.child("port"), errors);
            let Some(end) = end else { return };
            let first = first.as_i64().unwrap_or(0);
            if end < first {
                // Upstream shows the first port here.
                errors.push(Error::invalid(&at, first, "must be greater than or equal to `port`"));
            }
            port(&end.into(), &at, errors);
        }
    }
}

fn peer(peer: &Value, rules: &Rules<'_>, path: &Path<'_>, errors: &mut ErrorList) {
    let mut selectors = 0;
    for field in ["podSelector", "namespaceSelector"] {
        if let Some(selector) = present(peer, field) {
            selectors += 1;
            meta::selector(selector, rules.lenient_selectors, &path.child(field), errors);
        }
    }
    match present(peer, "ipBlock") {
        None if selectors == 0 => errors.push(Error::required(path, "must specify a peer")),
        None => {}
        Some(block) => {
            ip_block(block, rules, &path.child("ipBlock"), errors);
            if selectors > 0 {
                errors.push(Error::forbidden(path, "may not specify both ipBlock and another peer"));
            }
        }
    }
}

fn ip_block(block: &Value, rules: &Rules<'_>, path: &Path<'_>, errors: &mut ErrorList) {
    let (at, text) = (path.child("cidr"), text(block, "cidr"));
    if text.is_empty() {
        errors.push(Error::required(&at, ""));
        return;
    }
    ip::legacy_cidr(text, &rules.cidrs, &at, errors);
    let Some(cidr) = Cidr::parse(text) else { return };
    let list = path.child("except");
    for (index, except) in items(block, "except").iter().enumerate() {
        let (at, text) = (list.index(index), except.as_str().unwrap_or_default());
        ip::legacy_cidr(text, &rules.cidrs, &at, errors);
        if Cidr::parse(text).is_some_and(|except| !cidr.strictly_contains(except)) {
            errors.push(Error::invalid(&at, text, "must be a strict subset of `cidr`"));
        }
    }
}

fn warnings(spec: &Value) -> Vec<String> {
    let mut warnings = Vec::new();
    for (direction, peers) in DIRECTIONS {
        let rules = SPEC.child(direction);
        for (index, rule) in items(spec, direction).iter().enumerate() {
            let rule_path = rules.index(index);
            let list = rule_path.child(peers);
            for (index, peer) in items(rule, peers).iter().enumerate() {
                let Some(block) = present(peer, "ipBlock") else { continue };
                let peer_path = list.index(index);
                let at = peer_path.child("ipBlock");
                warnings.extend(ip::cidr_warnings(text(block, "cidr"), &at.child("cidr")));
                let excepts = at.child("except");
                for (index, except) in items(block, "except").iter().enumerate() {
                    let except = except.as_str().unwrap_or_default();
                    warnings.extend(ip::cidr_warnings(except, &excepts.index(index)));
                }
            }
        }
    }
    warnings
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::rows::Subject;

    fn subject() -> Subject {
        let good = json!({"metadata": {"name": "p", "namespace": "n"}, "spec": {"podSelector": {"matchLabels": {"a": "b"}}}});
        Subject { group: "networking.k8s.io", version: "v1", kind: "NetworkPolicy", good }
    }

    fn block(cidr: &str, except: &[&str]) -> Value {
        json!({"ipBlock": {"cidr": cidr, "except": except}})
    }

    /// `TestValidateNetworkPolicy`
    #[test]
    fn create() {
        let check = |spec: Value, expect: &[&str]| subject().created(json!({"spec": spec}), expect);
        check(json!({}), &[]);
        check(json!({"ingress": [], "egress": [{}]}), &[]);
        check(
            json!({"podSelector": {"matchLabels": {"invalid key": "b"}}}),
            &["spec.podSelector.matchLabels: Invalid"],
        );
        check(json!({"policyTypes": ["foo", "Egress"]}), &["spec.policyTypes[0]: NotSupported"]);
        check(json!({"policyTypes": ["foo", "bar", "baz"]}), &["spec.policyTypes: Invalid"]);
        let port = |port: Value, expect: &[&str]| {
            let expect: Vec<String> =
                expect.iter().map(|rest| format!("spec.ingress[0].ports[0].{rest}")).collect();
            let expect: Vec<&str> = expect.iter().map(String::as_str).collect();
            check(json!({"ingress": [{"ports": [port]}]}), &expect);
        };
        for good in [
            json!({}),
            json!({"port": 80}),
            json!({"port": "dns", "protocol": "UDP"}),
            json!({"port": 32000, "endPort": 32768}),
            json!({"port": 32000, "endPort": 32000}),
        ] {
            port(good, &[]);
        }
        port(json!({"protocol": "XX"}), &["protocol: NotSupported"]);
        port(json!({"port": 0}), &["port: Invalid"]);
        port(json!({"port": "!badname"}), &["port: Invalid"]);
        port(json!({"endPort": 10}), &["endPort: Invalid"]);
        port(json!({"port": "dns", "endPort": 10}), &["endPort: Invalid"]);
        port(json!({"port": 20, "endPort": 10}), &["endPort: Invalid"]);
        port(json!({"port": 20, "endPort": 65537}), &["endPort: Invalid"]);
        let peer = |peer: Value, expect: &[&str]| {
            let expect: Vec<String> =
                expect.iter().map(|rest| format!("spec.egress[0].to[0]{rest}")).collect();
            let expect: Vec<&str> = expect.iter().map(String::as_str).collect();
            check(json!({"egress": [{"to": [peer]}]}), &expect);
        };
        peer(json!({"podSelector": {}, "namespaceSelector": {"matchLabels": {"a": "b"}}}), &[]);
        peer(json!({}), &[": Required"]);
        peer(
            json!({"namespaceSelector": {"matchLabels": {"a b": "c"}}}),
            &[".namespaceSelector.matchLabels: Invalid"],
        );
        peer(json!({"podSelector": {}, "ipBlock": {"cidr": "10.0.0.0/8"}}), &[": Forbidden"]);
        peer(block("192.168.0.0/16", &["192.168.3.0/24", "192.168.4.0/24"]), &[]);
        peer(block("fd00:192:168::/48", &["fd00:192:168:3::/64"]), &[]);
        peer(json!({"ipBlock": {"except": ["192.168.8.0/24"]}}), &[".ipBlock.cidr: Required"]);
        peer(block("192.168.5.6", &["192.168.1.1"]), &[".ipBlock.cidr: Invalid"]);
        peer(block("192.168.8.0/24", &["192.168.9.1/24"]), &[".ipBlock.except[0]: Invalid"]);
        peer(
            block("192.168.8.0/24", &["192.168.8.0/24", "x"]),
            &[".ipBlock.except[0]: Invalid", ".ipBlock.except[1]: Invalid"],
        );
        peer(block("192.168.8.0/24", &["192.168.0.0/16"]), &[".ipBlock.except[0]: Invalid"]);
        peer(block("192.168.1.5/24", &[]), &[".ipBlock.cidr: Invalid"]);
    }

    /// `TestValidateNetworkPolicyUpdate`, `TestNetworkPolicyWarnings`
    #[test]
    fn update() {
        let bad = json!({"spec": {"egress": [{"to": [block("192.168.1.5/24", &["192.168.1.66/26"])]}]}});
        subject().updated(bad.clone(), json!({"spec": {"policyTypes": ["Egress"]}}), "", &[]);
        subject().updated(
            bad,
            json!({"spec": {"ingress": [{"from": [block("192.168.1.5/24", &["192.168.1.67/26"])]}]}}),
            "",
            &["spec.ingress[0].from[0].ipBlock.except[0]: Invalid"],
        );
        let value = json!({"spec": {"podSelector": {"matchExpressions": [{"key": "a", "operator": "In", "values": ["-x"]}]}}});
        subject().created(value.clone(), &["spec.podSelector.matchExpressions[0].values[0]: Invalid"]);
        subject().updated(value, json!({"spec": {"policyTypes": ["Egress"]}}), "", &[]);
        subject().warns(
            json!({"spec": {"ingress": [{"from": [block("10.0.0.1/8", &["10.0.0.0/016"])]}]}}),
            &["spec.ingress[0].from[0].ipBlock.cidr: CIDR value \"10.0.0.1/8\" is ambiguous in this context (should be \"10.0.0.0/8\" \
               or \"10.0.0.1/32\"?)",
              "spec.ingress[0].from[0].ipBlock.except[0]: non-standard CIDR value \"10.0.0.0/016\" is invalid: use \"10.0.0.0/16\""],
        );
    }
}
