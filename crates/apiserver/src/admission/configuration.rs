//! What can be set about admission: `--admission-control-config-file`, an `AdmissionConfiguration` that names a
//! configuration for each of some plugins, in the file itself or in another one (upstream
//! `apiserver/pkg/admission/config.go`), and a few flags.

use kinds::quota::Limited;
use serde::Deserialize;
use serde_json::Value;

use super::{names, pod_security, resource_quota};

/// How the plugins are set.
#[derive(Clone, Debug)]
pub struct Configuration {
    pub pod_security: pod_security::Configuration,
    /// What may only be used where a quota covers it.
    pub limited_resources: Vec<Limited>,
    /// `--default-not-ready-toleration-seconds`.
    pub not_ready_seconds: i64,
    /// `--default-unreachable-toleration-seconds`.
    pub unreachable_seconds: i64,
}

impl Default for Configuration {
    fn default() -> Self {
        Self {
            pod_security: pod_security::Configuration::default(),
            limited_resources: Vec::new(),
            not_ready_seconds: 300,
            unreachable_seconds: 300,
        }
    }
}

/// Why a configuration is not taken.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("reading the admission configuration: {0}")]
    Syntax(String),
    #[error(
        "the admission configuration is of kind {kind} in {api_version}; expected AdmissionConfiguration in \
             apiserver.config.k8s.io/v1"
    )]
    Kind { kind: String, api_version: String },
    #[error("the admission configuration names the plugin {0:?}, which is unknown")]
    Plugin(String),
    #[error("the admission plugin {0} takes no configuration")]
    Needless(String),
    #[error("reading the configuration of the admission plugin {plugin}: {why}")]
    OfPlugin { plugin: String, why: String },
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Document {
    #[serde(default)]
    api_version: String,
    #[serde(default)]
    kind: String,
    #[serde(default)]
    plugins: Vec<Entry>,
}

#[derive(Deserialize)]
struct Entry {
    name: String,
    #[serde(default)]
    path: String,
    #[serde(default)]
    configuration: Option<Value>,
}

impl Configuration {
    /// Reads an `AdmissionConfiguration`, in YAML or JSON. `open` reads the files that it names, relative to itself.
    ///
    /// # Errors
    /// The first thing that is wrong, with the plugin's name.
    pub fn read(&mut self, text: &str, open: impl Fn(&str) -> Result<String, String>) -> Result<(), Error> {
        let value = parse(text).map_err(Error::Syntax)?;
        let document = Document::deserialize(value).map_err(|e| Error::Syntax(e.to_string()))?;
        let known =
            matches!(&*document.api_version, "apiserver.config.k8s.io/v1" | "apiserver.k8s.io/v1alpha1");
        if !known || document.kind != "AdmissionConfiguration" {
            return Err(Error::Kind { kind: document.kind, api_version: document.api_version });
        }
        for entry in document.plugins {
            if !names().any(|name| name == entry.name) {
                return Err(Error::Plugin(entry.name));
            }
            let broken = |why: String| Error::OfPlugin { plugin: entry.name.clone(), why };
            let given = match entry.configuration {
                Some(given) if !given.is_null() => given,
                _ if entry.path.is_empty() => continue,
                _ => parse(&open(&entry.path).map_err(broken)?).map_err(broken)?,
            };
            self.of_plugin(&entry.name, &given)?;
        }
        Ok(())
    }

    fn of_plugin(&mut self, plugin: &str, given: &Value) -> Result<(), Error> {
        let broken = |why: String| Error::OfPlugin { plugin: plugin.to_owned(), why };
        match plugin {
            "PodSecurity" => {
                let versions = ["v1", "v1beta1", "v1alpha1"];
                check(given, "pod-security.admission.config.k8s.io", &versions, "PodSecurityConfiguration")
                    .map_err(broken)?;
                self.pod_security = pod_security::Configuration::read(given).map_err(broken)?;
            }
            resource_quota::NAME => {
                let kind = match given["kind"].as_str() {
                    Some("Configuration") => "Configuration",
                    _ => "ResourceQuotaConfiguration",
                };
                check(given, "apiserver.config.k8s.io", &["v1"], kind)
                    .or_else(|why| {
                        let versions = ["v1alpha1", "v1beta1"];
                        check(given, "resourcequota.admission.k8s.io", &versions, kind).map_err(|_| why)
                    })
                    .map_err(broken)?;
                let limited = given.get("limitedResources").filter(|list| !list.is_null());
                self.limited_resources = match limited {
                    Some(list) => Vec::deserialize(list).map_err(|e| broken(e.to_string()))?,
                    None => Vec::new(),
                };
            }
            _ => return Err(Error::Needless(plugin.to_owned())),
        }
        Ok(())
    }
}

/// YAML or JSON.
pub(crate) fn parse(text: &str) -> Result<Value, String> {
    apimachinery::codec::yaml::parse(text.as_bytes()).map(|(value, _)| value).map_err(|e| e.to_string())
}

fn check(given: &Value, group: &str, versions: &[&str], kind: &str) -> Result<(), String> {
    let (own_version, own_kind) =
        (given["apiVersion"].as_str().unwrap_or_default(), given["kind"].as_str().unwrap_or_default());
    let of_group = versions.iter().any(|version| own_version == format!("{group}/{version}"));
    match of_group && own_kind == kind {
        true => Ok(()),
        false => Err(format!("it is of kind {own_kind:?} in {own_version:?}; expected {kind} in {group}")),
    }
}
