//! What the port `AuditSink` promises.

use keybaton_ports::{AuditKey, AuditSink, SealedAudit, seal};

use crate::conformance::Has;
use crate::conformance::records::pair;

/// A world with a sink whose content can be looked at.
pub trait SinkWorld: Has<dyn AuditSink> {
    /// Everything that was shipped, in the order in which it lies there.
    fn shipped(&self) -> Vec<SealedAudit>;
}

/// Runs every case of the port `AuditSink`.
#[macro_export]
macro_rules! audit_conformance {
    ($open:path) => {
        $crate::conformance_cases! { audit, $open =>
            records_lie_there_in_order
            a_record_that_is_there_is_not_appended_again
            nothing_is_shipped_by_an_empty_call
        }
    };
}

/// The key of [`chain`].
#[must_use]
pub fn audit_key() -> AuditKey {
    AuditKey::new([5; 32])
}

/// A whole chain of a tenant's pair.
#[must_use]
pub fn chain(tenant: &str, records: u64) -> Vec<SealedAudit> {
    let mut prev = [0; 32];
    (1..=records)
        .map(|seq| {
            let body = format!(r#"{{"note":"record {seq}\nwith \"quotes\" and \u001b"}}"#);
            let dedupe = format!("fact {seq}");
            let record = seal(&audit_key(), &pair(tenant), seq, prev, "TRIGGERED", &dedupe, body);
            prev = record.hash;
            record
        })
        .collect()
}

/// `ship`: appends durably, in order.
pub async fn records_lie_there_in_order(world: &impl SinkWorld) {
    let sink = world.port();
    let (ours, theirs) = (chain("acme", 6), chain("umbrella", 2));
    sink.ship(&ours[..3]).await.expect("shipped");
    sink.ship(&theirs).await.expect("shipped");
    sink.ship(&ours[3..]).await.expect("shipped");
    let mut expected = ours[..3].to_vec();
    expected.extend(theirs);
    expected.extend(ours[3..].to_vec());
    assert_eq!(world.shipped(), expected);
}

/// `ship`: a record that is there (same pair and seq) is not appended again.
pub async fn a_record_that_is_there_is_not_appended_again(world: &impl SinkWorld) {
    let sink = world.port();
    let records = chain("acme", 6);
    for upto in [3, 3, 2, 5, 6, 6] {
        sink.ship(&records[..upto]).await.expect("shipped");
    }
    assert_eq!(world.shipped(), records);
}

/// `ship`: nothing is no fault.
pub async fn nothing_is_shipped_by_an_empty_call(world: &impl SinkWorld) {
    world.port().ship(&[]).await.expect("shipped");
    assert_eq!(world.shipped(), []);
}
