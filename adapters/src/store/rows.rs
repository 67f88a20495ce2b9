//! The tables of the database, and rows in them as bytes.
//!
//! Primary keys are built from checked names, each with its length in front, and from big-endian
//! numbers, so that rows of one pair lie together in order and no two keys can run into each other.

use keybaton_messages::{PairId, TaskKey};
use redb::{ReadableTable, TableDefinition, TableError, WriteTransaction};

use crate::store::Fault;
use crate::store::segments::{Filling, Segment};

type Bytes = &'static [u8];

/// The tables whose primary key is bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Table {
    /// Schema, store id, key check, high-water mark of the clock.
    Meta,
    /// Pair records.
    Records,
    /// Every version that ever was, with its last status.
    Versions,
    /// Who claims a provider's key id, for ever.
    KeyClaims,
    /// Who claims a secret's fingerprint, for ever.
    SecretClaims,
    /// Which node may hand out which version.
    Grants,
    /// The present life of every node.
    Lives,
    /// Sealed audit records.
    Audit,
    /// The end of every audit chain.
    AuditHeads,
    /// Which facts are in the audit already.
    AuditFacts,
    /// Events that are not yet acknowledged.
    Outbox,
    /// Tasks.
    Tasks,
    /// The present claim of every task.
    TaskClaims,
    /// Secrets.
    Secrets,
    /// Which secret lies under a label.
    SecretLabels,
    /// Witnesses.
    Witnesses,
}

impl Table {
    const ALL: [Self; 16] = [
        Self::Meta,
        Self::Records,
        Self::Versions,
        Self::KeyClaims,
        Self::SecretClaims,
        Self::Grants,
        Self::Lives,
        Self::Audit,
        Self::AuditHeads,
        Self::AuditFacts,
        Self::Outbox,
        Self::Tasks,
        Self::TaskClaims,
        Self::Secrets,
        Self::SecretLabels,
        Self::Witnesses,
    ];

    /// The table's name, which is also bound into every envelope.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Meta => "meta",
            Self::Records => "records",
            Self::Versions => "versions",
            Self::KeyClaims => "key_claims",
            Self::SecretClaims => "secret_claims",
            Self::Grants => "grants",
            Self::Lives => "lives",
            Self::Audit => "audit",
            Self::AuditHeads => "audit_heads",
            Self::AuditFacts => "audit_facts",
            Self::Outbox => "outbox",
            Self::Tasks => "tasks",
            Self::TaskClaims => "task_claims",
            Self::Secrets => "secrets",
            Self::SecretLabels => "secret_labels",
            Self::Witnesses => "witnesses",
        }
    }

    fn definition(self) -> TableDefinition<'static, Bytes, Bytes> {
        TableDefinition::new(self.name())
    }
}

/// The entries of all tasks, by a running number and in segments: appending at the end of one table,
/// many at a time, is what makes small writes cheap.
const ENTRIES: TableDefinition<'static, u64, Bytes> = TableDefinition::new(ENTRIES_NAME);

/// The name of the table of entries, as bound into every envelope.
pub(crate) const ENTRIES_NAME: &str = "entries";

/// A primary key under construction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct RowKey(Vec<u8>);

impl RowKey {
    pub(crate) fn pair(pair: &PairId) -> Self {
        Self(Vec::with_capacity(96)).name(pair.tenant.as_str()).name(pair.provider.as_str())
    }

    pub(crate) fn task(key: &TaskKey) -> Self {
        Self::tenant(key.tenant.as_str()).name(key.task.as_str())
    }

    pub(crate) fn tenant(tenant: &str) -> Self {
        Self(Vec::with_capacity(96)).name(tenant)
    }

    pub(crate) fn fixed(word: &str) -> Self {
        Self(word.as_bytes().to_vec())
    }

    /// Adds a name (at most 63 bytes) with its length in front.
    pub(crate) fn name(mut self, name: &str) -> Self {
        self.0.push(u8::try_from(name.len()).expect("names are checked to be at most 63 bytes"));
        self.0.extend_from_slice(name.as_bytes());
        self
    }

    pub(crate) fn number(mut self, number: u64) -> Self {
        self.0.extend_from_slice(&number.to_be_bytes());
        self
    }

    pub(crate) fn bytes(mut self, bytes: &[u8]) -> Self {
        self.0.extend_from_slice(bytes);
        self
    }

    pub(crate) fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// Reads a pair back from the front of a key.
    pub(crate) fn read_pair(key: &[u8]) -> Option<PairId> {
        let (tenant, rest) = read_name(key)?;
        let (provider, _) = read_name(rest)?;
        Some(PairId::new(tenant.parse().ok()?, provider.parse().ok()?))
    }

    /// Reads a task back from a key.
    pub(crate) fn read_task(key: &[u8]) -> Option<TaskKey> {
        let (tenant, rest) = read_name(key)?;
        let (task, rest) = read_name(rest)?;
        rest.is_empty().then_some(())?;
        Some(TaskKey { tenant: tenant.parse().ok()?, task: task.parse().ok()? })
    }
}

fn read_name(key: &[u8]) -> Option<(&str, &[u8])> {
    let (length, rest) = key.split_first()?;
    let (name, rest) = rest.split_at_checked(usize::from(*length))?;
    Some((std::str::from_utf8(name).ok()?, rest))
}

/// One row.
pub(crate) type Row = (Vec<u8>, Vec<u8>);

/// Reading, the same inside and outside of a write.
pub(crate) trait Rows {
    /// One row's value.
    fn get(&mut self, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>, Fault>;

    /// Rows whose key begins with `prefix` and is not below `from`, in order.
    fn scan(
        &mut self,
        table: Table,
        prefix: &[u8],
        from: &[u8],
        rows_max: usize,
    ) -> Result<Vec<Row>, Fault>;

    /// Every row whose key begins with `prefix`.
    fn all(&mut self, table: Table, prefix: &[u8]) -> Result<Vec<Row>, Fault> {
        self.scan(table, prefix, prefix, usize::MAX)
    }
}

fn scan_rows(
    table: &impl ReadableTable<Bytes, Bytes>,
    prefix: &[u8],
    from: &[u8],
    rows_max: usize,
) -> Result<Vec<Row>, Fault> {
    let mut rows = Vec::new();
    for row in table.range(from..)?.take(rows_max) {
        let (key, value) = row?;
        if !key.value().starts_with(prefix) {
            break;
        }
        rows.push((key.value().to_vec(), value.value().to_vec()));
    }
    Ok(rows)
}

/// All tables inside one write transaction, opened when first used.
pub(crate) struct Tables<'txn> {
    transaction: &'txn WriteTransaction,
    open: [Option<redb::Table<'txn, Bytes, Bytes>>; Table::ALL.len()],
    entries: Option<redb::Table<'txn, u64, Bytes>>,
    /// The number of the first row of the segment that is being filled, and its rows.
    filling: (u64, Filling),
    /// Segments that this transaction has written, by their first row, and how many rows each has.
    written: Vec<(u64, u16)>,
    is_changed: bool,
}

impl<'txn> Tables<'txn> {
    pub(crate) fn new(transaction: &'txn WriteTransaction) -> Self {
        Self {
            transaction,
            open: [const { None }; Table::ALL.len()],
            entries: None,
            filling: (0, Filling::default()),
            written: Vec::new(),
            is_changed: false,
        }
    }

    /// Creates every table that is not there yet.
    pub(crate) fn create_all(&mut self) -> Result<(), Fault> {
        for table in Table::ALL {
            self.table(table)?;
        }
        self.entries()?;
        self.is_changed = true;
        Ok(())
    }

    /// Whether anything was written; a batch of refusals needs no commit.
    pub(crate) fn is_changed(&self) -> bool {
        self.is_changed
    }

    pub(crate) fn insert(&mut self, table: Table, key: &[u8], value: &[u8]) -> Result<(), Fault> {
        self.is_changed = true;
        self.table(table)?.insert(key, value)?;
        Ok(())
    }

    pub(crate) fn remove(&mut self, table: Table, key: &[u8]) -> Result<(), Fault> {
        self.is_changed = true;
        self.table(table)?.remove(key)?;
        Ok(())
    }

    /// Adds an entry. Those that follow each other share a segment, which is written when it is full
    /// or the transaction ends.
    pub(crate) fn insert_entry(&mut self, number: u64, row: &[u8]) -> Result<(), Fault> {
        self.is_changed = true;
        let (first, filling) = &self.filling;
        let is_next = number == first + u64::from(filling.places());
        if !is_next || !filling.has_room(row.len()) {
            self.write_segment()?;
            self.filling.0 = number;
        }
        self.filling.1.push(row);
        Ok(())
    }

    fn write_segment(&mut self) -> Result<(), Fault> {
        let (first, filling) = std::mem::take(&mut self.filling);
        if filling.is_empty() {
            return Ok(());
        }
        self.written.push((first, filling.places()));
        self.entries()?.insert(first, filling.close().as_slice())?;
        Ok(())
    }

    /// Writes what is not written yet, and tells which segments are new.
    pub(crate) fn end_segments(&mut self) -> Result<Vec<(u64, u16)>, Fault> {
        self.write_segment()?;
        Ok(std::mem::take(&mut self.written))
    }

    /// Takes rows out of a segment, by their places in it; with the last one the segment goes. Tells
    /// how many are left.
    pub(crate) fn thin_segment(&mut self, first: u64, places: &[u16]) -> Result<usize, Fault> {
        let entries = self.entries()?;
        let (kept, left) = {
            let value = entries.get(first)?;
            let segment = value.as_ref().and_then(|value| Segment::read(value.value()));
            let Some(segment) = segment else {
                return Ok(0);
            };
            let left = segment.rows().filter(|(place, _)| !places.contains(place)).count();
            (segment.without(places), left)
        };
        if left > 0 {
            entries.insert(first, kept.as_slice())?;
        } else {
            entries.remove(first)?;
        }
        self.is_changed = true;
        Ok(left)
    }

    fn table(&mut self, table: Table) -> Result<&mut redb::Table<'txn, Bytes, Bytes>, Fault> {
        let slot = &mut self.open[table as usize];
        match slot {
            Some(open) => Ok(open),
            None => Ok(slot.insert(self.transaction.open_table(table.definition())?)),
        }
    }

    fn entries(&mut self) -> Result<&mut redb::Table<'txn, u64, Bytes>, Fault> {
        match &mut self.entries {
            Some(open) => Ok(open),
            none => Ok(none.insert(self.transaction.open_table(ENTRIES)?)),
        }
    }
}

impl Rows for Tables<'_> {
    fn get(&mut self, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>, Fault> {
        let value = self.table(table)?.get(key)?;
        Ok(value.map(|value| value.value().to_vec()))
    }

    fn scan(
        &mut self,
        table: Table,
        prefix: &[u8],
        from: &[u8],
        rows_max: usize,
    ) -> Result<Vec<Row>, Fault> {
        scan_rows(self.table(table)?, prefix, from, rows_max)
    }
}

/// All tables as one commit left them.
pub(crate) struct Reader {
    transaction: redb::ReadTransaction,
    /// Opened when first used: a task that is read back takes many rows from it.
    entries: Option<redb::ReadOnlyTable<u64, Bytes>>,
}

impl Reader {
    pub(crate) fn new(transaction: redb::ReadTransaction) -> Self {
        Self { transaction, entries: None }
    }

    /// Whether the database has no table at all.
    pub(crate) fn is_blank(&self) -> Result<bool, Fault> {
        Ok(self.transaction.list_tables()?.next().is_none())
    }

    /// Shows every segment of entries in order, with the number of its first row; or bytes that are
    /// none.
    pub(crate) fn each_segment(
        &mut self,
        mut see: impl FnMut(u64, Result<Segment<'_>, &[u8]>),
    ) -> Result<(), Fault> {
        let Some(entries) = self.entries()? else {
            return Ok(());
        };
        for row in entries.iter()? {
            let (first, value) = row?;
            see(first.value(), Segment::read(value.value()).ok_or(value.value()));
        }
        Ok(())
    }

    /// Shows one entry, if it is there.
    pub(crate) fn entry<T>(
        &mut self,
        number: u64,
        see: impl FnOnce(&[u8]) -> T,
    ) -> Result<Option<T>, Fault> {
        let Some(entries) = self.entries()? else {
            return Ok(None);
        };
        let Some(before) = entries.range(..=number)?.next_back() else {
            return Ok(None);
        };
        let (first, value) = before?;
        let place = u16::try_from(number - first.value()).ok();
        let segment = Segment::read(value.value());
        Ok(segment.zip(place).and_then(|(segment, place)| segment.row(place)).map(see))
    }

    fn entries(&mut self) -> Result<Option<&redb::ReadOnlyTable<u64, Bytes>>, Fault> {
        if self.entries.is_none() {
            self.entries = there(self.transaction.open_table(ENTRIES))?;
        }
        Ok(self.entries.as_ref())
    }
}

impl Rows for Reader {
    fn get(&mut self, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>, Fault> {
        let Some(table) = there(self.transaction.open_table(table.definition()))? else {
            return Ok(None);
        };
        Ok(table.get(key)?.map(|value| value.value().to_vec()))
    }

    fn scan(
        &mut self,
        table: Table,
        prefix: &[u8],
        from: &[u8],
        rows_max: usize,
    ) -> Result<Vec<Row>, Fault> {
        match there(self.transaction.open_table(table.definition()))? {
            Some(table) => scan_rows(&table, prefix, from, rows_max),
            None => Ok(Vec::new()),
        }
    }
}

/// A table that no write has created yet has no rows.
fn there<T>(table: Result<T, TableError>) -> Result<Option<T>, Fault> {
    match table {
        Ok(table) => Ok(Some(table)),
        Err(TableError::TableDoesNotExist(_)) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_read_back_and_never_run_into_each_other() {
        let pair = |tenant: &str, provider: &str| {
            PairId::new(tenant.parse().unwrap(), provider.parse().unwrap())
        };
        let a = RowKey::pair(&pair("ab", "c"));
        let b = RowKey::pair(&pair("a", "bc"));
        assert_ne!(a, b);
        assert_eq!(RowKey::read_pair(a.as_bytes()), Some(pair("ab", "c")));
        assert_eq!(
            RowKey::read_pair(RowKey::pair(&pair("ab", "c")).number(7).as_bytes()),
            Some(pair("ab", "c"))
        );
        let task = TaskKey { tenant: "acme".parse().unwrap(), task: "t-1".parse().unwrap() };
        let key = RowKey::task(&task);
        assert_eq!(RowKey::read_task(key.as_bytes()), Some(task));
        for cut in 0..key.as_bytes().len() {
            assert_eq!(RowKey::read_task(&key.as_bytes()[..cut]), None);
        }
    }
}
