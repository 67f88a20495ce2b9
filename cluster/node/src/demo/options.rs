//! What the demo can be told.

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use keybaton::Class;
use serde::{Deserialize, Serialize};

use super::super::cli::StoreArgs;

/// Rotate a key under running agents, and judge the result.
#[derive(Args, Clone, Debug)]
#[command(after_long_help = "\
Examples:
  keybaton demo                                  200 agents, one rotation, the verdict
  keybaton demo --tasks 2000 --provider-class b  a provider that voids the old key on issue
  keybaton demo --fault ack-lost                 the provider's answer with the new key is lost
  keybaton demo --emergency                      the key has leaked: dead by the deadline
  keybaton demo --naive                          what people do today, judged by the same ledger
  keybaton demo --data-dir d                     kill it at any moment and run it again
  keybaton demo -o json | tail -1 | jq .verdict  for scripts
  keybaton demo --servers start                  on a real Postgres, Vault and Redis, started here
  keybaton demo --servers start --secrets embedded --bus local
  keybaton demo --journal postgres://keybaton@db/keybaton --postgres-password-file pw --data-dir d
  keybaton demo --journal redis://db:6379/0 --accepted-loss failover --data-dir d
  keybaton demo --bus redis://cache:6379/0 --redis-user keybaton --redis-password-file rw
  keybaton demo --secrets vault --vault-address https://vault:8200 --vault-token-file token

No address may hold a password: it would stand in process lists and logs. The database must be
empty, or hold the run of the same --data-dir.

Exit code: 0 the verdict held, 1 it is broken, 2 the demo could not run, 130 interrupted.")]
pub struct DemoArgs {
    /// Agents that run at once
    #[arg(long, default_value_t = 200, value_parser = clap::value_parser!(u32).range(8..=20_000))]
    pub tasks: u32,

    /// Seed of all randomness of the agents
    #[arg(long, default_value_t = 42)]
    pub seed: u64,

    /// a: keys live side by side; b: issuing voids the old key
    #[arg(long, value_enum, default_value_t = ProviderClass::A)]
    pub provider_class: ProviderClass,

    /// Something that goes wrong at the provider during the rotation
    #[arg(long, value_enum)]
    pub fault: Option<FaultName>,

    /// Rotate because the key has leaked
    #[arg(long)]
    pub emergency: bool,

    /// Also run today's way (new key, fixed wait, revoke) and show both verdicts
    #[arg(long, conflicts_with_all = ["data_dir", "fault", "emergency"])]
    pub naive: bool,

    /// What is printed last
    #[arg(short = 'o', long, value_enum, default_value_t = Output::Text)]
    pub output: Output,

    /// Work in this directory and keep it; run again to go on after a kill
    #[arg(long)]
    pub data_dir: Option<PathBuf>,

    /// A simulator in a process of its own (see `keybaton simulator`), instead of one inside
    #[arg(long, value_name = "URL", requires = "simulator_dir")]
    pub simulator: Option<String>,

    /// The directory of that simulator, where its ledger is
    #[arg(long, value_name = "DIR", requires = "simulator")]
    pub simulator_dir: Option<PathBuf>,

    /// Serve Prometheus metrics on this address while the demo runs
    #[arg(long, value_name = "ADDR")]
    pub metrics: Option<std::net::SocketAddr>,

    /// Where the node keeps what.
    #[command(flatten)]
    pub stores: StoreArgs,

    /// Start the servers of stores that are not chosen otherwise, for this run
    #[arg(long, value_enum, conflicts_with_all = ["data_dir", "naive"], help_heading = "Stores")]
    pub servers: Option<ServersChoice>,
}

/// How the provider behaves on issue.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ProviderClass {
    /// Keys live side by side.
    A,
    /// Issuing voids the old key.
    B,
}

impl From<ProviderClass> for Class {
    fn from(class: ProviderClass) -> Self {
        match class {
            ProviderClass::A => Self::A,
            ProviderClass::B => Self::B,
        }
    }
}

impl From<ProviderClass> for keybaton_simulator::Class {
    fn from(class: ProviderClass) -> Self {
        match class {
            ProviderClass::A => Self::A,
            ProviderClass::B => Self::B,
        }
    }
}

/// Where servers come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum ServersChoice {
    /// Started here, in a temporary directory, and gone with the run.
    Start,
}

/// How the result is printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Output {
    /// For people.
    Text,
    /// One object on the last line.
    Json,
}

/// Faults that the demo can inject, each into one call of the rotation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FaultName {
    /// The key is issued, the answer is lost.
    AckLost,
    /// The issue call is lost before it is executed.
    Dropped,
    /// The issue call is executed after its caller gave up.
    Late,
    /// The provider answers 429 with Retry-After.
    RateLimited,
    /// The provider answers 500.
    ServerError,
    /// The answer breaks off in the middle.
    Truncated,
    /// The issued key does not work.
    BadKey,
    /// The provider answers with somebody else's key.
    ForeignKey,
    /// A class A provider voids the old key without having said so.
    VoidOnIssue,
    /// The account has as many keys as it may, once.
    Quota,
    /// The new key is missing from listings for a while.
    EventualList,
    /// A revoked key works on for a while.
    SlowRevoke,
}

impl FaultName {
    /// The simulator's script for the project's next call.
    pub fn script(self, project: &str) -> String {
        let (op, fault) = match self {
            Self::AckLost => ("issue", "ack-lost"),
            Self::Dropped => ("issue", "dropped"),
            Self::Late => ("issue", "late:700"),
            Self::RateLimited => ("issue", "rate-limited:300"),
            Self::ServerError => ("issue", "server-error"),
            Self::Truncated => ("issue", "truncated"),
            Self::BadKey => ("issue", "bad-key"),
            Self::ForeignKey => ("issue", "foreign-key"),
            Self::VoidOnIssue => ("issue", "void-on-issue"),
            Self::Quota => ("issue", "quota"),
            Self::EventualList => ("issue", "eventual-list:1000"),
            Self::SlowRevoke => ("revoke", "slow-revoke:500"),
        };
        format!("{op}@{project}:1={fault}")
    }
}
