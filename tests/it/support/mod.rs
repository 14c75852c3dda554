//! A double of each outside party, as a builder.
