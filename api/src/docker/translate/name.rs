//! Names of containers: which are valid, and which are made up for those that get none.

use super::Invalid;

/// Checks a name as the engine does; a leading slash is taken off.
pub fn checked(name: &str) -> Result<&str, Invalid> {
    let bare = name.strip_prefix('/').unwrap_or(name);
    let valid = bare.len() >= 2
        && bare.len() <= LENGTH_MAX
        && bare.starts_with(|c: char| c.is_ascii_alphanumeric())
        && bare.chars().all(|c| c.is_ascii_alphanumeric() || "_.-".contains(c));
    if valid {
        Ok(bare)
    } else {
        Err(Invalid::bad(format!(
            "Invalid container name ({name}), only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed"
        )))
    }
}

/// Longer names are refused: they would not fit a host name or a line of a table.
const LENGTH_MAX: usize = 255;

/// `adjective_noun` from the seafaring words below, and a number where `attempt` says that plain
/// words were taken.
pub fn made_up(draw: u64, attempt: u32) -> String {
    let adjectives = ADJECTIVES.len() as u64;
    let nouns = NOUNS.len() as u64;
    let adjective = ADJECTIVES[usize::try_from(draw % adjectives).unwrap_or(0)];
    let noun = NOUNS[usize::try_from(draw / adjectives % nouns).unwrap_or(0)];
    if attempt == 0 {
        format!("{adjective}_{noun}")
    } else {
        format!("{adjective}_{noun}_{}", draw / adjectives / nouns % 100_000)
    }
}

const ADJECTIVES: [&str; 48] = [
    "able", "ample", "bold", "brave", "bright", "brisk", "calm", "candid", "clear", "clever",
    "cosy", "curious", "eager", "early", "fair", "fleet", "fresh", "gentle", "glad", "grand",
    "hardy", "hearty", "honest", "jolly", "keen", "kind", "lively", "loyal", "lucid", "merry",
    "mild", "neat", "nimble", "noble", "patient", "plucky", "proud", "quick", "quiet", "ready",
    "sharp", "steady", "sunny", "swift", "tidy", "trusty", "vivid", "witty",
];

const NOUNS: [&str; 48] = [
    "albatross",
    "anchor",
    "barge",
    "beacon",
    "bollard",
    "bosun",
    "bowline",
    "bridge",
    "buoy",
    "capstan",
    "cargo",
    "channel",
    "compass",
    "cove",
    "crane",
    "cutter",
    "dinghy",
    "dock",
    "dolphin",
    "estuary",
    "fathom",
    "ferry",
    "gull",
    "harbour",
    "hawser",
    "heron",
    "hull",
    "jetty",
    "keel",
    "ketch",
    "lagoon",
    "lantern",
    "lighthouse",
    "mast",
    "pelican",
    "pier",
    "pilot",
    "puffin",
    "quay",
    "rigging",
    "rudder",
    "sailor",
    "schooner",
    "sloop",
    "tide",
    "trawler",
    "tug",
    "wharf",
];

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn names_are_held_to_the_engine_s_rule() {
        assert_eq!(checked("/web.1_a-b"), Ok("web.1_a-b"));
        for name in ["", "/", "a", "-ab", "a b", "a/b", "//ab", "é1"] {
            let text = checked(name).unwrap_err().to_string();
            assert!(text.starts_with(&format!("Invalid container name ({name})")), "{text}");
        }
    }

    proptest! {
        #[test]
        fn a_made_up_name_is_valid(draw in any::<u64>(), attempt in 0u32..3) {
            let name = made_up(draw, attempt);
            prop_assert_eq!(checked(&name), Ok(name.as_str()));
        }
    }
}
