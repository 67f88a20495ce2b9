//! Where each task stands, in memory: some 150 bytes a task, rebuilt at start by one walk over the
//! rows' heads.
//!
//! **Invariant:** what others read is committed; what a batch changes stays apart until it is.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::Arc;

use keybaton_messages::{TaskEpoch, TaskKey, TenantId};
use parking_lot::Mutex;

use crate::journals::tasks::rows::{EntryHead, Kind, clear_number, is_claim};
use crate::limits::{PRUNE_QUEUE_MAX, PRUNED_PER_BATCH_MAX};
use crate::store::{Fault, Reader, Resident, RowKey, Rows, Sealer, Table, Tables};

/// Where one task stands. Row numbers start at 1; 0 is no row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Head {
    /// Names this life of the task in its rows; never 0.
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
            self.mark = if kind == Kind::Ended { Mark::Ended } else { Mark::Open };
        }
        self.last = seq;
        self.rev += 1;
    }
}

/// Where a task's head lies in memory. It may be another task's later: compare `born`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Place(u32);

struct Cell {
    /// `None`: free, or not yet committed.
    committed: Option<Head>,
    /// Where the batch's head of this task lies, if it has one.
    changed: Option<u32>,
}

#[derive(Default)]
struct Inner {
    /// Also of tasks whose creation is not yet committed.
    places: HashMap<TaskKey, Place>,
    /// One copy of every tenant's name, for the keys of `places`.
    tenants: HashSet<TenantId>,
    cells: Vec<Cell>,
    free: Vec<Place>,
    /// What the batch makes of tasks; `None` forgets one.
    changed: Vec<(Place, Option<Head>)>,
    forgotten: Vec<TaskKey>,
    last_row: u64,
    prune: VecDeque<u64>,
    /// How many of the queue's first rows the present batch deletes.
    pruning: usize,
}

impl Inner {
    fn batch_head(&self, place: Place) -> Option<Head> {
        let cell = &self.cells[place.0 as usize];
        match cell.changed {
            Some(at) => self.changed[at as usize].1,
            None => cell.committed,
        }
    }

    fn change(&mut self, place: Place, head: Option<Head>) {
        let cell = &mut self.cells[place.0 as usize];
        if let Some(at) = cell.changed {
            self.changed[at as usize].1 = head;
            return;
        }
        cell.changed = u32::try_from(self.changed.len()).ok();
        self.changed.push((place, head));
    }

    fn take_place(&mut self, key: &TaskKey) -> Place {
        if let Some(place) = self.places.get(key) {
            return *place;
        }
        let place = self.free.pop().unwrap_or_else(|| {
            self.cells.push(Cell { committed: None, changed: None });
            let last = self.cells.len() - 1;
            Place(u32::try_from(last).expect("fewer tasks than fill the memory"))
        });
        let tenant = match self.tenants.get(&key.tenant) {
            Some(tenant) => tenant.clone(),
            None => {
                self.tenants.insert(key.tenant.clone());
                key.tenant.clone()
            }
        };
        let key = TaskKey { tenant, task: key.task.clone() };
        self.places.insert(key, place);
        place
    }

    /// Forgets all heads and takes these. Every task keeps its place: operations that wait for
    /// their commit, or are about to be carried out again, name it.
    fn replace(&mut self, tasks: Vec<(TaskKey, Head)>, last_row: u64, prune: VecDeque<u64>) {
        self.cells.fill_with(|| Cell { committed: None, changed: None });
        self.changed.clear();
        self.forgotten.clear();
        (self.last_row, self.prune, self.pruning) = (last_row, prune, 0);
        for (key, head) in tasks {
            let place = self.take_place(&key);
            self.cells[place.0 as usize].committed = Some(head);
        }
    }

    fn commit(&mut self) {
        for (place, head) in self.changed.drain(..) {
            let cell = &mut self.cells[place.0 as usize];
            cell.committed = head;
            cell.changed = None;
        }
        for key in std::mem::take(&mut self.forgotten) {
            let place = self.places.get(&key).copied();
            if let Some(place) = place.filter(|p| self.cells[p.0 as usize].committed.is_none()) {
                self.places.remove(&key);
                self.free.push(place);
            }
        }
        let pruned = std::mem::take(&mut self.pruning);
        self.prune.drain(..pruned);
    }
}

/// All heads of one store.
pub(crate) struct Heads {
    sealer: Arc<Sealer>,
    inner: Mutex<Inner>,
}

impl Heads {
    pub(crate) fn new(sealer: Arc<Sealer>) -> Self {
        Self { sealer, inner: Mutex::default() }
    }

    /// The task as last committed.
    pub(crate) fn committed(&self, key: &TaskKey) -> Option<(Place, Head)> {
        let inner = self.inner.lock();
        let place = *inner.places.get(key)?;
        Some((place, inner.cells[place.0 as usize].committed?))
    }

    /// The task as the present batch has it.
    pub(crate) fn batch_find(&self, key: &TaskKey) -> Option<(Place, Head)> {
        let inner = self.inner.lock();
        let place = *inner.places.get(key)?;
        Some((place, inner.batch_head(place)?))
    }

    /// This life of the task as the present batch has it.
    pub(crate) fn batch_head(&self, place: Place, born: u64) -> Option<Head> {
        let head = self.inner.lock().batch_head(place)?;
        (head.born == born).then_some(head)
    }

    /// What the batch makes of the task.
    pub(crate) fn change(&self, place: Place, head: Head) {
        self.inner.lock().change(place, Some(head));
    }

    /// The batch creates a task.
    pub(crate) fn create(&self, key: &TaskKey, head: Head) {
        let mut inner = self.inner.lock();
        let place = inner.take_place(key);
        inner.change(place, Some(head));
    }

    /// The batch forgets a task.
    pub(crate) fn forget(&self, place: Place, key: &TaskKey) {
        let mut inner = self.inner.lock();
        inner.change(place, None);
        inner.forgotten.push(key.clone());
    }

    /// The number of the next row.
    pub(crate) fn next_row(&self) -> u64 {
        let mut inner = self.inner.lock();
        inner.last_row += 1;
        inner.last_row
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
    pub(crate) fn cut_tail(&self, place: Place, born: u64, tail: u64) {
        let mut guard = self.inner.lock();
        let inner = &mut *guard;
        let cell = &mut inner.cells[place.0 as usize];
        let changed = cell.changed.map(|at| &mut inner.changed[at as usize].1);
        let changed = changed.and_then(Option::as_mut);
        for head in cell.committed.as_mut().into_iter().chain(changed) {
            if head.born == born {
                head.tail = head.tail.max(tail);
            }
        }
    }

    fn read_tasks(&self, reader: &mut Reader) -> Result<Vec<(TaskKey, Head)>, Fault> {
        let mut tasks = Vec::new();
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
            tasks.push((task, head));
        }
        Ok(tasks)
    }
}

impl Resident for Heads {
    fn before_commit(&self, tables: &mut Tables<'_>) -> Result<(), Fault> {
        let rows: Vec<u64> = {
            let mut inner = self.inner.lock();
            inner.pruning = inner.prune.len().min(PRUNED_PER_BATCH_MAX);
            inner.prune.iter().take(inner.pruning).copied().collect()
        };
        rows.into_iter().try_for_each(|row| tables.remove_entry(row))
    }

    fn committed(&self) {
        self.inner.lock().commit();
    }

    fn reload(&self, reader: &mut Reader) -> Result<(), Fault> {
        let mut tasks = self.read_tasks(reader)?;
        let by_life: HashMap<u64, usize> =
            (0..).zip(&tasks).map(|(at, (_, head))| (head.born, at)).collect();
        let mut last_row = 0;
        let mut prune = VecDeque::new();
        reader.each_entry(|row, bytes| {
            last_row = row;
            let entry = EntryHead::read(bytes);
            let owner = entry.and_then(|entry| Some((entry, *by_life.get(&entry.born)?)));
            match owner {
                Some((entry, at)) => follow(&mut tasks[at].1, row, entry),
                None if prune.len() < PRUNE_QUEUE_MAX => prune.push_back(row),
                None => {}
            }
        })?;
        self.inner.lock().replace(tasks, last_row, prune);
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
