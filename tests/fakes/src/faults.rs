//! The switch that every fake store has: what goes wrong with its next writes.

use std::collections::VecDeque;

use keybaton_ports::{CommitError, GrantError, Refusal, TaskError};
use parking_lot::Mutex;

/// How a write goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WriteFault {
    /// It is written, and the answer is lost.
    UnknownWritten,
    /// It is lost, and so is the answer.
    UnknownLost,
    /// The store is away; nothing is written.
    Unavailable,
}

/// Faults of the next writes, one each, in the order in which they were armed.
#[derive(Default)]
pub struct Faults(Mutex<VecDeque<WriteFault>>);

impl Faults {
    /// Lets one more of the next writes go wrong.
    pub fn arm(&self, fault: WriteFault) {
        self.0.lock().push_back(fault);
    }

    /// Carries a write out, or not, as the switch says.
    pub(crate) fn pass<T, E: Faulty>(&self, write: impl FnOnce() -> Result<T, E>) -> Result<T, E> {
        let fault = self.0.lock().pop_front();
        match fault {
            None => write(),
            Some(WriteFault::UnknownWritten) => {
                // A refusal is an answer too, and lost all the same.
                drop(write());
                Err(E::unknown())
            }
            Some(WriteFault::UnknownLost) => Err(E::unknown()),
            Some(WriteFault::Unavailable) => Err(E::unavailable()),
        }
    }
}

/// An error that can say that nobody knows, and that the store is away.
pub trait Faulty {
    /// Nobody knows whether it happened.
    fn unknown() -> Self;

    /// Nothing happened; the store is away.
    fn unavailable() -> Self;
}

const WHY: &str = "armed by a test";

macro_rules! faulty {
    ($error:ty) => {
        impl Faulty for $error {
            fn unknown() -> Self {
                Self::Unknown(WHY.into())
            }

            fn unavailable() -> Self {
                Self::Unavailable(WHY.into())
            }
        }
    };
}
faulty!(CommitError);
faulty!(GrantError);
faulty!(TaskError);

impl Faulty for Refusal {
    fn unknown() -> Self {
        Self::unknown(WHY)
    }

    fn unavailable() -> Self {
        Self::busy(WHY)
    }
}
