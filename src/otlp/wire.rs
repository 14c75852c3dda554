//! A protobuf reader and writer, just enough for OTLP requests.
