//! The fakes against the same contracts, and their switches for faults.

use std::sync::Arc;

use keybaton_messages::Rev;
use keybaton_ports::{
    AuditKey, CheckpointStore, CommitError, Journal, SecretStore, TaskError, TaskJournal,
};
use keybaton_tests::conformance::Has;
use keybaton_tests::conformance::journal::JournalWorld;
use keybaton_tests::conformance::records::{Writer, pair, promoted, record_in};
use keybaton_tests::conformance::task_entries::{Owner, result, task};
use keybaton_tests::fakes::checkpoints::FakeCheckpointStore;
use keybaton_tests::fakes::faults::WriteFault;
use keybaton_tests::fakes::journal::FakeJournal;
use keybaton_tests::fakes::secrets::FakeSecretStore;
use keybaton_tests::fakes::tasks::FakeTaskJournal;

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

struct World {
    journal: Arc<FakeJournal>,
    tasks: Arc<FakeTaskJournal>,
    secrets: Arc<FakeSecretStore>,
    checkpoints: Arc<FakeCheckpointStore>,
}

async fn open() -> World {
    World {
        journal: Arc::new(FakeJournal::new(Arc::new(AuditKey::new([5; 32])))),
        tasks: Arc::default(),
        secrets: Arc::default(),
        checkpoints: Arc::default(),
    }
}

macro_rules! has {
    ($port:ident, $field:ident) => {
        impl Has<dyn $port> for World {
            fn port(&self) -> Arc<dyn $port> {
                self.$field.clone()
            }
        }
    };
}
has!(Journal, journal);
has!(TaskJournal, tasks);
has!(SecretStore, secrets);
has!(CheckpointStore, checkpoints);

impl JournalWorld for World {
    fn audit_key(&self) -> Arc<AuditKey> {
        self.journal.audit_key()
    }
}

#[tokio::test]
async fn an_unknown_commit_is_written_or_not_and_may_be_asked_again_either_way() {
    for (fault, is_written) in
        [(WriteFault::UnknownWritten, true), (WriteFault::UnknownLost, false)]
    {
        let world = open().await;
        let journal = world.journal.clone();
        let mut writer = Writer::begin(journal.clone(), "n1", pair("acme")).await;
        let transaction = writer.next(|transaction| promoted(record_in(transaction), 1, 1));
        journal.faults.arm(fault);
        let answer = journal.commit(transaction.clone()).await;
        assert!(matches!(answer, Err(CommitError::Unknown(_))));
        let stored = journal.load(&pair("acme")).await.unwrap();
        assert_eq!(stored.is_some(), is_written);
        assert_eq!(journal.commit(transaction).await, Ok(Rev(1)));
    }
}

#[tokio::test]
async fn an_unknown_append_is_written_or_not_and_may_be_asked_again_either_way() {
    for (fault, written) in [(WriteFault::UnknownWritten, 1), (WriteFault::UnknownLost, 0)] {
        let world = open().await;
        let tasks: Arc<dyn TaskJournal> = world.tasks.clone();
        let owner = Owner::claim(&tasks, &task("t1")).await;
        world.tasks.faults.arm(fault);
        let answer = tasks.append(&owner.write(0, result(0))).await;
        assert!(matches!(answer, Err(TaskError::Unknown(_))));
        assert_eq!(tasks.entries(&owner.key).await.unwrap().len(), written);
        assert_eq!(tasks.append(&owner.write(0, result(0))).await, Ok(()));
        assert_eq!(tasks.entries(&owner.key).await, Ok(vec![result(0)]));
    }
}

#[tokio::test]
async fn a_store_that_is_away_writes_nothing() {
    let world = open().await;
    let journal = world.journal.clone();
    let mut writer = Writer::begin(journal.clone(), "n1", pair("acme")).await;
    let transaction = writer.next(|transaction| promoted(record_in(transaction), 1, 1));
    journal.faults.arm(WriteFault::Unavailable);
    let answer = journal.commit(transaction.clone()).await;
    assert!(matches!(answer, Err(CommitError::Unavailable(_))));
    assert_eq!(journal.load(&pair("acme")).await, Ok(None));
    assert_eq!(journal.commit(transaction).await, Ok(Rev(1)));
}
