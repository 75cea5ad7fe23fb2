//! Texts at which a generation ends, found in text that comes in pieces. Pure.

/// Looks for stop texts, and holds back what may become one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StopFinder {
    /// None is empty.
    stops: Vec<String>,
    held: String,
}

/// What is known after another piece.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// Text that can be given away.
    pub text: String,
    /// A stop text came after it.
    pub stopped: bool,
}

impl StopFinder {
    /// Empty stop texts are left out: they would end every generation before it begins.
    pub fn new(stops: Vec<String>) -> Self {
        let stops = stops.into_iter().filter(|stop| !stop.is_empty()).collect();
        Self { stops, held: String::new() }
    }

    /// Takes the next piece of text.
    #[must_use]
    pub fn push(&mut self, piece: &str) -> Found {
        self.held.push_str(piece);
        if let Some(at) = self.first_stop() {
            self.held.truncate(at);
            return Found { text: std::mem::take(&mut self.held), stopped: true };
        }
        let rest = self.held.split_off(self.held.len() - self.beginning_of_a_stop());
        Found { text: std::mem::replace(&mut self.held, rest), stopped: false }
    }

    /// What was held back, when no more text comes.
    #[must_use]
    pub fn finish(self) -> String {
        self.held
    }

    /// Where the stop text begins that is complete first: which one that is does not depend on how
    /// the text was cut.
    fn first_stop(&self) -> Option<usize> {
        first_stop(&self.stops, &self.held)
    }

    /// Bytes at the end with which the longest unfinished stop text begins.
    fn beginning_of_a_stop(&self) -> usize {
        let longest = |stop: &String| {
            let lengths = stop.char_indices().map(|(at, _)| at).rev();
            lengths.into_iter().find(|length| self.held.ends_with(&stop[..*length])).unwrap_or(0)
        };
        self.stops.iter().map(longest).max().unwrap_or(0)
    }
}

fn first_stop(stops: &[String], text: &str) -> Option<usize> {
    let places = stops.iter().filter_map(|stop| text.find(stop).map(|at| (at + stop.len(), at)));
    places.min().map(|(_, at)| at)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn finder(stops: &[&str]) -> StopFinder {
        StopFinder::new(stops.iter().map(|stop| (*stop).to_owned()).collect())
    }

    fn goes_on(text: &str) -> Found {
        Found { text: text.to_owned(), stopped: false }
    }

    fn stopped(text: &str) -> Found {
        Found { text: text.to_owned(), stopped: true }
    }

    #[test]
    fn a_stop_text_over_several_pieces_is_found_and_not_given_away() {
        let mut finder = finder(&["\n\n", "END"]);
        assert_eq!(finder.push("one E"), goes_on("one "));
        assert_eq!(finder.push("N"), goes_on(""));
        assert_eq!(finder.push("ough\n"), goes_on("ENough"));
        assert_eq!(finder.push("\nmore"), stopped(""));
    }

    #[test]
    fn the_first_one_counts_and_what_was_held_back_comes_at_the_end() {
        assert_eq!(finder(&["b", "a"]).push("xab"), stopped("x"));
        assert_eq!(finder(&["abc", "b"]).push("abc"), stopped("a"), "`b` was complete first");
        let mut finder = finder(&["abc", ""]);
        assert_eq!(finder.push("xab"), goes_on("x"));
        assert_eq!(finder.finish(), "ab");
        let mut none = StopFinder::new(Vec::new());
        assert_eq!(none.push("text"), goes_on("text"));
        assert_eq!(none.finish(), "");
    }

    proptest! {
        #[test]
        fn pieces_make_no_difference(
            text in "[abé]{0,30}",
            stops in proptest::collection::vec("[abé]{1,4}", 0..4),
            cuts in proptest::collection::vec(0_usize..31, 0..6),
        ) {
            let end = first_stop(&stops, &text);
            let mut finder = StopFinder::new(stops.clone());
            let (mut given, mut stopped) = (String::new(), false);
            let mut cuts: Vec<usize> =
                cuts.into_iter().filter(|cut| text.is_char_boundary(*cut)).collect();
            cuts.extend([0, text.len()]);
            cuts.sort_unstable();
            for piece in cuts.windows(2) {
                let Found { text, stopped: now } = finder.push(&text[piece[0]..piece[1]]);
                given.push_str(&text);
                stopped = now;
                if stopped {
                    break;
                }
            }
            if !stopped {
                given.push_str(&finder.finish());
            }
            prop_assert_eq!(stopped, end.is_some());
            prop_assert_eq!(given.as_str(), &text[..end.unwrap_or(text.len())]);
        }
    }
}
