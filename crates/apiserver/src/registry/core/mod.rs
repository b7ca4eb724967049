//! Kinds of the core group.

pub mod eviction;
pub mod namespace;
pub mod pod;
pub mod resource_quota;
pub mod service;
pub mod service_hooks;
