//! What a worker and an engine process say to each other.
