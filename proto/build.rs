//! Compiles the protobuf files in pure Rust: no system `protoc` is needed.

use std::error::Error;
use std::path::{Path, PathBuf};

use prost::Message as _;

const FILES: [&str; 6] = ["types", "jobs", "workers", "admin", "queue", "fleet"];

fn main() -> Result<(), Box<dyn Error>> {
    let include = Path::new("proto");
    println!("cargo::rerun-if-changed={}", include.display());
    let files: Vec<PathBuf> =
        FILES.iter().map(|name| include.join(format!("stoker/v1/{name}.proto"))).collect();
    let descriptors = protox::compile(&files, [include])?;

    let out = PathBuf::from(std::env::var("OUT_DIR")?);
    std::fs::write(out.join("descriptors.bin"), descriptors.encode_to_vec())?;
    tonic_prost_build::configure()
        .bytes(".stoker.v1.Embeddings.vectors")
        .bytes(".stoker.v1.Classifications.scores")
        .bytes(".stoker.v1.ImageEmbeddingInput.images")
        .bytes(".stoker.v1.ImageClassificationInput.images")
        .bytes(".stoker.v1.ImageCaptioningInput.images")
        .bytes(".stoker.v1.FaceDetectionInput.images")
        .bytes(".stoker.v1.FaceEmbeddingInput.images")
        .bytes(".stoker.v1.Face.vector")
        .bytes(".stoker.v1.SpeechToTextInput.recordings")
        .boxed(".stoker.v1.ClaimOutcome.outcome.granted")
        .btree_map(".stoker.v1")
        .codec_path("crate::codec::StrictCodec")
        .compile_fds(descriptors)?;
    Ok(())
}
