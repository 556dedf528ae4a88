//! Times as Docker writes them, and spans as it tells them to people.

use super::Invalid;
use berth_model::Timestamp;
use chrono::{DateTime, SecondsFormat};

/// What Docker shows for a time that has not come.
pub const NEVER: &str = "0001-01-01T00:00:00Z";

/// RFC 3339 with nanoseconds: `2026-11-24T08:00:00.123000000Z`.
pub fn show(time: Timestamp) -> String {
    show_ns(u64::min(time.0, u64::MAX / 1_000_000) * 1_000_000)
}

/// As [`show`], from nanoseconds since 1970.
pub fn show_ns(time_ns: u64) -> String {
    i64::try_from(time_ns).map_or_else(
        |_| NEVER.to_owned(),
        |ns| DateTime::from_timestamp_nanos(ns).to_rfc3339_opts(SecondsFormat::Nanos, true),
    )
}

/// Seconds since 1970.
pub fn seconds(time: Timestamp) -> i64 {
    i64::try_from(time.0 / 1000).unwrap_or(i64::MAX)
}

/// A moment in a query, in nanoseconds since 1970: `1700000000`, `1700000000.5`, RFC 3339.
/// `0` and the empty text are no moment.
pub fn parse_ns(name: &str, text: &str) -> Result<Option<u64>, Invalid> {
    let wrong = || {
        Invalid::bad(format!(
            "{name}: {text:?} is not a time; give seconds since 1970 or an RFC 3339 time"
        ))
    };
    if text.is_empty() || text == "0" {
        return Ok(None);
    }
    if let Ok(time) = DateTime::parse_from_rfc3339(text) {
        let ns = time.timestamp_nanos_opt().and_then(|ns| u64::try_from(ns).ok());
        return ns.map(Some).ok_or_else(wrong);
    }
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let digits = |part: &str| part.bytes().all(|b| b.is_ascii_digit());
    if !digits(whole) || !digits(fraction) || fraction.len() > 9 {
        return Err(wrong());
    }
    let seconds: u64 = whole.parse().map_err(|_| wrong())?;
    let nanos: u64 = format!("{fraction:0<9}").parse().map_err(|_| wrong())?;
    let ns = seconds.checked_mul(1_000_000_000).and_then(|ns| ns.checked_add(nanos));
    // What does not fit the wire's nanoseconds is no moment that a log could hold.
    ns.filter(|ns| i64::try_from(*ns).is_ok()).map(|ns| (ns > 0).then_some(ns)).ok_or_else(wrong)
}

/// A span in words: `About a minute`, `3 days`.
pub fn span(milliseconds: u64) -> String {
    let seconds = milliseconds / 1000;
    let minutes = seconds / 60;
    let hours = (seconds + 1800) / 3600;
    match (seconds, minutes, hours) {
        (0, ..) => "Less than a second".to_owned(),
        (1, ..) => "1 second".to_owned(),
        (s, 0, _) => format!("{s} seconds"),
        (_, 1, _) => "About a minute".to_owned(),
        (_, m, _) if m < 60 => format!("{m} minutes"),
        (_, _, 1) => "About an hour".to_owned(),
        (_, _, h) if h < 48 => format!("{h} hours"),
        (_, _, h) if h < 24 * 7 * 2 => format!("{} days", h / 24),
        (_, _, h) if h < 24 * 30 * 2 => format!("{} weeks", h / 24 / 7),
        (_, _, h) if h < 24 * 365 * 2 => format!("{} months", h / 24 / 30),
        (_, _, h) => format!("{} years", h / 24 / 365),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_shown_with_nanoseconds() {
        assert_eq!(show(Timestamp(1_700_000_000_123)), "2023-11-14T22:13:20.123000000Z");
        assert_eq!(show(Timestamp(u64::MAX)), NEVER);
    }

    #[test]
    fn every_notation_of_a_moment_is_read() {
        let ns = 1_700_000_000_500_000_000;
        for text in ["1700000000.5", "1700000000.500000000", "2023-11-14T22:13:20.5Z"] {
            assert_eq!(parse_ns("since", text), Ok(Some(ns)), "{text}");
        }
        assert_eq!(parse_ns("since", "0"), Ok(None));
        for text in ["x", "-1", "1.2.3", "99999999999999999999", "1.1234567890"] {
            assert!(parse_ns("since", text).is_err(), "{text}");
        }
    }

    #[test]
    fn spans_read_as_docker_tells_them() {
        let told = |seconds: u64| span(seconds * 1000);
        assert_eq!(told(0), "Less than a second");
        assert_eq!(told(1), "1 second");
        assert_eq!(told(59), "59 seconds");
        assert_eq!(told(60), "About a minute");
        assert_eq!(told(3599), "59 minutes");
        assert_eq!(told(3600), "About an hour");
        assert_eq!(told(7200), "2 hours");
        assert_eq!(told(3 * 86400), "3 days");
        assert_eq!(told(21 * 86400), "3 weeks");
        assert_eq!(told(90 * 86400), "3 months");
        assert_eq!(told(800 * 86400), "2 years");
    }
}
