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
/// everything is done twice; in an order of the seed's.
pub fn others(seed: u64) -> Vec<Case> {
    let mut cases = Vec::new();
    for point in POINTS {
        for way in [Way::Stop, Way::Refuse, Way::Stumble] {
            cases.push(Case::one(point.stage, Fault::at(point, way)));
        }
        let life = vec![Fault::twice("*"), Fault::at(point, Way::Kill)];
        cases.push(Case { lives: vec![life], ..Case::one(point.stage, Fault::twice("*")) });
    }
    let doubled = DOUBLES.iter().map(|(stage, place)| Case::one(*stage, Fault::twice(place)));
    cases.extend(doubled);
    cases.shuffle(&mut StdRng::seed_from_u64(seed));
    cases
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
