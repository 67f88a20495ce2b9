//! Whether a policy holds together: checked once, before any rotation runs under it.

use std::time::Duration;

use thiserror::Error;

use crate::limits::DURATION_MAX;
use crate::policy::{OnStuck, Policy};

/// Two settings that contradict each other, or one that cannot be.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum BadPolicy {
    /// A wait of nothing.
    #[error("{0} is zero; it must be longer")]
    Zero(&'static str),
    /// A wait that outlasts everything.
    #[error("{name} is {value:?}; it must be at most ten years")]
    Endless {
        /// Which setting.
        name: &'static str,
        /// Its value.
        value: Duration,
    },
    /// One must not be longer than the other.
    #[error("{short} is {short_value:?} and {long} is {long_value:?}; {short} must not be longer")]
    Order {
        /// The setting that must not be longer.
        short: &'static str,
        /// Its value.
        short_value: Duration,
        /// The other setting.
        long: &'static str,
        /// Its value.
        long_value: Duration,
    },
    /// A choice that this class of provider does not have.
    #[error("{name} cannot be {choice:?}; use one of {allowed}")]
    Choice {
        /// Which setting.
        name: &'static str,
        /// What was chosen.
        choice: OnStuck,
        /// What there is.
        allowed: &'static str,
    },
}

impl Policy {
    /// Checks that the policy holds together.
    ///
    /// # Errors
    /// [`BadPolicy`], naming the settings and their values.
    pub fn validate(&self) -> Result<(), BadPolicy> {
        if self.probe_tries == 0 {
            return Err(BadPolicy::Zero("probe_tries"));
        }
        self.check_choices()?;
        for (name, value) in self.waits() {
            if value.is_zero() {
                return Err(BadPolicy::Zero(name));
            }
        }
        for (name, value) in self.waits().into_iter().chain(self.pauses()) {
            if value > DURATION_MAX {
                return Err(BadPolicy::Endless { name, value });
            }
        }
        self.orders().into_iter().try_for_each(|(short, short_value, long, long_value)| {
            if short_value > long_value {
                Err(BadPolicy::Order { short, short_value, long, long_value })
            } else {
                Ok(())
            }
        })
    }

    fn check_choices(&self) -> Result<(), BadPolicy> {
        if self.on_stuck == OnStuck::Reopen {
            return Err(BadPolicy::Choice {
                name: "on_stuck",
                choice: self.on_stuck,
                allowed: "wait, cut_calls, roll_back",
            });
        }
        if !matches!(self.on_stuck_b, OnStuck::Reopen | OnStuck::CutCalls) {
            return Err(BadPolicy::Choice {
                name: "on_stuck_b",
                choice: self.on_stuck_b,
                allowed: "reopen, cut_calls",
            });
        }
        Ok(())
    }

    /// Waits that must not be nothing: without them a loop would spin or a deadline be past.
    fn waits(&self) -> Vec<(&'static str, Duration)> {
        let mut waits = vec![
            ("soft_deadline", self.soft_deadline),
            ("hard_deadline", self.hard_deadline),
            ("hard_deadline_b", self.hard_deadline_b),
            ("drain_max", self.drain_max),
            ("call_time_max", self.call_time_max),
            ("settle", self.settle),
            ("revoke_deadline", self.revoke_deadline),
            ("call_timeout", self.call_timeout),
            ("probe_every", self.probe_every),
            ("probe_unknown_max", self.probe_unknown_max),
            ("count_every", self.count_every),
            ("retry_min", self.retry_min),
            ("retry_max", self.retry_max),
            ("retry_keyless_max", self.retry_keyless_max),
            ("attempt_every", self.attempt_every),
            ("person_timeout", self.person_timeout),
            ("sweep_horizon", self.sweep_horizon),
        ];
        waits.extend(self.interval.map(|interval| ("interval", interval)));
        waits
    }

    fn pauses(&self) -> [(&'static str, Duration); 3] {
        [
            ("expiry_lead", self.expiry_lead),
            ("overlap", self.overlap),
            ("emergency_grace", self.emergency_grace),
        ]
    }

    fn orders(&self) -> Vec<(&'static str, Duration, &'static str, Duration)> {
        let mut orders = vec![
            ("soft_deadline", self.soft_deadline, "hard_deadline", self.hard_deadline),
            ("hard_deadline", self.hard_deadline, "drain_max", self.drain_max),
            ("hard_deadline_b", self.hard_deadline_b, "drain_max", self.drain_max),
            ("emergency_grace", self.emergency_grace, "revoke_deadline", self.revoke_deadline),
            ("retry_min", self.retry_min, "retry_max", self.retry_max),
            // A label is looked for until long after the call that carried it can still execute.
            ("settle", self.settle, "sweep_horizon", self.sweep_horizon),
            ("attempt_every", self.attempt_every, "retry_min", self.retry_min),
            // Or a normal rotation would end calls that may still run.
            ("call_time_max", self.call_time_max, "drain_max", self.drain_max),
            ("count_every", self.count_every, "drain_max", self.drain_max),
        ];
        if let Some(interval) = self.interval {
            orders.push(("overlap", self.overlap, "interval", interval));
            orders.push(("drain_max", self.drain_max, "interval", interval));
        }
        orders
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(change: impl FnOnce(&mut Policy)) -> Result<(), BadPolicy> {
        let mut policy = Policy::default();
        change(&mut policy);
        policy.validate()
    }

    #[test]
    fn the_default_policy_holds_together_at_every_speed() {
        assert_eq!(with(|_| ()), Ok(()));
        assert_eq!(Policy::default().scaled(60).validate(), Ok(()));
    }

    #[test]
    fn a_deadline_of_nothing_or_of_ages_is_refused() {
        let zero = with(|policy| policy.hard_deadline = Duration::ZERO);
        assert_eq!(zero, Err(BadPolicy::Zero("hard_deadline")));
        let ages = with(|policy| policy.overlap = Duration::from_secs(u64::MAX));
        assert!(matches!(ages, Err(BadPolicy::Endless { name: "overlap", .. })), "{ages:?}");
    }

    #[test]
    fn two_settings_that_contradict_each_other_are_both_named() {
        let refused = with(|policy| policy.soft_deadline = policy.hard_deadline * 2);
        let text = refused.expect_err("soft after hard").to_string();
        assert!(text.contains("soft_deadline is 1200s"), "{text}");
        assert!(text.contains("hard_deadline is 600s"), "{text}");
        assert!(with(|policy| policy.interval = Some(Duration::from_secs(60))).is_err());
        assert!(with(|policy| policy.settle = policy.sweep_horizon * 2).is_err());
        assert!(with(|policy| policy.call_time_max = Duration::from_secs(3601)).is_err());
    }

    #[test]
    fn a_choice_that_its_class_does_not_have_is_refused() {
        let refused = with(|policy| policy.on_stuck = OnStuck::Reopen);
        let text = refused.expect_err("class A cannot reopen").to_string();
        assert!(text.contains("on_stuck cannot be Reopen"), "{text}");
        assert!(with(|policy| policy.on_stuck_b = OnStuck::Wait).is_err());
        assert!(with(|policy| policy.probe_tries = 0).is_err());
    }
}
