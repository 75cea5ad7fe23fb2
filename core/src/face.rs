//! What may be asked of a model that finds faces, checked at the edge, and how far it looks at all.

use serde::{Deserialize, Serialize};

/// Faces of fewer pixels are not looked for where nothing is said.
pub const DEFAULT_SMALLEST: u32 = 20;
/// What the first network sees at once: of smaller faces there is nothing to see.
pub const LEAST_SMALLEST: u32 = 12;
/// Larger than faces on images are.
pub const MOST_SMALLEST: u32 = 10_000;
/// Faces of one image where nothing is said.
pub const DEFAULT_MOST_FACES: u32 = 100;
/// Faces of one image, whatever is said: each has a vector in the result.
pub const MOST_FACES: u32 = 1_000;

/// What is looked for on each image.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct FaceSearch {
    /// Faces whose box is smaller, in pixels of the image, are not looked for.
    pub smallest: u32,
    /// Of more faces the largest are given.
    pub most: u32,
}

impl Default for FaceSearch {
    fn default() -> Self {
        Self { smallest: DEFAULT_SMALLEST, most: DEFAULT_MOST_FACES }
    }
}

impl FaceSearch {
    /// With what stands for a number that is left out, which is 0.
    pub const fn of(smallest: u32, most: u32) -> Self {
        Self {
            smallest: if smallest == 0 { DEFAULT_SMALLEST } else { smallest },
            most: if most == 0 { DEFAULT_MOST_FACES } else { most },
        }
    }

    /// Faces that may be found on an image of so many pixels, if they do not overlap.
    pub fn most_on(self, pixels: u64) -> u32 {
        let each = u64::from(self.smallest.max(1)).pow(2);
        u32::try_from(pixels / each).unwrap_or(u32::MAX).clamp(1, self.most.max(1))
    }
}

/// What is wrong with the size of the smallest face; 0 means that nothing is said.
pub fn smallest_problem(smallest: u32) -> Option<String> {
    let known = smallest == 0 || (LEAST_SMALLEST..=MOST_SMALLEST).contains(&smallest);
    (!known).then(|| {
        format!("is {smallest}: use {LEAST_SMALLEST} to {MOST_SMALLEST} pixels, or leave it out")
    })
}

/// What is wrong with the number of faces; 0 means that nothing is said.
pub fn most_problem(most: u32) -> Option<String> {
    (most > MOST_FACES).then(|| format!("is {most}: use 1 to {MOST_FACES}, or leave it out"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_looked_for_is_bounded_and_has_defaults() {
        assert_eq!(FaceSearch::of(0, 0), FaceSearch::default());
        assert_eq!(FaceSearch::of(40, 3), FaceSearch { smallest: 40, most: 3 });
        for good in [0, LEAST_SMALLEST, 20, MOST_SMALLEST] {
            assert_eq!(smallest_problem(good), None);
        }
        for bad in [1, LEAST_SMALLEST - 1, MOST_SMALLEST + 1, u32::MAX] {
            assert!(smallest_problem(bad).is_some_and(|it| it.contains(&bad.to_string())));
        }
        for good in [0, 1, MOST_FACES] {
            assert_eq!(most_problem(good), None);
        }
        assert!(most_problem(MOST_FACES + 1).is_some_and(|it| it.contains("1001")));
    }

    #[test]
    fn a_small_image_has_few_faces() {
        let search = FaceSearch::of(20, 100);
        assert_eq!([0, 399, 400, 4_000, u64::MAX].map(|it| search.most_on(it)), [1, 1, 1, 10, 100]);
    }
}
