//! Unix sockets in a run directory, whose path may be longer than a socket address can be.
//!
//! The node binds and listens itself and hands the sockets to QEMU: a connection can be made at once
//! and waits in the backlog, so nothing has to look again and again for a socket to appear. Paths
//! go through a descriptor of the directory, because a socket address holds 107 bytes and a
//! container id alone is 64.

use std::io;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use tokio::net::UnixStream;

pub const AGENT: &str = "agent.sock";
pub const MONITOR: &str = "monitor.sock";
pub const DEBUG_MONITOR: &str = "debug-monitor.sock";

/// Binds `name` in `directory` anew.
pub fn listen(directory: &Path, name: &str) -> io::Result<OwnedFd> {
    match std::fs::remove_file(directory.join(name)) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        Ok(()) | Err(_) => {}
    }
    let (_handle, short) = short_path(directory, name)?;
    Ok(UnixListener::bind(short)?.into())
}

pub async fn connect(directory: &Path, name: &str) -> io::Result<UnixStream> {
    let (_handle, short) = short_path(directory, name)?;
    UnixStream::connect(short).await
}

/// A short name for `directory/name`, good while the descriptor is open.
fn short_path(directory: &Path, name: &str) -> io::Result<(OwnedFd, PathBuf)> {
    use rustix::fs::{Mode, OFlags};
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let handle = rustix::fs::open(directory, flags, Mode::empty())?;
    let short = PathBuf::from(format!("/proc/self/fd/{}/{name}", handle.as_raw_fd()));
    Ok((handle, short))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_socket_under_a_long_path_is_reached() {
        let root = tempfile::tempdir().unwrap();
        let directory = root.path().join("x".repeat(200));
        std::fs::create_dir(&directory).unwrap();
        let listener = listen(&directory, AGENT).unwrap();
        connect(&directory, AGENT).await.unwrap();
        drop(listener);
        assert!(connect(&directory, AGENT).await.is_err());
        listen(&directory, AGENT).unwrap();
    }
}
