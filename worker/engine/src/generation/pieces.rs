//! From tokens to text, bit by bit: whole characters only. Pure, but for the tokenizer it is given.

/// Turns tokens into text.
pub trait ToText {
    /// The text of these tokens, with U+FFFD for what is no whole character.
    fn text(&self, tokens: &[u32]) -> String;
}

/// The text of tokens that come one after another.
///
/// A token's text depends on those before it, and a character may need several: text is taken from the
/// difference between two beginnings, once that ends in a whole character.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Pieces {
    /// Tokens from a place on at which a character ended, whose text has been given away...
    given: Vec<u32>,
    /// ...and those behind them.
    open: Vec<u32>,
}

/// Tokens that are no character together after this many are none at all.
const LONGEST: usize = 16;

impl Pieces {
    /// Takes the next token, gives what is known of the text now.
    #[must_use]
    pub fn push(&mut self, token: u32, tokenizer: &impl ToText) -> String {
        self.open.push(token);
        let piece = self.text(tokenizer);
        if piece.ends_with('\u{fffd}') && self.open.len() < LONGEST {
            return String::new();
        }
        self.given = std::mem::take(&mut self.open);
        piece
    }

    /// What is left when no more tokens come.
    #[must_use]
    pub fn finish(self, tokenizer: &impl ToText) -> String {
        self.text(tokenizer)
    }

    /// The text of the open tokens behind the given ones.
    fn text(&self, tokenizer: &impl ToText) -> String {
        let before = tokenizer.text(&self.given);
        let all = tokenizer.text(&[self.given.as_slice(), &self.open].concat());
        all.strip_prefix(&before).map_or_else(|| tokenizer.text(&self.open), str::to_owned)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Tokens are bytes.
    struct Bytes;

    impl ToText for Bytes {
        fn text(&self, tokens: &[u32]) -> String {
            let bytes: Vec<u8> = tokens.iter().map(|token| u8::try_from(*token).unwrap()).collect();
            String::from_utf8_lossy(&bytes).into_owned()
        }
    }

    fn pieces(bytes: &[u8]) -> Vec<String> {
        let mut pieces = Pieces::default();
        let mut texts: Vec<String> =
            bytes.iter().map(|byte| pieces.push(u32::from(*byte), &Bytes)).collect();
        texts.push(pieces.finish(&Bytes));
        texts
    }

    #[test]
    fn a_character_comes_when_it_is_whole() {
        assert_eq!(pieces("aé🦊".as_bytes()), ["a", "", "é", "", "", "", "🦊", ""]);
        assert_eq!(pieces(&[b'a', 0xf0, 0x9f]), ["a", "", "", "\u{fffd}"], "cut off");
    }

    proptest! {
        #[test]
        fn pieces_make_the_text(text in "[a-zé言🦊 ]{0,20}") {
            prop_assert_eq!(pieces(text.as_bytes()).concat(), text);
        }

        #[test]
        fn bytes_that_are_no_text_hold_nothing_back_for_ever(bytes in proptest::collection::vec(any::<u8>(), 64)) {
            let texts = pieces(&bytes);
            let longest = texts.split(|text| !text.is_empty()).map(<[String]>::len).max();
            prop_assert!(longest.unwrap_or(0) < LONGEST);
        }
    }
}
