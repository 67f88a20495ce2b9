//! The embedded adapters against the contracts of their ports.

use std::sync::Arc;

use keybaton_adapters::audit::{JsonlSink, read_file};
use keybaton_adapters::buses::LocalBus;
use keybaton_adapters::store::MasterKey;
use keybaton_adapters::{Embedded, Options};
use keybaton_ports::{
    AuditKey, AuditSink, CheckpointStore, Clock, Entropy, EventBus, Journal, SealedAudit,
    SecretStore, TaskJournal,
};
use keybaton_tests::conformance::Has;
use keybaton_tests::conformance::audit::SinkWorld;
use keybaton_tests::conformance::journal::JournalWorld;
use tempfile::TempDir;

mod journal {
    keybaton_tests::journal_conformance!(super::open);
}

mod tasks {
    keybaton_tests::tasks_conformance!(super::open);
}

mod secrets {
    keybaton_tests::secrets_conformance!(super::open);
}

mod checkpoints {
    keybaton_tests::checkpoints_conformance!(super::open);
}

mod clock {
    keybaton_tests::clock_conformance!(super::open);
}

mod entropy {
    keybaton_tests::entropy_conformance!(super::open);
}

mod bus {
    keybaton_tests::bus_conformance!(super::open_bus);
}

mod audit {
    keybaton_tests::audit_conformance!(super::open_sink);
}

/// A store in a directory of its own.
struct World {
    embedded: Embedded,
    _dir: TempDir,
}

async fn open() -> World {
    let dir = TempDir::new().expect("a directory");
    let path = dir.path().join("data");
    let key = MasterKey::from_bytes([7; 32]);
    let embedded = Embedded::open(&path, key, &Options::default()).expect("a new store");
    World { embedded, _dir: dir }
}

macro_rules! has {
    ($port:ident, $field:ident) => {
        impl Has<dyn $port> for World {
            fn port(&self) -> Arc<dyn $port> {
                self.embedded.$field.clone()
            }
        }
    };
}
has!(Journal, journal);
has!(TaskJournal, tasks);
has!(SecretStore, secrets);
has!(CheckpointStore, checkpoints);
has!(Clock, clock);
has!(Entropy, entropy);

impl JournalWorld for World {
    fn audit_key(&self) -> Arc<AuditKey> {
        self.embedded.audit_key.clone()
    }
}

struct BusWorld(Arc<LocalBus>);

async fn open_bus() -> BusWorld {
    BusWorld(Arc::default())
}

impl Has<dyn EventBus> for BusWorld {
    fn port(&self) -> Arc<dyn EventBus> {
        self.0.clone()
    }
}

struct FileWorld {
    sink: Arc<JsonlSink>,
    dir: TempDir,
}

async fn open_sink() -> FileWorld {
    let dir = TempDir::new().expect("a directory");
    let sink = JsonlSink::open(&dir.path().join("audit.jsonl")).expect("a new file");
    FileWorld { sink: Arc::new(sink), dir }
}

impl Has<dyn AuditSink> for FileWorld {
    fn port(&self) -> Arc<dyn AuditSink> {
        self.sink.clone()
    }
}

impl SinkWorld for FileWorld {
    fn shipped(&self) -> Vec<SealedAudit> {
        let (records, is_torn) =
            read_file(&self.dir.path().join("audit.jsonl")).expect("whole lines");
        assert!(!is_torn);
        records
    }
}
