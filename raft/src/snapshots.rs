//! Snapshots as files beside the log.
//!
//! ```text
//! header length u32 | header in its envelope | state machine's bytes
//! ```
//!
//! Promises: a file under its final name is whole and synced, for it is written aside and renamed;
//! its bytes are checked against the header's checksum whenever they are read. Which file counts is
//! said by the log's state, never by what lies in the directory.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use berth_wire::codec::{self, CodecError};
use berth_wire::envelope::{self, EnvelopeError, Format};
use serde::{Deserialize, Serialize};

use crate::log::{Durable, Position};

const FORMAT: Format = Format(0x5203);
const VERSION: u16 = 1;
const HEADER_LIMIT: usize = 64 << 10;

/// Version 1 of what stands before a snapshot's bytes. Frozen.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Header {
    pub(crate) position: Position,
    pub(crate) voters: Vec<u64>,
    /// The newest stamp that was applied: later ones must not go back behind it.
    pub(crate) time_ms: u64,
    pub(crate) length: u64,
    pub(crate) crc32: u32,
}

/// Why a snapshot file is of no use.
#[derive(Debug, thiserror::Error)]
pub enum SnapshotError {
    #[error("cannot {verb} {path}")]
    File {
        verb: &'static str,
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("snapshot {0} is damaged; replace this replica's directory")]
    Damaged(PathBuf),
    #[error("snapshot's header cannot be read")]
    Envelope(#[from] EnvelopeError),
    #[error("snapshot's header cannot be read")]
    Codec(#[from] CodecError),
}

/// The snapshots of one replica.
#[derive(Clone, Debug)]
pub(crate) struct Snapshots {
    directory: PathBuf,
}

impl Snapshots {
    pub(crate) fn open(directory: PathBuf) -> Result<Self, SnapshotError> {
        fs::create_dir_all(&directory).map_err(failed("create", &directory))?;
        Ok(Self { directory })
    }

    pub(crate) fn path(&self, position: Position) -> PathBuf {
        self.directory.join(format!("{:020}-{:010}.snapshot", position.index, position.term))
    }

    /// Where a snapshot from a peer is written to until raft takes it.
    pub(crate) fn incoming_path(&self, from: u64) -> PathBuf {
        self.directory.join(format!("from-{from}.incoming"))
    }

    /// Writes a snapshot; answers the file's size in bytes.
    pub(crate) fn write(
        &self,
        position: Position,
        voters: Vec<u64>,
        time_ms: u64,
        bytes: &[u8],
    ) -> Result<u64, SnapshotError> {
        let crc32 = crc32fast::hash(bytes);
        let length = bytes.len() as u64;
        let header = Header { position, voters, time_ms, length, crc32 };
        let header = envelope::seal(FORMAT, VERSION, &codec::encode(&header));
        let path = self.path(position);
        let aside = path.with_extension("partial");
        let mut file = File::create(&aside).map_err(failed("create", &aside))?;
        file.write_all(&(header.len() as u32).to_le_bytes())
            .and_then(|()| file.write_all(&header))
            .and_then(|()| file.write_all(bytes))
            .and_then(|()| file.sync_all())
            .map_err(failed("write", &aside))?;
        self.place(&aside, position)?;
        Ok(4 + header.len() as u64 + length)
    }

    /// Gives a synced file its final name.
    pub(crate) fn place(&self, aside: &Path, position: Position) -> Result<(), SnapshotError> {
        let path = self.path(position);
        fs::rename(aside, &path).map_err(failed("rename", aside))?;
        File::open(&self.directory)
            .and_then(|directory| directory.sync_all())
            .map_err(failed("sync", &self.directory))
    }

    /// Removes snapshots older than the one that `state` names.
    pub(crate) fn remove_older(&self, state: &Durable) {
        let Some(keep) = state.snapshot.map(|position| self.path(position)) else { return };
        let Ok(entries) = fs::read_dir(&self.directory) else { return };
        for path in entries.flatten().map(|entry| entry.path()) {
            let is_snapshot = path.extension().is_some_and(|extension| extension == "snapshot");
            // Names sort as indexes do. What cannot be removed now is at the next start.
            if is_snapshot
                && path < keep
                && let Err(error) = fs::remove_file(&path)
            {
                tracing::warn!(path = %path.display(), %error, "old snapshot stays");
            }
        }
    }

    /// Removes every file but the snapshot at `keep`; only for the start, before any is under way.
    pub(crate) fn clear(&self, keep: Option<Position>) -> Result<(), SnapshotError> {
        let keep = keep.map(|position| self.path(position));
        let entries = fs::read_dir(&self.directory).map_err(failed("list", &self.directory))?;
        for entry in entries {
            let path = entry.map_err(failed("list", &self.directory))?.path();
            if Some(&path) != keep.as_ref()
                && let Err(error) = fs::remove_file(&path)
            {
                tracing::warn!(path = %path.display(), %error, "old snapshot stays");
            }
        }
        Ok(())
    }
}

/// Reads a whole snapshot and checks it.
pub(crate) fn read(path: &Path) -> Result<(Header, Vec<u8>), SnapshotError> {
    let mut file = File::open(path).map_err(failed("open", path))?;
    let damaged = || SnapshotError::Damaged(path.to_owned());
    let mut length = [0; 4];
    file.read_exact(&mut length).map_err(failed("read", path))?;
    let length = u32::from_le_bytes(length) as usize;
    if length > HEADER_LIMIT {
        return Err(damaged());
    }
    let mut header = vec![0; length];
    file.read_exact(&mut header).map_err(failed("read", path))?;
    let (_, payload) = envelope::open(FORMAT, VERSION..=VERSION, &header)?;
    let header: Header = codec::decode(payload, HEADER_LIMIT)?;
    let size = file.metadata().map_err(failed("read", path))?.len();
    // The header's length is believed only as far as the file goes.
    if size != 4 + length as u64 + header.length {
        return Err(damaged());
    }
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes).map_err(failed("read", path))?;
    if bytes.len() as u64 != header.length || crc32fast::hash(&bytes) != header.crc32 {
        return Err(damaged());
    }
    Ok((header, bytes))
}

fn failed<'a>(verb: &'static str, path: &'a Path) -> impl Fn(io::Error) -> SnapshotError + 'a {
    move |source| SnapshotError::File { verb, path: path.to_owned(), source }
}

#[cfg(test)]
mod tests {
    use super::*;

    const AT: Position = Position { index: 7, term: 2 };

    fn snapshots() -> (tempfile::TempDir, Snapshots) {
        let directory = tempfile::tempdir().unwrap();
        let snapshots = Snapshots::open(directory.path().join("snapshots")).unwrap();
        (directory, snapshots)
    }

    #[test]
    fn a_snapshot_is_read_as_it_was_written() {
        let (_directory, snapshots) = snapshots();
        snapshots.write(AT, vec![1, 2, 3], 99, b"state").unwrap();
        let (header, bytes) = read(&snapshots.path(AT)).unwrap();
        assert_eq!((header.position, header.time_ms, bytes), (AT, 99, b"state".to_vec()));
    }

    #[test]
    fn every_truncation_and_flipped_bit_is_noticed() {
        let (_directory, snapshots) = snapshots();
        snapshots.write(AT, vec![1, 2, 3], 99, b"state").unwrap();
        let path = snapshots.path(AT);
        let whole = fs::read(&path).unwrap();
        for end in 0..whole.len() {
            fs::write(&path, &whole[..end]).unwrap();
            assert!(read(&path).is_err(), "{end} bytes");
        }
        for bit in 0..whole.len() * 8 {
            let mut damaged = whole.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            fs::write(&path, &damaged).unwrap();
            assert!(read(&path).is_err(), "bit {bit}");
        }
    }

    #[test]
    fn only_the_named_snapshot_survives_clearing() {
        let (_directory, snapshots) = snapshots();
        snapshots.write(AT, vec![1], 0, b"old").unwrap();
        let newer = Position { index: 9, term: 2 };
        snapshots.write(newer, vec![1], 0, b"new").unwrap();
        fs::write(snapshots.incoming_path(2), b"half").unwrap();
        snapshots.clear(Some(newer)).unwrap();
        assert!(read(&snapshots.path(newer)).is_ok());
        assert!(!snapshots.path(AT).exists() && !snapshots.incoming_path(2).exists());
    }
}
