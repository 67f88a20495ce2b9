//! Hundreds of rotations whose answers get lost, come late or never, on a node that is killed again
//! and again: in the end every pair has exactly one live key, and nobody ever lost one in use.
//!
//! Many pairs rotate at once, wave after wave, with agents at work. Each pair has a provider of its
//! own name, so that one pair's sweeps do not wait for another's.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use futures::future::join_all;
use keybaton::messages::{PairId, ProviderKeyId, RotationId, TenantId};
use keybaton::{Class, PairView, Provider, Secret};
use keybaton_evidence::{Evidence, Mutant, Series, budget, command, is_long_form};
use keybaton_oracle::{PairName, Verdict};
use keybaton_ports::{AuthHeader, Capabilities, IssueRequest, IssuedKey, ListedKey, Refusal};
use keybaton_rotation::Health;
use keybaton_tests::harness::{PATIENCE, Puppet, Role, Setup, StandIn, World, phase_name, soon};
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{Rng, SeedableRng};

/// Pairs of one storm: as many as two cores rotate at once without waiting for each other.
const PAIRS: usize = 16;

/// Rotations that the long form asks for under the kind that lets keys live side by side, and under
/// the one that voids them.
const LONG: (usize, usize) = (800, 200);

/// The same of the short form.
const SHORT: (usize, usize) = (48, 32);

/// Seed of the short form.
const SEED: u64 = 20_261_121;

const COMMAND: &str = "cargo test -p keybaton-tests --test scenarios \
                       an_ambiguity_storm_leaves_one_live_key_for_each_pair";

/// What may happen to the call that issues. Some keys exist and nobody gets them.
const ISSUE: [&str; 9] = [
    "ack-lost",
    "dropped",
    "late",
    "truncated",
    "server-error",
    "empty-body",
    "html-body",
    "id-missing",
    "eventual-list:700",
];

/// What may happen to the other calls.
const OTHER: [&str; 9] = [
    "revoke=ack-lost",
    "revoke=dropped",
    "revoke=late:400",
    "revoke=server-error",
    "revoke=slow-revoke:400",
    "list=server-error",
    "list=truncated",
    "probe=dropped",
    "probe=server-error",
];

/// Where the node may be killed: a phase that some rotation has reached.
const PHASES: [&str; 7] =
    ["Queued", "Preflight", "Issuing", "Verifying", "Draining", "Overlap", "Revoking"];

/// A pair's names.
struct Names {
    tenant: String,
    provider: String,
}

/// A world in which it storms.
struct Storm {
    world: World,
    names: Vec<Names>,
    rng: StdRng,
    waves: usize,
    kills: usize,
    tasks: u64,
    rotations: Vec<(f64, f64)>,
    began: Instant,
}

impl Storm {
    async fn open(class: Class, pairs: usize, seed: u64, stand_in: Option<StandIn>) -> Self {
        let names: Vec<_> = (0..pairs)
            .map(|n| Names { tenant: format!("tenant-{n}"), provider: format!("provider-{n}") })
            .collect();
        let providers = names.iter().map(|names| names.provider.clone()).collect();
        let world = World::with(Setup { class, providers, stand_in, ..Setup::default() }).await;
        let provisioned = names.iter().map(|names| async {
            let asked = world.node().provision(&names.tenant, &names.provider);
            soon("the first key", asked).await.expect("a key");
        });
        join_all(provisioned).await;
        Self {
            world,
            names,
            rng: StdRng::seed_from_u64(seed),
            waves: 0,
            kills: 0,
            tasks: 0,
            rotations: Vec::new(),
            began: Instant::now(),
        }
    }

    /// Every pair rotates once, and every second time the node is killed meanwhile.
    async fn wave(&mut self, fault: impl Fn(&mut StdRng) -> String) {
        let agents = self.agents();
        self.spawn(&agents).await;
        for names in &self.names {
            self.world.arm(&format!("issue@{}:1={}", names.tenant, fault(&mut self.rng)));
            let (call, fault) = OTHER
                .choose(&mut self.rng)
                .and_then(|other| other.split_once('='))
                .expect("a call and its fault");
            self.world.arm(&format!("{call}@{}:1={fault}", names.tenant));
        }
        let rotations = join_all(self.names.iter().map(|names| async {
            let asked = self.world.node().rotate(&names.tenant, &names.provider, "a storm");
            soon("a rotation's begin", asked).await.expect("accepted")
        }));
        let rotations = rotations.await;
        if self.waves % 2 == 1 {
            self.kill_at_some_phase(&rotations).await;
        }
        let ends = rotations.iter().map(|rotation| self.complete(rotation));
        join_all(ends).await;
        // Whoever is there already is only followed.
        self.join(&agents).await;
        self.waves += 1;
        let done = self.waves * self.names.len();
        self.rotations.push((self.began.elapsed().as_secs_f64(), as_f64(done)));
    }

    /// Two agents of each pair, one of which keeps its key.
    fn agents(&mut self) -> Vec<(usize, String, Role)> {
        let wave = self.waves as u64;
        let agents = (0..self.names.len()).flat_map(|pair| {
            [0, 1].map(|n| {
                let role = Role::mixed(wave * 31 + pair as u64 * 7 + n, 4);
                let role = if n == 0 { role.keeping() } else { role };
                (pair, format!("agent-{wave}-{n}"), role)
            })
        });
        let agents: Vec<_> = agents.collect();
        self.tasks += agents.len() as u64;
        agents
    }

    async fn spawn(&self, agents: &[(usize, String, Role)]) {
        for (pair, name, role) in agents {
            let Names { tenant, provider } = &self.names[*pair];
            let node = self.world.node();
            let spawned = node.spawn::<Puppet>(tenant, provider, name, role.clone());
            drop(soon("a spawn", spawned).await.expect("a task"));
        }
    }

    async fn join(&self, agents: &[(usize, String, Role)]) {
        for (pair, name, role) in agents {
            let Names { tenant, provider } = &self.names[*pair];
            let node = self.world.node();
            let spawned = node.spawn::<Puppet>(tenant, provider, name, role.clone());
            let handle = soon("a spawn", spawned).await.expect("a task");
            let joined = soon(name, handle.join()).await;
            joined.unwrap_or_else(|failure| panic!("{tenant} {name}: {failure}"));
        }
    }

    async fn kill_at_some_phase(&mut self, rotations: &[RotationId]) {
        let phase = *PHASES.choose(&mut self.rng).expect("there are phases");
        let rotation = rotations.choose(&mut self.rng).expect("there are rotations");
        self.until(&rotation.pair, phase, |view| {
            let mut marks = view.timeline.iter().filter(|mark| mark.rotation == *rotation);
            // One of class B ends without some of the phases.
            marks.any(|mark| [phase, "Complete"].contains(&phase_name(&mark.phase).as_str()))
        })
        .await;
        self.world.crash().await;
        self.kills += 1;
        self.world.start().await;
    }

    /// As [`World::complete`], and tells how a pair stands that does not come to its end.
    async fn complete(&self, rotation: &RotationId) {
        let finished = self.world.node().finished(rotation);
        match tokio::time::timeout(PATIENCE, finished).await {
            Ok(ended) => ended.unwrap_or_else(|why| panic!("{rotation}: {why}")),
            Err(_elapsed) => {
                let pair = &rotation.pair;
                let view = self.world.node().watch(pair).borrow().clone();
                let active = view.record.as_ref().and_then(|record| record.active);
                let holders = active.map(|version| self.world.node().holders(pair, version));
                panic!("{rotation} does not end; holders {holders:?}; {view:#?}");
            }
        }
    }

    async fn until(&self, pair: &PairId, what: &str, is_so: impl FnMut(&PairView) -> bool) {
        let mut views = self.world.node().watch(pair);
        soon(what, views.wait_for(is_so)).await.expect("the node outlives the wait");
    }

    /// Waits until nothing is owed any more.
    async fn debts_paid(&self) {
        for names in &self.names {
            let pair = self.world.node().pair(&names.tenant, &names.provider).expect("a pair");
            let stored = self.world.node().shared().ports.journal.load(&pair).await.expect("read");
            if stored.is_some_and(|stored| stored.record.obligations.is_empty()) {
                // Nobody takes it up after a kill.
                continue;
            }
            self.until(&pair, "the end of all debts", |view| {
                let record = view.record.as_ref();
                record.is_some_and(|record| record.obligations.is_empty())
            })
            .await;
        }
    }

    /// Has everything judged.
    async fn end(self) -> Judged {
        let rotated = self.names.iter().map(|it| PairName::new(&it.tenant, &it.provider)).collect();
        let tasks = self.tasks;
        let judged = self.world.judged(&[], |rules| {
            rules.rotated = rotated;
            rules.tasks_expected = Some(tasks);
        });
        let (verdict, dir) = judged.await;
        let keys = keys_issued(&dir.path().join("provider").join("ledger.jsonl"));
        Judged { verdict, keys, kills: self.kills, rotations: self.rotations }
    }
}

/// How a storm ended.
struct Judged {
    verdict: Verdict,
    /// Keys that the provider made.
    keys: usize,
    kills: usize,
    /// Rotations that had ended, over the seconds.
    rotations: Vec<(f64, f64)>,
}

impl Judged {
    fn violations(&self) -> String {
        let listed = self.verdict.violations.iter();
        listed.map(|it| format!("{}: {}", it.rule, it.what)).collect::<Vec<_>>().join("\n")
    }

    fn is_held(&self) -> bool {
        let live = &self.verdict.live_keys;
        self.verdict.violations.is_empty()
            && self.verdict.old_key_dead
            && (live.expected, live.found) == (PAIRS as u64, PAIRS as u64)
    }
}

fn keys_issued(ledger: &Path) -> usize {
    let ledger = BufReader::new(std::fs::File::open(ledger).expect("a ledger"));
    let lines = ledger.lines().map_while(Result::ok);
    lines.filter(|line| line.contains("\"event\":\"key_created\"")).count()
}

#[expect(clippy::cast_precision_loss, reason = "thousands need no 52 bits")]
fn as_f64(count: usize) -> f64 {
    count as f64
}

/// A fault of the call that issues. What is late comes within the time that the rules allow for:
/// the sweep horizon, or the settle wait of a provider that voids keys.
fn some_fault(class: Class) -> impl Fn(&mut StdRng) -> String {
    move |rng| {
        let latest = if class == Class::B { 1_000 } else { 2_500 };
        match *ISSUE.choose(rng).expect("there are faults") {
            "late" => format!("late:{}", rng.random_range(50..latest)),
            other => other.to_owned(),
        }
    }
}

/// Waves until enough rotations have ended, or the time is over.
async fn storm(class: Class, rotations: usize, seed: u64, until: Instant) -> Judged {
    let mut storm = Storm::open(class, PAIRS, seed, None).await;
    while storm.waves * PAIRS < rotations && (storm.waves < 2 || Instant::now() < until) {
        storm.wave(some_fault(class)).await;
    }
    storm.debts_paid().await;
    storm.end().await
}

/// A provider that is not told the truth about, to see that the verdict tells.
struct Liar {
    provider: Arc<dyn Provider>,
    lists_nothing: bool,
    revokes_nothing: bool,
}

#[async_trait]
impl Provider for Liar {
    fn capabilities(&self) -> Capabilities {
        self.provider.capabilities()
    }

    fn auth_header(&self) -> AuthHeader {
        self.provider.auth_header()
    }

    async fn preflight(&self, tenant: &TenantId) -> Result<(), Refusal> {
        self.provider.preflight(tenant).await
    }

    async fn issue(&self, request: &IssueRequest) -> Result<IssuedKey, Refusal> {
        self.provider.issue(request).await
    }

    async fn revoke(&self, tenant: &TenantId, key: &ProviderKeyId) -> Result<(), Refusal> {
        if self.revokes_nothing { Ok(()) } else { self.provider.revoke(tenant, key).await }
    }

    async fn list(&self, tenant: &TenantId, prefix: &str) -> Result<Vec<ListedKey>, Refusal> {
        if self.lists_nothing { Ok(Vec::new()) } else { self.provider.list(tenant, prefix).await }
    }

    async fn probe(&self, tenant: &TenantId, secret: &Secret) -> Health {
        self.provider.probe(tenant, secret).await
    }
}

fn without_sweeper(provider: Arc<dyn Provider>) -> Arc<dyn Provider> {
    Arc::new(Liar { provider, lists_nothing: true, revokes_nothing: false })
}

fn without_revoking(provider: Arc<dyn Provider>) -> Arc<dyn Provider> {
    Arc::new(Liar { provider, lists_nothing: false, revokes_nothing: true })
}

/// `is_settled`: what is owed is believed to be paid one day.
async fn mutant(name: &str, liar: StandIn, is_settled: bool) -> Mutant {
    let mut storm = Storm::open(Class::A, 2, SEED, Some(liar)).await;
    storm.wave(|_| "ack-lost".to_owned()).await;
    if is_settled {
        storm.debts_paid().await;
    }
    let judged = storm.end().await;
    let how = judged.violations();
    let refuted = how.contains("S4") || how.contains("L2");
    Mutant { name: name.into(), refuted, how }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_ambiguity_storm_leaves_one_live_key_for_each_pair() {
    let began = Instant::now();
    let until = began + budget(Duration::from_secs(60));
    let (seed, (a, b)) = if is_long_form() { (rand::random(), LONG) } else { (SEED, SHORT) };
    let mutants = vec![
        mutant("the sweeper never finds a key under a burned label", without_sweeper, true).await,
        mutant("a revocation is believed and never carried out", without_revoking, false).await,
    ];
    // The kinds share the time as they share the rotations.
    let share = until.saturating_duration_since(Instant::now()) / 4;
    let voided = storm(Class::B, b, seed, Instant::now() + share).await;
    let side_by_side = storm(Class::A, a, seed, until).await;
    let parts = [("side by side", &side_by_side), ("voided on issue", &voided)];
    let broken = parts.iter().filter(|(_, judged)| !judged.is_held()).map(|(kind, judged)| {
        let live = &judged.verdict.live_keys;
        format!("keys {kind}, seed {seed}: {live:?}\n{}", judged.violations())
    });
    let broken: Vec<_> = broken.collect();
    let ended = |judged: &Judged| judged.rotations.len() * PAIRS;
    Evidence {
        claim: "ambiguity-storm".into(),
        statement:
            "After rotations whose answers were lost, late or unreadable, on a node that was \
                    killed meanwhile, every pair has exactly one live key; none was forgotten and \
                    none died while it was held."
                .into(),
        method: "a node against the simulated provider with a fault in every rotation, judged by \
                 the oracle"
            .into(),
        cases: (ended(&side_by_side) + ended(&voided)) as u64,
        unit: "rotations".into(),
        seconds: began.elapsed().as_secs_f64(),
        holds: broken.is_empty(),
        counterexample: broken.join("\n"),
        mutants,
        command: command(COMMAND),
        notes: parts.iter().map(|(kind, judged)| note(kind, judged, seed)).collect(),
        series: vec![Series {
            name: "rotations that ended".into(),
            x: "seconds".into(),
            y: "rotations".into(),
            points: side_by_side.rotations.clone(),
        }],
    }
    .demand();
}

fn note(kind: &str, judged: &Judged, seed: u64) -> String {
    let (rotations, keys, kills) = (judged.rotations.len() * PAIRS, judged.keys, judged.kills);
    let unheard = keys.saturating_sub(rotations + PAIRS);
    format!(
        "keys {kind}: {rotations} rotations of {PAIRS} pairs, {kills} kills of the node; the \
         provider made {keys} keys, {unheard} of which nobody ever got; seed {seed}"
    )
}
