//! Quantities as people write and read them.

use berth_client::view::ResourcesView;
use berth_model::host::Accelerator;
use berth_model::{Bytes, MilliCpus};

/// A size for a flag: `512m`, `2g`, `1.5GiB`, `100000`; a bare number is bytes.
pub fn parse_bytes(text: &str) -> Result<u64, String> {
    let wrong = || format!("`{text}` is not a size; write it as 512m, 2g or 1.5GiB");
    let digits = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let shift = match unit.to_ascii_lowercase().trim_end_matches("ib").trim_end_matches('b') {
        "" => 0,
        "k" => 10,
        "m" => 20,
        "g" => 30,
        "t" => 40,
        _ => return Err(wrong()),
    };
    let thousandths = parse_thousandths(number).ok_or_else(wrong)?;
    let bytes = (u128::from(thousandths) << shift) / 1000;
    u64::try_from(bytes).map_err(|_| wrong())
}

/// CPUs for a flag, as thousandths: `2`, `0.5`.
pub fn parse_cpus(text: &str) -> Result<u64, String> {
    match parse_thousandths(text) {
        Some(millis) if millis > 0 => Ok(millis),
        Some(_) | None => Err(format!("`{text}` is not a number of CPUs; write it as 2 or 0.5")),
    }
}

/// A decimal with up to three places, in thousandths; without rounding, so that what was written
/// is what is asked for.
fn parse_thousandths(text: &str) -> Option<u64> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    if whole.is_empty() || fraction.len() > 3 || !digits(whole) || !digits(fraction) {
        return None;
    }
    let fraction: u64 = format!("{fraction:0<3}").parse().ok()?;
    whole.parse::<u64>().ok()?.checked_mul(1000)?.checked_add(fraction)
}

pub fn bytes(bytes: u64) -> String {
    Bytes(bytes).to_string()
}

/// Thousandths of CPUs as a plain number.
pub fn cpus(millis: u64) -> String {
    let text = MilliCpus(millis).to_string();
    text.trim_end_matches(" cpu").to_owned()
}

/// `used / whole`.
pub fn of(used: &ResourcesView, whole: &ResourcesView) -> [String; 2] {
    [
        format!("{} / {}", cpus(used.cpu_millis), cpus(whole.cpu_millis)),
        format!("{} / {}", bytes(used.memory_bytes), bytes(whole.memory_bytes)),
    ]
}

pub const fn accelerator(accelerator: Accelerator) -> &'static str {
    match accelerator {
        Accelerator::Kvm => "kvm",
        Accelerator::Tcg => "tcg",
        Accelerator::Simulated => "simulated",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_as_docker_reads_them() {
        for (text, bytes) in [
            ("100", 100),
            ("512m", 512 << 20),
            ("512MiB", 512 << 20),
            ("512MB", 512 << 20),
            ("2g", 2 << 30),
            ("1.5GiB", 3 << 29),
            ("64k", 64 << 10),
            ("7b", 7),
        ] {
            assert_eq!(parse_bytes(text), Ok(bytes), "{text}");
        }
        for text in ["", "m", "-1", "1.2345g", "1x", "1..2", "99999999999t", "1 g"] {
            assert!(parse_bytes(text).is_err(), "{text}");
        }
    }

    #[test]
    fn cpus_are_exact_to_a_thousandth() {
        assert_eq!(parse_cpus("2"), Ok(2000));
        assert_eq!(parse_cpus("0.5"), Ok(500));
        assert_eq!(parse_cpus("1.125"), Ok(1125));
        for text in ["0", "0.0", "1.1234", ".5", "two", "-1", ""] {
            assert!(parse_cpus(text).is_err(), "{text}");
        }
        assert_eq!(cpus(1500), "1.500");
        assert_eq!(cpus(2000), "2");
    }
}
