//! Revisions as clients see them: opaque strings that name a state of one cell's log.
//!
//! Inside are cell, incarnation and index, with a checksum so that a cut or invented string is
//! refused rather than misread. Clients only compare them for equality and hand them back.

use crate::ids::CellId;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

/// How often a cell was restored or recovered by force; revisions of another incarnation are
/// gone (410), never misread.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct Incarnation(pub u32);

/// A state of one cell: everything up to `index` applied.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Revision {
    pub cell: CellId,
    pub incarnation: Incarnation,
    pub index: u64,
}

/// A text that no replica of berth gave out as a revision.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a revision; use one that an earlier answer gave")]
pub struct RevisionError(String);

impl Revision {
    fn bytes(&self) -> [u8; 20] {
        let mut bytes = [0; 20];
        bytes[..8].copy_from_slice(&self.cell.as_bytes()[..8]);
        bytes[8..12].copy_from_slice(&self.incarnation.0.to_be_bytes());
        bytes[12..].copy_from_slice(&self.index.to_be_bytes());
        bytes
    }

    fn check(bytes: &[u8]) -> [u8; 2] {
        use sha2::Digest as _;
        let digest = sha2::Sha256::digest(bytes);
        [digest[0], digest[1]]
    }

    /// Reads `text`, which must have been given out by `cell`.
    ///
    /// The text holds only the first half of the cell's id: enough to tell cells apart.
    pub fn parse(text: &str, cell: CellId) -> Result<Revision, RevisionError> {
        let wrong = || RevisionError(text.chars().take(80).collect());
        let bytes: [u8; 22] =
            hex::decode(text).ok().and_then(|b| b.try_into().ok()).ok_or_else(wrong)?;
        let (body, check) = bytes.split_at(20);
        if check != Self::check(body) || body[..8] != cell.as_bytes()[..8] {
            return Err(wrong());
        }
        let incarnation = u32::from_be_bytes(body[8..12].try_into().expect("four bytes"));
        let index = u64::from_be_bytes(body[12..].try_into().expect("eight bytes"));
        Ok(Revision { cell, incarnation: Incarnation(incarnation), index })
    }
}

impl fmt::Display for Revision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bytes = self.bytes();
        write!(f, "{}{}", hex::encode(bytes), hex::encode(Self::check(&bytes)))
    }
}

impl Serialize for Revision {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// A revision as a client holds it: opaque text.
#[derive(
    Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, schemars::JsonSchema,
)]
#[serde(transparent)]
pub struct OpaqueRevision(
    /// Empty while the cell is not set up.
    #[schemars(regex(pattern = r"^([0-9a-f]{44})?$"))]
    pub String,
);

impl FromStr for OpaqueRevision {
    type Err = std::convert::Infallible;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Ok(OpaqueRevision(text.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_revision_survives_its_text_form_and_refuses_other_cells() {
        let cell = CellId::from_bytes([3; 16]);
        let revision = Revision { cell, incarnation: Incarnation(1), index: 77 };
        let text = revision.to_string();
        assert_eq!(Revision::parse(&text, cell).unwrap(), revision);
        assert!(Revision::parse(&text, CellId::from_bytes([4; 16])).is_err());
        assert!(Revision::parse(&text[2..], cell).is_err());
    }
}
