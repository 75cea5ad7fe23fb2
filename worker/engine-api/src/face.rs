//! Finding faces: what goes in, and what comes out.

use serde::{Deserialize, Serialize};

use crate::task::little_endian;

/// An image, and which faces on it are looked for. The bounds are those of `stoker-core`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FaceInput {
    /// The whole file, a PNG, JPEG, WebP or GIF; not decoded.
    #[serde(with = "serde_bytes")]
    pub file: Vec<u8>,
    /// Faces of fewer pixels are not looked for.
    pub smallest: u32,
    /// Of more faces the largest are given.
    pub most: u32,
}

/// The faces on an image. Places are in pixels of the upright image, from its upper left corner.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Faces {
    /// The largest first.
    pub faces: Vec<Face>,
    /// Smaller faces beyond the most that were asked for.
    pub left_out: u32,
    pub width: u32,
    pub height: u32,
}

/// A face.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Face {
    /// Left, top, right and bottom; they may lie outside the image.
    pub bounds: [f32; 4],
    /// From 0 to 1.
    pub probability: f32,
    /// The eyes, the nose and the corners of the mouth: each right and down, the left one of the image first.
    pub landmarks: [[f32; 2]; 5],
    /// `output_dimensions` finite numbers; none where faces are only found.
    #[serde(with = "little_endian")]
    pub vector: Vec<f32>,
}

impl Face {
    /// All numbers, one after the other.
    pub fn numbers(&self) -> Vec<f32> {
        let points = self.landmarks.iter().flatten();
        let all = self.bounds.iter().chain([&self.probability]).chain(points).chain(&self.vector);
        all.copied().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frame::{PREFIX_BYTES, decode, encode};
    use crate::{ItemInput, ItemOutput};

    #[test]
    fn faces_cross_as_they_are() {
        let input = FaceInput { file: vec![0, 255, 7], smallest: 20, most: 3 };
        let input = ItemInput::Faces(Box::new(input));
        assert_eq!((input.bytes(), input.kind()), (3, "an image with faces"));
        let frame = encode(&input).unwrap();
        assert_eq!(decode::<ItemInput>(&frame[PREFIX_BYTES..]).unwrap(), input);
        let face = |vector: &[f32]| Face {
            bounds: [-1.5, 2.0, 3.0, 4.0],
            probability: 0.75,
            landmarks: [[1.0, 2.0]; 5],
            vector: vector.to_vec(),
        };
        assert_eq!(face(&[0.5, -0.5]).numbers().len(), 4 + 1 + 10 + 2);
        let faces = vec![face(&[]), face(&[0.5, f32::MIN_POSITIVE])];
        let output = ItemOutput::Faces(Faces { faces, left_out: 2, width: 40, height: 30 });
        let frame = encode(&output).unwrap();
        assert_eq!(decode::<ItemOutput>(&frame[PREFIX_BYTES..]).unwrap(), output);
    }
}
