//! Where a run took place: figures mean nothing without it.

use std::io::Write;
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use keybaton::StoreNames;
use serde::Serialize;

use super::super::cli::StoreArgs;
use super::super::demo::{HAND_OVER_BYTES, bare};
use super::limits::{DATABASE_COMMITS, FSYNCS, LOAD_SHARE_MAX};
use super::times::micros;

/// A machine, a build, a disk.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Environment {
    /// The source tree's commit when the run began; `+` if it had changes on top.
    pub commit: String,
    /// This program's version.
    pub version: &'static str,
    /// What built this program.
    pub compiler: &'static str,
    /// Whether it was built with optimisation.
    pub optimised: bool,
    /// The processor's name.
    pub cpu: String,
    /// Cores that this process may use.
    pub cores: usize,
    /// What decides about the processor's clock, where the kernel tells.
    pub governor: Option<String>,
    /// Processor time of the control group, `max` for no bound, where there is one.
    pub cpu_max: Option<String>,
    /// Memory of the machine in KiB.
    pub memory_kib: Option<u64>,
    /// The kernel.
    pub kernel: String,
    /// The file system that the run worked on.
    pub file_system: String,
    /// Median of bare commits of redb beside the run's files, microseconds.
    pub bare_commit_us: u64,
    /// Bytes of each of these commits.
    pub bare_commit_bytes: usize,
    /// Median of bare commits of as many bytes in the journal's own database, microseconds, where
    /// the journal lies in Postgres.
    pub database_commit_us: Option<u64>,
    /// Median of writes of 4 KiB with an fsync, microseconds.
    pub fsync_us: u64,
    /// Processes that wanted a processor in the minute before the run, where the kernel tells.
    pub load_before: Option<f64>,
    /// What the run under keybaton used.
    #[serde(flatten)]
    pub used: Used,
}

/// What the process had used when its agents had ended: provider, node and agents, from the
/// beginning; the judge and the comparators come later.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Used {
    /// The most memory at any moment, in KiB.
    pub memory_peak_kib: Option<u64>,
    /// Processor time, seconds.
    pub cpu_time_s: Option<f64>,
    /// Time that a hypervisor gave the machine's processors to others while somebody here wanted
    /// them, seconds over all of them during the run; where the kernel tells.
    pub stolen_s: Option<f64>,
}

impl Used {
    /// What the process has used by now.
    pub fn by_now() -> Self {
        let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
        let used = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
        let seconds = used.tv_sec as f64 + used.tv_nsec as f64 / 1e9;
        Self {
            memory_peak_kib: kib_of(&status, "VmHWM"),
            cpu_time_s: Some((seconds * 100.0).round() / 100.0),
            stolen_s: stolen_s(&std::fs::read_to_string("/proc/stat").unwrap_or_default()),
        }
    }

    /// The same, with what was stolen only after `before`; all else is counted from the beginning
    /// of the process anyway.
    pub fn since(self, before: Self) -> Self {
        let stolen = self.stolen_s.zip(before.stolen_s).map(|(by_now, then)| by_now - then);
        Self { stolen_s: stolen.map(|s| (s * 100.0).round() / 100.0), ..self }
    }
}

/// Stolen time of all processors since the machine was started, of `/proc/stat`: the eighth number of
/// its first line, in hundredths of a second on every architecture.
fn stolen_s(stat: &str) -> Option<f64> {
    let mut words = stat.lines().next()?.split_whitespace();
    (words.next()? == "cpu").then_some(())?;
    let hundredths: f64 = words.nth(7)?.parse().ok()?;
    Some(hundredths / 100.0)
}

impl Environment {
    /// Looks around, and measures the disk below `dir`. Nothing else should run meanwhile.
    ///
    /// # Errors
    /// When the disk cannot be written.
    pub fn look(dir: &Path) -> anyhow::Result<Self> {
        let text =
            |path: &str| std::fs::read_to_string(path).ok().map(|text| text.trim().to_owned());
        let cpuinfo = text("/proc/cpuinfo").unwrap_or_default();
        Ok(Self {
            commit: commit(),
            version: env!("CARGO_PKG_VERSION"),
            compiler: env!("KEYBATON_COMPILER"),
            optimised: !cfg!(debug_assertions),
            cpu: value_of(&cpuinfo, "model name").unwrap_or_else(|| std::env::consts::ARCH.into()),
            cores: std::thread::available_parallelism().map_or(1, std::num::NonZero::get),
            governor: text("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor"),
            cpu_max: text("/sys/fs/cgroup/cpu.max"),
            memory_kib: text("/proc/meminfo").and_then(|text| kib_of(&text, "MemTotal")),
            kernel: text("/proc/sys/kernel/osrelease").unwrap_or_else(|| "unknown".into()),
            file_system: file_system(dir),
            bare_commit_us: micros(bare::commit_median(dir, HAND_OVER_BYTES)?),
            bare_commit_bytes: HAND_OVER_BYTES,
            database_commit_us: None,
            fsync_us: micros(fsync_median(dir)?),
            load_before: text("/proc/loadavg")
                .and_then(|text| text.split(' ').next()?.parse().ok()),
            used: Used::by_now(),
        })
    }
}

impl Environment {
    /// Measures the database that the journal lies in, before the journal does.
    ///
    /// # Errors
    /// When it is away, or refuses.
    pub async fn look_at_database(&mut self, stores: &StoreArgs) -> anyhow::Result<()> {
        let Some(settings) = stores.journal_in_postgres() else { return Ok(()) };
        let times = settings.bare_commits(DATABASE_COMMITS, HAND_OVER_BYTES).await;
        let mut times = times.context("a bare commit of the journal's database")?;
        times.sort_unstable();
        self.database_commit_us = times.get(times.len() / 2).map(|median| micros(*median));
        Ok(())
    }

    /// What one bare commit costs where the journal lies, microseconds.
    pub fn journal_commit_us(&self, stores: &StoreNames) -> Option<u64> {
        let is_here = stores.journal == StoreNames::embedded().journal;
        if is_here { Some(self.bare_commit_us) } else { self.database_commit_us }
    }

    /// Whether others were at work when the run began.
    pub fn is_busy(&self) -> bool {
        self.load_before.is_some_and(|load| load > LOAD_SHARE_MAX * self.cores as f64)
    }
}

/// The value behind `name` in text like `name : value`.
fn value_of(text: &str, name: &str) -> Option<String> {
    let line = text.lines().find(|line| line.starts_with(name))?;
    Some(line.split_once(':')?.1.trim().to_owned())
}

fn kib_of(text: &str, name: &str) -> Option<u64> {
    value_of(text, name)?.strip_suffix(" kB")?.parse().ok()
}

/// Of the tree that the program was built in, if it is still there.
fn commit() -> String {
    let git = |args: &[&str]| {
        let tree = env!("CARGO_MANIFEST_DIR");
        let output = Command::new("git").arg("-C").arg(tree).args(args).output().ok();
        let output = output.filter(|output| output.status.success())?;
        String::from_utf8(output.stdout).ok()
    };
    let Some(commit) = git(&["rev-parse", "--short=12", "HEAD"]) else {
        return "unknown".into();
    };
    let is_changed = git(&["status", "--porcelain", "-uno"]).is_some_and(|lines| !lines.is_empty());
    format!("{}{}", commit.trim(), if is_changed { "+" } else { "" })
}

/// The type of the mount that a directory is on.
fn file_system(dir: &Path) -> String {
    let dir = dir.canonicalize().unwrap_or_else(|_| dir.to_owned());
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let found = mounts.lines().filter_map(|line| {
        // Fields before the dash vary in number; the fifth is the place, the first behind it the type.
        let (mount, rest) = line.split_once(" - ")?;
        let place = mount.split(' ').nth(4)?;
        dir.starts_with(place).then(|| (place.len(), rest.split(' ').next().unwrap_or_default()))
    });
    found.max_by_key(|(length, _)| *length).map_or_else(|| "unknown".into(), |it| it.1.to_owned())
}

fn fsync_median(dir: &Path) -> anyhow::Result<Duration> {
    let mut file = tempfile::tempfile_in(dir)?;
    let block = [0x5a; 4096];
    file.write_all(&block)?;
    let mut times = Vec::with_capacity(FSYNCS);
    for _ in 0..FSYNCS {
        let begun = Instant::now();
        file.write_all_at(&block, 0)?;
        file.sync_data()?;
        times.push(begun.elapsed());
    }
    times.sort_unstable();
    Ok(times[times.len() / 2])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_machine_the_build_and_the_disk_are_named() {
        let dir = tempfile::tempdir().expect("a directory");
        let mut found = Environment::look(dir.path()).expect("looked");
        found.used = Used::by_now();
        assert!(found.compiler.starts_with("rustc "), "{found:?}");
        assert!(found.cores > 0 && !found.cpu.is_empty() && found.kernel.contains('.'));
        assert_ne!(found.file_system, "unknown", "{found:?}");
        assert!(found.bare_commit_us > 0 && found.used.memory_peak_kib > Some(1000), "{found:?}");
        assert!(std::fs::read_dir(dir.path()).expect("read").next().is_none(), "nothing is left");
        assert!(found.load_before >= Some(0.0), "{found:?}");
    }

    #[test]
    fn what_a_hypervisor_took_is_counted_from_the_beginning_of_the_run() {
        let stat = "cpu  10 20 30 40 50 60 70 1234 0 0\ncpu0 1 2 3 4 5 6 7 8 0 0\n";
        assert_eq!(stolen_s(stat), Some(12.34));
        assert_eq!((stolen_s(""), stolen_s("intr 1 2 3 4 5 6 7 8 9")), (None, None));
        let at = |stolen_s| Used { stolen_s, ..Used::default() };
        assert_eq!(at(Some(12.34)).since(at(Some(12.0))).stolen_s, Some(0.34));
        assert_eq!(at(None).since(at(Some(12.0))).stolen_s, None);
    }

    #[test]
    fn a_machine_with_work_for_most_of_its_cores_is_busy() {
        let with = |load_before| Environment { cores: 2, load_before, ..Environment::default() };
        assert!(with(Some(1.5)).is_busy());
        assert!(!with(Some(0.4)).is_busy() && !with(None).is_busy());
    }
}
