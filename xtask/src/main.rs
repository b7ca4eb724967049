//! Developer chores: `cargo xtask up`, `test`, `bench`, `check`, `conformance`, `derive`, `licences`.

mod bench;
mod conformance;
mod derive;
mod fuzz;
mod house;
mod licences;
mod packages;
mod run;
mod swap;
mod test;
mod up;

use anyhow::{Result, bail};

const HELP: &str = "\
cargo xtask up [--no-sample] [corten up's flags]   build, start a cluster, deploy the sample
cargo xtask test [nextest's filters]               install what the tests need, run all of them
cargo xtask bench [--no-build] [MEASURE...]        what starts, requests, watches and pods cost
cargo xtask check                                  format, clippy, licences, house rules
cargo xtask conformance REPORT.xml...            docs/CONFORMANCE.md from upstream's e2e.test
cargo xtask swap --upstream D --etcd FILE ...      upstream's components against this API server and their own
cargo xtask fuzz [TARGET...] [--seconds N]          every parser of what clients send
cargo xtask licences                               write THIRD-PARTY.md
cargo xtask derive                                 make crates/api/tables from the reference data";

fn main() -> Result<()> {
    let mut args = std::env::args().skip(1);
    let verb = args.next().unwrap_or_default();
    let rest: Vec<String> = args.collect();
    std::env::set_current_dir(run::root())?;
    match verb.as_str() {
        "up" => up::run(rest),
        "test" => test::run(&rest),
        "bench" => bench::run(&rest),
        "check" => test::check(),
        "conformance" => conformance::run(&rest),
        "swap" => swap::run(&rest),
        "licences" => licences::write(),
        "derive" => derive::run(),
        "fuzz" => fuzz::run(&rest),
        "" | "help" | "-h" | "--help" => {
            println!("{HELP}");
            Ok(())
        }
        other => bail!("no chore is called {other}\n\n{HELP}"),
    }
}
