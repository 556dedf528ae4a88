//! Reading a log file off the actors' thread, and finding borders of records in it.

use berth_wire::record::{HEADER, PAYLOAD_MAX, Record, RecordReader};
use std::fs::File;
use std::io;
use std::os::unix::fs::{FileExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Read at once.
const CHUNK: usize = 256 << 10;
/// Any such stretch of a sound log holds the beginning of a record and all of that record.
const STRETCH: u64 = 2 * (HEADER + PAYLOAD_MAX) as u64;

/// An open log.
#[derive(Clone, Debug)]
pub struct LogFile {
    file: Arc<File>,
}

/// What a file looks like from outside.
#[derive(Clone, Copy, Debug)]
pub struct Shape {
    pub length: u64,
    /// It has no name any more: nobody will append to it.
    pub removed: bool,
}

impl LogFile {
    /// `None` if there is no such file.
    pub async fn open(path: PathBuf) -> io::Result<Option<LogFile>> {
        blocking(move || match File::open(path) {
            Ok(file) => Ok(Some(LogFile { file: Arc::new(file) })),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        })
        .await
    }

    /// Bytes from `offset` on, empty at the end.
    pub async fn read(&self, offset: u64) -> io::Result<Vec<u8>> {
        let file = self.file.clone();
        blocking(move || read_at(&file, offset, CHUNK)).await
    }

    pub async fn shape(&self) -> io::Result<Shape> {
        let file = self.file.clone();
        blocking(move || {
            let metadata = file.metadata()?;
            Ok(Shape { length: metadata.len(), removed: metadata.nlink() == 0 })
        })
        .await
    }

    /// The border behind the last whole record: where a reader starts that wants only what comes.
    pub async fn last_border(&self) -> io::Result<u64> {
        let file = self.file.clone();
        blocking(move || {
            let length = file.metadata()?.len();
            let (mut records, _) = reader_at(&file, length.saturating_sub(STRETCH))?;
            while let Ok(Some(_)) = records.next() {}
            Ok(records.offset())
        })
        .await
    }

    /// The first border at or behind `offset`.
    pub async fn border_behind(&self, offset: u64) -> io::Result<u64> {
        let file = self.file.clone();
        blocking(move || Ok(reader_at(&file, offset)?.1)).await
    }

    /// The last record, if the file ends with a whole one.
    pub fn last_record(path: &Path) -> io::Result<Option<Record>> {
        let file = File::open(path)?;
        let length = file.metadata()?.len();
        let (mut records, _) = reader_at(&file, length.saturating_sub(STRETCH))?;
        let mut last = None;
        while let Ok(Some(record)) = records.last() {
            last = Some(record);
        }
        Ok(last)
    }
}

/// A reader at the first border at or behind `offset`, filled with a stretch, and that border.
///
/// Borders are found by trying: a place where a whole record with a right checksum begins is one. What a
/// guest writes could look like a record inside another one's payload; it then misleads readers of its
/// own output and nobody else.
fn reader_at(file: &File, offset: u64) -> io::Result<(RecordReader, u64)> {
    let bytes = read_at(file, offset, 2 * STRETCH as usize)?;
    if offset == 0 {
        let mut records = RecordReader::starting_at(0);
        records.push(&bytes);
        return Ok((records, 0));
    }
    for start in 0..bytes.len() {
        let border = offset + start as u64;
        let mut records = RecordReader::starting_at(border);
        let end = bytes.len().min(start + HEADER + PAYLOAD_MAX);
        // Most places fail at the first byte; only then is more looked at.
        records.push(&bytes[start..end.min(start + 4)]);
        if records.next().is_err() {
            continue;
        }
        records.push(&bytes[end.min(start + 4)..end]);
        if matches!(records.next(), Ok(Some(_))) {
            let mut records = RecordReader::starting_at(border);
            records.push(&bytes[start..]);
            return Ok((records, border));
        }
    }
    // No whole record: the end is as good a border as any.
    let border = offset + bytes.len() as u64;
    Ok((RecordReader::starting_at(border), border))
}

fn read_at(file: &File, offset: u64, most: usize) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; most];
    let mut filled = 0;
    while filled < most {
        match file.read_at(&mut bytes[filled..], offset + filled as u64) {
            Ok(0) => break,
            Ok(count) => filled += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    bytes.truncate(filled);
    Ok(bytes)
}

/// A datastore may be slow or gone: nothing of it is touched on the actors' thread.
pub async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    tokio::task::spawn_blocking(work).await.unwrap_or_else(|error| Err(io::Error::other(error)))
}
