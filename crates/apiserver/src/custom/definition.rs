//! What is read of a stored CustomResourceDefinition at once: names, versions, what discovery and routing need. Its
//! schemas stay where they are, in the stored bytes, until somebody uses the version.

use std::{
    fmt,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicU64, Ordering},
    },
};

use apiextensions::{status::is_true, structural::Compiler};
use apimachinery::{
    gvk::{self, GroupVersionKind},
    schema::{Name, Resource, Storage, Subresource},
};
use base64::Engine as _;
use etcd::KeyValue;
use serde_json::Value;
use sha2::{Digest, Sha256};
use tokio_util::sync::CancellationToken;

use super::{Compiled, Custom, types::Types};
use crate::storage;

const VERBS: [&str; 8] = ["delete", "deletecollection", "get", "list", "patch", "create", "update", "watch"];
const SUBRESOURCE_VERBS: [&str; 3] = ["get", "patch", "update"];

/// Tells records apart; 0 is for built-in resources.
static TAGS: AtomicU64 = AtomicU64::new(1);

/// A definition as it is stored at one revision.
pub struct Definition {
    pub name: Box<str>,
    pub group: Box<str>,
    pub kind: Box<str>,
    pub list_kind: Box<str>,
    pub plural: Box<str>,
    pub namespaced: bool,
    /// The names are its own: it is served, and shown to clients.
    pub established: bool,
    /// It is going, and its objects with it: no new ones.
    pub terminating: bool,
    /// How objects are converted between versions.
    pub conversion: Conversion,
    /// In the definition's order.
    pub versions: Vec<Version>,
    /// Which of them is stored.
    pub storage: usize,
    /// Ends when what the definition says of its objects is no longer so. Its status may change meanwhile.
    pub current: CancellationToken,
    said: Arc<Said>,
    kv: Arc<KeyValue>,
}

/// What stays as long as only the status of a definition changes.
#[derive(Default)]
struct Said {
    /// Of the spec and the names.
    sum: Vec<u8>,
    /// For each version, what its records are told apart by.
    tags: Vec<u64>,
    /// One for each version, made together, since most of their schemas is alike and shared.
    compiled: OnceLock<Vec<Compiled>>,
    types: OnceLock<Types>,
}

/// `spec.conversion`
#[derive(Clone, Debug, PartialEq)]
pub enum Conversion {
    /// Only apiVersion changes.
    None,
    /// A webhook does it: `spec.conversion.webhook`.
    Webhook(Value),
}

/// One of `spec.versions`.
pub struct Version {
    pub name: Box<str>,
    pub served: bool,
    /// What clients of the version are told.
    pub warning: Option<String>,
    pub has_status: bool,
    pub has_scale: bool,
}

impl fmt::Debug for Definition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Definition").field(&self.name).finish()
    }
}

fn text(value: &Value, field: &str) -> Box<str> {
    value[field].as_str().unwrap_or_default().into()
}

fn names(value: &Value) -> Vec<Name> {
    value
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
        .map(|s| Name::Owned(s.to_owned()))
        .collect()
}

impl Definition {
    /// Reads a stored definition and makes the records of its served versions, in the order in which clients prefer
    /// them. `None` for one that says nothing useful, or whose names are not accepted yet. `before`: what it was;
    /// `shutdown`: what ends everything.
    pub fn read(
        crds: &Resource,
        kv: &Arc<KeyValue>,
        before: Option<&Definition>,
        shutdown: &CancellationToken,
    ) -> Option<(Arc<Definition>, Vec<Arc<Resource>>)> {
        let object = storage::decode(crds, &kv.value).ok()?;
        let (spec, status) = (&object["spec"], &object["status"]);
        let established = is_true(status, "Established");
        if !established && !is_true(status, "NamesAccepted") {
            return None;
        }
        let accepted = &status["acceptedNames"];
        let group = text(spec, "group");
        let all = spec["versions"].as_array()?;
        let kind = text(accepted, "kind");
        let versions: Vec<Version> =
            all.iter().map(|version| Version::read(version, all, &group, &kind)).collect();
        let sum = Sha256::digest(format!("{spec}{accepted}")).to_vec();
        let (said, current) =
            match before.filter(|before| before.said.sum == sum && !before.current.is_cancelled()) {
                Some(before) => (before.said.clone(), before.current.clone()),
                None => {
                    let tags = all.iter().map(|_| TAGS.fetch_add(1, Ordering::Relaxed)).collect();
                    (Arc::new(Said { sum, tags, ..Said::default() }), shutdown.child_token())
                }
            };
        let definition = Arc::new(Definition {
            name: text(&object["metadata"], "name"),
            list_kind: text(accepted, "listKind"),
            plural: text(&spec["names"], "plural"),
            kind,
            namespaced: spec["scope"] == "Namespaced",
            established,
            terminating: is_true(status, "Terminating"),
            conversion: match &spec["conversion"]["strategy"] {
                Value::String(strategy) if strategy == "Webhook" => {
                    Conversion::Webhook(spec["conversion"]["webhook"].clone())
                }
                _ => Conversion::None,
            },
            storage: all.iter().position(|version| version["storage"] == true)?,
            said,
            current,
            kv: kv.clone(),
            versions,
            group,
        });
        let mut order: Vec<usize> = (0..definition.versions.len()).collect();
        order.retain(|at| definition.versions[*at].served);
        order.sort_by(|a, b| {
            gvk::compare_versions(&definition.versions[*b].name, &definition.versions[*a].name)
        });
        let records = order.into_iter().map(|at| Arc::new(record(&definition, at, accepted))).collect();
        Some((definition, records))
    }

    /// `group/version`
    pub fn api_version(&self, version: usize) -> String {
        gvk::api_version(&self.group, &self.versions[version].name)
    }

    /// Says the same of its objects.
    pub fn is_as(&self, other: &Definition) -> bool {
        Arc::ptr_eq(&self.said, &other.said)
    }

    /// The revision at which it is stored as this.
    pub fn revision(&self) -> i64 {
        self.kv.mod_revision
    }

    /// Which version this is; `None`: none of ours.
    pub fn position(&self, version: &str) -> Option<usize> {
        self.versions.iter().position(|v| &*v.name == version)
    }

    pub fn compiled(&self, version: usize) -> &Compiled {
        let all = self.said.compiled.get_or_init(|| {
            let said = self.read_again();
            let mut compiler = Compiler::default();
            let versions = said["spec"]["versions"].as_array().into_iter().flatten();
            versions.map(|version| Compiled::new(version, &mut compiler)).collect()
        });
        &all[version]
    }

    /// The types of all versions, for managed fields.
    pub fn types(&self) -> &Types {
        self.said.types.get_or_init(|| Types::new(self))
    }

    /// What the definition says of a version, read anew.
    pub fn said(&self, version: usize) -> Value {
        let mut object = self.read_again();
        object["spec"]["versions"].get_mut(version).map(Value::take).unwrap_or_default()
    }

    /// The definition, decoded from what is stored; it could be when this was made.
    fn read_again(&self) -> Value {
        let crds = api::resource("apiextensions.k8s.io", "v1", "customresourcedefinitions");
        crds.and_then(|crds| storage::decode(crds, &self.kv.value).ok()).unwrap_or_default()
    }
}

impl Version {
    fn read(version: &Value, all: &[Value], group: &str, kind: &str) -> Version {
        let subresources = &version["subresources"];
        Version {
            name: text(version, "name"),
            served: version["served"] == true,
            warning: (version["deprecated"] == true).then(|| warning(version, all, group, kind)),
            has_status: subresources["status"].is_object(),
            has_scale: subresources["scale"].is_object(),
        }
    }
}

/// What is said of a deprecated version: its own words, or upstream's.
fn warning(version: &Value, all: &[Value], group: &str, kind: &str) -> String {
    if let Some(own) = version["deprecationWarning"].as_str() {
        return own.to_owned();
    }
    let name = text(version, "name");
    let better = all
        .iter()
        .filter(|other| other["served"] == true && other["deprecated"] != true)
        .filter_map(|other| other["name"].as_str())
        .filter(|other| gvk::compare_versions(&name, other).is_lt())
        .max_by(|a, b| gvk::compare_versions(a, b));
    let mut said = format!("{group}/{name} {kind} is deprecated");
    if let Some(better) = better {
        said += &format!("; use {group}/{better} {kind}");
    }
    said
}

/// The record of one version.
fn record(definition: &Arc<Definition>, version: usize, accepted: &Value) -> Resource {
    let owned = |text: &str| Name::Owned(text.to_owned());
    let facts = &definition.versions[version];
    let kind = GroupVersionKind {
        group: owned(&definition.group),
        version: owned(&facts.name),
        kind: owned(&definition.kind),
    };
    let sub = |name: &'static str, kind: GroupVersionKind, object| Subresource {
        name: name.into(),
        kind,
        verbs: SUBRESOURCE_VERBS.map(Name::Borrowed).into(),
        object,
    };
    let object = super::types::root();
    let mut subresources = Vec::new();
    if facts.has_status {
        subresources.push(sub("status", kind.clone(), Some(object)));
    }
    if facts.has_scale {
        let scale =
            GroupVersionKind { group: "autoscaling".into(), version: "v1".into(), kind: "Scale".into() };
        subresources.push(sub("scale", scale, api::object_type("autoscaling", "v1", "Scale")));
    }
    let prefix = format!("{}/{}", definition.group, definition.plural);
    let hashed = Sha256::digest(format!("{}/{}/{}", kind.group, kind.version, kind.kind));
    let custom = Custom { definition: definition.clone(), version, tag: definition.said.tags[version] };
    Resource {
        plural: owned(&definition.plural),
        singular: owned(accepted["singular"].as_str().unwrap_or_default()),
        namespaced: definition.namespaced,
        short_names: names(&accepted["shortNames"]),
        categories: names(&accepted["categories"]),
        verbs: VERBS.map(Name::Borrowed).into(),
        default_on: true,
        object,
        list: None,
        subresources,
        storage: Some(Storage {
            prefix: prefix.into(),
            group: kind.group.clone(),
            // Never a version that is served: what is stored is looked at before it is shown.
            version: "".into(),
            object,
            converts: true,
            hash: base64::engine::general_purpose::STANDARD.encode(&hashed[..8]).into(),
        }),
        custom: Some(Arc::new(custom)),
        group: kind.group,
        version: kind.version,
        kind: kind.kind,
    }
}
