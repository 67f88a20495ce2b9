//! One indivisible step in Redis: what must stand there, and what is then changed. Several of them are
//! carried out in one run of the script, each by itself.
//!
//! **Invariant:** no stored value is empty: to the script an empty one means "not there".
//! **Invariant:** a field is set, or it goes; of one that a change names twice, it goes.

use std::collections::HashMap;

use foldhash::fast::RandomState;
use redis::{Cmd, cmd};

use super::names;
use crate::limits::REDIS_RUN_BYTES_MAX;

/// The one script: of each change, checks, then changes.
const SCRIPT: &str = include_str!("write.lua");

/// How a change refers to the script.
#[derive(Clone, Copy)]
pub(super) enum Named<'a> {
    /// By its hash; a server that does not know it changes nothing and says so.
    Hash(&'a str),
    /// In full, which makes it known.
    Text,
}

/// The question that makes the script known; the answer is its hash.
pub(super) fn load_script() -> Cmd {
    cmd("SCRIPT").arg("LOAD").arg(SCRIPT).clone()
}

type Pair = (Vec<u8>, Vec<u8>);

/// What is looked at and changed of one hash.
#[derive(Default)]
struct Hash {
    key: String,
    checks: Vec<Pair>,
    sets: Vec<Pair>,
    gone: Vec<Vec<u8>>,
    goes: bool,
}

/// A change of any number of hashes.
#[derive(Default)]
pub(super) struct Change {
    places: HashMap<String, usize, RandomState>,
    hashes: Vec<Hash>,
}

impl Change {
    /// The field must have this value; nothing: it must not be there.
    pub(super) fn check(
        &mut self,
        key: &str,
        field: impl Into<Vec<u8>>,
        value: impl Into<Vec<u8>>,
    ) {
        self.hash(key).checks.push((field.into(), value.into()));
    }

    /// The field must not be there.
    pub(super) fn check_absent(&mut self, key: &str, field: impl Into<Vec<u8>>) {
        self.check(key, field, "");
    }

    pub(super) fn set(&mut self, key: &str, field: impl Into<Vec<u8>>, value: impl Into<Vec<u8>>) {
        let value = value.into();
        debug_assert!(!value.is_empty(), "an empty value is none");
        self.hash(key).sets.push((field.into(), value));
    }

    pub(super) fn remove(&mut self, key: &str, field: impl Into<Vec<u8>>) {
        self.hash(key).gone.push(field.into());
    }

    /// The whole hash goes.
    pub(super) fn drop_hash(&mut self, key: &str) {
        self.hash(key).goes = true;
    }

    /// Whether it would change nothing.
    pub(super) fn is_empty(&self) -> bool {
        let is_kept = |hash: &Hash| hash.sets.is_empty() && hash.gone.is_empty() && !hash.goes;
        self.hashes.iter().all(is_kept)
    }

    fn hash(&mut self, key: &str) -> &mut Hash {
        let place = match self.places.get(key) {
            Some(place) => *place,
            None => {
                self.hashes.push(Hash { key: key.to_owned(), ..Hash::default() });
                self.places.insert(key.to_owned(), self.hashes.len() - 1);
                self.hashes.len() - 1
            }
        };
        &mut self.hashes[place]
    }

    /// How many values it adds to a command, and about how many bytes.
    fn size(&self) -> (usize, usize) {
        const BESIDE: usize = 8;
        let pair = |(field, value): &Pair| field.len() + value.len();
        self.hashes.iter().fold((BESIDE, names::STORE.len() * BESIDE), |(values, bytes), hash| {
            let Hash { key, checks, sets, gone, .. } = hash;
            let pairs: usize = checks.iter().chain(sets).map(pair).sum();
            let gone_bytes: usize = gone.iter().map(Vec::len).sum();
            (
                values + BESIDE + 2 * (checks.len() + sets.len()) + gone.len(),
                bytes + key.len() + BESIDE + pairs + gone_bytes,
            )
        })
    }

    /// What the script is told of it, behind the keys.
    fn tell(&self, question: &mut Cmd) {
        question.arg(self.hashes.len());
        for Hash { checks, sets, gone, goes, .. } in &self.hashes {
            question.arg(checks.len()).arg(sets.len()).arg(gone.len()).arg(u8::from(*goes));
            for (field, _) in checks {
                question.arg(field.as_slice());
            }
            for (_, value) in checks {
                question.arg(value.as_slice());
            }
            for (field, value) in sets {
                question.arg(field.as_slice()).arg(value.as_slice());
            }
            for field in gone {
                question.arg(field.as_slice());
            }
        }
    }
}

/// The changes, in their order, parted by runs of the script: in each as many as may be.
pub(super) fn runs<'a>(changes: &'a [&'a Change]) -> impl Iterator<Item = &'a [&'a Change]> {
    let mut bytes = 0;
    changes.chunk_by(move |change, next| {
        bytes += change.size().1;
        let has_room = bytes + next.size().1 <= REDIS_RUN_BYTES_MAX;
        if !has_room {
            bytes = 0;
        }
        has_room
    })
}

/// The command that carries them out. `store_id` is empty for a store that is yet to be founded.
pub(super) fn command(changes: &[&Change], named: Named<'_>, store_id: &str, seen: u64) -> Cmd {
    let (name, script) = match named {
        Named::Hash(hash) => ("EVALSHA", hash),
        Named::Text => ("EVAL", SCRIPT),
    };
    let (values, bytes) = changes.iter().fold((0, script.len()), |(values, bytes), change| {
        let (more_values, more_bytes) = change.size();
        (values + more_values, bytes + more_bytes)
    });
    let mut question = Cmd::with_capacity(values, bytes);
    let keys: usize = changes.iter().map(|change| change.hashes.len()).sum();
    question.arg(name).arg(script).arg(keys + 1).arg(names::STORE);
    for hash in changes.iter().flat_map(|change| &change.hashes) {
        question.arg(hash.key.as_str());
    }
    question.arg(store_id).arg(seen);
    for change in changes {
        change.tell(&mut question);
    }
    question
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of_bytes(bytes: usize) -> Change {
        let mut change = Change::default();
        change.set("key", "field", vec![b'-'; bytes]);
        change
    }

    #[test]
    fn what_is_large_is_carried_out_with_few_or_alone_and_nothing_overtakes() {
        const FIFTH: usize = REDIS_RUN_BYTES_MAX / 5;
        let bytes = [1, 2, 3, 2 * FIFTH, 3 * FIFTH, 6 * FIFTH, 1, 2 * FIFTH, 2 * FIFTH, 2 * FIFTH];
        let changes = bytes.map(of_bytes);
        let changes: Vec<_> = changes.iter().collect();
        let lengths: Vec<_> = runs(&changes).map(<[_]>::len).collect();
        assert_eq!(lengths, [4, 1, 1, 3, 1]);
        assert!(
            runs(&changes).flatten().zip(&changes).all(|(one, other)| std::ptr::eq(*one, *other))
        );
        assert_eq!(runs(&[]).count(), 0);
    }
}
