//! The rules of the house, read off the manifests and the tree.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use crate::run::root;

/// What each crate may name, of our own: the code map of ARCHITECTURE.md. `corten`, `testkit` and `xtask` are
/// free.
const MAY_DEPEND: &[(&str, &[&str])] = &[
    ("apimachinery", &[]),
    ("cel", &["apimachinery"]),
    ("apiextensions", &["apimachinery", "cel"]),
    ("linux", &["apimachinery"]),
    ("oci", &[]),
    ("api", &["apimachinery"]),
    ("kinds", &["apimachinery", "api", "apiextensions", "cel"]),
    ("etcd", &["linux"]),
    ("client", &["apimachinery", "api"]),
    ("cri", &["oci"]),
    ("apiserver", &["apimachinery", "api", "apiextensions", "cel", "kinds", "etcd", "client"]),
    ("controllers", &["apimachinery", "api", "kinds", "client"]),
    ("scheduler", &["apimachinery", "api", "cel", "kinds", "client"]),
    ("kubelet", &["apimachinery", "api", "kinds", "client", "cri", "linux"]),
    ("network", &["apimachinery", "api", "kinds", "client", "linux"]),
];

const LONGEST_FILE: usize = 1000;

/// Every breach, in words; empty when the house is in order.
fn breaches() -> Result<Vec<String>> {
    let mut found = Vec::new();
    let rules: BTreeMap<&str, &[&str]> = MAY_DEPEND.iter().copied().collect();
    let own: Vec<String> = crates()?;
    for name in &own {
        let manifest = root().join("crates").join(name).join("Cargo.toml");
        let text =
            std::fs::read_to_string(&manifest).with_context(|| format!("reading {}", manifest.display()))?;
        if let Some(allowed) = rules.get(name.as_str()) {
            for dependency in dependencies(&text) {
                if own.contains(&dependency) && !allowed.contains(&dependency.as_str()) {
                    found.push(format!("crates/{name} must not depend on {dependency}"));
                }
            }
        } else if !["corten", "testkit"].contains(&name.as_str()) {
            found.push(format!("crates/{name} is not in the code map (xtask/src/house.rs, ARCHITECTURE.md)"));
        }
        if name != "linux" && !text.contains("[lints]\nworkspace = true") {
            found.push(format!("crates/{name}/Cargo.toml must take the workspace's lints"));
        }
        for forbidden in ["utils.rs", "common.rs", "helpers.rs", "manager.rs"] {
            for file in files(&root().join("crates").join(name).join("src"))? {
                if file.file_name().is_some_and(|file| file == forbidden) {
                    found.push(format!("{} has a name that says nothing", short(&file)));
                }
            }
        }
    }
    for file in files(&root().join("crates"))?.into_iter().chain(files(&root().join("xtask"))?) {
        let generated = file
            .components()
            .any(|part| ["tests", "benches", "generated"].iter().any(|name| part.as_os_str() == *name))
            || file.file_name().is_some_and(|name| name == "tests.rs");
        let text = std::fs::read_to_string(&file).with_context(|| format!("reading {}", file.display()))?;
        if !generated && text.lines().count() > LONGEST_FILE {
            found.push(format!("{} has more than {LONGEST_FILE} lines", short(&file)));
        }
        if !file.starts_with(root().join("crates/linux")) && file_name(&file) != "house.rs" {
            for (number, line) in text.lines().enumerate() {
                if line.contains("unsafe {") || line.contains("unsafe fn") || line.contains("unsafe impl") {
                    found.push(format!("{}:{} is unsafe outside linux", short(&file), number + 1));
                }
                if line.contains("#[ignore") {
                    found.push(format!("{}:{} ignores a test", short(&file), number + 1));
                }
            }
        }
        if file_name(&file) == "lib.rs" && !text.starts_with("//!") {
            found.push(format!("{} does not open with what the crate is for", short(&file)));
        }
    }
    Ok(found)
}

/// The names under `[dependencies]`; what only tests or builds use is free.
fn dependencies(manifest: &str) -> Vec<String> {
    let mut section = "";
    let mut names = Vec::new();
    for line in manifest.lines().map(str::trim) {
        if line.starts_with('[') {
            section = line;
        } else if section == "[dependencies]"
            && let Some(name) = line.split(['.', ' ', '=']).next().filter(|name| !name.is_empty())
        {
            names.push(name.to_owned());
        }
    }
    names
}

fn crates() -> Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in std::fs::read_dir(root().join("crates")).context("listing crates/")? {
        let entry = entry?;
        if entry.path().join("Cargo.toml").exists() {
            names.push(entry.file_name().to_string_lossy().into_owned());
        }
    }
    names.sort();
    Ok(names)
}

/// All `.rs` files below a directory.
fn files(directory: &Path) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    if !directory.is_dir() {
        return Ok(found);
    }
    for entry in std::fs::read_dir(directory).with_context(|| format!("listing {}", directory.display()))? {
        let path = entry?.path();
        if path.is_dir() {
            found.extend(files(&path)?);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
    found.sort();
    Ok(found)
}

fn file_name(path: &Path) -> &str {
    path.file_name().and_then(|name| name.to_str()).unwrap_or_default()
}

fn short(path: &Path) -> String {
    path.strip_prefix(root()).unwrap_or(path).display().to_string()
}

/// # Errors
/// Every breach, one a line.
pub fn check() -> Result<()> {
    let breaches = breaches()?;
    if breaches.is_empty() {
        return Ok(());
    }
    bail!("the house is not in order:\n{}", breaches.join("\n"))
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_house_is_in_order() {
        super::check().unwrap();
    }

    #[test]
    fn manifests_are_read() {
        let text = "[package]\nname = \"a\"\n[dependencies]\napi.workspace = true\nhttp = \"1\"\n[dev-dependencies]\netcd.workspace = true\n";
        assert_eq!(super::dependencies(text), ["api", "http"]);
    }
}
