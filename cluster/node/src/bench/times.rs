//! Durations as they are typed and shown.

use std::time::Duration;

use anyhow::{Context as _, bail};

/// Reads `250us`, `20ms`, `1.5s`, `2m` or `1h`; a plain number is seconds.
///
/// # Errors
/// When it is none of these.
pub fn parse(text: &str) -> anyhow::Result<Duration> {
    let text = text.trim();
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(end);
    let number: f64 = number
        .parse()
        .with_context(|| format!("{text:?} is no duration; write 250us, 20ms, 1.5s, 2m or 1h"))?;
    let seconds = match unit {
        "us" | "µs" => number / 1e6,
        "ms" => number / 1e3,
        "s" | "" => number,
        "m" => number * 60.0,
        "h" => number * 3600.0,
        _ => bail!("{unit:?} in {text:?} is no unit; use us, ms, s, m or h"),
    };
    Duration::try_from_secs_f64(seconds).with_context(|| format!("{text:?} is too long"))
}

/// Milliseconds with three digits behind the point: microseconds are what clocks here are good for.
pub fn millis(us: u64) -> f64 {
    us as f64 / 1e3
}

/// Microseconds of a duration.
pub fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

/// Milliseconds for people: three digits that mean something.
pub fn shown(ms: f64) -> String {
    match ms {
        ms if ms <= 0.0 => "0".to_owned(),
        ms if ms < 0.0995 => format!("{:.0} us", ms * 1e3),
        ms if ms < 9.995 => format!("{ms:.2} ms"),
        ms if ms < 99.95 => format!("{ms:.1} ms"),
        ms if ms < 9_995.0 => format!("{ms:.0} ms"),
        ms if ms < 99_950.0 => format!("{:.2} s", ms / 1e3),
        ms => format!("{:.0} s", ms / 1e3),
    }
}

/// Milliseconds at an axis: as few digits as say it.
pub fn tick(ms: f64) -> String {
    let (value, unit) = match ms {
        ms if ms < 1e-6 => return "0".to_owned(),
        ms if ms < 1.0 => (ms * 1e3, "us"),
        ms if ms < 1e3 => (ms, "ms"),
        ms => (ms / 1e3, "s"),
    };
    let digits = format!("{value:.2}");
    format!("{} {unit}", digits.trim_end_matches('0').trim_end_matches('.'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read_with_their_units_and_nothing_else_is() {
        for (text, us) in [
            ("250us", 250),
            ("20ms", 20_000),
            ("1.5s", 1_500_000),
            ("3", 3_000_000),
            ("2m", 120_000_000),
            ("1h", 3_600_000_000),
        ] {
            assert_eq!(micros(parse(text).expect(text)), us, "{text}");
        }
        for text in ["", "s", "2 weeks", "-1s", "1.2.3s", "1e400", "nan"] {
            assert!(parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn an_axis_has_short_labels() {
        let all = [0.0, 0.01, 1.0, 100.0, 1500.0, 600_000.0].map(tick);
        assert_eq!(all, ["0", "10 us", "1 ms", "100 ms", "1.5 s", "600 s"]);
    }

    #[test]
    fn three_digits_are_shown() {
        let all = [0.0, 0.05, 1.234, 56.78, 4321.0, 12_345.0, 600_000.0].map(shown);
        assert_eq!(all, ["0", "50 us", "1.23 ms", "56.8 ms", "4321 ms", "12.35 s", "600 s"]);
    }
}
