//! `internal.apiserver.k8s.io` and `storagemigration.k8s.io`

use super::cell::{created, given_or, list, name, qualified, string, text_or, with_more};
use super::{AGE, Column, Columns, Kinds, NAME};

pub(super) static KINDS: Kinds = &[
    (
        "StorageVersion",
        Columns::new(
            &[
                NAME,
                Column::text("CommonEncodingVersion", "The version that all servers store."),
                Column::text("StorageVersions", "The version that each server stores."),
                AGE,
            ],
            |o, now| {
                let status = &o["status"];
                let versions: Vec<String> = list(&status["storageVersions"])
                    .iter()
                    .map(|v| format!("{}={}", string(&v["apiServerID"]), string(&v["encodingVersion"])))
                    .collect();
                vec![
                    name(o),
                    given_or(&status["commonEncodingVersion"], "<unset>"),
                    text_or(&with_more(&versions, 3).into(), "<unset>"),
                    created(o, now),
                ]
            },
        ),
    ),
    (
        "StorageVersionMigration",
        Columns::new(
            &[
                Column::text("Name", "Name of the object."),
                Column::text("Resource", "GroupResource to migrate"),
                Column::text("Status", "Status of the migration"),
            ],
            |o, _| {
                let resource = &o["spec"]["resource"];
                let resource = qualified(string(&resource["resource"]), string(&resource["group"]));
                let mut states = list(&o["status"]["conditions"])
                    .iter()
                    .filter(|c| c["status"] == "True")
                    .map(|c| string(&c["type"]));
                let state = states.rfind(|state| matches!(*state, "Running" | "Failed" | "Succeeded"));
                vec![name(o), resource.into(), state.unwrap_or("Unknown").into()]
            },
        ),
    ),
];
