//! The APIServices of what is served here: the built-in versions, put right at every start, and those of custom
//! kinds, kept all the time (upstream's `controllers/autoregister`). Pure.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::service::{CUSTOM_PRIORITY, Description, MANAGED, OWN_GROUP, priority};
use crate::bootstrap::reconcile::Change;

/// A group and a version.
pub type GroupVersion = (String, String);

/// The name of the APIService of a group and version.
pub fn name_of(group: &str, version: &str) -> String {
    format!("{version}.{group}")
}

/// The APIService of something that is served here.
pub fn object(group: &str, version: &str, (of_group, of_version): (i64, i64), managed: &str) -> Value {
    json!({
        "apiVersion": "apiregistration.k8s.io/v1",
        "kind": "APIService",
        "metadata": {"name": name_of(group, version), "labels": {MANAGED: managed}},
        "spec": {"group": group, "version": version, "groupPriorityMinimum": of_group,
            "versionPriority": of_version},
    })
}

/// Those of the built-in versions among these.
pub fn built_in<'a>(served: impl Iterator<Item = (&'a str, &'a str)>) -> Vec<Value> {
    let all: BTreeSet<(&str, &str)> = served.filter(|(group, _)| *group != OWN_GROUP).collect();
    let known =
        all.into_iter().filter_map(|(group, version)| Some((group, version, priority(group, version)?)));
    known.map(|(group, version, priority)| object(group, version, priority, "onstart")).collect()
}

/// At a start: what is ours says again what it should; what is somebody else's stays.
pub fn put_right(existing: &Value, expected: &Value) -> Change {
    let managed = existing["metadata"]["labels"][MANAGED].as_str().unwrap_or_default();
    if !matches!(managed, "onstart" | "true") || existing["spec"] == expected["spec"] {
        return Change::Nothing;
    }
    let mut object = existing.clone();
    object["spec"] = expected["spec"].clone();
    Change::Update(object)
}

/// What is to be done about an APIService of custom kinds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    Create(Value),
    /// Its `spec` is to be this one.
    Update(Value),
    Delete(String),
}

/// What brings the APIServices that are kept all the time to what is wanted.
pub fn plan<'a>(
    existing: impl Iterator<Item = &'a Description>,
    wanted: &BTreeSet<GroupVersion>,
) -> Vec<Step> {
    let mut steps = Vec::new();
    let mut missing = wanted.clone();
    for found in existing {
        let is_wanted = missing.remove(&(found.group.clone(), found.version.clone()));
        if found.managed != "true" {
            continue;
        }
        if !is_wanted {
            steps.push(Step::Delete(found.name.clone()));
        } else if found.service.is_some() || found.priority != CUSTOM_PRIORITY {
            steps.push(Step::Update(object(&found.group, &found.version, CUSTOM_PRIORITY, "true")));
        }
    }
    steps.extend(
        missing.iter().map(|(group, version)| Step::Create(object(group, version, CUSTOM_PRIORITY, "true"))),
    );
    steps
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(group: &str, managed: &str, priority: (i64, i64)) -> Description {
        Description::new(&object(group, "v1", priority, managed))
    }

    #[test]
    fn custom_versions() {
        let wanted: BTreeSet<GroupVersion> = ["a", "b"].map(|group| (group.into(), "v1".into())).into();
        let show = |steps: Vec<Step>| {
            let show = |step: Step| match step {
                Step::Create(object) => format!("+{}", object["metadata"]["name"].as_str().unwrap()),
                Step::Update(object) => format!("~{}", object["metadata"]["name"].as_str().unwrap()),
                Step::Delete(name) => format!("-{name}"),
            };
            steps.into_iter().map(show).collect::<Vec<_>>().join(" ")
        };
        let good = CUSTOM_PRIORITY;
        for (existing, expect) in [
            (vec![], "+v1.a +v1.b"),
            (vec![found("a", "true", good), found("b", "", (1, 1))], ""),
            (vec![found("a", "true", (1, 1)), found("c", "true", good)], "~v1.a -v1.c +v1.b"),
            (vec![found("c", "onstart", good), found("d", "", good)], "+v1.a +v1.b"),
        ] {
            assert_eq!(show(plan(existing.iter(), &wanted)), expect);
        }
    }

    #[test]
    fn at_a_start() {
        let expected = object("a", "v1", (1, 2), "onstart");
        let mut taken = expected.clone();
        taken["metadata"]["labels"] = json!({});
        taken["spec"]["service"] = json!({"namespace": "n", "name": "s"});
        let mut changed = taken.clone();
        changed["metadata"]["labels"] = json!({MANAGED: "onstart"});
        assert!(matches!(put_right(&expected, &expected), Change::Nothing));
        assert!(matches!(put_right(&taken, &expected), Change::Nothing));
        assert!(
            matches!(put_right(&changed, &expected), Change::Update(object) if object["spec"]["service"].is_null())
        );
    }
}
