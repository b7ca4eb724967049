//! Fields that somebody else owns and an apply would change.

use std::collections::BTreeMap;

use super::entries::Operation;
use super::set::{FieldSet, PathElement};
use super::slot::Slot;
use crate::status::{Cause, Status, cause};

/// One field and one of those who own it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Conflict {
    /// As upstream's messages name who owns it: `"kubectl" using apps/v1`.
    pub manager: String,
    /// `.spec.replicas`
    pub field: String,
    pub(super) path: Vec<PathElement>,
}

/// The conflicts with one manager, in the order of its paths.
pub(super) fn conflicts(slot: &Slot, shared: &FieldSet, into: &mut Vec<Conflict>) {
    let manager = name(slot);
    shared.for_each(&mut Vec::new(), &mut |path| {
        into.push(Conflict {
            manager: manager.clone(),
            field: path.iter().map(|element| element.to_string()).collect(),
            path: path.iter().map(|element| (*element).clone()).collect(),
        });
    });
}

fn name(slot: &Slot) -> String {
    let mut name = crate::field::quote(slot.text("manager"));
    let subresource = slot.text("subresource");
    if !subresource.is_empty() {
        name += &format!(" with subresource {}", crate::field::quote(subresource));
    }
    if slot.text("operation") == Operation::Update.text() {
        name += &format!(" using {}", slot.text("apiVersion"));
    }
    name
}

/// The 409.
pub(super) fn status(conflicts: &[Conflict]) -> Status {
    let causes = conflicts
        .iter()
        .map(|conflict| Cause {
            kind: cause::FIELD_MANAGER_CONFLICT.into(),
            message: format!("conflict with {}", conflict.manager),
            field: conflict.field.clone(),
        })
        .collect();
    Status::apply_conflict(causes, message(conflicts))
}

fn message(conflicts: &[Conflict]) -> String {
    if let [only] = conflicts {
        return format!("Apply failed with 1 conflict: conflict with {}: {}", only.manager, only.field);
    }
    let mut by_manager: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for conflict in conflicts {
        by_manager.entry(&conflict.manager).or_default().push(&conflict.field);
    }
    let lines: Vec<String> = by_manager
        .iter()
        .flat_map(|(manager, fields)| {
            let fields = fields.iter().map(|field| format!("- {field}"));
            std::iter::once(format!("conflicts with {manager}:")).chain(fields)
        })
        .collect();
    format!("Apply failed with {} conflicts: {}", conflicts.len(), lines.join("\n"))
}
