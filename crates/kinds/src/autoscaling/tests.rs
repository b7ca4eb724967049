use serde_json::{Value, json};

use super::conversion;
use crate::rows::Subject;

fn subject() -> Subject {
    let good = json!({
        "apiVersion": "autoscaling/v2", "metadata": {"name": "h", "namespace": "n"},
        "spec": {"scaleTargetRef": {"kind": "Deployment", "name": "d", "apiVersion": "apps/v1"}, "minReplicas": 1, "maxReplicas": 5},
    });
    Subject { group: "autoscaling", version: "v2", kind: "HorizontalPodAutoscaler", good }
}

fn check(spec: Value, expect: &[&str]) {
    subject().created(json!({"spec": spec}), expect);
}

/// `TestValidateHorizontalPodAutoscaler`
#[test]
fn create() {
    check(json!({}), &[]);
    check(json!({"minReplicas": 0}), &["spec.minReplicas: Invalid", "spec.metrics: Forbidden"]);
    check(json!({"minReplicas": -1}), &["spec.minReplicas: Invalid"]);
    check(json!({"maxReplicas": 0}), &["spec.maxReplicas: Required", "spec.maxReplicas: Invalid"]);
    check(json!({"maxReplicas": -1}), &["spec.maxReplicas: Invalid"]);
    check(json!({"minReplicas": 7}), &["spec.maxReplicas: Invalid"]);
    let target = |reference: Value, expect: &[&str]| {
        let expect: Vec<String> = expect.iter().map(|rest| format!("spec.scaleTargetRef.{rest}")).collect();
        let expect: Vec<&str> = expect.iter().map(String::as_str).collect();
        check(json!({"scaleTargetRef": reference}), &expect);
    };
    target(json!({"kind": null, "name": null}), &["kind: Required", "name: Required"]);
    target(json!({"kind": "..", "name": "a/b"}), &["kind: Invalid", "name: Invalid"]);
    target(json!({"apiVersion": null}), &["apiVersion: Invalid"]);
    target(json!({"apiVersion": "v1"}), &["apiVersion: Invalid"]);
    target(json!({"apiVersion": "a/b/c"}), &["apiVersion: Invalid"]);
    target(json!({"kind": "ReplicationController", "apiVersion": "v1"}), &[]);
    target(json!({"kind": "ReplicationController", "apiVersion": "a/b/c"}), &["apiVersion: Invalid"]);
    let rules = |rules: Value, expect: &[&str]| {
        let expect: Vec<String> = expect.iter().map(|rest| format!("spec.behavior.scaleUp.{rest}")).collect();
        let expect: Vec<&str> = expect.iter().map(String::as_str).collect();
        check(json!({"behavior": {"scaleUp": rules}}), &expect);
    };
    let policy =
        |value: i64, seconds: i64| json!([{"type": "Pods", "value": value, "periodSeconds": seconds}]);
    rules(json!({}), &[]);
    rules(
        json!({"stabilizationWindowSeconds": 3600, "selectPolicy": "Min", "policies": policy(1, 1800), "tolerance": "0.1"}),
        &[],
    );
    rules(json!({"stabilizationWindowSeconds": -1}), &["stabilizationWindowSeconds: Invalid"]);
    rules(json!({"stabilizationWindowSeconds": 3601}), &["stabilizationWindowSeconds: Invalid"]);
    rules(json!({"selectPolicy": "x"}), &["selectPolicy: NotSupported"]);
    rules(
        json!({"policies": policy(0, 0)}),
        &["policies[0].value: Invalid", "policies[0].periodSeconds: Invalid"],
    );
    rules(json!({"policies": policy(1, 1801)}), &["policies[0].periodSeconds: Invalid"]);
    rules(
        json!({"policies": [{"type": "x", "value": 1, "periodSeconds": 1}]}),
        &["policies[0].type: NotSupported"],
    );
    rules(json!({"tolerance": "-0.1"}), &["tolerance: Invalid"]);
}

#[test]
fn metrics() {
    let metric = |metric: Value, expect: &[&str]| {
        let expect: Vec<String> = expect.iter().map(|rest| format!("spec.metrics[0].{rest}")).collect();
        let expect: Vec<&str> = expect.iter().map(String::as_str).collect();
        check(json!({"metrics": [metric]}), &expect);
    };
    let resource = |target: Value| json!({"type": "Resource", "resource": {"name": "cpu", "target": target}});
    metric(resource(json!({"type": "Utilization", "averageUtilization": 70})), &[]);
    metric(resource(json!({"type": "AverageValue", "averageValue": "100m"})), &[]);
    metric(
        resource(json!({"type": "Utilization", "averageUtilization": 0})),
        &["resource.target.averageUtilization: Invalid"],
    );
    metric(
        resource(json!({"type": "AverageValue", "averageValue": "0"})),
        &["resource.target.averageValue: Invalid"],
    );
    metric(resource(json!({"type": "Utilization"})), &["resource.target.averageUtilization: Required"]);
    metric(
        resource(json!({"type": "Utilization", "averageUtilization": 1, "averageValue": "1"})),
        &["resource.target.averageValue: Forbidden"],
    );
    metric(
        resource(json!({"averageUtilization": 1})),
        &["resource.target.type: Required", "resource.target.type: Invalid"],
    );
    metric(
        json!({"type": "Resource", "resource": {"target": {"type": "Utilization", "averageUtilization": 1}}}),
        &["resource.name: Required"],
    );
    metric(json!({"type": "Resource"}), &["resource: Required"]);
    metric(json!({"type": "Nope"}), &["type: NotSupported"]);
    metric(json!({}), &["type: Required", "type: NotSupported"]);
    let container = |name: &str, container: &str| {
        json!({"type": "ContainerResource", "containerResource": {"name": name, "container": container,
        "target": {"type": "Utilization", "averageUtilization": 1}}})
    };
    metric(container("cpu", "app"), &[]);
    metric(container("", ""), &["containerResource.name: Required", "containerResource.container: Required"]);
    metric(
        container("storage", "A B"),
        &["containerResource.name: Invalid", "containerResource.container: Invalid"],
    );
    let pods = |name: &str, target: Value| json!({"type": "Pods", "pods": {"metric": {"name": name}, "target": target}});
    metric(pods("hits", json!({"type": "AverageValue", "averageValue": "1"})), &[]);
    metric(
        pods("", json!({"type": "AverageValue"})),
        &["pods.metric.name: Required", "pods.target.averageValue: Required"],
    );
    metric(pods("a/b", json!({"type": "AverageValue", "averageValue": "1"})), &["pods.metric.name: Invalid"]);
    let object = |version: &str, target: Value| {
        json!({"type": "Object", "object": {"metric": {"name": "m"}, "target": target,
        "describedObject": {"kind": "Service", "name": "s", "apiVersion": version}}})
    };
    metric(object("v1", json!({"type": "Value", "value": "1"})), &[]);
    metric(
        object("a/b/c", json!({"type": "Value", "value": "1"})),
        &["object.describedObject.apiVersion: Invalid"],
    );
    metric(object("", json!({"type": "Value"})), &["object.target.averageValue: Required"]);
    let external =
        |target: Value| json!({"type": "External", "external": {"metric": {"name": "m"}, "target": target}});
    metric(external(json!({"type": "Value", "value": "1"})), &[]);
    metric(
        external(json!({"type": "Value", "value": "1", "averageValue": "1"})),
        &["external.target.value: Forbidden"],
    );
    metric(external(json!({"type": "Value"})), &["external.target.averageValue: Required"]);
    let mut two = resource(json!({"type": "Utilization", "averageUtilization": 70}));
    two["pods"] = pods("hits", json!({"type": "AverageValue", "averageValue": "1"}))["pods"].clone();
    metric(two, &["pods: Forbidden"]);
}

#[test]
fn update() {
    let spec = |spec: Value| json!({"spec": spec});
    let version = |version: &str| spec(json!({"scaleTargetRef": {"apiVersion": version}}));
    subject().updated(version("v1"), spec(json!({"maxReplicas": 9})), "", &[]);
    subject().updated(version("v1"), version("a/b/c"), "", &["spec.scaleTargetRef.apiVersion: Invalid"]);
    let object = json!([{"type": "Object", "object": {"metric": {"name": "m"}, "target": {"type": "Value", "value": "1"},
        "describedObject": {"kind": "S", "name": "s", "apiVersion": "a/b/c"}}}]);
    subject().updated(spec(json!({"metrics": object})), spec(json!({"maxReplicas": 9})), "", &[]);
    subject().updated(
        spec(json!({"minReplicas": 0, "metrics": object})),
        spec(json!({"maxReplicas": 9})),
        "",
        &[],
    );
    subject().updated(
        json!({}),
        spec(json!({"minReplicas": 0})),
        "",
        &["spec.minReplicas: Invalid", "spec.metrics: Forbidden"],
    );
    subject().updated(
        json!({}),
        json!({"status": {"currentReplicas": -1, "desiredReplicas": -1}}),
        "status",
        &["status.currentReplicas: Invalid", "status.desiredReplicas: Invalid"],
    );
    let (_, new) = subject().update(
        &json!({}),
        &json!({"metadata": {"annotations": {"autoscaling.alpha.kubernetes.io/metrics": "[]", "a": "b"}}}),
        "",
    );
    assert_eq!(new["metadata"]["annotations"], json!({"a": "b"}));
}

/// An object of `v1` has the faults of what it stands for.
#[test]
fn of_v1() {
    let good = json!({
        "apiVersion": "autoscaling/v1", "metadata": {"name": "h", "namespace": "n"},
        "spec": {"scaleTargetRef": {"kind": "Deployment", "name": "d", "apiVersion": "apps/v1"}, "maxReplicas": 5},
    });
    let subject = Subject { group: "autoscaling", version: "v1", kind: "HorizontalPodAutoscaler", good };
    subject.created(json!({}), &[]);
    subject.created(json!({"spec": {"targetCPUUtilizationPercentage": 70}}), &[]);
    subject.created(
        json!({"spec": {"targetCPUUtilizationPercentage": -1}}),
        &["spec.metrics[0].resource.target.averageUtilization: Invalid"],
    );
    let metrics = |metrics: Value| json!({"metadata": {"annotations": {"autoscaling.alpha.kubernetes.io/metrics": metrics.to_string()}}});
    subject.created(
        metrics(json!([{"type": "Pods", "pods": {"metricName": "hits", "targetAverageValue": "1"}}])),
        &[],
    );
    subject.created(
        metrics(json!([{"type": "Pods", "pods": {"metricName": "", "targetAverageValue": "0"}}])),
        &["spec.metrics[0].pods.metric.name: Required", "spec.metrics[0].pods.target.averageValue: Invalid"],
    );
    subject.created(metrics(json!("not a list")), &[]);
    let behavior = json!({"ScaleUp": {"Policies": []}});
    subject.created(json!({"metadata": {"annotations": {"autoscaling.alpha.kubernetes.io/behavior": behavior.to_string()}}}),
        &["spec.behavior.scaleUp.policies: Required"]);
}

#[test]
fn there_and_back() {
    let check = |metrics: Value, current: Value, annotation: &str| {
        let cpu = json!({"type": "Resource", "resource": {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 80}}});
        let mut all = metrics.as_array().unwrap().clone();
        all.push(cpu);
        let v2 = json!({"metadata": {"name": "h", "annotations": {"a": "b"}}, "spec": {"maxReplicas": 3, "metrics": all,
            "behavior": {"scaleDown": {"policies": [{"type": "Pods", "value": 1, "periodSeconds": 2}], "selectPolicy": "Max"}}},
            "status": {"currentMetrics": current, "conditions": [{"type": "AbleToScale", "status": "True"}]}});
        let mut object = v2.clone();
        conversion::to_v1(&mut object);
        assert_eq!(object["spec"], json!({"maxReplicas": 3, "targetCPUUtilizationPercentage": 80}));
        let annotations = &object["metadata"]["annotations"];
        assert_eq!(annotations["autoscaling.alpha.kubernetes.io/metrics"], annotation);
        assert_eq!(
            annotations["autoscaling.alpha.kubernetes.io/behavior"],
            r#"{"ScaleDown":{"Policies":[{"PeriodSeconds":2,"Type":"Pods","Value":1}],"SelectPolicy":"Max"}}"#
        );
        conversion::to_v2(&mut object);
        assert_eq!(object, v2);
    };
    check(
        json!([{"type": "Pods", "pods": {"metric": {"name": "hits", "selector": {"matchLabels": {"a": "b"}}},
            "target": {"type": "AverageValue", "averageValue": "10"}}}]),
        json!([{"type": "Pods", "pods": {"metric": {"name": "hits"}, "current": {"averageValue": "7"}}}]),
        r#"[{"pods":{"metricName":"hits","selector":{"matchLabels":{"a":"b"}},"targetAverageValue":"10"},"type":"Pods"}]"#,
    );
    check(
        json!([{"type": "Object", "object": {"describedObject": {"kind": "S", "name": "s"}, "metric": {"name": "m"},
            "target": {"type": "AverageValue", "averageValue": "1"}}}]),
        json!([{"type": "Resource", "resource": {"name": "memory", "current": {"averageValue": "1Gi"}}}]),
        r#"[{"object":{"averageValue":"1","metricName":"m","target":{"kind":"S","name":"s"},"targetValue":"0"},"type":"Object"}]"#,
    );
    check(
        json!([{"type": "External", "external": {"metric": {"name": "m"}, "target": {"type": "Value", "value": "1"}}}]),
        json!([{"type": "External", "external": {"metric": {"name": "m"}, "current": {"value": "2"}}}]),
        r#"[{"external":{"metricName":"m","targetValue":"1"},"type":"External"}]"#,
    );
    let mut bare = json!({"spec": {"maxReplicas": 1}});
    conversion::to_v2(&mut bare);
    assert_eq!(bare["spec"]["metrics"][0]["resource"]["target"]["averageUtilization"], 80);
}
