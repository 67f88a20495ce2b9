//! Leases: the right to use a version, for a call or for a session.
//!
//! **Invariant:** a lease is released by dropping it, whatever happens to its holder.
//! **Invariant:** only a SessionLease shows bytes.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use keybaton_messages::{TaskId, Version};
use keybaton_registry::Lease;
use tokio::time::Instant;
use zeroize::Zeroizing;

use super::CallError;
use crate::broker::{OpenVersion, PairCell};

/// The right to use a version for one call.
pub struct CallLease {
    pub(super) held: Held,
}

/// The right to keep a version's key, until asked to hand over.
pub struct SessionLease {
    pub(super) held: Held,
    pub(super) cell: Arc<PairCell>,
}

/// A response whose lease lives until its last byte was read, or it is dropped.
pub struct HeldResponse {
    // Order matters: the connection closes before the lease is released.
    pub(super) response: reqwest::Response,
    pub(super) lease: CallLease,
    pub(super) end: CallEnd,
}

/// When a call must have ended, its last byte included.
#[derive(Clone, Copy)]
pub(super) struct CallEnd {
    at: Instant,
    longest: Duration,
}

impl CallEnd {
    pub(super) fn after(longest: Duration) -> Self {
        Self { at: Instant::now() + longest, longest }
    }
}

pub(super) struct Held {
    pub(super) lease: Lease<TaskId>,
    pub(super) open: Arc<OpenVersion>,
}

impl Held {
    fn version(&self) -> Version {
        Version(self.lease.version())
    }
}

impl CallLease {
    /// The version that is held.
    #[must_use]
    pub fn version(&self) -> Version {
        self.held.version()
    }

    /// Resolves when policy cuts the calls on this version. A caller that sends by itself must
    /// drop its connection then.
    pub async fn cut(&self) {
        self.held.open.cut.cancelled().await;
    }

    /// A piece of the call's work: ends when it is done, or with the call, whatever ends that.
    pub(super) async fn within<T>(
        &self,
        end: CallEnd,
        work: impl Future<Output = reqwest::Result<T>>,
    ) -> Result<T, CallError> {
        tokio::select! {
            biased;
            () = self.cut() => Err(CallError::Cut { version: self.version() }),
            () = tokio::time::sleep_until(end.at) => Err(CallError::TooLong(end.longest)),
            done = work => done.map_err(|error| CallError::Transport(error.without_url())),
        }
    }

    pub(super) fn header(&self) -> Result<(HeaderName, HeaderValue), CallError> {
        let open = &self.held.open;
        let mut text = Zeroizing::new(Vec::with_capacity(256));
        text.extend_from_slice(open.header.scheme.as_bytes());
        text.extend_from_slice(open.secret.expose());
        let mut value = HeaderValue::from_bytes(&text)
            .map_err(|_| CallError::Header { version: open.version })?;
        value.set_sensitive(true);
        Ok((HeaderName::from_static(open.header.name), value))
    }
}

impl Drop for CallLease {
    fn drop(&mut self) {
        self.held.open.drain.note_end(Instant::now());
    }
}

impl SessionLease {
    /// The version that is held.
    #[must_use]
    pub fn version(&self) -> Version {
        self.held.version()
    }

    /// Whether this version is still the one to hold: a level, one atomic read. When it is not,
    /// finish what you do, persist, drop this lease and take a new one.
    #[must_use]
    pub fn is_current(&self) -> bool {
        self.held.lease.is_current()
    }

    /// Waits until this version is not the one to hold any more.
    pub async fn hand_over_requested(&self) {
        loop {
            let changed = self.cell.changed.notified();
            tokio::pin!(changed);
            changed.as_mut().enable();
            if !self.is_current() {
                return;
            }
            changed.await;
        }
    }

    /// Resolves when policy cuts this version: stop using the key at once.
    pub async fn cut(&self) {
        self.held.open.cut.cancelled().await;
    }

    /// Whether policy has cut this version.
    #[must_use]
    pub fn is_cut(&self) -> bool {
        self.held.open.cut.is_cancelled()
    }

    /// The key itself. It must not outlive this lease, and must not be logged or stored.
    #[must_use]
    pub fn danger_expose_key(&self) -> &[u8] {
        self.held.open.secret.expose()
    }

    /// Notes that the work under this lease ended at `at`; what follows is the hand-over itself.
    pub(crate) fn note_work_ended(&self, at: Instant) {
        self.held.open.drain.note_end(at);
    }
}

impl HeldResponse {
    /// The response's status.
    #[must_use]
    pub fn status(&self) -> StatusCode {
        self.response.status()
    }

    /// The response's headers.
    #[must_use]
    pub fn headers(&self) -> &HeaderMap {
        self.response.headers()
    }

    /// The version under which the call runs.
    #[must_use]
    pub fn version(&self) -> Version {
        self.lease.version()
    }

    /// The next piece of the body; `None` at its end.
    ///
    /// # Errors
    /// [`CallError::Cut`], [`CallError::TooLong`] or a broken connection.
    pub async fn chunk(&mut self) -> Result<Option<Bytes>, CallError> {
        self.lease.within(self.end, self.response.chunk()).await
    }

    /// The whole body, at most `bytes_max` of it; the lease is released afterwards.
    ///
    /// # Errors
    /// As [`HeldResponse::chunk`]; [`CallError::TooLarge`] beyond `bytes_max`.
    pub async fn bytes(mut self, bytes_max: usize) -> Result<Vec<u8>, CallError> {
        let mut body = Vec::new();
        while let Some(chunk) = self.chunk().await? {
            if body.len() + chunk.len() > bytes_max {
                return Err(CallError::TooLarge(bytes_max));
            }
            body.extend_from_slice(&chunk);
        }
        Ok(body)
    }
}
