//! What each kind needs besides its shape: defaults, validation, strategies, table columns, and what several
//! components work out from it.

pub mod pod;
