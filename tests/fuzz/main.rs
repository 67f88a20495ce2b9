//! Every parser of bytes from outside, fed with what nobody would send.
//!
//! [`targets::TARGETS`] is the table: a new parser joins by one line there and a folder below
//! `corpus`. A target may refuse what it likes; it must not panic, must not take more memory than
//! its input accounts for, and what it accepts must come back the same when it is written and read
//! again.
//!
//! The engine is a mutator that grows its pool by outcomes: an input that was taken in a way not
//! seen before is kept and changed further. It does not see the coverage of code. One seed for each
//! target, so that a run repeats the one before up to where its time ends.

mod engine;
mod hunt;
mod mutate;
mod planted;
mod targets;

use peak_alloc::PeakAlloc;

#[global_allocator]
static HEAP: PeakAlloc = PeakAlloc;
