//! The whole of it from outside: the real kubectl against freshly started clusters with real containers.
//!
//! Each test has a cluster of its own and walks through many steps; the last step printed is the one that failed.
//! Start reading in `cluster.rs`, which starts and removes clusters and runs programs with a time limit.

mod access;
mod application;
mod bad_input;
mod cluster;
mod crash;
mod healing;
mod images;
mod lifecycle;
mod network;
mod operation;
mod registry;
mod streaming;
