//! A node that plays its part: session and streams as in `model`, programs instead of guests.

use super::program::{First, Run};
use super::{Size, identity};
use berth_model::host::{Accelerator, DatastoreFacts, NumaNode, Supply};
use berth_model::image::ImageConfig;
use berth_model::session::{self, FromScheduler};
use berth_model::stream::{
    self, FromNode, LoadedImage, OutputFrom, OutputStream, StreamRefusal, StreamRequest, ToNode,
};
use berth_model::{
    Assignment, Bytes, ContainerId, DatastoreId, Epoch, Exit, Fact, HostFacts, HostId, ImageId,
    MilliCpus, Report, Resources, Timestamp, Want,
};
use berth_scheduler::Scheduler;
use berth_wire::codec;
use berth_wire::hello::Hello;
use berth_wire::link::{LinkReceiver, LinkSender};
use berth_wire::pki::Authority;
use berth_wire::tls::{Role, Tls};
use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio::task::AbortHandle;

/// Every played host reaches this datastore.
pub const SHARED: DatastoreId = DatastoreId::from_bytes([0xdd; 16]);
const NOW: Timestamp = Timestamp(1_700_000_000_000);

pub struct Node {
    pub host: HostId,
    pub played: Arc<Played>,
    tasks: Vec<AbortHandle>,
}

pub struct Played {
    runs: Mutex<BTreeMap<(ContainerId, Epoch), Arc<Run>>>,
    ordered: Mutex<BTreeSet<(ContainerId, Epoch)>>,
    facts: mpsc::UnboundedSender<Fact>,
    pub signals: Mutex<Vec<u8>>,
    /// Cuts every stream when it is dropped.
    streams: Mutex<Vec<AbortHandle>>,
}

impl Node {
    pub async fn start(
        mut facts: HostFacts,
        authority: &Authority,
        directory: &tempfile::TempDir,
        scheduler: &Scheduler,
    ) -> Node {
        let host = HostId::random(&mut rand::rng());
        let tls = identity(authority, directory, Role::Node, &host.to_string());
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        facts.stream_address = listener.local_addr().unwrap().to_string();
        let (sender, receiver) = mpsc::unbounded_channel();
        let played = Arc::new(Played {
            runs: Mutex::default(),
            ordered: Mutex::default(),
            facts: sender,
            signals: Mutex::default(),
            streams: Mutex::default(),
        });
        let address = scheduler.nodes_address();
        let session = tokio::spawn(session(address, tls.clone(), facts, played.clone(), receiver));
        let streams = tokio::spawn(accept(listener, tls, played.clone()));
        Node { host, played, tasks: vec![session.abort_handle(), streams.abort_handle()] }
    }

    /// As kill -9 of the node would: session and streams are cut.
    pub fn kill(&self) {
        for task in &self.tasks {
            task.abort();
        }
        self.played.cut_streams();
    }
}

/// What the host of that number says of itself: `host-1` is in rack `r1`, `host-3` in `r2`.
pub fn facts(number: usize, size: Size) -> HostFacts {
    let datastore = DatastoreFacts {
        name: "shared".to_owned(),
        capacity: Bytes::gib(1000),
        free: Bytes::gib(900),
        class: "ssd".to_owned(),
        labels: BTreeMap::from([("tier".to_owned(), "fast".to_owned())]),
    };
    let capacity = Resources { cpu: MilliCpus::whole(size.cpus), memory: size.memory };
    let half =
        Resources { cpu: MilliCpus(capacity.cpu.0 / 2), memory: Bytes(capacity.memory.0 / 2) };
    let rack = format!("r{}", number.div_ceil(2));
    let supply = Supply {
        cores: 4,
        threads: 8,
        numa: (0..2).map(|id| NumaNode { id, capacity: half }).collect(),
        domain: vec![("zone".to_owned(), "a".to_owned()), ("rack".to_owned(), rack)],
        networks: BTreeSet::from(["front".to_owned()]),
        resources: BTreeMap::from([("gpu".to_owned(), 4)]),
        shares: true,
    };
    HostFacts {
        name: format!("host-{number}"),
        cluster: "main".to_owned(),
        capacity,
        accelerator: Accelerator::Simulated,
        vm_overhead: Bytes::mib(32),
        datastores: BTreeMap::from([(SHARED, datastore)]),
        stream_address: String::new(),
        boot_id: "boot".to_owned(),
        kernel: "6.1".to_owned(),
        hypervisor: "played".to_owned(),
        build: "test".to_owned(),
        labels: BTreeMap::from([("number".to_owned(), number.to_string())]),
        supply,
    }
}

fn hello(min: u16, max: u16) -> Hello {
    Hello { protocol_min: min, protocol_max: max, build: "test".into(), features: Vec::new() }
}

async fn session(
    address: SocketAddr,
    tls: Tls,
    facts: HostFacts,
    played: Arc<Played>,
    mut news: mpsc::UnboundedReceiver<Fact>,
) {
    let (mut link, _) = tls.connect(address, Role::Scheduler).await.unwrap();
    link.hello(&hello(session::PROTOCOL_MIN, session::PROTOCOL_MAX)).await.unwrap();
    link.set_limit(session::MESSAGE_MAX);
    let register = session::FromNode::Register { facts: Box::new(facts), held: None };
    link.send(&register).await.unwrap();
    let (mut sender, mut receiver) = link.split();
    let mut held = Assignment::default();
    let mut beat = tokio::time::interval(Duration::from_secs(1));
    let mut last = 0;
    let mut sequence = 0;
    loop {
        tokio::select! {
            message = receiver.receive::<FromScheduler>() => match message {
                Ok(Some(FromScheduler::Assignment(update))) => {
                    held = held.updated(&update, |id, order| codec::encode(&(id, order))).unwrap();
                    let generation = held.generation;
                    played.obey(&held);
                    let obeyed = session::FromNode::Obeyed { generation };
                    if sender.send(&obeyed).await.is_err() { return }
                }
                Ok(Some(_)) => {}
                Ok(None) | Err(_) => return,
            },
            fact = news.recv() => {
                let Some(fact) = fact else { return };
                last += 1;
                let report = Report { last, facts: vec![fact] };
                if sender.send(&session::FromNode::Report(report)).await.is_err() { return }
            }
            _ = beat.tick() => {
                sequence += 1;
                let heartbeat = session::FromNode::Heartbeat { sequence };
                if sender.send(&heartbeat).await.is_err() { return }
            }
        }
    }
}

impl Played {
    pub fn cut_streams(&self) {
        for stream in self.streams.lock().unwrap().drain(..) {
            stream.abort();
        }
    }

    pub fn run(&self, container: &str) -> Arc<Run> {
        let id: ContainerId = container.parse().unwrap();
        let runs = self.runs.lock().unwrap();
        runs.iter().rfind(|((found, _), _)| *found == id).expect("it runs here").1.clone()
    }

    fn tell(&self, fact: Fact) {
        let _ = self.facts.send(fact);
    }

    fn obey(&self, assignment: &Assignment) {
        for (id, order) in &assignment.vms {
            let key = (*id, order.epoch);
            match &order.want {
                Want::Run(run) => {
                    if self.ordered.lock().unwrap().insert(key) {
                        let words = run.spec.entrypoint.iter().chain(&run.spec.command);
                        self.start(key, words.cloned().collect());
                    }
                }
                Want::Stop { order, .. } => {
                    let run = self.runs.lock().unwrap().get(&key).cloned();
                    if let Some(run) = run {
                        self.exit(key, &run, 128 + i32::from(order.signal));
                    }
                }
                Want::Discard => {
                    for (key, run) in self.runs.lock().unwrap().iter() {
                        if key.0 == *id && !*run.ended.lock().unwrap() {
                            run.end();
                        }
                    }
                    self.tell(Fact::Discarded { container: *id });
                }
            }
        }
    }

    fn start(&self, key: (ContainerId, Epoch), words: Vec<String>) {
        let run = Arc::new(Run::new(words));
        self.runs.lock().unwrap().insert(key, run.clone());
        let (container, epoch) = key;
        let started = Fact::VmStarted { container, epoch, started_at: NOW };
        match run.begin() {
            First::Missing(error) => {
                run.end();
                let exit = Exit { code: 127, oom_killed: false, error };
                self.tell(Fact::VmStartFailed { container, epoch, exit, finished_at: NOW });
            }
            First::Exit(code) => {
                self.tell(started);
                self.exit(key, &run, code);
            }
            First::GoOn => self.tell(started),
        }
    }

    fn exit(&self, (container, epoch): (ContainerId, Epoch), run: &Run, code: i32) {
        if !std::mem::replace(&mut *run.ended.lock().unwrap(), true) {
            run.changed.send_modify(|count| *count += 1);
            let exit = Exit { code, oom_killed: false, error: String::new() };
            self.tell(Fact::VmExited { container, epoch, exit, finished_at: NOW });
        }
    }
}

async fn accept(listener: TcpListener, tls: Tls, played: Arc<Played>) {
    loop {
        let (tcp, _) = listener.accept().await.unwrap();
        let (tls, serving) = (tls.clone(), played.clone());
        let task = tokio::spawn(async move {
            let (mut link, _) = tls.accept(tcp, &[Role::Scheduler]).await.unwrap();
            link.hello(&hello(stream::PROTOCOL_MIN, stream::PROTOCOL_MAX)).await.unwrap();
            link.set_limit(stream::MESSAGE_MAX);
            let Ok(Some(ToNode::Request(request))) = link.receive().await else { return };
            let (sender, receiver) = link.split();
            serve(&serving, request, sender, receiver).await;
        });
        played.streams.lock().unwrap().push(task.abort_handle());
    }
}

async fn serve(
    played: &Played,
    request: StreamRequest,
    mut sender: LinkSender,
    receiver: LinkReceiver,
) {
    let find = |container, epoch| played.runs.lock().unwrap().get(&(container, epoch)).cloned();
    match request {
        StreamRequest::Attach { container, epoch, from, stdin } => {
            let Some(run) = find(container, epoch) else {
                let refused = FromNode::Refused(StreamRefusal::NotHere(container));
                let _ = sender.send(&refused).await;
                return;
            };
            sender.send(&FromNode::Accepted).await.unwrap();
            let skip = match from {
                OutputFrom::Start => 0,
                OutputFrom::Now => run.records.lock().unwrap().len(),
            };
            let key = (container, epoch);
            let feed = async {
                feed(played, key, &run, stdin, receiver).await;
                std::future::pending::<()>().await;
            };
            tokio::select! {
                () = output(&run, skip, true, &mut sender) => {}
                () = feed => {}
            }
        }
        StreamRequest::Logs { container, epoch, follow, tail, .. } => {
            sender.send(&FromNode::Accepted).await.unwrap();
            let runs: Vec<_> = (1..=epoch.0).filter_map(|e| find(container, Epoch(e))).collect();
            let count: usize = runs.iter().map(|run| run.records.lock().unwrap().len()).sum();
            let mut skip = tail.map_or(0, |tail| count.saturating_sub(tail as usize));
            for (position, run) in runs.iter().enumerate() {
                let held = run.records.lock().unwrap().len();
                let here = skip.min(held);
                skip -= here;
                let last = position + 1 == runs.len();
                send_output(run, here, follow && last, &mut sender).await;
            }
            let _ = sender.send(&FromNode::End).await;
        }
        StreamRequest::LoadImages { .. } => load(sender, receiver).await,
        StreamRequest::Signal { container, epoch, signal } => {
            sender.send(&FromNode::Accepted).await.unwrap();
            played.signals.lock().unwrap().push(signal);
            if let Some(run) = find(container, epoch) {
                run.write(OutputStream::Stdout, format!("signal {signal}\n"));
            }
            let _ = sender.send(&FromNode::End).await;
        }
        StreamRequest::Resize { container, epoch, rows, columns } => {
            sender.send(&FromNode::Accepted).await.unwrap();
            if let Some(run) = find(container, epoch) {
                run.write(OutputStream::Stdout, format!("size {rows} {columns}\n"));
            }
            let _ = sender.send(&FromNode::End).await;
        }
        StreamRequest::Stats { .. } => {
            let refused = StreamRefusal::Other("no statistics are played".to_owned());
            let _ = sender.send(&FromNode::Refused(refused)).await;
        }
    }
}

async fn output(run: &Run, skip: usize, follow: bool, sender: &mut LinkSender) {
    send_output(run, skip, follow, sender).await;
    let _ = sender.send(&FromNode::End).await;
}

async fn send_output(run: &Run, skip: usize, follow: bool, sender: &mut LinkSender) {
    let mut changed = run.changed.subscribe();
    let mut sent = skip;
    loop {
        changed.borrow_and_update();
        let ended = *run.ended.lock().unwrap();
        let records: Vec<_> = run.records.lock().unwrap().iter().skip(sent).cloned().collect();
        for (stream, time_ns, data) in records {
            sent += 1;
            if sender.send(&FromNode::Output { stream, time_ns, data }).await.is_err() {
                return;
            }
        }
        if ended || !follow || changed.changed().await.is_err() {
            return;
        }
    }
}

/// Stdin: `cat` writes it out again and ends with it.
async fn feed(
    played: &Played,
    key: (ContainerId, Epoch),
    run: &Run,
    stdin: bool,
    mut receiver: LinkReceiver,
) {
    while let Ok(Some(message)) = receiver.receive::<ToNode>().await {
        match message {
            ToNode::Data(data) if stdin => run.write(OutputStream::Stdout, data),
            ToNode::Eof if stdin => played.exit(key, run, 0),
            ToNode::Data(_) | ToNode::Eof | ToNode::Request(_) => return,
        }
    }
}

/// The archive's text is the image's reference; `broken` is an archive that is none.
async fn load(mut sender: LinkSender, mut receiver: LinkReceiver) {
    sender.send(&FromNode::Accepted).await.unwrap();
    let mut archive = Vec::new();
    while let Ok(Some(ToNode::Data(data))) = receiver.receive::<ToNode>().await {
        archive.extend(data);
    }
    let archive = String::from_utf8_lossy(&archive).into_owned();
    if archive == "broken" {
        let failed = FromNode::Failed("the archive is no tar archive".to_owned());
        return sender.send(&failed).await.unwrap();
    }
    if archive == "half" {
        let (current, total) = (Bytes(1), Bytes(2));
        let progress = FromNode::Progress { layer: "sha256:abc".to_owned(), current, total };
        sender.send(&progress).await.unwrap();
        let failed = FromNode::Failed("the second layer is cut short".to_owned());
        return sender.send(&failed).await.unwrap();
    }
    if archive != "empty" {
        let document = format!(
            r#"{{"created":"2024-01-02T03:04:05Z","os":"linux","architecture":"amd64","name":"{archive}"}}"#
        );
        let digest = <sha2::Sha256 as sha2::Digest>::digest(document.as_bytes());
        let image = LoadedImage {
            id: ImageId::from_bytes(digest.into()),
            references: vec![archive],
            config: ImageConfig {
                architecture: "amd64".into(),
                os: "linux".into(),
                command: vec!["sh".into()],
                environment: vec!["PATH=/bin".into()],
                volumes: vec!["/data".into()],
                ..ImageConfig::default()
            },
            document,
            size: Bytes::mib(4),
        };
        sender.send(&FromNode::Loaded(Box::new(image))).await.unwrap();
    }
    let _ = sender.send(&FromNode::End).await;
}
