//! kube-proxy: Services as nftables rules.
//!
//! ```text
//! observe   services::observe(Services, EndpointSlices)   what each Service port leads to
//! plan      plan(config, node, ports) -> Ruleset          every chain and element, by name
//! diff      ruleset::diff(applied, wanted) -> Transaction only what changed
//! act       linux::nftables::apply(text)                  all of it or nothing
//! ```
//!
//! All rules live in tables of our own (one per IP family, [`Config::table`]), so that nothing of others is
//! touched. Two proxies in one network namespace need different tables and disjoint service and node port
//! ranges; [`Config::foreign_interfaces`] relaxes that for traffic from pods (see there).
//!
//! Not here: session affinity, topology hints, the health check node port of load balancers.

mod config;
mod plan;
pub mod ruleset;
mod run;
mod services;
mod tables;

pub use config::{Config, NodePortAddresses};
pub use plan::{Node, plan, stale_flows};
pub use run::{Handle, Health, Proxy, cleanup};
pub use services::{Endpoint, Policy, Protocol, ServicePort, observe};
pub use tables::{Check, Tables};
