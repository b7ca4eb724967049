//! Custom resources, as far as they are pure: what a CustomResourceDefinition says, and what follows from it for its
//! objects. Start at [`structural`]; rules in CEL are in [`expressions`].
//!
//! Nothing here stores or serves.

pub mod definition;
pub mod expressions;
pub mod status;
pub mod structural;

#[cfg(test)]
mod hostile;
