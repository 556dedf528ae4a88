//! Waiting until a log grows or its run ends, without looking again and again.
//!
//! inotify tells where it works. It knows nothing of writes on other hosts, and a process has only so many
//! instances of it, so every wait also ends by time and the caller looks for itself.

use rustix::fs::inotify;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::time::Duration;
use tokio::io::unix::AsyncFd;

/// With inotify: how late what it missed is seen at most.
const SAFETY: Duration = Duration::from_secs(1);
/// Without: how often is looked.
const BEAT: Duration = Duration::from_millis(20);

#[derive(Debug)]
pub struct Watch {
    events: Option<AsyncFd<OwnedFd>>,
    watches_file: bool,
}

impl Watch {
    /// Watches for files that come into `directory`: the log, and the record of the run's end.
    pub fn new(directory: &Path) -> Watch {
        let flags = inotify::CreateFlags::NONBLOCK | inotify::CreateFlags::CLOEXEC;
        let events = inotify::init(flags).ok().filter(|events| {
            let come = inotify::WatchFlags::CREATE
                | inotify::WatchFlags::MOVED_TO
                | inotify::WatchFlags::DELETE_SELF;
            inotify::add_watch(events, directory, come).is_ok()
        });
        let events = events.and_then(|events| crate::readiness::register(events).ok());
        Watch { events, watches_file: false }
    }

    /// Watches for growth of the log, once it is there.
    pub fn watch_file(&mut self, path: &Path) {
        if self.watches_file {
            return;
        }
        if let Some(events) = &self.events {
            let grow = inotify::WatchFlags::MODIFY | inotify::WatchFlags::ATTRIB;
            self.watches_file = inotify::add_watch(events.get_ref(), path, grow).is_ok();
        }
    }

    /// Something may have changed since the last call, or some time went by.
    pub async fn changed(&mut self) {
        let Some(events) = &self.events else {
            tokio::time::sleep(BEAT).await;
            return;
        };
        let limit = if self.watches_file { SAFETY } else { BEAT };
        if let Ok(Ok(mut ready)) = tokio::time::timeout(limit, events.readable()).await {
            let mut buffer = [0; 4096];
            while rustix::io::read(events.get_ref(), &mut buffer).is_ok_and(|count| count > 0) {}
            ready.clear_ready();
        }
    }
}
