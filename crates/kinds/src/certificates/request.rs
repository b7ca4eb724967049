//! CertificateSigningRequest (upstream `apis/certificates/validation`).

use std::collections::BTreeSet;

use apimachinery::field::{Error, ErrorList, Path};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use x509_parser::certification_request::X509CertificationRequest;
use x509_parser::prelude::{FromDer, X509Certificate};

use super::pem;
use crate::check::{int, items, text};
use crate::meta::{STATUSES, signer_name, texts};

/// Which conditions may not be taken back, and are true if they are there.
const FINAL: [&str; 3] = ["Approved", "Denied", "Failed"];
const DECISIONS: [&str; 2] = ["Approved", "Denied"];
const LEGACY_SIGNER: &str = "kubernetes.io/legacy-unknown";

const USAGES: [&str; 23] = [
    "any",
    "cert sign",
    "client auth",
    "code signing",
    "content commitment",
    "crl sign",
    "data encipherment",
    "decipher only",
    "digital signature",
    "email protection",
    "encipher only",
    "ipsec end system",
    "ipsec tunnel",
    "ipsec user",
    "key agreement",
    "key encipherment",
    "microsoft sgc",
    "netscape sgc",
    "ocsp signing",
    "s/mime",
    "server auth",
    "signing",
    "timestamping",
];

/// The spec stays as it was made. Through `status` the decision stays, through `approval` the certificate.
pub fn prepare_for_update(new: &mut Value, old: &Value, subresource: &str) {
    match subresource {
        "" => new["spec"] = old["spec"].clone(),
        "status" => DECISIONS.into_iter().for_each(|kind| keep_conditions(new, old, kind)),
        "approval" => {
            let conditions = new["status"]["conditions"].take();
            new["status"] = old["status"].clone();
            if !new["status"].is_object() {
                new["status"] = json!({});
            }
            match conditions {
                Value::Null => drop(new["status"].as_object_mut().map(|all| all.remove("conditions"))),
                conditions => new["status"]["conditions"] = conditions,
            }
        }
        _ => {}
    }
}

/// Conditions of one type are as they were, unless some have come or gone: then validation has to say so.
fn keep_conditions(new: &mut Value, old: &Value, kind: &str) {
    let before = of_type(old, kind);
    let now = new["status"]["conditions"].as_array_mut().map(Vec::as_mut_slice).unwrap_or_default();
    let now: Vec<&mut Value> = now.iter_mut().filter(|condition| text(condition, "type") == kind).collect();
    if now.len() == before.len() {
        for (now, before) in now.into_iter().zip(before) {
            *now = before.clone();
        }
    }
}

/// Conditions that do not say when they were made or turned did so now.
pub fn stamp(new: &mut Value, old: &Value, subresource: &str, now: &str) {
    if !["status", "approval"].contains(&subresource) {
        return;
    }
    for condition in new["status"]["conditions"].as_array_mut().into_iter().flatten() {
        if text(condition, "lastUpdateTime").is_empty() {
            condition["lastUpdateTime"] = json!(now);
        }
        if text(condition, "lastTransitionTime").is_empty() {
            let unturned =
                |old: &&Value| old["type"] == condition["type"] && old["status"] == condition["status"];
            let since = items(&old["status"], "conditions").iter().filter(unturned);
            let since = since.map(|old| text(old, "lastTransitionTime")).find(|since| !since.is_empty());
            condition["lastTransitionTime"] = json!(since.unwrap_or(now));
        }
    }
}

/// What is forgiven because the stored object has it already.
#[derive(Default)]
struct Leniency {
    both_decisions: bool,
    legacy_signer: bool,
    duplicate_conditions: bool,
    empty_conditions: bool,
    any_certificate: bool,
    unknown_usages: bool,
    duplicate_usages: bool,
}

impl Leniency {
    fn of(new: &Value, old: &Value) -> Leniency {
        let conditions =
            || items(&old["status"], "conditions").iter().map(|condition| text(condition, "type"));
        let certificate = |object: &'_ Value| text(&object["status"], "certificate").to_owned();
        let usages = || texts(&old["spec"], "usages");
        Leniency {
            both_decisions: DECISIONS.iter().all(|kind| conditions().any(|known| known == *kind)),
            legacy_signer: text(&old["spec"], "signerName") == LEGACY_SIGNER,
            duplicate_conditions: has_duplicates(conditions()),
            empty_conditions: conditions().any(str::is_empty),
            any_certificate: certificate(new) == certificate(old)
                || certificate_fault(&certificate(old)).is_some(),
            unknown_usages: usages().any(|usage| !USAGES.contains(&usage)),
            duplicate_usages: has_duplicates(usages()),
        }
    }
}

fn has_duplicates<'a>(mut all: impl Iterator<Item = &'a str>) -> bool {
    let mut seen = BTreeSet::new();
    !all.all(|one| seen.insert(one))
}

pub fn request(object: &Value, errors: &mut ErrorList) {
    validate(object, &Leniency::default(), errors);
}

fn validate(object: &Value, lenient: &Leniency, errors: &mut ErrorList) {
    let path = Path::new("spec");
    let spec = &object["spec"];
    if let Some(fault) = request_fault(text(spec, "request")) {
        errors.push(Error::invalid(&path.child("request"), spec["request"].clone(), fault));
    }
    let list = path.child("usages");
    if items(spec, "usages").is_empty() {
        errors.push(Error::required(&list, ""));
    }
    for (index, usage) in texts(spec, "usages").enumerate() {
        if !lenient.unknown_usages && !USAGES.contains(&usage) {
            errors.push(Error::not_supported(&list.index(index), usage, USAGES));
        }
    }
    let mut seen = BTreeSet::new();
    for (index, usage) in texts(spec, "usages").enumerate() {
        if !seen.insert(usage) && !lenient.duplicate_usages {
            errors.push(Error::duplicate(&list.index(index), usage));
        }
    }
    let signer = text(spec, "signerName");
    if !lenient.legacy_signer && signer == LEGACY_SIGNER {
        let why = "the legacy signerName is not allowed via this API version";
        errors.push(Error::invalid(&path.child("signerName"), signer, why));
    } else {
        signer_name(signer, &path.child("signerName"), errors);
    }
    if let Some(seconds) = int(spec, "expirationSeconds").filter(|seconds| *seconds < 600) {
        let why = "may not specify a duration less than 600 seconds (10 minutes)";
        errors.push(Error::invalid(&path.child("expirationSeconds"), seconds, why));
    }
    let path = Path::new("status");
    conditions(object, lenient, &path.child("conditions"), errors);
    if !lenient.any_certificate
        && let Some(fault) = certificate_fault(text(&object["status"], "certificate"))
    {
        errors.push(Error::invalid(&path.child("certificate"), "<certificate data>", fault));
    }
}

fn conditions(object: &Value, lenient: &Leniency, path: &Path<'_>, errors: &mut ErrorList) {
    let mut seen = BTreeSet::new();
    for (index, condition) in items(&object["status"], "conditions").iter().enumerate() {
        let at = path.index(index);
        let (kind, status) = (text(condition, "type"), text(condition, "status"));
        if kind.is_empty() && !lenient.empty_conditions {
            errors.push(Error::required(&at.child("type"), ""));
        }
        let allowed: &[&str] = if FINAL.contains(&kind) { &["True"] } else { &STATUSES };
        crate::check::one_of(status, allowed, &at.child("status"), errors);
        let other = DECISIONS.iter().find(|other| **other != kind);
        if DECISIONS.contains(&kind)
            && other.is_some_and(|other| seen.contains(other))
            && !lenient.both_decisions
        {
            let why = "Approved and Denied conditions are mutually exclusive";
            errors.push(Error::invalid(path, kind, why));
        }
        if !seen.insert(kind) && !lenient.duplicate_conditions {
            errors.push(Error::duplicate(&at.child("type"), kind));
        }
    }
}

fn of_type<'a>(object: &'a Value, kind: &str) -> Vec<&'a Value> {
    let all = items(&object["status"], "conditions").iter();
    all.filter(|condition| text(condition, "type") == kind).collect()
}

pub fn request_update(new: &Value, old: &Value, subresource: &str, errors: &mut ErrorList) {
    validate(new, &Leniency::of(new, old), errors);
    let status = Path::new("status");
    let path = status.child("conditions");
    for kind in FINAL {
        if of_type(new, kind).len() < of_type(old, kind).len() {
            errors.push(Error::forbidden(
                &path,
                format!("updates may not remove a condition of type {kind:?}"),
            ));
        }
    }
    // That they are not changed but for their number has been seen to before.
    if subresource != "approval" {
        for kind in DECISIONS {
            if of_type(new, kind).len() > of_type(old, kind).len() {
                errors.push(Error::forbidden(
                    &path,
                    format!("updates may not add a condition of type {kind:?}"),
                ));
            }
        }
    }
    let certificate = |object: &'_ Value| text(&object["status"], "certificate").to_owned();
    if certificate(new) != certificate(old) {
        let at = status.child("certificate");
        if subresource != "status" {
            errors.push(Error::forbidden(&at, "updates may not set certificate content"));
        } else if !certificate(old).is_empty() {
            errors.push(Error::forbidden(&at, "updates may not modify existing certificate content"));
        }
    }
}

/// What is wrong with a PKCS #10 request in PEM in base64; its signature must be good.
///
/// ECDSA over P-521 is refused too: the library at hand cannot check it.
fn request_fault(encoded: &str) -> Option<String> {
    let blocks = pem::blocks(&STANDARD.decode(encoded).unwrap_or_default());
    let Some(block) = blocks.first().filter(|block| block.label == "CERTIFICATE REQUEST") else {
        return Some("PEM block type must be CERTIFICATE REQUEST".to_owned());
    };
    let request = match X509CertificationRequest::from_der(&block.content) {
        Ok(([], request)) => request,
        Ok(_) => return Some("asn1: syntax error: trailing data".to_owned()),
        Err(_) => return Some("asn1: structure error: malformed certificate request".to_owned()),
    };
    let algorithm = request.signature_algorithm.algorithm.to_id_string();
    // With SHA-1: RSA and ECDSA.
    if ["1.2.840.113549.1.1.5", "1.2.840.10045.4.1"].contains(&algorithm.as_str()) {
        return Some("x509: cannot verify signature: insecure algorithm SHA1".to_owned());
    }
    request
        .verify_signature()
        .err()
        .map(|_| "x509: certificate request signature verification failure".to_owned())
}

/// What is wrong with certificates in PEM in base64; none at all are fine.
fn certificate_fault(encoded: &str) -> Option<String> {
    if encoded.is_empty() {
        return None;
    }
    let blocks = pem::blocks(&STANDARD.decode(encoded).unwrap_or_default());
    for block in &blocks {
        if block.label != "CERTIFICATE" {
            return Some(format!("only CERTIFICATE PEM blocks are allowed, found {:?}", block.label));
        }
        if block.has_headers {
            return Some("no PEM block headers are permitted".to_owned());
        }
        if block.content.is_empty() {
            return Some("found CERTIFICATE PEM block containing 0 certificates".to_owned());
        }
        let mut rest = block.content.as_slice();
        while !rest.is_empty() {
            match X509Certificate::from_der(rest) {
                Ok((after, _)) => rest = after,
                Err(_) => return Some("x509: malformed certificate".to_owned()),
            }
        }
    }
    blocks.is_empty().then(|| "must contain at least one CERTIFICATE PEM block".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::table::Table;

    const REQUEST: &str = include_str!("testdata/request.pem");
    const CERTIFICATE: &str = include_str!("testdata/leaf.pem");

    fn table() -> Table {
        Table::new(
            "certificates.k8s.io",
            "v1",
            "CertificateSigningRequest",
            json!({"spec": {"request": STANDARD.encode(REQUEST), "usages": ["key encipherment"],
                "signerName": "example.com/something"}}),
        )
    }

    fn status(conditions: &[(&str, &str)]) -> Value {
        let conditions: Vec<Value> =
            conditions.iter().map(|(kind, status)| json!({"type": kind, "status": status})).collect();
        json!({"status": {"conditions": conditions}})
    }

    fn certificate(pem: &str) -> Value {
        json!({"status": {"certificate": STANDARD.encode(pem)}})
    }

    #[test]
    fn new_requests() {
        let table = table();
        let spec = |patch: Value| json!({ "spec": patch });
        let broken = {
            let block = &pem::blocks(REQUEST.as_bytes())[0];
            let mut content = block.content.clone();
            *content.last_mut().unwrap() ^= 1;
            format!(
                "-----BEGIN CERTIFICATE REQUEST-----\n{}\n-----END CERTIFICATE REQUEST-----\n",
                STANDARD.encode(content)
            )
        };
        table.create(&[
            (spec(json!({"request": STANDARD.encode("not a request")})), &["spec.request: Invalid"]),
            (spec(json!({"request": STANDARD.encode(CERTIFICATE)})), &["spec.request: Invalid"]),
            (spec(json!({"request": STANDARD.encode(broken)})), &["spec.request: Invalid"]),
            (spec(json!({"usages": []})), &["spec.usages: Required"]),
            (spec(json!({"usages": ["unknown"]})), &["spec.usages[0]: NotSupported"]),
            (spec(json!({"usages": ["any", "any"]})), &["spec.usages[1]: Duplicate"]),
            (spec(json!({"signerName": null})), &["spec.signerName: Required"]),
            (spec(json!({"signerName": LEGACY_SIGNER})), &["spec.signerName: Invalid"]),
            (spec(json!({"signerName": "something"})), &["spec.signerName: Invalid"]),
            (spec(json!({"expirationSeconds": 600})), &[]),
            (spec(json!({"expirationSeconds": 599})), &["spec.expirationSeconds: Invalid"]),
        ]);
    }

    #[test]
    fn conditions_and_certificates() {
        let table = table();
        let check = |old: Value, new: Value, subresource: &str, expect: &[&str]| {
            table.change(&old, &new, subresource, expect);
        };
        let (none, approved) = (json!({}), status(&[("Approved", "True")]));
        let both = status(&[("Approved", "True"), ("Denied", "True")]);
        let condition = |fault: &str| format!("status.conditions{fault}");
        check(none.clone(), approved.clone(), "approval", &[]);
        check(none.clone(), approved.clone(), "status", &["status.conditions: Forbidden"]);
        check(none.clone(), status(&[("Failed", "True")]), "status", &[]);
        check(
            none.clone(),
            status(&[("Failed", "False")]),
            "status",
            &[&condition("[0].status: NotSupported")],
        );
        check(
            none.clone(),
            status(&[("Approved", "False")]),
            "approval",
            &[&condition("[0].status: NotSupported")],
        );
        check(none.clone(), status(&[("Custom", "Unknown")]), "approval", &[]);
        check(none.clone(), status(&[("Custom", "")]), "approval", &[&condition("[0].status: Required")]);
        check(none.clone(), status(&[("", "True")]), "approval", &[&condition("[0].type: Required")]);
        check(none.clone(), both.clone(), "approval", &["status.conditions: Invalid"]);
        check(both.clone(), both, "approval", &[]);
        let twice = status(&[("Custom", "True"), ("Custom", "True")]);
        check(none.clone(), twice.clone(), "status", &[&condition("[1].type: Duplicate")]);
        check(twice.clone(), twice, "status", &[]);
        check(approved.clone(), none.clone(), "approval", &["status.conditions: Forbidden"]);
        check(approved.clone(), none.clone(), "status", &["status.conditions: Forbidden"]);
        check(none.clone(), certificate(CERTIFICATE), "status", &[]);
        // Not written through this path at all.
        check(none.clone(), certificate(CERTIFICATE), "approval", &[]);
        check(none.clone(), certificate(&format!("{CERTIFICATE}{CERTIFICATE}")), "status", &[]);
        check(certificate(CERTIFICATE), none.clone(), "status", &["status.certificate: Forbidden"]);
        check(none.clone(), certificate("x"), "status", &["status.certificate: Invalid"]);
        check(none.clone(), certificate(REQUEST), "status", &["status.certificate: Invalid"]);
        let headers = CERTIFICATE.replacen("-----\n", "-----\nk: v\n\n", 1);
        check(none.clone(), certificate(&headers), "status", &["status.certificate: Invalid"]);
        check(certificate("x"), certificate("x"), "status", &[]);
        // The spec does not change whatever is sent; what was bad stays.
        check(none, json!({"spec": {"signerName": "other.com/x"}}), "", &[]);
        let legacy = json!({"spec": {"signerName": LEGACY_SIGNER, "usages": ["odd", "odd"]}});
        check(legacy.clone(), legacy, "", &[]);
    }

    #[test]
    fn times() {
        let table = table();
        let old = table.object(&json!({"status": {"conditions": [{"type": "Failed", "status": "True",
            "lastUpdateTime": "2020-01-01T00:00:00Z", "lastTransitionTime": "2020-01-01T00:00:00Z"}]}}));
        let mut new = table.object(&status(&[("Failed", "True"), ("Custom", "True")]));
        stamp(&mut new, &old, "status", "2021-01-01T00:00:00Z");
        let times: Vec<(&str, &str)> = items(&new["status"], "conditions")
            .iter()
            .map(|condition| (text(condition, "lastUpdateTime"), text(condition, "lastTransitionTime")))
            .collect();
        let (then, now) = ("2020-01-01T00:00:00Z", "2021-01-01T00:00:00Z");
        assert_eq!(times, [(now, then), (now, now)]);
    }
}
