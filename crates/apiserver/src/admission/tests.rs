//! Each plugin with the cases of its upstream test.

use std::sync::Mutex;

use serde_json::json;

use super::*;
use crate::request::UserInfo;

struct Zero;

impl Entropy for Zero {
    fn fill(&self, bytes: &mut [u8]) {
        bytes.fill(0);
    }
}

fn phase(namespace: &str) -> Option<String> {
    let object = stored("", "namespaces", "", namespace)?;
    Some(object.pointer("/status/phase").and_then(Value::as_str).unwrap_or_default().to_owned())
}

fn stored(_: &str, resource: &str, namespace: &str, name: &str) -> Option<Value> {
    Some(match (resource, namespace, name) {
        ("namespaces", "", "ns") => json!({"status": {"phase": "Active"}}),
        ("namespaces", "", "dying") => json!({"status": {"phase": "Terminating"}}),
        ("serviceaccounts", _, "default") => json!({"metadata": {"name": "default"}}),
        ("serviceaccounts", _, "pulling") => json!({"metadata": {"name": "pulling"},
            "imagePullSecrets": [{"name": "pull"}], "automountServiceAccountToken": false}),
        ("serviceaccounts", _, "strict") => json!({"metadata": {"name": "strict",
            "annotations": {"kubernetes.io/enforce-mountable-secrets": "true"}}, "secrets": [{"name": "mine"}]}),
        ("priorityclasses", "", "high") => json!({"metadata": {"name": "high"}, "value": 1000}),
        ("priorityclasses", "", "never") => {
            json!({"metadata": {"name": "never"}, "value": 7, "preemptionPolicy": "Never"})
        }
        ("runtimeclasses", "", "vm") => json!({"overhead": {"podFixed": {"cpu": "250m"}},
            "scheduling": {"nodeSelector": {"vm": "yes"}, "tolerations": [{"key": "vm", "operator": "Exists"}]}}),
        ("nodes", "", "one") => json!({"metadata": {"name": "one", "uid": "n1",
            "labels": {"topology.kubernetes.io/zone": "z", "topology.kubernetes.io/region": "r", "other": "x"}},
            "status": {"allocatable": {"cpu": "2", "memory": "1Gi"},
                "declaredFeatures": ["InPlacePodVerticalScalingInitContainers"]}}),
        ("nodes", "", "glass") => json!({"metadata": {"labels": {"kubernetes.io/os": "windows"}}}),
        ("storageclasses", "", "wide") => json!({"allowVolumeExpansion": true}),
        ("namespaces", "", "strict") => json!({"status": {"phase": "Active"}, "metadata": {"labels": {
            "pod-security.kubernetes.io/enforce": "baseline", "pod-security.kubernetes.io/warn": "restricted",
            "pod-security.kubernetes.io/warn-version": "v1.20"}}}),
        ("pods", "ns", "mine") => {
            json!({"metadata": {"name": "mine", "uid": "p1"}, "spec": {"nodeName": "one",
            "volumes": [{"projected": {"sources": [{"serviceAccountToken": {"audience": "vault"}},
                                                   {"serviceAccountToken": {"path": "token"}}]}}]}})
        }
        ("pods", "ns", "other") => {
            json!({"metadata": {"name": "other", "uid": "p2"}, "spec": {"nodeName": "two"}})
        }
        _ => return None,
    })
}

fn listed(group: &str, resource: &str, namespace: &str) -> Vec<Arc<Value>> {
    all(group, resource, namespace).into_iter().map(Arc::new).collect()
}

fn all(_: &str, resource: &str, _: &str) -> Vec<Value> {
    let default = json!({"storageclass.kubernetes.io/is-default-class": "true",
        "ingressclass.kubernetes.io/is-default-class": "true"});
    match resource {
        "storageclasses" | "ingressclasses" => vec![
            json!({"metadata": {"name": "a", "creationTimestamp": "2026-01-01T00:00:00Z"}}),
            json!({"metadata": {"name": "old", "creationTimestamp": "2026-01-02T00:00:00Z", "annotations": default}}),
            json!({"metadata": {"name": "new", "creationTimestamp": "2026-01-03T00:00:00Z", "annotations": default}}),
        ],
        "pods" => {
            let pod = |name: &str, owner: &str, spec: Value| {
                let owners = json!([{"controller": true, "uid": owner}]);
                json!({"metadata": {"name": name, "ownerReferences": owners}, "spec": spec})
            };
            let host = || json!({"hostNetwork": true});
            vec![
                pod("c", "r", host()),
                pod("b", "r", host()),
                pod("a", "s", host()),
                pod("d", "t", json!({"containers": [{"name": "c", "ports": [{"hostPort": 1}]}]})),
                pod("e", "u", json!({})),
            ]
        }
        _ => Vec::new(),
    }
}

/// `"CREATE [group/]resource[:subresource] [ns] [name]"`
fn run(user: &UserInfo, what: &str, old: Option<&Value>, object: &mut Value) -> Result<(), Status> {
    run_in(&Chain::default(), user, what, old, object).0
}

/// What comes of it, and the warnings.
fn run_in(
    chain: &Chain,
    user: &UserInfo,
    what: &str,
    old: Option<&Value>,
    object: &mut Value,
) -> (Result<(), Status>, Vec<String>) {
    let words: Vec<&str> = what.split(' ').collect();
    let (group, resource) = words[1].rsplit_once('/').unwrap_or(("", words[1]));
    let (resource, subresource) = resource.split_once(':').unwrap_or((resource, ""));
    let a = AdmissionAttributes {
        operation: match words[0] {
            "CREATE" => Operation::Create,
            "UPDATE" => Operation::Update,
            "DELETE" => Operation::Delete,
            _ => Operation::Connect,
        },
        user,
        group,
        version: "v1",
        kind: "",
        resource,
        subresource,
        namespace: words.get(2).copied().unwrap_or_default(),
        name: words.get(3).copied().unwrap_or_default(),
        old,
        dry_run: false,
        options: Options::None,
    };
    let mut warnings = Vec::new();
    let done = with_view(&mut warnings, chain.configuration(), |view| {
        chain.mutate_with(view, &a, object, &mut Rounds::default())?;
        chain.validate_with(view, &a, object)
    });
    (done, warnings)
}

/// Looks at the objects of this file. Nobody may do anything; warnings are gathered.
fn with_view<T>(
    warnings: &mut Vec<String>,
    configuration: &configuration::Configuration,
    look: impl FnOnce(&View<'_>) -> T,
) -> T {
    let said = Mutex::new(Vec::new());
    let labels = |object: Value| {
        let all = object["metadata"]["labels"].as_object().cloned().unwrap_or_default();
        all.into_iter().map(|(key, value)| (key, value.as_str().unwrap().to_owned())).collect()
    };
    let done = look(&View {
        get: &stored,
        kept: &|group, resource, namespace, name| stored(group, resource, namespace, name).map(Arc::new),
        list: &listed,
        pods: &|namespace| all("", "pods", namespace),
        phase: &phase,
        labels: &|group, resource, namespace, name| stored(group, resource, namespace, name).map(labels),
        may: &|_| false,
        warn: &|text| said.lock().unwrap().push(text),
        entropy: &Zero,
        configuration,
        policies: policy::Around {
            policies: &policy::Policies::default(),
            storage: None,
            metrics: None,
            resource: None,
            kind: &|_, _, _| None,
            equivalents: &Vec::new,
            decide: &|_, _| authorization::Decision::NoOpinion(authorization::Reason::None),
            annotate: &|_, _| {},
        },
    });
    *warnings = said.into_inner().unwrap();
    done
}

fn admin() -> UserInfo {
    UserInfo::new("admin", &[])
}

#[test]
fn namespaces() {
    let table = [
        ("CREATE configmaps ns", None),
        ("CREATE configmaps none", Some((404, "namespaces \"none\" not found"))),
        ("UPDATE configmaps none x", Some((404, "namespaces \"none\" not found"))),
        ("DELETE configmaps none x", None),
        (
            "CREATE configmaps dying",
            Some((
                403,
                "configmaps \"x\" is forbidden: unable to create new content in namespace dying because it is being \
                 terminated",
            )),
        ),
        ("UPDATE configmaps dying x", None),
        ("CREATE nodes", None),
        ("CREATE authorization.k8s.io/localsubjectaccessreviews none", None),
        (
            "DELETE namespaces kube-system kube-system",
            Some((403, "namespaces \"kube-system\" is forbidden: this namespace may not be deleted")),
        ),
        ("DELETE namespaces kube-node-lease kube-node-lease", None),
        ("DELETE namespaces ns ns", None),
        ("UPDATE namespaces default default", None),
    ];
    for (what, expect) in table {
        let mut object = json!({"metadata": {"name": "x"}});
        let got = run(&admin(), what, None, &mut object).map_err(|s| (s.code, s.message));
        assert_eq!(got, expect.map_or(Ok(()), |(c, m)| Err((c, m.to_owned()))), "{what}");
    }
    let status =
        run(&admin(), "CREATE configmaps dying", None, &mut json!({"metadata": {"name": "x"}})).unwrap_err();
    let cause = status.details.unwrap().causes.remove(0);
    assert_eq!(
        (&*cause.kind, &*cause.message, &*cause.field),
        ("NamespaceTerminating", "namespace dying is being terminated", "metadata.namespace")
    );
}

#[test]
fn a_plain_pod() {
    let mut pod = json!({"metadata": {"name": "p"}, "spec": {"containers": [{"name": "c"}]}});
    run(&admin(), "CREATE pods ns", None, &mut pod).unwrap();
    let volume = pod["spec"]["volumes"][0]["name"].as_str().unwrap().to_owned();
    assert!(volume.starts_with("kube-api-access-") && volume.len() == 21, "{volume}");
    assert_eq!(
        pod,
        json!({"metadata": {"name": "p"}, "spec": {
            "serviceAccountName": "default",
            "priority": 0,
            "preemptionPolicy": "PreemptLowerPriority",
            "containers": [{"name": "c", "volumeMounts": [{"name": volume, "readOnly": true,
                "mountPath": "/var/run/secrets/kubernetes.io/serviceaccount"}]}],
            "tolerations": [
                {"key": "node.kubernetes.io/not-ready", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 300},
                {"key": "node.kubernetes.io/unreachable", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 300}],
            "volumes": [{"name": volume, "projected": {"defaultMode": 420, "sources": [
                {"serviceAccountToken": {"expirationSeconds": 3607, "path": "token"}},
                {"configMap": {"name": "kube-root-ca.crt", "items": [{"key": "ca.crt", "path": "ca.crt"}]}},
                {"downwardAPI": {"items": [{"path": "namespace",
                    "fieldRef": {"apiVersion": "v1", "fieldPath": "metadata.namespace"}}]}}]}}],
        }})
    );
    // Done once, it is done.
    let before = pod.clone();
    run(&admin(), "CREATE pods ns", None, &mut pod).unwrap();
    assert_eq!(pod, before);
}

#[test]
fn pods() {
    const PATH: &str = "/var/run/secrets/kubernetes.io/serviceaccount";
    let table: &[(&str, Value, Result<Value, &str>)] = &[
        (
            "an account's pull secrets and no token",
            json!({"serviceAccountName": "pulling", "containers": [{}]}),
            Ok(json!({"imagePullSecrets": [{"name": "pull"}], "containers": [{}], "volumes": null})),
        ),
        (
            "the pod's own pull secrets and wish for a token",
            json!({"serviceAccountName": "pulling", "imagePullSecrets": [{"name": "own"}],
                "automountServiceAccountToken": true, "containers": [{"volumeMounts": [{"name": "x", "mountPath": PATH}]}]}),
            Ok(json!({"imagePullSecrets": [{"name": "own"}], "volumes": null,
                "containers": [{"volumeMounts": [{"name": "x", "mountPath": PATH}]}]})),
        ),
        (
            "no such account",
            json!({"serviceAccountName": "none"}),
            Err(
                "pods \"p\" is forbidden: error looking up service account ns/none: serviceaccount \"none\" not found",
            ),
        ),
        (
            "a secret that the account does not list",
            json!({"serviceAccountName": "strict", "volumes": [{"secret": {"secretName": "theirs"}}]}),
            Err(
                "pods \"p\" is forbidden: volume with secret.secretName=\"theirs\" is not allowed because service \
                 account strict does not reference that secret",
            ),
        ),
        (
            "a class",
            json!({"priorityClassName": "high"}),
            Ok(json!({"priorityClassName": "high", "priority": 1000, "preemptionPolicy": null})),
        ),
        (
            "a class that never preempts",
            json!({"priorityClassName": "never"}),
            Ok(json!({"priority": 7, "preemptionPolicy": "Never"})),
        ),
        (
            "no such class",
            json!({"priorityClassName": "none"}),
            Err("pods \"p\" is forbidden: no PriorityClass with name none was found"),
        ),
        (
            "a priority of its own",
            json!({"priority": 5}),
            Err(
                "pods \"p\" is forbidden: the integer value of priority (5) must not be provided in pod spec; priority \
                 admission controller computed 0 from the given PriorityClass name",
            ),
        ),
        (
            "a toleration of its own",
            json!({"tolerations": [{"operator": "Exists"}]}),
            Ok(json!({"tolerations": [{"operator": "Exists"}]})),
        ),
        (
            "a runtime class",
            json!({"runtimeClassName": "vm", "tolerations": [{"operator": "Exists"}]}),
            Ok(json!({"overhead": {"cpu": "250m"}, "nodeSelector": {"vm": "yes"},
                "tolerations": [{"operator": "Exists"}]})),
        ),
        (
            "a runtime class with the pod's own tolerations",
            json!({"runtimeClassName": "vm", "tolerations": [{"key": "vm", "operator": "Equal", "value": "x"}]}),
            Ok(json!({"tolerations": [
                {"key": "node.kubernetes.io/not-ready", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 300},
                {"key": "node.kubernetes.io/unreachable", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 300},
                {"key": "vm", "operator": "Exists"}]})),
        ),
        (
            "another selector than the runtime class",
            json!({"runtimeClassName": "vm", "nodeSelector": {"vm": "no"}}),
            Err("pods \"p\" is forbidden: conflict: runtimeClass.scheduling.nodeSelector[vm] = yes; \
                 pod.spec.nodeSelector[vm] = no"),
        ),
        (
            "another overhead than the runtime class",
            json!({"runtimeClassName": "vm", "overhead": {"cpu": "1"}}),
            Err(
                "pods \"p\" is forbidden: pod rejected: Pod's Overhead doesn't match RuntimeClass's defined Overhead",
            ),
        ),
        (
            "the overhead of the runtime class, written otherwise",
            json!({"runtimeClassName": "vm", "overhead": {"cpu": "0.25"}}),
            Ok(json!({"overhead": {"cpu": "250m"}})),
        ),
        (
            "an overhead without a runtime class",
            json!({"overhead": {"cpu": "1"}}),
            Err(
                "pods \"p\" is forbidden: pod rejected: Pod Overhead set without corresponding RuntimeClass defined \
                 Overhead",
            ),
        ),
        (
            "no such runtime class",
            json!({"runtimeClassName": "none"}),
            Err("pods \"p\" is forbidden: pod rejected: RuntimeClass \"none\" not found"),
        ),
    ];
    for (case, spec, expect) in table {
        let mut pod = json!({"metadata": {"name": "p"}, "spec": spec});
        let got = run(&admin(), "CREATE pods ns", None, &mut pod);
        match (got, expect) {
            (Ok(()), Ok(expect)) => {
                for (field, value) in expect.as_object().unwrap() {
                    assert_eq!(&pod["spec"][field], value, "{case}: {field}");
                }
            }
            (Err(status), Err(message)) => assert_eq!(status.message, *message, "{case}"),
            (got, _) => panic!("{case}: {got:?}"),
        }
    }
}

#[test]
fn other_kinds() {
    let table = [
        ("CREATE persistentvolumeclaims ns", json!({"spec": {}}), "/spec/storageClassName", json!("new")),
        (
            "CREATE persistentvolumeclaims ns",
            json!({"spec": {"storageClassName": ""}}),
            "/spec/storageClassName",
            json!(""),
        ),
        (
            "CREATE networking.k8s.io/ingresses ns",
            json!({"spec": {}}),
            "/spec/ingressClassName",
            json!("new"),
        ),
        (
            "CREATE nodes",
            json!({"metadata": {}}),
            "/spec/taints",
            json!([{"key": "node.kubernetes.io/not-ready", "effect": "NoSchedule"}]),
        ),
    ];
    for (what, mut object, pointer, expect) in table {
        run(&admin(), what, None, &mut object).unwrap();
        assert_eq!(object.pointer(pointer), Some(&expect), "{what}");
    }
}

#[test]
fn node_restriction() {
    let node = UserInfo::new("system:node:one", &["system:nodes"]);
    let mirror = |spec: Value, owner: &str| {
        json!({"metadata": {"name": "m", "annotations": {"kubernetes.io/config.mirror": "x"}, "ownerReferences": [
            {"apiVersion": "v1", "kind": "Node", "name": owner, "uid": "n1", "controller": true}]}, "spec": spec})
    };
    let at = |node: &str| json!({"metadata": {"labels": {"a": "b"}}, "spec": {"nodeName": node}});
    let token = |pod: &str, uid: &str, audiences: &[&str]| json!({"spec": {"audiences": audiences, "boundObjectRef": {"apiVersion": "v1", "kind": "Pod", "name": pod, "uid": uid}}});
    let labelled = |labels: Value| json!({"metadata": {"name": "one", "labels": labels}, "spec": {}});
    let null = Value::Null;
    let table: Vec<(&str, Option<Value>, Value, &str)> = vec![
        ("CREATE pods ns", None, mirror(json!({"nodeName": "one"}), "one"), ""),
        (
            "CREATE pods ns",
            None,
            mirror(json!({"nodeName": "two"}), "one"),
            "node \"one\" can only create pods with spec.nodeName set to itself",
        ),
        (
            "CREATE pods ns",
            None,
            mirror(json!({"nodeName": "one"}), "two"),
            "node \"one\" can only create pods with an owner reference set to itself",
        ),
        (
            "CREATE pods ns",
            None,
            mirror(json!({"nodeName": "one", "volumes": [{"configMap": {"name": "x"}}]}), "one"),
            "node \"one\" can not create pods that reference configmaps",
        ),
        (
            "CREATE pods ns",
            None,
            json!({"metadata": {"name": "m"}, "spec": {"nodeName": "one"}}),
            "pod does not have \"kubernetes.io/config.mirror\" annotation, node \"one\" can only create mirror pods",
        ),
        ("DELETE pods ns mine", None, null.clone(), ""),
        (
            "DELETE pods ns other",
            None,
            null.clone(),
            "node \"one\" can only delete pods with spec.nodeName set to itself",
        ),
        ("UPDATE pods:status ns x", Some(at("one")), at("one"), ""),
        (
            "UPDATE pods:status ns x",
            Some(at("two")),
            at("two"),
            "node \"one\" can only update pod status for pods with spec.nodeName set to itself",
        ),
        (
            "UPDATE pods:status ns x",
            Some(at("one")),
            json!({"metadata": {}, "spec": {"nodeName": "one"}}),
            "node \"one\" cannot update labels through pod status",
        ),
        ("CREATE pods:eviction ns mine", None, json!({}), ""),
        (
            "CREATE pods:eviction ns other",
            None,
            json!({}),
            "node one can only evict pods with spec.nodeName set to itself",
        ),
        (
            "CREATE pods:binding ns mine",
            None,
            json!({}),
            "unexpected pod subresource \"binding\", only 'status' and 'eviction' are allowed",
        ),
        (
            "CREATE nodes",
            None,
            labelled(json!({"kubernetes.io/hostname": "one", "x.kubelet.kubernetes.io/a": "b", "own/x": ""})),
            "",
        ),
        (
            "CREATE nodes",
            None,
            labelled(
                json!({"node-role.kubernetes.io/control-plane": "", "a.node-restriction.kubernetes.io/x": ""}),
            ),
            "node \"one\" is not allowed to set the following labels: a.node-restriction.kubernetes.io/x, \
             node-role.kubernetes.io/control-plane",
        ),
        (
            "UPDATE nodes:status  two",
            Some(json!({})),
            json!({}),
            "node \"one\" is not allowed to modify node \"two\"",
        ),
        ("UPDATE nodes:status  one", Some(json!({})), json!({}), ""),
        (
            "UPDATE nodes  one",
            Some(json!({"spec": {"taints": [{"key": "a"}]}})),
            json!({"spec": {}}),
            "node \"one\" is not allowed to modify taints",
        ),
        ("CREATE serviceaccounts:token ns sa", None, token("mine", "p1", &[]), ""),
        ("CREATE serviceaccounts:token ns sa", None, token("mine", "p1", &["vault"]), ""),
        (
            "CREATE serviceaccounts:token ns sa",
            None,
            token("mine", "p1", &["bank"]),
            "audience \"bank\" not found in pod spec volume, system:node:one is not authorized to request tokens for this \
             audience",
        ),
        (
            "CREATE serviceaccounts:token ns sa",
            None,
            token("other", "p2", &[]),
            "node requested token bound to a pod scheduled on a different node",
        ),
        (
            "CREATE serviceaccounts:token ns sa",
            None,
            token("mine", "", &[]),
            "node requested token with a pod binding without a uid",
        ),
        (
            "CREATE serviceaccounts:token ns sa",
            None,
            json!({"spec": {}}),
            "node requested token not bound to a pod",
        ),
        (
            "UPDATE coordination.k8s.io/leases kube-node-lease two",
            None,
            json!({}),
            "can only access node lease with the same name as the requesting node",
        ),
        ("UPDATE persistentvolumeclaims ns c", None, json!({}), "may only update PVC status"),
    ];
    for (what, old, mut object, expect) in table {
        let a_namespace_exists = what.contains("kube-node-lease");
        let got = if a_namespace_exists {
            let a = AdmissionAttributes {
                operation: Operation::Update,
                user: &node,
                group: "coordination.k8s.io",
                version: "v1",
                kind: "Lease",
                resource: "leases",
                subresource: "",
                namespace: "kube-node-lease",
                name: "two",
                old: None,
                dry_run: false,
                options: Options::None,
            };
            let configuration = configuration::Configuration::default();
            with_view(&mut Vec::new(), &configuration, |view| {
                super::node_restriction::mutate(view, &a, &mut object)
            })
        } else {
            run(&node, what, old.as_ref(), &mut object)
        };
        let got = got.err().map(|s| s.message).unwrap_or_default();
        let got = got.split_once("forbidden: ").map_or(got.as_str(), |(_, why)| why);
        assert_eq!(got, expect, "{what} {object}");
    }
}

/// Without what precedes the reason.
fn reason(done: Result<(), Status>) -> String {
    let why = done.err().map(|status| status.message).unwrap_or_default();
    why.split_once("forbidden: ").map_or(why.clone(), |(_, why)| why.to_owned())
}

#[test]
fn what_is_added() {
    let zones = json!({"topology.kubernetes.io/region": "r", "topology.kubernetes.io/zone": "z"});
    let table = [
        ("CREATE pods ns", json!({"spec": {"nodeName": "one"}}), "/metadata/labels", zones.clone()),
        ("CREATE pods ns", json!({"spec": {"nodeName": "gone"}}), "/metadata", Value::Null),
        (
            "CREATE pods:binding ns p",
            json!({"target": {"kind": "Node", "name": "one"}}),
            "/metadata/labels",
            zones,
        ),
        ("CREATE pods:binding ns p", json!({"target": {"name": "one"}}), "/metadata", Value::Null),
        (
            "CREATE persistentvolumes",
            json!({"metadata": {"finalizers": ["x"]}}),
            "/metadata/finalizers",
            json!(["x", "kubernetes.io/pv-protection"]),
        ),
        (
            "CREATE persistentvolumeclaims ns",
            json!({"metadata": {}}),
            "/metadata/finalizers",
            json!(["kubernetes.io/pvc-protection"]),
        ),
        (
            "CREATE storage.k8s.io/volumeattributesclasses",
            json!({}),
            "/metadata/finalizers",
            json!(["kubernetes.io/vac-protection"]),
        ),
        ("UPDATE persistentvolumeclaims ns c", json!({"metadata": {}}), "/metadata/finalizers", Value::Null),
    ];
    for (what, mut object, pointer, expect) in table {
        run(&admin(), what, None, &mut object).unwrap();
        assert_eq!(object.pointer(pointer).unwrap_or(&Value::Null), &expect, "{what} {object}");
    }
}

#[test]
fn updates() {
    const RESIZE: &str = "UPDATE pods:resize ns p";
    const CLAIM: &str = "UPDATE persistentvolumeclaims ns c";
    let claim = |size: &str, class: &str| {
        json!({"status": {"phase": "Bound"},
        "spec": {"storageClassName": class, "resources": {"requests": {"storage": size}}}})
    };
    let pod = |node: &str, generation: i64, cpu: &str| {
        json!({"metadata": {"generation": generation},
        "spec": {"nodeName": node, "containers": [{"name": "c", "resources": {"requests": {"cpu": cpu}}}]}})
    };
    let level = |cpu: &str| {
        let mut pod = pod("one", cpu.len() as i64, "1");
        pod["spec"]["resources"] = json!({"requests": {"cpu": cpu}});
        pod
    };
    let init = |cpu: &str| {
        let mut pod = pod("one", cpu.len() as i64, "1");
        pod["spec"]["initContainers"] = json!([{"name": "i", "resources": {"requests": {"cpu": cpu}}}]);
        pod
    };
    let signer = |status: Value| json!({"spec": {"signerName": "example.com/a"}, "status": status});
    let mut pending = claim("1Gi", "wide");
    pending["status"]["phase"] = "Pending".into();
    let narrow = "only dynamically provisioned pvc can be resized and the storageclass that provisions the pvc must \
                  support resize";
    let table = [
        (CLAIM, claim("1Gi", "wide"), claim("2Gi", "wide"), ""),
        (CLAIM, claim("2Gi", "narrow"), claim("1Gi", "narrow"), ""),
        (CLAIM, claim("1Gi", "narrow"), claim("2Gi", "narrow"), narrow),
        (CLAIM, claim("1Gi", "narrow"), claim("2Gi", "wide"), narrow),
        (CLAIM, pending, claim("2Gi", "wide"), "Only bound persistent volume claims can be expanded"),
        (RESIZE, pod("one", 1, "1"), pod("one", 2, "2"), ""),
        (
            RESIZE,
            pod("one", 1, "1"),
            pod("one", 2, "2001m"),
            "node didn't have enough allocatable resources: cpu, requested: 2001, allocatable: 2000",
        ),
        (RESIZE, pod("one", 1, "1"), pod("one", 1, "3"), ""),
        (RESIZE, pod("gone", 1, "1"), pod("gone", 2, "1"), "node \"gone\" not found"),
        (
            RESIZE,
            pod("glass", 1, "1"),
            pod("glass", 2, "1"),
            "pod resize is only supported on linux nodes, node \"glass\" is \"windows\"",
        ),
        (
            RESIZE,
            level("1"),
            level("10m"),
            "pod update requires features InPlacePodLevelResourcesVerticalScaling which are not available on node \"one\"",
        ),
        (RESIZE, init("1"), init("10m"), ""),
        (
            "UPDATE certificates.k8s.io/certificatesigningrequests:approval  r",
            signer(json!({})),
            signer(json!({})),
            "user not permitted to approve requests with signerName \"example.com/a\"",
        ),
        (
            "UPDATE certificates.k8s.io/certificatesigningrequests:status  r",
            signer(json!({})),
            signer(json!({"certificate": "eA=="})),
            "user not permitted to sign requests with signerName \"example.com/a\"",
        ),
        (
            "UPDATE certificates.k8s.io/certificatesigningrequests:status  r",
            signer(json!({"conditions": null})),
            signer(json!({})),
            "",
        ),
        (
            "UPDATE certificates.k8s.io/clustertrustbundles  b",
            json!({"spec": {"signerName": "example.com/a"}, "metadata": {"name": "b", "finalizers": ["x"]}}),
            json!({"spec": {"signerName": "example.com/a"}, "metadata": {"name": "b"}}),
            "",
        ),
        (
            "UPDATE certificates.k8s.io/clustertrustbundles  b",
            json!({"spec": {"signerName": "example.com/a"}}),
            json!({"spec": {"signerName": "example.com/a", "trustBundle": "x"}}),
            "user not permitted to attest for signerName \"example.com/a\"",
        ),
        (
            "UPDATE pods:ephemeralcontainers ns p",
            json!({"spec": {}}),
            json!({"spec": {"serviceAccountName": "strict", "ephemeralContainers": [
                {"name": "e", "envFrom": [{"secretRef": {"name": "theirs"}}]}]}}),
            "ephemeral container e with envFrom referencing secret.secretName=\"theirs\" is not allowed because service \
             account strict does not reference that secret",
        ),
    ];
    for (what, old, mut new, expect) in table {
        let shown = new.to_string();
        assert_eq!(reason(run(&admin(), what, Some(&old), &mut new)), expect, "{what} {shown}");
    }
}

/// Of group `system:masters`, subject `O = system:masters, CN = x`; made with openssl.
const REQUEST_OF_MASTERS: &str = include_str!("testdata/masters.csr");

#[test]
fn certificates_of_administrators() {
    use base64::Engine as _;
    let encode = |text: &str| base64::engine::general_purpose::STANDARD.encode(text);
    let request = |signer: &str, pem: &str| json!({"spec": {"signerName": signer, "request": encode(pem)}});
    let client = "kubernetes.io/kube-apiserver-client";
    let table = [
        (request("example.com/a", REQUEST_OF_MASTERS), ""),
        (
            request(client, REQUEST_OF_MASTERS),
            "use of kubernetes.io/kube-apiserver-client signer with system:masters group is not allowed",
        ),
        (request(client, "x"), "failed to parse CSR: PEM block type must be CERTIFICATE REQUEST"),
    ];
    for (mut object, expect) in table {
        let what = "CREATE certificates.k8s.io/certificatesigningrequests";
        assert_eq!(reason(run(&admin(), what, None, &mut object)), expect);
    }
}

/// Plugins that are off unless asked for.
#[test]
fn off_by_default() {
    let pod = |spec: Value| json!({"metadata": {"name": "p"}, "spec": spec});
    let anti = |key: &str| {
        pod(json!({"affinity": {"podAntiAffinity": {
        "requiredDuringSchedulingIgnoredDuringExecution": [{"topologyKey": key}]}}}))
    };
    let service = |ips: Value| json!({"spec": {"externalIPs": ips}});
    let owned = |blocks: bool| {
        json!({"metadata": {"name": "x", "ownerReferences": [
        {"apiVersion": "v1", "kind": "Pod", "name": "p", "uid": "u", "blockOwnerDeletion": blocks}]}})
    };
    let null = Value::Null;
    let table = [
        (
            "AlwaysDeny",
            "CREATE secrets ns",
            &null,
            json!({}),
            "admission control is denying all modifications",
        ),
        ("AlwaysAdmit", "CREATE secrets ns", &null, json!({}), ""),
        ("NamespaceExists", "DELETE secrets none x", &null, json!({}), "namespaces \"none\" not found"),
        ("LimitPodHardAntiAffinityTopology", "CREATE pods ns", &null, anti("kubernetes.io/hostname"), ""),
        (
            "LimitPodHardAntiAffinityTopology",
            "CREATE pods ns",
            &null,
            anti("zone"),
            "affinity.PodAntiAffinity.RequiredDuringScheduling has TopologyKey zone but only key kubernetes.io/hostname \
             is allowed",
        ),
        (
            "DenyServiceExternalIPs",
            "CREATE services ns",
            &null,
            service(json!(["1.1.1.1"])),
            "Use of external IPs is denied by admission control",
        ),
        (
            "DenyServiceExternalIPs",
            "UPDATE services ns s",
            &service(json!(["1.1.1.1", "2.2.2.2"])),
            service(json!(["1.1.1.1"])),
            "",
        ),
        ("OwnerReferencesPermissionEnforcement", "CREATE secrets ns", &null, owned(false), ""),
        (
            "OwnerReferencesPermissionEnforcement",
            "CREATE secrets ns",
            &null,
            owned(true),
            "cannot set blockOwnerDeletion if an ownerReference refers to a resource you can't set finalizers on: , <nil>",
        ),
        (
            "OwnerReferencesPermissionEnforcement",
            "UPDATE secrets ns x",
            &json!({"metadata": {"name": "x"}}),
            owned(false),
            "cannot set an ownerRef on a resource you can't delete: , <nil>",
        ),
    ];
    for (plugin, what, old, mut object, expect) in table {
        let chain = Chain::new(&[plugin], &[], configuration::Configuration::default());
        let old = Some(old).filter(|old| !old.is_null());
        assert_eq!(reason(run_in(&chain, &admin(), what, old, &mut object).0), expect, "{plugin}: {what}");
    }
    let chain = Chain::new(
        &["AlwaysPullImages", "ExtendedResourceToleration"],
        &["DefaultTolerationSeconds"],
        configuration::Configuration::default(),
    );
    let mut object = pod(json!({"containers": [
        {"name": "c", "image": "i", "imagePullPolicy": "Never", "resources": {"requests": {"a.com/gpu": "1", "cpu": "1"}}}]}));
    run_in(&chain, &admin(), "CREATE pods ns", None, &mut object).0.unwrap();
    assert_eq!(object["spec"]["containers"][0]["imagePullPolicy"], "Always");
    assert_eq!(
        object["spec"]["tolerations"],
        json!([{"key": "a.com/gpu", "operator": "Exists", "effect": "NoSchedule"}])
    );
}

#[test]
fn pod_security() {
    let pod = |spec: Value| json!({"metadata": {"name": "p"}, "spec": spec});
    let template = |spec: Value| json!({"metadata": {"name": "p"}, "spec": {"template": {"spec": spec}}});
    let host = || json!({"hostNetwork": true, "containers": [{"name": "c", "image": "i"}]});
    let plain = || json!({"containers": [{"name": "c", "image": "i"}]});
    let refusal = "violates PodSecurity \"baseline:latest\": host namespaces (hostNetwork=true)";
    let tail = "allowPrivilegeEscalation != false (container \"c\" must set securityContext.allowPrivilegeEscalation=false), \
                runAsNonRoot != true (pod or container \"c\" must set securityContext.runAsNonRoot=true), seccompProfile \
                (pod or container \"c\" must set securityContext.seccompProfile.type to \"RuntimeDefault\" or \
                \"Localhost\")";
    let warning = format!("would violate PodSecurity \"restricted:v1.20\": {tail}");
    let of_host =
        format!("would violate PodSecurity \"restricted:v1.20\": host namespaces (hostNetwork=true), {tail}");
    let labelled = |labels: &[(&str, &str)]| {
        let labels =
            labels.iter().map(|(key, value)| (format!("pod-security.kubernetes.io/{key}"), json!(value)));
        json!({"metadata": {"name": "ns", "labels": labels.collect::<serde_json::Map<_, _>>()}})
    };
    type Case<'a> = (&'a str, Option<Value>, Value, &'a str, Vec<&'a str>);
    let table: Vec<Case<'_>> = vec![
        ("CREATE pods strict", None, pod(plain()), "", vec![&warning]),
        ("CREATE pods strict", None, pod(host()), refusal, vec![]),
        ("CREATE pods ns", None, pod(host()), "", vec![]),
        ("UPDATE pods strict p", Some(pod(host())), pod(host()), "", vec![]),
        (
            "UPDATE pods strict p",
            Some(pod(host())),
            pod(json!({"hostNetwork": true, "containers": [{"name": "c", "image": "j"}]})),
            refusal,
            vec![],
        ),
        ("UPDATE pods:status strict p", Some(pod(plain())), pod(host()), "", vec![]),
        (
            "UPDATE pods:ephemeralcontainers strict p",
            Some(pod(host())),
            pod(json!({"serviceAccountName": "default", "hostNetwork": true,
                "containers": [{"name": "c", "image": "i"}], "ephemeralContainers": [{"name": "e", "image": "i"}]})),
            refusal,
            vec![],
        ),
        ("CREATE apps/deployments strict", None, template(host()), "", vec![&of_host]),
        (
            "CREATE batch/cronjobs strict",
            None,
            json!({"spec": {"jobTemplate": {"spec": {"template": {"spec": plain()}}}}}),
            "",
            vec![&warning],
        ),
        ("CREATE apps/deployments ns", None, template(host()), "", vec![]),
        (
            "CREATE namespaces",
            None,
            labelled(&[("enforce", "none")]),
            "Namespace \"ns\" is invalid: metadata.labels[pod-security.kubernetes.io/enforce]: Invalid value: \"none\": must \
             be one of privileged, baseline, restricted",
            vec![],
        ),
        (
            "UPDATE namespaces  ns",
            Some(labelled(&[("enforce", "none")])),
            labelled(&[("enforce", "none"), ("audit", "baseline")]),
            "",
            vec![],
        ),
        (
            "UPDATE namespaces  ns",
            Some(labelled(&[])),
            labelled(&[("enforce", "baseline")]),
            "",
            vec![
                "existing pods in namespace \"ns\" violate the new PodSecurity enforce level \"baseline:latest\"",
                "a (and 2 other pods): host namespaces",
                "d: hostPort",
            ],
        ),
        (
            "UPDATE namespaces  ns",
            Some(labelled(&[("enforce", "restricted")])),
            labelled(&[("enforce", "baseline")]),
            "",
            vec![],
        ),
    ];
    for (what, old, mut object, expect, warnings) in table {
        let (done, said) = run_in(&Chain::default(), &admin(), what, old.as_ref(), &mut object);
        assert_eq!(reason(done), expect, "{what}");
        assert_eq!(said, warnings, "{what}");
    }
}

#[test]
fn configured() {
    let read = |plugin: &str, configuration: Value| {
        let mut to = configuration::Configuration::default();
        let file = json!({"apiVersion": "apiserver.config.k8s.io/v1", "kind": "AdmissionConfiguration",
            "plugins": [{"name": plugin, "path": "other.yaml"}]});
        let open = |path: &str| {
            assert_eq!(path, "other.yaml");
            Ok(configuration.to_string())
        };
        to.read(&file.to_string(), open).map(|()| to).map_err(|error| error.to_string())
    };
    let security = |defaults: Value, exemptions: Value| {
        let given = json!({"apiVersion": "pod-security.admission.config.k8s.io/v1", "kind": "PodSecurityConfiguration",
            "defaults": defaults, "exemptions": exemptions});
        read("PodSecurity", given)
    };
    let exempt = json!({"usernames": ["eve"], "namespaces": ["free"], "runtimeClasses": ["vm"]});
    let set = security(json!({"enforce": "baseline", "warn-version": "v1.20"}), exempt).unwrap();
    let chain = Chain::new(&[], &["ServiceAccount", "RuntimeClass", "NamespaceLifecycle"], set);
    let host = |class: Option<&str>| {
        json!({"metadata": {"name": "p"},
        "spec": {"hostNetwork": true, "runtimeClassName": class, "containers": []}})
    };
    let refusal = "violates PodSecurity \"baseline:latest\": host namespaces (hostNetwork=true)";
    for (user, namespace, class, expect) in [
        ("adam", "ns", None, refusal),
        ("eve", "ns", None, ""),
        ("adam", "free", None, ""),
        ("adam", "ns", Some("vm"), ""),
        ("adam", "ns", Some("other"), refusal),
    ] {
        let what = format!("CREATE pods {namespace}");
        let (done, _) = run_in(&chain, &UserInfo::new(user, &[]), &what, None, &mut host(class));
        assert_eq!(reason(done), expect, "{user} {namespace} {class:?}");
    }
    let mut free =
        json!({"metadata": {"name": "free", "labels": {"pod-security.kubernetes.io/enforce": "restricted"}}});
    assert_eq!(
        run_in(&chain, &admin(), "CREATE namespaces", None, &mut free).1,
        [
            "namespace \"free\" is exempt from Pod Security, and the policy (enforce=restricted:latest) will be ignored"
        ]
    );
    let limited = json!({"apiVersion": "apiserver.config.k8s.io/v1", "kind": "ResourceQuotaConfiguration",
        "limitedResources": [{"resource": "pods", "matchContains": ["cpu"]}]});
    assert_eq!(read("ResourceQuota", limited).unwrap().limited_resources[0].match_contains, ["cpu"]);
    let faults = [
        (
            security(json!({"enforce": "none"}), json!({"usernames": [""], "namespaces": ["a", "a"]})),
            "reading the configuration of the admission plugin PodSecurity: [defaults.enforce: Invalid value: \"none\": must \
             be one of privileged, baseline, restricted, exemptions.namespaces[1]: Duplicate value: \"a\", \
             exemptions.usernames[0]: Invalid value: \"\": username must not be empty]",
        ),
        (
            read("PodSecurity", json!({"kind": "X", "apiVersion": "v1"})),
            "reading the configuration of the admission plugin PodSecurity: it is of kind \"X\" in \"v1\"; expected \
             PodSecurityConfiguration in pod-security.admission.config.k8s.io",
        ),
        (read("Priority", json!({})), "the admission plugin Priority takes no configuration"),
        (read("None", json!({})), "the admission configuration names the plugin \"None\", which is unknown"),
    ];
    for (got, expect) in faults {
        assert_eq!(got.unwrap_err(), expect);
    }
}
