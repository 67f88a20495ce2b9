//! What a record and a decision are called in a script.

use std::collections::BTreeSet;

use keybaton_rotation::{Cause, Debt, Decision, Effect, Gate, Guard, Phase, Reply};

use crate::script::Bench;

impl Bench {
    pub fn phase(&self) -> String {
        let Some(rotation) = &self.record.rotation else {
            return "none".to_owned();
        };
        match &rotation.phase {
            Phase::Complete { end } => format!("complete {end:?}").to_lowercase(),
            Phase::Failed { cause } => format!("failed {}", cause_name(*cause)),
            Phase::Revoking { old, forced: true } => format!("revoking {old} forced"),
            phase => {
                let debug = format!("{phase:?}");
                let name = debug.split([' ', '{']).next().unwrap_or_default().to_lowercase();
                let subject = phase.subject().map(|v| format!(" {v}")).unwrap_or_default();
                format!("{name}{subject}")
            }
        }
    }

    pub fn has(&self, fact: &str) -> bool {
        self.facts.contains(fact) || self.standing().contains(fact)
    }

    fn standing(&self) -> BTreeSet<String> {
        let mut facts = BTreeSet::new();
        let record = &self.record;
        for (version, entry) in &record.versions {
            facts.insert(format!("{version} {}", entry.status));
        }
        facts.extend(record.active.map(|v| format!("active {v}")));
        facts.insert(match record.gate {
            Gate::Open => "gate open".to_owned(),
            Gate::Paused(why) => format!("gate {why:?}").to_lowercase(),
        });
        facts.extend(record.queued.as_ref().map(|q| format!("queued #{}", q.n)));
        for obligation in &record.obligations {
            facts.insert(format!("owed {}", debt(&obligation.debt)));
        }
        for (timer, at) in &self.timers {
            let left = at.saturating_sub(self.mono) / 1000;
            facts.insert(format!("armed {timer:?} {left}").to_lowercase());
            facts.insert(format!("armed {timer:?}").to_lowercase());
        }
        if let Some(rotation) = &record.rotation {
            facts.insert(format!("#{}", rotation.id.n));
            facts.insert(format!("{:?}", rotation.severity).to_lowercase());
            facts.extend(rotation.reclaim.map(|why| format!("reclaim {why:?}").to_lowercase()));
            facts.extend(rotation.error.as_ref().map(|error| format!("error {error}")));
        }
        facts
    }

    pub fn note(&mut self, decision: &Decision) {
        let facts = &mut self.facts;
        if decision.is_repeat() {
            facts.insert("repeat".to_owned());
        }
        if decision.record.is_none() {
            facts.insert("nothing written".to_owned());
        }
        for guard in &decision.guards {
            facts.insert(match guard {
                Guard::NoGrants(version) => format!("guard no grants {version}"),
                Guard::KeyUnclaimed { version, .. } => format!("guard unclaimed {version}"),
            });
        }
        facts.extend(decision.grants.map(|g| format!("copy {} {}", g.from, g.to)));
        for entry in &decision.audit {
            let version = entry.version.map(|v| format!(" {v}")).unwrap_or_default();
            facts.insert(format!("audit {:?}{version}", entry.kind));
        }
        for (kind, _, _) in &decision.outbox {
            facts.insert(format!("event {kind:?}"));
        }
        facts.extend(decision.effects.iter().map(effect));
    }

    pub fn story(&self, script: &str) -> String {
        format!(
            "script: {script}\nphase: {}\nlast word: {:#?}\nstanding: {:#?}",
            self.phase(),
            self.facts,
            self.standing()
        )
    }
}

fn effect(effect: &Effect) -> String {
    match effect {
        Effect::Preflight { .. } => "preflight".to_owned(),
        Effect::Issue { version, .. } => format!("issue {version}"),
        Effect::Locate { version, .. } => format!("locate {version}"),
        Effect::Probe { version, .. } => format!("probe {version}"),
        Effect::Ask { version, .. } => format!("ask {version}"),
        Effect::Revoke { version, confirm_dead: Some(_), .. } => format!("revoke {version} surely"),
        Effect::Revoke { version, .. } => format!("revoke {version}"),
        Effect::Sweep { .. } => "sweep".to_owned(),
        Effect::Destroy { version, .. } => format!("destroy {version}"),
        Effect::Count { version } => format!("count {version}"),
        Effect::Close { version } => format!("close {version}"),
        Effect::Signal { version, .. } => format!("signal {version}"),
        Effect::Cut { version } => format!("cut {version}"),
        Effect::Arm(timer, _) | Effect::ArmFor(timer, _) => {
            format!("arms {timer:?}").to_lowercase()
        }
        Effect::Witness => "witness".to_owned(),
        Effect::Publish => "publish".to_owned(),
        Effect::Page(_) => "page".to_owned(),
        Effect::Reply(Reply::Rotation(id)) => format!("reply #{}", id.n),
        Effect::Reply(Reply::Refused(_)) => "reply refused".to_owned(),
        Effect::Reply(reply) => format!("reply {reply:?}").to_lowercase(),
    }
}

fn debt(debt: &Debt) -> String {
    let what = match debt {
        Debt::Revoke { .. } => "revoke",
        Debt::Sweep { .. } => "sweep",
        Debt::Destroy { .. } => "destroy",
        Debt::Retire { .. } => "retire",
    };
    format!("{what} {}", debt.version())
}

fn cause_name(cause: Cause) -> &'static str {
    match cause {
        Cause::LabelsExhausted => "labels exhausted",
        Cause::AdminRefused => "admin refused",
        Cause::VerifyFailed => "verify failed",
        Cause::Aborted => "aborted",
        Cause::HumanTimeout => "human timeout",
        Cause::RolledBack => "rolled back",
        Cause::DrainTimeout => "drain timeout",
    }
}
