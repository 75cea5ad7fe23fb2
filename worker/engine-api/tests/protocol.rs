//! Messages survive the wire, and nothing that arrives can hurt the reader.

use std::io::{Cursor, Read};

use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use stoker_engine_api::frame::{self, PREFIX_BYTES};
use stoker_engine_api::{
    EngineError, EngineInfo, FrameError, FrameReader, FrameWriter, FromEngine, ItemError,
    ItemInput, ItemKey, ItemOutput, Labels, LoadSeconds, MAX_FRAME_BYTES, Scores, TaskKind,
    ToEngine,
};

fn key() -> impl Strategy<Value = ItemKey> {
    any::<u64>().prop_map(ItemKey)
}

fn to_engine() -> impl Strategy<Value = ToEngine> {
    let input = any::<String>().prop_map(ItemInput::Text);
    prop_oneof![
        vec((key(), input), 0..8).prop_map(|items| ToEngine::Prepare { items }),
        (any::<u64>(), vec(key(), 0..8)).prop_map(|(batch, items)| ToEngine::Run { batch, items }),
        vec(key(), 0..8).prop_map(|items| ToEngine::Forget { items }),
        Just(ToEngine::Shutdown),
    ]
}

fn item_error() -> impl Strategy<Value = ItemError> {
    prop_oneof![
        any::<[String; 3]>().prop_map(|[task, expected, got]| ItemError::WrongKind {
            task,
            expected,
            got
        }),
        any::<String>().prop_map(|message| ItemError::Invalid { message }),
        any::<u64>().prop_map(|held| ItemError::Full { held }),
        any::<String>().prop_map(|message| ItemError::Internal { message }),
    ]
}

fn engine_error() -> impl Strategy<Value = EngineError> {
    any::<String>().prop_flat_map(|message| {
        prop_oneof![
            Just(EngineError::OutOfMemory { message: message.clone() }),
            Just(EngineError::Device { message: message.clone() }),
            Just(EngineError::Input { message: message.clone() }),
            Just(EngineError::Internal { message }),
        ]
    })
}

fn output() -> impl Strategy<Value = ItemOutput> {
    prop_oneof![
        vec(-1e30f32..1e30, 0..400).prop_map(ItemOutput::Embedding),
        (vec(0f32..1.0, 0..20), any::<bool>())
            .prop_map(|(scores, truncated)| ItemOutput::Scores(Scores { scores, truncated })),
        any::<String>().prop_map(ItemOutput::Text),
    ]
}

fn labels() -> impl Strategy<Value = Labels> {
    (vec(any::<String>(), 0..5), any::<bool>())
        .prop_map(|(names, exclusive)| Labels { names, exclusive })
}

fn info() -> impl Strategy<Value = EngineInfo> {
    let numbers = any::<(u32, u32, u64, u32)>();
    let seconds = [0.0..1e3, 0.0..1e3, 0.0..1e3, 0.0..1e3, 0.0..1e3, 0.0..1e3];
    let texts = (any::<String>(), any::<String>(), option::of(any::<String>()));
    let outputs = (option::of(any::<u32>()), option::of(labels()));
    (texts, numbers, outputs, seconds).prop_map(|(texts, numbers, (width, labels), load)| {
        let [read, digest, build, tokenizer, warm_up, elapsed] = load;
        EngineInfo {
            model: texts.0,
            task: TaskKind::TextEmbedding,
            output_dimensions: width,
            labels,
            max_tokens: numbers.0,
            max_batch_tokens: numbers.1,
            weights_bytes: numbers.2,
            weights_sha256: texts.2,
            lanes: numbers.3,
            device: texts.1,
            load: LoadSeconds { read, digest, build, tokenizer, warm_up, elapsed },
        }
    })
}

fn from_engine() -> impl Strategy<Value = FromEngine> {
    let prepared = prop_oneof![any::<u32>().prop_map(Ok), item_error().prop_map(Err)];
    prop_oneof![
        any::<u32>().prop_map(|protocol| FromEngine::Hello { protocol }),
        info().prop_map(FromEngine::Ready),
        vec((key(), prepared), 0..8).prop_map(|items| FromEngine::Prepared { items }),
        (any::<u64>(), vec(output(), 0..4), any::<u64>()).prop_map(
            |(batch, outputs, busy_micros)| FromEngine::Done { batch, outputs, busy_micros }
        ),
        (any::<u64>(), engine_error())
            .prop_map(|(batch, error)| FromEngine::Failed { batch, error }),
        any::<[String; 2]>().prop_map(|[message, remedy]| FromEngine::Fatal { message, remedy }),
    ]
}

proptest! {
    #[test]
    fn requests_survive_a_stream(messages in vec(to_engine(), 0..6)) {
        let mut stream = Vec::new();
        let mut writer = FrameWriter::new(&mut stream);
        for message in &messages {
            writer.write(message).unwrap();
        }
        let mut reader = FrameReader::new(OneByteAtATime(Cursor::new(stream)));
        for message in messages {
            prop_assert_eq!(reader.read().unwrap(), Some(message));
        }
        prop_assert_eq!(reader.read().unwrap(), None);
    }

    #[test]
    fn answers_survive_encode_and_decode(message in from_engine()) {
        let frame = frame::encode(&message).unwrap();
        let (prefix, payload) = frame.split_first_chunk::<PREFIX_BYTES>().unwrap();
        prop_assert_eq!(frame::payload_bytes(*prefix).unwrap(), payload.len());
        prop_assert_eq!(frame::decode::<FromEngine>(payload).unwrap(), message);
    }

    #[test]
    fn cut_frames_are_errors(message in from_engine(), cut in any::<prop::sample::Index>()) {
        let frame = frame::encode(&message).unwrap();
        let cut = cut.index(frame.len());
        let read = FrameReader::<FromEngine, _>::new(&frame[..cut]).read();
        if cut == 0 {
            prop_assert!(matches!(read, Ok(None)));
        } else {
            prop_assert!(matches!(read, Err(FrameError::Truncated { .. })), "{read:?}");
        }
        let payload = &frame[PREFIX_BYTES..];
        for shorter in 0..payload.len() {
            prop_assert!(frame::decode::<FromEngine>(&payload[..shorter]).is_err());
        }
    }

    #[test]
    fn garbage_is_an_error_or_a_message(bytes in vec(any::<u8>(), 0..200)) {
        let _ = frame::decode::<FromEngine>(&bytes);
        let _ = frame::decode::<ToEngine>(&bytes);
        let mut reader = FrameReader::<ToEngine, _>::new(bytes.as_slice());
        while let Ok(Some(_)) = reader.read() {}
    }
}

/// Gives one byte per call, as a slow pipe may.
struct OneByteAtATime(Cursor<Vec<u8>>);

impl Read for OneByteAtATime {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let end = buffer.len().min(1);
        self.0.read(&mut buffer[..end])
    }
}

/// Endless zeros that count how many were taken.
struct Zeros<'a>(&'a mut usize);

impl Read for Zeros<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        buffer.fill(0);
        *self.0 += buffer.len();
        Ok(buffer.len())
    }
}

#[test]
fn oversized_length_is_refused_before_its_payload_is_read() {
    let prefix = u32::try_from(MAX_FRAME_BYTES + 1).unwrap().to_le_bytes();
    let mut taken = 0;
    let stream = prefix.as_slice().chain(Zeros(&mut taken));
    let read = FrameReader::<ToEngine, _>::new(stream).read();
    assert!(matches!(read, Err(FrameError::TooLarge { .. })), "{read:?}");
    assert_eq!(taken, 0);
}

#[test]
fn message_over_the_limit_is_not_encoded() {
    let outputs = vec![ItemOutput::Embedding(vec![0.0; MAX_FRAME_BYTES / 4])];
    let encoded = frame::encode(&FromEngine::Done { batch: 1, outputs, busy_micros: 1 });
    assert!(matches!(encoded, Err(FrameError::TooLarge { .. })));
}

#[test]
fn count_without_elements_does_not_allocate_for_them() {
    // `Run { batch: 0, items: <2^60 elements> }` in eleven bytes.
    let mut payload = vec![1, 0];
    payload.extend([0x80; 8]);
    payload.push(0x10);
    assert!(matches!(frame::decode::<ToEngine>(&payload), Err(FrameError::Malformed(_))));
}

#[test]
fn bytes_after_the_message_are_refused() {
    let mut frame = frame::encode(&ToEngine::Shutdown).unwrap();
    frame.push(0);
    let decoded = frame::decode::<ToEngine>(&frame[PREFIX_BYTES..]);
    assert!(matches!(decoded, Err(FrameError::TrailingBytes { bytes: 1 })), "{decoded:?}");
}

#[test]
fn embedding_of_a_fraction_of_a_number_is_refused() {
    // `Done { batch: 0, outputs: [Embedding(3 bytes)], busy_micros: 0 }`
    let decoded = frame::decode::<FromEngine>(&[3, 0, 1, 0, 3, 1, 2, 3, 0]);
    assert!(matches!(decoded, Err(FrameError::Malformed(_))), "{decoded:?}");
}

#[test]
fn embedding_takes_four_bytes_a_number() {
    let output = ItemOutput::Embedding(vec![f32::MIN_POSITIVE; 384]);
    let frame =
        frame::encode(&FromEngine::Done { batch: 1, outputs: vec![output], busy_micros: 1 });
    assert_eq!(frame.unwrap().len(), PREFIX_BYTES + 7 + 384 * 4);
}

#[test]
fn hello_keeps_its_bytes_in_every_version() {
    let frame = frame::encode(&FromEngine::Hello { protocol: 1 }).unwrap();
    assert_eq!(frame, [2, 0, 0, 0, 0, 1]);
}
