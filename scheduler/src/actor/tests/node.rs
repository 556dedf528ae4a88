//! A node that pretends: it registers, obeys at once, and reports what a real one would. What it
//! runs and has yet to report outlives its sessions, as on a real host.

use super::cell::TestCell;
use berth_model::container::Exit;
use berth_model::report::{Fact, Report};
use berth_model::session::{FromNode, FromScheduler, MESSAGE_MAX, PROTOCOL_MAX, PROTOCOL_MIN};
use berth_model::{
    Assignment, AssignmentUpdate, ContainerId, Epoch, HostFacts, HostId, Timestamp, Want,
};
use berth_wire::codec;
use berth_wire::hello::Hello;
use berth_wire::link::{Link, LinkError};
use berth_wire::tls::{Role, Tls};
use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::task::JoinHandle;

/// What the host holds and what the test may look at.
#[derive(Default)]
pub(super) struct Machine {
    pub assignment: Assignment,
    /// What ever ran here: a run that is in it twice was started twice.
    pub runs: Vec<(ContainerId, Epoch)>,
    ended: BTreeSet<(ContainerId, Epoch)>,
    unkept: BTreeMap<u64, Fact>,
    last_fact: u64,
    /// Names the doors through which a `Welcome` came.
    pub welcomes: Vec<SocketAddr>,
    pub redirects: u32,
    pub refusals: Vec<String>,
    /// Updates by whether they were whole.
    pub updates: Vec<bool>,
    /// Pretends that the next update does not fit.
    pub reject_next: bool,
    /// Every process ends at once with this code.
    pub exit_code: Option<i32>,
}

pub(super) struct FakeNode {
    tls: Tls,
    doors: Vec<SocketAddr>,
    facts: HostFacts,
    pub machine: Arc<Mutex<Machine>>,
    running: Option<JoinHandle<()>>,
}

impl FakeNode {
    pub fn start(cell: &TestCell, host: HostId, facts: HostFacts) -> FakeNode {
        let mut node = FakeNode {
            tls: cell.tls(Role::Node, &host.to_string()),
            doors: cell.doors(),
            facts,
            machine: Arc::default(),
            running: None,
        };
        node.resume();
        node
    }

    /// The node process is gone; what runs on the host goes on.
    pub fn kill(&mut self) {
        if let Some(running) = self.running.take() {
            running.abort();
        }
    }

    pub fn resume(&mut self) {
        let session = Session {
            tls: self.tls.clone(),
            doors: self.doors.clone(),
            facts: self.facts.clone(),
            machine: Arc::clone(&self.machine),
        };
        self.running = Some(tokio::spawn(session.run_for_ever()));
    }

    pub fn look<T>(&self, look: impl FnOnce(&mut Machine) -> T) -> T {
        look(&mut self.machine.lock().unwrap())
    }

    /// The process of a container VM ends by itself.
    pub fn end(&self, container: ContainerId, code: i32) {
        self.look(|machine| {
            let run = *machine.runs.iter().rev().find(|run| run.0 == container).unwrap();
            machine.end(run, code);
        });
    }
}

impl Drop for FakeNode {
    fn drop(&mut self) {
        self.kill();
    }
}

impl Machine {
    fn say(&mut self, fact: Fact) {
        self.last_fact += 1;
        self.unkept.insert(self.last_fact, fact);
    }

    fn obey(&mut self) {
        let orders = self.assignment.vms.clone();
        for (container, order) in orders {
            let run = (container, order.epoch);
            match order.want {
                Want::Run(_) | Want::Stop { .. } if !self.runs.contains(&run) => {
                    self.runs.push(run);
                    let (epoch, started_at) = (order.epoch, Timestamp(1));
                    self.say(Fact::VmStarted { container, epoch, started_at });
                    if let Some(code) = self.exit_code {
                        self.end(run, code);
                    }
                }
                Want::Run(_) => {}
                Want::Stop { order, .. } => self.end(run, 128 + i32::from(order.signal)),
                Want::Discard => {
                    if self.runs.contains(&run) {
                        self.end(run, 137);
                    }
                    self.say(Fact::Discarded { container });
                }
            }
        }
    }

    fn end(&mut self, run: (ContainerId, Epoch), code: i32) {
        if self.ended.insert(run) {
            let (container, epoch) = run;
            let exit = Exit { code, oom_killed: false, error: String::new() };
            self.say(Fact::VmExited { container, epoch, exit, finished_at: Timestamp(2) });
        }
    }

    fn take(&mut self, update: &AssignmentUpdate) -> FromNode {
        self.updates.push(update.base.is_none());
        if std::mem::take(&mut self.reject_next) {
            return FromNode::WholeWanted { reason: "pretended".to_owned() };
        }
        match self.assignment.updated(update, |id, order| codec::encode(&(id, order))) {
            Ok(next) => {
                self.assignment = next;
                self.obey();
                FromNode::Obeyed { generation: self.assignment.generation }
            }
            Err(error) => FromNode::WholeWanted { reason: error.to_string() },
        }
    }

    fn report(&self) -> Option<Report> {
        let (last, _) = self.unkept.last_key_value()?;
        Some(Report { last: *last, facts: self.unkept.values().cloned().collect() })
    }
}

struct Session {
    tls: Tls,
    doors: Vec<SocketAddr>,
    facts: HostFacts,
    machine: Arc<Mutex<Machine>>,
}

impl Session {
    async fn run_for_ever(self) {
        for door in self.doors.iter().cycle() {
            if let Ok(link) = dial(&self.tls, *door).await {
                // However it ended: dial the next one.
                let _ = self.serve(*door, link).await;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    async fn serve(&self, door: SocketAddr, mut link: Link) -> Result<(), LinkError> {
        let facts = Box::new(self.facts.clone());
        link.send(&FromNode::Register { facts, held: None }).await?;
        let (mut sender, mut receiver) = link.split();
        let mut reported = 0;
        let mut beat = tokio::time::interval(Duration::from_millis(50));
        let mut sequence = 0;
        let mut welcome = false;
        loop {
            let message = tokio::select! {
                message = receiver.receive::<FromScheduler>() => message?,
                _ = beat.tick() => {
                    sequence += 1;
                    sender.send(&FromNode::Heartbeat { sequence }).await?;
                    let report = self.machine.lock().unwrap().report();
                    if let Some(report) = report.filter(|report| welcome && report.last > reported) {
                        reported = report.last;
                        sender.send(&FromNode::Report(report)).await?;
                    }
                    continue;
                }
            };
            let answer = {
                let mut machine = self.machine.lock().unwrap();
                match message {
                    None => return Ok(()),
                    Some(FromScheduler::Redirect { .. }) => {
                        machine.redirects += 1;
                        return Ok(());
                    }
                    Some(FromScheduler::Refused { reason }) => {
                        machine.refusals.push(reason);
                        return Ok(());
                    }
                    Some(FromScheduler::Welcome { .. }) => {
                        machine.welcomes.push(door);
                        welcome = true;
                        None
                    }
                    Some(FromScheduler::Assignment(update)) => Some(machine.take(&update)),
                    Some(FromScheduler::Heard { .. }) => None,
                    Some(FromScheduler::ReportKept { last }) => {
                        machine.unkept.retain(|number, _| *number > last);
                        None
                    }
                }
            };
            if let Some(answer) = answer {
                sender.send(&answer).await?;
            }
        }
    }
}

pub(super) async fn dial(tls: &Tls, door: SocketAddr) -> Result<Link, LinkError> {
    let (mut link, _) = tls.connect(door, Role::Scheduler).await?;
    link.set_limit(MESSAGE_MAX);
    let hello = Hello {
        protocol_min: PROTOCOL_MIN,
        protocol_max: PROTOCOL_MAX,
        build: "pretended".to_owned(),
        features: Vec::new(),
    };
    link.hello(&hello).await?;
    Ok(link)
}
