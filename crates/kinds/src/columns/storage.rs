//! `storage.k8s.io`

use super::cell::{count, created, given_or, join, joined, name, text, text_or};
use super::core::class_name;
use super::{AGE, Column, Columns, Kinds, NAME};

pub(super) static KINDS: Kinds = &[
    (
        "StorageClass",
        Columns::new(
            &[
                NAME,
                Column::text("Provisioner", "Who makes the volumes."),
                Column::text("ReclaimPolicy", "What becomes of a volume once it is released."),
                Column::text("VolumeBindingMode", "When volumes are made and bound."),
                Column::text("AllowVolumeExpansion", "Whether volumes can grow."),
                AGE,
            ],
            |o, now| {
                let annotations = [
                    "storageclass.kubernetes.io/is-default-class",
                    "storageclass.beta.kubernetes.io/is-default-class",
                ];
                vec![
                    class_name(o, &annotations),
                    text(&o["provisioner"]),
                    given_or(&o["reclaimPolicy"], "Delete"),
                    given_or(&o["volumeBindingMode"], "Immediate"),
                    (o["allowVolumeExpansion"] == true).into(),
                    created(o, now),
                ]
            },
        ),
    ),
    (
        "VolumeAttributesClass",
        Columns::new(&[NAME, Column::text("DriverName", "The driver that it is for."), AGE], |o, now| {
            vec![name(o), text(&o["driverName"]), created(o, now)]
        }),
    ),
    (
        "VolumeAttachment",
        Columns::new(
            &[
                NAME,
                Column::text("Attacher", "Who attaches the volume.").named(),
                Column::text("PV", "The volume."),
                Column::text("Node", "The node that it is attached to."),
                Column::flag("Attached", "Whether it is."),
                AGE,
            ],
            |o, now| {
                let spec = &o["spec"];
                vec![
                    name(o),
                    text(&spec["attacher"]),
                    text(&spec["source"]["persistentVolumeName"]),
                    text(&spec["nodeName"]),
                    (o["status"]["attached"] == true).into(),
                    created(o, now),
                ]
            },
        ),
    ),
    (
        "CSINode",
        Columns::new(&[NAME, Column::number("Drivers", "How many drivers the node has."), AGE], |o, now| {
            vec![name(o), count(&o["spec"]["drivers"]).into(), created(o, now)]
        }),
    ),
    (
        "CSIDriver",
        Columns::new(
            &[
                NAME,
                Column::flag("AttachRequired", "Whether volumes have to be attached first."),
                Column::flag("PodInfoOnMount", "Whether the driver is told of the pod."),
                Column::flag("StorageCapacity", "Whether the driver reports capacity."),
                Column::text("TokenRequests", "Audiences of the tokens that the driver needs."),
                Column::flag("RequiresRepublish", "Whether volumes are mounted again from time to time."),
                Column::text("Modes", "Persistent, ephemeral or both."),
                AGE,
            ],
            |o, now| {
                let spec = &o["spec"];
                let tokens = match spec["tokenRequests"].is_null() {
                    true => "<unset>".to_string(),
                    false => join(&spec["tokenRequests"], "audience"),
                };
                vec![
                    name(o),
                    (spec["attachRequired"] != false).into(),
                    (spec["podInfoOnMount"] == true).into(),
                    (spec["storageCapacity"] == true).into(),
                    tokens.into(),
                    (spec["requiresRepublish"] == true).into(),
                    text_or(&joined(&spec["volumeLifecycleModes"]).into(), "<none>"),
                    created(o, now),
                ]
            },
        ),
    ),
    (
        "CSIStorageCapacity",
        Columns::new(
            &[
                NAME,
                Column::text("StorageClassName", "The class that it is the capacity of."),
                Column::text("Capacity", "How much is left."),
            ],
            |o, _| vec![name(o), text(&o["storageClassName"]), given_or(&o["capacity"], "<unset>")],
        ),
    ),
];
