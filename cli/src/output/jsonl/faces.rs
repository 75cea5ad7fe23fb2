//! The line of an image on which faces were looked for.

use serde::Serialize;
use stoker_proto::{convert, v1};

#[derive(Serialize)]
pub(super) struct FacesLine<'a> {
    job: &'a str,
    item: u32,
    /// Of the upright image.
    width: u32,
    height: u32,
    faces: Vec<FaceOf>,
    /// Smaller faces beyond the most that were asked for.
    #[serde(skip_serializing_if = "is_zero")]
    left_out: u32,
}

#[derive(Serialize)]
struct FaceOf {
    /// Left, top, right and bottom.
    r#box: [f32; 4],
    probability: f32,
    landmarks: Vec<[f32; 2]>,
    /// Left out where faces are only found.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    embedding: Vec<f32>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "it is the form that serde calls")]
const fn is_zero(number: &u32) -> bool {
    *number == 0
}

impl<'a> FacesLine<'a> {
    pub(super) fn new(job: &'a str, item: u32, image: &v1::FacesOfImage) -> Self {
        let v1::FacesOfImage { faces, left_out, width, height } = image;
        let faces = faces.iter().map(face).collect();
        Self { job, item, width: *width, height: *height, faces, left_out: *left_out }
    }
}

fn face(face: &v1::Face) -> FaceOf {
    FaceOf {
        r#box: [face.left, face.top, face.right, face.bottom],
        probability: face.probability,
        landmarks: face.landmarks.iter().map(|point| [point.x, point.y]).collect(),
        embedding: convert::numbers(&face.vector).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_face_has_its_box_its_points_and_its_vector() {
        let face = |vector: &'static [u8]| v1::Face {
            left: 1.0,
            top: 2.5,
            right: 3.0,
            bottom: 4.0,
            probability: 0.5,
            landmarks: vec![v1::Point { x: 2.0, y: 3.0 }],
            vector: vector.into(),
        };
        let image = |faces: Vec<v1::Face>, left_out| v1::FacesOfImage {
            faces,
            left_out,
            width: 9,
            height: 8,
        };
        let line = |image: &v1::FacesOfImage| {
            serde_json::to_string(&FacesLine::new("j", 3, image)).unwrap()
        };
        assert_eq!(
            line(&image(vec![face(b"\0\0\x80\x3f"), face(b"")], 2)),
            "{\"job\":\"j\",\"item\":3,\"width\":9,\"height\":8,\"faces\":[\
             {\"box\":[1.0,2.5,3.0,4.0],\"probability\":0.5,\"landmarks\":[[2.0,3.0]],\"embedding\":[1.0]},\
             {\"box\":[1.0,2.5,3.0,4.0],\"probability\":0.5,\"landmarks\":[[2.0,3.0]]}],\"left_out\":2}"
        );
        assert_eq!(
            line(&image(Vec::new(), 0)),
            "{\"job\":\"j\",\"item\":3,\"width\":9,\"height\":8,\"faces\":[]}"
        );
    }
}
