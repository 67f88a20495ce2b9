//! What the port `Journal` promises about events and the audit.

use keybaton_messages::{Event, EventKind, Rev, Version};
use keybaton_ports::limits::AUDIT_PAGE_MAX;
use keybaton_ports::{AuditKey, verify_chain};
use keybaton_rotation::AuditKind;

use crate::conformance::journal::{JournalWorld, chain};
use crate::conformance::records::{Writer, audit_entry, grant_id, pair};

/// `outbox`: stamped with revision and rotation, oldest first, until acknowledged.
pub async fn events_are_kept_in_order_until_they_are_acknowledged(world: &impl JournalWorld) {
    let journal = world.port();
    let mut writer = Writer::provisioned(journal.clone(), "n1", pair("acme"), 1).await;
    let (one, two) = (Some(Version(1)), Some(Version(2)));
    writer
        .commit(|transaction| {
            transaction.outbox =
                vec![(EventKind::Initiated, one, None), (EventKind::NewKeyReady, one, two)];
        })
        .await;
    writer
        .commit(|transaction| transaction.outbox = vec![(EventKind::DrainComplete, one, two)])
        .await;
    let seen = |events: Vec<Event>| -> Vec<_> {
        events
            .into_iter()
            .inspect(|event| {
                assert_eq!((&event.pair, &event.rotation.pair), (&pair("acme"), &pair("acme")))
            })
            .map(|event| (event.rev, event.kind, event.old, event.new))
            .collect()
    };
    assert_eq!(
        seen(journal.outbox(&pair("acme")).await.expect("read")),
        [
            (Rev(2), EventKind::Initiated, one, None),
            (Rev(2), EventKind::NewKeyReady, one, two),
            (Rev(3), EventKind::DrainComplete, one, two),
        ]
    );
    writer.commit(|transaction| transaction.published = Some(Rev(2))).await;
    assert_eq!(
        seen(journal.outbox(&pair("acme")).await.expect("read")),
        [(Rev(3), EventKind::DrainComplete, one, two)]
    );
}

/// The audit verifies with the journal's key, and with no other.
pub async fn the_audit_is_a_whole_chain(world: &impl JournalWorld) {
    let journal = world.port();
    let mut writer = Writer::provisioned(journal.clone(), "n1", pair("acme"), 1).await;
    for n in 0..5 {
        let audit = vec![
            audit_entry(AuditKind::Triggered, &n.to_string()),
            audit_entry(AuditKind::IssueIntent, &n.to_string()),
        ];
        writer.commit(|transaction| transaction.audit = audit).await;
    }
    let records = chain(&*journal, "acme").await;
    assert_eq!(records.len(), 10);
    let key = world.audit_key();
    assert_eq!(verify_chain(&key, &pair("acme"), &records), Ok(()));
    let other_key = AuditKey::new([0; 32]);
    assert!(verify_chain(&other_key, &pair("acme"), &records).is_err());
    let mut changed = records;
    changed[4].body.push(' ');
    let broken = verify_chain(&key, &pair("acme"), &changed);
    assert_eq!(broken.map_err(|broken| broken.seq), Err(5));
}

/// `commit`: an audit record whose (kind, dedupe) is in the chain is left out.
pub async fn an_audit_fact_is_recorded_once(world: &impl JournalWorld) {
    let journal = world.port();
    let mut writer = Writer::provisioned(journal.clone(), "n1", pair("acme"), 1).await;
    for _ in 0..2 {
        let audit = vec![
            audit_entry(AuditKind::Revoked, "key_1"),
            audit_entry(AuditKind::Revoked, "key_1"),
            audit_entry(AuditKind::Issued, "key_1"),
        ];
        writer.commit(|transaction| transaction.audit = audit).await;
    }
    let facts: Vec<_> = chain(&*journal, "acme")
        .await
        .into_iter()
        .map(|record| (record.kind, record.dedupe))
        .collect();
    let fact = |kind: &str| (kind.to_owned(), "key_1".to_owned());
    assert_eq!(facts, [fact("REVOKED"), fact("ISSUED")]);
}

/// `commit`: the audit of a forced revoke names the grants of its version that are out.
pub async fn a_forced_revoke_names_the_outstanding_grants(world: &impl JournalWorld) {
    let journal = world.port();
    let mut writer = Writer::provisioned(journal.clone(), "n1", pair("acme"), 1).await;
    writer.grant(1, 1).await.expect("granted");
    let mut entry = audit_entry(AuditKind::ForcedRevoke, "key_1");
    entry.version = Some(Version(1));
    writer.commit(|transaction| transaction.audit = vec![entry]).await;
    let records = chain(&*journal, "acme").await;
    let forced = records.iter().find(|record| record.kind == "FORCED_REVOKE");
    let body = &forced.expect("recorded").body;
    assert!(body.contains(&format!("outstanding grants: n1:{}", grant_id(1))), "{body}");
}

/// `append_audit`: the same chain, also for a pair that was never written.
pub async fn an_audit_entry_is_appended_outside_a_transition(world: &impl JournalWorld) {
    let journal = world.port();
    let entry = audit_entry(AuditKind::AccessRefused, "1");
    for _ in 0..2 {
        journal.append_audit(&pair("acme"), &entry).await.expect("appended");
    }
    let mut writer = Writer::begin(journal.clone(), "n1", pair("acme")).await;
    let audit = vec![audit_entry(AuditKind::Triggered, "1")];
    writer.commit(|transaction| transaction.audit = audit).await;
    let records = chain(&*journal, "acme").await;
    assert_eq!(records.len(), 2);
    let verified = verify_chain(&world.audit_key(), &pair("acme"), &records);
    assert_eq!(verified, Ok(()));
}

/// `audit`: records after a number, at most [`AUDIT_PAGE_MAX`].
pub async fn the_audit_is_read_in_pages(world: &impl JournalWorld) {
    let journal = world.port();
    let mut writer = Writer::provisioned(journal.clone(), "n1", pair("acme"), 1).await;
    let audit = (0..AUDIT_PAGE_MAX + 5)
        .map(|n| audit_entry(AuditKind::Triggered, &n.to_string()))
        .collect();
    writer.commit(|transaction| transaction.audit = audit).await;
    let page = async |after| journal.audit(&pair("acme"), after).await.expect("read");
    let first = page(0).await;
    assert_eq!(first.len(), AUDIT_PAGE_MAX);
    let last = first.last().expect("a full page").seq;
    let seqs: Vec<_> = page(last).await.iter().map(|r| r.seq - last).collect();
    assert_eq!(seqs, [1, 2, 3, 4, 5]);
    assert!(page(last + 5).await.is_empty());
    assert!(page(u64::MAX).await.is_empty());
}
