//! One operation on its way through the writer, shared by the caller that waits for it and the one
//! that commits it.

use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use parking_lot::Mutex;

use crate::store::{Down, Fault, Tables, Work};

enum State {
    /// Queued or being carried out.
    Waiting(Option<Waker>),
    /// The answer is there.
    Ended,
    /// The caller took the answer, or went away.
    Gone,
}

struct Inner<W: Work> {
    state: State,
    work: W,
    answer: Option<Result<W::Answer, Down>>,
}

pub(crate) struct Ticket<W: Work>(Mutex<Inner<W>>);

impl<W: Work> Ticket<W> {
    pub(crate) fn new(work: W) -> Arc<Self> {
        Arc::new(Self(Mutex::new(Inner { state: State::Waiting(None), work, answer: None })))
    }

    /// The caller looks for its answer.
    pub(crate) fn poll(&self, context: &Context<'_>) -> Poll<Result<W::Answer, Down>> {
        let mut inner = self.0.lock();
        match &mut inner.state {
            State::Waiting(waker) => {
                *waker = Some(context.waker().clone());
                Poll::Pending
            }
            State::Ended => {
                inner.state = State::Gone;
                let lost = || Down::Unknown("the operation was not carried out".into());
                Poll::Ready(inner.answer.take().unwrap_or_else(|| Err(lost())))
            }
            State::Gone => unreachable!("a future is not polled after its answer"),
        }
    }

    /// The caller goes away.
    pub(crate) fn leave(&self) {
        self.0.lock().state = State::Gone;
    }
}

impl<W: Work> Inner<W> {
    fn end(&mut self) -> Option<Waker> {
        match std::mem::replace(&mut self.state, State::Ended) {
            State::Waiting(waker) => waker,
            earlier => {
                self.state = earlier;
                None
            }
        }
    }
}

/// An operation of any kind, as the writer sees it.
pub(crate) trait Job: Send + Sync {
    /// Carries it out, unless its caller has gone away before it began.
    fn apply(&self, tables: &mut Tables<'_>) -> Result<(), Fault>;

    /// It is durable: the caller gets its answer.
    fn deliver(&self);

    /// It failed: the caller is told, unless it has an answer already.
    fn fail(&self, down: Down);
}

impl<W: Work> Job for Ticket<W> {
    fn apply(&self, tables: &mut Tables<'_>) -> Result<(), Fault> {
        let mut inner = self.0.lock();
        let is_retry = inner.answer.is_some();
        if matches!(inner.state, State::Gone) && !is_retry {
            return Ok(());
        }
        let answer = inner.work.apply(tables)?;
        inner.answer = Some(Ok(answer));
        Ok(())
    }

    fn deliver(&self) {
        let waker = self.0.lock().end();
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    fn fail(&self, down: Down) {
        let mut inner = self.0.lock();
        if matches!(inner.state, State::Waiting(_)) {
            inner.answer = Some(Err(down));
        }
        let waker = inner.end();
        drop(inner);
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}
