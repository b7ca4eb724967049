//! The node's network: Services ([`proxy`]), the pods' bridge and addresses ([`cni`]), names ([`dns`]).
//!
//! Start with [`proxy::plan`]: what nftables must hold for a set of Services, as a pure function; around it,
//! [`proxy::Proxy`] follows the API and hands the difference to the kernel as one transaction. [`dns::answer`]
//! is the same for names. [`cni::setup`] lays what a pod needs before it starts.
//!
//! What is not here: session affinity, NetworkPolicy, Ingress, routes between nodes.

pub mod cni;
pub mod dns;
pub mod proxy;

#[cfg(test)]
mod testing;
