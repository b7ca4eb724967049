//! `certificates.k8s.io`

use serde_json::Value;

use super::cell::{created, human_duration, labels, list, name, string, text, text_or};
use super::{AGE, Column, Columns, Kinds, NAME};

pub(super) static KINDS: Kinds = &[
    (
        "CertificateSigningRequest",
        Columns::new(
            &[
                NAME,
                AGE,
                Column::text("SignerName", "Who is asked to sign."),
                Column::text("Requestor", "Who asks."),
                Column::text("RequestedDuration", "How long the certificate should be valid."),
                Column::text("Condition", "What became of the request."),
            ],
            |o, now| {
                let spec = &o["spec"];
                let duration = spec["expirationSeconds"].as_i64().map_or("<none>".into(), human_duration);
                vec![
                    name(o),
                    created(o, now),
                    text_or(&spec["signerName"], "<none>"),
                    text(&spec["username"]),
                    duration.into(),
                    request_state(o).into(),
                ]
            },
        ),
    ),
    (
        "ClusterTrustBundle",
        Columns::new(&[NAME, Column::text("SignerName", "Whose roots they are.")], |o, _| {
            vec![name(o), text_or(&o["spec"]["signerName"], "<none>")]
        }),
    ),
    (
        "PodCertificateRequest",
        Columns::new(
            &[
                NAME,
                Column::text("PodName", "The pod that it is for."),
                Column::text("ServiceAccountName", "The pod's service account."),
                Column::text("NodeName", "The node that the pod is on."),
                Column::text("SignerName", "Who is asked to sign."),
                Column::text("State", "Is the request Pending, Issued, Denied, or Failed?"),
                Column::text("UnverifiedUserAnnotations", "What the pod's author tells the signer."),
            ],
            |o, _| {
                let spec = &o["spec"];
                let mut outcome = list(&o["status"]["conditions"]).iter().map(|c| string(&c["type"]));
                let state = outcome.rfind(|c| matches!(*c, "Issued" | "Denied" | "Failed"));
                let mut cells = vec![name(o)];
                cells.extend(
                    ["podName", "serviceAccountName", "nodeName", "signerName"]
                        .map(|field| text(&spec[field])),
                );
                cells.push(state.unwrap_or("Pending").into());
                cells.push(labels(&spec["unverifiedUserAnnotations"]));
                cells
            },
        ),
    ),
];

fn request_state(o: &Value) -> String {
    let has = |kind: &str| list(&o["status"]["conditions"]).iter().any(|c| c["type"] == kind);
    let mut state = match (has("Denied"), has("Approved")) {
        (true, _) => "Denied",
        (false, true) => "Approved",
        (false, false) => "Pending",
    }
    .to_string();
    if has("Failed") {
        state.push_str(",Failed");
    }
    if !string(&o["status"]["certificate"]).is_empty() {
        state.push_str(",Issued");
    }
    state
}
