//! For tests: a host with a simulated hypervisor, a datastore and an agent, but no schedulers.

use crate::agent::{Agent, Introduce, Locate, Surroundings};
use crate::datastore::{Datastore, DatastoreOptions, Reached};
use crate::hypervisor::simulated::Simulated;
use crate::mailbox::{Mailbox, Posted};
use crate::session::{Orders, Report};
use crate::vm::{saved_settings, scripted};
use actix::{Actor, Addr, Context, Handler};
use berth_metrics::Registry;
use berth_metrics::node::NodeMetrics;
use berth_metrics::vm::VmMetrics;
use berth_model::assignment::{Assignment, RunOrder, VmOrder, Want};
use berth_model::{ContainerId, DatastoreId, Epoch, Fact, Generation};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tempfile::TempDir;
use tokio::sync::{mpsc, watch};

pub const DEADLINE: Duration = Duration::from_secs(20);

/// What outlives a node process.
pub struct Machine {
    pub directory: TempDir,
    pub datastore: Arc<Datastore>,
    pub hypervisor: Arc<Simulated>,
}

/// One node process on it, as far as its agent goes.
pub struct Stage {
    pub agent: Addr<Agent>,
    pub changes: watch::Receiver<u64>,
    pub datastores: watch::Sender<Arc<Reached>>,
    pub metrics: NodeMetrics,
    facts: mpsc::UnboundedReceiver<Fact>,
    orders: Mailbox<Orders>,
    datastore: DatastoreId,
    generation: u64,
}

/// Plays the session: hands on what it is to report.
struct Listener(mpsc::UnboundedSender<Fact>);

impl Actor for Listener {
    type Context = Context<Self>;
}

impl Handler<Posted<Report>> for Listener {
    type Result = ();
    fn handle(&mut self, posted: Posted<Report>, _: &mut Self::Context) {
        for fact in posted.take().0 {
            // The test may have seen enough.
            let _ = self.0.send(fact);
        }
    }
}

impl Machine {
    pub fn new() -> Machine {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("store");
        std::fs::create_dir(&path).unwrap();
        let options =
            DatastoreOptions { name: "local".into(), path, ..DatastoreOptions::default() };
        let datastore = Arc::new(Datastore::register(&options).unwrap());
        Machine { directory, datastore, hypervisor: Arc::new(Simulated::default()) }
    }

    pub fn run_directory(&self) -> PathBuf {
        self.directory.path().join("run")
    }

    pub async fn node(&self) -> Stage {
        let registry = Registry::new();
        let metrics = NodeMetrics::register(&registry).unwrap();
        let reached = Reached::from([(self.datastore.id, self.datastore.clone())]);
        let (datastores, reader) = watch::channel(Arc::new(reached));
        let around = Surroundings {
            run_directory: self.run_directory(),
            datastores: reader,
            hypervisor: self.hypervisor.clone(),
            vm_metrics: VmMetrics::register(&registry).unwrap(),
            metrics: metrics.clone(),
        };
        let left = saved_settings(&self.run_directory()).await.unwrap();
        let (agent, changes) = Agent::start(around, left);
        let (sender, facts) = mpsc::unbounded_channel();
        let listener = Listener(sender).start();
        let reports = Mailbox::new(&listener, metrics.mailbox("session"));
        Mailbox::new(&agent, metrics.mailbox("agent")).ask(Introduce(reports)).await.unwrap();
        let orders = Mailbox::new(&agent, metrics.mailbox("agent"));
        let datastore = self.datastore.id;
        Stage { agent, changes, datastores, metrics, facts, orders, datastore, generation: 0 }
    }
}

impl Stage {
    /// Gives the agent an assignment.
    pub async fn obey(&mut self, first: bool, orders: &[(ContainerId, u64, Want)]) {
        self.generation += 1;
        let order = |(container, epoch, want): &(ContainerId, u64, Want)| {
            let (epoch, want) = (Epoch(*epoch), want.clone());
            (*container, VmOrder { epoch, datastore: self.datastore, want })
        };
        let vms = orders.iter().map(order).collect();
        let assignment = Assignment { generation: Generation(self.generation), vms };
        let orders = Orders::Obey { assignment: Arc::new(assignment), first };
        self.orders.ask(orders).await.unwrap();
    }

    pub async fn lose_session(&self) {
        self.orders.ask(Orders::SessionLost).await.unwrap();
    }

    pub fn run(&self, script: &str) -> Want {
        Want::Run(Box::new(self.order(script)))
    }

    pub fn order(&self, script: &str) -> RunOrder {
        RunOrder {
            name: "name".into(),
            spec: scripted(script).into(),
            image_datastore: self.datastore,
            cpu_model: "Nehalem".into(),
            numa: vec![],
        }
    }

    /// The next fact that is reported.
    pub async fn fact(&mut self) -> Fact {
        tokio::time::timeout(DEADLINE, self.facts.recv()).await.expect("a fact comes").unwrap()
    }

    pub fn no_fact(&mut self) -> bool {
        self.facts.try_recv().is_err()
    }

    pub fn locator(&self) -> Mailbox<Locate> {
        Mailbox::new(&self.agent, self.metrics.mailbox("agent"))
    }
}

pub fn container(number: u8) -> ContainerId {
    ContainerId::from_bytes([number; 32])
}
