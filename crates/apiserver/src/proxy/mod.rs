//! Requests that others answer. Kubelets: logs, exec, attach, port-forward of pods, and `nodes/proxy`; pods
//! themselves: `pods/proxy`, `services/proxy`.
//!
//! [`location`] says where on a kubelet a request belongs, [`target`] where a proxied one does, [`rewrite`] what
//! links in the answer become (all pure); [`backend`] carries it there: an own connection per request. To a
//! kubelet it is TLS with the API server's client certificate. An answer of 101 turns both connections into a
//! tunnel, byte by byte, whatever is spoken inside (SPDY/3.1, WebSocket).

pub mod backend;
pub mod location;
pub mod log_options;
pub mod rewrite;
pub mod service;
pub mod target;

pub use backend::{Backend, Route};
