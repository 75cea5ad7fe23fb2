//! What a worker and an engine process say to each other.
//!
//! A worker links no model code. It starts one engine process per resident model and exchanges
//! [frames](frame) of [`ToEngine`] and [`FromEngine`] messages with it over the child's stdin and
//! stdout; logs go to the child's stderr. An engine implements [`Engine`] and calls
//! [`process::run`], which does the rest.
//!
//! Nothing here knows a model, a device or an async runtime.

pub mod arguments;
#[cfg(any(test, feature = "contract"))]
pub mod contract;
pub mod echo;
mod engine;
mod error;
mod face;
pub mod frame;
mod generation;
mod image;
mod info;
pub mod panics;
pub mod process;
mod protocol;
pub mod serve;
mod speech;
mod task;

pub use engine::{Engine, Prepared};
pub use error::{EngineError, ItemError, StartError};
pub use face::{Face, FaceInput, Faces};
pub use frame::{FrameError, FrameReader, FrameWriter, MAX_FRAME_BYTES};
pub use generation::{
    ChatMessage, Deaf, Finish, Generation, GenerationInput, GenerationSettings, Listener, Piece,
    Prompt, Wanted,
};
pub use image::{CaptionInput, ImageInput, Question};
pub use info::{EngineInfo, LoadSeconds};
pub use protocol::{FromEngine, ItemKey, MAX_PREPARE_THREADS, PROTOCOL_VERSION, ToEngine};
pub use serve::{ServeError, serve};
pub use speech::{Recording, Segment, Transcript, WrittenIn};
pub use task::{ItemInput, ItemOutput, Labels, Scores, TaskKind, UnknownTask};
