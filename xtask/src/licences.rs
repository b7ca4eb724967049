//! Licences of what the binary is linked with: which are allowed, and the list that ships with it.

use std::collections::BTreeMap;

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::run::{command, output, root};

/// Licences that go with Apache-2.0 in one binary.
const ALLOWED: &[&str] = &[
    "Apache-2.0",
    "MIT",
    "MIT-0",
    "BSD-2-Clause",
    "BSD-3-Clause",
    "0BSD",
    "ISC",
    "Zlib",
    "Unlicense",
    "CC0-1.0",
    "Unicode-3.0",
    "CDLA-Permissive-2.0",
    "BSL-1.0",
    "Apache-2.0 WITH LLVM-exception",
];

const FILE: &str = "THIRD-PARTY.md";

/// Whether an SPDX expression can be met with allowed licences only.
fn allowed(expression: &str) -> bool {
    let expression = expression.replace('/', " OR ");
    // AND binds tighter than OR; parentheses occur only around OR in practice.
    expression
        .replace(['(', ')'], "")
        .split(" AND ")
        .all(|part| part.split(" OR ").any(|licence| ALLOWED.contains(&licence.trim())))
}

/// name and version → (licence, repository), of everything that the binary is built from.
fn third_party() -> Result<BTreeMap<String, (String, String)>> {
    let metadata = output(&mut command(
        "cargo",
        &["metadata", "--format-version", "1", "--locked", "--filter-platform", "x86_64-unknown-linux-gnu"],
    ))?;
    let metadata: Value = serde_json::from_str(&metadata).context("reading cargo's metadata")?;
    let mut all = BTreeMap::new();
    for package in metadata["packages"].as_array().into_iter().flatten() {
        if package["source"].is_null() {
            continue;
        }
        let text = |field: &str| package[field].as_str().unwrap_or_default().to_owned();
        all.insert(format!("{} {}", text("name"), text("version")), (text("license"), text("repository")));
    }
    Ok(all)
}

fn render(all: &BTreeMap<String, (String, String)>) -> String {
    let mut text = "# Third-party licences\n\nWhat Corten is built from besides its own code. Made by \
                    `cargo xtask licences`.\n\n| package | licence | source |\n| --- | --- | --- |\n"
        .to_owned();
    for (package, (licence, repository)) in all {
        text.push_str(&format!("| {package} | {licence} | {repository} |\n"));
    }
    text
}

pub fn write() -> Result<()> {
    std::fs::write(root().join(FILE), render(&third_party()?)).with_context(|| format!("writing {FILE}"))
}

/// # Errors
/// A licence that is not allowed, or a list that is not up to date.
pub fn check() -> Result<()> {
    let all = third_party()?;
    let refused: Vec<String> = all
        .iter()
        .filter(|(_, (licence, _))| !allowed(licence))
        .map(|(package, (licence, _))| format!("{package}: {licence:?}"))
        .collect();
    if !refused.is_empty() {
        bail!("licences that are not on the list in xtask/src/licences.rs:\n{}", refused.join("\n"));
    }
    let there = std::fs::read_to_string(root().join(FILE)).unwrap_or_default();
    if there != render(&all) {
        bail!("{FILE} is not up to date: run `cargo xtask licences`");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::allowed;

    #[test]
    fn expressions() {
        for (expression, expect) in [
            ("MIT OR Apache-2.0", true),
            ("MIT/Apache-2.0", true),
            ("Apache-2.0 AND ISC", true),
            ("(MIT OR Apache-2.0) AND Unicode-3.0", true),
            ("GPL-3.0", false),
            ("MIT AND GPL-3.0", false),
            ("GPL-2.0 OR MIT", true),
            ("", false),
        ] {
            assert_eq!(allowed(expression), expect, "{expression}");
        }
    }
}
