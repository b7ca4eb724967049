//! The API server in process, over a real store in a temporary directory: requests in, answers out.

mod access;
mod admission;
mod aggregator;
mod apply;
mod bad_input;
mod bootstrap;
mod crud;
mod custom;
mod delete;
mod discovery;
mod hooks;
mod kubectl;
mod list;
mod metrics_api;
mod outside;
mod pods;
mod policies;
mod services;
mod streaming;
mod table;
mod tls;
mod walk;
mod watch;
mod webhooks;
mod world;
