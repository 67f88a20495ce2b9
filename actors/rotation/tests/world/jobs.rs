//! The world's jobs: what an effect asks of provider, secret store and person, and how the answer
//! comes late, twice, or never.

use keybaton_messages::{Fingerprint, Label, ProviderKeyId, SecretVersion, Version, VersionStatus};
use keybaton_rotation::{Health, Input};
use rand::Rng;

use crate::Mutant;
use crate::provider::{IssueJob, Key, Plan};
use crate::world::{Event, MINUTE, SECOND, World};

const CALL_DEADLINE: u64 = 30 * SECOND;

impl World {
    pub fn send_issue(&mut self, version: Version, label: Label) {
        let plan = self.random_plan();
        let process = self.process;
        self.note(|| format!("issue {version}: {plan:?}"));
        let job = self.jobs.len();
        self.jobs.push(IssueJob { version, label, plan: plan.clone(), process, ended: false });
        let soon = self.travel().min(20 * SECOND);
        let settle = u64::try_from(self.policy.settle.as_millis()).unwrap_or(0);
        match plan {
            Plan::Dropped => {}
            Plan::Late => {
                let wait = self.between(SECOND, settle - SECOND);
                self.after(wait, Event::Issue { job });
            }
            _ => self.after(soon, Event::Issue { job }),
        }
        self.after(CALL_DEADLINE, Event::IssueGivenUp { job });
    }

    pub fn provider_issues(&mut self, job: usize) {
        let IssueJob { label, plan, .. } = self.jobs[job].clone();
        let now = self.now;
        if !matches!(plan, Plan::Refused { .. } | Plan::Foreign) {
            let ours = self.our_key_ids();
            let is_bad = plan == Plan::Bad;
            let (key_id, _, kills) = self.provider.issue(&label, is_bad, &ours, now);
            self.note(|| format!("{key_id} is born under {label}"));
            for kill in kills {
                self.check_kill(&kill);
            }
        }
        let wait = self.travel().min(5 * SECOND);
        match plan {
            Plan::AckLost | Plan::Late => {}
            Plan::StoredUnheard => self.after(wait, Event::SecretLands { job }),
            _ => self.after(wait, Event::IssueAnswered { job }),
        }
    }

    fn our_key_ids(&self) -> Vec<ProviderKeyId> {
        let entries = self.journal.record.iter().flat_map(|r| r.versions.values());
        entries.filter_map(|entry| entry.key_id.clone()).collect()
    }

    fn issued_key(&self, label: &Label) -> Option<(ProviderKeyId, Fingerprint)> {
        let is_it = |key: &Key| key.label.as_ref() == Some(label);
        let found = self.provider.keys.iter().rev().find(|(_, key)| is_it(key));
        found.map(|(key_id, key)| (key_id.clone(), key.fp))
    }

    pub fn issue_answered(&mut self, job: usize) {
        let IssueJob { version, label, plan, process, ended } = self.jobs[job].clone();
        if ended || process != self.process {
            return;
        }
        let input = match plan {
            Plan::NotStored => return,
            Plan::Refused { admin } => {
                Input::IssueRefused { version, after: None, admin, why: "no".to_owned() }
            }
            Plan::Foreign => self.foreign_answer(version, label),
            _ => {
                let Some((key_id, fp)) = self.issued_key(&label) else {
                    return;
                };
                let found = self.secrets.put(Some(label), key_id, fp);
                Input::Issued {
                    version,
                    key_id: found.key_id,
                    secret: found.secret,
                    fp,
                    expires_at: None,
                }
            }
        };
        self.jobs[job].ended = true;
        self.answer(input);
    }

    /// The provider hands out a key that another version or another pair has.
    fn foreign_answer(&mut self, version: Version, label: Label) -> Input {
        let ours = self.our_key_ids();
        let mine = ours.iter().find_map(|id| Some((id.clone(), self.provider.keys.get(id)?.fp)));
        let is_mine = self.rng.random_bool(0.5);
        let (key_id, fp) = mine.filter(|_| is_mine).unwrap_or(self.foreign.clone());
        let found = self.secrets.put(Some(label), key_id, fp);
        Input::Issued { version, key_id: found.key_id, secret: found.secret, fp, expires_at: None }
    }

    pub fn secret_lands(&mut self, job: usize) {
        let IssueJob { label, .. } = self.jobs[job].clone();
        if let Some((key_id, fp)) = self.issued_key(&label) {
            self.secrets.put(Some(label), key_id, fp);
        }
    }

    pub fn issue_given_up(&mut self, job: usize) {
        let IssueJob { version, process, ended, .. } = self.jobs[job].clone();
        if !ended && process == self.process {
            self.jobs[job].ended = true;
            self.answer(Input::IssueUnknown { version, why: "no answer in time".to_owned() });
        }
    }

    pub fn locate(&mut self, process: u64, version: Version, label: Label) {
        if process != self.process {
            return;
        }
        let runs =
            self.jobs.iter().any(|job| job.label == label && !job.ended && job.process == process);
        if runs || self.chance(10) {
            return self.after(2 * SECOND, Event::Locate { process, version, label });
        }
        let found = self.secrets.find(&label);
        self.answer(Input::Located { version, found });
    }

    // --- the other questions -----------------------------------------------------------------

    pub fn probe(
        &mut self,
        process: u64,
        version: Version,
        secret: SecretVersion,
        attempt: Version,
    ) {
        if process != self.process {
            return;
        }
        let truth = self.health(secret);
        if truth == Health::Alive {
            self.seen.proven.insert(version);
        }
        let is_fresh = self.rng.random_bool(0.3) && truth == Health::Alive;
        let is_new =
            self.actor.as_ref().is_some_and(|r| r.status(version) == Some(VersionStatus::Staged));
        let health = if self.chance(15) {
            Health::Unknown
        } else if is_fresh && is_new && self.is_chaos {
            Health::Dead
        } else {
            truth
        };
        self.answer(Input::Probed { version, attempt, health });
    }

    pub fn send_revoke(&mut self, version: Version, key_id: ProviderKeyId) {
        self.check_revoke(version, &key_id);
        let wait = self.travel();
        let is_late = self.chance(10);
        let input = if self.chance(15) {
            Input::RevokeRefused { version, after: None, why: "busy".to_owned() }
        } else if is_late || self.chance(10) {
            let wait = self.between(0, MINUTE);
            self.after(wait, Event::Revoke { key_id });
            Input::RevokeUnknown { version, why: "no answer".to_owned() }
        } else {
            self.provider_revokes(&key_id);
            Input::Revoked { version }
        };
        let process = Some(self.process);
        self.after(wait, Event::Deliver { process, input });
    }

    pub fn provider_revokes(&mut self, key_id: &ProviderKeyId) {
        let now = self.now;
        if let Some(kill) = self.provider.revoke(key_id, now) {
            self.note(|| format!("{key_id} dies"));
            self.check_kill(&kill);
        }
    }

    pub fn sweep(&mut self, label: Label) {
        if self.mutant == Mutant::NoSweeper {
            // It never looks, and says that it found nothing.
            let asked = self.store_now();
            return self.answer(Input::Swept { label, asked, found: None });
        }
        let input = if self.chance(10) {
            Input::SweepFailed { label, why: "list failed".to_owned() }
        } else {
            let lag = if self.is_chaos { self.between(0, MINUTE) } else { 0 };
            let asked = self.store_now();
            let is_foreign = self.chance(4);
            let foreign = self.foreign.0.clone();
            let found = self.provider.find(&label, self.now, lag);
            let found = if is_foreign { Some(foreign) } else { found };
            Input::Swept { label, asked, found }
        };
        self.answer(input);
    }

    pub fn destroy(
        &mut self,
        process: u64,
        version: Version,
        secret: Option<SecretVersion>,
        label: Option<Label>,
    ) {
        if process != self.process {
            return;
        }
        if self.chance(20) {
            let why = "sealed".to_owned();
            return self.answer(Input::DestroyFailed { version, why });
        }
        self.check_destroy(version);
        self.secrets.destroy(secret, label.as_ref());
        self.answer(Input::Destroyed { version });
    }

    pub fn ask_person(&mut self, version: Version, label: Label, left: u64) {
        if !self.asked_persons.insert(version) || self.chance(20) {
            return;
        }
        let now = self.now;
        let is_slip = self.chance(20);
        let (key_id, fp) = if is_slip {
            self.foreign.clone()
        } else {
            let (key_id, fp, _) = self.provider.issue(&label, false, &[], now);
            (key_id, fp)
        };
        let found = self.secrets.put(Some(label), key_id, fp);
        let most = if self.is_chaos { left.min(MINUTE * 90) } else { MINUTE };
        let wait = self.between(0, most);
        let input = Input::PersonSubmitted {
            version,
            key_id: found.key_id,
            secret: found.secret,
            fp,
            expires_at: None,
        };
        self.after(wait, Event::Deliver { process: None, input });
    }
}
