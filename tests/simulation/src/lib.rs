//! The real actors in one thread, with a seed for every choice and a clock that only the test moves.
