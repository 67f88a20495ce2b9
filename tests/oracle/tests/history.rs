//! A small run written down by hand: tenant `acme` is rotated from k1 to k2, `zen` is not.

use keybaton_oracle::{Held, Kill, OracleError, PairName, Rules, Verdict, judge};
use serde_json::{Value, json};

/// The three files and the rules, as they grow.
pub struct History {
    pub ledger: Vec<Value>,
    pub tasks: Vec<Value>,
    pub pairs: Vec<Value>,
    /// Without it, S7-S9 are not judged.
    pub audit: Option<Vec<Value>>,
    pub rules: Rules,
    requests: u64,
    now_us: u64,
}

/// One agent's call.
#[derive(Clone, Copy)]
pub struct Call {
    pub tenant: &'static str,
    pub task: &'static str,
    pub step: u64,
    pub key: &'static str,
    pub path: &'static str,
    pub idem: Option<&'static str>,
}

/// A call of acme's task t1.
pub fn acme(step: u64, key: &'static str) -> Call {
    let (tenant, task, path, idem) = ("acme", "t1", "/v1/chat/completions", None);
    Call { tenant, task, step, key, path, idem }
}

/// A tool call of acme's task t1.
pub fn tool(step: u64, key: &'static str, idem: &'static str) -> Call {
    Call { path: "/v1/tools/mail", idem: Some(idem), ..acme(step, key) }
}

/// A call of zen's task z1.
pub fn zen(step: u64, key: &'static str) -> Call {
    Call { tenant: "zen", task: "z1", ..acme(step, key) }
}

impl History {
    /// Nothing but the provider's start.
    pub fn empty() -> Self {
        let rules = Rules { rotated: vec![PairName::new("acme", "openai")], ..Rules::default() };
        let (ledger, tasks, pairs) = (Vec::new(), Vec::new(), Vec::new());
        let mut it =
            Self { ledger, tasks, pairs, audit: None, rules, requests: 0, now_us: 1_000_000 };
        it.event(json!({"event": "opened", "class": "a", "pid": 7}));
        it
    }

    /// Keys k1 and z1 exist, one step of each task ran under them.
    pub fn before_rotation() -> Self {
        let mut it = Self::empty();
        it.born("acme", "k1").born("zen", "z1");
        it.call(acme(0, "k1"), "ok").call(zen(0, "z1"), "ok");
        it
    }

    /// A whole run that holds.
    pub fn held() -> Self {
        let mut it = Self::before_rotation();
        it.born("acme", "k2").call(acme(1, "k2"), "ok").call(zen(1, "z1"), "ok");
        it.died("acme", "k1", "revoked").call(acme(2, "k2"), "ok");
        it.export();
        it
    }

    /// The exports of a run that holds: t1 with three steps, z1 with two.
    pub fn export(&mut self) {
        self.tasks = vec![task("acme", "t1", 3), task("zen", "z1", 2)];
        self.pairs = vec![
            pair("acme", 2, &[(1, "REVOKED", "k1"), (2, "ACTIVE", "k2")]),
            pair("zen", 1, &[(1, "ACTIVE", "z1")]),
        ];
    }

    /// Adds a fact.
    pub fn event(&mut self, mut fact: Value) -> &mut Self {
        self.now_us += 10_000;
        fact["schema"] = json!(1);
        fact["seq"] = json!(self.ledger.len() + 1);
        fact["at_us"] = json!(self.now_us);
        self.ledger.push(fact);
        self
    }

    /// Lets time pass.
    pub fn pass(&mut self, us: u64) -> &mut Self {
        self.now_us += us;
        self
    }

    /// A process is killed now.
    pub fn kill(&mut self) -> &mut Self {
        self.now_us += 1;
        self.rules.kills.push(Kill { at_us: self.now_us });
        self
    }

    /// A key is issued under a label of ours.
    pub fn born(&mut self, project: &str, key: &str) -> &mut Self {
        self.born_as(project, key, &format!("kb1-dep-{project}-{key}"), "api")
    }

    pub fn born_as(&mut self, project: &str, key: &str, name: &str, cause: &str) -> &mut Self {
        self.event(json!({"event": "key_created", "project": project, "account": null,
            "key_id": key, "name": name, "secret_sha256": "00", "cause": cause,
            "answered": true}))
    }

    pub fn died(&mut self, project: &str, key: &str, cause: &str) -> &mut Self {
        self.event(json!({"event": "key_died", "project": project, "key_id": key, "cause": cause}))
    }

    /// A call starts; returns its number.
    pub fn start(&mut self, call: Call) -> u64 {
        let project = if call.key.starts_with('k') { "acme" } else { "zen" };
        self.requests += 1;
        let req = self.requests;
        self.event(json!({"event": "request_started", "req": req, "path": call.path,
            "project": project, "key_id": call.key, "tenant": call.tenant, "task": call.task,
            "step": call.step, "idem": call.idem, "streaming": false, "stage": null}));
        req
    }

    pub fn end(&mut self, req: u64, outcome: &str, executed: bool) -> &mut Self {
        let status = match outcome {
            "refused" => 401,
            "failed" => 500,
            _ => 200,
        };
        self.event(json!({"event": "request_ended", "req": req, "outcome": outcome,
            "status": status, "executed": executed}))
    }

    /// A call starts and ends.
    pub fn call(&mut self, call: Call, outcome: &str) -> &mut Self {
        let req = self.start(call);
        self.end(req, outcome, outcome == "ok")
    }

    pub fn try_judge(&self) -> Result<Verdict, OracleError> {
        let (ledger, tasks, pairs) = (text(&self.ledger), text(&self.tasks), text(&self.pairs));
        let audit = self.audit.as_deref().map(text);
        let audit = audit.as_ref().map(String::as_bytes);
        judge(ledger.as_bytes(), tasks.as_bytes(), pairs.as_bytes(), audit, &self.rules)
    }

    pub fn judge(&self) -> Verdict {
        self.try_judge().expect("the history is well formed")
    }

    /// Judges and checks that exactly these rules are broken; none means that it holds.
    pub fn breaks(&self, rules: &[&str]) -> Verdict {
        let verdict = self.judge();
        let mut broken: Vec<_> = verdict.violations.iter().map(|it| it.rule).collect();
        broken.dedup();
        assert_eq!(broken, rules, "{:#?}", verdict.violations);
        assert_eq!(verdict.verdict == Held::Held, rules.is_empty());
        verdict
    }
}

/// The lines of a file.
pub fn text(lines: &[Value]) -> String {
    lines.iter().map(|line| format!("{line}\n")).collect()
}

/// A task that is done, with an intent and a result for every step.
pub fn task(tenant: &str, task: &str, steps: u64) -> Value {
    let entries: Vec<_> =
        (0..steps).flat_map(|n| [entry("intent", n), entry("result", n)]).collect();
    json!({"schema": 1, "tenant": tenant, "task": task, "kind": "agent", "provider": "openai",
        "state": "done", "steps_expected": steps, "entries": entries, "output": "fine"})
}

pub fn entry(kind: &str, n: u64) -> Value {
    json!({"entry": kind, "n": n, "idem": format!("{n:032x}"), "version": 1, "at_ms": 5})
}

/// A record whose last rotation is complete.
pub fn pair(tenant: &str, active: u64, versions: &[(u64, &str, &str)]) -> Value {
    let versions: Vec<_> = versions
        .iter()
        .map(|(v, status, key)| {
            json!({"v": v, "status": status, "label": format!("kb1-{v}"), "key_id": key,
                "promoted_at_ms": 1000 + v})
        })
        .collect();
    json!({"schema": 1, "tenant": tenant, "provider": "openai", "project": tenant, "rev": 9,
        "epoch": 1, "active": active, "gate": "open", "versions": versions,
        "rotation": {"id": "r", "phase": "COMPLETE", "class": "a"}, "obligations": []})
}
