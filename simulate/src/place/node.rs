//! A simulated node: the real session protocol over a real link, and no hypervisor behind it.
//!
//! Promises: it obeys as a node does: an older generation is refused, a step that does not fit is
//! answered by asking for the whole, facts are sent again until they are kept. Does not: run
//! anything: what it is told to run runs at once.

use crate::clock;
use berth_model::assignment::{UpdateError, Want};
use berth_model::container::Exit;
use berth_model::session::{FromNode, FromScheduler, MESSAGE_MAX, PROTOCOL_MAX, PROTOCOL_MIN};
use berth_model::{Assignment, ContainerId, Epoch, Fact, HostFacts, Report};
use berth_wire::codec;
use berth_wire::hello::Hello;
use berth_wire::link::{LinkError, LinkReceiver, LinkSender};
use berth_wire::tls::{Role, Tls};
use std::cell::Cell;
use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;
use tokio::sync::Semaphore;
use tokio::time::MissedTickBehavior;

const HEARTBEAT: Duration = Duration::from_secs(1);
const PAUSE: Duration = Duration::from_millis(200);
/// Nodes that dial at once: real ones do not share one machine's CPUs.
const DIALS: usize = 64;

/// What all nodes together did.
pub struct Tally {
    dials: Semaphore,
    /// Sessions that ended after their welcome.
    pub lost: Cell<u64>,
    /// Sessions that stand.
    pub sessions: Cell<u64>,
    /// Container VMs that run on all nodes.
    pub running: Cell<u64>,
}

impl Default for Tally {
    fn default() -> Self {
        let (lost, sessions, running) = Default::default();
        Tally { dials: Semaphore::new(DIALS), lost, sessions, running }
    }
}

pub struct Node {
    tls: Tls,
    facts: HostFacts,
    schedulers: Vec<(u64, SocketAddr)>,
    /// Which of them is dialled next.
    next: usize,
    tally: Rc<Tally>,
    held: Assignment,
    runs: Runs,
}

/// What runs here, and what is to be said of it.
#[derive(Debug, Default)]
struct Runs {
    running: BTreeMap<ContainerId, Epoch>,
    ended: BTreeMap<ContainerId, Epoch>,
    unkept: VecDeque<Report>,
    last: u64,
}

impl Runs {
    /// Makes it as the assignment says; there is a new report if that changed anything.
    fn obey(&mut self, assignment: &Assignment) -> Option<Report> {
        let mut facts = Vec::new();
        self.running.retain(|id, _| assignment.vms.contains_key(id));
        self.ended.retain(|id, _| assignment.vms.contains_key(id));
        for (container, order) in &assignment.vms {
            let (container, epoch) = (*container, order.epoch);
            match order.want {
                Want::Run(_) => {
                    let over = self.ended.get(&container) == Some(&epoch);
                    if !over && self.running.insert(container, epoch) != Some(epoch) {
                        let started_at = clock::wall();
                        facts.push(Fact::VmStarted { container, epoch, started_at });
                    }
                }
                Want::Stop { .. } => {
                    self.running.remove(&container);
                    if self.ended.insert(container, epoch) != Some(epoch) {
                        let exit = Exit { code: 0, oom_killed: false, error: String::new() };
                        let finished_at = clock::wall();
                        facts.push(Fact::VmExited { container, epoch, exit, finished_at });
                    }
                }
                Want::Discard => {
                    self.running.remove(&container);
                    facts.push(Fact::Discarded { container });
                }
            }
        }
        if facts.is_empty() {
            return None;
        }
        self.last += facts.len() as u64;
        let report = Report { last: self.last, facts };
        self.unkept.push_back(report.clone());
        Some(report)
    }

    fn kept(&mut self, last: u64) {
        while self.unkept.front().is_some_and(|report| report.last <= last) {
            self.unkept.pop_front();
        }
    }
}

/// Why a session ended.
enum End {
    Redirected(Option<u64>),
    Lost(String),
}

impl From<LinkError> for End {
    fn from(error: LinkError) -> Self {
        End::Lost(error.to_string())
    }
}

impl Node {
    pub fn new(
        tls: Tls,
        facts: HostFacts,
        schedulers: BTreeMap<u64, SocketAddr>,
        tally: Rc<Tally>,
    ) -> Node {
        let schedulers = schedulers.into_iter().collect();
        let (held, runs) = (Assignment::default(), Runs::default());
        Node { tls, facts, schedulers, next: 0, tally, held, runs }
    }

    /// Keeps a session with the leader for as long as this process runs.
    pub async fn run(mut self) {
        loop {
            match self.session().await {
                End::Redirected(leader) => {
                    let known = |(id, _): &(u64, SocketAddr)| Some(*id) == leader;
                    let next = self.schedulers.iter().position(known);
                    self.next = next.unwrap_or(self.next + 1);
                    if next.is_none() {
                        tokio::time::sleep(PAUSE).await;
                    }
                }
                End::Lost(reason) => {
                    tracing::debug!(host = self.facts.name, reason, "no session");
                    self.next += 1;
                    tokio::time::sleep(PAUSE).await;
                }
            }
        }
    }

    async fn session(&mut self) -> End {
        let tally = Rc::clone(&self.tally);
        let Ok(dial) = tally.dials.acquire().await else {
            return End::Lost("no more dialling".to_owned());
        };
        match self.register().await {
            Err(end) => end,
            Ok((sender, receiver)) => {
                drop(dial);
                tally.sessions.set(tally.sessions.get() + 1);
                let end = match self.serve(sender, receiver).await {
                    Ok(end) | Err(end) => end,
                };
                tally.sessions.set(tally.sessions.get() - 1);
                tally.lost.set(tally.lost.get() + 1);
                end
            }
        }
    }

    /// Dials and registers, up to the welcome.
    async fn register(&mut self) -> Result<(LinkSender, LinkReceiver), End> {
        let (_, address) = self.schedulers[self.next % self.schedulers.len()];
        let (mut link, _) = self.tls.connect(address, Role::Scheduler).await?;
        link.set_limit(MESSAGE_MAX);
        link.hello(&Hello {
            protocol_min: PROTOCOL_MIN,
            protocol_max: PROTOCOL_MAX,
            build: env!("CARGO_PKG_VERSION").to_owned(),
            features: Vec::new(),
        })
        .await?;
        let held = Some(self.held.generation);
        link.send(&FromNode::Register { facts: Box::new(self.facts.clone()), held }).await?;
        match link.receive::<FromScheduler>().await? {
            Some(FromScheduler::Welcome { .. }) => Ok(link.split()),
            Some(FromScheduler::Redirect { leader }) => Err(End::Redirected(leader)),
            Some(FromScheduler::Refused { reason }) => Err(End::Lost(reason)),
            Some(
                FromScheduler::Assignment(_)
                | FromScheduler::Heard { .. }
                | FromScheduler::ReportKept { .. },
            ) => Err(End::Lost("addressed before the welcome".to_owned())),
            None => Err(End::Lost("closed".to_owned())),
        }
    }

    async fn serve(
        &mut self,
        mut sender: LinkSender,
        mut receiver: LinkReceiver,
    ) -> Result<End, End> {
        for report in &self.runs.unkept {
            sender.send(&FromNode::Report(report.clone())).await?;
        }
        let mut beat = tokio::time::interval(HEARTBEAT);
        beat.set_missed_tick_behavior(MissedTickBehavior::Skip);
        let mut sequence = 0;
        loop {
            let message = tokio::select! {
                message = receiver.receive::<FromScheduler>() => message?,
                _ = beat.tick() => {
                    sequence += 1;
                    sender.send(&FromNode::Heartbeat { sequence }).await?;
                    continue;
                }
            };
            match message {
                None => return Ok(End::Lost("closed".to_owned())),
                Some(FromScheduler::Redirect { leader }) => return Ok(End::Redirected(leader)),
                Some(FromScheduler::Refused { reason }) => return Ok(End::Lost(reason)),
                Some(FromScheduler::Welcome { .. } | FromScheduler::Heard { .. }) => {}
                Some(FromScheduler::ReportKept { last }) => self.runs.kept(last),
                Some(FromScheduler::Assignment(update)) => {
                    let encode = |id: &_, order: &_| codec::encode(&(id, order));
                    match self.held.updated(&update, encode) {
                        Ok(next) => self.obey(next, &mut sender).await?,
                        Err(UpdateError::Older { .. }) => {}
                        Err(error @ (UpdateError::OtherBase { .. } | UpdateError::Digest(_))) => {
                            let reason = error.to_string();
                            sender.send(&FromNode::WholeWanted { reason }).await?;
                        }
                    }
                }
            }
        }
    }

    async fn obey(&mut self, next: Assignment, sender: &mut LinkSender) -> Result<(), End> {
        let generation = next.generation;
        self.held = next;
        let before = self.runs.running.len() as u64;
        let report = self.runs.obey(&self.held);
        let running = self.tally.running.get() + self.runs.running.len() as u64;
        self.tally.running.set(running.saturating_sub(before));
        sender.send(&FromNode::Obeyed { generation }).await?;
        if let Some(report) = report {
            sender.send(&FromNode::Report(report)).await?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use berth_model::assignment::{RunOrder, VmOrder};
    use berth_model::{DatastoreId, Generation, Permille};
    use std::sync::Arc;

    fn assignment(want: fn(Box<RunOrder>) -> Want) -> Assignment {
        let new = crate::made_up::MadeUp::new(1, 1, Permille(500), 1).container(0);
        let datastore = DatastoreId::from_bytes([1; 16]);
        let run = RunOrder {
            name: new.name,
            spec: Arc::new(new.spec),
            image_datastore: datastore,
            cpu_model: String::new(),
            numa: Vec::new(),
        };
        let order = VmOrder { epoch: Epoch(1), datastore, want: want(Box::new(run)) };
        Assignment { generation: Generation(1), vms: BTreeMap::from([(new.id, order)]) }
    }

    #[test]
    fn a_run_is_reported_once_and_until_it_is_kept() {
        let mut runs = Runs::default();
        let run = assignment(Want::Run);
        let report = runs.obey(&run).unwrap();
        assert!(matches!(report.facts[..], [Fact::VmStarted { .. }]));
        assert_eq!(runs.obey(&run), None);
        assert_eq!(runs.unkept.len(), 1);
        runs.kept(report.last);
        assert!(runs.unkept.is_empty());
        let discarded = runs.obey(&assignment(|_| Want::Discard)).unwrap();
        assert!(matches!(discarded.facts[..], [Fact::Discarded { .. }]));
        assert!(runs.running.is_empty());
    }
}
