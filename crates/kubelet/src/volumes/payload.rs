//! The files of a volume: a pure function of the volume's sources.

use std::collections::BTreeMap;

use api::core::v1::{ConfigMap, DownwardAPIVolumeFile, KeyToPath, Pod, Secret, Volume};

use crate::pod::env::{Found, Sources};
use crate::pod::fields::{self, Facts};
use crate::pod::spec;

const DEFAULT_MODE: i32 = 0o644;

/// Relative paths with their contents.
pub type Files = BTreeMap<String, File>;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct File {
    pub data: Vec<u8>,
    pub mode: u32,
    /// Whose it is, when it is not root's.
    pub uid: Option<u32>,
}

/// A service account token that a volume wants.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct TokenKey {
    /// Empty for the API server's own.
    pub audience: String,
    pub seconds: i64,
}

/// The tokens that a volume wants.
pub fn token_keys(volume: &Volume) -> Vec<TokenKey> {
    let sources = volume.projected.iter().flat_map(|p| p.sources.iter().flatten());
    let key = |t: &api::core::v1::ServiceAccountTokenProjection| TokenKey {
        audience: t.audience.clone().unwrap_or_default(),
        seconds: t.expiration_seconds.unwrap_or(3600),
    };
    sources.filter_map(|s| s.service_account_token.as_ref().map(key)).collect()
}

/// What the sources were resolved to.
pub struct Resolved<'a> {
    pub sources: &'a Sources,
    pub facts: &'a Facts,
    pub tokens: &'a BTreeMap<TokenKey, String>,
}

/// The files of a volume; `None` for a volume that is no such collection. Errors are for events.
pub fn payload(pod: &Pod, volume: &Volume, resolved: &Resolved) -> Result<Option<Files>, String> {
    let namespace = spec::namespace(pod);
    let mode = |mode: Option<i32>| mode.unwrap_or(DEFAULT_MODE) as u32;
    let mut files = Files::new();
    if let Some(v) = &volume.config_map {
        let (items, mode) = (v.items.as_deref(), mode(v.default_mode));
        let ask = Ask { name: &v.name, items, optional: v.optional, mode };
        config_map(&mut files, namespace, &ask, resolved)?;
    } else if let Some(v) = &volume.secret {
        let name = v.secret_name.as_deref().unwrap_or_default();
        let (items, mode) = (v.items.as_deref(), mode(v.default_mode));
        secret(&mut files, namespace, &Ask { name, items, optional: v.optional, mode }, resolved)?;
    } else if let Some(v) = &volume.downward_api {
        downward(&mut files, pod, v.items.as_deref(), mode(v.default_mode), resolved)?;
    } else if let Some(v) = &volume.projected {
        let default = mode(v.default_mode);
        for source in v.sources.iter().flatten() {
            if let Some(s) = &source.config_map {
                let (items, mode) = (s.items.as_deref(), default);
                let ask = Ask { name: &s.name, items, optional: s.optional, mode };
                config_map(&mut files, namespace, &ask, resolved)?;
            } else if let Some(s) = &source.secret {
                let (items, mode) = (s.items.as_deref(), default);
                let ask = Ask { name: &s.name, items, optional: s.optional, mode };
                secret(&mut files, namespace, &ask, resolved)?;
            } else if let Some(s) = &source.downward_api {
                downward(&mut files, pod, s.items.as_deref(), default, resolved)?;
            } else if let Some(s) = &source.service_account_token {
                let key = TokenKey {
                    audience: s.audience.clone().unwrap_or_default(),
                    seconds: s.expiration_seconds.unwrap_or(3600),
                };
                let token = resolved.tokens.get(&key).ok_or("failed to fetch token")?;
                let uid = common_user(pod);
                let fs_group = spec::spec(pod).security_context.as_ref().and_then(|c| c.fs_group);
                let mode = if uid.is_some() || fs_group.is_some() { 0o600 } else { default };
                files.insert(s.path.clone(), File { data: token.clone().into_bytes(), mode, uid });
            } else {
                return Err(format!("volume {:?} has a source that this kubelet does not know", volume.name));
            }
        }
    } else {
        return Ok(None);
    }
    Ok(Some(files))
}

/// The user of all containers, if it is one and the same.
fn common_user(pod: &Pod) -> Option<u32> {
    let pod_spec = spec::spec(pod);
    let of_pod = pod_spec.security_context.as_ref().and_then(|c| c.run_as_user);
    let all = pod_spec.containers.iter().chain(spec::init_containers(pod));
    let mut users = all.map(|c| c.security_context.as_ref().and_then(|s| s.run_as_user).or(of_pod));
    let first = users.next()??;
    users.all(|u| u == Some(first)).then(|| u32::try_from(first).ok()).flatten()
}

/// What a volume wants of one config map or secret.
struct Ask<'a> {
    name: &'a str,
    items: Option<&'a [KeyToPath]>,
    optional: Option<bool>,
    mode: u32,
}

impl Ask<'_> {
    /// The object; `None` when it is not there and need not be. `what` is how messages call it, first among
    /// others.
    fn find<'a, T>(
        &self,
        found: &'a BTreeMap<String, Found<T>>,
        namespace: &str,
        what: [&str; 2],
    ) -> Result<Option<&'a T>, String> {
        let name = self.name;
        match found.get(name) {
            Some(Found::Yes(object)) => Ok(Some(object)),
            Some(Found::Unknown(why)) => Err(format!("couldn't get {} {namespace}/{name}: {why}", what[0])),
            Some(Found::No) | None if self.optional == Some(true) => Ok(None),
            Some(Found::No) | None => Err(format!("{} {name:?} not found", what[1])),
        }
    }

    /// Takes the keys that are wanted.
    fn select(&self, files: &mut Files, data: BTreeMap<&str, &[u8]>, what: &str) -> Result<(), String> {
        let file = |data: &[u8], mode: u32| File { data: data.to_vec(), mode, uid: None };
        let Some(items) = self.items.filter(|i| !i.is_empty()) else {
            files.extend(data.into_iter().map(|(key, data)| (key.to_owned(), file(data, self.mode))));
            return Ok(());
        };
        for item in items {
            match data.get(item.key.as_str()) {
                Some(data) => {
                    let mode = item.mode.map_or(self.mode, |m| m as u32);
                    files.insert(item.path.clone(), file(data, mode));
                }
                None if self.optional == Some(true) => {}
                None => return Err(format!("{what} references non-existent {what} key: {}", item.key)),
            }
        }
        Ok(())
    }
}

fn config_map(files: &mut Files, namespace: &str, ask: &Ask, resolved: &Resolved) -> Result<(), String> {
    let found: Option<&ConfigMap> =
        ask.find(&resolved.sources.config_maps, namespace, ["configMap", "configmap"])?;
    let Some(map) = found else { return Ok(()) };
    let text = map.data.iter().flatten().map(|(k, v)| (k.as_str(), v.as_bytes()));
    let binary = map.binary_data.iter().flatten().map(|(k, v)| (k.as_str(), v.0.as_slice()));
    ask.select(files, text.chain(binary).collect(), "configmap")
}

fn secret(files: &mut Files, namespace: &str, ask: &Ask, resolved: &Resolved) -> Result<(), String> {
    let found: Option<&Secret> = ask.find(&resolved.sources.secrets, namespace, ["secret", "secret"])?;
    let Some(secret) = found else { return Ok(()) };
    let data = secret.data.iter().flatten().map(|(k, v)| (k.as_str(), v.0.as_slice()));
    ask.select(files, data.collect(), "secret")
}

fn downward(
    files: &mut Files,
    pod: &Pod,
    items: Option<&[DownwardAPIVolumeFile]>,
    mode: u32,
    resolved: &Resolved,
) -> Result<(), String> {
    for item in items.unwrap_or_default() {
        let text = if let Some(field) = &item.field_ref {
            fields::field(pod, &field.field_path, resolved.facts)?
        } else if let Some(selector) = &item.resource_field_ref {
            fields::resource(pod, None, selector, resolved.facts)?
        } else {
            continue;
        };
        let mode = item.mode.map_or(mode, |m| m as u32);
        files.insert(item.path.clone(), File { data: text.into_bytes(), mode, uid: None });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;
    use std::sync::Arc;

    #[test]
    fn files_of_volumes() {
        let map: ConfigMap =
            serde_json::from_value(json!({"data": {"a": "1", "b": "2"}, "binaryData": {"c": "AAE="}}))
                .expect("a map");
        let secret: Secret = serde_json::from_value(json!({"data": {"s": "eA=="}})).expect("a secret");
        let sources = Sources {
            config_maps: [("m".into(), Found::Yes(Arc::new(map)))].into(),
            secrets: [("s".into(), Found::Yes(Arc::new(secret)))].into(),
            ..Sources::default()
        };
        let tokens = [(TokenKey { audience: String::new(), seconds: 3607 }, "tok".to_owned())].into();
        let facts = Facts::default();
        let pod: Pod =
            serde_json::from_value(json!({"metadata": {"name": "p", "namespace": "n"}})).expect("a pod");
        let check = |volume: serde_json::Value, expect: Result<&str, &str>| {
            let volume: Volume = serde_json::from_value(volume).expect("a volume");
            let got = payload(&pod, &volume, &Resolved { sources: &sources, facts: &facts, tokens: &tokens });
            let text = |files: Option<Files>| {
                let word = |(k, f): (&String, &File)| format!("{k}:{:o}={}", f.mode, f.data.escape_ascii());
                files.unwrap_or_default().iter().map(word).collect::<Vec<_>>().join(" ")
            };
            assert_eq!(got.map(text).as_deref().map_err(String::as_str), expect, "{volume:?}");
        };
        check(json!({"name": "v", "configMap": {"name": "m"}}), Ok("a:644=1 b:644=2 c:644=\\x00\\x01"));
        check(
            json!({"name": "v", "configMap": {"name": "m", "defaultMode": 256, "items": [{"key": "a", "path": "x/y"}, {"key": "b", "path": "z", "mode": 384}]}}),
            Ok("x/y:400=1 z:600=2"),
        );
        check(
            json!({"name": "v", "configMap": {"name": "m", "items": [{"key": "no", "path": "x"}]}}),
            Err("configmap references non-existent configmap key: no"),
        );
        check(json!({"name": "v", "configMap": {"name": "no"}}), Err("configmap \"no\" not found"));
        check(json!({"name": "v", "configMap": {"name": "no", "optional": true}}), Ok(""));
        check(json!({"name": "v", "secret": {"secretName": "s"}}), Ok("s:644=x"));
        check(
            json!({"name": "v", "projected": {"defaultMode": 420, "sources": [
                {"serviceAccountToken": {"path": "token", "expirationSeconds": 3607}},
                {"configMap": {"name": "m", "items": [{"key": "a", "path": "ca.crt"}]}},
                {"downwardAPI": {"items": [{"path": "namespace", "fieldRef": {"fieldPath": "metadata.namespace"}}]}}]}}),
            Ok("ca.crt:644=1 namespace:644=n token:644=tok"),
        );
    }
}
