//! A line of the provider's ledger.
//!
//! One flat struct is read instead of a tagged enum: texts are borrowed from the line, and a
//! ledger of some 100 MB is read once.

use std::borrow::Cow;

use serde::Deserialize;

use crate::error::OracleError;
use crate::lines::HasSchema;

/// A text that is borrowed from the line unless it has escapes.
#[derive(Deserialize)]
pub(crate) struct Text<'a>(#[serde(borrow)] Cow<'a, str>);

/// One line, every field of every event.
#[derive(Deserialize)]
pub(crate) struct Fact<'a> {
    schema: u32,
    pub(crate) seq: u64,
    pub(crate) at_us: u64,
    #[serde(borrow)]
    event: Text<'a>,
    #[serde(borrow)]
    project: Option<Text<'a>>,
    #[serde(borrow)]
    key_id: Option<Text<'a>>,
    #[serde(borrow)]
    name: Option<Text<'a>>,
    #[serde(borrow)]
    cause: Option<Text<'a>>,
    req: Option<u64>,
    #[serde(borrow)]
    path: Option<Text<'a>>,
    #[serde(borrow)]
    tenant: Option<Text<'a>>,
    #[serde(borrow)]
    task: Option<Text<'a>>,
    step: Option<u64>,
    #[serde(borrow)]
    idem: Option<Text<'a>>,
    #[serde(borrow)]
    stage: Option<Text<'a>>,
    #[serde(borrow)]
    outcome: Option<Text<'a>>,
    status: Option<u16>,
    executed: Option<bool>,
}

impl HasSchema for Fact<'_> {
    fn schema(&self) -> u32 {
        self.schema
    }
}

/// What a line says.
pub(crate) enum Event<'a> {
    /// The provider began to serve: requests that were open before are lost.
    Opened,
    /// A key authenticates from here on.
    KeyCreated(Born<'a>),
    /// A key is refused from here on.
    KeyDied(Death<'a>),
    /// A call with the admin key; what came of it stands in the lines about keys.
    AdminCall,
    /// A request arrived.
    Started(Start<'a>),
    /// A request ended.
    Ended(End),
}

/// A key's beginning.
pub(crate) struct Born<'a> {
    pub(crate) project: &'a str,
    pub(crate) key_id: &'a str,
    /// The label.
    pub(crate) name: &'a str,
    pub(crate) cause: BirthCause,
}

/// Who made a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum BirthCause {
    /// A call.
    Api,
    /// The test, before it began.
    Seed,
    /// A fault needed one.
    Fault,
}

/// A key's end.
pub(crate) struct Death<'a> {
    pub(crate) project: &'a str,
    pub(crate) key_id: &'a str,
    pub(crate) cause: DeathCause,
}

/// Why a key died.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum DeathCause {
    /// A call asked for it.
    Revoked,
    /// Its time was over.
    Expired,
    /// A newer key was issued.
    Voided,
    /// The test killed it.
    Fault,
}

impl DeathCause {
    /// Whether somebody with the admin key did it.
    pub(crate) fn is_by_us(self) -> bool {
        matches!(self, Self::Revoked | Self::Voided)
    }
}

/// A request's beginning.
pub(crate) struct Start<'a> {
    pub(crate) req: u64,
    pub(crate) path: &'a str,
    pub(crate) project: Option<&'a str>,
    pub(crate) key_id: Option<&'a str>,
    pub(crate) tenant: Option<&'a str>,
    pub(crate) task: Option<&'a str>,
    pub(crate) step: Option<u64>,
    pub(crate) idem: Option<&'a str>,
    pub(crate) stage: Option<&'a str>,
}

/// A request's end.
#[derive(Clone, Copy)]
pub(crate) struct End {
    pub(crate) req: u64,
    pub(crate) outcome: Outcome,
    pub(crate) status: u16,
    pub(crate) executed: bool,
}

/// How a request ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// The whole answer was produced.
    Ok,
    /// Its key did not authenticate.
    Refused,
    /// Its key died while it was open.
    Cut,
    /// The caller dropped the connection.
    ClientGone,
    /// A fault, a senseless request, or the provider stopped.
    Failed,
}

impl<'a> Fact<'a> {
    /// What the line says.
    pub(crate) fn event(&'a self, line: u64) -> Result<Event<'a>, OracleError> {
        let wrong = |what| OracleError::Senseless { file: "ledger", line, what };
        let need = |text: &'a Option<Text<'a>>, field: &str| {
            let missing = || wrong(format!("`{field}` is missing: export the whole ledger"));
            text.as_ref().map(|text| &*text.0).ok_or_else(missing)
        };
        let unknown = |field: &str, text: &str| {
            wrong(format!("`{text}` is no known {field}: use the oracle of the same build"))
        };
        let may = |text: &'a Option<Text<'a>>| text.as_ref().map(|text| &*text.0);
        let req = || self.req.ok_or_else(|| wrong("`req` is missing".to_owned()));
        Ok(match &*self.event.0 {
            "opened" => Event::Opened,
            "admin_call" => Event::AdminCall,
            "key_created" => Event::KeyCreated(Born {
                project: need(&self.project, "project")?,
                key_id: need(&self.key_id, "key_id")?,
                name: need(&self.name, "name")?,
                cause: match need(&self.cause, "cause")? {
                    "api" => BirthCause::Api,
                    "seed" => BirthCause::Seed,
                    "fault" => BirthCause::Fault,
                    other => return Err(unknown("cause", other)),
                },
            }),
            "key_died" => Event::KeyDied(Death {
                project: need(&self.project, "project")?,
                key_id: need(&self.key_id, "key_id")?,
                cause: match need(&self.cause, "cause")? {
                    "revoked" => DeathCause::Revoked,
                    "expired" => DeathCause::Expired,
                    "voided" => DeathCause::Voided,
                    "fault" => DeathCause::Fault,
                    other => return Err(unknown("cause", other)),
                },
            }),
            "request_started" => Event::Started(Start {
                req: req()?,
                path: need(&self.path, "path")?,
                project: may(&self.project),
                key_id: may(&self.key_id),
                tenant: may(&self.tenant),
                task: may(&self.task),
                step: self.step,
                idem: may(&self.idem),
                stage: may(&self.stage),
            }),
            "request_ended" => Event::Ended(End {
                req: req()?,
                outcome: match need(&self.outcome, "outcome")? {
                    "ok" => Outcome::Ok,
                    "refused" => Outcome::Refused,
                    "cut" => Outcome::Cut,
                    "client_gone" => Outcome::ClientGone,
                    "failed" => Outcome::Failed,
                    other => return Err(unknown("outcome", other)),
                },
                status: self.status.unwrap_or(0),
                executed: self.executed.ok_or_else(|| wrong("`executed` is missing".to_owned()))?,
            }),
            other => return Err(unknown("event", other)),
        })
    }
}
