//! Where one operation and its caller meet: the caller waits here for its answer.

use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use parking_lot::Mutex;

use crate::store::Down;

enum State<A> {
    /// The operation is queued or being carried out.
    Waiting(Option<Waker>),
    /// The operation has ended.
    Answered(Result<A, Down>),
    /// The caller took its answer, or went away.
    Gone,
}

pub(crate) struct Slot<A>(Mutex<State<A>>);

impl<A> Slot<A> {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self(Mutex::new(State::Waiting(None))))
    }

    /// The caller looks.
    pub(crate) fn poll(&self, context: &Context<'_>) -> Poll<Result<A, Down>> {
        let mut state = self.0.lock();
        match std::mem::replace(&mut *state, State::Gone) {
            State::Answered(answer) => Poll::Ready(answer),
            State::Waiting(_) => {
                *state = State::Waiting(Some(context.waker().clone()));
                Poll::Pending
            }
            State::Gone => unreachable!("a future is not polled after its answer"),
        }
    }

    /// The caller goes away.
    pub(crate) fn leave(&self) {
        *self.0.lock() = State::Gone;
    }

    pub(crate) fn is_left(&self) -> bool {
        matches!(*self.0.lock(), State::Gone)
    }

    /// The first answer counts.
    pub(crate) fn answer(&self, answer: Result<A, Down>) {
        let mut state = self.0.lock();
        if let State::Waiting(waker) = &mut *state {
            let waker = waker.take();
            *state = State::Answered(answer);
            drop(state);
            if let Some(waker) = waker {
                waker.wake();
            }
        }
    }
}
