//! Texts for those who watch: when the coordinator is asked, and when it is told.

use stoker_engine_api::{GenerationInput, GenerationSettings, Piece, Prompt};

use super::*;

const ASKED_AGAIN: Duration = Duration::from_secs(2);
const TOLD_AGAIN: Duration = Duration::from_millis(200);

fn input(text: &str) -> ItemInput {
    let settings = GenerationSettings::greedy(10);
    let prompt = Prompt::Text(text.to_owned());
    ItemInput::Generation(Box::new(GenerationInput { prompt, settings, generated: Vec::new() }))
}

/// A worker that generates, with so many jobs of one text each, and their batches.
fn generating(jobs: u8) -> (Probe, Vec<(u64, ItemKey)>) {
    let mut probe = Probe::of(TaskKind::TextGeneration, OnRebalance::CarryOn, None);
    probe.register();
    probe.engine_ready();
    probe.intake(Ok(()));
    probe.answer(|_| HeartbeatOutcome::Continue);
    let mut batches = Vec::new();
    for job in 0..jobs {
        probe.grant_inputs(job, vec![input("Once")]);
        for message in probe.messages() {
            if let ToEngine::Prepare { items } = message {
                let items = items.iter().map(|(key, _)| (*key, Ok(1))).collect();
                probe.engine(EngineNews::Prepared { items });
            }
        }
        probe.effects.retain(|effect| match effect {
            Effect::Message { message: ToEngine::Run { batch, items }, .. } => {
                batches.extend(items.iter().map(|item| (*batch, *item)));
                false
            }
            _ => true,
        });
    }
    (probe, batches)
}

fn say(probe: &mut Probe, (batch, item): (u64, ItemKey), bytes_before: usize, text: &str) {
    let piece = Piece { bytes_before, text: text.to_owned(), ..Piece::default() };
    probe.engine(EngineNews::Said { batch, item, piece });
}

type Call = Vec<(JobKey, Vec<v1::TextPiece>)>;

/// The call under way, if there is one; what is told is what is sent.
fn call(probe: &mut Probe) -> Option<Call> {
    let at = probe.effects.iter().position(|effect| matches!(effect, Effect::Tell { .. }))?;
    let Effect::Tell { request, told } = probe.effects.remove(at) else { return None };
    let sent = request.attempts.iter().map(|attempt| &attempt.pieces);
    assert!(sent.eq(told.iter().map(|(_, pieces)| pieces)));
    Some(told)
}

/// Whether somebody watches.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Watched {
    Yes,
    No,
}

/// Answers as a coordinator that knows all that it is told.
fn answer(probe: &mut Probe, told: Call, watched: Watched) {
    let ends = |piece: &v1::TextPiece| piece.bytes_before + piece.text.len() as u64;
    let outcome = |(_, pieces): &(JobKey, Vec<v1::TextPiece>)| v1::Told {
        watched: watched == Watched::Yes,
        bytes: pieces.iter().map(|piece| (piece.item, ends(piece))).collect(),
    };
    let outcomes = told.iter().map(outcome).collect();
    let result = Ok(v1::TellResponse { outcomes });
    probe.apply(Event::Told(TellAnswer { told, result }));
}

fn texts(call: &Call) -> Vec<Vec<&str>> {
    call.iter()
        .map(|(_, pieces)| pieces.iter().map(|piece| piece.text.as_str()).collect())
        .collect()
}

#[test]
fn where_nobody_watches_it_is_asked_at_once_and_then_now_and_then() {
    let (mut probe, batches) = generating(1);
    assert!(call(&mut probe).is_none(), "there is nothing to tell");
    say(&mut probe, batches[0], 0, "a");
    let asked = call(&mut probe).unwrap();
    assert_eq!(texts(&asked), [[""; 0]], "a question only");
    answer(&mut probe, asked, Watched::No);
    say(&mut probe, batches[0], 1, "b");
    probe.later(Duration::from_millis(1_999));
    assert!(call(&mut probe).is_none());
    assert_eq!(probe.state.next_tell(), Some(probe.now.after(Duration::from_millis(1))));
    probe.later(Duration::from_millis(1));
    let asked = call(&mut probe).unwrap();
    answer(&mut probe, asked, Watched::Yes);
    // Somebody does now, and has missed nothing.
    probe.later(TOLD_AGAIN);
    assert_eq!(texts(&call(&mut probe).unwrap()), [["ab"]]);
}

#[test]
fn where_somebody_watches_what_is_new_is_told_in_time_and_one_call_after_the_other() {
    let (mut probe, batches) = generating(2);
    say(&mut probe, batches[0], 0, "a");
    let asked = call(&mut probe).unwrap();
    say(&mut probe, batches[1], 0, "x");
    probe.later(TOLD_AGAIN);
    assert!(call(&mut probe).is_none(), "one at a time");
    answer(&mut probe, asked, Watched::Yes);
    // What is new of one, and whether somebody watches the other.
    let told = call(&mut probe).unwrap();
    assert_eq!(texts(&told), [vec!["a"], vec![]]);
    answer(&mut probe, told, Watched::Yes);
    assert!(call(&mut probe).is_none(), "not before it is due");
    probe.later(TOLD_AGAIN);
    let told = call(&mut probe).unwrap();
    assert_eq!(texts(&told), [["x"]], "of the other one nothing is new");
    answer(&mut probe, told, Watched::Yes);
    probe.later(TOLD_AGAIN);
    assert!(call(&mut probe).is_none());
    assert_eq!(probe.state.next_tell(), None);
}

#[test]
fn without_an_answer_it_is_told_again_later() {
    let (mut probe, batches) = generating(1);
    say(&mut probe, batches[0], 0, "a");
    let asked = call(&mut probe).unwrap();
    answer(&mut probe, asked, Watched::Yes);
    probe.later(TOLD_AGAIN);
    for result in [Err(LinkError::TimedOut { after: INTERVAL }), Ok(v1::TellResponse::default())] {
        let told = call(&mut probe).unwrap();
        assert_eq!(texts(&told), [["a"]]);
        probe.apply(Event::Told(TellAnswer { told, result }));
        probe.later(TOLD_AGAIN);
        assert!(call(&mut probe).is_none());
        probe.later(ASKED_AGAIN);
        let asked = call(&mut probe).unwrap();
        assert_eq!(texts(&asked), [[""; 0]]);
        answer(&mut probe, asked, Watched::Yes);
        probe.later(TOLD_AGAIN);
    }
    assert_eq!(texts(&call(&mut probe).unwrap()), [["a"]]);
}

#[test]
fn nothing_is_told_of_attempts_that_are_over() {
    let (mut probe, batches) = generating(1);
    say(&mut probe, batches[0], 0, "a");
    let asked = call(&mut probe).unwrap();
    probe.apply(Event::Session(SessionNews::StopAttempt {
        job_id: JobId::from_bytes([0; 16]).to_string(),
        attempt: 1,
        reason: "cancelled".to_owned(),
    }));
    answer(&mut probe, asked, Watched::Yes);
    probe.later(ASKED_AGAIN);
    assert!(call(&mut probe).is_none());
    assert_eq!(probe.state.next_tell(), None);
}
