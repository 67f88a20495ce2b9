//! Where the store is, and what its operator accepts that it may lose.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::buses::RedisSettings;
use crate::limits::REDIS_JOURNAL_ANSWER_MAX;

/// What Redis may lose of what it has acknowledged, as far as its operator accepts that. Redis
/// promises less than the other stores, so that it is used only where somebody has said so.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AcceptedLoss {
    /// Nothing: such a store is not opened.
    #[default]
    Nothing,
    /// What a failover to a replica loses. A server that forgets in a crash is not opened.
    Failover,
    /// That, and whatever a crash of the server loses: for trials, on any server.
    Crash,
}

impl AcceptedLoss {
    const ALL: [Self; 3] = [Self::Nothing, Self::Failover, Self::Crash];

    /// The word in a configuration.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Nothing => "nothing",
            Self::Failover => "failover",
            Self::Crash => "crash",
        }
    }
}

impl FromStr for AcceptedLoss {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let found = Self::ALL.into_iter().find(|loss| loss.as_str() == text);
        found.ok_or("what is accepted as lost is one of: nothing, failover, crash")
    }
}

/// How far an opened store keeps what it has acknowledged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Durability {
    /// A crash of the server loses nothing; a failover to a replica may.
    BestEffort,
    /// A crash of the server may lose everything.
    Volatile,
}

impl Durability {
    /// The word that is shown.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::BestEffort => "best_effort",
            Self::Volatile => "volatile",
        }
    }

    /// What it means, in one line.
    #[must_use]
    pub fn meaning(self) -> &'static str {
        match self {
            Self::BestEffort => "a failover of Redis may lose what it has acknowledged",
            Self::Volatile => "a crash of Redis may lose everything; use it for trials only",
        }
    }
}

impl fmt::Display for Durability {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.as_str(), self.meaning())
    }
}

/// How a journal in Redis is reached, and what is expected of it.
pub struct RedisJournalSettings {
    /// Address, user and password.
    pub redis: RedisSettings,
    /// What may be lost; nothing unless said otherwise, and then the store is not opened.
    pub accepted_loss: AcceptedLoss,
    /// Replicas that must have a write on disk before it counts. More than none needs `WAITAOF`
    /// (Redis 7.2, Valkey).
    pub replicas_min: u8,
    /// Longest wait for one answer; after it the outcome of a write is unknown.
    pub answer_wait_max: Duration,
    /// Whether a store is made where there is none; whoever only looks makes none.
    pub create: bool,
}

impl RedisJournalSettings {
    /// The usual settings, with which the store is not opened yet: see
    /// [`RedisJournalSettings::accepted_loss`].
    #[must_use]
    pub fn new(redis: RedisSettings) -> Self {
        Self {
            redis,
            accepted_loss: AcceptedLoss::Nothing,
            replicas_min: 0,
            answer_wait_max: REDIS_JOURNAL_ANSWER_MAX,
            create: true,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_word_for_a_loss_is_read_and_no_other_one() {
        for loss in AcceptedLoss::ALL {
            assert_eq!(loss.as_str().parse(), Ok(loss));
        }
        for text in ["", "all", "Crash", "failover "] {
            assert!(text.parse::<AcceptedLoss>().is_err(), "{text}");
        }
        assert_eq!(AcceptedLoss::default(), AcceptedLoss::Nothing);
    }
}
