//! The node's network with real sockets. What needs a kernel of its own runs in network namespaces that each
//! test makes: one for the "host", one per "pod". That needs root; without it such tests are skipped, but fail
//! under `CI`.

mod names;
mod services;
mod world;
