//! The cluster's DNS, after the Kubernetes DNS specification 1.1.0: A, AAAA, SRV and PTR for Services and the
//! endpoints of headless ones, CNAME for ExternalName; other names are asked of the node's own resolvers.
//!
//! ```text
//! Zone      the informers' stores, with indexes     no state of its own
//! answer    answer(zone, question) -> Answer        pure; all rules are there
//! Server    UDP and TCP, truncation, forwarding     I/O, thin
//! ```
//!
//! It runs inside the node's process and listens on an address that pods reach (the bridge's gateway). Pods
//! ask the cluster IP of `kube-system/kube-dns`, which the proxy's rules lead here: [`service_objects`] gives
//! the two objects for it.
//!
//! Not here: caching of foreign answers, DNSSEC, zone transfers.

mod forward;
mod objects;
mod server;
mod zone;

pub use forward::{Resolvers, parse_resolv_conf};
pub use objects::service_objects;
pub use server::{BindError, Config, Handle, Server};
pub use zone::{Answer, Question, Zone, answer};
