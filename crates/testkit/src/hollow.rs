//! Nodes without machines: what an API server and the components around it see of a kubelet, with nothing behind
//! it. They serve where upstream's components are tried against an API server and no container is needed.
//!
//! [`node`] registers a node, keeps its Lease and its status, and takes the pods that are bound to it through the
//! steps that [`life`] decides. [`gate`] stands before an API server and cuts its connections now and then, as a
//! balancer or a bad network does. The program is `src/bin/hollow.rs`; `cargo xtask swap` drives it.

pub mod gate;
pub mod life;
pub mod node;
