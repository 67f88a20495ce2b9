//! Which runs are made, and in which order.

use rand::rngs::StdRng;
use rand::seq::{IndexedRandom, SliceRandom};
use rand::{Rng, SeedableRng};

use crate::case::{Case, Fault, Way};
use crate::points::{DOUBLES, POINTS, Point, Stage};

/// Every point with SIGKILL once.
pub fn kills() -> Vec<Case> {
    POINTS.iter().map(|point| Case::one(point.stage, Fault::at(point, Way::Kill))).collect()
}

/// Every point in every other way, everything that can be done twice, and every point killed while
/// everything is done twice; in an order of the seed's, one of each kind in turn.
pub fn others(seed: u64) -> Vec<Case> {
    let in_way = |way| {
        let at = move |point: &Point| Case::one(point.stage, Fault::at(point, way));
        POINTS.iter().map(at).collect::<Vec<_>>()
    };
    let killed = POINTS.iter().map(|point| {
        let life = vec![Fault::twice("*"), Fault::at(point, Way::Kill)];
        Case { lives: vec![life], ..Case::one(point.stage, Fault::twice("*")) }
    });
    let doubled = DOUBLES.iter().map(|(stage, place)| Case::one(*stage, Fault::twice(place)));
    let mut kinds = [Way::Stop, Way::Refuse, Way::Stumble].map(in_way).to_vec();
    kinds.extend([killed.collect(), doubled.collect()]);
    let mut rng = StdRng::seed_from_u64(seed);
    kinds.iter_mut().for_each(|cases| cases.shuffle(&mut rng));
    let mut in_turn = Vec::new();
    while kinds.iter().any(|cases| !cases.is_empty()) {
        in_turn.extend(kinds.iter_mut().filter_map(Vec::pop));
    }
    in_turn
}

/// Two points one after the other, in two lives of one run, for as long as somebody asks.
pub struct Pairs(StdRng);

impl Pairs {
    /// Draws from this seed.
    pub fn new(seed: u64) -> Self {
        Self(StdRng::seed_from_u64(seed))
    }

    fn point(&mut self) -> &'static Point {
        POINTS.choose(&mut self.0).expect("there are points")
    }

    fn way(&mut self) -> Way {
        let ways = [Way::Kill, Way::Kill, Way::Stop, Way::Refuse, Way::Stumble];
        *ways.choose(&mut self.0).expect("there are ways")
    }
}

impl Iterator for Pairs {
    type Item = Case;

    fn next(&mut self) -> Option<Case> {
        let first = self.point();
        // Whatever ends the first life.
        let fatal = if self.0.random_bool(0.8) { Way::Kill } else { Way::Refuse };
        let (place, way) = (self.point().place, self.way());
        Some(Case {
            lives: vec![vec![Fault::at(first, fatal)], vec![Fault::next(place, way)]],
            ..Case::one(first.stage, Fault::at(first, fatal))
        })
    }
}

/// The program made wrong on purpose, each time in the run that shows it.
pub fn mutants() -> Vec<(&'static str, Case)> {
    let killed = |stage, place, nth| {
        let point = Point { stage, place, nth, after_ms: 0 };
        Case::one(stage, Fault::at(&point, Way::Kill))
    };
    let mutant = |name, life, case| Case { mutant: Some((name, life)), ..case };
    vec![
        (
            "the intent is not written down before the provider is asked",
            mutant("forgets-intent", 0, killed(Stage::A, "issue.answered", 1)),
        ),
        (
            "what is owed is forgotten at a restart",
            mutant("forgets-obligations", 1, killed(Stage::Lost, "queued.committed", 3)),
        ),
        (
            "the old key is revoked although somebody holds it",
            Case {
                stage: Stage::A,
                lives: Vec::new(),
                mutant: Some(("counts-nobody", 0)),
                // Calls that last longer than the overlap.
                simulator: &["--fault", "chat@acme:6x8=stall:9000"],
            },
        ),
    ]
}
