//! Side effects in the world, as the provider saw them: each at most once.
//!
//! A tool call is known by its idempotency key and by the place in the task that made it. Twice
//! under one key means that a repeat was not recognised; two keys for one place mean that it was
//! made a second time under another name.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};

use crate::names::{Name, TaskKey};

/// Path prefix of calls that have a side effect.
pub(crate) const TOOLS_PATH: &str = "/v1/tools/";

/// Digest of an idempotency key. 128 bits: among a billion keys two are never alike by chance.
pub(crate) type Idem = u128;

/// The digest of `text`.
pub(crate) fn idem(text: &str) -> Idem {
    let half = |salt: u8| {
        let mut hasher = DefaultHasher::new();
        (salt, text).hash(&mut hasher);
        u128::from(hasher.finish())
    };
    half(0) << 64 | half(1)
}

/// Where in a task a tool was called: task, step, stage within the step.
pub(crate) type Place = (TaskKey, u64, Option<Name>);

/// Every side effect so far.
#[derive(Default)]
pub(crate) struct Effects {
    by_idem: HashMap<(Option<Name>, Name, Idem), u32>,
    by_place: HashMap<(Place, Name), Option<Idem>>,
}

/// Why a side effect was one too many.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Doubled {
    /// The same idempotency key was executed again.
    SameIdem,
    /// The same place in the task was executed again without the same idempotency key.
    SamePlace,
}

impl Effects {
    /// Notes that `tool` (a path) was executed.
    pub(crate) fn executed(
        &mut self,
        project: Option<Name>,
        tool: Name,
        idem: Option<Idem>,
        place: Option<Place>,
    ) -> Option<Doubled> {
        if let Some(idem) = idem {
            let times = self.by_idem.entry((project, tool, idem)).or_insert(0);
            *times += 1;
            if *times > 1 {
                return Some(Doubled::SameIdem);
            }
        }
        let place = place?;
        match self.by_place.insert((place, tool), idem) {
            Some(before) if before.is_none() || before != idem => Some(Doubled::SamePlace),
            _ => None,
        }
    }
}
