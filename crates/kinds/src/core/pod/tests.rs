//! Tables of whole pods. Cases and expectations are those of upstream's `validation_test.go`.

use apimachinery::field::{ErrorList, aggregate};
use serde_json::{Value, json};

use super::*;
use crate::table::Table;

fn table() -> Table {
    let pod = json!({"metadata": {"name": "p", "namespace": "n"}, "spec": {"containers": [{"name": "c", "image": "i"}]}});
    Table::new("", "v1", "Pod", pod)
}

fn spec(fields: Value) -> Value {
    json!({"spec": fields})
}

/// A pod with one container that has these fields.
fn container(fields: Value) -> Value {
    let mut whole = json!({"name": "c", "image": "i"});
    whole.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
    spec(json!({"containers": [whole]}))
}

fn with(mut pod: Value, fields: Value) -> Value {
    pod["spec"].as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
    pod
}

#[test]
fn containers() {
    table().create(&[
        (spec(json!({"containers": []})), &["spec.containers: Required"]),
        (spec(json!({"containers": [{"name": "c", "image": "i"}, {"name": "c", "image": "i"}]})), &["spec.containers[1].name: Duplicate"]),
        (container(json!({"name": "a.b"})), &["spec.containers[0].name: Invalid"]),
        (container(json!({"name": ""})), &["spec.containers[0].name: Required"]),
        (container(json!({"image": ""})), &["spec.containers[0].image: Required"]),
        (container(json!({"image": " i "})), &["spec.containers[0].image: Invalid"]),
        (container(json!({"terminationMessagePolicy": "x"})), &["spec.containers[0].terminationMessagePolicy: NotSupported"]),
        (container(json!({"imagePullPolicy": "x"})), &["spec.containers[0].imagePullPolicy: NotSupported"]),
        (container(json!({"ports": [{"containerPort": 0}, {"containerPort": 65536, "hostPort": 65536, "protocol": "x", "name": "a--b"}]})), &[
            "spec.containers[0].ports[0].containerPort: Required",
            "spec.containers[0].ports[1].name: Invalid",
            "spec.containers[0].ports[1].containerPort: Invalid",
            "spec.containers[0].ports[1].hostPort: Invalid",
            "spec.containers[0].ports[1].protocol: NotSupported"]),
        (container(json!({"ports": [{"name": "a", "containerPort": 1}, {"name": "a", "containerPort": 2}]})), &["spec.containers[0].ports[1].name: Duplicate"]),
        (container(json!({"ports": [{"containerPort": 1, "hostPort": 5}, {"containerPort": 2, "hostPort": 5}]})), &["spec.containers[0].ports[1].hostPort: Duplicate"]),
        (container(json!({"ports": [{"containerPort": 1, "hostPort": 5, "hostIP": "1.1.1.1"}, {"containerPort": 2, "hostPort": 5, "hostIP": "2.2.2.2"}]})), &[]),
        (container(json!({"restartPolicy": "Sometimes"})), &["spec.containers[0].restartPolicy: NotSupported"]),
        (container(json!({"restartPolicyRules": [{"action": "Restart", "exitCodes": {"operator": "In", "values": [1]}}]})),
            &["spec.containers[0].restartPolicy: Required"]),
        (container(json!({"restartPolicy": "Never", "restartPolicyRules": [{"action": "x"}, {"action": "Restart", "exitCodes": {"operator": "y"}}]})), &[
            "spec.containers[0].restartPolicyRules[0].action: NotSupported",
            "spec.containers[0].restartPolicyRules[0].exitCodes: Required",
            "spec.containers[0].restartPolicyRules[1].exitCodes.operator: NotSupported"]),
        (container(json!({"restartPolicy": "Never", "restartPolicyRules": vec![json!({"action": "Restart", "exitCodes": {"operator": "In"}}); 21]})),
            &["spec.containers[0].restartPolicyRules: TooMany"]),
        (container(json!({"resizePolicy": [{"resourceName": "cpu", "restartPolicy": "NotRequired"}, {"resourceName": "cpu", "restartPolicy": "x"}, {"resourceName": "disk", "restartPolicy": ""}]})), &[
            "spec.containers[0].resizePolicy[1]: Duplicate", "spec.containers[0].resizePolicy: NotSupported",
            "spec.containers[0].resizePolicy: NotSupported", "spec.containers[0].resizePolicy: Required"]),
        (with(container(json!({"resizePolicy": [{"resourceName": "cpu", "restartPolicy": "RestartContainer"}]})), json!({"restartPolicy": "Never"})),
            &["spec.containers[0].resizePolicy: Invalid"]),
    ]);
}

#[test]
fn environment() {
    let env = |value_from: Value| container(json!({"env": [{"name": "A", "valueFrom": value_from}]}));
    let field = |path: &str| env(json!({"fieldRef": {"fieldPath": path}}));
    let at = "spec.containers[0].env[0].valueFrom";
    let one = |field: &str, kind: &str| format!("{at}{field}: {kind}");
    let (path, annotation) = (one(".fieldRef.fieldPath", "Invalid"), one(".fieldRef", "Invalid"));
    let unfit = one(".fieldRef.fieldPath", "NotSupported");
    let (divisor, resource) =
        (one(".resourceFieldRef.divisor", "Invalid"), one(".resourceFieldRef.resource", "NotSupported"));
    let whole = one("", "Invalid");
    table().create(&[
        (container(json!({"env": [{"name": "abc.def"}, {"name": "1a"}, {"name": ""}, {"name": "a=b"}]})),
            &["spec.containers[0].env[2].name: Required", "spec.containers[0].env[3].name: Invalid"]),
        (env(json!({})), &[&whole]),
        (container(json!({"env": [{"name": "A", "value": "x", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}}]})), &[&whole]),
        (env(json!({"fieldRef": {"fieldPath": "metadata.name"}, "secretKeyRef": {"name": "s", "key": "k"}})), &[&whole]),
        (field("metadata.annotations['a.b/C']"), &[]),
        (field("metadata.labels['a b']"), &[&annotation]),
        (field("metadata.labels"), &[&unfit]),
        (field("spec.restartPolicy"), &[&unfit]),
        (field("metadata.whoops"), &[&path]),
        (field("metadata.name['x']"), &[&path]),
        (field("spec.host"), &[]),
        (env(json!({"fieldRef": {"apiVersion": "v2", "fieldPath": "metadata.name"}})), &[&path]),
        (env(json!({"resourceFieldRef": {"resource": "limits.cpu", "divisor": "1Mi"}})), &[&divisor]),
        (env(json!({"resourceFieldRef": {"resource": "requests.memory", "divisor": "1m"}})), &[&divisor]),
        (env(json!({"resourceFieldRef": {"resource": "requests.hugepages-2Mi", "divisor": "1Mi"}})), &[]),
        (env(json!({"resourceFieldRef": {"resource": "requests.pods"}})), &[&resource]),
        (env(json!({"configMapKeyRef": {"name": "", "key": ""}})), &[&one(".configMapKeyRef.name", "Invalid"), &one(".configMapKeyRef.key", "Required")]),
        (env(json!({"secretKeyRef": {"name": "s", "key": "a b"}})), &[&one(".secretKeyRef.key", "Invalid")]),
        (with(env(json!({"fileKeyRef": {"volumeName": "v", "path": "f", "key": "K"}})), json!({"volumes": [{"name": "v", "emptyDir": {}}]})), &[]),
        (with(env(json!({"fileKeyRef": {"volumeName": "v", "path": "../f", "key": "K=L"}})), json!({"volumes": [{"name": "v", "hostPath": {"path": "/"}}]})), &[
            &one(".fileKeyRef.key", "Invalid"), &one(".fileKeyRef.path", "Invalid"), &one(".fileKeyRef.volumeName", "Invalid")]),
        (env(json!({"fileKeyRef": {"volumeName": "v", "path": "f", "key": "K"}})), &[&one(".fileKeyRef.volumeName", "NotFound")]),
        (container(json!({"envFrom": [{"prefix": "p=", "configMapRef": {"name": "a-"}}, {}, {"configMapRef": {"name": ""}, "secretRef": {"name": "s"}}]})), &[
            "spec.containers[0].envFrom[0].prefix: Invalid", "spec.containers[0].envFrom: Invalid",
            "spec.containers[0].envFrom[2].configMapRef.name: Required", "spec.containers[0].envFrom: Invalid"]),
    ]);
}

#[test]
fn volumes_and_mounts() {
    let volume = |source: Value| {
        let mut whole = json!({"name": "v"});
        whole.as_object_mut().unwrap().extend(source.as_object().unwrap().clone());
        spec(json!({"volumes": [whole]}))
    };
    let projected = |sources: Value| {
        with(volume(json!({"projected": {"sources": sources}})), json!({"serviceAccountName": "a"}))
    };
    let mount = |fields: Value, source: Value| {
        let mut pod = volume(source);
        pod["spec"]["containers"] = container(fields)["spec"]["containers"].clone();
        pod
    };
    let claim = json!({"persistentVolumeClaim": {"claimName": "c"}});
    let empty = json!({"emptyDir": {}});
    table().create(&[
        (spec(json!({"volumes": [{"name": "v"}, {"name": "v"}, {"name": "a.b"}, {"name": ""}]})),
            &["spec.volumes[1].name: Duplicate", "spec.volumes[2].name: Invalid", "spec.volumes[3].name: Required"]),
        (volume(json!({"emptyDir": {"sizeLimit": "-1"}})), &["spec.volumes[0].emptyDir.sizeLimit: Forbidden"]),
        (volume(json!({"emptyDir": {}, "hostPath": {"path": "/x"}})), &["spec.volumes[0].hostPath: Forbidden"]),
        (volume(json!({"secret": {"secretName": "", "items": [{"key": "", "path": "/x"}], "defaultMode": 0o1000}})), &[
            "spec.volumes[0].secret.secretName: Required", "spec.volumes[0].secret.defaultMode: Invalid",
            "spec.volumes[0].secret.items[0].key: Required", "spec.volumes[0].secret.items[0].path: Invalid"]),
        (volume(json!({"configMap": {"name": "m", "items": [{"key": "k", "path": "..foo", "mode": -1}]}})),
            &["spec.volumes[0].configMap.items[0].path: Invalid", "spec.volumes[0].configMap.items[0].mode: Invalid"]),
        (volume(json!({"downwardAPI": {"items": [{"path": "", "fieldRef": {"fieldPath": "metadata.labels"}}, {"path": "a", "fieldRef": {"fieldPath": "status.podIP"}},
            {"path": "b"}, {"path": "c", "resourceFieldRef": {"resource": "limits.cpu"}}]}})), &[
            "spec.volumes[0].downwardAPI.path: Required", "spec.volumes[0].downwardAPI.fieldRef.fieldPath: NotSupported",
            "spec.volumes[0].downwardAPI: Required", "spec.volumes[0].downwardAPI.resourceFieldRef.containerName: Required"]),
        (volume(json!({"gitRepo": {"repository": "", "directory": "/a"}})), &["spec.volumes[0].gitRepo.repository: Required", "spec.volumes[0].gitRepo.directory: Invalid"]),
        (volume(json!({"image": {"pullPolicy": "x"}})), &["spec.volumes[0].image.reference: Required", "spec.volumes[0].image.pullPolicy: NotSupported"]),
        (volume(json!({"iscsi": {"targetPortal": "a".repeat(63), "iqn": "iqn.2015-02.example.com:test", "initiatorName": "iqn.2015-02.example.com:init"}})), &["spec.volumes[0].name: Invalid"]),
        (volume(json!({"gcePersistentDisk": {"pdName": ""}})), &["spec.volumes[0].persistentDisk.pdName: Required"]),
        (volume(json!({"ephemeral": {}})), &["spec.volumes[0].ephemeral.volumeClaimTemplate: Required"]),
        (volume(json!({"ephemeral": {"volumeClaimTemplate": {"metadata": {"name": "x", "labels": {"a b": "c"}}, "spec": {"accessModes": ["ReadWriteOnce"]}}}})), &[
            "spec.volumes[0].ephemeral.volumeClaimTemplate.metadata.labels: Invalid",
            "spec.volumes[0].ephemeral.volumeClaimTemplate.metadata.name: Forbidden",
            "spec.volumes[0].ephemeral.volumeClaimTemplate.spec.resources[storage]: Required"]),
        (spec(json!({"volumes": [{"name": "v", "ephemeral": {"volumeClaimTemplate": {"spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1"}}}}}},
            {"name": "w", "persistentVolumeClaim": {"claimName": "p-v"}}]})), &["spec.volumes[1].persistentVolumeClaim.claimName: Invalid"]),
        (projected(json!([{"secret": {"name": "s", "items": [{"key": "k", "path": "a"}]}}, {"configMap": {"name": "m", "items": [{"key": "k", "path": "a"}]}}])),
            &["spec.volumes[0].projected: Invalid"]),
        (projected(json!([{"secret": {"name": "s"}, "configMap": {"name": "m"}}])), &["spec.volumes[0].projected.sources[0]: Forbidden"]),
        (projected(json!([{"serviceAccountToken": {"path": "", "expirationSeconds": 5}}])),
            &["spec.volumes[0].projected.sources[0].serviceAccountToken.expirationSeconds: Invalid", "spec.volumes[0].projected.path: Required"]),
        (projected(json!([{"serviceAccountToken": {"path": "/a"}}])), &["spec.volumes[0].projected.path: Invalid"]),
        (volume(json!({"projected": {"sources": [{"serviceAccountToken": {"path": "a"}}]}})), &["spec.volumes[0].projected.sources[0].serviceAccountToken: Forbidden"]),
        (mount(json!({"volumeMounts": [{"name": "x", "mountPath": ""}, {"name": "v", "mountPath": "/a"}, {"name": "v", "mountPath": "/a", "subPath": "/b", "subPathExpr": "../c"}]}), empty.clone()), &[
            "spec.containers[0].volumeMounts[0].name: NotFound", "spec.containers[0].volumeMounts[0].mountPath: Required",
            "spec.containers[0].volumeMounts[2].mountPath: Invalid", "spec.containers[0].volumeMounts.subPath: Invalid",
            "spec.containers[0].volumeMounts[2].subPathExpr: Invalid", "spec.containers[0].volumeMounts.subPathExpr: Invalid"]),
        (mount(json!({"volumeMounts": [{"name": "v", "mountPath": "/a", "mountPropagation": "Bidirectional", "recursiveReadOnly": "Enabled"}]}), empty.clone()), &[
            "spec.containers[0].volumeMounts.mountPropagation: Forbidden", "spec.containers[0].volumeMounts.recursiveReadOnly: Forbidden",
            "spec.containers[0].volumeMounts.recursiveReadOnly: Forbidden"]),
        (mount(json!({"volumeMounts": [{"name": "v", "mountPath": "/a", "readOnly": true, "recursiveReadOnly": "Enabled"}]}), empty.clone()), &[]),
        (mount(json!({"volumeDevices": [{"name": "v", "devicePath": "/dev/a"}]}), claim.clone()), &[]),
        (mount(json!({"volumeDevices": [{"name": "v", "devicePath": "/dev/a/.."}]}), empty), &[
            "spec.containers[0].volumeDevices[0].name: Invalid", "spec.containers[0].volumeDevices[0].devicePath: Invalid"]),
        (mount(json!({"volumeMounts": [{"name": "v", "mountPath": "/a"}], "volumeDevices": [{"name": "v", "devicePath": "/a"}, {"name": "v", "devicePath": ""}]}), claim), &[
            "spec.containers[0].volumeMounts[0].name: Invalid", "spec.containers[0].volumeMounts[0].mountPath: Invalid",
            "spec.containers[0].volumeDevices[0].name: Invalid", "spec.containers[0].volumeDevices[0].devicePath: Invalid",
            "spec.containers[0].volumeDevices[1].name: Invalid", "spec.containers[0].volumeDevices[1].devicePath: Required",
            "spec.containers[0].volumeDevices[1].name: Invalid"]),
    ]);
}

#[test]
fn projections_that_are_off_but_stored() {
    let table = table();
    let projected =
        |source: Value| spec(json!({"volumes": [{"name": "v", "projected": {"sources": [source]}}]}));
    // Volumes of a pod never change, which is said last.
    let stored = |source: Value, expect: &[&str]| {
        let pod = projected(source);
        table.change(&pod, &pod, "", expect);
    };
    let at = "spec.volumes[0].projected.sources[0]";
    let of = |field: &str, kind: &str| format!("{at}.{field}: {kind}");
    let bundle = |bundle: Value| json!({"clusterTrustBundle": bundle});
    stored(bundle(json!({"name": "example.com:signer:x", "path": "a"})), &[]);
    stored(
        bundle(json!({"name": "x", "signerName": "a.b/c", "path": "a"})),
        &[&of("clusterTrustBundle", "Invalid")],
    );
    stored(
        bundle(json!({})),
        &[&of("clusterTrustBundle", "Required"), &of("clusterTrustBundle.path", "Required")],
    );
    stored(
        bundle(json!({"signerName": "x", "path": "../a"})),
        &[&of("clusterTrustBundle.signerName", "Invalid"), &of("clusterTrustBundle.path", "Invalid")],
    );
    stored(
        bundle(json!({"name": "a_b", "labelSelector": {}, "path": "a"})),
        &[&of("clusterTrustBundle.name", "Invalid"), &of("clusterTrustBundle.labelSelector", "Invalid")],
    );
    let certificate = |fields: Value| json!({"podCertificate": fields});
    stored(
        certificate(
            json!({"signerName": "a.b/c", "keyType": "ED25519", "keyPath": "k", "certificateChainPath": "c"}),
        ),
        &[],
    );
    stored(
        certificate(
            json!({"signerName": "kubernetes.io/c", "keyType": "RSA1024", "maxExpirationSeconds": 86401, "userAnnotations": {"x": "y"}}),
        ),
        &[
            &of("podCertificate.userAnnotations", "Invalid"),
            &of("podCertificate.keyType", "NotSupported"),
            &of("podCertificate.maxExpirationSeconds", "Invalid"),
            &of("podCertificate", "Required"),
        ],
    );
}

#[test]
fn probes_and_hooks() {
    let one = |field: &str, probe: Value| container(json!({field: probe}));
    let get = |fields: Value| {
        let mut whole = json!({"port": 80});
        whole.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
        one("livenessProbe", json!({"httpGet": whole}))
    };
    let at = "spec.containers[0].livenessProbe";
    let of = |field: &str, kind: &str| format!("{at}{field}: {kind}");
    table().create(&[
        (one("livenessProbe", json!({})), &[&of("", "Required")]),
        (one("livenessProbe", json!({"exec": {}, "tcpSocket": {"port": 0}})), &[&of(".exec.command", "Required"), &of(".tcpSocket", "Forbidden")]),
        (one("livenessProbe", json!({"tcpSocket": {"port": 0}, "initialDelaySeconds": -1, "timeoutSeconds": -1, "periodSeconds": -1,
            "successThreshold": 2, "failureThreshold": -1, "terminationGracePeriodSeconds": 0})), &[
            &of(".tcpSocket.port", "Invalid"), &of(".initialDelaySeconds", "Invalid"), &of(".timeoutSeconds", "Invalid"),
            &of(".periodSeconds", "Invalid"), &of(".failureThreshold", "Invalid"), &of(".terminationGracePeriodSeconds", "Invalid"),
            &of(".successThreshold", "Invalid")]),
        (one("readinessProbe", json!({"grpc": {"port": 80}, "successThreshold": 2, "terminationGracePeriodSeconds": 5})),
            &["spec.containers[0].readinessProbe.terminationGracePeriodSeconds: Invalid"]),
        (get(json!({"port": "name", "httpHeaders": [{"name": "X-Forwarded-For"}]})), &[]),
        (get(json!({"port": 65536, "scheme": "ftp", "httpHeaders": [{"name": "a b"}]})), &[
            &of(".httpGet.port", "Invalid"), &of(".httpGet.scheme", "NotSupported"), &of(".httpGet.httpHeaders", "Invalid")]),
        (one("lifecycle", json!({"preStop": {}, "postStart": {"exec": {"command": ["x"]}, "httpGet": {"port": 1}}})),
            &["spec.containers[0].lifecycle.postStart.httpGet: Forbidden", "spec.containers[0].lifecycle.preStop: Required"]),
        (one("lifecycle", json!({"preStop": {"sleep": {"seconds": 0}}})), &[]),
        (one("lifecycle", json!({"preStop": {"sleep": {"seconds": 31}}, "postStart": {"sleep": {"seconds": -1}}})),
            &["spec.containers[0].lifecycle.postStart.sleep: Invalid", "spec.containers[0].lifecycle.preStop.sleep: Invalid"]),
        (one("lifecycle", json!({"stopSignal": "SIGUSR1"})), &["spec.containers[0].lifecycle.stopSignal: Forbidden"]),
        (with(one("lifecycle", json!({"stopSignal": "SIGUSR1"})), json!({"os": {"name": "windows"}})), &["spec.containers[0].lifecycle.stopSignal: NotSupported"]),
        (with(one("lifecycle", json!({"stopSignal": "SIGRTMIN+3"})), json!({"os": {"name": "linux"}})), &[]),
    ]);
}

#[test]
fn init_and_ephemeral_containers() {
    let init = |fields: Value| {
        let mut whole = json!({"name": "i", "image": "i"});
        whole.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
        spec(json!({"initContainers": [whole]}))
    };
    let probe = json!({"tcpSocket": {"port": 1}});
    table().create(&[
        (init(json!({"name": "c"})), &["spec.initContainers[0].name: Duplicate"]),
        (init(json!({"readinessProbe": probe, "lifecycle": {"preStop": {"exec": {"command": ["x"]}}}})),
            &["spec.initContainers[0].lifecycle: Forbidden", "spec.initContainers[0].readinessProbe: Forbidden"]),
        (init(json!({"restartPolicy": "Always", "readinessProbe": probe, "lifecycle": {"preStop": {"exec": {"command": ["x"]}}}})), &[]),
        (init(json!({"restartPolicy": "Always", "startupProbe": {"tcpSocket": {"port": 1}, "successThreshold": 2}})),
            &["spec.initContainers[0].startupProbe.successThreshold: Invalid"]),
        (init(json!({"restartPolicy": "OnFailure"})), &[]),
        (init(json!({"resizePolicy": [{"resourceName": "cpu", "restartPolicy": "RestartContainer"}]})),
            &["spec.initContainers[0].resizePolicy[0].restartPolicy: Invalid"]),
        (init(json!({"restartPolicy": "Always", "resizePolicy": [{"resourceName": "cpu", "restartPolicy": "RestartContainer"}]})), &[]),
        (init(json!({"ports": [{"containerPort": 1, "hostPort": 1}, {"containerPort": 2, "hostPort": 1}]})), &["spec.initContainers[0].ports[1].hostPort: Duplicate"]),
        (spec(json!({"ephemeralContainers": [{"name": "e", "image": "i"}]})), &["spec.ephemeralContainers: Forbidden"]),
    ]);
    let table = table();
    let debug = |list: Value| spec(json!({"ephemeralContainers": list}));
    let change = |old: Value, new: Value, expect: &[&str]| {
        table.change(&debug(old), &debug(new), "ephemeralcontainers", expect)
    };
    let one = |fields: Value| {
        let mut whole = json!({"name": "e", "image": "i"});
        whole.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
        json!([whole])
    };
    let at = "spec.ephemeralContainers[0]";
    let of = |field: &str, kind: &str| format!("{at}.{field}: {kind}");
    change(json!([]), one(json!({"targetContainerName": "c", "stdin": true})), &[]);
    change(
        json!([]),
        one(json!({"name": "c", "targetContainerName": "x"})),
        &[&of("name", "Duplicate"), &of("targetContainerName", "NotFound")],
    );
    change(
        json!([]),
        one(
            json!({"ports": [{"containerPort": 1}], "resources": {"limits": {"cpu": "1"}}, "livenessProbe": probe, "lifecycle": {}}),
        ),
        &[
            &of("ports", "Forbidden"),
            &of("resources", "Forbidden"),
            &of("livenessProbe", "Forbidden"),
            &of("lifecycle", "Forbidden"),
        ],
    );
    change(one(json!({})), json!([{"name": "e", "image": "i"}, {"name": "f", "image": "i"}]), &[]);
    change(one(json!({})), json!([]), &["spec.ephemeralContainers: Forbidden"]);
    change(one(json!({})), one(json!({"image": "j"})), &["spec.ephemeralContainers: Forbidden"]);
    // Nothing else can be changed on this way.
    table.change(
        &json!({}),
        &spec(json!({"nodeName": "x", "ephemeralContainers": [{"name": "e", "image": "i"}]})),
        "ephemeralcontainers",
        &[],
    );
    let mirror =
        json!({"metadata": {"annotations": {"kubernetes.io/config.mirror": "x"}}, "spec": {"nodeName": "n"}});
    table.change(&mirror, &mirror, "ephemeralcontainers", &["[]: Forbidden"]);
}

#[test]
fn resources() {
    let asks = |resources: Value| container(json!({"resources": resources}));
    let level = |resources: Value, own: Value| with(asks(own), json!({"resources": resources}));
    let at = "spec.containers[0].resources";
    let of = |field: &str, kind: &str| format!("{at}{field}: {kind}");
    let claims = json!([{"name": "gpu", "resourceClaimName": "g"}]);
    table().create(&[
        (asks(json!({"limits": {"cpu": "10", "memory": "10G", "my.org/resource": "10"}, "requests": {"cpu": "1"}})), &[]),
        (asks(json!({"limits": {"disk": "10G"}, "requests": {"disk": "10G"}})), &[
            &of(".limits[disk]", "Invalid"), &of(".limits[disk]", "Invalid"), &of(".requests[disk]", "Invalid"), &of(".requests[disk]", "Invalid")]),
        (asks(json!({"requests": {"cpu": "-10m"}})), &[&of(".requests[cpu]", "Invalid")]),
        (asks(json!({"requests": {"cpu": "2"}, "limits": {"cpu": "1"}})), &[&of(".requests", "Invalid")]),
        (asks(json!({"requests": {"a.b/c": "1"}, "limits": {"a.b/c": "2"}})), &[&of(".requests", "Invalid")]),
        (asks(json!({"requests": {"a.b/c": "1"}})), &[&of(".limits", "Required")]),
        (asks(json!({"limits": {"a.b/c": "500m"}})), &[&of(".limits[a.b/c]", "Invalid"), &of(".requests[a.b/c]", "Invalid")]),
        (asks(json!({"limits": {"cpu": "1", "hugepages-2Mi": "4Mi"}})), &[]),
        (asks(json!({"limits": {"hugepages-2Mi": "4Mi"}})), &[&of("", "Forbidden")]),
        (asks(json!({"limits": {"cpu": "1", "hugepages-2Mi": "3Mi"}})), &[&of(".limits[hugepages-2Mi]", "Invalid"), &of(".requests[hugepages-2Mi]", "Invalid")]),
        (with(asks(json!({"claims": [{"name": "gpu", "request": "a"}, {"name": "gpu", "request": "b"}]})), json!({"resourceClaims": claims})), &[]),
        (with(asks(json!({"claims": [{"name": "gpu", "request": "a"}, {"name": "gpu"}]})), json!({"resourceClaims": claims})), &[&of(".claims[1]", "Duplicate")]),
        (with(asks(json!({"claims": [{"name": "gpu"}, {"name": "gpu"}, {"name": ""}, {"name": "x"}]})), json!({"resourceClaims": claims})),
            &[&of(".claims[1]", "Duplicate"), &of(".claims[2]", "Required"), &of(".claims[3]", "NotFound")]),
        (spec(json!({"resourceClaims": [{"name": "a.b"}, {"name": "c", "resourceClaimName": "x_", "resourceClaimTemplateName": "y"},
            {"name": "c", "resourceClaimName": "z"}, {"resourceClaimTemplateName": "z"}]})), &[
            "spec.resourceClaims[0].name: Invalid", "spec.resourceClaims[0]: Invalid", "spec.resourceClaims[1]: Invalid",
            "spec.resourceClaims[1].resourceClaimName: Invalid", "spec.resourceClaims[2].name: Duplicate", "spec.resourceClaims[3].name: Required"]),
        (spec(json!({"overhead": {"cpu": "10m", "disk": "1"}})), &["spec.overhead.limits[disk]: Invalid", "spec.overhead.limits[disk]: Invalid"]),
        (level(json!({"requests": {"cpu": "2"}, "limits": {"memory": "1Gi"}}), json!({"requests": {"cpu": "1"}})), &[]),
        (level(json!({"requests": {"cpu": "1"}}), json!({"requests": {"cpu": "2"}})), &["spec.resources.requests[cpu]: Invalid"]),
        (level(json!({"limits": {"memory": "1Gi"}}), json!({"limits": {"memory": "2Gi"}, "requests": {"memory": "1Gi"}})),
            &["spec.resources.containers[0][memory].limits: Invalid"]),
        (level(json!({"requests": {"ephemeral-storage": "1"}}), json!({})), &["spec.resources.requests[ephemeral-storage]: NotSupported"]),
        (with(level(json!({"requests": {"cpu": "1"}}), json!({})), json!({"os": {"name": "windows"}})), &["spec.resources: Forbidden"]),
    ]);
}

#[test]
fn security_contexts() {
    let own = |context: Value| container(json!({"securityContext": context}));
    let pod = |context: Value| spec(json!({"securityContext": context}));
    let at = "spec.containers[0].securityContext";
    let of = |field: &str, kind: &str| format!("{at}{field}: {kind}");
    let host = |context: Value, field: &str| with(pod(context), json!({field: true}));
    table().create(&[
        (own(json!({"runAsUser": -1, "runAsGroup": 1i64 << 31})), &[&of(".runAsUser", "Invalid"), &of(".runAsGroup", "Invalid")]),
        (own(json!({"privileged": true, "allowPrivilegeEscalation": false, "capabilities": {"add": ["CAP_SYS_ADMIN"]}})), &[&of("", "Invalid"), &of("", "Invalid")]),
        (own(json!({"procMount": "Unmasked"})), &[&of(".procMount", "Invalid")]),
        (with(own(json!({"procMount": "Unmasked"})), json!({"hostUsers": false})), &[]),
        (own(json!({"seccompProfile": {"type": "Localhost"}, "appArmorProfile": {"type": "Localhost"}})),
            &[&of(".seccompProfile.localhostProfile", "Required"), &of(".appArmorProfile.localhostProfile", "Required")]),
        (own(json!({"seccompProfile": {"type": "Localhost", "localhostProfile": "../x"}, "appArmorProfile": {"type": "Localhost", "localhostProfile": " x "}})),
            &[&of(".seccompProfile.localhostProfile", "Invalid"), &of(".appArmorProfile.localhostProfile", "Invalid")]),
        (own(json!({"seccompProfile": {"type": "Unconfined", "localhostProfile": "x"}, "appArmorProfile": {"type": "Unconfined", "localhostProfile": "x"}})),
            &[&of(".seccompProfile.localhostProfile", "Invalid"), &of(".appArmorProfile.localhostProfile", "Invalid")]),
        (own(json!({"seccompProfile": {"type": "x"}, "appArmorProfile": {}})), &[&of(".seccompProfile.type", "NotSupported"), &of(".appArmorProfile.type", "Required")]),
        (pod(json!({"fsGroup": -1, "runAsUser": -1, "supplementalGroups": [5, -1]})),
            &["spec.securityContext.fsGroup: Invalid", "spec.securityContext.runAsUser: Invalid", "spec.securityContext.supplementalGroups[1]: Invalid"]),
        (pod(json!({"sysctls": [{"name": "net.ipv4.x", "value": "1"}, {"name": "net.ipv4.x", "value": "2"}, {"name": ""}, {"name": "_a"}]})),
            &["spec.securityContext.sysctls[1].name: Duplicate", "spec.securityContext.sysctls[2].name: Required", "spec.securityContext.sysctls[3].name: Invalid"]),
        (host(json!({"sysctls": [{"name": "net/ipv4/x", "value": "1"}, {"name": "kernel.sem", "value": "1"}]}), "hostNetwork"),
            &["spec.securityContext.sysctls[0].name: Invalid"]),
        (host(json!({"sysctls": [{"name": "net.ipv4.x", "value": "1"}, {"name": "kernel.sem", "value": "1"}]}), "hostIPC"),
            &["spec.securityContext.sysctls[1].name: Invalid"]),
        (pod(json!({"fsGroupChangePolicy": "x", "supplementalGroupsPolicy": "y", "seLinuxChangePolicy": "MountOption"})), &[
            "spec.securityContext.fsGroupChangePolicy: NotSupported", "spec.securityContext.supplementalGroupsPolicy: NotSupported",
            "spec.securityContext.seLinuxChangePolicy: NotSupported"]),
        (spec(json!({"hostPID": true, "shareProcessNamespace": true})), &["spec.securityContext.shareProcessNamespace: Invalid"]),
        (spec(json!({"hostUsers": false, "hostNetwork": true, "hostPID": true, "hostIPC": true})), &["spec.hostNetwork: Forbidden", "spec.HostPID: Forbidden", "spec.HostIPC: Forbidden"]),
        (spec(json!({"os": {"name": "plan9"}})), &["spec.os: NotSupported"]),
        (spec(json!({"os": {"name": ""}})), &["spec.os.name: Required"]),
        (with(own(json!({"windowsOptions": {"runAsUserName": "x"}})), json!({"os": {"name": "linux"}, "securityContext": {"windowsOptions": {}}})),
            &["spec.securityContext.windowsOptions: Forbidden", &of(".windowsOptions", "Forbidden")]),
        (with(own(json!({"privileged": false, "runAsUser": 1})), json!({"os": {"name": "windows"}, "hostPID": true, "securityContext": {"runAsUser": 1, "sysctls": [{"name": "a", "value": "b"}]}})), &[
            "spec.hostPID: Forbidden", "spec.securityContext.sysctls: Forbidden", "spec.securityContext.runAsUser: Forbidden",
            &of(".privileged", "Forbidden"), &of(".runAsUser", "Forbidden")]),
    ]);
}

/// Upstream's `TestValidateWindowsSecurityContextOptions`, `TestValidateWindowsHostProcessPod`.
#[test]
fn windows() {
    let name = |name: &str| spec(json!({"securityContext": {"windowsOptions": {"runAsUserName": name}}}));
    let at = "spec.securityContext.windowsOptions.runAsUserName: Invalid";
    let hosted = |pod: Option<bool>, own: Option<bool>, network: bool| {
        with(
            container(json!({"securityContext": {"windowsOptions": {"hostProcess": own}}})),
            json!({"hostNetwork": network, "securityContext": {"windowsOptions": {"hostProcess": pod}}}),
        )
    };
    table().create(&[
        (name("fo'o"), &[]),
        (name("NT AUTHORITY\\NETWORK SERVICE"), &[]),
        (name("sub.domain.example.com\\user"), &[]),
        (name(""), &[at]),
        (name("a\u{1}"), &[at]),
        (name("a\\b\\c"), &[at]),
        (name("\\user"), &[at]),
        (name("domain\\"), &[at]),
        (name(&format!("{}\\user", "a".repeat(256))), &[at, at]),
        (name(&"a".repeat(105)), &[at]),
        (name("... "), &[at]),
        (name("a/b"), &[at]),
        (spec(json!({"securityContext": {"windowsOptions": {"gmsaCredentialSpecName": "a_b", "gmsaCredentialSpec": ""}}})), &[
            "spec.securityContext.windowsOptions.gmsaCredentialSpecName: Invalid", "spec.securityContext.windowsOptions.gmsaCredentialSpec: Invalid"]),
        (hosted(Some(true), None, true), &[]),
        (hosted(None, Some(true), true), &[]),
        (hosted(None, Some(true), false), &["spec.hostNetwork: Invalid"]),
        (hosted(Some(true), Some(false), true), &["spec.containers[0].securityContext.windowsOptions.hostProcess: Invalid"]),
        (with(spec(json!({"containers": [{"name": "a", "image": "i", "securityContext": {"windowsOptions": {"hostProcess": true}}}, {"name": "b", "image": "i"}]})),
            json!({"hostNetwork": true})), &["spec: Invalid"]),
    ]);
}

#[test]
fn where_to_run() {
    let node = |requirement: Value| {
        spec(
            json!({"affinity": {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [requirement]}}}}),
        )
    };
    let expression = |fields: Value| node(json!({"matchExpressions": [fields]}));
    let field = |fields: Value| node(json!({"matchFields": [fields]}));
    let pods = |kind: &str, term: Value| {
        spec(json!({"affinity": {kind: {"requiredDuringSchedulingIgnoredDuringExecution": [term]}}}))
    };
    let spread = |list: Value| spec(json!({"topologySpreadConstraints": list}));
    let one = |fields: Value| {
        let mut whole = json!({"maxSkew": 1, "topologyKey": "k", "whenUnsatisfiable": "DoNotSchedule"});
        whole.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
        whole
    };
    let at = "spec.affinity.nodeAffinity.requiredDuringSchedulingIgnoredDuringExecution.nodeSelectorTerms";
    let of = |field: &str, kind: &str| format!("{at}{field}: {kind}");
    let term = "spec.affinity.podAffinity.requiredDuringSchedulingIgnoredDuringExecution[0]";
    let in_term = |field: &str, kind: &str| format!("{term}{field}: {kind}");
    table().create(&[
        (expression(json!({"key": "k", "operator": "In", "values": ["-bad-"]})), &[&of("[0].matchExpressions[0].values[0]", "Invalid")]),
        (expression(json!({"key": "a b", "operator": "In"})), &[&of("[0].matchExpressions[0].values", "Required"), &of("[0].matchExpressions[0].key", "Invalid")]),
        (expression(json!({"key": "k", "operator": "Exists", "values": ["v"]})), &[&of("[0].matchExpressions[0].values", "Forbidden")]),
        (expression(json!({"key": "k", "operator": "Gt", "values": ["1", "2"]})), &[&of("[0].matchExpressions[0].values", "Required")]),
        (expression(json!({"key": "k", "operator": "x"})), &[&of("[0].matchExpressions[0].operator", "Invalid")]),
        (field(json!({"key": "metadata.name", "operator": "In", "values": ["n"]})), &[]),
        (field(json!({"key": "metadata.name", "operator": "Exists"})), &[&of("[0].matchFields[0].operator", "Invalid")]),
        (field(json!({"key": "metadata.namespace", "operator": "In", "values": ["a", "b"]})), &[&of("[0].matchFields[0].values", "Required"), &of("[0].matchFields[0].key", "Invalid")]),
        (spec(json!({"affinity": {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {}}}})), &[&of("", "Required")]),
        (spec(json!({"affinity": {"nodeAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": [{"weight": 199, "preference": {"matchExpressions": [{"key": "k", "operator": "In", "values": ["-bad-"]}]}}]}}})),
            &["spec.affinity.nodeAffinity.preferredDuringSchedulingIgnoredDuringExecution[0].weight: Invalid"]),
        (pods("podAffinity", json!({"topologyKey": "zone", "namespaces": ["a"], "labelSelector": {"matchLabels": {"a": "b"}}})), &[]),
        (pods("podAffinity", json!({"namespaces": ["A"], "labelSelector": {"matchExpressions": [{"key": "k", "operator": "In", "values": ["-bad-"]}]}})), &[
            &in_term(".labelSelector.matchExpressions[0].values[0]", "Invalid"), &in_term(".namespace", "Invalid"), &in_term(".topologyKey", "Required"),
            &in_term(".topologyKey", "Invalid"), &in_term(".topologyKey", "Invalid")]),
        (pods("podAffinity", json!({"topologyKey": "zone", "matchLabelKeys": ["a"]})), &[&in_term(".matchLabelKeys", "Forbidden")]),
        (pods("podAffinity", json!({"topologyKey": "zone", "labelSelector": {"matchLabels": {"a": "b"}}, "matchLabelKeys": ["c"], "mismatchLabelKeys": ["c"]})), &[&in_term(".matchLabelKeys[0]", "Invalid")]),
        (spread(json!([one(json!({}))])), &[]),
        (spread(json!([one(json!({"maxSkew": 0, "topologyKey": "", "whenUnsatisfiable": "x"}))])), &[
            "spec.topologySpreadConstraints[0].maxSkew: Invalid", "spec.topologySpreadConstraints[0].topologyKey: Required",
            "spec.topologySpreadConstraints[0].whenUnsatisfiable: NotSupported"]),
        (spread(json!([one(json!({})), one(json!({}))])), &["spec.topologySpreadConstraints[0].{topologyKey, whenUnsatisfiable}: Duplicate"]),
        (spread(json!([one(json!({"minDomains": 0, "whenUnsatisfiable": "ScheduleAnyway", "nodeTaintsPolicy": "x", "matchLabelKeys": ["a"]}))])), &[
            "spec.topologySpreadConstraints[0].minDomains: Invalid", "spec.topologySpreadConstraints[0].minDomains: Invalid",
            "spec.topologySpreadConstraints[0].nodeTaintsPolicy: NotSupported", "spec.topologySpreadConstraints[0].matchLabelKeys: Forbidden"]),
        (spec(json!({"nodeSelector": {"a b": "c"}})), &["spec.nodeSelector: Invalid"]),
        (spec(json!({"nodeName": "a_b", "schedulingGates": [{"name": "a"}]})), &["spec.nodeName: Invalid", "spec.nodeName: Forbidden"]),
        (spec(json!({"schedulingGates": [{"name": "a b"}, {"name": "c"}, {"name": "c"}]})), &["spec.schedulingGates[0]: Invalid", "spec.schedulingGates[2]: Duplicate"]),
        (spec(json!({"tolerations": [{"operator": "Equal", "value": "a"}, {"key": "k", "operator": "Exists", "value": "v"}, {"key": "k", "operator": "Lt", "value": "1"},
            {"key": "k", "value": "a b", "effect": "x"}, {"key": "k", "operator": "x", "tolerationSeconds": 5, "effect": "NoSchedule"}]})), &[
            "spec.tolerations[0].operator: Invalid", "spec.tolerations[1].operator: Invalid", "spec.tolerations[2].operator: NotSupported",
            "spec.tolerations[3].operator: Invalid", "spec.tolerations[3].effect: NotSupported", "spec.tolerations[4].effect: Invalid",
            "spec.tolerations[4].operator: NotSupported"]),
    ]);
}

#[test]
fn the_rest_of_a_spec() {
    let dns = |fields: Value| spec(json!({"dnsConfig": fields}));
    table().create(&[
        (spec(json!({"restartPolicy": "x", "dnsPolicy": "y"})), &["spec.restartPolicy: NotSupported", "spec.dnsPolicy: NotSupported"]),
        (spec(json!({"dnsPolicy": "None"})), &["spec.dnsConfig: Required"]),
        (spec(json!({"dnsPolicy": "None", "dnsConfig": {"searches": ["a b"]}})), &["spec.dnsConfig.nameservers: Required"]),
        (dns(json!({"nameservers": ["1.1.1.1", "::1", "01.1.1.1", "x"], "searches": ["a_b.c.", ".", "a b"], "options": [{"value": "v"}]})), &[
            "spec.dnsConfig.nameservers: Invalid", "spec.dnsConfig.nameservers[2]: Invalid", "spec.dnsConfig.nameservers[3]: Invalid",
            "spec.dnsConfig.searches[2]: Invalid", "spec.dnsConfig.options[0]: Required"]),
        (dns(json!({"searches": vec!["a"; 33]})), &["spec.dnsConfig.searches: Invalid"]),
        (dns(json!({"searches": vec!["a".repeat(63); 32]})), &[]),
        (dns(json!({"searches": vec![vec!["a".repeat(63); 3].join("."); 11]})), &["spec.dnsConfig.searches: Invalid"]),
        (spec(json!({"hostAliases": [{"ip": "999.1.1.1", "hostnames": ["A"]}]})), &["spec.hostAliases[0].ip: Invalid", "spec.hostAliases[0].hostnames[0]: Invalid"]),
        (spec(json!({"readinessGates": [{"conditionType": "a b"}]})), &["spec.readinessGates[0].conditionType: Invalid"]),
        (spec(json!({"activeDeadlineSeconds": 0, "hostname": "A", "subdomain": "B", "serviceAccountName": "C", "priorityClassName": "D", "runtimeClassName": "", "preemptionPolicy": "E"})), &[
            "spec.serviceAccountName: Invalid", "spec.activeDeadlineSeconds: Invalid", "spec.hostname: Invalid", "spec.subdomain: Invalid",
            "spec.priorityClassName: Invalid", "spec.runtimeClassName: Invalid", "spec.preemptionPolicy: NotSupported"]),
        (spec(json!({"hostnameOverride": "Not a host", "setHostnameAsFQDN": true, "hostNetwork": true})),
            &["spec.hostnameOverride: Forbidden", "spec.hostnameOverride: Forbidden", "spec.hostnameOverride: Invalid"]),
        (spec(json!({"hostnameOverride": "a".repeat(65)})), &["spec.hostnameOverride: TooLong"]),
        (with(container(json!({"ports": [{"containerPort": 1, "hostPort": 2}]})), json!({"hostNetwork": true})), &["spec.containers[0].ports[0].hostPort: Invalid"]),
        (json!({"metadata": {"annotations": {"kubernetes.io/config.mirror": "x", "controller.kubernetes.io/pod-deletion-cost": "+1"}}}), &[
            "metadata.annotations[kubernetes.io/config.mirror]: Invalid", "metadata.annotations[controller.kubernetes.io/pod-deletion-cost]: Invalid"]),
    ]);
}

/// Upstream's `TestValidatePodUpdate`.
#[test]
fn update() {
    let table = table();
    let none = json!({});
    let frozen = "spec: Forbidden";
    let gates = |fields: Value| {
        let mut whole = json!({"schedulingGates": [{"name": "g"}]});
        whole.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
        spec(whole)
    };
    let node = |terms: Value| {
        gates(
            json!({"affinity": {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": terms}}}}),
        )
    };
    let key = |key: &str| json!({"key": key, "operator": "Exists"});
    let toleration = |seconds: Option<i64>| {
        spec(
            json!({"tolerations": [{"key": "k", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": seconds}]}),
        )
    };
    let deadline = |seconds: Option<i64>| spec(json!({"activeDeadlineSeconds": seconds}));
    let grace = |seconds: i64| spec(json!({"terminationGracePeriodSeconds": seconds}));
    let terms = "spec.affinity.nodeAffinity.requiredDuringSchedulingIgnoredDuringExecution.nodeSelectorTerms";
    let (terms_all, terms_one) = (format!("{terms}: Invalid"), format!("{terms}[0]: Invalid"));
    let rows: &[(Value, Value, &[&str])] = &[
        (none.clone(), json!({"metadata": {"labels": {"a": "b"}, "annotations": {"c": "d"}}}), &[]),
        (
            container(json!({"imagePullPolicy": "Always"})),
            container(json!({"image": "j", "imagePullPolicy": "Always"})),
            &[],
        ),
        (
            container(json!({"imagePullPolicy": "Always"})),
            container(json!({"image": "", "imagePullPolicy": "Always"})),
            &["spec.containers[0].image: Required", "spec.containers[0].image: Required"],
        ),
        (none.clone(), container(json!({"command": ["x"]})), &[frozen]),
        (
            none.clone(),
            spec(json!({"containers": [{"name": "c", "image": "i"}, {"name": "d", "image": "i"}]})),
            &["spec.containers: Forbidden"],
        ),
        (
            none.clone(),
            spec(json!({"initContainers": [{"name": "i", "image": "x"}]})),
            &["spec.initContainers: Forbidden"],
        ),
        (none.clone(), spec(json!({"hostNetwork": true})), &[frozen]),
        (none.clone(), container(json!({"resources": {"requests": {"cpu": "1"}}})), &[frozen]),
        (deadline(None), deadline(Some(5)), &[]),
        (deadline(Some(5)), deadline(Some(3)), &[]),
        (deadline(Some(5)), deadline(Some(6)), &["spec.activeDeadlineSeconds: Invalid"]),
        (deadline(Some(5)), deadline(None), &["spec.activeDeadlineSeconds: Invalid"]),
        (
            deadline(Some(5)),
            deadline(Some(-1)),
            &["spec.activeDeadlineSeconds: Invalid", "spec.activeDeadlineSeconds: Invalid"],
        ),
        (grace(-1), grace(1), &[]),
        (grace(-1), grace(2), &[frozen]),
        (none.clone(), toleration(Some(5)), &[]),
        (toleration(Some(5)), toleration(Some(6)), &[]),
        (toleration(Some(5)), none.clone(), &["spec.tolerations: Forbidden"]),
        (gates(json!({})), none.clone(), &[]),
        (none.clone(), gates(json!({})), &["spec.schedulingGates[0].name: Forbidden"]),
        (gates(json!({})), gates(json!({"nodeSelector": {"a": "b"}})), &[]),
        (
            gates(json!({"nodeSelector": {"a": "b"}})),
            gates(json!({"nodeSelector": {"a": "c"}})),
            &["spec.nodeSelector: Invalid"],
        ),
        (none.clone(), spec(json!({"nodeSelector": {"a": "b"}})), &[frozen]),
        (gates(json!({})), node(json!([{"matchExpressions": [key("a")]}])), &[]),
        (
            node(json!([{"matchExpressions": [key("a")]}])),
            node(json!([{"matchExpressions": [key("a"), key("b")]}])),
            &[],
        ),
        (
            node(json!([{"matchExpressions": [key("a")]}])),
            node(json!([{"matchExpressions": [key("b")]}])),
            &[&terms_one],
        ),
        (
            node(json!([{"matchExpressions": [key("a")]}])),
            node(json!([{"matchExpressions": [key("a")]}, {"matchExpressions": [key("b")]}])),
            &[&terms_all],
        ),
        (node(json!([{}])), node(json!([{"matchExpressions": [key("a")]}])), &[&terms_one]),
        (
            gates(json!({})),
            gates(
                json!({"affinity": {"podAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [{"topologyKey": "k"}]}}}),
            ),
            &[frozen],
        ),
        (
            json!({"metadata": {"annotations": {"container.apparmor.security.beta.kubernetes.io/c": "unconfined"}}}),
            none.clone(),
            &["metadata.annotations[container.apparmor.security.beta.kubernetes.io/c]: Forbidden"],
        ),
    ];
    for (old, new, expect) in rows {
        table.change(old, new, "", expect);
    }
}

/// What rules that came later do not take from pods that are there.
#[test]
fn old_pods_keep_what_they_have() {
    let table = table();
    let selector = json!({"matchExpressions": [{"key": "k", "operator": "In", "values": ["-bad-"]}]});
    for pod in [
        container(json!({"resources": {"limits": {"cpu": "1", "hugepages-2Mi": "3Mi"}}})),
        spec(
            json!({"affinity": {"podAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [{"topologyKey": "k", "labelSelector": selector}]}}}),
        ),
        spec(
            json!({"affinity": {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [selector]}}}}),
        ),
        spec(
            json!({"topologySpreadConstraints": [{"maxSkew": 1, "topologyKey": "k", "whenUnsatisfiable": "DoNotSchedule", "labelSelector": selector}]}),
        ),
        spec(json!({"hostNetwork": true, "securityContext": {"sysctls": [{"name": "net.x", "value": "1"}]}})),
        spec(json!({"securityContext": {"seLinuxChangePolicy": "MountOption"}})),
        spec(json!({"tolerations": [{"key": "k", "operator": "Lt", "value": "5"}]})),
        spec(json!({"hostUsers": false, "hostNetwork": true})),
        spec(
            json!({"initContainers": [{"name": "i", "image": "i", "resizePolicy": [{"resourceName": "cpu", "restartPolicy": "RestartContainer"}]}]}),
        ),
        json!({"metadata": {"annotations": {"controller.kubernetes.io/pod-deletion-cost": "+1"}}}),
        spec(
            json!({"serviceAccountName": "a", "volumes": [{"name": "v", "projected": {"sources": [{"serviceAccountToken": {"path": "/a"}}]}}]}),
        ),
    ] {
        let mut changed = pod.clone();
        changed["metadata"]["labels"] = json!({"a": "b"});
        let mut errors = ErrorList::new();
        validate::create(&table.object(&pod), &mut errors);
        assert!(!errors.is_empty(), "{pod}");
        table.change(&pod, &changed, "", &[]);
    }
}

/// Upstream's `TestValidatePodResize`.
#[test]
fn resize() {
    let table = table();
    let asks = |resources: Value| container(json!({"resources": resources}));
    let burst = |cpu: &str| asks(json!({"requests": {"cpu": cpu}}));
    let init = |cpu: &str, fields: Value| {
        let mut whole = json!({"name": "i", "image": "i", "resources": {"requests": {"cpu": cpu}}});
        whole.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
        with(burst("1"), json!({"initContainers": [whole]}))
    };
    let level = |cpu: &str| with(burst("1"), json!({"resources": {"requests": {"cpu": cpu}}}));
    let restart = json!({"resizePolicy": [{"resourceName": "cpu", "restartPolicy": "RestartContainer"}]});
    let rows: &[(Value, Value, &[&str])] = &[
        (burst("1"), burst("2"), &[]),
        (burst("1"), asks(json!({"requests": {"cpu": "1", "memory": "1Gi"}})), &[]),
        (
            burst("1"),
            asks(json!({"requests": {"memory": "1Gi"}})),
            &["spec.containers[0].resources.requests: Forbidden"],
        ),
        (burst("1"), asks(json!({})), &["spec: Invalid", "spec.containers[0].resources.requests: Forbidden"]),
        (
            burst("1"),
            asks(json!({"requests": {"cpu": "1", "ephemeral-storage": "1Gi"}})),
            &["spec: Forbidden"],
        ),
        (burst("1"), asks(json!({"limits": {"cpu": "1", "memory": "1Gi"}})), &["spec: Invalid"]),
        (
            burst("1"),
            spec(
                json!({"containers": [{"name": "d", "image": "i", "resources": {"requests": {"cpu": "1"}}}]}),
            ),
            &["spec.containers[0].name: Forbidden"],
        ),
        (
            burst("1"),
            spec(
                json!({"containers": [{"name": "c", "image": "i", "resources": {"requests": {"cpu": "1"}}}, {"name": "d", "image": "i"}]}),
            ),
            &["spec.containers: Forbidden"],
        ),
        // Whatever else the client sends is not looked at.
        (burst("1"), with(burst("2"), json!({"nodeName": "elsewhere"})), &[]),
        (init("1", json!({})), init("2", json!({})), &[]),
        (init("1", json!({"restartPolicy": "Always"})), init("2", json!({"restartPolicy": "Always"})), &[]),
        (init("1", restart.clone()), init("2", restart.clone()), &["spec.initContainers[0]: Forbidden"]),
        (level("1"), level("2"), &[]),
        (
            level("2"),
            with(burst("1"), json!({"resources": {"requests": {"memory": "1Gi"}}})),
            &["spec.resources.requests: Forbidden"],
        ),
        (
            with(
                asks(json!({"requests": {"cpu": "1"}, "claims": [{"name": "g"}]})),
                json!({"resourceClaims": [{"name": "g", "resourceClaimName": "x"}]}),
            ),
            with(
                asks(json!({"requests": {"cpu": "2"}, "claims": [{"name": "g"}]})),
                json!({"resourceClaims": [{"name": "g", "resourceClaimName": "x"}]}),
            ),
            &["spec: Forbidden"],
        ),
    ];
    for (old, new, expect) in rows {
        table.change(old, new, "resize", expect);
    }
    let windows = with(burst("1"), json!({"os": {"name": "windows"}}));
    table.change(&windows, &windows, "resize", &["[]: Forbidden"]);
    let mut elsewhere = burst("1");
    elsewhere["status"] = json!({"containerStatuses": [{"name": "c", "state": {"running": {}}}]});
    table.change(&elsewhere, &elsewhere, "resize", &["spec: Forbidden"]);
}

/// Upstream's `TestValidatePodStatusUpdate` and its neighbours.
#[test]
fn status_updates() {
    let table = table();
    let status = |fields: Value| json!({"status": fields});
    let ended = |code: i64| json!([{"name": "c", "state": {"terminated": {"exitCode": code}}}]);
    let runs = json!([{"name": "c", "state": {"running": {}}}]);
    let policy = |policy: &str, fields: Value, statuses: Value| {
        let mut pod = with(container(fields), json!({"restartPolicy": policy}));
        pod["status"] = json!({"containerStatuses": statuses});
        pod
    };
    let again = "status.containerStatuses[0].state: Forbidden";
    let none = json!({});
    let rule = json!({"restartPolicy": "Never", "restartPolicyRules": [{"action": "Restart", "exitCodes": {"operator": "In", "values": [42]}}]});
    let rows: &[(Value, Value, &[&str])] = &[
        (none.clone(), status(json!({"phase": "Running", "nominatedNodeName": "n"})), &[]),
        (none.clone(), status(json!({"nominatedNodeName": "a_b"})), &["status.nominatedNodeName: Invalid"]),
        (
            spec(json!({"nodeName": "n"})),
            status(json!({"nominatedNodeName": "m"})),
            &["status.nominatedNodeName: Forbidden"],
        ),
        (
            none.clone(),
            status(json!({"conditions": [{"type": "a b", "status": "True", "observedGeneration": -1}]})),
            &["status.conditions[0].observedGeneration: Invalid", "status.conditions[0].Type: Invalid"],
        ),
        (
            status(json!({"qosClass": "BestEffort"})),
            status(json!({"qosClass": "Burstable"})),
            &["status.qosClass: Invalid"],
        ),
        (status(json!({"qosClass": "BestEffort"})), status(json!({"phase": "Running"})), &[]),
        (policy("Never", none.clone(), ended(0)), policy("Never", none.clone(), runs.clone()), &[again]),
        (
            policy("OnFailure", none.clone(), ended(0)),
            policy("OnFailure", none.clone(), runs.clone()),
            &[again],
        ),
        (policy("OnFailure", none.clone(), ended(1)), policy("OnFailure", none.clone(), runs.clone()), &[]),
        (policy("Always", none.clone(), ended(0)), policy("Always", none.clone(), runs.clone()), &[]),
        (policy("Never", rule.clone(), ended(42)), policy("Never", rule.clone(), runs.clone()), &[]),
        (policy("Always", rule.clone(), ended(1)), policy("Always", rule.clone(), runs.clone()), &[again]),
        (
            none.clone(),
            status(json!({"podIP": "1.1.1.1", "podIPs": [{"ip": "1.1.1.1"}, {"ip": "::1"}]})),
            &[],
        ),
        (
            none.clone(),
            status(json!({"podIPs": [{"ip": "1.1.1.1"}, {"ip": "2.2.2.2"}]})),
            &["status.podIPs: Invalid"],
        ),
        (none.clone(), status(json!({"podIPs": [{"ip": "01.1.1.1"}]})), &["status.podIPs[0]: Invalid"]),
        (
            status(json!({"podIPs": [{"ip": "01.1.1.1"}]})),
            status(json!({"podIPs": [{"ip": "01.1.1.1"}]})),
            &[],
        ),
        (
            none.clone(),
            status(json!({"hostIP": "1.1.1.1", "hostIPs": [{"ip": "2.2.2.2"}]})),
            &["status.hostIPs[0].ip: Invalid"],
        ),
        (
            none.clone(),
            status(json!({"resourceClaimStatuses": [{"name": "x", "resourceClaimName": "a_b"}]})),
            &[
                "status.resourceClaimStatuses[0].name: Invalid",
                "status.resourceClaimStatuses[0].resourceClaimName: Invalid",
            ],
        ),
        (
            none.clone(),
            status(
                json!({"containerStatuses": [{"name": "c", "user": {"linux": {"uid": -1, "gid": 0, "supplementalGroups": [-1]}}}]}),
            ),
            &[
                "status.containerStatuses[0].user.linux.uid: Invalid",
                "status.containerStatuses[0].user.linux.supplementalGroups[0]: Invalid",
            ],
        ),
        (
            none.clone(),
            status(
                json!({"containerStatuses": [{"name": "c", "allocatedResourcesStatus": [{"name": "claim:x", "resources": [
            {"resourceID": "r", "health": "Fine"}, {"resourceID": "r", "health": "Healthy", "message": ""}]}]}]}),
            ),
            &[
                "status.containerStatuses[0].allocatedResourcesStatus[0].name: Invalid",
                "status.containerStatuses[0].allocatedResourcesStatus[0].resources[0].health: NotSupported",
                "status.containerStatuses[0].allocatedResourcesStatus[0].resources[1].message: Required",
                "status.containerStatuses[0].allocatedResourcesStatus[0].resources[1].resourceID: Duplicate",
            ],
        ),
        (
            none.clone(),
            status(
                json!({"extendedResourceClaimStatus": {"resourceClaimName": "", "requestMappings": [{"containerName": "x", "resourceName": "r", "requestName": "q"}]}}),
            ),
            &[
                "status.extendedResourceClaimStatus.requestMappings[0].containerName: Invalid",
                "status.extendedResourceClaimStatus.resourceClaimName: Required",
            ],
        ),
    ];
    for (old, new, expect) in rows {
        // The engine keeps the spec of the old pod.
        let (old, mut new) = (table.object(old), table.object(new));
        new["spec"] = old["spec"].clone();
        prepare_for_update(&mut new, &old, "status");
        let mut errors = ErrorList::new();
        validate_update(&new, &old, "status", &mut errors);
        let got: Vec<String> =
            errors.iter().map(|error| format!("{}: {:?}", error.field, error.kind)).collect();
        assert_eq!(got, *expect, "{new}");
    }
}

#[test]
fn a_status_keeps_what_its_writer_does_not_know() {
    let condition = |generation: Option<i64>| json!({"type": "Ready", "observedGeneration": generation});
    let old = json!({"metadata": {"ownerReferences": [{"name": "o"}]}, "status": {"qosClass": "Burstable", "observedGeneration": 3, "conditions": [condition(Some(2))]}});
    let mut new = json!({"metadata": {}, "status": {"conditions": [condition(None), condition(None)]}});
    prepare_for_update(&mut new, &old, "status");
    assert_eq!(new["metadata"]["ownerReferences"], old["metadata"]["ownerReferences"]);
    assert_eq!(
        new["status"],
        json!({"qosClass": "Burstable", "observedGeneration": 3, "conditions": [condition(Some(2)), condition(None)]})
    );
}

/// Upstream's `TestApplyMatchLabelKeys` and `TestMutatePodAffinity`.
#[test]
fn label_keys_become_expressions() {
    let term = json!({"labelSelector": {"matchLabels": {"a": "b"}}, "matchLabelKeys": ["x", "y"], "mismatchLabelKeys": ["z"]});
    let mut pod = json!({"metadata": {"labels": {"x": "1", "z": "2"}}, "spec": {
        "affinity": {"podAntiAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": [{"weight": 1, "podAffinityTerm": term}]}},
        "topologySpreadConstraints": [{"labelSelector": {}, "matchLabelKeys": ["x"]}, {"matchLabelKeys": ["x"]}]}});
    add_label_keys(&mut pod);
    let preferred =
        &pod["spec"]["affinity"]["podAntiAffinity"]["preferredDuringSchedulingIgnoredDuringExecution"][0];
    assert_eq!(
        preferred["podAffinityTerm"]["labelSelector"]["matchExpressions"],
        json!([
        {"key": "x", "operator": "In", "values": ["1"]}, {"key": "z", "operator": "NotIn", "values": ["2"]}])
    );
    let constraints = &pod["spec"]["topologySpreadConstraints"];
    assert_eq!(
        constraints[0]["labelSelector"],
        json!({"matchExpressions": [{"key": "x", "operator": "In", "values": ["1"]}]})
    );
    assert_eq!(constraints[1], json!({"matchLabelKeys": ["x"]}));
}

/// The words, for some of each kind.
#[test]
fn words() {
    let table = table();
    let check = |patch: Value, expect: &str| {
        let mut errors = ErrorList::new();
        validate::create(&table.object(&patch), &mut errors);
        assert_eq!(aggregate(&errors).unwrap_or_default(), expect);
    };
    check(spec(json!({"containers": []})), "spec.containers: Required value");
    check(
        container(json!({"resources": {"requests": {"cpu": "2"}, "limits": {"cpu": "1"}}})),
        "spec.containers[0].resources.requests: Invalid value: \"2\": must be less than or equal to cpu limit of 1",
    );
    check(
        container(json!({"env": [{"name": "A", "valueFrom": {"fieldRef": {"fieldPath": "spec.nope"}}}]})),
        "spec.containers[0].env[0].valueFrom.fieldRef.fieldPath: Invalid value: \"spec.nope\": error converting \
         fieldPath: field label not supported: spec.nope",
    );
    check(
        spec(json!({"restartPolicy": "Sometimes"})),
        "spec.restartPolicy: Unsupported value: \"Sometimes\": supported values: \"Always\", \"OnFailure\", \"Never\"",
    );
    check(
        spec(json!({"tolerations": [{"operator": "Equal", "value": "x"}]})),
        "spec.tolerations[0].operator: Invalid value: \"Equal\": operator must be Exists when `key` is empty, which \
         means \"match all values and all keys\"",
    );
    check(
        container(json!({"volumeMounts": [{"name": "v", "mountPath": "/v"}]})),
        "spec.containers[0].volumeMounts[0].name: Not found: \"v\"",
    );
    check(
        container(json!({"resources": {"claims": [{"name": "x"}]}})),
        "spec.containers[0].resources.claims[0]: Not found: \"x\": must be one of the names in pod.spec.resourceClaims \
         which is empty",
    );
    let mut errors = ErrorList::new();
    let (old, new) = (table.object(&json!({})), table.object(&spec(json!({"hostNetwork": true}))));
    validate_update(&new, &old, "", &mut errors);
    let text = aggregate(&errors).unwrap();
    assert!(
        text.starts_with(
            "spec: Forbidden: pod updates may not change fields other than `spec.containers[*].image`,\
             `spec.initContainers[*].image`,`spec.activeDeadlineSeconds`,`spec.tolerations` (only additions to \
             existing tolerations),`spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was previously \
             negative)\n@@ -"
        ) && text.contains("\n+ \"hostNetwork\": true,\n"),
        "{text}"
    );
}

/// Upstream's `TestWarnings`.
#[test]
fn warned() {
    let table = table();
    let port = |fields: Value| container(json!({"ports": fields}));
    let nameless = "a null labelSelector results in matching no pod";
    table.warnings(json!({}), &[]);
    table.warnings(json!({"metadata": {"name": "a.b"}}), &[
        "metadata.name: this is used in the Pod's hostname, which can result in surprising behavior; a DNS label is \
         recommended: [must not contain dots]"]);
    table.warnings(spec(json!({"nodeSelector": {"beta.kubernetes.io/arch": "x"}})),
        &["spec.nodeSelector[beta.kubernetes.io/arch]: deprecated since v1.14; use \"kubernetes.io/arch\" instead"]);
    table.warnings(spec(json!({"topologySpreadConstraints": [{"topologyKey": "beta.kubernetes.io/os"}]})), &[
        "spec.topologySpreadConstraints[0].topologyKey: beta.kubernetes.io/os is deprecated since v1.14; use \"kubernetes.io/os\" instead",
        &format!("spec.topologySpreadConstraints[0].labelSelector: {nameless}")]);
    table.warnings(spec(json!({"affinity": {"podAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": [{"podAffinityTerm": {}}]}}})), &[
        &format!("spec.affinity.podAffinity.preferredDuringSchedulingIgnoredDuringExecution[0].podAffinityTerm.labelSelector: {nameless}")]);
    table.warnings(json!({"metadata": {"annotations": {"security.alpha.kubernetes.io/sysctls": "x", "seccomp.security.alpha.kubernetes.io/pod": "unconfined"}}}), &[
        "metadata.annotations[security.alpha.kubernetes.io/sysctls]: non-functional in v1.11+; use the \"sysctls\" field instead",
        "metadata.annotations[seccomp.security.alpha.kubernetes.io/pod]: non-functional in v1.27+; use the \"seccompProfile\" field instead"]);
    table.warnings(
        spec(json!({"volumes": [{"name": "v", "gitRepo": {"repository": "r"}}]})),
        &["spec.volumes[0].gitRepo: deprecated in v1.11, and disabled by default in v1.33+"],
    );
    table.warnings(spec(json!({"imagePullSecrets": [{"name": "a"}, {"name": "a"}, {"name": ""}], "hostAliases": [{"ip": "1.1.1.1"}, {"ip": "1.1.1.1"}]})), &[
        "spec.hostAliases[1].ip: duplicate ip \"1.1.1.1\"", "spec.imagePullSecrets[1].name: duplicate name \"a\"",
        "spec.imagePullSecrets[2].name: invalid empty name \"\""]);
    table.warnings(container(json!({"resources": {"requests": {"memory": "200m"}}})),
        &["spec.containers[0].resources.requests[memory]: fractional byte value \"200m\" is invalid, must be an integer"]);
    table.warnings(container(json!({"env": [{"name": "A", "value": "1"}, {"name": "A", "value": "$(A):2"}, {"name": "A", "value": "3"}]})),
        &["spec.containers[0].env[2]: hides previous definition of \"A\", which may be dropped when using apply"]);
    table.warnings(
        port(json!([{"containerPort": 80}, {"containerPort": 80}])),
        &["spec.containers[0].ports[1]: duplicate port definition with spec.containers[0].ports[0]"],
    );
    table.warnings(
        port(json!([{"containerPort": 80, "hostPort": 80}, {"containerPort": 80}])),
        &["spec.containers[0].ports[1]: overlapping port definition with spec.containers[0].ports[0]"],
    );
    table.warnings(port(json!([{"containerPort": 80, "hostPort": 80, "hostIP": "1.1.1.1"}, {"containerPort": 80, "hostPort": 80}])),
        &["spec.containers[0].ports[1]: dangerously ambiguous port definition with spec.containers[0].ports[0]"]);
    table.warnings(port(json!([{"containerPort": 80, "hostIP": "1.1.1.1"}])),
        &["spec.containers[0].ports[0]: hostIP set without hostPort: {Name: HostPort:0 ContainerPort:80 Protocol:TCP HostIP:1.1.1.1}"]);
    table.warnings(port(json!([{"name": "a", "containerPort": 80}, {"name": "a", "containerPort": 81}])), &[
        "spec.containers[0].ports[1]: duplicate port name \"a\" with spec.containers[0].ports[0], services and probes that \
         select ports by name will use spec.containers[0].ports[0]"]);
    // A pod's negative grace is 1 by then; only templates are warned of it.
    table.warnings(spec(json!({"terminationGracePeriodSeconds": -1, "dnsConfig": {"nameservers": ["2001:DB8::1"]}})), &[
        "spec.dnsConfig.nameservers[0]: IPv6 address \"2001:DB8::1\" should be in RFC 5952 canonical format (\"2001:db8::1\")"]);
}

#[test]
fn quality_of_service() {
    let check = |resources: &[Value], expect: &str| {
        let containers: Vec<Value> =
            resources.iter().map(|resources| json!({"resources": resources})).collect();
        assert_eq!(qos_class(&json!({"containers": containers})), expect, "{resources:?}");
    };
    let full =
        json!({"limits": {"cpu": "1", "memory": "1Gi"}, "requests": {"cpu": "1000m", "memory": "1Gi"}});
    check(&[json!({})], "BestEffort");
    check(&[json!({"requests": {"cpu": "0"}})], "BestEffort");
    check(&[json!({"requests": {"cpu": "1"}})], "Burstable");
    check(&[json!({"limits": {"example.com/x": "1"}})], "BestEffort");
    check(std::slice::from_ref(&full), "Guaranteed");
    check(&[full.clone(), json!({})], "Burstable");
    check(
        &[json!({"limits": {"cpu": "1", "memory": "1Gi"}, "requests": {"cpu": "500m", "memory": "1Gi"}})],
        "Burstable",
    );
    assert_eq!(qos_class(&json!({"containers": [{}], "resources": full})), "Guaranteed");
}

/// Upstream's `TestValidatePodTemplate`, `TestValidateReplicationController*`.
#[test]
fn templates() {
    let template =
        json!({"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [{"name": "c", "image": "i"}]}});
    let table = Table::new(
        "",
        "v1",
        "PodTemplate",
        json!({"metadata": {"name": "t", "namespace": "n"}, "template": template}),
    );
    let of = |fields: Value| json!({"template": {"spec": fields}});
    table.create(&[
        (json!({"template": {"metadata": {"labels": {"a b": "c"}, "annotations": {"d e": "f"}}}}), &["template.labels: Invalid", "template.annotations: Invalid"]),
        (of(json!({"restartPolicy": "x"})), &["template.spec.restartPolicy: NotSupported"]),
        (of(json!({"ephemeralContainers": [{"name": "e", "image": "i"}]})), &["template.spec.ephemeralContainers: Forbidden"]),
        // What pods may not have, templates may.
        (of(json!({"containers": [{"name": "c", "image": " i "}]})), &[]),
        (of(json!({"volumes": [{"name": "v", "projected": {"sources": [{"serviceAccountToken": {"path": "a"}}]}}, {"name": "w", "image": {}}]})), &[]),
        (of(json!({"hostNetwork": true, "containers": [{"name": "c", "image": "i", "ports": [{"containerPort": 1}]}]})), &[]),
    ]);
    let lenient = of(
        json!({"containers": [{"name": "c", "image": "i", "resources": {"limits": {"cpu": "1", "hugepages-2Mi": "3Mi"}, "requests": {"hugepages-2Mi": "3Mi"}}}]}),
    );
    table.change(&lenient, &lenient, "", &[]);
    table.warnings(of(json!({"nodeSelector": {"beta.kubernetes.io/arch": "x"}})),
        &["template.spec.nodeSelector[beta.kubernetes.io/arch]: deprecated since v1.14; use \"kubernetes.io/arch\" instead"]);
    let controller = Table::new(
        "",
        "v1",
        "ReplicationController",
        json!({"metadata": {"name": "r", "namespace": "n"},
        "spec": {"selector": {"a": "b"}, "template": template}}),
    );
    controller.create(&[
        (json!({"spec": {"selector": {"a": "c"}}}), &["spec.template.metadata.labels: Invalid"]),
        (
            json!({"spec": {"selector": null, "template": null}}),
            &["spec.selector: Required", "spec.template: Required"],
        ),
        (
            json!({"spec": {"replicas": -1, "minReadySeconds": -1}}),
            &["spec.minReadySeconds: Invalid", "spec.replicas: Invalid"],
        ),
        (
            json!({"spec": {"template": {"spec": {"restartPolicy": "Never", "activeDeadlineSeconds": 5}}}}),
            &[
                "spec.template.spec.restartPolicy: NotSupported",
                "spec.template.spec.activeDeadlineSeconds: Forbidden",
            ],
        ),
    ]);
    let note = |key: &str| json!({"metadata": {"annotations": {format!("non-convertible.kubernetes.io/{key}"): "x"}}});
    let other = json!({"spec": {"selector": {"a": "c"}, "template": {"metadata": {"labels": {"a": "c"}}}}});
    controller.change(&json!({}), &other, "", &[]);
    controller.change(&note("selector"), &other, "", &["spec.selector: Invalid"]);
    controller.change(&note("unknown"), &json!({}), "", &["unknown: NotFound"]);
    let status = |fields: Value| json!({"status": fields});
    controller.change(
        &json!({}),
        &status(
            json!({"replicas": 3, "fullyLabeledReplicas": 3, "readyReplicas": 2, "availableReplicas": 1}),
        ),
        "status",
        &[],
    );
    controller.change(&json!({}), &status(json!({"replicas": 2, "fullyLabeledReplicas": 3, "readyReplicas": 1, "availableReplicas": 2, "observedGeneration": -1})), "status", &[
        "status.observedGeneration: Invalid", "status.fullyLabeledReplicas: Invalid", "status.availableReplicas: Invalid"]);
}
