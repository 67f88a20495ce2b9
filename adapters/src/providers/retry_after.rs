//! How long a vendor asks us to wait.
//!
//! `retry-after-ms` (OpenAI) goes before `retry-after`, which is a number of seconds or a date
//! (RFC 9110, 10.2.3). A date counts from the answer's own `date`: our clock does not matter.

use std::time::Duration;

use jiff::fmt::rfc2822::DateTimeParser;
use reqwest::header::{DATE, HeaderMap, RETRY_AFTER};

use super::limits::RETRY_AFTER_MAX;

/// The wait that was asked for, at most [`RETRY_AFTER_MAX`]; `None` when there is none that
/// makes sense.
pub(super) fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let text = |name: &str| headers.get(name)?.to_str().ok().map(str::trim);
    let millis = text("retry-after-ms").and_then(|text| number(text, 0.001));
    millis
        .or_else(|| {
            let asked = text(RETRY_AFTER.as_str())?;
            number(asked, 1.0).or_else(|| between(text(DATE.as_str())?, asked))
        })
        .map(|wait| wait.min(RETRY_AFTER_MAX))
}

fn number(text: &str, seconds: f64) -> Option<Duration> {
    let wait = text.parse::<f64>().ok().filter(|it| !it.is_nan())? * seconds;
    // Beyond the bound the number may be too large for a duration.
    Duration::try_from_secs_f64(wait.min(RETRY_AFTER_MAX.as_secs_f64())).ok()
}

fn between(sent: &str, asked: &str) -> Option<Duration> {
    let moment = |text| DateTimeParser::new().parse_timestamp(text).ok();
    let wait = moment(asked)?.duration_since(moment(sent)?);
    Some(Duration::try_from(wait).unwrap_or(Duration::ZERO))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wait(headers: &[(&'static str, &'static str)]) -> Option<Duration> {
        let pairs = headers
            .iter()
            .map(|&(name, value)| (name.parse().expect("a name"), value.parse().expect("a value")));
        retry_after(&pairs.collect())
    }

    #[test]
    fn seconds_milliseconds_and_dates_are_understood() {
        let date = "Sat, 21 Nov 2026 10:00:00 GMT";
        let later = "Sat, 21 Nov 2026 10:01:30 GMT";
        let earlier = "Sat, 21 Nov 2026 09:00:00 GMT";
        let seconds = Duration::from_secs;
        assert_eq!(wait(&[("retry-after", "7")]), Some(seconds(7)));
        assert_eq!(wait(&[("retry-after", "0.5")]), Some(Duration::from_millis(500)));
        let both = [("retry-after", "7"), ("retry-after-ms", "1250")];
        assert_eq!(wait(&both), Some(Duration::from_millis(1250)));
        assert_eq!(wait(&[("retry-after", later), ("date", date)]), Some(seconds(90)));
        assert_eq!(wait(&[("retry-after", earlier), ("date", date)]), Some(Duration::ZERO));
    }

    #[test]
    fn nonsense_is_no_wait_and_no_wait_is_endless() {
        assert_eq!(wait(&[]), None);
        for text in ["", "soon", "-1", "NaN", "Sat, 99 Nov 2026 10:01:30 GMT", "-inf"] {
            assert_eq!(wait(&[("retry-after", text)]), None, "{text}");
        }
        for text in ["1e300", "inf", "99999999999999999999", "86400"] {
            assert_eq!(wait(&[("retry-after", text)]), Some(RETRY_AFTER_MAX), "{text}");
        }
        let year_9996 = "Tue, 31 Dec 9996 23:59:59 GMT";
        let headers = [("retry-after", year_9996), ("date", "Sat, 21 Nov 2026 10:00:00 GMT")];
        assert_eq!(wait(&headers), Some(RETRY_AFTER_MAX));
    }
}
