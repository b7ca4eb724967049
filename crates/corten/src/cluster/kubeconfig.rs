//! The kubeconfig that `up` writes.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use crate::certificates::Pair;

/// A kubeconfig for one user of one cluster, everything inline.
pub fn render(cluster: &str, server: &str, authority: &str, user: &str, pair: &Pair) -> String {
    let context = format!("{user}@{cluster}");
    format!(
        "apiVersion: v1\nkind: Config\n\
         clusters:\n- name: {cluster}\n  cluster:\n    server: {server}\n    certificate-authority-data: {authority}\n\
         contexts:\n- name: {context}\n  context:\n    cluster: {cluster}\n    user: {user}\n\
         current-context: {context}\n\
         users:\n- name: {user}\n  user:\n    client-certificate-data: {certificate}\n    client-key-data: {key}\n",
        authority = STANDARD.encode(authority),
        certificate = STANDARD.encode(&pair.certificate),
        key = STANDARD.encode(&pair.key),
    )
}
