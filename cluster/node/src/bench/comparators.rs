//! Other ways to replace a key, under the same agents: by the clock, by polling, by restarting.
//!
//! Each way with each wait has agents, a provider and a ledger of its own, and all of them run at
//! the same time; the oracle judges each alone.
//!
//! **Invariant:** an agent takes the steps that it would take under keybaton.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use arc_swap::ArcSwap;
use futures::future::try_join_all;
use keybaton::messages::{TaskId, TaskKey, TenantId};
use keybaton_oracle::{Files, PairName, Rules, judge_files};
use serde_json::Value;
use tokio::sync::watch;
use tokio::time::Instant;

use super::super::demo::ProviderClass;
use super::super::demo::agents::{Errand, Stop, visit};
use super::super::demo::naive::{Administration, FoundKey, Issued, idem, line, pair_line, result};
use super::super::demo::stage::{PROVIDER, Vendor};
use super::limits::{AFTERMATH_STEPS, CLOCK_WAITS_S, POLL_EVERY_S, TRIES};
use super::load::Load;
use super::options::{Comparator, DrainArgs};
use super::summary::CaseSummary;

const TENANT: &str = "tenant-00000";

/// Agents of a comparator when nothing is said: a share of 1 % can be told from none.
const TASKS_USUAL: u32 = 100;

/// One way with one wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Case {
    way: Comparator,
    wait: Duration,
}

impl Case {
    fn name(self) -> &'static str {
        match self.way {
            Comparator::Clock => "clock",
            Comparator::Restart => "restart",
            Comparator::Poll => "poll",
        }
    }

    /// How often an agent that keeps its key reads it again; `None`: never.
    fn reads_again_after(self) -> Option<Duration> {
        (self.way == Comparator::Poll).then_some(self.wait)
    }
}

/// The cases that were asked for.
pub fn cases(args: &DrainArgs) -> Vec<Case> {
    let mut ways = args.comparators.clone();
    ways.sort_unstable();
    ways.dedup();
    let swept = |way, seconds: &[u64]| {
        let waits = seconds.iter().map(|s| Duration::from_secs(*s));
        let within = waits.filter(|wait| *wait <= args.wait_max);
        within.map(|wait| Case { way, wait }).collect::<Vec<_>>()
    };
    ways.into_iter()
        .flat_map(|way| match way {
            Comparator::Clock => swept(way, &CLOCK_WAITS_S),
            Comparator::Poll => swept(way, &POLL_EVERY_S),
            Comparator::Restart => vec![Case { way, wait: Duration::ZERO }],
        })
        .collect()
}

/// How long they take: the longest wait, and a boundary for everybody before and after it.
pub fn duration(args: &DrainArgs, cases: &[Case]) -> Duration {
    let longest = cases.iter().map(|case| case.wait).max().unwrap_or_default();
    if cases.is_empty() { longest } else { longest + flight(args) + aftermath(args) }
}

/// Until every agent is somewhere in its work.
fn flight(args: &DrainArgs) -> Duration {
    args.step_dist.mean() * 2 + Duration::from_secs(1)
}

fn aftermath(args: &DrainArgs) -> Duration {
    args.step_dist.p99() * AFTERMATH_STEPS + Duration::from_secs(1)
}

/// Runs all cases at once and has each one judged.
///
/// # Errors
/// When a provider cannot be started, or a case leaves no evidence.
pub async fn run(
    args: &DrainArgs,
    load: &Arc<Load>,
    dir: &Path,
    cases: &[Case],
) -> anyhow::Result<Vec<CaseSummary>> {
    let http = reqwest::Client::new();
    let number = args.comparator_tasks.unwrap_or_else(|| args.tasks.min(TASKS_USUAL));
    let runs = cases.iter().map(|case| {
        let dir = dir.join(format!("{}-{}", case.name(), case.wait.as_secs()));
        let crew = Crew { case: *case, load: load.clone(), http: http.clone(), dir, number };
        crew.run(flight(args), aftermath(args))
    });
    try_join_all(runs).await
}

/// The agents of one case.
struct Crew {
    case: Case,
    load: Arc<Load>,
    http: reqwest::Client,
    dir: PathBuf,
    number: u32,
}

/// What one life of an agent came to.
struct Life {
    key: TaskKey,
    state: &'static str,
    entries: Vec<Value>,
    /// How long it worked, the step that broke off included.
    worked: Duration,
}

/// What all agents of a crew share.
struct Shared {
    base_url: String,
    /// Where the new key is put.
    place: ArcSwap<Issued>,
    is_closing: AtomicBool,
    /// Everybody is killed.
    kill: watch::Sender<bool>,
}

impl Crew {
    async fn run(self, flight: Duration, aftermath: Duration) -> anyhow::Result<CaseSummary> {
        std::fs::create_dir_all(&self.dir)?;
        let vendor = Vendor::inside(self.dir.join("provider"), ProviderClass::A).await?;
        let admin = Administration { http: self.http.clone(), base_url: vendor.base_url.clone() };
        let old = admin.issue(TENANT, "kb1-other-1").await?;
        let shared = Arc::new(Shared {
            base_url: vendor.base_url.clone(),
            place: ArcSwap::from_pointee(old.clone()),
            is_closing: AtomicBool::new(false),
            kill: watch::channel(false).0,
        });
        let mut at_work = self.begin(&shared, "");
        tokio::time::sleep(flight).await;
        let new = admin.issue(TENANT, "kb1-other-2").await?;
        shared.place.store(Arc::new(new.clone()));
        let mut lives = Vec::new();
        if self.case.way == Comparator::Restart {
            shared.kill.send_replace(true);
            for life in at_work {
                lives.push(life.await?);
            }
            shared.kill.send_replace(false);
            at_work = self.begin(&shared, "-again");
        }
        tokio::time::sleep(self.case.wait).await;
        admin.revoke(TENANT, &old).await?;
        tokio::time::sleep(aftermath).await;
        shared.is_closing.store(true, Ordering::Relaxed);
        for life in at_work {
            lives.push(life.await?);
        }
        let ledger = vendor.ledger.clone();
        vendor.close().await;
        self.judge(ledger, &lives, &old, &new)
    }

    fn begin(&self, shared: &Arc<Shared>, behind: &str) -> Vec<tokio::task::JoinHandle<Life>> {
        let tenant = TenantId::new(TENANT).expect("the name is a constant");
        let lives = (0..self.number).map(|number| {
            let task = TaskId::new(&format!("agent-{number:06}{behind}"));
            let task = task.expect("digits and a constant are a name");
            let agent = Agent {
                number,
                key: TaskKey { tenant: tenant.clone(), task },
                load: self.load.clone(),
                http: self.http.clone(),
                shared: shared.clone(),
                reads_again_after: self.case.reads_again_after(),
            };
            tokio::spawn(agent.live())
        });
        lives.collect()
    }

    fn judge(
        &self,
        ledger: PathBuf,
        lives: &[Life],
        old: &Issued,
        new: &Issued,
    ) -> anyhow::Result<CaseSummary> {
        let (tasks, pairs) = (self.dir.join("tasks.jsonl"), self.dir.join("pairs.jsonl"));
        let mut file = BufWriter::new(File::create(&tasks)?);
        for life in lives {
            writeln!(file, "{}", line(&life.key, None, life.state, &life.entries))?;
        }
        file.flush()?;
        std::fs::write(&pairs, format!("{}\n", pair_line(TENANT, &[old, new])))?;
        let rules = Rules {
            rotated: vec![PairName::new(TENANT, PROVIDER)],
            tasks_expected: Some(lives.len() as u64),
            ..Rules::default()
        };
        let verdict = judge_files(&Files { ledger, tasks, pairs, audit: None }, &rules)?;
        let lost = || lives.iter().filter(|life| life.state != "done");
        let worked: Duration = lost().map(|life| life.worked).sum();
        Ok(CaseSummary {
            name: self.case.name(),
            wait_s: self.case.wait.as_secs_f64(),
            tasks: u64::from(self.number),
            dropped: verdict.tasks_dropped,
            refused: verdict.calls_refused,
            interrupted: verdict.calls_interrupted,
            harmed: verdict.tasks_dropped as f64 / f64::from(self.number),
            work_lost_steps: lost().map(|life| life.entries.len() as u64).sum(),
            work_lost_s: worked.as_secs_f64(),
            verdict,
        })
    }
}

/// An agent without keybaton: a key that it found, and nothing to fall back on.
struct Agent {
    number: u32,
    key: TaskKey,
    load: Arc<Load>,
    http: reqwest::Client,
    shared: Arc<Shared>,
    reads_again_after: Option<Duration>,
}

impl Agent {
    async fn live(self) -> Life {
        let mut killed = self.shared.kill.subscribe();
        let begun = Instant::now();
        let mut entries = Vec::new();
        let state = tokio::select! {
            biased;
            _ = killed.wait_for(|is_killed| *is_killed) => "failed",
            state = self.work(&mut entries) => state,
        };
        Life { key: self.key, state, entries, worked: begun.elapsed() }
    }

    async fn work(&self, entries: &mut Vec<Value>) -> &'static str {
        let mut found = None;
        for step in 0.. {
            let idem = idem(&self.key, step);
            let (own_work, stop) = self.load.step(self.number, step);
            Load::work(own_work).await;
            let mut tries = 0;
            while !self.call(step, stop, &idem, &mut found).await {
                tries += 1;
                if tries >= TRIES {
                    return "failed";
                }
            }
            entries.push(result(step, &idem));
            if self.shared.is_closing.load(Ordering::Relaxed) {
                break;
            }
        }
        "done"
    }

    /// One try of a step's call, under the key that the agent has or finds.
    async fn call(&self, step: u64, stop: Stop, idem: &str, found: &mut Option<Found>) -> bool {
        // One that keeps its key found it when it began, as a client object does that is built
        // once; when polling, it looks again after its time. The others look before each call.
        let may_keep =
            |it: &Found| self.reads_again_after.is_none_or(|after| it.since.elapsed() < after);
        if !self.load.keeps_key(self.number) || !found.as_ref().is_some_and(may_keep) {
            let key = FoundKey::new(self.http.clone(), &self.shared.place.load());
            *found = key.map(|key| Found { key, since: Instant::now() });
        }
        let Some(Found { key, .. }) = found else { return false };
        let (base_url, task) = (self.shared.base_url.as_str(), &self.key);
        let errand = Errand { base_url, task, step, idem };
        visit(key, &errand, stop).await.is_ok()
    }
}

/// A key, and when it was found.
struct Found {
    key: FoundKey,
    since: Instant,
}
