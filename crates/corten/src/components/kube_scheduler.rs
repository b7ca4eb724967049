//! `corten kube-scheduler`: the scheduler over HTTPS.

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use anyhow::{Context, Result};
use clap::Args;
use client::SharedInformers;
use scheduler::Scheduler;

use super::health::{self, Serving};
use super::kube_scheduler_configuration::load;
use super::{Common, Leadership, client_of, execute, measured};

const NAME: &str = "kube-scheduler";

#[derive(Args)]
pub struct Flags {
    #[command(flatten)]
    common: Common,
    /// A KubeSchedulerConfiguration; what it says comes before the flags, except --kubeconfig
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// The kubeconfig that says where the API server is and who this is
    #[arg(long, value_name = "FILE", required_unless_present = "config")]
    kubeconfig: Option<PathBuf>,
    #[command(flatten)]
    leadership: Leadership,
    #[command(flatten)]
    serving: Serving,
}

pub fn run(mut flags: Flags) -> Result<ExitCode> {
    execute(&flags.common.clone(), |world, shutdown| async move {
        let mut config = scheduler::Config::default();
        if let Some(path) = &flags.config {
            let kubeconfig = load(path, &mut config, &mut flags.leadership)?;
            flags.kubeconfig = flags.kubeconfig.or(kubeconfig);
        }
        let kubeconfig =
            flags.kubeconfig.context("--kubeconfig is needed, or clientConnection.kubeconfig")?;
        let (client, mut registry) = measured(client_of(&kubeconfig, NAME)?, &kubeconfig)?;
        let informers = SharedInformers::new(client.clone(), world.entropy.clone());
        let scheduler =
            Scheduler::build(config, client.clone(), world.clock.clone(), world.entropy.clone(), informers);
        let leads = Arc::new(AtomicBool::new(!flags.leadership.leader_elect));
        let view = scheduler.view();
        view.register(&mut registry);
        let pages = health::leader_pages(NAME, leads.clone(), registry, move || view.refresh());
        flags.serving.start(NAME, 10259, pages, &world, &shutdown).await?;
        flags.leadership.run(NAME, client, &world, shutdown, &leads, |leading| scheduler.run(leading)).await
    })
}
