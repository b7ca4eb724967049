//! Custom resources, as far as they are pure: what a CustomResourceDefinition says, and what follows from it for its
//! objects. Start at [`structural`].
//!
//! Nothing here stores, serves or evaluates an expression.

pub mod definition;
pub mod status;
pub mod structural;
