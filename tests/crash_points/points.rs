//! Every point of the sources, and the run in which it is reached.

/// What a run is like, so that its points are reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// Keys live side by side, and nothing else goes wrong.
    A,
    /// The provider thinks for a while before it issues, probes and revokes.
    Slow,
    /// The provider issues, and its answer is lost.
    Lost,
    /// The provider issues after its caller gave up.
    Late,
    /// The provider issues a key that does not work.
    Bad,
    /// Issuing voids the old key.
    B,
    /// The same, and the answer with the new key is lost.
    LostB,
    /// The same, and the provider does not issue: the old key is alive.
    DroppedB,
    /// The key has leaked.
    Emergency,
}

impl Stage {
    /// Every stage.
    pub const ALL: [Self; 9] = [
        Self::A,
        Self::Slow,
        Self::Lost,
        Self::Late,
        Self::Bad,
        Self::B,
        Self::LostB,
        Self::DroppedB,
        Self::Emergency,
    ];

    /// Its word in the name of a case.
    pub fn name(self) -> &'static str {
        match self {
            Self::A => "a",
            Self::Slow => "slow",
            Self::Lost => "lost",
            Self::Late => "late",
            Self::Bad => "bad",
            Self::B => "b",
            Self::LostB => "lost-b",
            Self::DroppedB => "dropped-b",
            Self::Emergency => "emergency",
        }
    }

    /// What the simulator is started with.
    pub fn simulator(self) -> &'static [&'static str] {
        match self {
            Self::Slow => &[
                "--fault",
                "issue@acme:2=stall:1500",
                "--fault",
                "probe@acme:2=stall:1500",
                "--fault",
                "revoke@acme:1x*=stall:1500",
            ],
            Self::B | Self::LostB | Self::DroppedB => &["--class", "b"],
            // Calls that outlast the grace of an emergency, so that they are cut.
            Self::Emergency => &["--fault", "chat@acme:6x8=stall:9000"],
            _ => &[],
        }
    }

    /// What the demo is started with.
    pub fn demo(self) -> &'static [&'static str] {
        match self {
            Self::A | Self::Slow => &[],
            Self::Lost => &["--fault", "ack-lost"],
            Self::Late => &["--fault", "late"],
            Self::Bad => &["--fault", "bad-key"],
            Self::B => &["--provider-class", "b"],
            Self::LostB => &["--provider-class", "b", "--fault", "ack-lost"],
            Self::DroppedB => &["--provider-class", "b", "--fault", "dropped"],
            Self::Emergency => &["--emergency"],
        }
    }
}

/// A moment of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Point {
    /// The run.
    pub stage: Stage,
    /// The place in the sources.
    pub place: &'static str,
    /// The how manieth time, counted for the tenant whose key is rotated.
    pub nth: u32,
    /// So many milliseconds behind the place.
    pub after_ms: u32,
}

const fn at(stage: Stage, place: &'static str, nth: u32) -> Point {
    Point { stage, place, nth, after_ms: 0 }
}

const fn behind(stage: Stage, place: &'static str, nth: u32, after_ms: u32) -> Point {
    Point { stage, place, nth, after_ms }
}

/// The moments, in the order of a rotation's life. The first time that a pair's phases are passed
/// is its first key; the second time is the rotation.
pub const POINTS: &[Point] = &[
    // A node starts on a pair that it does not know.
    at(Stage::A, "started.committing", 1),
    at(Stage::A, "started.committed", 1),
    // The first key.
    at(Stage::A, "issue.answered", 1),
    at(Stage::A, "complete.committing", 1),
    // The trigger, before and after it is remembered.
    at(Stage::A, "queued.committing", 2),
    at(Stage::A, "queued.committed", 2),
    at(Stage::A, "preflight.committing", 2),
    at(Stage::A, "preflight.committed", 2),
    // The intent, before and after it is remembered; nothing was sent.
    at(Stage::A, "issuing.committing", 2),
    at(Stage::A, "issuing.committed", 2),
    at(Stage::A, "issue.sending", 2),
    // Sent and not answered: it is not executed, or only later.
    behind(Stage::Slow, "issue.sending", 2, 400),
    at(Stage::Late, "issue.answered", 2),
    at(Stage::Late, "locating.committing", 1),
    at(Stage::Late, "locating.committed", 1),
    at(Stage::Lost, "locating.committed", 1),
    // The label is burned.
    at(Stage::Lost, "queued.committing", 3),
    at(Stage::Lost, "queued.committed", 3),
    // The secret is in memory; it is stored, and the record does not know yet.
    at(Stage::A, "issue.answered", 2),
    at(Stage::A, "issue.stored", 2),
    at(Stage::A, "verifying.committing", 2),
    at(Stage::A, "verifying.committed", 2),
    at(Stage::A, "probe.sending", 2),
    behind(Stage::Slow, "probe.sending", 2, 400),
    at(Stage::A, "probe.answered", 2),
    // The promote, and what is told about it.
    at(Stage::A, "draining.committing", 1),
    at(Stage::A, "draining.committed", 1),
    at(Stage::A, "event.publishing", 2),
    at(Stage::A, "event.published", 2),
    at(Stage::A, "witness.writing", 2),
    // The node's own grants: the first is given before the first lease.
    at(Stage::A, "grant.asking", 1),
    at(Stage::A, "grant.given", 1),
    at(Stage::A, "slot.closed", 1),
    at(Stage::A, "grant.returning", 1),
    at(Stage::A, "grant.returned", 1),
    // The last grant is gone; the overlap; the way without return.
    at(Stage::A, "overlap.committing", 1),
    at(Stage::A, "overlap.committed", 1),
    behind(Stage::A, "overlap.committed", 1, 1000),
    at(Stage::A, "revoking.committing", 1),
    at(Stage::A, "revoking.committed", 1),
    at(Stage::A, "revoke.sending", 1),
    behind(Stage::Slow, "revoke.sending", 1, 400),
    at(Stage::A, "revoke.answered", 1),
    at(Stage::A, "complete.committing", 2),
    at(Stage::A, "complete.committed", 2),
    at(Stage::A, "secret.destroying", 1),
    at(Stage::A, "secret.destroyed", 1),
    at(Stage::A, "note.committing", 1),
    at(Stage::A, "note.committed", 1),
    // A key that does not work.
    at(Stage::Bad, "queued.committing", 3),
    at(Stage::Bad, "queued.committed", 3),
    at(Stage::Bad, "revoke.sending", 1),
    at(Stage::Bad, "revoke.answered", 1),
    // The sweeper finds a key that nobody got.
    at(Stage::Lost, "sweep.listing", 1),
    at(Stage::Lost, "sweep.listed", 1),
    at(Stage::Lost, "note.committing", 1),
    at(Stage::Lost, "note.committed", 1),
    at(Stage::Lost, "revoke.sending", 1),
    at(Stage::Lost, "revoke.answered", 1),
    at(Stage::Lost, "secret.destroyed", 1),
    // A provider with a single key.
    at(Stage::B, "emptying.committing", 1),
    at(Stage::B, "emptying.committed", 1),
    at(Stage::B, "grant.returned", 1),
    at(Stage::B, "issuing.committing", 2),
    at(Stage::B, "issuing.committed", 2),
    at(Stage::B, "issue.sending", 2),
    at(Stage::B, "issue.answered", 2),
    at(Stage::B, "issue.stored", 2),
    at(Stage::B, "verifying.committing", 2),
    at(Stage::B, "verifying.committed", 2),
    at(Stage::B, "complete.committing", 2),
    at(Stage::B, "complete.committed", 2),
    at(Stage::LostB, "settling.committing", 1),
    at(Stage::LostB, "settling.committed", 1),
    at(Stage::LostB, "probing-old.committing", 1),
    at(Stage::LostB, "probing-old.committed", 1),
    at(Stage::LostB, "queued.committed", 3),
    at(Stage::DroppedB, "settling.committed", 1),
    at(Stage::DroppedB, "probing-old.committed", 1),
    at(Stage::DroppedB, "queued.committing", 3),
    at(Stage::DroppedB, "queued.committed", 3),
    // The key has leaked.
    at(Stage::Emergency, "queued.committed", 2),
    at(Stage::Emergency, "checkpointing.committing", 1),
    at(Stage::Emergency, "checkpointing.committed", 1),
    at(Stage::Emergency, "revoking.committing", 1),
    at(Stage::Emergency, "revoking.committed", 1),
    at(Stage::Emergency, "revoke.answered", 1),
    // A task: intent, call, result, checkpoint, hand-over.
    at(Stage::A, "step.intending", 2),
    at(Stage::A, "step.intended", 2),
    at(Stage::A, "step.called", 7),
    at(Stage::A, "step.persisted", 7),
    at(Stage::A, "checkpoint.put", 1),
    at(Stage::A, "checkpoint.pointed", 1),
    at(Stage::A, "hand-over.released", 1),
    at(Stage::A, "session.acquired", 3),
    // The audit leaves the store.
    at(Stage::A, "audit.shipping", 4),
    at(Stage::A, "audit.shipped", 4),
];

/// Places at which something is done twice instead.
pub const DOUBLES: &[(Stage, &str)] = &[
    (Stage::A, "commit"),
    (Stage::A, "secret.put"),
    (Stage::A, "grant"),
    (Stage::A, "grant.return"),
    (Stage::A, "step"),
    (Stage::A, "step.append"),
    (Stage::A, "audit"),
    (Stage::A, "effect.preflight"),
    (Stage::Lost, "effect.locate"),
    (Stage::A, "effect.probe"),
    (Stage::LostB, "effect.probe"),
    (Stage::A, "effect.revoke"),
    (Stage::Lost, "effect.sweep"),
    (Stage::A, "effect.destroy"),
    (Stage::B, "effect.count"),
    (Stage::A, "effect.close"),
    (Stage::A, "effect.signal"),
    (Stage::Emergency, "effect.cut"),
    (Stage::A, "effect.arm"),
    (Stage::A, "effect.publish"),
    (Stage::A, "effect.witness"),
];

/// Names in the sources that no run of the demo comes to.
pub const NOT_HERE: &[(&str, &str)] = &[
    ("awaiting-person.committing", "no provider of the demo has its keys made by a person"),
    ("awaiting-person.committed", "no provider of the demo has its keys made by a person"),
    ("effect.ask", "no provider of the demo has its keys made by a person"),
    ("failed.committing", "a rotation that fails has no verdict of `held` in the demo"),
    ("failed.committed", "a rotation that fails has no verdict of `held` in the demo"),
    ("effect.page", "a page is a line of the log"),
];
