//! From a model's source in the registry to a directory that an engine can load.
//!
//! Only safetensors, GGUF and the files that describe the model are accepted or fetched; nothing that can
//! carry code. What the engine would refuse is refused here where names tell, before gigabytes are
//! fetched. The digest is checked by the engine, which reads the weights anyway.

mod bucket;
mod directory;
mod format;
mod hub;
mod modules;

use std::path::PathBuf;
use std::time::Duration;

use stoker_core::request::Task;
use stoker_weights::Needs;

pub(crate) use bucket::get as get_from_bucket;
pub use hub::{Hub, HubError};

/// Which files make a model, besides its weights.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Layout {
    /// As transformers saves it.
    Transformers,
    /// As transformers saves it, or one GGUF file.
    Generation,
    /// As sentence-transformers saves it: `modules.json` says what follows the network, and names some
    /// more files.
    SentenceTransformers,
    /// As transformers saves it, with what images become before the network sees them.
    Images,
    /// The same, with a tokenizer for labels or captions.
    ImagesAndTexts,
    /// What `scripts/faces-from-facenet-pytorch.py` makes: the networks in one file, and `config.json` about them.
    Faces,
}

impl Layout {
    /// The layout of the models that do a task.
    pub const fn of(task: Task) -> Self {
        match task {
            Task::TextEmbedding => Self::SentenceTransformers,
            Task::TextClassification | Task::SpeechToText | Task::Echo => Self::Transformers,
            Task::TextGeneration => Self::Generation,
            Task::ImageEmbedding => Self::Images,
            Task::ImageClassification | Task::ImageCaptioning => Self::ImagesAndTexts,
            Task::FaceDetection | Task::FaceEmbedding => Self::Faces,
        }
    }

    /// Files that describe a model and that the engine needs.
    const fn required(self) -> &'static [&'static str] {
        match self {
            Self::Transformers | Self::Generation => &["config.json", "tokenizer.json"],
            Self::SentenceTransformers => &["config.json", "tokenizer.json", MODULES],
            Self::Images => &["config.json", PREPROCESSOR],
            Self::ImagesAndTexts => &["config.json", PREPROCESSOR, "tokenizer.json"],
            Self::Faces => &["config.json"],
        }
    }

    /// Whether a GGUF file does instead of all others.
    const fn takes_gguf(self) -> bool {
        match self {
            Self::Generation => true,
            Self::Transformers
            | Self::SentenceTransformers
            | Self::Images
            | Self::ImagesAndTexts
            | Self::Faces => false,
        }
    }

    /// The same of a folder in object storage, where it is asked before anything comes.
    const fn needs(self) -> Needs {
        Needs { files: self.required(), gguf: self.takes_gguf() }
    }

    /// Whether [`MODULES`] has a say.
    const fn has_modules(self) -> bool {
        match self {
            Self::Transformers
            | Self::Generation
            | Self::Images
            | Self::ImagesAndTexts
            | Self::Faces => false,
            Self::SentenceTransformers => true,
        }
    }
}

/// Files that the engine reads where a model has them: without one that is there, vectors would be
/// others than the model's.
const OPTIONAL: [&str; 6] = [
    "sentence_bert_config.json",
    "tokenizer_config.json",
    "config_sentence_transformers.json",
    "generation_config.json",
    PREPROCESSOR,
    "chat_template.jinja",
];

/// How token vectors become the vector of a text. Its absence does have a meaning for other software
/// (mean pooling), but a cache or a copy that is not complete looks the same, and its vectors would
/// be wrong without a word.
const MODULES: &str = "modules.json";

/// How images, or recordings, become what a network takes.
const PREPROCESSOR: &str = "preprocessor_config.json";

/// The weights of a model in one file, which is what the registry's digest is of. Models of the BERT
/// family are far below the size from which tools write several files and a list of them.
const WEIGHTS: &str = "model.safetensors";
const WEIGHTS_INDEX: &str = "model.safetensors.index.json";

/// Extensions of pickled weights, which run code when they are loaded.
const PICKLED: [&str; 5] = ["bin", "pt", "pth", "ckpt", "pkl"];

/// A model's files could not be had.
#[derive(Debug, thiserror::Error)]
pub enum WeightsError {
    #[error(
        "there is no directory {}: correct the model's `source` in the fleet file, or put the \
         model there", path.display()
    )]
    NoDirectory { path: PathBuf },
    #[error("{} is not a directory: `file:` names the directory that holds the model", path.display())]
    NotADirectory { path: PathBuf },
    #[error("{} is missing: the model's directory is not complete, copy it again", path.display())]
    FileMissing { path: PathBuf },
    #[error(
        "{} holds weights in several parts, which is not supported: save the model as one \
         model.safetensors", path.display()
    )]
    Sharded { path: PathBuf },
    #[error(
        "{} holds pickled weights ({found}) and no safetensors; pickle runs code when it is loaded \
         and is refused: convert the model to safetensors", path.display()
    )]
    Pickled { path: PathBuf, found: String },
    #[error("cannot read {}", path.display())]
    Read {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    #[error("model `{repository}` at `{revision}` is not usable")]
    Hub {
        repository: String,
        revision: String,
        #[source]
        source: HubError,
    },
    #[error("the model's weights are refused")]
    Refused {
        #[source]
        source: stoker_weights::Refused,
    },
    #[error("there is no home directory for models from object storage: set --weights-cache")]
    NoCache,
    #[error("the model cannot be had from object storage")]
    Bucket(#[from] stoker_weights::WeightsError),
    #[error("download of `{repository}` stopped: nothing arrived for {silence:?}; try again")]
    Stalled { repository: String, silence: Duration },
}

pub use directory::check as check_directory;
pub use format::check as check_format;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bucket_is_asked_for_what_a_directory_has_to_have() {
        for task in [Task::TextEmbedding, Task::TextClassification, Task::TextGeneration] {
            let layout = Layout::of(task);
            let Needs { files, gguf } = layout.needs();
            let folder = tempfile::tempdir().unwrap();
            let put = |name: &str| std::fs::write(folder.path().join(name), b"{}").unwrap();
            put(WEIGHTS);
            for file in files {
                assert!(check_directory(folder.path(), layout).is_err(), "{task:?} needs {file}");
                put(file);
            }
            assert!(check_directory(folder.path(), layout).is_ok(), "{task:?}");
            let folder = tempfile::tempdir().unwrap();
            std::fs::write(folder.path().join("m.gguf"), b"GGUF").unwrap();
            assert_eq!(check_directory(folder.path(), layout).is_ok(), gguf, "{task:?}");
        }
    }
}
