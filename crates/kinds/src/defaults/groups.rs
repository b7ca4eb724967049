//! Defaults of the groups beside core (upstream's `pkg/apis/*/v1/defaults.go`).

use serde_json::{Map, Value, json};

use super::{Rule, has, is_empty, set, set_text, sub, text, there};

pub const RULES: &[(&str, Rule)] = &[
    ("apps.v1.Deployment", deployment),
    ("apps.v1.DaemonSet", daemon_set),
    ("apps.v1.StatefulSet", stateful_set),
    ("apps.v1.ReplicaSetSpec", |map| set(map, "replicas", 1)),
    ("batch.v1.Job", job),
    ("batch.v1.CronJob", cron_job),
    ("batch.v1.PodFailurePolicyOnPodConditionsPattern", |map| set_text(map, "status", "True")),
    ("authentication.v1.TokenRequestSpec", |map| set(map, "expirationSeconds", 3600)),
    ("autoscaling.v1.HorizontalPodAutoscalerSpec", |map| set(map, "minReplicas", 1)),
    ("autoscaling.v2.HorizontalPodAutoscaler", horizontal_pod_autoscaler),
    ("networking.v1.NetworkPolicyPort", |map| set(map, "protocol", "TCP")),
    ("networking.v1.NetworkPolicySpec", network_policy),
    ("networking.v1.IngressClassParametersReference", |map| set(map, "scope", "Cluster")),
    ("rbac.v1.RoleRef", |map| set_text(map, "apiGroup", "rbac.authorization.k8s.io")),
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
    // Claims say what they are, as conversion upstream has always made them say.
    for claim in spec.get_mut("volumeClaimTemplates").and_then(Value::as_array_mut).into_iter().flatten() {
        if let Some(claim) = claim.as_object_mut() {
            claim.insert("apiVersion".to_owned(), "v1".into());
            claim.insert("kind".to_owned(), "PersistentVolumeClaim".into());
        }
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

#[cfg(test)]
mod tests {
    use super::*;

    /// What an object has beside what it was given, at a JSON pointer.
    fn check(at: (&str, &str, &str), pointer: &str, given: Value, expect: Value) {
        let (group, version, kind) = at;
        let id = api::object_type(group, version, kind).expect("a built-in kind");
        let mut object = given.clone();
        for _ in 0..2 {
            crate::defaults::apply(id, &mut object);
            assert_eq!(object.pointer(pointer), Some(&expect), "{kind} {given}");
        }
    }

    /// Upstream's `pkg/apis/apps/v1/defaults_test.go`
    #[test]
    fn workloads() {
        let daemon_set = ("apps", "v1", "DaemonSet");
        let rolling = json!({"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 0, "maxUnavailable": 1}});
        check(
            daemon_set,
            "/spec",
            json!({"spec": {}}),
            json!({"revisionHistoryLimit": 10, "updateStrategy": rolling}),
        );
        check(
            daemon_set,
            "/spec/updateStrategy",
            json!({"spec": {"updateStrategy": {"type": "OnDelete"}}}),
            json!({"type": "OnDelete"}),
        );
        let stateful_set = ("apps", "v1", "StatefulSet");
        let keep = json!({"whenDeleted": "Retain", "whenScaled": "Retain"});
        check(
            stateful_set,
            "/spec",
            json!({"spec": {}}),
            json!({"podManagementPolicy": "OrderedReady", "replicas": 1, "revisionHistoryLimit": 10,
                "persistentVolumeClaimRetentionPolicy": keep,
                "updateStrategy": {"type": "RollingUpdate", "rollingUpdate": {"partition": 0}}}),
        );
        check(
            stateful_set,
            "/spec/updateStrategy",
            json!({"spec": {"updateStrategy": {"type": "RollingUpdate"}}}),
            json!({"type": "RollingUpdate"}),
        );
        check(
            stateful_set,
            "/spec/persistentVolumeClaimRetentionPolicy",
            json!({"spec": {"persistentVolumeClaimRetentionPolicy": {"whenScaled": "Delete"}}}),
            json!({"whenDeleted": "Retain", "whenScaled": "Delete"}),
        );
        check(("apps", "v1", "ReplicaSet"), "/spec", json!({"spec": {}}), json!({"replicas": 1}));
        check(
            ("apps", "v1", "Deployment"),
            "/spec/strategy",
            json!({"spec": {"strategy": {"type": "Recreate"}}}),
            json!({"type": "Recreate"}),
        );
    }

    /// Upstream's `pkg/apis/batch/v1/defaults_test.go`
    #[test]
    fn batch() {
        let job = |spec: Value, pointer: &str, expect: Value| {
            check(("batch", "v1", "Job"), pointer, json!({"spec": spec}), expect);
        };
        job(
            json!({}),
            "/spec",
            json!({"completions": 1, "parallelism": 1, "backoffLimit": 6, "completionMode": "NonIndexed",
                "suspend": false, "podReplacementPolicy": "TerminatingOrFailed", "manualSelector": false}),
        );
        job(
            json!({"parallelism": 2, "backoffLimitPerIndex": 1, "podFailurePolicy": {"rules": [{"onPodConditions": [{"type": "x"}]}]}}),
            "/spec",
            json!({"parallelism": 2, "backoffLimit": 2_147_483_647, "backoffLimitPerIndex": 1, "completionMode": "NonIndexed",
                "suspend": false, "podReplacementPolicy": "Failed", "manualSelector": false,
                "podFailurePolicy": {"rules": [{"onPodConditions": [{"type": "x", "status": "True"}]}]}}),
        );
        let labelled = json!({"template": {"metadata": {"labels": {"a": "b"}}}});
        job(labelled.clone(), "/metadata/labels", json!({"a": "b"}));
        check(
            ("batch", "v1", "Job"),
            "/metadata/labels",
            json!({"metadata": {"labels": {"c": "d"}}, "spec": labelled}),
            json!({"c": "d"}),
        );
        check(
            ("batch", "v1", "CronJob"),
            "/spec",
            json!({"spec": {"jobTemplate": {"spec": {}}}}),
            json!({"concurrencyPolicy": "Allow", "suspend": false, "successfulJobsHistoryLimit": 3,
                "failedJobsHistoryLimit": 1, "jobTemplate": {"spec": {}}}),
        );
    }

    /// Upstream's `pkg/apis/autoscaling/v2/defaults_test.go`
    #[test]
    fn autoscalers() {
        let v2 = ("autoscaling", "v2", "HorizontalPodAutoscaler");
        check(
            ("autoscaling", "v1", "HorizontalPodAutoscaler"),
            "/spec",
            json!({"spec": {}}),
            json!({"minReplicas": 1}),
        );
        let cpu = json!({"type": "Resource", "resource": {"name": "cpu",
            "target": {"type": "Utilization", "averageUtilization": 80}}});
        check(v2, "/spec", json!({"spec": {"minReplicas": 3}}), json!({"minReplicas": 3, "metrics": [cpu]}));
        let (pods, percent) = (
            json!({"type": "Pods", "value": 4, "periodSeconds": 15}),
            json!({"type": "Percent", "value": 100, "periodSeconds": 15}),
        );
        check(
            v2,
            "/spec/behavior",
            json!({"spec": {"behavior": {}}}),
            json!({"scaleUp": {"stabilizationWindowSeconds": 0, "selectPolicy": "Max", "policies": [pods, percent]},
                "scaleDown": {"selectPolicy": "Max", "policies": [percent]}}),
        );
        check(
            v2,
            "/spec/behavior/scaleDown",
            json!({"spec": {"behavior": {"scaleDown": {"selectPolicy": "Min", "policies": [pods], "tolerance": "0.1"}}}}),
            json!({"selectPolicy": "Min", "policies": [pods], "tolerance": "0.1"}),
        );
    }

    /// Upstream's `pkg/apis/networking/v1/defaults_test.go` and those of discovery and rbac
    #[test]
    fn network_and_roles() {
        let policy = |spec: Value, pointer: &str, expect: Value| {
            check(("networking.k8s.io", "v1", "NetworkPolicy"), pointer, json!({"spec": spec}), expect);
        };
        policy(json!({}), "/spec/policyTypes", json!(["Ingress"]));
        policy(json!({"egress": [{}]}), "/spec/policyTypes", json!(["Ingress", "Egress"]));
        policy(json!({"egress": [{}], "policyTypes": ["Egress"]}), "/spec/policyTypes", json!(["Egress"]));
        policy(
            json!({"ingress": [{"ports": [{"port": 1}]}]}),
            "/spec/ingress/0/ports/0/protocol",
            json!("TCP"),
        );
        let class = ("networking.k8s.io", "v1", "IngressClass");
        check(
            class,
            "/spec",
            json!({"spec": {"parameters": {}}}),
            json!({"parameters": {"scope": "Cluster"}}),
        );
        check(class, "/spec", json!({"spec": {}}), json!({}));
        let slice = ("discovery.k8s.io", "v1", "EndpointSlice");
        check(slice, "/ports", json!({"ports": [{}]}), json!([{"name": "", "protocol": "TCP"}]));
        let group = "rbac.authorization.k8s.io";
        check(
            (group, "v1", "RoleBinding"),
            "/subjects",
            json!({"roleRef": {}, "subjects": [{"kind": "User"}, {"kind": "Group", "apiGroup": "x"}, {"kind": "ServiceAccount"}]}),
            json!([{"kind": "User", "apiGroup": group}, {"kind": "Group", "apiGroup": "x"}, {"kind": "ServiceAccount"}]),
        );
        check(
            (group, "v1", "ClusterRoleBinding"),
            "/roleRef",
            json!({"roleRef": {}}),
            json!({"apiGroup": group}),
        );
    }
}
