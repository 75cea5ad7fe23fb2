//! Why a model could not be had.

use std::io;
use std::path::PathBuf;

/// A model's files could not be had.
#[derive(Debug, thiserror::Error)]
pub enum WeightsError {
    #[error(
        "`{url}` is not of the form s3://BUCKET/FOLDER, gs://BUCKET/FOLDER or az://CONTAINER/FOLDER"
    )]
    Url { url: String },
    #[error("cannot use {url}: check the credentials and the region in the environment")]
    Setup {
        url: String,
        #[source]
        source: object_store::Error,
    },
    #[error("cannot read {url}; what has arrived is kept for the next try")]
    Unreachable {
        url: String,
        #[source]
        source: object_store::Error,
    },
    #[error("{url} is refused")]
    Refused {
        url: String,
        #[source]
        source: Refused,
    },
    #[error(
        "{url} holds weights with the digest {found}, the registry says {expected}: correct one of \
         them; nothing was loaded"
    )]
    Digest { url: String, found: String, expected: String },
    #[error(
        "the cache in {} has no room: {need} bytes are needed, and {free} are free within its limit and \
         on its disk when all goes that is not in use; raise the limit, or use a larger disk",
        directory.display()
    )]
    NoRoom { directory: PathBuf, need: u64, free: u64 },
    #[error("cannot {what} {}", path.display())]
    Io {
        what: &'static str,
        path: PathBuf,
        #[source]
        source: io::Error,
    },
}

/// What is wrong with the files of a model.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    #[error("there are no files under it")]
    Empty,
    #[error("it holds an object that is no file of a folder ({reason}): rename it, or remove it")]
    Key { reason: String },
    #[error("the folder itself holds neither `model.safetensors` nor a `.gguf` file")]
    NoWeights,
    #[error(
        "its weights are {name}, and the model's task takes no GGUF: save them as model.safetensors"
    )]
    Gguf { name: String },
    #[error("it holds no `{name}`, which the model's task needs: copy the model again, all of it")]
    Missing { name: &'static str },
    #[error("it holds several `.gguf` files: keep one of them in a folder of its own")]
    SeveralWeights,
    #[error("it holds weights in several parts: save the model as one file")]
    Sharded,
    #[error(
        "{name} is a pickle, which runs code when it is loaded: convert the model to safetensors"
    )]
    Pickle { name: String },
    #[error("{name} is {found}, neither safetensors nor GGUF")]
    Format { name: String, found: &'static str },
    #[error("{name} has {bytes} bytes, too many for a file that describes a model")]
    TooLarge { name: String, bytes: u64 },
    #[error("its files that describe a model have {bytes} bytes together, {limit} are the limit")]
    TooMuch { bytes: u64, limit: u64 },
    #[error(
        "it holds more than {limit} files that may describe a model: give the model a folder of its own"
    )]
    TooMany { limit: usize },
}

impl WeightsError {
    /// For `map_err` on a file operation.
    pub(crate) fn io(
        what: &'static str,
        path: impl Into<PathBuf>,
    ) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::Io { what, path, source }
    }
}
