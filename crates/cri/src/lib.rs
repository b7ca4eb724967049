//! The container runtime: a client for the container runtime interface (CRI) v1, and a containerd of our own.
//!
//! Start reading at [`Client`], the typed calls. [`containerd`] generates the configuration of a containerd and
//! supervises its process.
//!
//! It knows no Kubernetes object: pods, probes and volumes are the kubelet's. It makes no images (crate `oci`
//! does) and does not run containers by itself.

pub mod containerd;

mod client;

pub use client::{Client, Error, Events, Exits};
pub use tonic::Code;

/// The messages of the interface, generated from `proto/api.proto`.
#[allow(missing_docs, clippy::all, reason = "generated code")]
pub mod v1 {
    tonic::include_proto!("runtime.v1");
}

/// containerd's own events, generated from `proto/events.proto`.
#[allow(missing_docs, clippy::all, reason = "generated code")]
pub(crate) mod events_v1 {
    tonic::include_proto!("containerd.services.events.v1");
}
