//! Foreign text on its way into messages that people read.

/// Cuts `text` to `most` bytes (and a mark that it was cut) and replaces control characters, which
/// could forge log lines or drive a terminal.
pub(crate) fn clean(text: &str, most: usize) -> String {
    let mut end = text.len().min(most);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    let mut cleaned: String = text[..end]
        .chars()
        .map(|c| if c.is_control() { char::REPLACEMENT_CHARACTER } else { c })
        .collect();
    if end < text.len() {
        cleaned.push('…');
    }
    cleaned
}

#[cfg(test)]
mod tests {
    use super::clean;

    #[test]
    fn text_is_cut_between_characters_and_cleaned() {
        assert_eq!(clean("plain", 5), "plain");
        assert_eq!(clean("aä", 2), "a…");
        assert_eq!(clean("\u{1b}[2J\n", 9), "\u{fffd}[2J\u{fffd}");
    }
}
