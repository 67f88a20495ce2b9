//! How an event stands in Redis: a stream entry of named fields, and beside it the newest event of
//! each pair as JSON. Both are read by other languages too.
//!
//! **Invariant:** names and numbers only; there is no field that could hold a key.

use std::collections::HashMap;

use keybaton_messages::{
    Event, EventKind, PairId, ProviderName, Rev, RotationId, TenantId, TraceParent, Version,
};
use redis::{FromRedisValue, ParsingError, Value, from_redis_value};
use serde::{Deserialize, Serialize};

/// The form of an entry. One of another number is left out, never guessed.
const SCHEMA: &str = "1";

/// The tenant's stream.
pub(super) fn stream_key(tenant: &TenantId) -> String {
    format!("kb.{tenant}")
}

/// The newest event of each of the tenant's pairs: a hash, one field a provider. No tenant can be
/// called so: names have no dots.
pub(super) fn pairs_key(tenant: &TenantId) -> String {
    format!("kb.{tenant}.pairs")
}

/// What was published last of each pair, so that nothing is published twice: a hash, one field a
/// provider, `revision kind#rotation …`.
pub(super) fn seen_key(tenant: &TenantId) -> String {
    format!("kb.{tenant}.seen")
}

/// An entry of a stream as the server sends it. Keys and values are bytes: who may write to the
/// stream may write anything.
pub(super) struct RawEntry {
    pub(super) id: String,
    /// `None` for an entry that was trimmed while somebody had not finished it.
    pub(super) fields: Option<HashMap<Vec<u8>, Vec<u8>>>,
}

impl FromRedisValue for RawEntry {
    fn from_redis_value(value: Value) -> Result<Self, ParsingError> {
        let (id, fields) = from_redis_value(value)?;
        Ok(Self { id, fields })
    }
}

/// The fields of an entry, in order.
pub(super) fn fields(event: &Event, trace: TraceParent) -> Vec<(&'static str, String)> {
    let mut fields = vec![
        ("schema", SCHEMA.to_owned()),
        ("event", event.kind.as_str().to_owned()),
        ("tenant", event.pair.tenant.to_string()),
        ("provider", event.pair.provider.to_string()),
        ("rotation", event.rotation.n.to_string()),
        ("rev", event.rev.0.to_string()),
    ];
    fields.extend(event.old.map(|version| ("old", version.0.to_string())));
    fields.extend(event.new.map(|version| ("new", version.0.to_string())));
    fields.push(("traceparent", trace.to_string()));
    fields
}

/// Reads an entry of `tenant`'s stream. `None` for what this version does not know, or what is not
/// about this tenant: the reader then learns it from the record.
pub(super) fn parse(tenant: &TenantId, entry: &RawEntry) -> Option<(Event, Option<TraceParent>)> {
    let fields = entry.fields.as_ref()?;
    let field = |name: &str| {
        fields.get(name.as_bytes()).map(|bytes| std::str::from_utf8(bytes).unwrap_or_default())
    };
    if field("schema")? != SCHEMA || field("tenant")? != tenant.as_str() {
        return None;
    }
    let pair = PairId::new(tenant.clone(), field("provider")?.parse().ok()?);
    let version = |name| match field(name) {
        None => Some(None),
        Some(text) => text.parse().ok().map(|number| Some(Version(number))),
    };
    let event = Event {
        rotation: RotationId { pair: pair.clone(), n: field("rotation")?.parse().ok()? },
        pair,
        rev: Rev(field("rev")?.parse().ok()?),
        kind: field("event")?.parse().ok()?,
        old: version("old")?,
        new: version("new")?,
    };
    // A trace is for display only, so a broken one costs no event.
    Some((event, field("traceparent").and_then(|text| text.parse().ok())))
}

/// The newest event of a pair, as dashboards read it.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Newest {
    schema: u32,
    rotation: u64,
    rev: u64,
    event: String,
    old: Option<u32>,
    new: Option<u32>,
}

/// The JSON form.
pub(super) fn newest(event: &Event) -> String {
    let newest = Newest {
        schema: 1,
        rotation: event.rotation.n,
        rev: event.rev.0,
        event: event.kind.as_str().to_owned(),
        old: event.old.map(|version| version.0),
        new: event.new.map(|version| version.0),
    };
    serde_json::to_string(&newest).expect("numbers and a word are JSON")
}

/// Reads the JSON form; `None` for what this version does not know.
pub(super) fn parse_newest(tenant: &TenantId, provider: &str, json: &str) -> Option<Event> {
    let pair = PairId::new(tenant.clone(), ProviderName::new(provider).ok()?);
    let newest: Newest = serde_json::from_str(json).ok()?;
    let kind: EventKind = newest.event.parse().ok()?;
    (newest.schema == 1).then(|| Event {
        rotation: RotationId { pair: pair.clone(), n: newest.rotation },
        pair,
        rev: Rev(newest.rev),
        kind,
        old: newest.old.map(Version),
        new: newest.new.map(Version),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event() -> Event {
        let pair = PairId::new("acme".parse().expect("a name"), "openai".parse().expect("a name"));
        Event {
            rotation: RotationId { pair: pair.clone(), n: 12 },
            pair,
            rev: Rev(300),
            kind: EventKind::NewKeyReady,
            old: Some(Version(4)),
            new: None,
        }
    }

    fn raw(fields: &[(&str, String)]) -> RawEntry {
        let bytes = |text: &str| text.as_bytes().to_vec();
        let fields = fields.iter().map(|(name, value)| (bytes(name), bytes(value))).collect();
        RawEntry { id: "1-0".into(), fields: Some(fields) }
    }

    fn trace() -> TraceParent {
        TraceParent::sampled([0xab; 16], [0xcd; 8])
    }

    #[test]
    fn an_entry_has_the_form_it_had_from_the_first_day() {
        let fields = fields(&event(), trace());
        let shown: Vec<_> = fields.iter().map(|(name, value)| format!("{name}={value}")).collect();
        assert_eq!(
            shown.join(" "),
            "schema=1 event=rotation.new_key_ready tenant=acme provider=openai rotation=12 rev=300 \
             old=4 traceparent=00-abababababababababababababababab-cdcdcdcdcdcdcdcd-01"
        );
        assert_eq!(parse(&event().pair.tenant, &raw(&fields)), Some((event(), Some(trace()))));
        assert_eq!(
            newest(&event()),
            r#"{"schema":1,"rotation":12,"rev":300,"event":"rotation.new_key_ready","old":4,"new":null}"#
        );
        let read = parse_newest(&event().pair.tenant, "openai", &newest(&event()));
        assert_eq!(read, Some(event()));
    }

    #[test]
    fn an_entry_that_is_broken_or_about_somebody_else_is_left_out() {
        let tenant = event().pair.tenant;
        let good = fields(&event(), trace());
        let with = |name: &str, value: &str| {
            let mut fields = good.clone();
            for field in &mut fields {
                if field.0 == name {
                    value.clone_into(&mut field.1);
                }
            }
            parse(&tenant, &raw(&fields))
        };
        assert_eq!(with("traceparent", "00-zz"), Some((event(), None)), "a trace is no reason");
        for (name, value) in [
            ("schema", "2"),
            ("event", "rotation.exploded"),
            ("tenant", "acme2"),
            ("provider", "../x"),
            ("rotation", "-1"),
            ("rev", ""),
            ("old", "4294967296"),
        ] {
            assert_eq!(with(name, value), None, "{name}={value}");
        }
        for name in ["schema", "event", "tenant", "provider", "rotation", "rev"] {
            let mut fields = good.clone();
            fields.retain(|field| field.0 != name);
            assert_eq!(parse(&tenant, &raw(&fields)), None, "without {name}");
        }
        let trimmed = RawEntry { id: "1-0".into(), fields: None };
        assert_eq!(parse(&tenant, &trimmed), None);
        for json in ["", "{}", "null", "[]", r#"{"schema":2,"rotation":1,"rev":1,"event":"x"}"#] {
            assert_eq!(parse_newest(&tenant, "openai", json), None, "{json}");
        }
    }
}
