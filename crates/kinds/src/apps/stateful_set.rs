//! StatefulSet.

use std::borrow::Cow;

use apimachinery::field::{Error, ErrorList, Path};
use apimachinery::labels::Selector;
use serde_json::{Value, json};

use crate::check::{int, items, label as dns_label, not_negative, present, text};
use crate::core::claim;
use crate::strategy::{GENERIC, Strategy, label};
use crate::workload::{self, SPEC, TEMPLATE, amount, at_most_all, int_or_percent};

pub const STRATEGY: Strategy = Strategy {
    name: label,
    generation: true,
    prepare_for_create: |object| prepare(object, &Value::Null),
    prepare_for_update: |new, old, _| prepare(new, old),
    validate: |object, errors| validate(&object["spec"], &Value::Null, Rules::NEW, &SPEC, errors),
    validate_update,
    warnings,
    ..GENERIC
};

/// `MaxUnavailableStatefulSet` is off in v1.36: the field stays only where it already is.
fn prepare(new: &mut Value, old: &Value) {
    workload::drop_disabled(new, old, TEMPLATE);
    const ROLLING: &str = "/spec/updateStrategy/rollingUpdate";
    let has =
        |object: &Value| object.pointer(ROLLING).is_some_and(|r| present(r, "maxUnavailable").is_some());
    if !has(old)
        && let Some(rolling) = new.pointer_mut(ROLLING).and_then(Value::as_object_mut)
    {
        rolling.remove("maxUnavailable");
    }
}

/// What is not asked of an object that exists already.
#[derive(Clone, Copy)]
struct Rules {
    service_name: bool,
    claims: bool,
    template: bool,
}

impl Rules {
    const NEW: Rules = Rules { service_name: true, claims: true, template: true };
    const OLD: Rules = Rules { service_name: false, claims: false, template: true };
}

fn validate(spec: &Value, old: &Value, rules: Rules, path: &Path<'_>, errors: &mut ErrorList) {
    let at = path.child("podManagementPolicy");
    match text(spec, "podManagementPolicy") {
        "" => errors.push(Error::required(&at, "")),
        "OrderedReady" | "Parallel" => {}
        other => errors.push(Error::invalid(&at, other, "must be 'OrderedReady' or 'Parallel'")),
    }
    update_strategy(&spec["updateStrategy"], &path.child("updateStrategy"), errors);
    if let Some(policy) = present(spec, "persistentVolumeClaimRetentionPolicy") {
        let at = path.child("persistentVolumeClaimRetentionPolicy");
        for field in ["whenDeleted", "whenScaled"] {
            let value = text(policy, field);
            if !matches!(value, "Retain" | "Delete") {
                errors.push(Error::not_supported(&at.child(field), value, ["Retain", "Delete"]));
            }
        }
    }
    let claims = path.child("volumeClaimTemplates");
    for (index, claim) in items(spec, "volumeClaimTemplates").iter().enumerate().filter(|_| rules.claims) {
        claim::claim_spec(&claim["spec"], &claims.index(index).child("spec"), errors);
    }
    not_negative(spec, "replicas", path, errors);
    not_negative(spec, "minReadySeconds", path, errors);
    if let Some(ordinals) = present(spec, "ordinals") {
        not_negative(ordinals, "start", &path.child("ordinals"), errors);
    }
    let service = text(spec, "serviceName");
    if rules.service_name && !service.is_empty() {
        dns_label(service, &path.child("serviceName"), errors);
    }
    workload::required_selector(spec, "statefulset", path, errors);
    match Selector::of_value(&spec["selector"]) {
        Err(_) => errors.push(Error::invalid(&path.child("selector"), spec["selector"].clone(), "")),
        Ok(selector) => {
            if !selector.is_everything() {
                workload::labels_match(spec, &selector, path, errors);
            }
            if rules.template {
                workload::template(&as_of_pods(spec), old, path, errors);
            }
        }
    }
    workload::always(spec, "StatefulSet", path, errors);
}

fn update_strategy(strategy: &Value, path: &Path<'_>, errors: &mut ErrorList) {
    let at = path.child("rollingUpdate");
    match (text(strategy, "type"), present(strategy, "rollingUpdate")) {
        ("", _) => errors.push(Error::required(path, "")),
        ("OnDelete", None) | ("RollingUpdate", None) => {}
        ("OnDelete", Some(rolling)) => {
            // The names are those of upstream's internal type.
            let partition = int(rolling, "partition").unwrap_or(0);
            let value = json!({"Partition": partition, "MaxUnavailable": rolling.get("maxUnavailable")});
            errors.push(Error::invalid(&at, value, "only allowed for updateStrategy 'RollingUpdate'"));
        }
        ("RollingUpdate", Some(rolling)) => {
            not_negative(rolling, "partition", &at, errors);
            if let Some(value) = present(rolling, "maxUnavailable") {
                int_or_percent(rolling, "maxUnavailable", &at, errors);
                if amount(rolling, "maxUnavailable") == 0 {
                    errors.push(Error::invalid(&at.child("maxUnavailable"), value.clone(), "cannot be 0"));
                }
                at_most_all(rolling, "maxUnavailable", &at, errors);
            }
        }
        (kind, rolling) => {
            let value = json!({"Type": kind, "RollingUpdate": rolling});
            errors.push(Error::invalid(path, value, "must be 'RollingUpdate' or 'OnDelete'"));
        }
    }
}

/// The template as pods get it: named by the controller, with a volume for each claim.
fn as_of_pods(spec: &Value) -> Cow<'_, Value> {
    let pod = &spec["template"]["spec"];
    let claims = items(spec, "volumeClaimTemplates");
    if claims.is_empty() && text(pod, "subdomain").is_empty() && text(pod, "hostname").is_empty() {
        return Cow::Borrowed(spec);
    }
    let names: Vec<&str> = claims.iter().map(|claim| text(&claim["metadata"], "name")).collect();
    let mut template = spec["template"].clone();
    if let Some(pod) = template.get_mut("spec").and_then(Value::as_object_mut) {
        pod.remove("subdomain");
        pod.remove("hostname");
    }
    if !names.is_empty() {
        let own = items(pod, "volumes").iter().filter(|volume| !names.contains(&text(volume, "name")));
        let made = names.iter().enumerate().filter(|(at, name)| !names[..*at].contains(name));
        let made = made.map(|(_, name)| json!({"name": name, "persistentVolumeClaim": {"claimName": name}}));
        template["spec"]["volumes"] = made.chain(own.cloned()).collect();
    }
    Cow::Owned(json!({"template": template}))
}

fn validate_update(new: &Value, old: &Value, subresource: &str, errors: &mut ErrorList) {
    const UPDATABLE: &[&str] = &[
        "minReadySeconds",
        "ordinals",
        "persistentVolumeClaimRetentionPolicy",
        "replicas",
        "revisionHistoryLimit",
        "template",
        "updateStrategy",
    ];
    if subresource == "status" {
        status(&new["status"], errors);
        return workload::collisions(new, old, errors);
    }
    // What was stored in spite of faults may stay so.
    let mut before = ErrorList::new();
    validate(&old["spec"], &old["spec"], Rules::OLD, &Path::NIL, &mut before);
    let rules = Rules { template: before.is_empty(), ..Rules::OLD };
    validate(&new["spec"], &old["spec"], rules, &SPEC, errors);
    let (Some(after), Some(before)) = (new["spec"].as_object(), old["spec"].as_object()) else { return };
    let fixed = |name: &&String| !UPDATABLE.contains(&name.as_str());
    if after.keys().chain(before.keys()).filter(fixed).any(|name| after.get(name) != before.get(name)) {
        let why = "updates to statefulset spec for fields other than 'replicas', 'ordinals', 'template', \
                   'updateStrategy', 'revisionHistoryLimit', 'persistentVolumeClaimRetentionPolicy' and \
                   'minReadySeconds' are forbidden";
        errors.push(Error::forbidden(&SPEC, why));
    }
}

fn status(status: &Value, errors: &mut ErrorList) {
    let fields = [
        "replicas",
        "readyReplicas",
        "currentReplicas",
        "updatedReplicas",
        "availableReplicas",
        "observedGeneration",
        "collisionCount",
    ];
    workload::counts(status, &fields, errors);
    for part in ["readyReplicas", "currentReplicas", "updatedReplicas", "availableReplicas"] {
        workload::parts(status, &[(part, "replicas")], "cannot be greater than status.replicas", errors);
    }
    let ready = "cannot be greater than status.readyReplicas";
    workload::parts(status, &[("availableReplicas", "readyReplicas")], ready, errors);
}

fn warnings(new: &Value, old: Option<&Value>, subresource: &str) -> Vec<String> {
    if subresource == "status" {
        return Vec::new();
    }
    let mut warnings = workload::template_warnings(new, old, TEMPLATE, "spec.template");
    let list = SPEC.child("volumeClaimTemplates");
    for (index, claim) in items(&new["spec"], "volumeClaimTemplates").iter().enumerate() {
        let at = list.index(index);
        // Upstream names one part more on updates.
        let at = if old.is_some() { at.child("Spec") } else { at };
        claim::spec_warnings(&claim["spec"], &at, &mut warnings);
    }
    if int(&new["spec"], "revisionHistoryLimit").is_some_and(|limit| limit < 0) {
        let why = "a negative value retains all historical revisions; a value >= 0 is recommended";
        warnings.push(format!("spec.revisionHistoryLimit: {why}"));
    }
    warnings
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rows::Subject;

    fn subject() -> Subject {
        let good = json!({
            "metadata": {"name": "s", "namespace": "n"},
            "spec": {
                "serviceName": "svc",
                "selector": {"matchLabels": {"a": "b"}},
                "template": {"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [{"name": "c", "image": "i"}]}},
            },
        });
        Subject { group: "apps", version: "v1", kind: "StatefulSet", good }
    }

    /// `TestValidateStatefulSet`
    #[test]
    fn create() {
        let check = |spec: Value, expect: &[&str]| subject().created(json!({"spec": spec}), expect);
        check(json!({}), &[]);
        check(json!({"serviceName": null}), &[]);
        check(json!({"serviceName": "Invalid:Name"}), &["spec.serviceName: Invalid"]);
        check(json!({"podManagementPolicy": "Parallel"}), &[]);
        check(json!({"podManagementPolicy": "foo"}), &["spec.podManagementPolicy: Invalid"]);
        check(json!({"updateStrategy": {"type": "OnDelete"}}), &[]);
        check(json!({"updateStrategy": {"type": "foo"}}), &["spec.updateStrategy: Invalid"]);
        check(
            json!({"updateStrategy": {"type": "OnDelete", "rollingUpdate": {"partition": 1}}}),
            &["spec.updateStrategy.rollingUpdate: Invalid"],
        );
        check(
            json!({"updateStrategy": {"rollingUpdate": {"partition": -1}}}),
            &["spec.updateStrategy.rollingUpdate.partition: Invalid"],
        );
        // The field is not taken while its gate is off.
        check(json!({"updateStrategy": {"rollingUpdate": {"maxUnavailable": "x"}}}), &[]);
        check(
            json!({"replicas": -1, "minReadySeconds": -1}),
            &["spec.replicas: Invalid", "spec.minReadySeconds: Invalid"],
        );
        check(json!({"ordinals": {"start": 2}}), &[]);
        check(json!({"ordinals": {"start": -2}}), &["spec.ordinals.start: Invalid"]);
        check(json!({"revisionHistoryLimit": -1}), &[]);
        check(json!({"persistentVolumeClaimRetentionPolicy": {"whenDeleted": "Delete"}}), &[]);
        check(
            json!({"persistentVolumeClaimRetentionPolicy": {"whenDeleted": "x", "whenScaled": "y"}}),
            &[
                "spec.persistentVolumeClaimRetentionPolicy.whenDeleted: NotSupported",
                "spec.persistentVolumeClaimRetentionPolicy.whenScaled: NotSupported",
            ],
        );
        check(
            json!({"selector": null}),
            &["spec.selector: Required", "spec.template.metadata.labels: Invalid"],
        );
        check(json!({"selector": {"matchLabels": null}}), &["spec.selector: Invalid"]);
        check(
            json!({"template": {"spec": {"restartPolicy": "OnFailure"}}}),
            &["spec.template.spec.restartPolicy: NotSupported"],
        );
        check(
            json!({"template": {"spec": {"activeDeadlineSeconds": 1}}}),
            &["spec.template.spec.activeDeadlineSeconds: Forbidden"],
        );
        check(json!({"template": {"spec": {"subdomain": "Not:Valid", "hostname": "Not:Valid"}}}), &[]);
        let mount = json!({"spec": {"containers": [{"name": "c", "image": "i", "volumeMounts": [{"name": "data", "mountPath": "/d"}]}]}});
        check(
            json!({"template": mount}),
            &["spec.template.spec.containers[0].volumeMounts[0].name: NotFound"],
        );
        let claim = json!({"metadata": {"name": "data"}, "spec": {"accessModes": ["ReadWriteOnce"],
            "resources": {"requests": {"storage": "1Gi"}}}});
        check(json!({"template": mount, "volumeClaimTemplates": [claim]}), &[]);
        subject().says(json!({"spec": {"template": {"spec": {"activeDeadlineSeconds": 1}}}}),
            "spec.template.spec.activeDeadlineSeconds: Forbidden: activeDeadlineSeconds in StatefulSet is not Supported");
    }

    /// `TestValidateStatefulSetUpdate`, `TestValidateStatefulSetStatus`
    #[test]
    fn update() {
        let check =
            |after: Value, expect: &[&str]| subject().updated(json!({}), json!({"spec": after}), "", expect);
        check(
            json!({"replicas": 3, "minReadySeconds": 2, "ordinals": {"start": 1}, "revisionHistoryLimit": 3,
            "persistentVolumeClaimRetentionPolicy": {"whenDeleted": "Delete"}, "updateStrategy": {"type": "OnDelete", "rollingUpdate": null},
            "template": {"spec": {"nodeSelector": {"a": "b"}}}}),
            &[],
        );
        check(json!({"serviceName": "other"}), &["spec: Forbidden"]);
        check(json!({"podManagementPolicy": "Parallel"}), &["spec: Forbidden"]);
        check(json!({"volumeClaimTemplates": [{"metadata": {"name": "x"}}]}), &["spec: Forbidden"]);
        check(
            json!({"selector": {"matchLabels": {"a": "b", "c": "d"}}}),
            &["spec.template.metadata.labels: Invalid", "spec: Forbidden"],
        );
        check(
            json!({"template": {"spec": {"containers": []}}}),
            &["spec.template.spec.containers: Required"],
        );
        // A template that was bad already may change.
        let bad = json!({"spec": {"template": {"spec": {"containers": []}}}});
        subject().updated(bad, json!({"spec": {"replicas": 3}}), "", &[]);
        subject().updated(
            json!({"spec": {"serviceName": "No:Name"}}),
            json!({"spec": {"replicas": 3}}),
            "",
            &[],
        );
        subject().updated(json!({}), json!({"spec": {"replicas": -1}}), "scale", &["spec.replicas: Invalid"]);
        let status = |status: Value, expect: &[&str]| {
            subject().updated(json!({}), json!({"status": status}), "status", expect)
        };
        status(
            json!({"replicas": 3, "readyReplicas": 2, "availableReplicas": 1, "currentReplicas": 3, "updatedReplicas": 1}),
            &[],
        );
        status(json!({"replicas": 1, "readyReplicas": 2}), &["status.readyReplicas: Invalid"]);
        status(
            json!({"replicas": 1, "currentReplicas": 2, "updatedReplicas": 2}),
            &["status.currentReplicas: Invalid", "status.updatedReplicas: Invalid"],
        );
        status(
            json!({"replicas": 3, "readyReplicas": 1, "availableReplicas": 2}),
            &["status.availableReplicas: Invalid"],
        );
        status(
            json!({"replicas": 3, "observedGeneration": -1, "collisionCount": -1}),
            &["status.observedGeneration: Invalid", "status.collisionCount: Invalid"],
        );
    }
}
