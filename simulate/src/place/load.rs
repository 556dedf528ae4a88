//! Load on a scheduler: clients that each wait for their answer, and a look at every published
//! fleet to see when what was asked for had come true.

use super::{LIFE_BATCH, LIFE_IN_FLIGHT, Options, STALL};
use crate::clock::{self, milliseconds};
use crate::made_up::MadeUp;
use berth_model::command::{CommandBody, Principal};
use berth_model::{ContainerId, ContainerVm, VmState};
use berth_scheduler::{Fleet, Scheduler};
use futures_util::future::join_all;
use futures_util::stream::{self, StreamExt};
use serde::{Deserialize, Serialize};
use std::cell::RefCell;
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Instant;
use tokio::sync::Notify;

/// Of those that wait, the oldest so many are looked for in each published fleet: the planner
/// takes the oldest first, so that looking for all of them would only cost the leader its time.
const LOOKAHEAD: usize = 2048;

/// What a load came to.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Step {
    /// From submit to answer, of each accepted command.
    pub commit_ms: Vec<f64>,
    /// From the first submit to the last answer.
    pub commit_seconds: f64,
    /// From submit until the fleet showed what was asked for.
    pub reached_ms: Vec<f64>,
    /// From the first submit until the last was reached.
    pub reached_seconds: f64,
    pub failed: BTreeMap<String, u64>,
}

/// What single container VMs took, each alone.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Alone {
    /// Of creates and starts.
    pub commit_ms: Vec<f64>,
    /// From the create's submit until it had a datastore.
    pub placed_ms: Vec<f64>,
    /// From the create's submit until it ran.
    pub running_ms: Vec<f64>,
    pub failed: BTreeMap<String, u64>,
}

pub struct Load {
    pub scheduler: Scheduler,
    pub made_up: MadeUp,
    pub options: Options,
}

impl Load {
    pub async fn record_images(&self) -> Result<(), String> {
        for image in self.made_up.images() {
            self.submit(CommandBody::RecordImage(Box::new(image))).await?;
        }
        Ok(())
    }

    pub async fn create(&self, from: u32, to: u32) -> Step {
        let body = |number| {
            let new = self.made_up.container(number);
            (new.id, CommandBody::CreateContainer(Box::new(new)))
        };
        self.flood(from, to, body, is_placed).await
    }

    pub async fn start(&self, from: u32, to: u32) -> Step {
        let body = |number| {
            let id = self.made_up.container_id(number);
            (id, CommandBody::StartContainer { id })
        };
        self.flood(from, to, body, is_running).await
    }

    pub async fn one_at_a_time(&self, from: u32, to: u32) -> Alone {
        let mut alone = Alone::default();
        for number in from..to {
            if let Err(reason) = self.one(number, &mut alone).await {
                *alone.failed.entry(reason).or_default() += 1;
            }
        }
        alone
    }

    async fn one(&self, number: u32, alone: &mut Alone) -> Result<(), String> {
        let new = self.made_up.container(number);
        let id = new.id;
        let began = clock::now();
        self.submit(CommandBody::CreateContainer(Box::new(new))).await?;
        alone.commit_ms.push(milliseconds(began.elapsed()));
        self.reached(id, is_placed).await?;
        alone.placed_ms.push(milliseconds(began.elapsed()));
        let starting = clock::now();
        self.submit(CommandBody::StartContainer { id }).await?;
        alone.commit_ms.push(milliseconds(starting.elapsed()));
        self.reached(id, is_running).await?;
        alone.running_ms.push(milliseconds(began.elapsed()));
        Ok(())
    }

    async fn reached(
        &self,
        id: ContainerId,
        is_so: fn(&ContainerVm) -> bool,
    ) -> Result<(), String> {
        let mut fleets = self.scheduler.watch();
        let reached = fleets.wait_for(|fleet| fleet.container(id).is_some_and(is_so));
        match tokio::time::timeout(STALL, reached).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(_)) => Err("the replica stopped".to_owned()),
            Err(_) => Err("it was not placed or did not run in time".to_owned()),
        }
    }

    pub(super) async fn submit(&self, body: CommandBody) -> Result<(), String> {
        self.submit_as(Principal::Local, self.endpoint(), body).await
    }

    async fn flood(
        &self,
        from: u32,
        to: u32,
        body: impl Fn(u32) -> (ContainerId, CommandBody),
        is_so: fn(&ContainerVm) -> bool,
    ) -> Step {
        let tracker = Tracker::default();
        let began = clock::now();
        let numbers: Vec<u32> = (from..to).collect();
        let bursts = numbers.chunks(LIFE_BATCH);
        let (tracker, body) = (&tracker, &body);
        let load = async {
            stream::iter(bursts)
                .for_each_concurrent(LIFE_IN_FLIGHT, |burst| async move {
                    let commands = burst.iter().map(|number| async move {
                        let (id, body) = body(*number);
                        let submitted = clock::now();
                        tracker.submitted(id, submitted);
                        match self.submit(body).await {
                            Ok(()) => tracker.committed(submitted),
                            Err(reason) => tracker.failed(id, reason),
                        }
                    });
                    join_all(commands).await;
                })
                .await;
            tracker.step.borrow_mut().commit_seconds = began.elapsed().as_secs_f64();
            tracker.all_answered();
        };
        tokio::join!(load, tracker.follow(self.scheduler.watch(), is_so));
        let mut step = tracker.step.borrow().clone();
        step.reached_seconds =
            tracker.last_reached.borrow().map_or(0.0, |at| (at - began).as_secs_f64());
        step
    }
}

fn is_placed(vm: &ContainerVm) -> bool {
    vm.datastore.is_some()
}

fn is_running(vm: &ContainerVm) -> bool {
    match vm.state {
        VmState::Running { .. } => true,
        VmState::Pending { .. }
        | VmState::Created
        | VmState::Waiting { .. }
        | VmState::Starting { .. }
        | VmState::Exited { .. }
        | VmState::Removing { .. } => false,
    }
}

#[derive(Default)]
struct Tracker {
    step: RefCell<Step>,
    /// Submitted, and not yet seen as asked for.
    waiting: RefCell<VecDeque<(ContainerId, Instant)>>,
    last_reached: RefCell<Option<Instant>>,
    answered: RefCell<bool>,
    changed: Notify,
}

impl Tracker {
    fn submitted(&self, id: ContainerId, at: Instant) {
        self.waiting.borrow_mut().push_back((id, at));
    }

    fn committed(&self, submitted: Instant) {
        self.step.borrow_mut().commit_ms.push(milliseconds(submitted.elapsed()));
    }

    fn failed(&self, id: ContainerId, reason: String) {
        self.waiting.borrow_mut().retain(|(waiting, _)| *waiting != id);
        *self.step.borrow_mut().failed.entry(reason).or_default() += 1;
    }

    fn all_answered(&self) {
        *self.answered.borrow_mut() = true;
        self.changed.notify_one();
    }

    /// Until all are reached, or nothing comes on any more.
    async fn follow(
        &self,
        mut fleets: tokio::sync::watch::Receiver<Arc<Fleet>>,
        is_so: fn(&ContainerVm) -> bool,
    ) {
        let mut progress = clock::now();
        loop {
            let fleet = Arc::clone(&fleets.borrow_and_update());
            if self.look(&fleet, is_so) {
                progress = clock::now();
            }
            if *self.answered.borrow() && self.waiting.borrow().is_empty() {
                return;
            }
            let left = STALL.saturating_sub(progress.elapsed());
            tokio::select! {
                changed = fleets.changed() => if changed.is_err() { break },
                () = self.changed.notified() => {}
                () = tokio::time::sleep(left) => break,
            }
        }
        let stalled = self.waiting.borrow().len() as u64;
        let reason = "it was not placed or did not run in time".to_owned();
        self.step.borrow_mut().failed.insert(reason, stalled);
    }

    /// Whether any was reached since the last look.
    fn look(&self, fleet: &Fleet, is_so: fn(&ContainerVm) -> bool) -> bool {
        let now = clock::now();
        let (mut waiting, mut step) = (self.waiting.borrow_mut(), self.step.borrow_mut());
        let looked_at = waiting.len().min(LOOKAHEAD);
        let oldest: Vec<(ContainerId, Instant)> = waiting.drain(..looked_at).collect();
        let before = step.reached_ms.len();
        for (id, submitted) in oldest.into_iter().rev() {
            if fleet.container(id).is_some_and(is_so) {
                step.reached_ms.push(milliseconds(now.saturating_duration_since(submitted)));
            } else {
                waiting.push_front((id, submitted));
            }
        }
        let any = step.reached_ms.len() > before;
        if any {
            *self.last_reached.borrow_mut() = Some(now);
        }
        any
    }
}
