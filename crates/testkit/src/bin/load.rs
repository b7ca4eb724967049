//! `load`: one measure per command against one API server on this machine; the result is one line of JSON.
//! `cargo xtask bench` runs them all. It ends by itself.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::Result;
use clap::{Parser, Subcommand};
use testkit::connection::{Form, Target};
use testkit::requests::{FILLED, Load};
use testkit::{collections, crowd, custom, pods, requests, start, watchers};

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
        #[arg(long, value_enum, default_value_t = Form::Json)]
        form: Form,
    },
    /// Create, replace, patch and delete ConfigMaps of 256 bytes
    Writes(Load),
    /// Apply Deployments of 10 KiB
    Apply(Load),
    /// Create CustomResourceDefinitions of 20 KiB, and an object of each
    Definitions {
        #[arg(long)]
        pid: u32,
        #[arg(long, default_value_t = 1000)]
        count: usize,
    },
    /// Create custom objects without rules and with ten
    Rules(Load),
    /// Create ConfigMaps without and with a policy that looks at them
    Policy(Load),
    /// Create ConfigMaps and delete them by one request
    DeleteCollection {
        #[arg(long)]
        pid: u32,
        #[arg(long, default_value_t = 5000)]
        count: usize,
    },
    /// Create pods of 3 KiB that stay
    Store {
        #[arg(long, default_value_t = 150_000)]
        count: usize,
    },
    /// Watch pods while others are created and bound
    Bind {
        #[arg(long, default_value_t = 100)]
        watchers: usize,
        #[arg(long, default_value_t = 5000)]
        count: usize,
    },
    /// List all of them: the first time counts as cold
    List {
        #[arg(long)]
        pid: u32,
        #[arg(long, default_value_t = 5000)]
        count: usize,
        #[arg(long, default_value_t = 50)]
        repeat: usize,
        #[arg(long, value_enum, default_value_t = Form::Json)]
        form: Form,
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
            Command::Fill { count } => requests::fill(&target, FILLED, count).await,
            Command::Create(load) => requests::create(&target, load).await,
            Command::Get { load, among, form } => requests::get(&target, load, among, form).await,
            Command::Writes(load) => requests::writes(&target, load).await,
            Command::Apply(load) => requests::apply(&target, load).await,
            Command::DeleteCollection { pid, count } => collections::delete(&target, pid, count).await,
            Command::Store { count } => crowd::store(&target, count).await,
            Command::Bind { watchers, count } => crowd::bind(&target, watchers, count).await,
            Command::List { pid, count, repeat, form } => {
                collections::list(&target, pid, count, repeat, form).await
            }
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
            Command::Definitions { pid, count } => custom::definitions(&target, pid, count).await,
            Command::Rules(load) => custom::rules(&target, load).await,
            Command::Policy(load) => custom::policy(&target, load).await,
            Command::Start { repeat, program } => start::run(&target, &program, repeat).await,
            Command::Pods { endpoint, image, count } => pods::run(&target, &endpoint, &image, count).await,
            Command::Hold { image, count } => pods::hold(&target, &image, count).await,
        }
    })?;
    println!("{result}");
    Ok(())
}
