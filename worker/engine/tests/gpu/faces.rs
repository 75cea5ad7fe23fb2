//! Faces are found where the reference finds them, and become its vectors.

use std::fs;

use serde_json::Value;
use stoker_core::image::ImageLimits;
use stoker_engine::{FaceFinder, FaceOptions, FaceTask, ModelOptions, Precision};
use stoker_engine_api::{Engine as _, FaceInput, Faces, ItemInput, ItemOutput};

use crate::{GPU, in_repository};

fn faces(engine: &FaceFinder, file: Vec<u8>, smallest: u32) -> Faces {
    let input = FaceInput { file, smallest, most: 100 };
    let prepared = engine.prepare(ItemInput::Faces(Box::new(input))).unwrap();
    match engine.run(&[&prepared]).unwrap().remove(0) {
        ItemOutput::Faces(faces) => faces,
        other => panic!("not faces but {}", other.kind()),
    }
}

fn far(found: &[f32], expected: &Value) -> f32 {
    let expected: Vec<f32> = serde_json::from_value(expected.clone()).unwrap();
    assert_eq!(found.len(), expected.len());
    found.iter().zip(&expected).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max)
}

#[test]
fn faces_are_those_of_the_reference() {
    let directory = in_repository("STOKER_TEST_FACES_DIR", "worker/engine/golden/tiny-faces");
    let golden = fs::read(directory.join("expected.json")).unwrap();
    let golden: Value = serde_json::from_slice(&golden).unwrap();
    for precision in [Precision::F32, Precision::F16, Precision::Bf16] {
        let engine = FaceFinder::load(&FaceOptions {
            task: FaceTask::Embedding,
            model: ModelOptions {
                device: GPU,
                precision,
                ..ModelOptions::new("tested", directory.clone())
            },
            max_batch_tokens: None,
            limits: ImageLimits::default(),
        });
        let engine = engine.unwrap();
        for look in golden["looks"].as_array().unwrap().iter().take(4) {
            let file = directory.join("images").join(look["file"].as_str().unwrap());
            let smallest = u32::try_from(look["smallest"].as_u64().unwrap()).unwrap();
            let found = faces(&engine, fs::read(file).unwrap(), smallest).faces;
            let expected = look["faces"].as_array().unwrap();
            assert_eq!(found.len(), expected.len(), "{precision}: {look}");
            for (found, expected) in found.iter().zip(expected) {
                assert!(far(&found.bounds, &expected["box"]) < 0.05, "{precision}");
                let vector = far(&found.vector, &expected["vector"]);
                assert!(vector < precision.tolerance().max(1e-4), "{precision}: {vector}");
            }
        }
    }
}
