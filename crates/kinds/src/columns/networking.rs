//! `networking.k8s.io`

use serde_json::Value;

use super::cell::{created, given_or, joined, list, name, qualified, selector, string, text};
use super::core::{class_name, load_balancer};
use super::{AGE, Column, Columns, Kinds, NAME};

pub(super) static KINDS: Kinds = &[
    (
        "Ingress",
        Columns::new(
            &[
                NAME,
                Column::text("Class", "The class of controllers that serves it."),
                Column::text("Hosts", "Hosts that it has rules for."),
                Column::text("Address", "Addresses of the load balancer."),
                Column::text("Ports", "Ports that it opens."),
                AGE,
            ],
            |o, now| {
                let spec = &o["spec"];
                let ports = if list(&spec["tls"]).is_empty() { "80" } else { "80, 443" };
                vec![
                    name(o),
                    given_or(&spec["ingressClassName"], "<none>"),
                    hosts(list(&spec["rules"])).into(),
                    load_balancer(o).into(),
                    ports.into(),
                    created(o, now),
                ]
            },
        ),
    ),
    (
        "IngressClass",
        Columns::new(
            &[
                NAME,
                Column::text("Controller", "Controller that is responsible for handling this class"),
                Column::text("Parameters", "A reference to a resource with additional parameters"),
                AGE,
            ],
            |o, now| {
                let parameters = match &o["spec"]["parameters"] {
                    Value::Null => "<none>".to_string(),
                    p => {
                        let group = p["apiGroup"].as_str().map_or(String::new(), |group| format!(".{group}"));
                        format!("{}{group}/{}", string(&p["kind"]), string(&p["name"]))
                    }
                };
                let name = class_name(o, &["ingressclass.kubernetes.io/is-default-class"]);
                vec![name, text(&o["spec"]["controller"]), parameters.into(), created(o, now)]
            },
        ),
    ),
    (
        "NetworkPolicy",
        Columns::new(&[NAME, Column::text("Pod-Selector", "The pods that it is for."), AGE], |o, now| {
            vec![name(o), selector(&o["spec"]["podSelector"]), created(o, now)]
        }),
    ),
    (
        "ServiceCIDR",
        Columns::new(&[NAME, Column::text("CIDRs", "Ranges of service addresses."), AGE], |o, now| {
            vec![name(o), joined(&o["spec"]["cidrs"]).into(), created(o, now)]
        }),
    ),
    (
        "IPAddress",
        // upstream's rows have one cell more than there are columns
        Columns::new(&[NAME, Column::text("ParentRef", "What the address belongs to.")], |o, now| {
            vec![name(o), parent(&o["spec"]["parentRef"]).into(), created(o, now)]
        }),
    ),
];

/// The hosts of the first three rules that have one. Rules without a host count in what is left over.
fn hosts(rules: &[Value]) -> String {
    let (mut shown, mut more) = (Vec::new(), false);
    for rule in rules {
        more |= shown.len() == 3;
        let host = string(&rule["host"]);
        if !more && !host.is_empty() {
            shown.push(host);
        }
    }
    match (shown.is_empty(), more) {
        (true, _) => "*".to_string(),
        (false, false) => shown.join(","),
        (false, true) => format!("{} + {} more...", shown.join(","), rules.len() - 3),
    }
}

fn parent(reference: &Value) -> String {
    if reference.is_null() {
        return "<none>".to_string();
    }
    let resource = qualified(string(&reference["resource"]), string(&reference["group"])).to_lowercase();
    match string(&reference["namespace"]) {
        "" => format!("{resource}/{}", string(&reference["name"])),
        namespace => format!("{resource}/{namespace}/{}", string(&reference["name"])),
    }
}
