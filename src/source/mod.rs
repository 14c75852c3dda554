//! Where telemetry comes in. Every source hands batches to the intake and waits for its verdict; none keeps a queue of its own.

pub mod accept;
pub mod otlp;
