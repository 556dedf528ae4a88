//! The lease file of one host on one datastore: a counter that rises while the host lives.
//!
//! ```text
//! length u16 | envelope { host, boot, counter, period } | zeros up to 512 bytes      little-endian
//! ```
//!
//! Promises: a renewal is one write of one sector to the same file, on the disk before it counts; a
//! reader that meets a write in progress finds a wrong checksum and looks again. The counter goes
//! on over restarts of the keeper. Blocks for as long as the datastore does.

use berth_model::HostId;
use berth_wire::codec;
use berth_wire::envelope::{self, Format};
use serde::{Deserialize, Serialize};
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::Path;

const FORMAT: Format = Format(0x4e02);
const VERSION: u16 = 1;
const SECTOR: usize = 512;

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lease {
    pub host: HostId,
    /// Of the boot in which the keeper runs.
    pub boot: String,
    /// Rises by one with each renewal.
    pub counter: u64,
    /// Time between renewals as planned, in milliseconds.
    pub period_ms: u64,
}

/// The file that this host renews.
pub struct LeaseFile {
    file: File,
    lease: Lease,
}

impl LeaseFile {
    pub fn open(path: &Path, host: HostId, boot: &str, period_ms: u64) -> io::Result<LeaseFile> {
        let file =
            OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path)?;
        // Whatever cannot be read is written anew: the counter then starts again, which a watcher
        // sees as the change that it waits for.
        let counter = read_from(&file).map_or(0, |lease| lease.counter);
        let lease = Lease { host, boot: boot.to_owned(), counter, period_ms };
        Ok(LeaseFile { file, lease })
    }

    pub fn renew(&mut self) -> io::Result<u64> {
        self.lease.counter += 1;
        let sealed = envelope::seal(FORMAT, VERSION, &codec::encode(&self.lease));
        let length = u16::try_from(sealed.len()).ok().filter(|n| usize::from(*n) + 2 <= SECTOR);
        let length = length.ok_or(io::ErrorKind::InvalidInput)?;
        let mut sector = [0; SECTOR];
        sector[..2].copy_from_slice(&length.to_le_bytes());
        sector[2..2 + sealed.len()].copy_from_slice(&sealed);
        self.file.write_all_at(&sector, 0)?;
        self.file.sync_data()?;
        Ok(self.lease.counter)
    }
}

/// The lease as it stands on the datastore; `None` while it is being written or if there is none.
pub fn read(path: &Path) -> io::Result<Option<Lease>> {
    match File::open(path) {
        Ok(file) => Ok(read_from(&file)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

fn read_from(file: &File) -> Option<Lease> {
    let mut sector = [0; SECTOR];
    file.read_exact_at(&mut sector, 0).ok()?;
    let length = usize::from(u16::from_le_bytes([sector[0], sector[1]]));
    let sealed = sector.get(2..2 + length)?;
    let (_, payload) = envelope::open(FORMAT, VERSION..=VERSION, sealed).ok()?;
    codec::decode(payload, SECTOR).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOST: HostId = HostId::from_bytes([4; 16]);

    #[test]
    fn the_counter_rises_and_goes_on_after_a_restart() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("lease");
        assert_eq!(read(&path).unwrap(), None);
        let mut lease = LeaseFile::open(&path, HOST, "boot", 1000).unwrap();
        assert_eq!(lease.renew().unwrap(), 1);
        assert_eq!(lease.renew().unwrap(), 2);
        let mut again = LeaseFile::open(&path, HOST, "boot", 1000).unwrap();
        assert_eq!(again.renew().unwrap(), 3);
        let read = read(&path).unwrap().unwrap();
        assert_eq!((read.host, read.counter, read.period_ms), (HOST, 3, 1000));
        assert_eq!(std::fs::metadata(&path).unwrap().len(), 512);
    }

    #[test]
    fn a_lease_in_the_middle_of_a_write_is_not_read() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("lease");
        LeaseFile::open(&path, HOST, "boot", 1000).unwrap().renew().unwrap();
        let mut bytes = std::fs::read(&path).unwrap();
        bytes[30] ^= 1;
        std::fs::write(&path, bytes).unwrap();
        assert_eq!(read(&path).unwrap(), None);
    }

    #[test]
    fn the_bytes_of_version_one_never_change() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("lease");
        LeaseFile::open(&path, HOST, "b", 1000).unwrap().renew().unwrap();
        let bytes = std::fs::read(&path).unwrap();
        assert_eq!(bytes[..6], [30, 0, 0x02, 0x4e, 1, 0]);
        let payload = [&[4; 16][..], &[1, b'b'], &[1], &[251, 232, 3]].concat();
        assert_eq!(bytes[10..10 + payload.len()], payload);
    }
}
