//! Texts that are told in stretches, by somebody who may begin again: at least once, never with a gap.

/// What is known of a text.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ToldText {
    text: String,
    ended: bool,
}

/// A part of a text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stretch<'a> {
    /// Bytes of the text before it.
    pub bytes_before: usize,
    /// Whole characters.
    pub text: &'a str,
    /// The text ends with it.
    pub ends: bool,
}

/// What a stretch has changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Heard {
    /// All of it was known.
    Nothing,
    /// The text is longer, or known to be whole.
    More,
    /// Something that was known is not so.
    Anew,
    /// Something before it is missing, or it begins within a character: nothing is changed.
    Gap,
}

impl ToldText {
    pub const fn text(&self) -> &str {
        self.text.as_str()
    }

    /// Whether nothing more comes.
    pub const fn has_ended(&self) -> bool {
        self.ended
    }

    /// Takes a stretch, which may be known in part. What is known beyond it stays, as long as they agree and the
    /// text does not end with it.
    pub fn hear(&mut self, stretch: Stretch<'_>) -> Heard {
        let Stretch { bytes_before, text, ends } = stretch;
        let Some(known) = self.text.get(bytes_before..) else { return Heard::Gap };
        if let Some(more) = text.strip_prefix(known) {
            let grows = !more.is_empty() || (ends && !self.ended);
            // It had ended, and goes on.
            let anew = self.ended && !more.is_empty();
            self.text.push_str(more);
            self.ended = ends || (self.ended && !anew);
            return match (anew, grows) {
                (true, _) => Heard::Anew,
                (false, true) => Heard::More,
                (false, false) => Heard::Nothing,
            };
        }
        if known.starts_with(text) && !ends {
            return Heard::Nothing;
        }
        self.text.truncate(bytes_before);
        self.text.push_str(text);
        self.ended = ends;
        Heard::Anew
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn known((text, ended): (&str, bool)) -> ToldText {
        ToldText { text: text.to_owned(), ended }
    }

    fn stretch((bytes_before, text, ends): (usize, &str, bool)) -> Stretch<'_> {
        Stretch { bytes_before, text, ends }
    }

    #[test]
    fn what_each_stretch_changes() {
        let cases = [
            // (known, ended), (bytes before, stretch, ends), what is known then, and what changed.
            (("", false), (0, "ab", false), ("ab", false), Heard::More),
            (("ab", false), (2, "c", false), ("abc", false), Heard::More),
            (("ab", false), (1, "bc", false), ("abc", false), Heard::More),
            (("ab", false), (2, "", true), ("ab", true), Heard::More),
            (("ab", false), (2, "c", true), ("abc", true), Heard::More),
            (("ab", false), (2, "", false), ("ab", false), Heard::Nothing),
            (("abc", false), (0, "ab", false), ("abc", false), Heard::Nothing),
            (("abc", true), (0, "ab", false), ("abc", true), Heard::Nothing),
            (("abc", true), (0, "abc", true), ("abc", true), Heard::Nothing),
            (("abc", false), (0, "ab", true), ("ab", true), Heard::Anew),
            (("abc", false), (1, "x", false), ("ax", false), Heard::Anew),
            (("abc", true), (3, "d", false), ("abcd", false), Heard::Anew),
            (("ab", false), (3, "d", false), ("ab", false), Heard::Gap),
            (("é", false), (1, "d", false), ("é", false), Heard::Gap),
        ];
        for (before, part, after, heard) in cases {
            let mut told = known(before);
            let story = format!("{part:?} after {told:?}");
            assert_eq!(told.hear(stretch(part)), heard, "{story}");
            assert_eq!(told, known(after), "{story}");
        }
    }

    proptest! {
        #[test]
        fn stretches_told_again_in_any_order_make_the_text(
            text in "[aé🦊]{0,20}",
            cuts in proptest::collection::vec((0_usize..80, 0_usize..80), 0..12),
        ) {
            let mut told = ToldText::default();
            for (from, to) in cuts {
                let (from, to) = (from.min(text.len()), to.min(text.len()));
                let Some(part) = text.get(from..to) else { continue };
                let before = told.text().len();
                let heard = told.hear(stretch((from, part, to == text.len())));
                prop_assert_eq!(heard == Heard::Gap, from > before);
                prop_assert!(heard != Heard::Anew, "{:?} of {:?}", told, text);
                prop_assert!(text.starts_with(told.text()) && told.text().len() >= before);
            }
            prop_assert!(told.hear(stretch((0, &text, true))) != Heard::Gap);
            prop_assert_eq!(told, known((&text, true)));
        }
    }
}
