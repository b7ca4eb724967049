//! The API server in process, over a real store in a temporary directory: requests in, answers out.

mod bad_input;
mod crud;
mod delete;
mod list;
mod pods;
mod services;
mod table;
mod watch;
mod world;
