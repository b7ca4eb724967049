//! `coordination.k8s.io`

use super::cell::{created, name, text};
use super::{AGE, Column, Columns, Kinds, NAME};

pub(super) static KINDS: Kinds = &[
    (
        "Lease",
        Columns::new(&[NAME, Column::text("Holder", "Who holds the lease."), AGE], |o, now| {
            vec![name(o), text(&o["spec"]["holderIdentity"]), created(o, now)]
        }),
    ),
    (
        "LeaseCandidate",
        Columns::new(
            &[
                NAME,
                Column::text("LeaseName", "The lease that it stands for."),
                Column::text("BinaryVersion", "Version of the program."),
                Column::text("EmulationVersion", "Version that the program acts as."),
                AGE,
            ],
            |o, now| {
                let spec = &o["spec"];
                let mut cells = vec![name(o)];
                cells.extend(
                    ["leaseName", "binaryVersion", "emulationVersion"].map(|field| text(&spec[field])),
                );
                cells.push(created(o, now));
                cells
            },
        ),
    ),
];
