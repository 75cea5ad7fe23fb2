//! Decoding: PNG, JPEG, WebP and the first frame of a GIF, within bounds.
//!
//! How large an image is stands in its first bytes. That is checked before any memory is taken for it, so
//! that a small file which claims to be huge costs nothing.

use std::io::Cursor;

use image::error::ImageError;
use image::metadata::Orientation;
use image::{DynamicImage, ImageDecoder, ImageFormat, ImageReader, Limits};
use stoker_core::image::ImageLimits;
use stoker_engine_api::ItemError;

use super::Pixels;

/// Bytes of a decoded pixel in the widest form that a file of these kinds has, 16 bits of four channels.
const MOST_PIXEL_BYTES: u64 = 8;

/// Memory that a decoder may take besides the pixels.
const DECODER_BYTES: u64 = 64 << 20;

/// Bytes of a decoder's message that are passed on.
const MESSAGE_BYTES: usize = 200;

/// The image in a file, upright.
///
/// # Errors
/// When it is not an image of a known kind, cut off, damaged, or too large.
pub(crate) fn decode(file: &[u8], limits: &ImageLimits) -> Result<Pixels, ItemError> {
    let bytes = u64::try_from(file.len()).unwrap_or(u64::MAX);
    if let Some(problem) = limits.file_problem(bytes) {
        return Err(invalid(format!("the image {problem}")));
    }
    let format = image::guess_format(file).ok().filter(|format| KNOWN.contains(format));
    let Some(format) = format else {
        return Err(invalid(
            "it is not an image of a known kind: use PNG, JPEG, WebP or GIF".to_owned(),
        ));
    };
    if format == ImageFormat::Jpeg && !jpeg_has_end(file) {
        // The decoder would make up what is missing.
        return Err(invalid("the image is cut off: its file has no end".to_owned()));
    }
    let (mut image, orientation) = read(file, format, limits)?;
    image.apply_orientation(orientation);
    let image = image.into_rgb8();
    let side = |pixels: u32| usize::try_from(pixels).unwrap_or(usize::MAX);
    let (width, height) = (side(image.width()), side(image.height()));
    Ok(Pixels { width, height, bytes: image.into_raw() })
}

const KNOWN: [ImageFormat; 4] =
    [ImageFormat::Png, ImageFormat::Jpeg, ImageFormat::WebP, ImageFormat::Gif];

fn read(
    file: &[u8],
    format: ImageFormat,
    limits: &ImageLimits,
) -> Result<(DynamicImage, Orientation), ItemError> {
    let mut reader = ImageReader::with_format(Cursor::new(file), format);
    let mut bounds = Limits::no_limits();
    let pixels = limits.max_pixels.saturating_mul(MOST_PIXEL_BYTES);
    bounds.max_alloc = Some(pixels.saturating_add(DECODER_BYTES));
    reader.limits(bounds);
    let broken = |error: &ImageError| broken(error, limits);
    let mut decoder = reader.into_decoder().map_err(|error| broken(&error))?;
    let (width, height) = decoder.dimensions();
    if let Some(problem) = limits.size_problem(u64::from(width), u64::from(height)) {
        return Err(invalid(format!("the image {problem}")));
    }
    // An image whose notes are damaged is as it is.
    let orientation = decoder.orientation().unwrap_or(Orientation::NoTransforms);
    let image = DynamicImage::from_decoder(decoder).map_err(|error| broken(&error))?;
    Ok((image, orientation))
}

/// Whether a JPEG's data ends with the marker that says so. What stands behind it does not matter.
fn jpeg_has_end(file: &[u8]) -> bool {
    const START_OF_SCAN: [u8; 2] = [0xff, 0xda];
    const END: [u8; 2] = [0xff, 0xd9];
    let place = |marker: [u8; 2]| file.windows(2).rposition(|pair| pair == marker);
    // A small picture of the image, in its notes, has an end of its own.
    place(END).is_some_and(|end| place(START_OF_SCAN).is_none_or(|scan| scan < end))
}

fn broken(error: &ImageError, limits: &ImageLimits) -> ItemError {
    if matches!(error, ImageError::Limits(_)) {
        let most = limits.max_pixels;
        return invalid(format!(
            "the image takes more memory than {most} pixels, the most, may take"
        ));
    }
    let text = error.to_string();
    let line = text.lines().next().unwrap_or_default();
    let end = line.floor_char_boundary(MESSAGE_BYTES);
    invalid(format!("the image cannot be decoded: {}", &line[..end]))
}

const fn invalid(message: String) -> ItemError {
    ItemError::Invalid { message }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    use super::*;

    const LIMITS: ImageLimits = ImageLimits { max_bytes: 1 << 20, max_pixels: 100 * 100 };

    fn file(name: &str) -> Vec<u8> {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("golden/tiny-clip/images");
        fs::read(folder.join(name)).unwrap()
    }

    fn refusal(file: &[u8], limits: &ImageLimits) -> String {
        match decode(file, limits) {
            Ok(image) => panic!("decoded to {} x {}", image.width, image.height),
            Err(ItemError::Invalid { message }) => message,
            Err(other) => panic!("{other}"),
        }
    }

    /// A PNG that claims to be of a size, with a valid check sum, and ends there.
    fn claims(width: u32, height: u32) -> Vec<u8> {
        let mut chunk = b"IHDR".to_vec();
        chunk.extend(width.to_be_bytes());
        chunk.extend(height.to_be_bytes());
        chunk.extend([8, 6, 0, 0, 0]);
        let sum = !chunk.iter().fold(u32::MAX, |sum, byte| {
            let step = |sum: u32, _| if sum & 1 == 1 { (sum >> 1) ^ 0xedb8_8320 } else { sum >> 1 };
            (0..8).fold(sum ^ u32::from(*byte), step)
        });
        let mut file = b"\x89PNG\r\n\x1a\n\0\0\0\x0d".to_vec();
        file.extend(chunk);
        file.extend(sum.to_be_bytes());
        file.extend(b"\0\0\xff\xffIDAT");
        file
    }

    #[test]
    fn every_kind_of_file_is_read() {
        for (name, size) in [
            ("wide.png", (100, 61)),
            ("transparent.png", (45, 40)),
            ("gray.png", (50, 38)),
            ("palette.png", (40, 44)),
            ("photo.jpg", (96, 72)),
            ("turned.jpg", (72, 96)),
            ("photo.webp", (96, 72)),
            ("lossless.webp", (60, 45)),
            ("moving.gif", (24, 30)),
        ] {
            let image = decode(&file(name), &LIMITS).unwrap();
            assert_eq!((image.width, image.height), size, "{name}");
            assert_eq!(image.bytes.len(), image.width * image.height * 3);
        }
    }

    #[test]
    fn what_claims_to_be_huge_is_refused_before_it_is_decoded() {
        let message = refusal(&claims(101, 100), &LIMITS);
        assert!(message.contains("has 101 x 100 pixels"), "{message}");
        for (width, height) in [(50_000, 50_000), (i32::MAX.cast_unsigned(), 2)] {
            let message = refusal(&claims(width, height), &LIMITS);
            assert!(message.contains(" pixels"), "{message}");
        }
        let message = refusal(&claims(100, 100), &LIMITS);
        assert!(message.contains("cannot be decoded"), "{message}");
    }

    #[test]
    fn what_is_cut_off_anywhere_is_refused() {
        for name in ["wide.png", "photo.jpg", "photo.webp", "lossless.webp", "moving.gif"] {
            let whole = file(name);
            let step = (whole.len() / 40).max(1);
            // Of a GIF the first of two frames is read.
            let most = if name == "moving.gif" { whole.len() / 4 } else { whole.len() - 13 };
            for end in (0..most).step_by(step) {
                refusal(&whole[..end], &LIMITS);
            }
        }
    }

    #[test]
    fn what_is_no_image_is_refused() {
        for text in [b"a text".as_slice(), b"BM6\0\0\0", b"\0", b"%PDF-1.7", b"<svg></svg>"] {
            let message = refusal(text, &LIMITS);
            assert!(message.contains("not an image"), "{message}");
        }
        assert!(refusal(b"", &LIMITS).contains("is empty"));
        let small = ImageLimits { max_bytes: 10, ..LIMITS };
        assert!(refusal(&file("gray.png"), &small).contains("and may have 10"));
    }

    #[test]
    fn damage_is_an_error_and_never_a_panic() {
        for name in ["gray.png", "photo.jpg", "photo.webp", "moving.gif"] {
            let whole = file(name);
            for place in 0..whole.len() {
                let mut damaged = whole.clone();
                damaged[place] ^= 0x5a;
                // Some of it is pixels, which may have any color.
                if let Ok(image) = decode(&damaged, &LIMITS) {
                    assert!(image.bytes.len() <= 3 * 100 * 100, "{name} at {place}");
                }
            }
        }
    }
}
