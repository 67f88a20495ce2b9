//! What the port `CheckpointStore` promises.

use keybaton_messages::{Checkpoint, CheckpointReason, TaskKey, Timestamp, Version};
use keybaton_ports::limits::TASK_VALUE_BYTES_MAX;
use keybaton_ports::{CheckpointRef, CheckpointStore, Denial, Refusal};

use crate::conformance::Has;
use crate::conformance::task_entries::{task, task_of};

/// Runs every case of the port `CheckpointStore`.
#[macro_export]
macro_rules! checkpoints_conformance {
    ($open:path $(, $if_there:ident)?) => {
        $crate::conformance_cases! { checkpoints, $open $(, $if_there)? =>
            a_checkpoint_reads_back
            a_second_checkpoint_of_a_step_leaves_the_first_readable
            a_checkpoint_of_another_task_is_corrupt
            a_reference_that_was_changed_is_corrupt
            a_foreign_reference_is_refused
            a_checkpoint_may_be_deleted_twice
            what_is_put_again_has_another_reference
            a_list_names_what_was_put_and_is_not_deleted
            a_list_is_of_one_task_or_of_one_tenant
            a_state_that_is_too_large_is_refused
            a_preflight_succeeds_where_a_put_would
        }
    };
}

/// A checkpoint of a task.
#[must_use]
pub fn checkpoint(task: &TaskKey, state: &[u8]) -> Checkpoint {
    Checkpoint {
        task: task.clone(),
        kind: "agent".into(),
        step: 7,
        state: state.to_vec(),
        version: Some(Version(2)),
        reason: CheckpointReason::HandOver,
        at: Timestamp(3),
    }
}

fn is_corrupt(answer: &Result<Checkpoint, Refusal>) -> bool {
    matches!(answer, Err(Refusal::Denied { denial: Denial::Corrupt, .. }))
}

/// `put`, `get`.
pub async fn a_checkpoint_reads_back(world: &impl Has<dyn CheckpointStore>) {
    let store = world.port();
    for state in [&b""[..], b"conversation", &vec![b'x'; TASK_VALUE_BYTES_MAX]] {
        let written = checkpoint(&task("t1"), state);
        let at = store.put(&written).await.expect("stored");
        assert!(store.get(&task("t1"), &at).await.as_ref() == Ok(&written));
    }
}

/// `put`: a row of the task journal may still name the earlier checkpoint.
pub async fn a_second_checkpoint_of_a_step_leaves_the_first_readable(
    world: &impl Has<dyn CheckpointStore>,
) {
    let store = world.port();
    let (first, second) = (checkpoint(&task("t1"), b"before"), checkpoint(&task("t1"), b"after"));
    let at_first = store.put(&first).await.expect("stored");
    let at_second = store.put(&second).await.expect("stored");
    assert_eq!(store.get(&task("t1"), &at_first).await.as_ref(), Ok(&first));
    assert_eq!(store.get(&task("t1"), &at_second).await.as_ref(), Ok(&second));
}

/// `get`: bytes of another task or tenant are `Corrupt`.
pub async fn a_checkpoint_of_another_task_is_corrupt(world: &impl Has<dyn CheckpointStore>) {
    let store = world.port();
    let at = store.put(&checkpoint(&task("t1"), b"mine")).await.expect("stored");
    for other in [task("t2"), task_of("umbrella", "t1"), task("t")] {
        let answer = store.get(&other, &at).await;
        assert!(is_corrupt(&answer), "{other}: {answer:?}");
    }
}

/// `get`: bytes cut short, or other bytes than the reference says, are `Corrupt`.
pub async fn a_reference_that_was_changed_is_corrupt(world: &impl Has<dyn CheckpointStore>) {
    let store = world.port();
    let at = store.put(&checkpoint(&task("t1"), b"mine")).await.expect("stored");
    for other in changes(&at) {
        let answer = store.get(&task("t1"), &other).await;
        assert!(is_corrupt(&answer), "{other:?}: {answer:?}");
    }
}

/// Every shorter form of inline bytes, and every single-byte change of an address. Changes of inline
/// bytes are for the journal to find, whose row they stand in.
fn changes(at: &CheckpointRef) -> Vec<CheckpointRef> {
    match at {
        CheckpointRef::Inline(bytes) => {
            (0..bytes.len()).map(|length| CheckpointRef::Inline(bytes[..length].to_vec())).collect()
        }
        CheckpointRef::Blob { key, digest } => (0..digest.len())
            .map(|place| {
                let mut digest = *digest;
                digest[place] ^= 1;
                CheckpointRef::Blob { key: key.clone(), digest }
            })
            .collect(),
    }
}

/// `get`: a reference that this store never gave away leads nowhere.
pub async fn a_foreign_reference_is_refused(world: &impl Has<dyn CheckpointStore>) {
    let store = world.port();
    for foreign in [
        CheckpointRef::Inline(Vec::new()),
        CheckpointRef::Inline(b"PK\x03\x04 a zip bomb".to_vec()),
        CheckpointRef::Blob { key: "../umbrella/t1".into(), digest: [0; 32] },
    ] {
        let answer = store.get(&task("t1"), &foreign).await;
        assert!(matches!(answer, Err(Refusal::Denied { .. })), "{answer:?}");
    }
}

/// `delete`: deleting one that is gone succeeds.
pub async fn a_checkpoint_may_be_deleted_twice(world: &impl Has<dyn CheckpointStore>) {
    let store = world.port();
    let at = store.put(&checkpoint(&task("t1"), b"mine")).await.expect("stored");
    for _ in 0..2 {
        assert_eq!(store.delete(&task("t1"), &at).await, Ok(()));
    }
}

fn lies_apart(at: &CheckpointRef) -> bool {
    matches!(at, CheckpointRef::Blob { .. })
}

/// `put`: what does not go with its row is never stored under the same reference again.
pub async fn what_is_put_again_has_another_reference(world: &impl Has<dyn CheckpointStore>) {
    let store = world.port();
    let same = checkpoint(&task("t1"), b"the same");
    let first = store.put(&same).await.expect("stored");
    let second = store.put(&same).await.expect("stored");
    if lies_apart(&first) {
        assert_ne!(first, second);
        store.delete(&task("t1"), &first).await.expect("deleted");
    }
    assert_eq!(store.get(&task("t1"), &second).await.as_ref(), Ok(&same));
}

/// `list`: also what no row names; nothing where checkpoints go with their rows.
pub async fn a_list_names_what_was_put_and_is_not_deleted(world: &impl Has<dyn CheckpointStore>) {
    let store = world.port();
    let (task, tenant) = (task("t1"), task("t1").tenant);
    assert_eq!(store.list(&tenant, None).await, Ok(Vec::new()));
    let mut put = Vec::new();
    for state in [b"one", b"two", b"six"] {
        put.push(store.put(&checkpoint(&task, state)).await.expect("stored"));
    }
    store.delete(&task, &put.remove(1)).await.expect("deleted");
    let expected: Vec<_> = put.into_iter().filter(lies_apart).collect();
    let list = listed(&*store, &task).await;
    assert_eq!(list.len(), expected.len());
    assert!(expected.iter().all(|at| list.contains(at)), "{list:?}");
}

/// `list`: neither another task's nor another tenant's, however alike their names are.
pub async fn a_list_is_of_one_task_or_of_one_tenant(world: &impl Has<dyn CheckpointStore>) {
    let store = world.port();
    let all = [task("t1"), task("t"), task("t11"), task_of("umbrella", "t1")];
    for task in &all {
        let at = store.put(&checkpoint(task, b"state")).await.expect("stored");
        let own = if lies_apart(&at) { vec![at] } else { Vec::new() };
        assert_eq!(listed(&*store, task).await, own, "{task}");
    }
    let of_tenant = store.list(&all[0].tenant, None).await.expect("listed");
    for task in &all {
        let own: Vec<_> = of_tenant.iter().filter(|(of, _)| of == task).collect();
        let is_asked = task.tenant == all[0].tenant && !listed(&*store, task).await.is_empty();
        assert_eq!(own.len(), usize::from(is_asked), "{task}");
    }
}

/// What is listed of a task, whose alone it must be.
async fn listed(store: &dyn CheckpointStore, task: &TaskKey) -> Vec<CheckpointRef> {
    let list = store.list(&task.tenant, Some(&task.task)).await.expect("listed");
    assert!(list.iter().all(|(of, _)| of == task), "{list:?}");
    list.into_iter().map(|(_, at)| at).collect()
}

/// `put`: at most [`TASK_VALUE_BYTES_MAX`] of state.
pub async fn a_state_that_is_too_large_is_refused(world: &impl Has<dyn CheckpointStore>) {
    let store = world.port();
    let large = vec![b'x'; TASK_VALUE_BYTES_MAX + 1];
    let answer = store.put(&checkpoint(&task("t1"), &large)).await;
    assert!(matches!(answer, Err(Refusal::Denied { denial: Denial::TooLarge, .. })), "{answer:?}");
}

/// `preflight`: whether a put can succeed now.
pub async fn a_preflight_succeeds_where_a_put_would(world: &impl Has<dyn CheckpointStore>) {
    let store = world.port();
    store.preflight().await.expect("ready");
    store.put(&checkpoint(&task("t1"), b"mine")).await.expect("stored");
}
