//! The API server: one resource engine for all kinds, over the store.
//!
//! Start at [`server::ApiServer::handle`]: a request goes through plain calls in a visible order, authenticate →
//! authorize → dispatch → handler. `handlers` has one file per verb, [`registry::generic`] is the write path of
//! every kind, [`registry`] the rules that need storage, [`storage`] the keys, bytes and encodings, [`proxy`] the
//! way to the nodes.
//!
//! ```text
//! connections (server::serve) ─┐
//! in-process transport ────────┴─ ApiServer::handle ─ authentication ─ authorization ─ handlers ─┬─ storage (reads)
//!                                                                                               └─ registry ─ admission,
//!                                                                                                  kinds, storage (writes)
//! ```
//!
//! **Invariants.** No `match` on a kind outside [`registry`]. Nothing answers from a revision that is not durable:
//! the store shows no other. GET, LIST and watches of plain JSON are put together from bytes; a `Value` is made
//! only to write, to convert, or to print a table.
//!
//! Not here: rules of a kind that need no storage (crate `kinds`), the store itself (crate `etcd`).

#![allow(
    clippy::result_large_err,
    reason = "a Status is the answer to a request that failed: rare, and boxing it would show at every fault"
)]

pub mod admission;
pub mod aggregator;
pub mod authentication;
pub mod authorization;
pub mod bootstrap;
pub mod conversion;
pub mod custom;
pub mod discovery;
mod handlers;
pub mod health;
pub mod metrics;
pub mod metrics_api;
pub mod negotiation;
pub mod openapi;
pub mod proxy;
pub mod registry;
pub mod remote;
pub mod request;
pub mod response;
pub mod server;
pub mod storage;
mod streaming;
pub mod webhook;

pub use handlers::options;
