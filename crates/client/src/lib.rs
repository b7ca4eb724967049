//! How a component talks to the API server: REST over a [`Transport`], informers, the work queue, events and
//! leader election.
//!
//! Start at [`Client`] (one request, one answer) and [`Informer`] (a kind, kept up to date in a [`Store`] with
//! handlers called in order). [`SharedInformers`] hands out one informer per kind. [`WorkQueue`] is what a
//! controller puts keys into. The two transports are [`HttpTransport`] here and the in-process one, which the
//! binary wires over the API server's own `handle`.
//!
//! [`streaming`] is what exec, attach, port-forward and WebSockets are made of, for the servers' side.
//!
//! What is not here: any kind's logic, caching of discovery, protobuf content.

mod backoff;
mod client;
mod discovery;
mod dynamic;
mod error;
mod informer;
mod kubeconfig;
mod leader;
mod metrics;
mod object;
mod queue;
mod recorder;
mod request;
mod shared;
mod store;
pub mod streaming;
mod transport;
mod watch;

pub use backoff::Backoff;
pub use client::{Client, List};
pub use discovery::ApiResource;
pub use dynamic::Dynamic;
pub use error::Error;
pub use informer::{Event, Informer};
pub use kubeconfig::{Access, KubeconfigError, Secret};
pub use leader::{LeaderConfig, LeaderElector};
pub use metrics::Metrics;
pub use object::{Gvr, Key, Kind, Object, PartialObject, key_of, reference};
pub use queue::WorkQueue;
pub use recorder::{EventType, Recorder};
pub use request::{ListParams, Patch, background, foreground, orphan, with_grace, with_uid};
pub use shared::SharedInformers;
pub use store::Store;
pub use transport::{Body, BoxError, HttpTransport, Transport, TransportError, empty_body, full_body};
pub use watch::{WatchEvent, WatchStream};

/// What most calls answer.
pub type Result<T, E = Error> = std::result::Result<T, E>;
