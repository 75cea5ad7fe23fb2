//! What is asked of a model that looks at images.
//!
//! Images are not decoded here: what their first bytes say of kind and size is enough to refuse what no
//! engine would take, and whether the rest is an image is seen by the engine.

use bytes::Bytes;
use imagesize::ImageType;
use stoker_core::image::ImageLimits;
use stoker_core::{caption, zero_shot};

use crate::status::FieldViolation;
use crate::v1;

use super::violations::Violations;

/// Notes what is wrong with images, as far as their files say.
pub(super) fn check_images(
    images: &[Bytes],
    limits: &ImageLimits,
    field: &str,
    violations: &mut Violations,
) {
    for (index, image) in images.iter().enumerate() {
        if let Some(problem) = problem(image, limits) {
            violations.add(FieldViolation::new(format!("{field}[{index}]"), problem));
        }
        if violations.is_full() {
            return;
        }
    }
}

/// Notes what is wrong with labels and template. Whether there are any labels depends on the model.
pub(super) fn check_question(
    input: &v1::ImageClassificationInput,
    field: &str,
    violations: &mut Violations,
) {
    if !input.labels.is_empty()
        && let Some(problem) = zero_shot::labels_problem(&input.labels)
    {
        let problem = format!("are not valid: {problem}");
        violations.add(FieldViolation::new(format!("{field}.labels"), problem));
    }
    if !input.template.is_empty()
        && let Some(problem) = zero_shot::template_problem(&input.template)
    {
        violations.add(FieldViolation::new(format!("{field}.template"), problem));
    }
}

/// Notes what is wrong with how images are to be captioned.
pub(super) fn check_caption(
    input: &v1::ImageCaptioningInput,
    field: &str,
    violations: &mut Violations,
) {
    if let Some(problem) = caption::prompt_problem(&input.prompt) {
        violations.add(FieldViolation::new(format!("{field}.prompt"), problem));
    }
    if let Some(problem) = caption::max_tokens_problem(input.max_tokens) {
        violations.add(FieldViolation::new(format!("{field}.max_tokens"), problem));
    }
}

fn problem(image: &[u8], limits: &ImageLimits) -> Option<String> {
    let bytes = u64::try_from(image.len()).unwrap_or(u64::MAX);
    if let Some(problem) = limits.file_problem(bytes) {
        return Some(problem);
    }
    match imagesize::image_type(image) {
        Ok(ImageType::Gif | ImageType::Jpeg | ImageType::Png | ImageType::Webp) => {}
        Ok(_) | Err(_) => {
            return Some("is not an image of a known kind: use PNG, JPEG, WebP or GIF".to_owned());
        }
    }
    let Ok(size) = imagesize::blob_size(image) else {
        return Some("is cut off or broken: it does not say how large it is".to_owned());
    };
    let wide = |pixels: usize| u64::try_from(pixels).unwrap_or(u64::MAX);
    limits.size_problem(wide(size.width), wide(size.height))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The beginning of a PNG of this size.
    fn png(width: u32, height: u32) -> Bytes {
        let [width, height] = [width, height].map(u32::to_be_bytes);
        let parts: [&[u8]; 4] =
            [b"\x89PNG\r\n\x1a\n\0\0\0\x0dIHDR", &width, &height, &[8, 2, 0, 0, 0]];
        Bytes::from(parts.concat())
    }

    fn gif(width: u16, height: u16) -> Bytes {
        let [width, height] = [width, height].map(u16::to_le_bytes);
        Bytes::from([b"GIF89a".as_slice(), &width, &height, &[0, 0, 0]].concat())
    }

    fn problems(images: &[Bytes]) -> Vec<String> {
        let limits = ImageLimits { max_bytes: 100, max_pixels: 1_000 };
        let mut violations = Violations::default();
        check_images(images, &limits, "images", &mut violations);
        violations.into_vec().iter().map(ToString::to_string).collect()
    }

    #[test]
    fn images_of_each_kind_that_keep_the_limits_pass() {
        let mut jpeg = b"\xff\xd8\xff\xe0\0\x10JFIF\0\x01\x01\0\0\x01\0\x01\0\0".to_vec();
        jpeg.extend(b"\xff\xc0\0\x11\x08\0\x18\0\x20\x03\x01\x22\0\x02\x11\x01\x03\x11\x01");
        let webp = [b"RIFF\x20\0\0\0WEBPVP8X\x0a\0\0\0".as_slice(), &[0; 4], &[9, 0, 0, 9, 0, 0]];
        let images = [png(10, 100), gif(1, 1_000), Bytes::from(jpeg), Bytes::from(webp.concat())];
        assert_eq!(problems(&images), [""; 0]);
    }

    #[test]
    fn what_is_no_image_or_too_large_is_named() {
        let images = [
            Bytes::new(),
            Bytes::from_static(b"no image at all, but a text"),
            Bytes::from_static(b"BM is the beginning of a bitmap, which engines do not read"),
            Bytes::from_static(b"\x89PNG\r\n\x1a\n\0\0\0\x0dIHDR"),
            png(65_535, 65_535),
            gif(0, 4),
            png(1, 1),
            Bytes::from(vec![0xff; 101]),
        ];
        let found = problems(&images);
        for (place, part) in [
            "images[0]: is empty",
            "images[1]: is not an image",
            "images[2]: is not an image",
            "images[3]: is cut off",
            "images[4]: has 65535 x 65535 pixels and may have 1000",
            "images[5]: has 0 x 4 pixels",
            "images[7]: has 101 bytes",
        ]
        .iter()
        .enumerate()
        {
            assert!(found[place].replace('`', "").starts_with(part), "{part}: {}", found[place]);
        }
        assert_eq!(found.len(), 7);
    }

    #[test]
    fn captions_are_bounded() {
        let fields = |prompt: &str, max_tokens| {
            let prompt = prompt.to_owned();
            let input = v1::ImageCaptioningInput { images: Vec::new(), prompt, max_tokens };
            let mut violations = Violations::default();
            check_caption(&input, "c", &mut violations);
            violations.into_vec().into_iter().map(|one| one.field).collect::<Vec<_>>()
        };
        assert_eq!(fields("", 0), [""; 0]);
        assert_eq!(fields("a picture of", 20), [""; 0]);
        assert_eq!(fields("two\nlines", 1_025), ["c.prompt", "c.max_tokens"]);
    }

    #[test]
    fn labels_and_template_have_to_make_a_question() {
        let fields = |labels: &[&str], template: &str| {
            let labels = labels.iter().map(|label| (*label).to_owned()).collect();
            let template = template.to_owned();
            let input = v1::ImageClassificationInput { images: Vec::new(), labels, template };
            let mut violations = Violations::default();
            check_question(&input, "q", &mut violations);
            violations.into_vec().into_iter().map(|one| one.field).collect::<Vec<_>>()
        };
        assert_eq!(fields(&[], ""), [""; 0]);
        assert_eq!(fields(&["cat", "dog"], "a {}"), [""; 0]);
        assert_eq!(fields(&["cat", "cat"], "a"), ["q.labels", "q.template"]);
    }
}
