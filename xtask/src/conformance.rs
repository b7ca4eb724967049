//! `cargo xtask conformance REPORT.xml...`: what upstream's conformance suite said of a cluster of ours.
//!
//! `docs/conformance.tsv` keeps the last outcome of each test, `docs/CONFORMANCE.md` shows it. Only a report
//! that upstream's `e2e.test` wrote changes an outcome, and a test that no report names has not run: it does not
//! count as passed. `docs/own-tests.tsv`, written by hand, names tests of our own that show the same behaviour; each
//! must be there.

use std::collections::BTreeMap;

use anyhow::{Context, Result, bail};

use crate::run::{command, output, root};

const KEPT: &str = "docs/conformance.tsv";
const SHOWN: &str = "docs/CONFORMANCE.md";
const OWN: &str = "docs/own-tests.tsv";
const LIST: &str = "../shared/spec/v1.36/conformance.tsv";

/// How a test ended, with what is needed to repeat it.
#[derive(Clone, Debug, PartialEq)]
struct Ran {
    passed: bool,
    seconds: f64,
    /// The project's commit that was tested.
    commit: String,
    /// The first line of the failure.
    why: String,
}

pub fn run(reports: &[String]) -> Result<()> {
    if reports.is_empty() {
        bail!("name the JUnit reports that e2e.test wrote (--report-dir)");
    }
    let list = std::fs::read_to_string(root().join(LIST)).with_context(|| format!("reading {LIST}"))?;
    let tests = conformance_tests(&list)?;
    let kept = std::fs::read_to_string(root().join(KEPT)).unwrap_or_default();
    let mut outcomes = read_kept(&kept)?;
    let commit = output(&mut command("git", &["rev-parse", "--short=10", "HEAD"]))?.trim().to_owned();
    for report in reports {
        let xml = std::fs::read_to_string(report).with_context(|| format!("reading {report}"))?;
        let found = read_report(&xml, &commit).with_context(|| format!("reading {report}"))?;
        outcomes.extend(found.into_iter().filter(|(name, _)| tests.iter().any(|(_, test)| test == name)));
    }
    let own = std::fs::read_to_string(root().join(OWN)).with_context(|| format!("reading {OWN}"))?;
    let own = own_tests(&own, &tests, &|path| std::fs::read_to_string(root().join(path)).ok())?;
    std::fs::write(root().join(KEPT), write_kept(&outcomes)).with_context(|| format!("writing {KEPT}"))?;
    std::fs::write(root().join(SHOWN), render(&tests, &outcomes, &own))
        .with_context(|| format!("writing {SHOWN}"))
}

/// (SIG, name) of every conformance test: lines of SIG, source file and name.
fn conformance_tests(list: &str) -> Result<Vec<(String, String)>> {
    list.lines()
        .map(|line| match line.split('\t').collect::<Vec<_>>()[..] {
            [sig, _, name] => Ok((sig.to_owned(), name.to_owned())),
            _ => bail!("not a line of three columns: {line}"),
        })
        .collect()
}

/// Our tests of the same behaviour, by the name of the conformance test: lines of that name and of
/// `path/of/file.rs::function`, several with commas between. `read` opens a file of the tree.
fn own_tests(
    text: &str,
    tests: &[(String, String)],
    read: &dyn Fn(&str) -> Option<String>,
) -> Result<BTreeMap<String, Vec<String>>> {
    let mut own = BTreeMap::new();
    for line in text.lines().skip(1) {
        let Some((name, list)) = line.split_once('\t') else {
            bail!("{OWN}: not a line of two columns: {line}")
        };
        if !tests.iter().any(|(_, test)| test == name) {
            bail!("{OWN}: no such conformance test: {name}");
        }
        let mut functions = Vec::new();
        for test in list.split(", ") {
            let found = test.split_once("::").and_then(|(path, function)| {
                read(path)?.contains(&format!("fn {function}(")).then(|| function.to_owned())
            });
            functions.push(found.with_context(|| format!("{OWN}: no such test in the tree: {test}"))?);
        }
        own.insert(name.to_owned(), functions);
    }
    Ok(own)
}

/// The tests that ran, by name; those that were skipped did not run.
fn read_report(xml: &str, commit: &str) -> Result<BTreeMap<String, Ran>> {
    let document = roxmltree::Document::parse(xml)?;
    let mut ran = BTreeMap::new();
    for case in document.descendants().filter(|node| node.has_tag_name("testcase")) {
        let Some(name) = case.attribute("name").and_then(|name| name.strip_prefix("[It] ")) else { continue };
        let child = |tag: &str| case.children().find(|node| node.has_tag_name(tag));
        if child("skipped").is_some() {
            continue;
        }
        let fault = child("failure").or_else(|| child("error"));
        let why = fault.map(|node| {
            let text = node.attribute("message").or(node.text()).unwrap_or_default();
            text.lines().find(|line| !line.trim().is_empty()).unwrap_or_default().trim().to_owned()
        });
        let seconds = case.attribute("time").unwrap_or("0").parse().context("a test's time")?;
        let outcome =
            Ran { passed: fault.is_none(), seconds, commit: commit.to_owned(), why: why.unwrap_or_default() };
        // Ginkgo adds the labels after the name.
        let name = match name.find(" [Conformance]") {
            Some(at) => &name[..at + " [Conformance]".len()],
            None => name,
        };
        ran.insert(name.to_owned(), outcome);
    }
    Ok(ran)
}

fn read_kept(text: &str) -> Result<BTreeMap<String, Ran>> {
    text.lines()
        .skip(1)
        .map(|line| match line.split('\t').collect::<Vec<_>>()[..] {
            [name, result, seconds, commit, why] => {
                let seconds = seconds.parse().with_context(|| format!("{KEPT}: {line}"))?;
                let passed = result == "passed";
                Ok((name.to_owned(), Ran { passed, seconds, commit: commit.to_owned(), why: why.to_owned() }))
            }
            _ => bail!("{KEPT}: not a line of five columns: {line}"),
        })
        .collect()
}

fn write_kept(outcomes: &BTreeMap<String, Ran>) -> String {
    let mut text = "name\tresult\tseconds\tcommit\twhy\n".to_owned();
    for (name, ran) in outcomes {
        let result = if ran.passed { "passed" } else { "failed" };
        let why = ran.why.replace('\t', " ");
        text.push_str(&format!("{name}\t{result}\t{:.1}\t{}\t{why}\n", ran.seconds, ran.commit));
    }
    text
}

fn render(
    tests: &[(String, String)],
    outcomes: &BTreeMap<String, Ran>,
    own: &BTreeMap<String, Vec<String>>,
) -> String {
    let mut sigs: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for (sig, name) in tests {
        sigs.entry(sig).or_default().push(name);
    }
    let count = |names: &[&str], passed: bool| {
        names.iter().filter(|name| outcomes.get(**name).is_some_and(|ran| ran.passed == passed)).count()
    };
    let mut text =
        "# Conformance\n\nWhat upstream's unmodified `e2e.test` v1.36 said of Corten. Made by `cargo \
                    xtask conformance REPORT.xml...` from its JUnit reports; a test that did not run has not \
                    passed. The column \"own tests\" names tests of this repository that show the same \
                    behaviour (`docs/own-tests.tsv`).\n\n| SIG | tests | passed | failed | not run |\n| --- | --- | --- | --- | --- |\n"
            .to_owned();
    let mut all = (0, 0, 0);
    for (sig, names) in &sigs {
        let (passed, failed) = (count(names, true), count(names, false));
        all = (all.0 + names.len(), all.1 + passed, all.2 + failed);
        let rest = names.len() - passed - failed;
        text.push_str(&format!("| {sig} | {} | {passed} | {failed} | {rest} |\n", names.len()));
    }
    let rest = all.0 - all.1 - all.2;
    text.push_str(&format!("| **all** | **{}** | **{}** | **{}** | **{rest}** |\n", all.0, all.1, all.2));
    for (sig, names) in &sigs {
        let mut rows: Vec<_> = names.iter().filter_map(|name| Some((*name, outcomes.get(*name)?))).collect();
        if rows.is_empty() {
            continue;
        }
        rows.sort_by_key(|(name, ran)| (ran.passed, *name));
        text.push_str(&format!(
            "\n## {sig}\n\n| result | test | own tests | seconds | commit |\n| --- | --- | --- | --- | --- |\n"
        ));
        for (name, ran) in rows {
            let result = if ran.passed { "passed" } else { "**failed**" };
            let ours = own.get(name).map(|tests| tests.join(", ")).unwrap_or_default();
            let shown = name.replace('|', "\\|");
            text.push_str(&format!(
                "| {result} | {shown} | {ours} | {:.1} | {} |\n",
                ran.seconds, ran.commit
            ));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    const REPORT: &str = r#"<testsuites><testsuite>
        <testcase name="[It] [sig-a] one [Conformance] [sig-a, Conformance]" time="1.25"></testcase>
        <testcase name="[It] [sig-a] two [Conformance] [sig-a, Conformance]" time="2">
            <failure message="&#xA;timed out | twice&#xA;more"></failure></testcase>
        <testcase name="[It] [sig-b] three [Conformance] [sig-b]" time="0"><skipped/></testcase>
        <testcase name="[SynchronizedBeforeSuite]" time="0"></testcase>
    </testsuite></testsuites>"#;

    #[test]
    fn a_report_is_counted_as_it_says() {
        let ran = read_report(REPORT, "abc").unwrap();
        assert_eq!(ran.len(), 2);
        assert!(ran["[sig-a] one [Conformance]"].passed);
        assert_eq!(ran["[sig-a] two [Conformance]"].why, "timed out | twice");
        assert_eq!(read_kept(&write_kept(&ran)).unwrap().len(), 2);
        let list = "sig-a\tf.go\t[sig-a] one [Conformance]\nsig-a\tf.go\t[sig-a] two [Conformance]\n\
                    sig-b\tf.go\t[sig-b] three [Conformance]";
        let tests = conformance_tests(list).unwrap();
        let read = |path: &str| (path == "a/b.rs").then(|| "async fn good() {".to_owned());
        let own = own_tests("h\n[sig-a] one [Conformance]\ta/b.rs::good", &tests, &read).unwrap();
        let shown = render(&tests, &ran, &own);
        assert!(shown.contains("| **all** | **3** | **1** | **1** | **1** |"), "{shown}");
        assert!(shown.contains("| passed | [sig-a] one [Conformance] | good |"), "{shown}");
        for bad in ["[sig-a] one [Conformance]\ta/b.rs::bad", "[sig-a] no\ta/b.rs::good", "[sig-a] one"] {
            assert!(own_tests(&format!("h\n{bad}"), &tests, &read).is_err(), "{bad}");
        }
    }
}
