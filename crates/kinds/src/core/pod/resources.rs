//! What containers and pods ask for and are limited to.

use std::collections::{BTreeMap, BTreeSet};

use apimachinery::field::{Error, ErrorList, Path};
use apimachinery::quantity::Quantity;
use serde_json::Value;

use super::visit;
use crate::check::{entries, items, label, present, text};
use crate::core::resources::{self, is_divisible, is_huge_page, is_overcommit_allowed, is_pod_level};

/// Resource name → amount.
pub type Amounts = BTreeMap<String, Quantity>;

/// What the rules for names and amounts depend on.
#[derive(Clone, Copy, Default)]
pub struct Rules {
    /// Names are those for pods as a whole.
    pub pod_level: bool,
    /// Amounts of huge pages need not be whole pages.
    pub indivisible: bool,
}

/// Requests and limits: names, amounts, that a request is not above its limit, and claims of the pod.
pub fn requirements(
    requirements: &Value,
    claims: &BTreeSet<&str>,
    rules: Rules,
    path: &Path<'_>,
    errors: &mut ErrorList,
) {
    let (limits, requests) = (path.child("limits"), path.child("requests"));
    let (mut compute, mut huge) = (false, false);
    let mut one = |name: &str, amount: &Value, at: &Path<'_>, errors: &mut ErrorList| {
        match rules.pod_level {
            true => resources::pod_name(name, at, errors),
            false => resources::container_name(name, at, errors),
        }
        huge |= is_huge_page(name);
        compute |= matches!(name, "cpu" | "memory");
        resources::amount(name, amount, at, errors)
    };
    let pages = |name: &str, amount: &Quantity, at: &Path<'_>, errors: &mut ErrorList| {
        if is_huge_page(name) && !rules.indivisible && !is_divisible(name, amount) {
            let shown = amount.canonical();
            let why = format!("{shown} is not positive integer multiple of {name}");
            errors.push(Error::invalid(at, shown, why));
        }
    };
    for (name, amount) in entries(requirements, "limits") {
        let at = limits.key(name);
        if let Some(amount) = one(name, amount, &at, errors) {
            pages(name, &amount, &at, errors);
        }
    }
    for (name, amount) in entries(requirements, "requests") {
        let at = requests.key(name);
        let Some(amount) = one(name, amount, &at, errors) else { continue };
        let limit = requirements["limits"].get(name).and_then(|limit| Quantity::from_value(limit).ok());
        let asked = || amount.canonical();
        match limit {
            Some(limit) if amount != limit && !is_overcommit_allowed(name) => {
                let why = format!("must be equal to {name} limit of {}", limit.canonical());
                errors.push(Error::invalid(&requests, asked(), why));
            }
            Some(limit) if amount > limit => {
                let why = format!("must be less than or equal to {name} limit of {}", limit.canonical());
                errors.push(Error::invalid(&requests, asked(), why));
            }
            Some(_) => {}
            None if !is_overcommit_allowed(name) => {
                errors.push(Error::required(&limits, "Limit must be set for non overcommitable resources"));
            }
            None => {}
        }
        pages(name, &amount, &at, errors);
    }
    if huge && !compute {
        errors.push(Error::forbidden(path, "HugePages require cpu or memory"));
    }
    claim_names(items(requirements, "claims"), claims, &path.child("claims"), errors);
}

/// Claims of the pod, or requests of them, each once.
fn claim_names(list: &[Value], claims: &BTreeSet<&str>, path: &Path<'_>, errors: &mut ErrorList) {
    let mut seen: BTreeSet<String> = BTreeSet::new();
    for (index, claim) in list.iter().enumerate() {
        let at = path.index(index);
        let (name, request) = (text(claim, "name"), text(claim, "request"));
        if name.is_empty() {
            errors.push(Error::required(&at, ""));
            continue;
        }
        if seen.contains(name) {
            errors.push(Error::duplicate(&at, name));
        } else {
            let key = if request.is_empty() { name.to_owned() } else { format!("{name}/{request}") };
            if !request.is_empty() {
                label(request, &at.child("request"), errors);
            }
            if seen.contains(&key) {
                errors.push(Error::duplicate(&at, key.as_str()));
            } else if request.is_empty() {
                for _ in seen.iter().filter(|key| key.split_once('/').is_some_and(|(claim, _)| claim == name))
                {
                    errors.push(Error::duplicate(&at, name));
                }
            }
            seen.insert(key);
        }
        if !claims.contains(name) {
            let mut error = Error::not_found(&at, name);
            error.detail = "must be one of the names in pod.spec.resourceClaims".into();
            if claims.is_empty() {
                error.detail.push_str(" which is empty");
            } else {
                let names: Vec<&str> = claims.iter().copied().collect();
                error.detail.push_str(&format!(": {}", names.join(", ")));
            }
            errors.push(error);
        }
    }
}

/// Requests and limits of the pod as a whole (KEP-2837).
pub fn pod_level(
    spec: &Value,
    claims: &BTreeSet<&str>,
    rules: Rules,
    path: &Path<'_>,
    errors: &mut ErrorList,
) {
    let Some(level) = present(spec, "resources") else { return };
    let path = path.child("resources");
    if text(&spec["os"], "name") == "windows" {
        errors.push(Error::forbidden(&path, "may not be set for a windows pod"));
        return;
    }
    if present(level, "claims").is_some() {
        let why = "claims may not be set for Resources at pod-level";
        errors.push(Error::forbidden(&path.child("claims"), why));
    }
    requirements(level, claims, Rules { pod_level: true, ..rules }, &path, errors);
    let given = |list: &str, name: &str| Quantity::from_value(level[list].get(name)?).ok();
    for (list, what) in [("requests", "requests"), ("limits", "limits")] {
        let at = path.child(list);
        for (name, sum) in aggregate(spec, list) {
            if list == "limits" && !is_huge_page(&name) {
                continue;
            }
            if let Some(pod) = given(list, &name).filter(|pod| sum > *pod) {
                let why = format!(
                    "must be greater than or equal to aggregate container {what} of {}",
                    sum.canonical()
                );
                errors.push(Error::invalid(&at.key(&name), pod.canonical(), why));
            }
        }
    }
    let list = path.child("containers");
    for (index, container) in items(spec, "containers").iter().enumerate() {
        for (name, limit) in entries(&container["resources"], "limits") {
            let limit = Quantity::from_value(limit).ok();
            if let (Some(limit), Some(pod)) = (limit, given("limits", name))
                && limit > pod
            {
                let at = list.index(index);
                let at = at.key(name);
                let why = format!("must be less than or equal to pod limits of {}", pod.canonical());
                errors.push(Error::invalid(&at.child("limits"), limit.canonical(), why));
            }
        }
    }
}

/// The sum of the containers' `requests` or `limits`, or what init containers need at their time if that is more
/// (KEP-753).
pub fn aggregate(spec: &Value, list: &str) -> Amounts {
    let of = |container: &Value| -> Amounts {
        let all = entries(&container["resources"], list);
        all.filter_map(|(name, amount)| Some((name.clone(), Quantity::from_value(amount).ok()?))).collect()
    };
    let mut sum = Amounts::new();
    for container in items(spec, "containers") {
        add(&mut sum, &of(container));
    }
    let (mut sidecars, mut peak) = (Amounts::new(), Amounts::new());
    for container in items(spec, "initContainers") {
        let own = of(container);
        let mut now = sidecars.clone();
        add(&mut now, &own);
        if text(container, "restartPolicy") == "Always" {
            add(&mut sum, &own);
            sidecars = now.clone();
        }
        raise(&mut peak, now);
    }
    raise(&mut sum, peak);
    sum
}

fn add(to: &mut Amounts, more: &Amounts) {
    for (name, amount) in more {
        to.entry(name.clone()).or_insert_with(Quantity::zero).add(amount);
    }
}

fn raise(to: &mut Amounts, least: Amounts) {
    for (name, amount) in least {
        if to.get(&name).is_none_or(|present| *present < amount) {
            to.insert(name, amount);
        }
    }
}

/// Any amount of huge pages that is not whole pages.
pub fn uses_indivisible(spec: &Value) -> bool {
    let bad = |object: &Value, list: &str| {
        entries(object, list).any(|(name, amount)| {
            is_huge_page(name)
                && Quantity::from_value(amount).is_ok_and(|amount| !is_divisible(name, &amount))
        })
    };
    let mut found = bad(spec, "overhead");
    visit(spec, &Path::NIL, |container, _| {
        found |= bad(&container["resources"], "limits") || bad(&container["resources"], "requests");
    });
    found
}

/// The defaults of pod-level requests and limits that follow from the containers.
pub fn default_pod_level(spec: &mut Value) {
    let Some(level) = present(spec, "resources").cloned() else { return };
    let empty = |list: &str| entries(&level, list).next().is_none();
    if empty("limits") && empty("requests") {
        return;
    }
    let aggregated = aggregate(spec, "limits");
    let pages = aggregated
        .into_iter()
        .filter(|(name, _)| is_huge_page(name) && level["requests"].get(name).is_none());
    fill(spec, "limits", pages);
    let limits: Vec<(String, Value)> =
        entries(&spec["resources"], "limits").map(|(name, amount)| (name.clone(), amount.clone())).collect();
    if limits.is_empty() {
        return;
    }
    let asked = aggregate(spec, "requests");
    let asked = asked.into_iter().filter(|(name, _)| is_pod_level(name) && is_overcommit_allowed(name));
    fill(spec, "requests", asked);
    let rest = limits.into_iter().filter(|(name, _)| is_pod_level(name));
    let rest = rest.filter_map(|(name, amount)| Some((name, Quantity::from_value(&amount).ok()?)));
    fill(spec, "requests", rest);
}

fn fill(spec: &mut Value, list: &str, amounts: impl Iterator<Item = (String, Quantity)>) {
    for (name, amount) in amounts {
        if spec["resources"][list].get(&name).is_none() {
            spec["resources"][list][&name] = amount.to_string().into();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn sums() {
        let with = |cpu: &str, policy: &str| json!({"restartPolicy": policy, "resources": {"requests": {"cpu": cpu}}});
        let check = |init: Value, expect: &str| {
            let spec = json!({"containers": [with("1", ""), with("500m", "")], "initContainers": init});
            assert_eq!(aggregate(&spec, "requests")["cpu"].canonical(), expect);
        };
        check(json!([]), "1500m");
        check(json!([with("3", "")]), "3");
        check(json!([with("1", "Always"), with("3", "")]), "4");
        check(json!([with("3", ""), with("1", "Always")]), "3");
    }

    /// Upstream's `TestSetDefaultRequestsPod` at pod level.
    #[test]
    fn defaults_of_the_pod_level() {
        let check = |level: Value, container: Value, expect: Value| {
            let mut spec = json!({"resources": level, "containers": [{"resources": container}]});
            default_pod_level(&mut spec);
            assert_eq!(spec["resources"], expect);
        };
        check(json!({}), json!({"requests": {"cpu": "1"}}), json!({}));
        check(
            json!({"limits": {"cpu": "4", "memory": "1Gi"}}),
            json!({"requests": {"cpu": "1"}}),
            json!({"limits": {"cpu": "4", "memory": "1Gi"}, "requests": {"cpu": "1", "memory": "1Gi"}}),
        );
        check(
            json!({"requests": {"cpu": "2"}}),
            json!({"limits": {"hugepages-2Mi": "4Mi"}}),
            json!({"requests": {"cpu": "2", "hugepages-2Mi": "4Mi"}, "limits": {"hugepages-2Mi": "4Mi"}}),
        );
    }
}
