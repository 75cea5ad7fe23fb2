//! Results of one job in every order, kind and size.

use proptest::prelude::*;

use stoker_engine_api::{Finish, Generation};
use stoker_proto::v1::FinishReason;

use super::*;

fn text(n: u32) -> ItemOutput {
    ItemOutput::Text(format!("t{n}"))
}

fn items(parts: &[ResultPart]) -> Vec<(u32, u32)> {
    parts.iter().map(|part| (part.first_item, part.items)).collect()
}

fn texts(parts: &[ResultPart]) -> Vec<String> {
    parts
        .iter()
        .flat_map(|part| match &part.output {
            Some(Output::Texts(texts)) => texts.texts.clone(),
            other => panic!("{other:?}"),
        })
        .collect()
}

#[test]
fn parts_come_in_order_whatever_the_order_of_outputs() {
    let mut results = Results::new(4, 1);
    results.put(3, text(3)).unwrap();
    assert!(results.checkpoint(usize::MAX).is_empty());
    results.put(1, text(1)).unwrap();
    results.put(2, text(2)).unwrap();
    assert!(results.is_complete());
    let rest = results.into_rest();
    assert_eq!(items(&rest), [(1, 3)]);
    assert_eq!(texts(&rest), ["t1", "t2", "t3"]);
}

#[test]
fn what_was_stored_is_not_sent_again_and_what_was_not_is() {
    let mut results = Results::new(3, 0);
    results.put(0, text(0)).unwrap();
    assert_eq!(items(&results.checkpoint(usize::MAX)), [(0, 1)]);
    results.put(1, text(1)).unwrap();
    assert!(results.checkpoint(usize::MAX).is_empty(), "one checkpoint at a time");
    results.confirm();
    assert_eq!(items(&results.checkpoint(usize::MAX)), [(1, 1)]);
    results.give_back();
    results.put(2, text(2)).unwrap();
    let rest = results.into_rest();
    assert_eq!(items(&rest), [(1, 1), (2, 1)], "borders stay as they were sent");
}

#[test]
fn parts_are_cut_at_a_mebibyte_and_sent_within_the_budget() {
    let mut results = Results::new(3_000, 0);
    for index in 0..3_000 {
        results.put(index, ItemOutput::Embedding(vec![0.5; 384])).unwrap();
    }
    assert_eq!(results.unsent_bytes(), 3_000 * 384 * 4);
    let first = results.checkpoint(3 << 20);
    assert_eq!(first.len(), 2);
    let sent: usize = first.iter().map(part_bytes).sum();
    assert!(sent <= 3 << 20 && first.iter().all(|part| part_bytes(part) >= PART_BYTES));
    assert_eq!(results.unsent_bytes() + sent, 3_000 * 384 * 4);
}

/// Scores of a text that was read to its end.
fn scores(values: &[f32], names: &[&str]) -> Labeled {
    let scores = Scores { scores: values.to_vec(), truncated: false };
    let names = names.iter().map(|name| (*name).to_owned()).collect();
    let labels = Some(Arc::new(Labels { names, exclusive: true }));
    Labeled { output: ItemOutput::Scores(scores), labels }
}

fn truncated(values: &[f32], names: &[&str]) -> Labeled {
    let whole = scores(values, names);
    let scores = Scores { scores: values.to_vec(), truncated: true };
    Labeled { output: ItemOutput::Scores(scores), ..whole }
}

#[test]
fn scores_share_the_names_of_their_labels() {
    let mut results = Results::new(4, 0);
    results.put(1, truncated(&[0.25, 0.75], &["bad", "good"])).unwrap();
    results.put(0, scores(&[1.0, 0.0], &["bad", "good"])).unwrap();
    // An engine that was started again may have another model.
    results.put(2, scores(&[0.5, 0.5], &["no", "yes"])).unwrap();
    results.put(3, truncated(&[0.5, 0.5], &["no", "yes"])).unwrap();
    let bytes = results.unsent_bytes();
    let rest = results.into_rest();
    assert_eq!(items(&rest), [(0, 2), (2, 2)]);
    assert_eq!(rest.iter().map(part_bytes).sum::<usize>(), bytes);
    let read: Vec<_> = rest
        .into_iter()
        .map(|part| match part.output {
            Some(Output::Classifications(read)) => read,
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(
        (read[0].labels.join(" "), read[1].labels.join(" ")),
        ("bad good".into(), "no yes".into())
    );
    let expected: Vec<u8> = le_bytes(&[1.0, 0.0, 0.25, 0.75]).collect();
    assert_eq!((read[0].scores.as_ref(), read[0].exclusive), (expected.as_slice(), true));
    assert_eq!((read[0].truncated.as_slice(), read[1].truncated.as_slice()), (&[1][..], &[1][..]));
}

#[test]
fn scores_that_do_not_fit_the_labels_are_refused() {
    let put = |output: Labeled| Results::new(2, 0).put(0, output);
    assert_eq!(put(scores(&[0.5], &["a", "b"])), Err(MixedOutputs));
    let nameless = Labeled { labels: None, ..scores(&[0.5], &["a"]) };
    assert_eq!(put(nameless), Err(MixedOutputs));
    let mut results = Results::new(2, 0);
    results.put(0, scores(&[0.5], &["a"])).unwrap();
    assert_eq!(results.put(1, text(1)), Err(MixedOutputs));
}

#[test]
fn generated_texts_keep_why_they_ended_and_how_long_they_are() {
    let generation = |text: &str, finish| {
        let text = text.to_owned();
        ItemOutput::Generation(Generation { text, finish, prompt_tokens: 3, generated_tokens: 2 })
    };
    let mut results = Results::new(2, 0);
    results.put(1, generation("b", Finish::Length)).unwrap();
    results.put(0, generation("a", Finish::Stop)).unwrap();
    assert_eq!(results.put(1, text(1)), Ok(()), "it is in a part already");
    let bytes = results.unsent_bytes();
    let rest = results.into_rest();
    assert_eq!((items(&rest), part_bytes(&rest[0])), (vec![(0, 2)], bytes));
    let Some(Output::Generations(read)) = &rest[0].output else { panic!("{rest:?}") };
    let read: Vec<_> =
        read.generations.iter().map(|one| (one.text.as_str(), one.finish())).collect();
    assert_eq!(read, [("a", FinishReason::Stop), ("b", FinishReason::Length)]);
}

#[test]
fn mixed_outputs_are_refused() {
    let mut results = Results::new(3, 0);
    results.put(0, ItemOutput::Embedding(vec![1.0, 2.0])).unwrap();
    assert_eq!(results.put(1, ItemOutput::Embedding(vec![1.0])), Err(MixedOutputs));
    let mut results = Results::new(3, 0);
    results.put(0, text(0)).unwrap();
    assert_eq!(results.put(1, ItemOutput::Embedding(vec![1.0])), Err(MixedOutputs));
}

proptest! {
    #[test]
    fn every_item_is_sent_once_in_order(
        order in Just((0..40_u32).collect::<Vec<_>>()).prop_shuffle(),
        steps in proptest::collection::vec(0..4_u8, 40),
    ) {
        let mut results = Results::new(40, 0);
        let mut stored = Vec::new();
        for (index, step) in order.into_iter().zip(steps) {
            results.put(index, text(index)).unwrap();
            let sent = results.checkpoint(if step == 3 { 0 } else { usize::MAX });
            if step == 0 {
                results.give_back();
            } else if !sent.is_empty() {
                results.confirm();
                stored.extend(sent);
            }
        }
        prop_assert!(results.is_complete());
        stored.extend(results.into_rest());
        let expected: Vec<String> = (0..40).map(|n| format!("t{n}")).collect();
        prop_assert_eq!(texts(&stored), expected);
        let mut next = 0;
        for (first, count) in items(&stored) {
            prop_assert_eq!(first, next);
            next += count;
        }
    }
}

#[test]
fn faces_of_images_share_a_part_and_have_vectors_of_one_size() {
    let faces = |vectors: &[&[f32]]| {
        let face = |vector: &&[f32]| stoker_engine_api::Face {
            bounds: [1.0, 2.0, 30.5, 40.5],
            probability: 0.99,
            landmarks: [[3.25, 4.5]; 5],
            vector: vector.to_vec(),
        };
        let faces = vectors.iter().map(face).collect();
        ItemOutput::Faces(Faces { faces, left_out: 1, width: 60, height: 50 })
    };
    let mut results = Results::new(4, 0);
    // Nobody is on the first image.
    results.put(0, faces(&[])).unwrap();
    results.put(1, faces(&[&[0.5; 4], &[0.25; 4]])).unwrap();
    results.put(2, faces(&[&[0.5; 4]])).unwrap();
    assert_eq!(results.put(3, faces(&[&[0.5; 3]])), Err(MixedOutputs));
    let unsent = results.unsent_bytes();
    let parts = results.into_rest();
    assert_eq!((items(&parts), part_bytes(&parts[0])), (vec![(0, 3)], unsent));
    let Some(Output::Faces(found)) = &parts[0].output else { panic!("{parts:?}") };
    assert_eq!(found.dimensions, 4);
    assert_eq!(found.images.iter().map(|it| it.faces.len()).collect::<Vec<_>>(), [0, 2, 1]);
    let output = parts[0].output.as_ref().unwrap();
    assert_eq!(stoker_proto::convert::output_problem(output, 3), None);
    assert!(unsent >= stoker_proto::convert::encode_part(&parts[0]).len());
}

#[test]
fn transcripts_are_counted_with_their_segments() {
    let transcript = |text: &str| {
        let segment =
            stoker_engine_api::Segment { start_ms: 0, end_ms: 900, text: text.to_owned() };
        ItemOutput::Transcript(stoker_engine_api::Transcript {
            language: Some("en".to_owned()),
            segments: vec![segment; 2],
            duration_ms: 1_000,
        })
    };
    let mut results = Results::new(3, 0);
    for index in [1, 0] {
        results.put(index, transcript(" Coal.")).unwrap();
    }
    assert!(results.put(2, text(2)).is_err(), "a text is no transcript");
    let unsent = results.unsent_bytes();
    let parts = results.into_rest();
    assert_eq!((items(&parts), part_bytes(&parts[0])), (vec![(0, 2)], unsent));
    let Some(Output::Transcripts(found)) = &parts[0].output else { panic!("{parts:?}") };
    assert_eq!(found.transcripts[1].text, "Coal. Coal.");
    assert!(unsent >= stoker_proto::convert::encode_part(&parts[0]).len());
}
