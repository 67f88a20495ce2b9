//! Where one operation and its caller meet: the caller waits here for its answer, or for the order
//! to commit for everybody.
//!
//! **Invariant:** an order to lead is never lost: a caller that goes away with it passes it on, and
//! one that has gone away is never appointed.

use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use parking_lot::Mutex;

use crate::store::Down;

enum State<A> {
    /// The operation is queued or being carried out.
    Waiting(Option<Waker>),
    /// The caller is to commit what is queued, this operation among it.
    Lead,
    /// The operation has ended.
    Answered(Result<A, Down>),
    /// The caller took its answer, or went away.
    Gone,
}

pub(crate) struct Slot<A>(Mutex<State<A>>);

/// What a caller finds in its slot.
pub(crate) enum Turn<A> {
    /// Commit for everybody, then look again.
    Lead,
    /// The answer.
    Answer(Result<A, Down>),
}

impl<A> Slot<A> {
    pub(crate) fn new(leads: bool) -> Arc<Self> {
        let state = if leads { State::Lead } else { State::Waiting(None) };
        Arc::new(Self(Mutex::new(state)))
    }

    /// The caller looks.
    pub(crate) fn poll(&self, context: &Context<'_>) -> Poll<Turn<A>> {
        let mut state = self.0.lock();
        match std::mem::replace(&mut *state, State::Gone) {
            State::Lead => {
                *state = State::Waiting(None);
                Poll::Ready(Turn::Lead)
            }
            State::Answered(answer) => Poll::Ready(Turn::Answer(answer)),
            State::Waiting(_) => {
                *state = State::Waiting(Some(context.waker().clone()));
                Poll::Pending
            }
            State::Gone => unreachable!("a future is not polled after its answer"),
        }
    }

    /// The caller goes away. Says whether it had been appointed.
    pub(crate) fn leave(&self) -> bool {
        let state = std::mem::replace(&mut *self.0.lock(), State::Gone);
        matches!(state, State::Lead)
    }

    /// Makes the caller lead; says whether it is still there.
    pub(crate) fn appoint(&self) -> bool {
        let mut state = self.0.lock();
        let State::Waiting(waker) = &mut *state else {
            return false;
        };
        let waker = waker.take();
        *state = State::Lead;
        drop(state);
        wake(waker);
        true
    }

    pub(crate) fn is_left(&self) -> bool {
        matches!(*self.0.lock(), State::Gone)
    }

    pub(crate) fn answer(&self, answer: Result<A, Down>) {
        let mut state = self.0.lock();
        if let State::Waiting(waker) = &mut *state {
            let waker = waker.take();
            *state = State::Answered(answer);
            drop(state);
            wake(waker);
        }
    }
}

fn wake(waker: Option<Waker>) {
    if let Some(waker) = waker {
        waker.wake();
    }
}
