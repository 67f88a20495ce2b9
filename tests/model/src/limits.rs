//! Bounds of the world, each with its reason.

/// Versions that a world can tell apart: their sets are kept in eight bits. A world that needs more
/// is refused loudly, never cut silently.
pub const VERSIONS_MAX: u8 = 7;

/// Steps within which a world left in peace must have finished. The longest way seen is a fifth.
pub const PEACE_STEPS_MAX: usize = 400;

/// Steps that the search for a mutant may take. All known ones need less than a tenth.
pub const MUTANT_STEPS_MAX: usize = 20_000_000;

/// Steps after which a world is cut whatever time is left: with some 170 bytes a state and seven
/// steps to each, that is about 4 GB.
pub const STEPS_MAX: usize = 150_000_000;
