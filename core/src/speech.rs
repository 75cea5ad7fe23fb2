//! What a recording may be: checked where a job comes in, and again before a model hears anything.

use std::ops::RangeInclusive;

/// The longest recording, in seconds. A small file can hold days of silence: it is decoded no further than this.
pub const MAX_SECONDS: u32 = 2 * 3_600;

/// Channels that a recording may have. They are mixed into one.
pub const MAX_CHANNELS: u32 = 8;

/// Samples per second of each channel.
pub const SAMPLE_RATES: RangeInclusive<u32> = 8_000..=192_000;

/// Bytes of the name of a language.
pub const MAX_LANGUAGE_BYTES: usize = 16;

/// What keeps a text from being the name of a language, such as `en` or `yue`; empty means that none is given.
pub fn language_problem(name: &str) -> Option<String> {
    let sound = |byte: u8| byte.is_ascii_lowercase() || byte == b'-';
    (name.len() > MAX_LANGUAGE_BYTES || !name.bytes().all(sound)).then(|| {
        format!("is not at most {MAX_LANGUAGE_BYTES} lowercase letters: use a code such as `en`")
    })
}

/// What keeps sound of this form from being heard, for a sentence about a recording.
pub fn form_problem(channels: u32, samples_per_second: u32) -> Option<String> {
    if !(1..=MAX_CHANNELS).contains(&channels) {
        return Some(format!("it has {channels} channels, and may have 1 to {MAX_CHANNELS}"));
    }
    (!SAMPLE_RATES.contains(&samples_per_second)).then(|| {
        let (least, most) = (SAMPLE_RATES.start(), SAMPLE_RATES.end());
        format!(
            "it has {samples_per_second} samples per second, and may have {least} to {most}: \
             resample it"
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_languages_are_short_and_plain() {
        for good in ["", "en", "haw", "yue", "zh-hant"] {
            assert_eq!(language_problem(good), None, "{good}");
        }
        for bad in ["EN", "<|en|>", "e n", "größe", "abcdefghijklmnopq"] {
            assert!(language_problem(bad).is_some(), "{bad}");
        }
    }

    #[test]
    fn forms_of_sound_have_bounds() {
        for (channels, rate) in [(1, 16_000), (2, 44_100), (8, 8_000), (1, 192_000)] {
            assert_eq!(form_problem(channels, rate), None);
        }
        for (channels, rate, part) in [
            (0, 16_000, "0 channels"),
            (9, 16_000, "9 channels"),
            (1, 7_999, "7999 samples"),
            (2, 192_001, "192001 samples"),
            (1, 0, "0 samples"),
        ] {
            assert!(form_problem(channels, rate).unwrap().contains(part), "{channels} {rate}");
        }
    }
}
