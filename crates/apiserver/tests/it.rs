//! The API server in process, over a real store in a temporary directory: requests in, answers out.

mod access;
mod admission;
mod apply;
mod bad_input;
mod bootstrap;
mod crud;
mod delete;
mod discovery;
mod kubectl;
mod list;
mod pods;
mod services;
mod streaming;
mod table;
mod tls;
mod walk;
mod watch;
mod world;
