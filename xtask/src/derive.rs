//! `cargo xtask derive`: the committed tables of crate `api`, from the reference data (`../shared/spec/v1.36`,
//! or where `CORTEN_SPEC` points). The layout of the tables is described where they are read, in
//! `crates/api/src/tables/`.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde_json::Value;

mod resources;

const META: &str = "io.k8s.apimachinery.pkg.apis.meta.v1";
const EXTENSIONS: &str = "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1";

/// Packages beyond those of the OpenAPI schemas: webhooks speak the first, aggregated discovery the second.
const MORE_PACKAGES: [&str; 2] = ["io.k8s.api.admission.v1", "io.k8s.api.apidiscovery.v2"];

/// The contents of the two files.
struct Tables {
    types: String,
    resources: String,
}

/// Writes `crates/api/tables/{types,resources}.txt`; the working directory is the repository's root.
pub fn run() -> Result<()> {
    let tables = tables(&spec_dir())?;
    let dir = Path::new("crates/api/tables");
    std::fs::create_dir_all(dir)?;
    for (name, text) in [("types.txt", &tables.types), ("resources.txt", &tables.resources)] {
        std::fs::write(dir.join(name), text).with_context(|| format!("writing {name}"))?;
        println!("{}: {} lines", dir.join(name).display(), text.lines().count());
    }
    Ok(())
}

fn spec_dir() -> PathBuf {
    std::env::var_os("CORTEN_SPEC").map_or_else(|| PathBuf::from("../shared/spec/v1.36"), PathBuf::from)
}

fn tables(spec: &Path) -> Result<Tables> {
    let read = |name: &str| -> Result<Value> {
        let path = spec.join(name);
        let bytes = std::fs::read(&path).with_context(|| format!("reading {}", path.display()))?;
        serde_json::from_slice(&bytes).with_context(|| format!("parsing {}", path.display()))
    };
    let source = Source::new(read("schemas.json")?, read("gofields.json")?, &read("protobuf.json")?)?;
    Ok(Tables { types: source.types()?, resources: resources::table(&read("discovery.json")?, &source)? })
}

/// The three views of the types, keyed by OpenAPI name.
struct Source {
    schemas: Value,
    structs: BTreeMap<String, Value>,
    messages: BTreeMap<String, Value>,
    /// Go's named string types and their constants.
    strings: BTreeMap<String, Vec<String>>,
    named: BTreeSet<String>,
    /// Types that OpenAPI does not have, since others take their fields in: the first of those by name.
    inlined: BTreeMap<String, String>,
}

impl Source {
    fn new(schemas: Value, go: Value, protobuf: &Value) -> Result<Source> {
        let object = |v: &Value| v.as_object().cloned().context("an object was expected");
        let structs: BTreeMap<String, Value> =
            object(&go["structs"])?.into_iter().map(|(k, v)| (from_go(&k), v)).collect();
        let messages = object(protobuf)?.into_iter().map(|(k, v)| (from_protobuf(&k), v)).collect();
        let named = object(&go["named_types"])?.keys().map(|k| from_go(k)).collect();
        let strings = object(&go["string_values"])?
            .iter()
            .map(|(k, v)| (from_go(k), strings(v).map(str::to_owned).collect()))
            .collect();
        let mut source = Source { schemas, structs, messages, strings, named, inlined: BTreeMap::new() };
        source.inlined = source.find_inlined();
        Ok(source)
    }

    fn find_inlined(&self) -> BTreeMap<String, String> {
        let mut out = BTreeMap::new();
        for (name, message) in &self.messages {
            for go in self.go_fields(name).iter().filter(|go| go[0].is_null()) {
                let fields = message.as_array().map(Vec::as_slice).unwrap_or_default();
                let Some(wire) = fields.iter().find(|m| m[0].is_u64() && m[0] == go[3]) else { continue };
                let inner = resolve(wire[3].as_str().unwrap_or_default(), package(name));
                if self.schemas[&inner].is_null() && !self.schemas[name].is_null() {
                    out.entry(inner).or_insert_with(|| name.clone());
                }
            }
        }
        out
    }

    /// The schema of a type, or of the one that takes its fields in.
    fn schema(&self, name: &str) -> &Value {
        &self.schemas[self.inlined.get(name).map_or(name, String::as_str)]
    }

    /// The types that the table holds, sorted.
    fn names(&self) -> Result<Vec<&str>> {
        let schemas = self.schemas.as_object().context("schemas.json is an object")?;
        let mut packages: BTreeSet<&str> = schemas.keys().map(|name| package(name)).collect();
        packages.extend(MORE_PACKAGES);
        Ok(self
            .messages
            .keys()
            .map(String::as_str)
            .filter(|name| packages.contains(package(name)) && !is_special(name))
            .collect())
    }

    fn types(&self) -> Result<String> {
        let names = self.names()?;
        let mut used = BTreeSet::new();
        let mut body = String::new();
        for name in &names {
            self.write_type(name, &mut body, &mut used).with_context(|| format!("type {name}"))?;
        }
        let mut out = String::from(
            "# Made by `cargo xtask derive`. The layout is described in crates/api/src/tables/types.rs.\n",
        );
        for name in used {
            let values = self.strings.get(&name).map(|v| v.join(",")).unwrap_or_default();
            writeln!(out, "string {name} {values}")?;
        }
        Ok(out.replace(" \n", "\n") + &body)
    }

    fn write_type(&self, name: &str, out: &mut String, used: &mut BTreeSet<String>) -> Result<()> {
        let schema = &self.schemas[name];
        write!(out, "type {name}")?;
        if schema["x-kubernetes-map-type"] == "atomic" {
            out.push_str(" atomic");
        }
        let kinds = self.kinds(name);
        if !kinds.is_empty() {
            write!(out, " kind={}", kinds.join(","))?;
        }
        if let Some(unions) = schema.get("x-kubernetes-unions") {
            write!(out, " unions={unions}")?;
        }
        out.push('\n');
        let message = self.messages[name].as_array().context("a message is a list")?;
        for go in self.go_fields(name) {
            let (json, flags) = (go[0].as_str(), go[2].as_str().unwrap_or_default());
            let go_type = go[1].as_str().context("a field has a type")?;
            let wire = message.iter().find(|m| m[0].is_u64() && m[0] == go[3]);
            match (json, wire) {
                (None, None) if go_type.ends_with("TypeMeta") => out.push_str(" meta\n"),
                (None, Some(wire)) => {
                    let inner = resolve(wire[3].as_str().unwrap_or_default(), package(name));
                    writeln!(out, " inline {} {}", wire[0], relative(&inner, package(name)))?;
                }
                (Some("-"), None) => {}
                (Some(json), Some(wire)) => {
                    let line = self.field(name, json, go_type, flags, wire, used)?;
                    writeln!(out, " {line}")?;
                }
                _ => anyhow::bail!("field {go} has no place in protobuf"),
            }
        }
        Ok(())
    }

    /// Go's fields; a few structs are empty or borrowed from another version and are not in the data.
    fn go_fields(&self, name: &str) -> &[Value] {
        let borrowed = name.replace(".v1alpha1.", ".v1.");
        let found = self.structs.get(name).or_else(|| self.structs.get(&borrowed));
        found.and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default()
    }

    /// `group/version/Kind` of a type; types that OpenAPI leaves out get theirs from their package.
    fn kinds(&self, name: &str) -> Vec<String> {
        let text = |v: &Value| v.as_str().unwrap_or_default().to_owned();
        if let Some(list) = self.schemas[name]["x-kubernetes-group-version-kind"].as_array() {
            let gvk =
                |k: &Value| format!("{}/{}/{}", text(&k["group"]), text(&k["version"]), text(&k["kind"]));
            let mut kinds: Vec<String> = list.iter().map(gvk).collect();
            kinds.sort();
            return kinds;
        }
        let is_kind = self.go_fields(name).iter().any(|f| f[0].is_null() && f[3].is_null());
        let short = name.rsplit('.').next().unwrap_or_default();
        match name.rsplit('.').nth(1) {
            Some("v1") if package(name) == META && short.starts_with("PartialObjectMetadata") => {
                vec![format!("meta.k8s.io/v1/{short}")]
            }
            Some(version) if is_kind => {
                vec![format!("{}/{version}/{short}", resources::group_of(package(name)))]
            }
            _ => Vec::new(),
        }
    }

    fn field(
        &self,
        owner: &str,
        json: &str,
        go_type: &str,
        flags: &str,
        wire: &Value,
        used: &mut BTreeSet<String>,
    ) -> Result<String> {
        let pkg = package(owner);
        let schema = &self.schema(owner)["properties"][json];
        let (label, kind) = (wire[2].as_str().unwrap_or_default(), wire[3].as_str().unwrap_or_default());
        let shape = match kind.strip_prefix("map<string,").and_then(|k| k.strip_suffix('>')) {
            Some(value) => format!("{{}}{}", shape(value, pkg)),
            None if label == "repeated" => format!("[]{}", shape(kind, pkg)),
            None => shape(kind, pkg),
        };
        let mut line = format!("{json} {} {shape}", wire[0]);
        let mut word = |text: String| {
            line.push(' ');
            line.push_str(&text);
        };
        if go_type.starts_with('*') {
            word("*".into());
        }
        if flags.contains('z') {
            word("z".into());
        } else if flags.contains('e') {
            word("e".into());
        }
        if strings(&self.schema(owner)["required"]).any(|r| r == json) {
            word("req".into());
        }
        if shape.ends_with("string")
            && let Some(named) = self.named_string(go_type, pkg)
        {
            word(format!("go={}", relative(&named, pkg)));
            used.insert(named);
        }
        let text = |key: &str| schema[key].as_str();
        if let Some(kind) = text("x-kubernetes-list-type").filter(|kind| *kind != "atomic") {
            let keys: Vec<&str> = strings(&schema["x-kubernetes-list-map-keys"]).collect();
            match keys.is_empty() {
                true => word(format!("list={kind}")),
                false => word(format!("list={kind}:{}", keys.join(","))),
            }
        }
        if let Some(kind) = text("x-kubernetes-map-type") {
            word(format!("map={kind}"));
        }
        if let Some(strategy) = text("x-kubernetes-patch-strategy") {
            word(format!("patch={strategy}"));
        }
        if let Some(key) = text("x-kubernetes-patch-merge-key") {
            word(format!("key={key}"));
        }
        if let Some(default) = schema.get("default") {
            word(format!("default={default}"));
        }
        Ok(line)
    }

    /// The named string type behind a Go type, if it is one: `*v1.Protocol` → `io.k8s.api.core.v1.Protocol`.
    fn named_string(&self, go_type: &str, pkg: &str) -> Option<String> {
        let base = go_type.rsplit([']', '*']).next()?;
        if base == "string" {
            return None;
        }
        let (alias, name) = base.split_once('.').unwrap_or(("", base));
        let group_v1 = format!("{}.v1", package(pkg));
        let packages: &[&str] = match alias {
            "" => &[pkg],
            "metav1" => &[META],
            "corev1" | "apiv1" => &["io.k8s.api.core.v1"],
            "types" => return Some(format!("io.k8s.apimachinery.pkg.types.{name}")),
            _ => &[&group_v1, "io.k8s.api.core.v1", META],
        };
        packages.iter().map(|p| format!("{p}.{name}")).find(|full| self.named.contains(full))
    }
}

fn strings(value: &Value) -> impl Iterator<Item = &str> {
    value.as_array().into_iter().flatten().filter_map(Value::as_str)
}

/// `k8s.io/api/core/v1.Pod` → `io.k8s.api.core.v1.Pod`
fn from_go(name: &str) -> String {
    format!("io.k8s.{}", name.trim_start_matches("k8s.io/").replace('/', "."))
}

/// `api.core.v1.Pod` → `io.k8s.api.core.v1.Pod`
fn from_protobuf(name: &str) -> String {
    let name = name.replace("apiextensions_apiserver", "apiextensions-apiserver");
    format!("io.k8s.{}", name.replace("kube_aggregator", "kube-aggregator"))
}

fn package(name: &str) -> &str {
    name.rsplit_once('.').map_or("", |(package, _)| package)
}

/// A protobuf type as seen from a package: a name without a dot is of the same package.
fn resolve(kind: &str, pkg: &str) -> String {
    let kind = kind.trim_start_matches('.');
    if kind.contains('.') { from_protobuf(kind) } else { format!("{pkg}.{kind}") }
}

/// Names of the same package begin with a dot.
fn relative(name: &str, pkg: &str) -> String {
    name.strip_prefix(pkg).filter(|rest| rest.starts_with('.')).unwrap_or(name).to_owned()
}

/// Messages that are scalars in JSON, or that only the envelope uses.
fn is_special(name: &str) -> bool {
    let short = name.rsplit('.').next().unwrap_or_default();
    match package(name) {
        META => matches!(
            short,
            "Time" | "MicroTime" | "Duration" | "FieldsV1" | "Verbs" | "Patch" | "Timestamp" | "TypeMeta"
        ),
        EXTENSIONS => matches!(
            short,
            "JSON" | "JSONSchemaPropsOrBool" | "JSONSchemaPropsOrArray" | "JSONSchemaPropsOrStringArray"
        ),
        "io.k8s.api.core.v1" => short == "List",
        package => short == "ExtraValue" || package.starts_with("io.k8s.apimachinery."),
    }
}

fn shape(kind: &str, pkg: &str) -> String {
    if matches!(kind, "string" | "bool" | "int32" | "int64" | "double" | "bytes") {
        return kind.to_owned();
    }
    let full = resolve(kind, pkg);
    let short = full.rsplit('.').next().unwrap_or_default();
    let props = || relative(&format!("{EXTENSIONS}.JSONSchemaProps"), pkg);
    match (package(&full), short) {
        ("io.k8s.apimachinery.pkg.api.resource", "Quantity") => "quantity".into(),
        ("io.k8s.apimachinery.pkg.util.intstr", "IntOrString") => "int-or-string".into(),
        ("io.k8s.apimachinery.pkg.runtime", "RawExtension") => "raw".into(),
        (META, "Time") => "time".into(),
        (META, "MicroTime") => "micro-time".into(),
        (META, "Duration") => "duration".into(),
        (META, "FieldsV1") => "fields".into(),
        (META, "Verbs") | (_, "ExtraValue") => "[w]string".into(),
        (EXTENSIONS, "JSON") => "json".into(),
        (EXTENSIONS, "JSONSchemaPropsOrBool") => format!("or-bool:{}", props()),
        (EXTENSIONS, "JSONSchemaPropsOrArray") => format!("or-list:{}", props()),
        (EXTENSIONS, "JSONSchemaPropsOrStringArray") => format!("or-strings:{}", props()),
        _ => relative(&full, pkg),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_committed_tables_are_what_derive_writes() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
        let spec =
            std::env::var_os("CORTEN_SPEC").map_or_else(|| root.join("../shared/spec/v1.36"), PathBuf::from);
        if !spec.exists() {
            assert!(std::env::var_os("CI").is_none(), "no reference data at {}", spec.display());
            eprintln!("skipped: no reference data at {}", spec.display());
            return;
        }
        let tables = tables(&spec).unwrap();
        for (name, text) in [("types.txt", tables.types), ("resources.txt", tables.resources)] {
            let committed = std::fs::read_to_string(root.join("crates/api/tables").join(name)).unwrap();
            assert!(committed == text, "crates/api/tables/{name} is stale: run `cargo xtask derive`");
        }
    }
}
