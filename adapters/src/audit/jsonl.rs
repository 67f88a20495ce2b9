//! The audit as a file of JSON lines that is only ever appended to.
//!
//! One line per sealed record, hashes in hexadecimal. **Invariant:** a line that was acknowledged
//! is on the disk; a line that was cut off by a crash was not acknowledged and is removed when the
//! file is opened again.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use async_trait::async_trait;
use data_encoding::HEXLOWER;
use keybaton_messages::PairId;
use keybaton_ports::{AuditKey, AuditSink, BrokenChain, Refusal, SealedAudit, verify_chain};
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::blocking::blocking;
use crate::limits::AUDIT_LINE_BYTES_MAX;

/// Why an audit file could not be used.
#[derive(Debug, Error)]
pub enum AuditFileError {
    /// The operating system refused.
    #[error("cannot {doing} the audit file {}; check the disk and the permissions", path.display())]
    Io {
        /// What was tried.
        doing: &'static str,
        /// Which file.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// A line in the middle is not a record.
    #[error(
        "line {line} of {} is not an audit record; the file was changed by something else",
        path.display()
    )]
    Line {
        /// Which line, from 1.
        line: u64,
        /// Which file.
        path: PathBuf,
    },
}

/// One record as it stands in the file.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Line {
    tenant: String,
    provider: String,
    seq: u64,
    prev: String,
    hash: String,
    kind: String,
    dedupe: String,
    body: String,
}

impl Line {
    fn of(record: &SealedAudit) -> Self {
        Self {
            tenant: record.pair.tenant.as_str().to_owned(),
            provider: record.pair.provider.as_str().to_owned(),
            seq: record.seq,
            prev: HEXLOWER.encode(&record.prev),
            hash: HEXLOWER.encode(&record.hash),
            kind: record.kind.clone(),
            dedupe: record.dedupe.clone(),
            body: record.body.clone(),
        }
    }

    fn into_record(self) -> Option<SealedAudit> {
        let hash = |text: &str| HEXLOWER.decode(text.as_bytes()).ok()?.try_into().ok();
        Some(SealedAudit {
            pair: PairId::new(self.tenant.parse().ok()?, self.provider.parse().ok()?),
            seq: self.seq,
            prev: hash(&self.prev)?,
            hash: hash(&self.hash)?,
            kind: self.kind,
            dedupe: self.dedupe,
            body: self.body,
        })
    }
}

/// Appends sealed records to one file.
pub struct JsonlSink {
    path: PathBuf,
    inner: Mutex<Inner>,
}

struct Inner {
    file: File,
    length: u64,
    /// The last record of every pair that is in the file.
    last: BTreeMap<PairId, u64>,
}

impl JsonlSink {
    /// Opens the file, creating it (mode 0600) if need be, and reads what is there already.
    ///
    /// # Errors
    /// [`AuditFileError`].
    pub fn open(path: &Path) -> Result<Self, AuditFileError> {
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(path)
            .map_err(io_error("open", path))?;
        let mut last = BTreeMap::new();
        let walked = walk(path, &mut file, |record| {
            last.insert(record.pair, record.seq);
        })?;
        if walked.is_torn {
            file.set_len(walked.whole_bytes).map_err(io_error("shorten", path))?;
        }
        file.seek(SeekFrom::Start(walked.whole_bytes)).map_err(io_error("read", path))?;
        Ok(Self {
            path: path.to_owned(),
            inner: Mutex::new(Inner { file, length: walked.whole_bytes, last }),
        })
    }

    fn append(&self, records: &[SealedAudit]) -> Result<(), Refusal> {
        let mut guard = self.inner.lock();
        let inner = &mut *guard;
        let mut last = BTreeMap::new();
        let mut lines = Vec::new();
        for record in records {
            let there = last.get(&record.pair).or_else(|| inner.last.get(&record.pair));
            if there.is_some_and(|seq| *seq >= record.seq) {
                continue;
            }
            last.insert(record.pair.clone(), record.seq);
            lines.extend(line_of(record));
        }
        if lines.is_empty() {
            return Ok(());
        }
        let written = inner.file.write_all(&lines).and_then(|()| inner.file.sync_data());
        if let Err(error) = written {
            // What was not acknowledged must not stay half there; if even this fails, the next
            // start removes it.
            let _ = inner.file.set_len(inner.length);
            let _ = inner.file.seek(SeekFrom::Start(inner.length));
            let path = self.path.display();
            return Err(Refusal::unknown(format!("cannot append to {path}: {error}")));
        }
        inner.length += lines.len() as u64;
        inner.last.extend(last);
        Ok(())
    }
}

#[async_trait]
impl AuditSink for JsonlSink {
    async fn ship(&self, records: &[SealedAudit]) -> Result<(), Refusal> {
        blocking(|| self.append(records))
    }
}

/// What was found of one pair's chain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChainReport {
    /// Whose chain.
    pub pair: PairId,
    /// How many records there are.
    pub records: u64,
    /// The hash of the last one: compare it with the journal's, to notice records that were cut
    /// off at the end.
    pub head: [u8; 32],
    /// The first bad place.
    pub broken: Option<BrokenChain>,
}

/// One line of an audit file, line feed included. `None`: it is not what a record makes, to the
/// byte. JSON can say one thing in many ways; a line that says it in another way was changed.
#[must_use]
pub fn read_line(line: &[u8]) -> Option<SealedAudit> {
    let record = serde_json::from_slice::<Line>(line).ok().and_then(Line::into_record)?;
    (line_of(&record) == line).then_some(record)
}

/// The line that a record makes, line feed included.
#[must_use]
pub fn line_of(record: &SealedAudit) -> Vec<u8> {
    let mut line = serde_json::to_vec(&Line::of(record)).expect("texts and numbers are JSON");
    line.push(b'\n');
    line
}

/// Every record in an audit file, in order, and whether the last line is cut off.
///
/// # Errors
/// [`AuditFileError`] when the file cannot be read, or a line in it is not a record.
pub fn read_file(path: &Path) -> Result<(Vec<SealedAudit>, bool), AuditFileError> {
    let mut file = File::open(path).map_err(io_error("open", path))?;
    let mut records = Vec::new();
    let walked = walk(path, &mut file, |record| records.push(record))?;
    Ok((records, walked.is_torn))
}

/// Verifies every chain in an audit file, from its first record on.
///
/// The second value says that the last line is cut off: a crash while it was written, or a cut.
///
/// # Errors
/// [`AuditFileError`] when the file cannot be read, or a line in it is not a record.
pub fn verify_file(
    path: &Path,
    key: &AuditKey,
) -> Result<(Vec<ChainReport>, bool), AuditFileError> {
    let (records, is_torn) = read_file(path)?;
    let mut chains: BTreeMap<PairId, Vec<SealedAudit>> = BTreeMap::new();
    for record in records {
        chains.entry(record.pair.clone()).or_default().push(record);
    }
    let reports = chains
        .into_iter()
        .map(|(pair, records)| ChainReport {
            records: records.len() as u64,
            head: records.last().map_or([0; 32], |record| record.hash),
            broken: verify_chain(key, &pair, &records).err(),
            pair,
        })
        .collect();
    Ok((reports, is_torn))
}

struct Walked {
    whole_bytes: u64,
    is_torn: bool,
}

fn walk(
    path: &Path,
    file: &mut File,
    mut see: impl FnMut(SealedAudit),
) -> Result<Walked, AuditFileError> {
    let mut reader = BufReader::new(file);
    let mut whole_bytes = 0;
    let mut text = Vec::new();
    for line in 1.. {
        text.clear();
        let read = (&mut reader)
            .take(AUDIT_LINE_BYTES_MAX)
            .read_until(b'\n', &mut text)
            .map_err(io_error("read", path))?;
        if read == 0 {
            break;
        }
        if !text.ends_with(b"\n") && text.len() as u64 != AUDIT_LINE_BYTES_MAX {
            return Ok(Walked { whole_bytes, is_torn: true });
        }
        match read_line(&text) {
            Some(record) => see(record),
            None => {
                return Err(AuditFileError::Line { line, path: path.to_owned() });
            }
        }
        whole_bytes += read as u64;
    }
    Ok(Walked { whole_bytes, is_torn: false })
}

fn io_error(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> AuditFileError {
    let path = path.to_owned();
    move |source| AuditFileError::Io { doing, path, source }
}

#[cfg(test)]
mod tests {
    use super::*;
    use keybaton_ports::seal;

    #[test]
    fn a_line_that_says_the_same_in_another_way_was_changed() {
        let pair = PairId::new("acme".parse().expect("a name"), "openai".parse().expect("a name"));
        let body = "{\"note\":\"\u{1b}\"}".to_owned();
        let record = seal(&AuditKey::new([9; 32]), &pair, 1, [0; 32], "ISSUED", "v1", body);
        let line = String::from_utf8(line_of(&record)).expect("text");
        assert_eq!(read_line(line.as_bytes()), Some(record));
        for (said, otherwise) in [("001b", "001B"), (":1,", ": 1,"), ("ISSUED", "\\u0049SSUED")] {
            assert!(line.contains(said), "{line}");
            assert_eq!(read_line(line.replace(said, otherwise).as_bytes()), None, "{otherwise}");
        }
    }
}
