//! Images on which faces are looked for as an engine takes them, and faces as the wire has them.

use bytes::Bytes;
use stoker_core::face::FaceSearch;
use stoker_engine_api::{Face, FaceInput, Faces, ItemInput};
use stoker_proto::v1;

/// The items of a job that looks for faces.
pub(crate) fn inputs(images: &[Bytes], options: v1::FaceOptions) -> Vec<ItemInput> {
    let FaceSearch { smallest, most } = FaceSearch::of(options.smallest_face, options.max_faces);
    let item = |file: &Bytes| {
        ItemInput::Faces(Box::new(FaceInput { file: file.to_vec(), smallest, most }))
    };
    images.iter().map(item).collect()
}

/// The faces of an image on the wire.
pub(crate) fn wire_faces(faces: Faces) -> v1::FacesOfImage {
    let Faces { faces, left_out, width, height } = faces;
    let faces = faces.into_iter().map(wire_face).collect();
    v1::FacesOfImage { faces, left_out, width, height }
}

fn wire_face(face: Face) -> v1::Face {
    let Face { bounds: [left, top, right, bottom], probability, landmarks, vector } = face;
    let landmarks = landmarks.map(|[x, y]| v1::Point { x, y }).to_vec();
    let vector: Vec<u8> = vector.iter().flat_map(|number| number.to_le_bytes()).collect();
    v1::Face { left, top, right, bottom, probability, landmarks, vector: vector.into() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_left_out_has_a_meaning() {
        let images = [Bytes::from_static(b"a"), Bytes::from_static(b"b")];
        for (asked, smallest, most) in [((0, 0), 20, 100), ((48, 2), 48, 2)] {
            let options = v1::FaceOptions { smallest_face: asked.0, max_faces: asked.1 };
            let item = |file: &[u8]| {
                ItemInput::Faces(Box::new(FaceInput { file: file.to_vec(), smallest, most }))
            };
            assert_eq!(inputs(&images, options), [item(b"a"), item(b"b")]);
        }
    }

    #[test]
    fn a_face_has_the_same_numbers_on_the_wire() {
        let face = Face {
            bounds: [1.0, 2.0, 3.0, 4.0],
            probability: 0.5,
            landmarks: [[1.5, 2.5], [2.5, 2.5], [2.0, 3.0], [1.5, 3.5], [2.5, 3.5]],
            vector: vec![0.6, -0.8],
        };
        let wire = wire_faces(Faces { faces: vec![face], left_out: 7, width: 30, height: 20 });
        assert_eq!((wire.left_out, wire.width, wire.height), (7, 30, 20));
        let v1::Face { left, top, right, bottom, probability, landmarks, vector } = &wire.faces[0];
        assert_eq!([left, top, right, bottom, probability], [&1.0, &2.0, &3.0, &4.0, &0.5]);
        assert_eq!((landmarks.len(), landmarks[3].x, landmarks[3].y), (5, 1.5, 3.5));
        assert_eq!(&vector[..4], 0.6_f32.to_le_bytes());
        assert_eq!(vector.len(), 8);
    }
}
