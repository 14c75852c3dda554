//! One test binary. `support` holds a builder for each outside party; the other modules are stories.
mod gitpod;
mod support;
