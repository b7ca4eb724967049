//! What `kubectl get` shows of each kind: the columns of a Table and the cells of a row.
//!
//! Start at [`columns()`]. One file per API group; cells are those of upstream's
//! `pkg/printers/internalversion`, wide ones (priority 1) always among them. Putting a `meta.k8s.io/v1.Table`
//! together, with its rows' objects, is the API server's matter.

mod admissionregistration;
mod apiregistration;
mod apps;
mod autoscaling;
mod batch;
mod cell;
mod certificates;
mod coordination;
mod core;
mod discovery;
mod flowcontrol;
mod internal;
mod meta;
mod networking;
mod node;
mod pod;
mod policy;
mod rbac;
mod resource;
mod scheduling;
mod storage;

use std::cmp::Ordering;

use jiff::Timestamp;
use serde_json::{Value, json};

pub use cell::{age, human_duration};

/// One column of a table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Column {
    pub name: &'static str,
    /// OpenAPI type: `string`, `integer`, `boolean`, `date`.
    pub kind: &'static str,
    /// OpenAPI format; `name` marks the object's name.
    pub format: &'static str,
    pub description: &'static str,
    /// 0 is always shown, 1 only in wide output.
    pub priority: i32,
}

impl Column {
    const fn new(name: &'static str, kind: &'static str, description: &'static str) -> Column {
        Column { name, kind, format: "", description, priority: 0 }
    }

    const fn text(name: &'static str, description: &'static str) -> Column {
        Column::new(name, "string", description)
    }

    const fn number(name: &'static str, description: &'static str) -> Column {
        Column::new(name, "integer", description)
    }

    const fn flag(name: &'static str, description: &'static str) -> Column {
        Column::new(name, "boolean", description)
    }

    const fn wide(name: &'static str, description: &'static str) -> Column {
        Column { priority: 1, ..Column::new(name, "string", description) }
    }

    const fn named(self) -> Column {
        Column { format: "name", ..self }
    }

    /// As `meta/v1.TableColumnDefinition`.
    pub fn to_value(&self) -> Value {
        json!({"name": self.name, "type": self.kind, "format": self.format,
            "description": self.description, "priority": self.priority})
    }
}

const NAME: Column = Column::text("Name", "Name of the object, unique within its namespace.").named();
const AGE: Column = Column::text("Age", "Time since the object was created.");
const CONTAINERS: Column = Column::wide("Containers", "Names of each container in the template.");
const IMAGES: Column = Column::wide("Images", "Images referenced by each container in the template.");
const SELECTOR: Column = Column::wide("Selector", "Selects the objects that belong to this one.");

/// How objects of one kind are shown.
pub struct Columns {
    pub definitions: &'static [Column],
    /// The cells of one object, one per definition. Objects are in normal form, of any served version.
    pub cells: fn(&Value, Timestamp) -> Vec<Value>,
    /// `TableRow.conditions`, for a row that is shown dimmed.
    pub conditions: fn(&Value) -> Vec<Value>,
    /// The order of rows where it is not that of the list.
    pub order: Option<fn(&Value, &Value) -> Ordering>,
}

impl Columns {
    const fn new(definitions: &'static [Column], cells: fn(&Value, Timestamp) -> Vec<Value>) -> Columns {
        Columns { definitions, cells, conditions: |_| Vec::new(), order: None }
    }
}

/// The kinds of one file.
type Kinds = &'static [(&'static str, Columns)];

/// The columns of a kind. One that has none of its own is shown by name and time of creation.
pub fn columns(group: &str, kind: &str) -> &'static Columns {
    let kinds: Kinds = match group {
        "" => core::KINDS,
        "admissionregistration.k8s.io" => admissionregistration::KINDS,
        "apiregistration.k8s.io" => apiregistration::KINDS,
        "apps" => apps::KINDS,
        "autoscaling" => autoscaling::KINDS,
        "batch" => batch::KINDS,
        "certificates.k8s.io" => certificates::KINDS,
        "coordination.k8s.io" => coordination::KINDS,
        "discovery.k8s.io" => discovery::KINDS,
        "events.k8s.io" => core::EVENTS,
        "flowcontrol.apiserver.k8s.io" => flowcontrol::KINDS,
        "internal.apiserver.k8s.io" | "storagemigration.k8s.io" => internal::KINDS,
        "meta.k8s.io" => meta::KINDS,
        "networking.k8s.io" => networking::KINDS,
        "node.k8s.io" => node::KINDS,
        "policy" => policy::KINDS,
        "rbac.authorization.k8s.io" => rbac::KINDS,
        "resource.k8s.io" => resource::KINDS,
        "scheduling.k8s.io" => scheduling::KINDS,
        "storage.k8s.io" => storage::KINDS,
        _ => &[],
    };
    let own = kinds.iter().find(|(name, _)| *name == kind).map(|(_, columns)| columns);
    let common = || meta::KINDS.iter().find(|(name, _)| *name == kind).map(|(_, columns)| columns);
    own.or_else(common).unwrap_or(&meta::GENERIC)
}

#[cfg(test)]
mod tests;
