//! The embedded secret store beside a map.

use std::collections::BTreeMap;
use std::time::Duration;

use keybaton_messages::{Epoch, Label, PairId, Rev, SecretVersion, Version};
use keybaton_ports::{Denial, Generation, Refusal, SecretMeta, StoredSecret, Witness};
use keybaton_tests::conformance::records::{label, pair};
use keybaton_tests::conformance::secrets::{meta, secret};
use proptest::prelude::{BoxedStrategy, Strategy, any, prop_oneof};

use crate::drive::{Doubt, Port, prove};
use crate::store::{FORGETS, Store};

#[test]
fn reference_secrets() {
    prove::<Secrets>(Duration::from_secs(12));
}

/// The port's name here.
#[derive(Clone, Debug)]
pub struct Secrets;

/// A secret that no key looks like, so that it may be printed.
type Text = String;

#[derive(Clone, Debug, Default)]
struct Path {
    /// The highest number ever given.
    last: u64,
    stored: BTreeMap<SecretVersion, (SecretMeta, Text)>,
    witness: Option<Witness>,
}

/// The model.
#[derive(Clone, Debug, Default)]
pub struct Model(BTreeMap<PairId, Path>);

/// An operation, with its arguments.
#[derive(Clone, Debug)]
pub enum Call {
    Put { pair: u8, label: Option<u8>, key: u8, text: u8 },
    Read { pair: u8, version: u64 },
    Find { pair: u8, label: u8 },
    Destroy { pair: u8, version: u64 },
    Witness { pair: u8, rev: u64 },
}

/// What it answers, errors in one word.
#[derive(Clone, Debug, PartialEq)]
pub enum Answer {
    Number(SecretVersion),
    Stored(SecretMeta, Text),
    Found(Option<(SecretVersion, SecretMeta, Text)>),
    Done,
    NotFound,
    Unknown,
    Busy,
    Other(String),
}

/// Everything that can be read of each pair.
#[derive(Clone, Debug, PartialEq)]
pub struct View {
    listed: Vec<(SecretVersion, SecretMeta)>,
    read: Vec<Answer>,
    found: Vec<Answer>,
    witness: Option<Witness>,
}

fn pair_of(n: u8) -> PairId {
    pair(["acme", "umbrella"][usize::from(n % 2)])
}

fn label_of(n: u8) -> Label {
    label(u32::from(n) + 1)
}

fn text_of(n: u8) -> Text {
    format!("a secret that is number {n}")
}

const LABELS: u8 = 4;

/// Versions that are read: all that a sequence can make, and one that was never there.
const VERSIONS: u64 = 12;

fn refused(refusal: &Refusal) -> Answer {
    match refusal {
        Refusal::Denied { denial: Denial::NotFound, .. } => Answer::NotFound,
        Refusal::Unknown { .. } => Answer::Unknown,
        Refusal::Busy { .. } => Answer::Busy,
        other => Answer::Other(other.to_string()),
    }
}

fn told(stored: &StoredSecret) -> (SecretMeta, Text) {
    let text = String::from_utf8_lossy(stored.secret.expose()).into_owned();
    (stored.meta.clone(), text)
}

impl Path {
    fn put(&mut self, meta: SecretMeta, text: Text) -> SecretVersion {
        let is_this = |(there, known): &(SecretMeta, Text)| match &meta.label {
            Some(label) => there.label.as_ref() == Some(label),
            None => there.label.is_none() && there.key_id == meta.key_id && *known == text,
        };
        let there = self.stored.iter().find(|(_, stored)| is_this(stored));
        if let Some((version, _)) = there {
            return *version;
        }
        self.last += 1;
        let version = SecretVersion(self.last);
        self.stored.insert(version, (meta, text));
        version
    }

    fn read(&self, version: SecretVersion) -> Answer {
        self.stored
            .get(&version)
            .map_or(Answer::NotFound, |(meta, text)| Answer::Stored(meta.clone(), text.clone()))
    }

    fn find(&self, label: &Label) -> Answer {
        let mut stored = self.stored.iter();
        let found = stored.find(|(_, (meta, _))| meta.label.as_ref() == Some(label));
        Answer::Found(found.map(|(version, (meta, text))| (*version, meta.clone(), text.clone())))
    }
}

const ANOTHER_VERSION: &str = "reads another version's secret";
const DESTROYS_NOTHING: &str = "destroys the label and leaves the bytes";
const REUSES: &str = "gives a number twice";
const OLDER_WITNESS: &str = "lets an older witness replace a newer one";

impl Port for Secrets {
    type Op = Call;
    type Call = Call;
    type Answer = Answer;
    type View = Vec<View>;
    type Model = Model;
    /// What the wrong stores keep on the side.
    type Memory = Side;

    const CLAIM: &'static str = "reference-secrets";
    const STATEMENT: &'static str = "the embedded secret store answers and keeps what a map in \
        memory does, in any order of operations, restarts and power cuts";
    const MUTANTS: &'static [&'static str] =
        &[FORGETS, ANOTHER_VERSION, DESTROYS_NOTHING, REUSES, OLDER_WITNESS];

    fn ops() -> BoxedStrategy<Call> {
        let p = || 0u8..2;
        let put = (p(), 0..=LABELS, 0u8..3, 0u8..4);
        prop_oneof![
            6 => put.prop_map(|(pair, label, key, text)| {
                // The key follows from the label, as it does at a provider.
                let (label, key) = match label {
                    LABELS => (None, key),
                    label => (Some(label), 10 + label),
                };
                Call::Put { pair, label, key, text }
            }),
            2 => (p(), 0u64..8).prop_map(|(pair, version)| Call::Read { pair, version }),
            2 => (p(), 0..LABELS).prop_map(|(pair, label)| Call::Find { pair, label }),
            3 => (p(), 0u64..8).prop_map(|(pair, version)| Call::Destroy { pair, version }),
            2 => (p(), any::<u64>()).prop_map(|(pair, rev)| {
                Call::Witness { pair, rev: rev % 20 }
            }),
        ]
        .boxed()
    }

    fn call(_: &Model, op: &Call, _: u64) -> Call {
        op.clone()
    }

    fn expect(model: &mut Model, call: &Call) -> Answer {
        let (Call::Put { pair, .. }
        | Call::Read { pair, .. }
        | Call::Find { pair, .. }
        | Call::Destroy { pair, .. }
        | Call::Witness { pair, .. }) = call;
        let path = model.0.entry(pair_of(*pair)).or_default();
        match call {
            Call::Put { text, .. } => Answer::Number(path.put(meta_of(call), text_of(*text))),
            Call::Read { version, .. } => path.read(SecretVersion(*version)),
            Call::Find { label, .. } => path.find(&label_of(*label)),
            Call::Destroy { version, .. } => {
                path.stored.remove(&SecretVersion(*version));
                Answer::Done
            }
            Call::Witness { rev, .. } => {
                let new = witness(*rev);
                if path.witness.is_none_or(|old| old.rev < new.rev) {
                    path.witness = Some(new);
                }
                Answer::Done
            }
        }
    }

    fn view(model: &Model) -> Vec<View> {
        let none = Path::default();
        let of = |n| {
            let path = model.0.get(&pair_of(n)).unwrap_or(&none);
            let listed = path.stored.iter().map(|(version, (meta, _))| (*version, meta.clone()));
            View {
                listed: listed.collect(),
                read: (0..VERSIONS).map(|version| path.read(SecretVersion(version))).collect(),
                found: (0..LABELS).map(|n| path.find(&label_of(n))).collect(),
                witness: path.witness,
            }
        };
        (0..2).map(of).collect()
    }

    fn doubt(answer: &Answer) -> Option<Doubt> {
        match answer {
            Answer::Unknown => Some(Doubt::Unknown),
            Answer::Busy => Some(Doubt::Unavailable),
            _ => None,
        }
    }

    async fn ask(store: &Store, side: &mut Side, call: &Call) -> Answer {
        if let Call::Destroy { pair, version } = call
            && store.is(DESTROYS_NOTHING)
            && let Ok(stored) =
                store.embedded.secrets.read(&pair_of(*pair), SecretVersion(*version)).await
        {
            side.undead.insert((*pair, *version), told(&stored));
        }
        let answer = ask(store, call).await;
        side.twist(store, call, answer)
    }

    async fn look(store: &Store, _: &Model, side: &Side) -> Vec<View> {
        let mut views = Vec::new();
        for n in 0..2 {
            let (mut read, mut found) = (Vec::new(), Vec::new());
            for version in 0..VERSIONS {
                let call = Call::Read { pair: n, version };
                read.push(side.read(store, n, version, ask(store, &call).await));
            }
            for label in 0..LABELS {
                found.push(ask(store, &Call::Find { pair: n, label }).await);
            }
            let secrets = &store.embedded.secrets;
            let witness = secrets.witness(&pair_of(n)).await.expect("the store can be read");
            views.push(View {
                listed: secrets.list(&pair_of(n)).await.expect("the store can be read"),
                read,
                found,
                witness: side.witnesses.get(&n).copied().or(witness),
            });
        }
        views
    }
}

fn meta_of(call: &Call) -> SecretMeta {
    let Call::Put { pair, label, key, .. } = call else {
        unreachable!("only puts carry a secret");
    };
    meta(&pair_of(*pair), label.map(label_of), &format!("key_{key}"))
}

fn witness(rev: u64) -> Witness {
    let (rev, epoch, active) = (Rev(rev), Epoch(rev / 7), Some(Version(1)));
    Witness { rev, epoch, active, journal: Generation::parse("abcdefg2") }
}

async fn ask(store: &Store, call: &Call) -> Answer {
    let secrets = &store.embedded.secrets;
    let answer = match call {
        Call::Put { text, .. } => {
            let (meta, secret) = (meta_of(call), secret(&text_of(*text)));
            secrets.put(&meta, &secret).await.map(Answer::Number)
        }
        Call::Read { pair, version } => {
            let mut read = secrets.read(&pair_of(*pair), SecretVersion(*version)).await;
            if store.is(ANOTHER_VERSION)
                && *version > 1
                && let Ok(other) = secrets.read(&pair_of(*pair), SecretVersion(version - 1)).await
                && let Ok(stored) = &mut read
            {
                stored.secret = other.secret;
            }
            read.map(|stored| {
                let (meta, text) = told(&stored);
                Answer::Stored(meta, text)
            })
        }
        Call::Find { pair, label } => {
            let found = secrets.find(&pair_of(*pair), &label_of(*label)).await;
            found.map(|found| {
                Answer::Found(found.map(|(version, stored)| {
                    let (meta, text) = told(&stored);
                    (version, meta, text)
                }))
            })
        }
        Call::Destroy { pair, version } => {
            let done = secrets.destroy(&pair_of(*pair), SecretVersion(*version)).await;
            done.map(|()| Answer::Done)
        }
        Call::Witness { pair, rev } => {
            let done = secrets.put_witness(&pair_of(*pair), witness(*rev)).await;
            done.map(|()| Answer::Done)
        }
    };
    answer.unwrap_or_else(|refusal| refused(&refusal))
}

/// What the wrong stores keep on the side to be wrong with.
#[derive(Default)]
pub struct Side {
    undead: BTreeMap<(u8, u64), (SecretMeta, Text)>,
    witnesses: BTreeMap<u8, Witness>,
    freed: BTreeMap<u8, SecretVersion>,
}

impl Side {
    fn twist(&mut self, store: &Store, call: &Call, answer: Answer) -> Answer {
        match call {
            Call::Witness { pair, rev } if store.is(OLDER_WITNESS) => {
                self.witnesses.insert(*pair, witness(*rev));
                answer
            }
            Call::Destroy { pair, version } if store.is(REUSES) => {
                self.freed.insert(*pair, SecretVersion(*version));
                answer
            }
            Call::Put { pair, .. } if store.is(REUSES) => {
                self.freed.remove(pair).filter(|it| it.0 > 0).map_or(answer, Answer::Number)
            }
            Call::Read { pair, version } => self.read(store, *pair, *version, answer),
            _ => answer,
        }
    }

    fn read(&self, store: &Store, pair: u8, version: u64, answer: Answer) -> Answer {
        let undead = self.undead.get(&(pair, version));
        match undead.filter(|_| store.is(DESTROYS_NOTHING) && answer == Answer::NotFound) {
            Some((meta, text)) => Answer::Stored(meta.clone(), text.clone()),
            None => answer,
        }
    }
}
