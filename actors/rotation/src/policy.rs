//! How patient, how polite, how strict: every duration of a rotation, as data.
//!
//! A rotation keeps the policy it was accepted under, so that a change of configuration never
//! changes the rules in the middle.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// What happens to holders that stay past the hard deadline of a normal rotation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OnStuck {
    /// Page and wait until `drain_max`; nothing is interrupted.
    Wait,
    /// Cut the calls on the old key.
    CutCalls,
    /// Make the old key active again (class A before revoking).
    RollBack,
    /// Class B: hand the old key out again.
    Reopen,
}

/// From when the overlap counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OverlapFrom {
    /// From promote.
    Promoted,
    /// From when the last grant was returned.
    Drained,
}

/// Every duration and choice of a rotation. Seconds and fractions in configuration files.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Policy {
    /// Rotate by time this often; `None` = only when asked. Default: none.
    pub interval: Option<Duration>,
    /// Rotate this long before the provider lets a key expire. Default 48 h.
    pub expiry_lead: Duration,
    /// Ask the provider to let keys expire after interval + 50 %, where it can. Default on.
    pub set_expiry: bool,
    /// Keep the old key alive this long for a rollback. Default 300 s.
    pub overlap: Duration,
    /// From when the overlap counts. Default: promote.
    pub overlap_from: OverlapFrom,
    /// Class A: ask holders again after this. Default 60 s.
    pub soft_deadline: Duration,
    /// Class A: apply `on_stuck` after this. Default 600 s.
    pub hard_deadline: Duration,
    /// Class B: apply `on_stuck_b` after this. Default 30 s.
    pub hard_deadline_b: Duration,
    /// What happens at the hard deadline, class A. Default: wait.
    pub on_stuck: OnStuck,
    /// What happens at the hard deadline, class B. Default: reopen.
    pub on_stuck_b: OnStuck,
    /// A drain lasts at most this long. Default 1 h.
    pub drain_max: Duration,
    /// One call of a task lasts at most this long, rotation or not. Default 15 min.
    pub call_time_max: Duration,
    /// Class B: how long an abandoned issue call may still execute. Default 69 s (call timeout
    /// 30 s, node lease 9 s, 30 s).
    pub settle: Duration,
    /// Emergency: holders get this long before their calls are cut. Default 5 s.
    pub emergency_grace: Duration,
    /// Emergency: the compromised key is revoked this long after the trigger. Default 60 s.
    pub revoke_deadline: Duration,
    /// Emergency: revoke at the deadline even when there is no replacement. Default on.
    pub revoke_without_replacement: bool,
    /// A provider call is given up (and counts as ambiguous) after this. Default 30 s.
    pub call_timeout: Duration,
    /// Between two probes of a key. Default 12 s.
    pub probe_every: Duration,
    /// Probes that answer Dead before a key counts as bad. Default 5.
    pub probe_tries: u32,
    /// Unknown probes for this long: page. Default 10 min.
    pub probe_unknown_max: Duration,
    /// Between two counts of the grants of an awaited version. Default 3 s.
    pub count_every: Duration,
    /// First back-off of a failed attempt; doubles up to `retry_max`. Default 5 min.
    pub retry_min: Duration,
    /// Longest back-off. Default 6 h.
    pub retry_max: Duration,
    /// Longest back-off while there is no live key. Default 60 s.
    pub retry_keyless_max: Duration,
    /// Pause between two attempts within one rotation. Default 5 s.
    pub attempt_every: Duration,
    /// How long a person has to create a key. Default 24 h.
    pub person_timeout: Duration,
    /// A burned label is looked for until this long after it was burned. Default 24 h.
    pub sweep_horizon: Duration,
    /// Emergency and careful operators: probe the old key until it is refused. Default off.
    pub confirm_dead: bool,
    /// Hand over even when the checkpoint store is down (the journal has every result). Default
    /// on for class A.
    pub swap_without_checkpoint: bool,
}

impl Default for Policy {
    fn default() -> Self {
        const MINUTE: u64 = 60;
        const HOUR: u64 = 60 * MINUTE;
        let secs = Duration::from_secs;
        Self {
            interval: None,
            expiry_lead: secs(48 * HOUR),
            set_expiry: true,
            overlap: secs(300),
            overlap_from: OverlapFrom::Promoted,
            soft_deadline: secs(60),
            hard_deadline: secs(600),
            hard_deadline_b: secs(30),
            on_stuck: OnStuck::Wait,
            on_stuck_b: OnStuck::Reopen,
            drain_max: secs(HOUR),
            call_time_max: secs(15 * MINUTE),
            settle: secs(69),
            emergency_grace: secs(5),
            revoke_deadline: secs(60),
            revoke_without_replacement: true,
            call_timeout: secs(30),
            probe_every: secs(12),
            probe_tries: 5,
            probe_unknown_max: secs(10 * MINUTE),
            count_every: secs(3),
            retry_min: secs(5 * MINUTE),
            retry_max: secs(6 * HOUR),
            retry_keyless_max: secs(60),
            attempt_every: secs(5),
            person_timeout: secs(24 * HOUR),
            sweep_horizon: secs(24 * HOUR),
            confirm_dead: false,
            swap_without_checkpoint: true,
        }
    }
}

impl Policy {
    /// The same policy with every duration of a running rotation divided by `scale`: the demo and
    /// the tests see the real rules at another speed. Intervals of days are left alone.
    #[must_use]
    pub fn scaled(mut self, scale: u32) -> Self {
        for duration in [
            &mut self.overlap,
            &mut self.soft_deadline,
            &mut self.hard_deadline,
            &mut self.hard_deadline_b,
            &mut self.drain_max,
            &mut self.call_time_max,
            &mut self.settle,
            &mut self.emergency_grace,
            &mut self.revoke_deadline,
            &mut self.probe_every,
            &mut self.probe_unknown_max,
            &mut self.count_every,
            &mut self.retry_min,
            &mut self.retry_max,
            &mut self.retry_keyless_max,
            &mut self.attempt_every,
            &mut self.sweep_horizon,
            &mut self.call_timeout,
        ] {
            *duration /= scale.max(1);
        }
        self
    }
}
