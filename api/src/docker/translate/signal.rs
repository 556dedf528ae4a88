//! Signals by name and number, as `docker kill -s`, `--stop-signal` and STOPSIGNAL write them.

use super::Invalid;

pub const SIGHUP: u8 = 1;
pub const SIGKILL: u8 = 9;
pub const SIGTERM: u8 = 15;

/// Linux's signals on x86-64 and arm64; 32 and 33 belong to the C library.
const NAMES: [(&str, u8); 35] = [
    ("HUP", 1),
    ("INT", 2),
    ("QUIT", 3),
    ("ILL", 4),
    ("TRAP", 5),
    ("ABRT", 6),
    ("IOT", 6),
    ("BUS", 7),
    ("FPE", 8),
    ("KILL", 9),
    ("USR1", 10),
    ("SEGV", 11),
    ("USR2", 12),
    ("PIPE", 13),
    ("ALRM", 14),
    ("TERM", 15),
    ("STKFLT", 16),
    ("CHLD", 17),
    ("CLD", 17),
    ("CONT", 18),
    ("STOP", 19),
    ("TSTP", 20),
    ("TTIN", 21),
    ("TTOU", 22),
    ("URG", 23),
    ("XCPU", 24),
    ("XFSZ", 25),
    ("VTALRM", 26),
    ("PROF", 27),
    ("WINCH", 28),
    ("IO", 29),
    ("POLL", 29),
    ("PWR", 30),
    ("SYS", 31),
    ("UNUSED", 31),
];

const REALTIME_MIN: u8 = 34;
const REALTIME_MAX: u8 = 64;

/// `TERM`, `SIGTERM`, `sigterm`, `15`, `RTMIN+3`, `RTMAX-1`.
pub fn parse(text: &str) -> Result<u8, Invalid> {
    let unknown = || Invalid::bad(format!("invalid signal: {text}"));
    if let Ok(number) = text.parse::<u8>() {
        return if (1..=REALTIME_MAX).contains(&number) { Ok(number) } else { Err(unknown()) };
    }
    let upper = text.to_ascii_uppercase();
    let name = upper.strip_prefix("SIG").unwrap_or(&upper);
    if let Some((_, number)) = NAMES.iter().find(|(known, _)| *known == name) {
        return Ok(*number);
    }
    let realtime = if name == "RTMIN" {
        Some(REALTIME_MIN)
    } else if name == "RTMAX" {
        Some(REALTIME_MAX)
    } else if let Some(above) = name.strip_prefix("RTMIN+") {
        above.parse::<u8>().ok().and_then(|above| REALTIME_MIN.checked_add(above))
    } else if let Some(below) = name.strip_prefix("RTMAX-") {
        below.parse::<u8>().ok().and_then(|below| REALTIME_MAX.checked_sub(below))
    } else {
        None
    };
    realtime.filter(|n| (REALTIME_MIN..=REALTIME_MAX).contains(n)).ok_or_else(unknown)
}

/// `SIGTERM`; a number where there is no name.
pub fn show(signal: u8) -> String {
    match NAMES.iter().find(|(_, number)| *number == signal) {
        Some((name, _)) => format!("SIG{name}"),
        None if signal >= REALTIME_MIN => format!("SIGRTMIN+{}", signal - REALTIME_MIN),
        None => signal.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_spelling_of_a_signal_is_the_same_signal() {
        for text in ["TERM", "SIGTERM", "sigterm", "Term", "15"] {
            assert_eq!(parse(text), Ok(SIGTERM), "{text}");
        }
        assert_eq!(parse("RTMIN+3"), Ok(37));
        assert_eq!(parse("SIGRTMAX-1"), Ok(63));
    }

    #[test]
    fn what_is_no_signal_is_refused_by_name() {
        for text in ["", "0", "65", "-1", "SIGFROB", "RTMIN+31", "RTMAX-31", "SIG", "9.0"] {
            let refused = parse(text).unwrap_err();
            assert_eq!(refused.to_string(), format!("invalid signal: {text}"));
        }
    }

    #[test]
    fn what_is_shown_is_read_back() {
        for signal in (1..=31).chain(34..=64) {
            assert_eq!(parse(&show(signal)), Ok(signal));
        }
    }
}
