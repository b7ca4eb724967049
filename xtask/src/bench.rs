//! `cargo xtask bench`: what starts, requests, watches and pods cost, beside the goals. Prints numbers and
//! asserts none. `docs/PERFORMANCE.md` records a run.

pub mod bed;
mod server;

use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::packages;
use crate::run::{command, run as execute, step};
use bed::{Bed, memory_mib, processor_seconds};

/// How long a process is left alone before its memory and processor time count.
const IDLE: Duration = Duration::from_secs(60);

const NODE: &[&str] = &["ready", "pods", "memory", "idle"];

/// One line of the result. The goal is the design's, upstream's figure was measured on a quiet machine of the
/// same kind.
struct Row {
    measure: &'static str,
    goal: &'static str,
    here: String,
    upstream: &'static str,
}

#[derive(Default)]
struct Report(Vec<Row>);

impl Report {
    fn add(&mut self, measure: &'static str, goal: &'static str, here: String, upstream: &'static str) {
        println!("    {measure}: {here}");
        self.0.push(Row { measure, goal, here, upstream });
    }

    fn print(&self) {
        println!("\n| measure | goal | here | upstream |\n| --- | --- | --- | --- |");
        for Row { measure, goal, here, upstream } in &self.0 {
            println!("| {measure} | {goal} | {here} | {upstream} |");
        }
    }
}

/// Runs the named measures, or all. With `--no-build`, of the programs in `target/release` as they are.
pub fn run(words: &[String]) -> Result<()> {
    let (flags, names): (Vec<_>, Vec<_>) = words.iter().partition(|word| *word == "--no-build");
    let known: Vec<&str> = NODE.iter().copied().chain(server::names()).collect();
    if let Some(name) = names.iter().find(|name| !known.contains(&name.as_str())) {
        bail!("no measure is called {name}; there are {}", known.join(" "));
    }
    let wanted = |name: &str| names.is_empty() || names.iter().any(|wanted| *wanted == name);
    step("packages", || packages::install(&[packages::CLUSTER]))?;
    if flags.is_empty() {
        step("build (release)", || {
            execute(&mut command("cargo", &["build", "--release", "-p", "corten", "-p", "testkit"]))
        })?;
    }
    println!("{}", bed::machine()?);
    let mut report = Report::default();
    let mut bed = Bed::new()?;
    let measured = node(&mut bed, &wanted, &mut report).and_then(|()| {
        bed.down()?;
        server::measure(&mut bed, &wanted, &mut report)
    });
    let cleared = bed.clear();
    report.print();
    println!("\n{}", bed::machine()?);
    measured.and(cleared)
}

/// The measures of a whole cluster. It is started in any case, since it makes the certificates for the others.
fn node(bed: &mut Bed, wanted: &dyn Fn(&str) -> bool, report: &mut Report) -> Result<()> {
    let first = step("a cluster's first start", || bed.up())?;
    if wanted("ready") {
        let mut again = Vec::new();
        for _ in 0..3 {
            bed.stop()?;
            again.push(step("start again", || bed.up())?);
        }
        again.sort_by(f64::total_cmp);
        // A later start finds the node's condition in the store, so only the first one proves anything.
        let here = format!("{first:.2} s (first start; a later one says so after {:.2} s)", again[1]);
        report.add("start to node Ready, images present", "≤ 2 s", here, "–");
    }
    if !["pods", "memory", "idle"].iter().any(|name| wanted(name)) {
        return Ok(());
    }
    if wanted("memory") {
        idle()?;
        let (all, anonymous) = memory_mib(bed.cluster_pid()?)?;
        let here = format!("{all:.1} MiB ({anonymous:.1} of it anonymous)");
        report.add(
            "VmRSS after 60 s idle, whole process, no pods (more than the control plane in one process)",
            "≤ 40 MiB",
            here,
            "504 MiB",
        );
    }
    let image = bed.import_image()?;
    if wanted("pods") {
        let endpoint = format!("unix://{}", bed.path("containerd/containerd.sock").display());
        let got = bed.load(&["pods", "--endpoint", &endpoint, "--image", image])?;
        let here = format!(
            "{:.2} × ({:.0} ms beside {:.0} ms; the slowest {:.0} ms)",
            number(&got, "ratio")?,
            number(&got, "podMillis")?,
            number(&got, "callsMillis")?,
            number(&got, "slowestPodMillis")?
        );
        report.add(
            "pod created → Running, image present, 20 in a row",
            "≤ 1.3 × its CRI calls by themselves",
            here,
            "–",
        );
    }
    if wanted("memory") || wanted("idle") {
        bed.load(&["hold", "--image", image])?;
        idle()?;
        let pid = bed.cluster_pid()?;
        let (all, anonymous) = memory_mib(pid)?;
        let here = format!("{all:.1} MiB ({anonymous:.1} of it anonymous)");
        report.add("VmRSS after 60 s idle, whole process, 10 pods", "≤ 80 MiB", here, "–");
        let (before, begin) = (processor_seconds(pid)?, Instant::now());
        std::thread::sleep(IDLE);
        let share = (processor_seconds(pid)? - before) / begin.elapsed().as_secs_f64() * 100.0;
        report.add(
            "processor, idle with 10 pods, over 60 s",
            "≤ 1 % of a core",
            format!("{share:.2} %"),
            "–",
        );
    }
    Ok(())
}

/// Leaves everything alone for a while.
fn idle() -> Result<()> {
    step("60 s idle", || {
        std::thread::sleep(IDLE);
        Ok(())
    })
}

fn number(got: &Value, name: &str) -> Result<f64> {
    got[name].as_f64().with_context(|| format!("the load generator gave no {name}: {got}"))
}
