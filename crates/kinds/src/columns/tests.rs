use serde_json::json;

use super::*;

fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

/// Cells of the object an hour after it was created.
fn check(group: &str, kind: &str, mut object: Value, expect: Value) {
    object["metadata"]["name"] = json!("x");
    object["metadata"]["creationTimestamp"] = json!("2026-01-01T00:00:00Z");
    let columns = columns(group, kind);
    let cells = (columns.cells)(&object, at("2026-01-01T01:00:00.5Z"));
    assert_eq!(Value::Array(cells), expect, "{group} {kind} {object}");
}

#[test]
fn durations() {
    let (minute, hour, day) = (60, 3600, 86400);
    for (seconds, expect) in [
        (-2, "<invalid>"),
        (-1, "0s"),
        (0, "0s"),
        (119, "119s"),
        (120, "2m"),
        (121, "2m1s"),
        (9 * minute + 59, "9m59s"),
        (10 * minute + 59, "10m"),
        (179 * minute, "179m"),
        (180 * minute, "3h"),
        (180 * minute + 61, "3h1m"),
        (8 * hour, "8h"),
        (47 * hour + 59 * minute, "47h"),
        (48 * hour, "2d"),
        (49 * hour, "2d1h"),
        (8 * day, "8d"),
        (729 * day, "729d"),
        (730 * day, "2y"),
        (731 * day, "2y1d"),
        (8 * 365 * day + 5 * day, "8y"),
    ] {
        assert_eq!(human_duration(seconds), expect, "{seconds}");
    }
    assert_eq!(age(&Value::Null, at("2026-01-01T00:00:00Z")), "<unknown>");
    assert_eq!(age(&json!("2026-01-01T00:00:00.900000Z"), at("2026-01-01T00:00:02Z")), "1s");
}

#[test]
fn every_row_has_a_cell_per_column() {
    let empty = json!({"metadata": {"name": "x"}});
    let files: [(&str, Kinds); 20] = [
        ("", core::KINDS),
        ("admissionregistration.k8s.io", admissionregistration::KINDS),
        ("apiregistration.k8s.io", apiregistration::KINDS),
        ("apps", apps::KINDS),
        ("autoscaling", autoscaling::KINDS),
        ("batch", batch::KINDS),
        ("certificates.k8s.io", certificates::KINDS),
        ("coordination.k8s.io", coordination::KINDS),
        ("discovery.k8s.io", discovery::KINDS),
        ("events.k8s.io", core::EVENTS),
        ("flowcontrol.apiserver.k8s.io", flowcontrol::KINDS),
        ("internal.apiserver.k8s.io", internal::KINDS),
        ("networking.k8s.io", networking::KINDS),
        ("node.k8s.io", node::KINDS),
        ("policy", policy::KINDS),
        ("rbac.authorization.k8s.io", rbac::KINDS),
        ("resource.k8s.io", resource::KINDS),
        ("scheduling.k8s.io", scheduling::KINDS),
        ("storage.k8s.io", storage::KINDS),
        ("", meta::KINDS),
    ];
    for (group, kinds) in files {
        for (kind, expected) in kinds {
            let found = columns(group, kind);
            assert_eq!(found.definitions, expected.definitions, "{group} {kind}");
            let cells = (found.cells)(&empty, at("2026-01-01T00:00:00Z"));
            let extra = usize::from(*kind == "IPAddress");
            assert_eq!(cells.len(), found.definitions.len() + extra, "{group} {kind}");
        }
    }
    assert_eq!(columns("", "Status").definitions.len(), 3);
    assert_eq!(columns("example.com", "Thing").definitions[1].name, "Created At");
}

#[test]
fn pods() {
    let pod = |spec: Value, status: Value, ready: &str, reason: &str, restarts: &str| {
        let object = json!({"spec": spec, "status": status});
        let cells = (columns("", "Pod").cells)(&object, at("2026-01-01T01:00:00Z"));
        assert_eq!(cells[1..4], [json!(ready), json!(reason), json!(restarts)], "{object}");
    };
    let one = || json!({"containers": [{"name": "c"}]});
    let two = || json!({"containers": [{"name": "c"}, {"name": "d"}]});
    let run = |name: &str| json!({"name": name, "ready": true, "restartCount": 0, "state": {"running": {}}});
    let end = |name: &str, code: i64, reason: &str| json!({"name": name, "restartCount": 0, "state": {"terminated": {"exitCode": code, "reason": reason}}});
    pod(one(), json!({"phase": "Pending"}), "0/1", "Pending", "0");
    pod(one(), json!({"phase": "Running", "containerStatuses": [run("c")]}), "1/1", "Running", "0");
    pod(one(), json!({"phase": "Failed", "reason": "Evicted"}), "0/1", "Evicted", "0");
    pod(
        one(),
        json!({"phase": "Pending", "conditions": [{"type": "PodScheduled", "reason": "SchedulingGated"}]}),
        "0/1",
        "SchedulingGated",
        "0",
    );
    pod(
        one(),
        json!({"phase": "Running", "containerStatuses": [{"restartCount": 3,
            "lastState": {"terminated": {"finishedAt": "2026-01-01T00:58:00Z"}},
            "state": {"waiting": {"reason": "CrashLoopBackOff"}}}]}),
        "0/1",
        "CrashLoopBackOff",
        "3 (2m ago)",
    );
    pod(
        one(),
        json!({"phase": "Succeeded", "containerStatuses": [end("c", 0, "Completed")]}),
        "0/1",
        "Completed",
        "0",
    );
    pod(one(), json!({"phase": "Failed", "containerStatuses": [end("c", 1, "Error")]}), "0/1", "Error", "0");
    pod(one(), json!({"phase": "Failed", "containerStatuses": [end("c", 2, "")]}), "0/1", "ExitCode:2", "0");
    pod(
        one(),
        json!({"phase": "Failed", "containerStatuses": [{"state": {"terminated": {"signal": 9, "exitCode": 137}}}]}),
        "0/1",
        "Signal:9",
        "0",
    );
    // one container has ended and another still runs
    let mixed = [end("c", 0, "Completed"), run("d")];
    pod(two(), json!({"phase": "Running", "containerStatuses": mixed}), "1/2", "NotReady", "0");
    pod(
        two(),
        json!({"phase": "Running", "containerStatuses": mixed, "conditions": [{"type": "Ready", "status": "True"}]}),
        "1/2",
        "Running",
        "0",
    );
    // init containers
    let init = || json!({"containers": [{"name": "c"}], "initContainers": [{"name": "i"}, {"name": "j"}]});
    pod(
        init(),
        json!({"phase": "Pending", "initContainerStatuses": [{"name": "i", "restartCount": 0, "state": {"running": {}}}]}),
        "0/1",
        "Init:0/2",
        "0",
    );
    pod(
        init(),
        json!({"phase": "Pending", "initContainerStatuses": [end("i", 0, "Completed"),
            {"name": "j", "restartCount": 2, "state": {"waiting": {"reason": "ImagePullBackOff"}}}]}),
        "0/1",
        "Init:ImagePullBackOff",
        "2",
    );
    pod(
        init(),
        json!({"phase": "Pending", "initContainerStatuses": [end("i", 1, "Error")]}),
        "0/1",
        "Init:Error",
        "0",
    );
    pod(
        init(),
        json!({"phase": "Pending", "initContainerStatuses": [end("i", 3, "")]}),
        "0/1",
        "Init:ExitCode:3",
        "0",
    );
    // sidecars count as containers
    let sidecar = || json!({"containers": [{"name": "c"}], "initContainers": [{"name": "s", "restartPolicy": "Always"}]});
    pod(
        sidecar(),
        json!({"phase": "Running", "containerStatuses": [run("c")], "initContainerStatuses": [
            {"name": "s", "ready": true, "started": true, "restartCount": 1, "state": {"running": {}}}]}),
        "2/2",
        "Running",
        "1",
    );
    // deletion
    let gone = |status: Value, expect: &str| {
        let object = json!({"metadata": {"deletionTimestamp": "2026-01-01T00:00:00Z"}, "spec": one(), "status": status});
        let cells = (columns("", "Pod").cells)(&object, at("2026-01-01T01:00:00Z"));
        assert_eq!(cells[2], json!(expect));
    };
    gone(json!({"phase": "Running"}), "Terminating");
    gone(json!({"phase": "Running", "reason": "NodeLost"}), "Unknown");
    gone(json!({"phase": "Succeeded"}), "Succeeded");
    check(
        "",
        "Pod",
        json!({"spec": {"containers": [{}], "nodeName": "n", "readinessGates": [{"conditionType": "a"}, {"conditionType": "b"}]},
            "status": {"phase": "Running", "podIPs": [{"ip": "10.0.0.1"}], "conditions": [{"type": "a", "status": "True"}]}}),
        json!(["x", "0/1", "Running", "0", "60m", "10.0.0.1", "n", "<none>", "1/2"]),
    );
    let failed = (columns("", "Pod").conditions)(&json!({"status": {"phase": "Failed"}}));
    assert_eq!(failed[0]["reason"], "Failed");
}

#[test]
fn core_kinds() {
    let service = |spec: Value, status: Value, expect: [&str; 4]| {
        let expect = json!(["x", expect[0], expect[1], expect[2], expect[3], "60m", "<none>"]);
        check("", "Service", json!({"spec": spec, "status": status}), expect);
    };
    let port = json!([{"port": 80, "protocol": "TCP"}, {"port": 53, "nodePort": 30053, "protocol": "UDP"}]);
    service(
        json!({"type": "ClusterIP", "clusterIPs": ["10.0.0.1"], "ports": port}),
        json!({}),
        ["ClusterIP", "10.0.0.1", "<none>", "80/TCP,53:30053/UDP"],
    );
    service(
        json!({"type": "ClusterIP", "clusterIPs": ["None"], "externalIPs": ["1.1.1.1", "2.2.2.2"]}),
        json!({}),
        ["ClusterIP", "None", "1.1.1.1,2.2.2.2", "<none>"],
    );
    service(json!({"type": "LoadBalancer"}), json!({}), ["LoadBalancer", "<none>", "<pending>", "<none>"]);
    let balanced = json!({"loadBalancer": {"ingress": [{"hostname": "b"}, {"ip": "a"}]}});
    service(
        json!({"type": "LoadBalancer", "externalIPs": ["9"]}),
        balanced,
        ["LoadBalancer", "<none>", "a,b,9", "<none>"],
    );
    service(
        json!({"type": "ExternalName", "externalName": "e.com"}),
        json!({}),
        ["ExternalName", "<none>", "e.com", "<none>"],
    );

    let endpoints = |subsets: Value, expect: &str| {
        check("", "Endpoints", json!({"subsets": subsets}), json!(["x", expect, "60m"]))
    };
    endpoints(Value::Null, "<none>");
    endpoints(json!([{"addresses": [{"ip": "a"}], "ports": [{"port": 80}]}]), "a:80");
    endpoints(
        json!([{"addresses": [{"ip": "a"}, {"ip": "::1"}], "ports": [{"port": 80}, {"port": 81}]}]),
        "a:80,[::1]:80,a:81 + 1 more...",
    );
    endpoints(json!([{"addresses": [{"ip": "a"}]}]), "a");

    check(
        "",
        "Node",
        json!({"metadata": {"labels": {"node-role.kubernetes.io/worker": "", "kubernetes.io/role": "control-plane"}},
            "spec": {"unschedulable": true},
            "status": {"conditions": [{"type": "Ready", "status": "True"}], "addresses": [{"type": "InternalIP", "address": "1.2.3.4"}],
                "nodeInfo": {"kubeletVersion": "v1.36.0", "osImage": "Linux", "kernelVersion": "6.1", "architecture": "amd64", "containerRuntimeVersion": "containerd://2"}}}),
        json!([
            "x",
            "Ready,SchedulingDisabled",
            "control-plane,worker",
            "60m",
            "v1.36.0",
            "1.2.3.4",
            "<none>",
            "Linux",
            "6.1 (amd64)",
            "containerd://2"
        ]),
    );
    check(
        "",
        "Node",
        json!({}),
        json!([
            "x",
            "Unknown",
            "<none>",
            "60m",
            "",
            "<none>",
            "<none>",
            "<unknown>",
            "<unknown>",
            "<unknown>"
        ]),
    );
    check(
        "",
        "ConfigMap",
        json!({"data": {"a": "", "b": ""}, "binaryData": {"c": ""}}),
        json!(["x", 3, "60m"]),
    );
    check("", "Secret", json!({"type": "Opaque", "data": {"a": ""}}), json!(["x", "Opaque", 1, "60m"]));
    check("", "Namespace", json!({"status": {"phase": "Active"}}), json!(["x", "Active", "60m"]));
    check(
        "",
        "ResourceQuota",
        json!({"status": {"hard": {"pods": "4", "cpu": "2", "limits.cpu": "3"}, "used": {"pods": "1"}}}),
        json!(["x", "cpu: 0/2, pods: 1/4", "limits.cpu: 0/3", "60m"]),
    );
    check(
        "",
        "PersistentVolume",
        json!({"spec": {"capacity": {"storage": "1Gi"}, "accessModes": ["ReadWriteMany", "ReadWriteOnce"], "persistentVolumeReclaimPolicy": "Retain",
            "claimRef": {"namespace": "n", "name": "c"}, "storageClassName": "s", "volumeMode": "Block"}, "status": {"phase": "Bound"}}),
        json!(["x", "1Gi", "RWO,RWX", "Retain", "Bound", "n/c", "s", "<unset>", "", "60m", "Block"]),
    );
    check(
        "",
        "PersistentVolumeClaim",
        json!({"spec": {"volumeName": "v"}, "status": {"phase": "Bound", "capacity": {"storage": "1Gi"}, "accessModes": ["ReadWriteOnce"]}}),
        json!(["x", "Bound", "v", "1Gi", "RWO", "", "<unset>", "60m", "<unset>"]),
    );
    check(
        "",
        "PersistentVolumeClaim",
        json!({"status": {"phase": "Pending"}}),
        json!(["x", "Pending", "", "", "", "", "<unset>", "60m", "<unset>"]),
    );
}

#[test]
fn events() {
    check(
        "",
        "Event",
        json!({"type": "Normal", "reason": "Pulled", "message": " done\n", "count": 4, "firstTimestamp": "2026-01-01T00:50:00Z",
            "lastTimestamp": "2026-01-01T00:59:00Z", "involvedObject": {"kind": "Pod", "name": "p", "fieldPath": "f"},
            "source": {"component": "kubelet", "host": "n"}}),
        json!(["60s", "Normal", "Pulled", "pod/p", "f", "kubelet, n", "done", "10m", 4, "x"]),
    );
    check(
        "events.k8s.io",
        "Event",
        json!({"type": "Normal", "reason": "Pulled", "note": "done", "eventTime": "2026-01-01T00:50:00.000000Z",
            "regarding": {"kind": "Pod"}, "reportingController": "c", "series": {"count": 9, "lastObservedTime": "2026-01-01T00:59:59.000000Z"}}),
        json!(["1s", "Normal", "Pulled", "pod", "", "c", "done", "10m", 9, "x"]),
    );
    check(
        "",
        "Event",
        json!({"firstTimestamp": null}),
        json!(["<unknown>", "", "", "", "", "", "", "<unknown>", 1, "x"]),
    );
}

#[test]
fn workloads() {
    let template = json!({"spec": {"containers": [{"name": "a", "image": "i:1"}, {"name": "b", "image": "j:2"}], "nodeSelector": {"k": "v"}}});
    let selector = json!({"matchLabels": {"app": "x"}});
    let spec = json!({"replicas": 3, "template": template, "selector": selector});
    check(
        "apps",
        "Deployment",
        json!({"spec": spec, "status": {"readyReplicas": 2, "updatedReplicas": 3, "availableReplicas": 1}}),
        json!(["x", "2/3", 3, 1, "60m", "a,b", "i:1,j:2", "app=x"]),
    );
    check(
        "apps",
        "ReplicaSet",
        json!({"spec": spec, "status": {"replicas": 3}}),
        json!(["x", 3, 3, 0, "60m", "a,b", "i:1,j:2", "app=x"]),
    );
    check(
        "apps",
        "StatefulSet",
        json!({"spec": spec, "status": {"readyReplicas": 1}}),
        json!(["x", "1/3", "60m", "a,b", "i:1,j:2"]),
    );
    check(
        "apps",
        "DaemonSet",
        json!({"spec": spec, "status": {"desiredNumberScheduled": 5, "currentNumberScheduled": 4, "numberReady": 3, "updatedNumberScheduled": 2, "numberAvailable": 1}}),
        json!(["x", 5, 4, 3, 2, 1, "k=v", "60m", "a,b", "i:1,j:2", "app=x"]),
    );
    check(
        "apps",
        "ControllerRevision",
        json!({"metadata": {"ownerReferences": [{"apiVersion": "apps/v1", "kind": "StatefulSet", "name": "web", "controller": true}]}, "revision": 2}),
        json!(["x", "statefulset.apps/web", 2, "60m"]),
    );
    let job = |spec: Value, status: Value, expect: [&str; 3]| {
        let expect = json!(["x", expect[0], expect[1], expect[2], "60m", "", "", "<none>"]);
        check("batch", "Job", json!({"spec": spec, "status": status}), expect);
    };
    let done = |kind: &str| json!({"conditions": [{"type": kind, "status": "True"}], "startTime": "2026-01-01T00:00:00Z", "completionTime": "2026-01-01T00:00:30Z", "succeeded": 1});
    job(json!({"completions": 1, "selector": {}}), done("Complete"), ["Complete", "1/1", "30s"]);
    job(json!({"parallelism": 3, "selector": {}}), done("Failed"), ["Failed", "1/1 of 3", "30s"]);
    job(json!({"parallelism": 1, "selector": {}}), json!({}), ["Running", "0/1", ""]);
    job(json!({"selector": {}}), json!({"startTime": "2026-01-01T00:59:00Z"}), ["Running", "0/1", "60s"]);
    check(
        "batch",
        "CronJob",
        json!({"spec": {"schedule": "* * * * *", "suspend": false, "jobTemplate": {"spec": {"template": template, "selector": {}}}}, "status": {"active": [{}], "lastScheduleTime": "2026-01-01T00:59:00Z"}}),
        json!(["x", "* * * * *", "<none>", "False", 1, "60s", "60m", "a,b", "i:1,j:2", "<none>"]),
    );
    let metric = |kind: &str, field: &str, target: Value| json!({"type": kind, field: {"name": "cpu", "target": target}});
    let hpa = |metrics: Value, current: Value, expect: &str| {
        let object = json!({"spec": {"scaleTargetRef": {"kind": "Deployment", "name": "d"}, "maxReplicas": 5, "metrics": metrics}, "status": {"currentMetrics": current, "currentReplicas": 2}});
        check(
            "autoscaling",
            "HorizontalPodAutoscaler",
            object,
            json!(["x", "Deployment/d", expect, "<unset>", 5, 2, "60m"]),
        );
    };
    let cpu = || metric("Resource", "resource", json!({"averageUtilization": 80}));
    hpa(json!([]), json!([]), "<none>");
    hpa(json!([cpu()]), json!([{"resource": {"current": {"averageUtilization": 50}}}]), "cpu: 50%/80%");
    hpa(json!([cpu(), cpu(), cpu()]), json!(null), "cpu: <unknown>/80%, cpu: <unknown>/80% + 1 more...");
    hpa(
        json!([metric("Pods", "pods", json!({"averageValue": "10"}))]),
        json!([{"pods": {"current": {"averageValue": "5"}}}]),
        "5/10",
    );
    hpa(
        json!([metric("External", "external", json!({"averageValue": "10"}))]),
        json!([]),
        "<unknown>/10 (avg)",
    );
    hpa(
        json!([metric("Object", "object", json!({"value": "10"}))]),
        json!([{"object": {"current": {"value": "5"}}}]),
        "5/10",
    );
}

#[test]
fn other_groups() {
    check(
        "networking.k8s.io",
        "Ingress",
        json!({"spec": {"rules": [{"host": "a"}, {"host": "b"}, {}, {"host": "c"}, {"host": "d"}], "tls": [{}]}}),
        json!(["x", "<none>", "a,b,c + 2 more...", "", "80, 443", "60m"]),
    );
    check(
        "networking.k8s.io",
        "Ingress",
        json!({"spec": {"ingressClassName": "c"}}),
        json!(["x", "c", "*", "", "80", "60m"]),
    );
    check(
        "networking.k8s.io",
        "IngressClass",
        json!({"metadata": {"annotations": {"ingressclass.kubernetes.io/is-default-class": "true"}}, "spec": {"controller": "c", "parameters": {"kind": "K", "apiGroup": "g", "name": "n"}}}),
        json!(["x (default)", "c", "K.g/n", "60m"]),
    );
    check(
        "networking.k8s.io",
        "NetworkPolicy",
        json!({"spec": {"podSelector": {}}}),
        json!(["x", "<none>", "60m"]),
    );
    check(
        "discovery.k8s.io",
        "EndpointSlice",
        json!({"addressType": "IPv4", "ports": [{"port": 80}, {"name": "n"}, {}], "endpoints": [{"addresses": ["a", "b"]}, {"addresses": ["c"]}, {"addresses": ["d"]}]}),
        json!(["x", "IPv4", "80,n,*", "a,b,c + 1 more...", "60m"]),
    );
    check(
        "discovery.k8s.io",
        "EndpointSlice",
        json!({"addressType": "IPv4"}),
        json!(["x", "IPv4", "<unset>", "<unset>", "60m"]),
    );
    check(
        "policy",
        "PodDisruptionBudget",
        json!({"spec": {"minAvailable": "50%"}, "status": {"disruptionsAllowed": 1}}),
        json!(["x", "50%", "N/A", 1, "60m"]),
    );
    check(
        "rbac.authorization.k8s.io",
        "RoleBinding",
        json!({"roleRef": {"kind": "Role", "name": "r"}, "subjects": [{"kind": "User", "name": "u"}, {"kind": "User", "name": "v"}, {"kind": "ServiceAccount", "namespace": "n", "name": "s"}]}),
        json!(["x", "Role/r", "60m", "u, v", "", "n/s"]),
    );
    check(
        "certificates.k8s.io",
        "CertificateSigningRequest",
        json!({"spec": {"signerName": "s", "username": "u", "expirationSeconds": 3600}, "status": {"conditions": [{"type": "Approved"}], "certificate": "eA=="}}),
        json!(["x", "60m", "s", "u", "60m", "Approved,Issued"]),
    );
    check(
        "storage.k8s.io",
        "StorageClass",
        json!({"metadata": {"annotations": {"storageclass.kubernetes.io/is-default-class": "true"}}, "provisioner": "p", "allowVolumeExpansion": true}),
        json!(["x (default)", "p", "Delete", "Immediate", true, "60m"]),
    );
    check(
        "admissionregistration.k8s.io",
        "ValidatingAdmissionPolicyBinding",
        json!({"spec": {"policyName": "p", "paramRef": {"selector": {"matchLabels": {"a": "b"}}}}}),
        json!([
            "x",
            "p",
            "&LabelSelector{MatchLabels:map[string]string{a: b,},MatchExpressions:[]LabelSelectorRequirement{},}",
            "60m"
        ]),
    );
    check(
        "apiregistration.k8s.io",
        "APIService",
        json!({"status": {"conditions": [{"type": "Available", "status": "False", "reason": "Gone"}]}}),
        json!(["x", "Local", "False (Gone)", "60m"]),
    );
    check(
        "networking.k8s.io",
        "IPAddress",
        json!({"spec": {"parentRef": {"resource": "services", "namespace": "n", "name": "s"}}}),
        json!(["x", "services/n/s", "60m"]),
    );
    check(
        "flowcontrol.apiserver.k8s.io",
        "PriorityLevelConfiguration",
        json!({"spec": {"type": "Limited", "limited": {"nominalConcurrencyShares": 5, "limitResponse": {}}}}),
        json!(["x", "Limited", 5, "<none>", "<none>", "<none>", "60m"]),
    );
    check(
        "resource.k8s.io",
        "ResourceClaim",
        json!({"status": {"allocation": {}, "reservedFor": [{}]}}),
        json!(["x", "allocated,reserved", "60m"]),
    );
    check("example.com", "Thing", json!({}), json!(["x", "2026-01-01T00:00:00Z"]));
    assert_eq!(
        columns("", "Pod").definitions[5].to_value(),
        json!({"name": "IP", "type": "string", "format": "", "description": "Address of the pod.", "priority": 1})
    );
}
