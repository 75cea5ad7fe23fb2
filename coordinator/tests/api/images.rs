//! Images at the edge: what is no image, or too large a one, is refused by name before anything is stored.

use bytes::Bytes;
use stoker_core::request::Task;
use stoker_proto::{convert, v1};
use tonic::Code;

use crate::fixture::{Coordinator, fields, refused};

const FLEET: &str = "[models.see]\ntask = 'image-embedding'\nsource = 'file:/models/clip'\n\
    [models.compare]\ntask = 'image-classification'\nsource = 'file:/models/clip'\n\
    [models.pets]\ntask = 'image-classification'\nsource = 'file:/models/clip'\n\
    labels = ['cat', 'dog']\n\
    [models.tell]\ntask = 'image-captioning'\nsource = 'file:/models/blip'\n\
    [models.find]\ntask = 'face-detection'\nsource = 'file:/models/faces'\n\
    [models.know]\ntask = 'face-embedding'\nsource = 'file:/models/faces'\n\
    [pools.eyes]\nmodels = ['see', 'compare', 'pets', 'tell', 'find', 'know']\n\
    [limits]\nmax-image = '1KiB'\nmax-image-pixels = 1000000\n";

/// The beginning of a PNG that claims this size, filled up with zeros.
fn png(width: u32, height: u32, bytes: usize) -> Bytes {
    let [width, height] = [width, height].map(u32::to_be_bytes);
    let parts: [&[u8]; 4] = [b"\x89PNG\r\n\x1a\n\0\0\0\x0dIHDR", &width, &height, &[8, 2, 0, 0, 0]];
    let mut file = parts.concat();
    file.resize(bytes.max(file.len()), 0);
    Bytes::from(file)
}

fn job(model: &str, task: Task, images: Vec<Bytes>) -> v1::JobSpec {
    let input = Some(convert::input_of_files(task, images));
    v1::JobSpec { model: model.to_owned(), input, ..v1::JobSpec::default() }
}

async fn submit(coordinator: &Coordinator, job: v1::JobSpec) -> Result<(), Vec<String>> {
    let answer = coordinator.jobs().await.submit(v1::SubmitRequest { job: Some(job) }).await;
    if answer.is_ok() {
        return Ok(());
    }
    let refusal = refused(answer);
    assert_eq!(refusal.code, Code::InvalidArgument, "{refusal}");
    Err(fields(&refusal).into_iter().map(str::to_owned).collect())
}

#[tokio::test]
async fn bad_images_are_refused_by_name_and_nothing_is_stored() {
    let coordinator = Coordinator::start(FLEET).await;
    let images = vec![
        png(10, 10, 0),
        Bytes::from_static(b"a text and no image"),
        png(50_000, 50_000, 0),
        png(10, 10, 1_025),
        Bytes::new(),
        Bytes::from_static(b"\xff\xd8\xff"),
    ];
    let field = |index: usize| format!("job.input.image_embedding.images[{index}]");
    let refusal = submit(&coordinator, job("see", Task::ImageEmbedding, images)).await;
    assert_eq!(refusal, Err((1..=5).map(field).collect()));
    let none = submit(&coordinator, job("see", Task::ImageEmbedding, Vec::new())).await;
    assert_eq!(none, Err(vec!["job.input.image_embedding.images".to_owned()]));
    let listed = coordinator.jobs().await.list(v1::ListRequest::default()).await.unwrap();
    assert!(listed.into_inner().jobs.is_empty(), "a refused job is stored");
    let good = vec![png(1_000, 1_000, 1_024), png(1, 1, 0)];
    assert_eq!(submit(&coordinator, job("see", Task::ImageEmbedding, good)).await, Ok(()));
    coordinator.stop().await;
}

#[tokio::test]
async fn images_are_compared_with_labels_of_the_job_or_of_the_model() {
    let coordinator = Coordinator::start(FLEET).await;
    let asking = |model: &str, labels: &[&str], template: &str| {
        let labels = labels.iter().map(|label| (*label).to_owned()).collect();
        let (images, template) = (vec![png(9, 9, 0)], template.to_owned());
        let input = v1::ImageClassificationInput { images, labels, template };
        let task = Some(v1::job_input::Task::ImageClassification(input));
        let input = Some(v1::JobInput { task });
        v1::JobSpec { model: model.to_owned(), input, ..v1::JobSpec::default() }
    };
    assert_eq!(submit(&coordinator, asking("pets", &[], "")).await, Ok(()));
    assert_eq!(submit(&coordinator, asking("compare", &["sea"], "the {}")).await, Ok(()));
    let field = |name: &str| format!("job.input.image_classification.{name}");
    let bad = submit(&coordinator, asking("compare", &[], "")).await;
    assert_eq!(bad, Err(vec![field("labels")]));
    let bad = submit(&coordinator, asking("pets", &["a", "a"], "no place")).await;
    assert_eq!(bad, Err(vec![field("labels"), field("template")]));
    // A model of texts gets no images, and the other way round.
    let other = submit(&coordinator, job("echo", Task::ImageEmbedding, vec![png(9, 9, 0)])).await;
    assert_eq!(other, Err(vec!["job.input".to_owned()]));
    coordinator.stop().await;
}

#[tokio::test]
async fn what_is_asked_of_a_caption_is_bounded_as_its_images_are() {
    let coordinator = Coordinator::start(FLEET).await;
    let captioning = |images: Vec<Bytes>, prompt: &str, max_tokens| {
        let prompt = prompt.to_owned();
        let input = v1::ImageCaptioningInput { images, prompt, max_tokens };
        let input = Some(v1::JobInput { task: Some(v1::job_input::Task::ImageCaptioning(input)) });
        v1::JobSpec { model: "tell".to_owned(), input, ..v1::JobSpec::default() }
    };
    let field = |name: &str| format!("job.input.image_captioning.{name}");
    let images = vec![png(9, 9, 0), png(50_000, 50_000, 0)];
    let bad = submit(&coordinator, captioning(images, "two\nlines", 1_025)).await;
    assert_eq!(bad, Err(vec![field("images[1]"), field("prompt"), field("max_tokens")]));
    let listed = coordinator.jobs().await.list(v1::ListRequest::default()).await.unwrap();
    assert!(listed.into_inner().jobs.is_empty(), "a refused job is stored");
    for (prompt, max_tokens) in [("", 0), ("a picture of", 1_024)] {
        let good = captioning(vec![png(9, 9, 0)], prompt, max_tokens);
        assert_eq!(submit(&coordinator, good).await, Ok(()));
    }
    coordinator.stop().await;
}

#[tokio::test]
async fn which_faces_are_looked_for_is_bounded_as_images_are() {
    use v1::job_input::Task as WireTask;
    let coordinator = Coordinator::start(FLEET).await;
    let looking = |model: &str, images: Vec<Bytes>, smallest_face, max_faces| {
        let options = Some(v1::FaceOptions { smallest_face, max_faces });
        let task = match model {
            "find" => WireTask::FaceDetection(v1::FaceDetectionInput { images, options }),
            _ => WireTask::FaceEmbedding(v1::FaceEmbeddingInput { images, options }),
        };
        let input = Some(v1::JobInput { task: Some(task) });
        v1::JobSpec { model: model.to_owned(), input, ..v1::JobSpec::default() }
    };
    for (model, task) in [("find", "face_detection"), ("know", "face_embedding")] {
        let field = |name: &str| format!("job.input.{task}.{name}");
        let images = vec![png(9, 9, 0), png(50_000, 50_000, 0)];
        let bad = submit(&coordinator, looking(model, images, 11, 1_001)).await;
        let fields = ["images[1]", "options.smallest_face", "options.max_faces"];
        assert_eq!(bad, Err(fields.map(field).to_vec()));
        let good = looking(model, vec![png(9, 9, 0)], 0, 1_000);
        assert_eq!(submit(&coordinator, good).await, Ok(()));
    }
    // A model that only finds makes no vectors.
    let other = submit(&coordinator, job("find", Task::FaceEmbedding, vec![png(9, 9, 0)])).await;
    assert_eq!(other, Err(vec!["job.input".to_owned()]));
    coordinator.stop().await;
}
