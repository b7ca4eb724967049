//! Defaults of the groups beside core (upstream's `pkg/apis/*/v1/defaults.go`).

use serde_json::{Map, Value, json};

use super::{Rule, has, is_empty, set, sub, text, there};

pub const RULES: &[(&str, Rule)] = &[
    ("apps.v1.Deployment", deployment),
    ("apps.v1.DaemonSet", daemon_set),
    ("apps.v1.StatefulSet", stateful_set),
    ("apps.v1.ReplicaSetSpec", |map| set(map, "replicas", 1)),
    ("batch.v1.Job", job),
    ("batch.v1.CronJob", cron_job),
    ("batch.v1.PodFailurePolicyOnPodConditionsPattern", |map| set(map, "status", "True")),
    ("autoscaling.v1.HorizontalPodAutoscalerSpec", |map| set(map, "minReplicas", 1)),
    ("autoscaling.v2.HorizontalPodAutoscaler", horizontal_pod_autoscaler),
    ("networking.v1.NetworkPolicyPort", |map| set(map, "protocol", "TCP")),
    ("networking.v1.NetworkPolicySpec", network_policy),
    ("networking.v1.IngressClassParametersReference", |map| set(map, "scope", "Cluster")),
    ("rbac.v1.RoleRef", |map| set(map, "apiGroup", "rbac.authorization.k8s.io")),
    ("rbac.v1.Subject", subject),
    ("discovery.v1.EndpointPort", endpoint_port),
];

fn deployment(map: &mut Map<String, Value>) {
    let Some(spec) = there(map, "spec") else { return };
    set(spec, "replicas", 1);
    if let Some(strategy) = sub(spec, "strategy") {
        set(strategy, "type", "RollingUpdate");
        if text(strategy, "type") == "RollingUpdate"
            && let Some(rolling) = sub(strategy, "rollingUpdate")
        {
            set(rolling, "maxUnavailable", "25%");
            set(rolling, "maxSurge", "25%");
        }
    }
    set(spec, "revisionHistoryLimit", 10);
    set(spec, "progressDeadlineSeconds", 600);
}

fn daemon_set(map: &mut Map<String, Value>) {
    let Some(spec) = there(map, "spec") else { return };
    if let Some(strategy) = sub(spec, "updateStrategy") {
        set(strategy, "type", "RollingUpdate");
        if text(strategy, "type") == "RollingUpdate"
            && let Some(rolling) = sub(strategy, "rollingUpdate")
        {
            set(rolling, "maxUnavailable", 1);
            set(rolling, "maxSurge", 0);
        }
    }
    set(spec, "revisionHistoryLimit", 10);
}

fn stateful_set(map: &mut Map<String, Value>) {
    let Some(spec) = there(map, "spec") else { return };
    set(spec, "podManagementPolicy", "OrderedReady");
    if let Some(strategy) = sub(spec, "updateStrategy") {
        if text(strategy, "type").is_empty() {
            set(strategy, "type", "RollingUpdate");
            sub(strategy, "rollingUpdate");
        }
        if text(strategy, "type") == "RollingUpdate"
            && let Some(rolling) = there(strategy, "rollingUpdate")
        {
            set(rolling, "partition", 0);
        }
    }
    if let Some(policy) = sub(spec, "persistentVolumeClaimRetentionPolicy") {
        set(policy, "whenDeleted", "Retain");
        set(policy, "whenScaled", "Retain");
    }
    set(spec, "replicas", 1);
    set(spec, "revisionHistoryLimit", 10);
}

fn job(map: &mut Map<String, Value>) {
    let labels = map.get("spec").and_then(|spec| spec.pointer("/template/metadata/labels")).cloned();
    if let Some(labels) = labels
        && let Some(metadata) = sub(map, "metadata")
        && is_empty(metadata, "labels")
    {
        metadata.insert("labels".to_owned(), labels);
    }
    let Some(spec) = there(map, "spec") else { return };
    if !has(spec, "completions") && !has(spec, "parallelism") {
        set(spec, "completions", 1);
    }
    set(spec, "parallelism", 1);
    let limit = if has(spec, "backoffLimitPerIndex") { i32::MAX } else { 6 };
    set(spec, "backoffLimit", limit);
    set(spec, "completionMode", "NonIndexed");
    set(spec, "suspend", false);
    let replacement = if has(spec, "podFailurePolicy") { "Failed" } else { "TerminatingOrFailed" };
    set(spec, "podReplacementPolicy", replacement);
    set(spec, "manualSelector", false);
}

fn cron_job(map: &mut Map<String, Value>) {
    let Some(spec) = there(map, "spec") else { return };
    set(spec, "concurrencyPolicy", "Allow");
    set(spec, "suspend", false);
    set(spec, "successfulJobsHistoryLimit", 3);
    set(spec, "failedJobsHistoryLimit", 1);
}

fn horizontal_pod_autoscaler(map: &mut Map<String, Value>) {
    let Some(spec) = there(map, "spec") else { return };
    set(spec, "minReplicas", 1);
    if is_empty(spec, "metrics") {
        let target = json!({"type": "Utilization", "averageUtilization": 80});
        let metric = json!({"type": "Resource", "resource": {"name": "cpu", "target": target}});
        spec.insert("metrics".to_owned(), json!([metric]));
    }
    let Some(behavior) = there(spec, "behavior") else { return };
    let percent = json!({"type": "Percent", "value": 100, "periodSeconds": 15});
    if let Some(up) = sub(behavior, "scaleUp") {
        set(up, "stabilizationWindowSeconds", 0);
        set(up, "selectPolicy", "Max");
        if !has(up, "policies") {
            let pods = json!({"type": "Pods", "value": 4, "periodSeconds": 15});
            up.insert("policies".to_owned(), json!([pods, percent]));
        }
    }
    if let Some(down) = sub(behavior, "scaleDown") {
        set(down, "selectPolicy", "Max");
        if !has(down, "policies") {
            down.insert("policies".to_owned(), json!([percent]));
        }
    }
}

fn network_policy(map: &mut Map<String, Value>) {
    if is_empty(map, "policyTypes") {
        let types = if is_empty(map, "egress") { json!(["Ingress"]) } else { json!(["Ingress", "Egress"]) };
        map.insert("policyTypes".to_owned(), types);
    }
}

fn subject(map: &mut Map<String, Value>) {
    if matches!(text(map, "kind"), "User" | "Group") {
        set(map, "apiGroup", "rbac.authorization.k8s.io");
    }
}

fn endpoint_port(map: &mut Map<String, Value>) {
    if !has(map, "name") {
        map.insert("name".to_owned(), "".into());
    }
    set(map, "protocol", "TCP");
}
