//! How large each ReplicaSet of a Deployment should be: rolling updates, proportional scaling, and the numbers
//! they rest on.

use api::apps::v1::{Deployment, ReplicaSet};
use api::intstr::IntOrString;
use apimachinery::intstr;

use super::revision::{DESIRED_REPLICAS, MAX_REPLICAS};
use crate::context::name;

/// One ReplicaSet's new size.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Step {
    pub(super) name: String,
    pub(super) size: i32,
}

/// `spec.replicas` of a Deployment.
pub(super) fn wanted(d: &Deployment) -> i32 {
    d.spec.as_ref().and_then(|spec| spec.replicas).unwrap_or(1)
}

/// `spec.replicas` of a ReplicaSet.
pub(super) fn size(rs: &ReplicaSet) -> i32 {
    rs.spec.as_ref().and_then(|spec| spec.replicas).unwrap_or(1)
}

/// `status.availableReplicas`.
pub(super) fn available(rs: &ReplicaSet) -> i32 {
    rs.status.as_ref().and_then(|status| status.available_replicas).unwrap_or_default()
}

/// Sum of the wanted sizes.
pub(super) fn total<'a>(sets: impl IntoIterator<Item = &'a ReplicaSet>) -> i32 {
    sets.into_iter().map(size).sum()
}

/// Whether the strategy is RollingUpdate.
pub(super) fn is_rolling(d: &Deployment) -> bool {
    d.spec.as_ref().and_then(|spec| spec.strategy.as_ref()?.type_.as_deref()) == Some("RollingUpdate")
}

/// Surge and unavailability in pods. Both zero would never move, so then one may be unavailable.
fn fenceposts(d: &Deployment) -> (i32, i32) {
    let rolling = d.spec.as_ref().and_then(|spec| spec.strategy.as_ref()?.rolling_update.as_ref());
    let scaled = |value: Option<&IntOrString>, up: bool| -> i32 {
        match value {
            None => 0,
            Some(IntOrString::Int(number)) => *number,
            Some(IntOrString::String(text)) => {
                intstr::IntOrString::parse(text).scaled(wanted(d), up).unwrap_or_default()
            }
        }
    };
    let surge = scaled(rolling.and_then(|r| r.max_surge.as_ref()), true);
    let unavailable = scaled(rolling.and_then(|r| r.max_unavailable.as_ref()), false);
    if surge == 0 && unavailable == 0 { (0, 1) } else { (surge, unavailable) }
}

/// So many pods may be above the wanted number during a rolling update.
pub(super) fn max_surge(d: &Deployment) -> i32 {
    if is_rolling(d) { fenceposts(d).0 } else { 0 }
}

/// So many pods may be missing during a rolling update.
pub(super) fn max_unavailable(d: &Deployment) -> i32 {
    if !is_rolling(d) || wanted(d) == 0 {
        return 0;
    }
    fenceposts(d).1.min(wanted(d))
}

/// The size of the new ReplicaSet, given what all of them want together.
pub(super) fn new_size(d: &Deployment, total: i32, new: i32) -> i32 {
    if !is_rolling(d) {
        return wanted(d);
    }
    let room = wanted(d) + max_surge(d) - total;
    if room <= 0 {
        return new;
    }
    new + room.min(wanted(d) - new)
}

/// What a rolling update takes from the old ReplicaSets now: first what is not available anyway, then as many
/// as availability allows. `old` are the active ones; the oldest gives first.
pub(super) fn shrink_old(d: &Deployment, old: &[ReplicaSet], new: &ReplicaSet) -> Vec<Step> {
    let mut steps = Vec::new();
    let mut old: Vec<(&ReplicaSet, i32)> = old.iter().map(|rs| (rs, size(rs))).collect();
    old.sort_by_key(|(rs, _)| age_key(rs));
    let total: i32 = old.iter().map(|(_, size)| size).sum::<i32>() + size(new);
    let min_available = wanted(d) - max_unavailable(d);
    let mut spare = total - min_available - (size(new) - available(new));
    if spare <= 0 || old.iter().all(|(_, size)| *size == 0) {
        return steps;
    }
    for (rs, size) in &mut old {
        let unhealthy = (*size - available(rs)).min(spare);
        if unhealthy > 0 {
            *size -= unhealthy;
            spare -= unhealthy;
            steps.push(Step { name: name(*rs).into(), size: *size });
        }
    }
    let all_available: i32 = old.iter().map(|(rs, _)| available(rs)).sum::<i32>() + available(new);
    let mut spare = all_available - min_available;
    for (rs, size) in &mut old {
        let take = (*size).min(spare);
        if take > 0 {
            *size -= take;
            spare -= take;
            steps.push(Step { name: name(*rs).into(), size: *size });
        }
    }
    steps
}

/// Creation time, then name.
pub(super) fn age_key(rs: &ReplicaSet) -> (Option<jiff::Timestamp>, String) {
    (rs.metadata.creation_timestamp.as_ref().map(|time| time.0), name(rs).to_owned())
}

/// The one ReplicaSet that has pods, or if none has, the newest; `None` if several have.
pub(super) fn active_or_latest<'a>(
    new: Option<&'a ReplicaSet>,
    old: &'a [ReplicaSet],
) -> Option<&'a ReplicaSet> {
    let mut active = old.iter().chain(new).filter(|rs| size(rs) > 0);
    match (active.next(), active.next()) {
        (Some(one), None) => Some(one),
        (Some(_), Some(_)) => None,
        (None, _) => new.or_else(|| old.iter().max_by_key(|rs| age_key(rs))),
    }
}

/// A rollout to this ReplicaSet is complete: it has all the pods, and they are available.
pub(super) fn is_saturated(d: &Deployment, rs: &ReplicaSet) -> bool {
    let desired = annotation(rs, DESIRED_REPLICAS);
    size(rs) == wanted(d) && desired == Some(wanted(d)) && available(rs) == wanted(d)
}

/// A size that an annotation holds.
pub(super) fn annotation(rs: &ReplicaSet, key: &str) -> Option<i32> {
    let text = rs.metadata.annotations.as_ref()?.get(key)?;
    text.parse().ok().filter(|number| *number >= 0)
}

/// Proportional scaling: when a Deployment is scaled in the middle of a rollout, each active ReplicaSet gets
/// its share, so that a scale-up does not hasten the rollout. Answers the new size of each, the largest first.
pub(super) fn proportional(d: &Deployment, active: &[ReplicaSet]) -> Vec<Step> {
    let allowed = if wanted(d) > 0 { wanted(d) + max_surge(d) } else { 0 };
    let to_add = allowed - total(active);
    let mut order: Vec<&ReplicaSet> = active.iter().collect();
    order.sort_by_key(|rs| age_key(rs));
    if to_add > 0 {
        order.reverse();
    }
    // A stable sort keeps the order by age among equals: the newer first when growing.
    order.sort_by_key(|rs| std::cmp::Reverse(size(rs)));
    let mut added = 0;
    let mut steps: Vec<Step> = Vec::new();
    for rs in order {
        let share = proportion(d, rs, to_add, added);
        added += share;
        steps.push(Step { name: name(rs).into(), size: size(rs) + share });
    }
    if let Some(first) = steps.first_mut()
        && to_add != 0
    {
        first.size = (first.size + to_add - added).max(0);
    }
    steps
}

fn proportion(d: &Deployment, rs: &ReplicaSet, to_add: i32, added: i32) -> i32 {
    if size(rs) == 0 || to_add == 0 || to_add == added {
        return 0;
    }
    let fraction = fraction(d, rs);
    if to_add > 0 { fraction.min(to_add - added) } else { fraction.max(to_add - added) }
}

fn fraction(d: &Deployment, rs: &ReplicaSet) -> i32 {
    if wanted(d) == 0 {
        return -size(rs);
    }
    let status = d.status.as_ref().and_then(|status| status.replicas).unwrap_or_default();
    let before = annotation(rs, MAX_REPLICAS).filter(|max| *max != 0).unwrap_or(status);
    if before == 0 {
        return 0;
    }
    let grown = f64::from(size(rs)) * f64::from(wanted(d) + max_surge(d)) / f64::from(before);
    grown.round() as i32 - size(rs)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn deployment(replicas: i32, surge: Value, unavailable: Value) -> Deployment {
        serde_json::from_value(json!({"metadata": {"name": "d"}, "spec": {"replicas": replicas,
            "selector": {}, "template": {},
            "strategy": {"type": "RollingUpdate",
                "rollingUpdate": {"maxSurge": surge, "maxUnavailable": unavailable}}}}))
        .unwrap()
    }

    /// `name size available [max-replicas]`, older ones first.
    fn sets(texts: &[&str]) -> Vec<ReplicaSet> {
        let one = |(age, text): (usize, &&str)| {
            let parts: Vec<&str> = text.split(' ').collect();
            let number = |i: usize| parts[i].parse::<i32>().unwrap();
            let mut annotations = json!({});
            if let Some(max) = parts.get(3) {
                annotations[MAX_REPLICAS] = json!(max);
            }
            serde_json::from_value(json!({
                "metadata": {"name": parts[0], "annotations": annotations,
                    "creationTimestamp": format!("1970-01-01T00:00:{:02}Z", age + 1)},
                "spec": {"replicas": number(1), "selector": {}},
                "status": {"replicas": number(1), "availableReplicas": number(2)},
            }))
            .unwrap()
        };
        texts.iter().enumerate().map(one).collect()
    }

    fn text(steps: &[Step]) -> String {
        steps.iter().map(|step| format!("{}={}", step.name, step.size)).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn fence_posts() {
        let check = |replicas, surge: Value, unavailable: Value, expect| {
            let d = deployment(replicas, surge, unavailable);
            assert_eq!((max_surge(&d), max_unavailable(&d)), expect);
        };
        check(10, json!("25%"), json!("25%"), (3, 2));
        check(3, json!("25%"), json!("25%"), (1, 0));
        check(1, json!(0), json!("25%"), (0, 1));
        check(2, json!(0), json!(5), (0, 2));
        check(0, json!(1), json!(1), (1, 0));
    }

    #[test]
    fn growth_of_the_new_set() {
        let check = |replicas, surge: Value, total, new, expect| {
            assert_eq!(new_size(&deployment(replicas, surge, json!(0)), total, new), expect);
        };
        // Upstream's TestDeploymentController_reconcileNewReplicaSet.
        check(10, json!(0), 10, 0, 0);
        check(10, json!(2), 10, 0, 2);
        check(10, json!(2), 5, 0, 7);
        check(10, json!(2), 15, 10, 10);
        check(10, json!("20%"), 10, 2, 4);
    }

    #[test]
    fn shrinking_old_sets() {
        let check = |replicas, surge: Value, unavailable: Value, old: &[&str], new: &str, expect: &str| {
            let steps = shrink_old(&deployment(replicas, surge, unavailable), &sets(old), &sets(&[new])[0]);
            assert_eq!(text(&steps), expect, "{old:?} {new}");
        };
        // Upstream's TestDeploymentController_reconcileOldReplicaSets.
        // Both zero would never move: one may be missing then.
        check(10, json!(0), json!(0), &["o 10 10"], "n 0 0", "o=9");
        check(10, json!(0), json!(2), &["o 10 10"], "n 0 0", "o=8");
        check(10, json!(0), json!(2), &["o 10 8"], "n 0 0", "o=8");
        check(10, json!(0), json!(2), &["o 10 9"], "n 0 0", "o=9 o=8");
        check(10, json!(0), json!(2), &["o 8 8"], "n 2 0", "");
        check(10, json!(2), json!(0), &["o 10 10"], "n 2 2", "o=8");
        check(4, json!(0), json!(1), &["a 2 0", "b 2 2"], "n 0 0", "a=1");
        check(3, json!(1), json!(0), &["a 1 1", "b 2 2"], "n 1 1", "a=0");
        // Unavailable pods of a stuck rollout give way to the next one.
        check(10, json!(3), json!(2), &["good 8 8", "bad 5 0"], "n 0 0", "bad=0");
    }

    #[test]
    fn proportions() {
        let check = |replicas, surge: i32, active: &[&str], expect: &str| {
            let d = deployment(replicas, json!(surge), json!(0));
            assert_eq!(text(&proportional(&d, &sets(active))), expect, "{replicas} {active:?}");
        };
        // Upstream's TestScale.
        check(10, 0, &["old 4 0 9", "new 5 0 9"], "new=6 old=4");
        check(12, 0, &["old 5 0 10", "new 5 0 10"], "new=6 old=6");
        check(20, 0, &["older 2 0 10", "old 3 0 10", "new 5 0 10"], "new=10 old=6 older=4");
        check(5, 0, &["older 2 0 10", "old 3 0 10", "new 5 0 10"], "new=2 old=2 older=1");
        check(0, 0, &["old 3 0 10", "new 7 0 10"], "new=0 old=0");
        check(30, 3, &["old 8 0 13", "new 5 0 13"], "old=20 new=13");
    }

    #[test]
    fn the_active_or_latest_set() {
        let check = |old: &[&str], new: Option<&str>, expect: Option<&str>| {
            let (old, new) = (sets(old), new.map(|text| sets(&[text]).remove(0)));
            assert_eq!(active_or_latest(new.as_ref(), &old).map(name), expect);
        };
        check(&["a 1 1", "b 0 0"], Some("n 0 0"), Some("a"));
        check(&["a 1 1", "b 1 0"], Some("n 0 0"), None);
        check(&["a 0 0", "b 0 0"], Some("n 0 0"), Some("n"));
        check(&["a 0 0", "b 0 0"], None, Some("b"));
        check(&[], None, None);
    }
}
