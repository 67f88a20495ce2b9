//! What Vault knows of one pair's path without its values: numbers, bounds, the witness.

use std::collections::HashMap;

use keybaton_messages::{Epoch, Rev, Version};
use keybaton_ports::{Denial, Generation, Refusal, Witness};
use vaultrs::api::kv2::responses::ReadSecretMetadataResponse;

use super::limits::{VERSIONS_CEILING, VERSIONS_MAX};

const REV: &str = "kb_rev";
const EPOCH: &str = "kb_epoch";
const ACTIVE: &str = "kb_active_v";
const GENERATION: &str = "kb_store_gen";
/// Vault takes no empty value.
const NO_VERSION: &str = "none";

/// One path's metadata. The default is that of a path that is not there.
#[derive(Default)]
pub(super) struct Shelf {
    /// The highest number ever given.
    pub(super) current: u64,
    /// Numbers that still hold a value, ascending; also one that a person deleted, which could be
    /// undone.
    pub(super) held: Vec<u64>,
    max_versions: u64,
    /// Every write needs a check-and-set, and nothing ends by itself.
    is_strict: bool,
    custom: HashMap<String, String>,
}

impl Shelf {
    pub(super) fn new(answer: ReadSecretMetadataResponse) -> Self {
        let mut held: Vec<u64> = answer
            .versions
            .iter()
            .filter(|(_, state)| !state.destroyed)
            .filter_map(|(number, _)| number.parse().ok())
            .collect();
        held.sort_unstable();
        Self {
            current: answer.current_version,
            held,
            max_versions: answer.max_versions,
            is_strict: answer.cas_required && never_ends(&answer.delete_version_after),
            custom: answer.custom_metadata.unwrap_or_default(),
        }
    }

    /// How many versions Vault must keep so that the next write pushes out none that still holds a
    /// value; `None` when it keeps them already. A version that is not destroyed may be held.
    ///
    /// Vault forgets every number up to `newest - max_versions`.
    pub(super) fn room_needed(&self) -> Result<Option<u64>, Refusal> {
        let newest = self.current + 1;
        let oldest = self.held.first().copied().unwrap_or(newest);
        let needed = newest - oldest + 1;
        if needed > VERSIONS_CEILING {
            let why = format!(
                "version {oldest} is in the way of the {VERSIONS_CEILING} versions behind it: \
                 destroy what nobody uses (`vault kv destroy`)"
            );
            return Err(Refusal::denied(Denial::Quota, why));
        }
        let wanted = needed.next_power_of_two().max(VERSIONS_MAX);
        let is_enough = self.is_strict && self.max_versions >= needed.max(VERSIONS_MAX);
        Ok((!is_enough).then_some(wanted.max(self.max_versions)))
    }

    /// The witness, if one was written.
    pub(super) fn witness(&self) -> Result<Option<Witness>, Refusal> {
        let Some(rev) = self.custom.get(REV) else {
            return Ok(None);
        };
        let read = || {
            let active = match self.custom.get(ACTIVE)?.as_str() {
                NO_VERSION => None,
                number => Some(Version(number.parse().ok()?)),
            };
            let epoch = Epoch(self.custom.get(EPOCH)?.parse().ok()?);
            let journal = match self.custom.get(GENERATION) {
                None => None,
                Some(text) => Some(Generation::parse(text)?),
            };
            Some(Witness { rev: Rev(rev.parse().ok()?), epoch, active, journal })
        };
        read().map(Some).ok_or_else(|| {
            let why = "the witness in Vault's custom metadata is not what was written";
            Refusal::denied(Denial::Corrupt, why)
        })
    }

    /// The custom metadata with another witness. What people added stays.
    pub(super) fn with_witness(&self, witness: Witness) -> HashMap<String, String> {
        let active = witness.active.map_or_else(|| NO_VERSION.to_owned(), |it| it.0.to_string());
        let mut custom = self.custom.clone();
        custom.insert(REV.to_owned(), witness.rev.0.to_string());
        custom.insert(EPOCH.to_owned(), witness.epoch.0.to_string());
        custom.insert(ACTIVE.to_owned(), active);
        if let Some(journal) = witness.journal {
            custom.insert(GENERATION.to_owned(), journal.to_string());
        }
        custom
    }
}

/// Whether a `delete_version_after` deletes nothing: zero, or below zero for "never".
pub(super) fn never_ends(after: &str) -> bool {
    after.is_empty() || after == "0s" || after.starts_with('-')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shelf(current: u64, held: &[u64], max_versions: u64, is_strict: bool) -> Shelf {
        Shelf { current, held: held.to_vec(), max_versions, is_strict, ..Shelf::default() }
    }

    #[test]
    fn no_write_pushes_a_version_out_that_still_holds_a_value() {
        for (current, held, max, expected) in [
            (0, &[][..], 0, Some(64)),
            (0, &[], 64, None),
            (70, &[70], 64, None),
            (63, &[1, 63], 64, None),
            (64, &[1, 64], 64, Some(128)),
            (64, &[2, 64], 64, None),
            (200, &[7], 64, Some(256)),
            (200, &[7], 256, None),
            (900, &[], 10, Some(64)),
        ] {
            let room = shelf(current, held, max, true).room_needed();
            assert_eq!(room, Ok(expected), "{current} {held:?} {max}");
            // Vault forgets all up to `current + 1 - max`.
            let kept = expected.unwrap_or(max);
            assert!(held.iter().all(|number| *number + kept > current + 1), "{current} {held:?}");
        }
        assert!(shelf(2000, &[1], 64, true).room_needed().is_err());
    }

    #[test]
    fn a_path_that_takes_writes_without_a_check_is_made_strict() {
        assert_eq!(shelf(3, &[3], 64, false).room_needed(), Ok(Some(64)));
        assert_eq!(shelf(3, &[3], 500, false).room_needed(), Ok(Some(500)), "never lowered");
    }

    #[test]
    fn a_witness_reads_back_beside_what_people_wrote() {
        let mut shelf = Shelf::default();
        shelf.custom.insert("owner".to_owned(), "team a".to_owned());
        assert_eq!(shelf.witness(), Ok(None));
        for active in [None, Some(Version(7))] {
            for journal in [None, Generation::parse("abcdefg2")] {
                let witness = Witness { rev: Rev(30), epoch: Epoch(3), active, journal };
                shelf.custom = shelf.with_witness(witness);
                assert_eq!(shelf.witness(), Ok(Some(witness)));
                assert_eq!(shelf.custom["owner"], "team a");
                shelf.custom.remove(GENERATION);
            }
        }
        for (name, text) in [(GENERATION, "another"), (EPOCH, "many")] {
            shelf.custom.insert(name.to_owned(), text.to_owned());
            assert!(shelf.witness().is_err(), "{name}");
            shelf.custom.remove(GENERATION);
        }
    }

    #[test]
    fn only_a_time_above_zero_ends_versions() {
        for (after, is_never) in [("0s", true), ("", true), ("-1ns", true), ("720h0m0s", false)] {
            assert_eq!(never_ends(after), is_never, "{after}");
        }
    }
}
