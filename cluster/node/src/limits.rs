//! Bounds of the node: every wait, retry and size, each with its reason.

use std::time::Duration;

use backon::ExponentialBuilder;
use keybaton_actors::limits::{
    RESTART_AFTER_MAX, RESTART_AFTER_MIN, STORE_RETRY_MAX, STORE_RETRY_MIN,
};

/// Pauses before a pair is asked again. With the pauses of restarts between them, ten tries are
/// more than half a minute: an actor that has not come back by then will not be back soon.
pub(crate) const ASK_RETRY: ExponentialBuilder = ExponentialBuilder::new()
    .with_min_delay(RESTART_AFTER_MIN)
    .with_max_delay(RESTART_AFTER_MAX)
    .with_max_times(9);

/// Pauses before a task whose creation has no known outcome is created again. Five tries are as
/// many new connections; then the caller is told.
pub(crate) const CREATE_RETRY: ExponentialBuilder = ExponentialBuilder::new()
    .with_min_delay(STORE_RETRY_MIN)
    .with_max_delay(STORE_RETRY_MAX)
    .with_max_times(4);

/// How long a connection of a task's call may take to stand: a provider that is there answers
/// within one.
pub(crate) const CONNECT_WAIT_MAX: Duration = Duration::from_secs(10);

/// How long an asker waits for a node that does not answer: one that is stopped by a debugger, or
/// busy beyond reason.
pub(crate) const ASK_WAIT_MAX: Duration = Duration::from_secs(5);

/// Largest status that an asker reads, in bytes: 40 000 pairs at about a kilobyte each.
pub(crate) const STATUS_BYTES_MAX: usize = 64 * 1024 * 1024;

/// Tasks named per version in the status; more are counted.
pub(crate) const HOLDERS_NAMED: usize = 20;

/// How often a node that stops politely looks whether its tasks have stopped: no eye sees less.
pub(crate) const STOPPED_LOOK_EVERY: Duration = Duration::from_millis(10);

/// How long each last duty of a polite stop may take, when the tasks have stopped: shipping the
/// audit records, and ending the actors. Whatever is left is in the journal.
pub(crate) const LAST_DUTY_MAX: Duration = Duration::from_secs(5);
