//! `corten kube-controller-manager`: the controllers over HTTPS.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result};
use clap::Args;
use controllers::Controllers;

use super::{Common, Kubeconfig, Leadership, execute, read};

#[derive(Args)]
pub struct Flags {
    #[command(flatten)]
    common: Common,
    #[command(flatten)]
    kubeconfig: Kubeconfig,
    #[command(flatten)]
    leadership: Leadership,
    /// Which controllers run: names, -name to leave one out, * for all
    #[arg(long, value_name = "LIST", default_value = "*", value_delimiter = ',', allow_hyphen_values = true)]
    controllers: Vec<String>,
    /// The certificates that kube-root-ca.crt carries into every namespace
    #[arg(long, value_name = "FILE")]
    root_ca_file: Option<PathBuf>,
    /// Give nodes their parts of the cluster's range
    #[arg(long, value_name = "BOOL", default_value_t = false, action = clap::ArgAction::Set, num_args = 0..=1, default_missing_value = "true")]
    allocate_node_cidrs: bool,
    #[arg(long, value_name = "RANGE", default_value = "")]
    cluster_cidr: String,
    #[arg(long, value_name = "BITS", default_value_t = 24)]
    node_cidr_mask_size: u8,
    /// How long a node may be silent before it is taken for lost, in seconds
    #[arg(long, value_name = "DURATION", default_value = "50s", value_parser = duration)]
    node_monitor_grace_period: Duration,
    #[arg(long, value_name = "DURATION", default_value = "5s", value_parser = duration)]
    node_monitor_period: Duration,
    #[arg(long, value_name = "N", default_value_t = 12500)]
    terminated_pod_gc_threshold: usize,
}

/// Go's durations as far as they are used here: `40s`, `1m30s`, `500ms`.
fn duration(text: &str) -> Result<Duration, String> {
    let span: jiff::SignedDuration = text.parse().map_err(|error| format!("{error}"))?;
    Duration::try_from(span).map_err(|error| format!("{error}"))
}

pub fn run(flags: Flags) -> Result<ExitCode> {
    execute(&flags.common.clone(), |world, shutdown| async move {
        let client = flags.kubeconfig.client("kube-controller-manager")?;
        let config = controllers::Config {
            controllers: flags.controllers.clone(),
            root_ca: flags.root_ca_file.as_deref().map(read).transpose()?.unwrap_or_default(),
            cluster_cidr: if flags.allocate_node_cidrs { flags.cluster_cidr.clone() } else { String::new() },
            node_cidr_mask_size: flags.node_cidr_mask_size,
            node_monitor_period: flags.node_monitor_period,
            node_monitor_grace_period: flags.node_monitor_grace_period,
            terminated_pod_gc_threshold: flags.terminated_pod_gc_threshold,
            ..controllers::Config::default()
        };
        let controllers =
            Controllers::build(config, client.clone(), world.clock.clone(), world.entropy.clone())
                .context("configuring the controllers")?;
        flags
            .leadership
            .run("kube-controller-manager", client, &world, shutdown, |leading| controllers.run(leading))
            .await;
        Ok(())
    })
}

#[cfg(test)]
mod tests {
    #[test]
    fn durations() {
        for (text, expect) in [("40s", 40), ("1m30s", 90), ("2h", 7200)] {
            assert_eq!(super::duration(text).unwrap().as_secs(), expect, "{text}");
        }
        assert!(super::duration("-1s").is_err());
        assert!(super::duration("soon").is_err());
    }
}
