//! Load on a running cluster, and what it costs: the generator behind `cargo xtask bench`.
//!
//! Start with the program `load` (`src/bin/load.rs`), which has one command per measure. [`connection`] speaks
//! HTTP/2 over TLS to one API server, with as little work of its own as possible, since it shares the machine
//! with the server; [`requests`], [`collections`], [`watchers`], [`crowd`], [`pods`] and [`start`] are the
//! workloads; [`usage`] reads off `/proc` what a server has used.
//!
//! [`hollow`] is something else: nodes without machines, and a gate that cuts connections (`cargo xtask swap`).
//!
//! It starts no cluster (`xtask` does), judges no number, and is bounded in count and time.

pub mod collections;
pub mod connection;
pub mod crowd;
pub mod custom;
pub mod hollow;
pub mod pods;
pub mod requests;
pub mod start;
pub mod usage;
pub mod watchers;
