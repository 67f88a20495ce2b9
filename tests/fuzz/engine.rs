//! One input into one target, and many.

use std::collections::HashSet;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use data_encoding::HEXLOWER;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use crate::HEAP;
use crate::mutate::Mutator;

/// A parser under test.
#[derive(Clone, Copy)]
pub struct Target {
    /// The name of its folder in the corpus.
    pub name: &'static str,
    /// Feeds it. Says how the input was taken; panics when it was taken wrongly.
    pub run: fn(&[u8]) -> String,
    /// The folder with the inputs that it begins with.
    pub corpus: &'static str,
}

/// What a target did wrong.
#[derive(Clone, Debug)]
pub struct Find {
    target: &'static str,
    input: Vec<u8>,
    why: String,
}

impl std::fmt::Display for Find {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let hex = HEXLOWER.encode(&self.input);
        let Self { target, why, .. } = self;
        write!(
            f,
            "{target}: {why}\ninput: {hex}\nreplay: KEYBATON_FUZZ_TARGET={target} \
             KEYBATON_FUZZ_HEX={hex} cargo test -p keybaton-tests --test fuzz replay\n\
             then store it as tests/fuzz/corpus/{target}/<what-it-is>"
        )
    }
}

/// Memory that taking an input may need, in bytes: the largest buffer that a decoder of ours takes
/// at once is 4 MiB and is grown by doubling; beyond that, a hundred bytes for each byte of input,
/// since JSON becomes a tree.
fn heap_max(input: &[u8]) -> usize {
    12 * 1024 * 1024 + 100 * input.len()
}

/// Feeds one input.
pub fn feed(target: &Target, input: &[u8]) -> Result<String, Find> {
    HEAP.reset_peak_usage();
    let before = HEAP.current_usage();
    let taken = catch_unwind(AssertUnwindSafe(|| (target.run)(input)));
    let used = HEAP.peak_usage().saturating_sub(before);
    let find = |why| Find { target: target.name, input: input.to_vec(), why };
    match taken {
        Ok(_) if used > heap_max(input) => {
            Err(find(format!("{} bytes of input took {used} bytes of memory", input.len())))
        }
        Ok(outcome) => Ok(outcome),
        Err(panic) => {
            let text = panic.downcast_ref::<String>().cloned();
            let word = || panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
            Err(find(format!("panicked: {}", text.or_else(word).unwrap_or_default())))
        }
    }
}

/// Where the inputs to begin with lie.
pub fn folder(target: &Target) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(target.corpus)
}

/// The inputs to begin with, by name.
pub fn corpus(target: &Target) -> Vec<Vec<u8>> {
    let entries = std::fs::read_dir(folder(target));
    let entries = entries.unwrap_or_else(|error| panic!("{}: {error}", folder(target).display()));
    let mut files: Vec<_> = entries.map(|entry| entry.expect("an entry").path()).collect();
    files.sort();
    files.iter().map(|file| std::fs::read(file).expect("a readable file")).collect()
}

/// Inputs that are kept of one target, at most: every second one is then a repetition in other
/// words.
const POOL_MAX: usize = 2000;

/// One target with what was learnt of it.
pub struct Search {
    target: Target,
    pool: Vec<Vec<u8>>,
    seen: HashSet<u64>,
    random: StdRng,
    mutator: Mutator,
    /// Inputs so far.
    pub inputs: u64,
}

impl Search {
    /// Begins with the corpus.
    pub fn begin(target: Target) -> Result<Self, Find> {
        let pool = corpus(&target);
        let mut search = Self {
            target,
            seen: HashSet::new(),
            random: StdRng::seed_from_u64(hash(target.name)),
            mutator: Mutator::new(&pool),
            pool: Vec::new(),
            inputs: 0,
        };
        for input in pool {
            search.take(input)?;
        }
        Ok(search)
    }

    /// Feeds so many mutated inputs.
    pub fn go_on(&mut self, inputs: u32) -> Result<(), Find> {
        for _ in 0..inputs {
            // What was found last is changed first.
            let newest = self.random.random_bool(0.3);
            let at = match self.pool.len() {
                0 => return Ok(()),
                length if newest => length - 1 - self.random.random_range(0..length.min(8)),
                length => self.random.random_range(0..length),
            };
            let other = self.random.random_range(0..self.pool.len());
            let (input, other) = (&self.pool[at], &self.pool[other]);
            let mutated = self.mutator.change(&mut self.random, input, other);
            self.take(mutated)?;
        }
        Ok(())
    }

    /// How many ways of taking an input were seen.
    pub fn outcomes(&self) -> usize {
        self.seen.len()
    }

    fn take(&mut self, input: Vec<u8>) -> Result<(), Find> {
        self.inputs += 1;
        let outcome = feed(&self.target, &input)?;
        if self.pool.len() < POOL_MAX && self.seen.insert(shape(&outcome)) {
            self.pool.push(input);
        }
        Ok(())
    }
}

/// Two outcomes that differ in numbers and in what they repeat of the input have one shape.
fn shape(outcome: &str) -> u64 {
    // The codec quotes a refusal that has quotes itself.
    let (open, close) = if outcome.contains("OtherString(") {
        (outcome.find("\\\""), outcome.rfind("\\\""))
    } else {
        (outcome.find(['"', '`']), outcome.rfind(['"', '`']))
    };
    let (before, behind) = match (open, close) {
        (Some(open), Some(close)) => (&outcome[..open], &outcome[close..]),
        _ => (outcome, ""),
    };
    let letters = before.chars().chain(behind.chars()).filter(|c| !c.is_ascii_digit());
    hash(&letters.take(400).collect::<String>())
}

fn hash(text: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    text.hash(&mut hasher);
    hasher.finish()
}
