//! Which resources are served: the stable versions, and what `--runtime-config` says otherwise (upstream
//! `apiserver/pkg/server/resourceconfig`).

use apimachinery::gvk;
use apimachinery::schema::Resource;

use super::features::{Gates, boolean};

/// Resources that exist only while a feature is on, whatever their version (upstream's
/// `registry/*/rest/storage_*.go`).
const GATED: [(&str, &str, &str); 5] = [
    ("certificates.k8s.io", "clustertrustbundles", "ClusterTrustBundle"),
    ("certificates.k8s.io", "podcertificaterequests", "PodCertificateRequest"),
    ("scheduling.k8s.io", "podgroups", "GenericWorkload"),
    ("scheduling.k8s.io", "workloads", "GenericWorkload"),
    ("storagemigration.k8s.io", "storageversionmigrations", "StorageVersionMigrator"),
];

/// A key, and the versions that it is about.
type Class = (&'static str, fn(&str) -> bool);

/// Keys for many versions at once, in the order in which they count.
const CLASSES: [Class; 4] = [
    ("api/all", |_| true),
    ("api/ga", |version| !version.contains("alpha") && !version.contains("beta")),
    ("api/beta", |version| version.contains("beta")),
    ("api/alpha", |version| version.contains("alpha")),
];

/// `--runtime-config` that cannot be used. Texts are upstream's.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum Error {
    #[error("runtime-config invalid key {0}")]
    Key(String),
    #[error("invalid value {0}={1}")]
    ClassValue(String, String),
    #[error("invalid value of {0}: {1}, err: strconv.ParseBool: parsing {1:?}: invalid syntax")]
    Value(String, String),
    #[error("unknown api groups {0}")]
    Group(String),
    #[error("group version {0} that has not been registered")]
    Version(String),
    #[error("invalid key {0}: group/version/resource and resource is always lowercase plural, not {1:?}")]
    Resource(String, String),
    #[error("invalid key with only api/all=false")]
    Nothing,
}

/// The resources whose switch is not where their version's stability puts it. Few, and mostly none.
#[derive(Clone, Debug, Default)]
pub struct Served {
    except: Vec<(&'static Resource, bool)>,
}

impl Served {
    /// Reads `api/beta=true,group/version=false,group/version/resource=true`; `=true` may be left out. The core
    /// group's version is `/v1`.
    ///
    /// # Errors
    /// The first key or value that means nothing.
    pub fn parse(text: &str, gates: &Gates) -> Result<Self, Error> {
        let pairs: Vec<(&str, &str)> = text
            .split(',')
            .map(str::trim)
            .filter(|pair| !pair.is_empty())
            .map(|pair| pair.split_once('=').unwrap_or((pair, "")))
            .map(|(key, value)| (key.trim(), value.trim()))
            .collect();
        if let [("api/all", "false")] = pairs[..] {
            return Err(Error::Nothing);
        }
        let mut rules: Vec<Rule<'_>> = Vec::new();
        for (class, matches) in CLASSES {
            if let Some((key, value)) = pairs.iter().rfind(|(key, _)| *key == class) {
                let on = match *value {
                    "true" => true,
                    "false" => false,
                    other => return Err(Error::ClassValue(key.to_string(), other.to_owned())),
                };
                rules.push(Rule { of: Of::Class(matches), on });
            }
        }
        let mut exact: Vec<Rule<'_>> = Vec::new();
        for (key, value) in &pairs {
            if !CLASSES.iter().any(|(class, _)| class == key) {
                exact.push(Rule::parse(key, value)?);
            }
        }
        // What names one resource counts most.
        exact.sort_by_key(|rule| matches!(rule.of, Of::Resource(..)));
        rules.extend(exact);
        let mut served = Self::default();
        for resource in api::resources() {
            let mut on = resource.default_on;
            for rule in rules.iter().filter(|rule| rule.matches(resource)) {
                on = rule.on;
            }
            let gate = GATED.iter().find(|(g, r, _)| *g == resource.group && *r == resource.plural);
            on &= gate.is_none_or(|(.., gate)| gates.enabled(gate));
            if on != resource.default_on {
                served.except.push((resource, on));
            }
        }
        Ok(served)
    }

    /// Whether a resource is served.
    pub fn has(&self, resource: &Resource) -> bool {
        let found = self.except.iter().find(|(other, _)| std::ptr::eq(*other, resource));
        found.map_or(resource.default_on, |(_, on)| *on)
    }

    /// Every built-in resource that is served, in the order of discovery.
    pub fn iter(&self) -> impl Iterator<Item = &'static Resource> + '_ {
        api::resources().iter().filter(|resource| self.has(resource))
    }
}

struct Rule<'a> {
    of: Of<'a>,
    on: bool,
}

enum Of<'a> {
    Class(fn(&str) -> bool),
    Version(&'a str, &'a str),
    Resource(&'a str, &'a str, &'a str),
}

impl<'a> Rule<'a> {
    fn parse(key: &'a str, value: &str) -> Result<Self, Error> {
        let parts: Vec<&str> = key.split('/').collect();
        let (group, version, resource) = match parts[..] {
            [group, version] => (group, version, None),
            [group, version, resource] => (group, version, Some(resource)),
            _ => return Err(Error::Key(key.to_owned())),
        };
        if !api::resources().iter().any(|r| r.group == group) {
            return Err(Error::Group(group.to_owned()));
        }
        if !api::resources().iter().any(|r| r.group == group && r.version == version) {
            return Err(Error::Version(gvk::api_version(group, version)));
        }
        let on = match value {
            "" => true,
            text => boolean(text).ok_or_else(|| Error::Value(key.to_owned(), text.to_owned()))?,
        };
        let of = match resource {
            None => Of::Version(group, version),
            Some(name) if name.to_lowercase() != name => {
                return Err(Error::Resource(key.to_owned(), name.to_owned()));
            }
            Some(name) => Of::Resource(group, version, name),
        };
        Ok(Self { of, on })
    }

    fn matches(&self, r: &Resource) -> bool {
        match self.of {
            Of::Class(matches) => matches(&r.version),
            Of::Version(group, version) => r.group == group && r.version == version,
            Of::Resource(group, version, plural) => {
                r.group == group && r.version == version && r.plural == plural
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runtime_config() {
        const BUNDLES: &str = "ClusterTrustBundle=true";
        let table = [
            ("", "", Ok("v1")),
            ("api/beta=true", "", Ok("v1")),
            ("api/beta=true", BUNDLES, Ok("v1 v1beta1")),
            ("api/all=true", BUNDLES, Ok("v1 v1beta1 v1alpha1")),
            ("api/all=true,api/alpha=false", BUNDLES, Ok("v1 v1beta1")),
            ("certificates.k8s.io/v1alpha1=true", BUNDLES, Ok("v1 v1alpha1")),
            ("certificates.k8s.io/v1alpha1", BUNDLES, Ok("v1 v1alpha1")),
            ("certificates.k8s.io/v1=false", "", Ok("")),
            ("certificates.k8s.io/v1beta1/podcertificaterequests=true", "", Ok("v1")),
            ("certificates.k8s.io/v1beta1/clustertrustbundles=true", BUNDLES, Ok("v1 v1beta1")),
            (
                "certificates.k8s.io/v1beta1/clustertrustbundles=false,certificates.k8s.io/v1beta1=true",
                BUNDLES,
                Ok("v1"),
            ),
            ("/v1=false", "", Ok("v1")),
            ("api/all=false", "", Err("invalid key with only api/all=false")),
            ("api/beta=1", "", Err("invalid value api/beta=1")),
            ("nonsense", "", Err("runtime-config invalid key nonsense")),
            ("nonsense/v1=true", "", Err("unknown api groups nonsense")),
            ("apps/v9", "", Err("group version apps/v9 that has not been registered")),
            (
                "apps/v1/Pods",
                "",
                Err(
                    "invalid key apps/v1/Pods: group/version/resource and resource is always lowercase plural, not \"Pods\"",
                ),
            ),
        ];
        for (text, gates, expect) in table {
            let gates = Gates::parse(gates).unwrap();
            let got = Served::parse(text, &gates).map_err(|e| e.to_string()).map(|served| {
                let mut versions: Vec<&str> = Vec::new();
                for r in served.iter().filter(|r| r.group == "certificates.k8s.io") {
                    if !versions.contains(&&*r.version) {
                        versions.push(&r.version);
                    }
                }
                versions.join(" ")
            });
            assert_eq!(got, expect.map(str::to_owned).map_err(str::to_owned), "{text} {gates:?}");
        }
    }
}
