//! Job: what it may ask for, what may change, and the selector that it gets.

use apimachinery::field::{Error, ErrorList, Path};
use apimachinery::labels::Selector;
use apimachinery::names;
use serde_json::{Value, json};

use super::{job_status, policies};
use crate::check::{flag, immutable, int, items, not_negative, present, text};
use crate::meta;
use crate::strategy::{GENERIC, GarbageCollection, Strategy};
use crate::workload::{self, SPEC, TEMPLATE};

const LEGACY_UID: &str = "controller-uid";
const LEGACY_NAME: &str = "job-name";
const UID: &str = "batch.kubernetes.io/controller-uid";
const NAME: &str = "batch.kubernetes.io/job-name";

const MAX_PARALLELISM: i64 = 100_000;
const MAX_FAILED_INDEXES: i64 = 100_000;
const MANY_COMPLETIONS: i64 = 100_000;
const MAX_PARALLELISM_OF_MANY: i64 = 10_000;
const MAX_FAILED_INDEXES_OF_MANY: i64 = 10_000;
const MAX_MANAGED_BY: usize = 63;

pub const STRATEGY: Strategy = Strategy {
    // As `batch/v1` always did.
    garbage_collection: GarbageCollection::Orphan,
    generation: true,
    prepare_for_create,
    prepare_for_update: |new, old, _| workload::drop_disabled(new, old, TEMPLATE),
    validate: |job, errors| validate(job, &Value::Null, Rules::NEW, errors),
    validate_update,
    warnings,
    selectable: &[("status.successful", "/status/succeeded", "0")],
    unknown_field: "field label {:?} not supported for Job",
    ..GENERIC
};

/// Unless the client does so itself, a Job selects its pods by its uid, and labels them with uid and name.
fn prepare_for_create(job: &mut Value) {
    workload::drop_disabled(job, &Value::Null, TEMPLATE);
    let (uid, name) = (job["metadata"]["uid"].clone(), job["metadata"]["name"].clone());
    // Before the object has a uid there is nothing to select by: this is asked again when it has.
    if flag(&job["spec"], "manualSelector") || uid.as_str().is_none_or(str::is_empty) {
        return;
    }
    for (label, value) in [(LEGACY_NAME, &name), (NAME, &name), (LEGACY_UID, &uid), (UID, &uid)] {
        let labels = &mut job["spec"]["template"]["metadata"]["labels"];
        if labels.get(label).is_none() {
            labels[label] = value.clone();
        }
    }
    let selected = &mut job["spec"]["selector"]["matchLabels"];
    if selected.get(UID).is_none() {
        selected[UID] = uid;
    }
    // Defaults are applied again when upstream reads what it stored: a Job without labels has its pods'.
    if job["metadata"]["labels"].as_object().is_none_or(serde_json::Map::is_empty) {
        job["metadata"]["labels"] = job["spec"]["template"]["metadata"]["labels"].clone();
    }
}

/// What an older object is let have, and what of it may change.
#[derive(Clone, Copy)]
struct Rules {
    lenient_selector: bool,
    prefixed_labels: bool,
    /// A suspended Job without pods takes another place and other resources for them (KEP-2926).
    mutable_pods: bool,
}

impl Rules {
    const NEW: Rules = Rules { lenient_selector: false, prefixed_labels: true, mutable_pods: false };

    fn of(old: &Value) -> Rules {
        let (spec, status) = (&old["spec"], &old["status"]);
        let labels = &spec["template"]["metadata"]["labels"];
        let rests = present(status, "startTime").is_none() || job_status::is_true(status, "Suspended");
        Rules {
            lenient_selector: workload::has_invalid_value(&spec["selector"]),
            prefixed_labels: labels.get(NAME).is_some() && labels.get(UID).is_some(),
            mutable_pods: flag(spec, "suspend") && rests && int(status, "active").unwrap_or(0) == 0,
        }
    }
}

fn validate(job: &Value, old: &Value, rules: Rules, errors: &mut ErrorList) {
    generated_selector(job, rules.prefixed_labels, errors);
    selected_spec(&job["spec"], old, rules, errors);
    let spec = &job["spec"];
    if let Some(completions) = int(spec, "completions").filter(|completions| *completions > 0)
        && text(spec, "completionMode") == "Indexed"
    {
        let name = text(&job["metadata"], "name");
        let last = format!("{name}-{}", completions - 1);
        if !names::is_dns1123_label(&last).is_empty() {
            let why = format!("will not able to create pod with invalid DNS label: {last}");
            errors.push(Error::invalid(&Path::new("metadata.name"), name, why));
        }
    }
}

fn generated_selector(job: &Value, prefixed: bool, errors: &mut ErrorList) {
    let spec = &job["spec"];
    if flag(spec, "manualSelector") || present(spec, "selector").is_none() {
        return;
    }
    let (uid, name) = (text(&job["metadata"], "uid"), text(&job["metadata"], "name"));
    if uid.is_empty() {
        errors.push(Error::required(&Path::new("metadata.uid"), ""));
    }
    let mut expected = vec![(LEGACY_UID, uid), (LEGACY_NAME, name)];
    if prefixed {
        expected.extend([(UID, uid), (NAME, name)]);
    }
    let labels = &spec["template"]["metadata"]["labels"];
    let at = SPEC.child("template.metadata.labels");
    for (label, value) in &expected {
        let why = format!("must be '{value}'");
        match labels.get(label).and_then(Value::as_str) {
            None => errors.push(Error::required(&at.key(label), why)),
            Some(given) if given != *value => {
                errors.push(Error::invalid(&at.key(label), labels.clone(), why));
            }
            Some(_) => {}
        }
    }
    let lookup = |key: &str| expected.iter().find(|(label, _)| *label == key).map(|(_, value)| *value);
    if Selector::of_value(&spec["selector"]).is_ok_and(|selector| !selector.matches(lookup)) {
        let value = spec["selector"].clone();
        errors.push(Error::invalid(&SPEC.child("selector"), value, "`selector` not auto-generated"));
    }
}

fn selected_spec(spec: &Value, old: &Value, rules: Rules, errors: &mut ErrorList) {
    job_spec(spec, old, &SPEC, errors);
    match present(spec, "selector") {
        None => errors.push(Error::required(&SPEC.child("selector"), "")),
        Some(value) => meta::selector(value, rules.lenient_selector, &SPEC.child("selector"), errors),
    }
    if let Ok(selector) = Selector::of_value(&spec["selector"]) {
        workload::labels_match(spec, &selector, &SPEC, errors);
    }
}

/// The spec of a Job, or of the jobs of a CronJob, the selector aside.
pub fn job_spec(spec: &Value, old: &Value, path: &Path<'_>, errors: &mut ErrorList) {
    for field in [
        "parallelism",
        "completions",
        "activeDeadlineSeconds",
        "backoffLimit",
        "ttlSecondsAfterFinished",
        "backoffLimitPerIndex",
        "maxFailedIndexes",
    ] {
        not_negative(spec, field, path, errors);
    }
    if int(spec, "maxFailedIndexes").is_some() && int(spec, "backoffLimitPerIndex").is_none() {
        let why = "when maxFailedIndexes is specified";
        errors.push(Error::required(&path.child("backoffLimitPerIndex"), why));
    }
    if let Some(manager) = present(spec, "managedBy").and_then(Value::as_str) {
        let at = path.child("managedBy");
        errors.extend(names::is_domain_prefixed_path(&at, manager));
        if manager.len() > MAX_MANAGED_BY {
            errors.push(Error::too_long(&at, MAX_MANAGED_BY));
        }
    }
    let mode = text(spec, "completionMode");
    match mode {
        "Indexed" => indexed(spec, path, errors),
        "NonIndexed" | "" => {
            for field in ["backoffLimitPerIndex", "maxFailedIndexes"] {
                if let Some(value) = int(spec, field) {
                    errors.push(Error::invalid(
                        &path.child(field),
                        value,
                        "requires indexed completion mode",
                    ));
                }
            }
        }
        other => {
            let at = path.child("completionMode");
            errors.push(Error::not_supported(&at, other, ["NonIndexed", "Indexed"]));
        }
    }
    policies::failure(spec, &path.child("podFailurePolicy"), errors);
    if let Some(policy) = present(spec, "successPolicy") {
        let at = path.child("successPolicy");
        if mode == "Indexed" {
            policies::success(spec, &at, errors);
        } else {
            errors.push(Error::invalid(&at, policy.clone(), "requires indexed completion mode"));
        }
    }
    let has_failure_policy = present(spec, "podFailurePolicy").is_some();
    if let Some(replacement) = present(spec, "podReplacementPolicy").and_then(Value::as_str) {
        let supported: &[&str] =
            if has_failure_policy { &["Failed"] } else { &["Failed", "TerminatingOrFailed"] };
        if !supported.contains(&replacement) {
            errors.push(Error::not_supported(&path.child("podReplacementPolicy"), replacement, supported));
        }
    }
    workload::template(spec, old, path, errors);
    let at = path.child("template.spec.restartPolicy");
    match text(&spec["template"]["spec"], "restartPolicy") {
        "Always" | "" => errors.push(Error::required(&at, "valid values: \"OnFailure\", \"Never\"")),
        "Never" => {}
        "OnFailure" => {
            if has_failure_policy {
                let why = "only \"Never\" is supported when podFailurePolicy is specified";
                errors.push(Error::invalid(&at, "OnFailure", why));
            }
        }
        other => errors.push(Error::not_supported(&at, other, ["OnFailure", "Never"])),
    }
}

fn indexed(spec: &Value, path: &Path<'_>, errors: &mut ErrorList) {
    let (completions, failed) = (int(spec, "completions"), int(spec, "maxFailedIndexes"));
    let parallelism = int(spec, "parallelism").unwrap_or(0);
    let at = path.child("maxFailedIndexes");
    if completions.is_none() {
        errors.push(Error::required(&path.child("completions"), "when completion mode is Indexed"));
    }
    if parallelism > MAX_PARALLELISM {
        let why = format!("must be less than or equal to {MAX_PARALLELISM} when completion mode is Indexed");
        errors.push(Error::invalid(&path.child("parallelism"), parallelism, why));
    }
    if let Some(failed) = failed {
        if completions.is_some_and(|completions| failed > completions) {
            errors.push(Error::invalid(&at, failed, "must be less than or equal to completions"));
        }
        if failed > MAX_FAILED_INDEXES {
            let why = format!("must be less than or equal to {MAX_FAILED_INDEXES}");
            errors.push(Error::invalid(&at, failed, why));
        }
    }
    if completions.is_none_or(|completions| completions <= MANY_COMPLETIONS)
        || int(spec, "backoffLimitPerIndex").is_none()
    {
        return;
    }
    let limit = |max: i64| {
        format!(
            "must be less than or equal to {max} when completions are above {MANY_COMPLETIONS} and used with backoff \
             limit per index"
        )
    };
    if failed.is_none() {
        let why = format!("must be specified when completions is above {MANY_COMPLETIONS}");
        errors.push(Error::required(&at, why));
    }
    if parallelism > MAX_PARALLELISM_OF_MANY {
        let why = limit(MAX_PARALLELISM_OF_MANY);
        errors.push(Error::invalid(&path.child("parallelism"), parallelism, why));
    }
    if let Some(failed) = failed.filter(|failed| *failed > MAX_FAILED_INDEXES_OF_MANY) {
        errors.push(Error::invalid(&at, failed, limit(MAX_FAILED_INDEXES_OF_MANY)));
    }
}

fn validate_update(new: &Value, old: &Value, subresource: &str, errors: &mut ErrorList) {
    if subresource == "status" {
        return job_status::validate_update(new, old, errors);
    }
    let rules = Rules::of(old);
    validate(new, &old["spec"], rules, errors);
    // Upstream looks at the spec twice, so that its faults come twice.
    let (spec, before) = (&new["spec"], &old["spec"]);
    selected_spec(spec, before, rules, errors);
    completions(spec, before, errors);
    let fixed = |field: &str, errors: &mut ErrorList| {
        immutable(&spec[field], &before[field], &SPEC.child(field), errors);
    };
    fixed("selector", errors);
    template_update(spec, before, rules.mutable_pods, errors);
    for field in ["completionMode", "podFailurePolicy", "backoffLimitPerIndex", "managedBy", "successPolicy"]
    {
        fixed(field, errors);
    }
}

/// An Indexed Job is scaled in completions and parallelism at once (KEP-3715).
fn completions(spec: &Value, old: &Value, errors: &mut ErrorList) {
    let at = SPEC.child("completions");
    if text(spec, "completionMode") != "Indexed" {
        return immutable(&spec["completions"], &old["completions"], &at, errors);
    }
    let completions = int(spec, "completions");
    if completions.is_some()
        && completions != int(old, "completions")
        && completions != int(spec, "parallelism")
    {
        let why = "can only be modified in tandem with spec.parallelism";
        errors.push(Error::invalid(&at, completions, why));
    }
}

/// The template never changes, but for where pods go and what they ask for, before there are any.
fn template_update(spec: &Value, old: &Value, mutable: bool, errors: &mut ErrorList) {
    let template = &spec["template"];
    if !mutable {
        return immutable(template, &old["template"], &SPEC.child("template"), errors);
    }
    let mut allowed = old["template"]["spec"].clone();
    let wanted = &template["spec"];
    for field in ["nodeSelector", "tolerations", "schedulingGates"] {
        take(&mut allowed, wanted, field);
    }
    match (present(wanted, "affinity"), present(&allowed, "affinity").is_some()) {
        (None, false) => {}
        (None, true) => {
            let affinity = allowed["affinity"].as_object_mut();
            let empty = affinity.is_some_and(|affinity| {
                affinity.remove("nodeAffinity");
                affinity.is_empty()
            });
            if empty {
                take(&mut allowed, &Value::Null, "affinity");
            }
        }
        (Some(affinity), there) => {
            if !there {
                allowed["affinity"] = json!({});
            }
            take(&mut allowed["affinity"], affinity, "nodeAffinity");
        }
    }
    for list in ["containers", "initContainers"] {
        let (new, count) = (items(wanted, list), items(&allowed, list).len());
        for (index, container) in new.iter().enumerate().filter(|_| new.len() == count) {
            if allowed[list][index]["name"] == container["name"] {
                take(&mut allowed[list][index], container, "resources");
            }
        }
    }
    immutable(wanted, &allowed, &SPEC.child("template.spec"), errors);
}

/// Sets a field to what another object has there, or to nothing.
fn take(object: &mut Value, other: &Value, field: &str) {
    match other.get(field) {
        Some(value) => object[field] = value.clone(),
        None => drop(object.as_object_mut().map(|object| object.remove(field))),
    }
}

fn warnings(new: &Value, old: Option<&Value>, subresource: &str) -> Vec<String> {
    let mut warnings = workload::name_warning(new, old);
    if subresource != "status" {
        warnings.extend(spec_warnings(new, old, "/spec", "spec"));
    }
    warnings
}

/// What is warned of in the spec of a Job, or of the jobs of a CronJob, at a JSON pointer and the same in words: of
/// new objects, and where a change raised the generation.
pub fn spec_warnings(new: &Value, old: Option<&Value>, pointer: &str, path: &str) -> Vec<String> {
    let same = old.is_some_and(|old| old["metadata"]["generation"] == new["metadata"]["generation"]);
    let spec = new.pointer(pointer).filter(|_| !same);
    let mut warnings: Vec<String> = spec.and_then(|spec| size_warning(spec, path)).into_iter().collect();
    let (pointer, at) = (format!("{pointer}/template"), format!("{path}.template"));
    warnings.extend(workload::template_warnings(new, old, &pointer, &at));
    warnings
}

/// A Job so large that its indexes may not fit.
fn size_warning(spec: &Value, path: &str) -> Option<String> {
    let over = |field: &str, limit: i64| int(spec, field).is_some_and(|value| value > limit);
    let large = text(spec, "completionMode") == "Indexed"
        && over("completions", MANY_COMPLETIONS)
        && over("parallelism", MAX_PARALLELISM_OF_MANY);
    large.then(|| {
        format!(
            "{path}: In Indexed Jobs with a number of completions higher than 10^5 and a parallelism higher than 10^4, \
             Kubernetes might not be able to track completedIndexes when a big number of indexes fail"
        )
    })
}

#[cfg(test)]
mod tests;
