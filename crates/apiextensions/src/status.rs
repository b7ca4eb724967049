//! The status of a CustomResourceDefinition: which names are its own, whether it is served, and what is amiss. Pure;
//! upstream spreads it over four controllers (`pkg/controller/{status,establish,nonstructuralschema,apiapproval}`).

use std::collections::BTreeSet;

use apimachinery::field::{self, Error, ErrorList, Path, quote};
use serde_json::{Map, Value, json};

use crate::structural::{compile, rules};

/// Where the Kubernetes community says who approved an API in its groups.
pub const APPROVAL: &str = "api-approved.kubernetes.io";

/// The status that a definition should have, if it is another one than it has. `others`: all definitions, this one
/// may be among them. `now`: RFC 3339.
///
/// A definition whose names are taken waits for them; the others must be looked at again whenever one of the group
/// changes or goes.
pub fn plan<'a>(definition: &Value, others: impl IntoIterator<Item = &'a Value>, now: &str) -> Option<Value> {
    let mut status = definition["status"].clone();
    if !status.is_object() {
        status = json!({});
    }
    let (names, accepted) = names(definition, &taken(definition, others));
    let good = accepted.status == "True";
    status["acceptedNames"] = names;
    set(&mut status, accepted, now);
    if !is_true(&status, "Established") {
        let established = match good {
            true => Condition::new(
                "Established",
                "True",
                "InitialNamesAccepted",
                "the initial names have been accepted",
            ),
            false => Condition::new("Established", "False", "NotAccepted", "not all names are accepted"),
        };
        set(&mut status, established, now);
    }
    match schema(definition) {
        Some(condition) => set(&mut status, condition, now),
        None => remove(&mut status, "NonStructuralSchema"),
    }
    if let Some(condition) = approval(definition) {
        set(&mut status, condition, now);
    }
    (status != definition["status"]).then_some(status)
}

/// The condition of a definition that is being deleted: `Terminating`.
pub fn terminating(definition: &Value, progress: &Deletion, now: &str) -> Value {
    let (status, reason, message) = match progress {
        Deletion::Pending => (
            "True",
            "InstanceDeletionPending",
            "CustomResourceDefinition marked for deletion; CustomResource deletion will begin soon".into(),
        ),
        Deletion::Running => {
            ("True", "InstanceDeletionInProgress", "CustomResource deletion is in progress".into())
        }
        Deletion::Failed(why) => {
            ("True", "InstanceDeletionFailed", format!("could not issue all deletes: {why}"))
        }
        Deletion::NeverEstablished => ("False", "NeverEstablished", "resource was never established".into()),
        Deletion::Done => ("False", "InstanceDeletionCompleted", "removed all instances".into()),
    };
    let mut all = definition["status"].clone();
    if !all.is_object() {
        all = json!({});
    }
    set(&mut all, Condition { kind: "Terminating", status, reason, message }, now);
    all
}

/// How far the objects of a definition that goes have gone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Deletion {
    /// It was asked for.
    Pending,
    Running,
    Failed(String),
    NeverEstablished,
    Done,
}

struct Condition {
    kind: &'static str,
    status: &'static str,
    reason: &'static str,
    message: String,
}

impl Condition {
    fn new(
        kind: &'static str,
        status: &'static str,
        reason: &'static str,
        message: impl Into<String>,
    ) -> Condition {
        Condition { kind, status, reason, message: message.into() }
    }
}

/// Whether a condition stands, and says so.
pub fn is_true(status: &Value, kind: &str) -> bool {
    let all = status["conditions"].as_array();
    all.into_iter().flatten().any(|condition| condition["type"] == kind && condition["status"] == "True")
}

fn set(status: &mut Value, condition: Condition, now: &str) {
    if !status["conditions"].is_array() {
        status["conditions"] = json!([]);
    }
    let Some(all) = status["conditions"].as_array_mut() else { return };
    let Some(known) = all.iter_mut().find(|known| known["type"] == condition.kind) else {
        all.push(json!({
            "type": condition.kind,
            "status": condition.status,
            "reason": condition.reason,
            "message": condition.message,
            "lastTransitionTime": now,
        }));
        return;
    };
    if known["status"] != condition.status || known["lastTransitionTime"].is_null() {
        known["lastTransitionTime"] = now.into();
    }
    known["status"] = condition.status.into();
    known["reason"] = condition.reason.into();
    known["message"] = condition.message.into();
}

fn remove(status: &mut Value, kind: &str) {
    if let Some(all) = status["conditions"].as_array_mut() {
        all.retain(|condition| condition["type"] != kind);
    }
}

/// Names of resources and of kinds that definitions of a group have.
#[derive(Default)]
struct Taken {
    resources: BTreeSet<String>,
    kinds: BTreeSet<String>,
}

fn texts(names: &Value, fields: &[&str]) -> impl Iterator<Item = String> {
    fields
        .iter()
        .flat_map(|field| match &names[*field] {
            Value::String(text) => vec![text.clone()],
            Value::Array(all) => all.iter().filter_map(Value::as_str).map(str::to_owned).collect(),
            _ => Vec::new(),
        })
        .filter(|name| !name.is_empty())
        .collect::<Vec<_>>()
        .into_iter()
}

fn taken<'a>(definition: &Value, others: impl IntoIterator<Item = &'a Value>) -> Taken {
    let mut taken = Taken::default();
    for other in others {
        if other["spec"]["group"] == definition["spec"]["group"] {
            let names = &other["status"]["acceptedNames"];
            taken.resources.extend(texts(names, &["plural", "singular", "shortNames"]));
            taken.kinds.extend(texts(names, &["kind", "listKind"]));
        }
    }
    taken
}

/// The names that are this definition's from now on: those that it asks for and that nobody has.
fn names(definition: &Value, taken: &Taken) -> (Value, Condition) {
    let (wanted, mut accepted) =
        (&definition["spec"]["names"], definition["status"]["acceptedNames"].clone());
    if !accepted.is_object() {
        accepted = json!({"plural": "", "kind": ""});
    }
    let used = |name: &str| format!("{} is already in use", quote(name));
    let mut conflict: Option<(&'static str, String)> = None;
    let mut one = |field: &str, reason: &'static str, taken: &BTreeSet<String>, accepted: &mut Value| {
        let name = wanted[field].as_str().unwrap_or_default();
        if accepted[field].as_str().unwrap_or_default() != name && taken.contains(name) {
            conflict = Some((reason, used(name)));
        } else {
            put(accepted, field, &wanted[field]);
        }
    };
    one("plural", "PluralConflict", &taken.resources, &mut accepted);
    one("singular", "SingularConflict", &taken.resources, &mut accepted);
    let own: BTreeSet<String> = texts(&accepted, &["shortNames"]).collect();
    let foreign = |name: &String| !own.contains(name) && taken.resources.contains(name);
    let conflicts: Vec<String> =
        texts(wanted, &["shortNames"]).filter(foreign).map(|name| used(&name)).collect();
    let short = field::aggregate_messages(conflicts);
    if short.is_none() {
        put(&mut accepted, "shortNames", &wanted["shortNames"]);
    }
    let short_conflict = short.map(|message| ("ShortNamesConflict", message));
    let mut later: Option<(&'static str, String)> = None;
    for (field, reason) in [("kind", "KindConflict"), ("listKind", "ListKindConflict")] {
        let name = wanted[field].as_str().unwrap_or_default();
        if accepted[field].as_str().unwrap_or_default() != name && taken.kinds.contains(name) {
            later = Some((reason, used(name)));
        } else {
            put(&mut accepted, field, &wanted[field]);
        }
    }
    put(&mut accepted, "categories", &wanted["categories"]);
    // The last one found is told, as upstream does.
    let condition = match later.or(short_conflict).or(conflict) {
        Some((reason, message)) => Condition::new("NamesAccepted", "False", reason, message),
        None => Condition::new("NamesAccepted", "True", "NoConflicts", "no conflicts found"),
    };
    (accepted, condition)
}

fn put(names: &mut Value, field: &str, value: &Value) {
    let Some(fields): Option<&mut Map<String, Value>> = names.as_object_mut() else { return };
    match value {
        Value::Null => drop(fields.remove(field)),
        value => drop(fields.insert(field.to_owned(), value.clone())),
    }
}

/// Schemas that are not structural are from before they had to be: nothing is pruned by them, nothing defaulted.
fn schema(definition: &Value) -> Option<Condition> {
    let spec = Path::new("spec");
    let mut errors = ErrorList::new();
    if definition["spec"]["preserveUnknownFields"] == true {
        errors.push(Error::invalid(&spec.child("preserveUnknownFields"), true, "must be false"));
    }
    let versions = spec.child("versions");
    for (index, version) in definition["spec"]["versions"].as_array().into_iter().flatten().enumerate() {
        let Some(schema) = version["schema"].get("openAPIV3Schema") else { continue };
        if let Err(why) = compile(schema) {
            let name = version["name"].as_str().unwrap_or_default();
            let message = format!("failed to check validation schema for version {name}: {why}");
            return Some(Condition::new("NonStructuralSchema", "Unknown", "StructuralError", message));
        }
        let version = versions.index(index);
        let schema_at = version.child("schema");
        errors.extend(rules::check(schema, &schema_at.child("openAPIV3Schema")));
    }
    let message = field::aggregate(&errors)?;
    Some(Condition::new("NonStructuralSchema", "True", "Violations", message))
}

/// Groups of the community need to say where they were approved.
fn approval(definition: &Value) -> Option<Condition> {
    let group = definition["spec"]["group"].as_str().unwrap_or_default();
    let guarded = |domain: &str| group == domain || group.ends_with(&format!(".{domain}"));
    if !(guarded("k8s.io") || guarded("kubernetes.io")) {
        return None;
    }
    let annotation = definition["metadata"]["annotations"][APPROVAL].as_str().unwrap_or_default();
    const MORE: &str = "see https://github.com/kubernetes/enhancements/pull/1111";
    let is_url = annotation
        .split_once("://")
        .is_some_and(|(scheme, rest)| !scheme.is_empty() && !rest.is_empty() && !rest.starts_with('/'));
    let (status, reason, message) = match annotation {
        "" => (
            "False",
            "MissingAnnotation",
            format!("protected groups must have approval annotation {APPROVAL:?}, {MORE}"),
        ),
        text if text.starts_with("unapproved") => {
            ("False", "UnapprovedAnnotation", format!("not approved: {text:?}"))
        }
        text if is_url => ("True", "ApprovedAnnotation", format!("approved in {text}")),
        _ => (
            "False",
            "InvalidAnnotation",
            format!(
                "protected groups must have approval annotation {APPROVAL:?} with either a URL or a reason starting \
                 with \"unapproved\", {MORE}"
            ),
        ),
    };
    Some(Condition { kind: "KubernetesAPIApprovalPolicyConformant", status, reason, message })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn definition(names: Value) -> Value {
        json!({"spec": {"group": "g.example", "names": names, "versions": [
            {"name": "v1", "schema": {"openAPIV3Schema": {"type": "object"}}}]}})
    }

    fn told(status: &Value) -> Vec<String> {
        let all = status["conditions"].as_array().expect("conditions");
        let text = |condition: &Value, field: &str| condition[field].as_str().expect("text").to_owned();
        all.iter()
            .map(|c| format!("{}={} {}", text(c, "type"), text(c, "status"), text(c, "reason")))
            .collect()
    }

    #[test]
    fn names_are_had_once() {
        let names = json!({"plural": "foos", "singular": "foo", "kind": "Foo", "listKind": "FooList",
            "shortNames": ["f"], "categories": ["all"]});
        let mut first = definition(names.clone());
        let status = plan(&first, [], "t0").expect("a status");
        assert_eq!(
            told(&status),
            ["NamesAccepted=True NoConflicts", "Established=True InitialNamesAccepted"]
        );
        assert_eq!(status["acceptedNames"], names);
        first["status"] = status;
        assert_eq!(plan(&first, [&first], "t1"), None, "nothing is left to do");

        let check = |names: Value, reason: &str, accepted: Value| {
            let second = definition(names);
            let status = plan(&second, [&first], "t1").expect("a status");
            let expect = [format!("NamesAccepted=False {reason}"), "Established=False NotAccepted".into()];
            assert_eq!(told(&status), expect);
            assert_eq!(status["acceptedNames"], accepted);
        };
        check(
            json!({"plural": "foos", "singular": "bar", "kind": "Bar", "listKind": "BarList"}),
            "PluralConflict",
            json!({"plural": "", "singular": "bar", "kind": "Bar", "listKind": "BarList"}),
        );
        check(
            json!({"plural": "bars", "singular": "bar", "kind": "Bar", "listKind": "BarList", "shortNames": ["f", "b"]}),
            "ShortNamesConflict",
            json!({"plural": "bars", "singular": "bar", "kind": "Bar", "listKind": "BarList"}),
        );
        check(
            json!({"plural": "bars", "singular": "f", "kind": "Foo", "listKind": "BarList"}),
            "KindConflict",
            json!({"plural": "bars", "kind": "", "listKind": "BarList"}),
        );
        // Another group has names of its own.
        let mut other = definition(names);
        other["spec"]["group"] = "other.example".into();
        assert!(is_true(&plan(&other, [&first], "t1").expect("a status"), "NamesAccepted"));
    }

    #[test]
    fn what_is_amiss_is_told() {
        let check = |change: fn(&mut Value), expect: &str| {
            let mut definition = definition(json!({"plural": "foos", "kind": "Foo"}));
            change(&mut definition);
            let status = plan(&definition, [], "t").expect("a status");
            assert_eq!(told(&status).last().map(String::as_str), Some(expect));
        };
        check(|d| d["spec"]["preserveUnknownFields"] = true.into(), "NonStructuralSchema=True Violations");
        check(
            |d| d["spec"]["versions"][0]["schema"]["openAPIV3Schema"] = json!({"$ref": "x"}),
            "NonStructuralSchema=Unknown StructuralError",
        );
        check(
            |d| d["spec"]["group"] = "x.k8s.io".into(),
            "KubernetesAPIApprovalPolicyConformant=False MissingAnnotation",
        );
        check(
            |d| {
                d["spec"]["group"] = "x.k8s.io".into();
                d["metadata"] = json!({"annotations": {APPROVAL: "https://a/b"}});
            },
            "KubernetesAPIApprovalPolicyConformant=True ApprovedAnnotation",
        );
    }

    #[test]
    fn times_are_of_changes() {
        let mut definition = definition(json!({"plural": "foos", "kind": "Foo"}));
        definition["status"] = plan(&definition, [], "t0").expect("a status");
        definition["status"] = terminating(&definition, &Deletion::Running, "t1");
        definition["status"] = terminating(&definition, &Deletion::Failed("x".into()), "t2");
        let times = |status: &Value| -> Vec<Value> {
            let all = status["conditions"].as_array().expect("conditions");
            all.iter().map(|condition| condition["lastTransitionTime"].clone()).collect()
        };
        assert_eq!(times(&definition["status"]), ["t0", "t0", "t1"]);
        let done = terminating(&definition, &Deletion::Done, "t3");
        assert_eq!(times(&done), ["t0", "t0", "t3"]);
    }
}
