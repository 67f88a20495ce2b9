//! The table of parsers, and for each what must hold of whatever it accepts.

use std::fmt::{Debug, Display};
use std::net::IpAddr;
use std::str::FromStr;
use std::sync::LazyLock;

use data_encoding::HEXLOWER;
use keybaton::NodeStatus;
use keybaton_adapters::audit::{line_of, read_line};
use keybaton_adapters::journals::SealedRecords;
use keybaton_adapters::providers::answer::{Asked, Taken, taken_for, wait_asked};
use keybaton_adapters::providers::check_base_url;
use keybaton_adapters::store::MasterKey;
use keybaton_messages::{
    Checkpoint, Event, Label, NodeId, PairId, ProviderKeyId, ProviderName, TaskId, TenantId,
    TriggerId, TxnId, wire,
};
use keybaton_ports::{
    AuditKey, Entry, SealedAudit, SecretMeta, StoredPair, TaskSpec, TaskState, Witness,
    verify_chain,
};
use keybaton_rotation::{PairRecord, Policy};
use keybaton_simulator::Script;
use reqwest::header::{HeaderMap, HeaderName, HeaderValue};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::engine::Target;

macro_rules! targets {
    ($($name:literal => $run:expr,)*) => {
        /// Every parser. One line each; the folder in the corpus has the same name.
        pub const TARGETS: &[Target] =
            &[$(Target { name: $name, run: $run, corpus: $name },)*];
    };
}

targets! {
    "wire-event" => |bytes| wire_of::<Event>(bytes),
    "wire-checkpoint" => |bytes| wire_of::<Checkpoint>(bytes),
    "wire-record" => |bytes| wire_of::<(TxnId, PairRecord)>(bytes),
    "wire-task-entry" => |bytes| wire_of::<Entry>(bytes),
    "wire-task-spec" => |bytes| wire_of::<(TaskSpec, TaskState)>(bytes),
    "wire-audit" => |bytes| wire_of::<SealedAudit>(bytes),
    "wire-secret-meta" => |bytes| wire_of::<(SecretMeta, Witness)>(bytes),
    "sealed-record" => sealed_record,
    "tenant" => id::<TenantId>,
    "provider" => id::<ProviderName>,
    "task" => id::<TaskId>,
    "node" => id::<NodeId>,
    "trigger-id" => id::<TriggerId>,
    "key-id" => id::<ProviderKeyId>,
    "label" => id::<Label>,
    "openai-key" => |bytes| answer("openai", Asked::Key(&LABEL), bytes),
    "openai-own-key" => |bytes| answer("openai", Asked::OwnKey(&LABEL), bytes),
    "openai-page" => |bytes| answer("openai", Asked::Page, bytes),
    "openai-delete" => |bytes| answer("openai", Asked::Delete, bytes),
    "openai-probe" => |bytes| answer("openai", Asked::Probe, bytes),
    "openrouter-key" => |bytes| answer("openrouter", Asked::Key(&LABEL), bytes),
    "openrouter-page" => |bytes| answer("openrouter", Asked::Page, bytes),
    "openrouter-delete" => |bytes| answer("openrouter", Asked::Delete, bytes),
    "openrouter-probe" => |bytes| answer("openrouter", Asked::Probe, bytes),
    "retry-after" => retry_after,
    "base-url" => base_url,
    "policy" => policy,
    "fault-script" => script,
    "audit-line" => audit_line,
    "status" => status,
}

/// Longest line that a refusal may be, in letters: it may repeat the beginning of what it refuses,
/// every letter of it escaped.
const REFUSAL_LETTERS_MAX: usize = 700;

/// A refusal is one line that can neither flood nor forge a log.
fn demand_tame(refusal: &str) {
    let letters = refusal.chars().count();
    assert!(letters <= REFUSAL_LETTERS_MAX, "a refusal of {letters} letters");
    let is_wild = |c: char| c.is_control() || ('\u{202a}'..='\u{202e}').contains(&c);
    assert!(!refusal.contains(is_wild), "a refusal with control characters: {refusal:?}");
}

/// What the wire codec accepts is the same after it was written and read again.
fn wire_of<T: Serialize + DeserializeOwned + PartialEq + Debug>(bytes: &[u8]) -> String {
    match wire::decode::<T>(1, bytes) {
        Ok(value) => {
            let again = wire::encode(1, &value).expect("what was read can be written");
            let read = wire::decode::<T>(1, &again).expect("what was written can be read");
            assert!(read == value, "{read:?} is not {value:?}");
            kinds_in(&value)
        }
        Err(refusal) => refusal.to_string(),
    }
}

/// The types and variants in a value, without its names and numbers.
pub fn kinds_in(value: &impl Debug) -> String {
    let text = format!("{value:?}");
    let words = text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
    words.filter(|word| word.starts_with(|c: char| c.is_ascii_uppercase())).collect()
}

static GOLDEN: LazyLock<StoredPair> = LazyLock::new(|| {
    let hex = include_str!("../../adapters/golden/record-1.hex").trim();
    let bytes = HEXLOWER.decode(hex.as_bytes()).expect("hexadecimal");
    let (last_txn, record) = wire::decode(1, &bytes).expect("the golden record");
    StoredPair { record, last_txn }
});

fn records(key: u8) -> SealedRecords {
    SealedRecords::new(MasterKey::from_bytes([key; 32]), [1; 16])
}

/// A sealed row opens as what was sealed, with the right key alone, or not at all.
fn sealed_record(bytes: &[u8]) -> String {
    static RIGHT: LazyLock<SealedRecords> = LazyLock::new(|| records(7));
    static WRONG: LazyLock<SealedRecords> = LazyLock::new(|| records(8));
    let pair = &GOLDEN.record.pair;
    let with_wrong = WRONG.open(pair, bytes);
    assert!(with_wrong.is_err(), "it opens with another master key");
    let elsewhere = PairId::new(pair.tenant.clone(), "mistral".parse().expect("a provider"));
    assert!(RIGHT.open(&elsewhere, bytes).is_err(), "it opens as another pair's");
    match RIGHT.open(pair, bytes) {
        Ok(stored) => {
            assert!(stored == *GOLDEN, "a row that nobody sealed: {stored:?}");
            "opened".to_owned()
        }
        Err(refusal) => {
            demand_tame(&refusal);
            refusal
        }
    }
}

/// A name prints as what it was read from, also through JSON and the wire.
fn id<T>(bytes: &[u8]) -> String
where
    T: FromStr<Err: Display> + Display + PartialEq + Debug + Serialize + DeserializeOwned,
{
    let Ok(text) = std::str::from_utf8(bytes) else {
        return "no text".to_owned();
    };
    let as_json = serde_json::to_string(text).expect("text is JSON");
    let from_json = serde_json::from_str::<T>(&as_json);
    match text.parse::<T>() {
        Ok(id) => {
            assert_eq!(id.to_string(), text);
            assert!(text.bytes().all(|byte| byte.is_ascii_graphic()), "{text:?}");
            assert_eq!(from_json.expect("the same rule"), id);
            let written = wire::encode(1, &id).expect("short");
            assert_eq!(wire::decode::<T>(1, &written).expect("the same rule"), id);
            format!("taken, {} letters", text.len().min(64))
        }
        Err(refusal) => {
            assert!(from_json.is_err(), "JSON lets {text:?} in");
            demand_tame(&refusal.to_string());
            refusal.to_string()
        }
    }
}

static LABEL: LazyLock<Label> =
    LazyLock::new(|| "kb1-a4dqobyh-beeqscijbe-aaaaaaab".parse().expect("a label"));

/// The first line is the status, what follows is the body. Nothing that is made of it repeats a
/// key.
fn answer(kind: &str, asked: Asked<'_>, bytes: &[u8]) -> String {
    let (status, body) = head_and_body(bytes);
    let status = status.parse().unwrap_or(200);
    let Some(taken) = taken_for(kind, asked, status, body) else {
        return "no status".to_owned();
    };
    let outcome = match &taken {
        Taken::Made(_) => "made".to_owned(),
        Taken::Listed(keys) => {
            let is_ours = |key: &&keybaton_ports::ListedKey| key.name.parse::<Label>().is_ok();
            format!("listed {:?}", keys.iter().take(3).map(|key| is_ours(&key)).collect::<Vec<_>>())
        }
        Taken::Refused(refusal) => {
            let said = refusal.to_string();
            demand_tame(&said);
            assert!(!repeats_a_key(&said), "a refusal repeats a key");
            said
        }
        other => format!("{other:?}"),
    };
    let is_success = (200..300).contains(&status);
    assert!(is_success || !matches!(taken, Taken::Made(_) | Taken::Listed(_)), "{status}");
    format!("{status} {outcome}")
}

/// Is a piece of the corpus' keys in it? Their letters alone are none: they may have become the
/// vendor's code for the error, which is repeated, and no key is made of letters alone.
fn repeats_a_key(said: &str) -> bool {
    said.contains("-canary") || said.contains("canary-")
}

fn head_and_body(bytes: &[u8]) -> (&str, &[u8]) {
    let end = bytes.iter().position(|byte| *byte == b'\n');
    let (head, body) = match end {
        Some(at) => (&bytes[..at], &bytes[at + 1..]),
        None => (&[][..], bytes),
    };
    (std::str::from_utf8(head).unwrap_or_default(), body)
}

/// Three lines: `retry-after-ms`, `retry-after`, `date`; an empty one is left out.
fn retry_after(bytes: &[u8]) -> String {
    let mut headers = HeaderMap::new();
    for (name, line) in
        ["retry-after-ms", "retry-after", "date"].iter().zip(bytes.split(|b| *b == b'\n'))
    {
        if let (false, Ok(value)) = (line.is_empty(), HeaderValue::from_bytes(line)) {
            headers.insert(HeaderName::from_static(name), value);
        }
    }
    match wait_asked(&headers) {
        Some(wait) => {
            assert!(wait.as_secs() <= 3600, "{wait:?}");
            format!("{} {}", headers.len(), if wait.is_zero() { "at once" } else { "later" })
        }
        None => format!("{} nothing", headers.len()),
    }
}

/// Whatever is let through is https, or this machine.
fn base_url(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    match check_base_url(&text) {
        Ok(()) => {
            let url = reqwest::Url::parse(&text).expect("it was read as one");
            let host = url.host_str().expect("it has one").trim_matches(['[', ']']);
            let address = host.parse::<IpAddr>().ok().map(|address| match address {
                IpAddr::V6(long) => long.to_ipv4_mapped().map_or(address, IpAddr::V4),
                IpAddr::V4(_) => address,
            });
            let is_here = address.map_or(host == "localhost", |address| address.is_loopback());
            assert!(url.scheme() == "https" || (url.scheme() == "http" && is_here), "{url}");
            let is_metadata = matches!(address, Some(IpAddr::V4(short)) if short.is_link_local());
            assert!(!is_metadata, "{url}");
            format!("taken {}", url.scheme())
        }
        Err(refusal) => {
            demand_tame(&refusal.to_string());
            refusal.to_string()
        }
    }
}

/// A policy is refused with a line, and one that is not is read back the same.
fn policy(bytes: &[u8]) -> String {
    let Ok(policy) = serde_json::from_slice::<Policy>(bytes) else {
        return "no policy".to_owned();
    };
    let text = serde_json::to_string(&policy).expect("it is JSON");
    assert_eq!(serde_json::from_str::<Policy>(&text).expect("it was written so"), policy);
    match policy.validate() {
        Ok(()) => "taken".to_owned(),
        Err(refusal) => {
            demand_tame(&refusal.to_string());
            refusal.to_string()
        }
    }
}

/// A script prints as one that reads the same; as text, and as an object.
fn script(bytes: &[u8]) -> String {
    let from_json = serde_json::from_slice::<Script>(bytes);
    let from_text = std::str::from_utf8(bytes).ok().map(str::parse::<Script>);
    match (from_json, from_text) {
        (Ok(script), _) | (_, Some(Ok(script))) => {
            let again = script.to_string().parse::<Script>();
            assert_eq!(again.as_ref(), Ok(&script), "{script}");
            format!("taken {}", script.to_string().split('@').next().unwrap_or_default())
        }
        (_, Some(Err(refusal))) => {
            demand_tame(&refusal.to_string());
            refusal.to_string()
        }
        _ => "no text".to_owned(),
    }
}

/// A line that is a record makes the same record from the line it makes.
fn audit_line(bytes: &[u8]) -> String {
    let Some(record) = read_line(bytes) else {
        return "no record".to_owned();
    };
    assert_eq!(line_of(&record), bytes);
    let key = AuditKey::new([9; 32]);
    match verify_chain(&key, &record.pair.clone(), &[record]) {
        Ok(()) => "whole".to_owned(),
        Err(broken) => broken.why.to_owned(),
    }
}

/// A status is read back the same.
fn status(bytes: &[u8]) -> String {
    let Ok(status) = serde_json::from_slice::<NodeStatus>(bytes) else {
        return "no status".to_owned();
    };
    let text = serde_json::to_string(&status).expect("it is JSON");
    let again: NodeStatus = serde_json::from_str(&text).expect("it was written so");
    assert_eq!(serde_json::to_string(&again).expect("it is JSON"), text);
    format!("taken, {} pairs", status.pairs.len().min(3))
}
