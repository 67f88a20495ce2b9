//! What stands in an audit record: one line of JSON, the same from every journal.
//!
//! The time in it is for people; the order of records is their number in the chain.

use keybaton_messages::{Epoch, ProviderKeyId, Rev, Timestamp, Version};
use keybaton_ports::NodeLife;
use keybaton_rotation::{AuditEntry, AuditKind};
use serde::Serialize;

#[derive(Serialize)]
struct Body<'a> {
    at_ms: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    node: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    incarnation: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    epoch: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    rev: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    rotation: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    version: Option<Version>,
    #[serde(skip_serializing_if = "Option::is_none")]
    key_id: Option<&'a ProviderKeyId>,
    note: &'a str,
}

/// The body of one entry: when (store time, milliseconds), by which life of which node, and with
/// which epoch and revision of the record, as far as they are known.
#[must_use]
pub fn body_of(
    entry: &AuditEntry,
    at: Timestamp,
    by: Option<&NodeLife>,
    written: Option<(Epoch, Rev)>,
) -> String {
    let body = Body {
        at_ms: at.0,
        node: by.map(|life| life.node.as_str()),
        incarnation: by.map(|life| life.incarnation.0),
        epoch: written.map(|(epoch, _)| epoch.0),
        rev: written.map(|(_, rev)| rev.0),
        rotation: entry.rotation.as_ref().map(ToString::to_string),
        version: entry.version,
        key_id: entry.key_id.as_ref(),
        note: &entry.note,
    };
    serde_json::to_string(&body).expect("text and numbers always become JSON")
}

/// The word that stands for a kind in the audit, for example `ISSUE_INTENT`.
#[must_use]
pub fn word_of(kind: AuditKind) -> String {
    match serde_json::to_value(kind) {
        Ok(serde_json::Value::String(word)) => word,
        other => unreachable!("a kind without data is written as a word, not as {other:?}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_is_one_line_whatever_the_note_says() {
        let entry = AuditEntry {
            kind: AuditKind::IssueIntent,
            dedupe: "v1".into(),
            rotation: None,
            version: Some(Version(1)),
            key_id: None,
            note: "line\nbreak \u{1b}[31m".into(),
        };
        let body = body_of(&entry, Timestamp(5), None, Some((Epoch(3), Rev(2))));
        assert_eq!(
            body,
            r#"{"at_ms":5,"epoch":3,"rev":2,"version":1,"note":"line\nbreak \u001b[31m"}"#
        );
        assert_eq!(word_of(entry.kind), "ISSUE_INTENT");
    }
}
