//! The measures of the API server with its store alone, and of the control plane.

use anyhow::Result;
use serde_json::Value;

use super::bed::{Bed, Process, memory_mib};
use super::{Report, idle, number};
use crate::run::step;

type Measure = fn(&mut Bed, &mut Report) -> Result<()>;

/// The measures by name, in their order.
const ALL: &[(&str, Measure)] = &[
    ("start", start),
    ("list", list),
    ("get", get),
    ("create", create),
    ("writes", writes),
    ("apply", apply),
    ("delete-collection", delete_collection),
    ("watch", watch),
    ("bind", bind),
    ("definitions", definitions),
    ("rules", rules),
    ("policy", policy),
    ("stored", stored),
    ("control-plane", control_plane),
];
/// Which of them want the 5,000 ConfigMaps of the store `filled`.
const FILLED: &[&str] = &["start", "list", "get", "create"];

pub fn names() -> impl Iterator<Item = &'static str> {
    ALL.iter().map(|(name, _)| *name)
}

/// Runs what is wanted.
pub fn measure(bed: &mut Bed, wanted: &dyn Fn(&str) -> bool, report: &mut Report) -> Result<()> {
    if FILLED.iter().any(|name| wanted(name)) {
        with_server(bed, "filled", |bed, _| step("5,000 ConfigMaps", || bed.load(&["fill"])))?;
    }
    ALL.iter().filter(|(name, _)| wanted(name)).try_for_each(|(_, run)| run(bed, report))
}

/// Starts the API server over a store, lets it be measured, and ends it. `work` gets its process id.
fn with_server<T>(bed: &mut Bed, store: &str, work: impl FnOnce(&mut Bed, &str) -> Result<T>) -> Result<T> {
    let server = bed.api_server(store)?;
    let done = work(bed, &server.pid())?;
    server.stop()?;
    Ok(done)
}

fn start(bed: &mut Bed, report: &mut Report) -> Result<()> {
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
    Ok(())
}

fn list(bed: &mut Bed, report: &mut Report) -> Result<()> {
    let mut cold = Vec::new();
    for _ in 0..3 {
        let got = with_server(bed, "filled", |bed, pid| bed.load(&["list", "--pid", pid, "--repeat", "1"]))?;
        cold.push((number(&got, "coldServerMillis")?, number(&got, "coldMillis")?));
    }
    cold.sort_by(|one, other| one.0.total_cmp(&other.0));
    let (used, taken) = cold[1];
    let here = format!("{used:.1} ms of processor, {taken:.1} ms to the last byte");
    report.add("LIST of 5,000 as JSON, cold", "≤ 25 ms", here, "86–106 ms");
    let forms = [
        ("json", "LIST of 5,000 as JSON, warm", "≤ 8 ms", "86–106 ms"),
        ("protobuf", "the same in protobuf", "≤ 5 ms", "79 ms"),
        ("metadata", "the same as PartialObjectMetadata (JSON)", "≤ 4 ms", "64 ms"),
        ("table", "the same as Table (JSON)", "≤ 7 ms", "73 ms"),
    ];
    with_server(bed, "filled", |bed, pid| {
        for (form, measure, goal, upstream) in forms {
            let got = bed.load(&["list", "--pid", pid, "--form", form])?;
            let here = format!(
                "{:.1} ms of processor, {:.1} ms to the last byte ({:.1} MB)",
                number(&got, "warmServerMillis")?,
                number(&got, "warmMillis")?,
                number(&got, "bytes")? / 1e6
            );
            report.add(measure, goal, here, upstream);
        }
        Ok(())
    })
}

fn get(bed: &mut Bed, report: &mut Report) -> Result<()> {
    with_server(bed, "filled", |bed, pid| {
        for (form, measure, upstream) in [
            ("json", "GET as JSON, 64 clients", "432 µs; 3,367/s; p99 47 ms"),
            ("protobuf", "the same in protobuf", "494 µs"),
        ] {
            let got = bed.load(&["get", "--pid", pid, "--operations", "60000", "--form", form])?;
            report.add(measure, "≤ 40 µs", closed_loop(&got)?, upstream);
        }
        Ok(())
    })
}

fn create(bed: &mut Bed, report: &mut Report) -> Result<()> {
    let got = with_server(bed, "filled", |bed, pid| bed.load(&["create", "--pid", pid]))?;
    report.add(
        "ConfigMap (256 B) create, 64 clients, durable",
        "≤ 110 µs",
        closed_loop(&got)?,
        "1,107 µs; 1,501/s; p99 85 ms",
    );
    Ok(())
}

fn writes(bed: &mut Bed, report: &mut Report) -> Result<()> {
    let got = with_server(bed, "written", |bed, pid| bed.load(&["writes", "--pid", pid, "--clients", "16"]))?;
    for (name, measure, goal, upstream) in [
        ("create", "ConfigMap (256 B) create, 16 clients, durable", "≤ 160 µs", "1,604 µs"),
        ("put", "the same, PUT", "≤ 160 µs", "1,619 µs"),
        ("patch", "the same, merge patch", "≤ 200 µs", "2,084 µs"),
        ("delete", "the same, DELETE", "≤ 210 µs", "2,126 µs"),
    ] {
        report.add(measure, goal, closed_loop(&got[name])?, upstream);
    }
    Ok(())
}

fn apply(bed: &mut Bed, report: &mut Report) -> Result<()> {
    let args = ["--clients", "16", "--operations", "5000"];
    let got =
        with_server(bed, "applied", |bed, pid| bed.load(&[&["apply", "--pid", pid], &args[..]].concat()))?;
    for (name, measure, goal) in [
        ("json", "server-side apply of a 10 KiB Deployment, JSON, one value changed, 16 clients", "≤ 150 µs"),
        ("unchanged", "the same, nothing changed", "–"),
        ("yaml", "the same in YAML, one value changed", "–"),
    ] {
        report.add(measure, goal, closed_loop(&got[name])?, "–");
    }
    Ok(())
}

fn delete_collection(bed: &mut Bed, report: &mut Report) -> Result<()> {
    let got = with_server(bed, "emptied", |bed, pid| bed.load(&["delete-collection", "--pid", pid]))?;
    let here = format!(
        "{:.2} s to the last byte, {:.2} s of processor",
        number(&got, "seconds")?,
        number(&got, "serverSeconds")?
    );
    report.add("deletecollection of 5,000 ConfigMaps", "≤ 0.5 s", here, "11 s");
    Ok(())
}

fn watch(bed: &mut Bed, report: &mut Report) -> Result<()> {
    with_server(bed, "watched", |bed, pid| {
        let got = bed.load(&["watch", "--pid", pid])?;
        let measure = "watch, per event and watcher: 1,000 watchers, 100 a connection";
        report.add(measure, "≤ 5 µs", watchers(&got)?, "47 µs; p99 47 ms");
        let here = format!(
            "p99 {:.1} ms, p50 {:.1} ms; {:.2} encodings per event",
            number(&got, "lastP99Micros")? / 1e3,
            number(&got, "lastP50Micros")? / 1e3,
            number(&got, "encodingsPerEvent")?
        );
        report.add("the same, event to last watcher", "p99 ≤ 10 ms; one encoding per event", here, "47 ms");
        let got = bed.load(&["watch", "--pid", pid, "--per-connection", "1"])?;
        report.add("the same with one connection each", "≤ 15 µs", watchers(&got)?, "–");
        Ok(())
    })
}

fn bind(bed: &mut Bed, report: &mut Report) -> Result<()> {
    let got = with_server(bed, "bound", |bed, _| bed.load(&["bind"]))?;
    let here = format!(
        "{} cut off; made and bound in {:.1} s, seen by all in {:.1} s",
        number(&got, "cutOff")?,
        number(&got, "writtenSeconds")?,
        number(&got, "seenSeconds")?
    );
    report.add(
        "100 watchers while 5,000 pods are made and bound",
        "none is cut off",
        here,
        "7 to 13 cut off",
    );
    Ok(())
}

fn definitions(bed: &mut Bed, report: &mut Report) -> Result<()> {
    let (got, mib) = with_server(bed, "definitions", |bed, pid| {
        let got = bed.load(&["definitions", "--pid", pid])?;
        idle()?;
        Ok((got, memory_mib(pid.parse()?)?))
    })?;
    let here = format!("{:.0} KiB", number(&got, "kibEach")?);
    report.add(
        "memory for a definition of 20 KiB and an object of it",
        "≤ 200 KiB",
        here,
        "13 MB (users' reports)",
    );
    let here = format!("{:.0} MiB ({:.0} of it anonymous)", mib.0, mib.1);
    report.add("VmRSS of the API server with 1,000 definitions, after 60 s idle", "≤ 300 MiB", here, "–");
    let here = format!(
        "p50 {:.1} ms, p99 {:.1} ms",
        number(&got, "usableP50Millis")?,
        number(&got, "usableP99Millis")?
    );
    report.add("definition posted → first object created", "≤ 100 ms", here, "–");
    let here = format!(
        "{:.1} ms ({:.1} ms of processor)",
        number(&got, "indexMillis")?,
        number(&got, "indexServerMillis")?
    );
    report.add("`/openapi/v3` with 1,000 definitions", "≤ 5 ms", here, "–");
    Ok(())
}

fn rules(bed: &mut Bed, report: &mut Report) -> Result<()> {
    let got = with_server(bed, "ruled", |bed, pid| bed.load(&["rules", "--pid", pid, "--clients", "16"]))?;
    let used = |name: &str| number(&got[name], "serverMicrosPerOperation");
    let here = format!(
        "{:.2} × ({:.0} µs beside {:.0} µs)",
        used("ruled")? / used("plain")?,
        used("ruled")?,
        used("plain")?
    );
    report.add("create of a custom object with ten rules", "≤ 1.5 × one without", here, "–");
    Ok(())
}

fn policy(bed: &mut Bed, report: &mut Report) -> Result<()> {
    let got = with_server(bed, "judged", |bed, pid| bed.load(&["policy", "--pid", pid, "--clients", "16"]))?;
    let used = |name: &str| number(&got[name], "serverMicrosPerOperation");
    let (with, without) = (used("with")?, used("without")?);
    let here = format!("{:.1} µs each ({with:.0} µs beside {without:.0} µs)", (with - without) / 3.0);
    report.add("a policy with three expressions on every create", "≤ 10 µs each", here, "–");
    Ok(())
}

fn stored(bed: &mut Bed, report: &mut Report) -> Result<()> {
    let server = bed.api_server("stored")?;
    let got = step("150,000 pods", || bed.load(&["store"]))?;
    idle()?;
    let mib = number(&got, "bytes")? / f64::from(1 << 20);
    let say = |process: &Process| -> Result<String> {
        let (all, anonymous) = memory_mib(process.id())?;
        Ok(format!("{all:.0} MiB ({anonymous:.0} of it anonymous), {:.2} × + 100 MiB", (all - 100.0) / mib))
    };
    let written = say(&server)?;
    server.stop()?;
    let server = step("started again", || bed.api_server("stored"))?;
    idle()?;
    let read = say(&server)?;
    let here = format!(
        "{mib:.0} MiB stored ({} B each): {written}; after a restart {read}",
        number(&got, "bytesEach")?
    );
    let measure = "VmRSS with 150,000 pods of 3 KiB, after 60 s idle";
    report.add(measure, "≤ 1.3 × their stored bytes + 100 MiB", here, "–");
    server.stop()
}

fn control_plane(bed: &mut Bed, report: &mut Report) -> Result<()> {
    let server = bed.api_server("empty")?;
    let others = ["kube-controller-manager", "kube-scheduler"].map(|name| bed.component(name));
    let processes: Vec<Process> = std::iter::once(Ok(server)).chain(others).collect::<Result<_>>()?;
    idle()?;
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
