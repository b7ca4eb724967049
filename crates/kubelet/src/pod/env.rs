//! The environment of a container, from all of its sources.

use std::collections::BTreeMap;
use std::sync::Arc;

use api::core::v1::{ConfigMap, Container, Pod, Secret, Service};

use super::fields::{self, Facts};
use super::spec;

/// A referenced object, or why there is none.
#[derive(Debug, Clone)]
pub enum Found<T> {
    Yes(Arc<T>),
    No,
    /// It could not be asked for.
    Unknown(String),
}

/// What references were resolved to, by name.
#[derive(Debug, Clone, Default)]
pub struct Sources {
    pub config_maps: BTreeMap<String, Found<ConfigMap>>,
    pub secrets: BTreeMap<String, Found<Secret>>,
    /// Variables for the services of the namespace, see [`service_variables`].
    pub services: BTreeMap<String, String>,
}

type Variables = BTreeMap<String, String>;

/// Names and values. Errors are upstream's texts, which the container's status shows.
pub fn environment(
    pod: &Pod,
    container: &Container,
    sources: &Sources,
    facts: &Facts,
) -> Result<Variables, String> {
    let namespace = spec::namespace(pod);
    let mut out = Variables::new();
    for from in container.env_from.iter().flatten() {
        let prefix = from.prefix.as_deref().unwrap_or_default();
        if let Some(r) = &from.config_map_ref {
            if let Some(map) = config_map(sources, namespace, &r.name, r.optional == Some(true))? {
                out.extend(map.data.iter().flatten().map(|(k, v)| (format!("{prefix}{k}"), v.clone())));
            }
        } else if let Some(r) = &from.secret_ref
            && let Some(secret) = self::secret(sources, namespace, &r.name, r.optional == Some(true))?
        {
            let text = |b: &api::ByteString| String::from_utf8_lossy(&b.0).into_owned();
            out.extend(secret.data.iter().flatten().map(|(k, v)| (format!("{prefix}{k}"), text(v))));
        }
    }
    for variable in container.env.iter().flatten() {
        let value = match (variable.value.as_deref().filter(|v| !v.is_empty()), &variable.value_from) {
            (Some(text), _) => {
                expand(text, |name| out.get(name).or_else(|| sources.services.get(name)).cloned())
            }
            (None, None) => String::new(),
            (None, Some(from)) => {
                if let Some(r) = &from.field_ref {
                    fields::field(pod, &r.field_path, facts)?
                } else if let Some(r) = &from.resource_field_ref {
                    fields::resource(pod, Some(container), r, facts)?
                } else if let Some(r) = &from.config_map_key_ref {
                    let optional = r.optional == Some(true);
                    let map = config_map(sources, namespace, &r.name, optional)?;
                    let value = map.as_ref().and_then(|m| m.data.as_ref()?.get(&r.key).cloned());
                    match value {
                        Some(value) => value,
                        None if optional => continue,
                        None => {
                            return Err(format!(
                                "couldn't find key {} in ConfigMap {namespace}/{}",
                                r.key, r.name
                            ));
                        }
                    }
                } else if let Some(r) = &from.secret_key_ref {
                    let optional = r.optional == Some(true);
                    let secret = self::secret(sources, namespace, &r.name, optional)?;
                    let value = secret.as_ref().and_then(|s| s.data.as_ref()?.get(&r.key).cloned());
                    match value {
                        Some(value) => String::from_utf8_lossy(&value.0).into_owned(),
                        None if optional => continue,
                        None => {
                            return Err(format!(
                                "couldn't find key {} in Secret {namespace}/{}",
                                r.key, r.name
                            ));
                        }
                    }
                } else {
                    String::new()
                }
            }
        };
        out.insert(variable.name.clone(), value);
    }
    for (name, value) in &sources.services {
        out.entry(name.clone()).or_insert_with(|| value.clone());
    }
    Ok(out)
}

fn config_map(
    sources: &Sources,
    namespace: &str,
    name: &str,
    optional: bool,
) -> Result<Option<Arc<ConfigMap>>, String> {
    match sources.config_maps.get(name) {
        Some(Found::Yes(map)) => Ok(Some(map.clone())),
        Some(Found::Unknown(why)) => Err(format!("couldn't get configMap {namespace}/{name}: {why}")),
        Some(Found::No) | None if optional => Ok(None),
        Some(Found::No) | None => Err(format!("configmap {name:?} not found")),
    }
}

fn secret(
    sources: &Sources,
    namespace: &str,
    name: &str,
    optional: bool,
) -> Result<Option<Arc<Secret>>, String> {
    match sources.secrets.get(name) {
        Some(Found::Yes(secret)) => Ok(Some(secret.clone())),
        Some(Found::Unknown(why)) => Err(format!("couldn't get secret {namespace}/{name}: {why}")),
        Some(Found::No) | None if optional => Ok(None),
        Some(Found::No) | None => Err(format!("secret {name:?} not found")),
    }
}

/// Names of the config maps and secrets that a pod refers to, in any way.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct References {
    pub config_maps: std::collections::BTreeSet<String>,
    pub secrets: std::collections::BTreeSet<String>,
}

pub fn references(pod: &Pod) -> References {
    let mut out = References::default();
    let pod_spec = spec::spec(pod);
    let ephemeral = spec::ephemeral_containers(pod);
    for c in pod_spec.containers.iter().chain(spec::init_containers(pod)).chain(&ephemeral) {
        for from in c.env_from.iter().flatten() {
            out.config_maps.extend(from.config_map_ref.as_ref().map(|r| r.name.clone()));
            out.secrets.extend(from.secret_ref.as_ref().map(|r| r.name.clone()));
        }
        for from in c.env.iter().flatten().filter_map(|e| e.value_from.as_ref()) {
            out.config_maps.extend(from.config_map_key_ref.as_ref().map(|r| r.name.clone()));
            out.secrets.extend(from.secret_key_ref.as_ref().map(|r| r.name.clone()));
        }
    }
    out.secrets.extend(pod_spec.image_pull_secrets.iter().flatten().map(|r| r.name.clone()));
    for volume in pod_spec.volumes.iter().flatten() {
        out.config_maps.extend(volume.config_map.as_ref().map(|v| v.name.clone()));
        out.secrets.extend(volume.secret.as_ref().and_then(|v| v.secret_name.clone()));
        for source in volume.projected.iter().flat_map(|p| p.sources.iter().flatten()) {
            out.config_maps.extend(source.config_map.as_ref().map(|v| v.name.clone()));
            out.secrets.extend(source.secret.as_ref().map(|v| v.name.clone()));
        }
    }
    out.config_maps.remove("");
    out.secrets.remove("");
    out
}

/// The variables that tell a pod about services: those of its namespace, and the API's own from `default`.
pub fn service_variables(services: &[Arc<Service>], namespace: &str, links: bool) -> Variables {
    let mut chosen: BTreeMap<&str, &Service> = BTreeMap::new();
    for service in services {
        let name = service.metadata.name.as_deref().unwrap_or_default();
        let of = service.metadata.namespace.as_deref().unwrap_or_default();
        let ip = service.spec.as_ref().and_then(|s| s.cluster_ip.as_deref()).unwrap_or_default();
        if ip.is_empty() || ip == "None" {
            continue;
        }
        if of == "default" && name == "kubernetes" {
            chosen.entry(name).or_insert(service);
        } else if of == namespace && links {
            chosen.insert(name, service);
        }
    }
    let mut out = Variables::new();
    for (name, service) in chosen {
        let Some(service) = &service.spec else { continue };
        let ip = service.cluster_ip.clone().unwrap_or_default();
        let prefix = variable_name(name);
        let ports = service.ports.as_deref().unwrap_or_default();
        out.insert(format!("{prefix}_SERVICE_HOST"), ip.clone());
        let host = if ip.contains(':') { format!("[{ip}]") } else { ip.clone() };
        for (index, port) in ports.iter().enumerate() {
            let protocol = port.protocol.as_deref().unwrap_or("TCP");
            let (upper, lower) = (protocol.to_ascii_uppercase(), protocol.to_ascii_lowercase());
            let number = port.port.to_string();
            let url = format!("{lower}://{host}:{number}");
            if index == 0 {
                out.insert(format!("{prefix}_SERVICE_PORT"), number.clone());
                out.insert(format!("{prefix}_PORT"), url.clone());
            }
            if let Some(port_name) = port.name.as_deref().filter(|n| !n.is_empty()) {
                out.insert(format!("{prefix}_SERVICE_PORT_{}", variable_name(port_name)), number.clone());
            }
            let one = format!("{prefix}_PORT_{number}_{upper}");
            out.insert(format!("{one}_PROTO"), lower);
            out.insert(format!("{one}_PORT"), number);
            out.insert(format!("{one}_ADDR"), ip.clone());
            out.insert(one, url);
        }
    }
    out
}

fn variable_name(name: &str) -> String {
    name.replace('-', "_").to_ascii_uppercase()
}

/// Replaces `$(NAME)` by its value; `$$` is a dollar sign, and an unknown reference stays as it is.
pub fn expand(text: &str, value: impl Fn(&str) -> Option<String>) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('$') {
        out.push_str(before);
        if let Some(tail) = after.strip_prefix('$') {
            out.push('$');
            rest = tail;
        } else if let Some((name, tail)) = after.strip_prefix('(').and_then(|t| t.split_once(')')) {
            out.push_str(&value(name).unwrap_or_else(|| format!("$({name})")));
            rest = tail;
        } else {
            out.push('$');
            rest = after;
        }
    }
    out.push_str(rest);
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn read<T: serde::de::DeserializeOwned>(value: serde_json::Value) -> T {
        serde_json::from_value(value).expect("an object")
    }

    #[test]
    fn references_are_expanded() {
        let value = |name: &str| (name == "A").then(|| "1".to_owned());
        for (text, expect) in [
            ("x$(A)y", "x1y"),
            ("$(B)", "$(B)"),
            ("$$(A)", "$(A)"),
            ("$$$(A)", "$1"),
            ("a$", "a$"),
            ("$(A", "$(A"),
            ("$A", "$A"),
        ] {
            assert_eq!(expand(text, value), expect, "{text}");
        }
    }

    #[test]
    fn every_source_counts() {
        let map: ConfigMap = read(json!({"data": {"k": "v", "x": "from map"}}));
        let secret: Secret = read(json!({"data": {"s": "aGk="}}));
        let sources = Sources {
            config_maps: [("m".into(), Found::Yes(Arc::new(map)))].into(),
            secrets: [("s".into(), Found::Yes(Arc::new(secret))), ("gone".into(), Found::No)].into(),
            services: [("SVC".into(), "10.0.0.1".into())].into(),
        };
        let pod: Pod = read(json!({"metadata": {"name": "p", "namespace": "n"}}));
        let check = |env: serde_json::Value, expect: Result<&str, &str>| {
            let container: Container = read(env);
            let got = environment(&pod, &container, &sources, &Facts::default());
            let got = got.map(|v| v.iter().map(|(k, v)| format!("{k}={v}")).collect::<Vec<_>>().join(" "));
            assert_eq!(got.as_deref().map_err(String::as_str), expect);
        };
        check(
            json!({"name": "c", "envFrom": [{"prefix": "P_", "configMapRef": {"name": "m"}}], "env": [
                {"name": "A", "value": "$(P_k)-$(SVC)"},
                {"name": "P_x", "value": "own"},
                {"name": "N", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}},
                {"name": "S", "valueFrom": {"secretKeyRef": {"name": "s", "key": "s"}}},
                {"name": "O", "valueFrom": {"secretKeyRef": {"name": "gone", "key": "s", "optional": true}}},
            ]}),
            Ok("A=v-10.0.0.1 N=p P_k=v P_x=own S=hi SVC=10.0.0.1"),
        );
        check(
            json!({"name": "c", "env": [{"name": "S", "valueFrom": {"secretKeyRef": {"name": "gone", "key": "s"}}}]}),
            Err("secret \"gone\" not found"),
        );
        check(
            json!({"name": "c", "env": [{"name": "S", "valueFrom": {"configMapKeyRef": {"name": "m", "key": "no"}}}]}),
            Err("couldn't find key no in ConfigMap n/m"),
        );
    }

    #[test]
    fn services_become_variables() {
        let service: Service = read(json!({"metadata": {"name": "my-db", "namespace": "n"},
            "spec": {"clusterIP": "10.0.0.7", "ports": [{"name": "sql", "port": 5432}]}}));
        let headless: Service =
            read(json!({"metadata": {"name": "h", "namespace": "n"}, "spec": {"clusterIP": "None"}}));
        let all = [Arc::new(service), Arc::new(headless)];
        let got = service_variables(&all, "n", true);
        let text: Vec<String> = got.iter().map(|(k, v)| format!("{k}={v}")).collect();
        assert_eq!(
            text,
            [
                "MY_DB_PORT=tcp://10.0.0.7:5432",
                "MY_DB_PORT_5432_TCP=tcp://10.0.0.7:5432",
                "MY_DB_PORT_5432_TCP_ADDR=10.0.0.7",
                "MY_DB_PORT_5432_TCP_PORT=5432",
                "MY_DB_PORT_5432_TCP_PROTO=tcp",
                "MY_DB_SERVICE_HOST=10.0.0.7",
                "MY_DB_SERVICE_PORT=5432",
                "MY_DB_SERVICE_PORT_SQL=5432",
            ]
        );
        assert!(service_variables(&all, "n", false).is_empty());
    }
}
