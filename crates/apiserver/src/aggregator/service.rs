//! An APIService as the aggregator needs it, and the order in which groups and versions are shown. Pure.

use std::cmp::{Ordering, Reverse};
use std::collections::BTreeMap;
use std::sync::LazyLock;

use serde_json::Value;

/// `kube-aggregator.kubernetes.io/automanaged`: `onstart` or `true`.
pub const MANAGED: &str = "kube-aggregator.kubernetes.io/automanaged";

/// The aggregator's own group, which is shown before all others and is registered by nobody.
pub const OWN_GROUP: &str = "apiregistration.k8s.io";
const OWN_PRIORITY: i64 = 20_001;

/// What custom kinds get (upstream `controlplane/controller/crdregistration`).
pub const CUSTOM_PRIORITY: (i64, i64) = (1000, 100);

/// Where in the lists a built-in version stands: group, version, the group's priority, the version's. Upstream's
/// `controlplane/apiserver/aggregator.go` and `cmd/kube-apiserver/app/aggregator.go`.
const PRIORITIES: &str = "\
    / v1 18000 1
    apps v1 17800 15
    events.k8s.io v1 17750 15
    events.k8s.io v1beta1 17750 5
    authentication.k8s.io v1 17700 15
    authentication.k8s.io v1beta1 17700 9
    authentication.k8s.io v1alpha1 17700 1
    authorization.k8s.io v1 17600 15
    autoscaling v1 17500 15
    autoscaling v2 17500 30
    batch v1 17400 15
    batch v1beta1 17400 9
    certificates.k8s.io v1 17300 15
    certificates.k8s.io v1beta1 17300 9
    certificates.k8s.io v1alpha1 17300 1
    networking.k8s.io v1 17200 15
    networking.k8s.io v1beta1 17200 9
    policy v1 17100 15
    policy v1beta1 17100 9
    rbac.authorization.k8s.io v1 17000 15
    storage.k8s.io v1 16800 15
    storage.k8s.io v1beta1 16800 9
    storage.k8s.io v1alpha1 16800 1
    apiextensions.k8s.io v1 16700 15
    admissionregistration.k8s.io v1 16700 15
    admissionregistration.k8s.io v1beta1 16700 12
    admissionregistration.k8s.io v1alpha1 16700 9
    scheduling.k8s.io v1 16600 15
    scheduling.k8s.io v1alpha2 16600 2
    coordination.k8s.io v1 16500 15
    coordination.k8s.io v1beta1 16500 13
    coordination.k8s.io v1alpha2 16500 12
    node.k8s.io v1 16300 15
    node.k8s.io v1beta1 16300 9
    node.k8s.io v1alpha1 16300 1
    discovery.k8s.io v1 16200 15
    discovery.k8s.io v1beta1 16200 12
    resource.k8s.io v1 16200 21
    resource.k8s.io v1beta2 16200 15
    resource.k8s.io v1beta1 16200 9
    resource.k8s.io v1alpha3 16200 1
    flowcontrol.apiserver.k8s.io v1 16100 21
    flowcontrol.apiserver.k8s.io v1beta3 16100 18
    flowcontrol.apiserver.k8s.io v1beta2 16100 15
    flowcontrol.apiserver.k8s.io v1beta1 16100 12
    internal.apiserver.k8s.io v1alpha1 16000 9
    storagemigration.k8s.io v1beta1 15800 9
";

/// By group and version.
type Priorities = BTreeMap<(&'static str, &'static str), (i64, i64)>;

static BY_VERSION: LazyLock<Priorities> = LazyLock::new(|| {
    let read = |line: &'static str| {
        let mut words = line.split_whitespace();
        let (group, version) = (words.next()?.trim_start_matches('/'), words.next()?);
        let mut number = || words.next()?.parse().ok();
        Some(((group, version), (number()?, number()?)))
    };
    PRIORITIES.lines().filter_map(read).collect()
});

/// The priorities of a built-in group and version; `None` for what is not built in.
pub fn priority(group: &str, version: &str) -> Option<(i64, i64)> {
    if group == OWN_GROUP {
        return Some((OWN_PRIORITY, 0));
    }
    BY_VERSION.get(&(group, version)).copied()
}

/// Who answers for a group and version that this server does not serve itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reference {
    pub namespace: String,
    pub name: String,
    pub port: u16,
    pub insecure: bool,
    /// PEM; empty: none is given.
    pub authority: Vec<u8>,
}

impl Reference {
    /// The name that the server's certificate must have.
    pub fn server_name(&self) -> String {
        format!("{}.{}.svc", self.name, self.namespace)
    }
}

/// An APIService.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Description {
    /// `VERSION.GROUP`
    pub name: String,
    pub group: String,
    pub version: String,
    /// The group's, and the version's.
    pub priority: (i64, i64),
    /// `None`: served here.
    pub service: Option<Reference>,
    /// What its status says.
    pub available: bool,
    /// The value of [`MANAGED`]; empty: somebody else's.
    pub managed: String,
    /// The condition says that it is served here.
    pub says_local: bool,
}

impl Description {
    /// Reads a stored APIService, which has been validated.
    pub fn new(object: &Value) -> Self {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let spec = &object["spec"];
        let number = |key: &str| spec[key].as_i64().unwrap_or_default();
        let service = spec.get("service").filter(|service| service.is_object()).map(|service| Reference {
            namespace: text(&service["namespace"]),
            name: text(&service["name"]),
            port: service["port"].as_u64().and_then(|port| u16::try_from(port).ok()).unwrap_or(443),
            insecure: spec["insecureSkipTLSVerify"] == true,
            authority: decoded(spec["caBundle"].as_str().unwrap_or_default()),
        });
        let condition = condition(object);
        Self {
            name: text(&object["metadata"]["name"]),
            group: text(&spec["group"]),
            version: text(&spec["version"]),
            priority: (number("groupPriorityMinimum"), number("versionPriority")),
            service,
            available: condition.is_some_and(|condition| condition["status"] == "True"),
            managed: text(&object["metadata"]["labels"][MANAGED]),
            says_local: condition.is_some_and(|c| c["status"] == "True" && c["reason"] == "Local"),
        }
    }
}

/// The condition `Available` of an APIService.
pub fn condition(object: &Value) -> Option<&Value> {
    object["status"]["conditions"].as_array()?.iter().find(|condition| condition["type"] == "Available")
}

fn decoded(text: &str) -> Vec<u8> {
    use base64::Engine as _;
    base64::engine::general_purpose::STANDARD.decode(text).unwrap_or_default()
}

/// Which group and version a path belongs to: `/apis/GROUP/VERSION` and below. The core group's is `("", "v1")`.
pub fn group_version(path: &str) -> Option<(&str, &str)> {
    let mut parts = path.strip_prefix('/')?.split('/');
    match parts.next()? {
        "apis" => {
            let (group, version) = (parts.next()?, parts.next()?);
            (!group.is_empty() && !version.is_empty()).then_some((group, version))
        }
        "api" => Some(("", "v1")),
        _ => None,
    }
}

/// A version in a list of groups: `(priority of the group, of the version)` and its name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    pub group: String,
    pub version: String,
    pub priority: (i64, i64),
}

/// Orders the versions of a group: the highest priority first, then the newest (`v2`, `v1`, `v1beta1`, …).
pub fn by_version(a: &Place, b: &Place) -> Ordering {
    b.priority.1.cmp(&a.priority.1).then_with(|| compare_versions(&b.version, &a.version))
}

/// Where a group stands among others; smaller is earlier. `by_group_name`: the aggregated form breaks ties by the
/// group's name, the older one by that of the APIService with the highest priority.
pub fn group_rank(places: &[&Place], by_group_name: bool) -> (Reverse<i64>, String) {
    let most = places.iter().map(|place| place.priority.0).max().unwrap_or_default();
    let best = places.iter().filter(|place| place.priority.0 == most);
    let name = match by_group_name {
        true => best.map(|place| place.group.clone()).next(),
        false => best.map(|place| format!("{}.{}", place.version, place.group)).min(),
    };
    (Reverse(most), name.unwrap_or_default())
}

/// `v10` > `v2` > `v1` > `v11beta2` > `v10beta3` > `v3beta1` > `v12alpha1` > anything else, by its letters backwards
/// (upstream's `version.CompareKubeAwareVersionStrings`).
pub fn compare_versions(a: &str, b: &str) -> Ordering {
    match (parts_of(a), parts_of(b)) {
        (Some(a), Some(b)) => a.cmp(&b),
        (Some(_), None) => Ordering::Greater,
        (None, Some(_)) => Ordering::Less,
        (None, None) => b.cmp(a),
    }
}

/// Stability, major and minor number of `v1`, `v1beta2`.
fn parts_of(version: &str) -> Option<(u8, u64, u64)> {
    let digits = |text: &str| text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let number = |text: &str| text.parse::<u64>().ok().filter(|_| !text.starts_with('0'));
    let rest = version.strip_prefix('v')?;
    let (major, rest) = rest.split_at(digits(rest));
    let major = number(major)?;
    for (word, rank) in [("alpha", 0), ("beta", 1)] {
        if let Some(minor) = rest.strip_prefix(word) {
            return Some((rank, major, number(minor)?));
        }
    }
    rest.is_empty().then_some((2, major, 0))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn versions() {
        let order =
            ["v10", "v2", "v1", "v11beta2", "v10beta3", "v3beta1", "v12alpha1", "v11alpha2", "bar", "foo"];
        for (i, a) in order.iter().enumerate() {
            for (j, b) in order.iter().enumerate() {
                assert_eq!(compare_versions(a, b), j.cmp(&i), "{a} {b}");
            }
        }
    }

    #[test]
    fn every_built_in_version_has_its_place() {
        for resource in api::resources() {
            let (group, version) = (&*resource.group, &*resource.version);
            assert!(priority(group, version).is_some(), "{group}/{version}");
        }
        assert_eq!(priority("", "v1"), Some((18000, 1)));
        assert_eq!(priority("example.com", "v1"), None);
    }

    #[test]
    fn paths() {
        for (path, expect) in [
            ("/apis/a/v1", Some(("a", "v1"))),
            ("/apis/a/v1/", Some(("a", "v1"))),
            ("/apis/a/v1/namespaces/n/x", Some(("a", "v1"))),
            ("/apis/a", None),
            ("/apis//v1/x", None),
            ("/apis/a/", None),
            ("/api/v1/pods", Some(("", "v1"))),
            ("/healthz", None),
        ] {
            assert_eq!(group_version(path), expect, "{path}");
        }
    }

    #[test]
    fn descriptions() {
        let object = json!({"metadata": {"name": "v1.a", "labels": {MANAGED: "true"}},
            "spec": {"group": "a", "version": "v1", "groupPriorityMinimum": 7, "versionPriority": 8,
                "service": {"namespace": "n", "name": "s"}, "caBundle": "YWJj"},
            "status": {"conditions": [{"type": "Available", "status": "True", "reason": "Passed"}]}});
        let read = Description::new(&object);
        let service = read.service.unwrap();
        assert_eq!(
            (&*service.server_name(), service.port, &*service.authority),
            ("s.n.svc", 443, &b"abc"[..])
        );
        assert_eq!(
            (read.priority, read.available, read.says_local, &*read.managed),
            ((7, 8), true, false, "true")
        );
    }
}
