//! The audit: what a record's body says, and where sealed records are shipped.

mod body;
mod jsonl;

pub use body::{body_of, word_of};
pub use jsonl::{
    AuditFileError, ChainReport, JsonlSink, line_of, read_file, read_line, verify_file,
};
