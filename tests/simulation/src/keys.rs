//! What becomes of keys, looked at whenever a vendor's books change: S1, S4, R9.

use keybaton_messages::{PairId, ProviderKeyId, ProviderName, Version, VersionStatus};

use crate::world::World;

/// How our labels begin.
const OURS: &str = "kb1-";

impl World {
    /// The books of a vendor changed; `is_ours`: by what we asked for.
    pub(crate) fn vendor_changed(&self, provider: &ProviderName, is_ours: bool) {
        let vendor = self.vendors.get(provider).expect("a vendor of the world");
        for key in vendor.books.keys() {
            let pair = PairId::new(key.tenant.clone(), provider.clone());
            let name = (provider.clone(), key.id.clone());
            let mut seen = self.seen.lock();
            let was_alive = seen.alive.contains(&name);
            if key.is_alive && !was_alive {
                seen.alive.insert(name);
                drop(seen);
                self.note(|| format!("  born: {} as {}", key.id, key.name));
            } else if was_alive && !key.is_alive {
                seen.alive.remove(&name);
                if is_ours {
                    seen.killed.insert(name);
                }
                drop(seen);
                self.note(|| format!("  dead: {} of {}, by us: {is_ours}", key.id, key.name));
                if is_ours {
                    self.check_death(&pair, &key.id);
                }
            }
        }
        for pair in self.pairs.iter().filter(|pair| pair.provider == *provider) {
            self.check_named(pair);
        }
    }

    /// S1: a key that we killed is held by nobody, and is not the one that is handed out.
    fn check_death(&self, pair: &PairId, key: &ProviderKeyId) {
        let Some(record) = self.record(pair) else { return };
        let mut versions = record.versions.iter();
        let found = versions.find(|(_, entry)| entry.key_id.as_ref() == Some(key));
        let Some((version, entry)) = found else { return };
        if self.is_forced(pair, *version) {
            return;
        }
        let node = self.node().filter(|_| !self.is_crashed());
        let cell = node.map(|node| node.broker.cell(pair));
        let is_held = cell.is_some_and(|it| it.is_open(*version) || it.holder_count(*version) > 0);
        if is_held || entry.status == VersionStatus::Active {
            let status = entry.status;
            self.violate("S1", format!("we killed {pair} {version} ({status}), held: {is_held}"));
        }
    }

    /// S1 from the other side: a call is made under a key that we killed.
    pub(crate) fn check_call(&self, pair: &PairId, version: Version, key: &ProviderKeyId) {
        let name = (pair.provider.clone(), key.clone());
        let is_ours = self.seen.lock().killed.contains(&name);
        if is_ours && !self.is_forced(pair, version) {
            self.violate("S1", format!("a call of {pair} {version} met a key that we killed"));
        }
    }

    /// S4: every live key of ours is named by a version that still has a fate.
    pub(crate) fn check_named(&self, pair: &PairId) {
        let record = self.record(pair);
        let keys = self.vendor(pair).books.keys();
        let ours = |key: &&keybaton_fakes::provider::KeyView| {
            key.is_alive && key.tenant == pair.tenant && key.name.starts_with(OURS)
        };
        for key in keys.iter().filter(ours) {
            let versions = record.iter().flat_map(|record| record.versions.values());
            let mut named = versions.filter(|entry| {
                entry.label.as_ref().is_some_and(|label| label.as_str() == key.name)
            });
            let entry = named.next();
            let has_fate = entry.is_some_and(|entry| match entry.status {
                VersionStatus::Intent | VersionStatus::Unresolved => true,
                VersionStatus::Gone | VersionStatus::Revoked => false,
                _ => entry.key_id.as_ref() == Some(&key.id),
            });
            if !has_fate {
                let status = entry.map(|entry| entry.status);
                let (id, name) = (&key.id, &key.name);
                self.violate("S4", format!("{id} is alive under {name}, which is {status:?}"));
            }
        }
    }

    /// R9: no revoke is sent for a key that another version or pair claims.
    pub(crate) fn check_revoke(&self, pair: &PairId, key: &ProviderKeyId) {
        use VersionStatus::{Active, Draining, Staged};
        for other in self.pairs.iter().filter(|other| other.provider == pair.provider) {
            let Some(record) = self.record(other) else { continue };
            for (version, entry) in &record.versions {
                let is_in_use = matches!(entry.status, Staged | Active | Draining);
                if entry.key_id.as_ref() == Some(key) && is_in_use {
                    let status = entry.status;
                    self.violate(
                        "R9",
                        format!("a revoke was sent for {other} {version} ({status})"),
                    );
                }
            }
        }
    }
}
