//! `node.k8s.io`

use super::cell::{created, name, text};
use super::{AGE, Column, Columns, Kinds, NAME};

pub(super) static KINDS: Kinds = &[(
    "RuntimeClass",
    Columns::new(
        &[NAME, Column::text("Handler", "The configuration of the container runtime."), AGE],
        |o, now| vec![name(o), text(&o["handler"]), created(o, now)],
    ),
)];
