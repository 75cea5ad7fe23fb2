//! The wire: protobuf services, and their conversion to and from domain types.
