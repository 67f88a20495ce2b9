//! Issuing and deleting keys, with the faults that change what is issued.

use std::collections::HashMap;
use std::time::Duration;

use tokio::sync::watch;

use crate::config::Class;
use crate::fault::Fault;
use crate::keys::{Account, Key, KeyNo, Life};
use crate::ledger::{BirthCause, DeathCause, Event};
use crate::limits::{EXPIRES_IN_SECONDS_MAX, KEYS_MAX, LIVE_KEYS_PER_PROJECT_MAX, TEXT_BYTES_MAX};
use crate::secret::{self, Secret};
use crate::state::State;

/// How a vendor names its secrets and ids.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Style {
    /// `sk-svcacct-…` and a random `key_…`.
    OpenAi,
    /// `sk-or-v1-…`, and the id is the SHA-256 of the secret.
    OpenRouter,
}

/// The key that is asked for.
pub(crate) struct Ask {
    pub(crate) style: Style,
    pub(crate) project: String,
    pub(crate) account: Option<String>,
    pub(crate) name: String,
    pub(crate) expires_in_seconds: Option<u64>,
}

/// The key as the answer tells it, which a fault may have made a lie.
pub(crate) struct Issued {
    pub(crate) no: KeyNo,
    pub(crate) key_id: Option<String>,
    pub(crate) secret: Secret,
}

/// Why the vendor says no.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Refusal {
    pub(crate) status: u16,
    pub(crate) code: &'static str,
    pub(crate) message: String,
}

impl Refusal {
    pub(crate) fn new(status: u16, code: &'static str, message: impl Into<String>) -> Self {
        Self { status, code, message: message.into() }
    }

    /// Nothing is served that cannot be recorded.
    pub(crate) fn ledger() -> Self {
        Self::new(500, "ledger_unwritable", "the simulator cannot write its ledger")
    }
}

/// Project of the key that `foreign-key` gives away when there is no other key.
const FOREIGN_PROJECT: &str = "foreign";

impl State {
    pub(crate) fn issue(&mut self, ask: Ask, fault: Option<Fault>) -> Result<Issued, Refusal> {
        self.check(&ask)?;
        if fault == Some(Fault::ForeignKey) {
            return Ok(self.give_away_another(&ask));
        }
        let older = self.keys.of(&ask.project).last();
        if fault == Some(Fault::VoidOnIssue) || self.class_of(&ask.project) == Class::B {
            for no in self.keys.alive(&ask.project) {
                self.kill(no, DeathCause::Voided);
            }
        }
        let answered = !fault.is_some_and(Fault::hides_the_key);
        let no = self.create(ask, None, BirthCause::Api, answered);
        if let Some(Fault::EventualList(delay)) = fault {
            let hidden_us = u64::try_from(delay.as_micros()).unwrap_or(u64::MAX);
            let key = self.keys.get_mut(no);
            key.listed_from_us = key.created_us.saturating_add(hidden_us);
        }
        Ok(self.told(no, older, fault))
    }

    /// Makes a key that no call asked for.
    pub(crate) fn seed(&mut self, ask: Ask, given: Option<Secret>) -> Result<Issued, Refusal> {
        self.check(&ask)?;
        if given.as_ref().is_some_and(|it| self.keys.by_digest(&it.digest()).is_some()) {
            return Err(Refusal::new(409, "secret_in_use", "this secret is another key's"));
        }
        let no = self.create(ask, given, BirthCause::Seed, true);
        self.ledger.flush();
        Ok(self.told(no, None, None))
    }

    /// Deletes a key for its owner; the key dies at once, or after the delay of the fault.
    pub(crate) fn revoke(&mut self, no: KeyNo, fault: Option<Fault>) {
        match fault {
            Some(Fault::SlowRevoke(delay)) => self.leave(no, delay),
            _ => self.kill(no, DeathCause::Revoked),
        }
    }

    fn leave(&mut self, no: KeyNo, delay: Duration) {
        self.keys.get_mut(no).life = Life::Leaving;
        self.after(delay, move |state| state.kill(no, DeathCause::Revoked));
    }

    fn check(&self, ask: &Ask) -> Result<(), Refusal> {
        let invalid = |message: &str| Err(Refusal::new(400, "invalid_value", message));
        let texts = [Some(&ask.project), ask.account.as_ref(), Some(&ask.name)];
        if texts.into_iter().flatten().any(|text| text.is_empty() || text.len() > TEXT_BYTES_MAX) {
            return invalid("project, service account and name have 1 to 512 bytes");
        }
        let longest = match ask.style {
            Style::OpenAi => EXPIRES_IN_SECONDS_MAX,
            Style::OpenRouter => u64::MAX,
        };
        if ask.expires_in_seconds.is_some_and(|it| it == 0 || it > longest) {
            return invalid("the expiry is in the past or, at OpenAI, above 31536000 seconds");
        }
        self.check_project(&ask.project)?;
        if let Some(account) = &ask.account {
            self.check_account(&ask.project, account)?;
        }
        let alive = self.keys.alive(&ask.project).len();
        if alive >= LIVE_KEYS_PER_PROJECT_MAX || self.keys.len() >= KEYS_MAX {
            return Err(Refusal::new(400, "api_keys_limit_reached", "no more keys are possible"));
        }
        Ok(())
    }

    pub(crate) fn check_project(&self, project: &str) -> Result<(), Refusal> {
        match &self.config.projects {
            Some(known) if !known.contains(project) => Err(Refusal::new(
                404,
                "project_not_found",
                format!("project {project} does not exist"),
            )),
            _ => Ok(()),
        }
    }

    fn check_account(&self, project: &str, account: &str) -> Result<(), Refusal> {
        let is_strict = self.config.projects.is_some();
        match self.keys.account(project, account) {
            Account::Known => Ok(()),
            Account::Unknown if !is_strict => Ok(()),
            Account::Unknown | Account::Deleted => Err(Refusal::new(
                404,
                "service_account_not_found",
                format!("service account {account} does not exist in project {project}"),
            )),
        }
    }

    /// Writes the line, but leaves it to the caller to flush it before the lock is let go.
    fn create(
        &mut self,
        ask: Ask,
        given: Option<Secret>,
        cause: BirthCause,
        answered: bool,
    ) -> KeyNo {
        let secret = given.unwrap_or_else(|| Secret::random(prefix(ask.style)));
        let digest = secret.digest();
        let id = match ask.style {
            Style::OpenAi => secret::fresh_id("key_"),
            Style::OpenRouter => secret::hex(&digest),
        };
        let created_us = self.ledger.now_us();
        let expires_at = ask.expires_in_seconds.map(|life| created_us / 1_000_000 + life);
        self.ledger.append(Event::KeyCreated {
            project: ask.project.clone(),
            account: ask.account.clone(),
            key_id: id.clone(),
            name: ask.name.clone(),
            secret_sha256: secret::hex(&digest),
            cause,
            answered,
            expires_at,
        });
        let no = self.keys.insert(Key {
            id,
            project: ask.project,
            account: ask.account,
            name: ask.name,
            digest,
            is_first: false,
            created_us,
            expires_at,
            last_used_us: None,
            listed_from_us: 0,
            secret: Some(secret),
            life: Life::Live,
            open: HashMap::new(),
            death: watch::Sender::new(false),
        });
        if let Some(seconds) = ask.expires_in_seconds {
            self.expire_in(no, seconds);
        }
        no
    }

    /// Another project's key if this process issued one, else another label's, else a new one
    /// of a project that nobody asked about.
    fn give_away_another(&mut self, ask: &Ask) -> Issued {
        let is_known = |&no: &KeyNo| {
            let key = self.keys.get(no);
            key.life == Life::Live && key.secret.is_some()
        };
        let is_elsewhere = |&no: &KeyNo| self.keys.get(no).project != ask.project;
        let is_other = |&no: &KeyNo| self.keys.get(no).name != ask.name;
        let known = || (0..self.keys.len()).filter(is_known);
        let no = known().find(is_elsewhere).or_else(|| known().find(is_other));
        let no = no.unwrap_or_else(|| {
            let foreign = Ask {
                style: ask.style,
                project: FOREIGN_PROJECT.to_owned(),
                account: ask.account.clone(),
                name: "foreign".to_owned(),
                expires_in_seconds: None,
            };
            self.create(foreign, None, BirthCause::Fault, true)
        });
        self.told(no, None, None)
    }

    /// The key as the answer tells it.
    fn told(&self, no: KeyNo, older: Option<KeyNo>, fault: Option<Fault>) -> Issued {
        let key = self.keys.get(no);
        let text = key.secret.as_ref().map_or("", Secret::expose);
        // A secret is ASCII, so that its middle is a letter's edge.
        let (front, back) = text.split_at(text.len() / 2);
        let secret = match fault {
            Some(Fault::BadKey) => Secret::random("sk-bad-"),
            Some(Fault::KeyNewline) => Secret::new(format!("{front}\n{back}")),
            Some(Fault::KeyNul) => Secret::new(format!("{front}\0{back}")),
            Some(Fault::KeyNonAscii) => Secret::new(format!("{front}ключ{back}")),
            Some(Fault::KeyEmpty) => Secret::new(""),
            Some(Fault::KeyLong) => Secret::new(format!("{text}{}", "k".repeat(100_000))),
            _ => Secret::new(text),
        };
        let key_id = match fault {
            Some(Fault::IdMissing) => None,
            Some(Fault::DuplicateId) => {
                let named = older.map_or(key, |older| self.keys.get(older));
                Some(named.id.clone())
            }
            _ => Some(key.id.clone()),
        };
        Issued { no, key_id, secret }
    }
}

fn prefix(style: Style) -> &'static str {
    match style {
        Style::OpenAi => "sk-svcacct-",
        Style::OpenRouter => "sk-or-v1-",
    }
}
