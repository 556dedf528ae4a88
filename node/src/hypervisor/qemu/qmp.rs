//! A client of QEMU's machine protocol: one JSON document a line, over a unix socket.
//!
//! Small and our own: the generated bindings know a fixed list of events and end the connection at
//! one that a newer QEMU added, and we say five commands.
//!
//! Promises: every command ends within its time limit, also when QEMU is frozen; what QEMU says out
//! of turn is kept (who had the power switched off) or dropped; a line has a limit.
//! Does not: connect again by itself.

use crate::hypervisor::MonitorError;
use serde_json::{Value, json};
use std::path::Path;
use std::time::Duration;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::{mpsc, oneshot, watch};

/// An answer that is longer is none: we ask nothing that has one.
const LINE_MAX: u64 = 1 << 20;
/// A command waits this long for its answer.
const ANSWER_LIMIT: Duration = Duration::from_secs(5);

type Answer = Result<Value, MonitorError>;

/// A connection. It ends when the last clone is dropped or QEMU closes it.
#[derive(Clone, Debug)]
pub struct Monitor {
    commands: mpsc::Sender<(Value, oneshot::Sender<Answer>)>,
    shutdown: watch::Receiver<Option<Shutdown>>,
}

/// Who ended the machine, as QEMU says before its process ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shutdown {
    pub by_guest: bool,
}

impl Monitor {
    /// Connects and agrees on the protocol within `limit`.
    pub async fn connect(run_directory: &Path, limit: Duration) -> Result<Monitor, MonitorError> {
        let greeted = tokio::time::timeout(limit, async {
            let stream = super::sockets::connect(run_directory, super::sockets::MONITOR)
                .await
                .map_err(MonitorError::Io)?;
            let (read, mut write) = stream.into_split();
            let mut lines = Lines::new(read);
            let greeting = lines.next().await?;
            if greeting.get("QMP").is_none() {
                return Err(MonitorError::Malformed(greeting.to_string()));
            }
            send(&mut write, &json!({ "execute": "qmp_capabilities" })).await?;
            loop {
                let answer = lines.next().await?;
                if answer.get("return").is_some() {
                    return Ok((lines, write));
                }
                if let Some(error) = answer.get("error") {
                    return Err(MonitorError::Malformed(error.to_string()));
                }
            }
        });
        let (lines, write) = greeted.await.map_err(|_| MonitorError::Silent(limit))??;
        let (commands, orders) = mpsc::channel(16);
        let (heard, shutdown) = watch::channel(None);
        tokio::spawn(serve(lines, write, orders, heard));
        Ok(Monitor { commands, shutdown })
    }

    /// Executes one command.
    pub async fn execute(&self, command: &str, arguments: Value) -> Answer {
        let mut document = json!({ "execute": command });
        if !arguments.is_null() {
            document["arguments"] = arguments;
        }
        let (answer, answered) = oneshot::channel();
        let executed = tokio::time::timeout(ANSWER_LIMIT, async {
            self.commands.send((document, answer)).await.map_err(|_| MonitorError::Closed)?;
            answered.await.map_err(|_| MonitorError::Closed)?
        });
        match executed.await {
            Err(_) => Err(MonitorError::Silent(ANSWER_LIMIT)),
            Ok(Err(MonitorError::Refused { reason, .. })) => {
                Err(MonitorError::Refused { command: command.to_owned(), reason })
            }
            Ok(answer) => answer,
        }
    }

    /// What the machine does, in QEMU's words: `running`, `paused`, `io-error`, and more.
    pub async fn status(&self) -> Result<String, MonitorError> {
        let status = self.execute("query-status", Value::Null).await?;
        match status.get("status").and_then(Value::as_str) {
            Some(status) => Ok(status.to_owned()),
            None => Err(MonitorError::Malformed(status.to_string())),
        }
    }

    /// Number of each virtual CPU, and of the thread that runs it.
    pub async fn vcpu_threads(&self) -> Result<Vec<(u64, u64)>, MonitorError> {
        let said = self.execute("query-cpus-fast", Value::Null).await?;
        let number = |of: &Value, name: &str| of.get(name).and_then(Value::as_u64);
        let threads = said.as_array().and_then(|vcpus| {
            let pair = |vcpu| Some((number(vcpu, "cpu-index")?, number(vcpu, "thread-id")?));
            vcpus.iter().map(pair).collect::<Option<Vec<_>>>()
        });
        threads.ok_or_else(|| MonitorError::Malformed(said.to_string()))
    }

    /// What was heard of the machine's end so far.
    pub fn shutdown(&self) -> watch::Receiver<Option<Shutdown>> {
        self.shutdown.clone()
    }

    pub fn is_open(&self) -> bool {
        !self.commands.is_closed()
    }
}

/// Owns the connection. Answers come in the order of the commands.
async fn serve(
    mut lines: Lines,
    mut write: OwnedWriteHalf,
    mut orders: mpsc::Receiver<(Value, oneshot::Sender<Answer>)>,
    shutdown: watch::Sender<Option<Shutdown>>,
) {
    let mut waiting = std::collections::VecDeque::<oneshot::Sender<Answer>>::new();
    loop {
        tokio::select! {
            order = orders.recv() => {
                let Some((document, answer)) = order else { return };
                waiting.push_back(answer);
                if send(&mut write, &document).await.is_err() {
                    return;
                }
            }
            line = lines.next() => {
                let Ok(line) = line else { return };
                if let Some(value) = line.get("return") {
                    if let Some(answer) = waiting.pop_front() {
                        // Nobody waits any more where the time limit struck.
                        let _ = answer.send(Ok(value.clone()));
                    }
                } else if let Some(error) = line.get("error") {
                    let reason = error.get("desc").and_then(Value::as_str).unwrap_or("no reason");
                    if let Some(answer) = waiting.pop_front() {
                        let refused = MonitorError::Refused {
                            command: String::new(),
                            reason: reason.to_owned(),
                        };
                        let _ = answer.send(Err(refused));
                    }
                } else if line.get("event").and_then(Value::as_str) == Some("SHUTDOWN") {
                    let by_guest = line.pointer("/data/guest").and_then(Value::as_bool);
                    shutdown.send_replace(Some(Shutdown { by_guest: by_guest == Some(true) }));
                }
            }
        }
    }
}

async fn send(write: &mut OwnedWriteHalf, document: &Value) -> Result<(), MonitorError> {
    let mut line = document.to_string();
    line.push('\n');
    write.write_all(line.as_bytes()).await.map_err(MonitorError::Io)
}

/// Documents as they come. `next` may be dropped and called again: what was read stays in `line`.
struct Lines {
    read: BufReader<OwnedReadHalf>,
    line: Vec<u8>,
}

impl Lines {
    fn new(read: OwnedReadHalf) -> Lines {
        Lines { read: BufReader::new(read), line: Vec::new() }
    }

    async fn next(&mut self) -> Result<Value, MonitorError> {
        while self.line.last() != Some(&b'\n') {
            let room = LINE_MAX.saturating_sub(self.line.len() as u64);
            if room == 0 {
                return Err(MonitorError::Malformed("a line without end".to_owned()));
            }
            let mut limited = (&mut self.read).take(room);
            let count =
                limited.read_until(b'\n', &mut self.line).await.map_err(MonitorError::Io)?;
            if count == 0 {
                return Err(MonitorError::Closed);
            }
        }
        let line = std::mem::take(&mut self.line);
        serde_json::from_slice(&line)
            .map_err(|_| MonitorError::Malformed(String::from_utf8_lossy(&line).into_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::net::UnixListener;

    /// Plays QEMU: each line it hears is answered with the next of `answers`.
    fn play(directory: &Path, answers: &'static [&'static str]) {
        let listener = UnixListener::bind(directory.join(super::super::sockets::MONITOR)).unwrap();
        tokio::spawn(async move {
            let (stream, _) = listener.accept().await.unwrap();
            let (read, mut write) = stream.into_split();
            let mut read = BufReader::new(read).lines();
            write.write_all(b"{\"QMP\": {\"version\": {}}}\n").await.unwrap();
            for answer in answers {
                if read.next_line().await.unwrap().is_none() {
                    return;
                }
                write.write_all(answer.as_bytes()).await.unwrap();
            }
            std::future::pending::<()>().await;
        });
    }

    async fn connected(directory: &Path) -> Monitor {
        Monitor::connect(directory, Duration::from_secs(10)).await.unwrap()
    }

    #[tokio::test]
    async fn events_between_answers_are_told_apart() {
        let directory = tempfile::tempdir().unwrap();
        play(
            directory.path(),
            &[
                "{\"event\": \"NEW_IN_QEMU_99\"}\n{\"return\": {}}\n",
                "{\"event\": \"SHUTDOWN\", \"data\": {\"guest\": true}}\n{\"return\": \
                 {\"status\": \"running\"}}\n",
                "{\"error\": {\"class\": \"GenericError\", \"desc\": \"not now\"}}\n",
                "{\"return\": [{\"cpu-index\": 0, \"thread-id\": 70, \"target\": \"x86_64\"}, \
                 {\"cpu-index\": 1, \"thread-id\": 71}]}\n",
                "{\"return\": [{\"cpu-index\": 0}]}\n",
            ],
        );
        let monitor = connected(directory.path()).await;
        assert_eq!(monitor.status().await.unwrap(), "running");
        assert_eq!(*monitor.shutdown().borrow(), Some(Shutdown { by_guest: true }));
        let refused = monitor.execute("stop", Value::Null).await.unwrap_err();
        assert_eq!(refused.to_string(), "the hypervisor refused `stop`: not now");
        assert_eq!(monitor.vcpu_threads().await.unwrap(), [(0, 70), (1, 71)]);
        let malformed = monitor.vcpu_threads().await.unwrap_err();
        assert!(matches!(malformed, MonitorError::Malformed(_)), "{malformed}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_frozen_hypervisor_costs_the_time_limit_and_no_more() {
        let directory = tempfile::tempdir().unwrap();
        play(directory.path(), &["{\"return\": {}}\n"]);
        let monitor = connected(directory.path()).await;
        assert!(matches!(monitor.status().await, Err(MonitorError::Silent(_))));
    }

    #[tokio::test]
    async fn nobody_there_is_an_error() {
        let directory = tempfile::tempdir().unwrap();
        let refused = Monitor::connect(directory.path(), Duration::from_secs(1)).await;
        assert!(matches!(refused, Err(MonitorError::Io(_))));
    }
}
