//! Where a server is and how to prove oneself to it: from a kubeconfig file or from inside a pod.

use std::path::{Path, PathBuf};
use std::time::SystemTime;

use base64::Engine;
use http::HeaderValue;
use serde::Deserialize;

use crate::TransportError;

/// Everything that a connection needs.
#[derive(Clone, Debug, Default)]
pub struct Access {
    /// `https://host:port`, perhaps with a path before the API's own.
    pub server: String,
    /// PEM certificates of those who may sign the server's.
    pub certificate_authority: Option<Secret>,
    /// PEM chain of the client.
    pub client_certificate: Option<Secret>,
    /// PEM key of the client.
    pub client_key: Option<Secret>,
    /// Bearer token; a file is read again when it changes.
    pub token: Option<Secret>,
    /// Basic authentication, as old kubeconfig files have it.
    pub basic: Option<(String, String)>,
    /// The name that the server's certificate must have, if it is not the host's.
    pub tls_server_name: String,
    /// Believe any server.
    pub insecure_skip_tls_verify: bool,
    /// The context's namespace, `default` if it names none.
    pub namespace: String,
}

/// Bytes that are at hand, or a file that holds them and may change.
#[derive(Clone, PartialEq, Eq)]
pub enum Secret {
    /// The bytes.
    Inline(Vec<u8>),
    /// The file.
    File(PathBuf),
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Secret::Inline(_) => f.write_str("inline"),
            Secret::File(path) => write!(f, "{}", path.display()),
        }
    }
}

impl Secret {
    /// The bytes as they are now.
    pub(crate) fn read(&self, what: &str) -> Result<Vec<u8>, TransportError> {
        match self {
            Secret::Inline(bytes) => Ok(bytes.clone()),
            Secret::File(path) => std::fs::read(path).map_err(|error| {
                TransportError::config(format!("reading {what} from {}", path.display()), error)
            }),
        }
    }
}

/// What changes when a file changes.
pub(crate) type Stamp = Option<(SystemTime, u64)>;

impl Access {
    /// The current context of a kubeconfig file, or the one named. Paths in it are relative to its directory.
    pub fn from_kubeconfig(path: &Path, context: Option<&str>) -> Result<Access, KubeconfigError> {
        let text = std::fs::read_to_string(path)
            .map_err(|source| KubeconfigError::Read { path: path.to_owned(), source })?;
        Access::from_kubeconfig_text(&text, path.parent().unwrap_or(Path::new("")), context)
    }

    /// The same from the file's text; `directory` is what its paths are relative to.
    pub fn from_kubeconfig_text(
        text: &str,
        directory: &Path,
        context: Option<&str>,
    ) -> Result<Access, KubeconfigError> {
        let config: Kubeconfig = serde_saphyr::from_str(text)
            .map_err(|error| KubeconfigError::Syntax { what: error.to_string() })?;
        let missing =
            |kind: &'static str, name: &str| KubeconfigError::Missing { kind, name: name.to_owned() };
        let name = context.unwrap_or(&config.current_context);
        let context =
            config.contexts.iter().find(|c| c.name == name).ok_or_else(|| missing("context", name))?;
        let context = &context.context;
        let cluster = config.clusters.iter().find(|c| c.name == context.cluster);
        let cluster = &cluster.ok_or_else(|| missing("cluster", &context.cluster))?.cluster;
        let nobody = User::default();
        let user = match config.users.iter().find(|u| u.name == context.user) {
            Some(user) => &user.user,
            None if context.user.is_empty() => &nobody,
            None => return Err(missing("user", &context.user)),
        };
        if user.exec.is_some() || user.auth_provider.is_some() {
            return Err(KubeconfigError::Unsupported { what: "credential plugins" });
        }
        let secret =
            |field: &'static str, data: &str, file: &str| -> Result<Option<Secret>, KubeconfigError> {
                if !data.is_empty() {
                    let bytes = base64::engine::general_purpose::STANDARD
                        .decode(data.trim())
                        .map_err(|error| KubeconfigError::Data { field, what: error.to_string() })?;
                    return Ok(Some(Secret::Inline(bytes)));
                }
                Ok((!file.is_empty()).then(|| Secret::File(directory.join(file))))
            };
        let token = match (user.token_file.as_str(), user.token.as_str()) {
            ("", "") => None,
            ("", token) => Some(Secret::Inline(token.as_bytes().to_vec())),
            (file, _) => Some(Secret::File(directory.join(file))),
        };
        Ok(Access {
            server: cluster.server.clone(),
            certificate_authority: secret(
                "certificate-authority-data",
                &cluster.certificate_authority_data,
                &cluster.certificate_authority,
            )?,
            client_certificate: secret(
                "client-certificate-data",
                &user.client_certificate_data,
                &user.client_certificate,
            )?,
            client_key: secret("client-key-data", &user.client_key_data, &user.client_key)?,
            token,
            basic: (!user.username.is_empty()).then(|| (user.username.clone(), user.password.clone())),
            tls_server_name: cluster.tls_server_name.clone(),
            insecure_skip_tls_verify: cluster.insecure_skip_tls_verify,
            namespace: if context.namespace.is_empty() {
                "default".into()
            } else {
                context.namespace.clone()
            },
        })
    }

    /// What a pod finds about its own cluster, from the directory where the service account is mounted
    /// (`/var/run/secrets/kubernetes.io/serviceaccount`) and the values of `KUBERNETES_SERVICE_HOST` and
    /// `KUBERNETES_SERVICE_PORT`.
    pub fn in_cluster(directory: &Path, host: &str, port: &str) -> Access {
        let host = if host.contains(':') { format!("[{host}]") } else { host.to_owned() };
        let namespace = std::fs::read_to_string(directory.join("namespace")).unwrap_or_default();
        Access {
            server: format!("https://{host}:{port}"),
            certificate_authority: Some(Secret::File(directory.join("ca.crt"))),
            token: Some(Secret::File(directory.join("token"))),
            namespace: if namespace.trim().is_empty() { "default".into() } else { namespace.trim().into() },
            ..Access::default()
        }
    }

    /// The Authorization header, from the token as it is now.
    pub(crate) fn bearer(&self) -> Result<Option<HeaderValue>, TransportError> {
        let value = if let Some(token) = &self.token {
            let bytes = token.read("the token")?;
            format!("Bearer {}", String::from_utf8_lossy(&bytes).trim())
        } else if let Some((user, password)) = &self.basic {
            let pair = base64::engine::general_purpose::STANDARD.encode(format!("{user}:{password}"));
            format!("Basic {pair}")
        } else {
            return Ok(None);
        };
        let mut value = HeaderValue::from_str(&value)
            .map_err(|error| TransportError::config("using the token", error))?;
        value.set_sensitive(true);
        Ok(Some(value))
    }

    /// When the files were last written, for comparison.
    pub(crate) fn stamps(&self) -> Vec<Stamp> {
        [&self.certificate_authority, &self.client_certificate, &self.client_key, &self.token]
            .into_iter()
            .map(|secret| match secret {
                Some(Secret::File(path)) => {
                    let about = std::fs::metadata(path).ok()?;
                    Some((about.modified().ok()?, about.len()))
                }
                _ => None,
            })
            .collect()
    }
}

/// Why a kubeconfig file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum KubeconfigError {
    /// The file does not read.
    #[error("reading kubeconfig {}", path.display())]
    Read {
        /// Which.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// It is no kubeconfig.
    #[error("parsing the kubeconfig: {what}")]
    Syntax {
        /// What is wrong with it.
        what: String,
    },
    /// It refers to something that it does not hold.
    #[error("the kubeconfig has no {kind} {name:?}")]
    Missing {
        /// `context`, `cluster` or `user`.
        kind: &'static str,
        /// Its name.
        name: String,
    },
    /// A `*-data` field does not decode.
    #[error("decoding {field} of the kubeconfig: {what}")]
    Data {
        /// The field.
        field: &'static str,
        /// What is wrong with it.
        what: String,
    },
    /// It asks for something that is not built.
    #[error("the kubeconfig asks for {what}, which this client does not have")]
    Unsupported {
        /// What.
        what: &'static str,
    },
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Kubeconfig {
    #[serde(default)]
    current_context: String,
    #[serde(default)]
    clusters: Vec<NamedCluster>,
    #[serde(default)]
    contexts: Vec<NamedContext>,
    #[serde(default)]
    users: Vec<NamedUser>,
}

#[derive(Deserialize)]
struct NamedCluster {
    name: String,
    cluster: Cluster,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "kebab-case", default)]
struct Cluster {
    server: String,
    certificate_authority: String,
    certificate_authority_data: String,
    insecure_skip_tls_verify: bool,
    tls_server_name: String,
}

#[derive(Deserialize)]
struct NamedContext {
    name: String,
    context: Context,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Context {
    cluster: String,
    user: String,
    namespace: String,
}

#[derive(Deserialize)]
struct NamedUser {
    name: String,
    #[serde(default)]
    user: User,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "kebab-case", default)]
struct User {
    client_certificate: String,
    client_certificate_data: String,
    client_key: String,
    client_key_data: String,
    token: String,
    #[serde(rename = "tokenFile")]
    token_file: String,
    username: String,
    password: String,
    exec: Option<serde_json::Value>,
    auth_provider: Option<serde_json::Value>,
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "
apiVersion: v1
kind: Config
current-context: a
preferences: {}
clusters:
- name: c
  cluster: {server: 'https://127.0.0.1:6443', certificate-authority-data: UEVN, tls-server-name: kubernetes}
- name: d
  cluster: {server: 'https://127.0.0.1:6444', insecure-skip-tls-verify: true}
users:
- name: u
  user: {client-certificate: u.crt, client-key: /etc/u.key}
- name: t
  user: {token: abc, tokenFile: token}
contexts:
- {name: a, context: {cluster: c, user: u}}
- {name: b, context: {cluster: d, user: t, namespace: n}}
";

    #[test]
    fn contexts() {
        let dir = Path::new("/dir");
        let a = Access::from_kubeconfig_text(TEXT, dir, None).unwrap();
        assert_eq!(a.server, "https://127.0.0.1:6443");
        assert_eq!(a.certificate_authority, Some(Secret::Inline(b"PEM".to_vec())));
        assert_eq!(a.client_certificate, Some(Secret::File("/dir/u.crt".into())));
        assert_eq!(a.client_key, Some(Secret::File("/etc/u.key".into())));
        assert_eq!((a.tls_server_name.as_str(), a.namespace.as_str()), ("kubernetes", "default"));
        let b = Access::from_kubeconfig_text(TEXT, dir, Some("b")).unwrap();
        assert_eq!(b.token, Some(Secret::File("/dir/token".into())));
        assert!(b.insecure_skip_tls_verify);
        assert_eq!(b.namespace, "n");
        let missing = Access::from_kubeconfig_text(TEXT, dir, Some("x")).unwrap_err();
        assert_eq!(missing.to_string(), "the kubeconfig has no context \"x\"");
    }
}
