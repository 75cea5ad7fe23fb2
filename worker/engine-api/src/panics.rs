//! Panics without their words: those of the standard library quote the text that they choked on, and a
//! text is a customer's.

use std::cell::Cell;
use std::panic;

thread_local! {
    static LAST: Cell<Option<String>> = const { Cell::new(None) };
}

/// From now on a panic of this process logs its place and nothing else, and messages about a panic
/// that was caught name the place.
pub fn log_only_places() {
    panic::set_hook(Box::new(|info| {
        let place = info.location().map_or_else(|| "unknown".to_owned(), ToString::to_string);
        tracing::error!(place, "panicked");
        LAST.set(Some(place));
    }));
}

/// Where the panic was that this thread has just caught, in words for a message.
pub(crate) fn place() -> String {
    LAST.take().map_or_else(|| "it panicked".to_owned(), |place| format!("it panicked at {place}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_caught_panic_is_known_by_its_place_and_not_by_its_words() {
        log_only_places();
        let text = "päyload";
        let caught = panic::catch_unwind(|| text[..2].len());
        assert!(caught.is_err());
        let told = place();
        assert!(told.contains("panics.rs:") && !told.contains("yload"), "{told}");
        assert_eq!(place(), "it panicked", "told once");
    }
}
