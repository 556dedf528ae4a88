//! The session against a scheduler that the test plays, over real links.

use super::*;
use berth_model::assignment::{VmOrder, Want};
use berth_model::host::{Accelerator, Supply};
use berth_model::{
    Bytes, CellId, ContainerId, DatastoreId, Epoch, Generation, Incarnation, MilliCpus, Resources,
};
use berth_wire::codec;
use berth_wire::identity::{Identity, Role};
use berth_wire::link::Link;
use berth_wire::pki::Authority;
use tempfile::TempDir;
use tokio::net::TcpListener;

const CELL: CellId = CellId::from_bytes([7; 16]);
const DEADLINE: Duration = Duration::from_secs(20);

fn facts(name: &str) -> HostFacts {
    HostFacts {
        name: name.into(),
        cluster: "main".into(),
        capacity: Resources { cpu: MilliCpus(2000), memory: Bytes::gib(4) },
        accelerator: Accelerator::Simulated,
        vm_overhead: Bytes::mib(64),
        datastores: BTreeMap::new(),
        stream_address: "127.0.0.1:1".into(),
        boot_id: "boot".into(),
        kernel: "kernel".into(),
        hypervisor: "none".into(),
        build: crate::BUILD.into(),
        labels: BTreeMap::new(),
        supply: Supply::default(),
    }
}

/// Plays the agent: hands on what it is told.
struct Listener(mpsc::UnboundedSender<Orders>);

impl Actor for Listener {
    type Context = Context<Self>;
}

impl Handler<Posted<Orders>> for Listener {
    type Result = ();
    fn handle(&mut self, posted: Posted<Orders>, _: &mut Self::Context) {
        self.0.send(posted.take()).unwrap();
    }
}

struct Stage {
    directory: TempDir,
    authority: Authority,
    listeners: Vec<TcpListener>,
    scheduler: Tls,
    metrics: NodeMetrics,
}

struct Node {
    session: Addr<Session>,
    orders: mpsc::UnboundedReceiver<Orders>,
    reports: Mailbox<Report>,
}

impl Stage {
    async fn new(replicas: usize) -> Stage {
        let directory = tempfile::tempdir().unwrap();
        let authority = Authority::create("cell", directory.path()).unwrap();
        let mut listeners = Vec::new();
        for _ in 0..replicas {
            listeners.push(TcpListener::bind("127.0.0.1:0").await.unwrap());
        }
        let scheduler = tls(&authority, &directory, Role::Scheduler, "1");
        let metrics = NodeMetrics::register(&berth_metrics::Registry::new()).unwrap();
        Stage { directory, authority, listeners, scheduler, metrics }
    }

    fn node(&self) -> Node {
        let (sender, orders) = mpsc::unbounded_channel();
        let agent = Listener(sender).start();
        let addresses = self.listeners.iter().map(|listener| listener.local_addr().unwrap());
        let around = Surroundings {
            tls: tls(&self.authority, &self.directory, Role::Node, "host-1"),
            schedulers: addresses.enumerate().map(|(id, a)| (id as u64 + 1, a)).collect(),
            state_directory: self.directory.path().to_owned(),
            floor: load_floor(self.directory.path()).unwrap(),
            agent: Mailbox::new(&agent, self.metrics.mailbox("agent")),
            metrics: self.metrics.clone(),
        };
        let session = Session::start(around, facts("host-1"));
        let reports = Mailbox::new(&session, self.metrics.mailbox("session"));
        Node { session, orders, reports }
    }

    /// Waits until the node dials this replica, and hears its registration.
    async fn meet(&self, replica: usize) -> (Link, HostFacts) {
        let meeting = async {
            let (tcp, _) = self.listeners[replica - 1].accept().await.unwrap();
            let (mut link, peer) = self.scheduler.accept(tcp, &[Role::Node]).await.unwrap();
            assert_eq!(peer.id, "host-1");
            link.hello(&link::hello()).await.unwrap();
            let first = link.receive().await.unwrap().unwrap();
            let FromNode::Register { facts, .. } = first else {
                panic!("the first message registers: {first:?}");
            };
            (link, *facts)
        };
        tokio::time::timeout(DEADLINE, meeting).await.expect("the node dials")
    }

    async fn welcome(&self, replica: usize) -> Link {
        let (mut link, _) = self.meet(replica).await;
        let incarnation = Incarnation(0);
        let welcome = FromScheduler::Welcome { cell: CELL, incarnation, silent_after_ms: 5000 };
        link.send(&welcome).await.unwrap();
        link
    }
}

fn tls(authority: &Authority, directory: &TempDir, role: Role, id: &str) -> Tls {
    let identity = Identity::new("cell", role, id);
    let stem = format!("{role}-{id}");
    let files = authority.issue_files(&identity, &["127.0.0.1"], directory.path(), &stem).unwrap();
    Tls::load(&files).unwrap()
}

/// The next message that is no heartbeat.
async fn next(link: &mut Link) -> FromNode {
    let receiving = async {
        loop {
            let message = link.receive().await.unwrap().expect("the node keeps the link");
            if !matches!(message, FromNode::Heartbeat { .. }) {
                return message;
            }
        }
    };
    tokio::time::timeout(DEADLINE, receiving).await.expect("the node says something")
}

async fn ordered(node: &mut Node) -> Orders {
    tokio::time::timeout(DEADLINE, node.orders.recv()).await.expect("orders come").unwrap()
}

fn fact(number: u8) -> Fact {
    Fact::Discarded { container: ContainerId::from_bytes([number; 32]) }
}

fn assignment(generation: u64, containers: &[u8]) -> Assignment {
    let order = |number: &u8| {
        let datastore = DatastoreId::from_bytes([2; 16]);
        let order = VmOrder { epoch: Epoch(1), datastore, want: Want::Discard };
        (ContainerId::from_bytes([*number; 32]), order)
    };
    Assignment { generation: Generation(generation), vms: containers.iter().map(order).collect() }
}

fn update(from: Option<&Assignment>, to: &Assignment) -> FromScheduler {
    let update = to.update_from(from, |id, order| codec::encode(&(id, order)));
    FromScheduler::Assignment(Box::new(update))
}

#[actix_rt::test]
async fn a_follower_sends_the_node_on_to_the_leader() {
    let stage = Stage::new(3).await;
    let _node = stage.node();
    let first =
        futures_util::future::select_all((1..=3).map(|replica| Box::pin(stage.meet(replica))));
    let ((mut link, facts), position, _) = first.await;
    assert_eq!(facts.name, "host-1");
    let leader = (position + 1) % 3 + 1;
    link.send(&FromScheduler::Redirect { leader: Some(leader as u64) }).await.unwrap();
    let mut link = stage.welcome(leader).await;
    let beat = link.receive::<FromNode>().await.unwrap().unwrap();
    assert_eq!(beat, FromNode::Heartbeat { sequence: 1 });
}

#[actix_rt::test]
async fn assignments_are_obeyed_and_acknowledged_and_older_ones_refused() {
    let stage = Stage::new(1).await;
    let mut node = stage.node();
    let mut link = stage.welcome(1).await;
    let (first, second) = (assignment(5, &[1]), assignment(8, &[1, 2]));
    link.send(&update(None, &first)).await.unwrap();
    assert_eq!(next(&mut link).await, FromNode::Obeyed { generation: Generation(5) });
    link.send(&update(Some(&first), &second)).await.unwrap();
    assert_eq!(next(&mut link).await, FromNode::Obeyed { generation: Generation(8) });
    for (expected, is_first) in [(&first, true), (&second, false)] {
        match ordered(&mut node).await {
            Orders::Obey { assignment, first } => {
                assert_eq!((assignment.as_ref(), first), (expected, is_first));
            }
            Orders::SessionLost => panic!("the session stands"),
        }
    }
    link.send(&update(Some(&first), &assignment(9, &[]))).await.unwrap();
    assert!(matches!(next(&mut link).await, FromNode::WholeWanted { .. }));
    link.send(&update(None, &assignment(7, &[]))).await.unwrap();
    let FromNode::WholeWanted { reason } = next(&mut link).await else {
        panic!("a leader that is behind is asked again");
    };
    assert!(reason.contains('8'), "{reason}");
    link.send(&update(None, &assignment(9, &[]))).await.unwrap();
    assert_eq!(next(&mut link).await, FromNode::Obeyed { generation: Generation(9) });
}

#[actix_rt::test]
async fn a_restarted_node_refuses_what_is_older_than_it_obeyed_before() {
    let stage = Stage::new(1).await;
    let node = stage.node();
    let mut link = stage.welcome(1).await;
    link.send(&update(None, &assignment(5, &[1]))).await.unwrap();
    next(&mut link).await;
    let kept = async {
        let generation = || load_floor(stage.directory.path()).unwrap().map(|f| f.generation);
        while generation() != Some(Generation(5)) {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(DEADLINE, kept).await.expect("the floor is kept");
    // The first node's process is gone, as far as the second can tell.
    drop((node, link));
    let _again = stage.node();
    let mut link = stage.welcome(1).await;
    link.send(&update(None, &assignment(4, &[1, 2]))).await.unwrap();
    assert!(matches!(next(&mut link).await, FromNode::WholeWanted { .. }));
    link.send(&update(None, &assignment(6, &[1]))).await.unwrap();
    assert_eq!(next(&mut link).await, FromNode::Obeyed { generation: Generation(6) });
}

#[actix_rt::test]
async fn reports_are_sent_again_in_the_next_session_until_they_are_kept() {
    let stage = Stage::new(1).await;
    let mut node = stage.node();
    let mut link = stage.welcome(1).await;
    assert!(node.reports.post(Report(vec![fact(1), fact(2)])));
    let both = berth_model::Report { last: 2, facts: vec![fact(1), fact(2)] };
    assert_eq!(next(&mut link).await, FromNode::Report(both.clone()));
    drop(link);
    assert!(matches!(ordered(&mut node).await, Orders::SessionLost));
    let mut link = stage.welcome(1).await;
    assert_eq!(next(&mut link).await, FromNode::Report(both));
    link.send(&FromScheduler::ReportKept { last: 2 }).await.unwrap();
    assert!(node.reports.post(Report(vec![fact(3)])));
    let third = berth_model::Report { last: 3, facts: vec![fact(3)] };
    assert_eq!(next(&mut link).await, FromNode::Report(third));
}

#[actix_rt::test]
async fn changed_facts_are_told_and_unchanged_ones_are_not() {
    let stage = Stage::new(1).await;
    let node = stage.node();
    let mut link = stage.welcome(1).await;
    let mailbox: Mailbox<FactsGathered> =
        Mailbox::new(&node.session, stage.metrics.mailbox("session"));
    assert!(mailbox.post(FactsGathered(Box::new(facts("host-1")))));
    let changed = HostFacts { boot_id: "another".into(), ..facts("host-1") };
    assert!(mailbox.post(FactsGathered(Box::new(changed.clone()))));
    assert_eq!(next(&mut link).await, FromNode::Facts(Box::new(changed)));
}

#[actix_rt::test]
async fn a_leader_that_falls_silent_is_left_for_another() {
    let stage = Stage::new(1).await;
    let mut node = stage.node();
    let (mut link, _) = stage.meet(1).await;
    let incarnation = Incarnation(0);
    let welcome = FromScheduler::Welcome { cell: CELL, incarnation, silent_after_ms: 3000 };
    link.send(&welcome).await.unwrap();
    // Answered beats keep the session; then nothing is heard any more, and the link stands still.
    let mut beats = 0;
    while let Some(FromNode::Heartbeat { sequence }) = link.receive().await.unwrap_or(None) {
        beats = sequence;
        if sequence <= 4 {
            link.send(&FromScheduler::Heard { sequence }).await.unwrap();
        }
    }
    assert_eq!(beats, 7);
    assert!(matches!(ordered(&mut node).await, Orders::SessionLost));
    stage.welcome(1).await;
}

#[actix_rt::test]
async fn a_refusal_is_tried_again() {
    let stage = Stage::new(1).await;
    let _node = stage.node();
    let (mut link, _) = stage.meet(1).await;
    let refused = FromScheduler::Refused { reason: "no cluster named `main`".into() };
    link.send(&refused).await.unwrap();
    stage.welcome(1).await;
}

#[actix_rt::test]
async fn a_peer_that_is_no_scheduler_gets_no_registration() {
    let mut stage = Stage::new(1).await;
    stage.scheduler = tls(&stage.authority, &stage.directory, Role::Client, "someone");
    let _node = stage.node();
    let (tcp, _) = stage.listeners[0].accept().await.unwrap();
    let accepted = stage.scheduler.accept(tcp, &[Role::Node]).await;
    let heard = match accepted {
        Err(_) => None,
        Ok((mut link, _)) => link.hello(&link::hello()).await.ok(),
    };
    assert_eq!(heard, None);
}
