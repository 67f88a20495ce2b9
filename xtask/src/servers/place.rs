//! The cache: made open to everybody, and filled in one move.
//!
//! Everybody may enter and read it, because tests that run as root start their servers as `nobody`.

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

/// Makes a directory and those above it that are missing.
pub fn make_open(folder: &Path) -> Result<()> {
    if folder.is_dir() {
        return Ok(());
    }
    if let Some(above) = folder.parent() {
        make_open(above)?;
    }
    std::fs::create_dir(folder).with_context(|| format!("cannot make {}", folder.display()))?;
    open(folder, 0o755)
}

/// Makes an empty directory beside the place that it is meant for.
pub fn begin(cache: &Path, name: &str) -> Result<PathBuf> {
    let folder = cache.join(format!("{name}.part"));
    if folder.exists() {
        remove(&folder)?;
    }
    make_open(&folder)?;
    Ok(folder)
}

/// Moves what is whole to its place.
pub fn finish(from: &Path, to: &Path) -> Result<()> {
    if let Some(above) = to.parent() {
        make_open(above)?;
    }
    if to.is_dir() {
        remove(to)?;
    }
    std::fs::rename(from, to).with_context(|| format!("cannot move it to {}", to.display()))
}

/// Removes a directory with all that is in it.
pub fn remove(folder: &Path) -> Result<()> {
    std::fs::remove_dir_all(folder).with_context(|| format!("cannot remove {}", folder.display()))
}

/// Lets everybody read all of it, and start what lies in a folder of programs or is the program.
pub fn open_all(folder: &Path, program: &str) -> Result<()> {
    let holds_programs = folder.file_name().is_some_and(|name| name == "bin");
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        let is_program = path.file_name().is_some_and(|name| name == program);
        if path.is_symlink() {
            continue;
        } else if path.is_dir() {
            open_all(&path, program)?;
        } else {
            open(&path, if holds_programs || is_program { 0o755 } else { 0o644 })?;
        }
    }
    open(folder, 0o755)
}

/// Sets the mode of a file.
pub fn open(path: &Path, mode: u32) -> Result<()> {
    std::fs::set_permissions(path, Permissions::from_mode(mode))
        .with_context(|| format!("cannot open {} to others", path.display()))
}

/// The command that shows whether a program starts at all.
pub fn asked_for_its_version(program: &Path) -> Command {
    let mut command = Command::new(program);
    command.arg("--version");
    command
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mode(path: &Path) -> u32 {
        std::fs::metadata(path).expect("there").permissions().mode() & 0o777
    }

    #[test]
    fn what_is_unpacked_can_be_read_and_its_programs_started_by_everybody() {
        let root = tempfile::tempdir().expect("a directory");
        let part = begin(root.path(), "x-1").expect("begun");
        std::fs::create_dir_all(part.join("bin")).expect("made");
        for name in ["bin/tool", "server", "data"] {
            std::fs::write(part.join(name), "").expect("written");
            open(&part.join(name), 0o600).expect("closed");
        }
        open_all(&part, "server").expect("opened");
        let modes = ["bin", "bin/tool", "server", "data"].map(|name| mode(&part.join(name)));
        assert_eq!(modes, [0o755, 0o755, 0o755, 0o644]);
        let place = root.path().join("x-1");
        finish(&part, &place).expect("moved");
        assert!(place.join("server").is_file() && !part.exists());
    }

    #[test]
    fn what_was_left_half_done_is_begun_anew() {
        let root = tempfile::tempdir().expect("a directory");
        let part = begin(root.path(), "x-1").expect("begun");
        std::fs::write(part.join("torn"), "").expect("written");
        let part = begin(root.path(), "x-1").expect("begun again");
        assert!(!part.join("torn").exists());
    }
}
