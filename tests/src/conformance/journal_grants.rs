//! What the port `Journal` promises about grants.

use keybaton_messages::{Epoch, Rev, Version, VersionStatus};
use keybaton_ports::{CommitError, GrantError, GrantRow, Standing};
use keybaton_rotation::{CopyGrants, Gate, Guard, Pause};

use crate::conformance::journal::{JournalWorld, distinct, loud, record_of, refused};
use crate::conformance::records::{Writer, grant_id, node, pair, promoted, record_in, version};

/// `grant`: if the version is ACTIVE and the gate is open; a refusal tells how the pair stands.
pub async fn a_grant_needs_an_active_version_and_an_open_gate(world: &impl JournalWorld) {
    let mut writer = Writer::provisioned(world.port(), "n1", pair("acme"), 1).await;
    writer.promote(2, 2).await;
    for version in [1, 3] {
        let Err(GrantError::Refused(standing)) = writer.grant(version, 9).await else {
            panic!("v{version} was granted");
        };
        assert_eq!(standing.active.map(|(v, ..)| v), Some(Version(2)));
    }
    writer.commit(|transaction| record_in(transaction).gate = Gate::Paused(Pause::Emptying)).await;
    let Err(GrantError::Refused(standing)) = writer.grant(2, 9).await else {
        panic!("granted although paused");
    };
    assert_eq!(standing.gate, Gate::Paused(Pause::Emptying));
    assert_eq!(writer.count(1).await + writer.count(2).await, 0);
}

/// `grant`: one that this life has already answers with the standing that shows it.
pub async fn a_grant_is_made_once_for_a_life(world: &impl JournalWorld) {
    let writer = Writer::provisioned(world.port(), "n1", pair("acme"), 1).await;
    let first = writer.grant(1, 1).await.expect("granted");
    let again = writer.grant(1, 2).await.expect("granted");
    assert_eq!(first, again);
    let row = GrantRow { version: Version(1), id: grant_id(1), status: VersionStatus::Active };
    assert_eq!(first.grants, [row]);
    assert_eq!(writer.count(1).await, 1);
    assert_eq!(record_of(&*writer.journal, "acme").await.rev, Rev(1), "a grant is no transition");
}

/// `count_grants`: over all nodes; a standing shows those of one.
pub async fn a_grant_is_counted_for_every_node(world: &impl JournalWorld) {
    let writer = Writer::provisioned(world.port(), "n1", pair("acme"), 1).await;
    let other = writer.journal.begin_life(&node("n2")).await.expect("a life");
    writer.grant(1, 1).await.expect("granted");
    let standing = writer.grant_to(&other, 1, 2).await.expect("granted");
    assert_eq!(ids(&standing), [grant_id(2)]);
    assert_eq!(writer.count(1).await, 2);
    assert_eq!(writer.count(2).await, 0);
}

/// `begin_life`: grants of older lives become void.
pub async fn a_new_life_voids_the_grants_of_the_node(world: &impl JournalWorld) {
    let mut writer = Writer::provisioned(world.port(), "n1", pair("acme"), 1).await;
    let other = writer.journal.begin_life(&node("n2")).await.expect("a life");
    writer.grant(1, 1).await.expect("granted");
    writer.grant_to(&other, 1, 2).await.expect("granted");
    let reborn = writer.journal.begin_life(&node("n2")).await.expect("a life");
    assert_eq!(writer.count(1).await, 1);
    let standing = writer.journal.standing(&pair("acme"), &reborn).await;
    assert_eq!(ids(&standing.expect("a pair")), []);
    assert_eq!(writer.grant_to(&other, 1, 3).await, Err(GrantError::Fenced));
    writer.life = writer.journal.begin_life(&node("n1")).await.expect("a life");
    assert_eq!(writer.count(1).await, 0);
    let guards = vec![Guard::NoGrants(Version(1))];
    writer.commit(|transaction| transaction.guards = guards).await;
}

/// `return_grant`: deletes the grant with this id and no other; one that is gone succeeds.
pub async fn a_return_deletes_the_grant_with_this_id_alone(world: &impl JournalWorld) {
    let mut writer = Writer::provisioned(world.port(), "n1", pair("acme"), 1).await;
    writer.grant(1, 1).await.expect("granted");
    writer.promote(2, 2).await;
    let standing = writer.return_grant(1, grant_id(9)).await.expect("gone");
    assert_eq!(ids(&standing), [grant_id(1)]);
    let standing = writer.return_grant(2, grant_id(1)).await.expect("gone");
    assert_eq!(ids(&standing), [grant_id(1)], "of another version");
    assert_eq!(writer.count(1).await, 1);
    for _ in 0..2 {
        let standing = writer.return_grant(1, grant_id(1)).await.expect("returned");
        assert_eq!(ids(&standing), []);
    }
    assert_eq!(writer.count(1).await, 0);
}

/// `return_grant`: refused while the version is ACTIVE.
pub async fn a_return_is_refused_while_the_version_is_active(world: &impl JournalWorld) {
    let writer = Writer::provisioned(world.port(), "n1", pair("acme"), 1).await;
    writer.grant(1, 1).await.expect("granted");
    let Err(GrantError::Refused(standing)) = writer.return_grant(1, grant_id(1)).await else {
        panic!("returned although active");
    };
    assert_eq!(ids(&standing), [grant_id(1)]);
    assert_eq!(writer.count(1).await, 1);
}

/// [`Guard::NoGrants`]: refused, nothing was written, and `left` counts the grants in the way.
pub async fn a_guard_on_grants_discards_the_whole_decision(world: &impl JournalWorld) {
    let mut writer = Writer::provisioned(world.port(), "n1", pair("acme"), 1).await;
    let other = writer.journal.begin_life(&node("n2")).await.expect("a life");
    writer.grant(1, 1).await.expect("granted");
    writer.grant_to(&other, 1, 2).await.expect("granted");
    writer.promote(2, 2).await;
    let guard = Guard::NoGrants(Version(1));
    for (left, returned) in [(2, &writer.life.clone()), (1, &other)] {
        let transaction = writer.next(|transaction| {
            loud(transaction, (Epoch(1), Rev(2)));
            transaction.guards = vec![guard.clone()];
        });
        let refusal = CommitError::Refused { guard: guard.clone(), left };
        refused(&*writer.journal, transaction, &refusal).await;
        let id = grant_id(if left == 2 { 1 } else { 2 });
        let journal = &writer.journal;
        let pair = &pair("acme");
        journal.return_grant(pair, Version(1), returned, id).await.expect("returned");
    }
    let guards = vec![guard];
    writer.commit(|transaction| transaction.guards = guards).await;
}

/// [`CopyGrants`]: for every node that holds one, each with a new id.
pub async fn grants_are_copied_with_new_ids_for_every_node_that_holds_one(
    world: &impl JournalWorld,
) {
    let mut writer = Writer::provisioned(world.port(), "n1", pair("acme"), 1).await;
    let journal = writer.journal.clone();
    let other = journal.begin_life(&node("n2")).await.expect("a life");
    let bystander = journal.begin_life(&node("n3")).await.expect("a life");
    writer.grant(1, 1).await.expect("granted");
    writer.grant_to(&other, 1, 2).await.expect("granted");
    let copy = CopyGrants { from: Version(1), to: Version(2) };
    writer
        .commit(|transaction| {
            promoted(record_in(transaction), 2, 2);
            transaction.grants = Some(copy);
        })
        .await;
    let mut all = Vec::new();
    for (life, granted) in [(&writer.life, 2), (&other, 2), (&bystander, 0)] {
        let standing = journal.standing(&pair("acme"), life).await.expect("a pair");
        assert_eq!(standing.grants.len(), granted, "{life:?}");
        all.extend(ids(&standing));
    }
    assert_eq!(distinct(all), 4);
    assert_eq!((writer.count(1).await, writer.count(2).await), (2, 2));
}

/// `standing`: revision, gate, active version with its pinned secret, and the node's grants.
pub async fn a_standing_tells_how_the_pair_stands(world: &impl JournalWorld) {
    let mut writer = Writer::provisioned(world.port(), "n1", pair("acme"), 1).await;
    writer.grant(1, 1).await.expect("granted");
    writer.promote(2, 2).await;
    let entry = version(VersionStatus::Active, 2);
    let expected = Standing {
        rev: Rev(2),
        gate: Gate::Open,
        active: Some((Version(2), entry.secret.expect("has one"), entry.fp.expect("has one"))),
        grants: vec![GrantRow {
            version: Version(1),
            id: grant_id(1),
            status: VersionStatus::Draining,
        }],
    };
    let standing = writer.journal.standing(&pair("acme"), &writer.life).await;
    assert_eq!(standing, Ok(expected));
    writer.set(2, VersionStatus::Draining).await;
    let standing = writer.journal.standing(&pair("acme"), &writer.life).await;
    let standing = standing.expect("a pair");
    assert_eq!(standing.active, None);
    assert_eq!(standing.gate, Gate::Paused(Pause::NoCredential));
}

fn ids(standing: &Standing) -> Vec<keybaton_messages::GrantId> {
    standing.grants.iter().map(|grant| grant.id).collect()
}
