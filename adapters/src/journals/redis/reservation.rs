//! One process works on a store in Redis, as the locked directory says of the embedded store.
//!
//! A note with an end, written again long before it. A killed process leaves it behind until then;
//! one that ends by itself takes it back.
//!
//! **Invariant:** a process that finds the note to be another one's stops.
//!
//! The note guards against a second start, not against a process that slept too long: what that one
//! still writes is refused by the epochs of the pairs and the lives of the nodes.

use std::time::Duration;

use keybaton_ports::{Entropy, Refusal};
use redis::{Client, cmd};
use tokio::sync::{oneshot, watch};
use tokio::time::sleep;

use super::{RedisStoreError, names};
use crate::buses::redis::link::Link;
use crate::limits::{
    REDIS_RESERVE_ASK_EVERY, REDIS_RESERVE_FOR, REDIS_RESERVE_LOOK_EVERY, REDIS_RESERVE_TRIES_MAX,
};
use crate::store::SystemEntropy;

const SCRIPT: &str = include_str!("reserve.lua");

/// Keeps other processes from working on the store until it is dropped.
pub struct RedisReservation {
    lost: watch::Receiver<Option<String>>,
    /// The note is taken back when this is dropped.
    _held: oneshot::Sender<()>,
}

impl RedisReservation {
    /// Becomes `Some(why)` when another process has taken the store; this one must then end.
    #[must_use]
    pub fn lost(&self) -> watch::Receiver<Option<String>> {
        self.lost.clone()
    }
}

/// What came of one try.
enum Try {
    Ours,
    /// Somebody else's until this end.
    Taken {
        by: String,
        until: String,
    },
}

/// This process, as the note names it.
struct Process {
    link: Link,
    /// No other process has it.
    id: String,
    whose: String,
}

/// Takes the note and keeps it.
///
/// One that was left behind is not written again: it is waited for until its end. One that is
/// belongs to a process that is alive.
pub(super) async fn reserve(client: Client) -> Result<RedisReservation, RedisStoreError> {
    let process = Process::new(client);
    let mut first_end = None;
    for _ in 0..REDIS_RESERVE_TRIES_MAX {
        let tried = process.note(REDIS_RESERVE_FOR).await;
        match tried.map_err(|why| RedisStoreError::Unavailable(why.to_string()))? {
            Try::Ours => return Ok(process.keep()),
            Try::Taken { by, until } if *first_end.get_or_insert(until.clone()) != until => {
                return Err(RedisStoreError::InUse { by });
            }
            Try::Taken { .. } => sleep(REDIS_RESERVE_ASK_EVERY).await,
        }
    }
    Err(RedisStoreError::InUse { by: "a process that is not heard of".into() })
}

impl Process {
    fn new(client: Client) -> Self {
        let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
        let host = if host.trim().is_empty() { "a host without a name" } else { host.trim() };
        let whose = format!("process {} on {host}", std::process::id());
        Self { link: Link::new(client), id: format!("{:016x}", SystemEntropy.bits()), whose }
    }

    async fn note(&self, length: Duration) -> Result<Try, Refusal> {
        let mut asked = cmd("EVAL");
        asked.arg(SCRIPT).arg(1).arg(names::OWNER);
        asked.arg(&self.id).arg(&self.whose).arg(length.as_millis().to_string());
        let (by, until): (String, String) = self.link.ask(&asked).await?;
        Ok(if by.is_empty() { Try::Ours } else { Try::Taken { by, until } })
    }

    fn keep(self) -> RedisReservation {
        let (tell, lost) = watch::channel(None);
        let (held, mut dropped) = oneshot::channel();
        tokio::spawn(async move {
            loop {
                tokio::select! {
                    _ = &mut dropped => {
                        // One that stays behind ends by itself.
                        let _ = self.note(Duration::ZERO).await;
                        return;
                    }
                    () = sleep(REDIS_RESERVE_LOOK_EVERY) => {}
                }
                match self.note(REDIS_RESERVE_FOR).await {
                    Ok(Try::Ours) => {}
                    Ok(Try::Taken { by, .. }) => {
                        tell.send_replace(Some(RedisStoreError::InUse { by }.to_string()));
                        return;
                    }
                    // While the server is away nobody else gets it either.
                    Err(why) => tracing::debug!(%why, "the journal in redis is not reserved anew"),
                }
            }
        });
        RedisReservation { lost, _held: held }
    }
}
