//! Brokers take grants, hand out, close, and give back; tasks hold one version at a time.
//!
//! Reading is a fresh read; being granted takes two steps, since the answer may be late. A broker
//! that has not read yet goes on handing out what it knows.

use crate::actions::Action;
use crate::state::State;
use crate::what::V;
use crate::world::World;

impl World {
    /// What this node's broker would hand out if it read now.
    pub(crate) fn sees(&self, s: &State, n: u8) -> Option<V> {
        let open = s.store.open.filter(|v| s.grants(n).has(*v));
        let is_kept = self.config.mutant == crate::Mutant::EmptyWithoutClose;
        // That mutant closes nothing before it has the next one to hand out.
        if is_kept && open.is_none() { s.node(n).open } else { open }
    }

    pub(crate) fn broker_step(&self, s: &mut State, action: Action) {
        match action {
            Action::Read(n) => {
                let open = self.sees(s, n);
                let node = s.node_mut(n);
                (node.open, node.granted) = (open, None);
            }
            Action::Grant(n) => {
                if let Some(v) = s.store.open {
                    s.grants_mut(n).put(v);
                    let node = s.node_mut(n);
                    match self.config.is_coarse {
                        true => node.open = Some(v),
                        false => node.granted = Some(v),
                    }
                }
            }
            Action::Granted(n) => {
                let node = s.node_mut(n);
                node.open = node.granted.take();
            }
            Action::Return(n, v) => s.grants_mut(n).take(v),
            Action::Acquire(n) => {
                let node = s.node_mut(n);
                node.task = node.open;
            }
            Action::Release(n) => s.node_mut(n).task = None,
            _ => {}
        }
    }
}
