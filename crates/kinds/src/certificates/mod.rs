//! Certificate signing requests, bundles of trust anchors, and requests of pods.

mod bundle;
pub mod pem;
mod request;

use apimachinery::field::Path;

use crate::meta::{keep_for_status, unchanged};
use crate::strategy::{GENERIC, Strategy};

/// Who asked for a certificate is written by the server, who knows it.
pub fn strategy(kind: &str) -> Option<&'static Strategy> {
    const REQUEST: Strategy = Strategy {
        name: |_, _| Vec::new(),
        prepare_for_update: request::prepare_for_update,
        stamp: request::stamp,
        validate: request::request,
        validate_update: request::request_update,
        selectable: &[("spec.signerName", "/spec/signerName", "")],
        ..GENERIC
    };
    const BUNDLE: Strategy = Strategy {
        name: |_, _| Vec::new(),
        allow_unconditional_update: false,
        validate: |object, errors| bundle::bundle(object, true, errors),
        validate_update: bundle::bundle_update,
        selectable: &[("spec.signerName", "/spec/signerName", "")],
        ..GENERIC
    };
    const POD_REQUEST: Strategy = Strategy {
        allow_unconditional_update: false,
        prepare_for_update: |new, old, subresource| {
            if subresource == "status" {
                keep_for_status(new, old);
            }
        },
        validate_update: |new, old, subresource, errors| {
            if subresource.is_empty() {
                unchanged(&new["spec"], &old["spec"], &Path::new("spec"), errors);
            }
        },
        selectable: &[
            ("spec.nodeName", "/spec/nodeName", ""),
            ("spec.podName", "/spec/podName", ""),
            ("spec.signerName", "/spec/signerName", ""),
        ],
        ..GENERIC
    };
    Some(match kind {
        "CertificateSigningRequest" => &REQUEST,
        "ClusterTrustBundle" => &BUNDLE,
        "PodCertificateRequest" => &POD_REQUEST,
        _ => return None,
    })
}
