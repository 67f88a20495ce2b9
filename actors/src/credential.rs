//! What a task gets instead of a key: a handle that resolves at call time.
//!
//! ```text
//! CredentialHandle ── call() ───► CallLease ── send ──► HeldResponse   held to the last byte
//!                  └─ session() ► SessionLease                         for code that keeps a key
//! ```
//!
//! **Invariant:** acquire, then check the fence, then write the request: in this order.
//! **Invariant:** only a SessionLease shows bytes.

mod lease;

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use http::{HeaderMap, StatusCode};
use keybaton_messages::{PairId, TaskId, Version};
use keybaton_registry::Member;
use thiserror::Error;

use self::lease::CallEnd;
use self::lease::Held;
pub use self::lease::{CallLease, HeldResponse, SessionLease};
use crate::broker::PairCell;
use crate::broker_actor::BrokerMessage;
use crate::limits::{ACQUIRE_WAIT_MAX, KEY_DEAD_WAIT, REFUSED_REPEATS_MAX, WAITERS_MAX};
use crate::shared::Shared;

/// Why no lease was given.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum AcquireError {
    /// The gate stayed shut.
    #[error("no credential for {pair} after {waited:?}: {why}")]
    Paused {
        /// Which pair.
        pair: PairId,
        /// How long it was waited for.
        waited: Duration,
        /// Why the gate is shut.
        why: String,
    },
    /// Too many wait already.
    #[error("too many callers wait for {pair}; try again after {after:?}")]
    Busy {
        /// Which pair.
        pair: PairId,
        /// When to try again.
        after: Duration,
    },
    /// This node may not act any more.
    #[error("this node lost its lease and uses no credential; the task goes on elsewhere")]
    Fenced,
}

/// Why a call has no answer.
#[derive(Debug, Error)]
pub enum CallError {
    /// No lease was given.
    #[error(transparent)]
    Acquire(#[from] AcquireError),
    /// The calls on this version were cut by policy (an emergency, or an operator). Whether the
    /// call was executed is unknown.
    #[error("the call on {version} was cut: its key is being revoked")]
    Cut {
        /// The version that it used.
        version: Version,
    },
    /// The provider refused the key and no newer one came. The call was not executed.
    #[error("the provider refuses the key of {version}, and no newer version came in time")]
    Refused {
        /// The version that it used.
        version: Version,
    },
    /// The call lasted longer than the policy's `call_time_max`.
    #[error("the call lasted longer than {0:?}")]
    TooLong(Duration),
    /// The connection failed.
    #[error("the call failed")]
    Transport(#[source] reqwest::Error),
    /// The body is larger than the caller wanted to read.
    #[error("the answer is larger than {0} bytes")]
    TooLarge(usize),
    /// The key cannot stand in a header.
    #[error("the key of {version} is not a valid header value")]
    Header {
        /// The version.
        version: Version,
    },
}

/// A task's way to its credential. Cheap to clone; nested tools get a clone of it, never a key.
#[derive(Clone)]
pub struct CredentialHandle {
    inner: Arc<Inner>,
}

struct Inner {
    shared: Arc<Shared>,
    cell: Arc<PairCell>,
    member: Member<TaskId>,
    task: TaskId,
    call_time_max: Duration,
    /// The version that was taken last, 0 for none: what a step's result names.
    last_used: AtomicU32,
}

impl CredentialHandle {
    /// Resolves the handle of `task` on `pair`.
    #[must_use]
    pub fn new(shared: Arc<Shared>, pair: &PairId, task: TaskId, call_time_max: Duration) -> Self {
        let cell = shared.broker.cell(pair);
        let member = cell.slots.join(task.clone());
        let last_used = AtomicU32::new(0);
        Self { inner: Arc::new(Inner { shared, cell, member, task, call_time_max, last_used }) }
    }

    /// The pair behind the handle.
    #[must_use]
    pub fn pair(&self) -> &PairId {
        &self.inner.cell.pair
    }

    /// The version that would be handed out now, and the generation of its slot. One atomic read:
    /// a level to compare at step boundaries.
    #[must_use]
    pub fn current(&self) -> Option<(Version, u64)> {
        self.inner.cell.current()
    }

    /// The version that this handle, or a clone of it, took last.
    #[must_use]
    pub fn last_used(&self) -> Option<Version> {
        Some(self.inner.last_used.load(Ordering::Relaxed)).filter(|used| *used > 0).map(Version)
    }

    /// Takes the present version for one call, waiting while the gate is paused.
    ///
    /// # Errors
    /// [`AcquireError`]; waiting is bounded by [`ACQUIRE_WAIT_MAX`].
    pub async fn call(&self) -> Result<CallLease, AcquireError> {
        Ok(CallLease { held: self.acquire().await? })
    }

    /// Takes the present version without waiting; `None` while the gate is paused. For code that
    /// cannot wait, such as a synchronous header hook.
    #[must_use]
    pub fn try_call(&self) -> Option<CallLease> {
        let held = self.try_acquire()?;
        self.may_act().then_some(CallLease { held })
    }

    /// Takes the present version for code that keeps a key. Its holder must watch
    /// [`SessionLease::is_current`] and hand over at its next boundary.
    ///
    /// # Errors
    /// As [`CredentialHandle::call`].
    pub async fn session(&self) -> Result<SessionLease, AcquireError> {
        Ok(SessionLease { held: self.acquire().await?, cell: self.inner.cell.clone() })
    }

    /// Sends a request under the present version and returns the response with its lease.
    ///
    /// A 401 means that the call was not executed: it is repeated under the next version as soon
    /// as there is one. A 401 under the active version is reported, and confirmed by probes,
    /// before the call gives up.
    ///
    /// # Errors
    /// [`CallError`]. A request whose body is a stream cannot be repeated and is refused at once.
    pub async fn send(&self, request: reqwest::Request) -> Result<HeldResponse, CallError> {
        let mut request = request;
        for _ in 0..REFUSED_REPEATS_MAX {
            let again = request.try_clone();
            let lease = self.call().await?;
            let version = lease.version();
            let held = self.send_once(lease, request).await?;
            if held.status() != StatusCode::UNAUTHORIZED {
                return Ok(held);
            }
            drop(held);
            match again {
                Some(again) if self.newer_than(version).await => request = again,
                _ => return Err(CallError::Refused { version }),
            }
        }
        Err(CallError::Refused { version: self.current().map_or(Version(0), |(v, _)| v) })
    }

    async fn send_once(
        &self,
        lease: CallLease,
        mut request: reqwest::Request,
    ) -> Result<HeldResponse, CallError> {
        let end = CallEnd::after(self.inner.call_time_max);
        self.authorize(&lease, request.headers_mut())?;
        let response = lease.within(end, self.inner.shared.http.execute(request)).await?;
        Ok(HeldResponse { response, lease, end })
    }

    /// Checks the fence and sets the lease's header, marked sensitive. The last thing to do before
    /// the request is written.
    ///
    /// # Errors
    /// [`AcquireError::Fenced`], or a key that cannot stand in a header.
    pub fn authorize(&self, lease: &CallLease, headers: &mut HeaderMap) -> Result<(), CallError> {
        if !self.may_act() {
            return Err(AcquireError::Fenced.into());
        }
        let (name, value) = lease.header()?;
        headers.insert(name, value);
        Ok(())
    }

    /// Reports that the provider refused `version` with 401 and waits until a newer version is
    /// handed out; `false` when none came, or when the key was probed and found alive.
    pub async fn newer_than(&self, version: Version) -> bool {
        let inner = &self.inner;
        let deadline = tokio::time::Instant::now() + KEY_DEAD_WAIT;
        let found_not_dead = inner.cell.found_not_dead();
        loop {
            let changed = inner.cell.changed.notified();
            tokio::pin!(changed);
            changed.as_mut().enable();
            match self.current() {
                Some((current, _)) if current != version => return true,
                Some(_) if inner.cell.found_not_dead() != found_not_dead => return false,
                Some(_) => {
                    inner.shared.broker_inbox.cast(BrokerMessage::Refused {
                        pair: inner.cell.pair.clone(),
                        version,
                        task: inner.task.clone(),
                    });
                }
                None => {}
            }
            if tokio::time::timeout_at(deadline, changed).await.is_err() {
                return false;
            }
        }
    }

    fn may_act(&self) -> bool {
        self.inner.shared.fence.may_act(self.inner.shared.ports.clock.as_ref())
    }

    fn try_acquire(&self) -> Option<Held> {
        let lease = self.inner.member.acquire_owned().ok()?;
        let open = self.inner.cell.opened(Version(lease.version()))?;
        self.inner.last_used.store(lease.version(), Ordering::Relaxed);
        Some(Held { lease, open })
    }

    async fn acquire(&self) -> Result<Held, AcquireError> {
        if !self.may_act() {
            return Err(AcquireError::Fenced);
        }
        match self.try_acquire() {
            Some(held) => Ok(held),
            None => self.acquire_waiting().await,
        }
    }

    async fn acquire_waiting(&self) -> Result<Held, AcquireError> {
        let cell = &self.inner.cell;
        let waiting = Waiting::begin(cell);
        if waiting.place > WAITERS_MAX {
            let after = Duration::from_secs(1);
            return Err(AcquireError::Busy { pair: cell.pair.clone(), after });
        }
        let deadline = tokio::time::Instant::now() + ACQUIRE_WAIT_MAX;
        loop {
            let changed = cell.changed.notified();
            tokio::pin!(changed);
            changed.as_mut().enable();
            if let Some(held) = self.try_acquire() {
                return Ok(held);
            }
            if !self.may_act() {
                return Err(AcquireError::Fenced);
            }
            self.inner.shared.broker_inbox.cast(BrokerMessage::Attend(cell.pair.clone()));
            if tokio::time::timeout_at(deadline, changed).await.is_err() {
                return Err(AcquireError::Paused {
                    pair: cell.pair.clone(),
                    waited: ACQUIRE_WAIT_MAX,
                    why: cell.why(),
                });
            }
        }
    }
}

struct Waiting<'a> {
    cell: &'a PairCell,
    place: usize,
}

impl<'a> Waiting<'a> {
    fn begin(cell: &'a PairCell) -> Self {
        Self { place: cell.wait_begins(), cell }
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.cell.wait_ends();
    }
}
