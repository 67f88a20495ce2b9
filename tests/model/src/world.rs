//! The world as the checker sees it: first states, steps, promises.

use std::collections::HashSet;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use keybaton_rotation::Class;
use stateright::{Model, Property};

use crate::actions::{Action, How};
use crate::book::Book;
use crate::config::{Config, Promise};
use crate::state::{Actor, Behind, Key, Node, Stage, State, Versions, Wire};
use crate::what::{KeyRef, V};

/// A world of one pair. See [`Config`].
#[derive(Debug)]
pub struct World {
    pub(crate) config: Config,
    pub(crate) book: Book,
    /// States from which a continuation without faults is known to finish.
    pub(crate) finishing: Vec<Mutex<HashSet<u64>>>,
    /// No state is looked into after this.
    deadline: Option<Instant>,
    is_cut: AtomicBool,
    /// Nothing is explored any more; ways that were found are gone again.
    is_over: AtomicBool,
}

impl World {
    /// A world at its beginning: v1 is active and every node hands it out.
    #[must_use]
    pub fn new(config: Config) -> Self {
        let book = Book::new(&config);
        let finishing = (0..64).map(|_| Mutex::default()).collect();
        let [is_cut, is_over] = [false, false].map(AtomicBool::new);
        Self { config, book, finishing, deadline: None, is_cut, is_over }
    }

    /// The same world, looked into until `deadline` at most.
    #[must_use]
    pub(crate) fn until(self, deadline: Instant) -> Self {
        Self { deadline: Some(deadline), ..self }
    }

    /// Whether there was a state that was not looked into.
    pub(crate) fn is_cut(&self) -> bool {
        self.is_cut.load(Ordering::Relaxed)
    }

    /// The search is over: the way to what it found may take its time.
    pub(crate) fn stop_the_clock(&self) {
        self.is_over.store(true, Ordering::Relaxed);
    }

    fn is_late(&self) -> bool {
        let is_late = self.deadline.is_some_and(|deadline| Instant::now() >= deadline)
            && !self.is_over.load(Ordering::Relaxed);
        if is_late {
            self.is_cut.store(true, Ordering::Relaxed);
        }
        is_late
    }

    fn first(&self) -> State {
        let store = self.book.first_key(self.config.class);
        let mut granted = Versions::default();
        granted.put(1);
        let node = |is_owner: bool, is_there: bool| Node {
            is_alive: is_there,
            open: is_there.then_some(1),
            actor: is_owner.then(|| Actor::new(store.clone())),
            ..Node::default()
        };
        let has_two = self.config.nodes == 2;
        State {
            before: None,
            floating: None,
            grants: [granted, if has_two { granted } else { Versions::default() }],
            fences: [false, false],
            keys: vec![key(KeyRef::Own(1), false), key(KeyRef::Foreign, false)],
            wires: Vec::new(),
            secrets: vec![(1, KeyRef::Own(1))],
            asked: Versions::default(),
            created: Vec::new(),
            nodes: [node(true, true), node(false, has_two)],
            faults: self.config.faults,
            triggers: self.config.triggers,
            emergencies: self.config.emergencies,
            orders: self.config.orders,
            broken: None,
            store,
        }
    }

    /// The provider issues a key under this label; in class B every other key of ours dies.
    fn provider_issues(&self, s: &mut State, v: V, is_bad: bool) -> KeyRef {
        if self.config.class == Class::B {
            for key in s.keys.iter_mut().filter(|key| key.at != KeyRef::Foreign && key.is_alive) {
                key.is_alive = false;
                key.is_killed = true;
            }
        }
        let at = match s.key(KeyRef::Own(v)) {
            None => KeyRef::Own(v),
            Some(_) => KeyRef::Second(v),
        };
        s.keys.retain(|key| key.at != at);
        s.keys.push(key(at, is_bad));
        s.keys.sort_unstable();
        at
    }

    fn provider_revokes(&self, s: &mut State, at: KeyRef) {
        if let Some(key) = s.key_mut(at).filter(|key| key.is_alive) {
            key.is_alive = false;
            key.is_killed = true;
        }
        s.take_wire(Wire::Revoke(at));
    }

    fn provider_step(&self, s: &mut State, action: Action) {
        match action {
            Action::Issue { node, v, how } => {
                s.faults -= u8::from(how != How::Good);
                let key = match how {
                    How::Good => self.provider_issues(s, v, false),
                    How::Bad => self.provider_issues(s, v, true),
                    How::Foreign => KeyRef::Foreign,
                };
                s.node_mut(node).set_job(v, Stage::Answered(key));
                if self.config.is_coarse {
                    self.provider_step(s, Action::StoreSecret { node, v });
                }
            }
            Action::StoreSecret { node, v } => {
                if let Some(Stage::Answered(key)) = s.node(node).job(v) {
                    s.put_secret(v, key);
                    s.node_mut(node).set_job(v, Stage::Stored(key));
                }
            }
            Action::LateIssue(v) => {
                s.take_wire(Wire::Issue(v));
                self.provider_issues(s, v, false);
            }
            Action::Revoke(key) | Action::LateRevoke(key) => self.provider_revokes(s, key),
            Action::WireLost(wire) => s.take_wire(wire),
            Action::PersonCreates(v, key) => {
                s.asked.take(v);
                if key == KeyRef::Foreign {
                    s.faults -= 1;
                } else {
                    self.provider_issues(s, v, false);
                }
                s.put_secret(v, key);
                s.created.push((v, key));
            }
            Action::PersonForgets(v) => s.asked.take(v),
            Action::VendorKills(v) => {
                s.faults -= 1;
                if let Some(key) = s.store.key(v).and_then(|key| s.key_mut(key)) {
                    key.is_alive = false;
                }
            }
            _ => {}
        }
    }

    fn store_step(&self, s: &mut State, action: Action) {
        match action {
            Action::Lands => {
                if let Some(floating) = s.floating.take() {
                    self.write(s, floating.behind, &floating.decided);
                }
            }
            Action::FloatLost => s.floating = None,
            Action::RecordLost => {
                s.faults -= 1;
                if let Some(before) = s.before.take() {
                    s.store = before;
                    for actor in s.nodes.iter_mut().filter_map(|node| node.actor.as_mut()) {
                        actor.behind = Behind { rev: true, ..actor.behind };
                    }
                }
            }
            Action::GrantLost(n, v) => {
                s.faults -= 1;
                s.grants_mut(n).take(v);
            }
            _ => {}
        }
    }

    /// One step. `None`: it cannot happen.
    pub(crate) fn after(&self, last: &State, action: Action) -> Option<State> {
        let mut s = last.clone();
        match action {
            Action::Hear { node, source, what, fate } => {
                if !self.heard(&mut s, node, source, what, fate) {
                    return None;
                }
            }
            Action::DeposedWrites(node) => self.deposed_writes(&mut s, node),
            Action::Issue { .. }
            | Action::StoreSecret { .. }
            | Action::LateIssue(_)
            | Action::Revoke(_)
            | Action::LateRevoke(_)
            | Action::WireLost(_)
            | Action::PersonCreates(..)
            | Action::PersonForgets(_)
            | Action::VendorKills(_) => self.provider_step(&mut s, action),
            Action::Lands | Action::FloatLost | Action::RecordLost | Action::GrantLost(..) => {
                self.store_step(&mut s, action);
            }
            Action::Read(_)
            | Action::Grant(_)
            | Action::Granted(_)
            | Action::Return(..)
            | Action::Acquire(_)
            | Action::Release(_) => self.broker_step(&mut s, action),
            _ => self.node_step(&mut s, action),
        }
        self.check(&mut s);
        self.forget(&mut s);
        Some(s)
    }
}

/// Whether one promise is kept.
fn is_kept<const PROMISE: usize>(_: &World, s: &State) -> bool {
    s.broken != Some(Promise::ALL[PROMISE])
}

impl Model for World {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        vec![self.first()]
    }

    fn actions(&self, s: &State, out: &mut Vec<Action>) {
        if s.broken.is_none() && !self.is_late() {
            self.all_actions(s, out);
        }
    }

    fn next_state(&self, last: &State, action: Action) -> Option<State> {
        self.after(last, action)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        let words = |place: usize| Promise::ALL[place].words();
        let mut all = vec![
            Property::always(words(0), is_kept::<0>),
            Property::always(words(1), is_kept::<1>),
            Property::always(words(2), is_kept::<2>),
            Property::always(words(3), is_kept::<3>),
            Property::always(words(4), is_kept::<4>),
            Property::always(words(5), is_kept::<5>),
            Property::always(words(6), is_kept::<6>),
            Property::always(words(7), is_kept::<7>),
            Property::always(words(8), is_kept::<8>),
            Property::always(words(9), is_kept::<9>),
        ];
        if self.config.judged.contains(&Promise::Finishes) {
            all.push(Property::always(Promise::Finishes.words(), Self::finishes));
        }
        all
    }
}

fn key(at: KeyRef, is_bad: bool) -> Key {
    Key { at, is_alive: true, is_bad, is_killed: false, is_forced: false }
}
