//! The world: everything that outlives a node, and all chance.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

use keybaton_actors::shared::Shared;
use keybaton_fakes::checkpoints::FakeCheckpointStore;
use keybaton_fakes::journal::FakeJournal;
use keybaton_fakes::provider::FakeVendor;
use keybaton_fakes::secrets::FakeSecretStore;
use keybaton_fakes::tasks::FakeTaskJournal;
use keybaton_messages::{PairId, ProviderName, TenantId};
use keybaton_ports::AuditKey;
use keybaton_rotation::{Class, Policy};
use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::agenda::{Agenda, Bound};
use crate::call::Port;
use crate::client::Wishes;
use crate::clock::WorldClock;
use crate::dice::{Dice, Purpose};
use crate::flaws::Flaw;
use crate::limits::EVENTS_PER_SECOND_MAX;
use crate::promises::Seen;
use crate::run::Mode;
use crate::trace::Trace;

/// A vendor of the world.
pub(crate) struct Vendor {
    pub(crate) books: Arc<FakeVendor>,
    pub(crate) class: Class,
    pub(crate) policy: Policy,
}

/// The world of one run.
pub(crate) struct World {
    pub(crate) mode: Mode,
    pub(crate) flaw: Option<Flaw>,
    pub(crate) dice: Dice,
    pub(crate) ids: Arc<Dice>,
    pub(crate) clock: Arc<WorldClock>,
    pub(crate) trace: Trace,
    pub(crate) journal: Arc<FakeJournal>,
    pub(crate) tasks: Arc<FakeTaskJournal>,
    pub(crate) secrets: Arc<FakeSecretStore>,
    pub(crate) checkpoints: Arc<FakeCheckpointStore>,
    pub(crate) audit_key: Arc<AuditKey>,
    pub(crate) vendors: BTreeMap<ProviderName, Vendor>,
    pub(crate) pairs: Vec<PairId>,
    pub(crate) seen: Mutex<Seen>,
    pub(crate) wishes: Wishes,
    pub(crate) lives: AtomicU32,
    agenda: Mutex<Agenda>,
    bell: Notify,
    away: Mutex<BTreeMap<Port, Duration>>,
    node: Mutex<Option<Arc<Shared>>>,
    is_chaos: AtomicBool,
    is_crashed: AtomicBool,
    is_over: AtomicBool,
    violation: Mutex<Option<String>>,
}

impl World {
    pub(crate) fn new(seed: u64, mode: Mode, flaw: Option<Flaw>, is_traced: bool) -> Arc<Self> {
        let shape = Dice::new(seed, Purpose::Shape);
        let tenants = ["acme", "globex"].map(|name| TenantId::new(name).expect("a name"));
        let vendors = vendors(&shape, &tenants);
        let pairs: Vec<_> = tenants
            .iter()
            .flat_map(|tenant| vendors.keys().map(|it| PairId::new(tenant.clone(), it.clone())))
            .collect();
        let audit_key = Arc::new(AuditKey::new([5; 32]));
        let dice = match flaw {
            Some(Flaw::UnseededFaults) => Dice::unseeded(),
            _ => Dice::new(seed, Purpose::Faults),
        };
        let world = Arc::new(Self {
            mode,
            flaw,
            dice,
            ids: Arc::new(Dice::new(seed, Purpose::Ids)),
            clock: Arc::default(),
            trace: Trace::new(is_traced),
            journal: Arc::new(FakeJournal::flawed(audit_key.clone(), Flaw::of_journal(flaw))),
            tasks: Arc::new(FakeTaskJournal::flawed(Flaw::of_tasks(flaw))),
            secrets: Arc::default(),
            checkpoints: Arc::default(),
            audit_key,
            vendors,
            pairs,
            seen: Mutex::default(),
            wishes: Wishes::default(),
            lives: AtomicU32::new(0),
            agenda: Mutex::default(),
            bell: Notify::new(),
            away: Mutex::default(),
            node: Mutex::default(),
            is_chaos: AtomicBool::new(true),
            is_crashed: AtomicBool::new(false),
            is_over: AtomicBool::new(false),
            violation: Mutex::default(),
        });
        world.begin_chaos();
        world
    }

    pub(crate) fn now(&self) -> Duration {
        self.clock.elapsed()
    }

    pub(crate) fn note(&self, line: impl FnOnce() -> String) {
        let in_second = self.trace.note(self.now(), line);
        if in_second == EVENTS_PER_SECOND_MAX {
            self.violate("calm", format!("{in_second} events in one second: something spins"));
        }
    }

    /// Words for the trace, where there is one.
    pub(crate) fn words(&self, words: impl FnOnce() -> String) -> String {
        if self.trace.is_kept() { words() } else { String::new() }
    }

    /// Lets something happen after `wait`.
    pub(crate) fn after(
        &self,
        wait: Duration,
        bound: Bound,
        what: impl FnOnce(&Arc<Self>) + Send + 'static,
    ) {
        let at = self.now() + wait;
        self.agenda.lock().add(at, bound, Box::new(what));
        self.bell.notify_one();
    }

    /// Carries out what is due.
    pub(crate) fn carry_out(self: &Arc<Self>) {
        loop {
            let due = self.agenda.lock().take_due(self.now());
            match due {
                Some(entry) => (entry.what)(self),
                None => return,
            }
        }
    }

    /// Carries out what is due, again and again, until the node crashes or the run is over.
    pub(crate) async fn drive(self: &Arc<Self>) {
        loop {
            self.carry_out();
            if self.is_over() || self.is_crashed() {
                return;
            }
            let next = self.agenda.lock().next();
            let rung = self.bell.notified();
            match next.map(|at| at.saturating_sub(self.now())) {
                Some(wait) => drop(tokio::time::timeout(wait, rung).await),
                None => rung.await,
            }
        }
    }

    /// Time passes without a node.
    pub(crate) fn pass(self: &Arc<Self>, wait: Duration) {
        let until = self.now() + wait;
        loop {
            let next = self.agenda.lock().next().filter(|at| *at <= until);
            let Some(at) = next else { break };
            self.clock.move_to(at);
            self.carry_out();
        }
        self.clock.move_to(until);
    }

    pub(crate) fn is_chaos(&self) -> bool {
        self.is_chaos.load(Ordering::Relaxed)
    }

    pub(crate) fn end_chaos(&self) {
        self.is_chaos.store(false, Ordering::Relaxed);
        self.away.lock().clear();
    }

    /// Lets a port be away for some time.
    pub(crate) fn take_away(&self, port: Port, wait: Duration) {
        let until = self.now() + wait;
        self.away.lock().insert(port, until);
    }

    pub(crate) fn is_away(&self, port: Port) -> bool {
        let now = self.now();
        self.away.lock().get(&port).is_some_and(|until| *until > now)
    }

    /// The node dies at this instant.
    pub(crate) fn crash(&self, why: &str) {
        if !self.is_crashed.swap(true, Ordering::Relaxed) {
            self.note(|| format!("the node crashes: {why}"));
            self.bell.notify_one();
        }
    }

    pub(crate) fn is_crashed(&self) -> bool {
        self.is_crashed.load(Ordering::Relaxed)
    }

    /// Whatever calls from a dead node never gets further.
    pub(crate) async fn live_on(&self) {
        if self.is_crashed() {
            std::future::pending::<()>().await;
        }
    }

    /// Sorts out what the dead node left behind.
    pub(crate) fn bury(self: &Arc<Self>) {
        let inside = self.agenda.lock().crash(|| self.dice.chance(700));
        for entry in inside {
            if self.dice.chance(500) {
                (entry.what)(self);
            }
        }
        if self.flaw == Some(Flaw::JournalForgets) {
            self.journal.forget_last_write();
        }
        if self.flaw == Some(Flaw::TasksForget) {
            self.tasks.forget_last_write();
        }
        self.is_crashed.store(false, Ordering::Relaxed);
    }

    pub(crate) fn node(&self) -> Option<Arc<Shared>> {
        self.node.lock().clone()
    }

    pub(crate) fn set_node(&self, node: Option<Arc<Shared>>) {
        *self.node.lock() = node;
    }

    pub(crate) fn vendor(&self, pair: &PairId) -> &Vendor {
        self.vendors.get(&pair.provider).expect("every pair has its vendor")
    }

    pub(crate) fn is_over(&self) -> bool {
        self.is_over.load(Ordering::Relaxed)
    }

    pub(crate) fn end(&self) {
        self.is_over.store(true, Ordering::Relaxed);
        self.bell.notify_one();
    }

    /// A promise is broken: the run ends here.
    pub(crate) fn violate(&self, promise: &str, what: impl std::fmt::Display) {
        self.note(|| format!("BROKEN {promise}: {what}"));
        let mut violation = self.violation.lock();
        if violation.is_none() {
            *violation = Some(format!("{promise}: {what}"));
        }
        drop(violation);
        self.end();
    }

    pub(crate) fn violation(&self) -> Option<String> {
        self.violation.lock().clone()
    }
}

fn vendors(shape: &Dice, tenants: &[TenantId]) -> BTreeMap<ProviderName, Vendor> {
    let classes = match shape.between(0, 3) {
        0 => vec![Class::A],
        1 => vec![Class::B],
        _ => vec![Class::A, Class::B],
    };
    let vendor = |class: Class| {
        let name = match class {
            Class::A => "coexist",
            Class::B => "single",
        };
        let books = FakeVendor::new(class, tenants.iter().cloned());
        let policy = policy(shape, class);
        (ProviderName::new(name).expect("a name"), Vendor { books, class, policy })
    };
    classes.into_iter().map(vendor).collect()
}

/// A policy of this seed: the real rules, with minutes where people would choose hours.
fn policy(shape: &Dice, class: Class) -> Policy {
    use keybaton_rotation::{OnStuck, OverlapFrom};
    let seconds = Duration::from_secs;
    let on_stuck = [OnStuck::Wait, OnStuck::CutCalls, OnStuck::RollBack];
    let on_stuck_b = [OnStuck::Reopen, OnStuck::CutCalls];
    let hard_deadline = shape.seconds(6, 25);
    let overlap = [Duration::ZERO, seconds(4), seconds(15)];
    let overlap_from = [OverlapFrom::Promoted, OverlapFrom::Drained];
    let policy = Policy {
        overlap: *shape.pick(&overlap).expect("three"),
        overlap_from: *shape.pick(&overlap_from).expect("two"),
        soft_deadline: seconds(3),
        hard_deadline,
        hard_deadline_b: shape.seconds(3, 15),
        on_stuck: *shape.pick(&on_stuck).expect("three"),
        on_stuck_b: *shape.pick(&on_stuck_b).expect("two"),
        drain_max: seconds(45),
        call_time_max: seconds(20),
        settle: crate::limits::SETTLE,
        emergency_grace: shape.seconds(1, 4),
        revoke_deadline: shape.seconds(8, 40),
        revoke_without_replacement: shape.chance(800),
        call_timeout: seconds(10),
        probe_every: seconds(2),
        probe_tries: 3,
        probe_unknown_max: seconds(60),
        count_every: seconds(1),
        retry_min: seconds(4),
        retry_max: seconds(30),
        retry_keyless_max: seconds(8),
        attempt_every: seconds(1),
        sweep_horizon: seconds(10 * 60),
        confirm_dead: shape.chance(300),
        swap_without_checkpoint: class == Class::B || shape.chance(600),
        ..Policy::default()
    };
    policy.validate().expect("a policy that holds together");
    policy
}
