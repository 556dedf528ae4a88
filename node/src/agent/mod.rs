//! The agent: the one actor that owns every container VM of this host.
//!
//! ```text
//!  session ─ Obey ─► assignment ┐                         ┌─► vm::start, stop, kill
//!  VMs ───── facts ─► local ────┴─► assignment_diff ─ steps ─► discard
//!     └────► session (reports)                            └─► facts again
//!  streams ─ Locate ─► where a run's output lies, and its handle
//! ```
//!
//! Promises: it does what `assignment_diff` says and nothing else; no fact is lost between a VM and
//! the session; after a restart it adopts whatever runs before it obeys anyone. Does not: decide,
//! or wait for a disk: what blocks runs elsewhere and comes back as a message.

mod discard;
mod look;

pub use discard::sweep;

use crate::assignment_diff::{Ending, Local, Step, diff};
use crate::clock;
use crate::datastore::{Datastore, ReachedReader};
use crate::hypervisor::Hypervisor;
use crate::mailbox::{Mailbox, Posted};
use crate::session::{Orders, Report};
use crate::vm::{self, Phase, VmFacts, VmHandle, VmSettings};
use actix::{
    Actor, ActorFutureExt as _, Addr, AsyncContext as _, Context, Handler, Message, StreamHandler,
    WrapFuture as _,
};
use berth_metrics::node::NodeMetrics;
use berth_metrics::vm::VmMetrics;
use berth_model::assignment::Assignment;
use berth_model::{ContainerId, DatastoreId, Epoch, Exit, Fact};
use look::{Look, Wanted};
use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, watch};

const MAILBOX: usize = 1024;
/// Facts on their way from the VMs; a VM that finds it full waits, and nothing is lost.
const FACTS: usize = 1024;
/// What failed is tried again, and what was not taken is sent again, at each beat.
const BEAT: Duration = Duration::from_secs(1);
/// Ended runs that are remembered for streams after the assignment has forgotten them.
const REMEMBERED_MAX: usize = 4096;
/// Docker's code for a container that could not be started.
const NOT_STARTED: i32 = 128;

pub struct Surroundings {
    pub run_directory: PathBuf,
    pub datastores: ReachedReader,
    pub hypervisor: Arc<dyn Hypervisor>,
    pub vm_metrics: VmMetrics,
    pub metrics: NodeMetrics,
}

/// Whom facts go to; until then they wait.
#[derive(Message)]
#[rtype(result = "()")]
pub struct Introduce(pub Mailbox<Report>);

/// Where is this container VM?
#[derive(Message)]
#[rtype(result = "Option<Located>")]
pub struct Locate(pub ContainerId);

/// Its latest run on this host.
#[derive(Clone)]
pub struct Located {
    pub epoch: Epoch,
    /// Of the container VM on its datastore.
    pub directory: PathBuf,
    /// Gone once the run is over.
    pub run: Option<VmHandle>,
}

pub struct Agent {
    around: Surroundings,
    session: Option<Mailbox<Report>>,
    facts: VmFacts,
    /// Of this session; none before its first.
    assignment: Option<Arc<Assignment>>,
    local: BTreeMap<ContainerId, Local>,
    runs: BTreeMap<ContainerId, VmHandle>,
    /// How each ended run ended, as it was told.
    ends: BTreeMap<ContainerId, Fact>,
    places: BTreeMap<ContainerId, (Epoch, PathBuf)>,
    forgotten: VecDeque<ContainerId>,
    /// Discards that failed, to be tried again.
    undiscarded: BTreeMap<ContainerId, DatastoreId>,
    unsent: Vec<Fact>,
    /// Rises whenever [`Locate`] may answer otherwise.
    changes: watch::Sender<u64>,
}

impl Agent {
    /// Starts on the current arbiter and adopts `left`, the runs that an earlier node process left.
    pub fn start(
        around: Surroundings,
        mut left: Vec<VmSettings>,
    ) -> (Addr<Agent>, watch::Receiver<u64>) {
        // The newest epoch of a container is adopted last, and is its run.
        left.sort_by_key(|settings| (settings.container, settings.epoch));
        let (changes, changed) = watch::channel(0);
        let agent = Agent::create(|context| {
            context.set_mailbox_capacity(MAILBOX);
            let (facts, incoming) = mpsc::channel(FACTS);
            context.add_stream(futures_util::stream::unfold(incoming, |mut incoming| async {
                incoming.recv().await.map(|fact| (fact, incoming))
            }));
            let mut agent = Agent {
                around,
                session: None,
                facts,
                assignment: None,
                local: BTreeMap::new(),
                runs: BTreeMap::new(),
                ends: BTreeMap::new(),
                places: BTreeMap::new(),
                forgotten: VecDeque::new(),
                undiscarded: BTreeMap::new(),
                unsent: Vec::new(),
                changes,
            };
            left.into_iter().for_each(|settings| agent.adopt(settings));
            agent
        });
        (agent, changed)
    }

    fn adopt(&mut self, settings: VmSettings) {
        let (container, epoch) = (settings.container, settings.epoch);
        tracing::info!(container = container.short(), epoch = epoch.0, "run is adopted");
        let (hypervisor, facts) = (self.around.hypervisor.clone(), self.facts.clone());
        let handle = vm::adopt(settings, hypervisor, facts, self.around.vm_metrics.clone());
        if let Some(older) = self.runs.remove(&container) {
            older.kill();
            let_go(older);
        }
        self.local.insert(container, Local::Run { epoch, ending: Ending::NotAsked });
        self.hold(container, epoch, handle);
    }

    fn hold(&mut self, container: ContainerId, epoch: Epoch, handle: VmHandle) {
        let directory = handle.settings().directory.clone();
        self.places.insert(container, (epoch, directory));
        self.runs.insert(container, handle);
        self.changes.send_modify(|count| *count += 1);
    }

    /// Until nothing is left to do now. What is found out elsewhere comes back and settles again.
    fn settle(&mut self, context: &mut Context<Self>) {
        loop {
            let steps = diff(&self.local, self.assignment.as_deref());
            if steps.is_empty() {
                break;
            }
            for step in steps {
                if let Some(name) = step.name() {
                    self.around.metrics.step_taken(name);
                }
                self.carry_out(step, context);
            }
        }
        self.send();
    }

    fn carry_out(&mut self, step: Step, context: &mut Context<Self>) {
        match step {
            Step::Start { container, epoch, datastore, order } => {
                let run = Local::Run { epoch, ending: Ending::NotAsked };
                self.local.insert(container, run);
                self.ends.remove(&container);
                self.look(Wanted { container, epoch, datastore, order: *order }, context);
            }
            Step::Stop { container, order } => {
                self.say(container, Ending::Stopping(order));
            }
            Step::Kill { container } => self.say(container, Ending::Killed),
            Step::Discard { container, datastore } => {
                self.local.insert(container, Local::Discarding);
                self.discard(container, datastore, context);
            }
            Step::ReportExit { container, epoch } => {
                self.local.insert(container, Local::Ended { epoch, told: true });
                self.unsent.extend(self.ends.get(&container).cloned());
            }
            Step::ReportDiscarded { container } => {
                self.local.insert(container, Local::Discarded { told: true });
                self.unsent.push(Fact::Discarded { container });
            }
            Step::Forget { container } => self.forget(container),
        }
    }

    fn say(&mut self, container: ContainerId, said: Ending) {
        if let Some(Local::Run { ending, .. }) = self.local.get_mut(&container) {
            *ending = said;
        }
        // A run that is still looked for hears of it when it is found.
        if let Some(handle) = self.runs.get(&container) {
            end(handle, said);
        }
    }

    fn look(&mut self, wanted: Wanted, context: &mut Context<Self>) {
        let reached = self.around.datastores.borrow().clone();
        let run_directory = self.around.run_directory.clone();
        let (container, epoch) = (wanted.container, wanted.epoch);
        let looking = async move { look::look(&reached, &run_directory, wanted).await };
        context.spawn(looking.into_actor(self).map(move |look, actor, context| {
            actor.looked(container, epoch, look, context);
        }));
    }

    fn looked(
        &mut self,
        container: ContainerId,
        epoch: Epoch,
        look: Look,
        context: &mut Context<Self>,
    ) {
        let Some(Local::Run { epoch: current, ending }) = self.local.get(&container).cloned()
        else {
            return;
        };
        if current != epoch {
            return;
        }
        let (hypervisor, facts) = (self.around.hypervisor.clone(), self.facts.clone());
        let metrics = self.around.vm_metrics.clone();
        let handle = match look {
            Look::Fresh(_) if ending == Ending::Killed => {
                // Nobody wants it any more, and it never was.
                self.local.remove(&container);
                return self.settle(context);
            }
            Look::Fresh(settings) => vm::start(*settings, hypervisor, facts, metrics),
            Look::Traces(settings) => vm::adopt(*settings, hypervisor, facts, metrics),
            Look::Impossible(reason) => return self.failed(container, epoch, reason, context),
        };
        end(&handle, ending);
        self.hold(container, epoch, handle);
        self.settle(context);
    }

    fn failed(
        &mut self,
        container: ContainerId,
        epoch: Epoch,
        error: String,
        context: &mut Context<Self>,
    ) {
        tracing::error!(container = container.short(), epoch = epoch.0, error, "run is impossible");
        let exit = Exit { code: NOT_STARTED, oom_killed: false, error };
        let finished_at = clock::now();
        self.observed(Fact::VmStartFailed { container, epoch, exit, finished_at }, context);
    }

    fn observed(&mut self, fact: Fact, context: &mut Context<Self>) {
        match &fact {
            Fact::VmStarted { .. } | Fact::Discarded { .. } => {}
            Fact::VmExited { container, epoch, .. }
            | Fact::VmStartFailed { container, epoch, .. } => {
                self.ended(*container, *epoch, &fact);
            }
        }
        self.unsent.push(fact);
        self.settle(context);
    }

    fn ended(&mut self, container: ContainerId, epoch: Epoch, fact: &Fact) {
        match self.local.get(&container) {
            Some(Local::Run { epoch: current, .. }) if *current == epoch => {
                self.local.insert(container, Local::Ended { epoch, told: true });
                self.ends.insert(container, fact.clone());
                if let Some(handle) = self.runs.remove(&container) {
                    let_go(handle);
                }
                self.changes.send_modify(|count| *count += 1);
            }
            Some(
                Local::Run { .. }
                | Local::Ended { .. }
                | Local::Discarding
                | Local::Discarded { .. },
            )
            | None => {}
        }
    }

    fn discard(
        &mut self,
        container: ContainerId,
        datastore: DatastoreId,
        context: &mut Context<Self>,
    ) {
        let reached: Option<Arc<Datastore>> =
            self.around.datastores.borrow().get(&datastore).cloned();
        let Some(reached) = reached else {
            self.undiscarded.insert(container, datastore);
            let container = container.short();
            tracing::warn!(container, %datastore, "cannot discard: datastore is not reached");
            return;
        };
        let discarding = async move {
            let work = move || discard::discard(&reached, container);
            tokio::task::spawn_blocking(work).await.unwrap_or_else(|p| Err(io::Error::other(p)))
        };
        context.spawn(discarding.into_actor(self).map(
            move |outcome, actor, context| match outcome {
                Ok(found) => actor.discarded(container, found, context),
                Err(error) => {
                    tracing::warn!(container = container.short(), %error, "cannot discard yet");
                    actor.undiscarded.insert(container, datastore);
                }
            },
        ));
    }

    fn discarded(&mut self, container: ContainerId, found: bool, context: &mut Context<Self>) {
        if found {
            self.around.metrics.discarded.inc();
        }
        self.local.insert(container, Local::Discarded { told: true });
        self.ends.remove(&container);
        self.places.remove(&container);
        self.changes.send_modify(|count| *count += 1);
        self.unsent.push(Fact::Discarded { container });
        self.settle(context);
    }

    /// Streams may still ask for its output for a while.
    fn forget(&mut self, container: ContainerId) {
        self.local.remove(&container);
        self.ends.remove(&container);
        if self.places.contains_key(&container) {
            self.forgotten.push_back(container);
        }
        while self.forgotten.len() > REMEMBERED_MAX {
            if let Some(oldest) = self.forgotten.pop_front()
                && !self.local.contains_key(&oldest)
            {
                self.places.remove(&oldest);
            }
        }
    }

    /// A full mailbox leaves them for the next beat.
    fn send(&mut self) {
        let Some(session) = &self.session else {
            return;
        };
        if !self.unsent.is_empty() && session.post(Report(self.unsent.clone())) {
            self.unsent.clear();
        }
    }

    fn beat(&mut self, context: &mut Context<Self>) {
        for (container, datastore) in std::mem::take(&mut self.undiscarded) {
            self.discard(container, datastore, context);
        }
        self.send();
    }

    /// The next leader may not know what the last one was told.
    fn tell_anew(&mut self) {
        for local in self.local.values_mut() {
            match local {
                Local::Ended { told, .. } | Local::Discarded { told } => *told = false,
                Local::Run { .. } | Local::Discarding => {}
            }
        }
    }
}

/// Holds a run that is coming to its end until nothing of it is left: its actor stops with its last
/// handle.
fn let_go(handle: VmHandle) {
    actix_rt::spawn(async move {
        // An error means that the actor has stopped already.
        let _ = handle.phase().wait_for(|phase| *phase == Phase::Ended).await;
    });
}

fn end(handle: &VmHandle, ending: Ending) {
    match ending {
        Ending::NotAsked => {}
        Ending::Stopping(order) => handle.stop(order),
        Ending::Killed => handle.kill(),
    }
}

impl Actor for Agent {
    type Context = Context<Self>;

    fn started(&mut self, context: &mut Self::Context) {
        context.run_interval(BEAT, Self::beat);
    }
}

impl StreamHandler<Fact> for Agent {
    fn handle(&mut self, fact: Fact, context: &mut Self::Context) {
        self.observed(fact, context);
    }
}

impl Handler<Posted<Orders>> for Agent {
    type Result = ();

    fn handle(&mut self, posted: Posted<Orders>, context: &mut Self::Context) {
        match posted.take() {
            Orders::SessionLost => self.assignment = None,
            Orders::Obey { assignment, first } => {
                if first {
                    self.tell_anew();
                }
                self.assignment = Some(assignment);
                self.settle(context);
            }
        }
    }
}

impl Handler<Posted<Introduce>> for Agent {
    type Result = ();

    fn handle(&mut self, posted: Posted<Introduce>, _: &mut Self::Context) {
        self.session = Some(posted.take().0);
        self.send();
    }
}

impl Handler<Posted<Locate>> for Agent {
    type Result = Option<Located>;

    fn handle(&mut self, posted: Posted<Locate>, _: &mut Self::Context) -> Self::Result {
        let container = posted.take().0;
        let (epoch, directory) = self.places.get(&container)?.clone();
        let run = self.runs.get(&container).cloned();
        Some(Located { epoch, directory, run })
    }
}

#[cfg(test)]
mod tests;
