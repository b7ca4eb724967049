//! `corten status`: what runs, whether it is ready, and what is wrong if it is not.

use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result};
use api::core::v1::{Node, Pod};
use clap::Args;
use client::{Access, Client, HttpTransport, ListParams};

use super::{Which, process};

#[derive(Args)]
pub struct Flags {
    #[command(flatten)]
    which: Which,
}

/// Exit code 0 when the cluster runs and its nodes are Ready, 1 when not.
pub fn run(flags: Flags) -> Result<ExitCode> {
    let directory = flags.which.directory()?;
    let Some(settings) = directory.settings()? else {
        println!("no cluster in {} (corten up makes one)", directory.root.display());
        return Ok(ExitCode::FAILURE);
    };
    let Some(pid) = process::running(&directory.pid_file())? else {
        println!("stopped; corten up --data-dir {} starts it", directory.root.display());
        return Ok(ExitCode::FAILURE);
    };
    println!("process     {pid}, {} resident", resident(pid));
    println!("API server  https://127.0.0.1:{}", settings.secure_port);
    println!(
        "kubeconfig  {}",
        settings.kubeconfig.clone().unwrap_or_else(|| directory.admin_conf()).display()
    );
    println!("log         {}", directory.log_file().display());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let ready = runtime.block_on(async {
        tokio::time::timeout(Duration::from_secs(5), ask(&directory.admin_conf()))
            .await
            .context("the API server does not answer within 5 s")?
    })?;
    Ok(if ready { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

async fn ask(kubeconfig: &std::path::Path) -> Result<bool> {
    let access = Access::from_kubeconfig(kubeconfig, None)?;
    let client = Client::new(std::sync::Arc::new(HttpTransport::new(access)?), "corten-status");
    let nodes = client.list::<Node>("", &ListParams::default()).await.context("listing nodes")?;
    let mut ready = !nodes.items.is_empty();
    for node in &nodes.items {
        let conditions = node.status.as_ref().and_then(|status| status.conditions.as_ref());
        let condition = conditions.into_iter().flatten().find(|condition| condition.type_ == "Ready");
        let name = node.metadata.name.as_deref().unwrap_or_default();
        match condition {
            Some(condition) if condition.status == "True" => {
                println!("node        {name}: Ready");
                for pressure in crate::wiring::cluster::pressures(node) {
                    println!("            {pressure}");
                }
            }
            Some(condition) => {
                ready = false;
                let message = condition.message.as_deref().unwrap_or_default();
                println!("node        {name}: not ready: {message}");
            }
            None => {
                ready = false;
                println!("node        {name}: not ready: its kubelet has not reported yet");
            }
        }
    }
    let pods = client.list::<Pod>("", &ListParams::default()).await.context("listing pods")?;
    let running = pods.items.iter().filter(|pod| phase(pod) == "Running").count();
    println!("pods        {running} of {} running", pods.items.len());
    Ok(ready)
}

fn phase(pod: &Pod) -> &str {
    pod.status.as_ref().and_then(|status| status.phase.as_deref()).unwrap_or_default()
}

/// VmRSS as the kernel prints it.
fn resident(pid: i32) -> String {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib: u64 = line.and_then(|line| line.trim().trim_end_matches(" kB").parse().ok()).unwrap_or(0);
    format!("{} MiB", kib / 1024)
}
