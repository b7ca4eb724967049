//! ServiceCIDR: where the addresses of services come from.

use apimachinery::field::{Error, ErrorList};
use serde_json::{Value, json};

use crate::check::items;
use crate::ip::{self, Cidr};
use crate::meta;
use crate::strategy::{GENERIC, Strategy};
use crate::workload::SPEC;

pub const STRATEGY: Strategy = Strategy { prepare_for_update, validate, validate_update, ..GENERIC };

/// Who writes the status changes nothing of the metadata.
fn prepare_for_update(new: &mut Value, old: &Value, subresource: &str) {
    if subresource == "status" {
        meta::keep_for_status(new, old);
    }
}

fn validate(object: &Value, errors: &mut ErrorList) {
    let (path, cidrs) = (SPEC.child("cidrs"), items(&object["spec"], "cidrs"));
    if cidrs.is_empty() {
        errors.push(Error::required(&path, "at least one CIDR required"));
        return;
    }
    if cidrs.len() > 2 {
        // The name is that of upstream's internal type.
        errors.push(Error::invalid(&path, json!({"CIDRs": cidrs}), "may only hold up to 2 values"));
        return;
    }
    for (index, cidr) in cidrs.iter().enumerate() {
        ip::strict_cidr(cidr.as_str().unwrap_or_default(), &path.index(index), errors);
    }
    let family = |cidr: &Value| cidr.as_str().and_then(Cidr::parse).map(Cidr::is_ipv4);
    if let [one, other] = cidrs
        && family(one).is_some()
        && family(one) == family(other)
    {
        let why = "may specify no more than one IP for each IP family, i.e 192.168.0.0/24 and 2001:db8::/64";
        errors.push(Error::invalid(&path, cidrs.to_vec(), why));
    }
}

/// A second family may be added; nothing else changes.
fn validate_update(new: &Value, old: &Value, subresource: &str, errors: &mut ErrorList) {
    const FIXED: &str = "field is immutable";
    if subresource == "status" {
        return;
    }
    let path = SPEC.child("cidrs");
    let (after, before) = (items(&new["spec"], "cidrs"), items(&old["spec"], "cidrs"));
    let changed = after.iter().zip(before).enumerate().filter(|(_, (after, before))| after != before);
    let changed = changed.map(|(index, (after, _))| Error::invalid(&path.index(index), after.clone(), FIXED));
    if after.len() == before.len() {
        errors.extend(changed);
    } else if before.len() == 1 && after.len() == 2 {
        errors.extend(changed);
        validate(new, errors);
    } else {
        errors.push(Error::invalid(&path, after.to_vec(), FIXED));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rows::Subject;

    /// `TestValidateServiceCIDR`, `TestValidateServiceCIDRUpdate`
    #[test]
    fn service_cidr() {
        let good = json!({"metadata": {"name": "c"}, "spec": {"cidrs": ["192.168.0.0/24"]}});
        let subject = Subject { group: "networking.k8s.io", version: "v1", kind: "ServiceCIDR", good };
        let spec = |cidrs: &[&str]| json!({"spec": {"cidrs": cidrs}});
        let check = |cidrs: &[&str], expect: &[&str]| subject.created(spec(cidrs), expect);
        check(&["192.168.0.0/24"], &[]);
        check(&["192.168.0.0/24", "fd00::/64"], &[]);
        check(&[], &["spec.cidrs: Required"]);
        check(&["192.168.0.0"], &["spec.cidrs[0]: Invalid"]);
        check(&["192.168.007.0/24"], &["spec.cidrs[0]: Invalid"]);
        check(&["192.168.0.1/24"], &["spec.cidrs[0]: Invalid"]);
        check(&["FD00:1234::/64"], &["spec.cidrs[0]: Invalid"]);
        check(&["192.168.0.0/24", "10.0.0.0/8"], &["spec.cidrs: Invalid"]);
        check(&["fd00::/64", "x"], &["spec.cidrs[1]: Invalid"]);
        check(&["10.0.0.0/8", "fd00::/64", "11.0.0.0/8"], &["spec.cidrs: Invalid"]);
        let update = |after: &[&str], expect: &[&str]| subject.updated(json!({}), spec(after), "", expect);
        update(&["192.168.0.0/24", "fd00::/64"], &[]);
        update(&["192.168.0.0/24", "10.0.0.0/8"], &["spec.cidrs: Invalid"]);
        update(&["fd00::/64", "192.168.0.0/24"], &["spec.cidrs[0]: Invalid"]);
        update(&["10.0.0.0/8"], &["spec.cidrs[0]: Invalid"]);
        update(&[], &["spec.cidrs: Invalid"]);
        subject.updated(
            spec(&["192.168.0.0/24", "fd00::/64"]),
            spec(&["192.168.0.0/24"]),
            "",
            &["spec.cidrs: Invalid"],
        );
        let (_, new) = subject.update(
            &json!({}),
            &json!({"metadata": {"labels": {"a": "b"}, "finalizers": ["x"]}}),
            "status",
        );
        assert_eq!(new["metadata"], json!({"name": "c"}));
    }
}
