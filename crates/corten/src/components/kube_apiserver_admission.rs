//! `corten kube-apiserver`: which admission plugins are on, and how they are set.

use std::path::PathBuf;

use anyhow::{Context, Result, bail};
use apiserver::admission::{Chain, configuration::Configuration, names};
use clap::Args;
use clap::builder::PossibleValuesParser;

use super::read;

/// Upstream's plugins that are not built: they cannot be turned on, and turning them off changes nothing.
const ABSENT: [&str; 13] = [
    "",
    "EventRateLimit",
    "ImagePolicyWebhook",
    "JobValidation",
    "MutatingAdmissionPolicy",
    "MutatingAdmissionWebhook",
    "NamespaceAutoProvision",
    "PodGroupProtection",
    "PodGroupWorkloadExists",
    "PodNodeSelector",
    "PodTolerationRestriction",
    "ValidatingAdmissionPolicy",
    "ValidatingAdmissionWebhook",
];

#[derive(Args)]
pub struct AdmissionFlags {
    /// Plugins that are on besides those that are by default
    #[arg(long, value_name = "NAMES", value_delimiter = ',', value_parser = PossibleValuesParser::new(names()))]
    enable_admission_plugins: Vec<String>,
    /// Plugins that are off though they are on by default
    #[arg(long, value_name = "NAMES", value_delimiter = ',', value_parser = PossibleValuesParser::new(names().chain(ABSENT)))]
    disable_admission_plugins: Vec<String>,
    /// An AdmissionConfiguration: how PodSecurity and ResourceQuota are set
    #[arg(long, value_name = "FILE")]
    admission_control_config_file: Option<PathBuf>,
    /// How long pods that do not say stay on a node that is not ready
    #[arg(long, value_name = "SECONDS", default_value_t = 300)]
    default_not_ready_toleration_seconds: i64,
    /// How long pods that do not say stay on a node that cannot be reached
    #[arg(long, value_name = "SECONDS", default_value_t = 300)]
    default_unreachable_toleration_seconds: i64,
}

impl AdmissionFlags {
    /// # Errors
    /// For plugins that are to be both on and off, and for a configuration that cannot be read.
    pub fn chain(&self) -> Result<Chain> {
        let enabled: Vec<&str> = self.enable_admission_plugins.iter().map(String::as_str).collect();
        let disabled: Vec<&str> = self.disable_admission_plugins.iter().map(String::as_str).collect();
        if let Some(both) = enabled.iter().find(|name| disabled.contains(name)) {
            bail!("{both} in enable-admission-plugins and disable-admission-plugins overlapped");
        }
        let mut configuration = Configuration {
            not_ready_seconds: self.default_not_ready_toleration_seconds,
            unreachable_seconds: self.default_unreachable_toleration_seconds,
            ..Configuration::default()
        };
        if let Some(path) = &self.admission_control_config_file {
            let directory = path.parent().map(PathBuf::from).unwrap_or_default();
            let open = |name: &str| read(&directory.join(name)).map_err(|error| format!("{error:#}"));
            configuration
                .read(&read(path)?, open)
                .with_context(|| format!("--admission-control-config-file {}", path.display()))?;
        }
        Ok(Chain::new(&enabled, &disabled, configuration))
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        flags: AdmissionFlags,
    }

    fn chain(line: &str) -> Result<Chain, String> {
        let words = std::iter::once("kube-apiserver").chain(line.split_whitespace());
        let line = Line::try_parse_from(words).map_err(|e| e.to_string())?;
        line.flags.chain().map_err(|error| format!("{error:#}"))
    }

    #[test]
    fn flags() {
        let directory = tempfile::tempdir().unwrap();
        let file = |name: &str, text: &str| {
            let path = directory.path().join(name);
            std::fs::write(&path, text).unwrap();
            path.display().to_string()
        };
        file(
            "security.yaml",
            "apiVersion: pod-security.admission.config.k8s.io/v1\nkind: PodSecurityConfiguration\n\
             exemptions:\n  namespaces: [free]\n",
        );
        let config = file(
            "admission.yaml",
            "apiVersion: apiserver.config.k8s.io/v1\nkind: AdmissionConfiguration\nplugins:\n- name: PodSecurity\n  \
             path: security.yaml\n",
        );
        let set = chain(&format!(
            "--admission-control-config-file={config} --default-not-ready-toleration-seconds=5 \
             --disable-admission-plugins=ValidatingAdmissionWebhook,Priority --enable-admission-plugins=AlwaysPullImages"
        ));
        let set = set.unwrap();
        assert_eq!(set.configuration().not_ready_seconds, 5);
        assert_eq!(set.configuration().pod_security.exemptions.namespaces, ["free"]);
        for (line, expect) in [
            ("--enable-admission-plugins=None", "invalid value 'None'"),
            ("--enable-admission-plugins=EventRateLimit", "invalid value 'EventRateLimit'"),
            (
                "--enable-admission-plugins=Priority --disable-admission-plugins=Priority",
                "Priority in enable-admission-plugins and disable-admission-plugins overlapped",
            ),
            ("--admission-control-config-file=/nowhere", "/nowhere"),
        ] {
            let why = chain(line).err().unwrap_or_default();
            assert!(why.contains(expect), "{line}: {why}");
        }
    }
}
