//! Collects violations: the first few of each rule in words, the rest as a number.

use std::collections::{BTreeMap, BTreeSet};

use crate::limits::VIOLATIONS_LISTED_MAX;
use crate::names::Name;
use crate::verdict::Violation;

/// What was found so far.
#[derive(Default)]
pub(crate) struct Findings {
    by_rule: BTreeMap<&'static str, (Vec<String>, u64)>,
    touched: BTreeSet<Name>,
}

impl Findings {
    /// Notes one violation of `rule`; `what` is only asked for when it is listed.
    pub(crate) fn add(&mut self, rule: &'static str, what: impl FnOnce() -> String) {
        let (listed, more) = self.by_rule.entry(rule).or_default();
        if listed.len() < VIOLATIONS_LISTED_MAX {
            listed.push(what());
        } else {
            *more += 1;
        }
    }

    /// Notes that a tenant who was not rotated noticed something (S5).
    pub(crate) fn touch(&mut self, tenant: Name, what: impl FnOnce() -> String) {
        self.touched.insert(tenant);
        self.add("S5", what);
    }

    /// How many tenants were touched.
    pub(crate) fn touched(&self) -> u64 {
        self.touched.len() as u64
    }

    /// Adds what was found elsewhere.
    pub(crate) fn absorb(&mut self, other: Self) {
        for (rule, (listed, more)) in other.by_rule {
            listed.into_iter().for_each(|what| self.add(rule, || what));
            (0..more).for_each(|_| self.add(rule, || "and one more".to_owned()));
        }
        self.touched.extend(other.touched);
    }

    /// Whether nothing was found.
    pub(crate) fn is_empty(&self) -> bool {
        self.by_rule.is_empty()
    }

    /// In the order of the rules.
    pub(crate) fn into_violations(self) -> Vec<Violation> {
        let mut violations = Vec::new();
        for (rule, (listed, more)) in self.by_rule {
            violations.extend(listed.into_iter().map(|what| Violation { rule, what }));
            if more > 0 {
                violations.push(Violation { rule, what: format!("and {more} more of this rule") });
            }
        }
        violations
    }
}
