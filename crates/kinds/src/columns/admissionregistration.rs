//! `admissionregistration.k8s.io`

use serde_json::Value;

use super::cell::{count, created, list, map, name, string, text};
use super::{AGE, Column, Columns, Kinds, NAME};

const WEBHOOKS: Columns = Columns::new(
    &[NAME, Column::number("Webhooks", "How many webhooks the configuration has."), AGE],
    |o, now| vec![name(o), count(&o["webhooks"]).into(), created(o, now)],
);

const BINDING: Columns = Columns::new(
    &[
        NAME,
        Column::text("PolicyName", "The policy that is bound."),
        Column::text("ParamRef", "The parameters that it is bound with."),
        AGE,
    ],
    |o, now| {
        let spec = &o["spec"];
        vec![name(o), text(&spec["policyName"]), parameters(&spec["paramRef"]).into(), created(o, now)]
    },
);

pub(super) static KINDS: Kinds = &[
    ("MutatingWebhookConfiguration", WEBHOOKS),
    ("ValidatingWebhookConfiguration", WEBHOOKS),
    (
        "ValidatingAdmissionPolicy",
        Columns::new(
            &[
                NAME,
                Column::number("Validations", "How many rules the policy has."),
                Column::text("ParamKind", "The kind of its parameters."),
                AGE,
            ],
            |o, now| policy(o, "validations", created(o, now)),
        ),
    ),
    ("ValidatingAdmissionPolicyBinding", BINDING),
    (
        "MutatingAdmissionPolicy",
        Columns::new(
            &[
                NAME,
                Column::number("Mutations", "How many rules the policy has."),
                Column::text("ParamKind", "The kind of its parameters."),
                AGE,
            ],
            |o, now| policy(o, "mutations", created(o, now)),
        ),
    ),
    ("MutatingAdmissionPolicyBinding", BINDING),
];

fn policy(o: &Value, rules: &str, age: Value) -> Vec<Value> {
    let spec = &o["spec"];
    let kind = match &spec["paramKind"] {
        Value::Null => "<unset>".to_string(),
        kind => format!("{}/{}", string(&kind["apiVersion"]), string(&kind["kind"])),
    };
    vec![name(o), count(&spec[rules]).into(), kind.into(), age]
}

fn parameters(reference: &Value) -> String {
    match (string(&reference["name"]), string(&reference["namespace"]), &reference["selector"]) {
        ("", _, Value::Null) => "<unset>".to_string(),
        ("", _, selector) => go_selector(selector),
        (name, "", _) => format!("*/{name}"),
        (name, namespace, _) => format!("{namespace}/{name}"),
    }
}

/// A selector in the form of generated Go code, which is what upstream shows here.
fn go_selector(selector: &Value) -> String {
    let mut labels: Vec<_> = map(&selector["matchLabels"]).collect();
    labels.sort_unstable_by_key(|(key, _)| *key);
    let labels: String = labels.iter().map(|(key, value)| format!("{key}: {},", string(value))).collect();
    let expressions: String = list(&selector["matchExpressions"])
        .iter()
        .map(|e| {
            let values: Vec<&str> = list(&e["values"]).iter().map(string).collect();
            format!(
                "LabelSelectorRequirement{{Key:{},Operator:{},Values:[{}],}},",
                string(&e["key"]),
                string(&e["operator"]),
                values.join(" ")
            )
        })
        .collect();
    format!(
        "&LabelSelector{{MatchLabels:map[string]string{{{labels}}},\
         MatchExpressions:[]LabelSelectorRequirement{{{expressions}}},}}"
    )
}
