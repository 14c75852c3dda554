//! What people look at: the status, as a value.
pub mod status;
