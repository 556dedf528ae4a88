//! Streams over real links, to container VMs that the simulated hypervisor plays.

use super::*;
use crate::options::Limits;
use crate::stage::{DEADLINE, Machine, Stage, container};
use berth_model::assignment::Want;
use berth_model::stream::{OutputFrom, OutputStream};
use berth_model::{Fact, HostId};
use berth_wire::identity::Identity;
use berth_wire::pki::Authority;

struct Host {
    machine: Machine,
    node: Stage,
    authority: Authority,
    address: std::net::SocketAddr,
}

impl Host {
    async fn new() -> Host {
        Host::with(16).await
    }

    async fn with(limit: usize) -> Host {
        let machine = Machine::new();
        let node = machine.node().await;
        let authority = Authority::create("cell", machine.directory.path()).unwrap();
        let host = HostId::from_bytes([1; 16]);
        let loader = Loader::new(host, "sqfstar".into(), &Limits::default(), node.metrics.clone());
        let around = Surroundings {
            tls: tls(&authority, &machine, Role::Node, "host-1"),
            agent: node.locator(),
            changes: node.changes.clone(),
            datastores: node.datastores.subscribe(),
            loader,
            metrics: node.metrics.clone(),
            limit,
        };
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let address = listener.local_addr().unwrap();
        actix_rt::spawn(serve(listener, around));
        Host { machine, node, authority, address }
    }

    async fn run(&mut self, script: &str) {
        let run = self.node.run(script);
        self.node.obey(true, &[(container(1), 1, run)]).await;
    }

    async fn started(&mut self) {
        let fact = self.node.fact().await;
        assert!(matches!(fact, Fact::VmStarted { .. }), "{fact:?}");
    }

    async fn ask(&self, request: StreamRequest) -> Client {
        let tls = tls(&self.authority, &self.machine, Role::Scheduler, "1");
        let (mut link, _) = tls.connect(self.address, Role::Node).await.unwrap();
        link.set_limit(MESSAGE_MAX);
        link.hello(&hello()).await.unwrap();
        link.send(&ToNode::Request(request)).await.unwrap();
        Client(link)
    }

    async fn attach(&self, from: OutputFrom, stdin: bool) -> Client {
        let (container, epoch) = (container(1), Epoch(1));
        self.ask(StreamRequest::Attach { container, epoch, from, stdin }).await
    }

    fn logs(&self, follow: bool, tail: Option<u64>) -> StreamRequest {
        let (container, datastore, epoch) = (container(1), self.machine.datastore.id, Epoch(1));
        let (since, until) = (None, None);
        StreamRequest::Logs { container, datastore, epoch, follow, since, until, tail }
    }
}

fn tls(authority: &Authority, machine: &Machine, role: Role, id: &str) -> Tls {
    let identity = Identity::new("cell", role, id);
    let stem = format!("{role}-{id}");
    let directory = machine.directory.path();
    let files = authority.issue_files(&identity, &["127.0.0.1"], directory, &stem).unwrap();
    Tls::load(&files).unwrap()
}

struct Client(Link);

impl Client {
    async fn next(&mut self) -> Option<FromNode> {
        let receiving = self.0.receive::<FromNode>();
        tokio::time::timeout(DEADLINE, receiving).await.expect("the node answers").unwrap_or(None)
    }

    async fn accepted(&mut self) {
        assert_eq!(self.next().await, Some(FromNode::Accepted));
    }

    async fn send(&mut self, message: ToNode) {
        self.0.send(&message).await.unwrap();
    }

    /// stdout and stderr up to the end, and the end.
    async fn all(&mut self) -> (String, String, FromNode) {
        let (mut out, mut err) = (Vec::new(), Vec::new());
        loop {
            let message = self.next().await.expect("the stream ends with a word");
            let FromNode::Output { stream, data, .. } = message else {
                let text = |bytes| String::from_utf8(bytes).unwrap();
                return (text(out), text(err), message);
            };
            match stream {
                OutputStream::Stdout => out.extend(data),
                OutputStream::Stderr => err.extend(data),
            }
        }
    }
}

#[actix_rt::test]
async fn attach_gives_both_streams_from_the_first_byte_until_the_run_ends() {
    let mut host = Host::new().await;
    host.run("print one; warn two; print three; exit 0").await;
    let mut client = host.attach(OutputFrom::Start, false).await;
    client.accepted().await;
    assert_eq!(client.all().await, ("one\nthree\n".into(), "two\n".into(), FromNode::End));
    // Also when it is over already.
    let mut late = host.attach(OutputFrom::Start, false).await;
    late.accepted().await;
    assert_eq!(late.all().await.0, "one\nthree\n");
}

#[actix_rt::test]
async fn an_attach_that_comes_before_the_order_waits_for_it() {
    let mut host = Host::new().await;
    let mut client = host.attach(OutputFrom::Start, false).await;
    host.run("print hello; exit 0").await;
    client.accepted().await;
    assert_eq!(client.all().await.0, "hello\n");
}

#[actix_rt::test]
async fn stdin_reaches_the_process_and_its_end_too() {
    let mut host = Host::new().await;
    host.run("cat; exit 0").await;
    let mut client = host.attach(OutputFrom::Start, true).await;
    client.accepted().await;
    host.started().await;
    client.send(ToNode::Data(b"typed\n".to_vec())).await;
    client.send(ToNode::Eof).await;
    assert_eq!(client.all().await, ("typed\n".into(), String::new(), FromNode::End));
}

#[actix_rt::test]
async fn a_client_that_does_not_read_stalls_neither_the_process_nor_another_client() {
    let mut host = Host::new().await;
    host.run("cat; exit 0").await;
    let mut asleep = host.attach(OutputFrom::Start, true).await;
    asleep.accepted().await;
    host.started().await;
    for _ in 0..40 {
        asleep.send(ToNode::Data(vec![b'x'; 200_000])).await;
    }
    asleep.send(ToNode::Eof).await;
    assert!(matches!(host.node.fact().await, Fact::VmExited { .. }));
    let mut awake = host.attach(OutputFrom::Start, false).await;
    awake.accepted().await;
    assert_eq!(awake.all().await.0.len(), 8_000_000);
    assert_eq!(asleep.all().await.0.len(), 8_000_000);
}

#[actix_rt::test]
async fn what_is_not_here_is_refused_by_name() {
    let mut host = Host::new().await;
    host.run("sleep 1000").await;
    host.started().await;
    let refused = |answer| {
        let Some(FromNode::Refused(refusal)) = answer else {
            panic!("refused was expected: {answer:?}");
        };
        refusal
    };
    let (missing, epoch) = (container(9), Epoch(1));
    let mut absent = host.ask(StreamRequest::Stats { container: missing, epoch }).await;
    assert_eq!(refused(absent.next().await), StreamRefusal::NotHere(missing));
    let mut older =
        host.ask(StreamRequest::Stats { container: container(1), epoch: Epoch(0) }).await;
    assert_eq!(refused(older.next().await), StreamRefusal::OtherEpoch(container(1)));
    let datastore = DatastoreId::from_bytes([9; 16]);
    let mut away = host.ask(StreamRequest::LoadImages { datastore }).await;
    assert_eq!(refused(away.next().await), StreamRefusal::DatastoreUnreachable(datastore));
    let mut order = host.node.order("sleep 1000");
    Arc::make_mut(&mut order.spec).open_stdin = false;
    let orders = [
        (container(1), 1, host.node.run("sleep 1000")),
        (container(2), 1, Want::Run(Box::new(order))),
    ];
    host.node.obey(false, &orders).await;
    host.started().await;
    let from = OutputFrom::Start;
    let mut deaf =
        host.ask(StreamRequest::Attach { container: container(2), epoch, from, stdin: true }).await;
    assert_eq!(refused(deaf.next().await), StreamRefusal::NoStdin(container(2)));
}

#[actix_rt::test]
async fn one_stream_too_many_is_refused_and_a_closed_one_makes_room() {
    let mut host = Host::with(1).await;
    host.run("sleep 1000").await;
    host.started().await;
    let mut first = host.attach(OutputFrom::Start, false).await;
    first.accepted().await;
    let mut second = host.attach(OutputFrom::Start, false).await;
    assert_eq!(second.next().await, Some(FromNode::Refused(StreamRefusal::TooMany)));
    drop(first);
    let room = async {
        while host.attach(OutputFrom::Start, false).await.next().await != Some(FromNode::Accepted) {
        }
    };
    tokio::time::timeout(DEADLINE, room).await.expect("there is room again");
}

#[actix_rt::test]
async fn logs_are_read_when_nothing_runs_any_more() {
    let mut host = Host::new().await;
    host.run("print one; print two; exit 0").await;
    host.started().await;
    host.node.fact().await;
    let mut all = host.ask(host.logs(false, None)).await;
    all.accepted().await;
    assert_eq!(all.all().await, ("one\ntwo\n".into(), String::new(), FromNode::End));
    let mut last = host.ask(host.logs(true, Some(1))).await;
    last.accepted().await;
    assert_eq!(last.all().await.0, "two\n");
}

#[actix_rt::test]
async fn signals_sizes_and_samples_go_straight_to_the_container() {
    let mut host = Host::new().await;
    host.run("sleep 1000").await;
    host.started().await;
    let (id, epoch) = (container(1), Epoch(1));
    let size = StreamRequest::Resize { container: id, epoch, rows: 24, columns: 80 };
    let mut resize = host.ask(size).await;
    resize.accepted().await;
    assert_eq!(resize.next().await, Some(FromNode::End));
    let mut stats = host.ask(StreamRequest::Stats { container: id, epoch }).await;
    stats.accepted().await;
    assert!(matches!(stats.next().await, Some(FromNode::Stats(_))));
    assert_eq!(stats.next().await, Some(FromNode::End));
    let mut kill = host.ask(StreamRequest::Signal { container: id, epoch, signal: 9 }).await;
    kill.accepted().await;
    assert_eq!(kill.next().await, Some(FromNode::End));
    let Fact::VmExited { exit, .. } = host.node.fact().await else {
        panic!("a killed process exits");
    };
    assert_eq!(exit.code, 137);
}

#[test]
fn data_is_encoded_as_a_list_of_bytes_would_be() {
    let data = ToNode::Data(vec![7, 8]);
    assert_eq!(berth_wire::codec::encode(&data), [1, 2, 7, 8]);
    let bytes = berth_wire::codec::encode(&data);
    assert_eq!(berth_wire::codec::decode::<ToNode>(&bytes, 100).unwrap(), data);
}

async fn load(host: &Host, archive: &[u8]) -> (Vec<FromNode>, FromNode) {
    let datastore = host.machine.datastore.id;
    let mut client = host.ask(StreamRequest::LoadImages { datastore }).await;
    client.accepted().await;
    for piece in archive.chunks(100_000) {
        client.send(ToNode::Data(piece.to_vec())).await;
    }
    client.send(ToNode::Eof).await;
    let mut said = Vec::new();
    loop {
        let message = client.next().await.expect("the stream ends with a word");
        if matches!(message, FromNode::End | FromNode::Failed(_)) {
            return (said, message);
        }
        said.push(message);
    }
}

#[actix_rt::test]
async fn an_archive_becomes_an_image_on_the_datastore() {
    let host = Host::new().await;
    let (said, end) = load(&host, &crate::images::sample_archive()).await;
    assert_eq!(end, FromNode::End);
    assert!(said.iter().any(|m| matches!(m, FromNode::Progress { .. })), "{said:?}");
    let Some(FromNode::Loaded(image)) = said.last() else {
        panic!("{said:?}");
    };
    assert_eq!(image.references, ["sample:1"]);
    assert!(host.machine.datastore.base(image.id).is_file());
}

#[actix_rt::test]
async fn a_broken_archive_fails_with_words_for_the_client() {
    let host = Host::new().await;
    let (_, end) = load(&host, &crate::images::sample_archive()[..3000]).await;
    let FromNode::Failed(reason) = end else {
        panic!("half an archive is no image: {end:?}");
    };
    assert!(reason.contains("archive"), "{reason}");
}

#[actix_rt::test]
async fn only_schedulers_are_served() {
    let host = Host::new().await;
    let stranger = tls(&host.authority, &host.machine, Role::Client, "someone");
    let served = match stranger.connect(host.address, Role::Node).await {
        Ok((mut link, _)) => link.hello(&hello()).await.is_ok(),
        Err(_) => false,
    };
    assert!(!served);
}
