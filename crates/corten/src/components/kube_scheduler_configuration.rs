//! `KubeSchedulerConfiguration`, as far as its fields are built.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use scheduler::Config;
use serde::Deserialize;

use super::configuration::{ClientConnection, decode};
use super::{Leadership, duration, read};

const UNBUILT: &[&str] = &["parallelism", "extenders", "delayCacheUntilActive"];

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
struct File {
    client_connection: ClientConnection,
    leader_election: LeaderElection,
    enable_profiling: bool,
    enable_contention_profiling: bool,
    percentage_of_nodes_to_score: Option<usize>,
    pod_initial_backoff_seconds: Option<u64>,
    pod_max_backoff_seconds: Option<u64>,
    profiles: Vec<Profile>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
struct LeaderElection {
    leader_elect: Option<bool>,
    lease_duration: String,
    renew_deadline: String,
    retry_period: String,
    resource_lock: String,
    resource_name: String,
    resource_namespace: String,
}

/// Plugins and their arguments are upstream's defaults.
#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
struct Profile {
    scheduler_name: String,
}

/// Sets in `config` and `leadership` what the file sets, and says where its kubeconfig is.
pub fn load(path: &Path, config: &mut Config, leadership: &mut Leadership) -> Result<Option<PathBuf>> {
    apply(&read(path)?, path.parent().unwrap_or(Path::new("")), config, leadership)
        .with_context(|| format!("reading the scheduler's configuration {}", path.display()))
}

fn apply(
    text: &str,
    directory: &Path,
    config: &mut Config,
    leadership: &mut Leadership,
) -> Result<Option<PathBuf>> {
    let file: File = decode(text, "kubescheduler.config.k8s.io/v1", "KubeSchedulerConfiguration", UNBUILT)?;
    file.client_connection.check()?;
    if file.enable_profiling || file.enable_contention_profiling {
        bail!("enableProfiling is not built");
    }
    if let Some(percentage) = file.percentage_of_nodes_to_score {
        config.percentage_of_nodes_to_score = percentage;
    }
    if let Some(seconds) = file.pod_initial_backoff_seconds.filter(|seconds| *seconds != 0) {
        config.pod_initial_backoff = Duration::from_secs(seconds);
    }
    if let Some(seconds) = file.pod_max_backoff_seconds.filter(|seconds| *seconds != 0) {
        config.pod_max_backoff = Duration::from_secs(seconds);
    }
    match file.profiles.as_slice() {
        [] => {}
        [one] if one.scheduler_name.is_empty() => {}
        [one] => config.scheduler_name.clone_from(&one.scheduler_name),
        _ => bail!("profiles: only one is built"),
    }
    let election = file.leader_election;
    if !matches!(election.resource_lock.as_str(), "" | "leases") {
        bail!("leaderElection.resourceLock {:?}: leases is wanted", election.resource_lock);
    }
    leadership.leader_elect = election.leader_elect.unwrap_or(leadership.leader_elect);
    for (field, text) in [
        (&mut leadership.leader_elect_lease_duration, &election.lease_duration),
        (&mut leadership.leader_elect_renew_deadline, &election.renew_deadline),
        (&mut leadership.leader_elect_retry_period, &election.retry_period),
    ] {
        if !matches!(text.as_str(), "" | "0s") {
            *field = duration(text).map_err(|error| anyhow::anyhow!("leaderElection {text:?}: {error}"))?;
        }
    }
    if !election.resource_name.is_empty() {
        leadership.leader_elect_resource_name = Some(election.resource_name);
    }
    if !election.resource_namespace.is_empty() {
        leadership.leader_elect_resource_namespace = election.resource_namespace;
    }
    let kubeconfig = file.client_connection.kubeconfig;
    Ok((!kubeconfig.is_empty()).then(|| directory.join(kubeconfig)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn leadership() -> Leadership {
        Leadership {
            leader_elect: true,
            leader_elect_lease_duration: Duration::from_secs(15),
            leader_elect_renew_deadline: Duration::from_secs(10),
            leader_elect_retry_period: Duration::from_secs(2),
            leader_elect_resource_name: None,
            leader_elect_resource_namespace: "kube-system".to_owned(),
        }
    }

    #[test]
    fn fields() {
        let head = "apiVersion: kubescheduler.config.k8s.io/v1\nkind: KubeSchedulerConfiguration\n";
        let read = |body: &str| {
            let (mut config, mut leadership) = (Config::default(), leadership());
            let kubeconfig = apply(&format!("{head}{body}"), Path::new("/d"), &mut config, &mut leadership)?;
            anyhow::Ok((config, leadership, kubeconfig))
        };
        let (config, leadership, kubeconfig) = read(
            "clientConnection: {kubeconfig: s.conf}\nleaderElection: {leaderElect: false, retryPeriod: 3s}\n\
             percentageOfNodesToScore: 40\npodMaxBackoffSeconds: 5\nprofiles: [{schedulerName: mine}]\n",
        )
        .unwrap();
        assert_eq!(kubeconfig, Some("/d/s.conf".into()));
        assert_eq!((leadership.leader_elect, leadership.leader_elect_retry_period.as_secs()), (false, 3));
        assert_eq!((config.percentage_of_nodes_to_score, config.pod_max_backoff.as_secs()), (40, 5));
        assert_eq!(config.scheduler_name, "mine");
        for bad in [
            "profiles: [{schedulerName: a}, {schedulerName: b}]",
            "profiles: [{plugins: {}}]",
            "extenders: [{urlPrefix: x}]",
            "leaderElection: {retryPeriod: soon}",
        ] {
            assert!(read(bad).is_err(), "{bad}");
        }
    }
}
