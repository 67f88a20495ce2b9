//! Faults put in on purpose, to see that the checks notice them. They are in the world, never in
//! the actors.

use keybaton_fakes::journal::JournalFlaws;
use keybaton_fakes::tasks::TaskFlaws;

/// What is wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flaw {
    /// The journal commits although grants are out.
    GrantsIgnored,
    /// The journal commits although somebody else claims the key.
    ClaimsIgnored,
    /// The journal looks neither at life nor at epoch nor at revision of a writer.
    WritersNotCompared,
    /// The journal loses its last acknowledged write at a crash.
    JournalForgets,
    /// The journal of tasks loses its last acknowledged entry at a crash.
    TasksForget,
    /// The journal of tasks looks neither at epoch nor at the number of entries.
    TasksNotCompared,
    /// The provider's adapter says "nothing happened" where nobody knows.
    IssueGuessed,
    /// The provider's adapter says "revoked" without having asked.
    RevokeImagined,
    /// The provider's list is always empty.
    ListEmpty,
    /// Grants that were returned are counted for ever.
    CountsNeverEnd,
    /// An issue that was given up is carried out after the settle time.
    LateAfterSettle,
    /// A key that the provider refuses counts as alive.
    ProbeImagined,
    /// Checkpoints that were deleted stay where they are.
    CheckpointsStay,
    /// Faults are drawn from no seed.
    UnseededFaults,
    /// Who is killed is the first of a map that hashes with a random number.
    RandomVictim,
}

impl Flaw {
    /// In words, for the report.
    #[must_use]
    pub fn words(self) -> &'static str {
        match self {
            Self::GrantsIgnored => "the journal commits although grants are out",
            Self::ClaimsIgnored => "the journal commits although somebody else claims the key",
            Self::WritersNotCompared => "the journal compares neither life, epoch nor revision",
            Self::JournalForgets => "the journal loses its last acknowledged write at a crash",
            Self::TasksForget => "the task journal loses its last acknowledged entry at a crash",
            Self::TasksNotCompared => "the task journal compares neither epoch nor place",
            Self::IssueGuessed => "an unknown issue is answered as not executed",
            Self::RevokeImagined => "a revoke is confirmed that was never sent",
            Self::ListEmpty => "the sweeper's list is always empty",
            Self::CountsNeverEnd => "grants that were returned are counted for ever",
            Self::LateAfterSettle => {
                "class B: an abandoned issue is executed after the settle time"
            }
            Self::ProbeImagined => "a key that the provider refuses is probed alive",
            Self::CheckpointsStay => "a deleted checkpoint stays",
            Self::UnseededFaults => "faults are drawn from no seed",
            Self::RandomVictim => "a choice depends on the order of a hash map",
        }
    }

    pub(crate) fn of_journal(flaw: Option<Self>) -> JournalFlaws {
        JournalFlaws {
            ignores_grants: flaw == Some(Self::GrantsIgnored),
            ignores_claims: flaw == Some(Self::ClaimsIgnored),
            compares_nothing: flaw == Some(Self::WritersNotCompared),
            forgets: flaw == Some(Self::JournalForgets),
        }
    }

    pub(crate) fn of_tasks(flaw: Option<Self>) -> TaskFlaws {
        TaskFlaws { compares_nothing: flaw == Some(Self::TasksNotCompared) }
    }
}
