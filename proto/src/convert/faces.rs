//! What is asked of a model that finds faces, and whether the faces that it found are whole.

use stoker_core::face::{most_problem, smallest_problem};

use crate::status::FieldViolation;
use crate::v1;
use crate::v1::job_input::Task as WireTask;

use super::part::row_bytes;
use super::violations::Violations;

/// Points of a face.
const LANDMARKS: usize = 5;

/// Which faces an input asks for; `None` if it says nothing of them.
pub(super) fn face_options(input: &v1::JobInput) -> Option<v1::FaceOptions> {
    match input.task.as_ref()? {
        WireTask::FaceDetection(input) => input.options,
        WireTask::FaceEmbedding(input) => input.options,
        WireTask::TextEmbedding(_)
        | WireTask::TextClassification(_)
        | WireTask::TextGeneration(_)
        | WireTask::ImageEmbedding(_)
        | WireTask::ImageClassification(_)
        | WireTask::ImageCaptioning(_)
        | WireTask::SpeechToText(_)
        | WireTask::Echo(_) => None,
    }
}

/// Notes what is wrong with which faces are looked for.
pub(super) fn check_faces(options: v1::FaceOptions, field: &str, violations: &mut Violations) {
    if let Some(problem) = smallest_problem(options.smallest_face) {
        violations.add(FieldViolation::new(format!("{field}.smallest_face"), problem));
    }
    if let Some(problem) = most_problem(options.max_faces) {
        violations.add(FieldViolation::new(format!("{field}.max_faces"), problem));
    }
}

/// What keeps faces from being those of `items` images: the field in the part, and the problem.
pub(super) fn faces_problem(faces: &v1::Faces, items: u32) -> Option<(&'static str, String)> {
    let v1::Faces { images, dimensions } = faces;
    if u32::try_from(images.len()) != Ok(items) {
        let problem = format!("has {} images for {items} items", images.len());
        return Some(("faces.images", problem));
    }
    let vector = row_bytes(*dimensions);
    let all = || images.iter().flat_map(|image| &image.faces);
    let problem = if !all().all(is_whole) {
        "has a face whose box, landmarks or probability are not whole".to_owned()
    } else if !all().all(|face| Some(face.vector.len()) == vector) {
        format!("has a face whose vector has not {dimensions} components of 4 bytes")
    } else {
        return None;
    };
    Some(("faces.images", problem))
}

fn is_whole(face: &v1::Face) -> bool {
    let v1::Face { left, top, right, bottom, probability, landmarks, vector: _ } = face;
    let points = landmarks.iter().flat_map(|point| [point.x, point.y]);
    let finite = [*left, *top, *right, *bottom].into_iter().chain(points).all(f32::is_finite);
    let in_order = left <= right && top <= bottom;
    finite && in_order && landmarks.len() == LANDMARKS && (0.0..=1.0).contains(probability)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn which_faces_are_looked_for_is_bounded() {
        let fields = |smallest_face, max_faces| {
            let mut violations = Violations::default();
            check_faces(v1::FaceOptions { smallest_face, max_faces }, "o", &mut violations);
            violations.into_vec().into_iter().map(|one| one.field).collect::<Vec<_>>()
        };
        for (smallest, most) in [(0, 0), (12, 1), (10_000, 1_000)] {
            assert_eq!(fields(smallest, most), [""; 0]);
        }
        assert_eq!(fields(11, 1_001), ["o.smallest_face", "o.max_faces"]);
    }

    fn face(vector: &'static [u8]) -> v1::Face {
        v1::Face {
            left: -1.0,
            top: 2.0,
            right: 9.0,
            bottom: 12.0,
            probability: 1.0,
            landmarks: vec![v1::Point { x: 3.0, y: 4.0 }; LANDMARKS],
            vector: vector.into(),
        }
    }

    fn problem(faces: &[v1::Face], dimensions: u32, items: u32) -> Option<(&'static str, String)> {
        let with = v1::FacesOfImage { faces: faces.to_vec(), ..Default::default() };
        let images = vec![v1::FacesOfImage::default(), with];
        faces_problem(&v1::Faces { images, dimensions }, items)
    }

    #[test]
    fn faces_are_those_of_their_images_and_whole() {
        assert_eq!(problem(&[], 0, 2), None);
        assert_eq!(problem(&[face(b"")], 0, 2), None);
        assert_eq!(problem(&[face(b"12345678"), face(b"12345678")], 2, 2), None);
        assert!(problem(&[], 0, 1).is_some_and(|it| it.1.contains("2 images for 1 items")));
        let good = face(b"");
        let other = |change: fn(&mut v1::Face)| {
            let mut face = good.clone();
            change(&mut face);
            problem(&[good.clone(), face], 0, 2).expect("it is refused").1
        };
        for bad in [
            other(|face| face.left = f32::NAN),
            other(|face| face.bottom = f32::INFINITY),
            other(|face| face.right = -1.5),
            other(|face| face.probability = 1.5),
            other(|face| face.landmarks[4].y = f32::NAN),
            other(|face| face.landmarks.truncate(4)),
        ] {
            assert!(bad.contains("not whole"), "{bad}");
        }
        for (vector, dimensions) in [(b"".as_slice(), 1), (b"123", 1), (b"1234", 0)] {
            let problem = problem(&[face(vector)], dimensions, 2).expect("it is refused").1;
            assert!(problem.contains("vector"), "{problem}");
        }
    }
}
