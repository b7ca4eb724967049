//! `apps`

use serde_json::Value;

use super::cell::{containers, created, labels, list, name, number, qualified, string, workload};
use super::{AGE, CONTAINERS, Column, Columns, IMAGES, Kinds, NAME, SELECTOR};

pub(super) static KINDS: Kinds = &[
    (
        "Deployment",
        Columns::new(
            &[
                NAME,
                Column::text("Ready", "Ready pods of those asked for."),
                Column::text("Up-to-date", "Pods of the newest template."),
                Column::text("Available", "Pods that have been ready for long enough."),
                AGE,
                CONTAINERS,
                IMAGES,
                SELECTOR,
            ],
            |o, now| {
                let (spec, status) = (&o["spec"], &o["status"]);
                let [names, images] = containers(&spec["template"]);
                let selector = apimachinery::labels::Selector::of_value(&spec["selector"]);
                let selector = selector.map_or_else(|_| "<invalid>".to_string(), |s| s.to_string());
                vec![
                    name(o),
                    of(&status["readyReplicas"], &spec["replicas"]),
                    number(&status["updatedReplicas"]).into(),
                    number(&status["availableReplicas"]).into(),
                    created(o, now),
                    names,
                    images,
                    selector.into(),
                ]
            },
        ),
    ),
    (
        "ReplicaSet",
        Columns::new(REPLICAS, |o, now| {
            let mut cells = replicas(o);
            cells.push(created(o, now));
            cells.extend(workload(&o["spec"]));
            cells
        }),
    ),
    (
        "StatefulSet",
        Columns::new(
            &[NAME, Column::text("Ready", "Ready pods of those asked for."), AGE, CONTAINERS, IMAGES],
            |o, now| {
                let ready = of(&o["status"]["readyReplicas"], &o["spec"]["replicas"]);
                let [names, images] = containers(&o["spec"]["template"]);
                vec![name(o), ready, created(o, now), names, images]
            },
        ),
    ),
    (
        "DaemonSet",
        Columns::new(
            &[
                NAME,
                Column::number("Desired", "Nodes that should run the pod."),
                Column::number("Current", "Nodes that should and do run it."),
                Column::number("Ready", "Nodes whose pod is ready."),
                Column::number("Up-to-date", "Nodes that run the newest template."),
                Column::number("Available", "Nodes whose pod has been ready for long enough."),
                Column::text("Node Selector", "Labels that a node must have."),
                AGE,
                CONTAINERS,
                IMAGES,
                SELECTOR,
            ],
            |o, now| {
                let mut cells = vec![name(o)];
                for field in [
                    "desiredNumberScheduled",
                    "currentNumberScheduled",
                    "numberReady",
                    "updatedNumberScheduled",
                    "numberAvailable",
                ] {
                    cells.push(number(&o["status"][field]).into());
                }
                let template = &o["spec"]["template"];
                cells.extend([labels(&template["spec"]["nodeSelector"]), created(o, now)]);
                cells.extend(workload(&o["spec"]));
                cells
            },
        ),
    ),
    (
        "ControllerRevision",
        Columns::new(
            &[
                NAME,
                Column::text("Controller", "Controller of the object"),
                Column::text("Revision", "Number of the state that the object holds."),
                AGE,
            ],
            |o, now| {
                let owners = list(&o["metadata"]["ownerReferences"]);
                let controller = owners.iter().find(|owner| owner["controller"] == true);
                let controller = controller.map_or_else(|| "<none>".to_string(), owner);
                vec![name(o), controller.into(), number(&o["revision"]).into(), created(o, now)]
            },
        ),
    ),
    ("Scale", super::meta::SCALE),
];

/// Of a ReplicaSet and a ReplicationController.
pub(super) const REPLICAS: &[Column] = &[
    NAME,
    Column::number("Desired", "Pods asked for."),
    Column::number("Current", "Pods there are."),
    Column::number("Ready", "Pods that are ready."),
    AGE,
    CONTAINERS,
    IMAGES,
    SELECTOR,
];

pub(super) fn replicas(o: &Value) -> Vec<Value> {
    let counts = [&o["spec"]["replicas"], &o["status"]["replicas"], &o["status"]["readyReplicas"]];
    [name(o)].into_iter().chain(counts.map(|count| number(count).into())).collect()
}

fn of(part: &Value, whole: &Value) -> Value {
    format!("{}/{}", number(part), number(whole)).into()
}

fn owner(owner: &Value) -> String {
    let group = string(&owner["apiVersion"]).split_once('/').map_or("", |(group, _)| group);
    let kind = qualified(string(&owner["kind"]), group).to_lowercase();
    format!("{kind}/{}", string(&owner["name"]))
}
