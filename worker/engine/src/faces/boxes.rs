//! Boxes in which there may be faces: which of those that overlap stay, how they are moved, and what they cut out of
//! an image. Pure.

use super::area::Region;
use crate::images::Pixels;

/// A place where there may be a face, in pixels of the image.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Candidate {
    /// Left, top, right and bottom.
    pub(crate) bounds: [f32; 4],
    /// How likely it is one.
    pub(crate) score: f32,
    /// Where the bounds belong, as shares of width and height.
    pub(super) shift: [f32; 4],
    /// Known at the end only.
    pub(crate) landmarks: [[f32; 2]; 5],
}

impl Candidate {
    pub(super) const fn new(bounds: [f32; 4], score: f32, shift: [f32; 4]) -> Self {
        Self { bounds, score, shift, landmarks: [[0.0; 2]; 5] }
    }

    /// Width times height.
    pub(crate) fn area(&self) -> f32 {
        let [left, top, right, bottom] = self.bounds;
        (right - left) * (bottom - top)
    }

    /// Moved to where it belongs. `inside`: 1 where the right and the lower bound are themselves part of the box.
    pub(super) fn moved(self, inside: f32) -> Self {
        let [left, top, right, bottom] = self.bounds;
        let (width, height) = (right - left + inside, bottom - top + inside);
        let sides = [width, height, width, height];
        let mut bounds = self.bounds;
        for ((bound, share), side) in bounds.iter_mut().zip(self.shift).zip(sides) {
            *bound += share * side;
        }
        Self { bounds, ..self }
    }

    /// The square around its middle that is as long as its longer side.
    pub(super) fn squared(self) -> Self {
        let [left, top, right, bottom] = self.bounds;
        let (width, height) = (right - left, bottom - top);
        let side = width.max(height);
        let left = left + width * 0.5 - side * 0.5;
        let top = top + height * 0.5 - side * 0.5;
        Self { bounds: [left, top, left + side, top + side], ..self }
    }

    /// The part of the image that the next network sees; `None` if it is outside.
    pub(super) fn seen(&self, image: &Pixels) -> Option<Region> {
        let [left, top, right, bottom] = self.bounds.map(pixel);
        // The reference counts pixels from 1.
        let (left, top) = (left.saturating_sub(1), top.saturating_sub(1));
        let (right, bottom) = (right.min(image.width), bottom.min(image.height));
        (left < right && top < bottom).then_some(Region { left, top, right, bottom })
    }
}

/// When two boxes are of one face.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Overlap {
    /// By the share of what both cover together.
    OfBoth,
    /// By the share of the smaller one, of boxes whose bounds are part of them.
    OfSmaller,
}

impl Overlap {
    fn share(self, one: &[f32; 4], other: &[f32; 4]) -> f32 {
        let inside = match self {
            Self::OfBoth => 0.0,
            Self::OfSmaller => 1.0,
        };
        let area = |[left, top, right, bottom]: [f32; 4]| {
            (right - left + inside) * (bottom - top + inside)
        };
        let [left, top, right, bottom] = [0, 1, 2, 3].map(|side| {
            if side < 2 { one[side].max(other[side]) } else { one[side].min(other[side]) }
        });
        let common = (right - left + inside).max(0.0) * (bottom - top + inside).max(0.0);
        let (one, other) = (area(*one), area(*other));
        match self {
            Self::OfBoth => common / (one + other - common),
            Self::OfSmaller => common / one.min(other),
        }
    }
}

/// Keeps the likeliest of those that overlap by more than `most`, and of all no more than `count`. They come out with
/// the likeliest first.
pub(super) fn suppress(
    mut candidates: Vec<Candidate>,
    count: usize,
    most: f32,
    overlap: Overlap,
) -> Vec<Candidate> {
    candidates.sort_by(|one, other| other.score.total_cmp(&one.score));
    candidates.truncate(count);
    let mut kept: Vec<Candidate> = Vec::new();
    for candidate in candidates {
        let covered = |other: &Candidate| overlap.share(&other.bounds, &candidate.bounds) > most;
        if !kept.iter().any(covered) {
            kept.push(candidate);
        }
    }
    kept
}

/// The part of an image that is a face, with `margin` of `side` pixels around it as the face will have. It is never
/// empty.
pub(crate) fn cut_out(bounds: &[f32; 4], margin: f32, side: f32, image: &Pixels) -> Region {
    let [left, top, right, bottom] = *bounds;
    let around = |length: f32| margin * length / (side - margin) / 2.0;
    let (wide, high) = (around(right - left), around(bottom - top));
    let stretch = |begin: f32, end: f32, pixels: usize| {
        let begin = pixel(begin).min(pixels.saturating_sub(1));
        (begin, pixel(end).min(pixels).max(begin + 1))
    };
    let (left, right) = stretch(left - wide, right + wide, image.width);
    let (top, bottom) = stretch(top - high, bottom + high, image.height);
    Region { left, top, right, bottom }
}

/// Towards zero, and never below it.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "see above")]
const fn pixel(number: f32) -> usize {
    number as usize
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn candidate(bounds: [f32; 4], score: f32) -> Candidate {
        Candidate::new(bounds, score, [0.0; 4])
    }

    fn image(width: usize, height: usize) -> Pixels {
        Pixels { width, height, bytes: vec![0; width * height * 3] }
    }

    #[test]
    fn of_boxes_that_overlap_the_likeliest_stays() {
        let boxes = vec![
            candidate([0.0, 0.0, 10.0, 10.0], 0.7),
            candidate([1.0, 0.0, 11.0, 10.0], 0.9),
            candidate([5.0, 0.0, 15.0, 10.0], 0.8),
            candidate([100.0, 0.0, 110.0, 10.0], 0.6),
        ];
        let kept = |count, most, overlap| {
            let kept = suppress(boxes.clone(), count, most, overlap);
            kept.iter().map(|it| it.score).collect::<Vec<_>>()
        };
        // The first two share 9 of 11 columns, the second and the third 6 of 14.
        assert_eq!(kept(9, 0.5, Overlap::OfBoth), [0.9, 0.8, 0.6]);
        assert_eq!(kept(9, 0.4, Overlap::OfBoth), [0.9, 0.6]);
        assert_eq!(kept(9, 0.9, Overlap::OfBoth), [0.9, 0.8, 0.7, 0.6]);
        assert_eq!(kept(2, 0.9, Overlap::OfBoth), [0.9, 0.8]);
        // A small box inside a large one.
        let inside =
            vec![candidate([0.0, 0.0, 99.0, 99.0], 0.9), candidate([5.0, 5.0, 9.0, 9.0], 0.8)];
        assert_eq!(suppress(inside.clone(), 9, 0.7, Overlap::OfBoth).len(), 2);
        assert_eq!(suppress(inside, 9, 0.7, Overlap::OfSmaller).len(), 1);
    }

    #[test]
    #[expect(clippy::float_cmp, reason = "all of these are exact in binary")]
    fn a_box_is_moved_by_shares_of_its_sides_and_squared_around_its_middle() {
        let moved = Candidate::new([10.0, 20.0, 30.0, 60.0], 1.0, [0.5, -0.25, 0.0, 0.25]);
        assert_eq!(moved.moved(0.0).bounds, [20.0, 10.0, 30.0, 70.0]);
        assert_eq!(moved.moved(1.0).bounds, [20.5, 9.75, 30.0, 70.25]);
        assert_eq!(moved.squared().bounds, [0.0, 20.0, 40.0, 60.0]);
    }

    #[test]
    fn what_is_seen_is_inside_the_image() {
        let image = image(50, 40);
        let seen = |bounds| candidate(bounds, 1.0).seen(&image);
        let region = |left, top, right, bottom| Some(Region { left, top, right, bottom });
        assert_eq!(seen([10.7, 1.0, 20.9, 30.0]), region(9, 0, 20, 30));
        assert_eq!(seen([-5.0, -5.0, 500.0, 500.0]), region(0, 0, 50, 40));
        for outside in [[60.0, 0.0, 70.0, 10.0], [-9.0, 0.0, -1.0, 9.0], [0.0, 50.0, 9.0, 60.0]] {
            assert_eq!(seen(outside), None, "{outside:?}");
        }
    }

    #[test]
    fn a_face_is_cut_out_with_a_margin_of_the_cut() {
        let image = image(100, 100);
        let face = [20.0, 30.0, 60.0, 80.0];
        let cut = |margin| cut_out(&face, margin, 160.0, &image);
        assert_eq!(cut(0.0), Region { left: 20, top: 30, right: 60, bottom: 80 });
        // A fifth of the cut's side is a quarter of the face's.
        assert_eq!(cut(32.0), Region { left: 15, top: 23, right: 65, bottom: 86 });
    }

    proptest! {
        #[test]
        fn whatever_a_box_is_something_inside_the_image_is_cut_out(
            bounds in proptest::array::uniform4(prop_oneof![-1e9f32..1e9, -50f32..150.0, Just(f32::NAN)]),
            (width, height) in (1usize..60, 1usize..60),
        ) {
            let Region { left, top, right, bottom } = cut_out(&bounds, 14.0, 160.0, &image(width, height));
            prop_assert!(left < right && right <= width && top < bottom && bottom <= height);
        }

        #[test]
        fn no_two_of_those_that_stay_overlap(
            places in proptest::collection::vec((0f32..60.0, 0f32..60.0, 5f32..30.0, 0f32..1.0), 0..40),
        ) {
            let boxes: Vec<_> = places
                .iter()
                .map(|(x, y, side, score)| candidate([*x, *y, x + side, y + side], *score))
                .collect();
            let kept = suppress(boxes.clone(), 100, 0.3, Overlap::OfBoth);
            let share = |a: &Candidate, b: &Candidate| Overlap::OfBoth.share(&a.bounds, &b.bounds);
            for (index, one) in kept.iter().enumerate() {
                prop_assert!(kept[..index].iter().all(|other| share(one, other) <= 0.3));
                prop_assert!(kept[..index].iter().all(|other| other.score >= one.score));
            }
            // Each of the others has a likelier one in its place.
            for gone in boxes.iter().filter(|one| !kept.contains(one)) {
                prop_assert!(kept.iter().any(|one| one.score >= gone.score && share(one, gone) > 0.3));
            }
        }
    }
}
