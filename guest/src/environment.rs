//! The process's environment: what the spec says, and Docker's defaults where it says nothing.

pub const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// `NAME=value` entries in Docker's order. Entries without `=` unset a name.
pub fn environment(spec: &[String], hostname: &str, terminal: bool, home: &str) -> Vec<String> {
    let mut entries = vec![format!("PATH={DEFAULT_PATH}"), format!("HOSTNAME={hostname}")];
    if terminal {
        entries.push("TERM=xterm".to_string());
    }
    for entry in spec {
        let name = name(entry);
        if !entry.contains('=') {
            entries.retain(|known| self::name(known) != name);
        } else if let Some(known) = entries.iter_mut().find(|known| self::name(known) == name) {
            known.clone_from(entry);
        } else {
            entries.push(entry.clone());
        }
    }
    if value(&entries, "HOME").is_none() {
        entries.push(format!("HOME={home}"));
    }
    entries
}

/// The value of a name, if it is set.
pub fn value<'a>(entries: &'a [String], wanted: &str) -> Option<&'a str> {
    entries.iter().find_map(|entry| entry.strip_prefix(wanted)?.strip_prefix('='))
}

fn name(entry: &str) -> &str {
    entry.split_once('=').map_or(entry, |(name, _)| name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(spec: &[&str], terminal: bool, expected: &[&str]) {
        let spec: Vec<String> = spec.iter().map(ToString::to_string).collect();
        assert_eq!(environment(&spec, "box", terminal, "/root"), expected);
    }

    #[test]
    fn defaults_stand_where_the_spec_says_nothing() {
        let path = format!("PATH={DEFAULT_PATH}");
        check(&[], false, &[&path, "HOSTNAME=box", "HOME=/root"]);
        check(&["A=b"], true, &[&path, "HOSTNAME=box", "TERM=xterm", "A=b", "HOME=/root"]);
    }

    #[test]
    fn the_spec_replaces_in_place_and_unsets() {
        check(
            &["PATH=/x", "HOME=/y", "HOSTNAME", "A=1", "A=2="],
            false,
            &["PATH=/x", "HOME=/y", "A=2="],
        );
    }
}
