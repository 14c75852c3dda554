//! Settings as written, with origins, to one complete configuration.
