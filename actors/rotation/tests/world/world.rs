//! The world: time, events, faults. See `main.rs`.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use keybaton_messages::{
    DeploymentId, Incarnation, Label, NodeId, PairId, PairTag, ProviderName, SecretVersion,
    TenantId, Timestamp, TriggerId, Version,
};
use keybaton_rotation::{
    Class, Debt, Health, Input, Obligation, OnStuck, Order, OverlapFrom, Owner, PairRecord, Policy,
    Reason, Timer, Trigger, Want,
};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use crate::Mutant;
use crate::broker::{Broker, Op};
use crate::check::Seen;
use crate::journal::{Journal, NotWritten, Standing, Transaction};
use crate::provider::{IssueJob, Plan, Provider, Secrets};

pub const SECOND: u64 = 1000;
pub const MINUTE: u64 = 60 * SECOND;
const HOUR: u64 = 60 * MINUTE;

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
    pub foreign: (
        keybaton_messages::ProviderKeyId,
        keybaton_messages::Fingerprint,
    ),
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
        let owner = Owner {
            node: NodeId::new("n1").expect("a name"),
            incarnation: Incarnation(0),
        };
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
        Err(format!(
            "L: not finished in peace; the record is {:#?}",
            self.journal.record
        ))
    }

    fn next(&mut self) -> Result<(), String> {
        let Some(((at, _), event)) = self.events.pop_first() else {
            return Err("L: nothing happens any more".to_owned());
        };
        self.now = at;
        self.happen(event);
        self.check();
        self.violation.take().map_or(Ok(()), Err)
    }

    pub fn after(&mut self, wait: u64, event: Event) {
        self.next_event += 1;
        self.events
            .insert((self.now + wait, self.next_event), event);
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
        if self.chance(5) {
            self.between(SECOND, MINUTE)
        } else {
            self.between(5, 500)
        }
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
            Event::Locate {
                process,
                version,
                label,
            } => self.locate(process, version, label),
            Event::Probe {
                process,
                version,
                secret,
                attempt,
            } => {
                self.probe(process, version, secret, attempt);
            }
            Event::Destroy {
                process,
                version,
                secret,
                label,
            } => {
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
            self.violation = Some(format!(
                "S9: a stale writer was told that {guard:?} is refused"
            ));
        }
    }

    fn broker_event(&mut self, event: Event) {
        match event {
            Event::Heartbeat { node } => self.heartbeat(node),
            Event::Read {
                node,
                incarnation,
                asked,
            } => {
                if let Some(standing) = self.journal.standing(node) {
                    let wait = self.travel();
                    self.after(
                        wait,
                        Event::ReadAnswered {
                            node,
                            incarnation,
                            asked,
                            standing,
                        },
                    );
                }
            }
            Event::ReadAnswered {
                node,
                incarnation,
                asked,
                standing,
            } => {
                let broker = &mut self.brokers[node];
                if broker.incarnation == incarnation && broker.accepts(asked, &standing) {
                    broker.apply(standing);
                    self.work(node);
                }
            }
            Event::OpRuns {
                node,
                incarnation,
                asked,
                op,
            } => {
                self.run_op(node, incarnation, asked, op);
            }
            Event::OpAnswered {
                node,
                incarnation,
                asked,
                standing,
            } => {
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

    // --- nodes -------------------------------------------------------------------------------

    fn start_node(&mut self, node: usize) {
        if self.brokers[node].alive {
            return;
        }
        let incarnation = self.journal.begin_life(node);
        self.brokers[node].start(incarnation);
        self.after(0, Event::Heartbeat { node });
        if node == 0 {
            self.process += 1;
            self.start_actor();
        }
    }

    /// The process of a node dies: holders, jobs, timers.
    pub fn crash_node(&mut self, node: usize) {
        if !self.brokers[node].alive {
            return;
        }
        self.note(|| format!("node {node} dies"));
        let incarnation = self.brokers[node].incarnation;
        self.brokers[node] = Broker::default();
        if node == 0 {
            self.actor = None;
            self.timers.clear();
            self.process += 1;
        }
        let back = self.between(SECOND, MINUTE);
        self.after(back, Event::NodeStarts { node });
        self.after(11 * SECOND, Event::Reap { node, incarnation });
    }

    fn heartbeat(&mut self, node: usize) {
        if !self.brokers[node].alive {
            return;
        }
        let is_busy = self.journal.record.as_ref().is_some_and(|r| {
            let retires = |o: &Obligation| matches!(o.debt, Debt::Retire { .. });
            r.obligations.iter().any(retires)
                || r.rotation
                    .as_ref()
                    .is_some_and(|x| x.phase.leaving().is_some())
        });
        let wait = match (is_busy, self.is_chaos) {
            (true, _) => 3 * SECOND,
            (false, true) => 30 * SECOND,
            (false, false) => 10 * MINUTE,
        };
        self.after(wait, Event::Heartbeat { node });
        self.ask_standing(node);
        self.report_dead_key();
        self.acquire(node);
    }

    pub fn ask_standing(&mut self, node: usize) {
        self.next_number += 1;
        let asked = self.next_number;
        let incarnation = self.brokers[node].incarnation;
        let wait = self.travel();
        self.after(
            wait,
            Event::Read {
                node,
                incarnation,
                asked,
            },
        );
    }

    fn report_dead_key(&mut self) {
        let Some(record) = &self.journal.record else {
            return;
        };
        let Some(version) = record.active else { return };
        let key_id = record
            .versions
            .get(&version)
            .and_then(|entry| entry.key_id.clone());
        if key_id.is_some_and(|key_id| !self.provider.works(&key_id)) {
            let reports = u32::try_from(self.between(1, 5)).unwrap_or(1);
            let input = Input::KeyDead { version, reports };
            let wait = self.travel();
            self.after(
                wait,
                Event::Deliver {
                    process: None,
                    input,
                },
            );
        }
    }

    fn acquire(&mut self, node: usize) {
        let is_session = self.rng.random_bool(0.3);
        let lasts = if self.rng.random_bool(0.1) {
            self.between(MINUTE, 15 * MINUTE)
        } else {
            self.between(100, MINUTE)
        };
        let open = self.brokers[node]
            .slots
            .iter_mut()
            .find(|(_, slot)| slot.open);
        if let Some((_, slot)) = open.filter(|_| self.is_chaos) {
            self.next_number += 1;
            slot.holders.insert(self.next_number, is_session);
            let holder = self.next_number;
            self.after(lasts, Event::Release { node, holder });
        }
    }

    fn work(&mut self, node: usize) {
        let broker = &mut self.brokers[node];
        if !broker.alive || broker.op.is_some() {
            return;
        }
        let mut next = broker.next_op();
        if self.mutant == Mutant::GrantReturnedEarly {
            let view = broker.view.as_ref();
            let closed = view.and_then(|view| {
                view.grants
                    .iter()
                    .find(|(version, _)| view.active != Some(**version))
            });
            next = closed
                .map(|(version, grant)| Op::Return(*version, grant.id))
                .or(next);
        }
        let Some(op) = next else { return };
        self.next_number += 1;
        let asked = self.next_number;
        broker.op = Some((asked, op));
        let incarnation = broker.incarnation;
        let wait = self.travel();
        self.after(
            wait,
            Event::OpRuns {
                node,
                incarnation,
                asked,
                op,
            },
        );
    }

    fn run_op(&mut self, node: usize, incarnation: u64, asked: u64, op: Op) {
        if self.journal.lives[node] != incarnation {
            return;
        }
        let standing = match op {
            Op::Grant(version) => self.journal.grant(version, node, incarnation),
            Op::Return(version, id) => self.journal.return_grant(version, node, id),
        };
        let standing = standing.filter(|_| !self.chance(10));
        let wait = self.travel();
        self.after(
            wait,
            Event::OpAnswered {
                node,
                incarnation,
                asked,
                standing,
            },
        );
    }

    fn op_answered(
        &mut self,
        node: usize,
        incarnation: u64,
        asked: u64,
        standing: Option<Standing>,
    ) {
        let latest = self.next_number;
        let broker = &mut self.brokers[node];
        let Some((number, op)) = broker.op.filter(|_| broker.incarnation == incarnation) else {
            return;
        };
        if number != asked {
            return;
        }
        let Some(standing) = standing else {
            // Nobody knows whether it was written: the same is asked again.
            let wait = self.travel();
            self.after(
                wait,
                Event::OpRuns {
                    node,
                    incarnation,
                    asked,
                    op,
                },
            );
            return;
        };
        broker.op = None;
        if matches!(op, Op::Return(..)) {
            broker.stale_until = latest;
        }
        if standing.rev >= broker.rev {
            broker.apply(standing);
        }
        self.work(node);
    }

    // --- faults ------------------------------------------------------------------------------

    fn chaos(&mut self) {
        if !self.is_chaos {
            return;
        }
        let wait = self.between(100, 15 * SECOND);
        self.after(wait, Event::Chaos);
        match self.rng.random_range(0..100) {
            0..30 => self.random_trigger(),
            30..45 => self.random_order(),
            45..55 => self.crash_node(0),
            55..62 => self.crash_node(1),
            62..72 => self.crash_actor(),
            72..78 => {
                let jump = i64::try_from(self.between(0, 2 * HOUR)).unwrap_or(0);
                self.clock_offset = jump - i64::try_from(HOUR).unwrap_or(0);
            }
            78..83 => self.vendor_kills_a_key(),
            83..90 => self.count_lies(),
            _ => {
                let node = usize::from(self.rng.random_bool(0.5));
                self.acquire(node);
            }
        }
    }

    /// The actor alone dies; jobs of its process go on and their answers find its successor.
    pub fn crash_actor(&mut self) {
        if self.actor.take().is_some() {
            self.note(|| "the actor dies".to_owned());
            self.timers.clear();
            let wait = self.between(0, 5 * SECOND);
            self.after(wait, Event::ActorStarts);
        }
    }

    fn vendor_kills_a_key(&mut self) {
        let now = self.now;
        let alive: Vec<_> = self
            .provider
            .keys
            .iter()
            .filter(|(key_id, key)| key.alive && **key_id != self.foreign.0)
            .map(|(key_id, _)| key_id.clone())
            .collect();
        if !alive.is_empty() {
            let key_id = &alive[self.rng.random_range(0..alive.len())];
            let _ = self.provider.revoke(key_id, now);
            self.note(|| format!("the vendor kills {key_id}"));
        }
    }

    fn count_lies(&mut self) {
        let Some(record) = &self.journal.record else {
            return;
        };
        let made = record.next_version.0;
        if made > 1 {
            let version = Version(self.rng.random_range(made.saturating_sub(3).max(1)..made));
            let left = u32::from(self.rng.random_bool(0.2));
            let input = Input::GrantReturned { version, left };
            self.after(
                0,
                Event::Deliver {
                    process: None,
                    input,
                },
            );
        }
    }

    fn random_version(&mut self) -> Option<Version> {
        let made = self.journal.record.as_ref().map_or(1, |r| r.next_version.0);
        self.rng
            .random_bool(0.5)
            .then(|| Version(self.rng.random_range(1..=made)))
    }

    fn random_trigger(&mut self) {
        let number = self.rng.random_range(0..1000);
        let id = TriggerId::new(&format!("t{number}")).expect("a trigger id");
        let reason = Reason::Requested("test".to_owned());
        let want = match self.rng.random_range(0..10) {
            0..3 => Want::Provision,
            3..6 => Want::Rotate {
                target: self.random_version(),
                reason,
            },
            6..9 => Want::Emergency {
                compromised: self.random_version(),
                deadline: self.rng.random_bool(0.3).then_some(Duration::from_secs(10)),
                reason,
            },
            _ => self.random_import(),
        };
        let input = Input::Triggered(Trigger { id, want });
        self.after(
            0,
            Event::Deliver {
                process: None,
                input,
            },
        );
    }

    fn random_import(&mut self) -> Want {
        let now = self.now;
        let (key_id, fp) = if self.rng.random_bool(0.2) {
            self.foreign.clone()
        } else {
            self.provider.plant(now)
        };
        if self.rng.random_bool(0.2) && key_id != self.foreign.0 {
            let _ = self.provider.revoke(&key_id, now);
        }
        let found = self.secrets.put(None, key_id, fp);
        self.seen.imported.insert(found.key_id.clone());
        Want::Import {
            key_id: found.key_id,
            secret: found.secret,
            fp,
        }
    }

    fn random_order(&mut self) {
        let order = match self.rng.random_range(0..10) {
            0..3 => Order::Abort,
            3..5 => Order::RollBack,
            5 => Order::Cut,
            6 => Order::Extend(Duration::from_secs(30)),
            _ => Order::RetryNow,
        };
        let input = Input::Ordered(order);
        self.after(
            0,
            Event::Deliver {
                process: None,
                input,
            },
        );
    }

    // --- peace -------------------------------------------------------------------------------

    fn heal(&mut self) {
        self.is_chaos = false;
        self.note(|| "peace".to_owned());
        let provision = Input::Triggered(Trigger {
            id: TriggerId::new("heal").expect("a trigger id"),
            want: Want::Provision,
        });
        self.after(
            2 * MINUTE,
            Event::Deliver {
                process: None,
                input: provision,
            },
        );
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

    pub fn random_plan(&mut self) -> Plan {
        if !self.is_chaos {
            return Plan::Answered;
        }
        match self.rng.random_range(0..100) {
            0..50 => Plan::Answered,
            50..60 => Plan::Refused {
                admin: self.rng.random_bool(0.2),
            },
            60..67 => Plan::AckLost,
            67..74 => Plan::Dropped,
            74..83 => Plan::Late,
            83..88 => Plan::Bad,
            88..93 => Plan::Foreign,
            93..97 => Plan::NotStored,
            _ => Plan::StoredUnheard,
        }
    }
}

fn random_policy(rng: &mut StdRng, class: Class) -> Policy {
    let mut policy = Policy {
        sweep_horizon: Duration::from_secs(3 * 3600),
        ..Policy::default()
    };
    policy.on_stuck = [OnStuck::Wait, OnStuck::CutCalls, OnStuck::RollBack][rng.random_range(0..3)];
    policy.on_stuck_b = [OnStuck::Reopen, OnStuck::CutCalls][rng.random_range(0..2)];
    policy.revoke_without_replacement = rng.random_bool(0.8);
    if rng.random_bool(0.3) {
        policy.overlap_from = OverlapFrom::Drained;
    }
    if rng.random_bool(0.5) {
        policy.overlap = Duration::from_secs(20);
        policy.hard_deadline = Duration::from_secs(90);
        policy.drain_max = Duration::from_secs(5 * 60);
    }
    if rng.random_bool(0.3) && class == Class::A {
        policy.overlap = Duration::ZERO;
    }
    policy
}
