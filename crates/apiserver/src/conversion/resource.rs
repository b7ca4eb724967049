//! `resource.k8s.io/v1beta1` says in other places what the later versions say: an exact request stands in the
//! request itself, and a device's properties in `basic` (upstream `pkg/apis/resource/v1beta1/conversion.go`).

use serde_json::{Map, Value};

/// What `exactly` holds in the later versions.
const EXACTLY: [&str; 7] =
    ["deviceClassName", "selectors", "allocationMode", "count", "adminAccess", "tolerations", "capacity"];

pub fn to_v1(kind: &str, object: &mut Value) {
    for request in requests(kind, object) {
        let mut exactly = Map::new();
        for key in EXACTLY {
            if let Some(value) = request.remove(key).filter(|value| !value.is_null()) {
                exactly.insert(key.to_owned(), value);
            }
        }
        // Empty is what an absent text reads as.
        if exactly.iter().any(|(key, value)| key != "deviceClassName" || value != "") {
            request.insert("exactly".into(), exactly.into());
        }
    }
    for device in devices(kind, object) {
        if let Some(Value::Object(basic)) = device.remove("basic") {
            device.extend(basic);
        }
    }
}

pub fn to_v1beta1(kind: &str, object: &mut Value) {
    for request in requests(kind, object) {
        if let Some(Value::Object(exactly)) = request.remove("exactly") {
            request.extend(exactly);
        }
    }
    for device in devices(kind, object) {
        let name = device.remove("name");
        let basic = std::mem::take(device);
        device.extend(name.map(|name| ("name".to_owned(), name)));
        device.insert("basic".into(), basic.into());
    }
}

fn list<'a>(object: &'a mut Value, pointer: &str) -> Vec<&'a mut Map<String, Value>> {
    let list = object.pointer_mut(pointer).and_then(Value::as_array_mut);
    list.into_iter().flatten().filter_map(Value::as_object_mut).collect()
}

fn requests<'a>(kind: &str, object: &'a mut Value) -> Vec<&'a mut Map<String, Value>> {
    match kind {
        "ResourceClaim" => list(object, "/spec/devices/requests"),
        "ResourceClaimTemplate" => list(object, "/spec/spec/devices/requests"),
        _ => Vec::new(),
    }
}

fn devices<'a>(kind: &str, object: &'a mut Value) -> Vec<&'a mut Map<String, Value>> {
    if kind == "ResourceSlice" { list(object, "/spec/devices") } else { Vec::new() }
}
