//! The link to the agent in a guest: the resumable channel over the machine's socket.
//!
//! ```text
//!  requests, stdin ──► window ──► channel ──► socket ──► agent
//!  news ◄──────────────────────── channel ◄── socket ◄──
//! ```
//! Runs as a task of its own until it is dropped with its machine. A broken connection is opened again and
//! the channel goes on where it was.
//!
//! Promises: requests keep their order, stdin keeps its own; stdin never runs ahead of the agent's credit;
//! an agent that leaves a question unanswered for too long is reported, again and again.
//! Does not: decide what news mean.

use crate::hypervisor::{GuestStream, RunningVm};
use berth_model::guest::{
    ExitStatus, GuestToHost, HostToGuest, PROTOCOL_MAX, PROTOCOL_MIN, STDIN_DATA_MAX, STDIN_WINDOW,
    Standing, StartFailure, Stdio,
};
use berth_model::stream::Sample;
use berth_wire::channel::{ChannelError, Endpoint, TO_HOST_MESSAGE_MAX};
use berth_wire::codec;
use bytes::Bytes;
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, ReadHalf, WriteHalf};
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

/// How often a running agent is asked what its container uses.
const BEAT: Duration = Duration::from_secs(10);
/// Between attempts to connect.
const RETRY: Duration = Duration::from_millis(200);
/// Requests that may wait for room in the channel before more are taken.
const WAITING_MAX: usize = 32;

/// What is asked of the agent.
#[derive(Debug)]
pub enum Request {
    Say(HostToGuest),
    Resize { rows: u16, columns: u16 },
    Sample(oneshot::Sender<Sample>),
}

#[derive(Debug)]
pub enum Stdin {
    Data { bytes: Bytes, taken: oneshot::Sender<()> },
    Eof,
}

/// What is heard of the agent.
#[derive(Debug)]
pub enum News {
    Ready {
        kernel: String,
        agent: String,
        uptime: Duration,
        standing: Standing,
    },
    Started,
    StartFailed(StartFailure),
    SetupFailed {
        text: String,
    },
    Exited(ExitStatus),
    Sample(Sample),
    /// It owes an answer for longer than it may.
    Silent,
    /// The link is of no use any more.
    Broken(String),
}

/// The node's ends of the queues, made once for a run.
#[derive(Debug)]
pub struct Queues {
    pub requests: mpsc::Receiver<Request>,
    pub stdin: mpsc::Receiver<Stdin>,
}

/// Serves the link. Ends only when nobody listens to its news, or after [`News::Broken`].
pub async fn run(
    machine: Arc<dyn RunningVm>,
    mut queues: Queues,
    news: mpsc::Sender<News>,
    silence: Duration,
) {
    let mut link = Link::new(silence);
    loop {
        let Ok(stream) = machine.guest_link().await else {
            // The machine ends, and this task with it; or the hypervisor is frozen.
            tokio::time::sleep(RETRY).await;
            if link.is_silent() && news.send(News::Silent).await.is_err() {
                return;
            }
            continue;
        };
        match link.serve(stream, &mut queues, &news).await {
            Ok(()) => tokio::time::sleep(RETRY).await,
            Err(Over) => return,
        }
    }
}

/// Nothing more can come of the link.
struct Over;

struct Link {
    endpoint: Endpoint,
    silence: Duration,
    /// The process runs, as far as the agent said.
    running: bool,
    size: Option<(u16, u16)>,
    waiting: VecDeque<HostToGuest>,
    /// Bytes of stdin that were sent, and up to where more may be.
    stdin_sent: u64,
    stdin_upto: u64,
    stdin: Option<Stdin>,
    samples: Vec<oneshot::Sender<Sample>>,
    /// Since when the agent owes an answer.
    asked: Option<Instant>,
    heard: Instant,
}

impl Link {
    fn new(silence: Duration) -> Link {
        Link {
            endpoint: Endpoint::host(PROTOCOL_MIN..=PROTOCOL_MAX),
            silence,
            running: false,
            size: None,
            waiting: VecDeque::new(),
            stdin_sent: 0,
            stdin_upto: 0,
            stdin: None,
            samples: Vec::new(),
            asked: None,
            heard: Instant::now(),
        }
    }

    /// One connection, until it breaks.
    async fn serve(
        &mut self,
        stream: Box<dyn GuestStream>,
        queues: &mut Queues,
        news: &mpsc::Sender<News>,
    ) -> Result<(), Over> {
        let (mut read, mut write) = tokio::io::split(stream);
        let mut buffer = vec![0; 64 << 10];
        let mut beat = tokio::time::interval(BEAT);
        beat.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        self.endpoint.reconnected(rand::random());
        loop {
            self.fill();
            let (room, no_stdin) = (self.waiting.len() < WAITING_MAX, self.stdin.is_none());
            let outgoing = self.endpoint.outgoing();
            tokio::select! {
                count = read_some(&mut read, &mut buffer) => {
                    if count == 0 {
                        return Ok(());
                    }
                    if !self.hear(&buffer[..count], news).await? {
                        // Out of step on a pipe that stands: greet again.
                        self.endpoint.reconnected(rand::random());
                    }
                }
                written = write_some(&mut write, outgoing), if !outgoing.is_empty() => {
                    match written {
                        0 => return Ok(()),
                        count => self.endpoint.written(count),
                    }
                }
                request = queues.requests.recv(), if room => match request {
                    Some(request) => self.take(request),
                    None => return Err(Over),
                },
                stdin = queues.stdin.recv(), if no_stdin && self.running => match stdin {
                    Some(stdin) => self.stdin = Some(stdin),
                    None => return Err(Over),
                },
                _ = beat.tick() => {
                    if self.is_silent() {
                        news.send(News::Silent).await.map_err(|_| Over)?;
                    }
                    if self.running {
                        self.ask();
                    }
                }
            }
        }
    }

    fn take(&mut self, request: Request) {
        match request {
            Request::Say(HostToGuest::Setup(mut spec)) => {
                if let (Stdio::Terminal { rows, columns, .. }, Some(size)) =
                    (&mut spec.process.stdio, self.size)
                {
                    (*rows, *columns) = size;
                }
                self.waiting.push_back(HostToGuest::Setup(spec));
            }
            Request::Say(message) => self.waiting.push_back(message),
            Request::Resize { rows, columns } => {
                self.size = Some((rows, columns));
                if self.running {
                    self.waiting.push_back(HostToGuest::Resize { rows, columns });
                }
            }
            Request::Sample(answer) => {
                self.samples.push(answer);
                self.ask();
            }
        }
    }

    /// One question at a time: its answer serves all who asked meanwhile.
    fn ask(&mut self) {
        if self.asked.is_none() {
            self.asked = Some(Instant::now());
            self.waiting.push_back(HostToGuest::SampleStats);
        }
    }

    fn is_silent(&self) -> bool {
        let owes = self.asked.is_some_and(|asked| asked.elapsed() >= self.silence);
        owes && self.heard.elapsed() >= self.silence
    }

    /// Moves what waits into the channel, as far as it has room.
    fn fill(&mut self) {
        while let Some(message) = self.waiting.front() {
            match self.endpoint.send(&codec::encode(message)) {
                Ok(()) => drop(self.waiting.pop_front()),
                Err(berth_wire::channel::Full::Window) => return,
                Err(error) => {
                    // Only a spec can be that long; the deadline of setup tells the rest.
                    tracing::error!(%error, "a message to a guest agent is dropped");
                    self.waiting.pop_front();
                }
            }
        }
        match self.stdin.take() {
            Some(Stdin::Eof) => self.stdin = self.send_eof(),
            Some(Stdin::Data { bytes, taken }) => self.stdin = self.send_stdin(bytes, taken),
            None => {}
        }
    }

    /// What is left for later.
    fn send_eof(&mut self) -> Option<Stdin> {
        let sent = self.endpoint.send(&codec::encode(&HostToGuest::StdinEof));
        sent.is_err().then_some(Stdin::Eof)
    }

    /// What is left for later.
    fn send_stdin(&mut self, mut bytes: Bytes, taken: oneshot::Sender<()>) -> Option<Stdin> {
        while !bytes.is_empty() {
            let credit = self.stdin_upto.saturating_sub(self.stdin_sent);
            let most = usize::try_from(credit).unwrap_or(usize::MAX).min(STDIN_DATA_MAX);
            let piece = bytes.slice(..bytes.len().min(most));
            let data = HostToGuest::StdinData { bytes: piece.to_vec() };
            if piece.is_empty() || self.endpoint.send(&codec::encode(&data)).is_err() {
                return Some(Stdin::Data { bytes, taken });
            }
            self.stdin_sent += piece.len() as u64;
            bytes = bytes.slice(piece.len()..);
        }
        // Who wrote it may have left.
        let _ = taken.send(());
        None
    }

    /// Whether the channel is in step.
    async fn hear(&mut self, bytes: &[u8], news: &mpsc::Sender<News>) -> Result<bool, Over> {
        self.heard = Instant::now();
        let received = self.endpoint.receive(bytes);
        while let Some(message) = self.endpoint.pop() {
            let heard = match codec::decode(&message, TO_HOST_MESSAGE_MAX) {
                Ok(message) => self.understand(message),
                Err(error) => Some(News::Broken(format!("a message that is none: {error}"))),
            };
            let Some(heard) = heard else { continue };
            let broken = matches!(heard, News::Broken(_));
            news.send(heard).await.map_err(|_| Over)?;
            if broken {
                return Err(Over);
            }
        }
        match received {
            Ok(()) => Ok(true),
            Err(ChannelError::OutOfStep) => Ok(false),
            Err(error @ (ChannelError::GuestForgot | ChannelError::Protocol { .. })) => {
                news.send(News::Broken(error.to_string())).await.map_err(|_| Over)?;
                Err(Over)
            }
        }
    }

    fn understand(&mut self, message: GuestToHost) -> Option<News> {
        match message {
            GuestToHost::Ready { kernel, agent, uptime_ns, standing } => {
                if let Standing::Running { stdin_received, stdin_upto, .. } = &standing {
                    self.started(*stdin_received, *stdin_upto);
                }
                let uptime = Duration::from_nanos(uptime_ns);
                Some(News::Ready { kernel, agent, uptime, standing })
            }
            GuestToHost::Started { .. } => {
                // Repeated news of a process that ran before this node did change nothing.
                if !self.running {
                    self.started(0, STDIN_WINDOW);
                }
                Some(News::Started)
            }
            GuestToHost::StartFailed(failure) => Some(News::StartFailed(failure)),
            GuestToHost::SetupFailed { text } => Some(News::SetupFailed { text }),
            GuestToHost::StdinCredit { upto } => {
                self.stdin_upto = self.stdin_upto.max(upto);
                None
            }
            GuestToHost::Stats(sample) => {
                self.asked = None;
                for waiting in self.samples.drain(..) {
                    // Who asked may have left.
                    let _ = waiting.send((*sample).clone());
                }
                Some(News::Sample(*sample))
            }
            GuestToHost::Exited(status) => Some(News::Exited(status)),
        }
    }

    fn started(&mut self, stdin_sent: u64, stdin_upto: u64) {
        self.running = true;
        self.stdin_sent = stdin_sent;
        self.stdin_upto = stdin_upto;
        if let Some((rows, columns)) = self.size {
            self.waiting.push_back(HostToGuest::Resize { rows, columns });
        }
    }
}

/// Zero at the end and on any trouble: both mean to connect again.
async fn read_some(read: &mut ReadHalf<Box<dyn GuestStream>>, buffer: &mut [u8]) -> usize {
    read.read(buffer).await.unwrap_or(0)
}

async fn write_some(write: &mut WriteHalf<Box<dyn GuestStream>>, bytes: &[u8]) -> usize {
    write.write(bytes).await.unwrap_or(0)
}
