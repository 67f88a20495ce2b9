//! Bytes from outside, however odd, are refused or understood; they never panic.
