//! ResourceSlice: the devices that a driver offers.

use apimachinery::field::{Error, ErrorList, Path};
use apimachinery::names;
use apimachinery::quantity::Quantity;
use serde_json::{Value, json};

use super::parts::{
    QUALIFIED_MAX, binding_conditions, by_name, list, map, name, pool_name, qualified_name, quoted_fields,
    set, taint,
};
use crate::check::{entries, flag, int, items, label, present, subdomain, text};
use crate::core::pod::affinity::node_selector;
use crate::meta::{csi_driver_name, same};

const MOST_DEVICES: usize = 128;
/// With taints, counters or attributes of several values.
const MOST_ADVANCED_DEVICES: usize = 64;
const MOST_COUNTER_SETS: usize = 8;
const MOST_COUNTERS: usize = 32;
const MOST_CONSUMED_SETS: usize = 2;
const MOST_ATTRIBUTES: usize = 32;
const MOST_ATTRIBUTE_VALUES: usize = 48;
const MOST_TAINTS: usize = 16;
const MOST_VALID_VALUES: usize = 10;
const VALUE_MAX: usize = 64;

/// Attributes of several values, and the fields of them.
const LISTS: [&str; 4] = ["bools", "ints", "strings", "versions"];

fn devices(object: &Value) -> &[Value] {
    items(&object["spec"], "devices")
}

fn has_lists(object: &Value) -> bool {
    let mut attributes = devices(object).iter().flat_map(|device| entries(device, "attributes"));
    attributes.any(|(_, attribute)| LISTS.iter().any(|field| present(attribute, field).is_some()))
}

/// Fields behind features that are off stay out, unless they were in before.
pub fn prepare(new: &mut Value, old: &Value) {
    let lists = has_lists(old);
    let mapped = "nodeAllocatableResourceMappings";
    let mappings = devices(old).iter().any(|device| entries(device, mapped).next().is_some());
    for device in new["spec"]["devices"].as_array_mut().into_iter().flatten() {
        if !mappings && let Some(device) = device.as_object_mut() {
            device.remove(mapped);
        }
        let attributes = device.get_mut("attributes").and_then(Value::as_object_mut);
        for attribute in
            attributes.into_iter().flatten().filter_map(|(_, attribute)| attribute.as_object_mut())
        {
            attribute.retain(|field, _| lists || !LISTS.contains(&field.as_str()));
        }
    }
}

/// A taint that does not say when it was added was so now.
pub fn stamp(new: &mut Value, _old: &Value, _subresource: &str, now: &str) {
    for device in new["spec"]["devices"].as_array_mut().into_iter().flatten() {
        let taints = device.get_mut("taints").and_then(Value::as_array_mut);
        for taint in taints.into_iter().flatten().filter(|taint| text(taint, "timeAdded").is_empty()) {
            taint["timeAdded"] = json!(now);
        }
    }
}

pub fn warnings(slice: &Value) -> Vec<String> {
    let driver = text(&slice["spec"], "driver");
    if driver == driver.to_lowercase() {
        return Vec::new();
    }
    vec![format!("spec.driver: driver names should be lowercase; {driver:?} contains uppercase characters")]
}

pub fn slice(slice: &Value, old: Option<&Value>, errors: &mut ErrorList) {
    let path = Path::new("spec");
    let spec = &slice["spec"];
    csi_driver_name(text(spec, "driver"), &path.child("driver"), errors);
    pool(&spec["pool"], &path.child("pool"), errors);
    if let Some(old) = old.map(|old| &old["spec"]) {
        let at = path.child("pool");
        for (now, was, at) in [
            (&spec["pool"]["name"], &old["pool"]["name"], at.child("name")),
            (&spec["driver"], &old["driver"], path.child("driver")),
            (&spec["nodeName"], &old["nodeName"], path.child("nodeName")),
        ] {
            crate::meta::unchanged(now, was, &at, errors);
        }
    }
    let mut given = where_to(spec, "must be either unset or set to a non-empty string", &path, errors);
    if let Some(selector) = present(spec, "nodeSelector") {
        let terms = items(selector, "nodeSelectorTerms");
        if terms.len() != 1 {
            let at = path.child("nodeSelector");
            let why = "must have exactly one node selector term";
            errors.push(Error::invalid(&at.child("nodeSelectorTerms"), terms.to_vec(), why));
        }
    }
    only_true(spec, "allNodes", &mut given, &path, errors);
    only_true(spec, "perDeviceNodeSelection", &mut given, &path, errors);
    let why = "exactly one of `nodeName`, `nodeSelector`, `allNodes`, `perDeviceNodeSelection` is required";
    match given.len() {
        0 => errors.push(Error::required(&path, why)),
        1 => {}
        _ => {
            let why = format!("{why}, but multiple fields are set");
            errors.push(Error::invalid(&path, quoted_fields(&given), why));
        }
    }
    if present(spec, "sharedCounters").is_some() && present(spec, "devices").is_some() {
        errors.push(Error::invalid(&path, "", "only one of `sharedCounters` or `devices` is allowed"));
    }
    let devices = items(spec, "devices");
    let any = |field: &str| devices.iter().any(|device| !items(device, field).is_empty());
    let advanced = any("taints") || any("consumesCounters") || has_lists(slice);
    let most = if advanced { MOST_ADVANCED_DEVICES } else { MOST_DEVICES };
    let per_device = flag(spec, "perDeviceNodeSelection");
    set(devices, most, by_name, &path.child("devices"), errors, &mut |device, at, errors| {
        let before = old.and_then(|old| self::devices(old).iter().find(|old| old["name"] == device["name"]));
        self::device(device, before, per_device, at, errors);
    });
    let counters = items(spec, "sharedCounters");
    set(
        counters,
        MOST_COUNTER_SETS,
        by_name,
        &path.child("sharedCounters"),
        errors,
        &mut |counters, at, errors| {
            self::counters(counters, "name", at, errors);
        },
    );
}

fn pool(pool: &Value, path: &Path<'_>, errors: &mut ErrorList) {
    pool_name(text(pool, "name"), &path.child("name"), errors);
    let count = int(pool, "resourceSliceCount").unwrap_or(0);
    if count <= 0 {
        errors.push(Error::invalid(&path.child("resourceSliceCount"), count, "must be greater than zero"));
    }
    if let Some(generation) = int(pool, "generation").filter(|generation| *generation < 0) {
        let why = "must be greater than or equal to zero";
        errors.push(Error::invalid(&path.child("generation"), generation, why));
    }
}

/// Which of a node's name and a selector of nodes are given, both checked.
fn where_to(object: &Value, empty: &str, path: &Path<'_>, errors: &mut ErrorList) -> Vec<&'static str> {
    let mut given = Vec::new();
    match present(object, "nodeName").and_then(Value::as_str) {
        None => {}
        Some("") => errors.push(Error::invalid(&path.child("nodeName"), "", empty)),
        Some(node) => {
            given.push("nodeName");
            subdomain(node, &path.child("nodeName"), errors);
        }
    }
    if let Some(selector) = present(object, "nodeSelector") {
        given.push("nodeSelector");
        node_selector(selector, &path.child("nodeSelector"), errors);
    }
    given
}

fn only_true(
    object: &Value,
    field: &'static str,
    given: &mut Vec<&'static str>,
    path: &Path<'_>,
    errors: &mut ErrorList,
) {
    match object.get(field).and_then(Value::as_bool) {
        Some(true) => given.push(field),
        Some(false) => {
            errors.push(Error::invalid(&path.child(field), false, "must be either unset or set to true"));
        }
        None => {}
    }
}

/// A set of counters: of a pool, or what a device takes of one.
fn counters(object: &Value, field: &str, path: &Path<'_>, errors: &mut ErrorList) {
    match text(object, field) {
        "" => errors.push(Error::required(&path.child(field), "")),
        _ => name(object, field, path, errors),
    }
    match entries(object, "counters").count() {
        0 => errors.push(Error::required(&path.child("counters"), "")),
        count if count > MOST_COUNTERS => {
            errors.push(Error::too_many(&path.child("counters"), count, MOST_COUNTERS));
        }
        _ => map(object, "counters", names::LABEL_MAX, path, errors, label, &mut |_, _, _| {}),
    }
}

fn device(device: &Value, old: Option<&Value>, per_device: bool, path: &Path<'_>, errors: &mut ErrorList) {
    name(device, "name", path, errors);
    let count = entries(device, "attributes").count() + entries(device, "capacity").count();
    if count > MOST_ATTRIBUTES {
        let why = format!("the total number of attributes and capacities must not exceed {MOST_ATTRIBUTES}");
        errors.push(Error::invalid(path, count, why));
    }
    let values =
        |attribute: &Value| LISTS.iter().map(|field| items(attribute, field).len()).sum::<usize>().max(1);
    let count: usize = entries(device, "attributes").map(|(_, attribute)| values(attribute)).sum();
    if count > MOST_ATTRIBUTE_VALUES {
        let why = format!("the total number of attribute values must not exceed {MOST_ATTRIBUTE_VALUES}");
        errors.push(Error::invalid(path, count, why));
    }
    map(device, "attributes", QUALIFIED_MAX, path, errors, qualified_name, &mut attribute);
    let shared = flag(device, "allowMultipleAllocations");
    map(device, "capacity", QUALIFIED_MAX, path, errors, qualified_name, &mut |capacity, at, errors| {
        let Some(policy) = present(capacity, "requestPolicy") else { return };
        let at = at.child("requestPolicy");
        if shared {
            request_policy(capacity, policy, &at, errors);
        } else {
            errors.push(Error::forbidden(&at, "allowMultipleAllocations must be true"));
        }
    });
    if old.is_none_or(|old| !same(&old["taints"], &device["taints"])) {
        list(items(device, "taints"), MOST_TAINTS, &path.child("taints"), errors, &mut |one, at, errors| {
            taint(one, None, at, errors);
        });
    }
    let by_set = |consumption: &Value| text(consumption, "counterSet").to_owned();
    let consumed = items(device, "consumesCounters");
    let at = path.child("consumesCounters");
    set(consumed, MOST_CONSUMED_SETS, by_set, &at, errors, &mut |consumption, at, errors| {
        counters(consumption, "counterSet", at, errors);
    });
    if per_device {
        let mut given = where_to(device, "must not be empty", path, errors);
        only_true(device, "allNodes", &mut given, path, errors);
        let why = "exactly one of `nodeName`, `nodeSelector`, or `allNodes` is required when \
                   `perDeviceNodeSelection` is set to true in the ResourceSlice spec";
        match given.len() {
            0 => errors.push(Error::required(path, why)),
            1 => {}
            _ => errors.push(Error::invalid(path, quoted_fields(&given), why)),
        }
    } else if ["nodeName", "nodeSelector", "allNodes"].iter().any(|field| present(device, field).is_some()) {
        let why = "`nodeName`, `nodeSelector` and `allNodes` can only be set if `perDeviceNodeSelection` is set to \
                   true in the ResourceSlice spec";
        errors.push(Error::invalid(path, Value::Null, why));
    }
    binding_conditions(device, path, errors);
    mappings(device, &path.child("nodeAllocatableResourceMappings"), errors);
}

/// How a device's capacity counts as a node's resource.
fn mappings(device: &Value, path: &Path<'_>, errors: &mut ErrorList) {
    for (resource, mapping) in entries(device, "nodeAllocatableResourceMappings") {
        let at = path.key(resource);
        if resource.contains('/') && !resource.contains("kubernetes.io/") {
            errors.push(Error::invalid(&at, resource.as_str(), "must be a node allocatable resource name"));
        }
        let (multiplier, key) = (present(mapping, "allocationMultiplier"), present(mapping, "capacityKey"));
        if multiplier.is_none() && key.is_none() {
            errors.push(Error::invalid(
                &at,
                "",
                "at least one of allocationMultiplier or capacityKey must be set",
            ));
        }
        if let Some(multiplier) = multiplier.and_then(|multiplier| Quantity::from_value(multiplier).ok())
            && multiplier.sign() <= 0
        {
            let at = at.child("allocationMultiplier");
            errors.push(Error::invalid(&at, multiplier.canonical(), "must be positive"));
        }
        let at = at.child("capacityKey");
        match key.and_then(Value::as_str) {
            None => {}
            Some("") => errors.push(Error::invalid(&at, "", "capacityKey must not be an empty string")),
            Some(key) if device["capacity"].get(key).is_none() => errors.push(Error::not_found(&at, key)),
            Some(_) => {}
        }
    }
}

fn attribute(attribute: &Value, path: &Path<'_>, errors: &mut ErrorList) {
    let mut given = ["bool", "int"].iter().filter(|field| present(attribute, field).is_some()).count();
    for field in ["string", "version"] {
        if let Some(value) = present(attribute, field) {
            given += 1;
            attribute_value(value, field == "version", &path.child(field), errors);
        }
    }
    for field in LISTS {
        let Some(values) = present(attribute, field).and_then(Value::as_array) else { continue };
        given += 1;
        let at = path.child(field);
        if values.is_empty() {
            errors.push(Error::invalid(&at, json!([]), "must not be empty if specified"));
        }
        if ["strings", "versions"].contains(&field) {
            for (index, value) in values.iter().enumerate() {
                attribute_value(value, field == "versions", &at.index(index), errors);
            }
        }
    }
    if given != 1 {
        let told = if given == 0 { json!("") } else { attribute.clone() };
        errors.push(Error::invalid(path, told, "exactly one value must be specified"));
    }
}

fn attribute_value(value: &Value, version: bool, path: &Path<'_>, errors: &mut ErrorList) {
    let value = value.as_str().unwrap_or_default();
    if version && !is_semantic_version(value) {
        errors.push(Error::invalid(path, value, "must be a string compatible with semver.org spec 2.0.0"));
    }
    if value.len() > VALUE_MAX {
        errors.push(Error::too_long(path, VALUE_MAX));
    }
}

/// `1.2.3-alpha.1+build.5`: numbers without zeros in front.
fn is_semantic_version(text: &str) -> bool {
    let part = |text: &str| {
        !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
    };
    let number = |text: &str| {
        !text.is_empty()
            && text.bytes().all(|byte| byte.is_ascii_digit())
            && (text == "0" || !text.starts_with('0'))
    };
    let (rest, build) = text.split_once('+').map_or((text, None), |(rest, build)| (rest, Some(build)));
    let (core, before) = rest.split_once('-').map_or((rest, None), |(core, before)| (core, Some(before)));
    let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    core.split('.').count() == 3
        && core.split('.').all(number)
        && before.is_none_or(|all| all.split('.').all(|one| part(one) && (!digits(one) || number(one))))
        && build.is_none_or(|all| all.split('.').all(part))
}

/// How much of a shared capacity a request takes: one of some values, or a range with steps.
fn request_policy(capacity: &Value, policy: &Value, path: &Path<'_>, errors: &mut ErrorList) {
    let values = items(policy, "validValues");
    let range = present(policy, "validRange");
    if !values.is_empty() && range.is_some() {
        let why = "exactly one policy can be specified, cannot specify \"validValues\" and \"validRange\" at the \
                   same time";
        errors.push(Error::forbidden(path, why));
        return;
    }
    let of = |value: &Value| Quantity::from_value(value).ok();
    let (Some(most), default) = (of(&capacity["value"]), present(policy, "default").and_then(of)) else {
        return;
    };
    let field = if range.is_some() { "validRange" } else { "validValues" };
    if range.is_none() && values.is_empty() {
        return;
    }
    let Some(default) = default else {
        errors.push(Error::required(&path.child("default"), format!("required when {field} is defined")));
        return;
    };
    match range {
        Some(range) => valid_range(range, &most, &default, &path.child(field), errors),
        None => {
            let values: Vec<Quantity> = values.iter().filter_map(of).collect();
            valid_values(&values, &most, &default, &path.child(field), errors);
        }
    }
}

fn valid_values(
    values: &[Quantity],
    most: &Quantity,
    default: &Quantity,
    path: &Path<'_>,
    errors: &mut ErrorList,
) {
    for (index, pair) in values.windows(2).enumerate() {
        if let [before, after] = pair
            && before > after
        {
            let why = "values must be sorted in ascending order";
            errors.push(Error::invalid(&path.index(index + 1), after.canonical(), why));
        }
    }
    if values.len() > MOST_VALID_VALUES {
        errors.push(Error::too_many(path, values.len(), MOST_VALID_VALUES));
    } else {
        for (index, value) in values.iter().enumerate().filter(|(_, value)| *value > most) {
            let why = format!("option is larger than capacity value: {}", most.canonical());
            errors.push(Error::invalid(&path.index(index), value.canonical(), why));
        }
        for (index, value) in values.iter().enumerate() {
            if values.iter().take(index).any(|earlier| earlier.value() == value.value()) {
                errors.push(Error::duplicate(&path.index(index), value.value().to_string()));
            }
        }
    }
    // Too many values are not looked at, so the default is not among them.
    if values.len() > MOST_VALID_VALUES || !values.contains(default) {
        let why = "default value is not valid according to the requestPolicy";
        errors.push(Error::invalid(path, default.canonical(), why));
    }
}

fn valid_range(range: &Value, most: &Quantity, default: &Quantity, path: &Path<'_>, errors: &mut ErrorList) {
    let of = |field: &str| present(range, field).and_then(|value| Quantity::from_value(value).ok());
    let Some(min) = of("min") else {
        errors.push(Error::required(&path.child("min"), "required when validRange is defined"));
        return;
    };
    let mut bad = |field: &str, value: &Quantity, why: String| {
        errors.push(Error::invalid(&path.child(field), value.canonical(), why));
    };
    let shown = Quantity::canonical;
    if min > *most {
        bad("min", &min, format!("min is larger than capacity value: {}", shown(most)));
    }
    if *default < min {
        bad("min", default, format!("default is less than min: {}", shown(&min)));
    }
    let max = of("max");
    if let Some(max) = &max {
        if min > *max {
            bad("max", &min, format!("min is larger than max: {}", shown(max)));
        }
        if max > most {
            bad("max", max, format!("max is larger than capacity value: {}", shown(most)));
        }
        if default > max {
            bad("max", default, format!("default is more than max: {}", shown(max)));
        }
    }
    let Some(step) = of("step") else { return };
    let mut one = min.clone();
    one.add(&step);
    if one > *most {
        bad(
            "step",
            &step,
            format!("one step {} is larger than capacity value: {}", shown(&one), shown(most)),
        );
    }
    for value in [Some(default), max.as_ref()].into_iter().flatten() {
        // A step of nothing would divide by zero; whoever gives one has no steps.
        let off = value.value().wrapping_sub(min.value()).checked_rem(step.value());
        if off.is_some_and(|off| off != 0) {
            let why =
                format!("value is not a multiple of a given step ({}) from ({})", shown(&step), shown(&min));
            bad("step", value, why);
        }
    }
}

#[cfg(test)]
mod tests;
