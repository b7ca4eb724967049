//! `corten kube-scheduler`: the scheduler over HTTPS.

use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use anyhow::Result;
use clap::Args;
use client::SharedInformers;
use scheduler::Scheduler;

use super::health::{self, Serving};
use super::{Common, Kubeconfig, Leadership, execute};

const NAME: &str = "kube-scheduler";

#[derive(Args)]
pub struct Flags {
    #[command(flatten)]
    common: Common,
    #[command(flatten)]
    kubeconfig: Kubeconfig,
    #[command(flatten)]
    leadership: Leadership,
    #[command(flatten)]
    serving: Serving,
}

pub fn run(flags: Flags) -> Result<ExitCode> {
    execute(&flags.common.clone(), |world, shutdown| async move {
        let client = flags.kubeconfig.client(NAME)?;
        let informers = SharedInformers::new(client.clone(), world.entropy.clone());
        let config = scheduler::Config::default();
        let scheduler =
            Scheduler::build(config, client.clone(), world.clock.clone(), world.entropy.clone(), informers);
        let leads = Arc::new(AtomicBool::new(!flags.leadership.leader_elect));
        let pages = health::leader_pages(NAME, leads.clone());
        flags.serving.start(NAME, 10259, pages, &world, &shutdown).await?;
        flags.leadership.run(NAME, client, &world, shutdown, &leads, |leading| scheduler.run(leading)).await
    })
}
