//! `corten kube-scheduler`: the scheduler over HTTPS.

use std::process::ExitCode;

use anyhow::Result;
use clap::Args;
use client::SharedInformers;
use scheduler::Scheduler;

use super::{Common, Kubeconfig, Leadership, execute};

#[derive(Args)]
pub struct Flags {
    #[command(flatten)]
    common: Common,
    #[command(flatten)]
    kubeconfig: Kubeconfig,
    #[command(flatten)]
    leadership: Leadership,
}

pub fn run(flags: Flags) -> Result<ExitCode> {
    execute(&flags.common.clone(), |world, shutdown| async move {
        let client = flags.kubeconfig.client("kube-scheduler")?;
        let informers = SharedInformers::new(client.clone(), world.entropy.clone());
        let config = scheduler::Config::default();
        let scheduler =
            Scheduler::build(config, client.clone(), world.clock.clone(), world.entropy.clone(), informers);
        flags
            .leadership
            .run("kube-scheduler", client, &world, shutdown, |leading| scheduler.run(leading))
            .await;
        Ok(())
    })
}
