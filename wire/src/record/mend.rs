//! Finds the next record behind a write that was begun, failed and was begun again.
//!
//! A hypervisor appends to the log what the guest writes. On a full disk a write may get part of
//! its bytes into the file and fail; once there is room the hypervisor repeats all of it:
//! ```text
//! written  ……|RRRRRR|SSSSSSSS|……          R, S records; the write began at q and was torn at p
//!              q^         ^p
//! found    ……|RRRRRR|SSSSSRRRR|SSSSSSSS|……     what lies between q and p is there twice
//! ```
//! Promises: gives only whole records with the expected number and a right checksum; looks at a
//! bounded window and does bounded work, whatever the guest wrote.
//! Does not: mend two writes torn within one record or two neighbours, nor a record inside whose first
//! [`HEADER`] bytes a write both began and was torn. That is damage, and is said.

use super::{HEADER, Header, MAGIC, PAYLOAD_MAX};

/// More than a guest writes at once, which is up to 32 KiB; twice that, for a write torn twice.
pub const REPEATED_MAX: usize = 64 << 10;
/// Behind so many bytes nothing is waited for.
const WINDOW: usize = REPEATED_MAX + 2 * (HEADER + PAYLOAD_MAX);
/// Bytes of which checksums are made, before it is given up: there is no end of places that only look
/// like what is sought.
const CHECKED_MAX: usize = 8 << 20;

#[derive(Debug, PartialEq, Eq)]
pub enum Mended {
    /// The record lies whole behind so many bytes that are there twice.
    Behind(usize),
    /// The record has so many bytes too many, `at` this place.
    Within {
        at: usize,
        repeated: usize,
    },
    /// More bytes may show it.
    NotYet,
    Never,
}

/// Looks for record `expected`, which should begin at the front of `bytes` and does not lie there
/// whole.
pub fn mend(bytes: &[u8], expected: u64) -> Mended {
    let mut budget = CHECKED_MAX;
    let found =
        behind(bytes, expected, &mut budget).or_else(|| within(bytes, expected, &mut budget));
    match found {
        Some(mended) => mended,
        None if budget > 0 && bytes.len() < WINDOW => Mended::NotYet,
        None => Mended::Never,
    }
}

fn behind(bytes: &[u8], expected: u64, budget: &mut usize) -> Option<Mended> {
    for skip in 1..=REPEATED_MAX {
        let rest = bytes.get(skip..)?;
        if !rest.starts_with(&MAGIC) {
            continue;
        }
        let Some(header) = Header::of(rest).filter(|header| header.sequence == expected) else {
            continue;
        };
        // It may be about to come whole, or be torn itself: then another follows.
        let Some(payload) = rest.get(HEADER..header.whole()) else { continue };
        spend(budget, header.whole())?;
        if header.fits(&[payload]) {
            return Some(Mended::Behind(skip));
        }
    }
    None
}

fn within(bytes: &[u8], expected: u64, budget: &mut usize) -> Option<Mended> {
    let header = Header::of(bytes).filter(|header| header.sequence == expected)?;
    let whole = header.whole();
    // The record that follows says how many bytes are too many.
    let repeated = (1..=REPEATED_MAX).find(|repeated| {
        let next = bytes.get(whole + repeated..).and_then(Header::of);
        next.is_some_and(|next| next.sequence == expected.wrapping_add(1))
    })?;
    // Where the write was torn, `repeated` bytes in a row are those that follow.
    // All places of one such stretch come to the same.
    let (mut run, mut tried) = (0, false);
    for at in HEADER..=whole {
        if bytes[at - 1] != bytes[at - 1 + repeated] {
            (run, tried) = (0, false);
            continue;
        }
        run += 1;
        if tried || run < repeated.min(at - HEADER) {
            continue;
        }
        spend(budget, whole)?;
        tried = true;
        if header.fits(&[&bytes[HEADER..at], &bytes[at + repeated..whole + repeated]]) {
            return Some(Mended::Within { at, repeated });
        }
    }
    None
}

fn spend(budget: &mut usize, bytes: usize) -> Option<()> {
    match budget.checked_sub(bytes) {
        Some(left) => {
            *budget = left;
            Some(())
        }
        None => {
            *budget = 0;
            None
        }
    }
}
