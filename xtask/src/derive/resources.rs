//! The table of served resources, from discovery and from where upstream stores what.

use std::fmt::Write as _;

use anyhow::{Context, Result};
use base64::Engine as _;
use serde_json::Value;
use sha2::{Digest, Sha256};

use super::{Source, strings};

/// Versions that upstream v1.36 stores although a newer one is served
/// (`pkg/kubeapiserver/default_storage_factory_builder.go`).
const STORED_AS: [(&str, &str, &str); 9] = [
    ("admissionregistration.k8s.io", "mutatingadmissionpolicies", "v1beta1"),
    ("admissionregistration.k8s.io", "mutatingadmissionpolicybindings", "v1beta1"),
    ("certificates.k8s.io", "clustertrustbundles", "v1beta1"),
    ("certificates.k8s.io", "podcertificaterequests", "v1beta1"),
    ("coordination.k8s.io", "leasecandidates", "v1beta1"),
    ("resource.k8s.io", "devicetaintrules", "v1alpha3"),
    ("resource.k8s.io", "resourcepoolstatusrequests", "v1alpha3"),
    ("scheduling.k8s.io", "podgroups", "v1alpha2"),
    ("scheduling.k8s.io", "workloads", "v1alpha2"),
];

/// Storage prefixes that are not the resource's name (same file, `SpecialDefaultResourcePrefixes`; the two
/// groups that are served by servers of their own put their group first).
fn prefix(group: &str, plural: &str) -> String {
    match (group, plural) {
        ("", "replicationcontrollers") => "controllers".into(),
        ("", "endpoints") => "services/endpoints".into(),
        ("", "nodes") => "minions".into(),
        ("", "services") => "services/specs".into(),
        ("networking.k8s.io", "ingresses") => "ingress".into(),
        ("apiextensions.k8s.io" | "apiregistration.k8s.io", _) => format!("{group}/{plural}"),
        _ => plural.into(),
    }
}

/// The package of a group's types, without the version.
fn package_of(group: &str) -> String {
    match group {
        "" => "io.k8s.api.core".into(),
        "rbac.authorization.k8s.io" => "io.k8s.api.rbac".into(),
        "flowcontrol.apiserver.k8s.io" => "io.k8s.api.flowcontrol".into(),
        "internal.apiserver.k8s.io" => "io.k8s.api.apiserverinternal".into(),
        "apiextensions.k8s.io" => "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions".into(),
        "apiregistration.k8s.io" => "io.k8s.kube-aggregator.pkg.apis.apiregistration".into(),
        _ => format!("io.k8s.api.{}", group.trim_end_matches(".k8s.io")),
    }
}

/// The group of a package, the other way round; `package` ends in the version.
pub(super) fn group_of(package: &str) -> String {
    let base = package.rsplit_once('.').map_or("", |(base, _)| base);
    let short = base.rsplit('.').next().unwrap_or_default();
    match short {
        "core" | "meta" => String::new(),
        "apps" | "autoscaling" | "batch" | "policy" => short.into(),
        "rbac" => "rbac.authorization.k8s.io".into(),
        "flowcontrol" => "flowcontrol.apiserver.k8s.io".into(),
        "apiserverinternal" => "internal.apiserver.k8s.io".into(),
        _ => format!("{short}.k8s.io"),
    }
}

/// One resource of one version, in the shape of aggregated discovery.
struct Row<'a> {
    group: &'a str,
    version: &'a str,
    resource: Value,
}

pub(super) fn table(discovery: &Value, source: &Source) -> Result<String> {
    let mut rows: Vec<Row> = core(&discovery["api_v1"])?;
    for group in discovery["aggregated_apis"]["items"].as_array().context("groups")? {
        let name = group["metadata"]["name"].as_str().context("a group has a name")?;
        for version in group["versions"].as_array().context("versions")? {
            let v = version["version"].as_str().context("a version has a name")?;
            for resource in version["resources"].as_array().context("resources")? {
                rows.push(Row { group: name, version: v, resource: resource.clone() });
            }
        }
    }
    let mut out = String::from(
        "# Made by `cargo xtask derive`. The layout is described in crates/api/src/tables/resources.rs.\n",
    );
    let mut last = None;
    for row in &rows {
        if last != Some((row.group, row.version)) {
            writeln!(out, "version {}", join(row.group, row.version))?;
            last = Some((row.group, row.version));
        }
        write_row(row, &rows, source, &mut out)?;
    }
    Ok(out)
}

/// The core group comes as a legacy list: subresources are entries of their own (`pods/log`).
fn core(list: &Value) -> Result<Vec<Row<'static>>> {
    let mut rows: Vec<Row> = Vec::new();
    for entry in list["resources"].as_array().context("api_v1 resources")? {
        let name = entry["name"].as_str().context("a resource has a name")?;
        let kind = serde_json::json!({
            "group": entry["group"], "version": entry["version"], "kind": entry["kind"],
        });
        match name.split_once('/') {
            None => {
                let mut resource = entry.clone();
                resource["resource"] = name.into();
                resource["singularResource"] = entry["singularName"].clone();
                resource["responseKind"] = kind;
                resource["scope"] = if entry["namespaced"] == true { "Namespaced" } else { "Cluster" }.into();
                resource["subresources"] = Value::Array(Vec::new());
                rows.push(Row { group: "", version: "v1", resource });
            }
            Some((parent, sub)) => {
                // `serviceaccounts/token` follows its parent in the list, as all others do
                let parent = rows.iter_mut().find(|r| r.resource["resource"] == parent);
                let parent = parent.with_context(|| format!("{name} has no parent"))?;
                let sub = serde_json::json!({
                    "subresource": sub, "responseKind": kind, "verbs": entry["verbs"],
                });
                parent.resource["subresources"].as_array_mut().context("subresources")?.push(sub);
            }
        }
    }
    Ok(rows)
}

fn write_row(row: &Row, rows: &[Row], source: &Source, out: &mut String) -> Result<()> {
    let text = |v: &Value| v.as_str().unwrap_or_default().to_owned();
    let r = &row.resource;
    let (plural, kind) = (text(&r["resource"]), text(&r["responseKind"]["kind"]));
    let scope = if r["scope"] == "Namespaced" { "namespaced" } else { "cluster" };
    let words = |v: &Value| strings(v).collect::<Vec<_>>().join(",");
    write!(out, " resource {plural} {kind} {scope}")?;
    for (key, value) in [
        ("singular", text(&r["singularResource"])),
        ("short", words(&r["shortNames"])),
        ("in", words(&r["categories"])),
        ("verbs", words(&r["verbs"])),
    ] {
        if !value.is_empty() {
            write!(out, " {key}={value}")?;
        }
    }
    let (own_group, own_version) = kind_version(&r["responseKind"], row);
    let object = format!("{}.{own_version}.{kind}", package_of(&own_group));
    anyhow::ensure!(source.messages.contains_key(&object), "{plural}: no type {object}");
    write!(out, " object={object}")?;
    let list = format!("{object}List");
    if strings(&r["verbs"]).any(|v| v == "list") {
        anyhow::ensure!(source.messages.contains_key(&list), "{plural}: no type {list}");
        write!(out, " list={list}")?;
    }
    if strings(&r["verbs"]).any(|v| v == "list") && plural != "componentstatuses" {
        let (group, version) = stored_as(row, &plural, rows);
        let hash = Sha256::digest(format!("{group}/{version}/{kind}"));
        let hash = base64::engine::general_purpose::STANDARD.encode(&hash[..8]);
        if let Some(given) = r["storageVersionHash"].as_str() {
            anyhow::ensure!(given == hash, "{plural}: storageVersionHash {given} expected, {hash} made");
        }
        let stored = format!("{}.{version}.{kind}", package_of(&group));
        write!(out, " at={} as={stored} hash={hash}", prefix(row.group, &plural))?;
        let shared = rows.iter().any(|other| {
            (other.group, other.version) != (row.group, row.version)
                && other.resource["resource"] == r["resource"]
                && (other.group == row.group || (plural == "events"))
        });
        if shared {
            out.push_str(" shared");
        }
    }
    out.push('\n');
    for sub in r["subresources"].as_array().into_iter().flatten() {
        let (group, version) = kind_version(&sub["responseKind"], row);
        let kind = text(&sub["responseKind"]["kind"]);
        let object = format!("{}.{version}.{kind}", package_of(&group));
        anyhow::ensure!(source.messages.contains_key(&object), "{plural}: no type {object}");
        let name = text(&sub["subresource"]);
        writeln!(
            out,
            "  sub {name} {kind} {} verbs={} object={object}",
            join(&group, &version),
            words(&sub["verbs"])
        )?;
    }
    Ok(())
}

/// Discovery leaves group and version empty where they are the resource's own.
fn kind_version(kind: &Value, row: &Row) -> (String, String) {
    let part = |key: &str| kind[key].as_str().unwrap_or_default();
    match (part("group"), part("version")) {
        ("", "") => (row.group.to_owned(), row.version.to_owned()),
        (group, version) => (group.to_owned(), version.to_owned()),
    }
}

/// The group and version that a resource is stored as: the most preferred one that has it, except
/// [`STORED_AS`]. Events of both groups are stored as core ones.
fn stored_as(row: &Row, plural: &str, rows: &[Row]) -> (String, String) {
    if plural == "events" {
        return (String::new(), "v1".into());
    }
    let fixed = STORED_AS.iter().find(|(group, resource, _)| *group == row.group && *resource == plural);
    let preferred = rows.iter().find(|r| r.group == row.group && r.resource["resource"] == plural);
    let version =
        fixed.map_or_else(|| preferred.map_or(row.version, |r| r.version), |(_, _, version)| version);
    (row.group.to_owned(), version.to_owned())
}

fn join(group: &str, version: &str) -> String {
    if group.is_empty() { version.to_owned() } else { format!("{group}/{version}") }
}
