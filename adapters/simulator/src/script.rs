//! On which call a fault happens, as text and as an object.
//!
//! A script reads `<op>[@<project>]:<n>[x<times>]=<fault>[:<millis>]`: from the `n`-th matching
//! call on, counted since the script was armed, apply the fault `times` times (`*`: for ever).

use std::fmt;
use std::str::FromStr;

use serde::Deserialize;

use crate::fault::{Fault, Op};
use crate::limits::{FAULT_DELAY_MAX, SCRIPTS_MAX, TEXT_BYTES_MAX};

/// One fault on the n-th matching call.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "Written")]
pub struct Script {
    pub(crate) op: Op,
    pub(crate) project: Option<String>,
    pub(crate) nth: u32,
    pub(crate) times: u32,
    pub(crate) fault: Fault,
}

impl Script {
    /// `fault` on the next call of `op`, once.
    ///
    /// # Errors
    /// [`ScriptError::Misfit`] when the fault makes no sense for that call.
    pub fn next(op: Op, fault: Fault) -> Result<Self, ScriptError> {
        Self { op, project: None, nth: 1, times: 1, fault }.checked()
    }

    /// Only calls about `project` match and are counted.
    #[must_use]
    pub fn of(self, project: impl Into<String>) -> Self {
        Self { project: Some(project.into()), ..self }
    }

    /// Starts with the `nth` matching call (from 1) and lasts for `times` of them.
    ///
    /// # Errors
    /// [`ScriptError::Count`] when either is zero.
    pub fn from_nth(self, nth: u32, times: u32) -> Result<Self, ScriptError> {
        Self { nth, times, ..self }.checked()
    }

    fn checked(self) -> Result<Self, ScriptError> {
        if self.nth == 0 || self.times == 0 {
            return Err(ScriptError::Count { text: format!("{}x{}", self.nth, self.times) });
        }
        if self.project.as_ref().is_some_and(|it| it.is_empty() || it.len() > TEXT_BYTES_MAX) {
            return Err(ScriptError::Project);
        }
        if !self.fault.fits(self.op) {
            return Err(ScriptError::Misfit { fault: self.fault.name(), op: self.op.name() });
        }
        Ok(self)
    }
}

impl fmt::Display for Script {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(self.op.name())?;
        if let Some(project) = &self.project {
            write!(out, "@{project}")?;
        }
        write!(out, ":{}", self.nth)?;
        match self.times {
            1 => {}
            u32::MAX => out.write_str("x*")?,
            times => write!(out, "x{times}")?,
        }
        write!(out, "={}", self.fault)
    }
}

impl FromStr for Script {
    type Err = ScriptError;

    fn from_str(text: &str) -> Result<Self, ScriptError> {
        let shape = || ScriptError::Shape { text: shown(text) };
        let (call, effect) = text.split_once('=').ok_or_else(shape)?;
        // A project may contain a colon, a count may not.
        let (target, count) = call.rsplit_once(':').ok_or_else(shape)?;
        let (op, project) = match target.split_once('@') {
            Some((op, project)) => (op, Some(project.to_owned())),
            None => (target, None),
        };
        let op = Op::ALL
            .into_iter()
            .find(|known| known.name() == op)
            .ok_or_else(|| ScriptError::Op { op: shown(op) })?;
        let (nth, times) = parse_count(count)?;
        let (name, millis) = match effect.split_once(':') {
            Some((name, millis)) => {
                let millis =
                    millis.parse().map_err(|_| ScriptError::Millis { text: shown(millis) })?;
                (name, Some(millis))
            }
            None => (effect, None),
        };
        Self { op, project, nth, times, fault: Fault::parse(name, millis)? }.checked()
    }
}

/// What a refusal repeats of a text: escaped and cut short, so that it can neither forge a line nor
/// flood a log.
pub(crate) fn shown(text: &str) -> String {
    const SHOWN_CHARS_MAX: usize = 40;
    text.chars().take(SHOWN_CHARS_MAX).flat_map(char::escape_debug).collect()
}

fn parse_count(text: &str) -> Result<(u32, u32), ScriptError> {
    let wrong = || ScriptError::Count { text: shown(text) };
    let (nth, times) = text.split_once('x').unwrap_or((text, "1"));
    let times = match times {
        "*" => u32::MAX,
        times => times.parse().map_err(|_| wrong())?,
    };
    Ok((nth.parse().map_err(|_| wrong())?, times))
}

/// The scripts waiting for their calls, oldest first.
#[derive(Default)]
pub(crate) struct Armed(Vec<(Script, u32)>);

impl Armed {
    pub(crate) fn arm(&mut self, script: Script) -> Result<(), ScriptError> {
        if self.0.len() >= SCRIPTS_MAX {
            return Err(ScriptError::TooMany);
        }
        self.0.push((script, 0));
        Ok(())
    }

    pub(crate) fn heal(&mut self) {
        self.0.clear();
    }

    /// Counts one call of `op` about `project` and says what happens to it: the oldest script
    /// whose turn it is decides; the others count the call all the same.
    pub(crate) fn strike(&mut self, op: Op, project: Option<&str>) -> Option<Fault> {
        let mut struck = None;
        for (script, seen) in &mut self.0 {
            let elsewhere = script.project.is_some() && script.project.as_deref() != project;
            if script.op != op || elsewhere {
                continue;
            }
            *seen = seen.saturating_add(1);
            if *seen >= script.nth && struck.is_none() {
                struck = Some(script.fault);
            }
        }
        self.0.retain(|(script, seen)| *seen < script.nth.saturating_add(script.times - 1));
        struck
    }

    /// The scripts that still wait, as text.
    pub(crate) fn waiting(&self) -> Vec<String> {
        self.0.iter().map(|(script, _)| script.to_string()).collect()
    }
}

/// A script as it comes over HTTP: the text, or an object with the same parts.
#[derive(Deserialize)]
#[serde(untagged)]
enum Written {
    Text(String),
    Parts {
        op: Op,
        project: Option<String>,
        #[serde(default = "one")]
        nth: u32,
        #[serde(default = "one")]
        times: u32,
        fault: String,
        millis: Option<u64>,
    },
}

fn one() -> u32 {
    1
}

impl TryFrom<Written> for Script {
    type Error = ScriptError;

    fn try_from(written: Written) -> Result<Self, ScriptError> {
        match written {
            Written::Text(text) => text.parse(),
            Written::Parts { op, project, nth, times, fault, millis } => {
                let fault = Fault::parse(&fault, millis)?;
                Self { op, project, nth, times, fault }.checked()
            }
        }
    }
}

/// Why a script was refused.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum ScriptError {
    /// The parts are not where they should be.
    #[error(
        "script `{text}` is not of the form <op>[@<project>]:<n>[x<times>]=<fault>[:<millis>], \
         for example issue:1=ack-lost or revoke@p1:2x3=server-error"
    )]
    Shape {
        /// The beginning of the script.
        text: String,
    },
    /// No such call.
    #[error("`{op}` is not a call: use issue, revoke, list, get, probe, chat or tool")]
    Op {
        /// What was given.
        op: String,
    },
    /// No such fault.
    #[error("`{fault}` is not a fault: see the table in the simulator's documentation")]
    Fault {
        /// What was given.
        fault: String,
    },
    /// A count that is not a number from 1 on.
    #[error("`{text}` does not count calls: use <n> or <n>x<times> with numbers from 1, or x*")]
    Count {
        /// What was given.
        text: String,
    },
    /// A project that no call can name.
    #[error("the project after @ is empty or too long: leave @ out to match every project")]
    Project,
    /// A delay that is not a number.
    #[error("`{text}` is not a number of milliseconds")]
    Millis {
        /// What was given.
        text: String,
    },
    /// A fault that needs a delay came without one.
    #[error("fault `{fault}` needs a delay: write {fault}:<millis>")]
    DelayMissing {
        /// The fault.
        fault: String,
    },
    /// A fault that has no delay came with one.
    #[error("fault `{fault}` takes no delay: leave :<millis> out")]
    DelayUnused {
        /// The fault.
        fault: String,
    },
    /// A delay above [`FAULT_DELAY_MAX`].
    #[error("a delay of {millis} ms is longer than the allowed {} ms", FAULT_DELAY_MAX.as_millis())]
    DelayTooLong {
        /// What was asked, in milliseconds.
        millis: u128,
    },
    /// [`SCRIPTS_MAX`] scripts wait already.
    #[error("{SCRIPTS_MAX} scripts are armed already: heal the simulator first")]
    TooMany,
    /// The fault makes no sense for the call.
    #[error("fault `{fault}` cannot happen to a call of `{op}`: choose another call or fault")]
    Misfit {
        /// The fault.
        fault: &'static str,
        /// The call.
        op: &'static str,
    },
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::fault::WITHOUT_DELAY;

    #[test]
    fn a_script_reads_as_it_is_written() {
        for text in [
            "issue:1=ack-lost",
            "revoke@tenant-a:2x3=server-error",
            "issue:1=late:5000",
            "list:1x*=rate-limited:1500",
            "revoke:4=slow-revoke:200",
            "probe@org:project:1=forbidden",
            "chat:1=dropped",
        ] {
            let script: Script = text.parse().expect(text);
            assert_eq!(script.to_string(), text);
        }
    }

    #[test]
    fn every_fault_has_a_word_that_reads_back() {
        for fault in WITHOUT_DELAY {
            assert_eq!(Fault::parse(fault.name(), None), Ok(fault));
        }
        for name in ["late", "stall", "eventual-list", "slow-revoke", "rate-limited"] {
            let fault = Fault::parse(name, Some(7)).expect(name);
            assert_eq!((fault.name(), fault.delay()), (name, Some(Duration::from_millis(7))));
        }
    }

    #[test]
    fn a_wrong_script_says_what_to_write() {
        for (text, said) in [
            ("issue", "is not of the form"),
            ("issue=ack-lost", "is not of the form"),
            ("steal:1=ack-lost", "is not a call"),
            ("issue:0=ack-lost", "does not count calls"),
            ("issue:1x0=ack-lost", "does not count calls"),
            ("issue:one=ack-lost", "does not count calls"),
            ("issue@:1=ack-lost", "project after @ is empty"),
            ("issue:1=gone", "is not a fault"),
            ("issue:1=late", "write late:<millis>"),
            ("issue:1=late:soon", "is not a number of milliseconds"),
            ("issue:1=ack-lost:5", "takes no delay"),
            ("issue:1=late:99999999", "longer than the allowed"),
            ("list:1=bad-key", "cannot happen to a call of `list`"),
            ("issue:1=slow-revoke:5", "cannot happen to a call of `issue`"),
        ] {
            let error = text.parse::<Script>().expect_err(text).to_string();
            assert!(error.contains(said), "{text}: {error}");
        }
    }

    #[test]
    fn a_refusal_repeats_a_hostile_script_escaped_and_cut_short() {
        for text in ["a\n\u{1b}[31m:1=gone", "issue:\r\n=gone", "issue:1=\u{202e}x", "\n"] {
            let error = text.parse::<Script>().expect_err(text).to_string();
            assert!(!error.contains(|c: char| c.is_control() || c == '\u{202e}'), "{error:?}");
        }
        let long = format!("{}:1=gone", "x".repeat(100_000));
        assert!(long.parse::<Script>().expect_err("no call").to_string().len() < 700);
    }

    #[test]
    fn a_script_comes_over_http_as_text_or_as_an_object() {
        let text: Script = serde_json::from_str(r#""issue@p:2x3=late:9""#).expect("text");
        let parts = r#"{"op":"issue","project":"p","nth":2,"times":3,"fault":"late","millis":9}"#;
        let object: Script = serde_json::from_str(parts).expect("object");
        assert_eq!(text, object);
        let misfit = serde_json::from_str::<Script>(r#"{"op":"list","fault":"bad-key"}"#);
        assert!(misfit.expect_err("misfit").to_string().contains("cannot happen"));
    }

    #[test]
    fn a_script_strikes_from_the_nth_matching_call_as_often_as_asked() {
        let mut armed = Armed::default();
        armed.arm("issue@p:2x2=server-error".parse().expect("script")).expect("room");
        let calls = [
            (Op::Issue, "p", None),
            (Op::List, "p", None),
            (Op::Issue, "q", None),
            (Op::Issue, "p", Some(Fault::ServerError)),
            (Op::Issue, "p", Some(Fault::ServerError)),
            (Op::Issue, "p", None),
        ];
        for (op, project, struck) in calls {
            assert_eq!(armed.strike(op, Some(project)), struck, "{op:?} {project}");
        }
        assert!(armed.waiting().is_empty(), "a spent script is forgotten");
    }

    #[test]
    fn a_script_without_end_strikes_until_it_is_healed() {
        let mut armed = Armed::default();
        armed.arm("list:1x*=server-error".parse().expect("script")).expect("room");
        for _ in 0..100 {
            assert_eq!(armed.strike(Op::List, None), Some(Fault::ServerError));
        }
        armed.heal();
        assert_eq!(armed.strike(Op::List, None), None);
    }
}
