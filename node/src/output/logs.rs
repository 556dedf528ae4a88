//! All runs' output of one container VM, oldest first.

use super::file::{LogFile, blocking};
use super::lines::Lines;
use super::reader::{Reader, failed};
use super::watch::Watch;
use super::{OutputError, Piece, log_path};
use berth_model::{Epoch, Timestamp};
use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// First stretch of a log in which its last lines are looked for; doubled until they are in it.
const WINDOW: u64 = 1 << 20;
/// A stretch that does not begin with the log may begin inside a line of either stream.
const CUT_LINES: u64 = 2;

/// What of the output is wanted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogsRequest {
    /// Runs up to this one.
    pub epoch: Epoch,
    /// Wait for more until the run `epoch` ends.
    pub follow: bool,
    pub since: Option<Timestamp>,
    pub until: Option<Timestamp>,
    /// Only the last so many lines.
    pub tail: Option<u64>,
}

#[derive(Debug)]
pub struct Logs {
    request: LogsRequest,
    /// Runs that are not read yet, with the lines to be skipped.
    runs: VecDeque<(Reader, Lines)>,
    finished: bool,
}

impl Logs {
    pub async fn open(directory: &Path, request: LogsRequest) -> Result<Logs, OutputError> {
        let mut epochs = epochs(directory, request.epoch).await?;
        if request.follow && request.epoch > Epoch(0) && epochs.last() != Some(&request.epoch) {
            // Begins any moment.
            epochs.push(request.epoch);
        }
        let mut runs = VecDeque::new();
        let mut wanted = request.tail;
        // From the newest, because the last lines may all be in it.
        for epoch in epochs.into_iter().rev() {
            let watch = (request.follow && epoch == request.epoch).then(|| Watch::new(directory));
            if wanted == Some(0) && watch.is_none() {
                break;
            }
            let path = log_path(directory, epoch);
            let file = LogFile::open(path.clone()).await.map_err(failed(&path))?;
            let (offset, skip, lines) = match (&file, wanted) {
                (Some(file), Some(wanted)) => {
                    last_lines(directory, epoch, file, wanted).await.map_err(failed(&path))?
                }
                (Some(_), None) | (None, _) => (0, 0, 0),
            };
            wanted = wanted.map(|wanted| wanted.saturating_sub(lines));
            let reader = Reader::starting_at(directory, epoch, file, offset, watch);
            runs.push_front((reader, Lines::skipping(skip)));
        }
        Ok(Logs { request, runs, finished: false })
    }

    /// The next piece; `None` when everything that was asked for was given. After an error comes `None`.
    pub async fn next(&mut self) -> Option<Result<Piece, OutputError>> {
        while !self.finished {
            let Some((reader, lines)) = self.runs.front_mut() else { break };
            let next = match time_left(&self.request) {
                Some(left) => match tokio::time::timeout(left, reader.next()).await {
                    Ok(next) => next,
                    Err(_) => break,
                },
                None => reader.next().await,
            };
            match next {
                None => drop(self.runs.pop_front()),
                Some(Err(error)) => {
                    self.finished = true;
                    return Some(Err(error));
                }
                Some(Ok(piece)) => {
                    let at = Timestamp(piece.time_ns / 1_000_000);
                    if self.request.until.is_some_and(|until| at > until) {
                        break;
                    }
                    let kept = lines.keep(piece);
                    if let Some(piece) = kept
                        && self.request.since.is_none_or(|since| at >= since)
                    {
                        return Some(Ok(piece));
                    }
                }
            }
        }
        self.finished = true;
        None
    }
}

/// How long to wait for output up to a time that is still to come.
fn time_left(request: &LogsRequest) -> Option<Duration> {
    let until = request.until.filter(|_| request.follow)?;
    Some(Duration::from_millis(until.0.saturating_sub(crate::clock::now().0)))
}

/// Where to begin so that the last `wanted` lines come out: an offset, how many lines to skip from there,
/// and how many lines then come (at most `wanted`).
async fn last_lines(
    directory: &Path,
    epoch: Epoch,
    file: &LogFile,
    wanted: u64,
) -> std::io::Result<(u64, u64, u64)> {
    let length = file.shape().await?.length;
    let mut window = WINDOW;
    loop {
        let offset = match length.saturating_sub(window) {
            0 => 0,
            start => file.border_behind(start).await?,
        };
        let mut reader = Reader::starting_at(directory, epoch, Some(file.clone()), offset, None);
        let mut lines = Lines::default();
        // Damage is told when the lines are read for good.
        while let Some(Ok(piece)) = reader.next().await {
            lines.keep(piece);
        }
        let begun = lines.begun();
        if offset == 0 {
            return Ok((0, begun.saturating_sub(wanted), begun.min(wanted)));
        }
        if begun >= wanted.saturating_add(CUT_LINES) {
            return Ok((offset, begun - wanted, wanted));
        }
        window = window.saturating_mul(2);
    }
}

/// Runs that have a log, up to `last`, oldest first.
async fn epochs(directory: &Path, last: Epoch) -> Result<Vec<Epoch>, OutputError> {
    let path: PathBuf = directory.to_owned();
    let listed = blocking(move || {
        let mut epochs = Vec::new();
        let entries = match std::fs::read_dir(&path) {
            Ok(entries) => entries,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(epochs),
            Err(error) => return Err(error),
        };
        for entry in entries {
            let name = entry?.file_name();
            let number = name.to_str().and_then(|name| name.strip_prefix("log."));
            if let Some(epoch) = number.and_then(|number| number.parse().ok()) {
                epochs.push(Epoch(epoch));
            }
        }
        epochs.retain(|epoch| *epoch <= last);
        epochs.sort_unstable();
        Ok(epochs)
    });
    listed.await.map_err(failed(directory))
}
