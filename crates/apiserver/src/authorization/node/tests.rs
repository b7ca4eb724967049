//! After upstream's `node_authorizer_test.go`.

use serde_json::json;

use super::*;

fn node() -> Node {
    let node = Node::new(vec![Rule::resources(&["get", "list", "watch"], &[""], &["services"], &[])]);
    let pod = |name: &str, at: &str, extra: Value| {
        let mut pod = json!({"metadata": {"name": name, "namespace": "ns"}, "spec": {
            "nodeName": at, "serviceAccountName": format!("sa-{at}"),
            "imagePullSecrets": [{"name": format!("pull-{at}")}],
            "containers": [{"env": [{"valueFrom": {"secretKeyRef": {"name": format!("env-{at}")}}},
                                    {"valueFrom": {"configMapKeyRef": {"name": "shared"}}}],
                            "envFrom": [{"configMapRef": {"name": format!("from-{at}")}}]}],
            "volumes": [{"name": "v", "persistentVolumeClaim": {"claimName": format!("pvc-{at}")}},
                        {"name": "s", "secret": {"secretName": format!("vol-{at}")}},
                        {"name": "p", "projected": {"sources": [{"configMap": {"name": "kube-root-ca.crt"}}]}},
                        {"name": "e", "ephemeral": {}}],
        }});
        pod["metadata"]["annotations"] = extra;
        pod
    };
    node.observe("pods", "ns", "a", Some(&pod("a", "one", json!({}))));
    node.observe("pods", "ns", "b", Some(&pod("b", "two", json!({}))));
    node.observe("pods", "ns", "m", Some(&pod("m", "three", json!({"kubernetes.io/config.mirror": "x"}))));
    node.observe("pods", "ns", "unbound", Some(&pod("unbound", "", json!({}))));
    node.observe(
        "persistentvolumes",
        "",
        "pv",
        Some(&json!({"spec": {
        "claimRef": {"namespace": "ns", "name": "pvc-one"},
        "csi": {"nodeStageSecretRef": {"name": "stage", "namespace": "csi"},
                "controllerPublishSecretRef": {"name": "control", "namespace": "csi"}}}})),
    );
    node.observe("volumeattachments", "", "va", Some(&json!({"spec": {"nodeName": "one"}})));
    node
}

fn check(node: &Node, who: &str, question: &str, expect: Result<(), &str>) {
    let user = UserInfo::new(format!("system:node:{who}"), &["system:nodes"]);
    let mut words = question.split(' ');
    let verb = words.next().unwrap();
    let (resource, group) = words.next().map(|w| w.split_once('.').unwrap_or((w, ""))).unwrap();
    let (resource, subresource) = resource.split_once('/').unwrap_or((resource, ""));
    let mut a = Attributes { is_resource: true, verb, group, resource, subresource, ..Attributes::default() };
    for word in words {
        match word.split_at(1) {
            ("@", ns) => a.namespace = ns,
            ("#", name) => a.name = name,
            ("?", selector) => a.field_selector = selector,
            _ => panic!("{word}"),
        }
    }
    let got = node.authorize(&user, &a);
    assert_eq!(got.is_allowed(), expect.is_ok(), "{who} {question}: {got:?}");
    if let Err(reason) = expect {
        assert_eq!(got.reason().to_string(), reason, "{who} {question}");
    }
}

const UNRELATED: Result<(), &str> = Err("no relationship found between node 'one' and this object");

#[test]
fn decisions() {
    let node = node();
    let table: &[(&str, Result<(), &str>)] = &[
        ("get secrets @ns #env-one", Ok(())),
        ("list secrets @ns #env-one", Ok(())),
        ("watch secrets @ns #pull-one", Ok(())),
        ("get secrets @ns #vol-one", Ok(())),
        ("get secrets @csi #stage", Ok(())),
        ("get secrets @csi #control", UNRELATED),
        ("get secrets @ns #env-two", UNRELATED),
        ("get secrets @other #env-one", UNRELATED),
        ("list secrets @ns", Err("No Object name found")),
        ("list secrets", Err("can only read namespaced object of this type")),
        ("update secrets @ns #env-one", Err("can only read resources of this type")),
        ("get configmaps @ns #shared", Ok(())),
        ("get configmaps @ns #from-one", Ok(())),
        ("get configmaps @ns #kube-root-ca.crt", Ok(())),
        ("get configmaps @ns #from-two", UNRELATED),
        ("get persistentvolumeclaims @ns #pvc-one", Ok(())),
        ("get persistentvolumeclaims @ns #a-e", Ok(())),
        ("get persistentvolumeclaims @ns #pvc-two", UNRELATED),
        ("patch persistentvolumeclaims/status @ns #pvc-one", Ok(())),
        ("list persistentvolumeclaims @ns", Err("can only get individual resources of this type")),
        ("get persistentvolumes #pv", Ok(())),
        ("get persistentvolumes #other", UNRELATED),
        ("get volumeattachments.storage.k8s.io #va", Ok(())),
        ("create serviceaccounts/token @ns #sa-one", Ok(())),
        ("create serviceaccounts/token @ns #sa-two", UNRELATED),
        ("get serviceaccounts @ns #sa-one", Ok(())),
        ("delete serviceaccounts @ns #sa-one", Err("can only create tokens for individual service accounts")),
        ("get nodes #one", Ok(())),
        ("patch nodes/status #two", Ok(())),
        ("get nodes #two", Err("node 'one' cannot read 'two', only its own Node object")),
        ("list nodes", Err("node 'one' cannot read all nodes, only its own Node object")),
        ("delete nodes #one", Err("")),
        ("get pods @ns #a", Ok(())),
        ("get pods @ns #b", UNRELATED),
        ("list pods ?spec.nodeName=one", Ok(())),
        ("watch pods ?spec.nodeName==one,status.phase=Running", Ok(())),
        ("list pods ?spec.nodeName=two", Err("can only list/watch pods with spec.nodeName field selector")),
        ("list pods ?spec.nodeName!=one", Err("can only list/watch pods with spec.nodeName field selector")),
        ("list pods", Err("can only list/watch pods with spec.nodeName field selector")),
        ("create pods/eviction @ns #a", Ok(())),
        ("create pods/binding @ns #a", Err("")),
        ("update leases.coordination.k8s.io @kube-node-lease #one", Ok(())),
        (
            "update leases.coordination.k8s.io @kube-node-lease #two",
            Err("can only access node lease with the same name as the requesting node"),
        ),
        (
            "get leases.coordination.k8s.io @kube-system #one",
            Err("can only access leases in the \"kube-node-lease\" system namespace"),
        ),
        ("list services", Ok(())),
        ("delete services @ns #x", Err("")),
    ];
    for (question, expect) in table {
        check(&node, "one", question, *expect);
    }
    // A mirror pod gives its node nothing but itself.
    check(&node, "three", "get pods @ns #m", Ok(()));
    check(
        &node,
        "three",
        "get secrets @ns #env-three",
        Err("no relationship found between node 'three' and this object"),
    );
    check(&node, "", "get nodes #x", Err("unknown node for user \"system:node:\""));
}

#[test]
fn a_pod_that_goes_takes_its_references_along() {
    let node = node();
    check(&node, "one", "get secrets @ns #env-one", Ok(()));
    node.observe("pods", "ns", "a", None);
    check(&node, "one", "get secrets @ns #env-one", UNRELATED);
    check(&node, "one", "get configmaps @ns #shared", UNRELATED);
    check(&node, "one", "get secrets @csi #stage", UNRELATED);
    check(&node, "two", "get configmaps @ns #shared", Ok(()));
}

#[test]
fn only_nodes_have_a_node() {
    let table = [
        ("system:node:a", "system:nodes", Some("a")),
        ("system:node:a", "others", None),
        ("a", "system:nodes", None),
        ("system:node:", "system:nodes", Some("")),
    ];
    for (name, group, expect) in table {
        assert_eq!(identity(&UserInfo::new(name, &[group])), expect);
    }
}
