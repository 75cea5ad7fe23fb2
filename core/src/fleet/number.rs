//! Conversions between counts and numbers to calculate with, each total.

use std::time::Duration;

/// A count to calculate with.
#[expect(clippy::cast_precision_loss, reason = "a count above 2^53 only loses its last digits")]
pub(crate) fn real(count: u64) -> f64 {
    count as f64
}

/// A length to calculate with.
pub(crate) fn size(count: usize) -> f64 {
    real(count as u64)
}

/// A number rounded up to a count; what is below 0 or not a number is 0.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "the cast saturates, and NaN becomes 0"
)]
pub(crate) fn ceil(x: f64) -> u32 {
    x.ceil() as u32
}

/// Seconds as a duration; absurd ones become 0 or a hundred years.
pub(crate) fn duration(seconds: f64) -> Duration {
    const LONGEST: f64 = 3.2e9;
    if seconds.is_nan() {
        Duration::ZERO
    } else {
        Duration::from_secs_f64(seconds.clamp(0.0, LONGEST))
    }
}
