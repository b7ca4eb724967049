//! What every Kubernetes object and every party to the API shares, with no kind known by name.
//!
//! Start at [`clock`] for the two things that are never globals here.

pub mod clock;
pub mod gvk;
pub mod schema;
