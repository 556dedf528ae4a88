//! The lifecycle against every order of events: one terminal fact, and an end in any case.

use super::*;
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

const STOP: StopOrder = StopOrder { signal: 15, grace_seconds: Some(10) };

fn exit(code: i32) -> Exit {
    Exit { code, oom_killed: false, error: String::new() }
}

/// Drives a run by events and keeps what it did.
#[derive(Debug)]
struct Run {
    state: State,
    now: u64,
    actions: Vec<Action>,
}

impl Run {
    fn new() -> Run {
        Run { state: State::New, now: 1000, actions: vec![] }
    }

    fn after(events: impl IntoIterator<Item = Event>) -> Run {
        let mut run = Run::new();
        for event in events {
            run.on(event);
        }
        run
    }

    fn on(&mut self, event: Event) -> Vec<Action> {
        self.now += 1;
        let state = std::mem::replace(&mut self.state, State::New);
        let (state, actions) = step(state, event, Timestamp(self.now), &Deadlines::default());
        self.state = state;
        self.actions.extend(actions.clone());
        actions
    }

    fn running() -> Run {
        Run::after([
            Event::Begin,
            Event::Machine(Machine::Prepared),
            Event::Machine(Machine::SlotTaken),
            Event::Machine(Machine::Launched),
            Event::Agent(Agent::Idle),
            Event::Agent(Agent::ProcessStarted),
        ])
    }

    fn told(&self) -> Vec<&Verdict> {
        let told = self.actions.iter().filter_map(|action| match action {
            Action::TellEnded(verdict) => Some(verdict),
            Action::FindWhatIsLeft
            | Action::Prepare
            | Action::Queue
            | Action::Launch
            | Action::Connect
            | Action::SetUp
            | Action::Signal(_)
            | Action::Arm(..)
            | Action::Disarm(_)
            | Action::AskExecuting
            | Action::PowerOff
            | Action::SeekEnd
            | Action::Record(_)
            | Action::TellStarted(_)
            | Action::Clean
            | Action::Finish => None,
        });
        told.collect()
    }
}

fn gone() -> Event {
    Event::Machine(Machine::Gone { last_words: "Kernel panic".to_owned() })
}

#[test]
fn an_ordinary_run_tells_start_and_exit() {
    let mut run = Run::running();
    run.on(Event::Agent(Agent::ProcessExited(exit(7))));
    assert_eq!(run.actions.last(), Some(&Action::PowerOff));
    run.on(gone());
    run.on(Event::Chore(Chore::Recorded));
    run.on(Event::Chore(Chore::Told));
    run.on(Event::Chore(Chore::Cleaned));
    assert!(run.state.is_done());
    assert!(run.actions.contains(&Action::TellStarted(Timestamp(1006))));
    let expected = Verdict { kind: Kind::Exited, exit: exit(7), finished_at: Timestamp(1007) };
    assert_eq!(run.told(), [&expected]);
}

#[test]
fn a_stop_goes_from_signal_over_sigkill_to_the_power() {
    let mut run = Run::running();
    let asked = run.on(Event::Order(Order::Stop(STOP)));
    let grace = Duration::from_secs(10);
    assert_eq!(asked, [Action::Signal(15), Action::Arm(Timer::Grace, grace)]);
    assert_eq!(run.on(Event::Order(Order::Stop(STOP))), [], "the same order again is no news");
    let killed = run.on(Event::Expired(Timer::Grace));
    assert_eq!(killed[0], Action::Signal(9));
    let cut = run.on(Event::Expired(Timer::End));
    assert_eq!(cut.last(), Some(&Action::PowerOff));
    run.on(gone());
    run.on(Event::Sought(None));
    run.on(Event::Chore(Chore::Recorded));
    assert_eq!(run.told()[0].exit.code, 137);
}

#[test]
fn a_stop_without_grace_waits_for_ever() {
    let mut run = Run::running();
    let patient = StopOrder { signal: 15, grace_seconds: None };
    let asked = run.on(Event::Order(Order::Stop(patient)));
    assert_eq!(asked, [Action::Signal(15), Action::Disarm(Timer::Grace)]);
    let hurried = StopOrder { signal: 15, grace_seconds: Some(0) };
    let asked = run.on(Event::Order(Order::Stop(hurried)));
    assert_eq!(asked[1], Action::Arm(Timer::Grace, Duration::ZERO));
}

#[test]
fn a_stop_during_setup_asks_the_process_as_soon_as_it_runs() {
    let mut run = Run::after([
        Event::Begin,
        Event::Machine(Machine::Prepared),
        Event::Machine(Machine::SlotTaken),
        Event::Machine(Machine::Launched),
        Event::Agent(Agent::Idle),
        Event::Order(Order::Stop(STOP)),
    ]);
    let actions = run.on(Event::Agent(Agent::ProcessStarted));
    let told = actions.iter().position(|action| matches!(action, Action::TellStarted(_)));
    let asked = actions.iter().position(|action| *action == Action::Signal(15));
    assert!(told.is_some() && told < asked, "{actions:?}");
}

#[test]
fn a_stop_before_the_boot_is_over_starts_nothing() {
    let mut run = Run::after([Event::Begin, Event::Order(Order::Stop(STOP))]);
    let actions = run.on(Event::Machine(Machine::Prepared));
    let [Action::Record(verdict)] = &actions[..] else { panic!("{actions:?}") };
    assert_eq!((verdict.kind, verdict.exit.code), (Kind::StartFailed, 143));
}

#[test]
fn a_kill_while_others_boot_ends_the_run_at_once() {
    let mut run = Run::after([Event::Begin, Event::Machine(Machine::Prepared)]);
    assert_eq!(run.actions.last(), Some(&Action::Queue));
    let actions = run.on(Event::Order(Order::Kill));
    assert!(matches!(&actions[..], [Action::Record(_)]), "{actions:?}");
    assert_eq!(run.on(Event::Machine(Machine::SlotTaken)), [], "its turn means nothing any more");
}

#[test]
fn a_guest_that_panics_is_quoted() {
    let mut run = Run::running();
    run.on(gone());
    let actions = run.on(Event::Sought(None));
    let [Action::Record(verdict)] = &actions[..] else { panic!("{actions:?}") };
    assert_eq!(verdict.exit.code, 255);
    assert!(verdict.exit.error.ends_with("last words: Kernel panic"), "{verdict:?}");
}

#[test]
fn an_end_that_only_the_log_tells_is_told() {
    let mut run = Run::after([Event::Adopt, Event::Left(Left::Nothing { launched: true })]);
    assert_eq!(run.actions.last(), Some(&Action::SeekEnd));
    run.on(Event::Sought(Some((exit(3), Timestamp(5)))));
    run.on(Event::Chore(Chore::Recorded));
    let expected = Verdict { kind: Kind::Exited, exit: exit(3), finished_at: Timestamp(5) };
    assert_eq!(run.told(), [&expected]);
}

#[test]
fn a_silent_agent_is_ended_only_if_its_machine_executes() {
    let mut run = Run::running();
    assert_eq!(run.on(Event::Agent(Agent::Silent)), [Action::AskExecuting]);
    assert_eq!(run.on(Event::Machine(Machine::Executing(false))), []);
    let actions = run.on(Event::Machine(Machine::Executing(true)));
    assert_eq!(actions.last(), Some(&Action::PowerOff));
}

#[test]
fn an_adopted_run_tells_its_start_again() {
    let started_at = Some(Timestamp(9));
    let run = Run::after([Event::Adopt, Event::Left(Left::Machine { started_at })]);
    let expected = [Action::FindWhatIsLeft, Action::TellStarted(Timestamp(9)), Action::Connect];
    assert_eq!(run.actions, expected);
}

#[test]
fn a_run_that_was_ordered_but_never_launched_starts_when_adopted() {
    let run = Run::after([Event::Adopt, Event::Left(Left::Nothing { launched: false })]);
    assert_eq!(run.actions, [Action::FindWhatIsLeft, Action::Prepare]);
}

fn stop_order() -> impl Strategy<Value = StopOrder> {
    let grace = prop_oneof![Just(None), (0..30_u32).prop_map(Some)];
    (prop_oneof![Just(15_u8), Just(9), Just(2)], grace)
        .prop_map(|(signal, grace_seconds)| StopOrder { signal, grace_seconds })
}

/// Everything that can be thought of, in any order, likely or not.
fn any_event() -> impl Strategy<Value = Event> {
    let verdict = Verdict { kind: Kind::Exited, exit: exit(1), finished_at: Timestamp(1) };
    let fixed = vec![
        Event::Begin,
        Event::Adopt,
        Event::Order(Order::Kill),
        Event::Left(Left::Recorded(verdict)),
        Event::Left(Left::Machine { started_at: None }),
        Event::Left(Left::Machine { started_at: Some(Timestamp(3)) }),
        Event::Left(Left::Nothing { launched: true }),
        Event::Left(Left::Nothing { launched: false }),
        Event::Machine(Machine::Prepared),
        Event::Machine(Machine::PrepareFailed(exit(128))),
        Event::Machine(Machine::SlotTaken),
        Event::Machine(Machine::Launched),
        Event::Machine(Machine::LaunchFailed(exit(128))),
        Event::Machine(Machine::Executing(true)),
        Event::Machine(Machine::Executing(false)),
        Event::Machine(Machine::LogOverflow),
        gone(),
        Event::Agent(Agent::Idle),
        Event::Agent(Agent::Starting),
        Event::Agent(Agent::ProcessStarted),
        Event::Agent(Agent::StartFailed(exit(127))),
        Event::Agent(Agent::ProcessExited(exit(0))),
        Event::Agent(Agent::Silent),
        Event::Agent(Agent::Broken("x".to_owned())),
        Event::Sought(None),
        Event::Sought(Some((exit(0), Timestamp(2)))),
        Event::Expired(Timer::Boot),
        Event::Expired(Timer::Setup),
        Event::Expired(Timer::Grace),
        Event::Expired(Timer::End),
        Event::Chore(Chore::Recorded),
        Event::Chore(Chore::Told),
        Event::Chore(Chore::Cleaned),
    ];
    prop_oneof![
        8 => prop::sample::select(fixed),
        1 => stop_order().prop_map(|order| Event::Order(Order::Stop(order))),
    ]
}

/// A model of the world that the machine acts on: it answers each action, fairly or not, and knows
/// what is true.
#[derive(Debug, Default)]
struct World {
    machine: bool,
    process: bool,
    recorded: bool,
    left_over: bool,
    /// Answers on their way.
    pending: VecDeque<Event>,
    timers: BTreeSet<Timer>,
    told_started: u32,
    told_ended: u32,
    finished: bool,
}

impl World {
    fn carry_out(&mut self, action: Action, luck: u8) {
        let lucky = !luck.is_multiple_of(4);
        match action {
            Action::FindWhatIsLeft => {
                let left = if self.machine {
                    Left::Machine { started_at: self.process.then_some(Timestamp(1)) }
                } else {
                    Left::Nothing { launched: self.left_over }
                };
                self.pending.push_back(Event::Left(left));
            }
            Action::Prepare => self.pending.push_back(Event::Machine(if lucky {
                Machine::Prepared
            } else {
                Machine::PrepareFailed(exit(128))
            })),
            Action::Queue => self.pending.push_back(Event::Machine(Machine::SlotTaken)),
            Action::Launch => {
                assert!(!self.machine, "two machines of one run");
                self.machine = lucky;
                self.pending.push_back(Event::Machine(if lucky {
                    Machine::Launched
                } else {
                    Machine::LaunchFailed(exit(128))
                }));
            }
            Action::Connect => {
                if lucky {
                    self.pending.push_back(Event::Agent(if self.process {
                        Agent::ProcessStarted
                    } else {
                        Agent::Idle
                    }));
                }
            }
            Action::SetUp => {
                self.process = lucky;
                self.pending.push_back(Event::Agent(match luck % 3 {
                    0 => Agent::StartFailed(exit(127)),
                    1 => Agent::ProcessStarted,
                    _ => Agent::Broken("luck".to_owned()),
                }));
            }
            Action::Signal(_) => {
                if lucky && self.process {
                    self.process = false;
                    self.pending.push_back(Event::Agent(Agent::ProcessExited(exit(143))));
                }
            }
            Action::Arm(timer, _) => {
                self.timers.insert(timer);
            }
            Action::Disarm(timer) => {
                self.timers.remove(&timer);
            }
            Action::AskExecuting => {
                self.pending.push_back(Event::Machine(Machine::Executing(lucky)));
            }
            Action::PowerOff => {
                self.machine = false;
                self.process = false;
                self.pending.push_back(gone());
            }
            Action::SeekEnd => {
                assert!(!self.machine, "the log is read while it grows");
                let found = (!lucky).then_some((exit(0), Timestamp(4)));
                self.pending.push_back(Event::Sought(found));
            }
            Action::Record(_) => {
                assert!(!self.machine, "an end is recorded while the machine runs");
                self.recorded = true;
                self.pending.push_back(Event::Chore(Chore::Recorded));
            }
            Action::TellStarted(_) => {
                assert_eq!(self.told_ended, 0, "a start after the end");
                self.told_started += 1;
            }
            Action::TellEnded(_) => {
                assert!(self.recorded, "an end is told before it is recorded");
                assert!(!self.machine, "an end is told while the machine runs");
                self.told_ended += 1;
                self.pending.push_back(Event::Chore(Chore::Told));
            }
            Action::Clean => self.pending.push_back(Event::Chore(Chore::Cleaned)),
            Action::Finish => self.finished = true,
        }
    }
}

proptest! {
    /// Whatever comes, in whatever order: one terminal fact at most, nothing after the end.
    #[test]
    fn no_order_of_events_tells_two_ends(
        events in prop::collection::vec(any_event(), 0..60),
    ) {
        let mut run = Run::new();
        for event in events {
            let done = run.state.is_done();
            let actions = run.on(event);
            prop_assert!(!done || actions.is_empty(), "{actions:?} after the end");
        }
        prop_assert!(run.told().len() <= 1);
        let started =
            run.actions.iter().filter(|action| matches!(action, Action::TellStarted(_))).count();
        prop_assert!(started <= 1);
    }

    /// In any world, at any moment, a kill ends the run, with one terminal fact and nothing left.
    #[test]
    fn a_kill_always_ends_the_run(
        adopted in any::<bool>(),
        world in (any::<bool>(), any::<bool>(), any::<bool>()),
        script in prop::collection::vec((0..8_u8, any::<u8>(), stop_order()), 0..80),
        lucks in prop::collection::vec(any::<u8>(), 40),
    ) {
        let (machine, process, left_over) = world;
        let mut world = World::default();
        if adopted {
            world.machine = machine;
            world.process = machine && process;
            world.left_over = left_over || machine;
        }
        let mut run = Run::new();
        let first = if adopted { Event::Adopt } else { Event::Begin };
        for action in run.on(first) {
            world.carry_out(action, 1);
        }
        // Life, with good luck and bad.
        for (choice, luck, order) in script {
            let event = match choice {
                0 => Some(Event::Order(Order::Stop(order))),
                1 => world.timers.pop_first().map(Event::Expired),
                2 if world.machine => Some(Event::Agent(Agent::Silent)),
                3 if world.process => {
                    world.process = false;
                    Some(Event::Agent(Agent::ProcessExited(exit(0))))
                }
                4 if world.machine => {
                    world.machine = false;
                    world.process = false;
                    Some(gone())
                }
                _ => world.pending.pop_front(),
            };
            for action in event.map(|event| run.on(event)).unwrap_or_default() {
                world.carry_out(action, luck);
            }
        }
        // The kill, and then only what the world answers.
        for action in run.on(Event::Order(Order::Kill)) {
            world.carry_out(action, 1);
        }
        for luck in lucks {
            let Some(event) = world.pending.pop_front() else { break };
            for action in run.on(event) {
                world.carry_out(action, luck);
            }
        }
        prop_assert!(run.state.is_done(), "stuck in {:?}", run.state);
        prop_assert!(world.finished);
        prop_assert_eq!(world.told_ended, 1);
        prop_assert!(!world.machine);
        prop_assert!(world.timers.is_empty(), "timers left: {:?}", world.timers);
    }

    /// A stop with a grace ends every run too, however deaf process and guest are, by timers alone.
    #[test]
    fn a_stop_with_a_grace_always_ends_the_run(seconds in 0..100_u32, deaf in any::<bool>()) {
        let mut run = Run::running();
        let order = StopOrder { signal: 15, grace_seconds: Some(seconds) };
        let mut timers = BTreeMap::new();
        let mut events = VecDeque::from([Event::Order(Order::Stop(order))]);
        let mut signals = vec![];
        while let Some(event) = events.pop_front() {
            for action in run.on(event) {
                match action {
                    Action::Arm(timer, after) => drop(timers.insert(timer, after)),
                    Action::Disarm(timer) => drop(timers.remove(&timer)),
                    Action::Signal(number) => {
                        signals.push(number);
                        if !deaf && number == 9 {
                            events.push_back(Event::Agent(Agent::ProcessExited(exit(137))));
                        }
                    }
                    Action::PowerOff => events.push_back(gone()),
                    Action::SeekEnd => events.push_back(Event::Sought(None)),
                    Action::Record(_) => events.push_back(Event::Chore(Chore::Recorded)),
                    Action::TellEnded(_) => events.push_back(Event::Chore(Chore::Told)),
                    Action::Clean => events.push_back(Event::Chore(Chore::Cleaned)),
                    Action::FindWhatIsLeft
                    | Action::Prepare
                    | Action::Queue
                    | Action::Launch
                    | Action::Connect
                    | Action::SetUp
                    | Action::AskExecuting
                    | Action::TellStarted(_)
                    | Action::Finish => {}
                }
            }
            if events.is_empty() && let Some((timer, _)) = timers.pop_first() {
                events.push_back(Event::Expired(timer));
            }
        }
        prop_assert!(run.state.is_done());
        prop_assert_eq!(signals, [15, 9]);
        prop_assert_eq!(run.told()[0].exit.code, 137);
    }
}
