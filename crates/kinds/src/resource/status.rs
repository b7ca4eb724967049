//! ResourceClaim's status: what has been allocated, for whom, and what drivers say of it.

use std::collections::BTreeSet;

use apimachinery::field::{Error, ErrorList, Path};
use serde_json::Value;

use super::claim::{MOST_CONFIG, RequestNames};
use super::parts::{binding_conditions, configuration, list, name, pool_name, raw, set, uid};
use crate::check::{items, one_of, present, text};
use crate::core::pod::affinity::node_selector;
use crate::ip;
use crate::meta::{conditions, csi_driver_name, keep_for_status, same};

const MOST_CONSUMERS: usize = 256;
const MOST_RESULTS: usize = 32;
const MOST_CONDITIONS: usize = 8;
const MOST_ADDRESSES: usize = 16;

/// What tells devices apart: `driver/pool/device`, and the share where a device is shared.
fn device_id(device: &Value) -> String {
    let id = ["driver", "pool", "device"].map(|field| text(device, field)).join("/");
    match text(device, "shareID") {
        "" => id,
        share => format!("{id}/{share}"),
    }
}

fn allocated(status: &Value) -> BTreeSet<String> {
    let results = status.pointer("/allocation/devices/results").and_then(Value::as_array);
    results.into_iter().flatten().map(device_id).collect()
}

/// What drivers said of devices goes when the devices do.
pub fn prepare_for_update(new: &mut Value, old: &Value, subresource: &str) {
    if subresource != "status" {
        return;
    }
    keep_for_status(new, old);
    let now = allocated(&new["status"]);
    let gone: BTreeSet<String> =
        allocated(&old["status"]).into_iter().filter(|id| !now.contains(id)).collect();
    if let Some(devices) = new["status"]["devices"].as_array_mut() {
        devices.retain(|device| !gone.contains(&device_id(device)));
        if devices.is_empty() {
            new["status"].as_object_mut().map(|status| status.remove("devices"));
        }
    }
}

pub fn update(new: &Value, old: &Value, errors: &mut ErrorList) {
    let path = Path::new("status");
    let (status, before) = (&new["status"], &old["status"]);
    let requests = RequestNames::of(&new["spec"]["devices"]);
    let consumers = items(status, "reservedFor");
    let by_uid = |consumer: &Value| text(consumer, "uid").to_owned();
    set(
        consumers,
        MOST_CONSUMERS,
        by_uid,
        &path.child("reservedFor"),
        errors,
        &mut |consumer, at, errors| {
            for field in ["resource", "name", "uid"] {
                if text(consumer, field).is_empty() {
                    errors.push(Error::required(&at.child(field), ""));
                }
            }
        },
    );
    let known = allocated(status);
    let devices = items(status, "devices");
    set(devices, usize::MAX, device_id, &path.child("devices"), errors, &mut |device, at, errors| {
        self::device(device, &known, at, errors);
    });
    let (allocation, was) = (present(status, "allocation"), present(before, "allocation"));
    if !consumers.is_empty() {
        let at = path.child("reservedFor");
        let deleted = present(&new["metadata"], "deletionTimestamp").is_some();
        let added = consumers.iter().any(|consumer| !items(before, "reservedFor").contains(consumer));
        if allocation.is_none() {
            errors.push(Error::forbidden(&at, "may not be specified when `allocated` is not set"));
        } else if deleted && added {
            let why =
                "new entries may not be added while `deallocationRequested` or `deletionTimestamp` are set";
            errors.push(Error::forbidden(&at, why));
        }
    }
    let at = path.child("allocation");
    match (allocation, was) {
        (Some(now), Some(was)) => {
            if !same(now, was) {
                errors.push(Error::invalid(&at, now.clone(), "field is immutable"));
            }
        }
        (Some(now), None) => result(now, &requests, &at, errors),
        (None, _) => {}
    }
}

fn result(allocation: &Value, requests: &RequestNames<'_>, path: &Path<'_>, errors: &mut ErrorList) {
    let (devices, at) = (&allocation["devices"], path.child("devices"));
    list(items(devices, "results"), MOST_RESULTS, &at.child("results"), errors, &mut |result, at, errors| {
        requests.check(text(result, "request"), &at.child("request"), errors);
        device_names(result, at, errors);
        binding_conditions(result, at, errors);
        if let Some(share) = present(result, "shareID").and_then(Value::as_str) {
            uid(share, &at.child("shareID"), errors);
        }
    });
    list(
        items(devices, "config"),
        2 * MOST_CONFIG,
        &at.child("config"),
        errors,
        &mut |config, at, errors| {
            one_of(text(config, "source"), &["FromClaim", "FromClass"], &at.child("source"), errors);
            requests.check_list(config, at, errors);
            configuration(config, false, at, errors);
        },
    );
    if let Some(selector) = present(allocation, "nodeSelector") {
        node_selector(selector, &path.child("nodeSelector"), errors);
    }
}

fn device_names(device: &Value, path: &Path<'_>, errors: &mut ErrorList) {
    csi_driver_name(text(device, "driver"), &path.child("driver"), errors);
    pool_name(text(device, "pool"), &path.child("pool"), errors);
    name(device, "device", path, errors);
}

fn device(device: &Value, allocated: &BTreeSet<String>, path: &Path<'_>, errors: &mut ErrorList) {
    device_names(device, path, errors);
    if let Some(share) = present(device, "shareID").and_then(Value::as_str) {
        uid(share, &path.child("shareID"), errors);
    }
    let id = device_id(device);
    if !allocated.contains(&id) {
        errors.push(Error::invalid(path, id, "must be an allocated device in the claim"));
    }
    let all = items(device, "conditions");
    if all.len() > MOST_CONDITIONS {
        errors.push(Error::too_many(&path.child("conditions"), all.len(), MOST_CONDITIONS));
    }
    conditions(all, &path.child("conditions"), errors);
    if present(device, "data").is_some() {
        raw(device, "data", false, path, errors);
    }
    let Some(network) = present(device, "networkData") else { return };
    let path = path.child("networkData");
    for (field, most) in [("interfaceName", 256), ("hardwareAddress", 128)] {
        if text(network, field).len() > most {
            errors.push(Error::too_long(&path.child(field), most));
        }
    }
    let addresses = items(network, "ips");
    set(
        addresses,
        MOST_ADDRESSES,
        super::parts::by_itself,
        &path.child("ips"),
        errors,
        &mut |address, at, errors| {
            interface_address(address.as_str().unwrap_or_default(), at, errors);
        },
    );
}

/// An address with the length of its network, in canonical form.
fn interface_address(text: &str, path: &Path<'_>, errors: &mut ErrorList) {
    let parsed =
        text.split_once('/').and_then(|(address, _)| Some((ip::parse(address)?, ip::Cidr::parse(text)?)));
    let Some((address, network)) = parsed else {
        let why = "must be a valid address in CIDR form, (e.g. 10.9.8.7/24 or 2001:db8::1/64)";
        errors.push(Error::invalid(path, text, why));
        return;
    };
    let canonical = format!("{address}/{}", network.bits());
    if text != canonical {
        errors.push(Error::invalid(path, text, format!("must be in canonical form ({canonical:?})")));
    }
}

#[cfg(test)]
mod tests {
    use crate::table::Table;
    use serde_json::{Value, json};

    fn table() -> Table {
        let good = json!({"metadata": {"name": "c"}, "spec": {"devices": {"requests": [
            {"name": "r", "exactly": {"deviceClassName": "class"}},
            {"name": "f", "firstAvailable": [{"name": "s", "deviceClassName": "class"}]}]}}});
        Table::new("resource.k8s.io", "v1", "ResourceClaim", good)
    }

    fn result(patch: Value) -> Value {
        let mut result = json!({"request": "r", "driver": "d", "pool": "p", "device": "x"});
        result.as_object_mut().unwrap().extend(patch.as_object().unwrap().clone());
        result
    }

    fn allocation(results: Value) -> Value {
        json!({"status": {"allocation": {"devices": {"results": results}}}})
    }

    fn with(mut status: Value, field: &str, value: Value) -> Value {
        status["status"][field] = value;
        status
    }

    #[test]
    fn allocations() {
        let table = table();
        let check = |new: Value, expect: &[&str]| table.change(&json!({}), &new, "status", expect);
        let at = |tail: &str| format!("status.allocation.devices.results[0]{tail}");
        check(allocation(json!([])), &[]);
        check(allocation(json!([result(json!({}))])), &[]);
        check(allocation(json!([result(json!({"request": "f/s"}))])), &[]);
        check(allocation(json!([result(json!({"request": "f/t"}))])), &[&at(".request: Invalid")]);
        check(allocation(json!([result(json!({"request": "other"}))])), &[&at(".request: Invalid")]);
        check(
            allocation(json!([result(json!({"driver": "", "pool": "", "device": ""}))])),
            &[&at(".driver: Required"), &at(".pool: Required"), &at(".device: Invalid")],
        );
        check(allocation(json!([result(json!({"pool": "a/B"}))])), &[&at(".pool: Invalid")]);
        check(allocation(json!([result(json!({"shareID": "11111111-2222-3333-4444-555555555555"}))])), &[]);
        check(allocation(json!([result(json!({"shareID": "x"}))])), &[&at(".shareID: Invalid")]);
        check(
            allocation(json!([result(json!({"shareID": "{11111111-2222-3333-4444-555555555555}"}))])),
            &[&at(".shareID: Invalid")],
        );
        check(
            allocation(vec![result(json!({})); 33].into()),
            &["status.allocation.devices.results: TooMany"],
        );
        check(
            allocation(json!([result(json!({"bindingConditions": ["a"]}))])),
            &[&at(".bindingFailureConditions: Invalid")],
        );
        check(
            allocation(json!([result(
                json!({"bindingConditions": ["a", "a"], "bindingFailureConditions": ["a"]})
            )])),
            &[&at(".bindingConditions[1]: Duplicate"), &at(".bindingFailureConditions[0]: Invalid")],
        );
        let mut selected = allocation(json!([]));
        selected["status"]["allocation"]["nodeSelector"] = json!({"nodeSelectorTerms": []});
        check(selected, &["status.allocation.nodeSelector.nodeSelectorTerms: Required"]);
        let mut configured = allocation(json!([]));
        configured["status"]["allocation"]["devices"]["config"] = json!([{"source": "x", "requests": ["y"]}, {"source": "", "opaque": {"driver": "d", "parameters": {}}}]);
        check(
            configured,
            &[
                "status.allocation.devices.config[0].source: NotSupported",
                "status.allocation.devices.config[0].requests[0]: Invalid",
                "status.allocation.devices.config[0].opaque: Required",
                "status.allocation.devices.config[1].source: Required",
            ],
        );
        let (one, other) =
            (allocation(json!([result(json!({}))])), allocation(json!([result(json!({"device": "y"}))])));
        table.change(&one, &one, "status", &[]);
        table.change(&one, &other, "status", &["status.allocation: Invalid"]);
        table.change(&one, &json!({}), "status", &[]);
    }

    #[test]
    fn consumers() {
        let table = table();
        let given = allocation(json!([result(json!({}))]));
        let reserved = |list: Value| with(given.clone(), "reservedFor", list);
        let pod = |uid: &str| json!({"resource": "pods", "name": uid, "uid": uid});
        let check = |old: &Value, new: &Value, expect: &[&str]| table.change(old, new, "status", expect);
        check(&given, &reserved(json!([pod("1"), pod("2")])), &[]);
        check(&given, &reserved(json!([pod("1"), pod("1")])), &["status.reservedFor[1]: Duplicate"]);
        check(
            &given,
            &reserved(json!([{}])),
            &[
                "status.reservedFor[0].resource: Required",
                "status.reservedFor[0].name: Required",
                "status.reservedFor[0].uid: Required",
            ],
        );
        let many: Vec<Value> = (0..257).map(|i| pod(&i.to_string())).collect();
        check(&given, &reserved(many.into()), &["status.reservedFor: TooMany"]);
        check(
            &json!({}),
            &json!({"status": {"reservedFor": [pod("1")]}}),
            &["status.reservedFor: Forbidden"],
        );
        let deleted = |mut object: Value| {
            object["metadata"] = json!({"deletionTimestamp": "2020-01-01T00:00:00Z"});
            object
        };
        let old = deleted(reserved(json!([pod("1")])));
        check(&old, &deleted(reserved(json!([pod("1")]))), &[]);
        check(&old, &deleted(reserved(json!([pod("2")]))), &["status.reservedFor: Forbidden"]);
    }

    #[test]
    fn devices() {
        let table = table();
        let given = allocation(json!([result(json!({}))]));
        let device = |patch: Value| {
            let mut device = json!({"driver": "d", "pool": "p", "device": "x"});
            device.as_object_mut().unwrap().extend(patch.as_object().unwrap().clone());
            device
        };
        let said = |list: Value| with(given.clone(), "devices", list);
        let check = |new: Value, expect: &[&str]| table.change(&given, &new, "status", expect);
        check(said(json!([device(json!({}))])), &[]);
        check(said(json!([device(json!({})), device(json!({}))])), &["status.devices[1]: Duplicate"]);
        check(said(json!([device(json!({"device": "y"}))])), &["status.devices[0]: Invalid"]);
        check(said(json!([device(json!({"data": {"a": 1}}))])), &[]);
        check(
            said(json!([device(json!({"data": {"a": "x".repeat(10 * 1024)}}))])),
            &["status.devices[0].data: TooLong"],
        );
        check(said(json!([device(json!({"networkData": {"ips": ["10.9.8.7/24", "2001:db8::1/64"]}}))])), &[]);
        check(
            said(json!([device(
                json!({"networkData": {"interfaceName": "x".repeat(257), "hardwareAddress": "x".repeat(129),
                "ips": ["300.9.8.7/24", "010.9.8.7/24", "2001:0db8::1/64"]}})
            )])),
            &[
                "status.devices[0].networkData.interfaceName: TooLong",
                "status.devices[0].networkData.hardwareAddress: TooLong",
                "status.devices[0].networkData.ips[0]: Invalid",
                "status.devices[0].networkData.ips[1]: Invalid",
                "status.devices[0].networkData.ips[2]: Invalid",
            ],
        );
        // Deallocated: nothing is left of what the driver said.
        let mut new = table.object(&with(json!({"status": {}}), "devices", json!([device(json!({}))])));
        let old = table.object(&said(json!([device(json!({}))])));
        super::prepare_for_update(&mut new, &old, "status");
        assert_eq!(new["status"].get("devices"), None);
    }
}
