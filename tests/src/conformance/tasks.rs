//! What the port `TaskJournal` promises.

use keybaton_messages::{TaskEpoch, Timestamp, Version};
use keybaton_ports::limits::TASK_VALUE_BYTES_MAX;
use keybaton_ports::{
    CheckpointRef, Entry, TaskError, TaskJournal, TaskRow, TaskSpec, TaskState, TaskWrite,
};

use crate::conformance::Has;
use crate::conformance::task_entries::{
    Owner, result, result_with_checkpoint, spec, state, task, task_of,
};

/// Runs every case of the port `TaskJournal`.
#[macro_export]
macro_rules! tasks_conformance {
    ($open:path $(, $if_there:ident)?) => {
        $crate::conformance_cases! { tasks, $open $(, $if_there)? =>
            a_new_task_is_running_and_has_no_entries
            a_task_that_is_created_again_answers_as_it_is
            another_input_under_the_same_id_is_taken
            one_id_of_two_tenants_is_two_tasks
            a_task_that_was_never_created_is_not_found
            a_claim_fences_every_earlier_one
            of_many_claims_each_has_an_epoch_of_its_own
            an_append_expects_the_number_of_entries
            the_last_entry_may_be_appended_again
            of_many_appends_at_one_place_one_is_written
            a_claim_brings_the_newest_checkpoint_and_what_came_after
            a_task_goes_on_after_a_thousand_entries
            entries_of_many_tasks_stay_apart
            the_newest_state_is_the_tasks_state
            a_list_may_be_one_tenants
            a_value_that_is_too_large_is_refused_and_changes_nothing
            the_largest_value_fits
            only_a_task_that_has_ended_is_forgotten
            a_forgotten_id_may_be_used_again
        }
    };
}

/// `create`: a task in state Running.
pub async fn a_new_task_is_running_and_has_no_entries(world: &impl Has<dyn TaskJournal>) {
    let tasks = world.port();
    let expected = TaskRow {
        key: task("t1"),
        spec: spec(b"input"),
        state: TaskState::Running,
        epoch: TaskEpoch(0),
        rev: 0,
    };
    let row = tasks.create(&task("t1"), &spec(b"input")).await;
    assert_eq!(row.as_ref(), Ok(&expected));
    assert_eq!(tasks.list(None).await, Ok(vec![expected]));
    assert_eq!(tasks.entries(&task("t1")).await, Ok(Vec::new()));
}

/// `create`: one that is there with the same kind, provider and input answers as it is.
pub async fn a_task_that_is_created_again_answers_as_it_is(world: &impl Has<dyn TaskJournal>) {
    let tasks = world.port();
    let mut owner = Owner::claim(&tasks, &task("t1")).await;
    owner.append(result(0)).await.expect("appended");
    let later = TaskSpec { spawned_at: Timestamp(99), ..spec(b"input") };
    let row = tasks.create(&task("t1"), &later).await.expect("the same");
    assert_eq!((row.epoch, row.rev), (owner.epoch, 1));
    assert_eq!(row.spec, spec(b"input"));
    assert_eq!(tasks.list(None).await.expect("read").len(), 1);
}

/// `create`: another kind, provider or input is `Taken`.
pub async fn another_input_under_the_same_id_is_taken(world: &impl Has<dyn TaskJournal>) {
    let tasks = world.port();
    tasks.create(&task("t1"), &spec(b"a")).await.expect("created");
    let mut other_kind = spec(b"a");
    other_kind.kind = "other".into();
    let mut other_provider = spec(b"a");
    other_provider.provider = "mistral".parse().expect("a provider");
    for other in [spec(b"b"), spec(b""), other_kind, other_provider] {
        let answer = tasks.create(&task("t1"), &other).await;
        assert_eq!(answer, Err(TaskError::Taken));
    }
    let rows = tasks.list(None).await.expect("read");
    assert_eq!(rows[0].spec, spec(b"a"));
}

/// Task ids are unique per tenant only.
pub async fn one_id_of_two_tenants_is_two_tasks(world: &impl Has<dyn TaskJournal>) {
    let tasks = world.port();
    let mut ours = Owner::claim(&tasks, &task_of("acme", "t1")).await;
    let theirs = Owner::claim(&tasks, &task_of("umbrella", "t1")).await;
    ours.append(result(0)).await.expect("appended");
    assert_eq!(theirs.entries().await, []);
    let answer = tasks.create(&theirs.key, &spec(b"b")).await;
    assert_eq!(answer, Err(TaskError::Taken));
}

/// Everything on a task that is not there: `NotFound`.
pub async fn a_task_that_was_never_created_is_not_found(world: &impl Has<dyn TaskJournal>) {
    let tasks = world.port();
    let owner = Owner::claim(&tasks, &task("t1")).await;
    let mut write = owner.write(0, result(0));
    write.key = task("t2");
    let not_found = TaskError::NotFound;
    assert_eq!(tasks.claim(&task("t2")).await.as_ref(), Err(&not_found));
    assert_eq!(tasks.append(&write).await.as_ref(), Err(&not_found));
    assert_eq!(tasks.entries(&task("t2")).await.as_ref(), Err(&not_found));
    assert_eq!(tasks.forget(&task("t2")).await.as_ref(), Err(&not_found));
}

/// `claim`: epoch + 1, all earlier claims are fenced.
pub async fn a_claim_fences_every_earlier_one(world: &impl Has<dyn TaskJournal>) {
    let tasks = world.port();
    let mut first = Owner::claim(&tasks, &task("t1")).await;
    first.append(result(0)).await.expect("appended");
    let mut second = Owner::claim(&tasks, &task("t1")).await;
    assert_eq!(second.epoch, first.epoch.next());
    assert_eq!(second.rev, 1);
    assert_eq!(first.append(result(1)).await, Err(TaskError::Fenced));
    let repeat = tasks.append(&first.write(0, result(0))).await;
    assert_eq!(repeat, Err(TaskError::Fenced));
    let unborn = TaskWrite { epoch: second.epoch.next(), ..second.write(1, result(1)) };
    assert_eq!(tasks.append(&unborn).await, Err(TaskError::Fenced));
    second.append(result(1)).await.expect("appended");
    assert_eq!(second.entries().await, [result(0), result(1)]);
}

/// `claim`: linearizable.
pub async fn of_many_claims_each_has_an_epoch_of_its_own(world: &impl Has<dyn TaskJournal>) {
    let tasks = world.port();
    tasks.create(&task("t1"), &spec(b"input")).await.expect("created");
    let claims: Vec<_> = (0..16)
        .map(|_| {
            let tasks = tasks.clone();
            tokio::spawn(async move { tasks.claim(&task("t1")).await.expect("claimed").row.epoch })
        })
        .collect();
    let mut epochs = Vec::new();
    for claim in claims {
        epochs.push(claim.await.expect("no panic"));
    }
    epochs.sort_unstable();
    let expected: Vec<_> = (1..=16).map(TaskEpoch).collect();
    assert_eq!(epochs, expected);
}

/// `append`: refused if the number of entries is stale.
pub async fn an_append_expects_the_number_of_entries(world: &impl Has<dyn TaskJournal>) {
    let tasks = world.port();
    let mut owner = Owner::claim(&tasks, &task("t1")).await;
    owner.append_all([result(0), result(1), result(2)]).await;
    for expect in [0, 1, 2, 4, u64::MAX] {
        let answer = tasks.append(&owner.write(expect, result(7))).await;
        assert_eq!(answer, Err(TaskError::Conflict), "{expect}");
    }
    assert_eq!(owner.entries().await, [result(0), result(1), result(2)]);
    let row = &tasks.list(None).await.expect("read")[0];
    assert_eq!(row.rev, 3);
}

/// `append`: repeating the entry that is the last one (same epoch, place and entry) succeeds.
pub async fn the_last_entry_may_be_appended_again(world: &impl Has<dyn TaskJournal>) {
    let tasks = world.port();
    let mut owner = Owner::claim(&tasks, &task("t1")).await;
    owner.append_all([result(0), result(1)]).await;
    for _ in 0..2 {
        assert_eq!(tasks.append(&owner.write(1, result(1))).await, Ok(()));
    }
    let earlier = tasks.append(&owner.write(0, result(0))).await;
    assert_eq!(earlier, Err(TaskError::Conflict));
    let other = tasks.append(&owner.write(1, result(2))).await;
    assert_eq!(other, Err(TaskError::Conflict));
    let next = Owner::claim(&tasks, &task("t1")).await;
    let under_another_claim = tasks.append(&next.write(1, result(1))).await;
    assert_eq!(under_another_claim, Err(TaskError::Conflict));
    assert_eq!(owner.entries().await, [result(0), result(1)]);
}

/// `append`: compare-and-set, also when many ask at once.
pub async fn of_many_appends_at_one_place_one_is_written(world: &impl Has<dyn TaskJournal>) {
    let tasks = world.port();
    let owner = Owner::claim(&tasks, &task("t1")).await;
    let appends: Vec<_> = (0..16)
        .map(|n| {
            let (tasks, write) = (tasks.clone(), owner.write(0, result(n)));
            tokio::spawn(async move { tasks.append(&write).await })
        })
        .collect();
    let mut written = 0;
    for append in appends {
        match append.await.expect("no panic") {
            Ok(()) => written += 1,
            refusal => assert_eq!(refusal, Err(TaskError::Conflict)),
        }
    }
    assert_eq!(written, 1);
    assert_eq!(owner.entries().await.len(), 1);
}

/// `claim`: the newest checkpoint that a row names, and the entries after it.
pub async fn a_claim_brings_the_newest_checkpoint_and_what_came_after(
    world: &impl Has<dyn TaskJournal>,
) {
    let tasks = world.port();
    let owner = Owner::claim(&tasks, &task("t1")).await;
    let claimed = owner.claim_again().await;
    assert_eq!((claimed.checkpoint, claimed.entries), (None, Vec::new()));
    let mut owner = Owner::claim(&tasks, &owner.key).await;
    let intent = Entry::Intent { n: 1, idem: [2; 16], version: Version(1), at: Timestamp(3) };
    owner.append_all([result(0), intent.clone()]).await;
    let claimed = owner.claim_again().await;
    assert_eq!(claimed.checkpoint, None);
    assert_eq!(claimed.entries, [result(0), intent]);

    let mut owner = Owner::claim(&tasks, &owner.key).await;
    owner.append_all([result_with_checkpoint(1, b"first"), result(2)]).await;
    let claimed = owner.claim_again().await;
    assert_eq!(claimed.checkpoint, Some(CheckpointRef::Inline(b"first".to_vec())));
    assert_eq!(claimed.entries, [result(2)]);

    let mut owner = Owner::claim(&tasks, &owner.key).await;
    let blob = CheckpointRef::Blob { key: "acme/t1/3".into(), digest: [3; 32] };
    let second = Entry::Checkpoint { n: 3, checkpoint: blob.clone(), at: Timestamp(4) };
    owner.append(second).await.expect("appended");
    let claimed = owner.claim_again().await;
    assert_eq!(claimed.checkpoint, Some(blob));
    assert_eq!(claimed.entries, []);
    assert_eq!(claimed.row.rev, 5);
}

/// A long task is neither cut nor slowed down: what is needed to go on is kept.
pub async fn a_task_goes_on_after_a_thousand_entries(world: &impl Has<dyn TaskJournal>) {
    let tasks = world.port();
    let mut owner = Owner::claim(&tasks, &task("t1")).await;
    owner.append(state(TaskState::Running)).await.expect("appended");
    for n in 0..1200 {
        let entry =
            if n % 100 == 99 { result_with_checkpoint(n, &n.to_be_bytes()) } else { result(n) };
        owner.append(entry).await.expect("appended");
    }
    owner.append(result(1200)).await.expect("appended");
    let kept = owner.entries().await;
    assert_eq!(kept.last(), Some(&result(1200)));
    let steps: Vec<_> = kept
        .iter()
        .filter_map(|entry| match entry {
            Entry::Result { n, .. } => Some(*n),
            _ => None,
        })
        .collect();
    assert!(steps.windows(2).all(|pair| pair[0] + 1 == pair[1]), "what is kept has no hole");
    let claimed = owner.claim_again().await;
    let newest = CheckpointRef::Inline(1199u64.to_be_bytes().to_vec());
    assert_eq!(claimed.checkpoint, Some(newest));
    assert_eq!(claimed.entries, [result(1200)]);
    assert_eq!(claimed.row.rev, 1202);
}

/// Entries belong to their task, whatever is written in between.
pub async fn entries_of_many_tasks_stay_apart(world: &impl Has<dyn TaskJournal>) {
    let tasks = world.port();
    let running: Vec<_> = (0..20u64)
        .map(|i| {
            let tasks = tasks.clone();
            tokio::spawn(async move {
                let mut owner = Owner::claim(&tasks, &task(&format!("t{i}"))).await;
                owner.append_all((0..20).map(|n| result(i * 100 + n))).await;
                owner
            })
        })
        .collect();
    for (i, owner) in (0..).zip(running) {
        let expected: Vec<_> = (0..20).map(|n| result(i * 100 + n)).collect();
        assert_eq!(owner.await.expect("no panic").entries().await, expected);
    }
}

/// The row shows the newest `State` entry.
pub async fn the_newest_state_is_the_tasks_state(world: &impl Has<dyn TaskJournal>) {
    let tasks = world.port();
    let mut owner = Owner::claim(&tasks, &task("t1")).await;
    for now in [
        TaskState::Parked("waits for a person".into()),
        TaskState::Running,
        TaskState::Done(b"output".to_vec()),
    ] {
        owner.append(state(now.clone())).await.expect("appended");
        let row = &tasks.list(None).await.expect("read")[0];
        assert_eq!(row.state, now);
        owner.epoch = owner.claim_again().await.row.epoch;
    }
}

/// `list`: all tasks, or one tenant's.
pub async fn a_list_may_be_one_tenants(world: &impl Has<dyn TaskJournal>) {
    let tasks = world.port();
    for (tenant, name) in [("acme", "t1"), ("acme", "t2"), ("acme2", "t1"), ("b", "t1")] {
        let key = task_of(tenant, name);
        tasks.create(&key, &spec(b"input")).await.expect("created");
    }
    let tenant = "acme".parse().expect("a tenant");
    let rows = tasks.list(Some(&tenant)).await.expect("read");
    let mut keys: Vec<_> = rows.into_iter().map(|row| row.key).collect();
    keys.sort_unstable();
    assert_eq!(keys, [task("t1"), task("t2")]);
    assert_eq!(tasks.list(None).await.expect("read").len(), 4);
    let nobody = "nobody".parse().expect("a tenant");
    assert_eq!(tasks.list(Some(&nobody)).await, Ok(Vec::new()));
}

/// `TooLarge`: nothing is written.
pub async fn a_value_that_is_too_large_is_refused_and_changes_nothing(
    world: &impl Has<dyn TaskJournal>,
) {
    let tasks = world.port();
    let large = vec![b'x'; TASK_VALUE_BYTES_MAX + 1];
    let created = tasks.create(&task("t0"), &spec(&large)).await;
    assert_eq!(created, Err(TaskError::TooLarge));
    let mut owner = Owner::claim(&tasks, &task("t1")).await;
    let Entry::Result { n, idem, version, checkpoint, at, .. } = result(0) else {
        unreachable!("it is a result");
    };
    let outcome = Entry::Result { n, idem, version, outcome: large.clone(), checkpoint, at };
    let sealed = vec![b'x'; 2 * TASK_VALUE_BYTES_MAX];
    for entry in [outcome, result_with_checkpoint(0, &sealed), state(TaskState::Done(large))] {
        assert_eq!(owner.append(entry).await, Err(TaskError::TooLarge));
    }
    assert_eq!(owner.entries().await, []);
    assert_eq!(tasks.list(None).await.expect("read").len(), 1);
}

/// Values up to [`TASK_VALUE_BYTES_MAX`] are carried, output and checkpoint in one entry too.
pub async fn the_largest_value_fits(world: &impl Has<dyn TaskJournal>) {
    let tasks = world.port();
    let large = vec![b'x'; TASK_VALUE_BYTES_MAX];
    tasks.create(&task("t0"), &spec(&large)).await.expect("created");
    let mut owner = Owner::claim(&tasks, &task("t1")).await;
    let entry = Entry::Result {
        n: 0,
        idem: [0; 16],
        version: None,
        outcome: large.clone(),
        checkpoint: Some(CheckpointRef::Inline(large)),
        at: Timestamp(0),
    };
    owner.append(entry.clone()).await.expect("appended");
    assert_eq!(owner.entries().await, [entry]);
}

/// `forget`: a task that has ended, with all of its entries.
pub async fn only_a_task_that_has_ended_is_forgotten(world: &impl Has<dyn TaskJournal>) {
    let tasks = world.port();
    for (name, end) in [
        ("t1", TaskState::Done(Vec::new())),
        ("t2", TaskState::Failed("why".into())),
        ("t3", TaskState::Cancelled),
    ] {
        let mut owner = Owner::claim(&tasks, &task(name)).await;
        assert!(tasks.forget(&owner.key).await.is_err(), "it runs");
        let parked = TaskState::Parked("why".into());
        owner.append_all([result(0), state(parked)]).await;
        assert!(tasks.forget(&owner.key).await.is_err(), "it is parked");
        assert_eq!(owner.entries().await.len(), 2);
        owner.append(state(end)).await.expect("appended");
        assert_eq!(tasks.forget(&owner.key).await, Ok(()));
        assert_eq!(tasks.claim(&owner.key).await, Err(TaskError::NotFound));
    }
    assert_eq!(tasks.list(None).await, Ok(Vec::new()));
}

/// After `forget` the id is free, and nothing of the earlier task is left.
pub async fn a_forgotten_id_may_be_used_again(world: &impl Has<dyn TaskJournal>) {
    let tasks = world.port();
    let mut owner = Owner::claim(&tasks, &task("t1")).await;
    owner
        .append_all([result_with_checkpoint(0, b"old"), state(TaskState::Done(b"old".to_vec()))])
        .await;
    tasks.forget(&owner.key).await.expect("forgotten");
    let row = tasks.create(&owner.key, &spec(b"new")).await.expect("created");
    assert_eq!((row.state, row.rev), (TaskState::Running, 0));
    let claimed = tasks.claim(&owner.key).await.expect("claimed");
    assert_eq!((claimed.checkpoint, claimed.entries), (None, Vec::new()));
}
