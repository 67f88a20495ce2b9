//! The audit chain against the ledger: S7 every key begins and ends there once, S8 nothing goes
//! back, S9 one writer for each epoch.
//!
//! What is seen here is order and content. Whether a hash was made with the deployment's key can
//! only be told by someone who has that key (`keybaton audit verify`); that each record continues
//! the one before is seen here too.
//!
//! **Invariant:** a record that says something about a key is compared with the provider's ledger,
//! never with what the pair records say about themselves; only what is still owed is believed.

use std::collections::{BTreeMap, HashMap};

use serde::Deserialize;

use crate::error::OracleError;
use crate::findings::Findings;
use crate::keys::{Ending, Keys};
use crate::lines::HasSchema;
use crate::names::{KeyKey, Names};
use crate::pairs::Pairs;
use crate::rules::{PairName, Rules};

/// One line of the file.
#[derive(Deserialize)]
pub(crate) struct AuditLine {
    tenant: String,
    provider: String,
    seq: u64,
    prev: String,
    hash: String,
    kind: String,
    dedupe: String,
    /// One line of JSON, as it was sealed.
    body: String,
}

impl HasSchema for AuditLine {
    fn schema(&self) -> u32 {
        1
    }
}

/// What a body says, as far as it is looked at.
#[derive(Deserialize)]
struct Body {
    node: Option<String>,
    incarnation: Option<u64>,
    epoch: Option<u64>,
    rev: Option<u64>,
    key_id: Option<String>,
}

/// Which records there are of one key.
#[derive(Clone, Copy, Default)]
struct Told {
    begun: u64,
    ended: u64,
}

/// How far one pair's chain was read.
#[derive(Default)]
struct Chain {
    seq: u64,
    hash: Option<String>,
    rev: u64,
    epoch: u64,
    /// Who wrote under the present epoch.
    writer: Option<(String, u64)>,
    incarnations: HashMap<String, u64>,
}

/// All chains.
#[derive(Default)]
pub(crate) struct Audit {
    chains: BTreeMap<PairName, Chain>,
    told: HashMap<KeyKey, Told>,
    broken: Vec<(&'static str, String)>,
    /// Whether there is a file at all.
    is_there: bool,
}

impl Audit {
    /// There is an audit to be judged, even if it turns out to be empty.
    pub(crate) fn expected() -> Self {
        Self { is_there: true, ..Self::default() }
    }

    /// Takes one line.
    pub(crate) fn add(
        &mut self,
        names: &mut Names,
        pairs: &Pairs,
        number: u64,
        line: &AuditLine,
    ) -> Result<(), OracleError> {
        let body: Body = serde_json::from_str(&line.body)
            .map_err(|source| OracleError::Malformed { file: "audit", line: number, source })?;
        let name = PairName::new(&line.tenant, &line.provider);
        let shown = format!("{}/{}", line.tenant, line.provider);
        let chain = self.chains.entry(name.clone()).or_default();
        for (rule, what) in chain.take(line, &body) {
            self.broken.push((rule, format!("audit of {shown}, record {}: {what}", line.seq)));
        }
        let (begins, ends) = match line.kind.as_str() {
            "ISSUED" | "IMPORTED" | "RECONCILED" => (1, 0),
            "REVOKED" => (0, 1),
            _ => return Ok(()),
        };
        // A provider may put the account in front of a key's id; the ledger names them apart.
        let id = body.key_id.as_deref().unwrap_or(&line.dedupe);
        let id = id.rsplit('/').next().unwrap_or(id);
        if let Some(project) = pairs.project_of(&name) {
            let told = self.told.entry((project, names.of(id))).or_default();
            told.begun += begins;
            told.ended += ends;
        }
        Ok(())
    }

    /// Compares with the ledger.
    pub(crate) fn judge(
        self,
        rules: &Rules,
        names: &Names,
        pairs: &Pairs,
        keys: &Keys,
        findings: &mut Findings,
    ) {
        if !self.is_there {
            return;
        }
        for (rule, what) in self.broken {
            findings.add(rule, || what);
        }
        for pair in pairs.all() {
            let (tenant, provider) = (&pair.name.tenant, &pair.name.provider);
            match self.chains.get(&pair.name) {
                Some(chain) if chain.rev > pair.rev || chain.epoch > pair.epoch => {
                    findings.add("S8", || {
                        let (rev, epoch) = (pair.rev, pair.epoch);
                        format!(
                            "{tenant}/{provider}: the record is at revision {rev}, epoch \
                                 {epoch}; its audit was further"
                        )
                    });
                }
                Some(_) => {}
                None => findings.add("S7", || format!("{tenant}/{provider} has no audit")),
            }
        }
        for (key, ending, label) in keys.of_ours(rules, names) {
            let Some(pair) = pairs.of_project(key.0).map(|index| &pairs.all()[index]) else {
                continue;
            };
            let told = self.told.get(&key).copied().unwrap_or_default();
            for what in wrong(told, ending, pair.owes > 0) {
                findings.add("S7", || format!("{} ({label}) {what}", names.key(Some(key))));
            }
        }
        for (&key, _) in self.told.iter().filter(|(key, _)| !keys.is_known(**key)) {
            findings.add("S7", || {
                format!("the audit tells of {}, which never was", names.key(Some(key)))
            });
        }
    }
}

impl Chain {
    /// What is wrong with this record behind the ones before.
    fn take(&mut self, line: &AuditLine, body: &Body) -> Vec<(&'static str, String)> {
        let mut broken = Vec::new();
        if line.seq != self.seq + 1 {
            broken.push(("S7", format!("stands behind record {}", self.seq)));
        }
        if self.hash.as_ref().is_some_and(|hash| *hash != line.prev) {
            broken.push(("S7", "does not continue the one before".to_owned()));
        }
        self.seq = line.seq;
        self.hash = Some(line.hash.clone());
        if let Some(rev) = body.rev {
            if rev < self.rev {
                broken.push(("S8", format!("revision {rev} after {}", self.rev)));
            }
            self.rev = rev;
        }
        let writer = body.node.clone().zip(body.incarnation);
        if let Some((node, incarnation)) = &writer {
            let newest = self.incarnations.entry(node.clone()).or_default();
            if incarnation < newest {
                broken.push(("S8", format!("incarnation {incarnation} of {node} after {newest}")));
            }
            *newest = *incarnation;
        }
        if let Some(epoch) = body.epoch {
            if epoch < self.epoch {
                broken.push(("S8", format!("epoch {epoch} after {}", self.epoch)));
            }
            if epoch == self.epoch && self.writer.is_some() && self.writer != writer {
                broken.push(("S9", format!("a second writer under epoch {epoch}: {writer:?}")));
            }
            self.epoch = epoch;
            self.writer = writer;
        }
        broken
    }
}

/// What is wrong with what is told of one key. What is still owed may be missing at the end of a
/// file; a key that a later one voided may have come and gone unseen.
fn wrong(told: Told, ending: Ending, is_owing: bool) -> Vec<String> {
    let mut wrong = Vec::new();
    let may_be_unseen = is_owing || ending == Ending::Voided;
    if told.begun > 1 || (told.begun == 0 && !may_be_unseen) {
        wrong.push(format!("begins {} times in the audit", told.begun));
    }
    let is_right = match ending {
        Ending::Alive => told.ended == 0,
        Ending::Revoked => told.ended == 1 || (told.ended == 0 && is_owing),
        Ending::Voided | Ending::Otherwise => told.ended <= 1,
    };
    if !is_right {
        wrong.push(format!("ends {} times in the audit and is {ending:?}", told.ended));
    }
    wrong
}
