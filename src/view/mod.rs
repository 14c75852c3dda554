//! What people look at: the status, as a value, and which build says it.
pub mod build;
pub mod status;
