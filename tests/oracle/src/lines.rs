//! Lines of a file, one at a time, with their numbers.
//!
//! **Invariant:** only a last line without its end may be left out.

use std::io::{BufRead, Read};

use serde::Deserialize;

use crate::error::OracleError;
use crate::limits::LINE_BYTES_MAX;

/// Calls `take` with every line and returns how many last lines were torn: 0 or 1.
///
/// A torn line is one without a line feed that is not a whole JSON text.
pub(crate) fn each(
    file: &'static str,
    mut reader: impl BufRead,
    mut take: impl FnMut(u64, &[u8]) -> Result<(), OracleError>,
) -> Result<u64, OracleError> {
    let mut text = Vec::new();
    let mut line = 0;
    loop {
        text.clear();
        line += 1;
        (&mut reader)
            .take(LINE_BYTES_MAX)
            .read_until(b'\n', &mut text)
            .map_err(|source| OracleError::Read { file, line, source })?;
        if text.is_empty() {
            return Ok(0);
        }
        let is_ended = text.last() == Some(&b'\n');
        if !is_ended {
            if text.len() as u64 >= LINE_BYTES_MAX {
                return Err(OracleError::TooLong { file, line, bytes_max: LINE_BYTES_MAX });
            }
            if serde_json::from_slice::<serde::de::IgnoredAny>(&text).is_err() {
                return Ok(1);
            }
        }
        if !text.trim_ascii().is_empty() {
            take(line, &text)?;
        }
    }
}

/// Reads one line as a `T` and checks its schema.
pub(crate) fn parse<'a, T: Deserialize<'a> + HasSchema>(
    file: &'static str,
    line: u64,
    text: &'a [u8],
) -> Result<T, OracleError> {
    let value: T = serde_json::from_slice(text).map_err(|source| OracleError::Malformed {
        file,
        line,
        source,
    })?;
    match value.schema() {
        // Only the audit has no schema of its own: what was sealed cannot be migrated.
        1 => Ok(value),
        found => Err(OracleError::Schema { file, line, found }),
    }
}

/// A line that says in which format it is.
pub(crate) trait HasSchema {
    /// The number in the line.
    fn schema(&self) -> u32;
}
