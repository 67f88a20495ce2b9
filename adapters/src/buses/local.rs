//! The event bus inside one process: one bounded topic per tenant.

use async_trait::async_trait;
use dashmap::DashMap;
use futures::stream;
use keybaton_messages::{Event, TenantId, TraceParent};
use keybaton_ports::{EventBus, EventStream, Refusal};
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::broadcast::{self, Sender};

use crate::limits::BUS_LAG_MAX;

/// Events go from publisher to reader in memory. A topic exists only while somebody reads it.
#[derive(Default)]
pub struct LocalBus {
    topics: DashMap<TenantId, Sender<Event>>,
}

#[async_trait]
impl EventBus for LocalBus {
    async fn publish(&self, event: &Event, _: TraceParent) -> Result<(), Refusal> {
        let tenant = &event.pair.tenant;
        let is_unread = match self.topics.get(tenant) {
            // An event that nobody hears is not lost: the record tells the same.
            Some(topic) => topic.send(event.clone()).is_err(),
            None => false,
        };
        if is_unread {
            self.topics.remove_if(tenant, |_, topic| topic.receiver_count() == 0);
        }
        Ok(())
    }

    fn subscribe(&self, tenant: &TenantId) -> EventStream {
        let receiver = self
            .topics
            .entry(tenant.clone())
            .or_insert_with(|| broadcast::channel(BUS_LAG_MAX).0)
            .subscribe();
        Box::pin(stream::unfold(receiver, |mut receiver| async {
            loop {
                match receiver.recv().await {
                    Ok(event) => return Some((event, receiver)),
                    Err(RecvError::Lagged(_)) => {}
                    Err(RecvError::Closed) => return None,
                }
            }
        }))
    }
}
