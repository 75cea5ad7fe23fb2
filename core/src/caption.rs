//! What may be asked of a model that says what is to be seen on images, checked at the edge.

/// Tokens that follow the prompt where nothing is said: a caption is a sentence.
pub const DEFAULT_MAX_TOKENS: u32 = 50;
/// More than any model of today says of an image.
pub const MOST_MAX_TOKENS: u32 = 1_024;
/// Bytes of a prompt.
pub const MAX_PROMPT_BYTES: usize = 1 << 10;

/// What is wrong with a prompt; an empty one means that there is none.
pub fn prompt_problem(prompt: &str) -> Option<String> {
    if prompt.len() > MAX_PROMPT_BYTES {
        return Some(format!("has {} bytes and may have {MAX_PROMPT_BYTES}", prompt.len()));
    }
    let control = prompt.chars().any(char::is_control);
    control.then(|| "has control characters: use printable text".to_owned())
}

/// What is wrong with the number of tokens that may follow; 0 means that nothing is said.
pub fn max_tokens_problem(max_tokens: u32) -> Option<String> {
    (max_tokens > MOST_MAX_TOKENS)
        .then(|| format!("is {max_tokens}: use 1 to {MOST_MAX_TOKENS}, or leave it out"))
}

/// The number of tokens that may follow, with what stands for one that is left out.
pub const fn max_tokens(asked: u32) -> u32 {
    if asked == 0 { DEFAULT_MAX_TOKENS } else { asked }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prompt_is_one_short_line() {
        for good in ["", "a picture of", "ein Bild von Größe", &"x".repeat(MAX_PROMPT_BYTES)] {
            assert_eq!(prompt_problem(good), None, "{good}");
        }
        for bad in ["a\nb", "a\0", &"x".repeat(MAX_PROMPT_BYTES + 1)] {
            assert!(prompt_problem(bad).is_some(), "{bad:?}");
        }
    }

    #[test]
    fn tokens_are_bounded_and_have_a_default() {
        assert_eq!((max_tokens(0), max_tokens(7)), (DEFAULT_MAX_TOKENS, 7));
        for good in [0, 1, MOST_MAX_TOKENS] {
            assert_eq!(max_tokens_problem(good), None);
        }
        assert!(max_tokens_problem(MOST_MAX_TOKENS + 1).is_some_and(|it| it.contains("1025")));
    }
}
