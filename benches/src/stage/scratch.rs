//! A directory on a disk, gone when it is dropped.
//!
//! **Invariant:** never in memory: a commit that waits for no disk says nothing about one that does.

use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use rustix::fs::{FsWord, statfs};

/// What `statfs` calls a file system in memory (`TMPFS_MAGIC` of Linux's `magic.h`).
const TMPFS: FsWord = 0x0102_1994;

/// A directory for one bench.
pub struct Scratch(tempfile::TempDir);

impl Scratch {
    /// Makes one below `TMPDIR`, or beside this program if that is not set.
    ///
    /// # Errors
    /// When the directory lies in memory or cannot be made.
    pub fn new() -> anyhow::Result<Self> {
        let base = match std::env::var_os("TMPDIR") {
            Some(base) => PathBuf::from(base),
            None => beside_program()?,
        };
        refuse_memory(&base)?;
        let made = tempfile::Builder::new()
            .prefix("keybaton-bench-")
            .tempdir_in(&base)
            .with_context(|| format!("making a directory in {}", base.display()))?;
        Ok(Self(made))
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        self.0.path()
    }
}

fn beside_program() -> anyhow::Result<PathBuf> {
    let program = std::env::current_exe().context("finding this program's own directory")?;
    let folder = program.parent().context("this program lies nowhere")?;
    Ok(folder.to_owned())
}

/// Refuses a directory in memory.
///
/// # Errors
/// When it lies there, or cannot be inspected.
pub fn refuse_memory(base: &Path) -> anyhow::Result<()> {
    let system = statfs(base).with_context(|| format!("inspecting {}", base.display()))?;
    if system.f_type == TMPFS {
        bail!(
            "{} lies in memory (tmpfs), where a commit waits for no disk; \
             set TMPDIR to a directory on a disk",
            base.display()
        );
    }
    Ok(())
}
