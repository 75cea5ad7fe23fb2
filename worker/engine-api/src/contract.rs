//! What every [`Engine`] must keep, as one suite: run it against yours.
//!
//! It talks to the engine as a worker does, through [`serve`](fn@crate::serve), and looks at answers
//! only. It asks for nothing that needs a certain model.

use std::io::{self, PipeReader, PipeWriter};
use std::thread::{self, JoinHandle};

use crate::serve::{ServeOptions, serve};
use crate::{
    Engine, EngineError, EngineInfo, Face, Faces, Finish, FrameReader, FrameWriter, FromEngine,
    GenerationInput, GenerationSettings, ItemInput, ItemKey, ItemOutput, Prompt, Recording, Scores,
    ServeError, TaskKind, ToEngine, Transcript, WrittenIn,
};

/// Inputs that any engine for the task has to take: empty, ordinary, and longer than models read. A prompt
/// is never empty, and one that is too long is refused.
fn texts(task: TaskKind) -> [String; 5] {
    let (short, long) = match task {
        TaskKind::TextGeneration => ("b", 10),
        // As sound it is longer than what a model hears at once.
        TaskKind::SpeechToText => ("b", 30),
        TaskKind::TextEmbedding
        | TaskKind::TextClassification
        | TaskKind::ImageEmbedding
        | TaskKind::ImageClassification
        | TaskKind::ImageCaptioning
        | TaskKind::FaceDetection
        | TaskKind::FaceEmbedding
        | TaskKind::Echo => ("", 2_000),
    };
    [short, "a", "some words", "wörter, 言葉", &"many words ".repeat(long)].map(str::to_owned)
}

fn input(task: TaskKind, text: String) -> ItemInput {
    match task {
        TaskKind::TextGeneration => ItemInput::Generation(Box::new(GenerationInput {
            prompt: Prompt::Text(text),
            settings: GenerationSettings {
                temperature: 1.0,
                seed: 7,
                ..GenerationSettings::greedy(4)
            },
            generated: Vec::new(),
        })),
        TaskKind::SpeechToText => {
            let (file, written_in) = (sound(&text), WrittenIn::Spoken);
            ItemInput::Recording(Box::new(Recording { file, language: None, written_in }))
        }
        TaskKind::TextEmbedding
        | TaskKind::TextClassification
        | TaskKind::ImageEmbedding
        | TaskKind::ImageClassification
        | TaskKind::ImageCaptioning
        | TaskKind::FaceDetection
        | TaskKind::FaceEmbedding
        | TaskKind::Echo => ItemInput::Text(text),
    }
}

/// A text as a WAV file: each byte is a tenth of a second of a tone of its own.
fn sound(text: &str) -> Vec<u8> {
    const RATE: u32 = 16_000;
    const PART: u16 = 1_600;
    let tone = |byte: u8| {
        let step = f32::from(byte) / 16.0 * std::f32::consts::TAU / 100.0;
        (0..PART).map(move |n| (f32::from(n) * step).sin() * 8_000.0)
    };
    // The cast is of numbers within 16 bits.
    #[expect(clippy::cast_possible_truncation, reason = "see above")]
    let samples: Vec<u8> =
        text.bytes().flat_map(tone).flat_map(|sample| (sample as i16).to_le_bytes()).collect();
    let bytes = u32::try_from(samples.len()).expect("texts of the suite are short");
    let words =
        |words: &[u32]| words.iter().flat_map(|word| word.to_le_bytes()).collect::<Vec<_>>();
    // PCM with one channel; two bytes in each sample of 16 bits.
    let (form, depth) = (1 | 1 << 16, 2 | 16 << 16);
    let file = [
        b"RIFF".to_vec(),
        words(&[bytes + 36]),
        b"WAVEfmt ".to_vec(),
        words(&[16, form, RATE, RATE * 2, depth]),
        b"data".to_vec(),
        words(&[bytes]),
        samples,
    ];
    file.concat()
}

/// An engine on its threads, and the worker's end of its pipes.
struct Session {
    info: EngineInfo,
    requests: FrameWriter<ToEngine, PipeWriter>,
    answers: FrameReader<FromEngine, PipeReader>,
    serving: JoinHandle<Result<(), ServeError>>,
    next_batch: u64,
}

impl Session {
    fn start(engine: impl Engine) -> Self {
        let (request_end, requests) = io::pipe().expect("a pipe can be made");
        let (answers, answer_end) = io::pipe().expect("a pipe can be made");
        let serving =
            thread::spawn(move || serve(engine, request_end, answer_end, ServeOptions::default()));
        let (requests, mut answers) = (FrameWriter::new(requests), FrameReader::new(answers));
        let Ok(Some(FromEngine::Ready(info))) = answers.read() else {
            panic!("the engine does not say that it is ready")
        };
        Self { info, requests, answers, serving, next_batch: 0 }
    }

    fn ask(&mut self, request: &ToEngine) {
        self.requests.write(request).expect("the engine reads");
    }

    fn answer(&mut self) -> FromEngine {
        loop {
            match self.answers.read().expect("the engine sends frames").expect("the engine goes on")
            {
                FromEngine::Said { .. } => {}
                answer => return answer,
            }
        }
    }

    /// Prepares inputs under keys from `first` on; gives their costs.
    fn prepare(&mut self, first: u64, inputs: &[ItemInput]) -> Vec<u32> {
        let keys = || (first..).map(ItemKey);
        self.ask(&ToEngine::Prepare { items: keys().zip(inputs.iter().cloned()).collect() });
        let FromEngine::Prepared { items } = self.answer() else { panic!("not Prepared") };
        assert!(items.iter().map(|(key, _)| *key).eq(keys().take(inputs.len())), "other items");
        let cost = |result: Result<u32, _>| result.expect("an ordinary input is prepared");
        items.into_iter().map(|(_, result)| cost(result)).collect()
    }

    fn run(&mut self, keys: &[u64]) -> Result<Vec<ItemOutput>, EngineError> {
        self.next_batch += 1;
        let items = keys.iter().copied().map(ItemKey).collect();
        self.ask(&ToEngine::Run { batch: self.next_batch, items });
        match self.answer() {
            FromEngine::Done { batch, outputs, .. } if batch == self.next_batch => Ok(outputs),
            FromEngine::Failed { batch, error } if batch == self.next_batch => Err(error),
            other => panic!("no answer to batch {}: {other:?}", self.next_batch),
        }
    }
}

/// Holds an engine that reads texts to its contract.
///
/// # Panics
/// Says what it does not keep.
pub fn check(engine: impl Engine) {
    let task = engine.info().task;
    let inputs = texts(task).map(|text| input(task, text));
    let mut session = Session::start(engine);
    let costs = session.prepare(20, &inputs);
    assert!(costs[4] > costs[1], "a long text costs no more than a short one: {costs:?}");
    session.ask(&ToEngine::Forget { items: (20..25).map(ItemKey).collect() });
    says_what_it_left_out(&check_session(session, &inputs));
}

/// Holds an engine to its contract with inputs that it has to take.
///
/// # Panics
/// Says what it does not keep.
pub fn check_with(engine: impl Engine, inputs: &[ItemInput; 5]) {
    check_session(Session::start(engine), inputs);
}

/// Gives the outputs of the inputs.
fn check_session(mut session: Session, inputs: &[ItemInput; 5]) -> Vec<ItemOutput> {
    says_what_it_is(&session.info);
    let costs = session.prepare(0, inputs);
    costs_are_within_limits(&session.info, &costs);
    assert_eq!(session.prepare(10, inputs), costs, "the same inputs cost the same");

    let together = session.run(&[0, 1, 2, 3, 4]).expect("a batch of ordinary inputs runs");
    assert_eq!(together.len(), inputs.len(), "one output per item");
    for output in &together {
        fits(&session.info, output);
    }
    let reversed = session.run(&[14, 13, 12]).expect("another order runs");
    for (there, here) in reversed.iter().zip(together.iter().rev()) {
        assert!(is_close(there, here), "an output depends on its neighbors or its place");
    }
    assert_eq!(session.run(&[]), Ok(Vec::new()), "an empty batch gives an empty answer");

    session.ask(&ToEngine::Forget { items: vec![ItemKey(10), ItemKey(999)] });
    for gone in [10, 999] {
        let error = session.run(&[gone, 11]).expect_err("an item that is gone does not run");
        assert!(!error.ends_engine(), "one wrong batch ends the engine: {error}");
    }
    let alone = session.run(&[11]).expect("it goes on after a wrong batch");
    assert!(is_close(&alone[0], &together[1]), "an output depends on its neighbors");

    drop(session.requests);
    assert!(matches!(session.answers.read(), Ok(None)), "it says more than it was asked");
    session.serving.join().expect("it does not panic").expect("it ends in good order");
    together
}

fn says_what_it_is(info: &EngineInfo) {
    assert!(info.lanes >= 1 && info.max_tokens >= 1 && info.max_batch_tokens >= 1, "{info:?}");
    let vectors = matches!(
        info.task,
        TaskKind::TextEmbedding | TaskKind::ImageEmbedding | TaskKind::FaceEmbedding
    );
    assert_eq!(info.output_dimensions.is_some_and(|width| width > 0), vectors, "{info:?}");
    let scores = info.labels.as_ref().map(|labels| labels.names.is_empty());
    let expected = match info.task {
        TaskKind::TextClassification => Some(false),
        // Its items bring their labels.
        TaskKind::ImageClassification => Some(true),
        TaskKind::TextEmbedding
        | TaskKind::TextGeneration
        | TaskKind::ImageEmbedding
        | TaskKind::ImageCaptioning
        | TaskKind::FaceDetection
        | TaskKind::FaceEmbedding
        | TaskKind::SpeechToText
        | TaskKind::Echo => None,
    };
    assert_eq!(scores, expected, "{info:?}");
}

fn costs_are_within_limits(info: &EngineInfo, costs: &[u32]) {
    for cost in costs {
        assert!((1..=info.max_tokens).contains(cost), "cost {cost} of {}", info.max_tokens);
    }
}

fn fits(info: &EngineInfo, output: &ItemOutput) {
    match (info.task, output) {
        (TaskKind::Echo, ItemOutput::Text(_)) => {}
        (TaskKind::TextEmbedding | TaskKind::ImageEmbedding, ItemOutput::Embedding(vector)) => {
            assert_eq!(u32::try_from(vector.len()).ok(), info.output_dimensions);
            assert!(vector.iter().all(|number| number.is_finite()), "a number is not finite");
        }
        (
            TaskKind::TextClassification | TaskKind::ImageClassification,
            ItemOutput::Scores(Scores { scores, truncated: _ }),
        ) => {
            let labels = info.labels.as_ref().expect("a classifier has labels");
            let named = labels.names.len();
            assert!(named == 0 || named == scores.len(), "a score for each label");
            assert!(scores.iter().all(|score| (0.0..=1.0).contains(score)), "{scores:?}");
            let sum: f32 = scores.iter().sum();
            assert!(!labels.exclusive || (sum - 1.0).abs() < 1e-4, "the scores sum to {sum}");
        }
        (
            TaskKind::TextGeneration | TaskKind::ImageCaptioning,
            ItemOutput::Generation(generation),
        ) => {
            let ended = generation.finish == Finish::Stop;
            assert!(ended || generation.generated_tokens > 0, "{generation:?}");
        }
        (TaskKind::FaceDetection | TaskKind::FaceEmbedding, ItemOutput::Faces(faces)) => {
            are_whole(info, faces);
        }
        (TaskKind::SpeechToText, ItemOutput::Transcript(transcript)) => in_order(transcript),
        (task, output) => panic!("{task} gives {}", output.kind()),
    }
}

fn are_whole(info: &EngineInfo, faces: &Faces) {
    for face in &faces.faces {
        let [left, top, right, bottom] = face.bounds;
        assert!(left <= right && top <= bottom, "{face:?}");
        assert!(face.landmarks.iter().flatten().all(|number| number.is_finite()), "{face:?}");
        assert!((0.0..=1.0).contains(&face.probability), "{face:?}");
        let dimensions = u32::try_from(face.vector.len()).ok();
        assert_eq!(dimensions, Some(info.output_dimensions.unwrap_or(0)));
        assert!(face.vector.iter().all(|number| number.is_finite()), "a number is not finite");
    }
}

fn in_order(transcript: &Transcript) {
    let Transcript { segments, duration_ms, .. } = transcript;
    for segment in segments {
        assert!(
            segment.start_ms <= segment.end_ms && segment.end_ms <= *duration_ms,
            "{segment:?}"
        );
    }
    assert!(segments.is_sorted_by_key(|segment| segment.start_ms), "{segments:?}");
}

/// The last of the texts is longer than any model with labels reads; the others are not.
fn says_what_it_left_out(outputs: &[ItemOutput]) {
    for (index, output) in outputs.iter().enumerate() {
        if let ItemOutput::Scores(Scores { truncated, .. }) = output {
            let long = index + 1 == outputs.len();
            assert_eq!(*truncated, long, "what item {index} says of its length");
        }
    }
}

/// Equal but for rounding.
fn is_close(one: &ItemOutput, other: &ItemOutput) -> bool {
    match (one, other) {
        (ItemOutput::Embedding(one), ItemOutput::Embedding(other)) => are_close(one, other),
        (ItemOutput::Scores(one), ItemOutput::Scores(other)) => {
            one.truncated == other.truncated && are_close(&one.scores, &other.scores)
        }
        (ItemOutput::Faces(one), ItemOutput::Faces(other)) => {
            let close = |(a, b): (&Face, &Face)| {
                are_close(&a.numbers(), &b.numbers()) && are_close(&a.vector, &b.vector)
            };
            one.faces.len() == other.faces.len() && one.faces.iter().zip(&other.faces).all(close)
        }
        _ => one == other,
    }
}

fn are_close(one: &[f32], other: &[f32]) -> bool {
    let scale = one.iter().fold(1.0_f32, |max, number| max.max(number.abs()));
    let close = |(a, b): (&f32, &f32)| (a - b).abs() <= 1e-5 * scale;
    one.len() == other.len() && one.iter().zip(other).all(close)
}
