//! The Postgres adapters against the contracts of their ports, on a real server.

mod appends;
mod failover;
mod faults;
mod leftovers;
mod nodes;
mod opening;
mod remembered;
mod reservation;
mod tenants;
mod tls;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use keybaton_adapters::postgres::{Postgres, PostgresError, PostgresSettings};
use keybaton_adapters::store::MasterKey;
use keybaton_ports::{AuditKey, CheckpointStore, Clock, Journal, TaskJournal};
use keybaton_servers::unless_missing;
use keybaton_tests::conformance::Has;
use keybaton_tests::conformance::journal::JournalWorld;
use parking_lot::Mutex;

mod journal {
    keybaton_tests::journal_conformance!(super::open, if_there);
}

mod tasks {
    keybaton_tests::tasks_conformance!(super::open, if_there);
}

mod checkpoints {
    keybaton_tests::checkpoints_conformance!(super::open, if_there);
}

/// The user that keybaton runs as: it may make roles and what lies in its databases, and no more.
const USER: &str = "keybaton_node";
const PASSWORD: &str = "word of a node";

/// A server with keybaton's user on it, and databases of its own for whoever asks.
struct Place {
    server: keybaton_servers::Postgres,
    password_file: std::path::PathBuf,
    databases: AtomicU64,
}

impl Place {
    fn start() -> anyhow::Result<Self> {
        Self::start_with(&[])
    }

    fn start_with(settings: &[(&str, &str)]) -> anyhow::Result<Self> {
        let server = keybaton_servers::Postgres::start_with(settings)?;
        server.query_as_admin(&format!(
            "set transaction_read_only = off;
            create role {USER} login createrole password '{PASSWORD}'"
        ))?;
        let password_file = server.server().home().write("password-of-node", PASSWORD)?;
        Ok(Self { server, password_file, databases: AtomicU64::new(0) })
    }

    /// A new database that belongs to keybaton's user.
    fn database(&self) -> String {
        let name = format!("db{}", self.databases.fetch_add(1, Ordering::Relaxed));
        let sql = format!("create database {name} owner {USER}");
        self.server.query_as_admin(&sql).expect("a new database");
        name
    }

    fn settings(&self, database: &str) -> PostgresSettings {
        let mut settings = PostgresSettings::new(self.server.url(USER, database));
        settings.password_file = Some(self.password_file.clone());
        // A machine that is busy with other tests is slow, not away.
        settings.answer_wait_max = Duration::from_secs(60);
        settings
    }

    /// The same with a wait that a test can afford to see the end of.
    fn impatient(&self, database: &str) -> PostgresSettings {
        PostgresSettings { answer_wait_max: Duration::from_secs(20), ..self.settings(database) }
    }
}

fn key() -> MasterKey {
    MasterKey::from_bytes([7; 32])
}

/// A store in a database of its own.
struct World(Postgres);

async fn open() -> Option<World> {
    let place = shared()?;
    Some(World(open_at(&place.settings(&place.database())).await.expect("a new store")))
}

/// One server for every case that does it no harm. It dies with the test process.
fn shared() -> Option<&'static Place> {
    static SHARED: Mutex<Option<&'static Place>> = Mutex::new(None);
    let mut shared = SHARED.lock();
    if shared.is_none() {
        *shared = unless_missing(Place::start()).map(|place| &*Box::leak(Box::new(place)));
    }
    *shared
}

async fn open_at(settings: &PostgresSettings) -> Result<Postgres, PostgresError> {
    Postgres::open(settings, key()).await
}

macro_rules! has {
    ($port:ident, $field:ident) => {
        impl Has<dyn $port> for World {
            fn port(&self) -> Arc<dyn $port> {
                self.0.$field.clone()
            }
        }
    };
}
has!(Journal, journal);
has!(TaskJournal, tasks);
has!(CheckpointStore, checkpoints);
has!(Clock, clock);

impl JournalWorld for World {
    fn audit_key(&self) -> Arc<AuditKey> {
        self.0.audit_key.clone()
    }
}
