//! Parts of results: checked when they come in, cut where a reader wants to begin, stored as bytes.

use bytes::Bytes;
use prost::Message as _;
use stoker_core::request::Task;

use crate::status::FieldViolation;
use crate::v1;
use crate::v1::result_part::Output;

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
        check_output(part, task, &field)?;
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
    let output = match part.output? {
        Output::Embeddings(embeddings) => {
            let offset = usize::try_from(embeddings.dimensions).ok()?.checked_mul(4 * count)?;
            let whole = offset <= embeddings.vectors.len();
            let vectors = whole.then(|| embeddings.vectors.slice(offset..))?;
            Output::Embeddings(v1::Embeddings { vectors, ..embeddings })
        }
        Output::Texts(mut texts) => {
            let whole = count <= texts.texts.len();
            texts.texts = whole.then(|| texts.texts.split_off(count))?;
            Output::Texts(texts)
        }
    };
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

fn check_output(part: &v1::ResultPart, task: Task, field: &str) -> Result<(), FieldViolation> {
    match (task, &part.output) {
        (Task::TextEmbedding, Some(Output::Embeddings(embeddings))) => {
            let expected =
                u128::from(part.items) * u128::from(embeddings.dimensions) * size_of_f32();
            if embeddings.dimensions == 0 {
                let field = format!("{field}.embeddings.dimensions");
                return Err(FieldViolation::new(
                    field,
                    "is 0: a vector has at least one component",
                ));
            }
            if u128::try_from(embeddings.vectors.len()) == Ok(expected) {
                return Ok(());
            }
            let problem = format!(
                "has {} bytes: {} vectors of {} components of 4 bytes have {expected}",
                embeddings.vectors.len(),
                part.items,
                embeddings.dimensions
            );
            Err(FieldViolation::new(format!("{field}.embeddings.vectors"), problem))
        }
        (Task::Echo, Some(Output::Texts(texts))) => {
            if u32::try_from(texts.texts.len()) == Ok(part.items) {
                return Ok(());
            }
            let problem = format!("has {} texts for {} items", texts.texts.len(), part.items);
            Err(FieldViolation::new(format!("{field}.texts"), problem))
        }
        (Task::TextEmbedding, Some(Output::Texts(_)) | None) => Err(FieldViolation::new(
            format!("{field}.output"),
            "must be `embeddings`, the output of the task text-embedding",
        )),
        (Task::Echo, Some(Output::Embeddings(_)) | None) => Err(FieldViolation::new(
            format!("{field}.output"),
            "must be `texts`, the output of the task echo",
        )),
    }
}

const fn size_of_f32() -> u128 {
    4
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

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

    #[test]
    fn good_parts_pass() {
        let parts = [vectors(2, 3), vectors(5, 1)];
        assert_eq!(check_parts(&parts, Task::TextEmbedding, 6, "parts"), Ok(()));
        assert_eq!(check_parts(&[texts(0, 2)], Task::Echo, 2, "parts"), Ok(()));
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
            for part in [vectors(first, items), texts(first, items)] {
                let stored = encode_part(&part);
                prop_assert_eq!(decode_part(stored.into()).unwrap(), part);
            }
        }

        #[test]
        fn vectors_are_cut_between_vectors(items in 1_u32..20, skip in 0_u32..25) {
            match skip_to(vectors(3, items), 3 + skip) {
                None => prop_assert!(skip >= items),
                Some(part) => prop_assert_eq!(part, vectors(3 + skip, items - skip)),
            }
        }
    }
}
