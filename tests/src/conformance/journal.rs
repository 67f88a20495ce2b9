//! What the port `Journal` promises of transactions, pairs and keys. Grants, and events and audit,
//! have files of their own.

use std::collections::BTreeSet;
use std::sync::Arc;

use keybaton_messages::{Epoch, EventKind, Rev, TxnId, Version, VersionStatus};
use keybaton_ports::{AuditKey, CommitError, Journal, SealedAudit, Transaction};
use keybaton_rotation::{AuditKind, Debt, Due, Guard, Obligation, PairRecord};

use crate::conformance::Has;
pub use crate::conformance::journal_audit::{
    a_forced_revoke_names_the_outstanding_grants, an_audit_entry_is_appended_outside_a_transition,
    an_audit_fact_is_recorded_once, events_are_kept_in_order_until_they_are_acknowledged,
    the_audit_is_a_whole_chain, the_audit_is_read_in_pages,
};
pub use crate::conformance::journal_grants::{
    a_grant_is_counted_for_every_node, a_grant_is_made_once_for_a_life,
    a_grant_needs_an_active_version_and_an_open_gate,
    a_guard_on_grants_discards_the_whole_decision, a_new_life_voids_the_grants_of_the_node,
    a_return_deletes_the_grant_with_this_id_alone, a_return_is_refused_while_the_version_is_active,
    a_standing_tells_how_the_pair_stands,
    grants_are_copied_with_new_ids_for_every_node_that_holds_one,
};
use crate::conformance::records::{
    Writer, audit_entry, key_id, node, pair, promoted, record_in, version,
};

/// A world with a journal.
pub trait JournalWorld: Has<dyn Journal> {
    /// The key that the journal seals its audit with.
    fn audit_key(&self) -> Arc<AuditKey>;
}

/// Runs every case of the port `Journal`.
#[macro_export]
macro_rules! journal_conformance {
    ($open:path $(, $if_there:ident)?) => {
        $crate::conformance_cases! { journal, $open $(, $if_there)? =>
            a_pair_that_was_never_written_is_absent
            a_committed_record_reads_back_with_its_transaction
            a_transaction_that_is_asked_again_is_applied_once
            a_transaction_that_was_applied_is_recognised_before_anything_is_checked
            a_stale_epoch_is_fenced_and_changes_nothing
            a_stale_revision_conflicts_and_changes_nothing
            epoch_comes_before_revision_and_revision_before_guards
            an_older_life_is_fenced
            of_many_transactions_on_one_revision_one_is_written
            pairs_with_work_come_first
            pairs_do_not_see_each_other
            a_key_that_another_version_has_is_refused
            a_key_that_another_pair_has_is_refused
            a_secret_that_another_pair_has_is_refused
            a_versions_own_claims_do_not_count
            claims_outlive_the_version
            no_two_versions_share_a_key_even_without_a_guard
            events_are_kept_in_order_until_they_are_acknowledged
            the_audit_is_a_whole_chain
            an_audit_fact_is_recorded_once
            a_forced_revoke_names_the_outstanding_grants
            an_audit_entry_is_appended_outside_a_transition
            the_audit_is_read_in_pages
            a_grant_needs_an_active_version_and_an_open_gate
            a_grant_is_made_once_for_a_life
            a_grant_is_counted_for_every_node
            a_new_life_voids_the_grants_of_the_node
            a_return_deletes_the_grant_with_this_id_alone
            a_return_is_refused_while_the_version_is_active
            a_guard_on_grants_discards_the_whole_decision
            grants_are_copied_with_new_ids_for_every_node_that_holds_one
            a_standing_tells_how_the_pair_stands
        }
    };
}

/// `load`, `standing`, `grant`: there is no such pair.
pub async fn a_pair_that_was_never_written_is_absent(world: &impl JournalWorld) {
    let journal = world.port();
    let writer = Writer::begin(journal.clone(), "n1", pair("acme")).await;
    assert_eq!(journal.load(&pair("acme")).await, Ok(None));
    assert!(journal.pairs().await.expect("read").is_empty());
    assert!(journal.outbox(&pair("acme")).await.expect("read").is_empty());
    assert!(journal.audit(&pair("acme"), 0).await.expect("read").is_empty());
    assert_eq!(writer.count(1).await, 0);
    let no_pair = Err(keybaton_ports::GrantError::NoPair);
    assert_eq!(writer.grant(1, 1).await, no_pair);
    let standing = journal.standing(&pair("acme"), &writer.life).await;
    assert_eq!(standing, no_pair);
    let returned = writer.return_grant(1, crate::conformance::records::grant_id(1));
    assert_eq!(returned.await, no_pair);
}

/// `load`: what `commit` wrote.
pub async fn a_committed_record_reads_back_with_its_transaction(world: &impl JournalWorld) {
    let journal = world.port();
    let mut writer = Writer::begin(journal.clone(), "n1", pair("acme")).await;
    let transaction = writer.next(|transaction| promoted(record_in(transaction), 1, 1));
    let rev = writer.try_commit(transaction.clone()).await;
    assert_eq!(rev, Ok(Rev(1)));
    let stored = journal.load(&pair("acme")).await.expect("read").expect("written");
    assert_eq!(stored.record, transaction.record);
    assert_eq!(stored.last_txn, transaction.id);
}

/// `commit`: asked again under the same name after an unknown outcome.
pub async fn a_transaction_that_is_asked_again_is_applied_once(world: &impl JournalWorld) {
    let journal = world.port();
    let mut writer = Writer::begin(journal.clone(), "n1", pair("acme")).await;
    let transaction = writer.next(|transaction| {
        promoted(record_in(transaction), 1, 1);
        transaction.audit = vec![audit_entry(AuditKind::Promoted, "v1")];
        transaction.outbox = vec![(EventKind::NewKeyReady, None, Some(Version(1)))];
    });
    for _ in 0..3 {
        assert_eq!(journal.commit(transaction.clone()).await, Ok(Rev(1)));
    }
    assert_eq!(chain(&*journal, "acme").await.len(), 1);
    assert_eq!(journal.outbox(&pair("acme")).await.expect("read").len(), 1);
}

/// `commit`: the stored `last_txn` comes first.
pub async fn a_transaction_that_was_applied_is_recognised_before_anything_is_checked(
    world: &impl JournalWorld,
) {
    let journal = world.port();
    let mut writer = Writer::begin(journal.clone(), "n1", pair("acme")).await;
    writer.promote(1, 1).await;
    let transaction = writer.next(|_| {});
    writer.try_commit(transaction.clone()).await.expect("committed");
    let mut again = transaction;
    again.expect = (Epoch(77), Rev(77));
    again.guards = vec![Guard::NoGrants(Version(1))];
    writer.grant(1, 1).await.expect("granted");
    assert_eq!(journal.commit(again).await, Ok(Rev(2)));
}

/// `commit`: a write whose epoch is stale changes nothing.
pub async fn a_stale_epoch_is_fenced_and_changes_nothing(world: &impl JournalWorld) {
    let mut writer = Writer::provisioned(world.port(), "n1", pair("acme"), 1).await;
    writer.commit(|transaction| record_in(transaction).epoch = Epoch(2)).await;
    for expect in [(Epoch(1), Rev(2)), (Epoch(3), Rev(2)), (Epoch(0), Rev(0))] {
        let transaction = writer.next(|transaction| loud(transaction, expect));
        refused(&*writer.journal, transaction, &CommitError::Fenced).await;
    }
}

/// `commit`: a write whose revision is stale changes nothing.
pub async fn a_stale_revision_conflicts_and_changes_nothing(world: &impl JournalWorld) {
    let mut writer = Writer::provisioned(world.port(), "n1", pair("acme"), 1).await;
    writer.commit(|_| {}).await;
    for rev in [0, 1, 3, u64::MAX - 1] {
        let transaction = writer.next(|transaction| {
            record_in(transaction).rev = Rev(rev + 1);
            loud(transaction, (Epoch(1), Rev(rev)));
        });
        refused(&*writer.journal, transaction, &CommitError::Conflict).await;
    }
}

/// `commit`: epoch, revision, guards, in this order.
pub async fn epoch_comes_before_revision_and_revision_before_guards(world: &impl JournalWorld) {
    let mut writer = Writer::provisioned(world.port(), "n1", pair("acme"), 1).await;
    writer.grant(1, 1).await.expect("granted");
    let guard = Guard::NoGrants(Version(1));
    let all_wrong = writer.next(|transaction| {
        transaction.guards = vec![guard.clone()];
        transaction.expect = (Epoch(9), Rev(9));
    });
    assert_eq!(writer.journal.commit(all_wrong).await, Err(CommitError::Fenced));
    let two_wrong = writer.next(|transaction| {
        transaction.guards = vec![guard.clone()];
        transaction.expect = (Epoch(1), Rev(9));
    });
    assert_eq!(writer.journal.commit(two_wrong).await, Err(CommitError::Conflict));
    let one_wrong = writer.next(|transaction| transaction.guards = vec![guard.clone()]);
    assert_eq!(
        writer.journal.commit(one_wrong).await,
        Err(CommitError::Refused { guard, left: 1 })
    );
}

/// `begin_life`: older lives are fenced from here on.
pub async fn an_older_life_is_fenced(world: &impl JournalWorld) {
    use keybaton_ports::GrantError;
    let journal = world.port();
    let mut old = Writer::provisioned(journal.clone(), "n1", pair("acme"), 1).await;
    old.grant(1, 1).await.expect("granted");
    let life = journal.begin_life(&node("n1")).await.expect("a life");
    assert!(life.incarnation > old.life.incarnation);
    let transaction = old.next(|transaction| loud(transaction, (Epoch(1), Rev(1))));
    refused(&*journal, transaction, &CommitError::Fenced).await;
    assert_eq!(old.grant(1, 2).await, Err(GrantError::Fenced));
    let returned = old.return_grant(1, crate::conformance::records::grant_id(1));
    assert_eq!(returned.await, Err(GrantError::Fenced));
    let standing = journal.standing(&pair("acme"), &old.life).await;
    assert_eq!(standing, Err(GrantError::Fenced));
    let other = journal.begin_life(&node("n2")).await.expect("a life");
    assert!(
        journal.standing(&pair("acme"), &other).await.is_ok(),
        "the lives of another node are its own"
    );
}

/// `commit`: compare-and-set, also when many ask at once.
pub async fn of_many_transactions_on_one_revision_one_is_written(world: &impl JournalWorld) {
    let journal = world.port();
    let mut writer = Writer::provisioned(journal.clone(), "n1", pair("acme"), 1).await;
    let asked: Vec<_> = (0..20u8)
        .map(|n| {
            let journal = journal.clone();
            let transaction = writer.next(|transaction| transaction.id = TxnId([n; 16]));
            tokio::spawn(async move { (transaction.id, journal.commit(transaction).await) })
        })
        .collect();
    let mut written = Vec::new();
    for task in asked {
        match task.await.expect("no panic") {
            (id, Ok(rev)) => written.push((id, rev)),
            (_, refusal) => assert_eq!(refusal, Err(CommitError::Conflict)),
        }
    }
    let stored = journal.load(&pair("acme")).await.expect("read").expect("written");
    assert_eq!(written, [(stored.last_txn, Rev(2))]);
}

/// `pairs`: every pair, those with work first.
pub async fn pairs_with_work_come_first(world: &impl JournalWorld) {
    let journal = world.port();
    let mut idle = Writer::provisioned(journal.clone(), "n1", pair("a-idle"), 1).await;
    let due =
        Due { at: keybaton_messages::Timestamp(77), wait: std::time::Duration::from_millis(7) };
    idle.commit(|transaction| record_in(transaction).next_rotate_at = Some(due)).await;
    let mut owing = Writer::with(journal.clone(), idle.life.clone(), pair("z-owing"));
    owing
        .commit(|transaction| {
            record_in(transaction).obligations.push(Obligation {
                debt: Debt::Destroy { version: Version(1) },
                since: due.at,
                tries: 0,
                due,
            });
        })
        .await;
    let pairs = journal.pairs().await.expect("read");
    let seen: Vec<_> = pairs
        .iter()
        .map(|summary| (&summary.pair, summary.has_work, summary.next_rotate_at))
        .collect();
    assert_eq!(seen, [(&pair("z-owing"), true, None), (&pair("a-idle"), false, Some(due.at))]);
}

/// Everything is per pair: record, grants, events, audit.
pub async fn pairs_do_not_see_each_other(world: &impl JournalWorld) {
    let journal = world.port();
    let mut ours = Writer::provisioned(journal.clone(), "n1", pair("acme"), 1).await;
    let mut theirs = Writer::with(journal.clone(), ours.life.clone(), pair("acme-2"));
    theirs.promote(1, 2).await;
    ours.commit(|transaction| {
        transaction.audit = vec![audit_entry(AuditKind::Promoted, "v1")];
        transaction.outbox = vec![(EventKind::Initiated, None, None)];
    })
    .await;
    ours.grant(1, 1).await.expect("granted");
    assert_eq!(theirs.count(1).await, 0);
    assert!(journal.outbox(&pair("acme-2")).await.expect("read").is_empty());
    assert!(chain(&*journal, "acme-2").await.is_empty());
    let stored = journal.load(&pair("acme-2")).await.expect("read");
    assert_eq!(stored.expect("written").record, theirs.record);
}

/// [`Guard::KeyUnclaimed`]: no other version of the pair has the key id.
pub async fn a_key_that_another_version_has_is_refused(world: &impl JournalWorld) {
    let mut writer = Writer::provisioned(world.port(), "n1", pair("acme"), 1).await;
    let guard = unclaimed(2, "key_1", None);
    let transaction = writer.next(|transaction| transaction.guards = vec![guard.clone()]);
    let refusal = CommitError::Refused { guard, left: 0 };
    refused(&*writer.journal, transaction, &refusal).await;
}

/// [`Guard::KeyUnclaimed`]: no other pair has the key id, at the same provider.
pub async fn a_key_that_another_pair_has_is_refused(world: &impl JournalWorld) {
    let theirs = Writer::provisioned(world.port(), "n1", pair("umbrella"), 1).await;
    let mut ours = Writer::with(world.port(), theirs.life.clone(), pair("acme"));
    let guard = unclaimed(1, "key_1", Some(99));
    let transaction = ours.next(|transaction| transaction.guards = vec![guard.clone()]);
    let refusal = CommitError::Refused { guard, left: 0 };
    refused(&*ours.journal, transaction, &refusal).await;
}

/// [`Guard::KeyUnclaimed`]: nobody has the secret, whatever the key is called.
pub async fn a_secret_that_another_pair_has_is_refused(world: &impl JournalWorld) {
    let theirs = Writer::provisioned(world.port(), "n1", pair("umbrella"), 1).await;
    let mut ours = Writer::with(world.port(), theirs.life.clone(), pair("acme"));
    let guard = unclaimed(1, "key_other", Some(1));
    let transaction = ours.next(|transaction| transaction.guards = vec![guard.clone()]);
    let refusal = CommitError::Refused { guard, left: 0 };
    refused(&*ours.journal, transaction, &refusal).await;
}

/// [`Guard::KeyUnclaimed`]: v's own claims do not count.
pub async fn a_versions_own_claims_do_not_count(world: &impl JournalWorld) {
    let mut writer = Writer::provisioned(world.port(), "n1", pair("acme"), 1).await;
    let guards = vec![unclaimed(1, "key_1", Some(1)), unclaimed(2, "key_2", Some(2))];
    let rev = writer.commit(|transaction| transaction.guards = guards).await;
    assert_eq!(rev, Rev(2));
}

/// Key claims are kept for ever, also when the record has forgotten the version.
pub async fn claims_outlive_the_version(world: &impl JournalWorld) {
    let mut writer = Writer::provisioned(world.port(), "n1", pair("acme"), 1).await;
    writer.promote(2, 2).await;
    writer.set(1, VersionStatus::RevokePending).await;
    writer.set(1, VersionStatus::Revoked).await;
    writer
        .commit(|transaction| {
            record_in(transaction).versions.remove(&Version(1));
        })
        .await;
    for guard in [unclaimed(3, "key_1", None), unclaimed(3, "key_3", Some(1))] {
        let transaction = writer.next(|transaction| transaction.guards = vec![guard.clone()]);
        let refusal = CommitError::Refused { guard, left: 0 };
        refused(&*writer.journal, transaction, &refusal).await;
    }
}

/// Key claims follow from the record's versions, and are unique.
pub async fn no_two_versions_share_a_key_even_without_a_guard(world: &impl JournalWorld) {
    let theirs = Writer::provisioned(world.port(), "n1", pair("umbrella"), 1).await;
    let mut ours = Writer::with(world.port(), theirs.life.clone(), pair("acme"));
    let transaction = ours.next(|transaction| promoted(record_in(transaction), 1, 1));
    let answer = ours.journal.commit(transaction).await;
    assert!(
        matches!(answer, Err(CommitError::Refused { guard: Guard::KeyUnclaimed { .. }, left: 0 })),
        "{answer:?}"
    );
    assert_eq!(ours.journal.load(&pair("acme")).await, Ok(None));
}

/// Every audit record of a tenant's pair.
pub async fn chain(journal: &dyn Journal, tenant: &str) -> Vec<SealedAudit> {
    let mut records = Vec::new();
    loop {
        let after = records.last().map_or(0, |record: &SealedAudit| record.seq);
        let page = journal.audit(&pair(tenant), after).await.expect("read");
        if page.is_empty() {
            return records;
        }
        records.extend(page);
    }
}

/// A guard that the key and, if given, the secret are nobody else's.
fn unclaimed(of: u32, key: &str, secret: Option<u8>) -> Guard {
    Guard::KeyUnclaimed {
        version: Version(of),
        key_id: key_id(key),
        fp: secret.map(|n| version(VersionStatus::Staged, n).fp.expect("has one")),
    }
}

/// Makes the transaction write to every table, so that a trace of it would be seen.
pub(crate) fn loud(transaction: &mut Transaction, expect: (Epoch, Rev)) {
    transaction.expect = expect;
    transaction.audit = vec![audit_entry(AuditKind::Burned, "trace")];
    transaction.outbox = vec![(EventKind::Failed, None, None)];
    record_in(transaction).versions.insert(Version(50), version(VersionStatus::Staged, 50));
}

/// Commits, expects the refusal, and finds everything as it was.
pub(crate) async fn refused(
    journal: &dyn Journal,
    transaction: Transaction,
    refusal: &CommitError,
) {
    let pair = transaction.record.pair.clone();
    let tenant = pair.tenant.as_str();
    let before = (
        journal.load(&pair).await.expect("read"),
        journal.outbox(&pair).await.expect("read"),
        chain(journal, tenant).await,
    );
    assert_eq!(journal.commit(transaction).await.as_ref(), Err(refusal));
    let after = (
        journal.load(&pair).await.expect("read"),
        journal.outbox(&pair).await.expect("read"),
        chain(journal, tenant).await,
    );
    assert_eq!(before, after, "a refused transaction leaves a trace");
}

/// Distinct values, for counting.
pub(crate) fn distinct<T: Ord>(values: impl IntoIterator<Item = T>) -> usize {
    values.into_iter().collect::<BTreeSet<_>>().len()
}

/// The record of a pair that must be there.
pub(crate) async fn record_of(journal: &dyn Journal, tenant: &str) -> PairRecord {
    let stored = journal.load(&pair(tenant)).await.expect("read");
    PairRecord::clone(&stored.expect("written").record)
}
