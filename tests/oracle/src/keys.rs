//! When each key lived, compared with what the records claim: S3, S4, L2 and who was touched.

use std::collections::{HashMap, HashSet};

use crate::error::OracleError;
use crate::findings::Findings;
use crate::ledger::{BirthCause, Born, Death, DeathCause};
use crate::names::{KeyKey, Name, Names};
use crate::pairs::{Pair, Pairs};
use crate::rules::Rules;
use crate::verdict::LiveKeys;

struct Life {
    /// Place in order of birth.
    born: usize,
    cause: BirthCause,
    label: Name,
    died: Option<DeathCause>,
}

/// How a key ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ending {
    /// Not yet.
    Alive,
    /// A call asked for it.
    Revoked,
    /// A newer key was issued.
    Voided,
    /// Its time was over, or the test killed it.
    Otherwise,
}

/// All keys.
#[derive(Default)]
pub(crate) struct Keys {
    lives: HashMap<KeyKey, Life>,
    in_order: Vec<KeyKey>,
    labels: HashSet<(Name, Name)>,
    labels_used_twice: Vec<(Name, Name)>,
}

/// What became of the keys.
pub(crate) struct Lives {
    pub(crate) old_key_dead: bool,
    pub(crate) live: LiveKeys,
}

impl Keys {
    pub(crate) fn created(
        &mut self,
        names: &mut Names,
        born: &Born<'_>,
        line: u64,
    ) -> Result<(), OracleError> {
        let key = (names.of(born.project), names.of(born.key_id));
        let label = names.of(born.name);
        let life = Life { born: self.in_order.len(), cause: born.cause, label, died: None };
        if self.lives.insert(key, life).is_some() {
            let what = format!("{} is created a second time", names.key(Some(key)));
            return Err(OracleError::Senseless { file: "ledger", line, what });
        }
        self.in_order.push(key);
        if born.cause == BirthCause::Api && !self.labels.insert((key.0, label)) {
            self.labels_used_twice.push((key.0, label));
        }
        Ok(())
    }

    pub(crate) fn died(
        &mut self,
        names: &mut Names,
        death: &Death<'_>,
        line: u64,
    ) -> Result<KeyKey, OracleError> {
        let key = (names.of(death.project), names.of(death.key_id));
        match self.lives.get_mut(&key) {
            Some(life @ Life { died: None, .. }) => life.died = Some(death.cause),
            _ => {
                let what = format!("{} dies and was not alive", names.key(Some(key)));
                return Err(OracleError::Senseless { file: "ledger", line, what });
            }
        }
        Ok(key)
    }

    /// Whether somebody with the admin key ended this key.
    pub(crate) fn is_dead_by_us(&self, key: Option<KeyKey>) -> bool {
        let life = key.and_then(|key| self.lives.get(&key));
        life.and_then(|life| life.died).is_some_and(DeathCause::is_by_us)
    }

    /// Whether the provider ever had this key.
    pub(crate) fn is_known(&self, key: KeyKey) -> bool {
        self.lives.contains_key(&key)
    }

    /// The keys that were made under a label of ours, how each ended, and its label.
    pub(crate) fn of_ours<'a>(
        &'a self,
        rules: &'a Rules,
        names: &'a Names,
    ) -> impl Iterator<Item = (KeyKey, Ending, &'a str)> {
        self.in_order.iter().filter_map(move |&key| {
            let life = &self.lives[&key];
            let label = names.text(life.label);
            let is_ours = life.cause == BirthCause::Api && label.starts_with(&rules.label_prefix);
            let ending = match life.died {
                None => Ending::Alive,
                Some(DeathCause::Revoked) => Ending::Revoked,
                Some(DeathCause::Voided) => Ending::Voided,
                Some(DeathCause::Expired | DeathCause::Fault) => Ending::Otherwise,
            };
            is_ours.then_some((key, ending, label))
        })
    }

    fn is_alive(&self, key: KeyKey) -> bool {
        self.lives.get(&key).is_some_and(|life| life.died.is_none())
    }

    /// Compares with the records. `used`: keys under which an agent's call ended well.
    pub(crate) fn judge(
        &self,
        rules: &Rules,
        names: &Names,
        pairs: &Pairs,
        used: &HashSet<KeyKey>,
        findings: &mut Findings,
    ) -> Lives {
        for &(project, label) in &self.labels_used_twice {
            findings.add("S4", || {
                let (label, project) = (names.text(label), names.text(project));
                format!("label {label} of {project} was used for two keys")
            });
        }
        let is_ours = |key: KeyKey| {
            self.lives.get(&key).is_some_and(|life| {
                life.cause != BirthCause::Fault
                    && names.text(life.label).starts_with(&rules.label_prefix)
            })
        };
        let live = self.count_living(names, pairs, is_ours, findings);
        let mut by_project: HashMap<Name, Vec<KeyKey>> = HashMap::new();
        for &key in &self.in_order {
            by_project.entry(key.0).or_default().push(key);
        }
        let mut old_key_dead = true;
        for pair in pairs.all() {
            let keys = by_project.get(&pair.project).map_or(&[][..], Vec::as_slice);
            for &(key, _) in pair.keys.iter().filter(|(key, was)| !was && used.contains(key)) {
                findings.add("S3", || {
                    format!("agents used {}, which was never promoted", names.key(Some(key)))
                });
            }
            if pair.is_rotated {
                let ours = keys.iter().copied().filter(|&key| is_ours(key) || is_kept(pair, key));
                let older = ours.filter(|&key| Some(key) != pair.active_key);
                old_key_dead &= self.older_are_dead(names, pair, older, used, findings);
            } else {
                self.judge_bystander(names, pair, keys, used, findings);
            }
        }
        let known: HashSet<_> = pairs.all().iter().map(|pair| &pair.name).collect();
        old_key_dead &= rules.rotated.iter().all(|name| known.contains(name));
        Lives { old_key_dead, live }
    }

    /// S4: what lives is exactly what the records hand out.
    fn count_living(
        &self,
        names: &Names,
        pairs: &Pairs,
        is_ours: impl Fn(KeyKey) -> bool,
        findings: &mut Findings,
    ) -> LiveKeys {
        let mut active = HashSet::new();
        let mut expected = 0;
        for pair in pairs.all().iter().filter(|pair| pair.is_active) {
            expected += 1;
            match pair.active_key {
                Some(key) if self.is_alive(key) => {
                    active.insert(key);
                }
                key => findings.add("S4", || {
                    let (tenant, provider) = (&pair.name.tenant, &pair.name.provider);
                    let key = names.key(key);
                    format!("{tenant}/{provider} hands out {key}, which does not live")
                }),
            }
        }
        let mut found = 0;
        for &key in self.in_order.iter().filter(|&&key| self.is_alive(key)) {
            let is_active = active.contains(&key);
            if !is_active && is_ours(key) {
                findings.add("S4", || {
                    let label = names.text(self.lives[&key].label);
                    format!("{} ({label}) lives and no pair hands it out", names.key(Some(key)))
                });
            }
            found += u64::from(is_active || is_ours(key));
        }
        LiveKeys { expected, found }
    }

    /// L2: a rotated pair had an older key in use, and every older key is dead.
    fn older_are_dead(
        &self,
        names: &Names,
        pair: &Pair,
        older: impl Iterator<Item = KeyKey>,
        used: &HashSet<KeyKey>,
        findings: &mut Findings,
    ) -> bool {
        let (tenant, provider) = (&pair.name.tenant, &pair.name.provider);
        let active_born = pair.active_key.and_then(|key| self.lives.get(&key)).map(|it| it.born);
        let mut had_one = false;
        let mut are_dead = true;
        for key in older {
            let is_earlier = active_born.is_none_or(|born| self.lives[&key].born < born);
            had_one |= is_earlier && (used.contains(&key) || was_promoted(pair, key));
            if self.is_alive(key) {
                are_dead = false;
                findings.add("L2", || {
                    format!("{tenant}/{provider}: {} is still alive", names.key(Some(key)))
                });
            }
        }
        if !had_one {
            findings.add("L2", || {
                format!("{tenant}/{provider} was to be rotated and still has its first key")
            });
        }
        had_one && are_dead
    }

    /// S5: a pair that was not rotated keeps the key that its agents use.
    fn judge_bystander(
        &self,
        names: &Names,
        pair: &Pair,
        keys: &[KeyKey],
        used: &HashSet<KeyKey>,
        findings: &mut Findings,
    ) {
        let in_use: Vec<_> = keys.iter().copied().filter(|key| used.contains(key)).collect();
        let (tenant, provider) = (&pair.name.tenant, &pair.name.provider);
        if in_use.len() > 1 {
            findings.touch(pair.tenant, || {
                let count = in_use.len();
                format!("{tenant}/{provider} was not rotated and used {count} keys")
            });
        }
        for key in in_use.into_iter().filter(|&key| self.is_dead_by_us(Some(key))) {
            findings.touch(pair.tenant, || {
                let key = names.key(Some(key));
                format!("{tenant}/{provider} was not rotated and lost {key}")
            });
        }
    }
}

fn is_kept(pair: &Pair, key: KeyKey) -> bool {
    pair.keys.iter().any(|&(kept, _)| kept == key)
}

fn was_promoted(pair: &Pair, key: KeyKey) -> bool {
    pair.keys.iter().any(|&(kept, was_promoted)| kept == key && was_promoted)
}
