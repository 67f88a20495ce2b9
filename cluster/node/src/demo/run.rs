//! The story of the demo: agents work, the key is rotated in full flight, the oracle judges.

use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use keybaton::messages::{PairId, RotationId, Version};
use keybaton::{Node, StoreNames, TaskState, TaskView};
use keybaton_oracle::{Held, PairName, Rules, Verdict};
use keybaton_ports::TaskRow;
use keybaton_rotation::{Phase, Reason, Reply, Want};

use super::bare;
use super::judging;
use super::lives::Life;
use super::naive;
use super::options::{DemoArgs, FaultName, ProviderClass, ServersChoice};
use super::report::{self, Measured, PhaseMark};
use super::screen::Screen;
use super::servers::Servers;
use super::stage::{self, PROVIDER, Place, Plan, TENANTS, Vendor};

/// Longest run: agents of twenty thousand need some minutes; after this something is stuck, and
/// the verdict says what.
const RUN_TIME_MAX: Duration = Duration::from_secs(15 * 60);

/// Bytes of the value that a bare commit writes: a hand-over's result with its checkpoint.
pub const HAND_OVER_BYTES: usize = 512;

/// Whether the story ended by itself.
enum Ending {
    Told(Box<Measured>),
    Interrupted,
}

/// Runs the demo.
///
/// # Errors
/// When it cannot run at all; a broken verdict is an exit code, not an error.
pub async fn run(mut args: DemoArgs) -> anyhow::Result<ExitCode> {
    let plan = Plan::of(&args);
    let place = Place::open(args.data_dir.as_deref())?;
    let screen = Screen::open(args.output);
    let _servers = match args.servers {
        None => None,
        Some(ServersChoice::Start) => {
            let servers = Servers::start(&mut args.stores, &TENANTS)?;
            screen.say(&format!("started {}", servers.names()));
            Some(servers)
        }
    };
    let (verdict, measured) = match with_keybaton(&args, &plan, &place, &screen).await? {
        (Ending::Told(measured), Some(verdict)) => (verdict, *measured),
        _ => return Ok(interrupted(&args, &place)),
    };
    if !args.naive {
        report::print(&args, &plan, &verdict, &measured, None)?;
        return Ok(exit_code(&verdict));
    }
    screen.say("now the same agents, the way it is done today: new key, fixed wait, revoke");
    let naive = naive::run(&plan, place.path()).await?;
    report::print(&args, &plan, &verdict, &measured, Some(&naive))?;
    Ok(exit_code(&naive.verdict))
}

fn exit_code(verdict: &Verdict) -> ExitCode {
    if verdict.verdict == Held::Held { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn interrupted(args: &DemoArgs, place: &Place) -> ExitCode {
    match place {
        Place::Kept(dir) => {
            let flags = resume_flags(args);
            report::note(&format!(
                "stopped at step boundaries; to go on:\n  keybaton demo --data-dir {}{flags}",
                dir.display()
            ));
        }
        Place::Temporary(_) => {
            report::note("stopped; nothing is left. With --data-dir DIR a run can be continued");
        }
    }
    ExitCode::from(130)
}

fn resume_flags(args: &DemoArgs) -> String {
    let mut flags = format!(" --tasks {} --seed {}", args.tasks, args.seed);
    if args.provider_class == ProviderClass::B {
        flags.push_str(" --provider-class b");
    }
    if let Some(fault) = args.fault.as_ref().and_then(clap::ValueEnum::to_possible_value) {
        flags.push_str(&format!(" --fault {}", fault.get_name()));
    }
    if args.emergency {
        flags.push_str(" --emergency");
    }
    if let (Some(url), Some(dir)) = (&args.simulator, &args.simulator_dir) {
        flags.push_str(&format!(" --simulator {url} --simulator-dir {}", dir.display()));
    }
    flags.push_str(&args.stores.flags());
    flags
}

async fn with_keybaton(
    args: &DemoArgs,
    plan: &Plan,
    place: &Place,
    screen: &Screen,
) -> anyhow::Result<(Ending, Option<Verdict>)> {
    let dir = place.path();
    let goes_on = stage::settle_plan(dir, plan)?;
    let life = Life::begin(dir)?;
    let vendor = Vendor::open(args, dir, plan.class).await?;
    let node = stage::start_node(dir, &vendor, plan, &args.stores).await?;
    screen.opening(plan, place, &node, goes_on);
    let story = tell(plan, &node, &vendor, screen);
    let ending = tokio::select! {
        told = tokio::time::timeout(RUN_TIME_MAX, story) => match told {
            Ok(told) => Ending::Told(Box::new(told?)),
            Err(_elapsed) => {
                screen.say("the run takes too long; judging what there is");
                Ending::Told(Box::default())
            }
        },
        () = interrupt() => Ending::Interrupted,
        why = node.failed() => {
            anyhow::bail!("a store of {} stopped: {why}; run the same command again", dir.display())
        }
    };
    screen.closing();
    if matches!(ending, Ending::Interrupted) {
        screen.say("stopping: every agent finishes its step (again Ctrl-C to kill)");
        tokio::spawn(async {
            interrupt().await;
            std::process::exit(130);
        });
        node.shutdown(Duration::from_secs(60)).await;
        vendor.close().await;
        life.end();
        return Ok((ending, None));
    }
    let verdict = judge(plan, dir, node, vendor, &life).await?;
    life.end();
    Ok((ending, Some(verdict)))
}

/// Ctrl-C or SIGTERM.
pub async fn interrupt() {
    use tokio::signal::unix::{SignalKind, signal};
    let Ok(mut terminate) = signal(SignalKind::terminate()) else {
        return std::future::pending().await;
    };
    tokio::select! {
        _ = tokio::signal::ctrl_c() => {}
        _ = terminate.recv() => {}
    }
}

async fn tell(
    plan: &Plan,
    node: &Node,
    vendor: &Vendor,
    screen: &Screen,
) -> anyhow::Result<Measured> {
    let pair = node.pair(TENANTS[0], PROVIDER)?;
    for tenant in TENANTS {
        node.provision(tenant, PROVIDER).await?;
    }
    let old = first_version(node, &pair);
    let handles = stage::spawn_agents(node, plan).await?;
    let bare = bare_commit(node)?;
    screen.follow(node, &pair, old, handles.len());
    in_full_flight(node, &pair).await;
    let _warm_up = node.shared().stats.take();
    let rotation = ask_for_rotation(plan, node, vendor, &pair).await?;
    screen.say(&format!("{rotation} begins"));
    if let Err(error) = node.finished(&rotation).await {
        screen.say(&error.to_string());
    }
    for handle in handles {
        if let Err(failure) = handle.join().await {
            screen.say(&format!("an agent has no result: {failure}"));
        }
    }
    debts_paid(node, &pair).await;
    Ok(measure(node, &pair, &rotation, old, bare))
}

/// What one durable write costs, where it is made on this disk; a server's is another matter.
fn bare_commit(node: &Node) -> anyhow::Result<Option<Duration>> {
    let is_here = node.stores().journal == StoreNames::embedded().journal;
    is_here.then(|| bare::commit_median(node.dir(), HAND_OVER_BYTES)).transpose()
}

/// The version that the rotation gets away from.
fn first_version(node: &Node, pair: &PairId) -> Option<Version> {
    let view = node.watch(pair);
    let view = view.borrow();
    let record = view.record.as_ref()?;
    let draining = |phase: &Phase| match phase {
        Phase::Draining { old, .. }
        | Phase::Checkpointing { old, .. }
        | Phase::Emptying { old, .. }
        | Phase::Overlap { old, .. }
        | Phase::Revoking { old, .. } => Some(*old),
        _ => None,
    };
    record.rotation.as_ref().and_then(|rotation| draining(&rotation.phase)).or(record.active)
}

/// Until every agent of the tenant has taken its first step, or has ended.
async fn in_full_flight(node: &Node, pair: &PairId) {
    const LOOK_EVERY: Duration = Duration::from_millis(50);
    loop {
        let tasks = node.tasks(Some(&pair.tenant));
        let is_on_its_way = |view: &TaskView| view.step >= 1 || view.state != TaskState::Running;
        let working = tasks.iter().filter(|(_, view)| is_on_its_way(view)).count();
        if working * 10 >= tasks.len() * 9 {
            return;
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

/// The same trigger id in every life of the run: one rotation, however often it was killed.
async fn ask_for_rotation(
    plan: &Plan,
    node: &Node,
    vendor: &Vendor,
    pair: &PairId,
) -> anyhow::Result<RotationId> {
    if let Some(fault) = plan.fault {
        vendor.arm(&fault.script(pair.tenant.as_str())).await?;
    }
    let reason = Reason::Requested("the demo".into());
    // Whichever version is active: after a kill during the first key it need not be the first one.
    let want = if plan.emergency {
        Want::Emergency { compromised: None, deadline: None, reason }
    } else {
        Want::Rotate { target: None, reason }
    };
    match node.trigger(pair, "demo-rotation", want).await? {
        Reply::Rotation(rotation) => Ok(rotation),
        other => anyhow::bail!("the rotation was not accepted: {other:?}"),
    }
}

/// Until nothing is owed any more: burned labels looked for, secrets destroyed.
async fn debts_paid(node: &Node, pair: &PairId) {
    const PATIENCE: Duration = Duration::from_secs(30);
    let mut views = node.watch(pair);
    let paid = views
        .wait_for(|view| view.record.as_ref().is_some_and(|record| record.obligations.is_empty()));
    // What is still owed then is in the verdict.
    let _ = tokio::time::timeout(PATIENCE, paid).await;
}

fn measure(
    node: &Node,
    pair: &PairId,
    rotation: &RotationId,
    old: Option<Version>,
    bare_commit: Option<Duration>,
) -> Measured {
    let (_, hand_over) = node.shared().stats.take();
    let view = node.watch(pair).borrow().clone();
    let began = view.timeline.iter().find(|mark| mark.rotation == *rotation).map(|mark| mark.at);
    let phases = view
        .timeline
        .iter()
        .filter(|mark| mark.rotation == *rotation)
        .map(|mark| PhaseMark {
            phase: report::phase_name(&mark.phase),
            shown: mark.phase.shown().to_string(),
            at_ms: mark.at.0.saturating_sub(began.map_or(0, |at| at.0)),
        })
        .collect();
    let drain = node.drains(pair).into_iter().rev().find(|drain| Some(drain.version) == old);
    Measured {
        rotation: rotation.to_string(),
        phases,
        drain,
        hand_over: Some(hand_over),
        bare_commit,
        stores: node.stores().clone(),
        old: old.map(|version| version.0),
        new: view.record.as_ref().and_then(|record| record.active).map(|version| version.0),
    }
}

async fn judge(
    plan: &Plan,
    dir: &Path,
    node: Node,
    vendor: Vendor,
    life: &Life,
) -> anyhow::Result<Verdict> {
    let agents = plan.agents();
    let rules = Rules {
        rotated: vec![PairName::new(TENANTS[0], PROVIDER)],
        allow_repeated_interruptions: plan.emergency
            || (plan.class == ProviderClass::A && plan.fault == Some(FaultName::VoidOnIssue)),
        kills: life.kills.clone(),
        tasks_expected: Some(u64::from(plan.tasks)),
        ..Rules::default()
    };
    let steps_expected = |row: &TaskRow| {
        let number = row.key.task.as_str().strip_prefix("agent-")?.parse::<usize>().ok()?;
        agents.get(number).map(|(_, _, itinerary)| itinerary.steps)
    };
    judging::judge(dir, node, vendor, &rules, steps_expected).await
}
