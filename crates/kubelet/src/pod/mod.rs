//! Everything about one pod: what it asks for, what the runtime shows of it, what to do about the difference,
//! and what to say about it.
//!
//! Read [`plan`] and [`status`] first: both are pure. [`observed`] is their input; `worker` does the deeds.

pub mod backoff;
pub mod cgroups;
pub mod conditions;
pub mod container;
pub mod dns;
pub mod env;
pub mod fields;
pub mod hosts;
pub mod labels;
pub mod observed;
pub mod plan;
pub mod resources;
pub mod sandbox;
pub mod security;
pub mod spec;
pub mod status;
