//! `cargo xtask test` and `cargo xtask check`.

use anyhow::{Result, bail};

use crate::run::{command, output, run as execute, step};
use crate::{house, licences, packages};

/// Format, clippy, licences, house rules: what needs no running.
pub fn check() -> Result<()> {
    step("format", || execute(&mut command("cargo", &["fmt", "--all", "--check"])))?;
    step("house rules", house::check)?;
    step("licences", licences::check)?;
    step("clippy", || {
        let args = ["clippy", "--workspace", "--all-targets", "--profile", "ci", "--", "-D", "warnings"];
        execute(&mut command("cargo", &args))
    })
}

/// Everything that runs, end-to-end tests included. `filters` go to nextest.
pub fn run(filters: &[String]) -> Result<()> {
    step("packages for the tests", || {
        packages::install(&[packages::CLUSTER, packages::SAMPLE, packages::TESTS, packages::CURL])
    })?;
    step("nextest", || {
        if output(&mut command("cargo", &["nextest", "--version"])).is_err() {
            execute(&mut command("cargo", &["install", "--locked", "cargo-nextest"]))?;
        }
        Ok(())
    })?;
    if output(&mut command("kubectl", &["version", "--client"])).is_err() {
        if std::env::var_os("CI").is_some() {
            bail!("kubectl is not on PATH, and the end-to-end tests drive it");
        }
        println!("    kubectl is not on PATH: the end-to-end tests will be skipped");
    }
    step("tests", || {
        let mut nextest =
            command("cargo", &["nextest", "run", "--workspace", "--cargo-profile", "ci", "--no-fail-fast"]);
        execute(nextest.args(filters))
    })
}
