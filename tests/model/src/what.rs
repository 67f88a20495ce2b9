//! What the owner hears, small enough to be compared and remembered.

use keybaton_messages::{
    DeploymentId, Fingerprint, Incarnation, Label, NodeId, PairTag, ProviderKeyId, SecretVersion,
    Timestamp, TriggerId, Version,
};
use keybaton_rotation::{Found, Health, Input, Order, Policy, Reason, Timer, Trigger, Want};

/// A version, small.
pub(crate) type V = u8;

/// The one moment of this world.
pub(crate) const NOW: Timestamp = Timestamp(1_000_000_000_000);

/// A key at the provider.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum KeyRef {
    /// The key that was issued under a version's label.
    Own(V),
    /// Another key under the same label.
    Second(V),
    /// A key of another pair, which somebody there holds all the time.
    Foreign,
}

impl KeyRef {
    pub(crate) fn id(self) -> ProviderKeyId {
        let text = match self {
            Self::Own(v) => format!("key-{v}"),
            Self::Second(v) => format!("second-{v}"),
            Self::Foreign => "foreign".to_owned(),
        };
        ProviderKeyId::new(&text).expect("a key id")
    }

    pub(crate) fn of(id: &ProviderKeyId) -> Self {
        let text = id.as_str();
        let number = |digits: &str| digits.parse().expect("a version");
        match text.split_once('-') {
            Some(("key", v)) => Self::Own(number(v)),
            Some((_, v)) => Self::Second(number(v)),
            None => Self::Foreign,
        }
    }

    fn fp(self) -> Fingerprint {
        let mut fp = [0; 32];
        (fp[0], fp[1]) = match self {
            Self::Own(v) => (1, v),
            Self::Second(v) => (2, v),
            Self::Foreign => (3, 0),
        };
        Fingerprint(fp)
    }

    /// The version under whose label it stands, if it is ours.
    pub(crate) fn label(self) -> Option<V> {
        match self {
            Self::Own(v) | Self::Second(v) => Some(v),
            Self::Foreign => None,
        }
    }
}

/// What a probe finds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Truth {
    /// The provider accepted the key.
    Alive,
    /// The provider refused the key.
    Dead,
    /// No telling.
    Unknown,
}

/// One input of the rules.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum What {
    /// This node begins to own the pair.
    Started(u8),
    /// Somebody asks for a first key.
    Provision,
    /// Somebody asks for a rotation.
    Rotate,
    /// Somebody says that the active key has leaked.
    Emergency,
    /// An operator orders a rollback.
    RollBack,
    /// A timer rings.
    Ring(Timer),
    /// Preflight of this attempt went well; whether a person issues.
    Ready(V, bool),
    /// Preflight of this attempt did not go well.
    Unready(V),
    /// The provider issued a key for this version.
    Issued(V, KeyRef),
    /// The provider refused.
    Refused(V),
    /// The provider's answer was lost.
    Unknown(V),
    /// What the secret store has under a version's label.
    Located(V, Option<KeyRef>),
    /// What a probe of this version found in this attempt.
    Probed(V, V, Truth),
    /// So many grants of this version are left.
    Counted(V, u8),
    /// The key of this version is revoked.
    Revoked(V),
    /// The provider refused to revoke.
    NotRevoked(V),
    /// The provider's answer to a revoke was lost.
    MaybeRevoked(V),
    /// What was found under a version's label, and whether the list was begun after the horizon.
    Swept(V, Option<KeyRef>, bool),
    /// The secret of this version is destroyed.
    Destroyed(V),
    /// The commit says that the key of this version belongs to somebody else.
    Claimed(V),
    /// A person submitted this key for this version.
    Submitted(V, KeyRef),
    /// Tasks say that the key of this version is refused.
    KeyDead(V),
}

pub(crate) fn version(v: V) -> Version {
    Version(u32::from(v))
}

pub(crate) fn small(version: Version) -> V {
    V::try_from(version.0).expect("a small world has few versions")
}

pub(crate) fn node_id(node: u8) -> NodeId {
    NodeId::new(&format!("n{}", node + 1)).expect("a name")
}

pub(crate) fn deployment() -> DeploymentId {
    DeploymentId::from_digest(&[7; 16])
}

pub(crate) fn tag() -> PairTag {
    PairTag::from_digest(&[9; 16])
}

fn label(v: V) -> Label {
    Label::new(&deployment(), &tag(), version(v))
}

fn secret(v: V) -> SecretVersion {
    SecretVersion(u64::from(v))
}

fn found(v: V, key: KeyRef) -> Found {
    Found { key_id: key.id(), secret: secret(v), fp: key.fp(), expires_at: None }
}

fn trigger(id: &str, want: Want) -> Input {
    Input::Triggered(Trigger { id: TriggerId::new(id).expect("an id"), want })
}

impl What {
    /// The same in the words of the rules.
    pub(crate) fn input(self, policy: &Policy) -> Input {
        let why = || "why".to_owned();
        let reason = || Reason::Requested("test".to_owned());
        match self {
            Self::Started(node) => {
                Input::Started { node: node_id(node), incarnation: Incarnation(0) }
            }
            Self::Provision => trigger("provision", Want::Provision),
            Self::Rotate => trigger("rotate", Want::Rotate { target: None, reason: reason() }),
            Self::Emergency => {
                let want = Want::Emergency { compromised: None, deadline: None, reason: reason() };
                trigger("emergency", want)
            }
            Self::RollBack => Input::Ordered(Order::RollBack),
            Self::Ring(timer) => Input::Elapsed(timer),
            Self::Ready(attempt, person) => {
                Input::PreflightOk { attempt: version(attempt), person }
            }
            Self::Unready(attempt) => Input::PreflightRefused {
                attempt: version(attempt),
                after: None,
                page: false,
                why: why(),
            },
            Self::Issued(v, key) => {
                let Found { key_id, secret, fp, expires_at } = found(v, key);
                Input::Issued { version: version(v), key_id, secret, fp, expires_at }
            }
            Self::Submitted(v, key) => {
                let Found { key_id, secret, fp, expires_at } = found(v, key);
                Input::PersonSubmitted { version: version(v), key_id, secret, fp, expires_at }
            }
            Self::Refused(v) => {
                Input::IssueRefused { version: version(v), after: None, admin: false, why: why() }
            }
            Self::Unknown(v) => Input::IssueUnknown { version: version(v), why: why() },
            Self::Located(v, key) => {
                Input::Located { version: version(v), found: key.map(|key| found(v, key)) }
            }
            Self::Swept(v, key, is_late) => Input::Swept {
                label: label(v),
                asked: if is_late { NOW + policy.sweep_horizon } else { NOW },
                found: key.map(KeyRef::id),
            },
            other => other.plain_input(),
        }
    }

    fn plain_input(self) -> Input {
        let why = || "why".to_owned();
        match self {
            Self::Probed(v, attempt, truth) => Input::Probed {
                version: version(v),
                attempt: version(attempt),
                health: match truth {
                    Truth::Alive => Health::Alive,
                    Truth::Dead => Health::Dead,
                    Truth::Unknown => Health::Unknown,
                },
            },
            Self::Counted(v, left) => {
                Input::GrantReturned { version: version(v), left: u32::from(left) }
            }
            Self::Revoked(v) => Input::Revoked { version: version(v) },
            Self::NotRevoked(v) => {
                Input::RevokeRefused { version: version(v), after: None, why: why() }
            }
            Self::MaybeRevoked(v) => Input::RevokeUnknown { version: version(v), why: why() },
            Self::Destroyed(v) => Input::Destroyed { version: version(v) },
            Self::Claimed(v) => Input::KeyClaimed { version: version(v) },
            Self::KeyDead(v) => Input::KeyDead { version: version(v), reports: 3 },
            other => unreachable!("{other:?} has its own arm"),
        }
    }
}
