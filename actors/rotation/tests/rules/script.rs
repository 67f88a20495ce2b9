//! The words of a script, and the bench that plays them.
//!
//! | word | means |
//! |---|---|
//! | `start`, `restart` | a new life of the owner |
//! | `provision`, `import`, `rotate[:v1]`, `emergency[:v1[:seconds]]` | triggers |
//! | `again` | the last trigger is delivered again |
//! | `ready`, `person`, `unready` | answers to Preflight |
//! | `issued`, `refused[:seconds]`, `denied`, `unknown` | answers to Issue |
//! | `located`, `nothing`, `claimed` | the secret under the label; the commit's refusal |
//! | `alive`, `dead`, `dunno`, `noscopes` | the answer to the last Probe |
//! | `returned:v1`, `held:v1` | a count or a guard: no grant, some grant |
//! | `revoked:v1`, `unrevoked:v1`, `destroyed:v1` | answers to Revoke and Destroy |
//! | `swept:v2`, `found:v2:key` | answers to Sweep |
//! | `submitted`, `expired` | a person |
//! | `abort`, `rollback`, `cut`, `extend:60`, `retry` | orders |
//! | `keydead:v2` | reports |
//! | `wait:60` | time passes; timers ring when they are due |
//! | `clock:-3600` | the store's clock is set |
//! | `A`, `B` | the class, before anything else; A unless said |
//! | `policy:name` | see [`Bench::adjust`] |
//! | `first` | a first key has come to be active as v1 |
//! | `promoted` | and it has been replaced by v2, so that v1 is draining |
//!
//! What is expected: the phase with its versions, then after `;` facts that must be there, or with
//! `no ` in front must not: effects of the last word, `v1 DRAINING`, `active v2`, `gate open`,
//! `owed sweep v2`, `armed soft 60`, `audit PROMOTED v2`, `guard no grants v1`, `reply ...`.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use keybaton_messages::{
    DeploymentId, Fingerprint, Incarnation, Label, NodeId, PairId, PairTag, ProviderKeyId,
    ProviderName, SecretVersion, TenantId, Timestamp, TriggerId, Version,
};
use keybaton_rotation::{
    Class, Context, Effect, Found, Health, Input, OnStuck, Order, OverlapFrom, Owner, PairRecord,
    Phase, Policy, Reason, Timer, Trigger, Want, step,
};

/// Plays `script` and compares what came of its last word with `expected`.
#[track_caller]
pub fn check(script: &str, expected: &str) {
    let bench = Bench::play(script);
    let (phase, facts) = expected.split_once(';').unwrap_or((expected, ""));
    let story = || bench.story(script);
    assert_eq!(bench.phase(), phase.trim(), "phase\n{}", story());
    for fact in facts.split(',').map(str::trim).filter(|fact| !fact.is_empty()) {
        match fact.strip_prefix("no ") {
            Some(absent) => assert!(!bench.has(absent), "unexpected: {absent}\n{}", story()),
            None => assert!(bench.has(fact), "missing: {fact}\n{}", story()),
        }
    }
}

/// Plays `script`, whose last word must be an impossibility.
#[track_caller]
pub fn impossible(script: &str) {
    let (before, last) = script.rsplit_once(' ').expect("two words");
    let mut bench = Bench::play(before);
    let input = bench.input(last).expect("an input");
    let policy = bench.policy.clone();
    assert!(step(&bench.record, input, &bench.context(&policy)).is_err(), "{script}");
}

pub struct Bench {
    pub record: PairRecord,
    policy: Policy,
    pub mono: u64,
    clock: i64,
    pub timers: BTreeMap<Timer, u64>,
    /// What came of the last word.
    pub facts: BTreeSet<String>,
    last_probe: Option<(Version, Version)>,
    last_preflight: Version,
    last_trigger: Option<Trigger>,
    triggers: u32,
}

impl Bench {
    #[track_caller]
    pub fn play(script: &str) -> Self {
        let owner = Owner { node: NodeId::new("n1").expect("a name"), incarnation: Incarnation(1) };
        let pair = PairId::new(
            TenantId::new("acme").expect("a name"),
            ProviderName::new("fake").expect("a name"),
        );
        let deployment = DeploymentId::from_digest(&[7; 16]);
        let tag = PairTag::from_digest(&[9; 16]);
        let mut bench = Self {
            record: PairRecord::new(pair, deployment, tag, Class::A, owner),
            policy: Policy::default(),
            mono: 1_000_000_000,
            clock: 0,
            timers: BTreeMap::new(),
            facts: BTreeSet::new(),
            last_probe: None,
            last_preflight: Version(1),
            last_trigger: None,
            triggers: 0,
        };
        for word in script.split_whitespace() {
            bench.word(word);
        }
        bench
    }

    fn word(&mut self, word: &str) {
        self.facts.clear();
        let (name, argument) = word.split_once(':').unwrap_or((word, ""));
        match name {
            "A" => self.record.class = Class::A,
            "B" => self.record.class = Class::B,
            "policy" => self.adjust(argument),
            "clock" => self.clock += 1000 * argument.parse::<i64>().expect("seconds"),
            "wait" => self.wait(argument.parse::<f64>().expect("seconds")),
            "first" => self.all("start provision wait:0 ready issued alive destroyed:v1"),
            "promoted" => self.all("first rotate wait:0 ready issued alive"),
            _ => {
                let input = self.input(word).unwrap_or_else(|| panic!("no such word: {word}"));
                if name == "restart" || name == "start" {
                    self.timers.clear();
                }
                self.step(input);
            }
        }
    }

    /// One more word.
    pub fn say(&mut self, word: &str) {
        self.word(word);
    }

    /// Whether the last word led to this.
    pub fn did(&self, fact: &str) -> bool {
        self.facts.contains(fact)
    }

    fn all(&mut self, script: &str) {
        for word in script.split(' ') {
            self.word(word);
        }
    }

    /// `overlap0`, `drained`, `cut`, `rollback`, `cut_b`, `hold` (no revoke without replacement),
    /// `interval`, `confirm`.
    fn adjust(&mut self, what: &str) {
        let policy = &mut self.policy;
        match what {
            "overlap0" => policy.overlap = Duration::ZERO,
            "drained" => policy.overlap_from = OverlapFrom::Drained,
            "cut" => policy.on_stuck = OnStuck::CutCalls,
            "rollback" => policy.on_stuck = OnStuck::RollBack,
            "cut_b" => policy.on_stuck_b = OnStuck::CutCalls,
            "hold" => policy.revoke_without_replacement = false,
            "interval" => policy.interval = Some(Duration::from_secs(90 * 86_400)),
            "confirm" => policy.confirm_dead = true,
            other => panic!("no such policy: {other}"),
        }
    }

    pub fn now(&self) -> Timestamp {
        Timestamp(self.mono.saturating_add_signed(self.clock))
    }

    fn context<'a>(&self, policy: &'a Policy) -> Context<'a> {
        // Jitter 100 of 0..=200 is none at all.
        Context { now: self.now(), jitter: 100, policy }
    }

    fn wait(&mut self, seconds: f64) {
        let until = self.mono + millis(Duration::from_secs_f64(seconds));
        loop {
            let due = self.timers.iter().map(|(timer, at)| (*at, *timer)).min();
            let Some((at, timer)) = due.filter(|(at, _)| *at <= until) else {
                break;
            };
            self.mono = self.mono.max(at);
            self.timers.remove(&timer);
            self.step(Input::Elapsed(timer));
        }
        self.mono = until;
    }

    fn step(&mut self, input: Input) {
        let policy = self.policy.clone();
        let decision = step(&self.record, input.clone(), &self.context(&policy))
            .unwrap_or_else(|impossible| panic!("{impossible}: {input:?}"));
        self.note(&decision);
        for effect in &decision.effects {
            match effect {
                Effect::Arm(timer, due) => self.arm(*timer, due.left(self.now())),
                Effect::ArmFor(timer, wait) => self.arm(*timer, *wait),
                Effect::Probe { version, attempt, .. } => {
                    self.last_probe = Some((*version, *attempt))
                }
                Effect::Preflight { attempt } => self.last_preflight = *attempt,
                _ => {}
            }
        }
        if let Some(record) = decision.record {
            self.record = record;
        }
    }

    fn arm(&mut self, timer: Timer, wait: Duration) {
        self.timers.insert(timer, self.mono + millis(wait));
    }

    /// The version that waits for something.
    fn awaited(&self) -> Version {
        let phase = self.record.rotation.as_ref().map(|r| &r.phase);
        phase.and_then(Phase::subject).unwrap_or(Version(1))
    }

    fn found(&self, version: Version) -> Found {
        Found {
            key_id: key(&format!("key-{version}")),
            secret: SecretVersion(u64::from(version.0)),
            fp: Fingerprint([u8::try_from(version.0).expect("few versions"); 32]),
            expires_at: None,
        }
    }

    fn label(&self, version: Version) -> Label {
        Label::new(&self.record.deployment, &self.record.tag, version)
    }

    fn input(&mut self, word: &str) -> Option<Input> {
        let mut parts = word.split(':');
        let name = parts.next()?;
        let first = parts.next();
        let second = parts.next();
        let version = first.and_then(parse_version);
        let seconds =
            |text: Option<&str>| text.and_then(|text| text.parse().ok()).map(Duration::from_secs);
        let why = "no".to_owned();
        let new = self.awaited();
        Some(match name {
            "start" | "restart" => {
                Input::Started { node: NodeId::new("n1").ok()?, incarnation: Incarnation(2) }
            }
            "provision" => self.trigger(Want::Provision),
            "import" => {
                let Found { key_id, secret, fp, .. } = self.found(self.record.next_version);
                self.trigger(Want::Import { key_id, secret, fp })
            }
            "rotate" => {
                let reason = Reason::Requested("test".to_owned());
                let target = version;
                self.trigger(Want::Rotate { target, reason })
            }
            "emergency" => {
                let reason = Reason::Requested("leak".to_owned());
                let compromised = version;
                let deadline = seconds(second);
                self.trigger(Want::Emergency { compromised, deadline, reason })
            }
            "again" => Input::Triggered(self.last_trigger.clone()?),
            "ready" | "person" => {
                Input::PreflightOk { attempt: self.last_preflight, person: name == "person" }
            }
            "unready" => Input::PreflightRefused {
                attempt: self.last_preflight,
                after: seconds(first),
                page: true,
                why,
            },
            "abort" => Input::Ordered(Order::Abort),
            "rollback" => Input::Ordered(Order::RollBack),
            "cut" => Input::Ordered(Order::Cut),
            "extend" => Input::Ordered(Order::Extend(seconds(first)?)),
            "retry" => Input::Ordered(Order::RetryNow),
            "keydead" => Input::KeyDead { version: version?, reports: 3 },
            _ => return self.answer(name, new, version, first, second),
        })
    }

    fn answer(
        &mut self,
        name: &str,
        new: Version,
        version: Option<Version>,
        first: Option<&str>,
        second: Option<&str>,
    ) -> Option<Input> {
        let about = version.unwrap_or(new);
        let Found { key_id, secret, fp, expires_at } = self.found(about);
        let why = "no".to_owned();
        let after = first.and_then(|text| text.parse().ok()).map(Duration::from_secs);
        Some(match name {
            "issued" => Input::Issued { version: about, key_id, secret, fp, expires_at },
            "submitted" => {
                Input::PersonSubmitted { version: about, key_id, secret, fp, expires_at }
            }
            "expired" => Input::PersonExpired { version: about },
            "refused" => Input::IssueRefused { version: new, after, admin: false, why },
            "denied" => Input::IssueRefused { version: new, after: None, admin: true, why },
            "unknown" => Input::IssueUnknown { version: about, why },
            "located" => Input::Located { version: about, found: Some(self.found(about)) },
            "nothing" => Input::Located { version: about, found: None },
            "claimed" => Input::KeyClaimed { version: about },
            _ => return self.later_answer(name, version, second),
        })
    }

    fn later_answer(
        &self,
        name: &str,
        version: Option<Version>,
        second: Option<&str>,
    ) -> Option<Input> {
        let why = "no".to_owned();
        Some(match name {
            "alive" => self.probed(Health::Alive),
            "dead" => self.probed(Health::Dead),
            "dunno" => self.probed(Health::Unknown),
            "noscopes" => self.probed(Health::MissingScopes),
            "returned" => Input::GrantReturned { version: version?, left: 0 },
            "held" => Input::GrantReturned { version: version?, left: 2 },
            "revoked" => Input::Revoked { version: version? },
            "unrevoked" => Input::RevokeRefused { version: version?, after: None, why },
            "destroyed" => Input::Destroyed { version: version? },
            "swept" => Input::Swept { label: self.label(version?), asked: self.now(), found: None },
            "found" => Input::Swept {
                label: self.label(version?),
                asked: self.now(),
                found: Some(key(second?)),
            },
            _ => return None,
        })
    }

    fn probed(&self, health: Health) -> Input {
        let (version, attempt) = self.last_probe.expect("a probe was asked");
        Input::Probed { version, attempt, health }
    }

    fn trigger(&mut self, want: Want) -> Input {
        self.triggers += 1;
        let id = TriggerId::new(&format!("t{}", self.triggers)).expect("a trigger id");
        let trigger = Trigger { id, want };
        self.last_trigger = Some(trigger.clone());
        Input::Triggered(trigger)
    }
}

fn parse_version(text: &str) -> Option<Version> {
    text.strip_prefix('v')?.parse().ok().map(Version)
}

fn key(name: &str) -> ProviderKeyId {
    ProviderKeyId::new(name).expect("a key id")
}

fn millis(wait: Duration) -> u64 {
    u64::try_from(wait.as_millis()).expect("a wait that fits")
}
