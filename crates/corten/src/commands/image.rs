//! `corten image`: images without a registry.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use clap::Subcommand;

use super::Which;
use crate::cluster::Directory;

#[derive(Subcommand)]
pub enum Command {
    /// Import archives, as `docker save` or an OCI layout tar writes them
    Import {
        #[command(flatten)]
        which: Which,
        #[arg(required = true, value_name = "FILE")]
        files: Vec<PathBuf>,
    },
    /// List the images of the node
    Ls {
        #[command(flatten)]
        which: Which,
    },
}

pub fn run(command: Command) -> Result<ExitCode> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        match command {
            Command::Import { which, files } => {
                let images = cri::containerd::Images::at(&socket(&which.directory()?)?);
                for file in files {
                    for name in images.import(&file).await? {
                        println!("{name}");
                    }
                }
            }
            Command::Ls { which } => list(&which.directory()?).await?,
        }
        Ok(ExitCode::SUCCESS)
    })
}

/// The socket of the container runtime that the cluster uses.
fn socket(directory: &Directory) -> Result<PathBuf> {
    let settings = directory
        .settings()?
        .with_context(|| format!("no cluster in {}: corten up makes one", directory.root.display()))?;
    let socket = match &settings.container_runtime_endpoint {
        None => directory.containerd_socket(),
        Some(endpoint) => PathBuf::from(endpoint.strip_prefix("unix://").unwrap_or(endpoint)),
    };
    if !socket.exists() {
        bail!("the container runtime does not run (no socket {}): corten up starts it", socket.display());
    }
    Ok(socket)
}

async fn list(directory: &Directory) -> Result<()> {
    let client = cri::Client::connect(&format!("unix://{}", socket(directory)?.display())).await?;
    let mut rows: Vec<(String, String, u64)> = Vec::new();
    for image in client.list_images().await? {
        let id = image.id.trim_start_matches("sha256:").chars().take(12).collect::<String>();
        let names = if image.repo_tags.is_empty() { vec!["<none>".to_owned()] } else { image.repo_tags };
        rows.extend(names.into_iter().map(|name| (name, id.clone(), image.size)));
    }
    rows.sort();
    let width = rows.iter().map(|row| row.0.len()).max().unwrap_or(0).max("IMAGE".len());
    println!("{:width$}  {:12}  {:>9}", "IMAGE", "ID", "SIZE");
    for (name, id, size) in rows {
        println!("{name:width$}  {id:12}  {:>6.1} MB", size as f64 / 1e6);
    }
    Ok(())
}
