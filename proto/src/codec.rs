//! The protobuf codec with honest errors.
//!
//! tonic's own codec answers `INTERNAL` when a message cannot be decoded. What could not be decoded
//! is the caller's mistake (bytes that are not UTF-8 in a text, a truncated message), so a server
//! must answer `INVALID_ARGUMENT` and say which field.

use std::marker::PhantomData;

use prost::Message;
use tonic::Status;
use tonic::codec::{Codec, DecodeBuf, Decoder};
use tonic_prost::ProstEncoder;

use crate::status;

/// Encodes `T`, decodes `U`; a decoding error is `INVALID_ARGUMENT` and names the field.
#[derive(Debug)]
pub struct StrictCodec<T, U>(PhantomData<fn(T) -> U>);

impl<T, U> Default for StrictCodec<T, U> {
    fn default() -> Self {
        Self(PhantomData)
    }
}

impl<T, U> Codec for StrictCodec<T, U>
where
    T: Message + Send + 'static,
    U: Message + Default + Send + 'static,
{
    type Encode = T;
    type Decode = U;
    type Encoder = ProstEncoder<T>;
    type Decoder = StrictDecoder<U>;

    fn encoder(&mut self) -> Self::Encoder {
        ProstEncoder::default()
    }

    fn decoder(&mut self) -> Self::Decoder {
        StrictDecoder(PhantomData)
    }
}

/// Decoder half of [`StrictCodec`].
#[derive(Debug)]
pub struct StrictDecoder<U>(PhantomData<fn() -> U>);

impl<U: Message + Default + Send + 'static> Decoder for StrictDecoder<U> {
    type Item = U;
    type Error = Status;

    fn decode(&mut self, buffer: &mut DecodeBuf<'_>) -> Result<Option<U>, Status> {
        U::decode(buffer).map(Some).map_err(|error| {
            let problem = format!(
                "could not be decoded: {error}; text fields must be UTF-8, and client and server \
                 must use the same version of stoker/v1"
            );
            status::invalid_field("request", &problem)
        })
    }
}
