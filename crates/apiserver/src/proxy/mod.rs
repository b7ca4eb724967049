//! Requests that a node answers: logs, exec, attach, port-forward of pods, and `nodes/proxy`.
//!
//! [`location`] says where on a kubelet a request belongs (pure), [`backend`] carries it there: an own
//! connection per request, over TLS with the API server's client certificate. An answer of 101 turns both
//! connections into a tunnel, byte by byte, whatever is spoken inside (SPDY/3.1, WebSocket).

pub mod backend;
pub mod location;

pub use backend::{Backend, Route};
