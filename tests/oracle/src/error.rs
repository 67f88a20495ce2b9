//! Why there is no verdict: the files are not evidence.

use std::io;
use std::path::PathBuf;

/// The evidence cannot be read or contradicts itself, so that nothing is judged.
#[derive(Debug, thiserror::Error)]
pub enum OracleError {
    /// A file cannot be opened.
    #[error("cannot open {}: check the path and its rights", path.display())]
    Open {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A file cannot be read to its end.
    #[error("cannot read line {line} of the {file} file: check the disk")]
    Read {
        /// Which of the three.
        file: &'static str,
        /// Where, from 1.
        line: u64,
        /// Why.
        source: io::Error,
    },
    /// A line is longer than any that is written.
    #[error("line {line} of the {file} file is longer than {bytes_max} bytes: export it again")]
    TooLong {
        /// Which of the three.
        file: &'static str,
        /// Where, from 1.
        line: u64,
        /// The limit.
        bytes_max: u64,
    },
    /// A line is not what its file consists of.
    #[error("line {line} of the {file} file is malformed: export it again")]
    Malformed {
        /// Which of the three.
        file: &'static str,
        /// Where, from 1.
        line: u64,
        /// What is wrong with it.
        source: serde_json::Error,
    },
    /// A line lacks something, or says something that cannot be.
    #[error("line {line} of the {file} file: {what}")]
    Senseless {
        /// Which of the three.
        file: &'static str,
        /// Where, from 1.
        line: u64,
        /// What, and what to do.
        what: String,
    },
    /// A line was written in another format.
    #[error(
        "line {line} of the {file} file has schema {found}, this oracle reads 1: use the oracle \
         of the same build"
    )]
    Schema {
        /// Which of the three.
        file: &'static str,
        /// Where, from 1.
        line: u64,
        /// What it says.
        found: u32,
    },
    /// A line is missing from the ledger, so that it proves nothing.
    #[error(
        "line {line} of the ledger file has seq {found} where {expected} must stand: a line is \
         missing, and a ledger with a hole proves nothing; run again"
    )]
    Gap {
        /// Where, from 1.
        line: u64,
        /// The number after the one before.
        expected: u64,
        /// What it says.
        found: u64,
    },
}
