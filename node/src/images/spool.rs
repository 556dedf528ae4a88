//! An archive as it comes in: kept in a file without a name on the datastore, unpacked if it is
//! gzip.
//!
//! Promises: the file is gone with the process, however that ends; size is bounded, that of what
//! gzip unpacks to as well; sections may be read by many at once. Blocks on the disk.

use crate::datastore::{Datastore, is_full};
use crate::images::LoadError;
use flate2::write::MultiGzDecoder;
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::path::PathBuf;
use std::sync::Arc;

const GZIP: [u8; 2] = [0x1f, 0x8b];
/// First bytes of compressions that are known but not read.
const OTHERS: [(&str, &[u8]); 3] =
    [("zstd", &[0x28, 0xb5, 0x2f, 0xfd]), ("xz", &[0xfd, b'7', b'z']), ("bzip2", b"BZh")];

/// The compression that data starting like this has and that is not read here.
pub fn foreign_compression(start: &[u8]) -> Option<&'static str> {
    OTHERS.iter().find(|(_, magic)| start.starts_with(magic)).map(|(name, _)| *name)
}

pub fn is_gzip(start: &[u8]) -> bool {
    start.starts_with(&GZIP)
}

/// Takes pieces in.
pub struct SpoolWriter {
    state: State,
    received: u64,
    limit: u64,
    datastore: String,
}

enum State {
    /// Too little came to know what it is.
    Unknown {
        file: Bounded,
        start: Vec<u8>,
    },
    Plain(Bounded),
    Gzip(Box<MultiGzDecoder<Bounded>>),
}

struct Bounded {
    file: File,
    written: u64,
    limit: u64,
}

impl SpoolWriter {
    /// `limit` bounds what comes in and what it unpacks to, each, in bytes.
    pub fn create(datastore: &Datastore, limit: u64) -> Result<SpoolWriter, LoadError> {
        let path = datastore.spool().join(format!("archive-{}", crate::randomness::word()));
        let file = nameless(&path).map_err(|error| trouble(&datastore.name, error))?;
        let file = Bounded { file, written: 0, limit };
        let state = State::Unknown { file, start: Vec::new() };
        Ok(SpoolWriter { state, received: 0, limit, datastore: datastore.name.clone() })
    }

    pub fn write(mut self, piece: &[u8]) -> Result<SpoolWriter, LoadError> {
        self.received += piece.len() as u64;
        if self.received > self.limit {
            return Err(LoadError::TooLarge { limit: self.limit });
        }
        let written = match &mut self.state {
            State::Unknown { start, .. } => {
                start.extend_from_slice(piece);
                Ok(())
            }
            State::Plain(file) => file.write_all(piece),
            State::Gzip(decoder) => decoder.write_all(piece),
        };
        written.map_err(|error| self.refused(error))?;
        self.recognise(false)
    }

    /// All of it came.
    pub fn finish(self) -> Result<Spool, LoadError> {
        let writer = self.recognise(true)?;
        let (limit, datastore) = (writer.limit, writer.datastore.clone());
        let finished = match writer.state {
            State::Unknown { file, .. } | State::Plain(file) => Ok(file),
            State::Gzip(decoder) => decoder.finish(),
        };
        let file = finished.map_err(|error| refused(&datastore, limit, error))?;
        Ok(Spool { length: file.written, file: Arc::new(file.file) })
    }

    fn recognise(mut self, whole: bool) -> Result<SpoolWriter, LoadError> {
        self.state = match self.state {
            State::Unknown { mut file, start } if whole || start.len() >= 4 => {
                if let Some(compression) = foreign_compression(&start) {
                    return Err(LoadError::Compression { what: "the archive", compression });
                }
                let refused = |error| refused(&self.datastore, self.limit, error);
                if is_gzip(&start) {
                    let mut decoder = MultiGzDecoder::new(file);
                    decoder.write_all(&start).map_err(refused)?;
                    State::Gzip(Box::new(decoder))
                } else {
                    file.write_all(&start).map_err(refused)?;
                    State::Plain(file)
                }
            }
            state @ (State::Unknown { .. } | State::Plain(_) | State::Gzip(_)) => state,
        };
        Ok(self)
    }

    fn refused(&self, error: io::Error) -> LoadError {
        refused(&self.datastore, self.limit, error)
    }
}

fn refused(datastore: &str, limit: u64, error: io::Error) -> LoadError {
    use io::ErrorKind::{FileTooLarge, InvalidData, InvalidInput, UnexpectedEof, WriteZero};
    if error.kind() == FileTooLarge {
        LoadError::TooLarge { limit }
    } else if matches!(error.kind(), InvalidInput | InvalidData | UnexpectedEof | WriteZero) {
        LoadError::Gzip { what: "the archive".into(), source: error }
    } else {
        trouble(datastore, error)
    }
}

pub(super) fn trouble(datastore: &str, error: io::Error) -> LoadError {
    if is_full(&error) {
        LoadError::DatastoreFull { datastore: datastore.to_owned() }
    } else {
        LoadError::Io { what: format!("write to datastore `{datastore}`"), source: error }
    }
}

fn nameless(path: &PathBuf) -> io::Result<File> {
    let file = OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).open(path)?;
    std::fs::remove_file(path)?;
    Ok(file)
}

impl Write for Bounded {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.written + bytes.len() as u64 > self.limit {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        let count = self.file.write(bytes)?;
        self.written += count as u64;
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

/// A whole archive, not compressed any more.
pub struct Spool {
    file: Arc<File>,
    length: u64,
}

impl Spool {
    pub fn whole(&self) -> Section {
        self.section(0, self.length)
    }

    /// Ends where the archive ends, if that is sooner.
    pub fn section(&self, offset: u64, size: u64) -> Section {
        let end = offset.saturating_add(size).min(self.length);
        Section { file: self.file.clone(), position: offset.min(end), end }
    }
}

/// A part of the archive, read from its start; clones start where the original stands.
#[derive(Clone)]
pub struct Section {
    file: Arc<File>,
    position: u64,
    end: u64,
}

impl Section {
    pub fn len(&self) -> u64 {
        self.end - self.position
    }
}

impl Read for Section {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let most = usize::try_from(self.len()).unwrap_or(usize::MAX).min(buffer.len());
        let count = self.file.read_at(&mut buffer[..most], self.position)?;
        self.position += count as u64;
        Ok(count)
    }
}
