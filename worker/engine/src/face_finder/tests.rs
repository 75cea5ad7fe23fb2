//! Faces are found, and made vectors of, with the numbers of facenet-pytorch on the same weights, alone and together;
//! what cannot be looked at, and models that are none, are refused by name.

use std::fs;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde_json::{Value, json};
use stoker_engine_api::contract;
use tempfile::TempDir;

use super::*;
use crate::LoadError;
use crate::faces::AtOnce;

#[derive(Deserialize)]
struct Golden {
    looks: Vec<Look>,
}

/// What the reference finds on a picture.
#[derive(Deserialize)]
struct Look {
    file: String,
    smallest: u32,
    faces: Vec<Expected>,
}

#[derive(Deserialize)]
struct Expected {
    r#box: [f32; 4],
    probability: f32,
    /// Each right and down.
    landmarks: [f32; 10],
    vector: Vec<f32>,
}

/// Largest difference of a place from the reference's, in pixels.
const PIXELS: f32 = 0.01;
/// Of a probability.
const SHARE: f32 = 1e-4;
/// Of a number of a vector of length 1.
const NUMBER: f32 = 1e-4;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("golden/tiny-faces")
}

fn golden(model: &Path) -> Golden {
    serde_json::from_slice(&fs::read(model.join("expected.json")).unwrap()).unwrap()
}

fn load(directory: &Path, task: FaceTask) -> Result<FaceFinder, LoadError> {
    FaceFinder::load(&FaceOptions {
        task,
        model: ModelOptions::new("tiny", directory),
        max_batch_tokens: None,
        limits: ImageLimits::default(),
    })
}

fn picture(name: &str) -> Vec<u8> {
    fs::read(root().join("images").join(name)).unwrap()
}

fn input(file: Vec<u8>, smallest: u32, most: u32) -> ItemInput {
    ItemInput::Faces(Box::new(FaceInput { file, smallest, most }))
}

fn faces(output: ItemOutput) -> Faces {
    match output {
        ItemOutput::Faces(faces) => faces,
        other => panic!("not faces but {}", other.kind()),
    }
}

fn run(engine: &FaceFinder, inputs: Vec<ItemInput>) -> Vec<Faces> {
    let items: Vec<_> = inputs.into_iter().map(|input| engine.prepare(input).unwrap()).collect();
    let outputs = engine.run(&items.iter().collect::<Vec<_>>()).unwrap();
    outputs.into_iter().map(faces).collect()
}

fn check(found: &[f32], expected: &[f32], tolerance: f32, what: &str) {
    assert_eq!(found.len(), expected.len(), "{what}");
    for (found, expected) in found.iter().zip(expected) {
        assert!((found - expected).abs() < tolerance, "{what}: {found} instead of {expected}");
    }
}

/// The faces of each picture of the reference, with vectors if `task` makes some.
fn check_looks(engine: &FaceFinder, task: FaceTask, golden: &Golden) {
    let ask = |look: &Look| input(picture(&look.file), look.smallest, 100);
    let found = run(engine, golden.looks.iter().map(ask).collect());
    for (look, found) in golden.looks.iter().zip(found) {
        let what = format!("{} from {} pixels on", look.file, look.smallest);
        assert_eq!((found.faces.len(), found.left_out), (look.faces.len(), 0), "{what}");
        for (found, expected) in found.faces.iter().zip(&look.faces) {
            check(&found.bounds, &expected.r#box, PIXELS, &what);
            check(found.landmarks.as_flattened(), &expected.landmarks, PIXELS, &what);
            check(&[found.probability], &[expected.probability], SHARE, &what);
            match task {
                FaceTask::Detection => assert!(found.vector.is_empty(), "{what}"),
                FaceTask::Embedding => check(&found.vector, &expected.vector, NUMBER, &what),
            }
        }
    }
}

#[test]
fn faces_are_found_where_the_reference_finds_them() {
    let golden = golden(&root());
    let found: usize = golden.looks.iter().map(|look| look.faces.len()).sum();
    assert!(found >= 12 && golden.looks.iter().any(|look| look.faces.is_empty()));
    let engine = load(&root(), FaceTask::Detection).unwrap();
    check_looks(&engine, FaceTask::Detection, &golden);
}

#[test]
fn faces_become_the_vectors_of_the_reference() {
    let golden = golden(&root());
    // Vectors that are all alike would be equal whatever the network does.
    let vectors: Vec<_> = golden.looks.iter().flat_map(|look| &look.faces).collect();
    let far = |one: &Expected, other: &Expected| {
        one.vector.iter().zip(&other.vector).any(|(a, b)| (a - b).abs() > 100.0 * NUMBER)
    };
    assert!(vectors.windows(2).filter(|pair| far(pair[0], pair[1])).count() >= 8);
    let engine = load(&root(), FaceTask::Embedding).unwrap();
    check_looks(&engine, FaceTask::Embedding, &golden);
}

#[test]
#[ignore = "needs a model of real size: golden/make_tiny_faces.py --full .cache/models/faces"]
fn a_network_of_real_size_gives_the_reference_s_numbers() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../.cache/models/faces/full");
    let engine = load(&folder, FaceTask::Embedding).unwrap();
    assert_eq!(engine.info.output_dimensions, Some(512));
    check_looks(&engine, FaceTask::Embedding, &golden(&folder));
}

#[test]
fn tiles_of_any_size_find_the_same() {
    let mut engine = load(&root(), FaceTask::Detection).unwrap();
    let find = |engine: &FaceFinder| run(engine, vec![input(picture("crowd.webp"), 20, 100)]);
    let expected = find(&engine).remove(0);
    for at_once in [AtOnce { side: 16, images: 1 }, AtOnce { side: 1_000, images: 1_000 }] {
        engine.detector.at_once = at_once;
        let found = find(&engine).remove(0);
        assert_eq!(found.faces.len(), expected.faces.len(), "{at_once:?}");
        for (found, expected) in found.faces.iter().zip(&expected.faces) {
            check(&found.numbers(), &expected.numbers(), PIXELS, "another tile");
        }
    }
}

#[test]
fn of_many_faces_the_largest_are_given() {
    let engine = load(&root(), FaceTask::Detection).unwrap();
    let asking = |smallest, most| run(&engine, vec![input(picture("crowd.webp"), smallest, most)]);
    let all = asking(20, 100).remove(0);
    let two = asking(20, 2).remove(0);
    assert_eq!((two.faces.as_slice(), two.left_out), (&all.faces[..2], 3));
    assert_eq!((two.width, two.height), (420, 240));
    let area = |face: &Face| {
        let [left, top, right, bottom] = face.bounds;
        (right - left) * (bottom - top)
    };
    assert!(all.faces.is_sorted_by(|one, other| area(one) >= area(other)));
    // Small ones are not looked for.
    assert!(asking(150, 100).remove(0).faces.len() < all.faces.len());
}

#[test]
fn an_image_that_is_smaller_than_any_face_has_none() {
    let engine = load(&root(), FaceTask::Embedding).unwrap();
    let small = || picture("../../tiny-clip/images/small.png");
    let found = run(&engine, vec![input(small(), 0, 0), input(picture("crowd.webp"), 10_000, 1)]);
    assert!(found.iter().all(|image| image.faces.is_empty() && image.left_out == 0));
}

#[test]
fn they_keep_the_contract_of_engines() {
    let tiny = |name: &str| input(picture(&format!("../../tiny-clip/images/{name}")), 12, 100);
    for task in [FaceTask::Detection, FaceTask::Embedding] {
        let inputs = [
            input(picture("crowd.webp"), 40, 100),
            input(picture("astronaut.webp"), 60, 1),
            tiny("photo.jpg"),
            tiny("moving.gif"),
            input(picture("crowd.webp"), 60, 2),
        ];
        contract::check_with(load(&root(), task).unwrap(), &inputs);
    }
}

#[test]
fn an_engine_says_what_it_takes_and_makes() {
    let info = |task| load(&root(), task).unwrap().info.clone();
    let (finds, embeds) = (info(FaceTask::Detection), info(FaceTask::Embedding));
    assert_eq!((finds.task, finds.output_dimensions), (TaskKind::FaceDetection, None));
    assert_eq!((embeds.task, embeds.output_dimensions), (TaskKind::FaceEmbedding, Some(32)));
    // An image of 50 million pixels, and a thousand faces.
    assert_eq!((finds.max_tokens, finds.max_batch_tokens), (48_829 + 1_000, 2_048));
    assert_eq!(embeds.max_tokens, 48_829 + 16_000);
    // Half a million weights of MTCNN.
    assert!(finds.weights_bytes > 1_900_000 && embeds.weights_bytes > finds.weights_bytes);
}

#[test]
fn what_cannot_be_looked_at_is_refused_and_says_why() {
    let engine = load(&root(), FaceTask::Detection).unwrap();
    let refusal = |input| match engine.prepare(input) {
        Ok(_) => panic!("it was prepared"),
        Err(ItemError::Invalid { message } | ItemError::WrongKind { got: message, .. }) => message,
        Err(other) => panic!("{other}"),
    };
    let good = || picture("astronaut.webp");
    // A small file that claims to be 65,535 pixels wide and high.
    let mut bomb = picture("../../tiny-clip/images/moving.gif");
    bomb[6..10].fill(0xff);
    for (input, part) in [
        (input(b"a text".to_vec(), 20, 5), "not an image"),
        (input(good()[..9_000].to_vec(), 20, 5), "cannot be decoded"),
        (input(Vec::new(), 20, 5), "is empty"),
        (input(bomb, 20, 5), "65535 x 65535 pixels"),
        (input(good(), 11, 5), "smallest_face is 11"),
        (input(good(), 20, 1_001), "max_faces is 1001"),
        (ItemInput::Text("a".to_owned()), "text"),
    ] {
        let message = refusal(input);
        assert!(message.contains(part), "{part}: {message}");
    }
    // It goes on with what is good.
    assert_eq!(run(&engine, vec![input(good(), 60, 5)])[0].faces.len(), 1);
}

/// A copy of the model, for breaking it.
fn copy() -> TempDir {
    let copy = TempDir::new().unwrap();
    for name in ["config.json", "model.safetensors"] {
        fs::copy(root().join(name), copy.path().join(name)).unwrap();
    }
    copy
}

fn refuse(file: &str, what: &str, change: impl FnOnce(&Path)) {
    let folder = copy();
    change(folder.path());
    let Err(error) = load(folder.path(), FaceTask::Embedding) else {
        panic!("loaded in spite of {what}")
    };
    let message = error.to_string();
    let path = folder.path().join(file).display().to_string();
    assert!(message.contains(&path) && message.contains(what), "expected {what:?} in: {message}");
    assert!(!message.contains('\n') && !error.remedy().is_empty(), "{message}");
}

fn set(directory: &Path, change: impl FnOnce(&mut Value)) {
    let path = directory.join("config.json");
    let mut config: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    change(&mut config);
    fs::write(path, config.to_string()).unwrap();
}

#[test]
fn models_that_would_answer_something_else_are_refused() {
    for name in ["config.json", "model.safetensors"] {
        refuse(name, "is missing", |folder| fs::remove_file(folder.join(name)).unwrap());
    }
    refuse("config.json", "model_type is `clip`", |folder| {
        set(folder, |config| config["model_type"] = json!("clip"));
    });
    refuse("config.json", "has no recognizer", |folder| {
        set(folder, |config| config["recognizer"] = json!(null));
    });
    refuse(
        "model.safetensors",
        "resnet.repeat_3.0.branch0.conv.weight has shape [12, 112, 1, 1], expected [24, 224, 1, 1]",
        |folder| set(folder, |config| config["recognizer"]["channels"] = json!(4)),
    );
    refuse("model.safetensors", "resnet.last_linear.weight has shape [32, 112]", |folder| {
        set(folder, |config| config["recognizer"]["dimensions"] = json!(33));
    });
}

#[test]
fn a_model_that_only_finds_faces_needs_no_other_weights() {
    let folder = copy();
    set(folder.path(), |config| config["recognizer"] = json!(null));
    assert!(load(folder.path(), FaceTask::Detection).is_ok());
}

#[test]
fn weights_that_are_not_numbers_are_refused() {
    let folder = copy();
    let path = folder.path().join("model.safetensors");
    let mut bytes = fs::read(&path).unwrap();
    let last = bytes.len() - 4;
    bytes[last..].copy_from_slice(&f32::NAN.to_le_bytes());
    fs::write(&path, bytes).unwrap();
    let Err(error) = load(folder.path(), FaceTask::Embedding) else { panic!("loaded") };
    assert!(matches!(error, LoadError::NotFinite { .. }), "{error}");
}

#[test]
fn an_image_costs_its_pixels_and_room_for_its_faces() {
    let search = FaceSearch::default();
    let found = |pixels, search| cost(pixels, search, FaceTask::Detection);
    assert_eq!([1, 1_024, 1_025].map(|pixels| found(pixels, search)), [2, 3, 4]);
    assert_eq!(found(512 * 512, search), 256 + 100);
    assert_eq!(found(512 * 512, FaceSearch { most: 1, ..search }), 257);
    assert_eq!(found(u64::MAX, search), u32::MAX);
    assert_eq!(cost(512 * 512, search, FaceTask::Embedding), 256 + 16 * 100);
}

#[test]
fn a_part_is_cut_out_of_an_image() {
    let image = Pixels { width: 3, height: 2, bytes: (0..18).collect() };
    let part = cut(&image, &Region { left: 1, top: 1, right: 3, bottom: 2 });
    assert_eq!(part, Pixels { width: 2, height: 1, bytes: (12..18).collect() });
}
