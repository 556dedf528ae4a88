//! Encoding of our own types: bincode in its standard configuration, with limits.
//!
//! Promises: what is decoded was wholly consumed; input over the caller's limit is refused before
//! it is looked at; a length prefix that lies cannot make us allocate much more than the input is
//! long.
//! Does not: carry a version. What is stored goes into an [`crate::envelope`], a link opens with a
//! [`crate::hello`].

use bincode::config;
use bincode::error::DecodeError;
use serde::Serialize;
use serde::de::DeserializeOwned;

/// Why bytes are not a value of the wanted type.
#[derive(Debug, thiserror::Error)]
pub enum CodecError {
    #[error("message of {length} bytes is over its limit of {limit}")]
    TooLong { length: usize, limit: usize },
    #[error("message has {0} bytes after its end; the two sides disagree about its form")]
    TrailingBytes(usize),
    #[error("message is not well formed")]
    Malformed(#[source] DecodeError),
}

/// Encodes a value. Our types hold nothing that bincode refuses, so this cannot fail.
pub fn encode<T: Serialize>(value: &T) -> Vec<u8> {
    bincode::serde::encode_to_vec(value, config::standard())
        .expect("our types hold only what bincode can encode")
}

/// Decodes a value that fills `bytes` exactly. `limit` bounds the input in bytes.
pub fn decode<T: DeserializeOwned>(bytes: &[u8], limit: usize) -> Result<T, CodecError> {
    if bytes.len() > limit {
        return Err(CodecError::TooLong { length: bytes.len(), limit });
    }
    let (value, consumed) = decode_bounded(bytes).map_err(CodecError::Malformed)?;
    if consumed != bytes.len() {
        return Err(CodecError::TrailingBytes(bytes.len() - consumed));
    }
    Ok(value)
}

/// bincode takes its bound on claimed memory as a constant, so there are rungs. One byte of input
/// may rightly claim up to 16 bytes (a small `u128`), hence the factor.
fn decode_bounded<T: DeserializeOwned>(bytes: &[u8]) -> Result<(T, usize), DecodeError> {
    const SMALL: usize = 256 << 10;
    const MIDDLE: usize = 64 << 20;
    const LARGE: usize = 16 << 30;
    let claim = bytes.len().saturating_mul(16);
    if claim <= SMALL {
        bincode::serde::decode_from_slice(bytes, config::standard().with_limit::<SMALL>())
    } else if claim <= MIDDLE {
        bincode::serde::decode_from_slice(bytes, config::standard().with_limit::<MIDDLE>())
    } else {
        bincode::serde::decode_from_slice(bytes, config::standard().with_limit::<LARGE>())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde::Deserialize;

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Sample {
        number: u64,
        text: String,
        list: Vec<Option<u8>>,
    }

    fn sample() -> Sample {
        Sample { number: 7, text: "seven".into(), list: vec![None, Some(3)] }
    }

    #[test]
    fn a_value_survives_the_trip() {
        assert_eq!(decode::<Sample>(&encode(&sample()), 100).unwrap(), sample());
    }

    #[test]
    fn every_shorter_prefix_is_refused() {
        let bytes = encode(&sample());
        for end in 0..bytes.len() {
            assert!(decode::<Sample>(&bytes[..end], 100).is_err(), "prefix of {end} bytes");
        }
    }

    #[test]
    fn trailing_bytes_are_refused() {
        let mut bytes = encode(&sample());
        bytes.push(0);
        assert!(matches!(decode::<Sample>(&bytes, 100), Err(CodecError::TrailingBytes(1))));
    }

    #[test]
    fn input_over_the_limit_is_refused() {
        let bytes = encode(&sample());
        let refused = decode::<Sample>(&bytes, bytes.len() - 1);
        assert!(matches!(refused, Err(CodecError::TooLong { .. })));
    }

    #[test]
    fn a_length_prefix_that_lies_is_refused_without_the_memory() {
        let mut bytes = vec![253];
        bytes.extend_from_slice(&u64::MAX.to_le_bytes());
        assert!(matches!(decode::<String>(&bytes, 100), Err(CodecError::Malformed(_))));
        bytes[1..].copy_from_slice(&(1u64 << 40).to_le_bytes());
        assert!(matches!(decode::<Vec<u64>>(&bytes, 100), Err(CodecError::Malformed(_))));
    }

    proptest::proptest! {
        #[test]
        fn any_bytes_are_a_value_or_an_error(bytes: Vec<u8>) {
            if let Ok(value) = decode::<Sample>(&bytes, 1000) {
                // bincode accepts a number in more spellings than one; the value is what counts.
                proptest::prop_assert_eq!(decode::<Sample>(&encode(&value), 1000).unwrap(), value);
            }
            proptest::prop_assert!(decode::<Vec<Vec<String>>>(&bytes, 0).is_err() || bytes.is_empty());
        }
    }

    #[test]
    fn megabytes_of_small_numbers_are_within_the_bound() {
        let many: Vec<u128> = vec![1; 5 << 20];
        assert_eq!(decode::<Vec<u128>>(&encode(&many), 8 << 20).unwrap(), many);
    }
}
