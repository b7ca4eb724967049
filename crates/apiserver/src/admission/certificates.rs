//! Who approves, signs and attests for a signer needs to be allowed to do that for this very signer, and nobody
//! gets a certificate of the administrators' group from the signer of clients (upstream
//! `plugin/pkg/admission/certificates`).

use apimachinery::field::quote;
use apimachinery::status::Status;
use base64::Engine as _;
use serde_json::Value;
use x509_parser::certification_request::X509CertificationRequest;
use x509_parser::prelude::FromDer;

use super::{AdmissionAttributes, Operation, View, forbidden, is_about, text};
use crate::authorization::{self, PRIVILEGED_GROUP};

const GROUP: &str = "certificates.k8s.io";
const REQUESTS: &str = "certificatesigningrequests";
const CLIENT_SIGNER: &str = "kubernetes.io/kube-apiserver-client";

pub fn approval(view: &View<'_>, a: &AdmissionAttributes<'_>, request: &Value) -> Result<(), Status> {
    let Some(old) = a.old.filter(|_| is_update(a, "approval")) else { return Ok(()) };
    may(view, a, request, ("approve", "approve requests with"), text(old, "/spec/signerName"))
}

pub fn signing(view: &View<'_>, a: &AdmissionAttributes<'_>, request: &Value) -> Result<(), Status> {
    let Some(old) = a.old.filter(|_| is_update(a, "status")) else { return Ok(()) };
    let same = |pointer: &str, empty: fn(&Value) -> bool| {
        let part = |object: &'_ Value| object.pointer(pointer).filter(|value| !empty(value)).cloned();
        part(old) == part(request)
    };
    let is_empty_list = |value: &Value| value.as_array().is_none_or(Vec::is_empty);
    if same("/status/certificate", Value::is_null) && same("/status/conditions", is_empty_list) {
        return Ok(());
    }
    may(view, a, request, ("sign", "sign requests with"), text(old, "/spec/signerName"))
}

pub fn attest(view: &View<'_>, a: &AdmissionAttributes<'_>, bundle: &Value) -> Result<(), Status> {
    let signer = text(bundle, "/spec/signerName");
    let writes = matches!(a.operation, Operation::Create | Operation::Update);
    // Bundles without a signer are anybody's; the garbage collector changes owners and finalizers.
    if !writes || !is_about(a, GROUP, "clustertrustbundles", a.subresource) || signer.is_empty() {
        return Ok(());
    }
    if a.old.is_some_and(|old| crate::registry::authorization::escalation::only_owners_change(bundle, old)) {
        return Ok(());
    }
    may(view, a, bundle, ("attest", "attest for"), signer)
}

pub fn subject_restriction(_: &View<'_>, a: &AdmissionAttributes<'_>, request: &Value) -> Result<(), Status> {
    if a.operation != Operation::Create
        || !is_about(a, GROUP, REQUESTS, "")
        || text(request, "/spec/signerName") != CLIENT_SIGNER
    {
        return Ok(());
    }
    let pem = base64::engine::general_purpose::STANDARD.decode(text(request, "/spec/request"));
    let groups = organizations(&pem.unwrap_or_default())
        .map_err(|why| forbidden(a, request, format!("failed to parse CSR: {why}")))?;
    if groups.iter().any(|group| group == PRIVILEGED_GROUP) {
        let why = format!("use of {CLIENT_SIGNER} signer with {PRIVILEGED_GROUP} group is not allowed");
        return Err(forbidden(a, request, why));
    }
    Ok(())
}

/// The groups that a certificate of this request would have.
fn organizations(pem: &[u8]) -> Result<Vec<String>, String> {
    const LABEL: &str = "CERTIFICATE REQUEST";
    let block = x509_parser::pem::parse_x509_pem(pem).ok().map(|(_, block)| block);
    let block = block.filter(|block| block.label == LABEL);
    let block = block.ok_or_else(|| format!("PEM block type must be {LABEL}"))?;
    let (_, request) = X509CertificationRequest::from_der(&block.contents).map_err(|e| e.to_string())?;
    let subject = &request.certification_request_info.subject;
    Ok(subject.iter_organization().filter_map(|group| Some(group.as_str().ok()?.to_owned())).collect())
}

fn is_update(a: &AdmissionAttributes<'_>, subresource: &str) -> bool {
    a.operation == Operation::Update && is_about(a, GROUP, REQUESTS, subresource)
}

/// Asks for the verb on the signer `example.com/name`, then on all signers of its domain, `example.com/*`.
fn may(
    view: &View<'_>,
    a: &AdmissionAttributes<'_>,
    object: &Value,
    (verb, words): (&str, &str),
    signer: &str,
) -> Result<(), Status> {
    let all = format!("{}/*", signer.split('/').next().unwrap_or_default());
    let asks = |name: &str| {
        (view.may)(&authorization::Attributes {
            is_resource: true,
            verb,
            group: GROUP,
            version: "*",
            resource: "signers",
            name,
            ..Default::default()
        })
    };
    if asks(signer) || asks(&all) {
        return Ok(());
    }
    Err(forbidden(a, object, format!("user not permitted to {words} signerName {}", quote(signer))))
}
