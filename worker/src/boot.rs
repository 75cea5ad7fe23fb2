//! How long the machine took until this worker began: the first phase of a cold start.

use std::time::Duration;

/// A worker that begins later did not begin with its machine: it was installed or restarted.
const LONGEST_BOOT: Duration = Duration::from_mins(30);

/// From the machine's boot to now; none if this is no part of a cold start, or the system does not tell.
pub(crate) fn took() -> Option<Duration> {
    of(&std::fs::read_to_string("/proc/uptime").ok()?)
}

/// Of the system's `uptime`: seconds since the boot, then something else.
fn of(uptime: &str) -> Option<Duration> {
    let seconds = uptime.split_whitespace().next()?.parse().ok()?;
    Duration::try_from_secs_f64(seconds).ok().filter(|up| *up <= LONGEST_BOOT)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_boot_is_part_of_a_cold_start_when_the_worker_began_with_the_machine() {
        assert_eq!(of("35.25 101.50\n"), Some(Duration::from_millis(35_250)));
        assert_eq!(of("86400.00 1.00\n"), None);
        for unreadable in ["", "up", "-1 2", "NaN 1"] {
            assert_eq!(of(unreadable), None, "{unreadable}");
        }
    }
}
