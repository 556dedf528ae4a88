//! Output of container VMs, read from the files that QEMU appends to.
//!
//! ```text
//! <datastore>/containers/<id>/log.<epoch>     records of one run, see `berth_wire::record`
//! ```
//! [`Reader`] gives one run, as attach wants it: from its first byte or from now, until its end.
//! [`Logs`] gives all runs of a container VM, as `docker logs` wants them.
//!
//! Promises: the file is the only truth, so a reader needs no running VM and no memory of an earlier one;
//! a reader that is slow costs nothing but its place in the file; a file that a guest damaged ends with
//! an error, never with made-up bytes.
//! Does not: write, rotate or delete.

mod file;
mod lines;
mod logs;
mod reader;
#[cfg(test)]
mod tests;
mod watch;

pub use logs::{Logs, LogsRequest};
pub use reader::Reader;

use berth_model::Epoch;
use berth_model::stream::OutputStream;
use berth_wire::record::RecordError;
use std::path::{Path, PathBuf};

/// A piece of output, as the guest wrote it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Piece {
    pub stream: OutputStream,
    /// Nanoseconds since 1970 UTC by the guest's clock.
    pub time_ns: u64,
    pub data: Vec<u8>,
}

/// Output that cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum OutputError {
    #[error("cannot read {}: {source}", path.display())]
    Io { path: PathBuf, source: std::io::Error },
    #[error("{}: {source}", path.display())]
    Damaged { path: PathBuf, source: RecordError },
}

/// The file of one run.
pub fn log_path(directory: &Path, epoch: Epoch) -> PathBuf {
    directory.join(format!("log.{epoch}"))
}

/// The last record of a log that ends with a whole one.
pub(crate) fn last_record(path: &Path) -> std::io::Result<Option<berth_wire::record::Record>> {
    file::LogFile::last_record(path)
}
