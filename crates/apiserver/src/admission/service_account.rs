//! Every pod runs as a service account of its namespace, which must exist, and gets its token as a projected
//! volume (upstream `plugin/pkg/admission/serviceaccount`).

use std::collections::BTreeSet;
use std::sync::Arc;

use apimachinery::names;
use apimachinery::status::Status;
use serde_json::{Value, json};

use super::{
    AdmissionAttributes, Operation, View, forbidden, has_annotation, is_about, is_pod, items, list_mut, text,
};
use crate::authorization::node;

const TOKEN_PATH: &str = "/var/run/secrets/kubernetes.io/serviceaccount";
const VOLUME_PREFIX: &str = "kube-api-access-";
const MIRROR: &str = "kubernetes.io/config.mirror";
const MOUNTABLE: &str = "kubernetes.io/enforce-mountable-secrets";
/// How long the kubelet's tokens live, in seconds; the odd number is how the server knows them.
const TOKEN_SECONDS: i64 = 3607;
/// Where the containers are, and what they are called.
const CONTAINERS: [(&str, &str); 2] =
    [("/spec/initContainers", "init container"), ("/spec/containers", "container")];
const EPHEMERAL: [(&str, &str); 1] = [("/spec/ephemeralContainers", "ephemeral container")];

/// Whether the pod shows what a kubelet runs without having been told to.
fn is_mirror(pod: &Value) -> bool {
    has_annotation(pod, MIRROR)
}

pub fn mutate(view: &View<'_>, a: &AdmissionAttributes<'_>, pod: &mut Value) -> Result<(), Status> {
    if !is_pod(a) || a.operation != Operation::Create || is_mirror(pod) {
        return Ok(());
    }
    if text(pod, "/spec/serviceAccountName").is_empty() {
        pod["spec"]["serviceAccountName"] = "default".into();
    }
    let account = account(view, a, pod)?;
    if automounts(&account, pod) {
        mount_token(view, pod);
    }
    if items(pod, "/spec/imagePullSecrets").next().is_none() {
        let secrets: Vec<Value> =
            items(&account, "/imagePullSecrets").map(|s| json!({"name": s["name"]})).collect();
        if !secrets.is_empty() {
            pod["spec"]["imagePullSecrets"] = Value::Array(secrets);
        }
    }
    Ok(())
}

/// A new namespace gets its account `default` a moment later: whether this pod is too early for it. Who asks may
/// wait a little, as upstream does.
pub fn is_early(view: &View<'_>, a: &AdmissionAttributes<'_>, pod: &Value) -> bool {
    is_pod(a)
        && a.operation == Operation::Create
        && !is_mirror(pod)
        && matches!(text(pod, "/spec/serviceAccountName"), "" | "default")
        && (view.kept)("", "serviceaccounts", a.namespace, "default").is_none()
        && (view.phase)(a.namespace).is_some()
}

pub fn validate(view: &View<'_>, a: &AdmissionAttributes<'_>, pod: &Value) -> Result<(), Status> {
    if is_about(a, "", "pods", "ephemeralcontainers") && a.operation == Operation::Update {
        let account = account(view, a, pod)?;
        return match enforces(&account) {
            true => limit_secrets_of(&account, pod, &EPHEMERAL).map_err(|why| forbidden(a, pod, why)),
            false => Ok(()),
        };
    }
    if !is_pod(a) || a.operation != Operation::Create {
        return Ok(());
    }
    if is_mirror(pod) {
        return validate_mirror(a, pod);
    }
    if text(pod, "/spec/serviceAccountName").is_empty() {
        let name = text(pod, "/metadata/name");
        return Err(forbidden(
            a,
            pod,
            format!("no service account specified for pod {}/{name}", a.namespace),
        ));
    }
    let account = account(view, a, pod)?;
    if enforces(&account) {
        limit_secrets(&account, pod).map_err(|why| forbidden(a, pod, why))?;
    }
    Ok(())
}

/// Pods of the account may use the secrets that it lists, and no others.
fn enforces(account: &Value) -> bool {
    let enforced = account["metadata"]["annotations"].get(MOUNTABLE).and_then(Value::as_str);
    enforced.is_some_and(|v| matches!(v, "1" | "t" | "T" | "true" | "TRUE" | "True"))
}

/// The kubelet shows a static pod; by that it must not come to secrets.
fn validate_mirror(a: &AdmissionAttributes<'_>, pod: &Value) -> Result<(), Status> {
    if !text(pod, "/spec/serviceAccountName").is_empty() {
        return Err(forbidden(a, pod, "a mirror pod may not reference service accounts"));
    }
    let mut plain = json!({ "spec": pod["spec"] });
    plain["metadata"] = json!({});
    if node::references(&plain, a.namespace, "").iter().any(|(kind, _, _)| *kind == node::Kind::Secret) {
        return Err(forbidden(a, pod, "a mirror pod may not reference secrets"));
    }
    let mut sources = items(pod, "/spec/volumes").flat_map(|v| items(v, "/projected/sources"));
    if sources.any(|s| s.get("serviceAccountToken").is_some()) {
        return Err(forbidden(a, pod, "a mirror pod may not use ServiceAccountToken volume projections"));
    }
    Ok(())
}

fn account(view: &View<'_>, a: &AdmissionAttributes<'_>, pod: &Value) -> Result<Arc<Value>, Status> {
    let name = text(pod, "/spec/serviceAccountName");
    (view.kept)("", "serviceaccounts", a.namespace, name).ok_or_else(|| {
        let why = format!("serviceaccount {name:?} not found");
        forbidden(a, pod, format!("error looking up service account {}/{name}: {why}", a.namespace))
    })
}

fn automounts(account: &Value, pod: &Value) -> bool {
    let choice = |v: Option<&Value>| v.and_then(Value::as_bool);
    choice(pod.pointer("/spec/automountServiceAccountToken"))
        .or_else(|| choice(account.get("automountServiceAccountToken")))
        .unwrap_or(true)
}

/// Mounts the token where a container has nothing mounted there, through one volume for all.
fn mount_token(view: &View<'_>, pod: &mut Value) {
    let existing =
        items(pod, "/spec/volumes").map(|v| text(v, "/name")).find(|n| n.starts_with(VOLUME_PREFIX));
    let has_volume = existing.is_some();
    let name = match existing {
        Some(name) => name.to_owned(),
        None => names::generate_name(VOLUME_PREFIX, view.entropy),
    };
    let mut used = false;
    for list in ["initContainers", "containers"] {
        for container in pod["spec"].get_mut(list).and_then(Value::as_array_mut).into_iter().flatten() {
            if items(container, "/volumeMounts").any(|m| text(m, "/mountPath") == TOKEN_PATH) {
                continue;
            }
            if let Some(mounts) = list_mut(container, "volumeMounts") {
                mounts.push(json!({"name": name, "readOnly": true, "mountPath": TOKEN_PATH}));
                used = true;
            }
        }
    }
    if used
        && !has_volume
        && let Some(volumes) = list_mut(&mut pod["spec"], "volumes")
    {
        volumes.push(json!({"name": name, "projected": token_source()}));
    }
}

fn token_source() -> Value {
    json!({
        "sources": [
            {"serviceAccountToken": {"expirationSeconds": TOKEN_SECONDS, "path": "token"}},
            {"configMap": {"name": "kube-root-ca.crt", "items": [{"key": "ca.crt", "path": "ca.crt"}]}},
            {"downwardAPI": {"items": [
                {"path": "namespace", "fieldRef": {"apiVersion": "v1", "fieldPath": "metadata.namespace"}},
            ]}},
        ],
        "defaultMode": 420,
    })
}

/// A service account may say that its pods use no secrets but those it lists.
fn limit_secrets(account: &Value, pod: &Value) -> Result<(), String> {
    let listed = |key: &str| items(account, key).map(|s| text(s, "/name")).collect::<BTreeSet<_>>();
    let mountable = listed("/secrets");
    let owner = text(account, "/metadata/name");
    let tail = format!("is not allowed because service account {owner} does not reference that secret");
    for volume in items(pod, "/spec/volumes").filter(|v| v.get("secret").is_some()) {
        let name = text(volume, "/secret/secretName");
        if !mountable.contains(name) {
            return Err(format!("volume with secret.secretName=\"{name}\" {tail}"));
        }
    }
    limit_secrets_of(account, pod, &CONTAINERS)?;
    let pull = listed("/imagePullSecrets");
    for (i, secret) in items(pod, "/spec/imagePullSecrets").enumerate() {
        let name = text(secret, "/name");
        if !pull.contains(name) {
            return Err(format!(
                "imagePullSecrets[{i}].name=\"{name}\" is not allowed because service account {owner} does not \
                 reference that imagePullSecret"
            ));
        }
    }
    Ok(())
}

/// The same for the environment of some of its containers.
fn limit_secrets_of(account: &Value, pod: &Value, lists: &[(&str, &str)]) -> Result<(), String> {
    let mountable: BTreeSet<&str> = items(account, "/secrets").map(|s| text(s, "/name")).collect();
    let owner = text(account, "/metadata/name");
    let tail = format!("is not allowed because service account {owner} does not reference that secret");
    for (list, word) in lists {
        for container in items(pod, list) {
            let word = format!("{word} {}", text(container, "/name"));
            for env in items(container, "/env").filter(|e| e.pointer("/valueFrom/secretKeyRef").is_some()) {
                let (var, name) = (text(env, "/name"), text(env, "/valueFrom/secretKeyRef/name"));
                if !mountable.contains(name) {
                    return Err(format!(
                        "{word} with envVar {var} referencing secret.secretName=\"{name}\" {tail}"
                    ));
                }
            }
            for source in items(container, "/envFrom").filter(|e| e.get("secretRef").is_some()) {
                let name = text(source, "/secretRef/name");
                if !mountable.contains(name) {
                    return Err(format!(
                        "{word} with envFrom referencing secret.secretName=\"{name}\" {tail}"
                    ));
                }
            }
        }
    }
    Ok(())
}
