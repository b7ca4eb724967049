//! Certificate signing requests.

use crate::strategy::{GENERIC, Strategy};

const CONDITIONAL: Strategy = Strategy { allow_unconditional_update: false, ..GENERIC };

pub fn strategy(kind: &str) -> Option<&'static Strategy> {
    const CSR: Strategy = Strategy { selectable: &[("spec.signerName", "/spec/signerName", "")], ..GENERIC };
    Some(if kind == "CertificateSigningRequest" { &CSR } else { &CONDITIONAL })
}
