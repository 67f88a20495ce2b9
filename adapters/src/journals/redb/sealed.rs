//! A pair's row outside of a store: sealed and opened as the journal does it, for whoever has the
//! bytes and the key and no directory.

use keybaton_messages::PairId;
use keybaton_ports::StoredPair;

use crate::journals::redb::pairs::Corrupt;
use crate::journals::redb::rows::{RecordRow, open_record, seal};
use crate::store::{MasterKey, RowKey, Sealer, Table};

/// The rows of the table `records` of one store.
pub struct SealedRecords(Sealer);

impl SealedRecords {
    /// Rows of the store with this id under this master key.
    #[must_use]
    pub fn new(master: MasterKey, store_id: [u8; 16]) -> Self {
        Self(Sealer::new(master, store_id))
    }

    /// The row that the journal would write.
    ///
    /// # Errors
    /// In words, when the record is larger than a row may be.
    pub fn seal(&self, stored: &StoredPair) -> Result<Vec<u8>, String> {
        let key = RowKey::pair(&stored.record.pair);
        let row = RecordRow { last_txn: stored.last_txn, record: stored.record.clone() };
        seal(&self.0, Table::Records, &key, &row).map_err(|Corrupt(why)| why)
    }

    /// What the journal would read from this row of this pair.
    ///
    /// # Errors
    /// In words, when the bytes are not what was written there.
    pub fn open(&self, pair: &PairId, row: &[u8]) -> Result<StoredPair, String> {
        let key = RowKey::pair(pair);
        open_record(&self.0, key.as_bytes(), pair, row).map_err(|Corrupt(why)| why)
    }
}
