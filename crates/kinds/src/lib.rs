//! What each kind needs besides its shape: defaults, validation, strategies, table columns, and what several
//! components work out from it.
//!
//! Start at [`strategy()`], the rules of a kind, [`defaults::apply`], and [`columns()`], what `kubectl get` shows.
//! [`pod`] and [`pod_template`] are for the parties that use typed objects. Nothing here does I/O or knows
//! the time.

pub mod admissionregistration;
mod apiextensions;
mod apiregistration;
mod apps;
mod authorization;
pub mod autoscaling;
mod batch;
mod certificates;
mod check;
pub mod columns;
mod coordination;
pub mod core;
pub mod cron;
pub mod defaults;
mod discovery;
mod events;
mod flowcontrol;
mod internal;
mod ip;
mod meta;
mod networking;
mod node;
pub mod object_meta;
pub mod pod;
pub mod pod_security;
pub mod pod_template;
mod policy;
pub mod quota;
mod rbac;
mod resource;
#[cfg(test)]
mod rows;
mod scheduling;
mod storage;
mod storagemigration;
pub mod strategy;
mod webhook;
mod workload;

pub use columns::columns;
pub use strategy::strategy;

#[cfg(test)]
mod table;
#[cfg(test)]
mod tests;
