//! A small disk of a test's own, which can be full.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, ensure};
use tempfile::TempDir;

/// A file system in memory with a size; gone when dropped.
#[derive(Debug)]
pub struct Tmpfs {
    folder: TempDir,
}

impl Tmpfs {
    /// Mounts one of this size. `None` where this process may not mount: that takes root.
    ///
    /// # Errors
    /// When there is no folder to mount it on.
    pub fn mount(kib: u32) -> anyhow::Result<Option<Self>> {
        let folder = tempfile::Builder::new().prefix("stoker-tmpfs-").tempdir()?;
        let options = size(kib);
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &options, "stoker-test"])
            .arg(folder.path())
            .output()
            .is_ok_and(|output| output.status.success());
        Ok(mounted.then_some(Self { folder }))
    }

    /// Gives it another size.
    ///
    /// # Errors
    /// When it holds more than that.
    pub fn resize(&self, kib: u32) -> anyhow::Result<()> {
        let options = format!("remount,{}", size(kib));
        let status = Command::new("mount").args(["-o", &options]).arg(self.path()).status();
        ensure!(status.context("running mount")?.success(), "the disk cannot be resized");
        Ok(())
    }

    pub fn path(&self) -> &Path {
        self.folder.path()
    }

    /// A path on it.
    pub fn join(&self, name: &str) -> PathBuf {
        self.path().join(name)
    }
}

impl Drop for Tmpfs {
    fn drop(&mut self) {
        // Lazily: a process that is being killed may still hold it.
        let _ = Command::new("umount").arg("--lazy").arg(self.path()).status();
    }
}

fn size(kib: u32) -> String {
    format!("size={kib}k")
}
