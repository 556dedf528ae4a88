//! The actor of one run: takes events, steps the lifecycle, carries out what it says.
//!
//! It decides nothing. Each action is a function that starts something; each thing that was started ends in
//! an event. The actor's own mailbox is not used: wishes come through a watch, news through a bounded
//! channel, everything else through futures that the actor itself spawned.

mod machine;
mod telling;

use super::guest_link::{self, Queues};
use super::handle::{Phase, VmHandle, Wishes};
use super::lifecycle::{self, Action, Event, Order, State, Timer};
use super::translation::phase_of;
use super::{VmFacts, VmSettings};
use crate::hypervisor::{BootSlot, Hypervisor, LaunchPlan, RunningVm};
use actix::prelude::*;
use berth_metrics::vm::VmMetrics;
use berth_model::guest::HostToGuest;
use berth_model::{Fact, Timestamp};
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;

/// Requests and pieces of stdin that wait for the link; who sends more waits.
const REQUESTS: usize = 32;
const STDIN_PIECES: usize = 4;
/// Between looks at what the machine costs and at files that its guest makes grow.
const BEAT: Duration = Duration::from_secs(10);

pub fn spawn(
    settings: VmSettings,
    hypervisor: Arc<dyn Hypervisor>,
    facts: VmFacts,
    metrics: VmMetrics,
    first: Event,
) -> VmHandle {
    let settings = Arc::new(settings);
    let (wishes, wished) = watch::channel(Wishes::default());
    let (requests, requests_end) = mpsc::channel(REQUESTS);
    let (stdin, stdin_end) = mpsc::channel(STDIN_PIECES);
    let adopted = first == Event::Adopt;
    let (phase, phase_end) =
        watch::channel(if adopted { Phase::Adopting } else { Phase::Preparing });
    let (machine, machine_end) = watch::channel(None);
    let handle = VmHandle {
        settings: settings.clone(),
        wishes: Arc::new(wishes),
        requests: requests.clone(),
        stdin,
        phase: phase_end,
        machine: machine_end,
    };
    let actor = VmActor {
        plan: settings.plan(),
        container: settings.container.to_string(),
        settings,
        hypervisor,
        facts,
        metrics,
        state: State::New,
        first: Some(first),
        adopted,
        wished,
        obeyed: Wishes::default(),
        requests,
        queues: Some(Queues { requests: requests_end, stdin: stdin_end }),
        link: None,
        slot: None,
        timers: BTreeMap::new(),
        outbox: VecDeque::new(),
        telling: false,
        started_at: None,
        marks: Marks::default(),
        phase,
        shown: None,
        machine,
        let_go: false,
    };
    // The handle's sender of requests is the one that counts; the actor's own is for its messages.
    actor.start();
    handle
}

struct VmActor {
    settings: Arc<VmSettings>,
    plan: LaunchPlan,
    container: String,
    hypervisor: Arc<dyn Hypervisor>,
    facts: VmFacts,
    metrics: VmMetrics,
    state: State,
    /// Taken when the actor starts.
    first: Option<Event>,
    adopted: bool,
    wished: watch::Receiver<Wishes>,
    obeyed: Wishes,
    requests: mpsc::Sender<guest_link::Request>,
    /// Taken by the link.
    queues: Option<Queues>,
    link: Option<tokio::task::JoinHandle<()>>,
    slot: Option<BootSlot>,
    timers: BTreeMap<Timer, SpawnHandle>,
    outbox: VecDeque<Fact>,
    telling: bool,
    started_at: Option<Timestamp>,
    marks: Marks,
    phase: watch::Sender<Phase>,
    /// The state that the metrics show.
    shown: Option<&'static str>,
    machine: watch::Sender<Option<Arc<dyn RunningVm>>>,
    /// Every handle is gone.
    let_go: bool,
}

/// When parts of a start began.
#[derive(Default)]
struct Marks {
    begun: Option<Instant>,
    part: Option<Instant>,
}

impl Actor for VmActor {
    type Context = Context<Self>;

    fn started(&mut self, context: &mut Self::Context) {
        self.wait_for_wishes(context);
        context.run_interval(BEAT, |actor, context| actor.look(context));
        self.marks.begun = Some(Instant::now());
        if let Some(first) = self.first.take() {
            self.event(first, context);
        }
    }
}

impl Drop for VmActor {
    fn drop(&mut self) {
        if let Some(link) = self.link.take() {
            link.abort();
        }
        self.metrics.moved(self.shown.take(), None);
        self.metrics.forget(&self.container, &self.settings.order.name);
        if self.machine.send_replace(None).is_some() {
            self.metrics.machine_runs(false);
        }
    }
}

impl VmActor {
    fn event(&mut self, event: Event, context: &mut Context<Self>) {
        let (settings, state) = (&self.settings, std::mem::replace(&mut self.state, State::New));
        tracing::debug!(container = %settings.container, epoch = settings.epoch.0, ?event, "event");
        let deadlines = self.hypervisor.deadlines();
        let (state, actions) = lifecycle::step(state, event, crate::clock::now(), &deadlines);
        self.state = state;
        self.show();
        for action in actions {
            self.carry_out(action, context);
        }
        self.leave_if_let_go(context);
    }

    fn carry_out(&mut self, action: Action, context: &mut Context<Self>) {
        match action {
            Action::FindWhatIsLeft => self.find_what_is_left(context),
            Action::Prepare => self.prepare(context),
            Action::Queue => self.queue(context),
            Action::Launch => self.launch(context),
            Action::Connect => self.connect(context),
            Action::SetUp => self.set_up(context),
            Action::Signal(number) => self.say(HostToGuest::Signal { number }, context),
            Action::Arm(timer, after) => {
                self.disarm(timer, context);
                let armed = context.run_later(after, move |actor, context| {
                    actor.timers.remove(&timer);
                    actor.event(Event::Expired(timer), context);
                });
                self.timers.insert(timer, armed);
            }
            Action::Disarm(timer) => self.disarm(timer, context),
            Action::AskExecuting => self.ask_executing(context),
            Action::PowerOff => self.power_off(context),
            Action::SeekEnd => self.seek_end(context),
            Action::Record(verdict) => self.record(verdict, context),
            Action::TellStarted(at) => self.tell_started(at, context),
            Action::TellEnded(verdict) => self.tell_ended(&verdict, context),
            Action::Clean => self.clean(context),
            Action::Finish => context.stop(),
        }
    }

    /// Starts something that ends in an event.
    fn then(&mut self, context: &mut Context<Self>, work: impl Future<Output = Event> + 'static) {
        let work = work.into_actor(self);
        context.spawn(work.map(|event, actor, context| actor.event(event, context)));
    }

    fn disarm(&mut self, timer: Timer, context: &mut Context<Self>) {
        if let Some(armed) = self.timers.remove(&timer) {
            context.cancel_future(armed);
        }
    }

    fn wait_for_wishes(&mut self, context: &mut Context<Self>) {
        let mut wished = self.wished.clone();
        let next = async move { wished.changed().await.map(|()| *wished.borrow_and_update()) };
        context.spawn(next.into_actor(self).map(|changed, actor, context| match changed {
            Ok(wishes) => {
                let before = std::mem::replace(&mut actor.obeyed, wishes);
                actor.wished.mark_unchanged();
                actor.wait_for_wishes(context);
                if let Some(stop) = wishes.stop.filter(|_| before.stop != wishes.stop) {
                    actor.event(Event::Order(Order::Stop(stop)), context);
                }
                if wishes.kill && !before.kill {
                    actor.event(Event::Order(Order::Kill), context);
                }
            }
            Err(_) => {
                actor.let_go = true;
                actor.leave_if_let_go(context);
            }
        }));
    }

    /// With the last handle gone, a run that goes on is left to whoever adopts it; one whose end is
    /// known is brought to its end first.
    fn leave_if_let_go(&mut self, context: &mut Context<Self>) {
        if !self.let_go {
            return;
        }
        match self.state {
            State::New
            | State::Adopting { .. }
            | State::Preparing { .. }
            | State::Queued
            | State::Launching { .. }
            | State::Booting
            | State::SettingUp { .. }
            | State::Running { .. } => context.stop(),
            State::Ending { .. }
            | State::Seeking { .. }
            | State::Recording { .. }
            | State::Telling { .. }
            | State::Cleaning { .. }
            | State::Done { .. } => {}
        }
    }

    /// A part of the start is over.
    fn took(&mut self, phase: &str) {
        let now = Instant::now();
        if let Some(part) = self.marks.part.replace(now) {
            self.metrics.phase_took(phase, now.duration_since(part).as_secs_f64());
        }
    }

    /// Tells the state to whoever watches.
    fn show(&mut self) {
        if !matches!(self.state, State::Launching { .. } | State::Booting) {
            self.slot = None;
        }
        let phase = phase_of(&self.state);
        self.phase.send_if_modified(|shown| std::mem::replace(shown, phase) != phase);
        if self.shown != phase.name() {
            self.metrics.moved(self.shown, phase.name());
            self.shown = phase.name();
        }
    }
}
