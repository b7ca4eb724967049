//! Files of one volume that lie in each other's way.

use serde_json::Value;

use crate::check::{items, present, text};

/// A path and where it comes from, empty where all come from the same.
#[derive(PartialEq)]
struct Target {
    path: String,
    source: String,
}

impl Target {
    fn new(path: &str, source: &str) -> Target {
        Target { path: path.trim_end_matches('/').to_owned(), source: source.to_owned() }
    }

    fn shown(&self) -> String {
        match self.source.as_str() {
            "" => format!("\"{}\"", self.path),
            source => format!("\"{}\" ({source})", self.path),
        }
    }

    /// One of the two is the other, or a directory above it.
    fn overlaps(&self, other: &Target) -> bool {
        let within = |a: &str, b: &str| format!("{a}/").starts_with(&format!("{b}/"));
        !self.path.is_empty()
            && !other.path.is_empty()
            && (self == other || within(&other.path, &self.path) || within(&self.path, &other.path))
    }
}

/// A warning for every pair.
pub fn overlapping_paths(volumes: &[Value]) -> Vec<String> {
    let mut warnings = Vec::new();
    for volume in volumes {
        let name = text(volume, "name");
        let mut pairs = |what: &str, targets: Vec<Target>| {
            for (index, target) in targets.iter().enumerate() {
                for other in targets[..index].iter().filter(|other| other.overlaps(target)) {
                    warnings.push(format!(
                        "volume \"{name}\" ({what}): overlapping paths: {} with {}",
                        target.shown(),
                        other.shown()
                    ));
                }
            }
        };
        let of = |source: &Value, what: &str| -> Vec<Target> {
            items(source, "items").iter().map(|item| Target::new(text(item, "path"), what)).collect()
        };
        if let Some(source) = present(volume, "configMap") {
            pairs(&format!("ConfigMap \"{}\"", text(source, "name")), of(source, ""));
        }
        if let Some(source) = present(volume, "secret") {
            pairs(&format!("Secret \"{}\"", text(source, "secretName")), of(source, ""));
        }
        if let Some(source) = present(volume, "downwardAPI") {
            pairs("DownwardAPI", of(source, ""));
        }
        if let Some(projected) = present(volume, "projected") {
            let sources = items(projected, "sources");
            pairs("Projected", sources.iter().flat_map(projected_targets).collect());
            let empty =
                |source: &&Value| source.as_object().is_none_or(|source| source.values().all(Value::is_null));
            for _ in sources.iter().filter(empty) {
                warnings.push(format!("volume \"{name}\" (Projected) has no sources provided"));
            }
        }
    }
    warnings
}

fn projected_targets(source: &Value) -> Vec<Target> {
    let list = |source: &Value, what: String| -> Vec<Target> {
        items(source, "items").iter().map(|item| Target::new(text(item, "path"), &what)).collect()
    };
    for (kind, what) in [("configMap", "ConfigMap"), ("secret", "Secret")] {
        if let Some(source) = present(source, kind).filter(|source| !items(source, "items").is_empty()) {
            return list(source, format!("{what} \"{}\"", text(source, "name")));
        }
    }
    if let Some(source) = present(source, "downwardAPI").filter(|source| !items(source, "items").is_empty()) {
        return list(source, "DownwardAPI".to_owned());
    }
    if let Some(token) = present(source, "serviceAccountToken") {
        return vec![Target::new(text(token, "path"), "ServiceAccountToken")];
    }
    if let Some(bundle) = present(source, "clusterTrustBundle") {
        let name = present(bundle, "name").or_else(|| present(bundle, "signerName"));
        let what = format!("ClusterTrustBundle \"{}\"", name.and_then(Value::as_str).unwrap_or_default());
        return vec![Target::new(text(bundle, "path"), &what)];
    }
    let Some(certificate) = present(source, "podCertificate") else { return Vec::new() };
    [("certificateChainPath", "chain"), ("keyPath", "key"), ("credentialBundlePath", "credential bundle")]
        .into_iter()
        .filter(|(field, _)| !text(certificate, field).is_empty())
        .map(|(field, what)| Target::new(text(certificate, field), &format!("PodCertificate {what}")))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn overlaps() {
        let check = |volume: Value, expect: &[&str]| assert_eq!(overlapping_paths(&[volume]), expect);
        let map = |paths: &[&str]| {
            let items: Vec<Value> = paths.iter().map(|path| json!({"key": "k", "path": path})).collect();
            json!({"name": "v", "configMap": {"name": "m", "items": items}})
        };
        check(map(&["a", "b/c", "b/d", "bc"]), &[]);
        check(map(&["a/b", "a"]), &["volume \"v\" (ConfigMap \"m\"): overlapping paths: \"a\" with \"a/b\""]);
        check(map(&["a/", "a"]), &["volume \"v\" (ConfigMap \"m\"): overlapping paths: \"a\" with \"a\""]);
        check(
            json!({"name": "v", "projected": {"sources": [
            {"secret": {"name": "s", "items": [{"key": "k", "path": "a/b"}]}}, {"serviceAccountToken": {"path": "a"}}, {}]}}),
            &[
                "volume \"v\" (Projected): overlapping paths: \"a\" (ServiceAccountToken) with \"a/b\" (Secret \"s\")",
                "volume \"v\" (Projected) has no sources provided",
            ],
        );
    }
}
