//! Parts of results: checked when they come in, cut where a reader wants to begin, stored as bytes.

mod output;

use bytes::Bytes;
use prost::Message as _;
use stoker_core::request::Task;

use crate::status::FieldViolation;
use crate::v1;

pub use output::{numbers, output_problem, row_bytes};

/// A stored part that is not one.
#[derive(Debug, thiserror::Error)]
#[error("decoding a stored part of a result")]
pub struct DecodePartError(#[source] prost::DecodeError);

/// Checks that each part is whole and of the task's kind, and that together they are consecutive
/// items of a job with `items_total`.
pub fn check_parts(
    parts: &[v1::ResultPart],
    task: Task,
    items_total: u32,
    path: &str,
) -> Result<(), FieldViolation> {
    let mut expected = parts.first().map_or(0, |part| part.first_item);
    for (index, part) in parts.iter().enumerate() {
        let field = format!("{path}[{index}]");
        if part.first_item != expected {
            let problem = format!(
                "is {} where the part before ends at {expected}: parts are in order, without a gap",
                part.first_item
            );
            return Err(FieldViolation::new(format!("{field}.first_item"), problem));
        }
        expected = part
            .first_item
            .checked_add(part.items)
            .filter(|end| part.items > 0 && *end <= items_total)
            .ok_or_else(|| {
                let problem = format!(
                    "is {}: from item {} on, 1 to {} are left of the job's {items_total}",
                    part.items,
                    part.first_item,
                    items_total.saturating_sub(part.first_item)
                );
                FieldViolation::new(format!("{field}.items"), problem)
            })?;
        output::check(part.output.as_ref(), task, part.items, &field)?;
    }
    Ok(())
}

/// Whether the parts are consecutive items that begin at `first`.
pub fn parts_are_contiguous(first: u32, parts: &[v1::ResultPart]) -> bool {
    parts
        .iter()
        .try_fold(first, |expected, part| {
            (part.first_item == expected && part.items > 0)
                .then(|| expected.checked_add(part.items))
                .flatten()
        })
        .is_some()
}

/// Index of the item after `parts`, which begin at `first` if there are none.
pub fn next_item(first: u32, parts: &[v1::ResultPart]) -> u32 {
    parts.last().map_or(first, |part| part.first_item.saturating_add(part.items))
}

/// The part without its items before `item`; `None` if none is left, or if the part is not whole.
pub fn skip_to(part: v1::ResultPart, item: u32) -> Option<v1::ResultPart> {
    let skip = item.saturating_sub(part.first_item);
    if skip == 0 {
        return Some(part);
    }
    let items = part.items.checked_sub(skip).filter(|left| *left > 0)?;
    let count = usize::try_from(skip).ok()?;
    let output = output::skip(part.output?, count)?;
    let first_item = part.first_item.checked_add(skip)?;
    Some(v1::ResultPart { first_item, items, output: Some(output) })
}

/// A part as the store keeps it.
pub fn encode_part(part: &v1::ResultPart) -> Vec<u8> {
    part.encode_to_vec()
}

/// A part as [`encode_part`] made it. Vectors share the memory of `bytes`.
pub fn decode_part(bytes: Bytes) -> Result<v1::ResultPart, DecodePartError> {
    v1::ResultPart::decode(bytes).map_err(DecodePartError)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use crate::v1::result_part::Output;

    use super::*;

    fn vectors(first_item: u32, items: u32) -> v1::ResultPart {
        let vectors: Vec<u8> =
            (first_item..first_item + items).flat_map(|n| f64::from(n).to_le_bytes()).collect();
        let output = Output::Embeddings(v1::Embeddings { dimensions: 2, vectors: vectors.into() });
        v1::ResultPart { first_item, items, output: Some(output) }
    }

    fn texts(first_item: u32, items: u32) -> v1::ResultPart {
        let texts = (first_item..first_item + items).map(|n| n.to_string()).collect();
        let output = Some(Output::Texts(v1::Texts { texts }));
        v1::ResultPart { first_item, items, output }
    }

    /// Item `n` has the scores `n / 100` and 1; every third item was truncated.
    fn scores(first_item: u32, items: u32) -> v1::ResultPart {
        let all = first_item..first_item + items;
        let hundredth = |n: u32| f32::from(u16::try_from(n).unwrap()) / 100.0;
        let scores = all.clone().flat_map(|n| [hundredth(n), 1.0]).flat_map(f32::to_le_bytes);
        let truncated = all.filter(|n| n % 3 == 0).map(|n| n - first_item).collect();
        let output = Some(Output::Classifications(v1::Classifications {
            labels: vec!["a".to_owned(), "b".to_owned()],
            scores: scores.collect::<Vec<u8>>().into(),
            exclusive: false,
            truncated,
        }));
        v1::ResultPart { first_item, items, output }
    }

    #[test]
    fn good_parts_pass() {
        let parts = [vectors(2, 3), vectors(5, 1)];
        assert_eq!(check_parts(&parts, Task::TextEmbedding, 6, "parts"), Ok(()));
        assert_eq!(check_parts(&[texts(0, 2)], Task::Echo, 2, "parts"), Ok(()));
        assert_eq!(check_parts(&[scores(0, 9)], Task::TextClassification, 9, "parts"), Ok(()));
        assert_eq!(check_parts(&[], Task::Echo, 2, "parts"), Ok(()));
        assert!(parts_are_contiguous(2, &parts) && !parts_are_contiguous(0, &parts));
        assert!(parts_are_contiguous(7, &[]));
        assert_eq!((next_item(2, &parts), next_item(2, &[])), (6, 2));
    }

    #[test]
    fn broken_parts_are_refused_by_field() {
        let sized = |dimensions, bytes: usize| v1::ResultPart {
            output: Some(Output::Embeddings(v1::Embeddings {
                dimensions,
                vectors: vec![0; bytes].into(),
            })),
            ..vectors(0, 2)
        };
        for (parts, field) in [
            (vec![vectors(0, 2), vectors(3, 1)], "p[1].first_item"),
            (vec![vectors(0, 2), vectors(1, 1)], "p[1].first_item"),
            (vec![v1::ResultPart { items: 0, ..vectors(0, 1) }], "p[0].items"),
            (vec![vectors(0, 9)], "p[0].items"),
            (vec![v1::ResultPart { first_item: u32::MAX, ..vectors(0, 2) }], "p[0].items"),
            (vec![v1::ResultPart { items: u32::MAX, ..vectors(3, 2) }], "p[0].items"),
            (vec![texts(0, 1)], "p[0].output"),
            (vec![v1::ResultPart { output: None, ..vectors(0, 1) }], "p[0].output"),
            (vec![sized(0, 0)], "p[0].embeddings.dimensions"),
            (vec![sized(2, 15)], "p[0].embeddings.vectors"),
            (vec![sized(u32::MAX, 16)], "p[0].embeddings.vectors"),
        ] {
            let error = check_parts(&parts, Task::TextEmbedding, 8, "p").unwrap_err();
            assert_eq!(error.field, field, "{error}");
        }
        let few = v1::ResultPart { items: 2, ..texts(0, 1) };
        assert_eq!(check_parts(&[few], Task::Echo, 8, "p").unwrap_err().field, "p[0].texts");
        assert_eq!(
            check_parts(&[vectors(0, 1)], Task::Echo, 8, "p").unwrap_err().field,
            "p[0].output"
        );
    }

    #[test]
    fn broken_scores_are_refused_by_field() {
        let broken = |change: fn(&mut v1::Classifications)| {
            let mut part = scores(0, 3);
            let Some(Output::Classifications(classifications)) = &mut part.output else {
                panic!("scores make classifications")
            };
            change(classifications);
            let error = check_parts(&[part], Task::TextClassification, 8, "p").unwrap_err();
            error.field.strip_prefix("p[0].classifications.").map(str::to_owned).unwrap()
        };
        assert_eq!(broken(|c| c.labels.clear()), "labels");
        assert_eq!(broken(|c| c.labels[0] = "b".to_owned()), "labels");
        assert_eq!(broken(|c| c.labels[0] = String::new()), "labels");
        assert_eq!(broken(|c| c.labels[0] = "a\n".to_owned()), "labels");
        assert_eq!(broken(|c| c.scores = c.scores.slice(1..)), "scores");
        assert_eq!(broken(|c| c.labels.push("c".to_owned())), "scores");
        for number in [f32::NAN, -0.5, 1.5] {
            let mut part = scores(0, 3);
            if let Some(Output::Classifications(classifications)) = &mut part.output {
                let numbers = [0.0, 0.0, number, 0.0, 0.0, 0.0];
                classifications.scores =
                    numbers.iter().flat_map(|n| n.to_le_bytes()).collect::<Vec<u8>>().into();
            }
            let error = check_parts(&[part], Task::TextClassification, 8, "p").unwrap_err();
            assert_eq!(error.field, "p[0].classifications.scores", "{number}");
        }
        assert_eq!(broken(|c| c.truncated = vec![3]), "truncated");
        assert_eq!(broken(|c| c.truncated = vec![1, 1]), "truncated");
        let embeddings = check_parts(&[vectors(0, 1)], Task::TextClassification, 8, "p");
        assert_eq!(embeddings.unwrap_err().field, "p[0].output");
    }

    #[test]
    fn a_stored_part_that_is_damaged_is_an_error() {
        let mut bytes = encode_part(&texts(0, 3));
        bytes.truncate(bytes.len() - 1);
        assert!(decode_part(bytes.into()).is_err());
    }

    #[test]
    fn a_part_that_is_not_whole_is_not_cut() {
        let broken = v1::ResultPart { items: 9, ..texts(0, 2) };
        assert_eq!(skip_to(broken, 5), None);
        let broken = v1::ResultPart { items: 9, ..vectors(0, 2) };
        assert_eq!(skip_to(broken, 5), None);
        assert_eq!(skip_to(v1::ResultPart { output: None, ..vectors(0, 2) }, 1), None);
    }

    proptest! {
        #[test]
        fn parts_survive_the_store(first in 0_u32..100, items in 1_u32..50) {
            for part in [vectors(first, items), texts(first, items), scores(first, items)] {
                let stored = encode_part(&part);
                prop_assert_eq!(decode_part(stored.into()).unwrap(), part);
            }
        }

        #[test]
        fn parts_are_cut_between_items(items in 1_u32..20, skip in 0_u32..25) {
            for make in [vectors, texts, scores] {
                match skip_to(make(3, items), 3 + skip) {
                    None => prop_assert!(skip >= items),
                    Some(part) => prop_assert_eq!(part, make(3 + skip, items - skip)),
                }
            }
        }
    }
}
