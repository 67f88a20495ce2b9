//! scratch
use keybaton_model::{Config, Fault, explore};
use std::time::Duration;
#[test]
fn scratch() {
    let n = |k: &str, d: u8| std::env::var(k).ok().map_or(d, |t| t.parse().unwrap());
    const ALL: &[Fault] = &[Fault::Crash, Fault::ActorDies, Fault::CommitFloats, Fault::Abandon, Fault::Refuse, Fault::BadKey, Fault::ForeignKey, Fault::ProbeErrs, Fault::RevokeErrs, Fault::Unready, Fault::Doubled];
    const CUT: &[Fault] = &[Fault::Crash, Fault::Cut, Fault::Abandon];
    let class = if n("B", 0) == 1 { keybaton_rotation::Class::B } else { keybaton_rotation::Class::A };
    let config = Config { faults: n("F", 0), nodes: n("N", 1), triggers: n("T", 1), orders: n("O", 0), emergencies: n("E", 0), person: n("P", 0) == 1, kinds: if n("CUT", 0) == 1 { CUT } else { ALL }, ..Config::new(class) };
    let found = explore(config, Duration::from_secs(u64::from(n("S", 60)) * 4));
    if let Some((_, how)) = &found.broken { println!("{how}"); }
    println!("states {} steps {} depth {} took {:?} complete {}", found.states, found.steps, found.depth, found.took, found.is_complete);
}
