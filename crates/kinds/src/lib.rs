//! What each kind needs besides its shape: defaults, validation, strategies, table columns, and what several
//! components work out from it.
//!
//! Start at [`strategy()`], the rules of a kind, [`defaults::apply`], and [`columns()`], what `kubectl get` shows.
//! [`pod`] and [`pod_template`] are for the parties that use typed objects. Nothing here does I/O or knows
//! the time.

mod admissionregistration;
pub mod autoscaling;
mod policy;
mod networking;
mod discovery;
mod events;
mod coordination;
mod storagemigration;
mod internal;
mod authorization;
mod apiextensions;
mod apps;
mod batch;
mod apiregistration;
mod certificates;
mod check;
pub mod columns;
pub mod core;
pub mod cron;
pub mod defaults;
mod flowcontrol;
mod meta;
mod webhook;
mod ip;
mod node;
pub mod pod;
pub mod pod_security;
pub mod pod_template;
pub mod quota;
mod rbac;
mod resource;
mod scheduling;
mod storage;
#[cfg(test)]
mod rows;
pub mod strategy;
mod workload;

pub use columns::columns;
pub use strategy::strategy;

#[cfg(test)]
mod table;
#[cfg(test)]
mod tests;
