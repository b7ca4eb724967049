//! `--feature-gates`: the names that v1.36 knows, with their stages and defaults, and which of them can be
//! changed here. A gate that we cannot change is refused with the reason, unless it is set to what it is anyway.

use std::collections::BTreeMap;

/// `Name stage on|off [locked]`, sorted by name. From the `kube_features.go` of v1.36.
const TABLE: &str = include_str!("features.txt");

/// Gates of which both sides are built. They decide whether a version that `--runtime-config` turns on has the
/// resource.
const CHANGEABLE: [&str; 4] =
    ["ClusterTrustBundle", "GenericWorkload", "PodCertificateRequest", "StorageVersionMigrator"];

/// A feature as the table says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Feature {
    pub name: &'static str,
    /// `alpha`, `beta`, `ga` or `deprecated`.
    pub stage: &'static str,
    pub default: bool,
    pub locked: bool,
}

/// Every feature, by name.
pub fn all() -> impl Iterator<Item = Feature> {
    TABLE.lines().filter_map(|line| {
        let mut words = line.split(' ');
        let (name, stage, default) = (words.next()?, words.next()?, words.next()? == "on");
        Some(Feature { name, stage, default, locked: words.next() == Some("locked") })
    })
}

/// Why a gate cannot be set. Texts are upstream's (`component-base/featuregate`) as far as it has them.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum Error {
    #[error("missing bool value for {0}")]
    NoValue(String),
    #[error("invalid value of {0}={1}, err: strconv.ParseBool: parsing {1:?}: invalid syntax")]
    NoBool(String, String),
    #[error("unrecognized feature gate: {0}")]
    Unknown(String),
    #[error("cannot set feature gate {0} to {1}, feature is locked to {2}")]
    Locked(&'static str, bool, bool),
    #[error("feature gate {0}={1} is not built: it is {2} here, and cannot be changed")]
    NotBuilt(String, bool, bool),
}

/// The features that are not as by default.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Gates(BTreeMap<&'static str, bool>);

impl Gates {
    /// Reads `A=true,B=false`.
    ///
    /// # Errors
    /// The first gate that cannot be set so.
    pub fn parse(text: &str) -> Result<Self, Error> {
        let mut gates = Self::default();
        for pair in text.split(',').map(str::trim).filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').ok_or_else(|| Error::NoValue(pair.to_owned()))?;
            let (name, value) = (name.trim(), value.trim());
            let wanted = boolean(value).ok_or_else(|| Error::NoBool(name.to_owned(), value.to_owned()))?;
            if matches!(name, "AllAlpha" | "AllBeta") {
                // Off is what alphas are; most of what either would change is not built.
                if (name, wanted) != ("AllAlpha", false) {
                    return Err(Error::NotBuilt(name.to_owned(), wanted, false));
                }
                continue;
            }
            let feature = all().find(|f| f.name == name).ok_or_else(|| Error::Unknown(name.to_owned()))?;
            if wanted == feature.default {
                gates.0.remove(feature.name);
            } else if feature.locked {
                return Err(Error::Locked(feature.name, wanted, feature.default));
            } else if !CHANGEABLE.contains(&feature.name) {
                return Err(Error::NotBuilt(name.to_owned(), wanted, feature.default));
            } else {
                gates.0.insert(feature.name, wanted);
            }
        }
        Ok(gates)
    }

    /// Whether a feature is on. Unknown ones are off.
    pub fn enabled(&self, name: &str) -> bool {
        let changed = self.0.get(name).copied();
        changed.unwrap_or_else(|| all().find(|f| f.name == name).is_some_and(|f| f.default))
    }
}

/// Go's `strconv.ParseBool`.
pub fn boolean(text: &str) -> Option<bool> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Some(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Some(false),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table() {
        let names: Vec<&str> = all().map(|f| f.name).collect();
        assert_eq!(names.len(), TABLE.lines().count());
        assert!(names.is_sorted(), "sorted");
        assert!(all().all(|f| matches!(f.stage, "alpha" | "beta" | "ga" | "deprecated")));
        assert!(all().filter(|f| f.stage == "alpha").all(|f| !f.default));
        assert!(CHANGEABLE.iter().all(|name| all().any(|f| f.name == *name && !f.locked)));
    }

    #[test]
    fn gates() {
        let table = [
            ("", Ok(false)),
            ("ClusterTrustBundle=true", Ok(true)),
            ("ClusterTrustBundle=true,ClusterTrustBundle=false", Ok(false)),
            ("WatchList=true, AllAlpha=false", Ok(false)),
            ("ClusterTrustBundle", Err("missing bool value for ClusterTrustBundle")),
            ("Nonsense=true", Err("unrecognized feature gate: Nonsense")),
            ("NodeSwap=false", Err("cannot set feature gate NodeSwap to false, feature is locked to true")),
            (
                "NodeSwap=no",
                Err("invalid value of NodeSwap=no, err: strconv.ParseBool: parsing \"no\": invalid syntax"),
            ),
            (
                "GangScheduling=true",
                Err("feature gate GangScheduling=true is not built: it is false here, and cannot be changed"),
            ),
            (
                "AllBeta=true",
                Err("feature gate AllBeta=true is not built: it is false here, and cannot be changed"),
            ),
        ];
        for (text, expect) in table {
            let got = Gates::parse(text).map(|g| g.enabled("ClusterTrustBundle")).map_err(|e| e.to_string());
            assert_eq!(got, expect.map_err(str::to_owned), "{text}");
        }
    }
}
