//! Cluster IPs and families of a Service: what they may be, and what of them may change (KEP-563).

use apimachinery::field::{Error, ErrorList, Path};
use serde_json::{Value, json};

use super::is_headless;
use crate::check::{items, present, text};
use crate::{ip, meta};

fn is_external_name(spec: &Value) -> bool {
    text(spec, "type") == "ExternalName"
}

fn list(spec: &Value, field: &str) -> Value {
    json!(items(spec, field))
}

/// Upstream's `ValidateServiceClusterIPsRelatedFields`.
pub fn cluster(spec: &Value, old: &Value, path: &Path<'_>, errors: &mut ErrorList) {
    if is_external_name(spec) {
        return;
    }
    let at = path.child("clusterIPs");
    let shown = || list(spec, "clusterIPs");
    let addresses: Vec<&str> = meta::texts(spec, "clusterIPs").collect();
    match (text(spec, "clusterIP"), addresses.first()) {
        ("", None) => {}
        ("", Some(_)) => {
            errors.push(Error::invalid(&at, shown(), "must be empty when `clusterIP` is not specified"));
        }
        (_, None) => errors.push(Error::required(&at, "")),
        (own, Some(first)) if own != *first => {
            errors.push(Error::invalid(&at, shown(), "first value must match `clusterIP`"));
        }
        _ => {}
    }
    let families: Vec<&str> = meta::texts(spec, "ipFamilies").collect();
    let families_path = path.child("ipFamilies");
    for (index, family) in families.iter().enumerate() {
        if !["IPv4", "IPv6"].contains(family) {
            errors.push(Error::not_supported(&families_path.index(index), *family, ["IPv4", "IPv6"]));
        }
        if families[..index].contains(family) {
            errors.push(Error::duplicate(&families_path.index(index), *family));
        }
    }
    let policies = ["PreferDualStack", "RequireDualStack", "SingleStack"];
    let policy = path.child("ipFamilyPolicy");
    crate::check::one_of_if_set(spec.get("ipFamilyPolicy"), &policies, &policy, errors);
    let known: Vec<&str> = meta::texts(old, "clusterIPs").collect();
    let mut bad = false;
    for (index, address) in addresses.iter().enumerate() {
        if index == 0 && *address == "None" {
            if addresses.len() > 1 {
                bad = true;
                errors.push(Error::invalid(&at, shown(), "'None' must be the first and only value"));
            }
            continue;
        }
        let start = errors.len();
        ip::legacy(address, &known, &at.index(index), errors);
        bad |= errors.len() > start;
    }
    if addresses.len() > 2 {
        errors.push(Error::invalid(&at, shown(), "may only hold up to 2 values"));
    }
    if bad {
        return;
    }
    let is_v6 = |address: &str| ip::parse(address).is_some_and(|address| address.is_ipv6());
    if addresses.len() > 1 {
        let six = addresses.iter().filter(|address| is_v6(address)).count();
        if six == 0 || six == addresses.len() {
            let why = "may specify no more than one IP for each IP family";
            errors.push(Error::invalid(&at, shown(), why));
        }
    }
    if is_headless(spec) {
        return;
    }
    for (index, (address, family)) in addresses.iter().zip(&families).enumerate() {
        let wrong = match *family {
            "IPv4" => is_v6(address),
            "IPv6" => !is_v6(address),
            _ => false,
        };
        if wrong {
            let why = format!("expected an {family} value as indicated by `ipFamilies[{index}]`");
            errors.push(Error::invalid(&at.index(index), *address, why));
        }
    }
}

/// What of addresses and families an update may change: the second may come and go, the first stays.
pub fn change(new: &Value, old: &Value, errors: &mut ErrorList) {
    if is_external_name(new) || is_external_name(old) {
        return;
    }
    let single = text(new, "ipFamilyPolicy") == "SingleStack";
    let policy = |what: &str, errors: &mut ErrorList| {
        if !single {
            let why = format!("must be set to 'SingleStack' when releasing the secondary {what}");
            let shown = present(new, "ipFamilyPolicy").cloned().unwrap_or_default();
            errors.push(Error::invalid(&Path::new("spec.ipFamilyPolicy"), shown, why));
        }
    };
    let (headless, was_headless) = (is_headless(new), is_headless(old));
    let once = "may not change once set";
    if !(headless && was_headless) {
        let path = Path::new("spec.clusterIPs");
        let (now, was) = (items(new, "clusterIPs"), items(old, "clusterIPs"));
        let shown = || list(new, "clusterIPs");
        if now.len() == was.len() {
            for (index, _) in now.iter().zip(was).enumerate().filter(|(_, (now, was))| now != was) {
                errors.push(Error::invalid(&path.index(index), shown(), once));
            }
        } else if now.is_empty() {
            errors.push(Error::invalid(&path.index(0), shown(), "primary clusterIP can not be unset"));
        } else if !was.is_empty() && now[0] != was[0] {
            errors.push(Error::invalid(&path.index(0), shown(), once));
        }
        if was.len() > now.len() && now.len() == 1 {
            policy("clusterIP", errors);
        }
    }
    if headless || was_headless {
        return;
    }
    let path = Path::new("spec.ipFamilies");
    let path = path.index(0);
    let (now, was) = (items(new, "ipFamilies"), items(old, "ipFamilies"));
    if now.len() == was.len() {
        for _ in now.iter().zip(was).filter(|(now, was)| now != was) {
            errors.push(Error::invalid(&path, list(new, "ipFamilies"), once));
        }
        return;
    }
    if was.len() > now.len() && items(new, "clusterIPs").is_empty() {
        errors.push(Error::invalid(&path, list(new, "ipFamilies"), "primary ipFamily can not be unset"));
    }
    if let (Some(now), Some(was)) = (now.first(), was.first())
        && now != was
    {
        // Upstream shows the addresses here.
        errors.push(Error::invalid(&path, list(new, "clusterIPs"), once));
    }
    if was.len() > now.len() && now.len() == 1 {
        policy("ipFamily", errors);
    }
}
