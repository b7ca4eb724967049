//! `corten`: Kubernetes in one binary. Start here; each command has a file of its own under `commands` (what a
//! user of a cluster types) or `components` (one upstream program each).

mod certificates;
mod cluster;
mod commands;
mod components;
mod logging;
mod wiring;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Why not glibc's: docs/decisions/0008-allocator.md.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

#[derive(Parser)]
#[command(name = "corten", version, about = "Kubernetes in one binary", max_term_width = 100)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Start a one-node cluster, or start it again as it was
    Up(commands::up::Flags),
    /// Say how the cluster is
    Status(commands::status::Flags),
    /// Stop the cluster and its containers; --purge forgets everything
    Down(commands::down::Flags),
    /// Import and list images
    #[command(subcommand)]
    Image(commands::image::Command),
    /// The API server with the store, alone
    KubeApiserver(Box<components::kube_apiserver::Flags>),
    /// The controllers, alone
    KubeControllerManager(Box<components::kube_controller_manager::Flags>),
    /// The scheduler, alone
    KubeScheduler(components::kube_scheduler::Flags),
    /// The kubelet, alone
    Kubelet(components::kubelet::Flags),
    /// The Service proxy, alone
    KubeProxy(components::kube_proxy::Flags),
}

fn main() -> ExitCode {
    let done = match Cli::parse_from(by_program_name(std::env::args_os())).command {
        Command::Up(flags) => commands::up::run(flags),
        Command::Status(flags) => commands::status::run(flags),
        Command::Down(flags) => commands::down::run(flags),
        Command::Image(command) => commands::image::run(command),
        Command::KubeApiserver(flags) => components::kube_apiserver::run(*flags),
        Command::KubeControllerManager(flags) => components::kube_controller_manager::run(*flags),
        Command::KubeScheduler(flags) => components::kube_scheduler::run(flags),
        Command::Kubelet(flags) => components::kubelet::run(flags),
        Command::KubeProxy(flags) => components::kube_proxy::run(flags),
    };
    match done {
        Ok(code) => code,
        Err(error) => {
            eprintln!("corten: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// A link named `kube-apiserver` to this binary is that program.
fn by_program_name(
    args: impl Iterator<Item = std::ffi::OsString>,
) -> impl Iterator<Item = std::ffi::OsString> {
    const PROGRAMS: &[&str] =
        &["kube-apiserver", "kube-controller-manager", "kube-scheduler", "kubelet", "kube-proxy"];
    let mut args = args.peekable();
    let called = args.peek().map(std::path::PathBuf::from);
    let name = called.as_deref().and_then(|path| path.file_name()).and_then(|name| name.to_str());
    let program = PROGRAMS.iter().find(|program| Some(**program) == name);
    args.by_ref().next().into_iter().chain(program.map(|program| (*program).into())).chain(args)
}
