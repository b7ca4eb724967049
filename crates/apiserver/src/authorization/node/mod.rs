//! What a kubelet may do: its own node and lease, the pods bound to it, and what those pods refer to
//! (upstream `plugin/pkg/auth/authorizer/node`). Admission (`NodeRestriction`) looks at the contents.

mod graph;

use std::sync::{PoisonError, RwLock, RwLockReadGuard};

use serde_json::Value;

pub use graph::{Graph, Kind, references};

use super::rbac::Rule;
use super::{Attributes, Decision, Reason};
use crate::request::UserInfo;

/// The node that a user is the kubelet of: `Some("")` is a member of `system:nodes` without a node's name.
pub fn identity(user: &UserInfo) -> Option<&str> {
    let name = user.name.strip_prefix("system:node:")?;
    user.groups.iter().any(|g| g == "system:nodes").then_some(name)
}

/// The authorizer: the graph, and the rules that hold for every node alike.
pub struct Node {
    graph: RwLock<Graph>,
    rules: Vec<Rule>,
}

const NO_RELATION: &str = "no relationship found between node";

impl Node {
    /// `rules` are those of the bootstrap role `system:node`.
    pub fn new(rules: Vec<Rule>) -> Self {
        Self { graph: RwLock::default(), rules }
    }

    /// Takes note of an object of `pods`, `persistentvolumes`, `volumeattachments` or `resourceslices`.
    pub fn observe(&self, resource: &str, namespace: &str, name: &str, object: Option<&Value>) {
        let mut graph = self.graph.write().unwrap_or_else(PoisonError::into_inner);
        graph.observe(resource, namespace, name, object);
    }

    /// Forgets everything.
    pub fn clear(&self) {
        *self.graph.write().unwrap_or_else(PoisonError::into_inner) = Graph::default();
    }

    pub fn graph(&self) -> RwLockReadGuard<'_, Graph> {
        self.graph.read().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn authorize(&self, user: &UserInfo, a: &Attributes<'_>) -> Decision {
        let Some(node) = identity(user) else { return Decision::NoOpinion(Reason::None) };
        let answer = if node.is_empty() {
            Err(format!("unknown node for user {:?}", user.name))
        } else {
            self.decide(node, a)
        };
        match answer {
            Ok(()) => Decision::Allow(Reason::None),
            Err(reason) => Decision::NoOpinion(Reason::Text(reason)),
        }
    }

    fn decide(&self, node: &str, a: &Attributes<'_>) -> Result<(), String> {
        if a.is_resource {
            match (a.group, a.resource) {
                ("", "secrets") => return self.read_namespaced(node, Kind::Secret, a),
                ("", "configmaps") => return self.read_namespaced(node, Kind::ConfigMap, a),
                ("", "persistentvolumeclaims") if a.subresource == "status" => {
                    if !matches!(a.verb, "update" | "patch") {
                        return no("can only get/update/patch this type");
                    }
                    return self.related(node, a, |g| g.has(node, Kind::Claim, a.namespace, a.name));
                }
                ("", "persistentvolumeclaims") => {
                    return self.get(node, a, |g| g.has(node, Kind::Claim, a.namespace, a.name));
                }
                ("", "persistentvolumes") => return self.get(node, a, |g| g.has_volume(node, a.name)),
                ("resource.k8s.io", "resourceclaims") => {
                    return self.get(node, a, |g| g.has(node, Kind::ResourceClaim, a.namespace, a.name));
                }
                ("storage.k8s.io", "volumeattachments") => {
                    return self.get(node, a, |g| g.has_attachment(node, a.name));
                }
                ("", "serviceaccounts") => return self.service_account(node, a),
                ("coordination.k8s.io", "leases") => return lease(node, a),
                ("storage.k8s.io", "csinodes") => return csi_node(node, a),
                ("resource.k8s.io", "resourceslices") => return self.slice(node, a),
                ("", "nodes") => return own_node(node, a),
                ("", "pods") => return self.pod(node, a),
                ("certificates.k8s.io", "podcertificaterequests") => return no(""),
                _ => {}
            }
        }
        if self.rules.iter().any(|r| r.allows(a)) { Ok(()) } else { no("") }
    }

    fn related(&self, node: &str, a: &Attributes<'_>, test: impl Fn(&Graph) -> bool) -> Result<(), String> {
        if a.name.is_empty() {
            return no("No Object name found");
        }
        match test(&self.graph()) {
            true => Ok(()),
            false => Err(format!("{NO_RELATION} '{node}' and this object")),
        }
    }

    fn get(&self, node: &str, a: &Attributes<'_>, test: impl Fn(&Graph) -> bool) -> Result<(), String> {
        if a.verb != "get" {
            return no("can only get individual resources of this type");
        }
        if !a.subresource.is_empty() {
            return no("cannot get subresource");
        }
        self.related(node, a, test)
    }

    fn read_namespaced(&self, node: &str, kind: Kind, a: &Attributes<'_>) -> Result<(), String> {
        if !matches!(a.verb, "get" | "list" | "watch") {
            return no("can only read resources of this type");
        }
        if !a.subresource.is_empty() {
            return no("cannot read subresource");
        }
        if a.namespace.is_empty() {
            return no("can only read namespaced object of this type");
        }
        self.related(node, a, |g| g.has(node, kind, a.namespace, a.name))
    }

    fn service_account(&self, node: &str, a: &Attributes<'_>) -> Result<(), String> {
        if a.verb == "get" && a.subresource.is_empty() {
            return self.read_namespaced(node, Kind::ServiceAccount, a);
        }
        if a.verb != "create" || a.name.is_empty() {
            return no("can only create tokens for individual service accounts");
        }
        if a.subresource != "token" {
            return no("can only create token subresource of serviceaccount");
        }
        self.related(node, a, |g| g.has(node, Kind::ServiceAccount, a.namespace, a.name))
    }

    fn slice(&self, node: &str, a: &Attributes<'_>) -> Result<(), String> {
        if !a.subresource.is_empty() {
            return no("cannot authorize ResourceSlice subresources");
        }
        match a.verb {
            "create" => Ok(()),
            "get" | "update" | "patch" | "delete" => self.related(node, a, |g| g.has_slice(node, a.name)),
            "watch" | "list" | "deletecollection" if selects(a.field_selector, "spec.nodeName", node) => {
                Ok(())
            }
            "watch" | "list" | "deletecollection" => {
                no("can only list/watch/deletecollection resourceslices with nodeName field selector")
            }
            _ => no("only the following verbs are allowed for a ResourceSlice: get, watch, list, create, \
                     update, patch, delete, deletecollection"),
        }
    }

    fn pod(&self, node: &str, a: &Attributes<'_>) -> Result<(), String> {
        let own = |g: &Graph| g.has_pod(node, a.namespace, a.name);
        match (a.subresource, a.verb) {
            ("", "get") => self.get(node, a, own),
            ("", "list" | "watch") if selects(a.field_selector, "spec.nodeName", node) => Ok(()),
            ("", "list" | "watch") if !a.name.is_empty() => self.related(node, a, own),
            ("", "list" | "watch") => no("can only list/watch pods with spec.nodeName field selector"),
            ("", "create" | "delete") | ("status", "update" | "patch") | ("eviction", "create") => Ok(()),
            _ => no(""),
        }
    }
}

fn no(reason: &str) -> Result<(), String> {
    Err(reason.to_owned())
}

fn own_node(node: &str, a: &Attributes<'_>) -> Result<(), String> {
    match (a.subresource, a.verb) {
        ("", "create" | "update" | "patch") | ("status", "update" | "patch") => Ok(()),
        ("", "get" | "list" | "watch") if a.name == node => Ok(()),
        ("", "get" | "list" | "watch") if a.name.is_empty() => {
            Err(format!("node '{node}' cannot read all nodes, only its own Node object"))
        }
        ("", "get" | "list" | "watch") => {
            Err(format!("node '{node}' cannot read '{}', only its own Node object", a.name))
        }
        _ => no(""),
    }
}

fn lease(node: &str, a: &Attributes<'_>) -> Result<(), String> {
    if !matches!(a.verb, "get" | "create" | "update" | "patch" | "delete") {
        return no("can only get, create, update, patch, or delete a node lease");
    }
    if a.namespace != "kube-node-lease" {
        return no("can only access leases in the \"kube-node-lease\" system namespace");
    }
    // A create carries no name yet; admission compares it.
    if a.verb != "create" && a.name != node {
        return no("can only access node lease with the same name as the requesting node");
    }
    Ok(())
}

fn csi_node(node: &str, a: &Attributes<'_>) -> Result<(), String> {
    if !matches!(a.verb, "get" | "create" | "update" | "patch" | "delete") {
        return no("can only get, create, update, patch, or delete a CSINode");
    }
    if !a.subresource.is_empty() {
        return no("cannot authorize CSINode subresources");
    }
    if a.verb != "create" && a.name != node {
        return no("can only access CSINode with the same name as the requesting node");
    }
    Ok(())
}

/// Whether a field selector requires `field` to equal `value`.
fn selects(selector: &str, field: &str, value: &str) -> bool {
    selector.split(',').any(|term| {
        term.strip_prefix(field)
            .and_then(|rest| rest.strip_prefix("==").or_else(|| rest.strip_prefix('=')))
            .is_some_and(|v| v == value)
    })
}

#[cfg(test)]
mod tests;
