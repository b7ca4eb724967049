//! Which flow schema a request matches, and so which priority level it belongs to (upstream
//! `util/flowcontrol/rule.go`). Pure.

use std::sync::Arc;

use serde_json::Value;

use crate::authorization::Attributes;
use crate::request::UserInfo;

const EXEMPT: &str = "exempt";
const CATCH_ALL: &str = "catch-all";

/// Compiled flow schemas, the one that counts first in front, and the levels that they name.
pub struct Rules {
    schemas: Vec<Schema>,
    levels: Vec<Arc<Level>>,
}

pub struct Schema {
    pub name: Arc<str>,
    pub uid: Option<Arc<str>>,
    precedence: i64,
    level: Arc<Level>,
    by: By,
    rules: Vec<Rule>,
}

/// What tells the flows of a schema apart.
#[derive(Clone, Copy)]
enum By {
    Nothing,
    User,
    Namespace,
}

#[derive(Debug, PartialEq)]
pub struct Level {
    pub name: Arc<str>,
    pub uid: Option<Arc<str>>,
    /// `None`: exempt, no limits.
    pub limited: Option<Limited>,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Limited {
    pub shares: u32,
    pub lendable_percent: u32,
    /// `None`: may borrow whatever others lend.
    pub borrowing_percent: Option<u32>,
    /// `None`: nobody waits.
    pub queue: Option<Queuing>,
}

/// Where requests wait.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Queuing {
    pub queues: usize,
    /// How many of them a flow may use.
    pub hand: usize,
    /// How many may wait in each.
    pub length: usize,
}

struct Rule {
    subjects: Vec<Subject>,
    resources: Vec<Resources>,
    urls: Vec<Urls>,
}

enum Subject {
    User(String),
    Group(String),
    /// Namespace and name.
    ServiceAccount(String, String),
}

struct Resources {
    verbs: Vec<String>,
    groups: Vec<String>,
    resources: Vec<String>,
    cluster: bool,
    namespaces: Vec<String>,
}

struct Urls {
    verbs: Vec<String>,
    urls: Vec<String>,
}

/// Where a request belongs.
pub struct Class<'a> {
    pub schema: &'a Schema,
    pub level: &'a Level,
}

impl Class<'_> {
    /// The flow within the schema: who or where, as the schema tells them apart.
    pub fn flow(&self, user: &UserInfo, namespace: &str) -> String {
        match self.schema.by {
            By::Nothing => String::new(),
            By::User => user.name.clone(),
            By::Namespace => namespace.to_owned(),
        }
    }
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

fn texts(value: &Value) -> Vec<String> {
    value.as_array().into_iter().flatten().map(text).collect()
}

fn uid(object: &Value) -> Option<Arc<str>> {
    object["metadata"]["uid"].as_str().map(Arc::from)
}

fn contains(list: &[String], what: &str) -> bool {
    list.iter().any(|one| one == "*" || one == what)
}

impl Level {
    fn new(object: &Value) -> Self {
        let number = |value: &Value| value.as_u64().and_then(|n| u32::try_from(n).ok());
        let spec = &object["spec"];
        let limited = (spec["type"] != "Exempt").then(|| {
            let limited = &spec["limited"];
            let response = &limited["limitResponse"];
            let queuing = &response["queuing"];
            let queue = (response["type"] == "Queue").then(|| {
                let get = |key: &str, absent: u32| number(&queuing[key]).unwrap_or(absent) as usize;
                Queuing {
                    queues: get("queues", 64),
                    hand: get("handSize", 8),
                    length: get("queueLengthLimit", 50),
                }
            });
            Limited {
                shares: number(&limited["nominalConcurrencyShares"]).unwrap_or(30),
                lendable_percent: number(&limited["lendablePercent"]).unwrap_or(0).min(100),
                borrowing_percent: number(&limited["borrowingLimitPercent"]),
                queue,
            }
        });
        Self { name: text(&object["metadata"]["name"]).into(), uid: uid(object), limited }
    }
}

impl Subject {
    fn new(subject: &Value) -> Option<Self> {
        Some(match subject["kind"].as_str()? {
            "User" => Self::User(text(&subject["user"]["name"])),
            "Group" => Self::Group(text(&subject["group"]["name"])),
            "ServiceAccount" => {
                let account = &subject["serviceAccount"];
                Self::ServiceAccount(text(&account["namespace"]), text(&account["name"]))
            }
            _ => return None,
        })
    }

    fn matches(&self, user: &UserInfo) -> bool {
        match self {
            Self::User(name) => name == "*" || *name == user.name,
            Self::Group(name) => name == "*" || user.groups.contains(name),
            Self::ServiceAccount(namespace, name) => {
                let account =
                    user.name.strip_prefix("system:serviceaccount:").and_then(|r| r.split_once(':'));
                account.is_some_and(|(ns, n)| ns == namespace && (name == "*" || n == name))
            }
        }
    }
}

impl Rule {
    fn new(rule: &Value) -> Self {
        let list = |key: &str| rule[key].as_array().into_iter().flatten();
        Self {
            subjects: list("subjects").filter_map(Subject::new).collect(),
            resources: list("resourceRules")
                .map(|r| Resources {
                    verbs: texts(&r["verbs"]),
                    groups: texts(&r["apiGroups"]),
                    resources: texts(&r["resources"]),
                    cluster: r["clusterScope"] == true,
                    namespaces: texts(&r["namespaces"]),
                })
                .collect(),
            urls: list("nonResourceRules")
                .map(|r| Urls { verbs: texts(&r["verbs"]), urls: texts(&r["nonResourceURLs"]) })
                .collect(),
        }
    }

    fn matches(&self, user: &UserInfo, a: &Attributes<'_>) -> bool {
        if !self.subjects.iter().any(|subject| subject.matches(user)) {
            return false;
        }
        if !a.is_resource {
            let path = |url: &String| {
                url == "*"
                    || url == a.path
                    || url.strip_suffix('*').is_some_and(|start| a.path.starts_with(start))
            };
            return self.urls.iter().any(|r| contains(&r.verbs, a.verb) && r.urls.iter().any(path));
        }
        self.resources.iter().any(|r| {
            contains(&r.verbs, a.verb)
                && contains(&r.groups, a.group)
                && (r.resources.iter().any(|one| one == "*") || {
                    let combined = a.combined_resource();
                    r.resources.contains(&combined)
                })
                && if a.namespace.is_empty() { r.cluster } else { contains(&r.namespaces, a.namespace) }
        })
    }
}

impl Rules {
    /// From stored objects. The two that every cluster must have are there even if nobody wrote them yet.
    pub fn new<'a>(
        schemas: impl Iterator<Item = &'a Value>,
        levels: impl Iterator<Item = &'a Value>,
    ) -> Self {
        let mut levels: Vec<Arc<Level>> = levels.map(|object| Arc::new(Level::new(object))).collect();
        let find = |levels: &[Arc<Level>], name: &str| levels.iter().find(|l| &*l.name == name).cloned();
        let mut mandatory = |name: &str, limited| {
            find(&levels, name).unwrap_or_else(|| {
                let level = Arc::new(Level { name: name.into(), uid: None, limited });
                levels.push(level.clone());
                level
            })
        };
        let exempt = mandatory(EXEMPT, None);
        let shares = Limited { shares: 5, lendable_percent: 0, borrowing_percent: None, queue: None };
        let catch_all = mandatory(CATCH_ALL, Some(shares));
        let mut out: Vec<Schema> = Vec::new();
        for object in schemas {
            let spec = &object["spec"];
            // A schema that names no level that there is, counts for nothing.
            let named = spec["priorityLevelConfiguration"]["name"].as_str().unwrap_or_default();
            let Some(level) = find(&levels, named) else { continue };
            out.push(Schema {
                name: text(&object["metadata"]["name"]).into(),
                uid: uid(object),
                precedence: spec["matchingPrecedence"].as_i64().unwrap_or(1000),
                level,
                by: match spec["distinguisherMethod"]["type"].as_str() {
                    Some("ByUser") => By::User,
                    Some("ByNamespace") => By::Namespace,
                    _ => By::Nothing,
                },
                rules: spec["rules"].as_array().into_iter().flatten().map(Rule::new).collect(),
            });
        }
        let all = |group: &str| {
            let star = || vec!["*".to_owned()];
            let resources = Resources {
                verbs: star(),
                groups: star(),
                resources: star(),
                cluster: true,
                namespaces: star(),
            };
            Rule {
                subjects: vec![Subject::Group(group.to_owned())],
                resources: vec![resources],
                urls: vec![Urls { verbs: star(), urls: star() }],
            }
        };
        let built_in = |name: &str, precedence, level, by, group| Schema {
            name: name.into(),
            uid: None,
            precedence,
            level,
            by,
            rules: vec![all(group)],
        };
        if !out.iter().any(|schema| &*schema.name == EXEMPT) {
            out.push(built_in(EXEMPT, 1, exempt, By::Nothing, crate::authorization::PRIVILEGED_GROUP));
        }
        if !out.iter().any(|schema| &*schema.name == CATCH_ALL) {
            out.push(built_in(CATCH_ALL, 10_000, catch_all.clone(), By::User, "*"));
        }
        out.sort_by(|a, b| (a.precedence, &a.name).cmp(&(b.precedence, &b.name)));
        // The last resort, whoever asks.
        out.push(built_in(CATCH_ALL, i64::MAX, catch_all, By::User, "*"));
        Self { schemas: out, levels }
    }

    pub fn levels(&self) -> impl Iterator<Item = &Arc<Level>> {
        self.levels.iter()
    }

    /// Never fails: what matches nothing else is `catch-all`.
    pub fn classify(&self, user: &UserInfo, a: &Attributes<'_>) -> Class<'_> {
        let (last, others) = self.schemas.split_last().expect("the last resort is always there");
        let found = others.iter().find(|schema| schema.rules.iter().any(|rule| rule.matches(user, a)));
        let schema = found.unwrap_or(last);
        Class { schema, level: &schema.level }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_schemas() {
        let objects = crate::bootstrap::flow_control::objects();
        let of = |kind: &'static str| objects.iter().filter(move |o| o["kind"] == kind);
        let rules = Rules::new(of("FlowSchema"), of("PriorityLevelConfiguration"));
        let everybody = ["system:authenticated"];
        let user = |name: &str, groups: &[&str]| UserInfo::new(name, &[groups, &everybody].concat());
        let pods = Attributes {
            is_resource: true,
            verb: "list",
            resource: "pods",
            namespace: "n",
            ..Attributes::default()
        };
        let lease = Attributes { verb: "update", group: "coordination.k8s.io", resource: "leases", ..pods };
        let node =
            Attributes { namespace: "", resource: "nodes", subresource: "status", verb: "patch", ..pods };
        let path = |path| Attributes { verb: "get", path, ..Attributes::default() };
        let nodes = ["system:nodes"];
        let account = "system:serviceaccount:kube-system:replicaset-controller";
        let table = [
            (user("root", &["system:masters"]), pods, "exempt exempt "),
            (user("jane", &[]), path("/healthz"), "probes exempt "),
            (user("jane", &[]), path("/metrics"), "global-default global-default jane"),
            (user("jane", &[]), pods, "global-default global-default jane"),
            (
                user("system:kube-scheduler", &[]),
                lease,
                "system-leader-election leader-election system:kube-scheduler",
            ),
            (user("system:kube-scheduler", &[]), pods, "kube-scheduler workload-high n"),
            (user("system:node:a", &nodes), node, "system-node-high node-high system:node:a"),
            (user("system:node:a", &nodes), pods, "system-nodes system system:node:a"),
            (
                user(account, &["system:serviceaccounts"]),
                pods,
                "kube-system-service-accounts workload-high n",
            ),
            (
                user("system:serviceaccount:n:x", &["system:serviceaccounts"]),
                pods,
                "service-accounts workload-low system:serviceaccount:n:x",
            ),
            (UserInfo::new("nobody", &[]), pods, "catch-all catch-all nobody"),
        ];
        for (user, attributes, expect) in table {
            let class = rules.classify(&user, &attributes);
            let flow = class.flow(&user, attributes.namespace);
            assert_eq!(format!("{} {} {flow}", class.schema.name, class.level.name), expect);
        }
        let empty = Rules::new([].into_iter(), [].into_iter());
        assert_eq!(&*empty.classify(&user("root", &["system:masters"]), &pods).level.name, "exempt");
        assert_eq!(&*empty.classify(&user("jane", &[]), &pods).level.name, "catch-all");
    }
}
