//! The difference against a small world of runs, driven by arbitrary events.

use super::*;
use berth_model::container::{ContainerSpec, NetworkMode};
use berth_model::{Bytes, Demand, Generation, ImageId, MilliCpus};
use proptest::prelude::*;
use std::collections::BTreeSet;

const STORE: DatastoreId = DatastoreId::from_bytes([9; 16]);

fn container(number: u8) -> ContainerId {
    ContainerId::from_bytes([number; 32])
}

fn run_order() -> RunOrder {
    let demand = Demand {
        cpu: MilliCpus(1000),
        memory: Bytes::mib(64),
        disk: Bytes::gib(1),
        ..Demand::default()
    };
    let spec = ContainerSpec {
        image: ImageId::from_bytes([1; 32]),
        image_reference: "busybox".into(),
        entrypoint: vec![],
        command: vec!["true".into()],
        environment: vec![],
        working_directory: String::new(),
        user: String::new(),
        hostname: String::new(),
        domain_name: String::new(),
        tty: false,
        open_stdin: false,
        stdin_once: false,
        stop_signal: 15,
        stop_timeout_seconds: None,
        demand,
        network: NetworkMode::None,
        auto_remove: false,
        volumes: vec![],
        exposed_ports: vec![],
        extra_hosts: vec![],
        dns: vec![],
        dns_search: vec![],
        shm_size: Bytes::mib(64),
        labels: BTreeMap::new(),
        docker_request: String::new(),
    };
    RunOrder {
        name: "name".into(),
        spec: spec.into(),
        image_datastore: STORE,
        cpu_model: "Nehalem".into(),
        numa: vec![],
    }
}

fn stop_order(grace: u32) -> StopOrder {
    StopOrder { signal: 15, grace_seconds: Some(grace) }
}

/// What the scheduler may want of one container, without the bulk of the order.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Wish {
    Nothing,
    Run,
    RunAnew,
    Stop(u32),
    Discard,
}

#[derive(Clone, Copy, Debug)]
enum Event {
    Wish(u8, Wish),
    /// The process in the container ends by itself.
    Ends(u8),
    Settle,
    NodeRestarts,
    SessionLost,
    SessionOpens,
}

/// The datastore and the hypervisors: what stays when the node goes.
#[derive(Default)]
struct World {
    alive: BTreeMap<ContainerId, Epoch>,
    exits: BTreeSet<(ContainerId, Epoch)>,
    ever_started: BTreeSet<(ContainerId, Epoch)>,
    reported: BTreeSet<(ContainerId, Epoch)>,
    gone: BTreeSet<ContainerId>,
}

#[derive(Default)]
struct Host {
    world: World,
    local: BTreeMap<ContainerId, Local>,
    assignment: Assignment,
    epochs: BTreeMap<ContainerId, Epoch>,
    in_session: bool,
}

impl Host {
    fn wish(&mut self, number: u8, wish: Wish) {
        let id = container(number);
        let discarding =
            self.assignment.vms.get(&id).is_some_and(|order| order.want == Want::Discard);
        if discarding || self.world.gone.contains(&id) {
            return;
        }
        let epoch = self.epochs.entry(id).or_insert(Epoch(1));
        if wish == Wish::RunAnew {
            *epoch = epoch.next();
        }
        let want = match wish {
            Wish::Nothing => {
                self.assignment.vms.remove(&id);
                return;
            }
            Wish::Run | Wish::RunAnew => Want::Run(Box::new(run_order())),
            Wish::Stop(grace) => {
                Want::Stop { run: Box::new(run_order()), order: stop_order(grace) }
            }
            Wish::Discard => Want::Discard,
        };
        self.assignment.vms.insert(id, VmOrder { epoch: *epoch, datastore: STORE, want });
        self.assignment.generation = Generation(self.assignment.generation.0 + 1);
    }

    fn ends(&mut self, id: ContainerId) {
        if let Some(epoch) = self.world.alive.remove(&id) {
            self.world.exits.insert((id, epoch));
            self.world.reported.insert((id, epoch));
            self.local.insert(id, Local::Ended { epoch, told: true });
        }
    }

    fn restart(&mut self) {
        let adopt = |(id, epoch): (&ContainerId, &Epoch)| {
            (*id, Local::Run { epoch: *epoch, ending: Ending::NotAsked })
        };
        self.local = self.world.alive.iter().map(adopt).collect();
        self.world.reported.clear();
        self.in_session = false;
    }

    fn steps(&self) -> Vec<Step> {
        diff(&self.local, self.in_session.then_some(&self.assignment))
    }

    fn settle(&mut self) {
        for step in self.steps() {
            self.carry_out(step);
        }
    }

    fn carry_out(&mut self, step: Step) {
        match step {
            Step::Start { container, epoch, .. } => {
                assert!(!self.world.alive.contains_key(&container), "two runs of {container}");
                if self.world.exits.contains(&(container, epoch)) {
                    self.world.reported.insert((container, epoch));
                    self.local.insert(container, Local::Ended { epoch, told: true });
                    return;
                }
                let first = self.world.ever_started.insert((container, epoch));
                assert!(first, "{container} started twice under {epoch}");
                let later = |(id, e): &(ContainerId, Epoch)| *id == container && *e > epoch;
                assert!(!self.world.ever_started.iter().any(later), "epoch went back");
                self.world.alive.insert(container, epoch);
                self.local.insert(container, Local::Run { epoch, ending: Ending::NotAsked });
            }
            Step::Stop { container, order } => self.say(container, Ending::Stopping(order)),
            Step::Kill { container } => self.say(container, Ending::Killed),
            Step::Discard { container, .. } => {
                assert!(!self.world.alive.contains_key(&container), "discarded while it runs");
                self.world.gone.insert(container);
                self.local.insert(container, Local::Discarded { told: true });
            }
            Step::ReportExit { container, epoch } => {
                self.world.reported.insert((container, epoch));
                self.local.insert(container, Local::Ended { epoch, told: true });
            }
            Step::ReportDiscarded { container } => {
                self.local.insert(container, Local::Discarded { told: true });
            }
            Step::Forget { container } => {
                self.local.remove(&container);
            }
        }
    }

    fn say(&mut self, container: ContainerId, said: Ending) {
        let Some(Local::Run { ending, .. }) = self.local.get_mut(&container) else {
            panic!("told a run to end that does not run");
        };
        assert_ne!(*ending, said, "said twice");
        *ending = said;
    }

    /// What was asked to end does, in the end.
    fn let_the_asked_end(&mut self) {
        let asked = |(id, state): (&ContainerId, &Local)| match state {
            Local::Run { ending: Ending::NotAsked, .. }
            | Local::Ended { .. }
            | Local::Discarding
            | Local::Discarded { .. } => None,
            Local::Run { ending: Ending::Stopping(_) | Ending::Killed, .. } => Some(*id),
        };
        for id in self.local.iter().filter_map(asked).collect::<Vec<_>>() {
            self.ends(id);
        }
    }

    fn event(&mut self, event: Event) {
        match event {
            Event::Wish(number, wish) => self.wish(number, wish),
            Event::Ends(number) => self.ends(container(number)),
            Event::Settle => self.settle(),
            Event::NodeRestarts => self.restart(),
            Event::SessionLost => self.in_session = false,
            Event::SessionOpens => self.in_session = true,
        }
    }

    fn check_settled(&self) {
        for (id, order) in &self.assignment.vms {
            let here = self.world.alive.get(id);
            let reported = self.world.reported.contains(&(*id, order.epoch));
            match &order.want {
                Want::Run(_) => {
                    assert!(here == Some(&order.epoch) || (here.is_none() && reported), "{id:?}");
                }
                Want::Stop { .. } => assert!(here.is_none() && reported, "{id:?} still runs"),
                Want::Discard => assert!(here.is_none() && self.world.gone.contains(id)),
            }
        }
        for id in self.world.alive.keys() {
            assert!(self.assignment.vms.contains_key(id), "{id:?} runs unwanted");
        }
    }
}

fn events() -> impl Strategy<Value = Vec<Event>> {
    let wish = prop_oneof![
        Just(Wish::Nothing),
        Just(Wish::Run),
        Just(Wish::RunAnew),
        (0_u32..3).prop_map(Wish::Stop),
        Just(Wish::Discard),
    ];
    let event = prop_oneof![
        4 => (0_u8..4, wish).prop_map(|(number, wish)| Event::Wish(number, wish)),
        2 => (0_u8..4).prop_map(Event::Ends),
        4 => Just(Event::Settle),
        1 => Just(Event::NodeRestarts),
        1 => Just(Event::SessionLost),
        3 => Just(Event::SessionOpens),
    ];
    prop::collection::vec(event, 0..60)
}

proptest! {
    #[test]
    fn whatever_happens_the_host_comes_to_run_its_assignment(events in events()) {
        let mut host = Host::default();
        for event in events {
            host.event(event);
        }
        host.in_session = true;
        for _ in 0..8 {
            host.settle();
            host.let_the_asked_end();
        }
        prop_assert_eq!(host.steps(), vec![]);
        host.check_settled();
    }

    #[test]
    fn nothing_is_done_before_the_first_assignment_of_a_session(events in events()) {
        let mut host = Host::default();
        for event in events {
            host.event(event);
        }
        host.in_session = false;
        prop_assert_eq!(host.steps(), vec![]);
    }

    #[test]
    fn a_step_taken_is_not_taken_again(events in events()) {
        let mut host = Host::default();
        for event in events {
            host.event(event);
        }
        host.in_session = true;
        // What is to be stopped may have to be found or started first.
        host.settle();
        host.settle();
        let taken: Vec<_> = host.steps().iter().filter_map(Step::name).collect();
        prop_assert!(taken.is_empty(), "{:?}", taken);
    }
}

fn check(local: Local, want: Want, epoch: u64) -> Vec<Step> {
    let order = VmOrder { epoch: Epoch(epoch), datastore: STORE, want };
    let vms = BTreeMap::from([(container(1), order)]);
    let assignment = Assignment { generation: Generation(1), vms };
    diff(&BTreeMap::from([(container(1), local)]), Some(&assignment))
}

#[test]
fn an_older_run_is_killed_before_the_newer_starts() {
    let run = Want::Run(Box::new(run_order()));
    let older = Local::Run { epoch: Epoch(1), ending: Ending::NotAsked };
    assert_eq!(check(older, run.clone(), 2), [Step::Kill { container: container(1) }]);
    let dying = Local::Run { epoch: Epoch(1), ending: Ending::Killed };
    assert_eq!(check(dying, run.clone(), 2), []);
    let over = Local::Ended { epoch: Epoch(1), told: true };
    assert!(matches!(check(over, run, 2)[..], [Step::Start { epoch: Epoch(2), .. }]));
}

#[test]
fn an_order_of_an_epoch_that_is_past_touches_nothing() {
    let run = Want::Run(Box::new(run_order()));
    let newer = Local::Run { epoch: Epoch(3), ending: Ending::NotAsked };
    assert_eq!(check(newer, run.clone(), 2), []);
    assert_eq!(check(Local::Ended { epoch: Epoch(3), told: false }, run, 2), []);
}

#[test]
fn an_exit_that_this_session_has_not_heard_of_is_reported_again() {
    let run = Want::Run(Box::new(run_order()));
    let untold = Local::Ended { epoch: Epoch(2), told: false };
    let report = Step::ReportExit { container: container(1), epoch: Epoch(2) };
    assert_eq!(check(untold, run, 2), [report]);
}

#[test]
fn a_changed_stop_order_is_passed_on() {
    let stop = Want::Stop { run: Box::new(run_order()), order: stop_order(1) };
    let slow = Local::Run { epoch: Epoch(1), ending: Ending::Stopping(stop_order(60)) };
    let sooner = Step::Stop { container: container(1), order: stop_order(1) };
    assert_eq!(check(slow, stop, 1), [sooner]);
}
