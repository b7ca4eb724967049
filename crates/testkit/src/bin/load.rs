//! `load`: one measure per command against one API server on this machine; the result is one line of JSON.
//! `cargo xtask bench` runs them all. It ends by itself.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::Result;
use clap::{Args, Parser, Subcommand};
use testkit::connection::Target;
use testkit::{pods, requests, start, watchers};

#[derive(Parser)]
struct Cli {
    /// The API server
    #[arg(long, value_name = "ADDRESS:PORT")]
    server: SocketAddr,
    /// Where ca.crt, admin.crt and admin.key lie
    #[arg(long, value_name = "D")]
    pki: PathBuf,
    #[command(subcommand)]
    command: Command,
}

#[derive(Args)]
struct Load {
    /// The server's process, whose processor time is taken
    #[arg(long)]
    pid: u32,
    /// Each has a connection of its own
    #[arg(long, default_value_t = 64)]
    clients: usize,
    #[arg(long, default_value_t = 20_000)]
    operations: usize,
}

#[derive(Subcommand)]
enum Command {
    /// Create the ConfigMaps that get and list read
    Fill {
        #[arg(long, default_value_t = 5000)]
        count: usize,
    },
    /// Create ConfigMaps of 256 bytes
    Create(Load),
    /// Get single ConfigMaps
    Get {
        #[command(flatten)]
        load: Load,
        #[arg(long, default_value_t = 5000)]
        among: usize,
    },
    /// List all of them: the first time counts as cold
    List {
        #[arg(long)]
        pid: u32,
        #[arg(long, default_value_t = 5000)]
        count: usize,
        #[arg(long, default_value_t = 50)]
        repeat: usize,
    },
    /// Watch them while others are created
    Watch {
        #[arg(long)]
        pid: u32,
        #[arg(long, default_value_t = 1000)]
        watchers: usize,
        #[arg(long, default_value_t = 100)]
        per_connection: usize,
        #[arg(long, default_value_t = 300)]
        events: usize,
        /// Milliseconds from one write to the next
        #[arg(long, default_value_t = 50)]
        every: u64,
    },
    /// Wait until /readyz answers 200
    Ready,
    /// Start the program again and again, and time it until /readyz answers 200
    Start {
        #[arg(long, default_value_t = 5)]
        repeat: usize,
        #[arg(last = true)]
        program: Vec<String>,
    },
    /// Run pods one after the other
    Pods {
        #[arg(long)]
        endpoint: String,
        #[arg(long)]
        image: String,
        #[arg(long, default_value_t = 20)]
        count: usize,
    },
    /// Run pods that stay
    Hold {
        #[arg(long)]
        image: String,
        #[arg(long, default_value_t = 10)]
        count: usize,
    },
}

fn main() -> Result<()> {
    let Cli { server, pki, command } = Cli::parse();
    let target = Target::new(server, &pki)?;
    // One thread: the other core is the server's.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let result = runtime.block_on(async {
        match command {
            Command::Fill { count } => requests::fill(&target, count, 16).await,
            Command::Create(load) => requests::create(&target, load.pid, load.clients, load.operations).await,
            Command::Get { load, among } => {
                requests::get(&target, load.pid, load.clients, load.operations, among).await
            }
            Command::List { pid, count, repeat } => requests::list(&target, pid, count, repeat).await,
            Command::Watch { pid, watchers, per_connection, events, every } => {
                let every = Duration::from_millis(every);
                let plan = watchers::Plan { watchers, per_connection, events, every };
                watchers::run(&target, pid, &plan).await
            }
            Command::Ready => {
                let limit = Duration::from_secs(60);
                tokio::time::timeout(limit, start::ready(&target)).await?;
                Ok(serde_json::json!({}))
            }
            Command::Start { repeat, program } => start::run(&target, &program, repeat).await,
            Command::Pods { endpoint, image, count } => pods::run(&target, &endpoint, &image, count).await,
            Command::Hold { image, count } => pods::hold(&target, &image, count).await,
        }
    })?;
    println!("{result}");
    Ok(())
}
