//! The world: time, events, faults. See `main.rs`.

use std::collections::{BTreeMap, BTreeSet};

use keybaton_messages::{
    DeploymentId, Incarnation, Label, NodeId, PairId, PairTag, ProviderName, SecretVersion,
    TenantId, Timestamp, TriggerId, Version,
};
use keybaton_rotation::{Class, Health, Input, Owner, PairRecord, Policy, Timer, Trigger, Want};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use crate::Mutant;
use crate::broker::{Broker, Op};
use crate::chaos::random_policy;
use crate::check::Seen;
use crate::journal::{Journal, NotWritten, Standing, Transaction};
use crate::provider::{IssueJob, Provider, Secrets};

pub const SECOND: u64 = 1000;
pub const MINUTE: u64 = 60 * SECOND;
pub const HOUR: u64 = 60 * MINUTE;

/// Something that happens at a moment.
#[derive(Clone)]
pub enum Event {
    /// An answer or a report reaches the actor; `process` must still live, where it matters.
    Deliver {
        process: Option<u64>,
        input: Input,
    },
    Ring {
        timer: Timer,
        number: u64,
    },
    ActorStarts,
    Issue {
        job: usize,
    },
    IssueAnswered {
        job: usize,
    },
    IssueGivenUp {
        job: usize,
    },
    SecretLands {
        job: usize,
    },
    Revoke {
        key_id: keybaton_messages::ProviderKeyId,
    },
    Locate {
        process: u64,
        version: Version,
        label: Label,
    },
    Probe {
        process: u64,
        version: Version,
        secret: SecretVersion,
        attempt: Version,
    },
    Destroy {
        process: u64,
        version: Version,
        secret: Option<SecretVersion>,
        label: Option<Label>,
    },
    CommitLands {
        txn: Box<Transaction>,
    },
    Heartbeat {
        node: usize,
    },
    Read {
        node: usize,
        incarnation: u64,
        asked: u64,
    },
    ReadAnswered {
        node: usize,
        incarnation: u64,
        asked: u64,
        standing: Standing,
    },
    OpRuns {
        node: usize,
        incarnation: u64,
        asked: u64,
        op: Op,
    },
    OpAnswered {
        node: usize,
        incarnation: u64,
        asked: u64,
        standing: Option<Standing>,
    },
    NodeStarts {
        node: usize,
    },
    Reap {
        node: usize,
        incarnation: u64,
    },
    Release {
        node: usize,
        holder: u64,
    },
    Cut {
        node: usize,
        version: Version,
    },
    Signal {
        node: usize,
        version: Version,
    },
    Chaos,
}

pub struct World {
    pub mutant: Mutant,
    pub rng: StdRng,
    pub now: u64,
    pub clock_offset: i64,
    pub events: BTreeMap<(u64, u64), Event>,
    next_event: u64,
    pub is_chaos: bool,
    pub class: Class,
    pub policy: Policy,
    pub has_person: bool,
    pub fresh: PairRecord,
    /// The actor's copy of the record, while it runs.
    pub actor: Option<PairRecord>,
    /// One life of the node's process: jobs die with it.
    pub process: u64,
    pub timers: BTreeMap<Timer, u64>,
    pub next_number: u64,
    pub jobs: Vec<IssueJob>,
    pub asked_persons: BTreeSet<Version>,
    pub journal: Journal,
    pub provider: Provider,
    pub secrets: Secrets,
    pub brokers: [Broker; 2],
    pub foreign: (keybaton_messages::ProviderKeyId, keybaton_messages::Fingerprint),
    pub seen: Seen,
    pub log: Vec<String>,
    /// Where the story stands, for a violation's report.
    pub violation: Option<String>,
}

impl World {
    pub fn new(seed: u64, class: Class, mutant: Mutant) -> Self {
        let mut rng = StdRng::seed_from_u64(seed ^ if class == Class::A { 0 } else { 1 << 63 });
        let policy = random_policy(&mut rng, class);
        let has_person = class == Class::A && rng.random_bool(0.1);
        let pair = PairId::new(
            TenantId::new("acme").expect("a name"),
            ProviderName::new("fake").expect("a name"),
        );
        let owner = Owner { node: NodeId::new("n1").expect("a name"), incarnation: Incarnation(0) };
        let deployment = DeploymentId::from_digest(&[7; 16]);
        let tag = PairTag::from_digest(&[9; 16]);
        let mut provider = Provider::new(class);
        let foreign = provider.plant(0);
        let mut journal = Journal::default();
        journal.claim_elsewhere(foreign.0.clone(), foreign.1);
        let mut world = Self {
            mutant,
            rng,
            now: 1000 * HOUR,
            clock_offset: 0,
            events: BTreeMap::new(),
            next_event: 0,
            is_chaos: true,
            class,
            policy,
            has_person,
            fresh: PairRecord::new(pair, deployment, tag, class, owner),
            actor: None,
            process: 0,
            timers: BTreeMap::new(),
            next_number: 0,
            jobs: Vec::new(),
            asked_persons: BTreeSet::new(),
            journal,
            provider,
            secrets: Secrets::default(),
            brokers: [Broker::default(), Broker::default()],
            foreign,
            seen: Seen::default(),
            log: Vec::new(),
            violation: None,
        };
        world.after(0, Event::NodeStarts { node: 0 });
        world.after(0, Event::NodeStarts { node: 1 });
        world.after(SECOND, Event::Chaos);
        world
    }

    /// Chaos for `events` events, then peace until all is done. The error names the promise.
    pub fn run(&mut self, events: u32) -> Result<(), String> {
        for _ in 0..events {
            self.next()?;
        }
        self.heal();
        const PEACE_EVENTS_MAX: u32 = 60_000;
        for _ in 0..PEACE_EVENTS_MAX {
            if self.is_done() {
                return self.check_end();
            }
            self.next()?;
        }
        Err(format!("L: not finished in peace; the record is {:#?}", self.journal.record))
    }

    fn next(&mut self) -> Result<(), String> {
        let Some(((at, _), event)) = self.events.pop_first() else {
            return Err("L: nothing happens any more".to_owned());
        };
        self.now = at;
        self.happen(event);
        self.check();
        self.check_progress();
        self.violation.take().map_or(Ok(()), Err)
    }

    pub fn after(&mut self, wait: u64, event: Event) {
        self.next_event += 1;
        self.events.insert((self.now + wait, self.next_event), event);
    }

    pub fn store_now(&self) -> Timestamp {
        Timestamp(self.now.saturating_add_signed(self.clock_offset))
    }

    pub fn chance(&mut self, percent: u32) -> bool {
        self.is_chaos && self.rng.random_ratio(percent, 100)
    }

    pub fn between(&mut self, low: u64, high: u64) -> u64 {
        self.rng.random_range(low..=high)
    }

    /// How long an answer travels.
    pub fn travel(&mut self) -> u64 {
        if self.chance(5) { self.between(SECOND, MINUTE) } else { self.between(5, 500) }
    }

    pub fn note(&mut self, line: impl FnOnce() -> String) {
        if self.seen.is_verbose {
            let line = format!("{:>12} {}", self.now, line());
            self.log.push(line);
        }
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::Deliver { process, input } => self.deliver(process, input),
            Event::Ring { timer, number } => {
                if self.timers.get(&timer) == Some(&number) {
                    self.input(Input::Elapsed(timer));
                }
            }
            Event::ActorStarts => self.start_actor(),
            Event::Issue { job } => self.provider_issues(job),
            Event::IssueAnswered { job } => self.issue_answered(job),
            Event::IssueGivenUp { job } => self.issue_given_up(job),
            Event::SecretLands { job } => self.secret_lands(job),
            Event::Revoke { key_id } => self.provider_revokes(&key_id),
            Event::Locate { process, version, label } => self.locate(process, version, label),
            Event::Probe { process, version, secret, attempt } => {
                self.probe(process, version, secret, attempt);
            }
            Event::Destroy { process, version, secret, label } => {
                self.destroy(process, version, secret, label);
            }
            Event::CommitLands { txn } => self.commit_lands(&txn),
            Event::NodeStarts { node } => self.start_node(node),
            Event::Reap { node, incarnation } => self.journal.reap(node, incarnation),
            Event::Chaos => self.chaos(),
            other => self.broker_event(other),
        }
    }

    /// A write of an earlier life arrives. If it is stale, it must be told so and nothing else.
    fn commit_lands(&mut self, txn: &Transaction) {
        let stored = self.journal.record.as_ref().map(|r| (r.epoch, r.rev));
        let is_stale = stored.is_some_and(|stored| stored != txn.expect);
        let answer = self.journal.commit(txn, self.mutant);
        if let Err(NotWritten::Refused(guard, _)) = answer
            && is_stale
        {
            self.violation = Some(format!("S9: a stale writer was told that {guard:?} is refused"));
        }
    }

    fn broker_event(&mut self, event: Event) {
        match event {
            Event::Heartbeat { node } => self.heartbeat(node),
            Event::Read { node, incarnation, asked } => {
                if let Some(standing) = self.journal.standing(node) {
                    let wait = self.travel();
                    self.after(wait, Event::ReadAnswered { node, incarnation, asked, standing });
                }
            }
            Event::ReadAnswered { node, incarnation, asked, standing } => {
                let broker = &mut self.brokers[node];
                if broker.incarnation == incarnation && broker.accepts(asked, &standing) {
                    broker.apply(standing);
                    self.work(node);
                }
            }
            Event::OpRuns { node, incarnation, asked, op } => {
                self.run_op(node, incarnation, asked, op);
            }
            Event::OpAnswered { node, incarnation, asked, standing } => {
                self.op_answered(node, incarnation, asked, standing);
            }
            Event::Release { node, holder } => {
                for slot in self.brokers[node].slots.values_mut() {
                    slot.holders.remove(&holder);
                }
                self.work(node);
            }
            Event::Cut { node, version } => {
                self.brokers[node].cut(version);
                self.work(node);
            }
            Event::Signal { node, version } => {
                self.brokers[node].signal(version);
                self.work(node);
            }
            _ => {}
        }
    }

    fn heal(&mut self) {
        self.is_chaos = false;
        self.note(|| "peace".to_owned());
        let provision = Input::Triggered(Trigger {
            id: TriggerId::new("heal").expect("a trigger id"),
            want: Want::Provision,
        });
        self.after(2 * MINUTE, Event::Deliver { process: None, input: provision });
    }

    fn is_done(&self) -> bool {
        let Some(record) = &self.journal.record else {
            return false;
        };
        let is_final = record.rotation.as_ref().is_some_and(|r| r.phase.is_final());
        let is_failed = matches!(
            record.rotation.as_ref().map(|r| &r.phase),
            Some(keybaton_rotation::Phase::Failed { .. })
        );
        let is_alive = record
            .active
            .and_then(|active| record.versions.get(&active)?.key_id.clone())
            .is_some_and(|key_id| self.provider.works(&key_id));
        is_final
            && is_alive
            && record.obligations.is_empty()
            && record.queued.is_none()
            && (!is_failed || record.next_rotate_at.is_none())
    }

    /// Whether the key of `version` works, as an honest probe would find.
    pub fn health(&self, secret: SecretVersion) -> Health {
        match self.secrets.rows.get(&secret) {
            Some((_, found)) if self.provider.works(&found.key_id) => Health::Alive,
            Some(_) => Health::Dead,
            None => Health::Unknown,
        }
    }
}
