//! What several components work out from a typed Pod: its resources, and which nodes it accepts.

pub mod resources;
pub mod scheduling;
