//! How long the machine took until this worker began: the first phase of a cold start.

use std::fs::File;
use std::path::Path;
use std::time::Duration;

/// A worker that begins later did not begin with its machine: it was installed.
const LONGEST_BOOT: Duration = Duration::from_mins(30);

/// Where the system keeps what is a service's until the machine's next boot. Several folders are separated by colons.
const FOLDER: &str = "RUNTIME_DIRECTORY";

/// From the machine's boot to now; none if this is no part of a cold start, or the system does not tell. `port` tells
/// the workers of a machine apart.
///
/// That a worker was restarted is known from a mark in the service's folder. One that is no service of the machine has
/// no such folder: when it begins says nothing about the machine.
pub(crate) fn took(port: u16) -> Option<Duration> {
    let folders = std::env::var(FOLDER).ok()?;
    if !is_first(Path::new(folders.split(':').next()?), port) {
        return None;
    }
    of(&std::fs::read_to_string("/proc/uptime").ok()?)
}

/// Whether this is the first start since the boot, and not the first one any more for those that come.
fn is_first(folder: &Path, port: u16) -> bool {
    File::create_new(folder.join(format!("began-{port}"))).is_ok()
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

    #[test]
    fn a_worker_that_is_restarted_did_not_begin_with_the_machine() {
        let folder = tempfile::tempdir().unwrap();
        let starts = [9464, 9465, 9464].map(|port| is_first(folder.path(), port));
        assert_eq!(starts, [true, true, false]);
        assert!(!is_first(&folder.path().join("missing"), 9464));
    }
}
