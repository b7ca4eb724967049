//! What is shown of any object, of a Status and of a Scale.

use super::cell::{created, name, number, string, text};
use super::{AGE, Column, Columns, Kinds, NAME};

/// Of kinds without columns of their own.
pub(super) static GENERIC: Columns = Columns::new(
    &[NAME, Column::new("Created At", "date", "Time at which the object was created.")],
    |o, _| {
        let created = Some(string(&o["metadata"]["creationTimestamp"])).filter(|t| !t.is_empty());
        vec![name(o), created.unwrap_or("0001-01-01T00:00:00Z").into()]
    },
);

/// Kinds that turn up under several groups.
pub(super) static KINDS: Kinds = &[(
    "Status",
    Columns::new(
        &[
            Column::text("Status", "Success or Failure."),
            Column::text("Reason", "Why the operation failed, in one word."),
            Column::text("Message", "What happened, for humans."),
        ],
        |o, _| vec![text(&o["status"]), text(&o["reason"]), text(&o["message"])],
    ),
)];

/// A Scale, whichever group it is read through.
pub(super) const SCALE: Columns = Columns::new(
    &[
        Column::text("Name", "Name of the scaled object."),
        Column::number("Desired", "Replicas asked for."),
        Column::number("Available", "Replicas there are."),
        AGE,
    ],
    |o, now| {
        let (desired, there) = (number(&o["spec"]["replicas"]), number(&o["status"]["replicas"]));
        vec![name(o), desired.into(), there.into(), created(o, now)]
    },
);
