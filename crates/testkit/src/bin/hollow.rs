//! `hollow`: nodes without machines, or a gate before an API server that cuts connections. Runs until it is killed.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use clap::{Parser, Subcommand};
use client::{Access, Client, HttpTransport};
use linux::time::{SystemClock, SystemEntropy};
use testkit::hollow::gate;
use testkit::hollow::node::Hollow;
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

#[derive(Parser)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Nodes, each named as its kubeconfig's file without the ending
    Nodes {
        #[arg(value_name = "KUBECONFIG", required = true)]
        kubeconfigs: Vec<PathBuf>,
    },
    /// A relay before a server
    Gate {
        #[arg(long)]
        listen: SocketAddr,
        #[arg(long)]
        to: SocketAddr,
        /// Seconds from one cut to the next
        #[arg(long)]
        every: u64,
    },
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    tracing_subscriber::fmt().with_writer(std::io::stderr).with_ansi(false).init();
    match Cli::parse().command {
        Command::Nodes { kubeconfigs } => nodes(&kubeconfigs).await,
        Command::Gate { listen, to, every } => {
            let listener =
                TcpListener::bind(listen).await.with_context(|| format!("listening on {listen}"))?;
            gate::run(listener, to, Duration::from_secs(every)).await
        }
    }
}

async fn nodes(kubeconfigs: &[PathBuf]) -> Result<()> {
    let mut running = JoinSet::new();
    for (number, path) in (1u8..=250).zip(kubeconfigs) {
        let name = path.file_stem().context("a kubeconfig without a name")?.to_string_lossy().into_owned();
        let transport = HttpTransport::new(Access::from_kubeconfig(path, None)?)?;
        let hollow = Hollow {
            client: Client::new(Arc::new(transport), "hollow"),
            name,
            number,
            clock: Arc::new(SystemClock),
            entropy: Arc::new(SystemEntropy::new()),
        };
        running.spawn(async move { hollow.run(CancellationToken::new()).await });
    }
    while running.join_next().await.is_some() {}
    Ok(())
}
