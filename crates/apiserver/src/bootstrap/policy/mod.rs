//! The roles and bindings that every cluster begins with, as data.
//!
//! The texts beside this file hold upstream's policy (`bootstrappolicy`, its v1.36 test data). A line at the
//! margin begins an object, indented ones are its rules or subjects:
//!
//! ```text
//! role [namespace/]name [part-of group...] [sum-of group...]
//!   verb,verb group,group resource resource [named name name]      group "core" is the empty one
//!   verb,verb urls /path /path
//! binding [namespace/]name Role|ClusterRole role
//!   User|Group name  or  ServiceAccount namespace/name
//! ```
//!
//! `part-of view` gives a role the label by which the aggregated role `view` (`sum-of view`) finds it.

use serde_json::{Map, Value, json};

use crate::authorization::rbac::Rule;

const API_VERSION: &str = "rbac.authorization.k8s.io/v1";
pub const GROUP: &str = "rbac.authorization.k8s.io";
pub const AUTO_UPDATE: &str = "rbac.authorization.kubernetes.io/autoupdate";
const BOOTSTRAPPING: (&str, &str) = ("kubernetes.io/bootstrapping", "rbac-defaults");
const CONTROLLER: &str = "system:controller:";

const CLUSTER: &str = include_str!("cluster.txt");
const CONTROLLERS: &str = include_str!("controllers.txt");
const BINDINGS: &str = include_str!("bindings.txt");

/// Every object: roles before the bindings to them.
pub fn objects() -> Vec<Value> {
    let mut all = parse(CLUSTER);
    let controllers = parse(CONTROLLERS);
    let bound: Vec<Value> = controllers.iter().filter_map(bind_controller).collect();
    all.extend(controllers);
    all.extend(bound);
    all.extend(parse(BINDINGS));
    all
}

/// The rules of `system:node`, which the node authorizer gives to every kubelet.
pub fn node_rules() -> Vec<Rule> {
    let node = parse(CLUSTER).into_iter().find(|o| o["metadata"]["name"] == "system:node");
    node.map(|role| Rule::list(&role)).unwrap_or_default()
}

fn metadata(name: &str) -> Value {
    let (namespace, name) = name.split_once('/').unwrap_or(("", name));
    let mut metadata = Map::new();
    metadata.insert("name".into(), name.into());
    if !namespace.is_empty() {
        metadata.insert("namespace".into(), namespace.into());
    }
    metadata.insert("labels".into(), json!({ BOOTSTRAPPING.0: BOOTSTRAPPING.1 }));
    metadata.insert("annotations".into(), json!({ AUTO_UPDATE: "true" }));
    Value::Object(metadata)
}

fn aggregation_label(group: &str) -> String {
    format!("rbac.authorization.k8s.io/aggregate-to-{group}")
}

fn parse(text: &str) -> Vec<Value> {
    let mut out: Vec<Value> = Vec::new();
    for line in text.lines().filter(|l| !l.is_empty() && !l.starts_with('#')) {
        let words: Vec<&str> = line.split_whitespace().collect();
        if line.starts_with(' ') {
            if let Some(object) = out.last_mut() {
                add(object, &words);
            }
        } else if let Some(object) = begin(&words) {
            out.push(object);
        }
    }
    out
}

fn begin(words: &[&str]) -> Option<Value> {
    match words {
        ["role", name, rest @ ..] => {
            let kind = if name.contains('/') { "Role" } else { "ClusterRole" };
            let mut role =
                json!({"apiVersion": API_VERSION, "kind": kind, "metadata": metadata(name), "rules": []});
            let mut mode = "";
            for word in rest {
                match (*word, mode) {
                    ("part-of" | "sum-of", _) => mode = word,
                    (group, "part-of") => {
                        role["metadata"]["labels"][aggregation_label(group)] = "true".into()
                    }
                    (group, _) => {
                        let selector = json!({"matchLabels": {aggregation_label(group): "true"}});
                        role["aggregationRule"] = json!({"clusterRoleSelectors": [selector]});
                        role["rules"] = Value::Null;
                    }
                }
            }
            Some(role)
        }
        ["binding", name, role_kind, role] => {
            let kind = if name.contains('/') { "RoleBinding" } else { "ClusterRoleBinding" };
            Some(json!({"apiVersion": API_VERSION, "kind": kind, "metadata": metadata(name),
                "roleRef": {"apiGroup": GROUP, "kind": role_kind, "name": role}}))
        }
        _ => None,
    }
}

fn add(object: &mut Value, words: &[&str]) {
    let [first, second, rest @ ..] = words else { return };
    match *first {
        "User" | "Group" => push(object, json!({"kind": first, "apiGroup": GROUP, "name": second})),
        "ServiceAccount" => {
            let (namespace, name) = second.split_once('/').unwrap_or(("", second));
            push(object, json!({"kind": first, "name": name, "namespace": namespace}));
        }
        verbs => {
            let verbs: Vec<&str> = verbs.split(',').collect();
            let rule = if *second == "urls" {
                Rule::urls(&verbs, rest)
            } else {
                let groups: Vec<&str> = second.split(',').map(|g| if g == "core" { "" } else { g }).collect();
                let named = rest.iter().position(|w| *w == "named").unwrap_or(rest.len());
                let (resources, names) = rest.split_at(named);
                Rule::resources(&verbs, &groups, resources, names.get(1..).unwrap_or_default())
            };
            if let Some(rules) = object["rules"].as_array_mut() {
                rules.push(rule.to_value());
            }
        }
    }
}

fn push(binding: &mut Value, subject: Value) {
    match binding["subjects"].as_array_mut() {
        Some(subjects) => subjects.push(subject),
        None => binding["subjects"] = json!([subject]),
    }
}

/// A controller runs as the service account of its name.
fn bind_controller(role: &Value) -> Option<Value> {
    let name = role["metadata"]["name"].as_str()?;
    let account = name.strip_prefix(CONTROLLER)?;
    let mut binding = begin(&["binding", name, "ClusterRole", name])?;
    push(&mut binding, json!({"kind": "ServiceAccount", "name": account, "namespace": "kube-system"}));
    Some(binding)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::authorization::Attributes;

    #[test]
    fn the_policy_is_read_whole() {
        let objects = objects();
        let count = |kind: &str| objects.iter().filter(|o| o["kind"] == kind).count();
        let lines = [CLUSTER, CONTROLLERS, BINDINGS].map(str::lines).into_iter().flatten();
        let begins = lines.filter(|l| l.starts_with("role ") || l.starts_with("binding ")).count();
        assert_eq!(objects.len(), begins + count("ClusterRole") - parse(CLUSTER).len());
        let rules =
            objects.iter().filter(|o| o["rules"].is_array()).map(|o| Rule::list(o).len()).sum::<usize>();
        let subjects: usize = objects.iter().filter_map(|o| o["subjects"].as_array()).map(Vec::len).sum();
        let controllers = parse(CONTROLLERS).len();
        let indented = [CLUSTER, CONTROLLERS, BINDINGS].map(str::lines).into_iter().flatten();
        assert_eq!(rules + subjects, indented.filter(|l| l.starts_with(' ')).count() + controllers);
    }

    #[test]
    fn samples() {
        let objects = objects();
        let find = |kind: &str, name: &str| {
            objects.iter().find(|o| o["kind"] == kind && o["metadata"]["name"] == name).unwrap()
        };
        let edit = find("ClusterRole", "edit");
        assert_eq!(edit["rules"], Value::Null);
        assert_eq!(
            edit["aggregationRule"],
            json!({"clusterRoleSelectors": [{"matchLabels": {"rbac.authorization.k8s.io/aggregate-to-edit": "true"}}]})
        );
        assert_eq!(
            edit["metadata"]["labels"],
            json!({"kubernetes.io/bootstrapping": "rbac-defaults", "rbac.authorization.k8s.io/aggregate-to-admin": "true"})
        );
        assert_eq!(
            *find("Role", "extension-apiserver-authentication-reader"),
            json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "Role",
                "metadata": {"name": "extension-apiserver-authentication-reader", "namespace": "kube-system",
                    "labels": {"kubernetes.io/bootstrapping": "rbac-defaults"},
                    "annotations": {"rbac.authorization.kubernetes.io/autoupdate": "true"}},
                "rules": [{"apiGroups": [""], "resources": ["configmaps"], "verbs": ["get", "list", "watch"],
                    "resourceNames": ["extension-apiserver-authentication"]}]})
        );
        assert_eq!(
            find("ClusterRoleBinding", "system:controller:replicaset-controller")["subjects"],
            json!([{"kind": "ServiceAccount", "name": "replicaset-controller", "namespace": "kube-system"}])
        );
        assert_eq!(find("ClusterRoleBinding", "system:node").get("subjects"), None);
    }

    #[test]
    fn rules_of_nodes() {
        let rules = node_rules();
        let ask = |verb, resource| {
            let a = Attributes { is_resource: true, verb, resource, ..Attributes::default() };
            rules.iter().any(|r| r.allows(&a))
        };
        assert!(ask("list", "services") && !ask("delete", "services") && ask("create", "events"));
    }
}
