//! Group, version, kind and resource: the coordinates of everything in the API.

use std::cmp::Ordering;
use std::fmt;

use crate::schema::Name;

/// `apps/v1`; the core group is the empty string and is not written.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Debug, Default)]
pub struct GroupVersion {
    pub group: Name,
    pub version: Name,
}

/// An `apiVersion` with more than one slash.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("unexpected GroupVersion string: {0}")]
pub struct ParseError(pub String);

impl GroupVersion {
    pub fn new(group: impl Into<Name>, version: impl Into<Name>) -> GroupVersion {
        GroupVersion { group: group.into(), version: version.into() }
    }

    /// Reads an `apiVersion` as upstream's `ParseGroupVersion` does: empty (and a lone `/`) is the empty pair.
    pub fn parse(api_version: &str) -> Result<GroupVersion, ParseError> {
        let (group, version) = split(api_version)?;
        Ok(GroupVersion::new(group.to_owned(), version.to_owned()))
    }

    pub fn with_kind(&self, kind: impl Into<Name>) -> GroupVersionKind {
        GroupVersionKind { group: self.group.clone(), version: self.version.clone(), kind: kind.into() }
    }

    pub fn with_resource(&self, resource: impl Into<Name>) -> GroupVersionResource {
        GroupVersionResource {
            group: self.group.clone(),
            version: self.version.clone(),
            resource: resource.into(),
        }
    }
}

/// Group and version of an `apiVersion`, borrowed.
pub fn split(api_version: &str) -> Result<(&str, &str), ParseError> {
    if api_version.is_empty() || api_version == "/" {
        return Ok(("", ""));
    }
    match api_version.split_once('/') {
        None => Ok(("", api_version)),
        Some((group, version)) if !version.contains('/') => Ok((group, version)),
        Some(_) => Err(ParseError(api_version.to_owned())),
    }
}

/// How clients prefer versions: `v2`, `v1`, `v1beta2`, `v1beta1`, `v1alpha1`, and what is no such version after all of
/// them, by name (upstream's `CompareKubeAwareVersionStrings`). Greater is preferred.
pub fn compare_versions(a: &str, b: &str) -> Ordering {
    match (stability(a), stability(b)) {
        (Some(a), Some(b)) => a.cmp(&b),
        (a, b) if a.is_some() != b.is_some() => a.is_some().cmp(&b.is_some()),
        _ => b.cmp(a),
    }
}

/// `v1beta2` → 1 (of alpha, beta, stable), 1, 2.
fn stability(version: &str) -> Option<(u8, u64, u64)> {
    let rest = version.strip_prefix('v')?;
    let end = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
    let (major, rest) = (rest[..end].parse().ok()?, &rest[end..]);
    let (class, minor) = match (rest.strip_prefix("alpha"), rest.strip_prefix("beta")) {
        (Some(minor), _) => (0, minor),
        (_, Some(minor)) => (1, minor),
        _ => return rest.is_empty().then_some((2, major, 0)),
    };
    let whole = !minor.is_empty() && minor.bytes().all(|b| b.is_ascii_digit());
    Some((class, major, minor.parse().ok().filter(|_| whole)?))
}

/// `v1`, `apps/v1`
pub fn api_version(group: &str, version: &str) -> String {
    if group.is_empty() { version.to_owned() } else { format!("{group}/{version}") }
}

impl fmt::Display for GroupVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.group.is_empty() {
            write!(f, "{}/", self.group)?;
        }
        f.write_str(&self.version)
    }
}

/// A kind of one version. Displayed as Go does: `apps/v1, Kind=Deployment`.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Debug, Default)]
pub struct GroupVersionKind {
    pub group: Name,
    pub version: Name,
    pub kind: Name,
}

impl GroupVersionKind {
    pub fn new(group: impl Into<Name>, version: impl Into<Name>, kind: impl Into<Name>) -> GroupVersionKind {
        GroupVersionKind { group: group.into(), version: version.into(), kind: kind.into() }
    }

    /// Of an object's `apiVersion` and `kind`.
    pub fn parse(api_version: &str, kind: &str) -> Result<GroupVersionKind, ParseError> {
        Ok(GroupVersion::parse(api_version)?.with_kind(kind.to_owned()))
    }

    pub fn group_version(&self) -> GroupVersion {
        GroupVersion { group: self.group.clone(), version: self.version.clone() }
    }

    pub fn group_kind(&self) -> GroupKind {
        GroupKind { group: self.group.clone(), kind: self.kind.clone() }
    }

    /// `v1`, `apps/v1`
    pub fn api_version(&self) -> String {
        api_version(&self.group, &self.version)
    }
}

impl fmt::Display for GroupVersionKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}, Kind={}", self.group, self.version, self.kind)
    }
}

/// A resource of one version. Displayed as Go does: `apps/v1, Resource=deployments`.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Debug, Default)]
pub struct GroupVersionResource {
    pub group: Name,
    pub version: Name,
    pub resource: Name,
}

impl GroupVersionResource {
    pub fn new(
        group: impl Into<Name>,
        version: impl Into<Name>,
        resource: impl Into<Name>,
    ) -> GroupVersionResource {
        GroupVersionResource { group: group.into(), version: version.into(), resource: resource.into() }
    }

    pub fn group_version(&self) -> GroupVersion {
        GroupVersion { group: self.group.clone(), version: self.version.clone() }
    }

    pub fn group_resource(&self) -> GroupResource {
        GroupResource { group: self.group.clone(), resource: self.resource.clone() }
    }
}

impl fmt::Display for GroupVersionResource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}, Resource={}", self.group, self.version, self.resource)
    }
}

/// A kind whatever its version: `Deployment.apps`.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Debug, Default)]
pub struct GroupKind {
    pub group: Name,
    pub kind: Name,
}

impl fmt::Display for GroupKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.kind)?;
        if self.group.is_empty() { Ok(()) } else { write!(f, ".{}", self.group) }
    }
}

/// A resource whatever its version: `deployments.apps`.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Debug, Default)]
pub struct GroupResource {
    pub group: Name,
    pub resource: Name,
}

impl fmt::Display for GroupResource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.resource)?;
        if self.group.is_empty() { Ok(()) } else { write!(f, ".{}", self.group) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn preference() {
        let order =
            ["v10", "v2", "v1", "v11beta2", "v10beta3", "v3beta1", "v12alpha1", "v11alpha2", "foo1", "foo10"];
        for pair in order.windows(2) {
            assert!(compare_versions(pair[0], pair[1]).is_gt(), "{pair:?}");
        }
        assert!(compare_versions("v1", "v1").is_eq());
    }

    #[test]
    fn api_versions() {
        let check = |text: &str, group: &str, version: &str| {
            assert_eq!(
                GroupVersion::parse(text),
                Ok(GroupVersion::new(group.to_owned(), version.to_owned()))
            );
        };
        check("v1", "", "v1");
        check("apps/v1", "apps", "v1");
        check("", "", "");
        check("/", "", "");
        assert_eq!(
            GroupVersion::parse("a/b/c").unwrap_err().to_string(),
            "unexpected GroupVersion string: a/b/c"
        );
        let gvk = GroupVersionKind::new("apps", "v1", "Deployment");
        assert_eq!(gvk.to_string(), "apps/v1, Kind=Deployment");
        assert_eq!(GroupVersionKind::new("", "v1", "Pod").to_string(), "/v1, Kind=Pod");
        assert_eq!(gvk.group_kind().to_string(), "Deployment.apps");
        assert_eq!(GroupVersion::new("", "v1").to_string(), "v1");
    }
}
