//! Journals that remember what they wrote, on a store that others write to as well: whoever remembers
//! answers as if it had read.

use std::sync::Arc;

use keybaton_messages::{PairId, TxnId, Version};
use keybaton_ports::{CommitError, GrantError, Journal};
use keybaton_rotation::{AuditKind, CopyGrants, Guard};
use keybaton_tests::conformance::journal::chain;
use keybaton_tests::conformance::records::{
    Writer, audit_entry, grant_id, node, pair, promoted, record_in,
};

type Handle = Arc<dyn Journal>;

fn acme() -> PairId {
    pair("acme")
}

/// A writer whose journal remembers the pair: the last one of several writes needed no reading.
async fn remembering(journal: &Handle) -> Writer {
    let mut writer = Writer::provisioned(journal.clone(), "n1", acme(), 1).await;
    for n in 0..2 {
        let entry = audit_entry(AuditKind::Triggered, &format!("one-{n}"));
        writer.commit(|transaction| transaction.audit = vec![entry]).await;
    }
    writer
}

/// The same writer on another journal.
fn moved(writer: &Writer, journal: &Handle) -> Writer {
    let mut moved = Writer::with(journal.clone(), writer.life.clone(), acme());
    moved.record = writer.record.clone();
    moved
}

/// A record that another journal wrote: nothing is written over it, and the audit goes on behind it.
pub async fn what_another_one_wrote_is_not_written_over(one: &Handle, other: &Handle) {
    let mut writer = remembering(one).await;
    let mut elsewhere = moved(&writer, other);
    let entry = audit_entry(AuditKind::Triggered, "other");
    elsewhere.commit(|transaction| transaction.audit = vec![entry]).await;

    let stale = writer.next(|transaction| transaction.id = TxnId([9; 16]));
    assert_eq!(one.commit(stale).await, Err(CommitError::Conflict));
    let stored = one.load(&acme()).await.expect("read").expect("written");
    assert_eq!(stored.record, elsewhere.record);

    // A fact that the other one wrote down is left out by whoever remembers none of it.
    elsewhere.commit(|_| {}).await;
    writer.record = elsewhere.record.clone();
    writer.commit(|_| {}).await;
    let mut elsewhere = moved(&writer, other);
    let entry = audit_entry(AuditKind::Triggered, "late");
    other.append_audit(&acme(), &entry).await.expect("appended");
    elsewhere.commit(|_| {}).await;
    writer.record = elsewhere.record.clone();
    writer.commit(|transaction| transaction.audit = vec![entry]).await;
    let audit = chain(&**one, "acme").await;
    assert_eq!(audit.len(), 4, "each fact once");
    assert!(audit.windows(2).all(|two| two[1].prev == two[0].hash), "one chain");
}

/// A grant that another journal gave or took back: a guard counts it as it stands.
pub async fn a_grant_that_another_one_gave_is_counted(one: &Handle, other: &Handle) {
    let mut writer = remembering(one).await;
    let holder = other.begin_life(&node("n2")).await.expect("a life");
    let unheld = |transaction: &mut keybaton_ports::Transaction| {
        transaction.guards = vec![Guard::NoGrants(Version(1))];
    };
    other.grant(&acme(), Version(1), &holder, grant_id(2)).await.expect("granted");
    let guarded = writer.next(unheld);
    let refused = CommitError::Refused { guard: Guard::NoGrants(Version(1)), left: 1 };
    assert_eq!(one.commit(guarded).await, Err(refused));

    // The one that was refused is decided on what is there by then.
    writer.promote(2, 2).await;
    writer.commit(|_| {}).await;
    let back = other.return_grant(&acme(), Version(1), &holder, grant_id(2)).await;
    assert_eq!(back.expect("returned").grants, []);
    writer.commit(unheld).await;
}

/// What is refused from memory is decided on what is there.
pub async fn what_memory_would_refuse_is_read(one: &Handle, other: &Handle) {
    let mut writer = remembering(one).await;
    let mut elsewhere = moved(&writer, other);
    elsewhere.promote(2, 2).await;
    let standing = one.grant(&acme(), Version(2), &writer.life, grant_id(1)).await;
    assert_eq!(standing.expect("granted").grants.len(), 1);
    elsewhere.commit(|_| {}).await;
    writer.record = elsewhere.record.clone();
    writer.commit(|_| {}).await;
    let refused = one.grant(&acme(), Version(1), &writer.life, grant_id(2)).await;
    assert!(matches!(refused, Err(GrantError::Refused(_))), "{refused:?}");
}

/// A life that began at another journal: its predecessor writes nothing, and nothing is copied for it.
pub async fn a_life_that_began_elsewhere_is_noticed(one: &Handle, other: &Handle) {
    let mut writer = remembering(one).await;
    let holder = other.begin_life(&node("n2")).await.expect("a life");
    one.grant(&acme(), Version(1), &holder, grant_id(2)).await.expect("granted");
    writer.commit(|_| {}).await;
    let granted = chain(&**one, "acme").await.len();

    other.begin_life(&node("n2")).await.expect("the next life");
    writer
        .commit(|transaction| {
            promoted(record_in(transaction), 2, 2);
            transaction.grants = Some(CopyGrants { from: Version(1), to: Version(2) });
        })
        .await;
    assert_eq!(chain(&**one, "acme").await.len(), granted, "nobody was granted anything");
    writer.commit(|_| {}).await;

    let again = other.begin_life(&writer.life.node).await.expect("the next life");
    let late = writer.next(|_| {});
    assert_eq!(one.commit(late).await, Err(CommitError::Fenced));
    let mut next = Writer::with(one.clone(), again, acme());
    next.record = writer.record.clone();
    next.commit(|transaction| transaction.id = TxnId([8; 16])).await;
}

/// All of these, on two stores that lie on one database.
macro_rules! on {
    ($two:path) => {
        $crate::remembered::on! { $two,
            what_another_one_wrote_is_not_written_over
            a_grant_that_another_one_gave_is_counted
            what_memory_would_refuse_is_read
            a_life_that_began_elsewhere_is_noticed
        }
    };
    ($two:path, $($case:ident)*) => {
        $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn $case() {
            let Some((one, other)) = $two().await else { return };
            $crate::remembered::$case(&one, &other).await;
        })*
    };
}
pub(crate) use on;
