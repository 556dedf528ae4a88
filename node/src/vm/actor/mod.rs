//! The actor of one run: takes events, steps the lifecycle, carries out what it says.
//!
//! It decides nothing. Each action is a function that starts something; each thing that was started ends in
//! an event. The actor's own mailbox is not used: wishes come through a watch, news through a bounded
//! channel, everything else through futures that the actor itself spawned.

use super::guest_link::{self, News, Queues};
use super::handle::{Phase, VmHandle, Wishes};
use super::lifecycle::{
    self, Action, Agent, Chore, Event, Left, Machine, Order, State, Timer, Verdict,
};
use super::records::{self, RecordedExit, off_thread};
use super::{VmFacts, VmSettings, guest_spec};
use crate::hypervisor::{Hypervisor, LaunchError, LaunchPlan, RunningVm};
use actix::prelude::*;
use berth_metrics::vm::{VmMetrics, VmSample};
use berth_model::guest::{HostToGuest, LOG_RESERVE, Standing, StartFailure};
use berth_model::stream::Sample;
use berth_model::{Exit, Fact, Timestamp};
use rand::RngCore as _;
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;

/// Requests and pieces of stdin that wait for the link; who sends more waits.
const REQUESTS: usize = 32;
const STDIN_PIECES: usize = 4;
/// News that wait for the actor; the link reads no more meanwhile.
const NEWS: usize = 32;
/// Between looks at what the machine costs and at files that its guest makes grow.
const BEAT: Duration = Duration::from_secs(10);
/// Between attempts to find out what an earlier node left.
const ADOPT_RETRY: Duration = Duration::from_secs(1);
/// What the console of a guest may grow to before it is emptied.
const CONSOLE_MAX: u64 = 1 << 20;
/// The log may be so much larger than the agent's credit before its guest is held for hostile.
const LOG_SLACK: u64 = 1 << 20;
/// Docker's code for a container that did not start for another reason than its program.
const NOT_STARTED: i32 = 128;

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

    fn find_what_is_left(&mut self, context: &mut Context<Self>) {
        let (settings, hypervisor) = (self.settings.clone(), self.hypervisor.clone());
        let plan = self.plan.clone();
        let look = async move {
            loop {
                match look_for_left(&settings, &plan, hypervisor.as_ref()).await {
                    Ok(found) => return found,
                    // What is not known to be gone may run, so nothing else is safe but to look again.
                    Err(error) => {
                        let container = settings.container;
                        tracing::error!(%container, %error, "cannot find out what is left of a run");
                        tokio::time::sleep(ADOPT_RETRY).await;
                    }
                }
            }
        };
        let look = look.into_actor(self).map(|(left, machine, started_at), actor, context| {
            actor.started_at = started_at;
            if let Some(machine) = machine {
                actor.metrics.began("adopted");
                actor.machine_is_there(machine, context);
            }
            actor.event(Event::Left(left), context);
        });
        context.spawn(look);
    }

    fn prepare(&mut self, context: &mut Context<Self>) {
        let (settings, hypervisor) = (self.settings.clone(), self.hypervisor.clone());
        let plan = self.plan.clone();
        self.marks.part = Some(Instant::now());
        self.then(context, async move {
            let run_directory = settings.run_directory.clone();
            let saved = off_thread(move || records::save_settings(&settings)).await;
            let prepared = match saved.map_err(LaunchError::io("make", &run_directory)) {
                Ok(()) => hypervisor.prepare(&plan).await,
                Err(error) => Err(error),
            };
            Event::Machine(match prepared {
                Ok(()) => Machine::Prepared,
                Err(error) => Machine::PrepareFailed(not_started(&error)),
            })
        });
    }

    fn launch(&mut self, context: &mut Context<Self>) {
        self.took("delta");
        let (hypervisor, plan) = (self.hypervisor.clone(), self.plan.clone());
        let launch = async move { hypervisor.launch(&plan).await };
        let launch = launch.into_actor(self).map(|launched, actor, context| {
            let event = match launched {
                Ok(machine) => {
                    actor.took("launch");
                    actor.machine_is_there(machine, context);
                    Machine::Launched
                }
                Err(error) => Machine::LaunchFailed(not_started(&error)),
            };
            actor.event(Event::Machine(event), context);
        });
        context.spawn(launch);
    }

    fn machine_is_there(&mut self, machine: Arc<dyn RunningVm>, context: &mut Context<Self>) {
        self.metrics.machine_runs(true);
        self.machine.send_replace(Some(machine.clone()));
        let gone = async move { machine.ended().await };
        let gone = gone.into_actor(self).map(|ended, actor, context| {
            if let Some(link) = actor.link.take() {
                link.abort();
            }
            actor.machine.send_replace(None);
            actor.metrics.machine_runs(false);
            let last_words = ended.last_words;
            actor.event(Event::Machine(Machine::Gone { last_words }), context);
        });
        context.spawn(gone);
    }

    fn connect(&mut self, context: &mut Context<Self>) {
        let machine = self.machine.borrow().clone();
        let (Some(machine), Some(queues)) = (machine, self.queues.take()) else { return };
        let (news, heard) = mpsc::channel(NEWS);
        let silence = self.hypervisor.deadlines().silence;
        self.link = Some(tokio::spawn(guest_link::run(machine, queues, news, silence)));
        self.hear(heard, context);
    }

    /// Waits for the next piece of news, and then for the one behind it.
    fn hear(&mut self, mut heard: mpsc::Receiver<News>, context: &mut Context<Self>) {
        let next = async move { (heard.recv().await, heard) }.into_actor(self);
        context.spawn(next.map(|(news, heard), actor, context| {
            if let Some(news) = news {
                actor.understand(news, context);
                actor.hear(heard, context);
            }
        }));
    }

    fn understand(&mut self, news: News, context: &mut Context<Self>) {
        let event = match news {
            News::Ready { kernel, agent, uptime, standing } => {
                let container = self.settings.container;
                tracing::info!(%container, %kernel, %agent, ?uptime, "guest agent is there");
                heard_standing(standing)
            }
            News::Started => Agent::ProcessStarted,
            News::StartFailed(failure) => Agent::StartFailed(start_failure(failure)),
            News::SetupFailed { text } => Agent::StartFailed(setup_failed(&text)),
            News::Exited(status) => Agent::ProcessExited(records::exit_of(&status)),
            News::Silent => {
                self.metrics.agent_silent();
                Agent::Silent
            }
            News::Broken(text) => Agent::Broken(text),
            News::Sample(sample) => {
                let name = &self.settings.order.name;
                self.metrics.sampled(&self.container, name, &vm_sample(&sample));
                return;
            }
        };
        self.event(Event::Agent(event), context);
    }

    fn set_up(&mut self, context: &mut Context<Self>) {
        self.took("boot");
        let mut bytes = vec![0; 64];
        rand::rng().fill_bytes(&mut bytes);
        let unix_ns = crate::clock::now().0.saturating_mul(1_000_000);
        let spec = guest_spec::guest_spec(&self.settings, self.hypervisor.log_limit());
        self.say(HostToGuest::Clock { unix_ns }, context);
        self.say(HostToGuest::Entropy { bytes }, context);
        self.say(HostToGuest::Setup(Box::new(spec)), context);
    }

    /// In order, even where the link is slow.
    fn say(&mut self, message: HostToGuest, context: &mut Context<Self>) {
        let request = guest_link::Request::Say(message);
        if let Err(mpsc::error::TrySendError::Full(request)) = self.requests.try_send(request) {
            let requests = self.requests.clone();
            // Without a link there is nobody to tell, and the deadlines go on counting.
            let send = async move { drop(requests.send(request).await) };
            context.spawn(send.into_actor(self));
        }
    }

    fn disarm(&mut self, timer: Timer, context: &mut Context<Self>) {
        if let Some(armed) = self.timers.remove(&timer) {
            context.cancel_future(armed);
        }
    }

    fn ask_executing(&mut self, context: &mut Context<Self>) {
        let Some(machine) = self.machine.borrow().clone() else { return };
        self.then(context, async move {
            let executing = machine.executing().await.unwrap_or(false);
            Event::Machine(Machine::Executing(executing))
        });
    }

    fn power_off(&mut self, context: &mut Context<Self>) {
        let Some(machine) = self.machine.borrow().clone() else { return };
        // Its end comes as an event of its own.
        context.spawn(async move { machine.power_off().await }.into_actor(self));
    }

    fn seek_end(&mut self, context: &mut Context<Self>) {
        let log = self.plan.log.clone();
        self.then(context, async move {
            Event::Sought(off_thread(move || Ok(records::end_in_log(&log))).await.ok().flatten())
        });
    }

    fn record(&mut self, verdict: Verdict, context: &mut Context<Self>) {
        let exit = RecordedExit {
            container: self.settings.container,
            epoch: self.settings.epoch,
            started_at: self.started_at,
            verdict,
        };
        let directory = self.settings.directory.clone();
        self.then(context, async move {
            let container = exit.container;
            if let Err(error) = off_thread(move || records::record_exit(&directory, &exit)).await {
                // It is told all the same; a later node finds it in the log, if it was the process's own.
                tracing::error!(%container, %error, "cannot record how a run ended");
            }
            Event::Chore(Chore::Recorded)
        });
    }

    fn tell_started(&mut self, at: Timestamp, context: &mut Context<Self>) {
        if !self.adopted {
            self.took("setup");
            if let Some(begun) = self.marks.begun {
                self.metrics.phase_took("total", begun.elapsed().as_secs_f64());
            }
            self.metrics.began("started");
        }
        if self.started_at.is_none() {
            self.started_at = Some(at);
            if let Err(error) = records::save_started(&self.settings.run_directory, at) {
                let container = self.settings.container;
                tracing::warn!(%container, %error, "cannot keep when the process started");
            }
        }
        let (container, epoch) = (self.settings.container, self.settings.epoch);
        self.tell(Fact::VmStarted { container, epoch, started_at: at }, context);
    }

    fn tell_ended(&mut self, verdict: &Verdict, context: &mut Context<Self>) {
        match verdict.kind {
            lifecycle::Kind::Exited => self.metrics.exited(verdict.exit.code == 0),
            lifecycle::Kind::StartFailed => self.metrics.began("failed"),
        }
        let exit = RecordedExit {
            container: self.settings.container,
            epoch: self.settings.epoch,
            started_at: self.started_at,
            verdict: verdict.clone(),
        };
        tracing::info!(container = %exit.container, epoch = exit.epoch.0, ?verdict, "run ended");
        self.tell(exit.fact(), context);
    }

    /// One at a time, in order.
    fn tell(&mut self, fact: Fact, context: &mut Context<Self>) {
        self.outbox.push_back(fact);
        if !self.telling {
            self.tell_next(context);
        }
    }

    fn tell_next(&mut self, context: &mut Context<Self>) {
        let Some(fact) = self.outbox.pop_front() else {
            self.telling = false;
            if matches!(self.state, State::Telling { .. }) {
                self.event(Event::Chore(Chore::Told), context);
            }
            return;
        };
        self.telling = true;
        let facts = self.facts.clone();
        // Nobody listens only when the node ends; the next one tells it from the record.
        let send = async move { drop(facts.send(fact).await) };
        context.spawn(send.into_actor(self).map(|(), actor, context| actor.tell_next(context)));
    }

    fn clean(&mut self, context: &mut Context<Self>) {
        let run_directory = self.settings.run_directory.clone();
        self.then(context, async move {
            let shown = run_directory.display().to_string();
            if let Err(error) = off_thread(move || records::clean(&run_directory)).await {
                tracing::warn!(directory = %shown, %error, "cannot remove a run directory");
            }
            Event::Chore(Chore::Cleaned)
        });
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

    /// Looks at what the machine costs, and at files that its guest can make grow.
    fn look(&mut self, context: &mut Context<Self>) {
        let Some(machine) = self.machine.borrow().clone() else { return };
        if let Some(usage) = machine.usage() {
            let (name, cpu) = (&self.settings.order.name, usage.cpu.as_secs_f64());
            self.metrics.hypervisor_used(&self.container, name, cpu, usage.resident.0);
        }
        let log = self.plan.log.clone();
        let console = self.plan.run_directory.join(crate::hypervisor::CONSOLE_FILE);
        let look = off_thread(move || {
            let length = |path| std::fs::metadata(path).map_or(0, |metadata| metadata.len());
            if length(&console) > CONSOLE_MAX {
                std::fs::File::options().write(true).open(&console)?.set_len(0)?;
            }
            Ok(length(&log))
        });
        context.spawn(look.into_actor(self).map(|log, actor, context| {
            let Ok(bytes) = log else { return };
            actor.metrics.log_size(&actor.container, &actor.settings.order.name, bytes);
            if bytes > actor.hypervisor.log_limit().0 + LOG_RESERVE + LOG_SLACK {
                actor.event(Event::Machine(Machine::LogOverflow), context);
            }
        }));
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
        let phase = phase_of(&self.state);
        self.phase.send_if_modified(|shown| std::mem::replace(shown, phase) != phase);
        if self.shown != phase.name() {
            self.metrics.moved(self.shown, phase.name());
            self.shown = phase.name();
        }
    }
}

type Found = (Left, Option<Arc<dyn RunningVm>>, Option<Timestamp>);

async fn look_for_left(
    settings: &VmSettings,
    plan: &LaunchPlan,
    hypervisor: &dyn Hypervisor,
) -> Result<Found, LaunchError> {
    let recorded = super::recorded_exit(&settings.directory, settings.epoch)
        .await
        .map_err(LaunchError::io("look into", &settings.directory))?;
    if let Some(recorded) = recorded {
        return Ok((Left::Recorded(recorded.verdict), None, recorded.started_at));
    }
    let started_at = records::started_at(&settings.run_directory);
    if let Some(machine) = hypervisor.adopt(&settings.run_directory, &plan.name()).await? {
        return Ok((Left::Machine { started_at }, Some(machine), started_at));
    }
    let launched = plan.log.try_exists().map_err(LaunchError::io("look at", &plan.log))?
        || started_at.is_some();
    Ok((Left::Nothing { launched }, None, started_at))
}

fn phase_of(state: &State) -> Phase {
    match state {
        State::Adopting { .. } => Phase::Adopting,
        State::New | State::Preparing { .. } => Phase::Preparing,
        State::Launching { .. } => Phase::Launching,
        State::Booting => Phase::Booting,
        State::SettingUp { .. } => Phase::SettingUp,
        State::Running { started_at, .. } => Phase::Running { started_at: *started_at },
        State::Ending { .. }
        | State::Seeking { .. }
        | State::Recording { .. }
        | State::Telling { .. }
        | State::Cleaning { .. } => Phase::Ending,
        State::Done { .. } => Phase::Ended,
    }
}

/// What an agent's standing means for a run, whatever was known before.
fn heard_standing(standing: Standing) -> Agent {
    match standing {
        Standing::Idle => Agent::Idle,
        Standing::Starting => Agent::Starting,
        // Of an ending one the exit follows.
        Standing::Running { .. } | Standing::Ending => Agent::ProcessStarted,
        Standing::Exited(status) => Agent::ProcessExited(records::exit_of(&status)),
        Standing::StartFailed(failure) => Agent::StartFailed(start_failure(failure)),
        Standing::SetupFailed { text } => Agent::StartFailed(setup_failed(&text)),
    }
}

fn start_failure(failure: StartFailure) -> Exit {
    Exit { code: failure.code.into(), oom_killed: false, error: failure.text }
}

fn setup_failed(text: &str) -> Exit {
    let error = format!("container could not be set up in its guest: {text}");
    Exit { code: NOT_STARTED, oom_killed: false, error }
}

fn not_started(error: &LaunchError) -> Exit {
    Exit { code: NOT_STARTED, oom_killed: false, error: error.to_string() }
}

fn vm_sample(sample: &Sample) -> VmSample {
    VmSample {
        cpu_seconds: sample.cpu_ns as f64 / 1e9,
        memory_bytes: sample.memory.0,
        memory_limit_bytes: sample.memory_limit.0,
        processes: sample.processes,
        disk_read_bytes: sample.disk_read.0,
        disk_written_bytes: sample.disk_written.0,
        received_bytes: sample.received.0,
        sent_bytes: sample.sent.0,
    }
}
