//! A kubelet writes only what is its own: its Node and lease, mirror pods, the status of pods bound to it, and
//! tokens for those (upstream `plugin/pkg/admission/noderestriction`). The authorizer has looked at names; here
//! it is about contents.

use std::collections::BTreeSet;

use apimachinery::status::Status;
use serde_json::Value;
use x509_parser::prelude::{FromDer, X509CertificationRequest};

use super::{AdmissionAttributes, Operation, View, forbidden, has_annotation, items, text};
use crate::authorization::{self, node};

const MIRROR: &str = "kubernetes.io/config.mirror";
const LEASES: &str = "kube-node-lease";

pub fn mutate(view: &View<'_>, a: &AdmissionAttributes<'_>, object: &mut Value) -> Result<(), Status> {
    let Some(node) = node::identity(a.user) else { return Ok(()) };
    let object = &*object;
    let no = |why: String| Err(forbidden(a, object, why));
    if node.is_empty() {
        return no(format!("could not determine node from user {:?}", a.user.name));
    }
    match (a.group, a.resource, a.subresource) {
        ("", "pods", "") => pod(view, a, node, object),
        ("", "pods", "status") => pod_status(a, node, object),
        ("", "pods", "eviction") => {
            if a.operation != Operation::Create {
                return no(format!("unexpected operation {}", word(a.operation)));
            }
            let name = if a.name.is_empty() { text(object, "/metadata/name") } else { a.name };
            if name.is_empty() {
                return no("could not determine pod from request data".into());
            }
            match text(&existing_pod(view, a, name)?, "/spec/nodeName") == node {
                true => Ok(()),
                false => no(format!("node {node} can only evict pods with spec.nodeName set to itself")),
            }
        }
        ("", "pods", other) => {
            no(format!("unexpected pod subresource {other:?}, only 'status' and 'eviction' are allowed"))
        }
        ("", "nodes", _) => own_node(a, node, object),
        ("", "persistentvolumeclaims", "status") => claim_status(a, node, object),
        ("", "persistentvolumeclaims", _) => no("may only update PVC status".into()),
        ("", "serviceaccounts", "token") if a.operation == Operation::Create => token(view, a, node, object),
        ("coordination.k8s.io", "leases", _) if a.namespace != LEASES => {
            no(format!("can only access leases in the {LEASES:?} system namespace"))
        }
        ("coordination.k8s.io", "leases", _) if !is_named(a, object, node) => {
            no("can only access node lease with the same name as the requesting node".into())
        }
        ("storage.k8s.io", "csinodes", _) if !is_named(a, object, node) => {
            no("can only access CSINode with the same name as the requesting node".into())
        }
        ("resource.k8s.io", "resourceslices", _) => {
            let (verb, slice) = match a.operation {
                Operation::Create => ("create", Some(object)),
                Operation::Delete => ("delete", a.old),
                Operation::Update | Operation::Connect => return Ok(()),
            };
            match slice.is_some_and(|s| text(s, "/spec/nodeName") == node) {
                true => Ok(()),
                false => {
                    no(format!("can only {verb} ResourceSlice with the same NodeName as the requesting node"))
                }
            }
        }
        ("certificates.k8s.io", "certificatesigningrequests", "") if a.operation == Operation::Create => {
            signing_request(a, node, object)
        }
        _ => Ok(()),
    }
}

fn word(operation: Operation) -> &'static str {
    match operation {
        Operation::Create => "CREATE",
        Operation::Update => "UPDATE",
        Operation::Delete => "DELETE",
        Operation::Connect => "CONNECT",
    }
}

fn is_named(a: &AdmissionAttributes<'_>, object: &Value, node: &str) -> bool {
    match a.operation {
        Operation::Create => text(object, "/metadata/name") == node,
        _ => a.name == node,
    }
}

fn existing_pod(view: &View<'_>, a: &AdmissionAttributes<'_>, name: &str) -> Result<Value, Status> {
    (view.get)("", "pods", a.namespace, name).ok_or_else(|| Status::not_found("", "pods", name))
}

fn pod(view: &View<'_>, a: &AdmissionAttributes<'_>, node: &str, pod: &Value) -> Result<(), Status> {
    let no = |why: String| Err(forbidden(a, pod, why));
    match a.operation {
        Operation::Create => {}
        Operation::Delete => {
            // Deleting a collection names nobody; the authorizer has refused it already.
            return match text(&existing_pod(view, a, a.name)?, "/spec/nodeName") == node {
                true => Ok(()),
                false => no(format!("node {node:?} can only delete pods with spec.nodeName set to itself")),
            };
        }
        operation => {
            let operation = word(operation);
            return no(format!(
                "unexpected operation {operation:?}, node {node:?} can only create and delete mirror pods"
            ));
        }
    }
    if !has_annotation(pod, MIRROR) {
        return no(format!(
            "pod does not have {MIRROR:?} annotation, node {node:?} can only create mirror pods"
        ));
    }
    if text(pod, "/spec/nodeName") != node {
        return no(format!("node {node:?} can only create pods with spec.nodeName set to itself"));
    }
    let owners: Vec<&Value> = items(pod, "/metadata/ownerReferences").collect();
    let owner = match owners.as_slice() {
        [owner] => *owner,
        [] => return no(format!("node {node:?} can only create pods with an owner reference set to itself")),
        _ => {
            return no(format!(
                "node {node:?} can only create pods with a single owner reference set to itself"
            ));
        }
    };
    if owner["apiVersion"] != "v1" || owner["kind"] != "Node" || owner["name"] != node {
        return no(format!("node {node:?} can only create pods with an owner reference set to itself"));
    }
    if owner["controller"] != true {
        return no(format!(
            "node {node:?} can only create pods with a controller owner reference set to itself"
        ));
    }
    if owner["blockOwnerDeletion"] == true {
        return no(format!("node {node:?} must not set blockOwnerDeletion on an owner reference"));
    }
    let own = (view.get)("", "nodes", "", node).ok_or_else(|| Status::not_found("", "nodes", node))?;
    let (given, uid) = (text(owner, "/uid"), text(&own, "/metadata/uid"));
    if given != uid {
        return no(format!("node {node} UID mismatch: expected {given} got {uid}"));
    }
    let mut plain = serde_json::json!({ "spec": pod["spec"] });
    plain["metadata"] = serde_json::json!({});
    let references = node::references(&plain, a.namespace, text(pod, "/metadata/name"));
    if let Some((kind, _, _)) = references.first() {
        let what = match kind {
            node::Kind::Secret => "secrets",
            node::Kind::ConfigMap => "configmaps",
            node::Kind::Claim => "persistentvolumeclaims",
            node::Kind::ServiceAccount => "serviceaccounts",
            node::Kind::ResourceClaim => "resourceclaims",
        };
        return no(format!("node {node:?} can not create pods that reference {what}"));
    }
    Ok(())
}

fn pod_status(a: &AdmissionAttributes<'_>, node: &str, pod: &Value) -> Result<(), Status> {
    let no = |why: String| Err(forbidden(a, pod, why));
    let (Operation::Update, Some(old)) = (a.operation, a.old) else {
        return no(format!("unexpected operation {:?}", word(a.operation)));
    };
    if text(old, "/spec/nodeName") != node {
        return no(format!(
            "node {node:?} can only update pod status for pods with spec.nodeName set to itself"
        ));
    }
    if differs(old, pod, "/metadata/labels") {
        return no(format!("node {node:?} cannot update labels through pod status"));
    }
    if differs(old, pod, "/status/resourceClaimStatuses") {
        return no(format!("node {node:?} cannot update resource claim statues"));
    }
    if differs(old, pod, "/status/extendedResourceClaimStatus") {
        return no(format!("node {node:?} cannot update extended resource claim status"));
    }
    Ok(())
}

/// Whether a part differs; absent, null and empty are the same.
fn differs(old: &Value, new: &Value, pointer: &str) -> bool {
    fn part<'a>(object: &'a Value, pointer: &str) -> Option<&'a Value> {
        object.pointer(pointer).filter(|v| match v {
            Value::Null => false,
            Value::Array(list) => !list.is_empty(),
            Value::Object(map) => !map.is_empty(),
            _ => true,
        })
    }
    part(old, pointer) != part(new, pointer)
}

fn own_node(a: &AdmissionAttributes<'_>, node: &str, new: &Value) -> Result<(), Status> {
    let no = |why: String| Err(forbidden(a, new, why));
    let name = if a.name.is_empty() { text(new, "/metadata/name") } else { a.name };
    if name != node {
        return no(format!("node {node:?} is not allowed to modify node {name:?}"));
    }
    match a.operation {
        Operation::Create => {
            if new["spec"].get("configSource").is_some_and(|v| !v.is_null()) {
                return no(format!(
                    "node {node:?} is not allowed to create pods with a non-nil configSource"
                ));
            }
            let labels = forbidden_labels(new, &Value::Null);
            if !labels.is_empty() {
                return no(format!("node {node:?} is not allowed to set the following labels: {labels}"));
            }
        }
        Operation::Update => {
            let old = a.old.unwrap_or(&Value::Null);
            if differs(old, new, "/spec/taints") {
                return no(format!("node {node:?} is not allowed to modify taints"));
            }
            if differs(old, new, "/metadata/ownerReferences") {
                return no(format!("node {node:?} is not allowed to modify ownerReferences"));
            }
            let labels = forbidden_labels(new, old);
            if !labels.is_empty() {
                return no(format!("is not allowed to modify labels: {labels}"));
            }
        }
        Operation::Delete | Operation::Connect => {}
    }
    Ok(())
}

/// The labels that changed and are not a kubelet's to set.
fn forbidden_labels(new: &Value, old: &Value) -> String {
    let (new, old) = (&new["metadata"]["labels"], &old["metadata"]["labels"]);
    let keys = |v: &Value| v.as_object().map(|m| m.keys().cloned().collect::<Vec<_>>()).unwrap_or_default();
    let all: BTreeSet<String> = keys(new).into_iter().chain(keys(old)).collect();
    let changed = all.into_iter().filter(|k| new.get(k) != old.get(k));
    changed.filter(|k| !is_kubelets(k)).collect::<Vec<_>>().join(", ")
}

fn is_kubelets(label: &str) -> bool {
    let space = label.split_once('/').map_or("", |(space, _)| space);
    let within = |domain: &str| space == domain || space.ends_with(&format!(".{domain}"));
    if within("node-restriction.kubernetes.io") {
        return false;
    }
    if !within("kubernetes.io") && !within("k8s.io") {
        return true;
    }
    within("kubelet.kubernetes.io")
        || within("node.kubernetes.io")
        || matches!(
            label,
            "kubernetes.io/hostname"
                | "topology.kubernetes.io/zone"
                | "topology.kubernetes.io/region"
                | "failure-domain.beta.kubernetes.io/zone"
                | "failure-domain.beta.kubernetes.io/region"
                | "beta.kubernetes.io/instance-type"
                | "kubernetes.io/os"
                | "kubernetes.io/arch"
                | "beta.kubernetes.io/os"
                | "beta.kubernetes.io/arch"
        )
}

fn claim_status(a: &AdmissionAttributes<'_>, node: &str, new: &Value) -> Result<(), Status> {
    let (Operation::Update, Some(old)) = (a.operation, a.old) else {
        return Err(forbidden(a, new, format!("unexpected operation {:?}", word(a.operation))));
    };
    // What the kubelet may change when it has grown a volume; the rest must be equal.
    let rest = |object: &Value| {
        let mut object = object.clone();
        for (part, fields) in [
            ("metadata", &["resourceVersion", "managedFields"] as &[&str]),
            ("status", &["capacity", "conditions", "allocatedResourceStatuses", "allocatedResources"]),
        ] {
            if let Some(part) = object.get_mut(part).and_then(Value::as_object_mut) {
                fields.iter().for_each(|field| drop(part.remove(*field)));
            }
        }
        object
    };
    if rest(old) == rest(new) {
        return Ok(());
    }
    let why = format!(
        "node {node:?} is not allowed to update fields other than status.quantity and status.conditions"
    );
    Err(forbidden(a, new, why))
}

fn token(view: &View<'_>, a: &AdmissionAttributes<'_>, node: &str, request: &Value) -> Result<(), Status> {
    let no = |why: String| Err(forbidden(a, request, why));
    let bound = &request["spec"]["boundObjectRef"];
    let name = text(bound, "/name");
    if bound["apiVersion"] != "v1" || bound["kind"] != "Pod" || name.is_empty() {
        return no("node requested token not bound to a pod".into());
    }
    let uid = text(bound, "/uid");
    if uid.is_empty() {
        return no("node requested token with a pod binding without a uid".into());
    }
    let pod = existing_pod(view, a, name)?;
    if text(&pod, "/metadata/uid") != uid {
        return no(format!(
            "the UID in the bound object reference ({uid}) does not match the UID in record. The object might have \
             been deleted and then recreated"
        ));
    }
    if text(&pod, "/spec/nodeName") != node {
        return no("node requested token bound to a pod scheduled on a different node".into());
    }
    let audiences: Vec<&str> = items(request, "/spec/audiences").filter_map(Value::as_str).collect();
    let audience = match audiences.as_slice() {
        [] => "",
        [one] => one,
        _ => return no("node may only request 0 or 1 audiences".into()),
    };
    let mut sources = items(&pod, "/spec/volumes").flat_map(|v| items(v, "/projected/sources"));
    if sources.any(|s| s.get("serviceAccountToken").is_some_and(|t| text(t, "/audience") == audience)) {
        return Ok(());
    }
    if items(&pod, "/spec/volumes").any(|v| driver_wants(view, a.namespace, &pod, v, audience)) {
        return Ok(());
    }
    let question = authorization::Attributes {
        is_resource: true,
        verb: "request-serviceaccounts-token-audience",
        version: "v1",
        resource: audience,
        namespace: a.namespace,
        name: a.name,
        ..authorization::Attributes::default()
    };
    if (view.may)(&question) {
        return Ok(());
    }
    no(format!(
        "audience {audience:?} not found in pod spec volume, {} is not authorized to request tokens for this audience",
        a.user.name
    ))
}

/// Whether the CSI driver behind a volume asks for tokens of this audience.
fn driver_wants(view: &View<'_>, namespace: &str, pod: &Value, volume: &Value, audience: &str) -> bool {
    let driver = |claim: &str| {
        let claim = (view.get)("", "persistentvolumeclaims", namespace, claim)?;
        let volume = (view.get)("", "persistentvolumes", "", text(&claim, "/spec/volumeName"))?;
        Some(text(&volume, "/spec/csi/driver").to_owned())
    };
    let name = if volume.get("ephemeral").is_some() {
        driver(&format!("{}-{}", text(pod, "/metadata/name"), text(volume, "/name")))
    } else if volume.get("persistentVolumeClaim").is_some() {
        driver(text(volume, "/persistentVolumeClaim/claimName"))
    } else {
        Some(text(volume, "/csi/driver").to_owned())
    };
    let Some(name) = name.filter(|n| !n.is_empty()) else { return false };
    (view.get)("storage.k8s.io", "csidrivers", "", &name)
        .is_some_and(|d| items(&d, "/spec/tokenRequests").any(|t| text(t, "/audience") == audience))
}

fn signing_request(a: &AdmissionAttributes<'_>, node: &str, request: &Value) -> Result<(), Status> {
    use base64::Engine as _;
    let signer = text(request, "/spec/signerName");
    if !matches!(signer, "kubernetes.io/kubelet-serving" | "kubernetes.io/kube-apiserver-client-kubelet") {
        return Ok(());
    }
    let pem =
        base64::engine::general_purpose::STANDARD.decode(text(request, "/spec/request")).unwrap_or_default();
    let name = common_name(&pem);
    let Some(name) = name else { return Err(forbidden(a, request, "unable to parse csr")) };
    if name != format!("system:node:{node}") {
        let why = format!("can only create a node CSR with CN=system:node:{node}");
        return Err(forbidden(a, request, why));
    }
    Ok(())
}

fn common_name(pem: &[u8]) -> Option<String> {
    let (_, pem) = x509_parser::pem::parse_x509_pem(pem).ok()?;
    let (_, request) = X509CertificationRequest::from_der(&pem.contents).ok()?;
    let subject = &request.certification_request_info.subject;
    Some(subject.iter_common_name().last().and_then(|n| n.as_str().ok()).unwrap_or_default().to_owned())
}
