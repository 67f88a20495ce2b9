//! Ships sealed audit records from the journal to the sink.
//!
//! **Invariant:** ships in order and from where the last shipment ended; the sink leaves out what
//! it has, so shipping twice is harmless.

use std::collections::HashMap;
use std::sync::Arc;

use keybaton_messages::PairId;
use ractor::{Actor, ActorProcessingErr, ActorRef};

use crate::limits::STORE_RETRY_MAX;
use crate::shared::Shared;

/// What the AuditShipper is told.
pub enum AuditMessage {
    /// This pair has new records.
    Ship(PairId),
    /// Say when everything so far is shipped.
    Flush(tokio::sync::oneshot::Sender<()>),
}

impl ractor::Message for AuditMessage {}

/// Owns how far each chain was shipped.
pub struct AuditShipper(pub Arc<Shared>);

impl Actor for AuditShipper {
    type Msg = AuditMessage;
    type State = HashMap<PairId, u64>;
    type Arguments = ();

    async fn pre_start(
        &self,
        myself: ActorRef<AuditMessage>,
        (): (),
    ) -> Result<HashMap<PairId, u64>, ActorProcessingErr> {
        self.0.shipper.set(myself.clone());
        let pairs = self.0.ports.journal.pairs().await.map_err(|refusal| refusal.to_string())?;
        for summary in pairs {
            myself.cast(AuditMessage::Ship(summary.pair))?;
        }
        Ok(HashMap::new())
    }

    async fn handle(
        &self,
        myself: ActorRef<AuditMessage>,
        message: AuditMessage,
        shipped: &mut HashMap<PairId, u64>,
    ) -> Result<(), ActorProcessingErr> {
        match message {
            AuditMessage::Flush(done) => {
                let _ = done.send(());
            }
            AuditMessage::Ship(pair) => {
                let after = shipped.entry(pair.clone()).or_default();
                match self.ship(&pair, *after).await {
                    Ok(reached) => *after = reached,
                    Err(why) => {
                        metrics::counter!("keybaton_audit_write_failures_total").increment(1);
                        tracing::error!(%pair, why, "audit records not shipped yet");
                        let _timer =
                            myself.send_after(STORE_RETRY_MAX, move || AuditMessage::Ship(pair));
                    }
                }
            }
        }
        Ok(())
    }
}

impl AuditShipper {
    async fn ship(&self, pair: &PairId, after: u64) -> Result<u64, String> {
        let mut reached = after;
        loop {
            let journal = &self.0.ports.journal;
            let records = journal.audit(pair, reached).await.map_err(|r| r.to_string())?;
            let Some(last) = records.last() else {
                return Ok(reached);
            };
            let seq = last.seq;
            self.0.ports.audit.ship(&records).await.map_err(|refusal| refusal.to_string())?;
            reached = seq;
        }
    }
}
