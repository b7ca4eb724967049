//! What a Job's status may say. Rules that came with `spec.managedBy` (KEP-4368) only look at what changes, so that
//! older objects can still be written.

use std::collections::BTreeSet;

use apimachinery::field::{Error, ErrorList};
use apimachinery::time::timestamp;
use serde_json::Value;

use super::{indexes, invalid_without_value};
use crate::check::{flag, int, items, present, text};
use crate::workload::{self, STATUS};

/// Whether a condition of a status holds.
pub fn is_true(status: &Value, condition: &str) -> bool {
    has(status, condition, "True")
}

fn has(status: &Value, condition: &str, value: &str) -> bool {
    let mut conditions = items(status, "conditions").iter();
    conditions.any(|c| text(c, "type") == condition && text(c, "status") == value)
}

fn is_finished(status: &Value) -> bool {
    is_true(status, "Complete") || is_true(status, "Failed")
}

/// One look at the new status beside the old one.
struct Change<'a> {
    spec: &'a Value,
    new: &'a Value,
    old: &'a Value,
}

impl Change<'_> {
    fn condition(&self, name: &str) -> bool {
        is_true(self.new, name) != is_true(self.old, name)
    }

    fn finished(&self) -> bool {
        is_finished(self.new) != is_finished(self.old)
    }

    fn field(&self, name: &str) -> bool {
        present(self.new, name) != present(self.old, name)
    }

    fn count(&self, name: &str) -> bool {
        int(self.new, name).unwrap_or(0) != int(self.old, name).unwrap_or(0)
    }

    fn is(&self, condition: &str) -> bool {
        is_true(self.new, condition)
    }
}

pub fn validate_update(new: &Value, old: &Value, errors: &mut ErrorList) {
    let change = Change { spec: &new["spec"], new: &new["status"], old: &old["status"] };
    let status = change.new;
    workload::counts(status, &["active", "succeeded", "failed", "ready", "terminating"], errors);
    uncounted(status, errors);
    terminal_conditions(&change, errors);
    finished(&change, errors);
    index_lists(&change, errors);
    pods(&change, errors);
    success(&change, errors);
    transitions(&change, errors);
}

/// Pods are counted once.
fn uncounted(status: &Value, errors: &mut ErrorList) {
    let Some(pods) = present(status, "uncountedTerminatedPods") else { return };
    let path = STATUS.child("uncountedTerminatedPods");
    let mut seen = BTreeSet::new();
    for list in ["succeeded", "failed"] {
        let list_path = path.child(list);
        for (index, uid) in items(pods, list).iter().enumerate() {
            let (at, uid) = (list_path.index(index), uid.as_str().unwrap_or_default());
            if uid.is_empty() {
                errors.push(Error::invalid(&at, uid, "must not be empty"));
            } else if !seen.insert(uid) {
                errors.push(Error::duplicate(&at, uid));
            }
        }
    }
}

fn terminal_conditions(change: &Change<'_>, errors: &mut ErrorList) {
    let status = change.new;
    let (complete, failed) = (change.is("Complete"), change.is("Failed"));
    let mut wrong = |why: &str| errors.push(invalid_without_value(&STATUS.child("conditions"), why));
    if (change.condition("Complete") || change.condition("Failed")) && complete && failed {
        wrong("cannot set Complete=True and Failed=true conditions");
    }
    if (change.condition("Complete") || change.condition("FailureTarget"))
        && complete
        && change.is("FailureTarget")
    {
        wrong("cannot set Complete=True and FailureTarget=true conditions");
    }
    let completion = present(status, "completionTime");
    let at = STATUS.child("completionTime");
    if change.condition("Complete") || change.field("completionTime") {
        match completion {
            Some(time) if !complete => {
                let why = "cannot set completionTime when there is no Complete=True condition";
                errors.push(Error::invalid(&at, time.clone(), why));
            }
            None if complete => {
                errors.push(Error::required(&at, "completionTime is required for Complete jobs"));
            }
            _ => {}
        }
    }
    if change.field("startTime") || change.field("completionTime") {
        let time = |field: &str| present(status, field).and_then(Value::as_str).and_then(timestamp);
        if let (Some(start), Some(end)) = (time("startTime"), time("completionTime"))
            && end < start
        {
            let value = status["completionTime"].clone();
            errors.push(Error::invalid(&at, value, "must be equal to or after `startTime`"));
        }
    }
    let mut wrong = |why: &str| errors.push(invalid_without_value(&STATUS.child("conditions"), why));
    if (change.condition("Failed") || change.field("failedIndexes")) && failed && !change.is("FailureTarget")
    {
        wrong("cannot set Failed=True condition without the FailureTarget=true condition");
    }
    let met = change.condition("SuccessCriteriaMet");
    if (change.condition("Complete") || met) && complete && !change.is("SuccessCriteriaMet") {
        wrong("cannot set Complete=True condition without the SuccessCriteriaMet=true condition");
    }
}

fn finished(change: &Change<'_>, errors: &mut ErrorList) {
    let status = change.new;
    if !is_finished(status) {
        return;
    }
    let active = int(status, "active").unwrap_or(0);
    if (change.finished() || change.count("active")) && active > 0 {
        let why = "active>0 is invalid for finished job";
        errors.push(Error::invalid(&STATUS.child("active"), active, why));
    }
    let never_started = flag(change.spec, "suspend") && int(change.spec, "completions") == Some(0);
    if (change.finished() || change.field("startTime"))
        && !never_started
        && present(status, "startTime").is_none()
    {
        errors.push(Error::required(&STATUS.child("startTime"), "startTime is required for finished job"));
    }
    if (change.finished() || change.field("uncountedTerminatedPods"))
        && let Some(pods) = present(status, "uncountedTerminatedPods")
        && !(items(pods, "failed").is_empty() && items(pods, "succeeded").is_empty())
    {
        let at = STATUS.child("uncountedTerminatedPods");
        errors.push(Error::invalid(&at, pods.clone(), "must be empty for finished job"));
    }
}

fn index_lists(change: &Change<'_>, errors: &mut ErrorList) {
    let (spec, status) = (change.spec, change.new);
    let completed = text(status, "completedIndexes");
    let failed = present(status, "failedIndexes").and_then(Value::as_str);
    let completed_changed = completed != text(change.old, "completedIndexes");
    let failed_changed = change.field("failedIndexes");
    let completions = int(spec, "completions");
    let limited = int(spec, "backoffLimitPerIndex").is_some();
    let (completed_at, failed_at) = (STATUS.child("completedIndexes"), STATUS.child("failedIndexes"));
    if completed_changed
        && let Some(completions) = completions
        && let Err(why) = indexes::count(completed, completions)
    {
        let why = format!("error parsing completedIndexes: {why}");
        errors.push(Error::invalid(&completed_at, completed, why));
    }
    if failed_changed
        && limited
        && let (Some(completions), Some(failed)) = (completions, failed)
        && let Err(why) = indexes::count(failed, completions)
    {
        errors.push(Error::invalid(&failed_at, failed, format!("error parsing failedIndexes: {why}")));
    }
    if completed_changed && !completed.is_empty() && text(spec, "completionMode") != "Indexed" {
        let why = "cannot set non-empty completedIndexes when non-indexed completion mode";
        errors.push(Error::invalid(&completed_at, completed, why));
    }
    let Some(failed) = failed else { return };
    if failed_changed && !limited {
        let why = "cannot set non-null failedIndexes when backoffLimitPerIndex is null";
        errors.push(Error::invalid(&failed_at, failed, why));
    }
    if (failed_changed || completed_changed)
        && let Some(completions) = completions
        && let Some(index) = indexes::overlap(completed, failed, completions)
    {
        let why = format!("failedIndexes and completedIndexes overlap at index: {index}");
        errors.push(Error::invalid(&failed_at, failed, why));
    }
}

fn pods(change: &Change<'_>, errors: &mut ErrorList) {
    let status = change.new;
    if let Some(terminating) = int(status, "terminating")
        && (change.finished() || change.field("terminating"))
        && terminating > 0
        && is_finished(status)
    {
        let why = "terminating>0 is invalid for finished job";
        errors.push(Error::invalid(&STATUS.child("terminating"), terminating, why));
    }
    if let Some(ready) = int(status, "ready")
        && (change.field("ready") || change.count("active"))
        && ready > int(status, "active").unwrap_or(0)
    {
        errors.push(Error::invalid(&STATUS.child("ready"), ready, "cannot set more ready pods than active"));
    }
}

fn success(change: &Change<'_>, errors: &mut ErrorList) {
    let met = change.is("SuccessCriteriaMet");
    let mut wrong = |why: &str| errors.push(invalid_without_value(&STATUS.child("conditions"), why));
    if met && change.is("Failed") {
        wrong("cannot set SuccessCriteriaMet=True and Failed=true conditions");
    }
    if met && change.is("FailureTarget") {
        wrong("cannot set SuccessCriteriaMet=True and FailureTarget=true conditions");
    }
    if present(change.spec, "successPolicy").is_some() && !met && change.is("Complete") {
        wrong("cannot set Complete=True for Job with SuccessPolicy unless SuccessCriteriaMet=True");
    }
}

/// What a status cannot take back.
fn transitions(change: &Change<'_>, errors: &mut ErrorList) {
    let (spec, new, old) = (change.spec, change.new, change.old);
    for condition in ["Failed", "Complete", "FailureTarget"] {
        if is_true(old, condition) && !is_true(new, condition) {
            let why = format!("cannot disable the terminal {condition}=True condition");
            errors.push(invalid_without_value(&STATUS.child("conditions"), &why));
        }
    }
    // An Indexed Job that is scaled down loses indexes.
    let elastic =
        text(spec, "completionMode") == "Indexed" && int(spec, "completions") == int(spec, "parallelism");
    for (field, counts) in [("failed", true), ("succeeded", !elastic)] {
        let now = int(new, field).unwrap_or(0);
        if counts && now < int(old, field).unwrap_or(0) {
            let why = format!("cannot decrease the {field} counter");
            errors.push(Error::invalid(&STATUS.child(field), now, why));
        }
    }
    let both = |field: &str| present(new, field).zip(present(old, field));
    if let Some((now, _)) = both("completionTime").filter(|(now, before)| now != before) {
        errors.push(Error::invalid(&STATUS.child("completionTime"), now.clone(), "field is immutable"));
    }
    let resuming = is_true(old, "Suspended") && has(new, "Suspended", "False");
    if present(old, "startTime").is_some() && change.field("startTime") && !resuming && !flag(spec, "suspend")
    {
        let value = new.get("startTime").cloned().unwrap_or_default();
        let why = "field is immutable for unsuspended job once set";
        errors.push(Error::invalid(&STATUS.child("startTime"), value, why));
    }
    let mut wrong = |why: &str| errors.push(invalid_without_value(&STATUS.child("conditions"), why));
    if is_true(old, "SuccessCriteriaMet") && !change.is("SuccessCriteriaMet") {
        wrong("cannot disable the SuccessCriteriaMet=True condition");
    }
    if is_true(old, "Complete") && !is_true(old, "SuccessCriteriaMet") && change.is("SuccessCriteriaMet") {
        wrong("cannot set SuccessCriteriaMet=True for Job already has Complete=true conditions");
    }
}
