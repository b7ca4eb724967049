//! The cases of upstream's `plugin/pkg/admission/resourcequota/admission_test.go` and of the evaluators' tests.

use super::*;

fn now() -> Timestamp {
    "2026-01-01T00:00:00Z".parse().unwrap()
}

fn object<'a>(resource: &'a str, value: &Value) -> Object<'a> {
    let (group, resource) = resource.rsplit_once('/').unwrap_or(("", resource));
    Object::read(group, resource, value).unwrap()
}

fn print(amounts: &Amounts) -> String {
    join(amounts.iter().map(|(name, amount)| format!("{name}={}", amount.canonical())))
}

fn pod(requests: Value, limits: Value) -> Value {
    let container = json!({"name": "c", "resources": {"requests": requests, "limits": limits}});
    json!({"metadata": {"name": "p"}, "spec": {"containers": [container]}})
}

#[test]
fn usages() {
    let pod_with = |field: &str, value: Value| {
        let mut pod = pod(json!({"cpu": "1"}), json!({}));
        pod["status"][field] = value;
        pod
    };
    let gone = |at: &str| {
        let mut pod = pod(json!({"cpu": "1"}), json!({}));
        pod["metadata"]["deletionTimestamp"] = at.into();
        pod["metadata"]["deletionGracePeriodSeconds"] = 30.into();
        pod
    };
    let service = |spec: Value| json!({"spec": spec});
    let ports = json!([{"port": 1, "nodePort": 30000}, {"port": 2}]);
    let device = |requests: Value| json!({"metadata": {}, "spec": {"devices": {"requests": requests}}});
    let table = [
        (
            "pods",
            pod(
                json!({"cpu": "1", "memory": "1Gi", "ephemeral-storage": "1", "hugepages-2Mi": "2Mi", "a.com/gpu": "2",
                "deviceclass.resource.kubernetes.io/x": "1"}),
                json!({"cpu": "2", "a.com/gpu": "2"}),
            ),
            "count/pods=1,cpu=1,ephemeral-storage=1,hugepages-2Mi=2Mi,limits.cpu=2,memory=1Gi,pods=1,requests.a.com/gpu=2,\
             requests.cpu=1,requests.deviceclass.resource.kubernetes.io/x=1,requests.ephemeral-storage=1,\
             requests.hugepages-2Mi=2Mi,requests.memory=1Gi",
        ),
        ("pods", pod_with("phase", json!("Succeeded")), "count/pods=1"),
        ("pods", gone("2025-12-31T23:59:29Z"), "count/pods=1"),
        ("pods", gone("2025-12-31T23:59:30Z"), "count/pods=1,cpu=1,pods=1,requests.cpu=1"),
        (
            "services",
            service(json!({"type": "LoadBalancer", "ports": ports})),
            "count/services=1,services=1,services.loadbalancers=1,services.nodeports=2",
        ),
        (
            "services",
            service(json!({"type": "LoadBalancer", "ports": ports, "allocateLoadBalancerNodePorts": false})),
            "count/services=1,services=1,services.loadbalancers=1,services.nodeports=1",
        ),
        (
            "services",
            service(json!({"type": "ClusterIP", "ports": ports})),
            "count/services=1,services=1,services.loadbalancers=0,services.nodeports=0",
        ),
        (
            "persistentvolumeclaims",
            json!({"spec": {"storageClassName": "gold", "resources": {"requests": {"storage": "10Gi"}}},
                "status": {"allocatedResources": {"storage": "12Gi"}}}),
            "count/persistentvolumeclaims=1,gold.storageclass.storage.k8s.io/persistentvolumeclaims=1,\
             gold.storageclass.storage.k8s.io/requests.storage=12Gi,persistentvolumeclaims=1,requests.storage=12Gi",
        ),
        (
            "resource.k8s.io/resourceclaims",
            device(json!([
                {"name": "a", "exactly": {"deviceClassName": "g", "allocationMode": "ExactCount", "count": 2}},
                {"name": "b", "exactly": {"deviceClassName": "g", "allocationMode": "All"}},
                {"name": "c", "firstAvailable": [
                    {"name": "x", "deviceClassName": "h", "allocationMode": "ExactCount", "count": 1},
                    {"name": "y", "deviceClassName": "h", "allocationMode": "ExactCount", "count": 3}]}])),
            "count/resourceclaims.resource.k8s.io=1,g.deviceclass.resource.k8s.io/devices=34,\
             h.deviceclass.resource.k8s.io/devices=3",
        ),
        ("apps/deployments", json!({}), "count/deployments.apps=1"),
        ("secrets", json!({}), "count/secrets=1,secrets=1"),
    ];
    for (resource, value, expect) in table {
        let object = object(resource, &value);
        let usage = object.usage(now());
        assert_eq!(print(&usage), expect, "{resource} {value}");
        // Whatever is used can be limited.
        let names: BTreeSet<&str> = usage.keys().map(String::as_str).collect();
        assert_eq!(object.matching(names.iter().copied()), names, "{resource}");
    }
}

#[test]
fn scopes() {
    let scope = |name: &str, operator: &str, values: &[&str]| Scope {
        scope_name: name.into(),
        operator: operator.into(),
        values: Some(values.iter().map(ToString::to_string).collect()),
    };
    let spec = |spec: Value| json!({"spec": {"containers": [], "nodeName": "n"}, "x": spec})["x"].take();
    let with = |extra: Value| {
        let mut pod = pod(json!({}), json!({}));
        if let (Some(to), Value::Object(from)) = (pod["spec"].as_object_mut(), spec(extra)) {
            to.extend(from);
        }
        pod
    };
    let deadline = with(json!({"activeDeadlineSeconds": 0}));
    let classy = with(json!({"priorityClassName": "high"}));
    let near =
        with(json!({"affinity": {"podAntiAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": [
        {"weight": 1, "podAffinityTerm": {"topologyKey": "k", "namespaces": ["x"]}}]}}}));
    let plain = with(json!({}));
    let busy = pod(json!({"cpu": "1"}), json!({}));
    let claim = |class: &str, current: &str| {
        json!({"spec": {"volumeAttributesClassName": class},
        "status": {"currentVolumeAttributesClassName": current}})
    };
    let table = [
        ("pods", &deadline, scope("Terminating", "Exists", &[]), true),
        ("pods", &plain, scope("Terminating", "Exists", &[]), false),
        ("pods", &plain, scope("NotTerminating", "Exists", &[]), true),
        ("pods", &plain, scope("BestEffort", "Exists", &[]), true),
        ("pods", &busy, scope("BestEffort", "Exists", &[]), false),
        ("pods", &busy, scope("NotBestEffort", "Exists", &[]), true),
        ("pods", &classy, scope("PriorityClass", "Exists", &[]), true),
        ("pods", &plain, scope("PriorityClass", "Exists", &[]), false),
        ("pods", &plain, scope("PriorityClass", "DoesNotExist", &[]), true),
        ("pods", &classy, scope("PriorityClass", "In", &["low", "high"]), true),
        ("pods", &classy, scope("PriorityClass", "NotIn", &["low"]), true),
        ("pods", &classy, scope("PriorityClass", "Like", &["low"]), false),
        ("pods", &near, scope("CrossNamespacePodAffinity", "Exists", &[]), true),
        ("pods", &plain, scope("CrossNamespacePodAffinity", "Exists", &[]), false),
        ("pods", &plain, scope("VolumeAttributesClass", "Exists", &[]), false),
        ("persistentvolumeclaims", &claim("a", "b"), scope("VolumeAttributesClass", "In", &["b"]), true),
        ("persistentvolumeclaims", &claim("a", ""), scope("VolumeAttributesClass", "In", &["b"]), false),
        ("persistentvolumeclaims", &claim("", ""), scope("VolumeAttributesClass", "Exists", &[]), false),
        ("persistentvolumeclaims", &claim("", ""), scope("VolumeAttributesClass", "NotIn", &["b"]), true),
        ("services", &json!({}), scope("Terminating", "Exists", &[]), false),
    ];
    for (resource, value, scope, expect) in table {
        assert_eq!(object(resource, value).is_in(&scope), expect, "{value} {scope}");
    }
}

fn quota(name: &str, hard: Value, used: Value, spec: Value) -> Value {
    json!({"metadata": {"name": name}, "spec": spec, "status": {"hard": hard, "used": used}})
}

/// The quotas' `used` after the charge, or why not.
fn run(quotas: &[Value], limited: Value, resource: &str, new: &Value, old: Option<&Value>) -> String {
    let mut quotas: Vec<Quota> = quotas.iter().map(Quota::of).collect();
    let limited: Vec<Limited> = serde_json::from_value(limited).unwrap();
    let (new, old) = (object(resource, new), old.map(|old| object(resource, old)));
    let (group, plural) = resource.rsplit_once('/').unwrap_or(("", resource));
    let request =
        Request { object: &new, old: old.as_ref(), is_status: false, group, resource: plural, now: now() };
    let before: Vec<Amounts> = quotas.iter().map(|quota| quota.used.clone()).collect();
    match charge(&mut quotas, &limited, &request) {
        Ok(changed) => {
            let after: Vec<Amounts> = quotas.iter().map(|quota| quota.used.clone()).collect();
            assert_eq!(changed, before != after);
            after.iter().map(print).collect::<Vec<_>>().join(" | ")
        }
        Err(Refusal::Forbidden(why)) => why,
        Err(Refusal::Plain(why)) => format!("500: {why}"),
    }
}

#[test]
fn charges() {
    let none = || json!([]);
    let full = || pod(json!({"cpu": "100m", "memory": "2Gi"}), json!({}));
    let compute = |used_cpu: &str| {
        quota(
            "q",
            json!({"cpu": "3", "memory": "100Gi", "pods": "5", "persistentvolumeclaims": "1"}),
            json!({"cpu": used_cpu, "memory": "50Gi", "pods": "3", "persistentvolumeclaims": "1"}),
            json!({}),
        )
    };
    let check =
        |quotas: &[Value], limited: Value, resource: &str, new: &Value, old: Option<&Value>, expect: &str| {
            assert_eq!(run(quotas, limited, resource, new, old), expect, "{resource} {new}");
        };
    check(
        &[compute("1")],
        none(),
        "pods",
        &full(),
        None,
        "cpu=1100m,memory=52Gi,persistentvolumeclaims=1,pods=4",
    );
    check(
        &[compute("2950m")],
        none(),
        "pods",
        &full(),
        None,
        "exceeded quota: q, requested: cpu=100m, used: cpu=2950m, limited: cpu=3",
    );
    check(
        &[compute("1")],
        none(),
        "pods",
        &json!({"metadata": {}, "spec": {"containers": [{"name": "b"}, {"name": "a", "resources": {"requests": {"cpu": "1"}}}]}}),
        None,
        "failed quota: q: must specify cpu for: b; memory for: a,b",
    );
    // What is over its limit hinders only those who want more of it.
    check(
        &[quota(
            "q",
            json!({"pods": "3", "services": "1"}),
            json!({"pods": "1", "services": "5"}),
            json!({}),
        )],
        none(),
        "pods",
        &full(),
        None,
        "pods=2,services=5",
    );
    check(
        &[quota("q", json!({"pods": "3", "count/pods": "3"}), json!({"pods": "1"}), json!({}))],
        none(),
        "pods",
        &full(),
        None,
        "status unknown for quota: q, resources: count/pods,pods",
    );
    check(&[], none(), "pods", &full(), None, "");

    // Scopes.
    let scoped = |name: &str, scope: &str| {
        quota(name, json!({"pods": "1"}), json!({"pods": "0"}), json!({"scopes": [scope]}))
    };
    let mut best = pod(json!({}), json!({}));
    check(
        &[scoped("a", "BestEffort"), scoped("b", "NotBestEffort")],
        none(),
        "pods",
        &best,
        None,
        "pods=1 | pods=0",
    );
    let before = best.clone();
    best["spec"]["activeDeadlineSeconds"] = 5.into();
    // Into the scope: the whole costs, since the quota did not count it before.
    check(
        &[scoped("a", "Terminating"), scoped("b", "NotTerminating")],
        none(),
        "pods",
        &best,
        Some(&before),
        "pods=1 | pods=0",
    );

    // The difference.
    let service = |kind: &str| json!({"spec": {"type": kind, "ports": [{"port": 1}]}});
    let of_services = |used: &str, balancers: &str| {
        let hard = json!({"services": "10", "services.nodeports": "2", "services.loadbalancers": "1"});
        let used = json!({"services": used, "services.nodeports": "2", "services.loadbalancers": balancers});
        quota("q", hard, used, json!({}))
    };
    check(
        &[of_services("5", "0")],
        none(),
        "services",
        &service("LoadBalancer"),
        Some(&service("NodePort")),
        "services=5,services.loadbalancers=1,services.nodeports=2",
    );
    check(
        &[of_services("5", "1")],
        none(),
        "services",
        &service("LoadBalancer"),
        Some(&service("ClusterIP")),
        "exceeded quota: q, requested: services.loadbalancers=1,services.nodeports=1, used: services.loadbalancers=1,\
         services.nodeports=2, limited: services.loadbalancers=1,services.nodeports=2",
    );
    let claim = |size: &str| json!({"spec": {"resources": {"requests": {"storage": size}}}});
    let storage =
        quota("q", json!({"requests.storage": "100Gi"}), json!({"requests.storage": "95Gi"}), json!({}));
    check(
        std::slice::from_ref(&storage),
        none(),
        "persistentvolumeclaims",
        &claim("10Gi"),
        Some(&claim("8Gi")),
        "requests.storage=97Gi",
    );
    check(
        std::slice::from_ref(&storage),
        none(),
        "persistentvolumeclaims",
        &claim("1Gi"),
        Some(&claim("8Gi")),
        "requests.storage=95Gi",
    );
    check(
        &[storage],
        none(),
        "persistentvolumeclaims",
        &claim("-1Gi"),
        None,
        "quota usage is negative for resource(s): requests.storage",
    );

    // What needs a quota to be used at all.
    let limited = || json!([{"resource": "pods", "matchContains": ["cpu"]}]);
    let counted = quota("q", json!({"pods": "5"}), json!({"pods": "1"}), json!({}));
    check(&[], limited(), "pods", &full(), None, "insufficient quota to consume: cpu,requests.cpu");
    check(&[counted], limited(), "pods", &full(), None, "insufficient quota to consume: cpu,requests.cpu");
    check(&[], limited(), "pods", &full(), Some(&full()), "");
    check(&[], limited(), "services", &service("ClusterIP"), None, "");
    let by_class = || {
        json!([{"resource": "pods", "matchScopes": [
        {"scopeName": "PriorityClass", "operator": "In", "values": ["a", "b"]}]}])
    };
    let mut classy = full();
    classy["spec"]["priorityClassName"] = "a".into();
    check(
        &[],
        by_class(),
        "pods",
        &classy,
        None,
        "500: insufficient quota to match these scopes: [{PriorityClass In [a b]}]",
    );
    let covering = json!({"scopeSelector": {"matchExpressions": [
        {"scopeName": "PriorityClass", "operator": "In", "values": ["a"]}]}});
    check(
        &[quota("q", json!({"pods": "5"}), json!({"pods": "0"}), covering)],
        by_class(),
        "pods",
        &classy,
        None,
        "pods=1",
    );
}

#[test]
fn what_is_looked_at() {
    let pod = |deadline: Value| json!({"metadata": {}, "spec": {"containers": [], "activeDeadlineSeconds": deadline}});
    let null = Value::Null;
    let table = [
        ("pods", Write::Create, "", &null, &null, true),
        ("pods", Write::Create, "binding", &null, &null, false),
        ("pods", Write::Update, "", &null, &null, false),
        ("pods", Write::Update, "", &null, &json!(3), true),
        ("pods", Write::Update, "resize", &null, &null, true),
        ("pods", Write::Update, "status", &null, &null, false),
        ("services", Write::Update, "", &null, &null, true),
        ("services", Write::Update, "status", &null, &null, false),
        ("persistentvolumeclaims", Write::Update, "status", &null, &null, true),
        ("secrets", Write::Create, "", &null, &null, true),
        ("secrets", Write::Update, "", &null, &null, false),
    ];
    for (resource, write, subresource, old, new, expect) in table {
        let (old, new) = match resource {
            "pods" => (object(resource, &pod(old.clone())), object(resource, &pod(new.clone()))),
            _ => (object(resource, &json!({})), object(resource, &json!({}))),
        };
        assert_eq!(
            new.is_charged(write, subresource, Some(&old)),
            expect,
            "{resource}/{subresource} {write:?}"
        );
    }
    assert!(is_ignored("", "events") && is_ignored("events.k8s.io", "events") && !is_ignored("", "pods"));
}
