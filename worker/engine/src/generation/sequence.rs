//! One text that is being generated: its tokens, its text so far, and whether it has ended. Pure, but for
//! the tokenizer it is given.

use std::collections::BTreeSet;

use stoker_engine_api::{Finish, Piece};

use super::pieces::{Pieces, ToText};
use super::{SampleError, Sampling, StopFinder};

/// What is asked for.
#[derive(Debug, Clone, PartialEq)]
pub struct Order {
    /// At least one token.
    pub prompt: Vec<u32>,
    /// Tokens that were generated before.
    pub generated: Vec<u32>,
    /// Tokens to generate at most, those before included.
    pub max_tokens: usize,
    pub sampling: Sampling,
    pub stops: Vec<String>,
}

/// A text on its way.
#[derive(Debug)]
pub struct Sequence {
    /// Prompt and what was generated.
    tokens: Vec<u32>,
    prompt: usize,
    max_tokens: usize,
    sampling: Sampling,
    stops: StopFinder,
    /// `None` once it has ended.
    pieces: Option<Pieces>,
    text: String,
    finish: Option<Finish>,
    /// Since the last time somebody asked.
    news: Piece,
}

impl Sequence {
    /// Begins, or goes on behind what was generated before: that gives the same text again, and may turn
    /// out to have ended already.
    pub fn new(order: Order, ends: &BTreeSet<u32>, tokenizer: &impl ToText) -> Self {
        let Order { prompt, generated, max_tokens, sampling, stops } = order;
        let mut sequence = Self {
            prompt: prompt.len(),
            tokens: prompt,
            max_tokens,
            sampling,
            stops: StopFinder::new(stops),
            pieces: Some(Pieces::default()),
            text: String::new(),
            finish: None,
            news: Piece::default(),
        };
        for token in generated {
            if sequence.finish.is_none() {
                sequence.add(token, ends, tokenizer);
            }
        }
        if sequence.finish.is_none() && max_tokens == 0 {
            sequence.end(Finish::Length, tokenizer);
        }
        sequence
    }

    /// Prompt and what was generated.
    pub fn tokens(&self) -> &[u32] {
        &self.tokens
    }

    pub const fn prompt_tokens(&self) -> usize {
        self.prompt
    }

    pub const fn generated_tokens(&self) -> usize {
        self.tokens.len() - self.prompt
    }

    /// Tokens that may still come.
    pub const fn tokens_left(&self) -> usize {
        self.max_tokens.saturating_sub(self.generated_tokens())
    }

    pub fn text(&self) -> &str {
        &self.text
    }

    pub const fn finish(&self) -> Option<Finish> {
        self.finish
    }

    /// What came since the last time.
    #[must_use]
    pub fn take_news(&mut self) -> Piece {
        let Piece { tokens, text, .. } = std::mem::take(&mut self.news);
        Piece {
            tokens_before: self.generated_tokens() - tokens.len(),
            bytes_before: self.text.len() - text.len(),
            tokens,
            text,
        }
    }

    /// Chooses the next token of what the network says.
    ///
    /// # Errors
    /// When the network's numbers are none.
    pub fn choose(
        &mut self,
        logits: &[f32],
        ends: &BTreeSet<u32>,
        tokenizer: &impl ToText,
    ) -> Result<(), SampleError> {
        let token = self.sampling.next(logits, &self.tokens)?;
        self.add(token, ends, tokenizer);
        Ok(())
    }

    fn add(&mut self, token: u32, ends: &BTreeSet<u32>, tokenizer: &impl ToText) {
        self.tokens.push(token);
        self.news.tokens.push(token);
        if ends.contains(&token) {
            return self.end(Finish::Stop, tokenizer);
        }
        let Some(pieces) = &mut self.pieces else { return };
        let found = self.stops.push(&pieces.push(token, tokenizer));
        self.say(&found.text);
        if found.stopped {
            self.pieces = None;
            self.finish = Some(Finish::Stop);
        } else if self.tokens_left() == 0 {
            self.end(Finish::Length, tokenizer);
        }
    }

    /// Gives away what was held back, of which a stop text may still be a part.
    fn end(&mut self, finish: Finish, tokenizer: &impl ToText) {
        let rest = self.pieces.take().map(|pieces| pieces.finish(tokenizer)).unwrap_or_default();
        let found = self.stops.push(&rest);
        self.say(&found.text);
        if found.stopped {
            self.finish = Some(Finish::Stop);
            return;
        }
        let stops = std::mem::replace(&mut self.stops, StopFinder::new(Vec::new()));
        self.say(&stops.finish());
        self.finish = Some(finish);
    }

    fn say(&mut self, text: &str) {
        self.text.push_str(text);
        self.news.text.push_str(text);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Tokens are letters from `a` on.
    struct Letters;

    impl ToText for Letters {
        fn text(&self, tokens: &[u32]) -> String {
            tokens.iter().map(|token| char::from_u32(97 + token).unwrap()).collect()
        }
    }

    const END: u32 = 25;

    fn begin(stops: &[&str], generated: &[u32], max_tokens: usize) -> Sequence {
        let order = Order {
            prompt: vec![0, 1],
            generated: generated.to_vec(),
            max_tokens,
            sampling: Sampling::default(),
            stops: stops.iter().map(|stop| (*stop).to_owned()).collect(),
        };
        Sequence::new(order, &BTreeSet::from([END]), &Letters)
    }

    fn choose(sequence: &mut Sequence, token: u32) {
        let logits: Vec<f32> = (0..26).map(|at| if at == token { 1.0 } else { 0.0 }).collect();
        sequence.choose(&logits, &BTreeSet::from([END]), &Letters).unwrap();
    }

    #[test]
    fn it_ends_with_its_last_token_and_says_how() {
        let mut sequence = begin(&[], &[], 3);
        for token in [7, 8, 9] {
            assert_eq!(sequence.finish(), None);
            choose(&mut sequence, token);
        }
        assert_eq!((sequence.text(), sequence.finish()), ("hij", Some(Finish::Length)));
        assert_eq!((sequence.prompt_tokens(), sequence.generated_tokens()), (2, 3));
        let mut ended = begin(&[], &[], 3);
        choose(&mut ended, 7);
        choose(&mut ended, END);
        assert_eq!((ended.text(), ended.finish()), ("h", Some(Finish::Stop)));
        assert_eq!(ended.generated_tokens(), 2);
    }

    #[test]
    fn a_stop_text_is_not_part_of_it_and_what_looked_like_one_is() {
        let mut sequence = begin(&["ij"], &[], 9);
        for token in [7, 8, 9] {
            choose(&mut sequence, token);
        }
        assert_eq!((sequence.text(), sequence.finish()), ("h", Some(Finish::Stop)));
        let mut sequence = begin(&["ij"], &[], 2);
        choose(&mut sequence, 7);
        choose(&mut sequence, 8);
        assert_eq!((sequence.text(), sequence.finish()), ("hi", Some(Finish::Length)));
    }

    #[test]
    fn it_goes_on_as_if_it_had_not_stopped() {
        let mut whole = begin(&["lm"], &[], 9);
        for token in [7, 8, 11, 9] {
            choose(&mut whole, token);
        }
        let mut resumed = begin(&["lm"], &[7, 8, 11], 9);
        let again = Piece { tokens: vec![7, 8, 11], text: "hi".to_owned(), ..Piece::default() };
        assert_eq!(resumed.take_news(), again);
        assert_eq!(resumed.tokens_left(), 6);
        choose(&mut resumed, 9);
        let (tokens, text) = (vec![9], "lj".to_owned());
        let more = Piece { tokens_before: 3, tokens, bytes_before: 2, text };
        assert_eq!(resumed.take_news(), more);
        assert_eq!((resumed.text(), resumed.tokens()), (whole.text(), whole.tokens()));
    }

    #[test]
    fn what_has_ended_before_generates_no_more() {
        for (generated, max_tokens, finish) in
            [(vec![7, END, 8], 9, Finish::Stop), (vec![7, 8], 2, Finish::Length)]
        {
            let sequence = begin(&[], &generated, max_tokens);
            assert_eq!(sequence.finish(), Some(finish));
            assert_eq!(sequence.generated_tokens(), 2);
        }
        assert_eq!(begin(&[], &[], 0).finish(), Some(Finish::Length));
    }
}
