//! Inputs that are made rather than found: as large as a body may be, and each with one bad intention.

use crate::Target;

/// Upstream's limit of a request's body.
pub const LARGEST: usize = 3 << 20;

/// For this target, with names.
pub fn inputs(_target: &Target) -> Vec<(&'static str, Vec<u8>)> {
    Vec::new()
}
