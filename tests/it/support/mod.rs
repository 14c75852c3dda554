//! A double of each outside party, as a builder.

pub mod exporting;
pub mod gitpod;
pub mod receiver;
pub mod telemetry;
pub mod upstream;
