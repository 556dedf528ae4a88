//! Reads a tar stream entry by entry: ustar, GNU long names, PAX records with binary values.
//!
//! Promises: a damaged or cut stream is an error, never a shorter one; names and attributes are the
//! bytes that stand there; memory is bounded whatever a header claims. Does not: look at names
//! (absolute paths and `..` are for whoever lays files out) or read sparse files, which it refuses
//! by name. Headers are parsed with the `tar` crate; its iterator is not used because it cuts
//! attribute values at line ends, which file capabilities contain.

use std::io::{self, Read};
use tar::{EntryType, Header};

const BLOCK: u64 = 512;
/// Bound of one extension header in bytes: long names and attributes.
const EXTENSION_MAX: u64 = 1 << 20;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TarEntry {
    pub path: Vec<u8>,
    pub kind: TarKind,
    /// Bytes of data that follow; zero for all but files.
    pub size: u64,
    /// Where they start in the stream.
    pub offset: u64,
    /// Permission bits with set-id and sticky bits.
    pub mode: u32,
    pub uid: u64,
    pub gid: u64,
    /// Seconds since 1970.
    pub mtime: u64,
    /// Names and values, in the stream's order.
    pub xattrs: Vec<(Vec<u8>, Vec<u8>)>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TarKind {
    File,
    Directory,
    Symlink(Vec<u8>),
    /// Another name of a file that came before.
    Link(Vec<u8>),
    Character {
        major: u32,
        minor: u32,
    },
    Block {
        major: u32,
        minor: u32,
    },
    Fifo,
}

/// Why a stream is not a tar that can be read.
#[derive(Debug, thiserror::Error)]
pub enum TarError {
    #[error("tar is cut off after {0} bytes")]
    Truncated(u64),
    #[error("tar is damaged: header at byte {0} has a wrong checksum")]
    Checksum(u64),
    #[error("tar is damaged: {what} of the header at byte {offset} cannot be read")]
    Field { what: &'static str, offset: u64 },
    #[error("tar holds `{path}` in a form that is not supported: {form}")]
    Unsupported { path: String, form: String },
    #[error("cannot read the tar")]
    Io(#[source] io::Error),
}

/// What extension headers say about the entry after them.
#[derive(Clone, Default)]
struct Extension {
    path: Option<Vec<u8>>,
    link: Option<Vec<u8>>,
    size: Option<u64>,
    uid: Option<u64>,
    gid: Option<u64>,
    mtime: Option<u64>,
    xattrs: Vec<(Vec<u8>, Vec<u8>)>,
    sparse: bool,
}

pub struct TarStream<R> {
    source: R,
    position: u64,
    /// Of the current entry: data not yet read, then padding.
    data_left: u64,
    padding: u64,
    /// From global headers: for all entries that follow.
    global: Extension,
}

impl<R: Read> TarStream<R> {
    pub fn new(source: R) -> Self {
        Self { source, position: 0, data_left: 0, padding: 0, global: Extension::default() }
    }

    /// The next entry; its data is then read from `self`. `None` at the end of the archive.
    pub fn next_entry(&mut self) -> Result<Option<TarEntry>, TarError> {
        let mut extension = self.global.clone();
        loop {
            let Some(header) = self.next_header()? else {
                return Ok(None);
            };
            let kind = header.entry_type();
            if kind.is_gnu_longname() {
                extension.path = Some(until_nul(&self.extension_data()?));
            } else if kind.is_gnu_longlink() {
                extension.link = Some(until_nul(&self.extension_data()?));
            } else if kind.is_pax_local_extensions() {
                let data = self.extension_data()?;
                read_pax(&data, &mut extension).ok_or_else(|| self.field("extension"))?;
            } else if kind.is_pax_global_extensions() {
                let data = self.extension_data()?;
                let mut global = self.global.clone();
                read_pax(&data, &mut global).ok_or_else(|| self.field("extension"))?;
                self.global = global.clone();
                extension = global;
            } else {
                return self.entry(&header, extension).map(Some);
            }
        }
    }

    /// Reads to the end of the stream, past what the archive needs.
    pub fn drain(mut self) -> Result<R, TarError> {
        self.skip_entry()?;
        io::copy(&mut self.source, &mut io::sink()).map_err(TarError::Io)?;
        Ok(self.source)
    }

    fn next_header(&mut self) -> Result<Option<Header>, TarError> {
        self.skip_entry()?;
        let mut header = Header::new_old();
        let block = header.as_mut_bytes();
        let mut filled = 0;
        while filled < block.len() {
            let count = read_some(&mut self.source, &mut block[filled..])?;
            if count == 0 {
                break;
            }
            filled += count;
        }
        // Some writers leave the end marks away; a stream that ends between entries is whole.
        if filled == 0 || (filled == block.len() && block.iter().all(|byte| *byte == 0)) {
            return Ok(None);
        }
        self.position += filled as u64;
        if filled < block.len() {
            return Err(TarError::Truncated(self.position));
        }
        let old = header.as_old();
        if number(&old.cksum) != Some(u64::from(checksum(header.as_bytes()))) {
            return Err(TarError::Checksum(self.position - BLOCK));
        }
        let size = number(&old.size).ok_or_else(|| self.field("size"))?;
        self.expect_data(size);
        Ok(Some(header))
    }

    fn expect_data(&mut self, size: u64) {
        self.data_left = size;
        self.padding = (BLOCK - size % BLOCK) % BLOCK;
    }

    fn entry(&mut self, header: &Header, extension: Extension) -> Result<TarEntry, TarError> {
        let path = extension.path.unwrap_or_else(|| header.path_bytes().into_owned());
        let link = extension
            .link
            .or_else(|| header.link_name_bytes().map(|bytes| bytes.into_owned()))
            .unwrap_or_default();
        let unsupported = |form: String| TarError::Unsupported {
            path: String::from_utf8_lossy(&path).into_owned(),
            form,
        };
        if extension.sparse || header.entry_type() == EntryType::GNUSparse {
            return Err(unsupported("a sparse file; make the archive without sparse files".into()));
        }
        let device = || -> Option<(u32, u32)> {
            // Both ustar and GNU headers have the numbers here.
            let bytes = header.as_bytes();
            let part = |from: usize| u32::try_from(number(&bytes[from..from + 8])?).ok();
            Some((part(329)?, part(337)?))
        };
        // Numbers of types as POSIX and its predecessors have them.
        let kind = match header.entry_type().as_byte() {
            // Before ustar, a directory was a file whose name ends in a slash.
            b'0' | 0 if path.ends_with(b"/") => TarKind::Directory,
            b'0' | 0 | b'7' => TarKind::File,
            b'1' => TarKind::Link(link),
            b'2' => TarKind::Symlink(link),
            b'3' => {
                let (major, minor) = device().ok_or_else(|| self.field("device number"))?;
                TarKind::Character { major, minor }
            }
            b'4' => {
                let (major, minor) = device().ok_or_else(|| self.field("device number"))?;
                TarKind::Block { major, minor }
            }
            b'5' => TarKind::Directory,
            b'6' => TarKind::Fifo,
            other => return Err(unsupported(format!("type {:?}", char::from(other)))),
        };
        let size = if kind == TarKind::File { extension.size.unwrap_or(self.data_left) } else { 0 };
        self.expect_data(size);
        let old = header.as_old();
        let read = |said: Option<u64>, field: &[u8], what| {
            said.or_else(|| number(field)).ok_or_else(|| self.field(what))
        };
        Ok(TarEntry {
            size,
            offset: self.position,
            mode: read(None, &old.mode, "mode")? as u32 & 0o7777,
            uid: read(extension.uid, &old.uid, "user")?,
            gid: read(extension.gid, &old.gid, "group")?,
            // Times before 1970 and beyond reason do not stop an image from running.
            mtime: extension.mtime.or_else(|| number(&old.mtime)).unwrap_or(0),
            xattrs: extension.xattrs,
            path,
            kind,
        })
    }

    fn extension_data(&mut self) -> Result<Vec<u8>, TarError> {
        if self.data_left > EXTENSION_MAX {
            return Err(self.field("extension's length"));
        }
        let length = self.data_left;
        let mut data = Vec::new();
        self.take(length).read_to_end(&mut data).map_err(TarError::Io)?;
        if (data.len() as u64) < length {
            return Err(TarError::Truncated(self.position));
        }
        Ok(data)
    }

    fn skip_entry(&mut self) -> Result<(), TarError> {
        let left = self.data_left + self.padding;
        let skipped =
            io::copy(&mut (&mut self.source).take(left), &mut io::sink()).map_err(TarError::Io)?;
        self.position += skipped;
        (self.data_left, self.padding) = (0, 0);
        if skipped < left {
            return Err(TarError::Truncated(self.position));
        }
        Ok(())
    }

    fn field(&self, what: &'static str) -> TarError {
        TarError::Field { what, offset: self.position.saturating_sub(BLOCK) }
    }
}

impl<R: Read> Read for TarStream<R> {
    /// The current entry's data.
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let most = usize::try_from(self.data_left).unwrap_or(usize::MAX).min(buffer.len());
        let count = self.source.read(&mut buffer[..most])?;
        if count == 0 && most > 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.data_left -= count as u64;
        self.position += count as u64;
        Ok(count)
    }
}

fn read_some(source: &mut impl Read, buffer: &mut [u8]) -> Result<usize, TarError> {
    loop {
        match source.read(buffer) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            other => return other.map_err(TarError::Io),
        }
    }
}

/// Sum of all bytes, those of the checksum itself counted as spaces.
fn checksum(block: &[u8; 512]) -> u32 {
    let plain: u32 = block.iter().map(|byte| u32::from(*byte)).sum();
    let field: u32 = block[148..156].iter().map(|byte| u32::from(*byte)).sum();
    plain - field + 8 * 32
}

/// A field of a header: octal digits, or base 256 behind a set first bit; nothing at all is zero.
fn number(field: &[u8]) -> Option<u64> {
    if field.first().is_some_and(|byte| *byte == 0x80) {
        let (high, low) = field.split_at(field.len().saturating_sub(8));
        let small = high.iter().skip(1).all(|byte| *byte == 0);
        // In a field of eight bytes the mark itself is the topmost.
        let fold = |sum: u64, byte: &u8| sum << 8 | u64::from(*byte);
        return small.then(|| low.iter().fold(0, fold) & !(0x80 << 56));
    }
    let text = std::str::from_utf8(field).ok()?;
    let digits = text.trim_matches(['\0', ' ']);
    let digits = digits.split(['\0', ' ']).next().unwrap_or_default();
    if digits.is_empty() { Some(0) } else { u64::from_str_radix(digits, 8).ok() }
}

fn until_nul(bytes: &[u8]) -> Vec<u8> {
    bytes.split(|byte| *byte == 0).next().unwrap_or_default().to_vec()
}

/// Records of the form `length key=value\n`, where the length counts all of it; `None` if they are
/// not.
fn read_pax(mut data: &[u8], extension: &mut Extension) -> Option<()> {
    while !data.is_empty() {
        let space = data.iter().position(|byte| *byte == b' ')?;
        let length: usize = std::str::from_utf8(&data[..space]).ok()?.parse().ok()?;
        if length <= space + 1 || length > data.len() || data[length - 1] != b'\n' {
            return None;
        }
        let record = &data[space + 1..length - 1];
        data = &data[length..];
        let equals = record.iter().position(|byte| *byte == b'=')?;
        let (key, value) = (&record[..equals], &record[equals + 1..]);
        let text = || std::str::from_utf8(value).ok();
        match key {
            b"path" => extension.path = Some(value.to_vec()),
            b"linkpath" => extension.link = Some(value.to_vec()),
            b"size" => extension.size = Some(text()?.parse().ok()?),
            b"uid" => extension.uid = Some(text()?.parse().ok()?),
            b"gid" => extension.gid = Some(text()?.parse().ok()?),
            b"mtime" => extension.mtime = text()?.split('.').next()?.parse().ok(),
            _ => {
                if let Some(name) = key.strip_prefix(b"SCHILY.xattr.") {
                    extension.xattrs.push((name.to_vec(), value.to_vec()));
                } else if key.starts_with(b"GNU.sparse.") {
                    extension.sparse = true;
                }
            }
        }
    }
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::images::tar_out::{TarWriter, entry};

    fn read_all(bytes: &[u8]) -> Result<Vec<(TarEntry, Vec<u8>)>, TarError> {
        let mut stream = TarStream::new(bytes);
        let mut all = Vec::new();
        while let Some(entry) = stream.next_entry()? {
            let mut data = Vec::new();
            stream.read_to_end(&mut data).map_err(TarError::Io)?;
            all.push((entry, data));
        }
        Ok(all)
    }

    fn sample() -> Vec<u8> {
        let mut writer = TarWriter::new(Vec::new());
        let mut file = entry("bin/ping", TarKind::File);
        file.mode = 0o4755;
        file.uid = 3_000_000;
        // A capability set whose bytes hold a line end and zeros.
        file.xattrs = vec![(b"security.capability".to_vec(), b"\x01\n\0\x02\n".to_vec())];
        writer.append(&file, &b"hello"[..], 5).unwrap();
        let long = format!("{}/{}", "d".repeat(120), "f".repeat(90));
        writer.append(&entry(&long, TarKind::File), &[][..], 0).unwrap();
        let target = vec![b't'; 200];
        writer.append(&entry("link", TarKind::Symlink(target)), &[][..], 0).unwrap();
        let device = TarKind::Character { major: 5, minor: 1 };
        writer.append(&entry("dev/console", device), &[][..], 0).unwrap();
        writer.finish().unwrap()
    }

    #[test]
    fn names_owners_and_binary_attributes_survive() {
        let all = read_all(&sample()).unwrap();
        let (ping, data) = &all[0];
        assert_eq!(data, b"hello");
        assert_eq!((ping.mode, ping.uid, ping.size), (0o4755, 3_000_000, 5));
        assert_eq!(ping.xattrs[0].1, b"\x01\n\0\x02\n");
        assert_eq!(all[1].0.path.len(), 211);
        assert_eq!(all[2].0.kind, TarKind::Symlink(vec![b't'; 200]));
        assert_eq!(all[3].0.kind, TarKind::Character { major: 5, minor: 1 });
    }

    #[test]
    fn a_tar_of_another_writer_is_read_with_its_long_names() {
        let mut builder = tar::Builder::new(Vec::new());
        let long = "x".repeat(150);
        let mut header = Header::new_gnu();
        header.set_size(3);
        header.set_mode(0o644);
        header.set_cksum();
        builder.append_data(&mut header, &long, &b"abc"[..]).unwrap();
        let all = read_all(&builder.into_inner().unwrap()).unwrap();
        assert_eq!(all[0].0.path, long.as_bytes());
        assert_eq!(all[0].1, b"abc");
    }

    #[test]
    fn a_cut_in_the_middle_of_an_entry_is_an_error() {
        let whole = sample();
        let borders: Vec<u64> = read_all(&whole).unwrap().iter().map(|(e, _)| e.offset).collect();
        for cut in 1..whole.len() - 1024 {
            if let Ok(read) = read_all(&whole[..cut]) {
                assert!(read.len() < borders.len() && cut % 512 == 0, "cut at {cut}");
            }
        }
    }

    #[test]
    fn a_flipped_header_bit_is_an_error() {
        let mut bytes = sample();
        bytes[1030] ^= 4;
        assert!(matches!(read_all(&bytes), Err(TarError::Checksum(1024))));
        let mut bytes = sample();
        bytes[3] ^= 1;
        assert!(matches!(read_all(&bytes), Err(TarError::Checksum(0))));
    }

    #[test]
    fn numbers_are_read_in_every_form_that_writers_use() {
        assert_eq!(number(b"0000644\0"), Some(0o644));
        assert_eq!(number(b" 644 \0\0\0"), Some(0o644));
        assert_eq!(number(&[0; 8]), Some(0));
        assert_eq!(number(b"\x80\0\0\0\0\x2d\xc6\xc0"), Some(3_000_000));
        assert_eq!(number(b"\x80\0\0\0\0\0\0\x03\0\0\0\0"), Some(3 << 32));
        assert_eq!(number(b"\xff\xff\xff\xff\xff\xff\xff\xff"), None);
        assert_eq!(number(b"9999"), None);
    }

    proptest::proptest! {
        #[test]
        fn whatever_the_bytes_reading_ends_without_a_panic(
            changes in proptest::collection::vec((0_usize..6000, proptest::num::u8::ANY), 0..8),
            mended: bool,
        ) {
            let mut bytes = sample();
            for (position, value) in changes {
                let length = bytes.len();
                bytes[position % length] = value;
            }
            if mended {
                // With true checksums the fields behind them are read too.
                for block in bytes.chunks_exact_mut(512) {
                    let sum = checksum(&<[u8; 512]>::try_from(&*block).unwrap());
                    block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
                }
            }
            if let Ok(entries) = read_all(&bytes) {
                let data: usize = entries.iter().map(|(_, data)| data.len()).sum();
                proptest::prop_assert!(data <= bytes.len());
            }
        }
    }

    #[test]
    fn a_header_that_claims_a_huge_extension_is_refused() {
        let mut header = Header::new_ustar();
        header.set_entry_type(EntryType::XHeader);
        header.set_size(1 << 40);
        header.set_cksum();
        assert!(matches!(read_all(header.as_bytes()), Err(TarError::Field { .. })));
    }
}
