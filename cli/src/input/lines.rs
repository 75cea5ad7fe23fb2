//! One text per line.

use super::{Input, InputError, not_empty, utf8_lines};

/// Reads `bytes`; `name` stands for them in errors. Lines of nothing but white space are skipped.
pub(super) fn parse(name: &str, bytes: &[u8]) -> Result<Input, InputError> {
    let mut input = Input::default();
    for line in utf8_lines(name, bytes) {
        let (_, text) = line?;
        if text.trim().is_empty() {
            input.skipped += 1;
        } else {
            input.loose.push(text.to_owned());
        }
    }
    not_empty(name, bytes, input)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(bytes: &[u8]) -> (Vec<String>, u64) {
        let input = parse("f", bytes).unwrap();
        (input.loose, input.skipped)
    }

    #[test]
    fn lines_lose_their_ends_and_nothing_else() {
        assert_eq!(texts(b"a\r\n b \nc"), (vec!["a".into(), " b ".into(), "c".into()], 0));
    }

    #[test]
    fn empty_lines_are_skipped_and_counted() {
        assert_eq!(texts(b"\n a\n\n \t \nb\n"), (vec![" a".into(), "b".into()], 3));
    }

    #[test]
    fn a_byte_order_mark_is_not_text() {
        assert_eq!(texts(b"\xef\xbb\xbfa\n"), (vec!["a".into()], 0));
    }

    #[test]
    fn what_is_not_utf_8_is_named_by_line_and_byte() {
        let error = parse("corpus.txt", b"one\ntw\xff\n").unwrap_err();
        let text = error.to_string();
        assert!(text.starts_with("corpus.txt:2: not UTF-8 text at byte 6 of the file"), "{text}");
        assert!(text.contains("iconv"), "{text}");
    }

    #[test]
    fn the_byte_offset_counts_the_byte_order_mark() {
        let error = parse("f", b"\xef\xbb\xbfa\xff").unwrap_err();
        assert_eq!(error, InputError::NotUtf8 { name: "f".into(), line: 1, offset: 4 });
    }

    #[test]
    fn nothing_left_is_an_error() {
        assert_eq!(parse("f", b"").unwrap_err().to_string(), "f is empty");
        let error = parse("f", b" \n\n").unwrap_err();
        assert_eq!(error.to_string(), "f has no text: every line is empty");
    }
}
