//! Eviction: a deletion that asks the pod's disruption budget first (upstream's
//! `registry/core/pod/storage/eviction.go`).

use apimachinery::{
    labels::Selector,
    status::{Cause, Status},
};
use serde_json::{Value, json};

use crate::{
    handlers::options::{DeleteOptions, WriteOptions},
    registry::{generic::Scope, meta},
    request::Operation,
};

/// How long a client should wait before it tries again, in seconds.
const RETRY: u32 = 10;

pub async fn evict(scope: &Scope<'_>, mut eviction: Value, options: &WriteOptions) -> Result<Value, Status> {
    if !meta::name(&eviction).is_empty() && meta::name(&eviction) != scope.name {
        return Err(Status::bad_request("name in URL does not match name in Eviction object"));
    }
    let mut delete = match &eviction["deleteOptions"] {
        Value::Null => DeleteOptions::default(),
        given => DeleteOptions::from_value(given)?,
    };
    delete.dry_run |= options.dry_run;
    scope.admit(Operation::Create, &mut eviction, None, delete.dry_run).await?;
    scope.check(Operation::Create, &eviction, None, delete.dry_run).await?;
    let pod = scope.server.storage.read(scope.resource, scope.namespace, scope.name)?;
    let pod = pod.ok_or_else(|| scope.not_found())?;
    if !ignores_budgets(&pod) {
        spend(scope, &pod, delete.dry_run).await?;
    }
    let pod_scope = Scope { subresource: "", kind: "Pod", ..*scope };
    pod_scope.delete(&delete).await?;
    Ok(json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "code": 201}))
}

/// Pods that run nowhere, or go anyway, disturb nobody.
fn ignores_budgets(pod: &Value) -> bool {
    matches!(pod["status"]["phase"].as_str(), Some("Succeeded" | "Failed" | "Pending"))
        || meta::is_being_deleted(pod)
}

/// Takes one disruption from the pod's budget.
async fn spend(scope: &Scope<'_>, pod: &Value, dry_run: bool) -> Result<(), Status> {
    let Some(budgets) = api::resource("policy", "v1", "poddisruptionbudgets") else { return Ok(()) };
    let mut mine = scope.server.storage.read_all(budgets, scope.namespace);
    mine.retain(|budget| {
        Selector::of_value(&budget["spec"]["selector"])
            .is_ok_and(|s| !s.is_nothing() && s.matches_object(pod))
    });
    let budget = match mine.as_slice() {
        [] => return Ok(()),
        [one] => one,
        _ => {
            return Err(Status::internal(
                "This pod has more than one PodDisruptionBudget, which the eviction subresource does not support.",
            ));
        }
    };
    let name = meta::name(budget).to_owned();
    let budget_scope = Scope {
        resource: budgets,
        subresource: "status",
        kind: "PodDisruptionBudget",
        name: &name,
        ..*scope
    };
    let (pod_name, now) = (meta::name(pod).to_owned(), meta::time(scope.server.clock.now()));
    let change = |budget: Option<&Value>| {
        let budget = budget.ok_or_else(|| budget_scope.not_found())?;
        let status = &budget["status"];
        let cause = |message: String| Cause { kind: "DisruptionBudget".into(), message, ..Cause::default() };
        if status["observedGeneration"].as_i64() < budget["metadata"]["generation"].as_i64() {
            let refusal = Status::too_many_requests(
                "Cannot evict pod as it would violate the pod's disruption budget.",
                RETRY,
            );
            return Err(refusal.with_cause(cause(format!(
                "The disruption budget {name} is still being processed by the server."
            ))));
        }
        let allowed = status["disruptionsAllowed"].as_i64().unwrap_or(0);
        if allowed <= 0 {
            let refusal = Status::too_many_requests(
                "Cannot evict pod as it would violate the pod's disruption budget.",
                0,
            );
            let healthy = status["desiredHealthy"].as_i64().unwrap_or(0);
            let current = status["currentHealthy"].as_i64().unwrap_or(0);
            return Err(refusal.with_cause(cause(format!(
                "The disruption budget {name} needs {healthy} healthy pods and has {current} currently"
            ))));
        }
        let mut budget = budget.clone();
        budget["status"]["disruptionsAllowed"] = json!(allowed - 1);
        if !budget["status"]["disruptedPods"].is_object() {
            budget["status"]["disruptedPods"] = json!({});
        }
        budget["status"]["disruptedPods"][&pod_name] = now.clone();
        Ok(budget)
    };
    budget_scope.put(dry_run, &change).await
}
