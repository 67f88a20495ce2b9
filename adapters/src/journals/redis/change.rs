//! One indivisible step in Redis: what must stand there, and what is then changed.
//!
//! **Invariant:** no stored value is empty: to the script an empty one means "not there".

use std::collections::HashMap;

use redis::{Cmd, cmd};

use super::names;

/// The one script: checks, then changes.
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

struct Triple {
    /// Place in the keys, from 1.
    key: usize,
    field: Vec<u8>,
    value: Vec<u8>,
}

/// A change of any number of hashes.
#[derive(Default)]
pub(super) struct Change {
    keys: Vec<String>,
    places: HashMap<String, usize>,
    checks: Vec<Triple>,
    writes: Vec<Triple>,
}

impl Change {
    /// The field must have this value; nothing: it must not be there.
    pub(super) fn check(
        &mut self,
        key: &str,
        field: impl Into<Vec<u8>>,
        value: impl Into<Vec<u8>>,
    ) {
        let check = self.triple(key, field.into(), value.into());
        self.checks.push(check);
    }

    /// The field must not be there.
    pub(super) fn check_absent(&mut self, key: &str, field: impl Into<Vec<u8>>) {
        self.check(key, field, "");
    }

    pub(super) fn set(&mut self, key: &str, field: impl Into<Vec<u8>>, value: impl Into<Vec<u8>>) {
        let value = value.into();
        debug_assert!(!value.is_empty(), "an empty value deletes");
        let write = self.triple(key, field.into(), value);
        self.writes.push(write);
    }

    pub(super) fn remove(&mut self, key: &str, field: impl Into<Vec<u8>>) {
        let write = self.triple(key, field.into(), Vec::new());
        self.writes.push(write);
    }

    /// The whole hash goes.
    pub(super) fn drop_hash(&mut self, key: &str) {
        self.remove(key, "");
    }

    /// Whether it would change nothing.
    pub(super) fn is_empty(&self) -> bool {
        self.writes.is_empty()
    }

    fn triple(&mut self, key: &str, field: Vec<u8>, value: Vec<u8>) -> Triple {
        let keys = &mut self.keys;
        let place = *self.places.entry(key.to_owned()).or_insert_with(|| {
            keys.push(key.to_owned());
            // The store's own hash is the first key.
            keys.len() + 1
        });
        Triple { key: place, field, value }
    }

    /// The command. `store_id` is empty for a store that is yet to be founded.
    pub(super) fn command(&self, named: Named<'_>, store_id: &str, seen: u64) -> Cmd {
        let mut question = match named {
            Named::Hash(hash) => cmd("EVALSHA").arg(hash).clone(),
            Named::Text => cmd("EVAL").arg(SCRIPT).clone(),
        };
        question.arg(self.keys.len() + 1).arg(names::STORE).arg(&self.keys);
        question.arg(store_id).arg(seen).arg(self.checks.len());
        for Triple { key, field, value } in self.checks.iter().chain(&self.writes) {
            question.arg(key).arg(field.as_slice()).arg(value.as_slice());
        }
        question
    }
}
