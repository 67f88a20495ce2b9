//! Named places at which a test may kill this process, freeze it, take its disk away, or have an
//! effect carried out twice. An ordinary build has none of that: every function here is empty.
//!
//! ```text
//!   KEYBATON_CRASH_POINT = issue.answered@acme:2=kill, effect.*=twice
//!                          place         tenant n  way
//! ```
//!
//! **Invariant:** never in an optimised build.

#[cfg(feature = "crash-points")]
mod armed;
#[cfg(feature = "crash-points")]
mod disk;
#[cfg(feature = "crash-points")]
mod script;

#[cfg(feature = "crash-points")]
pub use armed::{committed, committing, doubles, doubles_effect, is_mutant, reach};
#[cfg(feature = "crash-points")]
pub use disk::check_disk;

#[cfg(all(feature = "crash-points", not(debug_assertions)))]
compile_error!("crash points kill the process that has them: build without `crash-points`");

#[cfg(not(feature = "crash-points"))]
pub use absent::{check_disk, committed, committing, doubles, doubles_effect, is_mutant, reach};

/// What an ordinary build has: nothing.
#[cfg(not(feature = "crash-points"))]
mod absent {
    use keybaton_messages::TenantId;
    use keybaton_rotation::{Effect, PairRecord};

    /// This process has come to `place` on behalf of `tenant`.
    #[inline]
    pub fn reach(_place: &str, _tenant: &TenantId) {}

    /// The next record is about to be committed.
    #[inline]
    pub fn committing(_before: &PairRecord, _next: &PairRecord) {}

    /// The next record is durable, and nobody has acted on it yet.
    #[inline]
    pub fn committed(_before: &PairRecord, _next: &PairRecord) {}

    /// Whether what is done at `place` is to be done twice.
    #[inline]
    #[must_use]
    pub fn doubles(_place: &str, _tenant: &TenantId) -> bool {
        false
    }

    /// Whether this effect is to be carried out twice.
    #[inline]
    #[must_use]
    pub fn doubles_effect(_effect: &Effect, _tenant: &TenantId) -> bool {
        false
    }

    /// Whether this process is to be wrong in this way.
    #[inline]
    #[must_use]
    pub fn is_mutant(_name: &str) -> bool {
        false
    }

    /// Whether the disk takes a write.
    ///
    /// # Errors
    /// Never.
    #[inline]
    pub fn check_disk() -> std::io::Result<()> {
        Ok(())
    }
}
