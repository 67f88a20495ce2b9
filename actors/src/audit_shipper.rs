//! Ships sealed audit records from the journal to the sink.
//!
//! Pairs gather while a shipment is under way; the next one takes all of them. So the sink syncs as
//! often as it can, and not once for every transition of every pair.
//!
//! **Invariant:** ships in order and from where the last shipment ended; the sink leaves out what
//! it has, so shipping twice is harmless.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use keybaton_messages::PairId;
use keybaton_ports::limits::AUDIT_PAGE_MAX;
use keybaton_ports::{Refusal, crash_point};
use ractor::{Actor, ActorProcessingErr, ActorRef};

use crate::limits::{PAIRS_PER_SHIPMENT, STORE_RETRY_MAX};
use crate::shared::Shared;

/// What the AuditShipper is told.
pub enum AuditMessage {
    /// This pair has new records.
    Ship(PairId),
    /// Ship what has gathered.
    Go,
    /// Ship at once what there is, until all is shipped or the sink refuses; then say so.
    Flush(tokio::sync::oneshot::Sender<()>),
}

impl ractor::Message for AuditMessage {}

/// Owns how far each chain was shipped.
pub struct AuditShipper(pub Arc<Shared>);

/// How far each chain was shipped, and which have more.
#[derive(Default)]
pub struct Shipping {
    shipped: HashMap<PairId, u64>,
    due: BTreeSet<PairId>,
    /// A `Go` is on its way.
    is_called: bool,
}

impl Actor for AuditShipper {
    type Msg = AuditMessage;
    type State = Shipping;
    type Arguments = ();

    async fn pre_start(
        &self,
        myself: ActorRef<AuditMessage>,
        (): (),
    ) -> Result<Shipping, ActorProcessingErr> {
        self.0.shipper.set(myself.clone());
        let pairs = self.0.ports.journal.pairs().await.map_err(|refusal| refusal.to_string())?;
        for summary in pairs {
            myself.cast(AuditMessage::Ship(summary.pair))?;
        }
        Ok(Shipping::default())
    }

    async fn handle(
        &self,
        myself: ActorRef<AuditMessage>,
        message: AuditMessage,
        shipping: &mut Shipping,
    ) -> Result<(), ActorProcessingErr> {
        match message {
            AuditMessage::Ship(pair) => {
                shipping.due.insert(pair);
            }
            AuditMessage::Go => {
                shipping.is_called = false;
                self.ship(&myself, shipping).await;
            }
            AuditMessage::Flush(done) => {
                // What was announced while nobody listened is meant too.
                if let Ok(pairs) = self.0.ports.journal.pairs().await {
                    shipping.due.extend(pairs.into_iter().map(|summary| summary.pair));
                }
                while !shipping.due.is_empty() && self.ship(&myself, shipping).await {}
                let _ = done.send(());
            }
        }
        if !shipping.due.is_empty() && !shipping.is_called {
            shipping.is_called = true;
            myself.cast(AuditMessage::Go)?;
        }
        Ok(())
    }
}

/// Has everything so far shipped, by the shipper that is there or the one that comes back after it.
/// Ends early when a store refuses (look whether all is there), and never while no shipper starts:
/// bound it.
pub async fn flush(shared: &Shared) {
    loop {
        let next = shared.shipper.next();
        let (done, flushed) = tokio::sync::oneshot::channel();
        if shared.shipper.cast(AuditMessage::Flush(done)) && flushed.await.is_ok() {
            return;
        }
        next.await;
    }
}

impl AuditShipper {
    /// One shipment of pairs that are due; those that could not be shipped are due again later.
    /// Says whether the sink took it.
    async fn ship(&self, myself: &ActorRef<AuditMessage>, shipping: &mut Shipping) -> bool {
        let mut records = Vec::new();
        let mut reached = Vec::new();
        while let Some(pair) = shipping.due.pop_first() {
            let after = shipping.shipped.get(&pair).copied().unwrap_or_default();
            match self.0.ports.journal.audit(&pair, after).await {
                Ok(page) => {
                    crash_point::reach("audit.shipping", &pair.tenant);
                    let seq = page.last().map_or(after, |last| last.seq);
                    reached.push((pair, seq, page.len() == AUDIT_PAGE_MAX));
                    records.extend(page);
                }
                Err(refusal) => {
                    not_shipped(&refusal);
                    let again = move || AuditMessage::Ship(pair);
                    let _timer = myself.send_after(STORE_RETRY_MAX, again);
                }
            }
            if reached.len() >= PAIRS_PER_SHIPMENT || records.len() >= AUDIT_PAGE_MAX {
                break;
            }
        }
        let shipped = match &records[..] {
            [] => Ok(()),
            records => {
                if reached.iter().any(|(pair, ..)| crash_point::doubles("audit", &pair.tenant)) {
                    drop(self.0.ports.audit.ship(records).await);
                }
                self.0.ports.audit.ship(records).await
            }
        };
        for (pair, seq, has_more) in reached {
            crash_point::reach("audit.shipped", &pair.tenant);
            if shipped.is_err() || has_more {
                shipping.due.insert(pair.clone());
            }
            if shipped.is_ok() {
                shipping.shipped.insert(pair, seq);
            }
        }
        if let Err(refusal) = &shipped {
            not_shipped(refusal);
            // One try for all that is due, however much becomes due meanwhile.
            shipping.is_called = true;
            let _timer = myself.send_after(STORE_RETRY_MAX, || AuditMessage::Go);
        }
        shipped.is_ok()
    }
}

fn not_shipped(refusal: &Refusal) {
    metrics::counter!("keybaton_audit_write_failures_total").increment(1);
    tracing::error!(%refusal, "audit records not shipped yet");
}
