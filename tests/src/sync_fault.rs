//! A disk that is slow to sync, or cannot: a library that is loaded into a program of a test.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, ensure};
use tempfile::TempDir;

const SOURCE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/fixtures/fsync_fault.c");

/// The library, and the switch that its programs look at.
#[derive(Debug)]
pub struct SyncFault {
    library: PathBuf,
    switch: PathBuf,
    _folder: TempDir,
}

impl SyncFault {
    /// Compiles it with the C compiler that the build needs anyway.
    ///
    /// # Errors
    /// With what the compiler said.
    pub fn build() -> anyhow::Result<Self> {
        let folder = tempfile::Builder::new().prefix("stoker-fsync-").tempdir()?;
        let library = folder.path().join("fsync_fault.so");
        let output = Command::new("cc")
            .args(["-shared", "-fPIC", "-O1", "-o"])
            .arg(&library)
            .arg(SOURCE)
            .arg("-ldl")
            .output()
            .context("running cc")?;
        ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let switch = folder.path().join("switch");
        Ok(Self { library, switch, _folder: folder })
    }

    /// Environment of a program that is to have such a disk.
    pub fn environment(&self) -> [(&'static str, &str); 2] {
        [("LD_PRELOAD", text(&self.library)), ("FSYNC_FAULT", text(&self.switch))]
    }

    /// From now on syncs fail.
    ///
    /// # Errors
    /// When the switch cannot be written.
    pub fn fail(&self) -> anyhow::Result<()> {
        Ok(std::fs::write(&self.switch, "fail")?)
    }

    /// From now on each sync takes so long.
    ///
    /// # Errors
    /// As [`SyncFault::fail`].
    pub fn slow(&self, millis: u32) -> anyhow::Result<()> {
        Ok(std::fs::write(&self.switch, millis.to_string())?)
    }

    /// The disk is well again.
    ///
    /// # Errors
    /// When the switch cannot be removed.
    pub fn mend(&self) -> anyhow::Result<()> {
        Ok(std::fs::remove_file(&self.switch)?)
    }
}

fn text(path: &Path) -> &str {
    path.to_str().expect("a path that was made of ASCII")
}
