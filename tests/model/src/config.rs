//! Which world is looked at, what may go wrong in it, and what is made wrong on purpose.

use keybaton_rotation::Class;

/// What may go wrong. Each time costs one fault of the world's budget.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Fault {
    /// A process is killed, between any two lines; requests on the wire may still execute.
    Crash,
    /// The pair's actor dies alone, between any two lines; the jobs of its process go on.
    ActorDies,
    /// The store does not say whether a commit was written, and the owner dies before it can ask
    /// again; the commit may land later.
    CommitFloats,
    /// An issue call is given up; it may execute later or never.
    Abandon,
    /// The provider refuses to issue.
    Refuse,
    /// The provider gives a key that it never accepts.
    BadKey,
    /// The provider or a person gives a key that another pair has, or a list shows one.
    ForeignKey,
    /// A probe does not say, or says that a good new key is dead.
    ProbeErrs,
    /// A revoke call fails, or is given up and may execute later.
    RevokeErrs,
    /// An attempt cannot begin now.
    Unready,
    /// An answer is delivered twice, or its question executed twice.
    Doubled,
    /// A node loses the store while it still reaches the provider.
    Cut,
    /// The provider ends the active key by itself.
    VendorKills,
    /// Acknowledged writes are forgotten. Only mutants do that.
    WriteLost,
}

/// The one thing that is made wrong.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Mutant {
    /// Nothing: production as it is.
    #[default]
    None,
    /// The provider is asked before the intent is written.
    NoIntent,
    /// A broker returns its grant when it is empty, without having closed.
    EmptyWithoutClose,
    /// The commit does not look at grants; what a count says is believed.
    NoGrantsIgnored,
    /// The commit does not look at key claims.
    KeyUnclaimedOff,
    /// The commit looks at guards before it looks at epoch and revision.
    GuardsBeforeRevision,
    /// The commit looks at neither epoch nor revision.
    NoFencing,
    /// A fenced node's grants are taken without waiting for the end of its lease.
    ReapWithoutWaiting,
    /// A reap takes whatever grants the node has, in whatever life.
    ReapUntied,
    /// Class B issues again without waiting out the abandoned call.
    NoSettle,
    /// The store forgets its last acknowledged record.
    RecordLost,
    /// The store forgets a grant row.
    GrantLost,
    /// A new key is promoted without having been tried.
    PromoteUnverified,
    /// First the new version becomes ACTIVE, the old one DRAINING in another write.
    PromoteInTwoWrites,
    /// An order to roll back is obeyed while the old key is being revoked.
    RollBackAfterRevokePending,
    /// A label is sent again when its answer was lost.
    SameLabelAgain,
    /// Nobody looks for burned labels.
    NoSweeper,
    /// A forced revoke is not written down as one.
    ForcedInSilence,
}

/// What we promise. Numbers as everywhere: S1 to S9, R8, R9, L.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Promise {
    /// No key dies by our action while a live, unfenced holder has it, unless by force on record.
    HeldKeysLive,
    /// At most one version is ACTIVE, the record points to it, and the gate is open only then.
    OneActive,
    /// No node hands out a version beyond DRAINING, nor a DRAINING one without its grant row.
    OnlyGranted,
    /// Every live key of ours is named in the record by a version that still has a fate.
    NoKeyForgotten,
    /// Revision, epoch and status never go back; a start raises the epoch by one.
    Monotone,
    /// Only the present owner writes, and a deposed one is told that and nothing else.
    OneWriter,
    /// A key was accepted by the provider before it is handed out.
    VerifiedFirst,
    /// No revoke is sent for a key that somebody else claims.
    OnlyOursRevoked,
    /// The secret of a version that may be used is not destroyed.
    SecretsKept,
    /// The rules never meet an input that they call impossible.
    NothingImpossible,
    /// From every state a fair continuation without faults finishes.
    Finishes,
}

impl Promise {
    /// All of them.
    pub const ALL: [Self; 11] = [
        Self::HeldKeysLive,
        Self::OneActive,
        Self::OnlyGranted,
        Self::NoKeyForgotten,
        Self::Monotone,
        Self::OneWriter,
        Self::VerifiedFirst,
        Self::OnlyOursRevoked,
        Self::SecretsKept,
        Self::NothingImpossible,
        Self::Finishes,
    ];

    /// Its number and its sentence.
    #[must_use]
    pub fn words(self) -> &'static str {
        match self {
            Self::HeldKeysLive => "S1: a key that a live holder has is not killed by us",
            Self::OneActive => "S2: at most one version is ACTIVE",
            Self::OnlyGranted => "S3: a node hands out only what it was granted and is not ending",
            Self::NoKeyForgotten => "S4: every live key of ours is named in the record",
            Self::Monotone => "S8: revision, epoch and status never go back",
            Self::OneWriter => "S9: only the present owner writes",
            Self::VerifiedFirst => "R8: a key is tried before it is handed out",
            Self::OnlyOursRevoked => "R9: no revoke is sent for a key that somebody else claims",
            Self::SecretsKept => "the secret of a version that may be used is not destroyed",
            Self::NothingImpossible => "the rules never meet an input that cannot be",
            Self::Finishes => "L1-L3: a fair continuation without faults finishes",
        }
    }
}

/// One world.
#[derive(Clone, Copy, Debug)]
pub struct Config {
    /// How its provider behaves.
    pub class: Class,
    /// One node or two.
    pub nodes: u8,
    /// Faults in total.
    pub faults: u8,
    /// Which ones may happen.
    pub kinds: &'static [Fault],
    /// How often somebody asks for a rotation.
    pub triggers: u8,
    /// How often somebody says that the active key has leaked.
    pub emergencies: u8,
    /// How often an operator orders a rollback.
    pub orders: u8,
    /// A person creates the keys.
    pub person: bool,
    /// Steps that other worlds look into are one here: a grant and its answer, an issue and its
    /// secret; no drain lasts long, and nobody lists keys too early. Leaves room for more nodes and
    /// more faults.
    pub is_coarse: bool,
    /// What is made wrong.
    pub mutant: Mutant,
    /// What is judged; a mutant is judged by the harm it does, not by the rule that it breaks.
    pub judged: &'static [Promise],
}

impl Config {
    /// A quiet world of one node and one rotation.
    #[must_use]
    pub fn new(class: Class) -> Self {
        Self {
            class,
            nodes: 1,
            faults: 0,
            kinds: &[],
            triggers: 1,
            emergencies: 0,
            orders: 0,
            person: false,
            is_coarse: false,
            mutant: Mutant::None,
            judged: &Promise::ALL,
        }
    }
}
