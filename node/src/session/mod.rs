//! The session with the leader: one actor that dials the schedulers until one welcomes it, and then
//! says that the host lives, hears what it should run, and reports what it saw.
//!
//! ```text
//!            wait over            TLS and Hello done           Welcome
//!  Waiting ────────────► Dialling ─────────────────► Registering ──────► Registered
//!     ▲                     │ failed                      │ Redirect, Refused    │ lost, Redirect
//!     └─────────────────────┴─────────────────────────────┴──────────────────────┘
//! ```
//!
//! Promises: facts reach the log in order and are sent again until they are kept; an assignment is
//! obeyed only if it is not older than one before; the agent hears of the end of a session, and
//! does nothing more on its account until the next one's first assignment. Does not: decide what to
//! run (`assignment_diff`) or hold container VMs (the agent).

mod floor_file;
mod link;
mod obedience;
mod outbox;
mod route;

pub use floor_file::load as load_floor;
pub use obedience::Floor;

use crate::mailbox::{Mailbox, Posted};
use crate::randomness::jitter;
use actix::{Actor, Addr, AsyncContext as _, Context, Handler, Message};
use berth_metrics::node::NodeMetrics;
use berth_model::host::HostFacts;
use berth_model::session::{FromNode, FromScheduler};
use berth_model::{Assignment, Fact};
use berth_wire::tls::Tls;
use obedience::{Obedience, Verdict};
use outbox::Outbox;
use route::{Attempt, Route};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, watch};

const MAILBOX: usize = 1024;
const HEARTBEAT: Duration = Duration::from_secs(1);
/// From dialling to the welcome; a replica that takes longer is left for the next.
const WELCOME_TIMEOUT: Duration = Duration::from_secs(10);
/// Heartbeats that a leader may leave unanswered whatever it says of its own patience.
const PATIENCE_MIN: u64 = 3;
/// A report that is not kept by then is sent again on the same link.
const REPORT_TIMEOUT_BEATS: u32 = 10;

/// What the session needs of its surroundings.
pub struct Surroundings {
    pub tls: Tls,
    pub schedulers: BTreeMap<u64, SocketAddr>,
    pub state_directory: PathBuf,
    pub floor: Option<Floor>,
    pub agent: Mailbox<Orders>,
    pub metrics: NodeMetrics,
}

/// To the agent.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub enum Orders {
    /// Make it so. `first` of a session: what was reported before may be reported again.
    Obey { assignment: Arc<Assignment>, first: bool },
    /// No leader speaks to us: start and stop nothing.
    SessionLost,
}

/// From the agent: facts to report.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub struct Report(pub Vec<Fact>);

/// From whoever gathers them.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub struct FactsGathered(pub Box<HostFacts>);

/// From the tasks that serve one connection; `attempt` tells theirs from an earlier one's.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub(crate) struct Heard {
    attempt: u64,
    what: What,
}

#[derive(Debug)]
pub(crate) enum What {
    Opened(mpsc::Sender<FromNode>),
    Received(Box<FromScheduler>),
    Ended(String),
}

pub struct Session {
    around: Surroundings,
    facts: HostFacts,
    /// What the scheduler at the other end was told of them.
    told: Option<HostFacts>,
    route: Route,
    obedience: Obedience,
    outbox: Outbox,
    state: State,
    /// Counts connections.
    attempt: u64,
    floors: Option<watch::Sender<Option<Floor>>>,
    /// The agent's mailbox was full: it is told at the next beat.
    untold: Option<Orders>,
    /// Whether this session has had an assignment.
    assigned: bool,
    beats_without_keep: u32,
    /// Why the whole is asked for at the next beat: a new leader may have to catch up first.
    whole_wanted: Option<String>,
}

enum State {
    Waiting,
    Dialling {
        replica: u64,
    },
    Registering {
        replica: u64,
        link: mpsc::Sender<FromNode>,
    },
    Registered {
        link: mpsc::Sender<FromNode>,
        /// Of the last heartbeat that was sent, and of the last that was answered.
        sequence: u64,
        answered: u64,
        /// Heartbeats without an answer after which the leader counts as silent.
        patience: u64,
    },
}

impl State {
    fn name(&self) -> &'static str {
        match self {
            State::Waiting => "waiting",
            State::Dialling { .. } => "dialling",
            State::Registering { .. } => "registering",
            State::Registered { .. } => "registered",
        }
    }
}

impl Session {
    /// Starts on the current arbiter; `facts` are what it registers with.
    pub fn start(around: Surroundings, facts: HostFacts) -> Addr<Session> {
        let first = usize::from(around.tls.identity().id.bytes().fold(0_u8, u8::wrapping_add));
        let route = Route::new(&around.schedulers, first);
        let obedience = Obedience::new(around.floor);
        Session::create(|context| {
            context.set_mailbox_capacity(MAILBOX);
            Session {
                around,
                facts,
                told: None,
                route,
                obedience,
                outbox: Outbox::default(),
                state: State::Waiting,
                attempt: 0,
                floors: None,
                untold: None,
                assigned: false,
                beats_without_keep: 0,
                whole_wanted: None,
            }
        })
    }

    fn enter(&mut self, state: State) {
        self.state = state;
        self.around.metrics.session_is(self.state.name());
    }

    fn dial(&mut self, context: &mut Context<Self>) {
        let attempt = self.route.next_attempt();
        self.attempt += 1;
        let number = self.attempt;
        self.enter(State::Waiting);
        context.run_later(jitter(attempt.wait), move |actor, context| {
            actor.connect(number, attempt, context);
        });
    }

    fn connect(&mut self, number: u64, attempt: Attempt, context: &mut Context<Self>) {
        self.enter(State::Dialling { replica: attempt.replica });
        let address = context.address();
        actix_rt::spawn(link::serve(self.around.tls.clone(), attempt.address, number, address));
        context.run_later(WELCOME_TIMEOUT, move |actor, context| {
            if actor.attempt == number && !matches!(actor.state, State::Registered { .. }) {
                actor.lose("no welcome in time", context);
            }
        });
    }

    /// The connection is over, or of no use.
    fn lose(&mut self, reason: &str, context: &mut Context<Self>) {
        if matches!(self.state, State::Registered { .. }) {
            tracing::warn!(reason, "session lost");
            self.tell_agent(Orders::SessionLost);
        } else {
            tracing::debug!(reason, "no session yet");
        }
        self.around.metrics.sessions_lost.inc();
        self.dial(context);
    }

    fn opened(&mut self, link: mpsc::Sender<FromNode>, context: &mut Context<Self>) {
        let State::Dialling { replica } = self.state else {
            return;
        };
        let register =
            FromNode::Register { facts: Box::new(self.facts.clone()), held: self.obedience.held() };
        if link.try_send(register).is_err() {
            return self.lose("link closed at once", context);
        }
        self.told = Some(self.facts.clone());
        self.enter(State::Registering { replica, link });
    }

    fn received(&mut self, message: FromScheduler, context: &mut Context<Self>) {
        match message {
            FromScheduler::Welcome { cell, incarnation, silent_after_ms } => {
                let State::Registering { replica, link } = &self.state else {
                    return self.lose("welcomed out of turn", context);
                };
                tracing::info!(replica, %cell, silent_after_ms, "registered with the leader");
                let link = link.clone();
                let beat_ms = u64::try_from(HEARTBEAT.as_millis()).unwrap_or(u64::MAX);
                // Half of the leader's own: whoever else leads must hear us before it calls us
                // silent.
                let patience = (silent_after_ms / 2 / beat_ms).max(PATIENCE_MIN);
                self.route.welcomed(*replica);
                self.obedience.welcomed(cell, incarnation);
                self.around.metrics.sessions_opened.inc();
                self.enter(State::Registered { link, sequence: 0, answered: 0, patience });
                self.assigned = false;
                self.whole_wanted = None;
                self.outbox.rewind();
                self.tell_facts();
                self.report();
            }
            FromScheduler::Redirect { leader } => {
                self.route.redirected(leader);
                if matches!(self.state, State::Registered { .. }) {
                    self.tell_agent(Orders::SessionLost);
                }
                self.dial(context);
            }
            FromScheduler::Refused { reason } => {
                tracing::error!(reason, "the leader refuses this host");
                self.lose("refused", context);
            }
            FromScheduler::Assignment(update) => {
                if matches!(self.state, State::Registered { .. }) {
                    let verdict = self.obedience.update(&update);
                    self.follow(verdict);
                }
            }
            FromScheduler::Heard { sequence: heard } => {
                if let State::Registered { answered, .. } = &mut self.state {
                    *answered = heard;
                }
            }
            FromScheduler::ReportKept { last } => {
                let settled = self.outbox.keep(last);
                self.beats_without_keep = 0;
                self.around.metrics.facts_reported.inc_by(settled as u64);
                self.report();
            }
        }
    }

    fn follow(&mut self, verdict: Verdict) {
        match verdict {
            Verdict::Obey(assignment) => {
                let generation = assignment.generation;
                let whole = i64::try_from(generation.0).unwrap_or(i64::MAX);
                self.around.metrics.assignment_generation.set(whole);
                self.around.metrics.assignments_obeyed.inc();
                if let Some(floors) = &self.floors {
                    floors.send_replace(self.obedience.floor());
                }
                self.whole_wanted = None;
                let first = !std::mem::replace(&mut self.assigned, true);
                self.tell_agent(Orders::Obey { assignment: Arc::new(assignment), first });
                self.say(FromNode::Obeyed { generation });
            }
            Verdict::Older { floor } => {
                tracing::error!(floor = floor.0, "assignment refused: older than one before");
                self.around.metrics.assignment_refused("older");
                let reason = format!("generation {} was obeyed before", floor.0);
                self.whole_wanted = Some(reason);
            }
            Verdict::WholeWanted { reason } => {
                tracing::warn!(reason, "assignment does not fit");
                self.around.metrics.assignment_refused("misfit");
                self.say(FromNode::WholeWanted { reason });
            }
        }
    }

    /// What the agent missed is said again at the next beat; of two assignments the newer counts.
    fn tell_agent(&mut self, orders: Orders) {
        let missed_first = match &self.untold {
            Some(Orders::Obey { first, .. }) => *first,
            Some(Orders::SessionLost) | None => false,
        };
        let orders = match orders {
            Orders::Obey { assignment, first } => {
                Orders::Obey { assignment, first: first || missed_first }
            }
            Orders::SessionLost => Orders::SessionLost,
        };
        self.untold = Some(orders);
        self.tell_again();
    }

    fn tell_again(&mut self) {
        let again = match &self.untold {
            None => return,
            Some(Orders::SessionLost) => Orders::SessionLost,
            Some(Orders::Obey { assignment, first }) => {
                Orders::Obey { assignment: assignment.clone(), first: *first }
            }
        };
        if self.around.agent.post(again) {
            self.untold = None;
        }
    }

    /// Sends what may go; what does not fit the link's queue goes after the next keep or beat.
    fn report(&mut self) {
        while let State::Registered { link, .. } = &self.state {
            let Ok(permit) = link.try_reserve() else {
                break;
            };
            let Some(report) = self.outbox.next_report() else {
                break;
            };
            permit.send(FromNode::Report(report));
        }
        let pending = i64::try_from(self.outbox.len()).unwrap_or(i64::MAX);
        self.around.metrics.reports_pending.set(pending);
    }

    /// Facts that do not fit the link's queue are told at the next beat.
    fn tell_facts(&mut self) {
        if self.told.as_ref() != Some(&self.facts)
            && self.say(FromNode::Facts(Box::new(self.facts.clone())))
        {
            self.told = Some(self.facts.clone());
        }
    }

    /// A full queue means that the link stands still; its own timeout ends it.
    fn say(&self, message: FromNode) -> bool {
        match &self.state {
            State::Registered { link, .. } => link.try_send(message).is_ok(),
            State::Waiting | State::Dialling { .. } | State::Registering { .. } => false,
        }
    }

    fn beat(&mut self, context: &mut Context<Self>) {
        self.tell_again();
        self.tell_facts();
        if let Some(reason) = self.whole_wanted.take() {
            self.say(FromNode::WholeWanted { reason });
        }
        if let State::Registered { link, sequence, answered, patience } = &mut self.state {
            if sequence.saturating_sub(*answered) >= *patience {
                // It may be frozen, or cut off; then no error would ever come.
                return self.lose("the leader is silent", context);
            }
            *sequence += 1;
            if link.try_send(FromNode::Heartbeat { sequence: *sequence }).is_ok() {
                self.around.metrics.heartbeats.inc();
            }
        }
        if self.outbox.len() > 0 {
            self.beats_without_keep += 1;
            if self.beats_without_keep >= REPORT_TIMEOUT_BEATS {
                self.beats_without_keep = 0;
                self.outbox.rewind();
            }
        }
        self.report();
    }
}

impl Actor for Session {
    type Context = Context<Self>;

    fn started(&mut self, context: &mut Self::Context) {
        self.floors = Some(floor_file::keep(self.around.state_directory.clone()));
        context.run_interval(HEARTBEAT, Self::beat);
        self.dial(context);
    }
}

impl Handler<Heard> for Session {
    type Result = ();

    fn handle(&mut self, heard: Heard, context: &mut Self::Context) {
        if heard.attempt != self.attempt {
            return;
        }
        match heard.what {
            What::Opened(link) => self.opened(link, context),
            What::Received(message) => self.received(*message, context),
            What::Ended(reason) => self.lose(&reason, context),
        }
    }
}

impl Handler<Posted<Report>> for Session {
    type Result = ();

    fn handle(&mut self, posted: Posted<Report>, _: &mut Self::Context) {
        self.outbox.post(posted.take().0);
        self.report();
    }
}

impl Handler<Posted<FactsGathered>> for Session {
    type Result = ();

    fn handle(&mut self, posted: Posted<FactsGathered>, _: &mut Self::Context) {
        self.facts = *posted.take().0;
        self.tell_facts();
    }
}

#[cfg(test)]
mod tests;
