//! A double of each outside party, as a builder.

pub mod agent;
pub mod exporting;
pub mod gitpod;
pub mod load;
pub mod log;
pub mod provider;
pub mod receiver;
pub mod telemetry;
pub mod tls;
pub mod upstream;
pub mod vendor;
