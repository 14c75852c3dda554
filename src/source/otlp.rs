//! The OTLP receiver: gRPC and HTTP on loopback.
