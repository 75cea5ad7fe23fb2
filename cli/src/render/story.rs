//! Texts that are being generated, as a person reads them: one after the other, each as it grows.

use std::collections::{BTreeMap, BTreeSet};

use stoker_core::told::{Heard, Stretch, ToldText};
use stoker_proto::v1;
use stoker_proto::v1::result_part::Output;

use super::text::is_unsafe;

/// Before a text that was shown and turned out to be another one.
const CHANGED: &str = "(it was interrupted, and went on differently)\n";

/// The texts of one job, and how much of them is on the screen.
#[derive(Debug, Default)]
pub(crate) struct Story {
    /// Of a job with several, each begins with its number.
    items: u32,
    texts: BTreeMap<u32, ToldText>,
    /// The text that is being shown, and its bytes that are.
    shown: Option<(u32, usize)>,
    done: BTreeSet<u32>,
    /// Those that were shown to their end, and are another text now.
    changed: BTreeSet<u32>,
    /// What was shown last ends within a line.
    within_line: bool,
}

impl Story {
    /// Of a job with so many items.
    pub(crate) fn new(items: u32) -> Self {
        Self { items, ..Self::default() }
    }

    /// Takes a piece; answers what is to be shown now.
    #[must_use]
    pub(crate) fn hear(&mut self, piece: &v1::TextPiece) -> String {
        let bytes_before = usize::try_from(piece.bytes_before).unwrap_or(usize::MAX);
        let text = self.texts.entry(piece.item).or_default();
        let heard = text.hear(Stretch { bytes_before, text: &piece.text, ends: piece.ends });
        let mut show = String::new();
        if heard == Heard::Anew {
            match &mut self.shown {
                Some((item, bytes)) if *item == piece.item && *bytes > bytes_before => {
                    *bytes = 0;
                    show.push_str(self.line_break());
                    show.push_str(CHANGED);
                }
                Some(_) | None => {
                    if self.done.remove(&piece.item) {
                        self.changed.insert(piece.item);
                    }
                }
            }
        }
        self.show_more(&mut show);
        if !show.is_empty() {
            self.within_line = !show.ends_with('\n');
        }
        show
    }

    /// Takes the results of some items, which say what was not told.
    #[must_use]
    pub(crate) fn hear_results(&mut self, part: &v1::ResultPart) -> String {
        let texts: Vec<&str> = match &part.output {
            Some(Output::Generations(part)) => {
                part.generations.iter().map(|generation| generation.text.as_str()).collect()
            }
            Some(Output::Transcripts(part)) => {
                part.transcripts.iter().map(|transcript| transcript.text.as_str()).collect()
            }
            Some(
                Output::Embeddings(_)
                | Output::Classifications(_)
                | Output::Faces(_)
                | Output::Texts(_),
            )
            | None => return String::new(),
        };
        let pieces = (part.first_item..).zip(texts).map(|(item, text)| v1::TextPiece {
            item,
            bytes_before: 0,
            text: text.to_owned(),
            ends: true,
        });
        pieces.map(|piece| self.hear(&piece)).collect()
    }

    /// Whether every text was shown to its end.
    pub(crate) fn is_complete(&self) -> bool {
        u32::try_from(self.done.len()) == Ok(self.items)
    }

    /// What has to come before something that is not of the story.
    #[must_use]
    pub(crate) const fn line_break(&mut self) -> &'static str {
        if std::mem::replace(&mut self.within_line, false) { "\n" } else { "" }
    }

    fn show_more(&mut self, show: &mut String) {
        while let Some((item, bytes)) = self.shown.or_else(|| self.next()) {
            let Some(text) = self.texts.get(&item) else { return };
            if self.shown.is_none() && self.changed.remove(&item) {
                show.push_str(CHANGED);
            }
            if self.shown.is_none() && self.items > 1 {
                show.extend(["[", item.to_string().as_str(), "] "]);
            }
            show.extend(text.text().get(bytes..).unwrap_or_default().chars().map(printable));
            self.shown = Some((item, text.text().len()));
            if !text.has_ended() {
                return;
            }
            show.push('\n');
            self.done.insert(item);
            self.shown = None;
        }
    }

    /// The first text that was not shown.
    fn next(&self) -> Option<(u32, usize)> {
        let mut fresh = self.texts.iter().filter(|(item, _)| !self.done.contains(item));
        let (item, _) = fresh.find(|(_, text)| !text.text().is_empty() || text.has_ended())?;
        Some((*item, 0))
    }
}

/// A model may say what would make a terminal do things.
fn printable(letter: char) -> char {
    match letter {
        '\n' | '\t' => letter,
        other if is_unsafe(other) => char::REPLACEMENT_CHARACTER,
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn piece(item: u32, bytes_before: u64, text: &str) -> v1::TextPiece {
        v1::TextPiece { item, bytes_before, text: text.to_owned(), ends: false }
    }

    /// A piece with which the text ends.
    fn last(item: u32, bytes_before: u64, text: &str) -> v1::TextPiece {
        v1::TextPiece { ends: true, ..piece(item, bytes_before, text) }
    }

    #[test]
    fn a_text_grows_and_what_comes_twice_is_shown_once() {
        let mut story = Story::new(1);
        assert_eq!(story.hear(&piece(0, 0, "Once")), "Once");
        assert_eq!(story.hear(&piece(0, 0, "Once")), "");
        assert_eq!(story.hear(&piece(0, 2, "ce upon")), " upon");
        assert_eq!((story.line_break(), story.line_break()), ("\n", ""));
        assert_eq!(story.hear(&last(0, 9, " a time")), " a time\n");
        assert_eq!(story.line_break(), "");
    }

    #[test]
    fn several_texts_come_one_after_the_other() {
        let mut story = Story::new(3);
        assert_eq!(story.hear(&piece(1, 0, "b")), "[1] b");
        assert_eq!(story.hear(&piece(0, 0, "a")), "");
        assert_eq!(story.hear(&last(2, 0, "c")), "");
        assert_eq!(story.hear(&last(1, 1, "b")), "b\n[0] a");
        assert_eq!(story.hear(&last(0, 1, "")), "\n[2] c\n");
    }

    #[test]
    fn results_say_what_was_not_told() {
        let mut story = Story::new(2);
        assert_eq!(story.hear(&piece(0, 0, "ab")), "[0] ab");
        let text = |text: &str| v1::Generation { text: text.to_owned(), ..Default::default() };
        let generations = v1::Generations { generations: vec![text("abc"), text("")] };
        let output = Some(Output::Generations(generations));
        let part = v1::ResultPart { first_item: 0, items: 2, output };
        assert_eq!(story.hear_results(&part), "c\n[1] \n");
        assert_eq!(story.hear_results(&part), "");
    }

    #[test]
    fn a_text_that_becomes_another_is_shown_again() {
        let mut story = Story::new(1);
        assert_eq!(story.hear(&piece(0, 0, "abc")), "abc");
        assert_eq!(story.hear(&piece(0, 1, "xy")), format!("\n{CHANGED}axy"));
        // What was shown to its end as well, and so do several.
        assert_eq!(story.hear(&last(0, 3, "")), "\n");
        assert!(story.is_complete());
        assert_eq!(story.hear(&last(0, 0, "b")), format!("{CHANGED}b\n"));
        let mut story = Story::new(2);
        assert_eq!(story.hear(&last(0, 0, "a")), "[0] a\n");
        assert_eq!(story.hear(&piece(1, 0, "b")), "[1] b");
        assert_eq!(story.hear(&last(0, 0, "c")), "");
        assert!(!story.is_complete());
        assert_eq!(story.hear(&last(1, 1, "")), format!("\n{CHANGED}[0] c\n"));
        assert!(story.is_complete());
    }

    #[test]
    fn nothing_makes_the_terminal_do_things() {
        let mut story = Story::new(1);
        assert_eq!(story.hear(&piece(0, 0, "a\u{1b}[2J\r\n")), "a\u{fffd}[2J\u{fffd}\n");
    }
}
