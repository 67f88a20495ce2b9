//! What the pair records claim, and the promises that can be checked in them alone.

use std::collections::{HashMap, HashSet};

use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::Value;

use crate::error::OracleError;
use crate::findings::Findings;
use crate::lines::HasSchema;
use crate::names::{KeyKey, Name, Names};
use crate::rules::{PairName, Rules};

/// One line of the export.
#[derive(Deserialize)]
pub(crate) struct PairLine {
    schema: u32,
    tenant: String,
    provider: String,
    project: String,
    rev: u64,
    epoch: u64,
    active: Option<u64>,
    gate: Value,
    versions: Vec<VersionLine>,
    rotation: Option<RotationLine>,
    obligations: Vec<IgnoredAny>,
}

#[derive(Deserialize)]
struct VersionLine {
    v: u64,
    status: String,
    key_id: Option<String>,
    promoted_at_ms: Option<u64>,
}

#[derive(Deserialize)]
struct RotationLine {
    id: Value,
    phase: String,
}

impl HasSchema for PairLine {
    fn schema(&self) -> u32 {
        self.schema
    }
}

/// One pair.
pub(crate) struct Pair {
    pub(crate) name: PairName,
    pub(crate) tenant: Name,
    pub(crate) project: Name,
    pub(crate) is_rotated: bool,
    pub(crate) rev: u64,
    pub(crate) epoch: u64,
    /// How many obligations are open.
    pub(crate) owes: usize,
    /// Whether some version is active.
    pub(crate) is_active: bool,
    /// The active version's key, when the record knows it.
    pub(crate) active_key: Option<KeyKey>,
    /// Keys of all versions that are kept, and whether each was ever promoted.
    pub(crate) keys: Vec<(KeyKey, bool)>,
}

/// All pairs.
pub(crate) struct Pairs {
    all: Vec<Pair>,
    by_project: HashMap<Name, usize>,
    rotated: HashSet<PairName>,
    tenants_rotated: HashSet<String>,
    broken: Vec<(&'static str, String)>,
    keys_claimed: HashMap<KeyKey, String>,
}

impl Pairs {
    pub(crate) fn new(rules: &Rules) -> Self {
        Self {
            all: Vec::new(),
            by_project: HashMap::new(),
            rotated: rules.rotated.iter().cloned().collect(),
            tenants_rotated: rules.rotated.iter().map(|pair| pair.tenant.clone()).collect(),
            broken: Vec::new(),
            keys_claimed: HashMap::new(),
        }
    }

    /// Takes one line.
    pub(crate) fn add(
        &mut self,
        names: &mut Names,
        number: u64,
        line: PairLine,
    ) -> Result<(), OracleError> {
        let wrong = |what| OracleError::Senseless { file: "pairs", line: number, what };
        let name = PairName::new(&line.tenant, &line.provider);
        let shown = format!("{}/{}", line.tenant, line.provider);
        if self.all.iter().any(|pair| pair.name == name) {
            return Err(wrong(format!("{shown} stands there twice: export once")));
        }
        let project = names.of(&line.project);
        if let Some(other) = self.by_project.insert(project, self.all.len()) {
            let PairName { tenant, provider } = &self.all[other].name;
            return Err(wrong(format!(
                "project {} belongs to {tenant}/{provider} and to {shown}: give each pair a \
                 project of its own, or calls cannot be told apart",
                line.project
            )));
        }
        self.check(&shown, &line);
        let mut keys = Vec::new();
        for version in &line.versions {
            let Some(key_id) = &version.key_id else {
                continue;
            };
            let key = (project, names.of(key_id));
            let claim = format!("{shown} v{}", version.v);
            if let Some(other) = self.keys_claimed.insert(key, claim.clone()) {
                self.broken.push(("S5", format!("key {key_id} belongs to {other} and to {claim}")));
            }
            keys.push((key, version.promoted_at_ms.is_some()));
        }
        let active_entry = line.versions.iter().find(|version| Some(version.v) == line.active);
        let active_id = active_entry.and_then(|version| version.key_id.as_deref());
        self.all.push(Pair {
            is_rotated: self.rotated.contains(&name),
            rev: line.rev,
            epoch: line.epoch,
            owes: line.obligations.len(),
            tenant: names.of(&line.tenant),
            project,
            is_active: line.active.is_some(),
            active_key: active_id.map(|id| (project, names.of(id))),
            keys,
            name,
        });
        Ok(())
    }

    /// The promises that one record shows alone.
    fn check(&mut self, shown: &str, line: &PairLine) {
        let mut broken = |rule, what: String| self.broken.push((rule, format!("{shown}: {what}")));
        let of_status = |wanted: &str| {
            let is_it = |version: &&VersionLine| plain(&version.status) == wanted;
            line.versions.iter().filter(is_it).map(|version| version.v).collect::<Vec<_>>()
        };
        let active = of_status("ACTIVE");
        if active != line.active.into_iter().collect::<Vec<_>>() {
            broken(
                "S2",
                format!("`active` is {:?} and versions {active:?} are ACTIVE", line.active),
            );
        }
        let mut numbers = HashSet::new();
        for version in line.versions.iter().filter(|version| !numbers.insert(version.v)) {
            broken("S2", format!("version {} stands there twice", version.v));
        }
        if let Some(rotation) = &line.rotation
            && !["COMPLETE", "FAILED"].contains(&plain(&rotation.phase).as_str())
        {
            let owed = line.obligations.len();
            let id = &rotation.id;
            broken(
                "L1",
                format!("rotation {id} is still {}, {owed} obligations open", rotation.phase),
            );
        }
        for status in ["INTENT", "STAGED", "DRAINING", "REVOKEPENDING"] {
            for v in of_status(status) {
                broken("L2", format!("version {v} has not reached its end, it is {status}"));
            }
        }
        let is_open = line.gate.as_str().is_some_and(|gate| plain(gate) == "OPEN");
        if !is_open {
            broken("L4", format!("the gate is {} at the end", line.gate));
        }
    }

    /// The pair behind a project.
    pub(crate) fn of_project(&self, project: Name) -> Option<usize> {
        self.by_project.get(&project).copied()
    }

    /// The project of a pair.
    pub(crate) fn project_of(&self, name: &PairName) -> Option<Name> {
        self.all.iter().find(|pair| pair.name == *name).map(|pair| pair.project)
    }

    /// All pairs.
    pub(crate) fn all(&self) -> &[Pair] {
        &self.all
    }

    /// Whether a call was of a rotated pair; a call under a key that nobody knows is known by
    /// its tenant alone.
    pub(crate) fn is_rotated(&self, pair: Option<usize>, tenant: Option<&str>) -> bool {
        match (pair, tenant) {
            (Some(pair), _) => self.all[pair].is_rotated,
            (None, Some(tenant)) => self.tenants_rotated.contains(tenant),
            (None, None) => false,
        }
    }

    /// Hands over what was found in the records alone.
    pub(crate) fn judge(self, findings: &mut Findings) {
        for (rule, what) in self.broken {
            findings.add(rule, || what);
        }
        let known: HashSet<_> = self.all.iter().map(|pair| &pair.name).collect();
        let mut missing: Vec<_> =
            self.rotated.iter().filter(|name| !known.contains(name)).collect();
        missing.sort();
        for name in missing {
            findings.add("L1", || {
                format!("{}/{} was to be rotated and has no record", name.tenant, name.provider)
            });
        }
    }
}

/// A status or phase without regard to how its word is written.
fn plain(word: &str) -> String {
    word.chars().filter(|&c| c != '_').map(|c| c.to_ascii_uppercase()).collect()
}
