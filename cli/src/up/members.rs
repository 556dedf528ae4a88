//! The running processes of a cell, as their supervisor sees them: started or adopted, watched
//! through process descriptors, brought back with backoff when they die.
//!
//! Does not: decide when the cell goes down.

use super::cell_file::{CellFile, Process};
use super::launch::{launch, log_tail};
use super::mark::Mark;
use crate::clock;
use crate::logging::LogFormat;
use anyhow::{Context, Result, bail};
use rustix::process::Signal;
use std::collections::BTreeMap;
use std::process::Child;
use std::time::{Duration, Instant};
use tokio::sync::{mpsc, oneshot};

const BACKOFF_FIRST: Duration = Duration::from_millis(500);
const BACKOFF_MAX: Duration = Duration::from_secs(30);
/// A process that lived so long starts anew with the first backoff.
const HEALTHY_AFTER: Duration = Duration::from_secs(60);

/// Position of a process in [`CellFile::processes`].
type Position = usize;

#[derive(Debug)]
enum Event {
    Ended { position: Position, how: String },
    RestartDue { position: Position },
}

#[derive(Debug)]
struct Member {
    since: Instant,
    backoff: Duration,
    alive: bool,
}

#[derive(Debug)]
pub struct Members {
    log_format: LogFormat,
    members: BTreeMap<Position, Member>,
    started: Vec<Position>,
    events: mpsc::UnboundedReceiver<Event>,
    sender: mpsc::UnboundedSender<Event>,
}

impl Members {
    pub fn new(log_format: LogFormat) -> Self {
        // At most one event for each process is ever on its way.
        let (sender, events) = mpsc::unbounded_channel();
        Self { log_format, members: BTreeMap::new(), started: Vec::new(), events, sender }
    }

    /// Adopts what runs; answers how many that are.
    pub fn adopt(&mut self, cell: &mut CellFile) -> Result<usize> {
        for position in 0..cell.processes.len() {
            if let Some(mark) = cell.processes[position].running() {
                cell.processes[position].pid = Some(mark.pid);
                self.add(position, mark, None)?;
            }
        }
        Ok(self.members.len())
    }

    /// Starts what does not run.
    pub fn start_missing(&mut self, cell: &mut CellFile) -> Result<()> {
        for position in 0..cell.processes.len() {
            if !self.members.get(&position).is_some_and(|member| member.alive) {
                self.start(cell, position)?;
                self.started.push(position);
            }
        }
        Ok(())
    }

    fn start(&mut self, cell: &mut CellFile, position: Position) -> Result<()> {
        let (child, mark) = launch(&cell.processes[position], self.log_format)?;
        cell.processes[position].pid = Some(mark.pid);
        self.add(position, mark, Some(child))
    }

    fn add(&mut self, position: Position, mark: Mark, child: Option<Child>) -> Result<()> {
        let backoff = self.members.get(&position).map_or(BACKOFF_FIRST, |member| member.backoff);
        let member = Member { since: clock::now(), backoff, alive: true };
        self.members.insert(position, member);
        let sender = self.sender.clone();
        watch(move || {
            if let Err(error) = mark.wait(None) {
                tracing::warn!("{error:#}");
            }
            let how = match child.map(|mut child| child.wait()) {
                Some(Ok(status)) => status.to_string(),
                Some(Err(error)) => format!("unknown status ({error})"),
                None => "unknown status (started by an earlier `berth up`)".to_owned(),
            };
            // Nobody listens any more once the supervisor has gone on to take all down.
            let _gone = sender.send(Event::Ended { position, how });
        })
    }

    /// Fails as soon as one of the processes ends. Cancel-safe.
    pub async fn first_loss(&mut self, cell: &CellFile) -> anyhow::Error {
        loop {
            match self.events.recv().await {
                Some(Event::Ended { position, how }) => {
                    if let Some(member) = self.members.get_mut(&position) {
                        member.alive = false;
                    }
                    let process = &cell.processes[position];
                    return anyhow::anyhow!(
                        "{} ended with {how}; the end of {}:\n{}",
                        process.label(),
                        process.log.display(),
                        log_tail(process)
                    );
                }
                Some(Event::RestartDue { .. }) | None => {}
            }
        }
    }

    /// Reports and restarts what dies, for ever; answers only with an error that ends supervision.
    /// Cancel-safe but for a restart in the middle.
    pub async fn keep_alive(&mut self, cell: &mut CellFile, report: impl Fn(&CellFile, &str)) {
        while let Some(event) = self.events.recv().await {
            match event {
                Event::Ended { position, how } => {
                    let backoff = self.lost(position);
                    let label = cell.processes[position].label();
                    let text = format!(
                        "{label} ended with {how}; starting it again in {} s",
                        backoff.as_secs_f32()
                    );
                    report(cell, &text);
                    let sender = self.sender.clone();
                    actix_rt::spawn(async move {
                        tokio::time::sleep(backoff).await;
                        let _gone = sender.send(Event::RestartDue { position });
                    });
                }
                Event::RestartDue { position } => match self.start(cell, position) {
                    Ok(()) => {
                        let label = cell.processes[position].label();
                        report(cell, &format!("{label} was started again"));
                    }
                    Err(error) => {
                        let how = format!("{error:#}");
                        let _open = self.sender.send(Event::Ended { position, how });
                    }
                },
            }
        }
    }

    /// Notes a loss and answers how long to wait before the next start.
    fn lost(&mut self, position: Position) -> Duration {
        let Some(member) = self.members.get_mut(&position) else { return BACKOFF_FIRST };
        member.alive = false;
        if clock::now().duration_since(member.since) >= HEALTHY_AFTER {
            member.backoff = BACKOFF_FIRST;
        }
        let backoff = member.backoff;
        member.backoff = (backoff * 2).min(BACKOFF_MAX);
        backoff
    }

    /// The processes that were started and not adopted.
    pub fn started<'a>(&self, cell: &'a CellFile) -> Vec<&'a Process> {
        self.started.iter().map(|position| &cell.processes[*position]).collect()
    }
}

/// Asks processes to end, all at once; after `grace` they are ended by force.
pub async fn stop(processes: &[&Process], grace: Duration) -> Result<Vec<String>> {
    let mut forced = Vec::new();
    let running: Vec<(&Process, Mark)> =
        processes.iter().filter_map(|process| Some((*process, process.running()?))).collect();
    for (_, mark) in &running {
        mark.signal(Signal::TERM)?;
    }
    let deadline = clock::now() + grace;
    for (process, mark) in &running {
        let left = deadline.saturating_duration_since(clock::now());
        if !ended_within(mark, left).await? {
            forced.push(process.label());
            mark.signal(Signal::KILL)?;
            if !ended_within(mark, Duration::from_secs(10)).await? {
                bail!("{} (pid {}) cannot be ended", process.label(), mark.pid);
            }
        }
    }
    for process in processes {
        if process.pid_file.exists() {
            std::fs::remove_file(&process.pid_file)
                .with_context(|| format!("cannot remove {}", process.pid_file.display()))?;
        }
    }
    Ok(forced)
}

/// Waits for the end of a process, child or not; false if `limit` passed before.
pub async fn ended_within(mark: &Mark, limit: Duration) -> Result<bool> {
    let (sender, receiver) = oneshot::channel();
    let mark = mark.clone();
    watch(move || {
        let _nobody_waits_any_more = sender.send(mark.wait(Some(limit)));
    })?;
    receiver.await.context("the thread that watches a process panicked")?
}

/// A thread that blocks on a process: it ends with the process, or with this program.
fn watch(work: impl FnOnce() + Send + 'static) -> Result<()> {
    std::thread::Builder::new()
        .name("process-watch".to_owned())
        .stack_size(128 << 10)
        .spawn(work)
        .map(drop)
        .context("cannot start a thread that watches a process")
}
