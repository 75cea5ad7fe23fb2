//! Who is told what, and what is kept for it.

use std::collections::BTreeSet;

use futures::FutureExt as _;
use proptest::prelude::*;

use super::*;

const FIRST: Attempt = Attempt::FIRST;

fn job(number: u8) -> JobId {
    JobId::from_bytes([number; 16])
}

fn piece(item: u32, bytes_before: u64, text: &str) -> TextPiece {
    TextPiece { item, bytes_before, text: text.to_owned(), ends: false }
}

/// A piece with which the text ends.
fn last(item: u32, bytes_before: u64, text: &str) -> TextPiece {
    TextPiece { ends: true, ..piece(item, bytes_before, text) }
}

fn known(bytes: &[(u32, u64)]) -> Wanted {
    Wanted::Yes(bytes.iter().copied().collect())
}

/// All that is new for a reader.
fn news(reader: &mut Reader, job: JobId) -> Vec<TextPiece> {
    let message = || Some(reader.news(job)).filter(|pieces| !pieces.is_empty());
    std::iter::from_fn(message).flatten().collect()
}

#[tokio::test]
async fn a_reader_gets_every_text_once_and_in_order() {
    let texts = Texts::new();
    let mut early = texts.read(&[job(1)]);
    assert_eq!(texts.tell(job(1), FIRST, &[]), known(&[]));
    let told = [piece(0, 0, "ab"), piece(1, 0, "x")];
    assert_eq!(texts.tell(job(1), FIRST, &told), known(&[(0, 2), (1, 1)]));
    assert_eq!(early.changed().await, BTreeSet::from([job(1)]));
    assert_eq!(news(&mut early, job(1)), told);
    // A part of it again, and more.
    assert_eq!(texts.tell(job(1), FIRST, &[last(0, 1, "bc")]), known(&[(0, 3), (1, 1)]));
    assert_eq!(news(&mut early, job(1)), [last(0, 2, "c")]);
    assert_eq!(news(&mut early, job(1)), []);
    let mut late = texts.read(&[job(1)]);
    assert_eq!(news(&mut late, job(1)), [last(0, 0, "abc"), piece(1, 0, "x")]);
    // What has ended is answered once, to the call that told it.
    assert_eq!(texts.tell(job(1), FIRST, &[]), known(&[(1, 1)]));
}

#[tokio::test]
async fn what_is_known_wakes_nobody_and_a_gap_asks_for_what_is_missing() {
    let texts = Texts::new();
    let reader = texts.read(&[job(1)]);
    texts.tell(job(1), FIRST, &[piece(0, 0, "é")]);
    assert!(reader.changed().now_or_never().is_some());
    for known_or_gap in [piece(0, 0, "é"), piece(0, 5, "f"), piece(0, 1, "f")] {
        assert_eq!(texts.tell(job(1), FIRST, &[known_or_gap]), known(&[(0, 2)]));
    }
    assert_eq!(texts.tell(job(1), FIRST, &[piece(7, 5, "f")]), known(&[(0, 2)]));
    assert!(reader.changed().now_or_never().is_none());
}

#[test]
fn the_next_attempt_tells_its_own_text_and_the_one_before_is_not_heard() {
    let texts = Texts::new();
    let mut reader = texts.read(&[job(1)]);
    texts.tell(job(1), FIRST, &[piece(0, 0, "abcdef")]);
    assert_eq!(news(&mut reader, job(1)).len(), 1);
    let next = FIRST.next();
    // Nothing is known of what it says itself, so it cannot go on behind the other one's text.
    assert_eq!(texts.tell(job(1), next, &[]), known(&[]));
    assert_eq!(texts.tell(job(1), next, &[piece(0, 3, "x")]), known(&[]));
    assert_eq!(texts.tell(job(1), FIRST, &[piece(0, 6, "g")]), Wanted::No);
    // The same so far: nobody is told it twice.
    assert_eq!(texts.tell(job(1), next, &[piece(0, 0, "abc")]), known(&[(0, 6)]));
    assert_eq!(news(&mut reader, job(1)), []);
    assert_eq!(texts.tell(job(1), next, &[piece(0, 3, "xy")]), known(&[(0, 5)]));
    assert_eq!(news(&mut reader, job(1)), [piece(0, 0, "abcxy")]);
}

#[test]
fn nothing_is_kept_of_what_nobody_reads() {
    let texts = Texts::new();
    let told = [piece(0, 0, "ab")];
    assert_eq!(texts.tell(job(1), FIRST, &told), Wanted::No);
    let (one, mut two) = (texts.read(&[job(1), job(2)]), texts.read(&[job(2), job(3)]));
    for number in 1..=3 {
        assert_eq!(texts.tell(job(number), FIRST, &told), known(&[(0, 2)]));
    }
    let kept = |texts: &Texts| texts.memory().jobs.keys().copied().collect::<Vec<_>>();
    drop(one);
    assert_eq!(kept(&texts), [job(2), job(3)]);
    two.leave(job(3));
    assert_eq!(kept(&texts), [job(2)]);
    drop(two);
    assert_eq!((kept(&texts), texts.memory().bytes), (vec![], 0));
    assert_eq!(texts.tell(job(2), FIRST, &told), Wanted::No);
}

#[test]
fn long_texts_come_in_small_messages_and_a_slow_reader_gets_the_rest_at_once() {
    let texts = Texts::new();
    let mut reader = texts.read(&[job(1)]);
    let long = "é".repeat(20_000);
    texts.tell(job(1), FIRST, &[last(0, 0, &long), last(1, 0, "x")]);
    let mut read = String::new();
    let mut messages = 0;
    loop {
        let pieces = reader.news(job(1));
        if pieces.is_empty() {
            break;
        }
        messages += 1;
        let bytes: usize = pieces.iter().map(|piece| piece.text.len()).sum();
        assert!(bytes <= 16 << 10, "{bytes}");
        for piece in pieces.iter().filter(|piece| piece.item == 0) {
            assert_eq!(piece.bytes_before, read.len() as u64);
            read.push_str(&piece.text);
            assert_eq!(piece.ends, read == long);
        }
    }
    assert_eq!((read, messages), (long, 3));
}

#[test]
fn a_job_that_says_too_much_is_told_no_further_and_the_others_are() {
    let texts = Texts::new();
    let mut reader = texts.read(&[job(1), job(2)]);
    let half = "a".repeat(MAX_JOB_BYTES / 2);
    let first = [piece(0, 0, &half)];
    assert_eq!(texts.tell(job(1), FIRST, &first), known(&[(0, half.len() as u64)]));
    // The same once more takes no room.
    assert_eq!(texts.tell(job(1), FIRST, &first), known(&[(0, half.len() as u64)]));
    assert_eq!(texts.tell(job(1), FIRST, &[piece(1, 0, &half)]), Wanted::No);
    assert_eq!(texts.tell(job(1), FIRST, &[]), Wanted::No, "it need not be sent again");
    assert_eq!(texts.tell(job(2), FIRST, &[piece(0, 0, "b")]), known(&[(0, 1)]));
    assert_eq!(news(&mut reader, job(2)), [piece(0, 0, "b")]);
}

#[test]
fn all_jobs_together_have_a_bound() {
    let texts = Texts::new();
    let jobs: Vec<JobId> = (0..=20).map(job).collect();
    let _reader = texts.read(&jobs);
    let much = "a".repeat(MAX_JOB_BYTES - TEXT_BYTES);
    let taken = |job: &&JobId| texts.tell(**job, FIRST, &[piece(0, 0, &much)]) != Wanted::No;
    assert_eq!(jobs.iter().filter(taken).count(), MAX_BYTES / MAX_JOB_BYTES);
    assert_eq!(texts.memory().bytes, MAX_BYTES);
}

#[test]
fn results_give_a_reader_what_it_was_not_told() {
    let rest = |told: &[TextPiece], result: &str| {
        let texts = Texts::new();
        let mut reader = texts.read(&[job(1)]);
        texts.tell(job(1), FIRST, told);
        news(&mut reader, job(1));
        reader.rest(job(1), 0, result).concat()
    };
    assert_eq!(rest(&[], "abc"), [last(0, 0, "abc")]);
    assert_eq!(rest(&[], ""), [last(0, 0, "")]);
    assert_eq!(rest(&[piece(0, 0, "ab")], "abc"), [last(0, 2, "c")]);
    assert_eq!(rest(&[piece(0, 0, "abc")], "abc"), [last(0, 3, "")]);
    assert_eq!(rest(&[last(0, 0, "abc")], "abc"), []);
    // What was told is not what it was.
    assert_eq!(rest(&[last(0, 0, "abc")], "abcd"), [last(0, 0, "abcd")]);
    assert_eq!(rest(&[piece(0, 0, "abc")], "ab"), [last(0, 0, "ab")]);
    assert_eq!(rest(&[last(0, 0, "")], "ab"), [last(0, 0, "ab")]);
    assert_eq!(rest(&[last(0, 0, "")], ""), []);
}

#[test]
fn results_correct_what_became_another_text_after_it_was_read() {
    let texts = Texts::new();
    let mut reader = texts.read(&[job(1)]);
    texts.tell(job(1), FIRST, &[piece(0, 0, "abc")]);
    assert_eq!(news(&mut reader, job(1)).len(), 1);
    texts.tell(job(1), FIRST.next(), &[piece(0, 0, "abd")]);
    let all = reader.rest(job(1), 0, "abd!").concat();
    assert_eq!(all, [last(0, 0, "abd!")]);
}

/// What happens to a text: who tells which stretch of which text, and when it is read.
#[derive(Debug, Clone)]
enum Step {
    /// By the attempt, from so far of what is known to have been told, so many bytes.
    Tell {
        attempt: u32,
        back: usize,
        bytes: usize,
    },
    Read,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let tell = (1_u32..4, 0_usize..6, 0_usize..8);
    let tell = tell.prop_map(|(attempt, back, bytes)| Step::Tell { attempt, back, bytes });
    proptest::collection::vec(prop_oneof![3 => tell, 1 => Just(Step::Read)], 0..40)
}

proptest! {
    /// A reader that cuts where a piece begins and appends it has the beginning of the text of the latest
    /// attempt that it was told of, or of one before it, and after the results the result.
    #[test]
    fn whoever_cuts_and_appends_has_what_was_generated(steps in steps(), different in any::<bool>()) {
        let generated = |attempt: u32| match (different, attempt) {
            (true, 2) => "once upon another",
            (true, 3) => "once more",
            _ => "once upon a time",
        };
        let texts = Texts::new();
        let mut reader = texts.read(&[job(1)]);
        let mut sent: BTreeMap<u32, usize> = BTreeMap::new();
        let mut latest = 1;
        let mut has = String::new();
        let append = |has: &mut String, pieces: Vec<TextPiece>| {
            for piece in pieces {
                let before = usize::try_from(piece.bytes_before).unwrap();
                assert!(before <= has.len(), "a gap: {piece:?} after {has:?}");
                has.truncate(before);
                has.push_str(&piece.text);
            }
        };
        for step in steps {
            match step {
                Step::Tell { attempt, back, bytes } => {
                    let whole = generated(attempt);
                    let from = sent.get(&attempt).copied().unwrap_or(0).saturating_sub(back);
                    let to = (from + bytes).min(whole.len());
                    let ends = to == whole.len();
                    let stretch = TextPiece { ends, ..piece(0, from as u64, &whole[from..to]) };
                    match texts.tell(job(1), Attempt::new(attempt).unwrap(), &[stretch]) {
                        Wanted::No => prop_assert!(attempt < latest),
                        Wanted::Yes(known) => {
                            latest = attempt;
                            let bytes = known.get(&0).map_or(0, |bytes| usize::try_from(*bytes).unwrap());
                            sent.insert(attempt, bytes.min(to.max(from)));
                        }
                    }
                }
                Step::Read => {
                    append(&mut has, news(&mut reader, job(1)));
                    let of_some = (1..=latest).any(|attempt| generated(attempt).starts_with(&has));
                    prop_assert!(of_some, "{has:?}");
                }
            }
        }
        append(&mut has, reader.rest(job(1), 0, generated(latest)).concat());
        prop_assert_eq!(has, generated(latest));
    }
}
