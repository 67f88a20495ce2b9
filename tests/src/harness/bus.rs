//! Buses to publish to: one on which nothing arrives, and one that writes everything down.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use async_trait::async_trait;
use futures::stream;
use keybaton_messages::{Event, TenantId, TraceParent};
use keybaton_ports::{EventBus, EventStream, Refusal};
use parking_lot::Mutex;

/// The variable that takes the bus away from every world of a process, when it says `off`.
const SWITCH: &str = "KEYBATON_TEST_BUS";

/// A bus that loses what it takes, refuses, or never answers, in turn. Its readers hear the end at
/// once.
#[derive(Default)]
pub struct DeadBus(AtomicU32);

impl DeadBus {
    /// The variable's name.
    pub const SWITCH: &'static str = SWITCH;

    /// A dead bus, if the environment asks for it.
    pub(super) fn if_asked() -> Option<Arc<dyn EventBus>> {
        let asked = std::env::var(SWITCH).ok()?;
        assert_eq!(asked, "off", "{SWITCH} is off, or not set");
        Some(Arc::new(Self::default()))
    }
}

#[async_trait]
impl EventBus for DeadBus {
    async fn publish(&self, _: &Event, _: TraceParent) -> Result<(), Refusal> {
        match self.0.fetch_add(1, Ordering::Relaxed) % 3 {
            0 => Ok(()),
            1 => Err(Refusal::busy("the bus is off")),
            _ => std::future::pending().await,
        }
    }

    fn subscribe(&self, _: &TenantId) -> EventStream {
        Box::pin(stream::empty())
    }
}

/// A bus that remembers what was published, for a hunt.
#[derive(Default)]
pub struct HeardBus(Mutex<Vec<Event>>);

impl HeardBus {
    /// Everything so far.
    #[must_use]
    pub fn heard(&self) -> Vec<Event> {
        self.0.lock().clone()
    }
}

#[async_trait]
impl EventBus for HeardBus {
    async fn publish(&self, event: &Event, _: TraceParent) -> Result<(), Refusal> {
        self.0.lock().push(event.clone());
        Ok(())
    }

    fn subscribe(&self, _: &TenantId) -> EventStream {
        Box::pin(stream::empty())
    }
}
