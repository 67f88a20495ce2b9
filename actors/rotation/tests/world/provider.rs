//! The world's provider and secret store. Both tell the truth, late or not at all.

use std::collections::BTreeMap;

use keybaton_messages::{Fingerprint, Label, ProviderKeyId, SecretVersion, Version};
use keybaton_rotation::{Class, Found};

/// One key, from birth to death.
#[derive(Clone, Debug)]
pub struct Key {
    pub label: Option<Label>,
    pub fp: Fingerprint,
    pub alive: bool,
    /// Issued, but never accepted.
    pub bad: bool,
    pub born: u64,
    pub died: Option<u64>,
}

/// A key that died by what we asked for.
#[derive(Clone, Debug)]
pub struct Kill {
    pub key_id: ProviderKeyId,
    pub by: &'static str,
}

pub struct Provider {
    pub class: Class,
    pub keys: BTreeMap<ProviderKeyId, Key>,
    next: u32,
}

impl Provider {
    pub fn new(class: Class) -> Self {
        Self { class, keys: BTreeMap::new(), next: 0 }
    }

    fn fresh(&mut self) -> (ProviderKeyId, Fingerprint) {
        self.next += 1;
        let key_id = ProviderKeyId::new(&format!("key-{}", self.next)).expect("a key id");
        let mut fp = [0; 32];
        fp[..4].copy_from_slice(&self.next.to_be_bytes());
        (key_id, Fingerprint(fp))
    }

    /// A key that exists without us: of another pair, or to be imported.
    pub fn plant(&mut self, now: u64) -> (ProviderKeyId, Fingerprint) {
        let (key_id, fp) = self.fresh();
        self.add(key_id.clone(), None, fp, false, now);
        (key_id, fp)
    }

    fn add(
        &mut self,
        key_id: ProviderKeyId,
        label: Option<Label>,
        fp: Fingerprint,
        bad: bool,
        born: u64,
    ) {
        let key = Key { label, fp, alive: true, bad, born, died: None };
        self.keys.insert(key_id, key);
    }

    /// Issues a key; class B voids every other key with a label or an owner among ours.
    pub fn issue(
        &mut self,
        label: &Label,
        bad: bool,
        ours: &[ProviderKeyId],
        now: u64,
    ) -> (ProviderKeyId, Fingerprint, Vec<Kill>) {
        let mut kills = Vec::new();
        if self.class == Class::B {
            for (key_id, key) in &mut self.keys {
                let is_ours = key.label.is_some() || ours.contains(key_id);
                if is_ours && key.alive {
                    key.alive = false;
                    key.died = Some(now);
                    let by = "issue";
                    kills.push(Kill { key_id: key_id.clone(), by });
                }
            }
        }
        let (key_id, fp) = self.fresh();
        self.add(key_id.clone(), Some(label.clone()), fp, bad, now);
        (key_id, fp, kills)
    }

    /// Revokes by id; a key that is gone stays gone.
    pub fn revoke(&mut self, key_id: &ProviderKeyId, now: u64) -> Option<Kill> {
        let key = self.keys.get_mut(key_id).filter(|key| key.alive)?;
        key.alive = false;
        key.died = Some(now);
        Some(Kill { key_id: key_id.clone(), by: "revoke" })
    }

    /// One key under a label, by a list that lags up to `lag` behind births and deaths.
    pub fn find(&self, label: &Label, now: u64, lag: u64) -> Option<ProviderKeyId> {
        self.keys
            .iter()
            .filter(|(_, key)| key.label.as_ref() == Some(label) && key.born + lag <= now)
            .find(|(_, key)| key.alive || key.died.is_some_and(|died| died + lag > now))
            .map(|(key_id, _)| key_id.clone())
    }

    pub fn works(&self, key_id: &ProviderKeyId) -> bool {
        self.keys.get(key_id).is_some_and(|key| key.alive && !key.bad)
    }
}

/// What lies in the secret store.
#[derive(Default)]
pub struct Secrets {
    pub rows: BTreeMap<SecretVersion, (Option<Label>, Found)>,
    next: u64,
}

impl Secrets {
    pub fn put(&mut self, label: Option<Label>, key_id: ProviderKeyId, fp: Fingerprint) -> Found {
        self.next += 1;
        let secret = SecretVersion(self.next);
        let found = Found { key_id, secret, fp, expires_at: None };
        self.rows.insert(secret, (label, found.clone()));
        found
    }

    pub fn find(&self, label: &Label) -> Option<Found> {
        self.rows.values().find(|(l, _)| l.as_ref() == Some(label)).map(|(_, found)| found.clone())
    }

    pub fn destroy(&mut self, secret: Option<SecretVersion>, label: Option<&Label>) {
        self.rows.retain(|version, (l, _)| {
            Some(*version) != secret && (l.is_none() || l.as_ref() != label)
        });
    }
}

/// How one issue request goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Plan {
    Answered,
    Refused {
        admin: bool,
    },
    /// Executed, the answer is lost.
    AckLost,
    /// Never executed.
    Dropped,
    /// Executed long after it was given up.
    Late,
    /// A key that the provider never accepts.
    Bad,
    /// A key that somebody else has.
    Foreign,
    /// Executed and answered; the secret is not stored.
    NotStored,
    /// Executed and answered; the secret is stored, and nobody hears of it.
    StoredUnheard,
}

/// One issue job.
#[derive(Clone, Debug)]
pub struct IssueJob {
    pub version: Version,
    pub label: Label,
    pub plan: Plan,
    /// The process that runs it; a dead process's jobs are dead, its request may be on its way.
    pub process: u64,
    pub ended: bool,
}
