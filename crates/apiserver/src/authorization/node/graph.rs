//! What belongs to which node: pods bound to it, and what those refer to. Pure: objects in, answers out.

use std::collections::{BTreeSet, HashMap, HashSet};

use serde_json::Value;

/// A kind of object that is reached through pods.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Kind {
    Secret,
    ConfigMap,
    Claim,
    ServiceAccount,
    ResourceClaim,
}

type Key = (String, String);
type Ref = (Kind, String, String);

#[derive(Default)]
struct Pod {
    node: String,
    refs: Vec<Ref>,
}

#[derive(Default)]
struct Volume {
    claim: Key,
    secrets: Vec<Key>,
}

/// The relation, kept up by [`observe`](Self::observe).
#[derive(Default)]
pub struct Graph {
    pods: HashMap<Key, Pod>,
    /// How many pods of a node refer to an object.
    related: HashMap<Ref, HashMap<String, u32>>,
    volumes: HashMap<String, Volume>,
    secret_volumes: HashMap<Key, HashSet<String>>,
    /// VolumeAttachments and ResourceSlices name their node themselves.
    attachments: HashMap<String, String>,
    slices: HashMap<String, String>,
}

fn text<'a>(value: &'a Value, pointer: &str) -> &'a str {
    value.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
}

fn items<'a>(value: &'a Value, pointer: &str) -> impl Iterator<Item = &'a Value> {
    value.pointer(pointer).and_then(Value::as_array).into_iter().flatten()
}

impl Graph {
    /// Takes note of an object of `pods`, `persistentvolumes`, `volumeattachments` or `resourceslices`; `None`
    /// when it is gone.
    pub fn observe(&mut self, resource: &str, namespace: &str, name: &str, object: Option<&Value>) {
        match resource {
            "pods" => self.pod((namespace.into(), name.into()), object),
            "persistentvolumes" => self.volume(name, object),
            "volumeattachments" => set(&mut self.attachments, name, object, "/spec/nodeName"),
            "resourceslices" => set(&mut self.slices, name, object, "/spec/nodeName"),
            _ => {}
        }
    }

    fn pod(&mut self, key: Key, object: Option<&Value>) {
        let new =
            object.map(|o| (text(o, "/spec/nodeName").to_owned(), o)).filter(|(node, _)| !node.is_empty());
        if let Some(old) = self.pods.remove(&key) {
            for reference in &old.refs {
                if let Some(nodes) = self.related.get_mut(reference) {
                    if let Some(count) = nodes.get_mut(&old.node) {
                        *count -= 1;
                        if *count == 0 {
                            nodes.remove(&old.node);
                        }
                    }
                    if nodes.is_empty() {
                        self.related.remove(reference);
                    }
                }
            }
        }
        let Some((node, object)) = new else { return };
        let refs = references(object, &key.0, &key.1);
        for reference in &refs {
            *self.related.entry(reference.clone()).or_default().entry(node.clone()).or_default() += 1;
        }
        self.pods.insert(key, Pod { node, refs });
    }

    fn volume(&mut self, name: &str, object: Option<&Value>) {
        if let Some(old) = self.volumes.remove(name) {
            for secret in old.secrets {
                if let Some(volumes) = self.secret_volumes.get_mut(&secret) {
                    volumes.remove(name);
                    if volumes.is_empty() {
                        self.secret_volumes.remove(&secret);
                    }
                }
            }
        }
        let Some(object) = object else { return };
        let claim = (text(object, "/spec/claimRef/namespace"), text(object, "/spec/claimRef/name"));
        if claim.1.is_empty() {
            return;
        }
        let claim = (claim.0.to_owned(), claim.1.to_owned());
        let secrets = volume_secrets(object, &claim.0);
        for secret in &secrets {
            self.secret_volumes.entry(secret.clone()).or_default().insert(name.to_owned());
        }
        self.volumes.insert(name.to_owned(), Volume { claim, secrets });
    }

    fn is_related(&self, node: &str, kind: Kind, namespace: &str, name: &str) -> bool {
        let key = (kind, namespace.to_owned(), name.to_owned());
        self.related.get(&key).is_some_and(|nodes| nodes.contains_key(node))
    }

    pub fn has_pod(&self, node: &str, namespace: &str, name: &str) -> bool {
        self.pods.get(&(namespace.to_owned(), name.to_owned())).is_some_and(|p| p.node == node)
    }

    /// Whether a pod of the node refers to the object, for secrets also through its persistent volumes.
    pub fn has(&self, node: &str, kind: Kind, namespace: &str, name: &str) -> bool {
        if self.is_related(node, kind, namespace, name) {
            return true;
        }
        kind == Kind::Secret
            && self
                .secret_volumes
                .get(&(namespace.to_owned(), name.to_owned()))
                .is_some_and(|volumes| volumes.iter().any(|v| self.has_volume(node, v)))
    }

    pub fn has_volume(&self, node: &str, name: &str) -> bool {
        let claim = self.volumes.get(name).map(|v| &v.claim);
        claim.is_some_and(|(ns, claim)| self.is_related(node, Kind::Claim, ns, claim))
    }

    pub fn has_attachment(&self, node: &str, name: &str) -> bool {
        self.attachments.get(name).is_some_and(|n| n == node)
    }

    pub fn has_slice(&self, node: &str, name: &str) -> bool {
        self.slices.get(name).is_some_and(|n| n == node)
    }
}

fn set(map: &mut HashMap<String, String>, name: &str, object: Option<&Value>, pointer: &str) {
    match object.map(|o| text(o, pointer)).filter(|node| !node.is_empty()) {
        Some(node) => map.insert(name.to_owned(), node.to_owned()),
        None => map.remove(name),
    };
}

/// Everything in its namespace that a pod refers to. A mirror pod refers to nothing: the kubelet that made it
/// must not gain rights by it.
pub fn references(pod: &Value, namespace: &str, pod_name: &str) -> Vec<Ref> {
    let mirror = pod.pointer("/metadata/annotations").and_then(|a| a.get("kubernetes.io/config.mirror"));
    if mirror.is_some() {
        return Vec::new();
    }
    let mut out = BTreeSet::new();
    let mut add = |kind, name: &str| {
        if !name.is_empty() {
            out.insert((kind, namespace.to_owned(), name.to_owned()));
        }
    };
    add(Kind::ServiceAccount, text(pod, "/spec/serviceAccountName"));
    for secret in items(pod, "/spec/imagePullSecrets") {
        add(Kind::Secret, text(secret, "/name"));
    }
    for list in ["/spec/containers", "/spec/initContainers", "/spec/ephemeralContainers"] {
        for container in items(pod, list) {
            for env in items(container, "/env") {
                add(Kind::Secret, text(env, "/valueFrom/secretKeyRef/name"));
                add(Kind::ConfigMap, text(env, "/valueFrom/configMapKeyRef/name"));
            }
            for source in items(container, "/envFrom") {
                add(Kind::Secret, text(source, "/secretRef/name"));
                add(Kind::ConfigMap, text(source, "/configMapRef/name"));
            }
        }
    }
    for volume in items(pod, "/spec/volumes") {
        add(Kind::Claim, text(volume, "/persistentVolumeClaim/claimName"));
        if volume.get("ephemeral").is_some_and(|e| !e.is_null()) {
            add(Kind::Claim, &format!("{pod_name}-{}", text(volume, "/name")));
        }
        add(Kind::ConfigMap, text(volume, "/configMap/name"));
        for source in items(volume, "/projected/sources") {
            add(Kind::Secret, text(source, "/secret/name"));
            add(Kind::ConfigMap, text(source, "/configMap/name"));
        }
        // The other volume sources name their secret in one of three ways.
        for source in volume.as_object().into_iter().flat_map(|v| v.values()) {
            add(Kind::Secret, text(source, "/secretName"));
            add(Kind::Secret, text(source, "/secretRef/name"));
            add(Kind::Secret, text(source, "/nodePublishSecretRef/name"));
        }
    }
    for claim in items(pod, "/spec/resourceClaims") {
        add(Kind::ResourceClaim, text(claim, "/resourceClaimName"));
    }
    for claim in items(pod, "/status/resourceClaimStatuses") {
        add(Kind::ResourceClaim, text(claim, "/resourceClaimName"));
    }
    add(Kind::ResourceClaim, text(pod, "/status/extendedResourceClaimStatus/resourceClaimName"));
    out.into_iter().collect()
}

/// The secrets of a persistent volume that the kubelet needs; those for the controller side are not its
/// business.
fn volume_secrets(volume: &Value, claim_namespace: &str) -> Vec<Key> {
    let mut out = BTreeSet::new();
    let sources = volume.get("spec").and_then(Value::as_object).into_iter().flat_map(|s| s.values());
    for source in sources {
        for field in ["secretRef", "nodeStageSecretRef", "nodePublishSecretRef", "nodeExpandSecretRef"] {
            let Some(reference) = source.get(field) else { continue };
            let namespace = text(reference, "/namespace");
            let namespace = if namespace.is_empty() { claim_namespace } else { namespace };
            out.insert((namespace.to_owned(), text(reference, "/name").to_owned()));
        }
        let azure = text(source, "/secretName");
        if !azure.is_empty() {
            let namespace = text(source, "/secretNamespace");
            let namespace = if namespace.is_empty() { claim_namespace } else { namespace };
            out.insert((namespace.to_owned(), azure.to_owned()));
        }
    }
    out.into_iter().filter(|(_, name)| !name.is_empty()).collect()
}
