//! The vendor's keys in memory: who they belong to and whether they live.
//!
//! Knows neither the ledger nor the clock; `state` calls it after the line is written.
//!
//! **Invariant:** a key's number is its place in order of creation and never changes; a dead key
//! keeps its place, so that it is told from an unknown one and pages can go on behind it.

use std::collections::{HashMap, HashSet};

use tokio::sync::watch;

use crate::secret::{Digest, Secret};

/// Place of a key in order of creation.
pub(crate) type KeyNo = usize;

/// How far a key is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Life {
    /// Authenticates and is listed.
    Live,
    /// Deleted, but still authenticates (fault `slow-revoke`).
    Leaving,
    /// Refused.
    Dead,
}

/// One key.
pub(crate) struct Key {
    pub(crate) id: String,
    pub(crate) project: String,
    pub(crate) account: Option<String>,
    pub(crate) name: String,
    pub(crate) digest: Digest,
    /// Whether it was created together with its account.
    pub(crate) is_first: bool,
    pub(crate) created_us: u64,
    /// Seconds since 1970.
    pub(crate) expires_at: Option<u64>,
    pub(crate) last_used_us: Option<u64>,
    /// Missing from listings before this moment (fault `eventual-list`).
    pub(crate) listed_from_us: u64,
    /// Known only to the process that issued the key; the ledger has the digest.
    pub(crate) secret: Option<Secret>,
    pub(crate) life: Life,
    /// Open requests, and whether each was executed.
    pub(crate) open: HashMap<u64, bool>,
    /// Told to the open requests: true when the key is dead.
    pub(crate) death: watch::Sender<bool>,
}

/// All keys ever made.
#[derive(Default)]
pub(crate) struct Keys {
    all: Vec<Key>,
    by_id: HashMap<String, KeyNo>,
    by_digest: HashMap<Digest, KeyNo>,
    by_project: HashMap<String, Vec<KeyNo>>,
    /// Names of service accounts by project and id.
    accounts: HashMap<(String, String), String>,
    accounts_deleted: HashSet<(String, String)>,
}

impl Keys {
    pub(crate) fn insert(&mut self, key: Key) -> KeyNo {
        let no = self.all.len();
        self.by_id.insert(key.id.clone(), no);
        self.by_digest.insert(key.digest, no);
        self.by_project.entry(key.project.clone()).or_default().push(no);
        if let Some(account) = &key.account {
            let name = (key.project.clone(), account.clone());
            self.accounts.entry(name).or_insert_with(|| account.clone());
        }
        self.all.push(key);
        no
    }

    pub(crate) fn len(&self) -> usize {
        self.all.len()
    }

    pub(crate) fn get(&self, no: KeyNo) -> &Key {
        &self.all[no]
    }

    pub(crate) fn get_mut(&mut self, no: KeyNo) -> &mut Key {
        &mut self.all[no]
    }

    pub(crate) fn by_digest(&self, digest: &Digest) -> Option<KeyNo> {
        self.by_digest.get(digest).copied()
    }

    /// The key with this id, dead ones included.
    pub(crate) fn by_id(&self, id: &str) -> Option<KeyNo> {
        self.by_id.get(id).copied()
    }

    /// The key with this id that its owner may still see.
    pub(crate) fn shown(&self, project: Option<&str>, id: &str) -> Option<KeyNo> {
        let no = self.by_id(id)?;
        let key = self.get(no);
        let is_here = project.is_none_or(|project| key.project == project);
        (is_here && key.life == Life::Live).then_some(no)
    }

    /// Keys of `project` (or of all) in order of creation, dead ones included.
    pub(crate) fn of<'a>(&'a self, project: &'a str) -> impl Iterator<Item = KeyNo> + 'a {
        self.by_project.get(project).into_iter().flatten().copied()
    }

    pub(crate) fn all(&self) -> impl Iterator<Item = &Key> {
        self.all.iter()
    }

    /// Keys of `project` that still authenticate.
    pub(crate) fn alive(&self, project: &str) -> Vec<KeyNo> {
        self.of(project).filter(|&no| self.get(no).life != Life::Dead).collect()
    }

    pub(crate) fn add_account(&mut self, project: &str, account: &str, name: &str) {
        self.accounts.insert((project.to_owned(), account.to_owned()), name.to_owned());
    }

    /// Says that this key came with its account and gave it its name.
    pub(crate) fn set_first(&mut self, no: KeyNo) {
        let key = &mut self.all[no];
        key.is_first = true;
        if let Some(account) = key.account.clone() {
            self.accounts.insert((key.project.clone(), account), key.name.clone());
        }
    }

    /// The name of a key's account, its id when nobody named it.
    pub(crate) fn account_name<'a>(&'a self, key: &'a Key) -> Option<&'a str> {
        let account = key.account.as_deref()?;
        let name = (key.project.clone(), account.to_owned());
        Some(self.accounts.get(&name).map_or(account, String::as_str))
    }

    /// Forgets the account and returns its keys that still authenticate, or nothing when there
    /// is no such account.
    pub(crate) fn delete_account(&mut self, project: &str, account: &str) -> Option<Vec<KeyNo>> {
        let name = (project.to_owned(), account.to_owned());
        self.accounts.remove(&name)?;
        self.accounts_deleted.insert(name);
        let is_its = |no: &KeyNo| self.get(*no).account.as_deref() == Some(account);
        Some(self.alive(project).into_iter().filter(is_its).collect())
    }

    pub(crate) fn account(&self, project: &str, account: &str) -> Account {
        let name = (project.to_owned(), account.to_owned());
        match () {
            () if self.accounts.contains_key(&name) => Account::Known,
            () if self.accounts_deleted.contains(&name) => Account::Deleted,
            () => Account::Unknown,
        }
    }
}

/// What is known of a service account.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Account {
    /// It exists.
    Known,
    /// It was deleted; its id is never used again.
    Deleted,
    /// Nobody named it yet.
    Unknown,
}
