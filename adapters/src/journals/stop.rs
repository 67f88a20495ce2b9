//! The two ways out of the middle of an operation: the database failed, or the operation is
//! refused.

use crate::store::Fault;

/// Why an operation ends early.
pub(crate) enum Stop<E> {
    /// The database failed: the batch is lost.
    Fault(Fault),
    /// The operation alone is refused; it has written nothing.
    Refused(E),
}

impl<E> From<Fault> for Stop<E> {
    fn from(fault: Fault) -> Self {
        Self::Fault(fault)
    }
}

/// Turns a refusal into an answer.
pub(crate) fn settle<T, E>(result: Result<T, Stop<E>>) -> Result<Result<T, E>, Fault> {
    match result {
        Ok(value) => Ok(Ok(value)),
        Err(Stop::Refused(refusal)) => Ok(Err(refusal)),
        Err(Stop::Fault(fault)) => Err(fault),
    }
}
