//! What each mutant does to a decision. Mutants of the world itself stand where their rule stands.

use keybaton_messages::VersionStatus;
use keybaton_rotation::{Decision, Health, Input, Order, PairRecord, Phase};

use crate::Mutant;
use crate::world::{Event, World};

pub fn mutate(
    world: &mut World,
    before: &PairRecord,
    input: &Input,
    decision: Decision,
) -> Decision {
    match world.mutant {
        Mutant::PromoteInTwoWrites => two_writes(world, before, decision),
        Mutant::PromoteUnverified => unverified(world, decision),
        Mutant::RollBackAfterRevokePending => back_from_pending(world, before, input, decision),
        _ => decision,
    }
}

/// The first of the two writes leaves the old version ACTIVE.
fn two_writes(world: &mut World, before: &PairRecord, mut decision: Decision) -> Decision {
    let Some(record) = &decision.record else {
        return decision;
    };
    if let Some(old) = before.active
        && record.active.is_some_and(|new| new > old)
    {
        let mut first = decision.clone();
        if let Some(record) = &mut first.record
            && let Some(entry) = record.versions.get_mut(&old)
        {
            entry.status = VersionStatus::Active;
        }
        first.effects.clear();
        world.after(0, Event::ActorStarts);
        decision = first;
    }
    decision
}

/// The new key counts as good as soon as it is there.
fn unverified(world: &mut World, decision: Decision) -> Decision {
    let Some(record) = &decision.record else {
        return decision;
    };
    if let Some(Phase::Verifying { new, .. }) = record.rotation.as_ref().map(|r| &r.phase) {
        let input =
            Input::Probed { version: *new, attempt: record.next_version, health: Health::Alive };
        world.after(0, Event::Deliver { process: None, input });
    }
    decision
}

/// An order to roll back while the old key is being revoked is obeyed, and is given soon.
fn back_from_pending(
    world: &mut World,
    before: &PairRecord,
    input: &Input,
    decision: Decision,
) -> Decision {
    let phase = |record: &PairRecord| record.rotation.as_ref().map(|r| r.phase.clone());
    if let Some(Phase::Revoking { .. }) = decision.record.as_ref().and_then(phase) {
        let input = Input::Ordered(Order::RollBack);
        let process = None;
        world.after(100, Event::Deliver { process, input });
    }
    let (Some(Phase::Revoking { old, .. }), Input::Ordered(Order::RollBack)) =
        (phase(before), input)
    else {
        return decision;
    };
    let mut record = before.clone();
    record.rev = before.rev.next();
    if let Some(new) = before.active
        && let Some(entry) = record.versions.get_mut(&new)
    {
        entry.status = VersionStatus::Draining;
    }
    if let Some(entry) = record.versions.get_mut(&old) {
        entry.status = VersionStatus::Active;
    }
    record.active = Some(old);
    Decision { record: Some(record), ..decision }
}
