//! A port of this machine that nobody else's test gets.
//!
//! A server that is killed and restarted must find its port again, so the port belongs to it all
//! that time. A locked file says so to the other tests of the same user; everybody else is seen by
//! trying to listen.

use std::fs::{File, OpenOptions};
use std::net::{Ipv4Addr, TcpListener};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::{Context, Result, bail};
use rustix::fs::FlockOperation;

use crate::limits::PORTS;

/// A port and the right to use it.
pub struct Port {
    /// Its number.
    pub number: u16,
    /// Whoever holds the lock on this file owns the port.
    _claim: File,
}

impl Port {
    /// Takes a port on which nobody listens.
    pub fn claim() -> Result<Self> {
        let folder = folder();
        std::fs::create_dir_all(&folder)
            .with_context(|| format!("cannot make {}", folder.display()))?;
        let count = u32::from(PORTS.end() - PORTS.start()) + 1;
        for _ in 0..count {
            let number = next(count);
            let path = folder.join(number.to_string());
            let file = OpenOptions::new().create(true).append(true).open(&path);
            let file = file.with_context(|| format!("cannot write {}", path.display()))?;
            let is_ours = rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive);
            if is_ours.is_ok() && is_free(number) {
                return Ok(Self { number, _claim: file });
            }
        }
        bail!("no port between {} and {} is free", PORTS.start(), PORTS.end())
    }
}

/// Whether nobody listens there.
pub fn is_free(number: u16) -> bool {
    TcpListener::bind((Ipv4Addr::LOCALHOST, number)).is_ok()
}

/// The next one to try. Processes begin at different places, so that they seldom meet.
fn next(count: u32) -> u16 {
    static TRIED: AtomicU32 = AtomicU32::new(0);
    let tried = TRIED.fetch_add(1, Ordering::Relaxed);
    // A step without a factor in common with the count visits all of them.
    let place = (std::process::id().wrapping_mul(97).wrapping_add(tried.wrapping_mul(37))) % count;
    let offset = u16::try_from(place).expect("there are fewer ports than that");
    PORTS.start() + offset
}

fn folder() -> PathBuf {
    let user = rustix::process::getuid().as_raw();
    std::env::temp_dir().join(format!("keybaton-ports-{user}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_claimed_port_is_given_to_nobody_else() {
        let ports: Vec<_> = (0..50).map(|_| Port::claim().expect("a port")).collect();
        let mut numbers: Vec<_> = ports.iter().map(|port| port.number).collect();
        numbers.sort_unstable();
        numbers.dedup();
        assert_eq!(numbers.len(), 50);
        assert!(numbers.iter().all(|number| PORTS.contains(number)));
    }

    #[test]
    fn a_port_on_which_somebody_listens_is_not_free() {
        let port = Port::claim().expect("a port");
        assert!(is_free(port.number));
        let _somebody = TcpListener::bind((Ipv4Addr::LOCALHOST, port.number)).expect("listens");
        assert!(!is_free(port.number));
    }
}
