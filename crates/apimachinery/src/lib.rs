//! What every Kubernetes object and every party to the API shares, with no kind known by name.
//!
//! Start at [`clock`] for the two things that are never globals here.

pub mod clock;
pub mod codec;
pub mod field;
pub mod fields;
pub mod gvk;
pub mod intstr;
pub mod jsonpath;
pub mod labels;
pub mod managed_fields;
pub mod names;
pub mod patch;
pub mod quantity;
pub mod schema;
pub mod status;
pub mod time;
