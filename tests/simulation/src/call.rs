//! One call of a port: there, carried out, and back; or not, or late, or twice, or nobody knows.

use std::sync::Arc;
use std::time::Duration;

use keybaton_fakes::faults::Faulty;
use tokio::sync::oneshot;

use crate::agenda::Bound;
use crate::flaws::Flaw;
use crate::limits::{LATE_MAX, LATE_MAX_B, SETTLE, TRAVEL_MAX};
use crate::world::World;

/// The ports that can be away.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Port {
    Journal,
    Tasks,
    Secrets,
    Checkpoints,
    Provider,
    Bus,
    Audit,
}

impl Port {
    pub(crate) const ALL: [Self; 7] = [
        Self::Journal,
        Self::Tasks,
        Self::Secrets,
        Self::Checkpoints,
        Self::Provider,
        Self::Bus,
        Self::Audit,
    ];
}

/// What a call does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// It only asks.
    Read,
    /// It changes something in a store of the node, which refuses what is stale.
    Write,
    /// As a write, and the store carries it out in order or never: nothing in it tells a stale one.
    Ordered,
    /// It changes something at a vendor.
    Order,
    /// It issues a key and so voids the older ones.
    Void,
}

/// A call on its way.
pub(crate) struct Call {
    pub(crate) port: Port,
    pub(crate) kind: Kind,
    pub(crate) name: &'static str,
    /// What it is about, for the trace.
    pub(crate) about: String,
}

/// What becomes of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    Fine,
    /// The other side is away.
    Away,
    /// Nobody knows; it did not happen.
    Lost,
    /// Nobody knows; it happened.
    Unheard,
    /// Nobody knows; it happens so much later.
    Late(Duration),
}

#[derive(Clone, Copy)]
struct Travel {
    there: Duration,
    back: Duration,
    fate: Fate,
    /// The node crashes before it asks, or once it is carried out.
    crash: Option<bool>,
}

impl World {
    /// Carries one call out as chance wants it.
    pub(crate) async fn ask<T, E>(
        self: &Arc<Self>,
        call: Call,
        effect: impl FnOnce(&Arc<Self>) -> Result<T, E> + Send + 'static,
        show: fn(&T) -> String,
    ) -> Result<T, E>
    where
        T: Send + 'static,
        E: Faulty + std::fmt::Debug + Send + 'static,
    {
        self.live_on().await;
        let travel = self.travel(call.port, call.kind);
        let Call { name, about, .. } = &call;
        self.note(|| format!("> {name} {about}"));
        if travel.crash == Some(true) {
            self.crash(name);
            self.live_on().await;
        }
        let carried = self.carry(&call, travel, effect).await;
        if travel.crash == Some(false) {
            self.crash(name);
        }
        self.live_on().await;
        if !travel.back.is_zero() {
            tokio::time::sleep(travel.back).await;
            self.live_on().await;
        }
        let answer = match (travel.fate, carried) {
            (Fate::Fine, Some(answer)) => answer,
            (Fate::Away, _) => Err(E::unavailable()),
            _ => Err(E::unknown()),
        };
        self.note(|| match &answer {
            Ok(value) => format!("< {name} {about} -> {}", show(value)),
            Err(error) => format!("< {name} {about} -> {error:?}"),
        });
        answer
    }

    async fn carry<R: Send + 'static>(
        self: &Arc<Self>,
        call: &Call,
        travel: Travel,
        effect: impl FnOnce(&Arc<Self>) -> R + Send + 'static,
    ) -> Option<R> {
        let bound = match call.kind {
            Kind::Read | Kind::Write | Kind::Ordered => Bound::Process,
            Kind::Order | Kind::Void => Bound::Wire,
        };
        match travel.fate {
            Fate::Away | Fate::Lost => None,
            Fate::Late(wait) => {
                let name = call.name;
                self.after(wait, bound, move |world| {
                    world.note(|| format!("late: {name}"));
                    drop(effect(world));
                });
                None
            }
            Fate::Fine | Fate::Unheard if travel.there.is_zero() => Some(effect(self)),
            Fate::Fine | Fate::Unheard => {
                let (port, answer) = oneshot::channel();
                self.after(travel.there, bound, move |world| {
                    // Whoever asked may be gone.
                    drop(port.send(effect(world)));
                });
                answer.await.ok()
            }
        }
    }

    fn travel(&self, port: Port, kind: Kind) -> Travel {
        if !self.is_chaos() {
            let (there, back) = (Duration::ZERO, Duration::from_millis(1));
            return Travel { there, back, fate: Fate::Fine, crash: None };
        }
        let (there, back) = (self.way(), self.way());
        let fate = if self.is_away(port) { Fate::Away } else { self.fate(kind) };
        let crash = self.dice.chance(1).then(|| self.dice.chance(500));
        Travel { there, back, fate, crash }
    }

    fn way(&self) -> Duration {
        match self.dice.between(0, 99) {
            0..60 => Duration::ZERO,
            60..95 => self.dice.millis(1, 60),
            _ => self.dice.wait(Duration::from_millis(60), TRAVEL_MAX),
        }
    }

    fn fate(&self, kind: Kind) -> Fate {
        let roll = self.dice.between(0, 999);
        match (kind, roll) {
            (Kind::Read, 0..30) => Fate::Away,
            (Kind::Write | Kind::Ordered, 0..25) | (Kind::Order | Kind::Void, 0..50) => Fate::Away,
            (Kind::Write | Kind::Ordered, 25..40) | (Kind::Order | Kind::Void, 50..110) => {
                Fate::Lost
            }
            (Kind::Write | Kind::Ordered, 40..70) | (Kind::Order | Kind::Void, 110..180) => {
                Fate::Unheard
            }
            (Kind::Write, 70..85) => Fate::Late(self.dice.millis(1, 2000)),
            (Kind::Order, 180..250) => Fate::Late(self.dice.wait(TRAVEL_MAX, LATE_MAX)),
            (Kind::Void, 180..250) if self.flaw == Some(Flaw::LateAfterSettle) => {
                Fate::Late(self.dice.wait(SETTLE * 2, SETTLE * 4))
            }
            (Kind::Void, 180..250) => Fate::Late(self.dice.wait(TRAVEL_MAX, LATE_MAX_B)),
            _ => Fate::Fine,
        }
    }
}
