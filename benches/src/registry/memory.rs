//! What pairs, members and holders weigh: resident memory of a fresh process, so that allocator
//! overhead and growth of tables are in the figure.
//!
//! Names and keys are eight bytes here.

use std::hint::black_box;
use std::io::Write;
use std::num::NonZeroU64;
use std::process::Command;

use anyhow::{Context, bail};
use keybaton_registry::{Member, Registry};

use super::baselines::VERSION;
use crate::figure::Report;

const PAIRS: u64 = 40_000;
const TASKS: u64 = 100_000;

/// Where the allocator reads its settings.
const ALLOCATOR: &str = "_RJEM_MALLOC_CONF";

/// Gives freed pages back at once: what the allocator keeps for the next ten seconds is nobody's
/// weight.
pub(crate) const PAGES_GO_BACK: &str = "dirty_decay_ms:0";

/// Neither is what a thread keeps for its next request: the tables that grew leave some there. For
/// what one thread builds; what many threads build lies worse without their caches.
const ALL_GOES_BACK: &str = "dirty_decay_ms:0,tcache:false";

type Node = Registry<u64, NonZeroU64>;

/// An idle pair; a holder among 100 000 on one pair; one of 100 000 on 40 000 pairs.
///
/// # Errors
/// When the program cannot start itself or read its size.
pub(super) fn bytes(report: &mut Report) -> anyhow::Result<()> {
    if !report.wants("memory") {
        return Ok(());
    }
    let weight = |what| ask(what, ALL_GOES_BACK);
    report.at_most("memory/idle_pair_bytes", weight("idle_pair")?, 256.0);
    report.at_most("memory/holder_bytes", weight("holder")?, 16.0);
    report.report("memory/handle_bytes", weight("handle")?);
    report.report("memory/sparse_holder_bytes", weight("sparse_holder")?);
    Ok(())
}

/// Builds what is asked for and writes how many bytes one of it takes.
///
/// # Errors
/// When there is no such thing, or the size of the process cannot be read.
pub fn weigh(what: &str, mut out: impl Write) -> anyhow::Result<()> {
    let bytes = match what {
        "idle_pair" => {
            let before = resident()?;
            let node = black_box(node(PAIRS));
            let bytes = (resident()? - before) / PAIRS as f64;
            drop(node);
            bytes
        }
        // Both parts of a membership: the handle belongs to the task, the rest to the registry.
        "handle" => weigh_handles()?,
        "holder" => weigh_holders(1)? - ask("handle", ALL_GOES_BACK)?,
        "sparse_holder" => weigh_holders(PAIRS)? - ask("handle", ALL_GOES_BACK)?,
        _ => bail!("nothing is called {what}, ask for idle_pair, handle, holder or sparse_holder"),
    };
    writeln!(out, "{bytes}")?;
    Ok(())
}

/// What a handle takes on the heap: as many pieces of its size, as the allocator gives them.
fn weigh_handles() -> anyhow::Result<f64> {
    let mut handles = Vec::with_capacity(usize::try_from(TASKS)?);
    handles.resize_with(handles.capacity(), || black_box(None));
    let before = resident()?;
    handles.fill_with(|| Some(Box::new([1u8; Member::<NonZeroU64>::HEAP_BYTES])));
    let bytes = (resident()? - before) / TASKS as f64;
    drop(black_box(handles));
    Ok(bytes)
}

fn weigh_holders(pairs: u64) -> anyhow::Result<f64> {
    let node = node(pairs);
    let mut members = Vec::with_capacity(usize::try_from(TASKS)?);
    let mut leases = Vec::with_capacity(usize::try_from(TASKS)?);
    // The vectors belong to the tasks: written once, so that they are resident before. Zeros that
    // the compiler knows of would not be written.
    let before = {
        members.resize_with(members.capacity(), || black_box(None));
        leases.resize_with(leases.capacity(), || black_box(None));
        resident()?
    };
    for task in 0..TASKS {
        let name = NonZeroU64::new(task + 1).context("one is added")?;
        let member = node.pair(&(task % pairs)).join(name);
        members[usize::try_from(task)?] = Some(member);
    }
    for (lease, member) in leases.iter_mut().zip(&members) {
        *lease = member.as_ref().map(Member::acquire).transpose()?;
    }
    let bytes = (resident()? - before) / TASKS as f64;
    drop(black_box(leases));
    Ok(bytes)
}

fn node(pairs: u64) -> Node {
    let node = Node::new();
    for key in 0..pairs {
        node.pair(&key).publish(VERSION).expect("a new pair has room");
    }
    node
}

/// Starts this program again with these settings of the allocator to weigh something, and reads its
/// answer.
pub(crate) fn ask(what: &str, allocator: &str) -> anyhow::Result<f64> {
    let program = std::env::current_exe().context("finding this program to start it again")?;
    let output =
        Command::new(program).env(ALLOCATOR, allocator).arg("--weigh").arg(what).output()?;
    if !output.status.success() {
        bail!("weighing {what}: {}", String::from_utf8_lossy(&output.stderr));
    }
    Ok(String::from_utf8(output.stdout)?.trim().parse()?)
}

/// Resident bytes that this process has written: counted page by page, since the number in `status`
/// may be behind by some pages for each processor; without the code that was run for the first time
/// meanwhile.
pub(crate) fn resident() -> anyhow::Result<f64> {
    let rollup = std::fs::read_to_string("/proc/self/smaps_rollup")
        .context("reading the size of this process, which Linux alone tells like this")?;
    let line = rollup.lines().find_map(|line| line.strip_prefix("Anonymous:"));
    let kib = line.and_then(|line| line.trim().strip_suffix(" kB"));
    let kib = kib.context("/proc/self/smaps_rollup does not say how much is anonymous")?;
    Ok(kib.trim().parse::<f64>()? * 1024.0)
}
