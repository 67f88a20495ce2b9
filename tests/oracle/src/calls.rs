//! Every agent's call from start to end, and what broke on the way: S1 and S5.
//!
//! **Invariant:** a call is counted once: ok, failed, refused, interrupted or cut by a kill.

use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use crate::error::OracleError;
use crate::findings::Findings;
use crate::keys::Keys;
use crate::ledger::{End, Outcome, Start};
use crate::limits::{KILL_CUT_SLACK_US, KILL_SLACK_US};
use crate::names::{KeyKey, Name, Names, TaskKey};
use crate::pairs::Pairs;
use crate::rules::Rules;
use crate::tasks::Tasks;
use crate::tools::{self, Doubled, Effects, Idem};

/// Paths that only agents call; probes of the system go elsewhere and carry no agent's header.
const AGENT_PATHS: [&str; 3] = ["/v1/chat/", "/api/v1/chat/", tools::TOOLS_PATH];

/// Where in the ledger.
#[derive(Clone, Copy)]
pub(crate) struct Moment {
    pub(crate) seq: u64,
    pub(crate) at_us: u64,
}

/// A call that has not ended.
struct Open {
    at: Moment,
    is_agent: bool,
    pair: Option<usize>,
    tenant: Option<Name>,
    key: Option<KeyKey>,
    task: Option<TaskKey>,
    step: Option<u64>,
    path: Name,
    stage: Option<Name>,
    /// Of a call with a side effect.
    idem: Option<Idem>,
    is_tool: bool,
    /// Its key was revoked or voided while it was open.
    key_died: bool,
    /// The same ask, begun later under another key, ended well while this one was still open.
    is_overtaken: bool,
}

impl Open {
    fn ask(&self) -> Option<Ask> {
        self.task.zip(self.step).map(|(task, step)| (task, step, self.path))
    }

    /// Whether this call, begun after the other one, is the same ask under another key.
    fn repeats(&self, other: &Self) -> bool {
        self.at.seq > other.at.seq && (other.key.is_none() || other.key != self.key)
    }
}

/// How a call broke.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum How {
    Refused,
    Cut,
    ClientGone,
    Unfinished,
    Failed,
    /// It ended well although its key was ended under it.
    Survived,
}

struct Broken {
    how: How,
    req: u64,
    status: u16,
    call: Open,
    end_seq: u64,
    cut_by_kill: bool,
    repeated: bool,
}

/// A side effect that should not have happened.
struct OneTooMany {
    why: Doubled,
    req: u64,
    tool: Name,
    task: Option<TaskKey>,
    step: Option<u64>,
}

/// What a call must have in common with its repetition.
type Ask = (TaskKey, u64, Name);

/// All calls.
pub(crate) struct Calls<'a> {
    rules: &'a Rules,
    open: BTreeMap<u64, Open>,
    open_by_key: HashMap<KeyKey, BTreeSet<u64>>,
    open_by_ask: HashMap<Ask, BTreeSet<u64>>,
    broken: Vec<Broken>,
    /// Broken calls that may still be repeated, as places in `broken`.
    waiting: HashMap<Ask, Vec<usize>>,
    tasks: BTreeSet<TaskKey>,
    used: HashSet<KeyKey>,
    effects: Effects,
    effects_doubled: Vec<OneTooMany>,
    /// Calls of one tenant under another's key: request, tenant that called, pair of the key.
    mixed_up: Vec<(u64, Name, usize)>,
    ok: u64,
}

/// What the calls come to.
#[derive(Default)]
pub(crate) struct Counted {
    pub(crate) ok: u64,
    pub(crate) interrupted: u64,
    pub(crate) refused: u64,
    pub(crate) failed: u64,
    pub(crate) cut_by_kill: u64,
    pub(crate) repeated: u64,
    pub(crate) effects_doubled: u64,
}

impl<'a> Calls<'a> {
    pub(crate) fn new(rules: &'a Rules) -> Self {
        Self {
            rules,
            open: BTreeMap::new(),
            open_by_key: HashMap::new(),
            open_by_ask: HashMap::new(),
            broken: Vec::new(),
            waiting: HashMap::new(),
            tasks: BTreeSet::new(),
            used: HashSet::new(),
            effects: Effects::default(),
            effects_doubled: Vec::new(),
            mixed_up: Vec::new(),
            ok: 0,
        }
    }

    pub(crate) fn started(
        &mut self,
        names: &mut Names,
        pairs: &Pairs,
        start: &Start<'_>,
        at: Moment,
        line: u64,
    ) -> Result<(), OracleError> {
        let project = start.project.map(|project| names.of(project));
        let pair = project.and_then(|project| pairs.of_project(project));
        let named = start.tenant.map(|tenant| names.of(tenant));
        let owner = pair.map(|pair| pairs.all()[pair].tenant);
        if let (Some(named), Some(pair)) = (named.filter(|_| named != owner), pair) {
            self.mixed_up.push((start.req, named, pair));
        }
        let tenant = named.or(owner);
        let task = start.task.map(|task| names.of(task));
        let task = tenant.zip(task);
        self.tasks.extend(task);
        let key = project.zip(start.key_id.map(|id| names.of(id)));
        let is_tool = start.path.starts_with(tools::TOOLS_PATH);
        let call = Open {
            at,
            is_agent: start.tenant.is_some()
                || start.task.is_some()
                || AGENT_PATHS.iter().any(|path| start.path.starts_with(path)),
            pair,
            tenant,
            key,
            task,
            step: start.step,
            path: names.of(start.path),
            stage: start.stage.map(|stage| names.of(stage)),
            idem: start.idem.filter(|_| is_tool).map(tools::idem),
            is_tool,
            key_died: false,
            is_overtaken: false,
        };
        if let Some(key) = key {
            self.open_by_key.entry(key).or_default().insert(start.req);
        }
        if let Some(ask) = call.ask() {
            self.open_by_ask.entry(ask).or_default().insert(start.req);
        }
        if self.open.insert(start.req, call).is_some() {
            let what = format!("request {} starts a second time", start.req);
            return Err(OracleError::Senseless { file: "ledger", line, what });
        }
        Ok(())
    }

    /// Requests that are open under a key when it dies.
    pub(crate) fn key_died(&mut self, key: KeyKey, is_by_us: bool) {
        let Some(requests) = self.open_by_key.get(&key).filter(|_| is_by_us) else {
            return;
        };
        for req in requests {
            if let Some(call) = self.open.get_mut(req) {
                call.key_died = true;
            }
        }
    }

    pub(crate) fn ended(&mut self, at: Moment, end: End, line: u64) -> Result<(), OracleError> {
        let Some(call) = self.take(end.req) else {
            let what = format!("request {} ends and was not open", end.req);
            return Err(OracleError::Senseless { file: "ledger", line, what });
        };
        if call.is_tool && end.executed {
            let place = call.task.zip(call.step).map(|(task, step)| (task, step, call.stage));
            let project = call.key.map(|(project, _)| project);
            if let Some(why) = self.effects.executed(project, call.path, call.idem, place) {
                let (req, tool, task, step) = (end.req, call.path, call.task, call.step);
                self.effects_doubled.push(OneTooMany { why, req, tool, task, step });
            }
        }
        if !call.is_agent {
            return Ok(());
        }
        let how = match end.outcome {
            Outcome::Ok => {
                self.ended_well(&call);
                if !call.key_died {
                    return Ok(());
                }
                How::Survived
            }
            Outcome::Refused => How::Refused,
            Outcome::Cut => How::Cut,
            Outcome::ClientGone => How::ClientGone,
            Outcome::Failed => How::Failed,
        };
        let cut_by_kill = self.is_cut_by_kill(how, call.at.at_us, Some(at.at_us));
        self.push(how, end.req, end.status, call, at.seq, cut_by_kill);
        Ok(())
    }

    fn ended_well(&mut self, call: &Open) {
        self.ok += 1;
        self.used.extend(call.key);
        let Some(ask) = call.ask() else {
            return;
        };
        for req in self.open_by_ask.get(&ask).into_iter().flatten() {
            if let Some(open) = self.open.get_mut(req) {
                open.is_overtaken |= call.repeats(open);
            }
        }
        let Some(waiting) = self.waiting.get_mut(&ask) else {
            return;
        };
        waiting.retain(|&place| {
            let broken = &mut self.broken[place];
            broken.repeated = call.repeats(&broken.call) && broken.is_over_before(call.at.seq);
            !broken.repeated
        });
    }

    fn push(
        &mut self,
        how: How,
        req: u64,
        status: u16,
        call: Open,
        end_seq: u64,
        cut_by_kill: bool,
    ) {
        // Its caller may have had the repetition's answer before the provider noticed.
        let repeated = how == How::ClientGone && call.is_overtaken;
        if let (Some(ask), false) = (call.ask(), how == How::Survived || repeated) {
            self.waiting.entry(ask).or_default().push(self.broken.len());
        }
        self.broken.push(Broken { how, req, status, call, end_seq, cut_by_kill, repeated });
    }

    fn take(&mut self, req: u64) -> Option<Open> {
        let call = self.open.remove(&req)?;
        if let Some(key) = call.key
            && let Some(requests) = self.open_by_key.get_mut(&key)
        {
            requests.remove(&req);
        }
        if let Some(ask) = call.ask()
            && let Entry::Occupied(mut requests) = self.open_by_ask.entry(ask)
        {
            requests.get_mut().remove(&req);
            if requests.get().is_empty() {
                requests.remove();
            }
        }
        Some(call)
    }

    /// The provider began again: whatever was open died with the one before.
    pub(crate) fn reopened(&mut self, seq: u64) {
        self.abandon(seq, true);
    }

    /// The ledger ends.
    pub(crate) fn close(&mut self) {
        self.abandon(u64::MAX, false);
    }

    fn abandon(&mut self, seq: u64, with_provider: bool) {
        self.open_by_key.clear();
        self.open_by_ask.clear();
        for (req, call) in std::mem::take(&mut self.open) {
            if !call.is_agent {
                continue;
            }
            let by_kill = self.is_cut_by_kill(How::Unfinished, call.at.at_us, None);
            self.push(How::Unfinished, req, 0, call, seq, with_provider || by_kill);
        }
    }

    /// Whether a killed process explains this end. A call that its key's death cut must have
    /// been open at the kill; one that its caller dropped may look a little early or late.
    fn is_cut_by_kill(&self, how: How, started_us: u64, ended_us: Option<u64>) -> bool {
        let (early, late) = match how {
            How::Refused | How::Survived => return false,
            How::Cut => (KILL_CUT_SLACK_US, 0),
            How::ClientGone | How::Unfinished | How::Failed => (KILL_SLACK_US, KILL_SLACK_US),
        };
        let ended_us = ended_us.unwrap_or(u64::MAX);
        self.rules.kills.iter().any(|kill| {
            started_us <= kill.at_us.saturating_add(early)
                && kill.at_us <= ended_us.saturating_add(late)
        })
    }

    /// Keys under which an agent's call ended well.
    pub(crate) fn used(&self) -> &HashSet<KeyKey> {
        &self.used
    }

    /// Tasks that made calls.
    pub(crate) fn tasks_seen(&self) -> Vec<TaskKey> {
        self.tasks.iter().copied().collect()
    }

    /// Steps whose calls died with a killed process.
    pub(crate) fn steps_cut_by_kill(&self) -> impl Iterator<Item = (TaskKey, u64)> {
        let cut = self.broken.iter().filter(|broken| broken.cut_by_kill);
        cut.filter_map(|broken| broken.call.task.zip(broken.call.step))
    }

    /// Counts, and says which broken calls the rules do not forgive.
    pub(crate) fn judge(
        &self,
        names: &Names,
        pairs: &Pairs,
        tasks: &Tasks,
        keys: &Keys,
        findings: &mut Findings,
    ) -> Counted {
        let mut counted = Counted { ok: self.ok, ..Counted::default() };
        if self.ok == 0 && !self.rules.rotated.is_empty() {
            findings.add("S1", || "no agent's call ended well: this run proves nothing".to_owned());
        }
        for broken in &self.broken {
            let call = &broken.call;
            let tenant = call.tenant.map(|tenant| names.text(tenant));
            let is_rotated = pairs.is_rotated(call.pair, tenant);
            if broken.cut_by_kill {
                counted.cut_by_kill += 1;
                continue;
            }
            match broken.how {
                How::Refused => counted.refused += 1,
                How::Cut | How::ClientGone | How::Unfinished => counted.interrupted += 1,
                How::Failed => counted.failed += 1,
                How::Survived => {}
            }
            counted.repeated += u64::from(broken.repeated && broken.how != How::Failed);
            let what = || broken.describe(names, keys);
            if !is_rotated {
                match call.tenant {
                    Some(tenant) => findings.touch(tenant, what),
                    None => findings.add("S5", what),
                }
            } else if broken.how != How::Failed && !self.is_forgiven(broken, tasks) {
                findings.add("S1", what);
            }
        }
        for &(req, caller, pair) in &self.mixed_up {
            let pair = &pairs.all()[pair];
            findings.touch(pair.tenant, || {
                let (caller, owner) = (names.text(caller), &pair.name.tenant);
                format!("request {req} of {caller} used a key of {owner}")
            });
        }
        for extra in &self.effects_doubled {
            counted.effects_doubled += 1;
            findings.add("S6", || extra.describe(names));
        }
        counted
    }

    fn is_forgiven(&self, broken: &Broken, tasks: &Tasks) -> bool {
        let has_result = || {
            let place = broken.call.task.zip(broken.call.step);
            place.is_some_and(|(task, step)| tasks.has_result(task, step))
        };
        let is_made_good = broken.how == How::Survived || (broken.repeated && has_result());
        self.rules.allow_repeated_interruptions && is_made_good
    }
}

impl Broken {
    /// Whether the one who repeats it can have known that it was over. What a caller drops is
    /// over at once for it; the provider notes it when it looks, later.
    fn is_over_before(&self, seq: u64) -> bool {
        self.how == How::ClientGone || seq > self.end_seq
    }

    fn describe(&self, names: &Names, keys: &Keys) -> String {
        let call = &self.call;
        let who = match (call.task, call.tenant) {
            (Some(task), _) => names.task(task),
            (None, Some(tenant)) => names.text(tenant).to_owned(),
            (None, None) => "nobody known".to_owned(),
        };
        let step = call.step.map(|step| format!(" step {step}")).unwrap_or_default();
        let how = match self.how {
            How::Refused => "was refused".to_owned(),
            How::Cut => "was cut when its key died".to_owned(),
            How::ClientGone => "was abandoned by its caller".to_owned(),
            How::Unfinished => "had not ended when the ledger did".to_owned(),
            How::Failed => format!("failed with status {}", self.status),
            How::Survived => "was open when its key died".to_owned(),
        };
        let ended = if keys.is_dead_by_us(call.key) { " (ended by us)" } else { "" };
        let again = if self.repeated { ", repeated later" } else { "" };
        let (path, key) = (names.text(call.path), names.key(call.key));
        format!("request {} of {who}{step} to {path} under {key}{ended} {how}{again}", self.req)
    }
}

impl OneTooMany {
    fn describe(&self, names: &Names) -> String {
        let who = self.task.map_or_else(|| "nobody known".to_owned(), |task| names.task(task));
        let step = self.step.map(|step| format!(" step {step}")).unwrap_or_default();
        let why = match self.why {
            Doubled::SameIdem => "again under the same idempotency key",
            Doubled::SamePlace => "again under another idempotency key",
        };
        let (req, tool) = (self.req, names.text(self.tool));
        format!("request {req} of {who}{step} executed {tool} {why}")
    }
}
