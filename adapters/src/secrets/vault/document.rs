//! One version as it lies in Vault: the value and what is known of it, as one JSON object.
//!
//! ```json
//! {"keybaton": "1", "tenant_id": "acme", "provider": "openai", "provider_key_id": "key_…",
//!  "label": "kb1-…", "issued_at": "2026-11-21T10:00:00Z", "expires_at": "…", "value": "sk-…"}
//! ```
//!
//! Its status is not in it: a version cannot be changed, only followed by another, which would
//! then be the newest and hold an old key. The status is the record's, joined on display. All
//! fields are texts, since that is what Vault's own tools print best. A value that is not plain
//! ASCII stands in `value_base64`.
//!
//! **Invariant:** the value is only ever in buffers that are wiped, and that do not move.

use std::fmt;

use data_encoding::BASE64;
use jiff::Timestamp as Moment;
use keybaton_messages::{PairId, Timestamp};
use keybaton_ports::{Denial, Refusal, Secret, SecretMeta, StoredSecret};
use serde::de::{Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

/// The schema of the object; another one is refused, never guessed.
const SCHEMA: &str = "1";

/// Everything but the value, in the order in which it is written.
#[derive(Serialize)]
struct Plain<'a> {
    keybaton: &'static str,
    tenant_id: &'a str,
    provider: &'a str,
    provider_key_id: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    label: Option<&'a str>,
    issued_at: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    expires_at: Option<String>,
}

/// The body of a write: `{"options": {"cas": …}, "data": {…}}`.
pub(super) fn write_body(
    meta: &SecretMeta,
    secret: &Secret,
    cas: u64,
) -> Result<Zeroizing<Vec<u8>>, Refusal> {
    let plain = Plain {
        keybaton: SCHEMA,
        tenant_id: meta.pair.tenant.as_str(),
        provider: meta.pair.provider.as_str(),
        provider_key_id: meta.key_id.as_str(),
        label: meta.label.as_ref().map(keybaton_messages::Label::as_str),
        issued_at: text_of(meta.issued_at)?,
        expires_at: meta.expires_at.map(text_of).transpose()?,
    };
    let plain = serde_json::to_string(&plain).expect("texts are always JSON");
    let open = plain.strip_suffix('}').expect("an object ends with a brace");
    let head = format!("{{\"options\":{{\"cas\":{cas}}},\"data\":{open},");
    let value = secret.expose();
    // Base64 takes four letters for three bytes, an escape two for one.
    let capacity = head.len() + 2 * value.len() + 32;
    let mut body = Zeroizing::new(Vec::with_capacity(capacity));
    body.extend_from_slice(head.as_bytes());
    if value.iter().all(|b| (b' '..=b'~').contains(b)) {
        body.extend_from_slice(b"\"value\":\"");
        for &byte in value {
            if matches!(byte, b'"' | b'\\') {
                body.push(b'\\');
            }
            body.push(byte);
        }
    } else {
        body.extend_from_slice(b"\"value_base64\":\"");
        let start = body.len();
        body.resize(start + BASE64.encode_len(value.len()), 0);
        BASE64.encode_mut(value, &mut body[start..]);
    }
    body.extend_from_slice(b"\"}}");
    debug_assert!(body.len() <= capacity, "the buffer never moves");
    Ok(body)
}

fn text_of(time: Timestamp) -> Result<String, Refusal> {
    i64::try_from(time.0)
        .ok()
        .and_then(|millis| Moment::from_millisecond(millis).ok())
        .map(|moment| moment.to_string())
        .ok_or_else(|| Refusal::denied(Denial::BadRequest, "a time lies beyond the year 9999"))
}

fn time_of(text: &str) -> Option<Timestamp> {
    let moment: Moment = text.parse().ok()?;
    u64::try_from(moment.as_millisecond()).ok().map(Timestamp)
}

/// What Vault answers to a read of one version.
#[derive(Deserialize)]
pub(super) struct ReadAnswer {
    pub(super) data: Option<Held>,
}

/// A version and what Vault says of it.
#[derive(Deserialize)]
pub(super) struct Held {
    pub(super) data: Option<Document>,
    pub(super) metadata: VersionState,
}

/// What Vault says of a version.
#[derive(Deserialize)]
pub(super) struct VersionState {
    #[serde(default)]
    pub(super) deletion_time: String,
    #[serde(default)]
    pub(super) destroyed: bool,
    pub(super) version: u64,
}

/// What Vault answers to a write.
#[derive(Deserialize)]
pub(super) struct WriteAnswer {
    pub(super) data: VersionState,
}

/// The object of one version. Every field is optional: somebody else may have written anything.
#[derive(Deserialize)]
pub(super) struct Document {
    #[serde(default)]
    keybaton: Text,
    #[serde(default)]
    tenant_id: Text,
    #[serde(default)]
    provider: Text,
    #[serde(default)]
    provider_key_id: Text,
    #[serde(default)]
    label: Text,
    #[serde(default)]
    issued_at: Text,
    #[serde(default)]
    expires_at: Text,
    #[serde(default)]
    value: Text,
    #[serde(default)]
    value_base64: Text,
}

impl Document {
    /// Whether keybaton wrote it. What others put beside our versions is no secret of ours.
    pub(super) fn is_ours(&self) -> bool {
        self.keybaton.0.is_some()
    }

    /// The secret, if it is what was written for `pair`.
    pub(super) fn open(self, pair: &PairId) -> Result<StoredSecret, Refusal> {
        let corrupt = |why: &str| Refusal::denied(Denial::Corrupt, format!("in Vault: {why}"));
        match self.keybaton.get() {
            Some(SCHEMA) => {}
            Some(_) => return Err(corrupt("a schema that this keybaton does not know")),
            None => return Err(corrupt("the version was not written by keybaton")),
        }
        let is_ours = self.tenant_id.get() == Some(pair.tenant.as_str())
            && self.provider.get() == Some(pair.provider.as_str());
        if !is_ours {
            return Err(corrupt("the version belongs to another pair"));
        }
        let bad = |_| corrupt("a name in the version is not one");
        let key_id = self.provider_key_id.get().unwrap_or_default().parse().map_err(bad)?;
        let label = self.label.get().map(str::parse).transpose().map_err(bad)?;
        let time = |text: &str| time_of(text).ok_or_else(|| corrupt("a time is not one"));
        let issued_at = time(self.issued_at.get().unwrap_or_default())?;
        let expires_at = self.expires_at.get().map(time).transpose()?;
        let secret = match (self.value.0, self.value_base64.0) {
            (Some(mut text), None) => Secret::new(std::mem::take(&mut *text)),
            (None, Some(text)) => {
                let mut bytes = Zeroizing::new(vec![0; text.len() / 4 * 3]);
                let length = BASE64
                    .decode_len(text.len())
                    .ok()
                    .filter(|_| text.len().is_multiple_of(4))
                    .and_then(|length| {
                        bytes.resize(length, 0);
                        BASE64.decode_mut(&text, &mut bytes).ok()
                    })
                    .ok_or_else(|| corrupt("the value is not base64"))?;
                bytes.truncate(length);
                Secret::new(std::mem::take(&mut *bytes))
            }
            _ => return Err(corrupt("the version has no value, or two")),
        };
        let secret = secret.map_err(|_| corrupt("the value is no secret"))?;
        let meta = SecretMeta { pair: pair.clone(), label, key_id, issued_at, expires_at };
        Ok(StoredSecret { secret, meta })
    }

    pub(super) fn label(&self) -> Option<&str> {
        self.label.get()
    }
}

/// A field that is a text, in wiped memory; anything else counts as absent. Nothing prints it.
///
/// A text without escapes is borrowed from the answer's buffer while it is parsed. One with
/// escapes passes through a buffer of the parser; no vendor's keys have any.
#[derive(Default)]
pub(crate) struct Text(Option<Zeroizing<Vec<u8>>>);

impl Text {
    pub(crate) fn get(&self) -> Option<&str> {
        self.0.as_ref().and_then(|bytes| std::str::from_utf8(bytes).ok())
    }
}

impl<'de> Deserialize<'de> for Text {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(AnyText)
    }
}

struct AnyText;

impl<'de> Visitor<'de> for AnyText {
    type Value = Text;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("anything")
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Text, E> {
        Ok(Text(Some(Zeroizing::new(text.as_bytes().to_vec()))))
    }

    fn visit_unit<E: Error>(self) -> Result<Text, E> {
        Ok(Text(None))
    }

    fn visit_bool<E: Error>(self, _: bool) -> Result<Text, E> {
        Ok(Text(None))
    }

    fn visit_i64<E: Error>(self, _: i64) -> Result<Text, E> {
        Ok(Text(None))
    }

    fn visit_u64<E: Error>(self, _: u64) -> Result<Text, E> {
        Ok(Text(None))
    }

    fn visit_f64<E: Error>(self, _: f64) -> Result<Text, E> {
        Ok(Text(None))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut parts: A) -> Result<Text, A::Error> {
        while parts.next_element::<IgnoredAny>()?.is_some() {}
        Ok(Text(None))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut parts: A) -> Result<Text, A::Error> {
        while parts.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(Text(None))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pair(tenant: &str) -> PairId {
        PairId::new(tenant.parse().expect("a tenant"), "openai".parse().expect("a provider"))
    }

    fn meta(label: Option<&str>) -> SecretMeta {
        SecretMeta {
            pair: pair("acme"),
            label: label.map(|text| text.parse().expect("a label")),
            key_id: "key_1".parse().expect("a key id"),
            issued_at: Timestamp(1_763_719_200_123),
            expires_at: None,
        }
    }

    fn written(secret: &[u8]) -> String {
        let secret = Secret::new(secret.to_vec()).expect("a secret");
        let label = Some("kb1-a4dqobyh-beeqscijbe-aaaaaaab");
        let body = write_body(&meta(label), &secret, 7).expect("fits");
        String::from_utf8(body.to_vec()).expect("text")
    }

    /// What was written, as Vault would answer it to a read.
    fn read_back(body: &str, tenant: &str) -> Result<StoredSecret, Refusal> {
        #[derive(Deserialize)]
        struct Body {
            data: Document,
        }
        let body: Body = serde_json::from_str(body).expect("JSON");
        body.data.open(&pair(tenant))
    }

    #[test]
    fn a_version_is_its_own_golden_text() {
        let expected = concat!(
            r#"{"options":{"cas":7},"data":{"keybaton":"1","tenant_id":"acme","#,
            r#""provider":"openai","provider_key_id":"key_1","#,
            r#""label":"kb1-a4dqobyh-beeqscijbe-aaaaaaab","#,
            r#""issued_at":"2025-11-21T10:00:00.123Z","value":"sk-\"one\\"}}"#,
        );
        assert_eq!(written(br#"sk-"one\"#), expected);
    }

    #[test]
    fn every_secret_reads_back_as_it_was() {
        let key = (0..=255).collect::<Vec<u8>>();
        let texts: [&[u8]; 5] =
            [b"sk-one", br#"sk-"one\"#, b"sk-\n", "sk-\u{fc}".as_bytes(), key.as_slice()];
        for text in texts {
            for length in 1..=text.len() {
                let stored = read_back(&written(&text[..length]), "acme").expect("ours");
                assert_eq!(stored.secret.expose(), &text[..length]);
                assert_eq!(stored.meta.issued_at, Timestamp(1_763_719_200_123));
            }
        }
    }

    #[test]
    fn a_version_that_is_not_what_was_written_is_corrupt() {
        let good = written(b"sk-canary");
        assert!(read_back(&good, "acme").is_ok());
        assert!(read_back(&good, "umbrella").is_err(), "it belongs to another pair");
        for (from, to) in [
            (r#""keybaton":"1""#, r#""keybaton":"2""#),
            (r#""keybaton":"1","#, ""),
            (r#""provider":"openai""#, r#""provider":"mistral""#),
            (r#""provider_key_id":"key_1""#, r#""provider_key_id":17"#),
            ("kb1-a4dqobyh", "kb1-A4DQOBYH"),
            ("2025-11-21", "2025-11-41"),
            (r#""value":"sk-canary""#, r#""value":["sk-canary"]"#),
            (r#""value":"sk-canary""#, r#""value":"""#),
            (r#""value":"sk-canary""#, r#""value_base64":"not base64""#),
            (r#""value":"sk-canary""#, r#""value_base64":"QQ=""#),
            (r#""value":"sk-canary""#, r#""value":"sk-canary","value_base64":"QUJD""#),
        ] {
            assert!(good.contains(from), "{from}");
            let refusal = read_back(&good.replace(from, to), "acme").err().expect(to);
            let text = refusal.to_string();
            assert!(text.starts_with("refused (corrupt)") && !text.contains("canary"), "{text}");
        }
    }

    #[test]
    fn anything_may_lie_beside_our_versions_and_is_not_ours() {
        for text in [r"{}", r#"{"value":"sk-x"}"#, r#"{"keybaton":7,"value":{"a":[null,true]}}"#] {
            let document: Document = serde_json::from_str(text).expect("an object");
            assert!(!document.is_ours(), "{text}");
        }
    }

    #[test]
    fn a_time_beyond_the_calendar_is_refused_before_anything_is_written() {
        let beyond = SecretMeta { issued_at: Timestamp(u64::MAX), ..meta(None) };
        let secret = Secret::new(b"sk-one".to_vec()).expect("a secret");
        assert!(write_body(&beyond, &secret, 0).is_err());
    }
}
