//! Texts that are being generated, between heartbeats and grants. The store keeps them as they are.

use bytes::Bytes;
use prost::Message as _;

use crate::v1;

/// Larger ones are not kept: their items begin anew.
pub const MAX_BEGUN_BYTES: usize = 1 << 20;

/// What is to be kept of what a worker tells; `None` if that is nothing.
pub fn encode_begun(begun: Option<&v1::BegunTexts>, items_total: u32) -> Option<Bytes> {
    let begun = begun?;
    let known = |text: &v1::BegunText| text.item < items_total && !text.tokens.is_empty();
    if begun.texts.is_empty()
        || !begun.texts.iter().all(known)
        || begun.encoded_len() > MAX_BEGUN_BYTES
    {
        return None;
    }
    Some(begun.encode_to_vec().into())
}

/// What was kept, without items before `first_item`, which are done. Nothing of what cannot be read: the
/// texts begin anew then.
pub fn decode_begun(bytes: &[u8], first_item: u32) -> Option<v1::BegunTexts> {
    let mut begun = v1::BegunTexts::decode(bytes).ok()?;
    begun.texts.retain(|text| text.item >= first_item);
    (!begun.texts.is_empty()).then_some(begun)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn begun(texts: &[(u32, &[u32])]) -> v1::BegunTexts {
        let text =
            |(item, tokens): &(u32, &[u32])| v1::BegunText { item: *item, tokens: tokens.to_vec() };
        v1::BegunTexts { texts: texts.iter().map(text).collect() }
    }

    #[test]
    fn what_is_kept_comes_back_without_what_is_done() {
        let told = begun(&[(1, &[5, 6]), (2, &[7])]);
        let kept = encode_begun(Some(&told), 3).unwrap();
        assert_eq!(decode_begun(&kept, 0), Some(told));
        assert_eq!(decode_begun(&kept, 2), Some(begun(&[(2, &[7])])));
        assert_eq!(decode_begun(&kept, 3), None);
        assert_eq!(decode_begun(&[0xff, 0xff], 0), None);
    }

    #[test]
    fn what_makes_no_sense_is_not_kept() {
        let huge = begun(&[(0, &vec![u32::MAX; MAX_BEGUN_BYTES / 4])]);
        for told in [begun(&[]), begun(&[(3, &[5])]), begun(&[(0, &[])]), huge] {
            assert_eq!(encode_begun(Some(&told), 3), None);
        }
        assert_eq!(encode_begun(None, 3), None);
    }
}
