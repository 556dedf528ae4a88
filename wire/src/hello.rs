//! The first message on every link: which protocol versions a side speaks.
//!
//! Promises: two sides agree on the highest version that both speak, or learn why they cannot.
//! Does not: act on features; whoever owns the link looks at those of the other side.

use serde::{Deserialize, Serialize};

/// What each side says first. This struct is frozen: it must decode for ever.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hello {
    pub protocol_min: u16,
    pub protocol_max: u16,
    /// Which build this is, for people to read.
    pub build: String,
    /// Optional abilities, each a word.
    pub features: Vec<String>,
}

/// Why two sides cannot talk.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HelloError {
    #[error(
        "no protocol version in common: we speak {our_min} to {our_max}, build {build:?} speaks \
         {their_min} to {their_max}; upgrade the older side"
    )]
    NoCommonVersion { our_min: u16, our_max: u16, their_min: u16, their_max: u16, build: String },
    #[error("hello names an empty range of protocol versions, {0} to {1}")]
    EmptyRange(u16, u16),
}

/// The highest protocol version that both sides speak.
pub fn agree(ours: &Hello, theirs: &Hello) -> Result<u16, HelloError> {
    for hello in [ours, theirs] {
        if hello.protocol_min > hello.protocol_max {
            return Err(HelloError::EmptyRange(hello.protocol_min, hello.protocol_max));
        }
    }
    let highest = ours.protocol_max.min(theirs.protocol_max);
    if highest < ours.protocol_min.max(theirs.protocol_min) {
        return Err(HelloError::NoCommonVersion {
            our_min: ours.protocol_min,
            our_max: ours.protocol_max,
            their_min: theirs.protocol_min,
            their_max: theirs.protocol_max,
            build: theirs.build.clone(),
        });
    }
    Ok(highest)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hello(protocol_min: u16, protocol_max: u16) -> Hello {
        Hello { protocol_min, protocol_max, build: "test".into(), features: vec![] }
    }

    #[test]
    fn the_highest_common_version_is_taken() {
        assert_eq!(agree(&hello(1, 4), &hello(2, 3)), Ok(3));
        assert_eq!(agree(&hello(2, 3), &hello(3, 9)), Ok(3));
    }

    #[test]
    fn disjoint_ranges_are_refused() {
        let refused = agree(&hello(1, 2), &hello(3, 4));
        assert!(matches!(refused, Err(HelloError::NoCommonVersion { .. })));
    }

    #[test]
    fn an_empty_range_is_refused() {
        assert_eq!(agree(&hello(1, 2), &hello(2, 1)), Err(HelloError::EmptyRange(2, 1)));
    }

    #[test]
    fn the_bytes_of_a_hello_never_change() {
        let hello = Hello {
            protocol_min: 1,
            protocol_max: 300,
            build: "b".into(),
            features: vec!["f".into()],
        };
        let bytes = crate::codec::encode(&hello);
        assert_eq!(bytes, [1, 251, 44, 1, 1, b'b', 1, 1, b'f']);
        assert_eq!(crate::codec::decode::<Hello>(&bytes, 100).unwrap(), hello);
    }
}
