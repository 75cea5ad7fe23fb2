//! How far two answers of one network are apart.

/// The largest difference between two vectors, as a share of the first one's largest number where that
/// is more than 1.
pub(crate) fn difference(expected: &[f32], found: &[f32]) -> f32 {
    if expected.len() != found.len() {
        return f32::INFINITY;
    }
    let scale = expected.iter().fold(1.0f32, |max, number| max.max(number.abs()));
    let largest = expected.iter().zip(found).map(|(a, b)| (a - b).abs());
    // A number that is not finite makes the difference infinite, never small.
    let largest =
        largest.fold(0.0f32, |max, d| if d.is_nan() { f32::INFINITY } else { max.max(d) });
    largest / scale
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn difference_is_relative_and_never_hides_what_is_not_a_number() {
        assert!((difference(&[0.0, -2.0], &[0.5, -2.0]) - 0.25).abs() < 1e-6);
        assert!(difference(&[1.0], &[f32::NAN]).is_infinite());
        assert!(difference(&[1.0, 2.0], &[1.0]).is_infinite());
        assert!((difference(&[0.0], &[0.1]) - 0.1).abs() < 1e-6);
    }
}
