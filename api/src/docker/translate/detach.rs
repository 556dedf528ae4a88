//! The keys that detach a client from a terminal without ending the process.

use super::Invalid;

/// `ctrl-p,ctrl-q`, Docker's default.
const DEFAULT: [u8; 2] = [0x10, 0x11];

/// Watches a stream of keys for the sequence that detaches.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DetachKeys {
    keys: Vec<u8>,
    matched: usize,
}

impl Default for DetachKeys {
    fn default() -> Self {
        Self { keys: DEFAULT.to_vec(), matched: 0 }
    }
}

impl DetachKeys {
    /// Keys by commas: a letter, or `ctrl-` with a letter or one of `@[\]^_`.
    pub fn parse(text: &str) -> Result<Self, Invalid> {
        if text.is_empty() {
            return Ok(Self::default());
        }
        let keys = text.split(',').map(|key| Self::key(text, key)).collect::<Result<_, _>>()?;
        Ok(Self { keys, matched: 0 })
    }

    fn key(text: &str, key: &str) -> Result<u8, Invalid> {
        let wrong = || Invalid::bad(format!("Invalid detach keys ({text}): unknown key {key:?}"));
        if let [byte] = key.as_bytes() {
            return Ok(*byte);
        }
        match key.to_ascii_lowercase().strip_prefix("ctrl-").map(str::as_bytes) {
            Some([letter @ b'a'..=b'z']) => Ok(letter - b'a' + 1),
            Some([b'@']) => Ok(0),
            Some([sign @ b'['..=b'_']) => Ok(sign - b'@'),
            Some(_) | None => Err(wrong()),
        }
    }

    /// What of `input` is for the process, and whether the client detaches. Keys that may yet
    /// become the sequence are held back until it is clear that they do not.
    pub fn filter(&mut self, input: &[u8]) -> (Vec<u8>, bool) {
        let mut out = Vec::with_capacity(input.len());
        for byte in input {
            if self.keys.get(self.matched) == Some(byte) {
                self.matched += 1;
                if self.matched == self.keys.len() {
                    self.matched = 0;
                    return (out, true);
                }
                continue;
            }
            out.extend_from_slice(&self.keys[..self.matched]);
            self.matched = usize::from(self.keys.first() == Some(byte) && self.keys.len() > 1);
            if self.matched == 0 {
                out.push(*byte);
            }
        }
        (out, false)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sequence_detaches_even_in_pieces() {
        let mut keys = DetachKeys::default();
        assert_eq!(keys.filter(b"ab\x10"), (b"ab".to_vec(), false));
        assert_eq!(keys.filter(b"\x11zz"), (Vec::new(), true));
    }

    #[test]
    fn half_a_sequence_is_given_to_the_process_once_it_is_none() {
        let mut keys = DetachKeys::default();
        assert_eq!(keys.filter(b"\x10x"), (b"\x10x".to_vec(), false));
        assert_eq!(keys.filter(b"\x10\x10\x11"), (b"\x10".to_vec(), true));
    }

    #[test]
    fn keys_are_named_as_docker_names_them() {
        assert_eq!(DetachKeys::parse("ctrl-a,x").unwrap().keys, [1, b'x']);
        assert_eq!(DetachKeys::parse("ctrl-@,ctrl-_").unwrap().keys, [0, 31]);
        assert_eq!(DetachKeys::parse("").unwrap(), DetachKeys::default());
        assert!(DetachKeys::parse("ctrl-").is_err());
        assert!(DetachKeys::parse("esc").is_err());
    }
}
