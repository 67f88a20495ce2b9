//! Where each task stands, in memory: some 150 bytes a task, rebuilt at start by walking over the
//! rows' heads.
//!
//! **Invariant:** what others read is committed; what a batch changes stays apart until it is.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use foldhash::fast::RandomState;
use keybaton_messages::{TaskEpoch, TaskKey, TenantId};
use parking_lot::{Mutex, RwLock};

use crate::journals::tasks::compaction::Compaction;
use crate::journals::tasks::rows::{EntryHead, Kind, clear_number, is_claim};
use crate::store::{Fault, Reader, Resident, RowKey, Rows, Sealer, Segment, Table, Tables};

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

impl Place {
    fn index(self) -> usize {
        self.0 as usize
    }
}

/// What is committed. Every task that is about to write looks here, so that the writer must not
/// hold them up while it carries out a batch.
#[derive(Default)]
struct Committed {
    /// Also of tasks whose creation is not yet committed. Looked at for every write, by a hash that is
    /// quick for short names and seeded anew in every process.
    places: HashMap<TaskKey, Place, RandomState>,
    /// One copy of every tenant's name, for the keys of `places`.
    tenants: HashSet<TenantId>,
    /// `None`: free, or not yet committed.
    heads: Vec<Option<Head>>,
    free: Vec<Place>,
}

impl Committed {
    fn head(&self, place: Place) -> Option<Head> {
        self.heads[place.index()]
    }

    fn take_place(&mut self, key: &TaskKey) -> Place {
        if let Some(place) = self.places.get(key) {
            return *place;
        }
        let place = self.free.pop().unwrap_or_else(|| {
            self.heads.push(None);
            let last = self.heads.len() - 1;
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

    /// Forgets a task whose end is committed.
    fn release(&mut self, key: &TaskKey) {
        let place = self.places.get(key).copied();
        if let Some(place) = place.filter(|place| self.head(*place).is_none()) {
            self.places.remove(key);
            self.free.push(place);
        }
    }
}

/// What the present batch makes of the tasks, and of the segments that their rows lie in.
#[derive(Default)]
struct Batch {
    /// `None` forgets a task.
    changed: Vec<(Place, Option<Head>)>,
    /// By place: one more than where in `changed` its task lies, 0 if it does not.
    found_at: Vec<u32>,
    forgotten: Vec<TaskKey>,
    last_row: u64,
    /// Segments that the present batch has written.
    written: Vec<(u64, u16)>,
    compaction: Compaction,
}

impl Batch {
    fn at(&self, place: Place) -> Option<usize> {
        (*self.found_at.get(place.index())? as usize).checked_sub(1)
    }

    /// As the batch has it; `committed` is asked if the batch has not changed it.
    fn head(&self, place: Place, committed: impl FnOnce() -> Option<Head>) -> Option<Head> {
        match self.at(place) {
            Some(at) => self.changed[at].1,
            None => committed(),
        }
    }

    fn change(&mut self, place: Place, head: Option<Head>) {
        if let Some(at) = self.at(place) {
            self.changed[at].1 = head;
            return;
        }
        self.changed.push((place, head));
        if self.found_at.len() <= place.index() {
            self.found_at.resize(place.index() + 1, 0);
        }
        self.found_at[place.index()] = u32::try_from(self.changed.len()).unwrap_or(u32::MAX);
    }

    /// Takes out what the batch has made.
    fn take(&mut self) -> (Vec<(Place, Option<Head>)>, Vec<TaskKey>) {
        let changed = std::mem::take(&mut self.changed);
        for (place, _) in &changed {
            self.found_at[place.index()] = 0;
        }
        self.compaction.committed();
        for (first, rows) in self.written.drain(..) {
            self.compaction.add(first, usize::from(rows), rows);
        }
        (changed, std::mem::take(&mut self.forgotten))
    }
}

/// All heads of one store. Who takes both locks takes that of the batch first.
pub(crate) struct Heads {
    sealer: Arc<Sealer>,
    batch: Mutex<Batch>,
    committed: RwLock<Committed>,
}

impl Heads {
    pub(crate) fn new(sealer: Arc<Sealer>) -> Self {
        Self { sealer, batch: Mutex::default(), committed: RwLock::default() }
    }

    /// The task as last committed.
    pub(crate) fn committed(&self, key: &TaskKey) -> Option<(Place, Head)> {
        let committed = self.committed.read();
        let place = *committed.places.get(key)?;
        Some((place, committed.head(place)?))
    }

    /// The task as the present batch has it.
    pub(crate) fn batch_find(&self, key: &TaskKey) -> Option<(Place, Head)> {
        let batch = self.batch.lock();
        let committed = self.committed.read();
        let place = *committed.places.get(key)?;
        Some((place, batch.head(place, || committed.head(place))?))
    }

    /// This life of the task as the present batch has it.
    pub(crate) fn batch_head(&self, place: Place, born: u64) -> Option<Head> {
        let batch = self.batch.lock();
        let head = batch.head(place, || self.committed.read().head(place))?;
        (head.born == born).then_some(head)
    }

    /// What the batch makes of the task.
    pub(crate) fn change(&self, place: Place, head: Head) {
        self.batch.lock().change(place, Some(head));
    }

    /// The batch creates a task.
    pub(crate) fn create(&self, key: &TaskKey, head: Head) {
        let mut batch = self.batch.lock();
        let place = self.committed.write().take_place(key);
        batch.change(place, Some(head));
    }

    /// The batch forgets a task.
    pub(crate) fn forget(&self, place: Place, key: &TaskKey) {
        let mut batch = self.batch.lock();
        batch.change(place, None);
        batch.forgotten.push(key.clone());
    }

    /// The number of the next row.
    pub(crate) fn next_row(&self) -> u64 {
        let mut batch = self.batch.lock();
        batch.last_row += 1;
        batch.last_row
    }

    /// Nobody needs these rows any more.
    pub(crate) fn bury(&self, rows: Vec<u64>) {
        let mut batch = self.batch.lock();
        rows.into_iter().for_each(|row| batch.compaction.bury(row));
    }

    /// Hides the entries before `tail`, whose rows are about to be pruned.
    pub(crate) fn cut_tail(&self, place: Place, born: u64, tail: u64) {
        let mut batch = self.batch.lock();
        let mut committed = self.committed.write();
        let changed = batch.at(place).and_then(|at| batch.changed[at].1.as_mut());
        for head in committed.heads[place.index()].as_mut().into_iter().chain(changed) {
            if head.born == born {
                head.tail = head.tail.max(tail);
            }
        }
    }

    /// Forgets all heads and takes these. Every task keeps its place: operations that wait for
    /// their commit, or are about to be carried out again, name it.
    fn replace(&self, tasks: Vec<(TaskKey, Head)>, last_row: u64, compaction: Compaction) {
        let mut batch = self.batch.lock();
        *batch = Batch { last_row, compaction, ..Batch::default() };
        let mut committed = self.committed.write();
        committed.heads.fill(None);
        for (key, head) in tasks {
            let place = committed.take_place(&key);
            committed.heads[place.index()] = Some(head);
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
        let written = tables.end_segments()?;
        let mut batch = self.batch.lock();
        batch.written = written;
        batch.compaction.thin(tables)
    }

    fn committed(&self) {
        let mut batch = self.batch.lock();
        let (changed, forgotten) = batch.take();
        let mut committed = self.committed.write();
        for (place, head) in changed {
            committed.heads[place.index()] = head;
        }
        forgotten.iter().for_each(|key| committed.release(key));
    }

    fn reload(&self, reader: &mut Reader) -> Result<(), Fault> {
        let mut tasks = self.read_tasks(reader)?;
        let by_life: Lives = (0..).zip(&tasks).map(|(at, (_, head))| (head.born, at)).collect();
        let owner = |entry: EntryHead| by_life.get(&entry.born).map(|at| (entry, *at));
        let mut last_row = 0;
        let mut compaction = Compaction::default();
        reader.each_segment(|first, segment| {
            let segment = match segment {
                Ok(segment) => segment,
                Err(bytes) => {
                    tracing::error!(
                        row = first,
                        "rows of tasks are unreadable; they are left alone"
                    );
                    break_tasks_in(bytes, &by_life, &mut tasks);
                    last_row = first;
                    return;
                }
            };
            last_row = first.saturating_add(u64::from(segment.places()) - 1);
            compaction.add(first, segment.rows().count(), segment.places());
            for (place, bytes) in segment.rows() {
                let row = first + u64::from(place);
                if let Some((entry, at)) = EntryHead::read(bytes).and_then(owner) {
                    follow(&mut tasks[at].1, row, entry);
                } else if break_tasks_in(bytes, &by_life, &mut tasks) {
                    tracing::error!(row, "a row of a task is unreadable; it is left alone");
                } else {
                    compaction.bury(row);
                }
            }
        })?;
        tasks.iter_mut().for_each(|(_, head)| check_gap(head));
        if tasks.iter().any(|(_, head)| head.tail > 0) {
            // Rows before a gap were dead already, among others that were not.
            reader.each_segment(|first, segment| {
                for (place, bytes) in segment.iter().flat_map(Segment::rows) {
                    let row = first + u64::from(place);
                    let is_dead = |(entry, at): (EntryHead, usize)| {
                        let head = &tasks[at].1;
                        head.mark != Mark::Broken && entry.index < head.tail && row != head.state
                    };
                    if EntryHead::read(bytes).and_then(owner).is_some_and(is_dead) {
                        compaction.bury(row);
                    }
                }
            })?;
        }
        self.replace(tasks, last_row, compaction);
        Ok(())
    }
}

/// Where a task is among those that a start reads, by the number of its life.
type Lives = HashMap<u64, usize, RandomState>;

/// Tasks that unreadable bytes name have lost a row; says whether there are any. The number of a
/// task's life is random and stands readable in each of its rows, so that it is found wherever the
/// damage is.
fn break_tasks_in(bytes: &[u8], by_life: &Lives, tasks: &mut [(TaskKey, Head)]) -> bool {
    let lives = bytes.array_windows().map(|window| u64::from_be_bytes(*window));
    let named: Vec<usize> = lives.filter_map(|life| by_life.get(&life).copied()).collect();
    named.iter().for_each(|at| tasks[*at].1.mark = Mark::Broken);
    !named.is_empty()
}

/// A task goes on from its newest checkpoint, or from its first entry: a gap behind that is damage.
/// Nothing of such a task is given up.
fn check_gap(head: &mut Head) {
    let is_needed = head.checkpoint == 0 || head.tail > head.checkpoint_index;
    if head.tail > 0 && is_needed {
        head.mark = Mark::Broken;
    }
}

/// Takes the next row of a task while walking all of them in order. Rows are pruned oldest first,
/// except the one that tells the state; what stands before a gap is therefore not needed, unless
/// the gap is behind the newest checkpoint ([`check_gap`]).
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
