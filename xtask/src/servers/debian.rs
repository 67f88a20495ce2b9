//! Redis from Debian's or Ubuntu's package, without the service that comes with it.
//!
//! Installing `redis-server` would start a Redis on the usual port and at every boot. The program
//! itself lies in `redis-tools` under another name, because it is one program for both: it looks at
//! the name it was called by.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail};
use keybaton_servers::program::{Kind, on_path};

use crate::servers::place;
use crate::shell::Shell;

const HOW: &str = "install redis, so that `redis-server` is on the search path";

/// The program in `redis-tools`.
const OTHER_NAME: &str = "redis-check-rdb";

/// Installs `redis-tools` where this runs as root, and gives the program its own name in the cache.
pub fn redis(shell: &Shell, cache: &Path) -> Result<()> {
    if on_path(OTHER_NAME).is_none() {
        install(shell)?;
    }
    let program = on_path(OTHER_NAME).context(HOW)?;
    let place = cache.join(Kind::Redis.place());
    let part = place::begin(cache, "redis")?;
    let link = part.join(Kind::Redis.program());
    std::os::unix::fs::symlink(&program, &link).context("cannot write into the cache")?;
    let asked = shell.run_quietly("redis-server", place::asked_for_its_version(&link))?;
    if !asked.is_ok || !asked.text.starts_with("Redis server") {
        place::remove(&part)?;
        bail!("{OTHER_NAME} is not the server on this system; {HOW}");
    }
    place::finish(&part, place.parent().context("it has a place")?)
}

fn install(shell: &Shell) -> Result<()> {
    let is_root = Command::new("id").arg("-u").output();
    let is_root = is_root.is_ok_and(|answer| answer.stdout.trim_ascii() == b"0");
    if !is_root || on_path("apt-get").is_none() {
        bail!("{HOW}");
    }
    let apt = |line: &str| {
        let mut command = Command::new("apt-get");
        command.args(line.split(' ')).env("DEBIAN_FRONTEND", "noninteractive");
        command
    };
    shell.run("package lists", apt("update --quiet=2"))?;
    let line = "install --yes --quiet=2 --no-install-recommends redis-tools";
    if !shell.run("package", apt(line))?.is_ok {
        bail!("the package could not be installed; see above, or {HOW}");
    }
    Ok(())
}
