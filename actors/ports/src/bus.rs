//! Where events are published, one topic per tenant.

use std::pin::Pin;

use async_trait::async_trait;
use futures_core::Stream;
use keybaton_messages::{Event, TenantId, TraceParent};

use crate::refusal::Refusal;

/// Events of one tenant, from the moment of subscribing. Ends when the bus closes; a reader that
/// falls behind loses the oldest events, never the connection.
pub type EventStream = Pin<Box<dyn Stream<Item = Event> + Send>>;

/// Carries hints. Losing every one of them costs time, never safety.
#[async_trait]
pub trait EventBus: Send + Sync {
    /// Publishes to the tenant's topic, with the trace of its rotation for readers that keep one.
    /// May be called twice for one event; a reader hears it once or twice.
    async fn publish(&self, event: &Event, trace: TraceParent) -> Result<(), Refusal>;

    /// Reads the topic of one tenant, in order. No event of another tenant ever arrives here.
    fn subscribe(&self, tenant: &TenantId) -> EventStream;
}
