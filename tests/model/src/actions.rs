//! Everything that can happen next.

use keybaton_messages::VersionStatus;

use crate::config::Fault;
use crate::state::{Question, Stage, State, TIMERS, Wire};
use crate::what::{KeyRef, V, What};
use crate::world::World;

/// Where an input of the owner comes from; it is used up when it is heard.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Source {
    /// From outside, any number of times.
    Nobody,
    /// From a limited number of triggers, emergencies or orders.
    Operator,
    /// The answer to a question.
    Question(Question),
    /// The end of the issue call for a version.
    Job(V),
    /// A timer.
    Timer(keybaton_rotation::Timer),
    /// A person with a key for a version.
    Person(V, KeyRef),
}

/// What happens to the owner while it carries out one input.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Fate {
    /// Nothing.
    Well,
    /// Its process is killed after the commit and before the effects.
    Dies,
    /// It dies alone after the commit and before the effects.
    ActorDies,
    /// Its commit is on its way when its process is killed.
    Floats,
    /// The input comes again.
    Doubled,
}

/// How the provider executes an issue call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum How {
    /// With a good key.
    Good,
    /// With a key that it never accepts.
    Bad,
    /// With a key of another pair.
    Foreign,
}

/// One step of the world. Nodes are numbered from 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "each step is told in words where counterexamples are printed")]
pub enum Action {
    Hear { node: u8, source: Source, what: What, fate: Fate },
    Issue { node: u8, v: V, how: How },
    DeposedWrites(u8),
    StoreSecret { node: u8, v: V },
    LateIssue(V),
    Revoke(KeyRef),
    LateRevoke(KeyRef),
    WireLost(Wire),
    PersonCreates(V, KeyRef),
    PersonForgets(V),
    VendorKills(V),
    Crash(u8),
    ActorDies(u8),
    Restart(u8),
    Lands,
    FloatLost,
    Cut(u8),
    Reconnect(u8),
    SelfFence(u8),
    StopActor(u8),
    Rejoin(u8),
    Fence(u8),
    Waited(u8),
    Reap(u8),
    Read(u8),
    Grant(u8),
    Granted(u8),
    Return(u8, V),
    Acquire(u8),
    Release(u8),
    RecordLost,
    GrantLost(u8, V),
}

/// The other node.
pub(crate) fn other(node: u8) -> u8 {
    1 - node
}

impl World {
    /// Whether this fault may happen now.
    pub(crate) fn may(&self, s: &State, fault: Fault) -> bool {
        s.faults > 0 && self.config.kinds.contains(&fault)
    }

    pub(crate) fn all_actions(&self, s: &State, out: &mut Vec<Action>) {
        for node in 0..self.config.nodes {
            self.owner_actions(s, node, out);
            self.job_actions(s, node, out);
            self.node_actions(s, node, out);
            self.broker_actions(s, node, out);
        }
        self.provider_actions(s, out);
        self.store_actions(s, out);
    }

    /// What the actor on this node may hear.
    fn owner_actions(&self, s: &State, n: u8, out: &mut Vec<Action>) {
        let node = s.node(n);
        if !node.is_alive || node.is_cut {
            return;
        }
        let Some(actor) = &node.actor else {
            if self.may_start(s, n) {
                self.hear(s, n, Source::Nobody, What::Started(n), out);
            }
            return;
        };
        if self.is_deposed(s, n) {
            out.push(Action::DeposedWrites(n));
            return;
        }
        let what_rings = TIMERS.into_iter().filter(|t| actor.is_armed(*t) && self.may_ring(s, *t));
        for timer in what_rings {
            self.hear(s, n, Source::Timer(timer), What::Ring(timer), out);
        }
        for question in &node.questions {
            for what in self.answers(s, n, *question) {
                self.hear(s, n, Source::Question(*question), what, out);
            }
        }
        for job in &node.jobs {
            if let Stage::Stored(key) = job.stage {
                self.hear(s, n, Source::Job(job.v), What::Issued(job.v, key), out);
            }
        }
        for (v, key) in &s.created {
            self.hear(s, n, Source::Person(*v, *key), What::Submitted(*v, *key), out);
        }
        for (what, budget) in [
            (What::Rotate, s.triggers),
            (What::Emergency, s.emergencies),
            (What::RollBack, s.orders),
        ] {
            // What people ask of a deposed owner is answered by nobody.
            if budget > 0 && !actor.behind.rev {
                self.hear(s, n, Source::Operator, what, out);
            }
        }
        if self.config.kinds.contains(&Fault::VendorKills)
            && let Some(active) = actor.record.open
            && !self.works(s, actor.record.key(active))
        {
            self.hear(s, n, Source::Nobody, What::KeyDead(active), out);
        }
    }

    /// One input, with everything that may happen to the owner meanwhile.
    fn hear(&self, s: &State, node: u8, source: Source, what: What, out: &mut Vec<Action>) {
        let mut add = |fate| out.push(Action::Hear { node, source, what, fate });
        add(Fate::Well);
        if s.faults == 0 {
            return;
        }
        let is_doubled = matches!(source, Source::Job(_))
            || matches!(source, Source::Question(q) if !matches!(q, Question::Count(_)));
        if self.may(s, Fault::Doubled) && is_doubled {
            add(Fate::Doubled);
        }
        if !self.writes(s, node, what) {
            return;
        }
        if self.may(s, Fault::Crash) {
            add(Fate::Dies);
        }
        if self.may(s, Fault::ActorDies) {
            add(Fate::ActorDies);
        }
        if self.may(s, Fault::CommitFloats) && s.floating.is_none() {
            add(Fate::Floats);
        }
    }

    /// Whether there is anything to commit, so that the owner can die around its commit.
    fn writes(&self, s: &State, n: u8, what: What) -> bool {
        let record = s.node(n).actor.as_ref().map_or(&s.store, |actor| &actor.record);
        self.book.step(record, what).is_some_and(|decided| decided.record.is_some())
    }

    /// The issue calls of this node's process.
    fn job_actions(&self, s: &State, n: u8, out: &mut Vec<Action>) {
        for job in &s.node(n).jobs {
            let v = job.v;
            match job.stage {
                Stage::Sent => {
                    out.push(Action::Issue { node: n, v, how: How::Good });
                    if self.may(s, Fault::BadKey) {
                        out.push(Action::Issue { node: n, v, how: How::Bad });
                    }
                    if self.may(s, Fault::ForeignKey) {
                        out.push(Action::Issue { node: n, v, how: How::Foreign });
                    }
                }
                Stage::Answered(_) => out.push(Action::StoreSecret { node: n, v }),
                Stage::Stored(_) => {}
            }
            let is_heard = s.node(n).actor.is_some() && !s.node(n).is_cut && !self.is_deposed(s, n);
            if is_heard && self.may(s, Fault::Refuse) && job.stage == Stage::Sent {
                let (source, what) = (Source::Job(v), What::Refused(v));
                out.push(Action::Hear { node: n, source, what, fate: Fate::Well });
            }
            if is_heard && self.may(s, Fault::Abandon) && !matches!(job.stage, Stage::Stored(_)) {
                let (source, what) = (Source::Job(v), What::Unknown(v));
                out.push(Action::Hear { node: n, source, what, fate: Fate::Well });
            }
        }
    }

    /// What happens at the provider and at people's desks.
    fn provider_actions(&self, s: &State, out: &mut Vec<Action>) {
        for wire in &s.wires {
            match *wire {
                Wire::Issue(v) => out.push(Action::LateIssue(v)),
                Wire::Revoke(key) => out.push(Action::LateRevoke(key)),
            }
            out.push(Action::WireLost(*wire));
        }
        for key in s.keys.iter().filter(|key| key.is_alive) {
            let is_asked = |q: &Question| matches!(q, Question::Revoke(_, at) if *at == key.at);
            if s.nodes.iter().any(|node| node.questions.iter().any(is_asked)) {
                out.push(Action::Revoke(key.at));
            }
        }
        for v in s.asked.all() {
            out.push(Action::PersonCreates(v, KeyRef::Own(v)));
            if self.may(s, Fault::ForeignKey) {
                out.push(Action::PersonCreates(v, KeyRef::Foreign));
            }
            out.push(Action::PersonForgets(v));
        }
        if self.may(s, Fault::VendorKills)
            && let Some(v) = s.store.open
            && s.store.key(v).is_some_and(|key| s.is_live(key))
        {
            out.push(Action::VendorKills(v));
        }
    }

    fn store_actions(&self, s: &State, out: &mut Vec<Action>) {
        if s.floating.is_some() {
            out.push(Action::Lands);
            out.push(Action::FloatLost);
        }
        if self.may(s, Fault::WriteLost) {
            if s.before.is_some() {
                out.push(Action::RecordLost);
            }
            if self.config.mutant == crate::Mutant::GrantLost {
                for n in 0..self.config.nodes {
                    out.extend(s.grants(n).all().map(|v| Action::GrantLost(n, v)));
                }
            }
        }
    }

    /// The broker and the task of this node.
    fn broker_actions(&self, s: &State, n: u8, out: &mut Vec<Action>) {
        let node = s.node(n);
        if node.task.is_some() {
            out.push(Action::Release(n));
        }
        if !node.is_serving() {
            return;
        }
        if node.task.is_none() && node.open.is_some() {
            out.push(Action::Acquire(n));
        }
        if node.granted.is_some() {
            out.push(Action::Granted(n));
        }
        if node.is_cut || s.is_row_fenced(n) {
            return;
        }
        if self.sees(s, n) != node.open || node.granted.is_some() {
            out.push(Action::Read(n));
        }
        let may_have = s.store.open.filter(|v| !s.grants(n).has(*v));
        if may_have.is_some() && node.granted.is_none() {
            out.push(Action::Grant(n));
        }
        for v in s.grants(n).all() {
            let is_closed =
                node.open != Some(v) || self.config.mutant == crate::Mutant::EmptyWithoutClose;
            let is_empty = node.task != Some(v) && node.granted != Some(v);
            if is_closed && is_empty && s.store.status(v) != Some(VersionStatus::Active) {
                out.push(Action::Return(n, v));
            }
        }
    }
}
