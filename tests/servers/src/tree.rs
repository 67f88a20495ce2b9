//! The processes below a process, as `/proc` shows them.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Signal, kill_process};

use crate::limits::{LOOK_EVERY, SIGNAL_MAX};

/// What `/proc/N/stat` says first.
#[derive(Debug, PartialEq, Eq)]
struct Entry {
    pid: i32,
    /// `R`, `S`, `D`: alive; `T`: stopped; `Z`, `X`: ended.
    state: char,
    parent: i32,
    /// Time on a processor so far, with that of children which have ended.
    used: Duration,
}

/// What `/proc` counts processor time in: Linux shows hundredths of a second to every program.
const TICK: Duration = Duration::from_millis(10);

impl Entry {
    /// The name stands in brackets and may hold anything, brackets and spaces too.
    fn read(stat: &str) -> Option<Self> {
        let (pid, rest) = stat.split_once(" (")?;
        let (_, rest) = rest.rsplit_once(") ")?;
        let mut words = rest.split(' ');
        let state = words.next()?.chars().next()?;
        let parent = words.next()?.parse().ok()?;
        // Nine words on: in user mode, in the kernel, and both for children that were waited for.
        let ticks = words.skip(9).take(4).map(|word| word.parse::<u32>().ok());
        let ticks: Vec<_> = ticks.collect::<Option<_>>().filter(|all: &Vec<_>| all.len() == 4)?;
        let used = TICK * ticks.into_iter().sum();
        Some(Self { pid: pid.parse().ok()?, state, parent, used })
    }

    fn of(pid: i32) -> Option<Self> {
        Self::read(&std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
    }

    fn is_over(&self) -> bool {
        matches!(self.state, 'Z' | 'X')
    }
}

/// A process and all below it, the root first.
pub fn below(root: i32) -> Result<Vec<i32>> {
    let entries = std::fs::read_dir("/proc").context("servers are started on Linux only")?;
    let pids = entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    let all: Vec<_> = pids.filter_map(Entry::of).filter(|entry| !entry.is_over()).collect();
    let mut found = vec![root];
    let mut place = 0;
    while let Some(&parent) = found.get(place) {
        found.extend(all.iter().filter(|entry| entry.parent == parent).map(|entry| entry.pid));
        place += 1;
    }
    Ok(found)
}

/// Time that a process and all below it have spent on processors.
pub fn used(root: i32) -> Result<Duration> {
    Ok(below(root)?.into_iter().filter_map(Entry::of).map(|entry| entry.used).sum())
}

/// Sends a signal; one that is already gone needs none.
pub fn send(pid: i32, signal: Signal) -> Result<()> {
    let id = Pid::from_raw(pid).with_context(|| format!("{pid} is no process"))?;
    match kill_process(id, signal) {
        Ok(()) | Err(rustix::io::Errno::SRCH) => Ok(()),
        Err(error) => bail!("cannot send a signal to process {pid}: {error}"),
    }
}

/// Stops a process and all below it, and returns when all of them stand.
///
/// One that still ran may have started another, so the search goes on until it finds nobody new.
pub fn stop(root: i32) -> Result<()> {
    let mut stopped = BTreeSet::new();
    loop {
        let new: Vec<_> = below(root)?.into_iter().filter(|pid| stopped.insert(*pid)).collect();
        if new.is_empty() {
            return Ok(());
        }
        for &pid in &new {
            send(pid, Signal::STOP)?;
        }
        wait_until_all(&new, "stop", |entry| entry.is_over() || entry.state == 'T')?;
    }
}

/// Waits until all of these have ended.
pub fn wait_for_end(pids: &[i32]) -> Result<()> {
    wait_until_all(pids, "end", Entry::is_over)
}

fn wait_until_all(pids: &[i32], what: &str, is_so: impl Fn(&Entry) -> bool) -> Result<()> {
    let deadline = Instant::now() + SIGNAL_MAX;
    for &pid in pids {
        while Entry::of(pid).is_some_and(|entry| !is_so(&entry)) {
            if Instant::now() > deadline {
                bail!("process {pid} did not {what} within {SIGNAL_MAX:?}");
            }
            std::thread::park_timeout(LOOK_EVERY);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_brackets_does_not_confuse() {
        let stat = "12 (a) S 3 (b)) T 7 12 12 0 -1 4194560 500 0 0 0 3 4 10 20 20 0 1";
        let entry = Entry::read(stat).expect("well formed");
        let used = Duration::from_millis(370);
        assert_eq!(entry, Entry { pid: 12, state: 'T', parent: 7, used });
        assert_eq!(Entry::read("12 no brackets"), None);
    }

    #[test]
    fn this_process_is_below_its_parent() {
        let us = i32::try_from(std::process::id()).expect("a process id");
        let parent = Entry::of(us).expect("we are there").parent;
        let found = below(parent).expect("listed");
        assert_eq!(found.first(), Some(&parent));
        assert!(found.contains(&us));
    }
}
