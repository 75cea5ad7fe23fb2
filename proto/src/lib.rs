//! The wire: generated types and services, and their conversion to and from domain types.
//!
//! Only this crate turns wire types into domain types and errors into statuses.
#![warn(clippy::wildcard_enum_match_arm)]

pub mod client;
pub mod codec;
pub mod convert;
mod methods;
pub mod status;
mod text;
pub mod token;

/// Generated from `proto/stoker/v1/*.proto`.
#[expect(
    unused_qualifications,
    clippy::pedantic,
    clippy::allow_attributes,
    clippy::allow_attributes_without_reason,
    clippy::clone_on_ref_ptr,
    reason = "generated code"
)]
pub mod v1 {
    tonic::include_proto!("stoker.v1");

    /// All files as an encoded `FileDescriptorSet`, for server reflection.
    pub const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin"));
}

pub use methods::methods;

/// Protobuf's well-known types.
pub use prost_types as well_known;
