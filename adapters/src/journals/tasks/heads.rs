//! Where each task stands, in memory: about 100 bytes a task, rebuilt at start by one walk over
//! the rows' heads.
//!
//! **Invariant:** what others read is committed; what a batch changes stays apart until it is.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use keybaton_messages::{TaskEpoch, TaskKey};
use keybaton_ports::FingerprintKey;
use parking_lot::Mutex;

use crate::journals::tasks::rows::{EntryHead, Kind, clear_number, is_claim};
use crate::limits::{PRUNE_QUEUE_MAX, PRUNED_PER_BATCH_MAX};
use crate::store::{Fault, Reader, Resident, RowKey, Rows, Sealer, Table, Tables};

/// A keyed digest of a task's key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct TaskName(pub(crate) [u8; 16]);

/// Where one task stands. Row numbers start at 1; 0 is no row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Head {
    /// Which life of the task's name.
    pub(crate) born: u64,
    pub(crate) epoch: TaskEpoch,
    /// Entries written so far.
    pub(crate) rev: u64,
    /// The row of the last entry.
    pub(crate) last: u64,
    /// The row of the newest checkpoint.
    pub(crate) checkpoint: u64,
    /// The index of the newest checkpoint; meaningful if there is one.
    pub(crate) checkpoint_index: u64,
    /// The index of the oldest entry that is kept.
    pub(crate) tail: u64,
    /// The row of the newest change of state.
    pub(crate) state: u64,
    /// What that change was.
    pub(crate) mark: Mark,
}

/// A task's state, as far as it matters here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mark {
    Open,
    Ended,
    /// Its rows are not what was written.
    Broken,
}

impl Head {
    pub(crate) fn new(born: u64) -> Self {
        Self {
            born,
            epoch: TaskEpoch(0),
            rev: 0,
            last: 0,
            checkpoint: 0,
            checkpoint_index: 0,
            tail: 0,
            state: 0,
            mark: Mark::Open,
        }
    }

    /// Takes one more entry, written at row `seq`.
    pub(crate) fn advance(&mut self, seq: u64, kind: Kind) {
        if kind.is_checkpoint() {
            self.checkpoint = seq;
            self.checkpoint_index = self.rev;
        }
        if kind.is_state() {
            self.state = seq;
            self.mark = if kind == Kind::Ended {
                Mark::Ended
            } else {
                Mark::Open
            };
        }
        self.last = seq;
        self.rev += 1;
    }
}

struct Inner {
    heads: HashMap<TaskName, Head>,
    /// `None`: forgotten.
    changed: HashMap<TaskName, Option<Head>>,
    next_row: u64,
    prune: VecDeque<u64>,
    /// How many of the queue's first rows the present batch deletes.
    pruning: usize,
}

/// All heads of one store.
pub(crate) struct Heads {
    sealer: Arc<Sealer>,
    digest_key: FingerprintKey,
    inner: Mutex<Inner>,
}

impl Heads {
    pub(crate) fn new(sealer: Arc<Sealer>) -> Self {
        Self {
            digest_key: sealer.keyring().digest_key(),
            sealer,
            inner: Mutex::new(Inner {
                heads: HashMap::new(),
                changed: HashMap::new(),
                next_row: 1,
                prune: VecDeque::new(),
                pruning: 0,
            }),
        }
    }

    pub(crate) fn name(&self, key: &TaskKey) -> TaskName {
        let parts = [key.tenant.as_str().as_bytes(), key.task.as_str().as_bytes()];
        let digest = self.digest_key.digest(b"task", &parts);
        let mut name = [0; 16];
        name.copy_from_slice(&digest[..16]);
        TaskName(name)
    }

    /// The task as last committed.
    pub(crate) fn committed(&self, name: TaskName) -> Option<Head> {
        self.inner.lock().heads.get(&name).copied()
    }

    /// The task as the present batch has it.
    pub(crate) fn batch_head(&self, name: TaskName) -> Option<Head> {
        let inner = self.inner.lock();
        match inner.changed.get(&name) {
            Some(changed) => *changed,
            None => inner.heads.get(&name).copied(),
        }
    }

    /// What the batch makes of the task; `None` forgets it.
    pub(crate) fn change(&self, name: TaskName, head: Option<Head>) {
        self.inner.lock().changed.insert(name, head);
    }

    /// The number of the next row.
    pub(crate) fn next_row(&self) -> u64 {
        let mut inner = self.inner.lock();
        let row = inner.next_row;
        inner.next_row += 1;
        row
    }

    /// Whether that many rows may still be queued for deleting.
    pub(crate) fn has_room_to_prune(&self, rows: usize) -> bool {
        self.inner.lock().prune.len() + rows <= PRUNE_QUEUE_MAX
    }

    /// Queues rows to be deleted with later batches, oldest first.
    pub(crate) fn queue_pruning(&self, rows: Vec<u64>) {
        let mut inner = self.inner.lock();
        let room = PRUNE_QUEUE_MAX.saturating_sub(inner.prune.len());
        inner.prune.extend(rows.into_iter().take(room));
    }

    /// Hides the entries before `tail`, whose rows are about to be pruned.
    pub(crate) fn cut_tail(&self, name: TaskName, born: u64, tail: u64) {
        let mut guard = self.inner.lock();
        let inner = &mut *guard;
        let committed = inner.heads.get_mut(&name);
        let changed = inner.changed.get_mut(&name).and_then(Option::as_mut);
        for head in committed.into_iter().chain(changed) {
            if head.born == born {
                head.tail = head.tail.max(tail);
            }
        }
    }

    fn read_tasks(&self, reader: &mut Reader) -> Result<HashMap<TaskName, Head>, Fault> {
        let mut heads = HashMap::new();
        for (key, bytes) in reader.all(Table::Tasks, &[])? {
            let (Some(task), Some(born)) = (RowKey::read_task(&key), clear_number(&bytes)) else {
                tracing::error!("a task's row has a foreign key; it is left alone");
                continue;
            };
            let mut head = Head::new(born);
            if let Some(claim) = reader.get(Table::TaskClaims, &key)? {
                head.epoch = TaskEpoch(clear_number(&claim).unwrap_or_default());
                if !is_claim(&self.sealer, &task, head.epoch, born, &claim) {
                    head.mark = Mark::Broken;
                }
            }
            heads.insert(self.name(&task), head);
        }
        Ok(heads)
    }
}

impl Resident for Heads {
    fn before_commit(&self, tables: &mut Tables<'_>) -> Result<(), Fault> {
        let rows: Vec<u64> = {
            let mut inner = self.inner.lock();
            inner.pruning = inner.prune.len().min(PRUNED_PER_BATCH_MAX);
            inner.prune.iter().take(inner.pruning).copied().collect()
        };
        rows.into_iter()
            .try_for_each(|row| tables.remove_entry(row))
    }

    fn committed(&self) {
        let mut guard = self.inner.lock();
        let inner = &mut *guard;
        for (name, head) in inner.changed.drain() {
            match head {
                Some(head) => inner.heads.insert(name, head),
                None => inner.heads.remove(&name),
            };
        }
        let pruned = std::mem::take(&mut inner.pruning);
        inner.prune.drain(..pruned);
    }

    fn reload(&self, reader: &mut Reader) -> Result<(), Fault> {
        let mut heads = self.read_tasks(reader)?;
        let mut orphans = VecDeque::new();
        let mut next_row = 1;
        reader.each_entry(|row, bytes| {
            next_row = row + 1;
            let entry = EntryHead::read(bytes);
            let owner = entry.and_then(|entry| {
                let head = heads.get_mut(&entry.name)?;
                (head.born == entry.born).then_some((entry, head))
            });
            match owner {
                Some((entry, head)) => follow(head, row, entry),
                None if orphans.len() < PRUNE_QUEUE_MAX => orphans.push_back(row),
                None => {}
            }
        })?;
        *self.inner.lock() = Inner {
            heads,
            changed: HashMap::new(),
            next_row,
            prune: orphans,
            pruning: 0,
        };
        Ok(())
    }
}

/// Takes the next row of a task while walking all of them in order. Rows are pruned oldest first,
/// except the one that tells the state; what stands before a gap is therefore not needed, unless
/// the gap is behind the newest checkpoint, which the next claim notices.
fn follow(head: &mut Head, row: u64, entry: EntryHead) {
    let is_broken = head.mark == Mark::Broken || entry.index < head.rev || entry.epoch > head.epoch;
    if entry.index > head.rev {
        head.tail = entry.index;
        head.rev = entry.index;
    }
    head.advance(row, entry.kind);
    if is_broken {
        head.mark = Mark::Broken;
    }
}
