//! `process_*`: what the kernel says of this process.

use std::fmt::Write as _;
use std::fs;

/// Clock ticks of a second in `/proc/self/stat`: the kernel shows a hundred to everybody.
const TICKS: f64 = 100.0;
const PAGE: u64 = 4096;

/// Writes what can be read; the rest is absent.
pub fn write(out: &mut String) {
    let mut gauge = |name: &str, kind: &str, value: Option<f64>| {
        if let Some(value) = value {
            let _ = writeln!(out, "# TYPE {name} {kind}\n{name} {value}");
        }
    };
    let stat = fs::read_to_string("/proc/self/stat").unwrap_or_default();
    // The second field, the program's name, may hold anything up to the last bracket.
    let fields: Vec<&str> =
        stat.rsplit_once(')').map(|(_, rest)| rest.split_whitespace().collect()).unwrap_or_default();
    let field = |number: usize| fields.get(number - 3).and_then(|f| f.parse::<u64>().ok());
    let cpu = field(14).zip(field(15)).map(|(user, system)| (user + system) as f64 / TICKS);
    gauge("process_cpu_seconds_total", "counter", cpu);
    gauge("process_virtual_memory_bytes", "gauge", field(23).map(|v| v as f64));
    gauge("process_resident_memory_bytes", "gauge", field(24).map(|pages| (pages * PAGE) as f64));
    let boot = fs::read_to_string("/proc/stat").ok().and_then(|s| {
        s.lines().find_map(|l| l.strip_prefix("btime ")).and_then(|t| t.trim().parse::<u64>().ok())
    });
    let start = boot.zip(field(22)).map(|(boot, ticks)| boot as f64 + ticks as f64 / TICKS);
    gauge("process_start_time_seconds", "gauge", start);
    gauge("process_open_fds", "gauge", fs::read_dir("/proc/self/fd").ok().map(|d| d.count() as f64));
    let limit = fs::read_to_string("/proc/self/limits").ok().and_then(|s| {
        let line = s.lines().find_map(|l| l.strip_prefix("Max open files"))?;
        line.split_whitespace().next()?.parse::<u64>().ok()
    });
    gauge("process_max_fds", "gauge", limit.map(|v| v as f64));
}
