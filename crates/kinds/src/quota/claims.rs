//! Claims of storage, in all and by storage class, and of devices, by device class.

use std::collections::BTreeSet;

use api::core::v1::PersistentVolumeClaim;
use api::dynamic_resources::v1::ResourceClaim;
use apimachinery::quantity::Quantity;

use super::{Amounts, Scope, add, parsed, whole};

const CLASS: &str = ".storageclass.storage.k8s.io/";
const CLAIMS: &str = "persistentvolumeclaims";
const STORAGE: &str = "requests.storage";
const DEVICE_CLASS: &str = ".deviceclass.resource.k8s.io/devices";
const DEVICE_CLAIMS: &str = "count/resourceclaims.resource.k8s.io";
/// Devices that a claim for all of them counts as.
const ALL_DEVICES: i64 = 32;

pub fn is_counted(name: &str) -> bool {
    let of_class =
        |name: &str| name.rsplit_once(CLASS).is_some_and(|(_, rest)| matches!(rest, CLAIMS | STORAGE));
    matches!(name, "count/persistentvolumeclaims" | CLAIMS | STORAGE) || of_class(name)
}

pub fn is_in(claim: &PersistentVolumeClaim, scope: &Scope) -> bool {
    if scope.scope_name != "VolumeAttributesClass" {
        return false;
    }
    let status = claim.status.as_ref();
    let wanted = claim.spec.as_ref().and_then(|spec| spec.volume_attributes_class_name.as_deref());
    let current = status.and_then(|status| status.current_volume_attributes_class_name.as_deref());
    let target = status.and_then(|status| status.modify_volume_status.as_ref());
    let target = target.and_then(|modify| modify.target_volume_attributes_class_name.as_deref());
    let all = [wanted, current, target].into_iter().flatten();
    let classes: BTreeSet<&str> = all.filter(|name| !name.is_empty()).collect();
    if scope.operator == "Exists" {
        return !classes.is_empty();
    }
    classes.iter().any(|class| scope.matches(Some(class))) || classes.is_empty() && scope.matches(None)
}

pub fn usage(claim: &PersistentVolumeClaim) -> Amounts {
    let annotations = claim.metadata.annotations.as_ref();
    let beta = annotations.and_then(|all| all.get("volume.beta.kubernetes.io/storage-class"));
    let spec = claim.spec.as_ref();
    let class = beta.or_else(|| spec?.storage_class_name.as_ref()).filter(|class| !class.is_empty());
    let mut usage = Amounts::new();
    for name in [CLAIMS, "count/persistentvolumeclaims"] {
        usage.insert(name.to_owned(), whole(1));
    }
    if let Some(class) = class {
        usage.insert(format!("{class}{CLASS}{CLAIMS}"), whole(1));
    }
    if let Some(storage) = storage(claim) {
        if let Some(class) = class {
            usage.insert(format!("{class}{CLASS}{STORAGE}"), storage.clone());
        }
        usage.insert(STORAGE.to_owned(), storage);
    }
    usage
}

/// What is asked for, or more if more was given already; whole bytes.
fn storage(claim: &PersistentVolumeClaim) -> Option<Quantity> {
    let asked = claim.spec.as_ref()?.resources.as_ref()?.requests.as_ref()?;
    let mut storage = parsed(asked).remove("storage")?;
    let given = claim.status.as_ref().and_then(|status| status.allocated_resources.as_ref());
    if let Some(given) = given.and_then(|given| parsed(given).remove("storage"))
        && given > storage
    {
        storage = given;
    }
    storage.round_up(0);
    Some(storage)
}

pub fn is_counted_device(name: &str) -> bool {
    name == DEVICE_CLAIMS || name.ends_with(DEVICE_CLASS)
}

/// The most that the claim can come to get, of each class of devices.
pub fn device_usage(claim: &ResourceClaim) -> Amounts {
    let mut usage = Amounts::from([(DEVICE_CLAIMS.to_owned(), whole(1))]);
    let devices = |mode: Option<&str>, count: Option<i64>| match mode {
        Some("ExactCount") => count.unwrap_or(0),
        Some("All") => ALL_DEVICES,
        _ => 0,
    };
    let named = |class: &str, count: i64| {
        (format!("{class}{DEVICE_CLASS}"), whole(usize::try_from(count).unwrap_or(0)))
    };
    let requests = claim.spec.devices.iter().flat_map(|devices| devices.requests.iter().flatten());
    for request in requests {
        // One of these will do, so of each class the largest counts.
        let mut most = Amounts::new();
        for one in request.first_available.iter().flatten() {
            let (name, count) =
                named(&one.device_class_name, devices(one.allocation_mode.as_deref(), one.count));
            if most.get(&name).is_none_or(|known| *known < count) && !count.is_zero() {
                most.insert(name, count);
            }
        }
        let alternatives = request.first_available.as_ref().is_some_and(|all| !all.is_empty());
        if let Some(exactly) = request.exactly.as_ref().filter(|_| !alternatives) {
            let count = devices(exactly.allocation_mode.as_deref(), exactly.count);
            most.extend([named(&exactly.device_class_name, count)]);
        }
        add(&mut usage, &most);
    }
    usage
}
