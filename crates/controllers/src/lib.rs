//! The controllers of upstream's controller manager: each watches some kinds and drives the cluster towards
//! what they ask for.
//!
//! Start at [`Controllers`]; then take one controller, such as `replicaset`: its `start` wires informers to a
//! queue, its `sync(key)` reads the informers' stores, a pure `plan` says what to do, and `sync` does it. One
//! folder per controller, under upstream's names. `owners`, `pods` and `expectations` are what several share.
//!
//! What is not here: the cloud provider's controllers, token and certificate signing, and controllers that
//! later issues bring (`names()` lists what is built).

mod clusterroleaggregation;
mod context;
mod deployment;
mod disruption;
mod endpoint;
mod endpointslice;
mod error;
mod expectations;
mod garbagecollector;
mod namespace;
mod nodeipam;
mod nodelifecycle;
mod owners;
mod podgc;
mod pods;
mod registry;
mod replicaset;
mod resourcequota;
mod rootcacertpublisher;
mod service_pods;
mod serviceaccount;
mod servicecidrs;
mod tainteviction;
mod validatingadmissionpolicystatus;
mod written;

pub use error::{Error, Result};
pub use registry::{Config, ConfigError, Controllers, names};
