//! Tells the authors of validating admission policies where their expressions do not fit the kinds that they are
//! about: in `status.typeChecking`, once for each generation.

use std::sync::Arc;

use api::admissionregistration::v1::ValidatingAdmissionPolicy;
use client::{Client, Key, Patch, Store, WorkQueue, key_of};
use kinds::admissionregistration::type_checking::warnings;
use serde_json::{Value, json};

use crate::Result;
use crate::context::Context;
use crate::error::Doing;

const NAME: &str = "validatingadmissionpolicy-status";
const WORKERS: usize = 5;

pub(crate) fn start(context: &Context) {
    let policies = context.informers.get::<ValidatingAdmissionPolicy>();
    let controller =
        Arc::new(Controller { client: context.client.clone(), policies: policies.store().clone() });
    let queue = WorkQueue::new();
    let handler_queue = queue.clone();
    policies.add_handler(move |event| handler_queue.add(key_of(&**event.object())));
    context.work(NAME, &queue, WORKERS, move |key| {
        let controller = controller.clone();
        async move { controller.sync(key).await }
    });
}

struct Controller {
    client: Client,
    policies: Store<ValidatingAdmissionPolicy>,
}

/// The status of a policy as it is to be applied; none if its generation has been looked at.
fn plan(policy: &ValidatingAdmissionPolicy) -> Option<Value> {
    let generation = policy.metadata.generation.unwrap_or_default();
    let observed = policy.status.as_ref().and_then(|status| status.observed_generation).unwrap_or_default();
    if generation <= observed {
        return None;
    }
    let found = warnings(&serde_json::to_value(policy).ok()?);
    let found: Vec<Value> =
        found.iter().map(|one| json!({"fieldRef": one.field_ref, "warning": one.warning})).collect();
    Some(json!({
        "apiVersion": "admissionregistration.k8s.io/v1",
        "kind": "ValidatingAdmissionPolicy",
        "metadata": {"name": policy.metadata.name},
        "status": {"observedGeneration": generation, "typeChecking": {"expressionWarnings": found}},
    }))
}

impl Controller {
    async fn sync(&self, key: Key) -> Result<()> {
        let Some(policy) = self.policies.get_key(&key) else { return Ok(()) };
        let Some(object) = plan(&policy) else { return Ok(()) };
        let patch = Patch::Apply { object, field_manager: NAME.to_owned(), force: true };
        match self.client.patch_status::<ValidatingAdmissionPolicy>("", &key.name, &patch).await {
            Err(error) if error.is_not_found() => Ok(()),
            answer => answer.map(|_| ()).doing(|| format!("telling of the types of policy {key}")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_generation_is_looked_at_once() {
        let policy = |expression: &str, observed: i64| -> ValidatingAdmissionPolicy {
            let rule = json!({"operations": ["*"], "apiGroups": ["apps"], "apiVersions": ["v1"], "resources": ["deployments"]});
            serde_json::from_value(json!({
                "metadata": {"name": "p", "generation": 2},
                "spec": {"matchConstraints": {"resourceRules": [rule]}, "validations": [{"expression": expression}]},
                "status": {"observedGeneration": observed},
            }))
            .unwrap()
        };
        assert_eq!(plan(&policy("object.spec.replicas > '1'", 2)), None);
        let fine = plan(&policy("object.spec.replicas > 1", 1)).unwrap();
        assert_eq!(
            fine["status"],
            json!({"observedGeneration": 2, "typeChecking": {"expressionWarnings": []}})
        );
        let bad = plan(&policy("object.spec.replicas > '1'", 1)).unwrap();
        let warning = bad.pointer("/status/typeChecking/expressionWarnings/0").unwrap();
        assert_eq!(warning["fieldRef"], "spec.validations[0].expression");
        assert!(warning["warning"].as_str().unwrap().contains("found no matching overload for '_>_'"));
    }
}
