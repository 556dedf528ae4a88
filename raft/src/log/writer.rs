//! The thread that writes the log and syncs it, so that the loop never waits for a disk.
//!
//! Promises: work is done in order; what waits is written together with one sync; messages that
//! depend on a write leave only after it is on disk. A write that fails ends the process: after a
//! failed sync nobody knows what the disk holds, and trying again would only hide that.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel};
use std::thread::JoinHandle;

use berth_metrics::raft::RaftMetrics;
use raft::eraftpb::Entry;

use super::{Durable, LogError, LogStore};
use crate::clock;
use crate::message::PeerMessage;
use crate::options::ReplicaId;
use crate::outbox::Outbox;
use crate::snapshots::Snapshots;

/// Writes that are taken together hold up to this many bytes.
const GROUP_BYTES: usize = 8 << 20;

/// Ends the process with a message; tests put something milder in its place.
pub(crate) type Fatal = Arc<dyn Fn(&str) + Send + Sync>;

/// Tells the loop that ready `number` and all before it are on disk.
pub(crate) type Persisted = Box<dyn Fn(u64) + Send>;

/// One ready of raft.
pub(crate) struct Append {
    pub(crate) number: u64,
    pub(crate) entries: Vec<Entry>,
    /// `None` when nothing has to be synced; then only the messages wait for their turn.
    pub(crate) state: Option<Durable>,
    pub(crate) messages: Vec<(ReplicaId, PeerMessage)>,
}

enum Work {
    Append(Append),
    Compact(Durable),
    Reset(Durable, Vec<Entry>, SyncSender<()>),
    Stop,
}

pub(crate) struct Writer {
    work: Sender<Work>,
    abandoned: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Writer {
    pub(crate) fn start(
        log: Arc<dyn LogStore>,
        snapshots: Snapshots,
        outbox: Outbox,
        persisted: Persisted,
        metrics: RaftMetrics,
        fatal: Fatal,
    ) -> std::io::Result<Self> {
        let (work, inbox) = channel();
        let abandoned = Arc::new(AtomicBool::new(false));
        let mut thread =
            Thread { log, snapshots, outbox, persisted, metrics, abandoned: abandoned.clone() };
        let thread = std::thread::Builder::new().name("raft-log".into()).spawn(move || {
            let outcome = catch_unwind(AssertUnwindSafe(|| thread.run(&inbox)));
            match outcome {
                Ok(Ok(())) => {}
                Ok(Err(error)) => fatal(&format!(
                    "raft log cannot be written, the process ends so that nothing is acknowledged \
                     that is not on disk: {}",
                    causes(&error)
                )),
                Err(_) => fatal(
                    "raft log's sync failed, the process ends so that nothing is acknowledged that \
                     is not on disk",
                ),
            }
        })?;
        Ok(Self { work, abandoned, thread: Some(thread) })
    }

    pub(crate) fn append(&self, append: Append) {
        self.send(Work::Append(append));
    }

    pub(crate) fn compact(&self, state: Durable) {
        self.send(Work::Compact(state));
    }

    /// Replaces the log by a snapshot; waits, for raft must not step on before that is on disk.
    pub(crate) fn reset(&self, state: Durable, entries: Vec<Entry>) {
        let (done, wait) = sync_channel(1);
        self.send(Work::Reset(state, entries, done));
        // An error means that the writer ended, and with it the process.
        let _ = wait.recv();
    }

    /// What was handed in is not written any more.
    pub(crate) fn abandon(&self) {
        self.abandoned.store(true, Ordering::Release);
    }

    /// Finishes what was handed in and ends the thread.
    pub(crate) fn stop(&mut self) {
        self.send(Work::Stop);
        if let Some(thread) = self.thread.take() {
            // The thread catches its own panics.
            let _ = thread.join();
        }
    }

    /// A failed send means that the writer ended by a failure, which ends the process.
    fn send(&self, work: Work) {
        let _ = self.work.send(work);
    }
}

struct Thread {
    log: Arc<dyn LogStore>,
    snapshots: Snapshots,
    abandoned: Arc<AtomicBool>,
    outbox: Outbox,
    persisted: Persisted,
    metrics: RaftMetrics,
}

impl Thread {
    fn run(&mut self, inbox: &Receiver<Work>) -> Result<(), LogError> {
        let mut held = None;
        loop {
            let work = match held.take() {
                Some(work) => work,
                None => match inbox.recv() {
                    Ok(work) => work,
                    Err(_) => return Ok(()),
                },
            };
            if self.abandoned.load(Ordering::Acquire) {
                return Ok(());
            }
            match work {
                Work::Append(first) => held = self.append(first, inbox)?,
                Work::Compact(state) => {
                    self.log.compact(&state)?;
                    // Only now does nothing on disk name the older snapshot any more.
                    self.snapshots.remove_older(&state);
                    self.metrics.log_bytes.set(self.log.used_bytes() as i64);
                }
                Work::Reset(state, entries, done) => {
                    self.log.reset(&state)?;
                    if !entries.is_empty() {
                        self.log.append(&entries, &state)?;
                    }
                    self.snapshots.remove_older(&state);
                    // The loop waits for this; if it is gone, nobody needs to know.
                    let _ = done.send(());
                }
                Work::Stop => return Ok(()),
            }
        }
    }

    /// Writes `first` and what follows it in the inbox as one; answers the work that did not fit.
    fn append(&mut self, first: Append, inbox: &Receiver<Work>) -> Result<Option<Work>, LogError> {
        let Append { mut number, mut entries, mut state, mut messages } = first;
        let mut bytes = bytes_of(&entries);
        let mut held = None;
        while bytes < GROUP_BYTES {
            match inbox.try_recv() {
                Ok(Work::Append(next)) if follows(&entries, &next.entries) => {
                    bytes += bytes_of(&next.entries);
                    number = next.number;
                    entries.extend(next.entries);
                    state = next.state.or(state);
                    messages.extend(next.messages);
                }
                Ok(other) => {
                    held = Some(other);
                    break;
                }
                // Empty, or the loop is gone, which the next recv tells.
                Err(_) => break,
            }
        }
        if let Some(state) = state {
            let started = clock::now();
            self.log.append(&entries, &state)?;
            self.metrics.fsync_seconds.observe(started.elapsed().as_secs_f64());
            self.metrics.write_entries.observe(entries.len() as f64);
            self.metrics.log_bytes.set(self.log.used_bytes() as i64);
        }
        // The loop must hear of it before any answer of a peer: raft-rs asserts that a candidate's
        // log is on disk when its votes come in.
        (self.persisted)(number);
        for (to, message) in messages {
            self.outbox.send(to, message);
        }
        Ok(held)
    }
}

/// Whether `next` can be written behind `entries` as one run. It cannot when it replaces some of
/// them.
fn follows(entries: &[Entry], next: &[Entry]) -> bool {
    match (entries.last(), next.first()) {
        (Some(last), Some(first)) => first.index == last.index + 1,
        (None, _) | (_, None) => true,
    }
}

fn bytes_of(entries: &[Entry]) -> usize {
    entries.iter().map(|entry| entry.data.len()).sum()
}

fn causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}
