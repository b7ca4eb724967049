//! `cargo xtask bench`: what starts, requests, watches and pods cost, beside the goals. Prints numbers and
//! asserts none. `docs/PERFORMANCE.md` records a run.

pub mod bed;

use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::packages;
use crate::run::{command, run as execute, step};
use bed::{Bed, Process, memory_mib, processor_seconds};

/// How long a process is left alone before its memory and processor time count.
const IDLE: Duration = Duration::from_secs(60);

const NODE: &[&str] = &["ready", "pods", "memory", "idle"];
const SERVER: &[&str] = &["start", "control-plane", "create", "get", "list", "watch"];

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
    for name in &names {
        if !NODE.iter().chain(SERVER).any(|known| known == *name) {
            bail!("no measure is called {name}; there are {} {}", NODE.join(" "), SERVER.join(" "));
        }
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
        if SERVER.iter().any(|name| wanted(name)) { server(&mut bed, &wanted, &mut report) } else { Ok(()) }
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
        step("60 s idle", || {
            std::thread::sleep(IDLE);
            Ok(())
        })?;
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
        step("60 s idle", || {
            std::thread::sleep(IDLE);
            Ok(())
        })?;
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

/// The measures of the API server with its store alone, and of the control plane.
fn server(bed: &mut Bed, wanted: &dyn Fn(&str) -> bool, report: &mut Report) -> Result<()> {
    if ["start", "create", "get", "list", "watch"].iter().any(|name| wanted(name)) {
        requests(bed, wanted, report)?;
    }
    if wanted("control-plane") {
        control_plane(bed, report)?;
    }
    Ok(())
}

fn requests(bed: &mut Bed, wanted: &dyn Fn(&str) -> bool, report: &mut Report) -> Result<()> {
    let server = bed.api_server("filled")?;
    step("5,000 ConfigMaps", || bed.load(&["fill"]))?;
    server.stop()?;
    if wanted("start") {
        let program = bed.api_server_command("filled");
        let mut args = vec!["start", "--"];
        args.extend(program.iter().map(String::as_str));
        let got = bed.load(&args)?;
        let (median, slowest) = (number(&got, "medianMillis")?, number(&got, "slowestMillis")?);
        let here = format!("{:.2} s (median of 5; the slowest {:.2} s)", median / 1e3, slowest / 1e3);
        report.add(
            "start to `/readyz`, 5,000 objects stored",
            "≤ 0.3 s",
            here,
            "2.5–3.0 s, after etcd's 0.15–1 s",
        );
    }
    if wanted("list") {
        let mut cold = Vec::new();
        let mut last = Value::Null;
        for _ in 0..3 {
            let server = bed.api_server("filled")?;
            last = bed.load(&["list", "--pid", &server.pid()])?;
            cold.push((number(&last, "coldServerMillis")?, number(&last, "coldMillis")?));
            server.stop()?;
        }
        cold.sort_by(|one, other| one.0.total_cmp(&other.0));
        let (used, taken) = cold[1];
        let warm = format!(
            "{:.1} ms of processor, {:.1} ms to the last byte ({:.1} MB)",
            number(&last, "warmServerMillis")?,
            number(&last, "warmMillis")?,
            number(&last, "bytes")? / 1e6
        );
        report.add("LIST of 5,000 as JSON, warm", "≤ 8 ms", warm, "86–106 ms");
        let cold = format!("{used:.1} ms of processor, {taken:.1} ms to the last byte");
        report.add("LIST of 5,000 as JSON, cold", "≤ 25 ms", cold, "86–106 ms");
    }
    if ["create", "get", "watch"].iter().any(|name| wanted(name)) {
        let server = bed.api_server("filled")?;
        if wanted("get") {
            let got = bed.load(&["get", "--pid", &server.pid(), "--operations", "60000"])?;
            report.add("GET, 64 clients", "≤ 43 µs", closed_loop(&got)?, "432 µs; 3,367/s; p99 47 ms");
        }
        if wanted("create") {
            let got = bed.load(&["create", "--pid", &server.pid()])?;
            report.add(
                "ConfigMap (256 B) create, 64 clients, durable",
                "≤ 110 µs",
                closed_loop(&got)?,
                "1,107 µs; 1,501/s; p99 85 ms",
            );
        }
        if wanted("watch") {
            let got = bed.load(&["watch", "--pid", &server.pid()])?;
            report.add(
                "watch, per event and watcher: 1,000 watchers, 100 a connection",
                "≤ 5 µs",
                watchers(&got)?,
                "47 µs; p99 47 ms",
            );
            let got = bed.load(&["watch", "--pid", &server.pid(), "--per-connection", "1"])?;
            report.add("the same, one each", "≤ 15 µs", watchers(&got)?, "–");
        }
        server.stop()?;
    }
    Ok(())
}

fn control_plane(bed: &mut Bed, report: &mut Report) -> Result<()> {
    let server = bed.api_server("empty")?;
    let others = ["kube-controller-manager", "kube-scheduler"].map(|name| bed.component(name));
    let processes: Vec<Process> = std::iter::once(Ok(server)).chain(others).collect::<Result<_>>()?;
    step("60 s idle", || {
        std::thread::sleep(IDLE);
        Ok(())
    })?;
    let (mut all, mut anonymous, mut parts) = (0.0, 0.0, Vec::new());
    for process in &processes {
        let (rss, own) = memory_mib(process.id())?;
        all += rss;
        anonymous += own;
        parts.push(format!("{rss:.1}"));
    }
    let here = format!(
        "{all:.1} MiB in three processes ({}); {anonymous:.1} of it anonymous, the rest mostly the program's \
         text, counted three times",
        parts.join(" + ")
    );
    report.add(
        "VmRSS after 60 s idle, control plane alone",
        "≤ 40 MiB",
        here,
        "504 MiB (API server 283, etcd 43, controller manager 115, scheduler 64)",
    );
    processes.into_iter().rev().try_for_each(Process::stop)
}

fn closed_loop(got: &Value) -> Result<String> {
    Ok(format!(
        "{:.0} µs; {:.0}/s; p50 {:.1} ms; p99 {:.1} ms",
        number(got, "serverMicrosPerOperation")?,
        number(got, "perSecond")?,
        number(got, "p50Micros")? / 1e3,
        number(got, "p99Micros")? / 1e3
    ))
}

fn watchers(got: &Value) -> Result<String> {
    Ok(format!(
        "{:.1} µs; {:.0} deliveries/s; p50 {:.1} ms; p99 {:.1} ms",
        number(got, "serverMicrosPerDelivery")?,
        number(got, "deliveriesPerSecond")?,
        number(got, "p50Micros")? / 1e3,
        number(got, "p99Micros")? / 1e3
    ))
}

fn number(got: &Value, name: &str) -> Result<f64> {
    got[name].as_f64().with_context(|| format!("the load generator gave no {name}: {got}"))
}
