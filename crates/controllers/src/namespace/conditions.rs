//! The conditions that say how far the deletion of a namespace has come; `kubectl describe` shows them.

use std::collections::BTreeMap;

use api::core::v1::{NamespaceCondition, NamespaceStatus};
use api::meta::v1::Time;
use client::Gvr;

/// What one pass over the content found.
#[derive(Debug, Default)]
pub(super) struct Findings {
    pub(super) discovery_error: Option<String>,
    pub(super) content_errors: Vec<String>,
    pub(super) remaining: BTreeMap<Gvr, usize>,
    pub(super) finalizers: BTreeMap<String, usize>,
}

/// Type, and reason and message while all is well.
const TYPES: [(&str, &str, &str); 5] = [
    ("NamespaceDeletionDiscoveryFailure", "ResourcesDiscovered", "All resources successfully discovered"),
    (
        "NamespaceDeletionGroupVersionParsingFailure",
        "ParsedGroupVersions",
        "All legacy kube types successfully parsed",
    ),
    (
        "NamespaceDeletionContentFailure",
        "ContentDeleted",
        "All content successfully deleted, may be waiting on finalization",
    ),
    ("NamespaceContentRemaining", "ContentRemoved", "All content successfully removed"),
    ("NamespaceFinalizersRemaining", "ContentHasNoFinalizers", "All content-preserving finalizers finished"),
];

/// Brings the conditions up to date. Answers whether anything changed.
pub(super) fn update(status: &mut NamespaceStatus, findings: &Findings, now: &Time) -> bool {
    let mut changed = false;
    let conditions = status.conditions.get_or_insert_default();
    for (kind, reason, message) in TYPES {
        let (is, reason, message) = match problem(kind, findings) {
            Some((reason, message)) => ("True", reason, message),
            None => ("False", reason, message.to_owned()),
        };
        match conditions.iter_mut().find(|condition| condition.type_ == kind) {
            None => {
                conditions.push(NamespaceCondition {
                    type_: kind.into(),
                    status: is.into(),
                    reason: Some(reason.into()),
                    message: Some(message),
                    last_transition_time: Some(now.clone()),
                });
                changed = true;
            }
            Some(current) => {
                let same = current.status == is
                    && current.reason.as_deref() == Some(reason)
                    && current.message.as_deref() == Some(&message);
                if same {
                    continue;
                }
                if current.status != is {
                    current.last_transition_time = Some(now.clone());
                }
                current.status = is.into();
                current.reason = Some(reason.into());
                current.message = Some(message);
                changed = true;
            }
        }
    }
    changed
}

fn problem(kind: &str, findings: &Findings) -> Option<(&'static str, String)> {
    let listed = |parts: Vec<String>| {
        let mut parts = parts;
        parts.sort();
        parts.join(", ")
    };
    match kind {
        "NamespaceDeletionDiscoveryFailure" => {
            findings.discovery_error.as_ref().map(|error| ("DiscoveryFailed", error.clone()))
        }
        "NamespaceDeletionContentFailure" if !findings.content_errors.is_empty() => {
            let number = findings.content_errors.len();
            let errors = listed(findings.content_errors.clone());
            let message = format!("Failed to delete all resource types, {number} remaining: {errors}");
            Some(("ContentDeletionFailed", message))
        }
        "NamespaceContentRemaining" if !findings.remaining.is_empty() => {
            let one = |(gvr, number): (&Gvr, &usize)| {
                format!("{}.{} has {number} resource instances", gvr.resource, gvr.group)
            };
            let all = listed(findings.remaining.iter().map(one).collect());
            Some(("SomeResourcesRemain", format!("Some resources are remaining: {all}")))
        }
        "NamespaceFinalizersRemaining" if !findings.finalizers.is_empty() => {
            let one = |(finalizer, number): (&String, &usize)| {
                format!("{finalizer} in {number} resource instances")
            };
            let all = listed(findings.finalizers.iter().map(one).collect());
            let message = format!("Some content in the namespace has finalizers remaining: {all}");
            Some(("SomeFinalizersRemain", message))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn conditions_follow_findings() {
        let time = |second| Time(jiff::Timestamp::from_second(second).unwrap());
        let mut status = NamespaceStatus::default();
        let mut findings = Findings::default();
        findings.remaining.insert(Gvr::new("", "v1", "pods"), 2);
        findings.finalizers.insert("a/b".into(), 1);
        assert!(update(&mut status, &findings, &time(1)));
        assert!(!update(&mut status, &findings, &time(2)));
        let text = |status: &NamespaceStatus| -> Vec<String> {
            let one = |c: &NamespaceCondition| {
                let at = c.last_transition_time.as_ref().unwrap().0.as_second();
                format!(
                    "{} {} {}@{at}",
                    c.status,
                    c.reason.as_deref().unwrap(),
                    c.message.as_deref().unwrap()
                )
            };
            status.conditions.iter().flatten().map(one).collect()
        };
        assert_eq!(
            text(&status)[3],
            "True SomeResourcesRemain Some resources are remaining: pods. has 2 resource instances@1"
        );
        assert_eq!(
            text(&status)[4],
            "True SomeFinalizersRemain Some content in the namespace has finalizers remaining: \
             a/b in 1 resource instances@1"
        );
        assert!(update(&mut status, &Findings::default(), &time(3)));
        assert_eq!(text(&status)[3], "False ContentRemoved All content successfully removed@3");
        assert!(text(&status)[0].ends_with("@1"));
    }
}
