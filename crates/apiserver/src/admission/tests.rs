//! Each plugin with the cases of its upstream test.

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
        ("nodes", "", "one") => json!({"metadata": {"name": "one", "uid": "n1"}}),
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

fn listed(_: &str, resource: &str) -> Vec<Value> {
    let default = json!({"storageclass.kubernetes.io/is-default-class": "true",
        "ingressclass.kubernetes.io/is-default-class": "true"});
    match resource {
        "storageclasses" | "ingressclasses" => vec![
            json!({"metadata": {"name": "a", "creationTimestamp": "2026-01-01T00:00:00Z"}}),
            json!({"metadata": {"name": "old", "creationTimestamp": "2026-01-02T00:00:00Z", "annotations": default}}),
            json!({"metadata": {"name": "new", "creationTimestamp": "2026-01-03T00:00:00Z", "annotations": default}}),
        ],
        _ => Vec::new(),
    }
}

/// `"CREATE [group/]resource[:subresource] [ns] [name]"`
fn run(user: &UserInfo, what: &str, old: Option<&Value>, object: &mut Value) -> Result<(), Status> {
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
    };
    let view = View { get: &stored, phase: &phase, list: &listed, may: &|_| false, entropy: &Zero };
    let chain = Chain::default();
    chain.mutate_with(&view, &a, object)?;
    chain.validate_with(&view, &a, object)
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
                "tolerations": [{"operator": "Exists"}, {"key": "vm", "operator": "Exists"}]})),
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
            let view = View { get: &stored, phase: &phase, list: &listed, may: &|_| false, entropy: &Zero };
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
            };
            super::node_restriction::mutate(&view, &a, &mut object)
        } else {
            run(&node, what, old.as_ref(), &mut object)
        };
        let got = got.err().map(|s| s.message).unwrap_or_default();
        let got = got.split_once("forbidden: ").map_or(got.as_str(), |(_, why)| why);
        assert_eq!(got, expect, "{what} {object}");
    }
}
