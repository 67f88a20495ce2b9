//! Processes die and come back; leases end; fences are written, waited out and used.
//!
//! A lease that was waited out has certainly ended: the wait is longer than the lease, whatever the
//! clocks do within their bound. So the wait ends only when that life of the node uses nothing any
//! more, because it died or because it fenced itself.

use crate::actions::{Action, other};
use crate::config::{Fault, Mutant};
use crate::state::{Node, Question, Stage, State, Versions, Wire};
use crate::world::World;

impl World {
    pub(crate) fn node_actions(&self, s: &State, n: u8, out: &mut Vec<Action>) {
        let node = s.node(n);
        if !node.is_alive {
            out.push(Action::Restart(n));
            return;
        }
        if self.may(s, Fault::Crash) {
            out.push(Action::Crash(n));
        }
        if self.may(s, Fault::ActorDies) && node.actor.is_some() {
            out.push(Action::ActorDies(n));
        }
        if node.is_cut {
            out.push(Action::Reconnect(n));
        } else if self.may(s, Fault::Cut) {
            out.push(Action::Cut(n));
        }
        if !node.is_fenced && (node.is_cut || s.is_row_fenced(n)) {
            out.push(Action::SelfFence(n));
        }
        if node.is_fenced && (node.actor.is_some() || !node.jobs.is_empty()) {
            out.push(Action::StopActor(n));
        } else if node.is_fenced && !node.is_cut {
            out.push(Action::Rejoin(n));
        }
        if self.config.nodes == 2 {
            self.fence_actions(s, n, out);
        }
    }

    /// What this node may do about the other one's lease.
    fn fence_actions(&self, s: &State, n: u8, out: &mut Vec<Action>) {
        let (node, them) = (s.node(n), other(n));
        if node.is_cut || node.is_fenced {
            return;
        }
        let is_silent = !s.node(them).is_alive || s.node(them).is_cut;
        let has_grants = s.grants(them) != Versions::default();
        let is_worth_it = has_grants || s.node(them).is_serving();
        if is_silent && is_worth_it && !s.is_row_fenced(them) {
            out.push(Action::Fence(n));
        }
        if node.actor.is_none() {
            return;
        }
        let has_ended = !s.node(them).is_serving();
        let has_waited = has_ended || self.config.mutant == Mutant::ReapWithoutWaiting;
        if s.is_row_fenced(them) && has_waited && has_grants && node.waited.is_none() {
            out.push(Action::Waited(n));
        }
        if node.waited.is_some() {
            out.push(Action::Reap(n));
        }
    }

    /// Whether the pair's actor may start on this node: it owns the pair, or takes it over from a
    /// node whose lease is fenced or has certainly ended.
    pub(crate) fn may_start(&self, s: &State, n: u8) -> bool {
        let node = s.node(n);
        if !node.is_serving() || node.is_cut || s.is_row_fenced(n) {
            return false;
        }
        let owner = s.store.owner;
        owner == n || s.is_row_fenced(owner) || !s.node(owner).is_serving()
    }

    /// The process of this node dies. What it has sent stays on the wire.
    pub(crate) fn crash(&self, s: &mut State, n: u8) {
        self.stop_jobs(s, n);
        *s.node_mut(n) = Node::default();
    }

    /// Its jobs end; what was sent may still execute.
    fn stop_jobs(&self, s: &mut State, n: u8) {
        let node = std::mem::take(s.node_mut(n));
        for job in &node.jobs {
            if job.stage == Stage::Sent {
                s.put_wire(Wire::Issue(job.v));
            }
        }
        for question in &node.questions {
            if let Question::Revoke(_, key) = question
                && s.is_live(*key)
            {
                s.put_wire(Wire::Revoke(*key));
            }
        }
        *s.node_mut(n) = Node { jobs: Vec::new(), questions: Vec::new(), ..node };
    }

    /// The pair's actor ends; the jobs of its process go on.
    pub(crate) fn end_actor(&self, s: &mut State, n: u8) {
        let node = s.node_mut(n);
        node.actor = None;
        node.waited = None;
    }

    /// A new life: its older grants are void and go.
    fn begin_life(&self, s: &mut State, n: u8) {
        s.fences[usize::from(n)] = false;
        s.grants_mut(n).clear();
        let waiting = &mut s.node_mut(other(n)).waited;
        *waiting = waiting.map(|_| false);
    }

    pub(crate) fn node_step(&self, s: &mut State, action: Action) {
        match action {
            Action::Crash(n) => {
                s.faults -= 1;
                self.crash(s, n);
            }
            Action::ActorDies(n) => {
                s.faults -= 1;
                self.end_actor(s, n);
            }
            Action::Restart(n) => {
                self.begin_life(s, n);
                s.node_mut(n).is_alive = true;
            }
            Action::Cut(n) => {
                s.faults -= 1;
                s.node_mut(n).is_cut = true;
            }
            Action::Reconnect(n) => s.node_mut(n).is_cut = false,
            Action::SelfFence(n) => {
                let node = s.node_mut(n);
                node.is_fenced = true;
                (node.open, node.task, node.granted) = (None, None, None);
            }
            Action::StopActor(n) => {
                self.stop_jobs(s, n);
                self.end_actor(s, n);
            }
            Action::Rejoin(n) => {
                self.begin_life(s, n);
                s.node_mut(n).is_fenced = false;
            }
            Action::Fence(n) => s.fences[usize::from(other(n))] = true,
            Action::Waited(n) => s.node_mut(n).waited = Some(true),
            Action::Reap(n) => self.reap(s, n),
            _ => {}
        }
    }

    /// Takes the grants of the other node, if it is still the life that was fenced.
    fn reap(&self, s: &mut State, n: u8) {
        let them = other(n);
        let waited = s.node_mut(n).waited.take();
        let is_it = s.is_row_fenced(them) && waited == Some(true);
        if is_it || self.config.mutant == Mutant::ReapUntied {
            s.grants_mut(them).clear();
        }
    }
}
