//! `cargo xtask fuzz`: builds the targets with coverage counters and lets libFuzzer run them.
//!
//! The stable compiler has the counters (it is what `cargo fuzz --sanitizer none` turns on); address sanitizers,
//! which it lacks, would find nothing in code without `unsafe`.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use crate::run::{command, root, run as execute, step};

const TRIPLE: &str = "x86_64-unknown-linux-gnu";
const COUNTERS: &str = "-Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
                        -Cllvm-args=-sanitizer-coverage-inline-8bit-counters \
                        -Cllvm-args=-sanitizer-coverage-pc-table -Cllvm-args=-sanitizer-coverage-trace-compares";
/// The fuzzer makes no longer inputs, which keeps it quick: what is wrong with large ones is tried by the replay.
const LONGEST: &str = "-max_len=8192";
/// An input may take so many seconds on a busy machine. In CI, where nothing else runs, less is allowed.
const TIMEOUT: &str = "-timeout=25";

/// `[TARGET...] [--seconds N] [--minimise]`: all targets, a minute each, unless told otherwise. What is new goes
/// to `target/fuzz/found/TARGET`; `--minimise` puts what adds coverage into the committed corpus.
pub fn run(args: &[String]) -> Result<()> {
    let mut names = Vec::new();
    let (mut seconds, mut minimise) = (60, false);
    let mut args = args.iter();
    while let Some(arg) = args.next() {
        match arg.as_str() {
            "--seconds" => {
                let number = args.next().context("--seconds needs a number")?;
                seconds = number.parse().with_context(|| format!("--seconds {number}"))?;
            }
            "--minimise" => minimise = true,
            name if !name.starts_with('-') => names.push(name.to_owned()),
            other => bail!("cargo xtask fuzz has no option {other}"),
        }
    }
    let program = step("fuzzer", build)?;
    if names.is_empty() {
        names = targets()?;
    }
    for name in &names {
        let corpus = root().join("fuzz/corpus").join(name);
        if !corpus.is_dir() {
            bail!("no target is called {name}: there are {}", targets()?.join(", "));
        }
        match minimise {
            true => step(&format!("{name}: minimise"), || merge(&program, name, &corpus))?,
            false => step(&format!("{name}: {seconds} s"), || fuzz(&program, name, &corpus, seconds))?,
        }
    }
    Ok(())
}

/// The targets that have a corpus.
fn targets() -> Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in std::fs::read_dir(root().join("fuzz/corpus")).context("listing fuzz/corpus")? {
        names.push(entry?.file_name().to_string_lossy().into_owned());
    }
    names.sort();
    Ok(names)
}

/// Its own directory, since its flags would otherwise rebuild everybody else's crates.
fn directory() -> PathBuf {
    root().join("target/fuzz")
}

fn build() -> Result<PathBuf> {
    let manifest = root().join("fuzz/libfuzzer/Cargo.toml");
    let mut cargo = command("cargo", &["build", "--release", "--target", TRIPLE, "--manifest-path"]);
    // with --target the flags are not for build scripts and macros, which have nobody to count for
    cargo.arg(manifest).env("CARGO_TARGET_DIR", directory()).env("RUSTFLAGS", COUNTERS);
    execute(&mut cargo)?;
    Ok(directory().join(TRIPLE).join("release/libfuzzer"))
}

fn fuzz(program: &Path, name: &str, corpus: &Path, seconds: u64) -> Result<()> {
    let found = found(name)?;
    let mut fuzzer = command(
        &program.to_string_lossy(),
        &[LONGEST, TIMEOUT, "-rss_limit_mb=2048", "-print_final_stats=1"],
    );
    fuzzer.arg(format!("-max_total_time={seconds}"));
    fuzzer.arg(format!("-artifact_prefix={}/", root().join("target/fuzz").display()));
    // the first directory takes what is new
    execute(fuzzer.arg(&found).arg(corpus).env("FUZZ_TARGET", name))
}

fn merge(program: &Path, name: &str, corpus: &Path) -> Result<()> {
    let found = found(name)?;
    let mut fuzzer = command(&program.to_string_lossy(), &["-merge=1", TIMEOUT, "-rss_limit_mb=2048"]);
    execute(fuzzer.arg(corpus).arg(&found).env("FUZZ_TARGET", name))
}

fn found(name: &str) -> Result<PathBuf> {
    let found = directory().join("found").join(name);
    std::fs::create_dir_all(&found).with_context(|| format!("making {}", found.display()))?;
    Ok(found)
}
