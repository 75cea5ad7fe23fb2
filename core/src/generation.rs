//! What may be asked of a model that generates text, checked at the edge.

/// Tokens that are generated where nothing is said.
pub const DEFAULT_MAX_TOKENS: u32 = 256;
/// More than any model of today reads at once.
pub const MOST_MAX_TOKENS: u32 = 131_072;
/// Texts that may end a generation.
pub const MAX_STOPS: usize = 16;
/// Bytes of each of them.
pub const MAX_STOP_BYTES: usize = 256;
/// Messages of one conversation.
pub const MAX_MESSAGES: usize = 1_024;

/// How tokens are chosen, and where the text ends.
#[derive(Debug, Clone, PartialEq)]
pub struct GenerationOptions {
    /// Tokens to generate at most.
    pub max_tokens: u32,
    /// Zero: always the likeliest token.
    pub temperature: f32,
    /// Only the likeliest tokens whose shares sum to this; 1: all.
    pub top_p: f32,
    /// Only this many of the likeliest tokens; zero: all.
    pub top_k: u32,
    /// Above 1, tokens that are in the text already become less likely.
    pub repeat_penalty: f32,
    /// `None`: one of the job's own, the same in each of its attempts.
    pub seed: Option<u64>,
    pub stops: Vec<String>,
}

impl Default for GenerationOptions {
    /// Always the likeliest token.
    fn default() -> Self {
        Self {
            max_tokens: DEFAULT_MAX_TOKENS,
            temperature: 0.0,
            top_p: 1.0,
            top_k: 0,
            repeat_penalty: 1.0,
            seed: None,
            stops: Vec::new(),
        }
    }
}

impl GenerationOptions {
    /// What is wrong: the field, and what it has to be.
    pub fn problems(&self) -> Vec<(&'static str, String)> {
        let mut problems = Vec::new();
        let mut check = |sound: bool, field: &'static str, problem: String| {
            if !sound {
                problems.push((field, problem));
            }
        };
        check(
            (1..=MOST_MAX_TOKENS).contains(&self.max_tokens),
            "max_tokens",
            format!("is {}: use 1 to {MOST_MAX_TOKENS}", self.max_tokens),
        );
        check(
            (0.0..=100.0).contains(&self.temperature),
            "temperature",
            format!("is {}: use 0 to 100", self.temperature),
        );
        check(
            self.top_p > 0.0 && self.top_p <= 1.0,
            "top_p",
            format!("is {}: use a number above 0 and at most 1", self.top_p),
        );
        check(
            self.repeat_penalty > 0.0 && self.repeat_penalty <= 100.0,
            "repeat_penalty",
            format!("is {}: use a number above 0 and at most 100", self.repeat_penalty),
        );
        check(
            self.stops.len() <= MAX_STOPS,
            "stop",
            format!("has {} texts and may have {MAX_STOPS}", self.stops.len()),
        );
        let sound = |stop: &String| (1..=MAX_STOP_BYTES).contains(&stop.len());
        check(
            self.stops.iter().all(sound),
            "stop",
            format!("has a text that is empty or has more than {MAX_STOP_BYTES} bytes"),
        );
        problems
    }

    /// The seed of an item of a job: a job's items are not all the same, and its attempts are.
    pub fn item_seed(&self, job: [u8; 16], item: u32) -> u64 {
        // The random half of an id that begins with the time.
        let own = || job.last_chunk().map_or(0, |bytes| u64::from_le_bytes(*bytes));
        self.seed.unwrap_or_else(own).wrapping_add(u64::from(item))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fields(options: &GenerationOptions) -> Vec<&'static str> {
        options.problems().into_iter().map(|(field, _)| field).collect()
    }

    #[test]
    fn what_makes_no_sense_is_named() {
        let good = GenerationOptions::default;
        assert_eq!(fields(&good()), [""; 0]);
        for (options, field) in [
            (GenerationOptions { max_tokens: 0, ..good() }, "max_tokens"),
            (GenerationOptions { max_tokens: MOST_MAX_TOKENS + 1, ..good() }, "max_tokens"),
            (GenerationOptions { temperature: -0.1, ..good() }, "temperature"),
            (GenerationOptions { temperature: f32::NAN, ..good() }, "temperature"),
            (GenerationOptions { temperature: f32::INFINITY, ..good() }, "temperature"),
            (GenerationOptions { top_p: 0.0, ..good() }, "top_p"),
            (GenerationOptions { top_p: 1.1, ..good() }, "top_p"),
            (GenerationOptions { repeat_penalty: f32::NAN, ..good() }, "repeat_penalty"),
            (GenerationOptions { stops: vec![String::new()], ..good() }, "stop"),
            (GenerationOptions { stops: vec!["s".repeat(MAX_STOP_BYTES + 1)], ..good() }, "stop"),
            (GenerationOptions { stops: vec!["s".to_owned(); MAX_STOPS + 1], ..good() }, "stop"),
        ] {
            assert_eq!(fields(&options), [field], "{options:?}");
        }
    }

    #[test]
    fn items_have_seeds_of_their_own_and_keep_them() {
        let given = GenerationOptions { seed: Some(u64::MAX), ..GenerationOptions::default() };
        assert_eq!([0, 1].map(|item| given.item_seed([1; 16], item)), [u64::MAX, 0]);
        let own = GenerationOptions::default();
        assert_eq!(own.item_seed([7; 16], 3), own.item_seed([7; 16], 3));
        assert_ne!(own.item_seed([7; 16], 3), own.item_seed([8; 16], 3));
    }
}
