//! A job's texts as they come, for those who watch: what of them the coordinator does not know yet.

use std::collections::BTreeMap;

use stoker_core::told::{Heard, Stretch, ToldText};
use stoker_engine_api::Piece;
use stoker_proto::v1;

use super::{Board, JobKey};

/// Texts that are being generated, by item.
#[derive(Debug, Default)]
pub(super) struct Texts {
    texts: BTreeMap<u32, Text>,
    /// Somebody watches, as far as is known.
    watched: bool,
}

#[derive(Debug, Default)]
struct Text {
    told: ToldText,
    /// Bytes of it that the coordinator knows.
    known: usize,
}

impl Texts {
    pub(super) fn said(&mut self, item: u32, piece: &Piece) {
        let Piece { bytes_before, text, .. } = piece;
        let stretch = Stretch { bytes_before: *bytes_before, text, ends: false };
        self.texts.entry(item).or_default().hear(stretch);
    }

    /// The item's output is there. If nobody watches, the results say it early enough.
    pub(super) fn done(&mut self, item: u32, text: &str) {
        if self.watched {
            let stretch = Stretch { bytes_before: 0, text, ends: true };
            self.texts.entry(item).or_default().hear(stretch);
        } else {
            self.texts.remove(&item);
        }
    }

    /// What the coordinator does not know: at most `budget` bytes, and what is cut off comes next time.
    fn news(&self, budget: usize) -> Vec<v1::TextPiece> {
        let mut left = budget;
        let news = self.texts.iter().filter(|(_, text)| text.is_news());
        let piece = |(item, text): (&u32, &Text)| {
            let rest = text.told.text().get(text.known..).unwrap_or_default();
            let stretch = &rest[..rest.floor_char_boundary(left)];
            left -= stretch.len();
            v1::TextPiece {
                item: *item,
                bytes_before: u64::try_from(text.known).unwrap_or(u64::MAX),
                text: stretch.to_owned(),
                ends: text.told.has_ended() && stretch.len() == rest.len(),
            }
        };
        news.map(piece).filter(|piece| piece.ends || !piece.text.is_empty()).collect()
    }

    /// The coordinator's answer to `told`.
    fn told(&mut self, told: &[v1::TextPiece], answer: &v1::Told) {
        self.watched = answer.watched;
        if !answer.watched {
            self.texts.retain(|_, text| !text.told.has_ended());
        }
        for piece in told {
            if let Some(text) = self.texts.get_mut(&piece.item) {
                let before = usize::try_from(piece.bytes_before).unwrap_or(usize::MAX);
                let end = before.saturating_add(piece.text.len());
                // It may have become another one since.
                if text.told.text().get(before..end) == Some(piece.text.as_str()) {
                    text.known = text.known.max(end);
                }
            }
        }
        // It may know more, of an earlier attempt: whether that is the same is seen when this one's is told.
        for (item, text) in &mut self.texts {
            let bytes = answer.bytes.get(item).copied().unwrap_or(0);
            let known = text.known.min(usize::try_from(bytes).unwrap_or(usize::MAX));
            text.known = if text.told.text().is_char_boundary(known) { known } else { 0 };
        }
        for piece in told.iter().filter(|piece| piece.ends) {
            if self.texts.get(&piece.item).is_some_and(Text::is_all_known) {
                self.texts.remove(&piece.item);
            }
        }
    }
}

impl Text {
    fn hear(&mut self, stretch: Stretch<'_>) {
        match self.told.hear(stretch) {
            Heard::Nothing | Heard::More | Heard::Gap => {}
            Heard::Anew => self.known = self.known.min(stretch.bytes_before),
        }
    }

    const fn is_all_known(&self) -> bool {
        self.known >= self.told.text().len()
    }

    /// One that has ended is kept until its end is known.
    const fn is_news(&self) -> bool {
        !self.is_all_known() || self.told.has_ended()
    }
}

impl Board {
    /// Whether texts of this job are being generated.
    pub fn has_texts(&self, key: JobKey) -> bool {
        self.jobs.get(&key).is_some_and(|job| !job.texts.texts.is_empty())
    }

    /// Whether there is something of its texts that the coordinator does not know.
    pub fn has_news(&self, key: JobKey) -> bool {
        self.jobs.get(&key).is_some_and(|job| job.texts.texts.values().any(Text::is_news))
    }

    /// What the coordinator does not know of this job's texts, at most `budget` bytes.
    pub fn news(&self, key: JobKey, budget: usize) -> Vec<v1::TextPiece> {
        self.jobs.get(&key).map(|job| job.texts.news(budget)).unwrap_or_default()
    }

    /// What the coordinator answered to news.
    pub fn told(&mut self, key: JobKey, told: &[v1::TextPiece], answer: &v1::Told) {
        if let Some(job) = self.jobs.get_mut(&key) {
            job.texts.told(told, answer);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(texts: &mut Texts, item: u32, bytes_before: usize, text: &str) {
        texts.said(item, &Piece { bytes_before, text: text.to_owned(), ..Piece::default() });
    }

    fn piece(item: u32, bytes_before: u64, text: &str) -> v1::TextPiece {
        v1::TextPiece { item, bytes_before, text: text.to_owned(), ends: false }
    }

    /// A piece with which the text ends.
    fn last(item: u32, bytes_before: u64, text: &str) -> v1::TextPiece {
        v1::TextPiece { ends: true, ..piece(item, bytes_before, text) }
    }

    /// Somebody watches, and so much of each text is known.
    fn known(bytes: &[(u32, u64)]) -> v1::Told {
        v1::Told { watched: true, bytes: bytes.iter().copied().collect() }
    }

    #[test]
    fn what_is_known_is_not_told_again_and_what_was_lost_is() {
        let mut texts = Texts::default();
        said(&mut texts, 0, 0, "ab");
        said(&mut texts, 1, 0, "x");
        let first = texts.news(100);
        assert_eq!(first, [piece(0, 0, "ab"), piece(1, 0, "x")]);
        texts.told(&first, &known(&[(0, 2), (1, 1)]));
        assert_eq!(texts.news(100), []);
        said(&mut texts, 0, 2, "c");
        // An answer that was lost changes nothing.
        assert_eq!(texts.news(100), [piece(0, 2, "c")]);
        assert_eq!(texts.news(100), [piece(0, 2, "c")]);
        // A coordinator that has begun anew knows nothing.
        texts.told(&[], &known(&[]));
        assert_eq!(texts.news(100), [piece(0, 0, "abc"), piece(1, 0, "x")]);
    }

    #[test]
    fn what_an_earlier_attempt_told_is_told_again_once() {
        let mut texts = Texts::default();
        said(&mut texts, 0, 0, "ab");
        texts.told(&[], &known(&[(0, 5)]));
        let all = texts.news(100);
        assert_eq!(all, [piece(0, 0, "ab")]);
        texts.told(&all, &known(&[(0, 5)]));
        assert_eq!(texts.news(100), []);
        said(&mut texts, 0, 2, "c");
        assert_eq!(texts.news(100), [piece(0, 2, "c")]);
    }

    #[test]
    fn an_end_is_told_until_it_is_known() {
        let mut texts = Texts::default();
        said(&mut texts, 0, 0, "ab");
        texts.told(&texts.news(100), &known(&[(0, 2)]));
        texts.done(0, "abc");
        let end = texts.news(100);
        assert_eq!(end, [last(0, 2, "c")]);
        texts.told(&[], &known(&[(0, 2)]));
        assert_eq!(texts.news(100), end);
        texts.told(&end, &known(&[(0, 3)]));
        assert!(texts.texts.is_empty());
    }

    #[test]
    fn nothing_that_has_ended_is_kept_for_nobody() {
        let mut texts = Texts::default();
        said(&mut texts, 0, 0, "ab");
        texts.done(0, "abc");
        assert!(texts.texts.is_empty());
        texts.told(&[], &known(&[]));
        texts.done(0, "abc");
        assert_eq!(texts.news(100), [last(0, 0, "abc")]);
        texts.told(&[], &v1::Told::default());
        assert!(texts.texts.is_empty());
    }

    #[test]
    fn a_text_that_becomes_another_is_told_from_where_they_part() {
        let mut texts = Texts::default();
        said(&mut texts, 0, 0, "abc");
        texts.told(&texts.news(100), &known(&[(0, 3)]));
        said(&mut texts, 0, 1, "xy");
        assert_eq!(texts.news(100), [piece(0, 1, "xy")]);
    }

    #[test]
    fn a_call_has_a_bound() {
        let mut texts = Texts::default();
        said(&mut texts, 0, 0, "aéb");
        said(&mut texts, 1, 0, "x");
        assert_eq!(texts.news(2), [piece(0, 0, "a"), piece(1, 0, "x")]);
        assert_eq!(texts.news(1), [piece(0, 0, "a")]);
    }
}
