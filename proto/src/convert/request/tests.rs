//! Good, bad and hostile requests.

use proptest::prelude::*;

use stoker_core::image::ImageLimits;

use super::super::input::input_of;
use super::*;

fn limits() -> Limits {
    Limits {
        max_items: 4,
        max_input_bytes: 1000,
        max_text_bytes: 100,
        max_recording_bytes: 120,
        image: ImageLimits { max_bytes: 400, max_pixels: 5_000 },
        max_queued: 1,
        max_deadline: Duration::from_mins(1),
        min_free_disk_bytes: 0,
    }
}

/// The good spec with other texts.
fn asking(texts: &[&str]) -> v1::JobSpec {
    asking_for(Task::TextEmbedding, texts)
}

fn asking_for(task: Task, texts: &[&str]) -> v1::JobSpec {
    let texts = texts.iter().map(|text| (*text).to_owned()).collect();
    v1::JobSpec { input: Some(input_of(task, texts)), ..good() }
}

fn spec() -> v1::JobSpec {
    asking(&["one", "two"])
}

fn good() -> v1::JobSpec {
    v1::JobSpec {
        model: "mini".to_owned(),
        class: String::new(),
        input: None,
        idempotency_key: "key".to_owned(),
        deadline_after: Some(well_known::Duration { seconds: 30, nanos: 0 }),
        labels: [("team".to_owned(), "größe".to_owned())].into(),
    }
}

/// Fields that are wrong.
fn fields(spec: v1::JobSpec) -> Vec<String> {
    match job_request(spec, &limits(), "job") {
        Ok(request) => panic!("accepted: {request:?}"),
        Err(violations) => violations.into_iter().map(|violation| violation.field).collect(),
    }
}

#[test]
fn a_good_spec_becomes_a_request() {
    let request = job_request(spec(), &limits(), "job").unwrap();
    assert_eq!((request.model.as_str(), request.class), ("mini", None));
    assert_eq!((request.task, request.items), (Task::TextEmbedding, 2));
    assert_eq!(request.deadline_after, Some(Duration::from_secs(30)));
    assert_eq!(request.idempotency.unwrap().key, "key");
    assert_eq!(request.labels["team"], "größe");
    assert_eq!(decode_input(&request.input).unwrap(), spec().input.unwrap());
}

#[test]
fn what_may_be_left_out_may_be_left_out() {
    let spec = v1::JobSpec {
        idempotency_key: String::new(),
        deadline_after: None,
        labels: Labels::new(),
        class: "batch".to_owned(),
        ..spec()
    };
    let request = job_request(spec, &limits(), "job").unwrap();
    assert_eq!((request.idempotency, request.deadline_after), (None, None));
    assert_eq!(request.class.unwrap().as_str(), "batch");
}

#[test]
fn each_bad_field_is_named() {
    let wide = "x".repeat(101);
    let negative = Some(well_known::Duration { seconds: -1, nanos: 0 });
    let deadline = |seconds, nanos| Some(well_known::Duration { seconds, nanos });
    let labels = |key: &str, value: &str| Labels::from([(key.to_owned(), value.to_owned())]);
    let many: Labels = (0..17).map(|n| (n.to_string(), String::new())).collect();
    let classifying = |texts: &[&str]| asking_for(Task::TextClassification, texts);
    let listening = |files: &[&str]| asking_for(Task::SpeechToText, files);
    let empty_task = Some(v1::JobInput { task: None });
    for (bad, field) in [
        (v1::JobSpec { model: String::new(), ..spec() }, "job.model"),
        (v1::JobSpec { model: "a/../b".into(), ..spec() }, "job.model"),
        (v1::JobSpec { class: "A B".into(), ..spec() }, "job.class"),
        (v1::JobSpec { input: None, ..spec() }, "job.input"),
        (v1::JobSpec { input: empty_task, ..spec() }, "job.input"),
        (asking(&[]), "job.input.text_embedding.texts"),
        (asking(&["a"; 5]), "job.input.text_embedding.texts"),
        (asking(&["a", ""]), "job.input.text_embedding.texts[1]"),
        (asking(&[" \n\t"]), "job.input.text_embedding.texts[0]"),
        (asking(&[&wide]), "job.input.text_embedding.texts[0]"),
        (classifying(&[]), "job.input.text_classification.texts"),
        (classifying(&["a", " "]), "job.input.text_classification.texts[1]"),
        (classifying(&["a", &wide]), "job.input.text_classification.texts[1]"),
        (listening(&[]), "job.input.speech_to_text.recordings"),
        (listening(&["RIFF", ""]), "job.input.speech_to_text.recordings[1]"),
        (listening(&[&"x".repeat(121)]), "job.input.speech_to_text.recordings[0]"),
        (v1::JobSpec { idempotency_key: "k".repeat(256), ..spec() }, "job.idempotency_key"),
        (v1::JobSpec { idempotency_key: "a\u{0}".into(), ..spec() }, "job.idempotency_key"),
        (v1::JobSpec { deadline_after: negative, ..spec() }, "job.deadline_after"),
        (v1::JobSpec { deadline_after: deadline(0, 0), ..spec() }, "job.deadline_after"),
        (v1::JobSpec { deadline_after: deadline(0, 999), ..spec() }, "job.deadline_after"),
        (v1::JobSpec { deadline_after: deadline(61, 0), ..spec() }, "job.deadline_after"),
        (v1::JobSpec { deadline_after: deadline(i64::MAX, -1), ..spec() }, "job.deadline_after"),
        (v1::JobSpec { labels: many, ..spec() }, "job.labels"),
        (v1::JobSpec { labels: labels("", "v"), ..spec() }, "job.labels"),
        (v1::JobSpec { labels: labels("Key", "v"), ..spec() }, "job.labels"),
        (v1::JobSpec { labels: labels("k\u{0}", "v"), ..spec() }, "job.labels"),
        (v1::JobSpec { labels: labels(&"k".repeat(64), "v"), ..spec() }, "job.labels"),
        (v1::JobSpec { labels: labels("k", &"v".repeat(256)), ..spec() }, "job.labels[k]"),
        (v1::JobSpec { labels: labels("k", "v\u{0}"), ..spec() }, "job.labels[k]"),
    ] {
        assert_eq!(fields(bad), [field]);
    }
}

#[test]
fn all_problems_are_reported_at_once() {
    let bad = v1::JobSpec { model: "?".into(), class: "?".into(), input: None, ..spec() };
    assert_eq!(fields(bad), ["job.model", "job.class", "job.input"]);
}

#[test]
fn problems_are_bounded() {
    let limits = Limits { max_items: 100_000, max_input_bytes: 1 << 20, ..limits() };
    let bad = asking(&vec![""; 50_000]);
    assert!(job_request(bad, &limits, "job").unwrap_err().len() <= 20);
}

#[test]
fn the_whole_input_has_a_limit_too() {
    let limits = Limits { max_input_bytes: 50, ..limits() };
    let text = "x".repeat(40);
    let bad = asking(&[&text, &text]);
    let violations = job_request(bad, &limits, "job").unwrap_err();
    assert_eq!(violations[0].field, "job.input");
}

#[test]
fn echo_takes_empty_texts() {
    let request = job_request(asking_for(Task::Echo, &[""]), &limits(), "job").unwrap();
    assert_eq!((request.task, request.items), (Task::Echo, 1));
}

#[test]
fn the_digest_is_of_everything_but_the_key() {
    let digest =
        |spec| job_request(spec, &limits(), "job").unwrap().idempotency.unwrap().request_digest;
    let same = digest(spec());
    assert_eq!(digest(v1::JobSpec { idempotency_key: "other".into(), ..spec() }), same);
    let deadline_after = Some(well_known::Duration { seconds: 31, nanos: 0 });
    for other in [
        v1::JobSpec { model: "mini2".into(), ..spec() },
        v1::JobSpec { class: "batch".into(), ..spec() },
        asking(&["one", "three"]),
        asking(&["onetwo"]),
        v1::JobSpec { deadline_after, ..spec() },
        v1::JobSpec { deadline_after: None, ..spec() },
        v1::JobSpec { labels: Labels::new(), ..spec() },
    ] {
        assert_ne!(digest(other), same);
    }
}

#[test]
fn digests_are_stable_over_versions() {
    // Keys live for days in the store, so the digest of a request must outlive the process and the
    // version of the program that made it.
    let digest = job_request(spec(), &limits(), "job").unwrap().idempotency.unwrap().request_digest;
    assert_eq!(
        digest,
        [
            0x97, 0x80, 0x4e, 0xf1, 0xb4, 0xb4, 0xe3, 0x80, 0x91, 0x08, 0xcc, 0x35, 0x0b, 0x11,
            0x06, 0xe2, 0xbc, 0x67, 0xe0, 0xab, 0x9f, 0xf8, 0x3e, 0x87, 0xeb, 0xd1, 0x26, 0x91,
            0xc6, 0xa1, 0xe1, 0x59,
        ]
    );
}

#[test]
fn a_stored_input_that_is_damaged_is_an_error() {
    assert!(decode_input(&[0x0a, 0xff]).is_err());
}

proptest! {
    #[test]
    fn nothing_panics_and_what_passes_keeps_the_limits(
        model in ".{0,70}",
        class in "[a-z]{0,3}",
        key in ".{0,300}",
        texts in proptest::collection::vec(".{0,120}", 0..6),
        labels in proptest::collection::btree_map("[a-z\u{0}]{0,3}", ".{0,300}", 0..20),
        deadline in proptest::option::of((any::<i64>(), any::<i32>())),
    ) {
        let spec = v1::JobSpec {
            model,
            class,
            input: Some(input_of(Task::TextEmbedding, texts)),
            idempotency_key: key,
            deadline_after: deadline.map(|(seconds, nanos)| well_known::Duration { seconds, nanos }),
            labels,
        };
        match job_request(spec, &limits(), "job") {
            Ok(request) => {
                prop_assert!((1..=4).contains(&request.items));
                prop_assert!(request.input.len() <= 1000);
                prop_assert!(request.labels.len() <= 16);
            }
            Err(violations) => {
                prop_assert!(!violations.is_empty() && violations.len() <= 20);
                for violation in violations {
                    prop_assert!(violation.field.starts_with("job."));
                    prop_assert!(!violation.problem.chars().any(char::is_control));
                }
            }
        }
    }
}
