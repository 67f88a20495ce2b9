//! What is said when a name from outside does not fit its rule.

use thiserror::Error;

/// A name from outside that was refused; the message says which rule it broke.
///
/// The offending text is shown escaped and cut short, so that a hostile name can neither forge a
/// log line nor flood one.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{what} {shown} is not valid: {rule}")]
pub struct BadName {
    what: &'static str,
    shown: String,
    rule: &'static str,
}

impl BadName {
    /// Builds the refusal of `text` as a `what`, naming the rule that it broke.
    #[must_use]
    pub fn new(what: &'static str, text: &str, rule: &'static str) -> Self {
        const SHOWN_CHARS_MAX: usize = 40;
        let mut shown: String = text.chars().take(SHOWN_CHARS_MAX).collect();
        if text.chars().count() > SHOWN_CHARS_MAX {
            shown.push('…');
        }
        Self { what, shown: format!("{shown:?}"), rule }
    }
}
