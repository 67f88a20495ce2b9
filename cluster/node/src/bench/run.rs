//! The story of `bench drain`: agents work, keys are rotated on schedule, the oracle judges, and
//! all of it is written down.

use std::io::IsTerminal as _;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, SystemTime};

use anyhow::{Context as _, ensure};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use keybaton::StoreNames;
use keybaton_oracle::{Held, PairName, Rules, Verdict};
use rustix::process::{Resource, getrlimit};
use tokio::sync::watch;
use tokio::time::Instant;

use super::super::demo::stage::PROVIDER;
use super::super::demo::{ProviderClass, Servers, interrupt, judging, note};
use super::charts;
use super::comparators;
use super::environment::{Environment, Used};
use super::figures::{Figures, drain};
use super::files;
use super::limits::{CALLS_MAX, DEBTS_WAIT_MAX, FILES_MORE, FILES_PER_CALL};
use super::options::{BenchCommand, DrainArgs};
use super::page;
use super::population::Population;
use super::rotations::Schedule;
use super::sighting::Sighting;
use super::stage::{self, Stage};
use super::summary::{self, Baseline, CaseSummary, LoadSummary, RotationCounts, Summary};
use super::sweep;
use super::table;
use super::times::{micros, millis, shown};

/// A rotation that begins later than this after its time is told apart: a timer is good for some
/// milliseconds.
const LATE_US: u64 = 10_000;

/// Runs a benchmark.
///
/// # Errors
/// When it cannot run at all.
pub async fn run(command: BenchCommand) -> anyhow::Result<ExitCode> {
    let BenchCommand::Drain(args) = command;
    ensure!(
        args.at_once <= args.tenants,
        "--at-once {} needs as many --tenants: a tenant has one rotation at a time",
        args.at_once
    );
    match &args.sweep {
        Some(sweep) => sweep::run(&args, sweep).await,
        None => drain_bench(*args).await,
    }
}

/// What came of the run under keybaton.
struct Kept {
    sightings: Vec<Sighting>,
    verdict: Verdict,
    rotations: RotationCounts,
    load: LoadSummary,
    stores: StoreNames,
    used: Used,
    interrupted: bool,
    lasted: Duration,
}

async fn drain_bench(mut args: DrainArgs) -> anyhow::Result<ExitCode> {
    let baseline = args.baseline.as_deref().map(Baseline::read).transpose()?;
    let needs_baseline = args.fail_if.as_ref().is_some_and(|it| it.needs_baseline());
    ensure!(
        !needs_baseline || baseline.is_some(),
        "--fail-if compares with a baseline; say which: --baseline before/summary.json"
    );
    demand_files(&args)?;
    std::fs::create_dir_all(&args.out)
        .with_context(|| format!("{} cannot be made", args.out.display()))?;
    let command = typed();
    let mut environment = Environment::look(&args.out)?;
    if !environment.optimised {
        note("this build is not optimised: its times say nothing; use cargo build --release");
    }
    if environment.is_busy() {
        note("others are at work on this machine, or were a minute ago: the times say little");
    }
    let _servers = match args.servers {
        None => None,
        Some(_) => {
            let tenants = stage::tenants(&args);
            let servers = Servers::start(&mut args.stores, &tenants)?;
            note(&format!("started {}", servers.names()));
            Some(servers)
        }
    };
    environment.look_at_database(&args.stores).await?;
    let progress = Progress::of(&args);
    let (stop, stopped) = watch::channel(false);
    let listening = tokio::spawn(listen(stop.clone(), progress.bar.clone()));
    let began = SystemTime::now();
    let mut kept = with_keybaton(&args, &progress, stop, stopped).await?;
    environment.used = kept.used.since(environment.used);
    // From here on nothing is lost by being killed.
    listening.abort();
    let cases = compare(&args, &progress, kept.interrupted).await?;
    progress.bar.finish_and_clear();
    kept.interrupted |= cases.is_none();
    let interrupted = kept.interrupted;
    let figures = Figures::of(&kept.sightings);
    let cases = cases.unwrap_or_default();
    let lasted = kept.lasted;
    let (sightings, summary) =
        summarize(&args, command, kept, &figures, environment, cases, baseline.as_ref());
    files::write(&args.out, &sightings, &figures, began, lasted)?;
    publish(&args, &summary, &sightings, &figures)?;
    table::print(&summary, &sightings, baseline.as_ref())?;
    note(&format!("written to {}", args.out.display()));
    let is_broken = summary.verdict.verdict == Held::Broken;
    Ok(match (interrupted, is_broken || summary.conditions.iter().any(|it| it.fails)) {
        (true, _) => ExitCode::from(130),
        (false, true) => ExitCode::FAILURE,
        (false, false) => ExitCode::SUCCESS,
    })
}

/// Without enough of them the node cannot reach its provider any more, and nothing that is measured
/// then means anything.
fn demand_files(args: &DrainArgs) -> anyhow::Result<()> {
    let calls = args.calls();
    let less = |calls| {
        let share = args.own_work_for(calls);
        format!("let them call less: longer steps (--step-dist), --sessions 1 --own-work {share}")
    };
    ensure!(
        calls <= CALLS_MAX,
        "{} agents may have {calls} calls open at once and the simulator serves {CALLS_MAX}; take \
         fewer, or {}",
        args.tasks,
        less(CALLS_MAX)
    );
    let limit = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
    let most = limit.saturating_sub(FILES_MORE) / FILES_PER_CALL;
    let needed = u64::from(calls) * FILES_PER_CALL + FILES_MORE;
    ensure!(
        needed <= limit,
        "{} agents with {calls} calls at once need {needed} open files and the limit is {limit}; \
         raise it (ulimit -n {needed}), take at most {most}, or {}",
        args.tasks,
        less(u32::try_from(most).unwrap_or(u32::MAX))
    );
    Ok(())
}

/// The command as it was typed. Addresses in it hold no password: one that does is refused.
fn typed() -> String {
    let quoted = |word: String| {
        let is_plain = word.chars().all(|c| c.is_ascii_alphanumeric() || "-_./:=,@".contains(c));
        if is_plain { word } else { format!("'{}'", word.replace('\'', "'\\''")) }
    };
    let words: Vec<_> = std::env::args().skip(1).map(quoted).collect();
    format!("keybaton {}", words.join(" "))
}

/// A first Ctrl-C ends the measuring, a second one the process.
async fn listen(stop: watch::Sender<bool>, bar: ProgressBar) {
    interrupt().await;
    stop.send_replace(true);
    bar.suspend(|| {
        note("stopping: agents finish their steps, then what was measured is judged and written");
        note("(again Ctrl-C to kill; then nothing is kept)");
    });
    interrupt().await;
    std::process::exit(130);
}

/// The progress of the run, in milliseconds that are known before it begins.
struct Progress {
    bar: ProgressBar,
    keybaton: Duration,
    others: Duration,
}

impl Progress {
    fn of(args: &DrainArgs) -> Self {
        let schedule = Schedule::of(args);
        let keybaton = schedule.every * schedule.moments;
        let others = comparators::duration(args, &comparators::cases(args));
        let bar = ProgressBar::new(micros(keybaton + others) / 1000);
        let style = ProgressStyle::with_template(
            "  {wide_bar:.cyan} {percent:>3}%  {elapsed_precise}, {eta} to go\n  {wide_msg}",
        );
        bar.set_style(style.expect("the template is a constant"));
        if !std::io::stderr().is_terminal() {
            bar.set_draw_target(ProgressDrawTarget::hidden());
        }
        Self { bar, keybaton, others }
    }

    /// Moves on by the clock until it is dropped.
    fn walk(&self, from: Duration, length: Duration) -> Walk {
        let bar = self.bar.clone();
        let begun = Instant::now();
        Walk(tokio::spawn(async move {
            let mut ticks = tokio::time::interval(Duration::from_millis(200));
            loop {
                ticks.tick().await;
                bar.set_position(micros(from + begun.elapsed().min(length)) / 1000);
            }
        }))
    }

    /// A line that stays.
    fn say(&self, line: &str) {
        self.bar.suspend(|| note(line));
    }
}

struct Walk(tokio::task::JoinHandle<()>);

impl Drop for Walk {
    fn drop(&mut self) {
        self.0.abort();
    }
}

async fn with_keybaton(
    args: &DrainArgs,
    progress: &Progress,
    stop: watch::Sender<bool>,
    stopped: watch::Receiver<bool>,
) -> anyhow::Result<Kept> {
    let stage = Stage::open(args, &args.out).await?;
    let population = Population::of(args, &stage);
    let schedule = Schedule::of(args);
    progress.say(&format!(
        "{} agents of {} tenants get going; then {} rotations, {} every {}",
        args.tasks,
        args.tenants,
        schedule.rotations,
        schedule.at_once,
        shown(schedule.every.as_secs_f64() * 1e3),
    ));
    let work = async {
        population.settle(&stage).await?;
        let _walk = progress.walk(Duration::ZERO, progress.keybaton);
        let rotations = schedule.run(&stage, stopped, |it| progress.tell(it));
        tokio::select! {
            sightings = rotations => Ok::<_, anyhow::Error>(sightings),
            failed = population.arrive(&stage) => {
                failed.map(|()| Vec::new()).context("agents cannot arrive any more")
            }
        }
    };
    let sightings = tokio::select! {
        sightings = work => sightings?,
        why = stage.node.failed() => anyhow::bail!("a store stopped: {why}"),
    };
    let interrupted = *stop.borrow();
    let lasted = Duration::from_micros(stage.recorder.now());
    let steps = stage.recorder.steps();
    stage.is_closing.store(true, Ordering::Relaxed);
    progress.bar.set_message("the agents finish their steps");
    for failure in population.end().await.iter().take(5) {
        progress.say(&format!("an agent has no result: {failure}"));
    }
    let used = Used::by_now();
    let (rotations, load) = counts(args, &schedule, &population, &sightings, steps);
    let stores = stage.node.stores().clone();
    let verdict = judge(args, stage, &sightings, &population).await?;
    Ok(Kept { sightings, verdict, rotations, load, stores, used, interrupted, lasted })
}

impl Progress {
    fn tell(&self, it: &Sighting) {
        let took = drain(it).map_or_else(|| "-".into(), |value| shown(millis(value.us())));
        let warm = if it.is_warm_up { " (warm-up)" } else { "" };
        let line = format!(
            "rotation {}{warm} of {}: {}, {} holders left in {took}",
            it.number + 1,
            it.tenant,
            it.ended,
            it.holders_at_close,
        );
        self.bar.set_message(line.clone());
        if self.bar.is_hidden() {
            note(&line);
        }
    }
}

fn counts(
    args: &DrainArgs,
    schedule: &Schedule,
    population: &Population,
    sightings: &[Sighting],
    steps: u64,
) -> (RotationCounts, LoadSummary) {
    let count =
        |is_it: fn(&Sighting) -> bool| sightings.iter().filter(|it| is_it(it)).count() as u64;
    let started = count(|it| it.ended != "not started");
    let rotated = count(|it| it.ended == "rotated");
    let rotations = RotationCounts {
        planned: u64::from(schedule.rotations),
        warm_up: u64::from(schedule.warm_up),
        not_started: u64::from(schedule.rotations) - started,
        late: count(|it| it.asked.saturating_sub(it.planned) > LATE_US),
        rotated,
        unfinished: started - rotated,
    };
    let load = LoadSummary {
        tasks: args.tasks,
        tasks_spawned: u64::from(population.spawned()),
        steps,
        tenants: args.tenants,
        arrival: args.arrival,
        arrival_late_max_ms: millis(population.late_max_us()),
        step_dist: args.step_dist.text.clone(),
        streaming: args.streaming,
        sessions: args.sessions,
        own_work: args.own_work,
        payload: args.payload,
        at_once: args.at_once,
        every_ms: millis(micros(schedule.every)),
        deadline_ms: millis(micros(schedule.deadline)),
        overlap_ms: millis(micros(args.overlap)),
        provider_class: match args.provider_class {
            ProviderClass::A => "a",
            ProviderClass::B => "b",
        },
        seed: args.seed,
    };
    (rotations, load)
}

/// Lets what was begun come to its end, and asks the oracle.
async fn judge(
    args: &DrainArgs,
    stage: Stage,
    sightings: &[Sighting],
    population: &Population,
) -> anyhow::Result<Verdict> {
    let mut tenants: Vec<_> =
        sightings.iter().filter(|it| !it.rotation.is_empty()).map(|it| &it.tenant).collect();
    tenants.sort_unstable();
    tenants.dedup();
    let patience = DEBTS_WAIT_MAX + args.overlap;
    for tenant in &tenants {
        let pair = stage.node.pair(tenant, PROVIDER)?;
        let mut views = stage.node.watch(&pair);
        let quiet = views.wait_for(|view| {
            view.record.as_ref().is_some_and(|record| {
                let is_over = |it: &keybaton_rotation::Rotation| it.phase.is_final();
                record.obligations.is_empty() && record.rotation.as_ref().is_none_or(is_over)
            })
        });
        // What is not over then stands in the verdict.
        let _ = tokio::time::timeout(patience, quiet).await;
    }
    let rules = Rules {
        rotated: tenants.iter().map(|tenant| PairName::new(tenant.as_str(), PROVIDER)).collect(),
        tasks_expected: Some(u64::from(population.spawned())),
        ..Rules::default()
    };
    let Stage { node, vendor, dir, .. } = stage;
    judging::judge(dir.path(), node, vendor, &rules, |_| None).await
}

/// The other ways; `None` when the run was ended before them.
async fn compare(
    args: &DrainArgs,
    progress: &Progress,
    interrupted: bool,
) -> anyhow::Result<Option<Vec<CaseSummary>>> {
    let cases = comparators::cases(args);
    if cases.is_empty() || interrupted {
        return Ok((!interrupted).then(Vec::new));
    }
    progress.say(&format!("{} other ways, all at once, under the same agents", cases.len()));
    let _walk = progress.walk(progress.keybaton, progress.others);
    let dir = tempfile::Builder::new().prefix("others-").tempdir_in(&args.out)?;
    let load = Arc::new(stage::load(args));
    tokio::select! {
        done = comparators::run(args, &load, dir.path(), &cases) => done.map(Some),
        () = interrupt() => Ok(None),
    }
}

fn summarize(
    args: &DrainArgs,
    command: String,
    kept: Kept,
    figures: &Figures,
    environment: Environment,
    comparators: Vec<CaseSummary>,
    baseline: Option<&Baseline>,
) -> (Vec<Sighting>, Summary) {
    let figures = summary::figures(figures);
    let counts = summary::counts(&kept.verdict, &kept.rotations);
    let judge = |it: &super::fail_if::FailIf| it.judge(&figures, &counts, baseline);
    let conditions = args.fail_if.as_ref().map(judge).unwrap_or_default();
    let commit_us = environment.journal_commit_us(&kept.stores);
    let pause = figures.get("pause").filter(|pause| pause.n > 0);
    let mut simulated = vec![
        "the provider is a simulator in the same process, its steps are timers behind real HTTP \
         on this machine's loopback"
            .to_owned(),
        "agents, node and provider share the processor".to_owned(),
        format!(
            "the old key is kept {} after the promotion",
            shown(args.overlap.as_secs_f64() * 1e3)
        ),
    ];
    if args.servers.is_some() {
        simulated.push("the servers of the stores run on the same machine".to_owned());
    }
    let summary = Summary {
        schema: summary::SCHEMA,
        kind: summary::KIND,
        command,
        interrupted: kept.interrupted,
        rotations: kept.rotations,
        definitions: summary::definitions(),
        censoring: summary::censoring(),
        confidence: summary::confidence(&kept.sightings, args.at_once, args.seed),
        pause_in_commits: pause.zip(commit_us).map(|(it, unit)| summary::in_commits(it, unit)),
        environment,
        stores: kept.stores,
        load: kept.load,
        simulated,
        comparators,
        conditions,
        verdict: kept.verdict,
        figures,
        counts,
    };
    (kept.sightings, summary)
}

/// Writes summary, charts and page.
fn publish(
    args: &DrainArgs,
    summary: &Summary,
    sightings: &[Sighting],
    figures: &Figures,
) -> anyhow::Result<()> {
    write(&args.out, "summary.json", &(serde_json::to_string_pretty(summary)? + "\n"))?;
    if args.no_report {
        return Ok(());
    }
    let count = |name: &str| summary.counts.get(name).copied().unwrap_or_default();
    let agents = u64::from(summary.load.tasks);
    let ours = charts::broken_calls(count("refused"), count("interrupted"), agents);
    let charts = charts::draw(sightings, figures, &summary.comparators, ours)?;
    for chart in &charts {
        write(&args.out, &format!("{}.svg", chart.name), &chart.svg)?;
    }
    write(&args.out, "report.html", &page::write(summary, &charts))
}

fn write(dir: &Path, name: &str, text: &str) -> anyhow::Result<()> {
    let path = dir.join(name);
    std::fs::write(&path, text).with_context(|| format!("{} cannot be written", path.display()))
}
