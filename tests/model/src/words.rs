//! A step of the world in words that a person can follow.

use keybaton_rotation::{Phase, Timer};

use crate::actions::{Action, Fate, How};
use crate::state::{State, Wire};
use crate::what::{KeyRef, Truth, V, What};

/// One step, and what it changed in the record.
pub(crate) fn told(action: Action, before: &State, after: &State) -> String {
    let mut line = step(action, before);
    let (was, is) = (&before.store, &after.store);
    let mut changes = Vec::new();
    for (v, status) in is.versions() {
        if was.status(v) != Some(status) {
            changes.push(format!("v{v} is {status}"));
        }
    }
    changes.extend(
        was.versions()
            .filter(|(v, _)| is.status(*v).is_none())
            .map(|(v, _)| format!("v{v} is unknown")),
    );
    let (from, to) = (was.phase().map(name), is.phase().map(name));
    if from != to {
        changes.extend(to.map(|to| format!("the rotation is in {to}")));
    }
    if !changes.is_empty() {
        line = format!("{line} [the record: {}]", changes.join(", "));
    }
    line
}

/// Where things stand.
pub(crate) fn standing(s: &State) -> String {
    let versions: Vec<_> = s.store.versions().map(|(v, status)| format!("v{v} {status}")).collect();
    let owed = s.store.record.obligations.len();
    let phase = s.store.phase().map_or("no rotation", name);
    format!("{}; {phase}; {owed} owed", versions.join(", "))
}

/// The name of a phase.
pub(crate) fn name(phase: &Phase) -> &'static str {
    match phase {
        Phase::Queued { .. } => "Queued",
        Phase::Preflight => "Preflight",
        Phase::AwaitingPerson { .. } => "AwaitingPerson",
        Phase::Issuing { .. } => "Issuing",
        Phase::Locating { .. } => "Locating",
        Phase::Settling { .. } => "Settling",
        Phase::ProbingOld { .. } => "ProbingOld",
        Phase::Verifying { .. } => "Verifying",
        Phase::Emptying { .. } => "Emptying",
        Phase::Draining { .. } => "Draining",
        Phase::Checkpointing { .. } => "Checkpointing",
        Phase::Overlap { .. } => "Overlap",
        Phase::Revoking { .. } => "Revoking",
        Phase::Complete { .. } => "Complete",
        Phase::Failed { .. } => "Failed",
    }
}

fn node(n: u8) -> String {
    format!("node {}", n + 1)
}

fn key(at: KeyRef) -> String {
    match at {
        KeyRef::Own(v) => format!("the key of v{v}"),
        KeyRef::Second(v) => format!("the second key under v{v}'s label"),
        KeyRef::Foreign => "another pair's key".to_owned(),
    }
}

fn version(v: Option<V>) -> String {
    v.map_or_else(|| "nothing".to_owned(), |v| format!("v{v}"))
}

fn step(action: Action, before: &State) -> String {
    let who = |n: u8| node(n);
    match action {
        Action::Hear { node, what, fate, .. } => heard(node, what, fate),
        Action::Issue { v, how: How::Good, .. } => {
            format!("the provider issues a key under v{v}'s label")
        }
        Action::Issue { v, how: How::Bad, .. } => {
            format!("the provider issues a key under v{v}'s label that it will never accept")
        }
        Action::Issue { v, how: How::Foreign, .. } => {
            format!("asked for v{v}, the provider hands out another pair's key")
        }
        Action::DeposedWrites(n) => {
            format!("{}, deposed, tries to write", who(n))
        }
        Action::StoreSecret { node, v } => {
            format!("{} stores the secret under v{v}'s label", who(node))
        }
        Action::LateIssue(v) => {
            format!("the provider executes the issue for v{v} that nobody waits for any more")
        }
        Action::Revoke(at) => format!("the provider revokes {}", key(at)),
        Action::LateRevoke(at) => {
            format!("the provider executes the revocation of {} that was sent before", key(at))
        }
        Action::WireLost(Wire::Issue(v)) => format!("the issue request for v{v} is lost for good"),
        Action::WireLost(Wire::Revoke(at)) => format!("the revocation of {} is lost", key(at)),
        Action::PersonCreates(v, KeyRef::Foreign) => {
            format!("asked for v{v}, a person takes another pair's key")
        }
        Action::PersonCreates(v, _) => format!("a person creates a key under v{v}'s label"),
        Action::PersonForgets(v) => format!("nobody will create a key for v{v} any more"),
        Action::VendorKills(v) => format!("the provider ends the key of v{v} by itself"),
        Action::Lands => "the commit of before its death reaches the store".to_owned(),
        Action::FloatLost => "the commit of before its death is lost".to_owned(),
        Action::RecordLost => "the store forgets the write that it acknowledged last".to_owned(),
        Action::GrantLost(n, v) => format!("the store forgets {}'s grant of v{v}", who(n)),
        other => node_step(other, before),
    }
}

fn node_step(action: Action, before: &State) -> String {
    match action {
        Action::Crash(n) => format!("{} is killed", node(n)),
        Action::ActorDies(n) => format!("the pair's actor on {} dies alone", node(n)),
        Action::Restart(n) => format!("{} starts again, in a new life", node(n)),
        Action::Cut(n) => format!("{} loses the store", node(n)),
        Action::Reconnect(n) => format!("{} reaches the store again", node(n)),
        Action::SelfFence(n) => format!("{} fences itself: it uses no key any more", node(n)),
        Action::StopActor(n) => format!("{} stops its actors", node(n)),
        Action::Rejoin(n) => format!("{} joins again, in a new life", node(n)),
        Action::Fence(n) => format!("{} writes the fence of the other node", node(n)),
        Action::Waited(n) => format!("{} has waited for the other node's lease", node(n)),
        Action::Reap(n) => format!("{} takes the other node's grants", node(n)),
        Action::Read(n) => {
            let open = before.store.open.filter(|v| before.grants(n).has(*v));
            format!("the broker of {} reads again and hands out {}", node(n), version(open))
        }
        Action::Grant(n) => {
            format!("the store grants {} to {}", version(before.store.open), node(n))
        }
        Action::Granted(n) => {
            format!("the broker of {} opens {}", node(n), version(before.node(n).granted))
        }
        Action::Return(n, v) => format!("the broker of {} gives its grant of v{v} back", node(n)),
        Action::Acquire(n) => {
            format!("{} hands out {} to its task", node(n), version(before.node(n).open))
        }
        Action::Release(n) => {
            format!("the task of {} lets go of {}", node(n), version(before.node(n).task))
        }
        other => format!("{other:?}"),
    }
}

fn heard(n: u8, what: What, fate: Fate) -> String {
    let who = node(n);
    let input = match what {
        What::Started(_) => format!("{who} begins to own the pair"),
        What::Provision => format!("{who} is asked for a first key"),
        What::Rotate => format!("somebody asks {who} for a rotation"),
        What::Emergency => format!("somebody tells {who} that the active key has leaked"),
        What::RollBack => format!("an operator orders {who} to roll back"),
        What::Ring(timer) => ring(&who, timer),
        What::Ready(_, false) => format!("{who} hears that an attempt can begin"),
        What::Ready(_, true) => format!("{who} hears that a person must create the key"),
        What::Unready(_) => format!("{who} hears that no attempt can begin now"),
        What::Issued(v, at) => format!("{who} hears that v{v} got {}", key(at)),
        What::Refused(v) => format!("{who} hears that the provider refuses to issue v{v}"),
        What::Unknown(v) => format!("{who} gives up its issue call for v{v}"),
        What::Located(v, Some(at)) => {
            format!("{who} finds {} under v{v}'s label in the secret store", key(at))
        }
        What::Located(v, None) => format!("{who} finds no secret under v{v}'s label"),
        What::Probed(v, _, truth) => match truth {
            Truth::Alive => format!("{who} hears that the provider accepts v{v}"),
            Truth::Dead => format!("{who} hears that the provider refuses v{v}"),
            Truth::Unknown => format!("{who} cannot tell whether v{v} works"),
        },
        What::Counted(v, 0) => format!("{who} hears that nobody holds a grant of v{v}"),
        What::Counted(v, _) => format!("{who} hears that v{v} is still granted"),
        What::Revoked(v) => format!("{who} hears that v{v} is revoked"),
        What::NotRevoked(v) => format!("{who} hears that v{v} cannot be revoked now"),
        What::MaybeRevoked(v) => format!("{who} gives up its call to revoke v{v}"),
        What::Swept(v, Some(at), _) => {
            format!("{who} sees {} listed under v{v}'s label", key(at))
        }
        What::Swept(v, None, _) => format!("{who} sees nothing listed under v{v}'s label"),
        What::Destroyed(v) => format!("{who} hears that the secret of v{v} is destroyed"),
        What::Claimed(v) => format!("{who} hears that somebody else has the key of v{v}"),
        What::Submitted(v, at) => format!("a person submits {} for v{v} to {who}", key(at)),
        What::KeyDead(v) => format!("tasks tell {who} that the provider refuses v{v}"),
    };
    let end = match fate {
        Fate::Well => "",
        Fate::Dies => ", and is killed before it acts on that",
        Fate::ActorDies => ", and its actor dies before it acts on that",
        Fate::Floats => ", and is killed while its commit is on its way",
        Fate::Doubled => ", which will come again",
    };
    format!("{input}{end}")
}

fn ring(who: &str, timer: Timer) -> String {
    match timer {
        Timer::Retry => format!("{who} tries again"),
        Timer::Settle => format!("{who} has waited for an abandoned issue"),
        Timer::Overlap => format!("the overlap ends for {who}"),
        Timer::Owed => format!("{who} asks again for what is owed"),
        Timer::Count => format!("{who} counts grants again"),
        Timer::Person => format!("{who} stops waiting for a person"),
        Timer::RevokeBy => format!("the emergency's deadline passes for {who}"),
        timer => format!("the timer {timer:?} rings for {who}"),
    }
}
