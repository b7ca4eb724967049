//! Defaults of the groups that run the cluster: admission, API services, custom resources, flow control, devices,
//! priorities, storage (upstream's `pkg/apis/*/*/defaults.go`).

use serde_json::{Map, Value, json};

use super::{Rule, has, is_empty, set, sub, text, there};

pub const RULES: &[(&str, Rule)] = &[
    ("scheduling.v1.PriorityClass", |map| set(map, "preemptionPolicy", "PreemptLowerPriority")),
    ("storage.v1.StorageClass", storage_class),
    ("storage.v1.CSIDriverSpec", csi_driver),
    ("admissionregistration.v1.ValidatingWebhook", webhook),
    ("admissionregistration.v1.MutatingWebhook", mutating_webhook),
    ("admissionregistration.v1.RuleWithOperations", |map| set(map, "scope", "*")),
    ("admissionregistration.v1.NamedRuleWithOperations", |map| set(map, "scope", "*")),
    ("admissionregistration.v1.ServiceReference", |map| set(map, "port", 443)),
    ("admissionregistration.v1.ValidatingAdmissionPolicySpec", |map| set(map, "failurePolicy", "Fail")),
    ("admissionregistration.v1.MutatingAdmissionPolicySpec", |map| set(map, "failurePolicy", "Fail")),
    ("admissionregistration.v1.MatchResources", match_resources),
    ("kube-aggregator.pkg.apis.apiregistration.v1.ServiceReference", |map| set(map, "port", 443)),
    ("flowcontrol.v1.FlowSchemaSpec", |map| number(map, "matchingPrecedence", 1000)),
    ("flowcontrol.v1.ExemptPriorityLevelConfiguration", exempt_level),
    ("flowcontrol.v1.LimitedPriorityLevelConfiguration", limited_level),
    ("flowcontrol.v1.QueuingConfiguration", queuing),
    ("resource.v1.ExactDeviceRequest", device_request),
    ("resource.v1.DeviceSubRequest", device_request),
    ("resource.v1.Device", device),
    (
        "apiextensions-apiserver.pkg.apis.apiextensions.v1.CustomResourceDefinition",
        custom_resource_definition,
    ),
    ("apiextensions-apiserver.pkg.apis.apiextensions.v1.ServiceReference", |map| set(map, "port", 443)),
    ("admissionregistration.v1beta1.MatchResources", match_resources),
    ("admissionregistration.v1beta1.MutatingAdmissionPolicySpec", |map| set(map, "failurePolicy", "Fail")),
    ("admissionregistration.v1beta1.NamedRuleWithOperations", |map| set(map, "scope", "*")),
    ("admissionregistration.v1alpha1.MatchResources", match_resources),
    ("admissionregistration.v1alpha1.MutatingAdmissionPolicySpec", |map| set(map, "failurePolicy", "Fail")),
    ("admissionregistration.v1alpha1.NamedRuleWithOperations", |map| set(map, "scope", "*")),
    ("admissionregistration.v1alpha1.ParamRef", |map| set(map, "parameterNotFoundAction", "Deny")),
    ("resource.v1beta2.ExactDeviceRequest", device_request),
    ("resource.v1beta2.DeviceSubRequest", device_request),
    ("resource.v1beta2.Device", device),
    ("resource.v1beta1.DeviceRequest", flat_device_request),
    ("resource.v1beta1.DeviceSubRequest", device_request),
    ("resource.v1beta1.BasicDevice", device),
];

fn storage_class(map: &mut Map<String, Value>) {
    set(map, "reclaimPolicy", "Delete");
    set(map, "volumeBindingMode", "Immediate");
}

fn csi_driver(map: &mut Map<String, Value>) {
    set(map, "attachRequired", true);
    for field in ["podInfoOnMount", "storageCapacity", "requiresRepublish", "seLinuxMount"] {
        set(map, field, false);
    }
    set(map, "fsGroupPolicy", "ReadWriteOnceWithFSType");
    if is_empty(map, "volumeLifecycleModes") {
        map.insert("volumeLifecycleModes".to_owned(), json!(["Persistent"]));
    }
}

fn webhook(map: &mut Map<String, Value>) {
    set(map, "failurePolicy", "Fail");
    match_resources(map);
    set(map, "timeoutSeconds", 10);
}

fn mutating_webhook(map: &mut Map<String, Value>) {
    webhook(map);
    set(map, "reinvocationPolicy", "Never");
}

fn match_resources(map: &mut Map<String, Value>) {
    set(map, "matchPolicy", "Equivalent");
    sub(map, "namespaceSelector");
    sub(map, "objectSelector");
}

fn exempt_level(map: &mut Map<String, Value>) {
    set(map, "nominalConcurrencyShares", 0);
    set(map, "lendablePercent", 0);
}

fn limited_level(map: &mut Map<String, Value>) {
    set(map, "nominalConcurrencyShares", 30);
    set(map, "lendablePercent", 0);
}

fn queuing(map: &mut Map<String, Value>) {
    number(map, "queues", 64);
    number(map, "handSize", 8);
    number(map, "queueLengthLimit", 50);
}

fn device_request(map: &mut Map<String, Value>) {
    set(map, "allocationMode", "ExactCount");
    if text(map, "allocationMode") == "ExactCount" {
        number(map, "count", 1);
    }
}

/// A device's capacity counts once for a node's resource, unless it says otherwise.
fn device(map: &mut Map<String, Value>) {
    for (_, mapping) in there(map, "nodeAllocatableResourceMappings").into_iter().flatten() {
        if let Some(mapping) = mapping.as_object_mut() {
            set(mapping, "allocationMultiplier", "1");
        }
    }
}

/// Names that follow from the kind, no conversion, and that what is stored now is all that has been.
fn custom_resource_definition(map: &mut Map<String, Value>) {
    let Some(spec) = there(map, "spec") else { return };
    if let Some(names) = there(spec, "names") {
        let kind = text(names, "kind").to_owned();
        if !kind.is_empty() {
            set(names, "singular", kind.to_lowercase());
            set(names, "listKind", format!("{kind}List"));
        }
    }
    if !has(spec, "conversion") {
        spec.insert("conversion".to_owned(), json!({"strategy": "None"}));
    }
    let versions = spec.get("versions").and_then(Value::as_array).into_iter().flatten();
    let stored = versions.into_iter().find(|version| version.get("storage") == Some(&Value::Bool(true)));
    let stored = stored.and_then(|version| version.get("name")).cloned();
    if let Some(name) = stored
        && let Some(status) = sub(map, "status")
        && is_empty(status, "storedVersions")
    {
        status.insert("storedVersions".to_owned(), json!([name]));
    }
}

/// A number that is absent or zero.
fn number(map: &mut Map<String, Value>, name: &str, value: i64) {
    if map.get(name).is_none_or(|present| present.is_null() || *present == 0) {
        map.insert(name.to_owned(), value.into());
    }
}

/// A request with a class; one of alternatives has neither mode nor count.
fn flat_device_request(map: &mut Map<String, Value>) {
    if !text(map, "deviceClassName").is_empty() {
        device_request(map);
    }
}
