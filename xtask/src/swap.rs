//! `cargo xtask swap`: upstream's kube-scheduler and kube-controller-manager, unmodified and with their default
//! settings, against Corten's API server, while a script keeps them busy; the same script against upstream's API
//! server; and what differs at the end. The nodes are the test kit's hollow ones.

mod compare;
mod objects;
mod script;
mod side;

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, bail};

use crate::run::{command, root, run as execute, step};
use side::{Make, Side};

/// What a run was asked for.
#[derive(Clone)]
pub struct Options {
    /// Where kube-apiserver, kube-controller-manager and kube-scheduler of upstream lie.
    upstream: PathBuf,
    etcd: PathBuf,
    corten: PathBuf,
    kubectl: PathBuf,
    hollow: PathBuf,
    /// As kubeadm has them; a build with more of them may need some left out.
    controllers: String,
    out: PathBuf,
    length: Duration,
    sides: Vec<Make>,
}

const USAGE: &str = "cargo xtask swap --upstream D --etcd FILE [--corten FILE] [--kubectl FILE] [--hollow FILE] \
                     [--controllers LIST] [--out D] [--minutes N] [--only corten|upstream|compare]";

fn options(words: &[String]) -> Result<Options> {
    let mut options = Options {
        upstream: PathBuf::new(),
        etcd: PathBuf::new(),
        corten: root().join("target/release/corten"),
        kubectl: "kubectl".into(),
        hollow: root().join("target/debug/hollow"),
        controllers: "*,bootstrapsigner,tokencleaner".to_owned(),
        out: root().join("target/swap"),
        length: Duration::from_secs(3600),
        sides: vec![Make::Corten, Make::Upstream],
    };
    let mut words = words.iter();
    while let Some(word) = words.next() {
        let value = words.next().with_context(|| format!("{word} has no value\n{USAGE}"))?;
        match word.as_str() {
            "--upstream" => options.upstream = value.into(),
            "--etcd" => options.etcd = value.into(),
            "--corten" => options.corten = value.into(),
            "--kubectl" => options.kubectl = value.into(),
            "--hollow" => options.hollow = value.into(),
            "--controllers" => options.controllers.clone_from(value),
            "--out" => options.out = value.into(),
            "--minutes" => options.length = Duration::from_secs(60 * value.parse::<u64>()?),
            "--only" => {
                options.sides = match value.as_str() {
                    "corten" => vec![Make::Corten],
                    "upstream" => vec![Make::Upstream],
                    "compare" => Vec::new(),
                    _ => bail!("{USAGE}"),
                }
            }
            _ => bail!("{USAGE}"),
        }
    }
    if !options.sides.is_empty()
        && (options.upstream.as_os_str().is_empty() || options.etcd.as_os_str().is_empty())
    {
        bail!("{USAGE}");
    }
    Ok(options)
}

/// Runs the sides at the same time, so that what else the machine does weighs on both, and compares them. Each
/// leaves its logs, its last state and its figures in a directory of its own.
pub fn run(words: &[String]) -> Result<()> {
    let options = options(words)?;
    if !options.hollow.exists() {
        step("build", || execute(&mut command("cargo", &["build", "-p", "testkit", "--bin", "hollow"])))?;
    }
    std::thread::scope(|scope| {
        let sides: Vec<_> = options
            .sides
            .iter()
            .map(|make| {
                let options = &options;
                scope.spawn(move || {
                    whole(*make, options).with_context(|| format!("on the side of {}", make.name()))
                })
            })
            .collect();
        sides.into_iter().try_for_each(|side| match side.join() {
            Ok(done) => done,
            Err(_) => bail!("a side has panicked"),
        })
    })?;
    let report = compare::report(&options.out)?;
    let path = options.out.join("report.md");
    std::fs::write(&path, &report).with_context(|| format!("writing {}", path.display()))?;
    println!("{report}\nwritten: {}", path.display());
    Ok(())
}

/// One side from its first certificate to its last state.
fn whole(make: Make, options: &Options) -> Result<()> {
    let mut side = Side::start(make, options)?;
    let done = script::run(&mut side, options.length);
    let kept = side.keep();
    side.stop();
    done.and(kept)
}
