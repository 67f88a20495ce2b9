//! The rows of the task journal: how each is sealed, and opened again.
//!
//! An entry's row: `[index 8, epoch 8, born 8, kind 1] ‖ envelope ‖ [row before 8]`. The
//! head is authenticated with the envelope. The pointer at the end is not: it only says where to
//! look, and what is found there must be the entry with the index before.

use keybaton_messages::{TaskEpoch, TaskKey};
use keybaton_ports::limits::TASK_VALUE_BYTES_MAX;
use keybaton_ports::{CheckpointRef, Entry, TaskError, TaskSpec, TaskState};

use crate::limits::INLINE_CHECKPOINT_BYTES_MAX;
use crate::store::{Broken, ENTRIES_NAME, Place, Purpose, RowKey, Sealer, Table, Whose};

const ENTRY_SCHEMA: u16 = 1;
const TASK_SCHEMA: u16 = 1;
const CLAIM_SCHEMA: u16 = 1;

const HEAD_BYTES: usize = 8 + 8 + 8 + 1;
const POINTER_BYTES: usize = 8;

/// What an entry is, as far as it shows without opening it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Kind {
    Intent = 1,
    Result = 2,
    ResultWithCheckpoint = 3,
    Checkpoint = 4,
    Running = 5,
    Parked = 6,
    Ended = 7,
}

impl Kind {
    pub(crate) fn of(entry: &Entry) -> Self {
        match entry {
            Entry::Intent { .. } => Self::Intent,
            Entry::Result { checkpoint: None, .. } => Self::Result,
            Entry::Result { .. } => Self::ResultWithCheckpoint,
            Entry::Checkpoint { .. } => Self::Checkpoint,
            Entry::State { state, .. } => match state {
                TaskState::Running => Self::Running,
                TaskState::Parked(_) => Self::Parked,
                TaskState::Done(_) | TaskState::Failed(_) | TaskState::Cancelled => Self::Ended,
            },
        }
    }

    fn read(byte: u8) -> Option<Self> {
        [
            Self::Intent,
            Self::Result,
            Self::ResultWithCheckpoint,
            Self::Checkpoint,
            Self::Running,
            Self::Parked,
            Self::Ended,
        ]
        .into_iter()
        .find(|kind| *kind as u8 == byte)
    }

    pub(crate) fn is_checkpoint(self) -> bool {
        matches!(self, Self::ResultWithCheckpoint | Self::Checkpoint)
    }

    pub(crate) fn is_state(self) -> bool {
        matches!(self, Self::Running | Self::Parked | Self::Ended)
    }
}

pub(crate) fn has_checkpoint(entry: &Entry) -> bool {
    Kind::of(entry).is_checkpoint()
}

/// The checkpoint that an entry names.
pub(crate) fn checkpoint_of(entry: Entry) -> Option<CheckpointRef> {
    match entry {
        Entry::Result { checkpoint, .. } => checkpoint,
        Entry::Checkpoint { checkpoint, .. } => Some(checkpoint),
        Entry::Intent { .. } | Entry::State { .. } => None,
    }
}

/// What stands readable in front of an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct EntryHead {
    /// The n-th entry of the task, from 0.
    pub(crate) index: u64,
    pub(crate) epoch: TaskEpoch,
    /// Which life of which task.
    pub(crate) born: u64,
    pub(crate) kind: Kind,
}

impl EntryHead {
    fn to_bytes(self) -> [u8; HEAD_BYTES] {
        let mut bytes = [0; HEAD_BYTES];
        bytes[..8].copy_from_slice(&self.index.to_be_bytes());
        bytes[8..16].copy_from_slice(&self.epoch.0.to_be_bytes());
        bytes[16..24].copy_from_slice(&self.born.to_be_bytes());
        bytes[24] = self.kind as u8;
        bytes
    }

    /// Reads the head of a row, not yet authenticated.
    pub(crate) fn read(row: &[u8]) -> Option<Self> {
        let head = row.first_chunk::<HEAD_BYTES>()?;
        let number = |at: usize| head[at..].first_chunk().map(|n| u64::from_be_bytes(*n));
        Some(Self {
            index: number(0)?,
            epoch: TaskEpoch(number(8)?),
            born: number(16)?,
            kind: Kind::read(head[24])?,
        })
    }
}

/// Which row holds the entry before this one; 0 for the first.
pub(crate) fn pointer_of(row: &[u8]) -> Option<u64> {
    row.last_chunk::<POINTER_BYTES>().map(|pointer| u64::from_be_bytes(*pointer))
}

/// Refuses what the port does not carry.
pub(crate) fn check_size(entry: &Entry) -> Result<(), TaskError> {
    let inline = |checkpoint: &CheckpointRef| match checkpoint {
        CheckpointRef::Inline(bytes) => bytes.len(),
        CheckpointRef::Blob { key, .. } => key.len(),
    };
    let (value, checkpoint) = match entry {
        Entry::Intent { .. } => (0, 0),
        Entry::Result { outcome, checkpoint, .. } => {
            (outcome.len(), checkpoint.as_ref().map_or(0, inline))
        }
        Entry::Checkpoint { checkpoint, .. } => (0, inline(checkpoint)),
        Entry::State { state, .. } => match state {
            TaskState::Parked(why) | TaskState::Failed(why) => (why.len(), 0),
            TaskState::Done(output) => (output.len(), 0),
            TaskState::Running | TaskState::Cancelled => (0, 0),
        },
    };
    if value <= TASK_VALUE_BYTES_MAX && checkpoint <= INLINE_CHECKPOINT_BYTES_MAX {
        Ok(())
    } else {
        Err(TaskError::TooLarge)
    }
}

/// Seals an entry; the pointer is added when its place is known.
pub(crate) fn seal_entry(
    sealer: &Sealer,
    key: &TaskKey,
    head: EntryHead,
    entry: &Entry,
) -> Result<Vec<u8>, TaskError> {
    let clear = head.to_bytes();
    sealer
        .seal_value_with_room(whose(key), &entry_place(&clear), entry, POINTER_BYTES)
        .map_err(|_| TaskError::TooLarge)
}

/// Puts the pointer behind a sealed entry, in the place of one that is there already.
pub(crate) fn point(row: &mut Vec<u8>, sealed_bytes: usize, before: u64) {
    row.truncate(sealed_bytes);
    row.extend_from_slice(&before.to_be_bytes());
}

/// Opens a row that should be entry `head.index` of this task.
pub(crate) fn open_entry(
    sealer: &Sealer,
    key: &TaskKey,
    head: EntryHead,
    row: &[u8],
) -> Result<Entry, Broken> {
    let sealed = row.len().checked_sub(POINTER_BYTES).ok_or(Broken::Foreign)?;
    let clear = head.to_bytes();
    sealer.open_value(whose(key), &entry_place(&clear), &row[..sealed])
}

/// Opens bytes that should be an entry of a task (entry `index`, if that is known) which has this
/// life and was claimed up to this epoch.
pub(crate) fn open_entry_of(
    sealer: &Sealer,
    key: &TaskKey,
    (born, epoch): (u64, TaskEpoch),
    row: &[u8],
    index: Option<u64>,
) -> Result<(EntryHead, Entry), TaskError> {
    let head = EntryHead::read(row).ok_or_else(|| corrupt(Broken::Foreign))?;
    let is_ours =
        head.born == born && head.epoch <= epoch && index.is_none_or(|index| index == head.index);
    if !is_ours {
        return Err(TaskError::Corrupt("an entry stands in a wrong place".into()));
    }
    Ok((head, open_entry(sealer, key, head, row).map_err(corrupt)?))
}

pub(crate) fn corrupt(broken: Broken) -> TaskError {
    TaskError::Corrupt(broken.to_string())
}

fn entry_place(clear: &[u8]) -> Place<'_> {
    Place { table: ENTRIES_NAME, key: &[], clear, schema: ENTRY_SCHEMA }
}

fn whose(key: &TaskKey) -> Whose<'_> {
    Whose::Tenant(Purpose::Tasks, &key.tenant)
}

fn task_place<'a>(table: Table, key: &'a RowKey, clear: &'a [u8]) -> Place<'a> {
    let schema = if table == Table::Tasks { TASK_SCHEMA } else { CLAIM_SCHEMA };
    Place { table: table.name(), key: key.as_bytes(), clear, schema }
}

/// A task's row: `[born 8] ‖ envelope(spec)`.
pub(crate) fn seal_task(
    sealer: &Sealer,
    key: &TaskKey,
    born: u64,
    spec: &TaskSpec,
) -> Result<Vec<u8>, TaskError> {
    let row = RowKey::task(key);
    let clear = born.to_be_bytes();
    sealer
        .seal_value(whose(key), &task_place(Table::Tasks, &row, &clear), spec)
        .map_err(|_| TaskError::TooLarge)
}

pub(crate) fn open_task(
    sealer: &Sealer,
    key: &TaskKey,
    born: u64,
    bytes: &[u8],
) -> Result<TaskSpec, Broken> {
    let row = RowKey::task(key);
    let clear = born.to_be_bytes();
    sealer.open_value(whose(key), &task_place(Table::Tasks, &row, &clear), bytes)
}

/// The number in front of a task's row or of its claim.
pub(crate) fn clear_number(bytes: &[u8]) -> Option<u64> {
    bytes.first_chunk().map(|number| u64::from_be_bytes(*number))
}

/// A claim's row: `[epoch 8] ‖ envelope(born)`.
pub(crate) fn seal_claim(sealer: &Sealer, key: &TaskKey, epoch: TaskEpoch, born: u64) -> Vec<u8> {
    let row = RowKey::task(key);
    let clear = epoch.0.to_be_bytes();
    sealer.seal(whose(key), &task_place(Table::TaskClaims, &row, &clear), &born.to_be_bytes())
}

/// Whether a claim's row is genuine and of this life of the task.
pub(crate) fn is_claim(
    sealer: &Sealer,
    key: &TaskKey,
    epoch: TaskEpoch,
    born: u64,
    bytes: &[u8],
) -> bool {
    let row = RowKey::task(key);
    let clear = epoch.0.to_be_bytes();
    let opened = sealer.open(whose(key), &task_place(Table::TaskClaims, &row, &clear), bytes);
    opened.is_ok_and(|plain| plain == born.to_be_bytes())
}
