//! Files of every format that is taken, and of other rates and channels than models hear.

use stoker_engine::{RecordingError, Sound};

use super::{file, prepare, run, tiny, wav};

fn sound(file: &[u8]) -> Result<Vec<f32>, RecordingError> {
    let mut sound = Sound::open(file)?;
    let mut samples = Vec::new();
    while let Some(block) = sound.next_block()? {
        samples.extend(block);
    }
    Ok(samples)
}

/// Samples of 16 bits as a file of another rate and number of channels has them, the same in each.
fn other_form(samples: &[f32], every: usize, channels: u16) -> Vec<i16> {
    let sample = |sample: &f32| {
        #[expect(clippy::cast_possible_truncation, reason = "within 16 bits")]
        let sample = (sample * 32_767.0).round() as i16;
        vec![sample; usize::from(channels)]
    };
    samples.iter().step_by(every).flat_map(sample).collect()
}

fn largest_difference(one: &[f32], other: &[f32]) -> f32 {
    one.iter().zip(other).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max)
}

/// How alike two sounds are: 1 if one is the other, but for its loudness.
fn likeness(one: &[f32], other: &[f32]) -> f32 {
    let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f32>();
    dot(one, other) / (dot(one, one) * dot(other, other)).sqrt()
}

#[test]
fn what_loses_nothing_is_the_same_in_every_format() {
    let exact = sound(&file("short.wav")).unwrap();
    assert_eq!(exact.len(), 27_200);
    assert_eq!(sound(&file("short.flac")).unwrap(), exact);
}

#[test]
fn what_loses_little_is_nearly_the_same_at_the_same_time() {
    let exact = sound(&file("short.wav")).unwrap();
    for name in ["short.mp3", "short.ogg"] {
        let found = sound(&file(name)).unwrap();
        let lengths = (found.len(), exact.len());
        assert!(lengths.0.abs_diff(lengths.1) <= 1_152, "{name}: {lengths:?}");
        let alike = likeness(&found, &exact);
        assert!(alike > 0.98, "{name}: {alike}");
    }
}

#[test]
fn channels_are_mixed_and_rates_are_brought_to_one() {
    let exact = sound(&file("short.wav")).unwrap();
    let stereo = sound(&wav(16_000, 2, &other_form(&exact, 1, 2))).unwrap();
    assert!(largest_difference(&stereo, &exact) < 1e-4);
    let opposite: Vec<i16> = (0..3_200).flat_map(|n| [n, -n]).collect();
    assert!(sound(&wav(16_000, 2, &opposite)).unwrap().iter().all(|sample| *sample == 0.0));
    // Half of the samples at half of the rate say the same of what is below 4 kHz.
    let slower = sound(&wav(8_000, 1, &other_form(&exact, 2, 1))).unwrap();
    assert_eq!(slower.len(), exact.len());
    assert!(likeness(&slower, &exact) > 0.98, "{}", likeness(&slower, &exact));
}

#[test]
fn every_format_is_written_down() {
    let engine = tiny("english");
    for name in ["short.wav", "short.flac", "short.mp3", "short.ogg"] {
        let item = prepare(&engine, file(name), None).unwrap();
        let transcript = run(&engine, &[&item]).remove(0);
        assert!(transcript.duration_ms.abs_diff(1_700) <= 72, "{name}: {transcript:?}");
        assert!(!transcript.segments.is_empty(), "{name}");
    }
}

#[test]
fn a_file_that_was_written_to_a_pipe_is_as_long_as_it_is() {
    let mut file = file("short.wav");
    let data = file.windows(4).position(|four| four == b"data").unwrap();
    file[4..8].fill(0xff);
    file[data + 4..data + 8].fill(0xff);
    assert_eq!(sound(&file).unwrap().len(), 27_200);
}
