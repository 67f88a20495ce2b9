//! To which trace an event belongs, in the words of W3C Trace Context.

use std::fmt;
use std::str::FromStr;

use data_encoding::HEXLOWER;

use crate::error::BadName;

const RULE: &str = "use version 00 of W3C Trace Context: 00-<32 hex>-<16 hex>-<2 hex>, no id zero";

/// A `traceparent` of version 00, as <https://www.w3.org/TR/trace-context/> defines it: the trace,
/// the span in it that says this, and whether it is sampled. Identifies work, holds no secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct TraceParent {
    trace: [u8; 16],
    span: [u8; 8],
    flags: u8,
}

/// The trace is sampled: who reads this keeps its own spans of it.
const SAMPLED: u8 = 1;

impl TraceParent {
    /// Takes ids from a digest or a generator. An id of all zeros has no meaning in a
    /// `traceparent`, so its last bit is set.
    #[must_use]
    pub fn sampled(mut trace: [u8; 16], mut span: [u8; 8]) -> Self {
        if trace == [0; 16] {
            trace[15] = 1;
        }
        if span == [0; 8] {
            span[7] = 1;
        }
        Self { trace, span, flags: SAMPLED }
    }

    /// The trace's id.
    #[must_use]
    pub fn trace_id(&self) -> [u8; 16] {
        self.trace
    }
}

impl fmt::Display for TraceParent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (trace, span) = (HEXLOWER.encode(&self.trace), HEXLOWER.encode(&self.span));
        write!(f, "00-{trace}-{span}-{:02x}", self.flags)
    }
}

impl FromStr for TraceParent {
    type Err = BadName;

    fn from_str(text: &str) -> Result<Self, BadName> {
        parse(text).ok_or_else(|| BadName::new("traceparent", text, RULE))
    }
}

fn parse(text: &str) -> Option<TraceParent> {
    let mut parts = text.split('-');
    let mut next = || parts.next().map(|part| HEXLOWER.decode(part.as_bytes()));
    let (version, trace, span, flags) = (next()?, next()?, next()?, next()?);
    let flags: [u8; 1] = flags.ok()?.try_into().ok()?;
    let found = TraceParent {
        trace: trace.ok()?.try_into().ok()?,
        span: span.ok()?.try_into().ok()?,
        flags: flags[0],
    };
    let is_known = version.ok()? == [0] && parts.next().is_none();
    (is_known && found.trace != [0; 16] && found.span != [0; 8]).then_some(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_traceparent_is_read_as_it_is_written() {
        // The example of the specification.
        let text = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
        let parent: TraceParent = text.parse().expect("the specification's own example");
        assert_eq!(parent.to_string(), text);
        assert_eq!(TraceParent::sampled(parent.trace_id(), parent.span), parent);
    }

    #[test]
    fn ids_of_all_zeros_other_versions_and_anything_else_are_refused() {
        let never_zero = TraceParent::sampled([0; 16], [0; 8]).to_string();
        assert!(never_zero.parse::<TraceParent>().is_ok(), "{never_zero}");
        for bad in [
            "",
            "00",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-x",
            "01-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e473-00f067aa0ba902b7-01",
            "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-1",
        ] {
            assert!(bad.parse::<TraceParent>().is_err(), "{bad}");
        }
    }
}
