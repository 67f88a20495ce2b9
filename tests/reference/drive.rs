//! What is the same for every port: sequences of steps, a store on a disk whose power can be cut,
//! and the comparison with the model after each step.

use std::fmt::Debug;
use std::marker::PhantomData;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use keybaton_evidence::{Evidence, Mutant, budget, command};
use proptest::prelude::{BoxedStrategy, Just, Strategy, any, prop_oneof};
use proptest::test_runner::{Config, RngAlgorithm, TestCaseError, TestError, TestRng, TestRunner};
use proptest_state_machine::ReferenceStateMachine;

use crate::store::{Stand, Store};

/// What a store said, as far as it is told from a plain answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Doubt {
    /// It may or may not have happened.
    Unknown,
    /// Nothing happened.
    Unavailable,
}

/// One port's operations, its model, and how the two are compared.
pub trait Port: Debug + Clone + 'static {
    /// An operation in words that fit any state: "commit with the right revision".
    type Op: Clone + Debug + 'static;
    /// The same with all its arguments.
    type Call: Clone + Debug + Send + Sync;
    /// What it answers.
    type Answer: PartialEq + Debug;
    /// Everything that can be read.
    type View: PartialEq + Debug;
    /// The model. Its `Default` is the empty store.
    type Model: Clone + Debug + Default + 'static;
    /// What a caller remembers from answers that no model can foretell.
    type Memory: Default;

    /// The claim's name.
    const CLAIM: &'static str;
    /// What is claimed.
    const STATEMENT: &'static str;
    /// Wrong stores, each of which must be noticed.
    const MUTANTS: &'static [&'static str];

    /// Operations worth trying.
    fn ops() -> BoxedStrategy<Self::Op>;
    /// The operation with its arguments; `n` is another number at every call.
    fn call(model: &Self::Model, op: &Self::Op, n: u64) -> Self::Call;
    /// What the model answers; changes it.
    fn expect(model: &mut Self::Model, call: &Self::Call) -> Self::Answer;
    /// Everything that can be read in the model.
    fn view(model: &Self::Model) -> Self::View;
    /// Fills in what only the store can choose.
    fn adopt(_model: &mut Self::Model, _view: &Self::View) {}
    /// Whether there is something to fill in.
    fn is_open(_model: &Self::Model) -> bool {
        false
    }
    /// Whether an answer leaves something open.
    fn doubt(answer: &Self::Answer) -> Option<Doubt>;
    /// Asks the store.
    async fn ask(store: &Store, memory: &mut Self::Memory, call: &Self::Call) -> Self::Answer;
    /// Reads everything.
    async fn look(store: &Store, model: &Self::Model, memory: &Self::Memory) -> Self::View;
}

/// One step of a sequence.
#[derive(Clone, Debug)]
pub enum Step<O> {
    /// An operation.
    Do(O),
    /// The store is closed and opened again.
    Reopen,
    /// The power is cut between two operations, and the store opened again.
    Cut,
    /// The power is cut in the middle of an operation.
    CutIn {
        /// Which operation.
        op: O,
        /// Where in its writing.
        at: Moment,
        /// By what chance bytes that were not synced stay.
        chance: u64,
        /// Is the operation asked again afterwards, as after an unknown outcome?
        again: bool,
    },
}

/// Where in the writing of an operation the power is cut.
#[derive(Clone, Copy, Debug)]
pub enum Moment {
    /// After so many writes.
    Write(u32),
    /// After so many syncs.
    Sync(u32),
}

/// The model and how many calls there were.
#[derive(Clone, Debug)]
pub struct Book<P: Port> {
    model: P::Model,
    calls: u64,
}

/// Makes the sequences. Here a cut-off write counts as done; the run itself knows better.
struct Sequences<P>(PhantomData<P>);

impl<P: Port> ReferenceStateMachine for Sequences<P> {
    type State = Book<P>;
    type Transition = Step<P::Op>;

    fn init_state() -> BoxedStrategy<Book<P>> {
        Just(Book { model: P::Model::default(), calls: 0 }).boxed()
    }

    fn transitions(_: &Book<P>) -> BoxedStrategy<Step<P::Op>> {
        let moment =
            prop_oneof![(0u32..12).prop_map(Moment::Write), (0u32..3).prop_map(Moment::Sync),];
        let cut_in = (P::ops(), moment, any::<u64>(), any::<bool>());
        prop_oneof![
            20 => P::ops().prop_map(Step::Do),
            1 => Just(Step::Reopen),
            2 => Just(Step::Cut),
            3 => cut_in.prop_map(|(op, at, chance, again)| Step::CutIn { op, at, chance, again }),
        ]
        .boxed()
    }

    fn apply(mut book: Book<P>, step: &Step<P::Op>) -> Book<P> {
        if let Step::Do(op) | Step::CutIn { op, .. } = step {
            let call = P::call(&book.model, op, book.calls);
            P::expect(&mut book.model, &call);
            book.calls += 1;
        }
        book
    }
}

/// Steps of one sequence, at most. A store of this many operations has every kind of row several
/// times over, and a minute has room for some hundred of them.
const STEPS_MAX: usize = 60;

/// Everything is read after so many calls, and at the end, and whenever the store was opened.
const LOOK_EVERY: u64 = 4;

/// Sequences from one seed.
const SEQUENCES: u32 = 4;

/// One store beside its model.
struct Pairing<P: Port> {
    stand: Stand,
    memory: P::Memory,
    book: Book<P>,
}

impl<P: Port> Pairing<P> {
    fn begin(mutant: Option<&'static str>, book: Book<P>) -> Self {
        Self { stand: Stand::open(mutant), memory: P::Memory::default(), book }
    }

    async fn take(&mut self, step: Step<P::Op>) -> Result<(), String> {
        match step {
            Step::Do(op) => {
                let call = self.name(&op);
                self.call(&call).await
            }
            Step::Reopen => {
                self.stand.reopen()?;
                self.compare("after it was opened again").await
            }
            Step::Cut => {
                self.stand.cut_power(0)?;
                self.compare("after a power cut").await
            }
            Step::CutIn { op, at, chance, again } => {
                let call = self.name(&op);
                self.cut_in(&call, at, chance).await?;
                if again { self.call(&call).await } else { Ok(()) }
            }
        }
    }

    fn name(&mut self, op: &P::Op) -> P::Call {
        self.book.calls += 1;
        P::call(&self.book.model, op, self.book.calls)
    }

    async fn call(&mut self, call: &P::Call) -> Result<(), String> {
        self.stand.remember();
        let answer = P::ask(self.stand.store(), &mut self.memory, call).await;
        let expected = P::expect(&mut self.book.model, call);
        if answer != expected {
            return Err(format!("{call:?} answered {answer:?} and not {expected:?}"));
        }
        // To read everything costs more than to write; what differs stays different.
        if self.book.calls.is_multiple_of(LOOK_EVERY) || P::is_open(&self.book.model) {
            return self.compare(&format!("after {call:?}")).await;
        }
        Ok(())
    }

    /// What was acknowledged is there; what was refused is not; what is unknown is there wholly or
    /// not at all.
    async fn cut_in(&mut self, call: &P::Call, at: Moment, chance: u64) -> Result<(), String> {
        let before = self.book.model.clone();
        let mut after = before.clone();
        let expected = P::expect(&mut after, call);
        self.stand.fail_at(at);
        let answer = P::ask(self.stand.store(), &mut self.memory, call).await;
        let possible = match P::doubt(&answer) {
            Some(Doubt::Unknown) => vec![before, after],
            Some(Doubt::Unavailable) => vec![before],
            None if answer == expected => vec![after],
            None => {
                return Err(format!(
                    "{call:?}, cut off at {at:?}, answered {answer:?} and not {expected:?}"
                ));
            }
        };
        self.stand.cut_power(chance)?;
        let mut differences = Vec::new();
        for mut model in possible {
            let view = P::look(self.stand.store(), &model, &self.memory).await;
            P::adopt(&mut model, &view);
            if view == P::view(&model) {
                self.book.model = model;
                return Ok(());
            }
            differences.push(difference(&view, &P::view(&model)));
        }
        let seen = differences.join(", and ");
        Err(format!("{call:?}, cut off at {at:?}, answered {answer:?}; then {seen}"))
    }

    async fn compare(&mut self, when: &str) -> Result<(), String> {
        let view = P::look(self.stand.store(), &self.book.model, &self.memory).await;
        P::adopt(&mut self.book.model, &view);
        let expected = P::view(&self.book.model);
        if view == expected {
            return Ok(());
        }
        Err(format!("{when}: {}", difference(&view, &expected)))
    }
}

/// Letters before and behind the first difference that are shown.
const SHOWN: usize = 100;

/// The first place where two views differ, with what stands around it.
fn difference(seen: &impl Debug, expected: &impl Debug) -> String {
    let (seen, expected) = (format!("{seen:?}"), format!("{expected:?}"));
    let same = seen.chars().zip(expected.chars()).take_while(|(a, b)| a == b).count();
    let around = |text: &str| -> String {
        text.chars().skip(same.saturating_sub(SHOWN)).take(2 * SHOWN).collect()
    };
    format!("there was\n  …{}…\nand not\n  …{}…", around(&seen), around(&expected))
}

/// What came of one seed: how many steps were taken, or the shortest sequence that fails.
fn run<P: Port>(seed: u64, mutant: Option<&'static str>) -> Result<u64, String> {
    let config = Config {
        cases: SEQUENCES,
        failure_persistence: None,
        max_shrink_iters: if mutant.is_some() { 60 } else { 1000 },
        max_shrink_time: if mutant.is_some() { 1_500 } else { 30_000 },
        ..Config::default()
    };
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&seed.to_le_bytes());
    let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &bytes);
    let mut runner = TestRunner::new_with_rng(config, rng);
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let steps = std::cell::Cell::new(0);
    let sequences = Sequences::<P>::sequential_strategy(1..=STEPS_MAX);
    let done = runner.run(&sequences, |(book, transitions, seen)| {
        runtime.block_on(async {
            let mut pairing = Pairing::begin(mutant, book);
            for step in transitions {
                if let Some(seen) = &seen {
                    seen.fetch_add(1, Ordering::SeqCst);
                }
                steps.set(steps.get() + 1);
                let taken = pairing.take(step).await;
                taken.map_err(|why| TestCaseError::fail(pairing.stand.without_place(&why)))?;
            }
            let whole = pairing.compare("at the end").await;
            whole.map_err(|why| TestCaseError::fail(pairing.stand.without_place(&why)))
        })
    });
    match done {
        Ok(()) => Ok(steps.get()),
        Err(TestError::Fail(why, (_, transitions, _))) => {
            let short = |text: String| text.chars().take(LINE_LETTERS_MAX).collect::<String>();
            let lines = transitions.iter().map(|step| short(format!("  {step:?}")));
            let why = why.message().lines().map(|line| short(line.to_owned()));
            let told: Vec<_> = lines.chain(why).collect();
            Err(format!("seed {seed}:\n{}", told.join("\n")))
        }
        Err(TestError::Abort(why)) => Err(format!("seed {seed} could not be run: {why}")),
    }
}

/// Letters of one line of a counterexample; what a checkpoint holds explains nothing.
const LINE_LETTERS_MAX: usize = 500;

/// How long a mutant has to survive to count as a survivor. Each is found within seconds.
const MUTANT_WAIT_MAX: Duration = Duration::from_secs(60);

fn refute<P: Port>(name: &'static str) -> Mutant {
    let began = Instant::now();
    let seeds = (0..).take_while(|_| began.elapsed() < MUTANT_WAIT_MAX);
    let found = seeds.into_iter().find_map(|seed| run::<P>(seed, Some(name)).err());
    Mutant { name: name.to_owned(), refuted: found.is_some(), how: found.unwrap_or_default() }
}

/// Runs one port's sequences for as long as there is time, then its mutants.
pub fn prove<P: Port>(usual: Duration) {
    let began = Instant::now();
    let limit = budget(usual);
    let (mut cases, mut seed, mut counterexample) = (0, 0, String::new());
    while counterexample.is_empty() && (seed == 0 || began.elapsed() < limit) {
        match run::<P>(seed, None) {
            Ok(steps) => cases += steps,
            Err(found) => counterexample = found,
        }
        seed += 1;
    }
    let seconds = began.elapsed().as_secs_f64();
    let mutants = P::MUTANTS.iter().map(|name| refute::<P>(name)).collect();
    Evidence {
        claim: P::CLAIM.into(),
        statement: P::STATEMENT.into(),
        method: "sequences of operations beside a model, shortened by proptest".into(),
        cases,
        unit: "operations".into(),
        seconds,
        holds: counterexample.is_empty(),
        counterexample,
        mutants,
        command: command(&format!(
            "cargo test -p keybaton-tests --test reference -- {}",
            P::CLAIM.replace('-', "_")
        )),
        notes: vec![
            format!(
                "{seed} seeds from 0 on, {SEQUENCES} sequences of up to {STEPS_MAX} steps each"
            ),
            "the power is cut between operations, after the n-th write and after the n-th sync of \
             one; bytes that were not synced stay or go by chance"
                .into(),
        ],
        series: Vec::new(),
    }
    .demand();
}
