//! What a task's caller is promised: nothing lost, nothing twice, and an answer in every case.

use std::time::Duration;

use keybaton::{Program, SpawnError, TaskFailure, TaskState};
use keybaton_actors::program::encode_state;
use keybaton_messages::{TaskKey, Timestamp};
use keybaton_ports::{Entry, TaskError, TaskSpec};
use keybaton_tests::harness::{Cue, Deed, PROVIDER, Place, Puppet, Risk, Role, Setup, World, soon};

/// The entries of a task's journal, shortest words.
async fn journal(world: &World, key: &TaskKey) -> Vec<String> {
    let entries = world.node().shared().ports.tasks.entries(key).await;
    let words = |entry: &Entry| match entry {
        Entry::Intent { n, .. } => format!("intent {n}"),
        Entry::Result { n, .. } => format!("result {n}"),
        Entry::Checkpoint { n, .. } => format!("checkpoint {n}"),
        Entry::State { .. } => "state".to_owned(),
    };
    entries.expect("a task").iter().map(words).collect()
}

async fn opened() -> World {
    let world = World::open().await;
    world.provision("acme").await;
    world
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_step_that_panics_is_taken_again_and_the_steps_before_it_are_not() {
    let world = opened().await;
    world.strings.hang("fragile", 2, Place::Before, Cue::Panic);
    world.strings.hang("fragile", 3, Place::After, Cue::Panic);
    let handle = world.spawn("acme", "fragile", Role::of(vec![Deed::Chat(5); 5])).await;
    let key = handle.key().clone();

    let role = soon("the task", handle.join()).await.expect("done");

    assert_eq!(role.outcomes.len(), 5);
    let times = |n| world.strings.times("fragile", n, Place::Before);
    assert_eq!([0, 1, 2, 3, 4].map(times), [1, 1, 2, 2, 1]);
    let results: Vec<_> = journal(&world, &key).await;
    assert_eq!(results, ["result 0", "result 1", "result 2", "result 3", "result 4", "state"]);
    let rules = |rules: &mut keybaton_oracle::Rules| rules.tasks_expected = Some(1);
    world.demand_held(&[], rules).await;
}

/// The process may end between writing a task down and asking for its pair's first key.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_task_that_was_written_down_and_no_more_is_done_after_a_restart() {
    let mut world = World::open().await;
    let key = TaskKey {
        tenant: "acme".parse().expect("a name"),
        task: "forgotten".parse().expect("a name"),
    };
    let spec = TaskSpec {
        kind: Puppet::KIND.to_owned(),
        provider: PROVIDER.parse().expect("a name"),
        input: encode_state(&Role::of(vec![Deed::Chat(5); 2])).expect("small"),
        spawned_at: Timestamp(0),
    };
    world.node().shared().ports.tasks.create(&key, &spec).await.expect("written down");
    world.crash().await;
    world.start().await;

    let handle = world.node().task::<Puppet>("acme", "forgotten").expect("taken up");
    let role = soon("the task", handle.join()).await.expect("done");

    assert_eq!(role.outcomes.len(), 2);
    let rules = |rules: &mut keybaton_oracle::Rules| rules.tasks_expected = Some(1);
    world.demand_held(&[], rules).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_crash_of_the_node_resumes_behind_the_last_result() {
    let mut world = opened().await;
    world.strings.hang("traveller", 3, Place::Before, Cue::Hold);
    let role = Role::of(vec![Deed::Chat(5); 6]);
    let handle = world.spawn("acme", "traveller", role.clone()).await;
    world.strings.came("traveller", 3, Place::Before).await;

    world.crash().await;
    let failed = soon("the old handle", handle.join()).await;
    assert!(
        matches!(failed, Err(TaskFailure::NodeStopped)),
        "a handle of a dead node says so: {failed:?}"
    );
    world.start().await;

    // It goes on without being asked; whoever asks for it again follows the same task.
    let again = world.spawn("acme", "traveller", role).await;
    let role = soon("the task", again.join()).await.expect("done");
    assert_eq!(role.outcomes.len(), 6);
    let times = |n| world.strings.times("traveller", n, Place::Before);
    assert_eq!([0, 1, 2, 3, 4, 5].map(times), [1, 1, 1, 2, 1, 1]);
    world.demand_held(&[], |_| ()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_cut_is_repeated_looked_up_or_left_to_a_person_as_the_program_says() {
    let mut world = opened().await;
    let role = |risk| Role::of(vec![Deed::Nothing; 2]).with_risk(risk);
    let tasks = [
        ("only-asks", role(Risk::ByDeed)),
        ("idempotent", role(Risk::Idempotent)),
        ("took-place", role(Risk::Queryable { happened: true })),
        ("did-not", role(Risk::Queryable { happened: false })),
        ("blind", role(Risk::Neither)),
    ];
    for (name, role) in &tasks {
        // Whatever the step did, nobody was told: it is cut between its deed and its result.
        world.strings.hang(name, 1, Place::After, Cue::Hold);
        let _handle = world.spawn("acme", name, role.clone()).await;
    }
    for (name, _) in &tasks {
        world.strings.came(name, 1, Place::After).await;
    }

    world.crash().await;
    world.start().await;

    for (name, role) in tasks {
        let handle = world.spawn("acme", name, role).await;
        let joined = soon(name, handle.join()).await;
        if name == "blind" {
            match joined.expect_err("nobody can know") {
                TaskFailure::Parked(why) => assert!(why.contains("may have had effects"), "{why}"),
                other => panic!("{other:?}"),
            }
        } else {
            let role = joined.unwrap_or_else(|failure| panic!("{name}: {failure}"));
            assert_eq!(role.outcomes.len(), 2, "{name}");
        }
    }
    let times = |name, place| world.strings.times(name, 1, place);
    assert_eq!(times("only-asks", Place::Before), 2);
    assert_eq!(times("idempotent", Place::Before), 2);
    assert_eq!(times("took-place", Place::Look), 1);
    assert_eq!(times("took-place", Place::Before), 1, "it was found, and not repeated");
    assert_eq!(times("did-not", Place::Look), 1);
    assert_eq!(times("did-not", Place::Before), 2, "it was not found, so it is taken");
    assert_eq!(times("blind", Place::Before), 1, "never guess");
    let seen = world.strings.seen("idempotent");
    let idems: Vec<_> = seen.iter().filter(|seen| seen.n == 1).map(|seen| seen.idem).collect();
    assert!(
        idems.windows(2).all(|two| two[0] == two[1]),
        "a repetition carries the same idempotency key"
    );
    assert!(seen.last().is_some_and(|seen| seen.is_repeat), "and the program is told");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_side_effect_happens_once_at_the_provider_across_a_crash() {
    let mut world = opened().await;
    for name in ["before", "after"] {
        let role = Role::of([Deed::Chat(5), Deed::Tool(5), Deed::Tool(5)]);
        let place = if name == "before" { Place::Before } else { Place::After };
        world.strings.hang(name, 1, place, Cue::Hold);
        let _handle = world.spawn("acme", name, role).await;
        world.strings.came(name, 1, place).await;
    }

    world.crash().await;
    world.start().await;

    for name in ["before", "after"] {
        let handle = world.node().task::<Puppet>("acme", name).expect("known");
        let role = soon(name, handle.join()).await.expect("done");
        assert_eq!(role.outcomes.len(), 3);
    }
    let verdict = world.demand_held(&[], |_| ()).await;
    assert_eq!((verdict.steps_doubled, verdict.steps_lost), (0, 0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cancelled_task_ends_at_its_boundary_and_its_step_is_not_cut() {
    let world = opened().await;
    world.strings.hang("tired", 1, Place::Before, Cue::Hold);
    let handle = world.spawn("acme", "tired", Role::of(vec![Deed::Chat(5); 4])).await;
    let key = handle.key().clone();
    world.strings.came("tired", 1, Place::Before).await;

    handle.cancel();
    world.strings.release("tired", 1);

    let ended = soon("the end", handle.join()).await;
    assert!(matches!(ended, Err(TaskFailure::Cancelled)), "{ended:?}");
    assert_eq!(journal(&world, &key).await, ["result 0", "result 1", "state"]);
    assert_eq!(world.strings.times("tired", 2, Place::Before), 0);

    // Also one that only waits: for the key of a tenant whose provider does not answer.
    world.arm("issue@globex:1x*=server-error");
    let waiting = world.spawn("globex", "patient", Role::of([Deed::Chat(5)]).keeping()).await;
    waiting.cancel();
    let ended = soon("the end", waiting.join()).await;
    assert!(matches!(ended, Err(TaskFailure::Cancelled)), "{ended:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_kind_that_this_node_does_not_know_waits_for_one_that_does() {
    let mut world = opened().await;
    world.strings.hang("foreign", 1, Place::Before, Cue::Hold);
    let role = Role::of(vec![Deed::Nothing; 3]);
    let _handle = world.spawn("acme", "foreign", role.clone()).await;
    world.strings.came("foreign", 1, Place::Before).await;
    world.crash().await;

    world.setup.knows_puppets = false;
    world.start().await;
    let handle = world.node().task::<Puppet>("acme", "foreign").expect("known");
    match soon("a word", handle.join()).await.expect_err("nobody knows how") {
        TaskFailure::Parked(why) => assert!(why.contains("does not know the kind"), "{why}"),
        other => panic!("{other:?}"),
    }
    let refused = world.node().spawn::<Puppet>("acme", PROVIDER, "foreign", role);
    let refused = refused.await.err().expect("an unknown kind");
    assert!(refused.to_string().contains("NodeBuilder::program"), "{refused}");
    world.stop().await;

    world.setup.knows_puppets = true;
    world.start().await;
    let handle = world.node().task::<Puppet>("acme", "foreign").expect("known");
    let role = soon("the task", handle.join()).await.expect("done");
    assert_eq!(role.outcomes.len(), 3);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_node_says_when_to_try_again_and_has_room_when_a_task_ends() {
    let world = World::with(Setup { tasks_max: 2, ..Setup::default() }).await;
    world.provision("acme").await;
    let role = || Role::of(vec![Deed::Nothing; 2]);
    world.strings.hang("a", 0, Place::Before, Cue::Hold);
    world.strings.hang("b", 0, Place::Before, Cue::Hold);
    let a = world.spawn("acme", "a", role()).await;
    let b = world.spawn("acme", "b", role()).await;

    let full = world.node().spawn::<Puppet>("acme", PROVIDER, "c", role()).await;
    let Err(SpawnError::Busy { after }) = full else {
        panic!("two are all that it admits");
    };
    assert!(!after.is_zero());
    // One that is there already needs no room.
    let same = world.spawn("acme", "a", role()).await;
    drop(same);

    world.strings.release("a", 0);
    soon("a", a.join()).await.expect("done");
    let c = world.spawn("acme", "c", role()).await;
    soon("c", c.join()).await.expect("done");
    world.strings.release("b", 0);
    soon("b", b.join()).await.expect("done");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_same_id_is_the_same_task_and_another_input_is_refused() {
    let mut world = opened().await;
    let role = || Role::of(vec![Deed::Nothing; 2]);
    let first = world.spawn("acme", "report", role()).await;
    let second = world.spawn("acme", "report", role()).await;
    let first = soon("the task", first.join()).await.expect("done");
    let second = soon("the task", second.join()).await.expect("done");
    assert_eq!(first, second);
    assert_eq!(world.strings.times("report", 0, Place::Before), 1);

    let other = Role::of(vec![Deed::Nothing; 3]);
    let taken = world.node().spawn::<Puppet>("acme", PROVIDER, "report", other).await;
    assert!(matches!(taken, Err(SpawnError::Journal(TaskError::Taken))));

    // Another tenant's task of the same name is another task.
    world.provision("globex").await;
    let theirs = world.spawn("globex", "report", role()).await;
    soon("theirs", theirs.join()).await.expect("done");
    assert_eq!(world.strings.times("report", 0, Place::Before), 2);

    // The output is kept: a caller that comes back after a restart still gets it.
    world.crash().await;
    world.start().await;
    let later = world.spawn("acme", "report", role()).await;
    assert_eq!(soon("the task", later.join()).await.expect("done"), first);
    assert_eq!(world.strings.times("report", 0, Place::Before), 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_caller_can_list_tasks_and_read_why_one_failed() {
    let world = opened().await;
    world.provision("globex").await;
    world.strings.hang("doomed", 1, Place::Before, Cue::Fail);
    world.strings.hang("puzzled", 0, Place::Before, Cue::Park);
    world.strings.hang("clumsy", 0, Place::Before, Cue::Again);
    let role = || Role::of(vec![Deed::Nothing; 2]);
    let doomed = world.spawn("acme", "doomed", role()).await;
    let puzzled = world.spawn("acme", "puzzled", role()).await;
    let clumsy = world.spawn("acme", "clumsy", role()).await;
    let theirs = world.spawn("globex", "theirs", role()).await;

    let failed = soon("doomed", doomed.join()).await.expect_err("it fails");
    assert!(failed.to_string().contains("by cue"), "{failed}");
    let parked = soon("puzzled", puzzled.join()).await.expect_err("it is parked");
    assert!(matches!(parked, TaskFailure::Parked(_)), "{parked}");
    soon("clumsy", clumsy.join()).await.expect("one refusal is tried again");
    soon("theirs", theirs.join()).await.expect("done");

    let acme = world.pair("acme").tenant;
    let listed = world.node().tasks(Some(&acme));
    let states: Vec<_> = listed
        .iter()
        .map(|(key, view)| {
            let state = match view.state {
                TaskState::Running => "running",
                TaskState::Parked(_) => "parked",
                TaskState::Done(_) => "done",
                TaskState::Failed(_) => "failed",
                TaskState::Cancelled => "cancelled",
            };
            (key.task.as_str(), state)
        })
        .collect();
    assert_eq!(states, [("clumsy", "done"), ("doomed", "failed"), ("puzzled", "parked")]);
    assert_eq!(world.node().tasks(None).len(), 4);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_resting_session_holder_is_asked_and_hands_over_at_once() {
    let world = opened().await;
    // It would rest for ten minutes between its steps, holding the key.
    let role = Role::of(vec![Deed::Chat(5); 2]).keeping().resting(600_000);
    let handle = world.spawn("acme", "sleeper", role).await;
    world.strings.came("sleeper", 0, Place::After).await;
    let key = handle.key().clone();

    let rotation = world.rotate("acme").await;
    world.complete(&rotation).await;

    let entries = journal(&world, &key).await;
    assert_eq!(entries, ["result 0", "checkpoint 1"], "it persisted what it knew first");
    assert_eq!(world.strings.times("sleeper", 1, Place::Before), 0, "and rests on");
    let pair = world.pair("acme");
    let holders = world.node().holders(&pair, keybaton::messages::Version(2));
    assert_eq!(holders.len(), 1, "with the new key in its hand");
    handle.cancel();
    soon("the end", handle.join()).await.expect_err("cancelled");
}

/// A crash may come between the last result and the word that the task is done. What is resumed
/// then reads in that result that nothing is left to do, unless a checkpoint stands in front of it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hand_over_at_the_last_step_hides_nothing_of_it() {
    let world = opened().await;
    world.strings.hang("finisher", 1, Place::After, Cue::Hold);
    let handle = world.spawn("acme", "finisher", Role::of(vec![Deed::Chat(5); 2]).keeping()).await;
    let key = handle.key().clone();
    world.strings.came("finisher", 1, Place::After).await;
    let rotation = world.rotate("acme").await;
    let mut ticks = tokio::time::interval(Duration::from_millis(5));
    let closed = async {
        while world.node().drains(&world.pair("acme")).is_empty() {
            ticks.tick().await;
        }
    };
    soon("the closing of the old version", closed).await;

    world.strings.release("finisher", 1);

    soon("the task", handle.join()).await.expect("done");
    world.complete(&rotation).await;
    let entries = world.node().shared().ports.tasks.entries(&key).await.expect("a task");
    let last = entries.iter().rfind(|entry| matches!(entry, Entry::Result { .. }));
    assert!(
        matches!(last, Some(Entry::Result { n: 1, checkpoint: None, .. })),
        "the last result stands behind every checkpoint: {entries:?}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_parked_task_goes_on_when_a_person_has_looked() {
    let world = opened().await;
    world.strings.hang("puzzled", 1, Place::Before, Cue::Park);
    let handle = world.spawn("acme", "puzzled", Role::of(vec![Deed::Chat(5); 3])).await;
    let parked = soon("a word", handle.join()).await.expect_err("it is parked");
    assert!(matches!(parked, TaskFailure::Parked(_)), "{parked}");

    world.node().unpark("acme", "puzzled").expect("it is there");

    let again = world.node().task::<Puppet>("acme", "puzzled").expect("known");
    let is_going = |view: &keybaton::TaskView| !matches!(view.state, TaskState::Parked(_));
    world.strings.came("puzzled", 2, Place::After).await;
    assert!(is_going(&again.view()));
    let role = soon("the task", again.join()).await.expect("done");
    assert_eq!(role.outcomes.len(), 3);
    world.demand_held(&[], |_| ()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_output_outlives_the_process_until_it_is_forgotten() {
    let mut world = opened().await;
    let handle = world.spawn("acme", "report", Role::of(vec![Deed::Chat(5); 2])).await;
    let role = soon("the task", handle.join()).await.expect("done");
    world.crash().await;
    world.start().await;

    let output = world.node().output::<Puppet>("acme", "report").await;
    assert_eq!(output.expect("it is done"), Some(role));

    soon("forgetting", world.node().forget("acme", "report")).await.expect("it has ended");
    assert!(world.node().output::<Puppet>("acme", "report").await.is_err(), "it is gone");
    let again = world.spawn("acme", "report", Role::of(vec![Deed::Nothing; 3])).await;
    soon("another task", again.join()).await.expect("the id is free again");
}
