//! The guest's half of the protocol, played by a script instead of an agent.

use super::script::{Script, Step};
use berth_model::guest::{
    ExitCause, ExitStatus, GuestToHost, HostToGuest, PROTOCOL_MAX, PROTOCOL_MIN, STDIN_WINDOW,
    Standing, StartFailure,
};
use berth_model::stream::Sample;
use berth_wire::channel::{Endpoint, TO_GUEST_MESSAGE_MAX};
use berth_wire::codec;
use berth_wire::record::{RecordEncoder, Stream};
use std::collections::VecDeque;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream};
use tokio::sync::{mpsc, watch};

const SIGKILL: u8 = 9;

/// Plays until the machine's end; answers whether the guest ended it.
pub async fn run(
    script: Script,
    log: &Path,
    mut connections: mpsc::UnboundedReceiver<DuplexStream>,
    mut power: watch::Receiver<bool>,
) -> bool {
    if script.begins_with(Step::NeverReady) {
        // Connections are taken and never served, as of a guest that hangs in its boot.
        let _ = power.wait_for(|on| !on).await;
        return false;
    }
    let mut guest = Guest {
        script,
        at: 0,
        endpoint: Endpoint::guest(PROTOCOL_MIN..=PROTOCOL_MAX),
        hosts_met: 0,
        standing: Standing::Idle,
        waiting: VecDeque::new(),
        log: log.to_owned(),
        records: RecordEncoder::default(),
        log_bytes: 0,
        stdin: VecDeque::new(),
        stdin_received: 0,
        stdin_ended: false,
        stubborn: false,
        immortal: false,
        mute: false,
        by_guest: None,
    };
    let mut stream = None;
    let mut buffer = vec![0; 32 << 10];
    while guest.by_guest.is_none() {
        let pause = guest.play();
        if guest.by_guest.is_some() {
            break;
        }
        guest.flush(&mut stream).await;
        tokio::select! {
            biased;
            off = power.wait_for(|on| !on) => {
                drop(off);
                return false;
            }
            connection = connections.recv() => match connection {
                Some(connection) => stream = Some(connection),
                None => return false,
            },
            count = read(&mut stream, &mut buffer) => match count {
                0 => stream = None,
                count => guest.hear(&buffer[..count]),
            },
            () = slept(pause) => guest.at += 1,
        }
    }
    guest.flush(&mut stream).await;
    guest.by_guest.unwrap_or(false)
}

/// Bytes of the link; waits for ever without one.
async fn read(stream: &mut Option<DuplexStream>, buffer: &mut [u8]) -> usize {
    match stream {
        Some(stream) => stream.read(buffer).await.unwrap_or(0),
        None => std::future::pending().await,
    }
}

async fn slept(pause: Option<Duration>) {
    match pause {
        Some(pause) => tokio::time::sleep(pause).await,
        None => std::future::pending().await,
    }
}

struct Guest {
    script: Script,
    at: usize,
    endpoint: Endpoint,
    hosts_met: u64,
    standing: Standing,
    /// Messages that the channel has no room for yet.
    waiting: VecDeque<GuestToHost>,
    log: PathBuf,
    records: RecordEncoder,
    log_bytes: u64,
    stdin: VecDeque<Vec<u8>>,
    stdin_received: u64,
    stdin_ended: bool,
    stubborn: bool,
    immortal: bool,
    mute: bool,
    /// Set once the machine has ended.
    by_guest: Option<bool>,
}

impl Guest {
    /// Plays steps until one has to wait; answers how long, if it waits for time. A sleep begins anew
    /// when a message comes in between: scripts are not for measuring.
    fn play(&mut self) -> Option<Duration> {
        while matches!(self.standing, Standing::Running { .. }) && self.by_guest.is_none() {
            let step = self.script.0.get(self.at).cloned().unwrap_or(Step::Exit(0));
            match step {
                Step::Print(text) => self.write(Stream::Stdout, text.as_bytes()),
                Step::Warn(text) => self.write(Stream::Stderr, text.as_bytes()),
                Step::Sleep(time) => return Some(time),
                Step::Cat => {
                    while let Some(bytes) = self.stdin.pop_front() {
                        self.write(Stream::Stdout, &bytes);
                        let upto = self.stdin_received + STDIN_WINDOW;
                        self.say(GuestToHost::StdinCredit { upto });
                    }
                    if !self.stdin_ended {
                        return None;
                    }
                }
                Step::Exit(code) => self.exit(ExitCause::Code(code)),
                Step::Stubborn => self.stubborn = true,
                Step::Immortal => self.immortal = true,
                Step::Vanish => self.by_guest = Some(true),
                Step::Mute => {
                    self.mute = true;
                    return None;
                }
                Step::FailLaunch
                | Step::NeverReady
                | Step::FailSetup
                | Step::Missing
                | Step::Forever => return None,
            }
            self.at += 1;
        }
        None
    }

    async fn flush(&mut self, stream: &mut Option<DuplexStream>) {
        if self.mute {
            return;
        }
        let Some(open) = stream else { return };
        loop {
            while let Some(message) = self.waiting.front() {
                if self.endpoint.send(&codec::encode(message)).is_err() {
                    break;
                }
                self.waiting.pop_front();
            }
            let outgoing = self.endpoint.outgoing();
            let length = outgoing.len();
            if length == 0 {
                return;
            }
            if open.write_all(outgoing).await.is_err() {
                *stream = None;
                return;
            }
            self.endpoint.written(length);
        }
    }

    fn hear(&mut self, bytes: &[u8]) {
        // Out of step is told to the host by the endpoint itself.
        let _ = self.endpoint.receive(bytes);
        if self.endpoint.hosts_met() > self.hosts_met {
            self.hosts_met = self.endpoint.hosts_met();
            let ready = GuestToHost::Ready {
                kernel: "simulated".to_owned(),
                agent: env!("CARGO_PKG_VERSION").to_owned(),
                uptime_ns: 0,
                standing: self.standing.clone(),
            };
            self.say(ready);
        }
        while let Some(message) = self.endpoint.pop() {
            if let Ok(message) = codec::decode(&message, TO_GUEST_MESSAGE_MAX) {
                self.obey(message);
            }
        }
    }

    fn obey(&mut self, message: HostToGuest) {
        match message {
            HostToGuest::Setup(_) => self.set_up(),
            HostToGuest::StdinData { bytes } => {
                self.stdin_received += bytes.len() as u64;
                if let Standing::Running { stdin_received, stdin_upto, .. } = &mut self.standing {
                    *stdin_received = self.stdin_received;
                    *stdin_upto = self.stdin_received + STDIN_WINDOW;
                }
                self.stdin.push_back(bytes);
            }
            HostToGuest::StdinEof => self.stdin_ended = true,
            HostToGuest::Signal { number } => {
                let running = matches!(self.standing, Standing::Running { .. });
                let heard = number == SIGKILL || !self.stubborn;
                if running && heard && !self.immortal {
                    self.exit(ExitCause::Signal(number));
                }
            }
            HostToGuest::SampleStats => {
                self.say(GuestToHost::Stats(Box::new(Sample {
                    processes: 1,
                    ..Sample::default()
                })));
            }
            HostToGuest::PowerOff => self.by_guest = Some(true),
            HostToGuest::Clock { .. }
            | HostToGuest::Entropy { .. }
            | HostToGuest::Resize { .. }
            | HostToGuest::LogCredit { .. } => {}
        }
    }

    fn set_up(&mut self) {
        if self.standing != Standing::Idle {
            return;
        }
        match self.script.0.first() {
            Some(Step::FailSetup) => {
                let text = "cannot mount the delta disk: the script says so".to_owned();
                self.standing = Standing::SetupFailed { text: text.clone() };
                self.say(GuestToHost::SetupFailed { text });
            }
            Some(Step::Missing) => {
                let text = "exec: \"missing\": executable file not found in $PATH".to_owned();
                let failure = StartFailure { code: 127, text };
                self.standing = Standing::StartFailed(failure.clone());
                self.say(GuestToHost::StartFailed(failure));
            }
            Some(_) | None => {
                self.standing =
                    Standing::Running { pid: 2, stdin_received: 0, stdin_upto: STDIN_WINDOW };
                self.say(GuestToHost::Started { pid: 2, time_ns: now_ns() });
            }
        }
    }

    fn exit(&mut self, cause: ExitCause) {
        let log_bytes = self.log_bytes;
        let status = ExitStatus { cause, oom_killed: false, time_ns: now_ns(), log_bytes };
        self.write(Stream::Exit, &codec::encode(&status));
        self.standing = Standing::Exited(status);
        self.say(GuestToHost::Exited(status));
    }

    fn say(&mut self, message: GuestToHost) {
        self.waiting.push_back(message);
    }

    fn write(&mut self, stream: Stream, bytes: &[u8]) {
        let mut record = Vec::new();
        self.records.encode(stream, now_ns(), bytes, &mut record);
        self.log_bytes += record.len() as u64;
        let file = std::fs::File::options().append(true).create(true).open(&self.log);
        if let Err(error) = file.and_then(|mut file| file.write_all(&record)) {
            tracing::warn!(log = %self.log.display(), %error, "simulated output is lost");
        }
    }
}

fn now_ns() -> u64 {
    crate::clock::now().0 * 1_000_000
}
