//! What bounds the oracle.

/// Longest line that is read. The longest are tasks with all of their entries on one line:
/// 100 000 entries of a few hundred bytes fit twice.
pub(crate) const LINE_BYTES_MAX: u64 = 64 * 1024 * 1024;

/// Read-ahead of one file: large enough that system calls do not show.
pub(crate) const READ_BUFFER_BYTES: usize = 256 * 1024;

/// Violations that are spelled out for one rule; the rest is counted. A person reads the first
/// few, and a run that breaks one rule a thousand times has one cause.
pub(crate) const VIOLATIONS_LISTED_MAX: usize = 20;

/// How far the time of a kill, told by the killer, and the end of a call, told by the provider,
/// may lie apart. Both read the clock of one machine; the provider notices a dead peer at once
/// when it reads, and within a stream's chunk interval when it only writes.
pub(crate) const KILL_SLACK_US: u64 = 1_000_000;

/// The same for a call that its key's death ended, where the provider did not see the caller go.
/// Only the killer's clock may be off here, and a killer that remembers when its victim last
/// moved is early by no more than this.
pub(crate) const KILL_CUT_SLACK_US: u64 = 200_000;
