//! The kubelet: it runs the pods that are bound to its node, and says how they and the node are.
//!
//! Start reading at [`Kubelet`], which wires the parts, and then at [`pod::plan`] and [`pod::status`], the pure
//! heart: what to do with a pod, and what to say about it. Everything that the kubelet must remember of a
//! container lies in the runtime's labels and annotations under upstream's names ([`pod::labels`]), so that a
//! restart, of either kind of kubelet, restarts no container.
//!
//! What it does not do yet: persistent volumes and CSI, image collection, eviction (it reports pressure), refusing
//! pods that do not fit, in-place resize, device plugins, log rotation, and user
//! namespaces.

pub mod config;
mod context;
mod credentials;
mod events;
mod housekeeping;
mod http_get;
mod images;
mod kubelet;
mod lifecycle;
pub mod logs;
mod node;
mod objects;
mod pleg;
pub mod pod;
mod pods;
mod probe;
mod runtime;
mod server;
mod static_pods;
pub mod volumes;
mod worker;

pub use config::Config;
pub use kubelet::{Error, Kubelet};
pub use server::{TlsError, log_options, query};
