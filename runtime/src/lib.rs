//! How every process starts, is configured, observed and stopped.
