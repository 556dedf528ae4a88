//! One run's output, from a border of records to the run's end.

use super::file::{LogFile, blocking};
use super::watch::Watch;
use super::{OutputError, Piece, log_path};
use berth_model::Epoch;
use berth_model::stream::{OutputFrom, OutputStream};
use berth_wire::record::{Record, RecordReader, Stream};
use std::io;
use std::path::{Path, PathBuf};

/// See the folder's story. Dropping it costs nothing.
#[derive(Debug)]
pub struct Reader {
    directory: PathBuf,
    epoch: Epoch,
    path: PathBuf,
    file: Option<LogFile>,
    records: RecordReader,
    /// Up to where the file was read.
    position: u64,
    /// `None`: what is there now is all that is wanted.
    watch: Option<Watch>,
    /// No byte will be added.
    over: bool,
    finished: bool,
}

impl Reader {
    /// The output of one run until its end, also of a run that has not begun.
    pub async fn open(
        directory: &Path,
        epoch: Epoch,
        from: OutputFrom,
    ) -> Result<Reader, OutputError> {
        let path = log_path(directory, epoch);
        // Before the first look at the file, so that nothing falls between.
        let watch = Watch::new(directory);
        let file = LogFile::open(path.clone()).await.map_err(failed(&path))?;
        let offset = match (&file, from) {
            (Some(file), OutputFrom::Now) => file.last_border().await.map_err(failed(&path))?,
            (Some(_), OutputFrom::Start) | (None, _) => 0,
        };
        Ok(Reader::starting_at(directory, epoch, file, offset, Some(watch)))
    }

    /// From `offset`, a border, to what is there now, or with a watch to the run's end.
    pub(super) fn starting_at(
        directory: &Path,
        epoch: Epoch,
        file: Option<LogFile>,
        offset: u64,
        watch: Option<Watch>,
    ) -> Reader {
        Reader {
            directory: directory.to_owned(),
            epoch,
            path: log_path(directory, epoch),
            file,
            records: RecordReader::starting_at(offset),
            position: offset,
            watch,
            over: false,
            finished: false,
        }
    }

    /// The next piece; `None` once the run has ended and everything was given. After an error comes `None`.
    /// May be dropped while it waits, and called again.
    pub async fn next(&mut self) -> Option<Result<Piece, OutputError>> {
        while !self.finished {
            let next = if self.over { self.records.last() } else { self.records.next() };
            match next {
                Ok(Some(record)) => match piece(record) {
                    Some(piece) => return Some(Ok(piece)),
                    None => self.finished = true,
                },
                Ok(None) if self.over => self.finished = true,
                Ok(None) => {
                    if let Err(source) = self.more().await {
                        self.finished = true;
                        let path = self.path.clone();
                        return Some(Err(OutputError::Io { path, source }));
                    }
                }
                Err(source) => {
                    self.finished = true;
                    let path = self.path.clone();
                    return Some(Err(OutputError::Damaged { path, source }));
                }
            }
        }
        None
    }

    /// Reads on, or waits until there may be more, or finds that there never will be.
    async fn more(&mut self) -> io::Result<()> {
        if self.fill().await? {
            return Ok(());
        }
        if self.watch.is_none() {
            // What looks like damage while the run goes on may be a write about to be repeated.
            self.over = self.run_is_over().await?;
            self.finished = !self.over;
            return Ok(());
        }
        if let (Some(file), Some(watch)) = (&self.file, &mut self.watch) {
            watch.watch_file(&self.path);
            let removed = file.shape().await?.removed;
            // The end is written down after the last byte of output; so look once more behind it.
            let over = removed || self.run_is_over().await?;
            if self.fill().await? {
                return Ok(());
            }
            if over {
                self.over = true;
                return Ok(());
            }
        } else if self.run_is_over().await? {
            // It may have begun and ended between the two looks.
            if !self.fill().await? {
                self.over = true;
            }
            return Ok(());
        }
        if let Some(watch) = &mut self.watch {
            watch.changed().await;
        }
        Ok(())
    }

    /// Whether there was something to read.
    async fn fill(&mut self) -> io::Result<bool> {
        if self.file.is_none() {
            self.file = LogFile::open(self.path.clone()).await?;
        }
        let Some(file) = &self.file else { return Ok(false) };
        let bytes = file.read(self.position).await?;
        self.position += bytes.len() as u64;
        self.records.push(&bytes);
        Ok(!bytes.is_empty())
    }

    /// Its end was written down, or the container VM was removed.
    async fn run_is_over(&self) -> io::Result<bool> {
        let (directory, epoch) = (self.directory.clone(), self.epoch);
        blocking(move || {
            let ended = crate::vm::exit_path(&directory, epoch).try_exists()?;
            Ok(ended || !directory.try_exists()?)
        })
        .await
    }
}

/// `None` for the record of the end.
fn piece(record: Record) -> Option<Piece> {
    let stream = match record.stream {
        Stream::Stdout => OutputStream::Stdout,
        Stream::Stderr => OutputStream::Stderr,
        Stream::Exit => return None,
    };
    Some(Piece { stream, time_ns: record.time_ns, data: record.payload })
}

pub(super) fn failed(path: &Path) -> impl FnOnce(io::Error) -> OutputError {
    let path = path.to_owned();
    move |source| OutputError::Io { path, source }
}
