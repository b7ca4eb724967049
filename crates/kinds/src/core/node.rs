//! Node: its kubelet writes spec and status, also when it creates it.

use crate::strategy::{GENERIC, Strategy};

pub const STRATEGY: Strategy = Strategy {
    keep_status_on_create: true,
    selectable: &[("spec.unschedulable", "/spec/unschedulable", "false")],
    ..GENERIC
};
