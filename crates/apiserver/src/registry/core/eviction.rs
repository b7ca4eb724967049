//! Eviction: a deletion that asks the pod's disruption budget first (upstream's
//! `registry/core/pod/storage/eviction.go`).
//!
//! A pod that runs nowhere, has ended or is going disturbs nobody and just goes. For others the budget gives one
//! disruption away and remembers for whom, until its controller has seen the pod go.

use std::time::Duration;

use apimachinery::{
    field::{self, Path},
    labels::Selector,
    status::{Cause, Status},
};
use jiff::Timestamp;
use serde_json::{Value, json};

use super::pod::set_condition;
use crate::{
    handlers::options::{DeleteOptions, WriteOptions},
    registry::{generic::Scope, meta},
    request::Operation,
    storage,
};

/// How long a client should wait before it tries again, in seconds.
const RETRY: u32 = 10;
/// How often, and after how long, an eviction that met another writer is tried again.
const ATTEMPTS: usize = 20;
const PAUSE: Duration = Duration::from_millis(500);
/// Pods that a budget lets go without having seen them gone.
const MAX_DISRUPTED: usize = 2000;
const REFUSAL: &str = "Cannot evict pod as it would violate the pod's disruption budget.";

pub async fn evict(scope: &Scope<'_>, mut eviction: Value, options: &WriteOptions) -> Result<Value, Status> {
    if meta::name(&eviction) != scope.name {
        return Err(Status::bad_request("name in URL does not match name in Eviction object"));
    }
    let delete = delete_options(scope, &eviction, options)?;
    let asked = WriteOptions { dry_run: delete.dry_run, ..options.clone() };
    scope.admit(Operation::Create, &mut eviction, None, (&asked).into()).await?;
    scope.check(Operation::Create, &eviction, None, (&asked).into()).await?;
    let success =
        json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "code": 201});
    let mut attempts = ATTEMPTS;
    let pod = loop {
        let pod = scope.server.storage.read(scope.resource, scope.namespace, scope.name)?;
        let pod = pod.ok_or_else(|| scope.not_found())?;
        if !ignores_budgets(&pod) {
            break pod;
        }
        // What is only not running yet could have begun to, and then its budget is to be asked.
        let pinned = pinned(&delete, &pod);
        let options = if is_only_pending(&pod) { &pinned } else { &delete };
        attempts -= 1;
        match end(scope, options).await {
            Ok(()) => return Ok(success),
            Err(status) if status.is_conflict() && delete.resource_version.is_none() && attempts > 0 => {
                tokio::time::sleep(PAUSE).await;
            }
            Err(status) => return Err(status),
        }
    };
    let Some(budget) = budget_of(scope, &pod)? else {
        end(scope, &delete).await?;
        return Ok(success);
    };
    if is_free(&pod, &budget) {
        return match end(scope, &pinned(&delete, &pod)).await {
            // The pod may have become ready: then it is no longer free.
            Err(status) if status.is_conflict() && delete.resource_version.is_none() => {
                Err(still_processed(meta::name(&budget)))
            }
            done => done.map(|()| success),
        };
    }
    spend(scope, &budget, meta::name(&pod), delete.dry_run).await?;
    end(scope, &delete).await?;
    Ok(success)
}

fn delete_options(
    scope: &Scope<'_>,
    eviction: &Value,
    options: &WriteOptions,
) -> Result<DeleteOptions, Status> {
    const UNSAFE: &str = "ignoreStoreReadErrorWithClusterBreakingPotential";
    let given = &eviction["deleteOptions"];
    if given[UNSAFE] == true {
        let path = Path::new("deleteOptions");
        let why = "can not be set for pod eviction, try after removing the option";
        let error = field::Error::invalid(&path.child(UNSAFE), true, why);
        return Err(Status::invalid("policy", "Eviction", scope.name, &[error]));
    }
    let mut delete = match given {
        Value::Null => DeleteOptions::default(),
        given => DeleteOptions::from_value(given)?,
    };
    delete.dry_run |= options.dry_run;
    Ok(delete)
}

/// The same options for just this version of the pod, unless they name one already.
fn pinned(delete: &DeleteOptions, pod: &Value) -> DeleteOptions {
    let version = meta::text(pod, "resourceVersion").to_owned();
    let resource_version = delete.resource_version.clone().or(Some(version));
    DeleteOptions { resource_version, ..delete.clone() }
}

/// Pods that run nowhere, or go anyway, disturb nobody.
fn ignores_budgets(pod: &Value) -> bool {
    matches!(pod["status"]["phase"].as_str(), Some("Succeeded" | "Failed" | "Pending"))
        || meta::is_being_deleted(pod)
}

fn is_only_pending(pod: &Value) -> bool {
    !matches!(pod["status"]["phase"].as_str(), Some("Succeeded" | "Failed")) && !meta::is_being_deleted(pod)
}

/// A pod that is not ready adds nothing to what the budget protects, where the budget has enough without it or says
/// that such pods may always go (KEP-3017).
fn is_free(pod: &Value, budget: &Value) -> bool {
    let mut conditions = pod["status"]["conditions"].as_array().into_iter().flatten();
    if conditions.any(|condition| condition["type"] == "Ready" && condition["status"] == "True") {
        return false;
    }
    let number = |field: &str| budget["status"][field].as_i64().unwrap_or(0);
    budget["spec"]["unhealthyPodEvictionPolicy"] == "AlwaysAllow"
        || number("currentHealthy") >= number("desiredHealthy") && number("desiredHealthy") > 0
}

/// Says why the pod goes, and deletes it.
async fn end(scope: &Scope<'_>, options: &DeleteOptions) -> Result<(), Status> {
    let pod_scope = Scope { subresource: "", kind: "Pod", ..*scope };
    let mut options = options.clone();
    if !options.dry_run {
        let revision = mark(&pod_scope, &options).await?;
        if options.resource_version.is_some() {
            options.resource_version = Some(revision.to_string());
        }
    }
    pod_scope.delete_unasked(&options).await.map(drop)
}

/// Puts the condition DisruptionTarget on the pod (KEP-3329). The revision of the pod with it.
async fn mark(scope: &Scope<'_>, options: &DeleteOptions) -> Result<i64, Status> {
    let storage = &scope.server.storage;
    let key = storage::key(scope.resource, scope.namespace, scope.name)?;
    loop {
        let kv = storage.get(scope.resource, scope.namespace, scope.name)?;
        let kv = kv.ok_or_else(|| scope.not_found())?;
        let mut pod = storage.decode(scope.resource, &kv)?;
        let (uid, version) = (options.uid.as_deref(), options.resource_version.as_deref());
        meta::preconditions(&pod, "", "Pod", uid, version)?;
        let condition = json!({
            "type": "DisruptionTarget",
            "status": "True",
            "reason": "EvictionByEvictionAPI",
            "message": "Eviction API: evicting",
        });
        set_condition(&mut pod, condition, scope.server.clock.now());
        let value = storage::encode(scope.resource, &mut pod)?;
        if value == kv.value {
            return Ok(kv.mod_revision);
        }
        if let Ok(kv) = storage.put(scope.resource, key.clone(), value, kv.mod_revision).await? {
            return Ok(kv.mod_revision);
        }
    }
}

/// The pod's budget.
///
/// # Errors
/// 500 when there are several.
fn budget_of(scope: &Scope<'_>, pod: &Value) -> Result<Option<Value>, Status> {
    let Some(budgets) = api::resource("policy", "v1", "poddisruptionbudgets") else { return Ok(None) };
    let mut mine = scope.server.storage.read_all(budgets, scope.namespace);
    mine.retain(|budget| {
        Selector::of_value(&budget["spec"]["selector"])
            .is_ok_and(|s| !s.is_nothing() && s.matches_object(pod))
    });
    if mine.len() > 1 {
        let why = "This pod has more than one PodDisruptionBudget, which the eviction subresource does not support.";
        return Err(Status::failure(500, "", why));
    }
    Ok(mine.pop())
}

/// Takes one disruption from the budget, for this pod.
async fn spend(scope: &Scope<'_>, budget: &Value, pod: &str, dry_run: bool) -> Result<(), Status> {
    let Some(budgets) = api::resource("policy", "v1", "poddisruptionbudgets") else { return Ok(()) };
    let budget_scope = Scope {
        resource: budgets,
        subresource: "status",
        kind: "PodDisruptionBudget",
        name: meta::name(budget),
        ..*scope
    };
    let now = scope.server.clock.now();
    let change = |budget: Option<&Value>| {
        let budget = budget.ok_or_else(|| budget_scope.not_found())?;
        spent(budget, pod, now)
    };
    budget_scope.put(dry_run, &change).await
}

fn refused(budget: &str, message: &str, retry: u32) -> Status {
    let cause = Cause {
        kind: "DisruptionBudget".into(),
        message: format!("The disruption budget {budget} {message}"),
        ..Cause::default()
    };
    Status::too_many_requests(REFUSAL, retry).with_cause(cause)
}

fn still_processed(budget: &str) -> Status {
    refused(budget, "is still being processed by the server.", RETRY)
}

/// The budget with one disruption less.
///
/// # Errors
/// 429 with the cause when none is left, 403 for a budget that cannot be right.
fn spent(budget: &Value, pod: &str, now: Timestamp) -> Result<Value, Status> {
    let (name, status) = (meta::name(budget), &budget["status"]);
    let number = |field: &str| status[field].as_i64().unwrap_or(0);
    let forbidden = |why: &str| Err(Status::forbidden("policy", "poddisruptionbudget", name, why));
    if number("observedGeneration") < budget["metadata"]["generation"].as_i64().unwrap_or(0) {
        return Err(still_processed(name));
    }
    let allowed = number("disruptionsAllowed");
    if allowed < 0 {
        return forbidden("pdb disruptions allowed is negative");
    }
    if status["disruptedPods"].as_object().is_some_and(|pods| pods.len() > MAX_DISRUPTED) {
        return forbidden("DisruptedPods map too big - too many evictions not confirmed by PDB controller");
    }
    if allowed == 0 {
        return Err(refused(name, &why_none(status), 0));
    }
    let mut budget = budget.clone();
    let status = &mut budget["status"];
    status["disruptionsAllowed"] = json!(allowed - 1);
    if !status["disruptedPods"].is_object() {
        status["disruptedPods"] = json!({});
    }
    status["disruptedPods"][pod] = meta::time(now);
    if allowed == 1 {
        set_insufficient(status, now);
    }
    Ok(budget)
}

/// Why a budget has no disruption to give, in the words that follow its name.
fn why_none(status: &Value) -> String {
    let number = |field: &str| status[field].as_i64().unwrap_or(0);
    let mut conditions = status["conditions"].as_array().into_iter().flatten();
    let condition = conditions.find(|c| c["type"] == "DisruptionAllowed" && c["status"] == "False");
    let text = |field: &str| condition.and_then(|c| c[field].as_str()).unwrap_or_default();
    let (reason, message) = (text("reason"), text("message"));
    let (healthy, wanted) = (number("currentHealthy"), number("desiredHealthy"));
    if reason == "SyncFailed" && !message.is_empty() {
        format!("does not allow evicting pods currently because it failed sync: {message}")
    } else if healthy <= wanted {
        format!("needs {wanted} healthy pods and has {healthy} currently")
    } else if !message.is_empty() {
        format!("does not allow evicting pods currently ({reason}): {message}")
    } else {
        "does not allow evicting pods currently".to_owned()
    }
}

/// The condition DisruptionAllowed of a budget that has nothing left. Its time changes only with its status.
fn set_insufficient(status: &mut Value, now: Timestamp) {
    let mut condition = json!({
        "type": "DisruptionAllowed",
        "status": "False",
        "reason": "InsufficientPods",
        "message": "",
        "lastTransitionTime": meta::time(now),
    });
    if let Some(generation) = status["observedGeneration"].as_i64().filter(|generation| *generation != 0) {
        condition["observedGeneration"] = json!(generation);
    }
    if !status["conditions"].is_array() {
        status["conditions"] = json!([]);
    }
    let Some(conditions) = status["conditions"].as_array_mut() else { return };
    match conditions.iter_mut().find(|known| known["type"] == "DisruptionAllowed") {
        Some(known) => {
            if known["status"] == "False" {
                condition["lastTransitionTime"] = known["lastTransitionTime"].clone();
            }
            *known = condition;
        }
        None => conditions.push(condition),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Upstream's `TestEvictionPDBStatus` and the texts of `checkAndDecrement`.
    #[test]
    fn budgets() {
        let now = Timestamp::from_second(0).unwrap();
        let failed = |reason: &str, message: &str| json!([{"type": "DisruptionAllowed", "status": "False", "reason": reason, "message": message}]);
        let head = "The disruption budget b";
        let table = [
            (
                json!({"observedGeneration": 0, "disruptionsAllowed": 1}),
                429,
                Some(10),
                "is still being processed by the server.",
            ),
            (
                json!({"observedGeneration": 1, "disruptionsAllowed": 0, "desiredHealthy": 2, "currentHealthy": 2}),
                429,
                None,
                "needs 2 healthy pods and has 2 currently",
            ),
            (
                json!({"observedGeneration": 1, "currentHealthy": 3, "desiredHealthy": 1,
                "conditions": failed("SyncFailed", "no controller")}),
                429,
                None,
                "does not allow evicting pods currently because it failed sync: no controller",
            ),
            (
                json!({"observedGeneration": 1, "currentHealthy": 3, "desiredHealthy": 1,
                "conditions": failed("Other", "words")}),
                429,
                None,
                "does not allow evicting pods currently (Other): words",
            ),
            (
                json!({"observedGeneration": 1, "currentHealthy": 3, "desiredHealthy": 1,
                "conditions": failed("Other", "")}),
                429,
                None,
                "does not allow evicting pods currently",
            ),
        ];
        for (status, code, retry, message) in table {
            let budget = json!({"metadata": {"name": "b", "generation": 1}, "status": status});
            let refusal = spent(&budget, "p", now).unwrap_err();
            assert_eq!((refusal.code, &*refusal.message), (code, REFUSAL));
            assert_eq!(refusal.retry_after_seconds(), retry, "{status}");
            let cause = refusal.details.unwrap().causes.remove(0);
            assert_eq!(
                (&*cause.kind, cause.message),
                ("DisruptionBudget", format!("{head} {message}")),
                "{status}"
            );
        }
        let budget = json!({"metadata": {"name": "b"}, "status": {"disruptionsAllowed": -1}});
        assert_eq!(spent(&budget, "p", now).unwrap_err().code, 403);
        let budget = json!({"metadata": {"name": "b"}, "status": {"disruptionsAllowed": 2}});
        let once = spent(&budget, "p", now).unwrap();
        assert_eq!(
            once["status"],
            json!({"disruptionsAllowed": 1, "disruptedPods": {"p": "1970-01-01T00:00:00Z"}})
        );
        let twice = spent(&once, "q", now).unwrap();
        assert_eq!(twice["status"]["conditions"][0]["reason"], "InsufficientPods");
        assert_eq!(spent(&twice, "r", now).unwrap_err().code, 429);
    }

    /// Upstream's `TestEviction`, the cases about pods that are not ready.
    #[test]
    fn unhealthy_pods() {
        let pod = |ready: &str| json!({"status": {"conditions": [{"type": "Ready", "status": ready}]}});
        let budget = |policy: &str, current: i64, desired: i64| {
            json!({"spec": {"unhealthyPodEvictionPolicy": policy},
            "status": {"currentHealthy": current, "desiredHealthy": desired}})
        };
        let table = [
            ("True", "AlwaysAllow", 3, 3, false),
            ("False", "AlwaysAllow", 0, 3, true),
            ("False", "IfHealthyBudget", 3, 3, true),
            ("False", "IfHealthyBudget", 2, 3, false),
            ("False", "", 0, 0, false),
        ];
        for (ready, policy, current, desired, expect) in table {
            let got = is_free(&pod(ready), &budget(policy, current, desired));
            assert_eq!(got, expect, "{ready} {policy} {current}/{desired}");
        }
    }
}
