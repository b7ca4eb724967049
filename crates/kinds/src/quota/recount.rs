//! A quota's status from all that there is: what the quota controller writes (upstream's
//! `quota/v1.CalculateUsage`).

use std::collections::BTreeSet;

use apimachinery::quantity::{Format, Quantity};
use jiff::Timestamp;
use serde_json::{Map, Value, json};

use super::{Amounts, Object, Quota, Scope, add};

/// Which of a quota's limits are about objects of this resource.
pub fn limits<'n>(quota: &'n Value, group: &str, resource: &str) -> BTreeSet<&'n str> {
    let names = quota["spec"]["hard"].as_object().into_iter().flatten().map(|(name, _)| name.as_str());
    match Object::read(group, resource, &json!({})) {
        Ok(any) => any.matching(names),
        Err(_) => BTreeSet::new(),
    }
}

/// The status as it should be; `None` if it is so already. `counted` are the resources (group and name) that
/// `objects` are all objects of, in the quota's namespace.
pub fn status<'a>(
    quota: &Value,
    counted: &[(&str, &str)],
    objects: impl IntoIterator<Item = &'a Object<'a>>,
    now: Timestamp,
) -> Option<Value> {
    let mut wanted = quota.clone();
    wanted["status"]["hard"] = quota["spec"]["hard"].clone();
    let mut wanted = Quota::of(&wanted);
    let known: BTreeSet<&str> =
        counted.iter().flat_map(|(group, resource)| limits(quota, group, resource)).collect();
    let zero = || Quantity::new(0, Format::DecimalSI);
    let mut used: Amounts = known.iter().map(|name| ((*name).to_owned(), zero())).collect();
    let scopes: Vec<Scope> = std::mem::take(&mut wanted.scopes);
    for object in objects {
        if scopes.iter().all(|scope| object.is_in(scope)) {
            let mut usage = object.usage(now);
            let own = object.matching(known.iter().copied());
            usage.retain(|name, _| own.contains(name.as_str()));
            add(&mut used, &usage);
        }
    }
    // What cannot be counted now stays as it was.
    wanted.used.retain(|name, _| wanted.hard.contains_key(name) && !known.contains(name.as_str()));
    wanted.used.extend(used);
    let mut status = Map::new();
    status.insert("hard".into(), quota["spec"]["hard"].clone());
    status.insert("used".into(), wanted.used_value());
    let old = Quota::of(quota);
    let same = old.hard == wanted.hard && old.used == wanted.used && quota["status"]["used"].is_object();
    (!same).then_some(status.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn recounts() {
        let pod = |cpu: &str, phase: &str| {
            let value = json!({"metadata": {"name": "p"}, "status": {"phase": phase}, "spec": {"containers": [
                {"name": "c", "resources": {"requests": {"cpu": cpu}}}]}});
            Object::read("", "pods", &value).unwrap()
        };
        let secret = Object::read("", "secrets", &json!({})).unwrap();
        let all = [("", "pods"), ("", "secrets")];
        let check =
            |quota: &Value, counted: &[(&str, &str)], objects: &[Object<'_>], expect: Option<Value>| {
                let got = status(quota, counted, objects, Timestamp::UNIX_EPOCH);
                assert_eq!(got.map(|status| status["used"].clone()), expect, "{quota}");
            };
        let hard = json!({"cpu": "2", "pods": "5", "count/secrets": "9", "x.y/z": "1"});
        let quota = json!({"metadata": {"name": "q"}, "spec": {"hard": hard}, "status": {}});
        let objects = [pod("300m", "Running"), pod("1", "Pending"), pod("7", "Succeeded"), secret];
        let used = json!({"cpu": "1300m", "pods": "2", "count/secrets": "1"});
        check(&quota, &all, &objects, Some(used.clone()));
        check(&quota, &all, &[], Some(json!({"cpu": "0", "pods": "0", "count/secrets": "0"})));
        // As it stands; with another limit; with a resource that is not counted now.
        let mut kept = quota.clone();
        kept["status"] = json!({"hard": hard, "used": used});
        check(&kept, &all, &objects, None);
        let mut more = kept.clone();
        more["spec"]["hard"]["cpu"] = json!("3");
        check(&more, &all, &objects, Some(used));
        check(&kept, &all[..1], &[], Some(json!({"cpu": "0", "pods": "0", "count/secrets": "1"})));
        // Scopes.
        let mut scoped = quota.clone();
        scoped["spec"] = json!({"hard": {"pods": "5"}, "scopes": ["BestEffort"]});
        check(&scoped, &all, &objects, Some(json!({"pods": "0"})));
        assert_eq!(limits(&quota, "", "secrets"), BTreeSet::from(["count/secrets"]));
    }
}
