//! Bounds of the world, each with its reason.

/// Versions that a world can tell apart: their sets are kept in eight bits. A world that needs more
/// is refused loudly, never cut silently.
pub const VERSIONS_MAX: u8 = 7;

/// Steps within which a world left in peace must have finished. The longest way seen is a fifth.
pub const PEACE_STEPS_MAX: usize = 400;

/// States that the search for a mutant may generate. All known ones need less than a tenth.
pub const MUTANT_STATES_MAX: usize = 20_000_000;
