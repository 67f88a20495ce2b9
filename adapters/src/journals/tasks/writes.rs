//! The operations that change tasks.

use std::sync::Arc;

use keybaton_messages::{TaskEpoch, TaskKey};
use keybaton_ports::limits::TASK_VALUE_BYTES_MAX;
use keybaton_ports::{Entropy, TaskError, TaskSpec, TaskWrite};

use crate::journals::tasks::heads::{Head, Heads, Mark, Place};
use crate::journals::tasks::rows::{
    EntryHead, Kind, check_size, point, seal_claim, seal_entry, seal_task,
};
use crate::store::{Fault, RowKey, Sealer, SystemEntropy, Table, Tables, Work};

pub(crate) fn broken() -> TaskError {
    TaskError::Corrupt("its rows are not what was written".into())
}

/// Creates a task unless one of its name is there; the caller looks at what is there afterwards.
pub(crate) struct Create {
    heads: Arc<Heads>,
    key: TaskKey,
    born: u64,
    row: Vec<u8>,
}

impl Create {
    pub(crate) fn prepare(
        sealer: &Sealer,
        heads: &Arc<Heads>,
        key: &TaskKey,
        spec: &TaskSpec,
    ) -> Result<Self, TaskError> {
        if spec.input.len() > TASK_VALUE_BYTES_MAX {
            return Err(TaskError::TooLarge);
        }
        let born = SystemEntropy.bits().max(1);
        Ok(Self {
            heads: Arc::clone(heads),
            key: key.clone(),
            born,
            row: seal_task(sealer, key, born, spec)?,
        })
    }
}

impl Work for Create {
    type Answer = ();

    fn bytes(&self) -> usize {
        self.row.len()
    }

    fn apply(&mut self, tables: &mut Tables<'_>) -> Result<Self::Answer, Fault> {
        if self.heads.batch_find(&self.key).is_none() {
            let key = RowKey::task(&self.key);
            tables.insert(Table::Tasks, key.as_bytes(), &self.row)?;
            self.heads.create(&self.key, Head::new(self.born));
        }
        Ok(())
    }
}

/// Claims a task: one more epoch.
pub(crate) struct Claim {
    sealer: Arc<Sealer>,
    heads: Arc<Heads>,
    key: TaskKey,
}

impl Claim {
    pub(crate) fn new(sealer: &Arc<Sealer>, heads: &Arc<Heads>, key: &TaskKey) -> Self {
        Self { sealer: Arc::clone(sealer), heads: Arc::clone(heads), key: key.clone() }
    }
}

impl Work for Claim {
    type Answer = Result<TaskEpoch, TaskError>;

    fn apply(&mut self, tables: &mut Tables<'_>) -> Result<Self::Answer, Fault> {
        let Some((place, mut head)) = self.heads.batch_find(&self.key) else {
            return Ok(Err(TaskError::NotFound));
        };
        if head.mark == Mark::Broken {
            return Ok(Err(broken()));
        }
        head.epoch = head.epoch.next();
        let row = seal_claim(&self.sealer, &self.key, head.epoch, head.born);
        let key = RowKey::task(&self.key);
        tables.insert(Table::TaskClaims, key.as_bytes(), &row)?;
        self.heads.change(place, head);
        Ok(Ok(head.epoch))
    }
}

/// How an append ended that was neither refused nor lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Appended {
    /// The entry is there.
    Written,
    /// There is one entry more than expected: this very one, or another.
    Behind,
}

/// Appends one entry, sealed already.
pub(crate) struct Append {
    heads: Arc<Heads>,
    place: Place,
    born: u64,
    epoch: TaskEpoch,
    expect: u64,
    kind: Kind,
    row: Vec<u8>,
    sealed_bytes: usize,
}

impl Append {
    pub(crate) fn prepare(
        sealer: &Sealer,
        heads: &Arc<Heads>,
        write: &TaskWrite,
    ) -> Result<Self, TaskError> {
        check_size(&write.entry)?;
        let (place, Head { born, .. }) = heads.committed(&write.key).ok_or(TaskError::NotFound)?;
        let kind = Kind::of(&write.entry);
        let head = EntryHead { index: write.expect, epoch: write.epoch, born, kind };
        let row = seal_entry(sealer, &write.key, head, &write.entry)?;
        Ok(Self {
            heads: Arc::clone(heads),
            place,
            born,
            epoch: write.epoch,
            expect: write.expect,
            kind,
            sealed_bytes: row.len(),
            row,
        })
    }
}

impl Work for Append {
    type Answer = Result<Appended, TaskError>;

    fn bytes(&self) -> usize {
        self.row.len()
    }

    fn apply(&mut self, tables: &mut Tables<'_>) -> Result<Self::Answer, Fault> {
        let Some(mut head) = self.heads.batch_head(self.place, self.born) else {
            return Ok(Err(TaskError::NotFound));
        };
        if head.mark == Mark::Broken {
            return Ok(Err(broken()));
        }
        if head.epoch != self.epoch {
            return Ok(Err(TaskError::Fenced));
        }
        if head.rev != self.expect {
            let is_one_ahead = head.rev.checked_sub(1) == Some(self.expect);
            return Ok(if is_one_ahead { Ok(Appended::Behind) } else { Err(TaskError::Conflict) });
        }
        let seq = self.heads.next_row();
        point(&mut self.row, self.sealed_bytes, head.last);
        tables.insert_entry(seq, &self.row)?;
        head.advance(seq, self.kind);
        self.heads.change(self.place, head);
        Ok(Ok(Appended::Written))
    }
}

/// Forgets a task that has ended. Its entries belong to nobody from here on and are pruned.
pub(crate) struct Forget {
    heads: Arc<Heads>,
    key: TaskKey,
    place: Place,
    born: u64,
}

impl Forget {
    pub(crate) fn new(heads: &Arc<Heads>, key: &TaskKey, place: Place, born: u64) -> Self {
        Self { heads: Arc::clone(heads), key: key.clone(), place, born }
    }
}

impl Work for Forget {
    type Answer = Result<(), TaskError>;

    fn apply(&mut self, tables: &mut Tables<'_>) -> Result<Self::Answer, Fault> {
        let Some(head) = self.heads.batch_head(self.place, self.born) else {
            return Ok(Err(TaskError::NotFound));
        };
        if head.mark == Mark::Open {
            return Ok(Err(TaskError::Conflict));
        }
        let key = RowKey::task(&self.key);
        tables.remove(Table::Tasks, key.as_bytes())?;
        tables.remove(Table::TaskClaims, key.as_bytes())?;
        self.heads.forget(self.place, &self.key);
        Ok(Ok(()))
    }
}
