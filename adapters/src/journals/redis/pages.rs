//! The pages of a transaction: remembered, or read from Redis at one moment, and written as one
//! change.
//!
//! **Invariant:** every write to anything of a pair moves the pair's `at`, and is refused when that
//! is not as it was read.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::fmt::Write;
use std::sync::Arc;

use data_encoding::HEXLOWER;
use keybaton_messages::{Event, Incarnation, NodeId, PairId};
use keybaton_ports::{SealedAudit, StoredPair};
use redis::{Cmd, cmd};

use super::Shared;
use super::change::Change;
use super::names::{self, PairKeys};
use super::server::Answers;
use crate::journals::book::{Book, ClaimKey, Page, Pages};
use crate::journals::memory::Taken;
use crate::journals::operations::Op;
use crate::journals::redb::Unread;
use crate::journals::redb::chain::fact_digest;
use crate::journals::redb::pairs::{Corrupt, PairState};
use crate::journals::redb::rows::{
    AuditHead, Claim, GrantValue, HeldGrant, grant_key, has_work, open, open_record, seal,
};
use crate::journals::wanted::Wanted;
use crate::store::{RowKey, Sealer, Table};

/// Grants as they lie in Redis.
type Grants = HashMap<String, Vec<u8>>;

/// The questions for one pair: where it stands, its record, the end of its audit; its grants.
pub(super) fn questions(pair: &PairId) -> [Cmd; 4] {
    let keys = PairKeys::new(pair);
    let field = |hash| cmd("HGET").arg(hash).arg(&keys.name).clone();
    let grants = cmd("HGETALL").arg(keys.grants()).clone();
    [field(names::AT), field(names::RECORDS), field(names::HEADS), grants]
}

/// Their answers; nothing for a pair of which nothing is there.
pub(super) fn answered(
    sealer: &Sealer,
    pair: &PairId,
    answers: &mut Answers,
) -> Result<Option<Result<Page, Corrupt>>, Unread> {
    let at: Option<String> = answers.next()?;
    let record: Option<Vec<u8>> = answers.next()?;
    let head: Option<Vec<u8>> = answers.next()?;
    let grants: Grants = answers.next()?;
    let Some(at) = at else {
        let is_blank = record.is_none() && head.is_none() && grants.is_empty();
        let orphan = || Err(Corrupt("a pair has lost the row that counts its writes".into()));
        return Ok((!is_blank).then(orphan));
    };
    Ok(Some(page(sealer, pair, &at, record.as_deref(), head.as_deref(), &grants)))
}

/// The present life of every node.
pub(super) fn lives(answers: &mut Answers) -> Result<HashMap<NodeId, Incarnation>, Unread> {
    let lives: HashMap<String, String> = answers.next()?;
    // A life that cannot be read is left out, which fences that node.
    let life = |(node, life): (String, String)| {
        Some((node.parse().ok()?, Incarnation(life.parse().ok()?)))
    };
    Ok(lives.into_iter().filter_map(life).collect())
}

fn page(
    sealer: &Sealer,
    pair: &PairId,
    at: &str,
    record: Option<&[u8]>,
    head: Option<&[u8]>,
    grants: &Grants,
) -> Result<Page, Corrupt> {
    let key = RowKey::pair(pair);
    let stored =
        record.map(|bytes| open_record(sealer, key.as_bytes(), pair, bytes)).transpose()?;
    let head = open_head(sealer, pair, head)?;
    let seen = at.split(' ').nth(2).and_then(|seen| seen.parse().ok()).unwrap_or_default();
    if at != at_value(stored.as_ref(), seen, head) {
        return Err(Corrupt("the record or the audit is not the one that stands beside it".into()));
    }
    let grants = grants.iter().map(|(field, bytes)| grant(sealer, pair, field, bytes));
    let grants = grants.collect::<Result<_, _>>()?;
    let state = PairState { stored, grants, head };
    Ok(Page { seen_mark: Some(at.into()), ..Page::new(seen, state) })
}

fn grant(sealer: &Sealer, pair: &PairId, field: &str, bytes: &[u8]) -> Result<HeldGrant, Corrupt> {
    let (version, node) =
        names::read_grant(field).ok_or_else(|| Corrupt("grant row: its name is foreign".into()))?;
    let key = grant_key(pair, version, &node);
    let GrantValue { incarnation, id } = open(sealer, Table::Grants, key.as_bytes(), bytes)?;
    Ok(HeldGrant { version, node, incarnation, id })
}

/// Where a pair stands, as every write compares it: also what a server that lost some writes may
/// have under the same numbers is told apart.
fn at_value(stored: Option<&StoredPair>, seen: i64, end: AuditHead) -> String {
    let (epoch, rev) = stored.map_or((0, 0), |s| (s.record.epoch.0, s.record.rev.0));
    let txn = stored.map_or([0; 16], |stored| stored.last_txn.0);
    let mut at = String::with_capacity(AT_BYTES);
    // Nothing fails that is written to a string.
    let _ = write!(at, "{epoch} {rev} {seen} ");
    HEXLOWER.encode_append(&txn, &mut at);
    write_end(&mut at, end);
    at
}

fn write_end(at: &mut String, end: AuditHead) {
    let _ = write!(at, " {} ", end.seq);
    HEXLOWER.encode_append(&end.hash, at);
}

/// Whether a pair that stands there has this end of its audit. One of which nothing is there has none.
pub(super) fn ends_with(at: Option<&str>, end: AuditHead) -> bool {
    let mut tail = String::new();
    write_end(&mut tail, end);
    at.map_or(end == AuditHead::START, |at| at.ends_with(&tail))
}

/// Room for where a pair stands: a transaction and a hash in hexadecimal digits, four numbers.
const AT_BYTES: usize = 2 * (16 + 32) + 4 * 21;

/// A book, and what has to be known besides to write it.
pub(super) struct Sheets {
    pub(super) book: Book,
    /// Lives that must be the ones that the book tells of.
    lives: BTreeSet<NodeId>,
}

impl Sheets {
    /// All that the operations name, if it is remembered.
    pub(super) fn remembered(shared: &Shared, ops: &[&Op], doubts: u64) -> Option<Self> {
        let mut wanted = Wanted::default();
        ops.iter().for_each(|op| wanted.add(op, false));
        let Taken { pages, lives } = shared.memory.take(&wanted, doubts)?;
        let named = lives.keys().cloned().collect();
        Some(Self { book: Book { lives, pages, ..blank(shared) }, lives: named })
    }

    /// Reads all that the operations name.
    pub(super) async fn read(shared: &Shared, ops: &[&Op]) -> Result<Self, Unread> {
        let mut wanted = Wanted::default();
        // Claims are looked up in the same step as everything else, so that always all are.
        ops.iter().for_each(|op| wanted.add(op, true));
        shared.memory.forget(&wanted);
        let claims: Vec<_> = wanted.claims.iter().collect();
        let mut asked = vec![cmd("HGETALL").arg(names::LIVES).clone()];
        for pair in &wanted.pairs {
            asked.extend(questions(pair));
            asked.push(cmd("HKEYS").arg(PairKeys::new(pair).outbox()).clone());
        }
        for (pair, kind, dedupe) in &wanted.facts {
            let mut fact = cmd("HEXISTS");
            fact.arg(PairKeys::new(pair).facts()).arg(&fact_digest(kind, dedupe)[..]);
            asked.push(fact);
        }
        for claim in &claims {
            asked.push(cmd("HGET").arg(names::CLAIMS).arg(names::claim_field(claim)).clone());
        }
        let mut answers = shared.server.read(asked).await?;
        let mut book = Book { lives: lives(&mut answers)?, ..blank(shared) };
        for pair in &wanted.pairs {
            let page = answered(&shared.sealer, pair, &mut answers)?;
            let events = answers.next()?;
            if let Some(page) = page {
                let with_events = |page| Page { seen_events: events, ..page };
                book.pages.insert(pair.clone(), page.map(with_events).map(Box::new));
            }
        }
        for fact in &wanted.facts {
            if answers.next()? {
                book.facts.insert(fact.clone());
            }
        }
        for claim in claims {
            let sealed: Option<Vec<u8>> = answers.next()?;
            let (table, key) = claim_place(claim);
            let open = |bytes: Vec<u8>| open(&shared.sealer, table, key.as_bytes(), &bytes);
            let found: Option<Claim> = sealed.map(open).transpose().map_err(Unread::Corrupt)?;
            if let Some(Claim { pair, version }) = found {
                book.claims.insert(claim.clone(), (pair, version));
            }
        }
        Ok(Self { book, lives: wanted.writers })
    }

    /// The change that writes what the operations have changed; empty when that is nothing.
    pub(super) fn change(
        &mut self,
        sealer: &Sealer,
        now_ms: Option<u64>,
    ) -> Result<Change, Corrupt> {
        let mut change = Change::default();
        for (pair, page) in &mut self.book.pages {
            if let Ok(page) = page
                && page.is_touched
            {
                add(&mut change, sealer, pair, page, &self.book.lives)?;
            }
        }
        if change.is_empty() {
            return Ok(change);
        }
        // Whoever wrote still lives the life that it wrote as.
        for node in &self.lives {
            let life = self.book.lives.get(node).map(|life| life.0.to_string());
            change.check(names::LIVES, node.as_str(), life.unwrap_or_default());
        }
        if let Some(now) = now_ms {
            change.set(names::STORE, "time", now.to_string());
        }
        Ok(change)
    }
}

/// A book in which nothing stands.
fn blank(shared: &Shared) -> Book {
    Book {
        clock: Arc::clone(&shared.clock),
        audit_key: Arc::clone(&shared.audit_key),
        lives: HashMap::new(),
        pages: Pages::default(),
        claims: HashMap::new(),
        facts: HashSet::new(),
    }
}

fn add(
    change: &mut Change,
    sealer: &Sealer,
    pair: &PairId,
    page: &mut Page,
    lives: &HashMap<NodeId, Incarnation>,
) -> Result<(), Corrupt> {
    let keys = PairKeys::new(pair);
    let stored = page.state.stored.as_ref();
    let name = keys.name.as_str();
    let at = at_value(stored, page.seen + 1, page.state.head);
    change.check(names::AT, name, page.seen_mark.as_deref().unwrap_or_default());
    change.set(names::AT, name, at.as_str());
    page.next_mark = Some(at.into());
    if let (Some(stored), Some(sealed)) = (stored, &page.sealed) {
        change.set(names::RECORDS, name, &sealed[..]);
        if page.seen_stored.as_ref().map(summary) != Some(summary(stored)) {
            change.set(names::PAIRS, name, summary_value(stored));
        }
    }
    for (claim, version) in &page.claims {
        let (table, key) = claim_place(claim);
        let owner = Claim { pair: pair.clone(), version: *version };
        let field = names::claim_field(claim);
        change.check_absent(names::CLAIMS, field.as_str());
        change.set(names::CLAIMS, field, seal(sealer, table, &key, &owner)?);
    }
    let (audit, facts) = (keys.audit(), keys.facts());
    for record in &page.audit {
        let field = record.seq.to_string();
        let fact = fact_digest(&record.kind, &record.dedupe);
        change.check_absent(&audit, field.as_str());
        change.check_absent(&facts, &fact[..]);
        let key = RowKey::pair(pair).number(record.seq);
        change.set(&facts, &fact[..], field.as_str());
        change.set(&audit, field, seal(sealer, Table::Audit, &key, record)?);
    }
    if !page.audit.is_empty() {
        let head = seal(sealer, Table::AuditHeads, &RowKey::pair(pair), &page.state.head)?;
        change.set(names::HEADS, name, head);
    }
    add_grants(change, sealer, pair, page, lives)?;
    add_events(change, sealer, pair, page)
}

/// The grants that are left: the ones of lives that have ended go with the others.
fn add_grants(
    change: &mut Change,
    sealer: &Sealer,
    pair: &PairId,
    page: &mut Page,
    lives: &HashMap<NodeId, Incarnation>,
) -> Result<(), Corrupt> {
    if page.seen_grants.is_empty() && page.state.grants.is_empty() {
        return Ok(());
    }
    let grants = PairKeys::new(pair).grants();
    page.state.grants.retain(|grant| lives.get(&grant.node) == Some(&grant.incarnation));
    let place = |grant: &HeldGrant| names::grant_field(grant.version, &grant.node);
    let left: BTreeMap<_, _> =
        page.state.grants.iter().map(|grant| (place(grant), grant)).collect();
    for field in page.seen_grants.iter().map(place).filter(|field| !left.contains_key(field)) {
        change.remove(&grants, field);
    }
    for (field, grant) in left {
        if page.seen_grants.contains(grant) {
            continue;
        }
        let key = grant_key(pair, grant.version, &grant.node);
        let value = GrantValue { incarnation: grant.incarnation, id: grant.id };
        change.set(&grants, field, seal(sealer, Table::Grants, &key, &value)?);
    }
    Ok(())
}

fn add_events(
    change: &mut Change,
    sealer: &Sealer,
    pair: &PairId,
    page: &mut Page,
) -> Result<(), Corrupt> {
    if page.published.is_none() && page.events.is_empty() {
        return Ok(());
    }
    let outbox = PairKeys::new(pair).outbox();
    let published = page.published.unwrap_or_default();
    let is_past =
        |field: &&String| names::read_event(field).is_some_and(|(rev, _)| rev <= published.0);
    let (past, mut left): (Vec<_>, Vec<_>) =
        page.seen_events.iter().cloned().partition(|field| is_past(&field));
    for field in past {
        change.remove(&outbox, field);
    }
    for (place, event) in &page.events {
        let field = names::event_field(event.rev.0, *place);
        let key = event_key(pair, event.rev.0, *place);
        let sealed = seal(sealer, Table::Outbox, &key, event)?;
        change.set(&outbox, field.as_str(), sealed);
        left.push(field);
    }
    page.next_events = Some(left);
    Ok(())
}

fn event_key(pair: &PairId, rev: u64, place: u64) -> RowKey {
    RowKey::pair(pair).number(rev).number(place)
}

/// Opens the events of a pair, oldest first.
pub(super) fn open_events(
    sealer: &Sealer,
    pair: &PairId,
    rows: HashMap<String, Vec<u8>>,
) -> Result<Vec<Event>, Corrupt> {
    let mut events = BTreeMap::new();
    for (field, bytes) in rows {
        let place = names::read_event(&field);
        let place = place.ok_or_else(|| Corrupt("outbox row: its name is foreign".into()))?;
        let key = event_key(pair, place.0, place.1);
        events.insert(place, open(sealer, Table::Outbox, key.as_bytes(), &bytes)?);
    }
    Ok(events.into_values().collect())
}

/// Opens an audit record in its place.
pub(super) fn open_audit(
    sealer: &Sealer,
    pair: &PairId,
    seq: u64,
    bytes: &[u8],
) -> Result<SealedAudit, Corrupt> {
    open(sealer, Table::Audit, RowKey::pair(pair).number(seq).as_bytes(), bytes)
}

/// Opens the end of a chain.
pub(super) fn open_head(
    sealer: &Sealer,
    pair: &PairId,
    bytes: Option<&[u8]>,
) -> Result<AuditHead, Corrupt> {
    bytes.map_or(Ok(AuditHead::START), |bytes| {
        open(sealer, Table::AuditHeads, RowKey::pair(pair).as_bytes(), bytes)
    })
}

fn claim_place(claim: &ClaimKey) -> (Table, RowKey) {
    match claim {
        ClaimKey::Key(provider, key) => {
            let row = RowKey::tenant(provider.as_str()).bytes(key.as_str().as_bytes());
            (Table::KeyClaims, row)
        }
        ClaimKey::Secret(fp) => (Table::SecretClaims, RowKey::fixed("").bytes(&fp.0)),
    }
}

/// What the list of pairs tells of one: whether it has work, and when it is due.
fn summary(stored: &StoredPair) -> (bool, Option<u64>) {
    (has_work(&stored.record), stored.record.next_rotate_at.map(|due| due.at.0))
}

/// How that stands there.
fn summary_value(stored: &StoredPair) -> String {
    let (has_work, due) = summary(stored);
    let work = if has_work { "work" } else { "idle" };
    due.map_or_else(|| format!("{work} -"), |due| format!("{work} {due}"))
}
