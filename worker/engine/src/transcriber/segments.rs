//! From the tokens of a window to stretches with their times, and to where the next window begins.

/// A stretch of a window: times are steps of timestamps from the window's beginning.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Piece<'a> {
    pub(super) start: u64,
    pub(super) end: u64,
    /// Words and timestamps.
    pub(super) tokens: &'a [u32],
}

/// A window that was written down.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Cut<'a> {
    pub(super) pieces: Vec<Piece<'a>>,
    /// By how many frames the next window begins later; at least 1.
    pub(super) frames: u64,
}

/// Frames of a step of timestamps.
const FRAMES_PER_STAMP: u64 = 2;

/// Takes the tokens of a window of `frames` apart. Where the last stretch has no end, it was cut off by the window's:
/// it is left out, and the next window begins with it.
pub(super) fn cut(tokens: &[u32], first_stamp: u32, frames: u64) -> Cut<'_> {
    let stamp = |token: u32| token.checked_sub(first_stamp).map(u64::from);
    let is_stamp = |at: usize| tokens.get(at).is_some_and(|token| *token >= first_stamp);
    // Where one timestamp follows another, a stretch ends and the next begins.
    let mut ends: Vec<usize> =
        (1..tokens.len()).filter(|at| is_stamp(at - 1) && is_stamp(*at)).collect();
    if ends.is_empty() {
        let last = tokens.iter().rev().find_map(|token| stamp(*token)).filter(|last| *last > 0);
        let end = last.unwrap_or(frames / FRAMES_PER_STAMP);
        return Cut { pieces: vec![Piece { start: 0, end, tokens }], frames: frames.max(1) };
    }
    let whole = tokens.len() >= 2 && is_stamp(tokens.len() - 1) && !is_stamp(tokens.len() - 2);
    if whole {
        ends.push(tokens.len());
    }
    let mut pieces = Vec::new();
    let (mut begin, mut reached) = (0, 0);
    for end in ends {
        let tokens = &tokens[begin..end];
        let time = |token: Option<&u32>| token.and_then(|token| stamp(*token)).unwrap_or(0);
        let (start, stop) = (time(tokens.first()), time(tokens.last()));
        pieces.push(Piece { start, end: stop, tokens });
        (begin, reached) = (end, stop);
    }
    let step = if whole { frames } else { reached * FRAMES_PER_STAMP };
    // A model that says that no time has passed would be asked forever.
    Cut { pieces, frames: if step == 0 { frames.max(1) } else { step } }
}

#[cfg(test)]
mod tests {
    use super::*;

    const T: u32 = 100;

    fn times(tokens: &[u32]) -> (Vec<(u64, u64, usize)>, u64) {
        let cut = cut(tokens, T, 3_000);
        (cut.pieces.iter().map(|one| (one.start, one.end, one.tokens.len())).collect(), cut.frames)
    }

    #[test]
    fn stretches_that_are_whole_reach_to_the_end_of_the_window() {
        assert_eq!(times(&[T, 1, 2, T + 50]), (vec![(0, 50, 4)], 3_000));
        let two = [T, 1, T + 50, T + 60, 2, 3, T + 90];
        assert_eq!(times(&two), (vec![(0, 50, 3), (60, 90, 4)], 3_000));
    }

    #[test]
    fn a_stretch_without_an_end_is_left_to_the_next_window() {
        let open = [T, 1, T + 50, T + 60, 2, 3];
        assert_eq!(times(&open), (vec![(0, 50, 3)], 100));
        assert_eq!(times(&[T, 1, T + 50, T + 50]), (vec![(0, 50, 3)], 100));
    }

    #[test]
    fn a_window_of_one_stretch_goes_on_behind_the_window() {
        assert_eq!(times(&[T, 1, 2]), (vec![(0, 1_500, 3)], 3_000));
        assert_eq!(times(&[T + 4, 1, 2]), (vec![(0, 4, 3)], 3_000));
        assert_eq!(times(&[]), (vec![(0, 1_500, 0)], 3_000));
    }

    #[test]
    fn it_always_goes_on() {
        assert_eq!(times(&[T, 1, T, T, 2]).1, 3_000);
        assert_eq!(cut(&[], T, 0).frames, 1);
    }
}
