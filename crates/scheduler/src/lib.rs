//! The scheduler: finds a node for every pod that has none, and says why when there is none.
//!
//! Start at [`cycle::schedule`], the pure decision for one pod over the cached nodes: filter, then score.
//! [`plugins`] has one file per plugin; [`framework::Plugin`] is what a plugin may take part in. [`queue`] and
//! [`cache`] are synchronous; [`Scheduler`] is the thin shell that feeds them from informers and binds.
//!
//! Not here yet: preemption, inter-pod affinity, topology spread, volumes, extenders, profiles.

pub mod cache;
pub mod cycle;
pub mod framework;
pub mod plugins;
pub mod queue;
pub mod types;

mod metrics;
mod scheduler;

pub use scheduler::{Config, Scheduler, View};
