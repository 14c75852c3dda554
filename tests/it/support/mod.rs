//! A double of each outside party, as a builder.

pub mod gitpod;
pub mod receiver;
pub mod telemetry;
