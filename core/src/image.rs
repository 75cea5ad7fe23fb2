//! What an image may be: bounds that are checked where jobs come in, and again before an engine decodes it.

/// Pixels of an image that no fleet may exceed: a pixel takes up to sixteen bytes of an engine's memory while an
/// image is decoded, turned and made RGB, on each of the threads that prepare items.
pub const MOST_PIXELS: u64 = 500_000_000;

/// Bounds of one image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ImageLimits {
    /// Of its file.
    pub max_bytes: u64,
    /// Its width times its height, whatever its file takes.
    pub max_pixels: u64,
}

impl Default for ImageLimits {
    /// What a photo has.
    fn default() -> Self {
        Self { max_bytes: 4 << 20, max_pixels: 50_000_000 }
    }
}

impl ImageLimits {
    /// What is wrong with a file of so many bytes.
    pub fn file_problem(&self, bytes: u64) -> Option<String> {
        match bytes {
            0 => Some("is empty: leave it out, or give it the bytes of an image file".to_owned()),
            _ if bytes > self.max_bytes => {
                Some(format!("has {bytes} bytes and may have {}: make it smaller", self.max_bytes))
            }
            _ => None,
        }
    }

    /// What is wrong with an image that says to be so large. It is asked before anything is decoded: a few
    /// bytes can claim any size.
    pub fn size_problem(&self, width: u64, height: u64) -> Option<String> {
        let most = self.max_pixels;
        match width.checked_mul(height) {
            Some(0) => Some(format!("has {width} x {height} pixels: there is nothing to see")),
            Some(pixels) if pixels <= most => None,
            Some(_) | None => Some(format!(
                "has {width} x {height} pixels and may have {most} in all: make it smaller"
            )),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: ImageLimits = ImageLimits { max_bytes: 10, max_pixels: 12 };

    #[test]
    fn files_are_bounded_in_bytes() {
        assert_eq!((LIMITS.file_problem(1), LIMITS.file_problem(10)), (None, None));
        assert!(LIMITS.file_problem(0).is_some_and(|problem| problem.contains("is empty")));
        assert!(LIMITS.file_problem(11).is_some_and(|problem| problem.contains("11 bytes")));
    }

    #[test]
    fn images_are_bounded_in_pixels_whatever_their_form() {
        for (width, height) in [(3, 4), (12, 1), (1, 12)] {
            assert_eq!(LIMITS.size_problem(width, height), None);
        }
        for (width, height) in [(0, 5), (5, 0), (13, 1), (4, 4), (u64::MAX, 2), (1 << 32, 1 << 32)]
        {
            assert!(LIMITS.size_problem(width, height).is_some(), "{width} x {height}");
        }
    }
}
