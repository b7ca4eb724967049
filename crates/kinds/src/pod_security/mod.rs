//! The Pod Security Standards: what a pod must not do at the levels `baseline` and `restricted`, and which level
//! a namespace's labels ask for (upstream `k8s.io/pod-security-admission/policy` and `api`, KEP-2579).
//!
//! [`Policy::of_labels`] reads a namespace, [`evaluate`] judges a pod or a pod template. The levels themselves are
//! the one table in [`checks`].

mod checks;

use std::fmt;

use apimachinery::field::{Error, ErrorList, Path};
use serde_json::Value;

/// What all labels and audit annotations of Pod Security begin with.
pub const PREFIX: &str = "pod-security.kubernetes.io/";
/// The labels of a namespace, in the order in which they are read.
pub const LABELS: [&str; 6] = [
    "pod-security.kubernetes.io/enforce",
    "pod-security.kubernetes.io/enforce-version",
    "pod-security.kubernetes.io/audit",
    "pod-security.kubernetes.io/audit-version",
    "pod-security.kubernetes.io/warn",
    "pod-security.kubernetes.io/warn-version",
];

/// How strict, the laxest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    Privileged,
    Baseline,
    Restricted,
}

impl Level {
    /// The level of that name; the text for whoever wrote another.
    ///
    /// # Errors
    /// Upstream's words.
    pub fn parse(text: &str) -> Result<Self, &'static str> {
        match text {
            "privileged" => Ok(Self::Privileged),
            "baseline" => Ok(Self::Baseline),
            "restricted" => Ok(Self::Restricted),
            _ => Err("must be one of privileged, baseline, restricted"),
        }
    }
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Privileged => "privileged",
            Self::Baseline => "baseline",
            Self::Restricted => "restricted",
        })
    }
}

/// Of which Kubernetes release the standard is: 1.x, or the newest. Older ones come first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Version {
    Minor(u32),
    Latest,
}

impl Version {
    /// `latest` or `v1.x`.
    ///
    /// # Errors
    /// Upstream's words.
    pub fn parse(text: &str) -> Result<Self, &'static str> {
        if text == "latest" {
            return Ok(Self::Latest);
        }
        let minor = text.strip_prefix("v1.").filter(|digits| {
            let plain = digits.bytes().all(|b| b.is_ascii_digit());
            plain && (*digits == "0" || !digits.starts_with('0'))
        });
        let minor = minor.and_then(|digits| digits.parse().ok());
        minor.map(Self::Minor).ok_or("must be \"latest\" or \"v1.x\"")
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Latest => f.write_str("latest"),
            Self::Minor(minor) => write!(f, "v1.{minor}"),
        }
    }
}

/// A level of a version, printed `restricted:v1.30`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Standard {
    pub level: Level,
    pub version: Version,
}

impl Standard {
    pub const PRIVILEGED: Self = Self { level: Level::Privileged, version: Version::Latest };

    /// The same in effect: the version of `privileged` says nothing.
    pub fn is_equivalent(&self, other: &Self) -> bool {
        self == other || self.level == Level::Privileged && other.level == Level::Privileged
    }
}

impl fmt::Display for Standard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.level, self.version)
    }
}

/// What a namespace asks for: refused below `enforce`, noted below `audit`, warned of below `warn`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Policy {
    pub enforce: Standard,
    pub audit: Standard,
    pub warn: Standard,
}

impl Policy {
    pub const PRIVILEGED: Self =
        Self { enforce: Standard::PRIVILEGED, audit: Standard::PRIVILEGED, warn: Standard::PRIVILEGED };

    pub fn is_fully_privileged(&self) -> bool {
        [self.enforce, self.audit, self.warn].iter().all(|standard| standard.level == Level::Privileged)
    }

    pub fn is_equivalent(&self, other: &Self) -> bool {
        self.enforce.is_equivalent(&other.enforce)
            && self.audit.is_equivalent(&other.audit)
            && self.warn.is_equivalent(&other.warn)
    }

    /// The policy of a namespace with these labels, and every fault in them. A level that cannot be read is
    /// enforced as `restricted` and neither audited nor warned of; a version that cannot be read is the latest.
    pub fn of_labels<'a>(label: impl Fn(&str) -> Option<&'a str>, defaults: &Self) -> (Self, ErrorList) {
        let (mut policy, mut errors) = (*defaults, ErrorList::new());
        let mut fault = |label: &str, value: &str, why: &str| {
            let metadata = Path::new("metadata");
            errors.push(Error::invalid(&metadata.child("labels").key(label), value, why));
        };
        let mut enforces = false;
        let modes = [
            (&mut policy.enforce, LABELS[0], LABELS[1], Level::Restricted),
            (&mut policy.audit, LABELS[2], LABELS[3], Level::Privileged),
            (&mut policy.warn, LABELS[4], LABELS[5], Level::Privileged),
        ];
        for (standard, level, version, otherwise) in modes {
            if let Some(text) = label(level) {
                let parsed = Level::parse(text);
                enforces |= level == LABELS[0] && parsed.is_ok();
                standard.level = parsed.unwrap_or_else(|why| {
                    fault(level, text, why);
                    otherwise
                });
            }
            if let Some(text) = label(version) {
                standard.version = Version::parse(text).unwrap_or_else(|why| {
                    fault(version, text, why);
                    Version::Latest
                });
            }
        }
        // Who enforces more than is warned of by default wants to be warned of it, too.
        if enforces && label(LABELS[4]).is_none() && policy.enforce.level > policy.warn.level {
            policy.warn.level = policy.enforce.level;
            if label(LABELS[5]).is_none() {
                policy.warn.version = policy.enforce.version;
            }
        }
        (policy, errors)
    }
}

/// What a pod does that a standard forbids: in few words, and in detail (which may be empty).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    pub reason: &'static str,
    pub detail: String,
}

/// Everything in a pod (its `metadata` and `spec`) that the standard forbids, in upstream's order.
pub fn evaluate(standard: Standard, metadata: &Value, spec: &Value) -> Vec<Violation> {
    checks::of(standard).filter_map(|check| check(metadata, spec)).collect()
}

/// `host namespaces, hostPort`
pub fn reasons(violations: &[Violation]) -> String {
    violations.iter().map(|v| v.reason).collect::<Vec<_>>().join(", ")
}

/// `host namespaces (hostNetwork=true), hostPort (container "a" uses hostPort 80)`
pub fn details(violations: &[Violation]) -> String {
    let one = |v: &Violation| match &*v.detail {
        "" => v.reason.to_owned(),
        detail => format!("{} ({detail})", v.reason),
    };
    violations.iter().map(one).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests;
