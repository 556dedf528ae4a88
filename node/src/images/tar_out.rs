//! Writes a tar stream that `sqfstar` reads without losing anything: ustar headers, base-256
//! numbers for large ones, PAX records for long names and attributes.
//!
//! Promises: what was appended is in the stream to the byte, in the order of the calls. Does not:
//! check that the entries make sense together.

use crate::images::tar_stream::{TarEntry, TarKind};
use std::io::{self, Read, Write};
use tar::{EntryType, Header};

const BLOCK: usize = 512;
/// What the name and link fields of a ustar header hold.
const NAME_MAX: usize = 100;

pub struct TarWriter<W> {
    sink: W,
}

impl<W: Write> TarWriter<W> {
    pub fn new(sink: W) -> Self {
        Self { sink }
    }

    /// Writes `entry` with exactly `size` bytes of `data`.
    pub fn append(&mut self, entry: &TarEntry, data: impl Read, size: u64) -> io::Result<()> {
        let mut header = Header::new_ustar();
        let mut records = Vec::new();
        header.set_mode(entry.mode);
        header.set_uid(entry.uid);
        header.set_gid(entry.gid);
        header.set_mtime(entry.mtime);
        header.set_size(size);
        let link = self.set_kind(&mut header, &entry.kind)?;
        put_name(&mut header.as_old_mut().name, &entry.path, "path", &mut records);
        put_name(&mut header.as_old_mut().linkname, link, "linkpath", &mut records);
        for (name, value) in &entry.xattrs {
            let mut key = b"SCHILY.xattr.".to_vec();
            key.extend_from_slice(name);
            record(&key, value, &mut records);
        }
        if !records.is_empty() {
            self.extension(&records)?;
        }
        header.set_cksum();
        self.sink.write_all(header.as_bytes())?;
        let copied = io::copy(&mut data.take(size), &mut self.sink)?;
        if copied < size {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.pad(size)
    }

    /// Writes the end marks and gives the sink back.
    pub fn finish(mut self) -> io::Result<W> {
        self.sink.write_all(&[0; 2 * BLOCK])?;
        self.sink.flush()?;
        Ok(self.sink)
    }

    fn set_kind<'e>(&self, header: &mut Header, kind: &'e TarKind) -> io::Result<&'e [u8]> {
        let (entry_type, link): (EntryType, &[u8]) = match kind {
            TarKind::File => (EntryType::Regular, &[]),
            TarKind::Directory => (EntryType::Directory, &[]),
            TarKind::Symlink(target) => (EntryType::Symlink, target),
            TarKind::Link(target) => (EntryType::Link, target),
            TarKind::Fifo => (EntryType::Fifo, &[]),
            TarKind::Character { major, minor } => {
                header.set_device_major(*major)?;
                header.set_device_minor(*minor)?;
                (EntryType::Char, &[])
            }
            TarKind::Block { major, minor } => {
                header.set_device_major(*major)?;
                header.set_device_minor(*minor)?;
                (EntryType::Block, &[])
            }
        };
        header.set_entry_type(entry_type);
        Ok(link)
    }

    fn extension(&mut self, records: &[u8]) -> io::Result<()> {
        let mut header = Header::new_ustar();
        header.set_entry_type(EntryType::XHeader);
        header.as_old_mut().name[..3].copy_from_slice(b"pax");
        header.set_mode(0o644);
        header.set_size(records.len() as u64);
        header.set_cksum();
        self.sink.write_all(header.as_bytes())?;
        self.sink.write_all(records)?;
        self.pad(records.len() as u64)
    }

    fn pad(&mut self, size: u64) -> io::Result<()> {
        let over = usize::try_from(size % BLOCK as u64).unwrap_or(0);
        if over == 0 { Ok(()) } else { self.sink.write_all(&[0; BLOCK][over..]) }
    }
}

fn put_name(field: &mut [u8; NAME_MAX], name: &[u8], key: &str, records: &mut Vec<u8>) {
    let short = name.len().min(NAME_MAX);
    field[..short].copy_from_slice(&name[..short]);
    if name.len() > NAME_MAX {
        record(key.as_bytes(), name, records);
    }
}

/// The length at the front counts its own digits, so it may take a second try.
fn record(key: &[u8], value: &[u8], records: &mut Vec<u8>) {
    let rest = key.len() + value.len() + 3;
    let digits = |number: usize| number.to_string().len();
    let mut length = rest + digits(rest);
    if digits(length) > digits(rest) {
        length += 1;
    }
    records.extend_from_slice(format!("{length} ").as_bytes());
    records.extend_from_slice(key);
    records.push(b'=');
    records.extend_from_slice(value);
    records.push(b'\n');
}

/// An entry with usual permissions, for tests to change.
#[cfg(test)]
pub(crate) fn entry(path: &str, kind: TarKind) -> TarEntry {
    TarEntry {
        path: path.as_bytes().to_vec(),
        mode: if kind == TarKind::Directory { 0o755 } else { 0o644 },
        kind,
        size: 0,
        offset: 0,
        uid: 0,
        gid: 0,
        mtime: 1_700_000_000,
        xattrs: Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_counts_its_own_digits() {
        for size in 80..110 {
            let mut records = Vec::new();
            record(b"path", &vec![b'x'; size], &mut records);
            let text = String::from_utf8(records.clone()).unwrap();
            let said: usize = text.split(' ').next().unwrap().parse().unwrap();
            assert_eq!(said, records.len());
        }
    }
}
