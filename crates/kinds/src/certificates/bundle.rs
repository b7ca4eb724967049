//! ClusterTrustBundle.

use std::collections::BTreeMap;

use apimachinery::field::{Error, ErrorList, Path};
use serde_json::Value;
use x509_parser::prelude::{FromDer, X509Certificate};

use super::pem;
use crate::check::{messages, text};
use crate::meta::{signer_name, unchanged};
use crate::strategy;

const MOST_BYTES: usize = 1024 * 1024;

/// With `parse`, the certificates are looked at: they are not where a change leaves them alone.
pub fn bundle(object: &Value, parse: bool, errors: &mut ErrorList) {
    let spec = &object["spec"];
    let (name, signer) = (text(&object["metadata"], "name"), text(spec, "signerName"));
    let metadata = Path::new("metadata");
    messages(name_faults(name, signer), &name.into(), &metadata.child("name"), errors);
    let path = Path::new("spec");
    if !signer.is_empty() {
        signer_name(signer, &path.child("signerName"), errors);
    }
    if parse {
        anchors(text(spec, "trustBundle"), &path.child("trustBundle"), errors);
    }
}

/// The name begins with the signer's, a colon in the place of its slash; without a signer it has no colon.
fn name_faults(name: &str, signer: &str) -> Vec<String> {
    if signer.is_empty() {
        if name.contains(':') {
            return vec!["ClusterTrustBundle without signer name must not have \":\" in its name".to_owned()];
        }
        return strategy::subdomain(name, false);
    }
    let prefix = format!("{}:", signer.replace('/', ":"));
    match name.strip_prefix(&prefix) {
        Some(rest) => strategy::subdomain(rest, false),
        None => {
            vec![format!("ClusterTrustBundle for signerName {signer} must be named with prefix {prefix}")]
        }
    }
}

pub fn bundle_update(new: &Value, old: &Value, _subresource: &str, errors: &mut ErrorList) {
    bundle(new, new["spec"]["trustBundle"] != old["spec"]["trustBundle"], errors);
    let spec = Path::new("spec");
    unchanged(&new["spec"]["signerName"], &old["spec"]["signerName"], &spec.child("signerName"), errors);
}

fn anchors(bundle: &str, path: &Path<'_>, errors: &mut ErrorList) {
    if bundle.len() > MOST_BYTES {
        errors.push(Error::too_long(path, MOST_BYTES));
        return;
    }
    let before = errors.len();
    let mut bad = |why: String| errors.push(Error::invalid(path, "<value omitted>", why));
    let mut seen: BTreeMap<Vec<u8>, Vec<usize>> = BTreeMap::new();
    for (index, block) in pem::blocks(bundle.as_bytes()).into_iter().enumerate() {
        if block.label != "CERTIFICATE" {
            bad(format!("entry {index} has bad block type: {}", block.label));
        } else if block.has_headers {
            bad(format!("entry {index} has PEM block headers"));
        } else if let Ok(([], certificate)) = X509Certificate::from_der(&block.content) {
            match certificate.basic_constraints() {
                Ok(Some(constraints)) if constraints.value.ca => {
                    seen.entry(block.content.clone()).or_default().push(index);
                }
                _ => bad(format!("entry {index} does not have the CA bit set")),
            }
        } else {
            bad(format!("entry {index} does not parse as X.509"));
        }
    }
    if errors.len() > before {
        return;
    }
    let mut bad = |why: String| errors.push(Error::invalid(path, "<value omitted>", why));
    if seen.is_empty() {
        bad("at least one trust anchor must be provided".to_owned());
    }
    for indices in seen.values().filter(|indices| indices.len() > 1) {
        let shown: Vec<String> = indices.iter().map(usize::to_string).collect();
        bad(format!("duplicate trust anchor (indices [{}])", shown.join(" ")));
    }
}

#[cfg(test)]
mod tests {
    use crate::table::Table;
    use serde_json::{Value, json};

    const AUTHORITY: &str = include_str!("testdata/authority.pem");
    const LEAF: &str = include_str!("testdata/leaf.pem");

    #[test]
    fn bundles() {
        let table = Table::new(
            "certificates.k8s.io",
            "v1beta1",
            "ClusterTrustBundle",
            json!({"metadata": {"name": "foo"}, "spec": {"trustBundle": AUTHORITY}}),
        );
        let named =
            |name: &str, signer: &str| json!({"metadata": {"name": name}, "spec": {"signerName": signer}});
        let anchors = |text: &str| -> Value { json!({"spec": {"trustBundle": text}}) };
        table.create(&[
            (named("k8s.io:bar:foo", "k8s.io/bar"), &[]),
            (named("k8s.io:bar:Foo", "k8s.io/bar"), &["metadata.name: Invalid"]),
            (named("foo", "k8s.io/bar"), &["metadata.name: Invalid"]),
            (named("k8s.io:foo", ""), &["metadata.name: Invalid"]),
            (named("x:foo", "x"), &["spec.signerName: Invalid"]),
            (anchors(""), &["spec.trustBundle: Invalid"]),
            (anchors("garbage"), &["spec.trustBundle: Invalid"]),
            (anchors(&format!("garbage\n{AUTHORITY}")), &[]),
            (anchors(&format!("{AUTHORITY}{AUTHORITY}")), &["spec.trustBundle: Invalid"]),
            (anchors(&AUTHORITY.replacen("-----\n", "-----\nk: v\n\n", 1)), &["spec.trustBundle: Invalid"]),
            (anchors(&AUTHORITY.replace("CERTIFICATE", "NO")), &["spec.trustBundle: Invalid"]),
            (anchors(LEAF), &["spec.trustBundle: Invalid"]),
            (anchors(&"x".repeat(1024 * 1024 + 1)), &["spec.trustBundle: TooLong"]),
        ]);
        table.update(&[
            (json!({"metadata": {"labels": {"a": "b"}}}), &[]),
            (named("k8s.io:bar:foo", "k8s.io/bar"), &["spec.signerName: Invalid"]),
            (anchors(LEAF), &["spec.trustBundle: Invalid"]),
        ]);
        table.change(&anchors(LEAF), &anchors(LEAF), "", &[]);
    }
}
