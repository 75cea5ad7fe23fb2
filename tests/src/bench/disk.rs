//! What the disk can do: it decides every rate that waits for it.

use std::fs::File;
use std::io::Write as _;
use std::path::Path;
use std::time::{Duration, Instant};

use super::sample::Sample;

/// Appends and syncs blocks of 4 KiB for two seconds.
///
/// # Errors
/// When the file cannot be written.
pub fn calibrate(folder: &Path) -> anyhow::Result<Sample> {
    let path = folder.join("fsync-calibration");
    let mut file = File::create(&path)?;
    let block = [7_u8; 4096];
    let mut sample = Sample::new();
    let deadline = Instant::now() + Duration::from_secs(2);
    while Instant::now() < deadline {
        let began = Instant::now();
        file.write_all(&block)?;
        file.sync_data()?;
        sample.note(began);
    }
    std::fs::remove_file(path)?;
    Ok(sample)
}
