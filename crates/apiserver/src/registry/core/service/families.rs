//! `spec.ipFamilyPolicy` and `spec.ipFamilies`, from what the user said and what the cluster has.

use super::{Path, Status, Value, family, field, is_headless, json, strings};

/// `families` are those of the cluster, the default one first.
pub(super) fn fill(families: &[&str], service: &mut Value, old: Option<&Value>) -> Result<(), Status> {
    if service["spec"]["type"] == "ExternalName" {
        return Ok(());
    }
    let Some(default) = families.first().copied() else { return Ok(()) };
    normalize(service, old);
    let headless = is_headless(service);
    let selectorless = service["spec"]["selector"].as_object().is_none_or(|s| s.is_empty());
    if service["spec"]["ipFamilyPolicy"].is_null() {
        let before = old.map(|o| o["spec"]["ipFamilyPolicy"].clone()).filter(|p| !p.is_null());
        service["spec"]["ipFamilyPolicy"] = match before {
            Some(before) => before,
            None if headless && selectorless => json!("RequireDualStack"),
            None => json!("SingleStack"),
        };
    }
    let policy = service["spec"]["ipFamilyPolicy"].as_str().unwrap_or_default().to_owned();
    let mut addresses = strings(&service["spec"]["clusterIPs"]);
    let mut wanted = strings(&service["spec"]["ipFamilies"]);
    let spec = Path::new("spec");
    let policy_path = spec.child("ipFamilyPolicy");
    let mut errors = field::ErrorList::new();
    if let Some(old) = old {
        let old_addresses = strings(&old["spec"]["clusterIPs"]);
        let old_families = strings(&old["spec"]["ipFamilies"]);
        if policy == "SingleStack" {
            if addresses == old_addresses && addresses.len() > 1 {
                addresses.truncate(1);
            }
            if wanted == old_families && wanted.len() > 1 {
                wanted.truncate(1);
            }
        } else {
            if !addresses.is_empty() && addresses.len() < old_addresses.len() {
                errors.push(field::Error::invalid(
                    &policy_path,
                    policy.as_str(),
                    "must be 'SingleStack' to release the secondary cluster IP",
                ));
            }
            if !wanted.is_empty() && wanted.len() < old_families.len() {
                errors.push(field::Error::invalid(
                    &policy_path,
                    policy.as_str(),
                    "must be 'SingleStack' to release the secondary IP family",
                ));
            }
        }
    }
    if policy == "SingleStack" {
        for (count, what) in [(addresses.len(), "cluster IPs"), (wanted.len(), "IP families")] {
            if count == 2 {
                errors.push(field::Error::invalid(
                    &policy_path,
                    policy.as_str(),
                    format!(
                        "must be 'RequireDualStack' or 'PreferDualStack' when multiple {what} are specified"
                    ),
                ));
            }
        }
    }
    let has = |f: &str| families.contains(&f);
    for (index, address) in addresses.iter().enumerate() {
        let Ok(parsed) = address.parse() else { break };
        let own = family(&parsed);
        if index >= wanted.len() {
            if has(own) {
                wanted.push(own.to_owned());
            } else {
                errors.push(field::Error::invalid(
                    &spec.child("clusterIPs").index(index),
                    json!(addresses),
                    format!("{own} is not configured on this cluster"),
                ));
            }
        }
    }
    fail(service, &errors)?;
    let other = |f: &str| if f == "IPv4" { "IPv6" } else { "IPv4" }.to_owned();
    if headless && selectorless {
        if wanted.is_empty() {
            wanted.push(default.to_owned());
        }
        if wanted.len() < 2 && policy != "SingleStack" {
            wanted.push(other(&wanted[0]));
        }
    } else {
        if policy == "RequireDualStack" && families.len() < 2 {
            errors.push(field::Error::invalid(
                &policy_path,
                policy.as_str(),
                "this cluster is not configured for dual-stack services",
            ));
        }
        for (index, f) in wanted.iter().enumerate().filter(|(_, f)| !has(f)) {
            errors.push(field::Error::invalid(
                &spec.child("ipFamilies").index(index),
                f.as_str(),
                "not configured on this cluster",
            ));
        }
        fail(service, &errors)?;
        if wanted.is_empty() {
            wanted.push(default.to_owned());
        }
        if policy != "SingleStack" && wanted.len() == 1 && families.len() == 2 {
            wanted.push(other(&wanted[0]));
        }
    }
    service["spec"]["ipFamilies"] = json!(wanted);
    if !addresses.is_empty() {
        service["spec"]["clusterIPs"] = json!(addresses);
    }
    Ok(())
}

/// `clusterIP` and `clusterIPs` say the same: the older field fills the newer where only it was given, and
/// an update by a client that knows only the older keeps what stands.
fn normalize(service: &mut Value, old: Option<&Value>) {
    let spec = &mut service["spec"];
    let given = spec["clusterIP"].as_str().unwrap_or_default().to_owned();
    let list_empty = spec["clusterIPs"].as_array().is_none_or(|l| l.is_empty());
    match old {
        None if list_empty && !given.is_empty() => spec["clusterIPs"] = json!([given]),
        None => {}
        Some(old) => {
            let before = &old["spec"]["clusterIP"];
            let kept = old["spec"]["type"] != "ExternalName" && !before.is_null();
            if given.is_empty() && list_empty && kept {
                spec["clusterIP"] = before.clone();
                spec["clusterIPs"] = old["spec"]["clusterIPs"].clone();
            } else if list_empty && !given.is_empty() {
                spec["clusterIPs"] = json!([given]);
            }
        }
    }
}

fn fail(service: &Value, errors: &[field::Error]) -> Result<(), Status> {
    if errors.is_empty() {
        return Ok(());
    }
    let name = service["metadata"]["name"].as_str().unwrap_or_default();
    Err(Status::invalid("", "Service", name, errors))
}
