//! Keeps the highest obeyed generation on the host's disk, so that a restarted node does not obey a
//! leader of the past.
//!
//! Promises: the file is whole or the one before. It is written a moment after the assignment is
//! obeyed, without waiting for the disk: after a power loss nothing runs that an old assignment
//! could double.

use super::obedience::Floor;
use berth_wire::codec;
use berth_wire::envelope::{self, Format};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use tokio::sync::watch;

const FILE: &str = "obeyed";
const FORMAT: Format = Format(0x4e01);
const VERSION: u16 = 1;

/// The floor as it was last kept; `None` if there is none yet.
pub fn load(state_directory: &Path) -> io::Result<Option<Floor>> {
    let bytes = match fs::read(state_directory.join(FILE)) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let invalid = |error: &dyn std::fmt::Display| {
        io::Error::new(io::ErrorKind::InvalidData, error.to_string())
    };
    let (_, payload) =
        envelope::open(FORMAT, VERSION..=VERSION, &bytes).map_err(|error| invalid(&error))?;
    codec::decode(payload, bytes.len()).map(Some).map_err(|error| invalid(&error))
}

fn store(state_directory: &Path, floor: Floor) -> io::Result<()> {
    let sealed = envelope::seal(FORMAT, VERSION, &codec::encode(&floor));
    let draft = state_directory.join(format!("{FILE}.new"));
    fs::write(&draft, sealed)?;
    fs::rename(&draft, state_directory.join(FILE))
}

/// Keeps whatever is published until the publisher is gone.
pub fn keep(state_directory: PathBuf) -> watch::Sender<Option<Floor>> {
    let (publisher, mut floors) = watch::channel(None);
    actix_rt::spawn(async move {
        while floors.changed().await.is_ok() {
            let Some(floor) = *floors.borrow_and_update() else {
                continue;
            };
            let directory = state_directory.clone();
            let stored = tokio::task::spawn_blocking(move || store(&directory, floor)).await;
            if let Ok(Err(error)) = stored {
                tracing::error!(%error, directory = %state_directory.display(),
                    "obeyed generation was not kept");
            }
        }
    });
    publisher
}

#[cfg(test)]
mod tests {
    use super::*;
    use berth_model::{CellId, Generation, Incarnation};

    #[test]
    fn a_floor_is_found_again_and_a_damaged_one_is_an_error() {
        let directory = tempfile::tempdir().unwrap();
        assert_eq!(load(directory.path()).unwrap(), None);
        let cell = CellId::from_bytes([3; 16]);
        let floor = Floor { cell, incarnation: Incarnation(1), generation: Generation(77) };
        store(directory.path(), floor).unwrap();
        assert_eq!(load(directory.path()).unwrap(), Some(floor));
        fs::write(directory.path().join(FILE), b"what").unwrap();
        assert!(load(directory.path()).is_err());
    }

    #[test]
    fn the_bytes_of_version_one_never_change() {
        let directory = tempfile::tempdir().unwrap();
        let cell = CellId::from_bytes([3; 16]);
        let floor = Floor { cell, incarnation: Incarnation(1), generation: Generation(7) };
        store(directory.path(), floor).unwrap();
        let bytes = fs::read(directory.path().join(FILE)).unwrap();
        assert_eq!(bytes[..4], [0x01, 0x4e, 1, 0]);
        assert_eq!(bytes[8..], [&[3; 16][..], &[1, 7]].concat());
    }
}
