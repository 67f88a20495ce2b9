//! Ten thousand audit records, and everything that can be done to one byte or one record of them.
//!
//! The chain is made by the journal and shipped to a file, as a node does it. A tampered file is
//! judged by what judges a whole one: [`read_line`] reads each line and [`ChainWalk`] takes each
//! record. A walk depends on nothing but where it stands, so that a change is judged from the
//! record before it up to the one behind it; that this is what `verify_file` says of the whole file
//! is checked for some changes of every kind. An end that was cut off shows only beside the
//! journal's own head.

use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use keybaton_adapters::audit::{JsonlSink, read_file, read_line, verify_file};
use keybaton_adapters::store::MasterKey;
use keybaton_adapters::{Embedded, Options};
use keybaton_evidence::{Evidence, Mutant, budget, command, is_long_form};
use keybaton_messages::{PairId, Version};
use keybaton_ports::{AuditKey, AuditSink, ChainWalk, SealedAudit, seal};
use keybaton_rotation::{AuditEntry, AuditKind};
use keybaton_tests::conformance::records::{Writer, key_id, pair};
use parking_lot::Mutex;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

const RECORDS: usize = 10_000;

/// However little time there is, single bytes get this much of it.
const BYTES_TIME_MIN: Duration = Duration::from_secs(8);

/// Swaps and turns of records that are not neighbours.
const AT_RANDOM: usize = 2_000;

/// Records of one transaction.
const BATCH: usize = 200;

/// A chain as it was shipped.
struct Chain {
    pair: PairId,
    records: Vec<SealedAudit>,
    /// The file, and where each of its lines stands.
    bytes: Vec<u8>,
    lines: Vec<Range<usize>>,
    file: PathBuf,
    embedded: Embedded,
    _dir: tempfile::TempDir,
}

fn entry(n: usize) -> AuditEntry {
    const KINDS: [AuditKind; 4] =
        [AuditKind::Issued, AuditKind::Promoted, AuditKind::Revoked, AuditKind::Ordered];
    AuditEntry {
        kind: KINDS[n % KINDS.len()],
        dedupe: format!("key_{n}"),
        rotation: None,
        version: u32::try_from(n).ok().map(Version),
        key_id: Some(key_id(&format!("proj_acme/agents/key_{n}"))),
        note: format!("rotation {n}: \"quarterly\", asked by ops\u{1b}"),
    }
}

/// Lets the journal write the chain and a sink ship it.
async fn made() -> Chain {
    let dir = tempfile::tempdir().expect("a directory");
    let key = MasterKey::from_bytes([7; 32]);
    let embedded = Embedded::open(&dir.path().join("data"), key, &Options::default());
    let embedded = embedded.expect("a new store");
    let mut writer = Writer::begin(embedded.journal.clone(), "n1", pair("acme")).await;
    for batch in 0..RECORDS / BATCH {
        let entries = (batch * BATCH..(batch + 1) * BATCH).map(entry).collect();
        writer.commit(|transaction| transaction.audit = entries).await;
    }
    let file = dir.path().join("audit.jsonl");
    let sink = JsonlSink::open(&file).expect("a new file");
    let pair = pair("acme");
    let mut shipped = 0;
    while shipped < RECORDS as u64 {
        let page = embedded.journal.audit(&pair, shipped).await.expect("a page");
        sink.ship(&page).await.expect("shipped");
        shipped = page.last().expect("there are more").seq;
    }
    let (records, is_torn) = read_file(&file).expect("an audit file");
    assert!(!is_torn && records.len() == RECORDS, "{} records", records.len());
    let bytes = std::fs::read(&file).expect("an audit file");
    let mut at = 0;
    let lines = bytes.split_inclusive(|byte| *byte == b'\n').map(|line| {
        at += line.len();
        at - line.len()..at
    });
    let lines = lines.collect();
    Chain { pair, records, bytes, lines, file, embedded, _dir: dir }
}

/// What is done to a chain.
#[derive(Clone, Copy, Debug)]
enum Tampering {
    /// The byte at this place becomes another one.
    Byte(usize, u8),
    /// This record is taken out.
    Deleted(usize),
    /// Two records change places.
    Swapped(usize, usize),
    /// So many records stay.
    Truncated(usize),
    /// The records between are turned round.
    Reversed(usize, usize),
}

/// How a chain is verified; all but the first are wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verifier {
    Right,
    WithoutKey,
    WithoutLinks,
    WithoutHead,
}

impl Chain {
    fn key(&self) -> &AuditKey {
        &self.embedded.audit_key
    }

    /// The walk that has come to record `n`, counted from 0.
    fn before(&self, n: usize) -> ChainWalk<'_> {
        let mut walk = ChainWalk::begin(self.key(), &self.pair);
        if let Some(last) = n.checked_sub(1) {
            walk.records = n as u64;
            walk.head = self.records[last].hash;
        }
        walk
    }

    /// Where the change begins, what stands there instead, and the first record that is as it was.
    fn changed(&self, tampering: Tampering) -> (usize, Vec<u8>, usize) {
        let line = |n: usize| self.bytes[self.lines[n].clone()].to_vec();
        match tampering {
            Tampering::Byte(at, byte) => {
                let n = self.lines.partition_point(|line| line.end <= at);
                // Without its line feed a line runs on into the next one.
                let is_end = at + 1 == self.lines[n].end;
                let behind = (n + 1 + usize::from(is_end)).min(RECORDS);
                let start = self.lines[n].start;
                let mut bytes = self.bytes[start..self.lines[behind - 1].end].to_vec();
                bytes[at - start] = byte;
                (n, bytes, behind)
            }
            Tampering::Deleted(n) => (n, Vec::new(), n + 1),
            Tampering::Swapped(a, b) => {
                let between = (a + 1..b).flat_map(line);
                (a, [line(b), between.collect(), line(a)].concat(), b + 1)
            }
            Tampering::Truncated(n) => (n, Vec::new(), RECORDS),
            Tampering::Reversed(a, b) => (a, (a..=b).rev().flat_map(line).collect(), b + 1),
        }
    }

    /// The whole file with the change.
    fn file_with(&self, tampering: Tampering) -> Vec<u8> {
        let (from, instead, behind) = self.changed(tampering);
        let start = self.lines.get(from).map_or(self.bytes.len(), |line| line.start);
        let end = self.lines.get(behind).map_or(self.bytes.len(), |line| line.start);
        [&self.bytes[..start], &instead, &self.bytes[end..]].concat()
    }

    /// Does the change show?
    fn shows(&self, tampering: Tampering, verifier: Verifier) -> bool {
        let (from, instead, behind) = self.changed(tampering);
        let mut walk = self.before(from);
        for line in instead.split_inclusive(|byte| *byte == b'\n') {
            if !line.ends_with(b"\n") {
                return true;
            }
            match read_line(line) {
                Some(record) if self.accepts(&mut walk, &record, verifier) => {}
                _ => return true,
            }
        }
        // One record behind the change decides about all that follow: they are as they were.
        if let Some(next) = self.records.get(behind)
            && !self.accepts(&mut walk, next, verifier)
        {
            return true;
        }
        let last = self.records.last().expect("there are records");
        let is_at_end = behind == RECORDS && (walk.records, walk.head) != (last.seq, last.hash);
        is_at_end && verifier != Verifier::WithoutHead
    }

    fn accepts(&self, walk: &mut ChainWalk<'_>, record: &SealedAudit, verifier: Verifier) -> bool {
        let SealedAudit { seq, prev, kind, dedupe, body, .. } = record;
        let again = || seal(self.key(), &self.pair, *seq, *prev, kind, dedupe, body.clone());
        let is_taken = match verifier {
            Verifier::Right | Verifier::WithoutHead => return walk.step(record).is_ok(),
            Verifier::WithoutKey => {
                *seq == walk.records + 1 && *prev == walk.head && record.pair == self.pair
            }
            Verifier::WithoutLinks => again().hash == record.hash && record.pair == self.pair,
        };
        (walk.records, walk.head) = (*seq, record.hash);
        is_taken
    }

    /// What the program itself says of a file, beside the journal's head.
    fn is_whole_file(&self, path: &Path) -> bool {
        let last = self.records.last().expect("there are records");
        match verify_file(path, self.key()) {
            Ok((reports, false)) => {
                let [report] = &reports[..] else { return false };
                report.broken.is_none() && (report.records, report.head) == (last.seq, last.hash)
            }
            _ => false,
        }
    }
}

/// Every tampering but those of bytes, and some swaps and turns at random.
fn of_records(random: &mut StdRng) -> Vec<Tampering> {
    let mut all: Vec<_> = (0..RECORDS).map(Tampering::Deleted).collect();
    all.extend((1..RECORDS).map(|n| Tampering::Swapped(n - 1, n)));
    all.extend((0..RECORDS).map(Tampering::Truncated));
    for _ in 0..AT_RANDOM {
        let a = random.random_range(0..RECORDS - 1);
        // Far apart is judged by the first record alone; near by, all between are read.
        let b = random.random_range(a + 1..RECORDS.min(a + 12));
        all.push(Tampering::Swapped(a, b));
        all.push(Tampering::Reversed(a, b));
    }
    all
}

/// Judges on two threads until all is judged or the time is up. How many were, and the first that
/// did not show.
fn judge(
    chain: &Chain,
    verifier: Verifier,
    until: Instant,
    count: usize,
    nth: impl Fn(usize) -> Tampering + Sync,
) -> (u64, Option<Tampering>) {
    let judged = AtomicU64::new(0);
    let unseen = Mutex::new(None);
    std::thread::scope(|scope| {
        for thread in 0..2 {
            let (nth, judged, unseen) = (&nth, &judged, &unseen);
            scope.spawn(move || {
                for n in (thread..count).step_by(2) {
                    let tampering = nth(n);
                    if !chain.shows(tampering, verifier) {
                        *unseen.lock() = Some(tampering);
                    }
                    judged.fetch_add(1, Ordering::Relaxed);
                    let is_over = n % 64 < 2 && (unseen.lock().is_some() || Instant::now() > until);
                    if is_over {
                        return;
                    }
                }
            });
        }
    });
    (judged.into_inner(), unseen.into_inner())
}

/// Another byte for each place. The first round flips one bit, later ones take any other byte.
fn another(chain: &Chain, at: usize, round: u64) -> u8 {
    let byte = chain.bytes[at];
    if round == 0 {
        return byte ^ 1;
    }
    let mut random = StdRng::seed_from_u64(round.wrapping_mul(0x9e37_79b9) ^ at as u64);
    byte ^ random.random_range(1..=255u8)
}

/// Some changes of every kind as whole files, judged by the program's own verifier.
fn whole_files(chain: &Chain, of_records: &[Tampering]) -> Option<String> {
    let copy = chain.file.with_file_name("copy.jsonl");
    let mut random = StdRng::seed_from_u64(3);
    let mut some = vec![Tampering::Deleted(0), Tampering::Deleted(RECORDS - 1)];
    some.push(Tampering::Truncated(RECORDS / 2));
    some.extend((0..3).map(|_| of_records[random.random_range(0..of_records.len())]));
    let ends = [chain.bytes.len() - 1, chain.lines[17].end - 1, 0];
    let places = (0..2).map(|_| random.random_range(0..chain.bytes.len())).chain(ends);
    some.extend(places.map(|at| Tampering::Byte(at, another(chain, at, 0))));
    assert!(chain.is_whole_file(&chain.file), "the chain as it was shipped is whole");
    some.into_iter().find_map(|tampering| {
        std::fs::write(&copy, chain.file_with(tampering)).expect("written");
        let shows = !chain.is_whole_file(&copy);
        let same = shows == chain.shows(tampering, Verifier::Right);
        (!shows || !same).then(|| format!("{tampering:?} in the whole file, shows: {shows}"))
    })
}

fn refute(name: &str, chain: &Chain, verifier: Verifier, tried: &[Tampering]) -> Mutant {
    let until = Instant::now() + Duration::from_secs(30);
    let (_, unseen) = judge(chain, verifier, until, tried.len(), |n| tried[n]);
    Mutant {
        name: name.to_owned(),
        refuted: unseen.is_some(),
        how: unseen.map(|it| format!("{it:?} does not show")).unwrap_or_default(),
    }
}

fn mutants(chain: &Chain, of_records: &[Tampering]) -> Vec<Mutant> {
    let body = chain.bytes.windows(9).position(|part| part == b"quarterly").expect("a note");
    let bytes = [Tampering::Byte(body, b'Q')];
    vec![
        refute("hashes are not computed again", chain, Verifier::WithoutKey, &bytes),
        refute("records are verified each by itself", chain, Verifier::WithoutLinks, of_records),
        refute(
            "the end is not compared with the journal",
            chain,
            Verifier::WithoutHead,
            of_records,
        ),
    ]
}

#[tokio::test]
async fn audit_tamper() {
    let chain = made().await;
    let began = Instant::now();
    let limit = budget(Duration::from_secs(15));
    let of_records = of_records(&mut StdRng::seed_from_u64(1));
    let whole = whole_files(&chain, &of_records);
    let no_end = began + Duration::from_secs(3600);
    let (mut cases, unseen) =
        judge(&chain, Verifier::Right, no_end, of_records.len(), |n| of_records[n]);
    let is_every_record = cases == of_records.len() as u64;
    let mut unseen = unseen.map(|it| format!("{it:?} does not show")).or(whole);
    // A step that shares no factor with the length comes to every byte, and early to every part.
    let length = chain.bytes.len();
    let step = (1..).map(|n| length * 5 / 13 + n).find(|step| gcd(*step, length) == 1);
    let step = step.expect("there is one");
    let (mut bytes, mut round) = (0, 0);
    let until = Instant::now() + limit.saturating_sub(began.elapsed()).max(BYTES_TIME_MIN);
    while unseen.is_none() && (round == 0 || Instant::now() < until) {
        let at = |n: usize| (n * step) % length;
        let (judged, found) = judge(&chain, Verifier::Right, until, length, |n| {
            Tampering::Byte(at(n), another(&chain, at(n), round))
        });
        bytes += judged;
        unseen = found.map(|it| format!("{it:?} does not show"));
        round += 1;
    }
    cases += bytes;
    let is_every_byte = bytes >= length as u64;
    if is_long_form() && limit > Duration::from_secs(300) {
        assert!(is_every_byte, "a long form comes to every byte: {bytes} of {length}");
    }
    Evidence {
        claim: "audit-tamper".into(),
        statement: format!(
            "of 10 000 audit records none can be deleted, swapped with its neighbour or cut off, \
             and {}, without being noticed",
            if is_every_byte {
                "no byte be changed"
            } else {
                "none of the bytes that were tried be changed"
            }
        ),
        method: "tampering with a chain that the journal wrote".into(),
        cases,
        unit: "tamperings".into(),
        seconds: began.elapsed().as_secs_f64(),
        holds: unseen.is_none() && is_every_record,
        counterexample: unseen.unwrap_or_else(|| {
            let text = if is_every_record { "" } else { "there was no time for every record" };
            text.into()
        }),
        mutants: mutants(&chain, &of_records),
        command: command("cargo test -p keybaton-tests --test scenarios audit_tamper"),
        notes: vec![
            format!(
                "every deletion, adjacent swap and truncation, {AT_RANDOM} swaps and {AT_RANDOM} \
                 reversals at random; {bytes} changes of single bytes, of {length} there are{}",
                if is_every_byte { ": every byte" } else { "" }
            ),
            "a chain cut off at its end shows beside the journal's head, not by itself".into(),
        ],
        series: Vec::new(),
    }
    .demand();
}

fn gcd(a: usize, b: usize) -> usize {
    if b == 0 { a } else { gcd(b, a % b) }
}
