//! What must be true once faults have ended: L1, L2, L3, S4, S6, S7, and nothing is left over.

use std::collections::BTreeSet;

use keybaton_actors::program::decode_state;
use keybaton_messages::{PairId, TaskKey, VersionStatus};
use keybaton_ports::{CheckpointStore, Journal, SecretStore, TaskJournal, TaskSpec, TaskState};
use keybaton_rotation::{PairRecord, Phase};

use crate::agents::{Risk, Role};
use crate::ports::at_once;
use crate::world::World;

impl World {
    /// The first thing that has not finished.
    pub(crate) fn unfinished(&self) -> Option<String> {
        if self.node().is_none() {
            return Some("no node lives".into());
        }
        let pairs = self.pairs.iter().find_map(|pair| self.unfinished_pair(pair));
        pairs.or_else(|| self.unfinished_task()).or_else(|| self.needless_checkpoint())
    }

    fn unfinished_pair(&self, pair: &PairId) -> Option<String> {
        let Some(record) = self.record(pair) else {
            return Some(format!("{pair} has no record"));
        };
        let phase = record.rotation.as_ref().map(|rotation| rotation.phase.clone());
        let is_final = phase.as_ref().is_some_and(Phase::is_final);
        let is_failed = matches!(phase, Some(Phase::Failed { .. }));
        if !is_final || record.queued.is_some() {
            return Some(format!("{pair} is in {phase:?}, queued: {:?}", record.queued));
        }
        if !record.obligations.is_empty() {
            return Some(format!("{pair} owes {:?}", record.obligations));
        }
        if is_failed && record.next_rotate_at.is_some() {
            return Some(format!("{pair} is in {phase:?} and tries again"));
        }
        if !self.has_live_key(&record) {
            return Some(format!("{pair} has no live key: {:?}", record.active));
        }
        let audited = self.audit_of(pair).last().map_or(0, |last| last.seq);
        if self.shipped_of(pair) != audited {
            return Some(format!("the audit of {pair} is not shipped up to {audited}"));
        }
        None
    }

    fn has_live_key(&self, record: &PairRecord) -> bool {
        let entry = record.active.and_then(|active| record.versions.get(&active));
        let key = entry.and_then(|entry| entry.key_id.as_ref());
        key.is_some_and(|key| self.vendor(&record.pair).books.is_alive(key))
    }

    fn unfinished_task(&self) -> Option<String> {
        let rows = at_once(self.tasks.list(None)).expect("the fake reads");
        for (key, spec) in self.wishes.tasks.lock().iter() {
            let Some(row) = rows.iter().find(|row| row.key == *key) else {
                return Some(format!("{key} was never created"));
            };
            match &row.state {
                TaskState::Running => return Some(format!("{key} is at work")),
                TaskState::Parked(why) if role_of(&spec.input).risk != Risk::Neither => {
                    return Some(format!("{key} is parked: {why}"));
                }
                _ => {}
            }
        }
        None
    }

    /// A checkpoint of a task that nobody will ever go on with.
    fn needless_checkpoint(&self) -> Option<String> {
        let rows = at_once(self.tasks.list(None)).expect("the fake reads");
        let tenants: BTreeSet<_> = self.pairs.iter().map(|pair| &pair.tenant).collect();
        let list = |tenant| at_once(self.checkpoints.list(tenant, None)).expect("the fake reads");
        let has_ended = |key: &TaskKey| {
            let row = rows.iter().find(|row| row.key == *key);
            row.is_none_or(|row| !matches!(row.state, TaskState::Running | TaskState::Parked(_)))
        };
        let mut lying = tenants.into_iter().flat_map(list);
        let (key, _) = lying.find(|(key, _)| has_ended(key))?;
        Some(format!("a checkpoint of {key}, which has ended, is left"))
    }

    /// Everything has finished: looks at what is left.
    pub(crate) fn check_end(&self) {
        for pair in &self.pairs {
            if let Some(record) = self.record(pair) {
                self.check_keys_left(&record);
                self.check_births_and_deaths(&record);
            }
        }
        for (key, spec) in self.wishes.tasks.lock().iter() {
            let rows = at_once(self.tasks.list(Some(&key.tenant))).expect("the fake reads");
            let state = rows.into_iter().find(|row| row.key == *key).map(|row| row.state);
            self.check_task_end(&key.to_string(), spec, state);
        }
        self.check_audit();
        self.end();
    }

    /// One live key for each pair, every version at an end, no secret and no grant left.
    fn check_keys_left(&self, record: &PairRecord) {
        let pair = &record.pair;
        let active = record.active.and_then(|active| record.versions.get(&active));
        let active_key = active.and_then(|entry| entry.key_id.clone());
        let keys = self.vendor(pair).books.keys();
        let ours = |it: &&keybaton_fakes::provider::KeyView| {
            it.tenant == pair.tenant && it.is_alive && it.name.starts_with("kb1-")
        };
        for key in keys.iter().filter(ours).filter(|key| Some(&key.id) != active_key.as_ref()) {
            self.violate("L3", format!("{} of {pair} is alive at the end", key.id));
        }
        for (version, entry) in &record.versions {
            use VersionStatus::{Active, Gone, Revoked};
            if !matches!(entry.status, Active | Revoked | Gone) {
                self.violate("L2", format!("{pair} {version} is {} at the end", entry.status));
            }
            let is_active = Some(*version) == record.active;
            let grants = at_once(self.journal.count_grants(pair, *version));
            if !is_active && grants != Ok(0) {
                self.violate("L2", format!("{pair} {version} has {grants:?} grants at the end"));
            }
        }
        let stored = at_once(self.secrets.list(pair)).expect("the fake reads");
        let is_active = |place| active.and_then(|entry| entry.secret) == Some(place);
        for (place, meta) in stored.iter().filter(|(place, _)| !is_active(*place)) {
            // What was brought in and refused is the business of whoever brought it.
            if let Some(label) = &meta.label {
                self.violate("secret", format!("{place} of {pair}, {label}, is left at the end"));
            }
        }
    }

    /// S7: every key was born once in the audit, and died once unless it is active.
    fn check_births_and_deaths(&self, record: &PairRecord) {
        let pair = &record.pair;
        let audit = self.audit_of(pair);
        let active = record.active.and_then(|active| record.versions.get(&active));
        for key in self.vendor(pair).books.keys() {
            if key.tenant != pair.tenant {
                continue;
            }
            let count = |kinds: &[&str]| {
                let named = audit.iter().filter(|it| it.dedupe == key.id.as_str());
                named.filter(|it| kinds.contains(&it.kind.as_str())).count()
            };
            let born = count(&["ISSUED", "IMPORTED", "RECONCILED"]);
            let died = count(&["REVOKED"]);
            let is_active = active.and_then(|it| it.key_id.as_ref()) == Some(&key.id);
            let fits = born <= 1 && died <= born && (born == 0 || (died == 1) != is_active);
            if !fits {
                self.violate("S7", format!("{} has {born} births and {died} deaths", key.id));
            }
        }
    }

    /// S6: a task that is done has taken every step, once and in order.
    fn check_task_end(&self, key: &str, spec: &TaskSpec, state: Option<TaskState>) {
        let wanted = role_of(&spec.input);
        match state {
            Some(TaskState::Done(output)) => {
                let done = role_of(&output).done;
                let all: Vec<_> = (0..wanted.calls.len() as u64).collect();
                if done != all {
                    self.violate("S6", format!("{key} is done with the steps {done:?}"));
                }
            }
            Some(TaskState::Failed(why)) => self.violate("S6", format!("{key} failed: {why}")),
            _ => {}
        }
    }
}

fn role_of(state: &[u8]) -> Role {
    decode_state(state).expect("a role was encoded")
}
