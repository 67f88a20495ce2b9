//! Reading a task back, and pruning what nobody needs to read.

use keybaton_messages::{TaskEpoch, TaskKey};
use keybaton_ports::{Claimed, Entry, TaskError, TaskRow, TaskState, TaskWrite};

use crate::journals::tasks::RedbTaskJournal;
use crate::journals::tasks::heads::{Head, Mark};
use crate::journals::tasks::rows::{EntryHead, checkpoint_of, open_entry, open_task, pointer_of};
use crate::journals::tasks::writes::broken;
use crate::limits::{ENTRIES_BEHIND_CHECKPOINT_KEPT, ENTRIES_BEHIND_CHECKPOINT_MAX};
use crate::store::{Broken, Reader, RowKey, Rows, Table};

impl RedbTaskJournal {
    /// The task's row as last committed.
    pub(super) fn row(&self, key: &TaskKey) -> Result<TaskRow, TaskError> {
        let (_, head) = self.heads.committed(key).ok_or(TaskError::NotFound)?;
        if head.mark == Mark::Broken {
            return Err(broken());
        }
        self.row_of(key, &head)
    }

    fn row_of(&self, key: &TaskKey, head: &Head) -> Result<TaskRow, TaskError> {
        let row_key = RowKey::task(key);
        let bytes = self
            .store
            .read(|reader| reader.get(Table::Tasks, row_key.as_bytes()))?
            .ok_or(TaskError::NotFound)?;
        let spec = open_task(&self.sealer, key, head.born, &bytes).map_err(corrupt)?;
        let state = match head.state {
            0 => TaskState::Running,
            row => match self.open_at(key, head, row, None)? {
                Some((Entry::State { state, .. }, _)) => state,
                _ => return Err(TaskError::Corrupt("its state is missing".into())),
            },
        };
        Ok(TaskRow { key: key.clone(), spec, state, epoch: head.epoch, rev: head.rev })
    }

    /// What a claim hands out.
    pub(super) fn claimed(&self, key: &TaskKey, epoch: TaskEpoch) -> Result<Claimed, TaskError> {
        let (_, head) = self.heads.committed(key).ok_or(TaskError::NotFound)?;
        let mut row = self.row_of(key, &head)?;
        row.epoch = epoch;
        let (checkpoint, from) = if head.checkpoint == 0 {
            if head.tail > 0 {
                return Err(TaskError::Corrupt("its first entries are missing".into()));
            }
            (None, 0)
        } else {
            let index = head.checkpoint_index;
            let opened = self.open_at(key, &head, head.checkpoint, Some(index))?;
            let checkpoint = opened.and_then(|(entry, _)| checkpoint_of(entry));
            let Some(checkpoint) = checkpoint else {
                return Err(TaskError::Corrupt("its checkpoint is missing".into()));
            };
            (Some(checkpoint), index + 1)
        };
        Ok(Claimed { row, checkpoint, entries: self.entries_from(key, &head, from)? })
    }

    /// The entries from index `from` on, oldest first.
    pub(super) fn entries_from(
        &self,
        key: &TaskKey,
        head: &Head,
        from: u64,
    ) -> Result<Vec<Entry>, TaskError> {
        let mut entries = Vec::new();
        let mut row = head.last;
        for index in (from..head.rev).rev() {
            match self.open_at(key, head, row, Some(index))? {
                Some((entry, before)) => {
                    entries.push(entry);
                    row = before;
                }
                None if self.is_cut(key, head, index)? => break,
                None => return Err(TaskError::Corrupt(format!("entry {index} is missing"))),
            }
        }
        entries.reverse();
        Ok(entries)
    }

    /// The numbers of the rows that hold the entries from index `from` on, oldest first; those behind
    /// the last hole in them.
    pub(super) fn rows_from(&self, head: &Head, from: u64) -> Result<Vec<u64>, TaskError> {
        let rows = self.store.read(|reader| {
            let mut rows = Vec::new();
            let mut row = head.last;
            for index in (from..head.rev).rev() {
                let Some(next) = before(reader, head.born, index, row)? else {
                    break;
                };
                rows.push(row);
                row = next;
            }
            rows.reverse();
            Ok(rows)
        })?;
        Ok(rows)
    }

    /// Whether an append that found one entry too many was this very entry.
    pub(super) fn check_repeat(&self, write: &TaskWrite) -> Result<(), TaskError> {
        let (_, head) = self.heads.committed(&write.key).ok_or(TaskError::NotFound)?;
        if head.epoch != write.epoch {
            return Err(TaskError::Fenced);
        }
        if head.rev != write.expect + 1 {
            return Err(TaskError::Conflict);
        }
        let bytes = self
            .store
            .read(|reader| reader.entry(head.last, <[u8]>::to_vec))?
            .ok_or_else(|| TaskError::Corrupt("its last entry is missing".into()))?;
        let found = EntryHead::read(&bytes).ok_or_else(|| corrupt(Broken::Foreign))?;
        let entry = open_entry(&self.sealer, &write.key, found, &bytes).map_err(corrupt)?;
        let is_same = found.born == head.born && found.epoch == write.epoch && entry == write.entry;
        if is_same { Ok(()) } else { Err(TaskError::Conflict) }
    }

    /// Gives up the rows far behind the newest checkpoint. They are not needed to go on, so that a
    /// failure here only leaves them for the next time.
    pub(super) fn prune(&self, key: &TaskKey) {
        let Some((place, head)) = self.heads.committed(key) else {
            return;
        };
        let tail = head.checkpoint_index.saturating_sub(ENTRIES_BEHIND_CHECKPOINT_KEPT);
        if head.checkpoint_index - head.tail.min(head.checkpoint_index)
            < ENTRIES_BEHIND_CHECKPOINT_MAX
        {
            return;
        }
        let Ok(mut rows) = self.rows_from(&head, head.tail) else {
            return;
        };
        // Somebody else prunes them already, or they are damaged.
        if rows.len() as u64 != head.rev - head.tail {
            return;
        }
        rows.truncate(usize::try_from(tail - head.tail).unwrap_or(usize::MAX));
        rows.retain(|row| *row != head.state);
        self.heads.cut_tail(place, head.born, tail);
        self.heads.bury(rows);
    }

    /// Opens a row that should hold an entry of this task (entry `index`, if that is known).
    fn open_at(
        &self,
        key: &TaskKey,
        head: &Head,
        row: u64,
        index: Option<u64>,
    ) -> Result<Option<(Entry, u64)>, TaskError> {
        let Some(bytes) = self.store.read(|reader| reader.entry(row, <[u8]>::to_vec))? else {
            return Ok(None);
        };
        let found = EntryHead::read(&bytes).ok_or_else(|| corrupt(Broken::Foreign))?;
        let is_ours = found.born == head.born && index.is_none_or(|index| index == found.index);
        if !is_ours {
            return Err(TaskError::Corrupt("an entry stands in a wrong place".into()));
        }
        let entry = open_entry(&self.sealer, key, found, &bytes).map_err(corrupt)?;
        let before = pointer_of(&bytes).ok_or_else(|| corrupt(Broken::Foreign))?;
        Ok(Some((entry, before)))
    }

    /// Whether an entry is missing because it was pruned since `head` was read.
    fn is_cut(&self, key: &TaskKey, head: &Head, index: u64) -> Result<bool, TaskError> {
        let (_, present) = self.heads.committed(key).ok_or(TaskError::NotFound)?;
        Ok(present.born == head.born && present.tail > index)
    }
}

/// Where the entry before this one lies, if this row holds entry `index` of this life.
fn before(
    reader: &mut Reader,
    born: u64,
    index: u64,
    row: u64,
) -> Result<Option<u64>, crate::store::Fault> {
    let found = reader.entry(row, |bytes| {
        let head = EntryHead::read(bytes);
        let is_ours = head.is_some_and(|head| (head.born, head.index) == (born, index));
        is_ours.then(|| pointer_of(bytes)).flatten()
    })?;
    Ok(found.flatten())
}

fn corrupt(broken: Broken) -> TaskError {
    TaskError::Corrupt(broken.to_string())
}
