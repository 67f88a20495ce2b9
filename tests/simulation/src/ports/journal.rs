//! The journal: every write that was carried out is held against the promises.

use std::sync::Arc;

use async_trait::async_trait;
use keybaton_messages::{Event, GrantId, NodeId, PairId, Rev, Version};
use keybaton_ports::{
    CommitError, GrantError, Journal, NodeLife, PairSummary, Refusal, SealedAudit, Standing,
    StoredPair, Transaction,
};
use keybaton_rotation::AuditEntry;

use super::{at_once, ordered, read, shown, write};
use crate::call::Port;
use crate::flaws::Flaw;
use crate::world::World;

pub(super) struct SimJournal(pub(super) Arc<World>);

const JOURNAL: Port = Port::Journal;

#[expect(clippy::ptr_arg, reason = "shows an answer, whose type is this")]
fn count(audit: &Vec<SealedAudit>) -> String {
    format!("{} records up to {:?}", audit.len(), audit.last().map(|last| last.seq))
}

#[async_trait]
impl Journal for SimJournal {
    async fn begin_life(&self, node: &NodeId) -> Result<NodeLife, Refusal> {
        let call = ordered(JOURNAL, "begin_life", self.0.words(|| node.to_string()));
        let node = node.clone();
        let begin = move |world: &Arc<World>| {
            let life = at_once(world.journal.begin_life(&node));
            life.inspect(|life| world.began(life))
        };
        self.0.ask(call, begin, shown).await
    }

    async fn pairs(&self) -> Result<Vec<PairSummary>, Refusal> {
        let call = read(JOURNAL, "pairs", String::new());
        self.0.ask(call, |world| at_once(world.journal.pairs()), shown).await
    }

    async fn load(&self, pair: &PairId) -> Result<Option<StoredPair>, Refusal> {
        let call = read(JOURNAL, "load", self.0.words(|| pair.to_string()));
        let pair = pair.clone();
        self.0.ask(call, move |world| at_once(world.journal.load(&pair)), shown).await
    }

    async fn commit(&self, transaction: Transaction) -> Result<Rev, CommitError> {
        let call = write(JOURNAL, "commit", self.0.words(|| format!("{transaction:?}")));
        let commit = move |world: &Arc<World>| {
            let committed = at_once(world.journal.commit(transaction.clone()));
            committed.inspect(|_| world.committed(&transaction))
        };
        self.0.ask(call, commit, shown).await
    }

    async fn grant(
        &self,
        pair: &PairId,
        version: Version,
        to: &NodeLife,
        id: GrantId,
    ) -> Result<Standing, GrantError> {
        let call = write(JOURNAL, "grant", self.0.words(|| format!("{pair} {version} {id}")));
        let (pair, to) = (pair.clone(), to.clone());
        let grant = move |world: &Arc<World>| at_once(world.journal.grant(&pair, version, &to, id));
        self.0.ask(call, grant, shown).await
    }

    async fn return_grant(
        &self,
        pair: &PairId,
        version: Version,
        by: &NodeLife,
        id: GrantId,
    ) -> Result<Standing, GrantError> {
        let call = write(JOURNAL, "return", self.0.words(|| format!("{pair} {version} {id}")));
        let (pair, by) = (pair.clone(), by.clone());
        let give_back = move |world: &Arc<World>| {
            let answer = at_once(world.journal.return_grant(&pair, version, &by, id));
            world.check_holders(&pair);
            answer
        };
        self.0.ask(call, give_back, shown).await
    }

    async fn standing(&self, pair: &PairId, of: &NodeLife) -> Result<Standing, GrantError> {
        let call = read(JOURNAL, "standing", self.0.words(|| pair.to_string()));
        let (pair, of) = (pair.clone(), of.clone());
        self.0.ask(call, move |world| at_once(world.journal.standing(&pair, &of)), shown).await
    }

    async fn count_grants(&self, pair: &PairId, version: Version) -> Result<u32, Refusal> {
        let call = read(JOURNAL, "count", self.0.words(|| format!("{pair} {version}")));
        let pair = pair.clone();
        let count = move |world: &Arc<World>| at_once(world.journal.count_grants(&pair, version));
        let counted = self.0.ask(call, count, shown).await;
        match self.0.flaw {
            Some(Flaw::CountsNeverEnd) => counted.map(|left| left.max(1)),
            _ => counted,
        }
    }

    async fn outbox(&self, pair: &PairId) -> Result<Vec<Event>, Refusal> {
        let call = read(JOURNAL, "outbox", self.0.words(|| pair.to_string()));
        let pair = pair.clone();
        self.0.ask(call, move |world| at_once(world.journal.outbox(&pair)), shown).await
    }

    async fn append_audit(&self, pair: &PairId, entry: &AuditEntry) -> Result<(), Refusal> {
        let call = write(JOURNAL, "append_audit", self.0.words(|| format!("{pair} {entry:?}")));
        let (pair, entry) = (pair.clone(), entry.clone());
        let append = move |world: &Arc<World>| at_once(world.journal.append_audit(&pair, &entry));
        self.0.ask(call, append, shown).await
    }

    async fn audit(&self, pair: &PairId, after: u64) -> Result<Vec<SealedAudit>, Refusal> {
        let call = read(JOURNAL, "audit", self.0.words(|| format!("{pair} after {after}")));
        let pair = pair.clone();
        self.0.ask(call, move |world| at_once(world.journal.audit(&pair, after)), count).await
    }
}
