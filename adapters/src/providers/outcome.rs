//! What an answer means: for a call with the admin key a [`Refusal`], for a probe a [`Health`].
//!
//! **Invariant:** "nothing happened" is said only of an answer that says so itself.

use keybaton_ports::{Denial, Refusal};
use keybaton_rotation::Health;
use reqwest::StatusCode;
use serde::Deserialize;
use serde::de::{Deserializer, IgnoredAny};
use zeroize::Zeroizing;

use super::http::Answer;
use super::limits::ERROR_CODE_LETTERS_MAX;

/// What a call with the admin key does. A conflict may mean that a create happened; elsewhere it
/// means that something is locked for the moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Act {
    Create,
    Delete,
    Read,
}

/// The body of a call that succeeded.
pub(super) fn body_of(answer: Answer, act: Act) -> Result<Zeroizing<Vec<u8>>, Refusal> {
    if !answer.status.is_success() {
        return Err(refusal(&answer, act));
    }
    answer.body.map_err(Refusal::unknown)
}

/// The parser's own error may repeat a part of the body, so it is not used.
pub(super) fn read<'de, T: Deserialize<'de>>(body: &'de [u8]) -> Result<T, Refusal> {
    serde_json::from_slice(body)
        .map_err(|_| Refusal::unknown("the answer is not what the provider documents"))
}

/// What a call that did not succeed says.
pub(super) fn refusal(answer: &Answer, act: Act) -> Refusal {
    let status = answer.status.as_u16();
    let why = match code(text_of(answer)) {
        Some(code) => format!("status {status}, {code}"),
        None => format!("status {status}"),
    };
    match status {
        409 if act != Act::Create => Refusal::Busy { after: answer.retry_after, why },
        429 => Refusal::Busy { after: answer.retry_after, why },
        408 | 409 => Refusal::Unknown { why },
        401 | 403 | 404 => Refusal::denied(Denial::Admin, why),
        402 => Refusal::denied(Denial::Quota, why),
        400..500 if act == Act::Create && is_about_a_limit(answer) => {
            Refusal::denied(Denial::Quota, why)
        }
        400..500 => Refusal::denied(Denial::BadRequest, why),
        _ => Refusal::Unknown { why },
    }
}

/// What a call with a tenant's key says about the key. `is_genuine` looks whether a good answer
/// is the vendor's own.
pub(super) fn health(
    answer: Result<Answer, Refusal>,
    is_genuine: impl FnOnce(&[u8]) -> bool,
) -> Health {
    let Ok(answer) = answer else {
        return Health::Unknown;
    };
    // What stands between us and the vendor knows nothing about keys.
    let (Ok(body), false) = (&answer.body, answer.is_html) else {
        return Health::Unknown;
    };
    match answer.status {
        status if status.is_success() && is_genuine(body) => Health::Alive,
        StatusCode::UNAUTHORIZED if says(&answer, &SCOPE_WORDS) => Health::MissingScopes,
        StatusCode::UNAUTHORIZED => Health::Dead,
        StatusCode::FORBIDDEN if is_error(body) => Health::MissingScopes,
        // The vendor knew the key, or it would not have counted its use.
        StatusCode::PAYMENT_REQUIRED | StatusCode::TOO_MANY_REQUESTS if is_error(body) => {
            Health::Alive
        }
        _ => Health::Unknown,
    }
}

/// OpenAI has answered 401 as well as 403 to a live key without a scope (opencode issue 21928).
const SCOPE_WORDS: [&str; 2] = ["scope", "permission"];

/// Vendors do not publish how they say that no more keys are possible.
fn is_about_a_limit(answer: &Answer) -> bool {
    let is_reached = says(answer, &["limit"]) && says(answer, &["reached", "exceeded"]);
    is_reached || says(answer, &["quota", "maximum number of"])
}

/// Whether the body contains one of `words`, in any case of letters.
pub(super) fn says(answer: &Answer, words: &[&str]) -> bool {
    let text = text_of(answer);
    let holds = |word: &str| {
        text.windows(word.len()).any(|part| part.eq_ignore_ascii_case(word.as_bytes()))
    };
    words.iter().any(|word| holds(word))
}

fn text_of(answer: &Answer) -> &[u8] {
    answer.body.as_ref().map_or(&[], |body| body.as_slice())
}

/// `{"error": {"code": …, "type": …, "message": …}}`, at every vendor so far. The message is
/// not read: it may repeat a part of a key.
#[derive(Deserialize)]
struct ErrorBody {
    error: ErrorPart,
}

#[derive(Deserialize)]
struct ErrorPart {
    #[serde(default)]
    code: Word,
    #[serde(default, rename = "type")]
    kind: Word,
}

/// A text that can be nothing but a code: letters and underscores. No key is made of these alone.
#[derive(Default)]
struct Word(Option<String>);

impl<'de> Deserialize<'de> for Word {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Written {
            Text(String),
            // OpenRouter repeats the status here; others say null.
            Other(IgnoredAny),
        }
        let is_code = |text: &String| {
            (1..=ERROR_CODE_LETTERS_MAX).contains(&text.len())
                && text.bytes().all(|b| b.is_ascii_lowercase() || b == b'_')
        };
        Ok(match Written::deserialize(deserializer)? {
            Written::Text(text) => Self(Some(text).filter(is_code)),
            Written::Other(_) => Self(None),
        })
    }
}

fn code(body: &[u8]) -> Option<String> {
    let ErrorPart { code, kind } = serde_json::from_slice::<ErrorBody>(body).ok()?.error;
    code.0.or(kind.0)
}

fn is_error(body: &[u8]) -> bool {
    serde_json::from_slice::<ErrorBody>(body).is_ok()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn answer(status: u16, body: &str) -> Answer {
        Answer {
            status: StatusCode::from_u16(status).expect("a status"),
            retry_after: Some(Duration::from_secs(7)),
            is_html: body.starts_with("<html"),
            body: Ok(Zeroizing::new(body.as_bytes().to_vec())),
        }
    }

    fn shown(status: u16, body: &str, act: Act) -> String {
        match refusal(&answer(status, body), act) {
            Refusal::Busy { after, .. } => format!("busy {after:?}"),
            Refusal::Unknown { .. } => "unknown".to_owned(),
            Refusal::Denied { denial, .. } => denial.to_string(),
        }
    }

    #[test]
    fn a_status_tells_whether_anything_happened() {
        let limit = r#"{"error":{"code":"api_keys_limit_reached","message":"too many"}}"#;
        for (status, body, act, expected) in [
            (400, "", Act::Create, "bad request"),
            (400, limit, Act::Create, "quota"),
            (400, limit, Act::Read, "bad request"),
            (401, "", Act::Create, "admin credential"),
            (402, "", Act::Create, "quota"),
            (403, "", Act::Delete, "admin credential"),
            (404, "", Act::Read, "admin credential"),
            (408, "", Act::Create, "unknown"),
            (408, "", Act::Read, "unknown"),
            (409, "", Act::Create, "unknown"),
            (409, "", Act::Delete, "busy Some(7s)"),
            (422, "", Act::Create, "bad request"),
            (429, "", Act::Create, "busy Some(7s)"),
            (500, "", Act::Create, "unknown"),
            (503, "", Act::Delete, "unknown"),
            (529, "", Act::Read, "unknown"),
            (302, "", Act::Create, "unknown"),
        ] {
            assert_eq!(shown(status, body, act), expected, "{status} {act:?} {body}");
        }
    }

    #[test]
    fn an_error_names_the_vendors_code_and_never_its_message() {
        let body = r#"{"error":{"message":"Incorrect API key provided: sk-canary",
            "type":"invalid_request_error","param":null,"code":"invalid_api_key"}}"#;
        let text = refusal(&answer(401, body), Act::Read).to_string();
        assert!(text.ends_with("status 401, invalid_api_key"), "{text}");
        for code in ["\"sk-canary\"", "\"CANARY\"", "401", "null", "{\"a\":\"canary\"}", "[]"] {
            let body = format!(r#"{{"error":{{"message":"sk-canary","code":{code}}}}}"#);
            let text = refusal(&answer(401, &body), Act::Read).to_string();
            assert!(text.ends_with("status 401"), "{text}");
        }
    }

    #[test]
    fn only_a_clear_answer_says_that_a_key_lives_or_is_dead() {
        let wrong =
            r#"{"error":{"message":"Incorrect API key provided","code":"invalid_api_key"}}"#;
        let scopes = r#"{"error":{"message":"Missing scopes: api.model.read","code":null}}"#;
        let limit = r#"{"error":{"message":"slow down","code":"rate_limit_exceeded"}}"#;
        for (status, body, expected) in [
            (200, "genuine", Health::Alive),
            (200, "", Health::Unknown),
            (200, "<html>please log in</html>", Health::Unknown),
            (302, "", Health::Unknown),
            (400, wrong, Health::Unknown),
            (401, wrong, Health::Dead),
            (401, "", Health::Dead),
            (401, "<html>proxy</html>", Health::Unknown),
            (401, scopes, Health::MissingScopes),
            (403, scopes, Health::MissingScopes),
            (403, "<html>blocked</html>", Health::Unknown),
            (403, "blocked", Health::Unknown),
            (402, limit, Health::Alive),
            (429, limit, Health::Alive),
            (429, "slow down", Health::Unknown),
            (404, "", Health::Unknown),
            (500, wrong, Health::Unknown),
            (503, "", Health::Unknown),
        ] {
            let got = health(Ok(answer(status, body)), |body| body == b"genuine");
            assert_eq!(got, expected, "{status} {body}");
        }
        assert_eq!(health(Err(Refusal::busy("no connection")), |_| true), Health::Unknown);
        let cut = Answer { body: Err("the answer broke off"), ..answer(401, "") };
        assert_eq!(health(Ok(cut), |_| true), Health::Unknown);
    }
}
