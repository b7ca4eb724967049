//! Fills cluster roles that are made of others (`admin`, `edit`, `view`): their rules are the union of the
//! rules of all roles that their selectors match.

use std::sync::Arc;

use api::rbac::v1::{ClusterRole, PolicyRule};
use client::{Client, Key, Store, WorkQueue, key_of};

use crate::Result;
use crate::context::{Context, name, selector};
use crate::error::Doing;

const WORKERS: usize = 1;

pub(crate) fn start(context: &Context) {
    let roles = context.informers.get::<ClusterRole>();
    let controller = Arc::new(Controller { client: context.client.clone(), roles: roles.store().clone() });
    let queue = WorkQueue::new();
    let (handler_queue, store) = (queue.clone(), roles.store().clone());
    roles.add_handler(move |_| {
        // Any role may be part of any aggregated one, and there are few of these.
        for role in store.list() {
            if role.aggregation_rule.is_some() {
                handler_queue.add(key_of(&*role));
            }
        }
    });
    context.work("ClusterRoleAggregator", &queue, WORKERS, move |key| {
        let controller = controller.clone();
        async move { controller.sync(key).await }
    });
}

struct Controller {
    client: Client,
    roles: Store<ClusterRole>,
}

/// The rules that an aggregated role should have: each once, in the order of its selectors and then of names.
fn plan(role: &ClusterRole, all: &[Arc<ClusterRole>]) -> Vec<PolicyRule> {
    let mut rules: Vec<PolicyRule> = Vec::new();
    let selectors =
        role.aggregation_rule.iter().flat_map(|rule| rule.cluster_role_selectors.iter().flatten());
    for selector in selectors.map(selector) {
        for other in all {
            if name(&**other) == name(role) || !selector.matches_map(other.metadata.labels.as_ref()) {
                continue;
            }
            for rule in other.rules.iter().flatten() {
                if !rules.contains(rule) {
                    rules.push(rule.clone());
                }
            }
        }
    }
    rules
}

impl Controller {
    async fn sync(&self, key: Key) -> Result<()> {
        let Some(role) = self.roles.get_key(&key) else { return Ok(()) };
        if role.aggregation_rule.is_none() {
            return Ok(());
        }
        let rules = plan(&role, &self.roles.list());
        if rules == role.rules.clone().unwrap_or_default() {
            return Ok(());
        }
        let wanted = ClusterRole { rules: Some(rules), ..ClusterRole::clone(&role) };
        match self.client.update(&wanted).await {
            Err(error) if error.is_not_found() => Ok(()),
            answer => answer.map(|_| ()).doing(|| format!("aggregating cluster role {key}")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn rules_are_united() {
        let role = |name: &str, label: &str, resources: &[&str]| -> Arc<ClusterRole> {
            let rules: Vec<_> =
                resources.iter().map(|r| json!({"verbs": ["get"], "resources": [r]})).collect();
            Arc::new(
                serde_json::from_value(
                    json!({"metadata": {"name": name, "labels": {"to": label}}, "rules": rules}),
                )
                .unwrap(),
            )
        };
        let mut sum = ClusterRole::clone(&role("view", "view", &["stale"]));
        sum.aggregation_rule = serde_json::from_value(
            json!({"clusterRoleSelectors": [{"matchLabels": {"to": "view"}}, {"matchLabels": {"to": "more"}}]}),
        )
        .unwrap();
        let all = [
            role("a", "view", &["x", "y"]),
            role("b", "more", &["z"]),
            role("c", "view", &["y", "w"]),
            role("d", "other", &["no"]),
            Arc::new(sum.clone()),
        ];
        let got: Vec<_> =
            plan(&sum, &all).into_iter().map(|rule| rule.resources.unwrap()[0].clone()).collect();
        assert_eq!(got, ["x", "y", "w", "z"]);
    }
}
