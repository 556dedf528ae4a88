//! Stories of desks: each is a replica's, their commands come to one log, in whichever order.

use super::*;
use crate::fleet::testing::*;
use crate::fleet::{Fleet, format};
use berth_model::cluster::ClusterPolicy;
use berth_model::command::{CommandBody, Principal};
use berth_model::{
    Bytes, Demand, EndpointId, Filter, GangId, MilliCpus, Permille, PlacementWish, Rejection,
    RequestId, ReservationId, Timestamp,
};
use proptest::prelude::*;
use std::sync::Arc;

type TestDesk = Desk<&'static str>;

struct World {
    cell: Cell,
    desks: Vec<TestDesk>,
    /// Desk and command, in the order in which they were proposed.
    log: Vec<(usize, Proposal)>,
    answers: Vec<Done<&'static str>>,
    ms: u64,
    last_id: u8,
}

impl World {
    /// `hosts` hosts of 4 cpus and 4 GiB, and this many desks.
    fn new(hosts: u8, desks: u64) -> World {
        let limits = |replica| Limits::new(replica, 1 << 20, None);
        World {
            cell: Cell::shared(hosts),
            desks: (1..=desks).map(|replica| Desk::new(limits(replica))).collect(),
            log: Vec::new(),
            answers: Vec::new(),
            ms: 1000,
            last_id: 0,
        }
    }

    fn now(&self) -> Now {
        Now { ms: self.ms, leader: Timestamp(self.cell.time) }
    }

    fn wanted(&mut self, items: usize, demand: Demand) -> Wanted {
        let labels = Default::default();
        let items = (0..items).map(|_| {
            self.last_id += 1;
            let id = ReservationId::from_bytes([self.last_id; 16]);
            PlaceWish { wish: 0, endpoint: ENDPOINT, id }
        });
        Wanted {
            principal: Principal::Local,
            request_id: RequestId::from_bytes([1; 16]),
            traceparent: None,
            items: items.collect(),
            wishes: vec![Arc::new(PlacementWish { demand, labels })],
            gang: None,
            mode: PlaceMode::Hold { hold_ms: None },
            explain_hosts: 4,
        }
    }

    fn submit(&mut self, desk: usize, name: &'static str, wanted: Wanted) {
        let deadline = self.ms + 10_000;
        self.desks[desk].submit(wanted, name, deadline, 0);
    }

    fn wait(&mut self, desk: usize, name: &'static str, wanted: Wanted, ms: u64) {
        let (deadline, until) = (self.ms + 100_000, self.ms + ms);
        self.desks[desk].submit(wanted, name, deadline, until);
    }

    /// One turn of one desk on the fleet as it is, explanations included.
    fn turn(&mut self, desk: usize) {
        let (fleet, now) = (Arc::new(self.cell.fleet.clone()), self.now());
        let one = &mut self.desks[desk];
        one.turn(&fleet, now);
        while let Some(task) = one.next_explanation() {
            one.explained(&task.run());
        }
        self.log.extend(one.take_proposals().into_iter().map(|proposal| (desk, proposal)));
        self.answers.extend(one.take_done());
    }

    /// The command at this position of what is under way is applied and answered.
    fn deliver(&mut self, position: usize) {
        let (desk, proposal) = self.log.remove(position);
        let command = format::decode_command(&proposal.bytes).unwrap();
        let answer = self.cell.apply_command(command);
        let (fleet, now) = (Arc::new(self.cell.fleet.clone()), self.now());
        let outcome = Outcome::Answered { index: self.cell.index, answer };
        self.desks[desk].settle(proposal.number, outcome, &fleet, now);
    }

    /// Turns and deliveries until nothing moves.
    fn run(&mut self) {
        for _ in 0..1000 {
            for desk in 0..self.desks.len() {
                self.turn(desk);
            }
            if self.log.is_empty() {
                return;
            }
            self.deliver(0);
        }
        panic!("it does not end: {:?}", self.desks);
    }

    fn answer(&mut self, name: &str) -> Result<PlaceAnswer, PlaceTrouble> {
        let position = self.answers.iter().position(|(reply, _)| *reply == name);
        let position = position.unwrap_or_else(|| panic!("no answer to {name}"));
        self.answers.remove(position).1
    }

    fn is_answered(&self, name: &str) -> bool {
        self.answers.iter().any(|(reply, _)| *reply == name)
    }

    fn hosts_of(&mut self, name: &str) -> Vec<u8> {
        let answer = self.answer(name).unwrap();
        let host = |item: &Result<Placed, _>| item.as_ref().unwrap().place.host.as_bytes()[0];
        answer.items.iter().map(host).collect()
    }

    fn release(&mut self, id: ReservationId) {
        self.cell.apply(CommandBody::Release { ids: vec![id] }).unwrap();
    }

    fn held(&self) -> usize {
        self.cell.fleet.reservations().count()
    }

    fn counts(&mut self) -> Counts {
        self.desks.iter_mut().map(Desk::take_counts).fold(Counts::default(), |sum, one| Counts {
            decided: sum.decided + one.decided,
            held: sum.held + one.held,
            told: sum.told + one.told,
            refused: sum.refused + one.refused,
            conflicts: sum.conflicts + one.conflicts,
        })
    }
}

/// One cpu and no disk: four to a host.
fn small() -> Demand {
    Demand { disk: Bytes::ZERO, ..demand() }
}

/// A whole host.
fn whole() -> Demand {
    Demand { cpu: MilliCpus::whole(4), ..small() }
}

#[test]
fn what_is_answered_as_held_was_applied() {
    let mut world = World::new(2, 1);
    let wanted = world.wanted(1, small());
    world.submit(0, "one", wanted.clone());
    world.turn(0);
    assert!(!world.is_answered("one"));
    world.deliver(0);
    world.turn(0);
    let answer = world.answer("one").unwrap();
    assert_eq!(answer.revision_index, world.cell.index);
    let placed = answer.items[0].as_ref().unwrap();
    assert_eq!(placed.reservation, Some(wanted.items[0].id));
    let held = world.cell.fleet.reservation(wanted.items[0].id).unwrap();
    assert_eq!(held.place, placed.place);
    assert_eq!(world.desks[0].jobs(), 0);
}

#[test]
fn requests_that_are_there_together_share_a_command() {
    let mut world = World::new(2, 1);
    for name in ["a", "b", "c"] {
        let wanted = world.wanted(2, small());
        world.submit(0, name, wanted);
    }
    world.turn(0);
    assert_eq!(world.log.len(), 1);
    world.run();
    assert_eq!(world.hosts_of("a"), [1, 2]);
    assert_eq!(world.hosts_of("c"), [1, 2]);
    assert_eq!(world.held(), 6);
}

#[test]
fn decisions_that_are_under_way_count() {
    let mut world = World::new(1, 1);
    for name in ["a", "b"] {
        let wanted = world.wanted(2, small());
        world.submit(0, name, wanted);
        world.turn(0);
    }
    assert_eq!(world.log.len(), 2);
    let wanted = world.wanted(1, small());
    world.submit(0, "late", wanted);
    world.turn(0);
    // It may have come to nothing, what took the room: it is asked again when that is known.
    assert!(!world.is_answered("late"));
    world.run();
    assert_eq!(world.held(), 4);
    let answer = world.answer("late").unwrap();
    let explanation = answer.items[0].as_ref().unwrap_err();
    assert_eq!(explanation.refused.get(&Filter::Capacity), Some(&1));
    assert_eq!(world.counts().conflicts, 0);
}

#[test]
fn two_desks_that_take_the_same_room_conflict_and_never_oversell() {
    let mut world = World::new(2, 2);
    for (desk, name) in [(0, "left"), (1, "right")] {
        let wanted = world.wanted(5, small());
        world.submit(desk, name, wanted);
        world.turn(desk);
    }
    assert_eq!(world.log.len(), 2);
    world.run();
    assert_eq!(world.held(), 8);
    let held = |answer: PlaceAnswer| answer.items.iter().filter(|item| item.is_ok()).count();
    let (left, right) = (world.answer("left").unwrap(), world.answer("right").unwrap());
    assert_eq!((held(left), held(right)), (5, 3));
    let counts = world.counts();
    assert!(counts.conflicts > 0, "{counts:?}");
    assert_eq!((counts.held, counts.refused), (8, 2));
}

#[test]
fn a_gang_is_held_whole_or_not_at_all() {
    let mut world = World::new(2, 1);
    let gang = |number: u8| Some(GangId::from_bytes([number; 16]));
    let fits = Wanted { gang: gang(1), ..world.wanted(6, small()) };
    world.submit(0, "fits", fits);
    let torn = Wanted { gang: gang(2), ..world.wanted(3, small()) };
    world.submit(0, "torn", torn);
    let rest = world.wanted(2, small());
    world.submit(0, "rest", rest);
    world.run();
    assert_eq!(world.hosts_of("fits").len(), 6);
    let answer = world.answer("torn").unwrap();
    assert_eq!((answer.blocker, answer.items.len()), (Some(0), 3));
    assert!(answer.items.iter().all(Result::is_err));
    assert_eq!(world.hosts_of("rest").len(), 2);
    assert_eq!(world.held(), 8);
}

#[test]
fn a_gang_that_lost_its_room_to_another_desk_holds_nothing() {
    let mut world = World::new(2, 2);
    let gang = Some(GangId::from_bytes([1; 16]));
    let team = Wanted { gang, ..world.wanted(5, small()) };
    world.submit(0, "team", team);
    world.turn(0);
    let other = world.wanted(4, small());
    world.submit(1, "other", other);
    world.turn(1);
    world.deliver(1);
    world.run();
    assert_eq!(world.hosts_of("other").len(), 4);
    let answer = world.answer("team").unwrap();
    // The explanation is of the fifth, with four of the gang in the room that is left.
    assert_eq!(answer.blocker, Some(4));
    let explanation = answer.items[0].as_ref().unwrap_err();
    assert_eq!(explanation.refused.get(&Filter::Capacity), Some(&2));
    assert_eq!(world.held(), 4);
    assert!(world.counts().conflicts >= 1);
}

#[test]
fn a_dry_run_tells_and_leaves_nothing() {
    let mut world = World::new(1, 1);
    let dry = Wanted { mode: PlaceMode::Decide, ..world.wanted(5, small()) };
    world.submit(0, "dry", dry);
    world.turn(0);
    assert!(world.log.is_empty());
    let answer = world.answer("dry").unwrap();
    assert_eq!(answer.revision_index, world.cell.index);
    assert_eq!(answer.items.iter().filter(|item| item.is_ok()).count(), 4);
    assert!(answer.items[0].as_ref().unwrap().reservation.is_none());
    // The fifth finds the four in its way, though nobody holds them.
    let explanation = answer.items[4].as_ref().unwrap_err();
    assert_eq!(explanation.refused.get(&Filter::Capacity), Some(&1));
    assert_eq!(explanation.considered, 1);
    let real = world.wanted(4, small());
    world.submit(0, "real", real);
    world.run();
    assert_eq!(world.hosts_of("real"), [1; 4]);
}

#[test]
fn one_that_waits_is_held_when_room_appears() {
    let mut world = World::new(1, 1);
    let first = world.wanted(1, whole());
    world.submit(0, "first", first.clone());
    world.run();
    let wanted = world.wanted(1, whole());
    world.wait(0, "second", wanted, 5000);
    world.run();
    assert!(!world.is_answered("second"));
    assert!(world.desks[0].hopes_for_change());
    let decided = world.counts().decided;
    // Nothing that could help.
    world.cell.apply(new_image(&["other:latest"], 100)).unwrap();
    world.cell.apply(CommandBody::SetMaintenance { host: host_id(1), maintenance: false }).unwrap();
    world.run();
    assert!(world.counts().decided <= decided);
    world.release(first.items[0].id);
    world.run();
    assert_eq!(world.hosts_of("second"), [1]);
}

#[test]
fn one_that_waited_in_vain_is_told_why() {
    let mut world = World::new(1, 1);
    let wanted = world.wanted(2, whole());
    world.wait(0, "pair", wanted, 5000);
    world.run();
    world.ms += 4999;
    world.run();
    assert!(!world.is_answered("pair"));
    assert_eq!(world.desks[0].next_turn(world.now()), Some(world.ms + 1));
    world.ms += 1;
    world.run();
    let answer = world.answer("pair").unwrap();
    assert!(answer.items[0].is_ok());
    let explanation = answer.items[1].as_ref().unwrap_err();
    assert_eq!(explanation.refused.get(&Filter::Capacity), Some(&1));
}

#[test]
fn a_waiting_gang_is_held_when_all_of_it_has_room() {
    let mut world = World::new(2, 1);
    let first = world.wanted(1, whole());
    world.submit(0, "first", first.clone());
    world.run();
    let gang = Some(GangId::from_bytes([1; 16]));
    let team = Wanted { gang, ..world.wanted(2, whole()) };
    world.wait(0, "team", team, 5000);
    world.run();
    assert_eq!(world.held(), 1);
    world.release(first.items[0].id);
    world.run();
    assert_eq!(world.hosts_of("team").len(), 2);
}

#[test]
fn of_a_class_that_waits_as_many_are_held_as_there_is_room_for() {
    let mut world = World::new(1, 1);
    let first = world.wanted(1, whole());
    world.submit(0, "first", first.clone());
    world.run();
    let many = world.wanted(9, small());
    world.wait(0, "many", many, 5000);
    world.run();
    world.counts();
    world.release(first.items[0].id);
    world.run();
    assert_eq!(world.held(), 4);
    // One that is refused speaks for its class.
    assert!(world.counts().decided <= 4 + 3);
}

#[test]
fn the_more_important_goes_first_and_endpoints_take_turns() {
    let mut world = World::new(1, 1);
    let many = world.wanted(4, small());
    world.submit(0, "many", many);
    let mut other = world.wanted(1, small());
    other.items[0].endpoint = OTHER_ENDPOINT;
    world.submit(0, "other", other);
    let urgent = world.wanted(1, Demand { priority: 10, ..small() });
    world.submit(0, "urgent", urgent);
    world.run();
    assert_eq!(world.hosts_of("urgent"), [1]);
    assert_eq!(world.hosts_of("other"), [1]);
    let answer = world.answer("many").unwrap();
    assert_eq!(answer.items.iter().filter(|item| item.is_ok()).count(), 2);
}

#[test]
fn a_repeated_request_finds_what_the_first_one_got() {
    let mut world = World::new(1, 2);
    let wanted = world.wanted(1, whole());
    world.submit(0, "first", wanted.clone());
    world.run();
    let first = world.answer("first").unwrap();
    world.submit(1, "again", wanted);
    world.run();
    assert_eq!(world.answer("again").unwrap().items, first.items);
    assert_eq!(world.held(), 1);
}

#[test]
fn a_command_of_unknown_fate_is_decided_again_and_held_once() {
    let mut world = World::new(2, 1);
    let wanted = world.wanted(1, small());
    world.submit(0, "one", wanted);
    world.turn(0);
    let (_, lost) = world.log.remove(0);
    let (fleet, now) = (Arc::new(world.cell.fleet.clone()), world.now());
    world.desks[0].settle(lost.number, Outcome::Unknown, &fleet, now);
    world.turn(0);
    // The first comes through after all, behind the second.
    world.log.push((0, lost));
    world.run();
    assert_eq!(world.hosts_of("one").len(), 1);
    assert_eq!(world.held(), 1);
}

#[test]
fn a_job_whose_time_is_up_says_whether_it_may_be_held() {
    let mut world = World::new(1, 1);
    let sent = world.wanted(1, small());
    world.submit(0, "sent", sent);
    world.turn(0);
    world.ms += 10_000;
    world.turn(0);
    assert_eq!(world.answer("sent"), Err(PlaceTrouble::Unknown));
    let unsent = world.wanted(1, small());
    world.desks[0].submit(unsent, "unsent", world.ms, 0);
    world.turn(0);
    assert_eq!(world.answer("unsent"), Err(PlaceTrouble::Full));
    // The late answer finds nobody, and what it held counts.
    world.run();
    assert_eq!(world.held(), 1);
}

#[test]
fn without_a_leader_it_is_tried_again_after_a_pause() {
    let mut world = World::new(1, 1);
    let wanted = world.wanted(1, small());
    world.submit(0, "one", wanted);
    world.turn(0);
    let (_, proposal) = world.log.remove(0);
    let (fleet, now) = (Arc::new(world.cell.fleet.clone()), world.now());
    let outcome = Outcome::Refused(PlaceTrouble::NoLeader);
    world.desks[0].settle(proposal.number, outcome, &fleet, now);
    world.turn(0);
    assert!(world.log.is_empty());
    world.ms = world.desks[0].next_turn(now).unwrap();
    world.run();
    assert_eq!(world.hosts_of("one"), [1]);
}

#[test]
fn a_request_that_cannot_stand_is_rejected() {
    let mut world = World::new(1, 1);
    let mut no_such_shape = world.wanted(1, small());
    no_such_shape.items[0].wish = 7;
    world.submit(0, "shape", no_such_shape);
    let mut nobody = world.wanted(1, small());
    nobody.items[0].endpoint = EndpointId::from_bytes([77; 16]);
    world.submit(0, "nobody", nobody);
    world.run();
    let shape = world.answer("shape");
    assert!(matches!(shape, Err(PlaceTrouble::Rejected(Rejection::Invalid { .. }))), "{shape:?}");
    assert_eq!(world.answer("nobody"), Err(PlaceTrouble::Rejected(Rejection::NoSuchEndpoint)));
    let mut desk: TestDesk = Desk::new(Limits::new(1, 1 << 20, Some(1000)));
    for (name, hold_ms, stands) in
        [("forever", None, false), ("long", Some(1001), false), ("short", Some(1000), true)]
    {
        let wanted = Wanted { mode: PlaceMode::Hold { hold_ms }, ..world.wanted(1, small()) };
        desk.submit(wanted, name, 10_000, 0);
        assert_eq!(desk.take_done().is_empty(), stands, "{name}");
    }
}

#[test]
fn a_request_for_nothing_is_answered_and_one_whose_client_has_gone_is_forgotten() {
    let mut world = World::new(1, 1);
    let nothing = world.wanted(0, small());
    world.submit(0, "nothing", nothing);
    world.turn(0);
    assert_eq!(world.answer("nothing").unwrap().items, []);
    let taken = world.wanted(1, whole());
    world.submit(0, "taken", taken);
    world.run();
    let waiting = world.wanted(1, whole());
    world.wait(0, "gone", waiting, 5000);
    world.run();
    world.desks[0].retain(|name| *name != "gone");
    assert_eq!(world.desks[0].jobs(), 0);
    assert!(!world.desks[0].hopes_for_change());
}

#[test]
fn a_command_stays_within_its_bounds() {
    let mut world = World::new(1, 1);
    world.desks[0] = Desk::new(Limits { batch_items: 2, ..Limits::new(1, 1 << 20, None) });
    let wanted = world.wanted(4, small());
    world.submit(0, "four", wanted);
    world.turn(0);
    assert_eq!(world.log.len(), 2);
    world.run();
    assert_eq!(world.hosts_of("four"), [1; 4]);
    world.desks[0] = Desk::new(Limits { command_bytes: 200, ..Limits::new(1, 1 << 20, None) });
    let gang = Some(GangId::from_bytes([1; 16]));
    let large = Wanted { gang, ..world.wanted(3, Demand { cpu: MilliCpus(1), ..small() }) };
    world.cell.host(2, facts(2, "main", &[100]));
    world.submit(0, "large", large);
    world.run();
    assert_eq!(world.answer("large"), Err(PlaceTrouble::TooLarge));
}

#[test]
fn a_reservation_of_a_lower_priority_gives_way_where_the_policy_allows() {
    let mut world = World::new(1, 1);
    let low = world.wanted(1, whole());
    world.submit(0, "low", low.clone());
    world.run();
    let high = Demand { priority: 5, ..whole() };
    let dry = Wanted { mode: PlaceMode::Decide, ..world.wanted(1, high.clone()) };
    world.submit(0, "before", dry.clone());
    world.run();
    assert!(world.answer("before").unwrap().items[0].is_err());
    let once = Permille(1000);
    let policy = ClusterPolicy {
        preemption: true,
        cpu_overcommit: once,
        disk_overcommit: once,
        ..ClusterPolicy::default()
    };
    world.cell.apply(CommandBody::SetPolicy { cluster: CLUSTER, policy }).unwrap();
    world.submit(0, "dry", dry);
    world.run();
    let shown = world.answer("dry").unwrap().items.remove(0).unwrap();
    assert_eq!(shown.victims, [berth_model::Victim::Reservation(low.items[0].id)]);
    assert_eq!(world.held(), 1);
    let real = world.wanted(1, high);
    world.submit(0, "real", real.clone());
    world.run();
    let placed = world.answer("real").unwrap().items.remove(0).unwrap();
    assert_eq!(placed.victims, shown.victims);
    assert!(world.cell.fleet.reservation(low.items[0].id).is_none());
    assert!(world.cell.fleet.reservation(real.items[0].id).is_some());
}

/// One random request: desk, items, quarters of a cpu, gang, dry run, wait.
type Ask = (usize, usize, u64, bool, bool, bool);

fn ask() -> impl Strategy<Value = Ask> {
    (0..3_usize, 1..5_usize, 1..9_u64, any::<bool>(), prop::bool::weighted(0.2), any::<bool>())
}

/// What happens next: a request, a turn of a desk, a delivery, an unknown fate, a release.
#[derive(Clone, Debug)]
enum Step {
    Ask(Ask),
    Turn(usize),
    Deliver(usize),
    Lose(usize),
    Release(usize),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        3 => ask().prop_map(Step::Ask),
        4 => (0..3_usize).prop_map(Step::Turn),
        4 => (0..8_usize).prop_map(Step::Deliver),
        1 => (0..8_usize).prop_map(Step::Lose),
        1 => (0..8_usize).prop_map(Step::Release),
    ]
}

fn check_capacity(fleet: &Fleet) {
    for host in fleet.hosts() {
        let limit = fleet.limit_of_host(host);
        assert!(host.charged.cpu <= limit.cpu && host.charged.memory <= limit.memory);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]
    #[test]
    fn three_desks_on_one_log_never_oversell_and_answer_everyone(
        steps in prop::collection::vec(step(), 1..60),
    ) {
        let mut world = World::new(3, 3);
        let (mut asked, mut number, mut released) = (Vec::new(), 0_u8, false);
        for step in steps {
            world.ms += 10;
            match step {
                Step::Ask((desk, items, quarters, gang, dry, wait)) => {
                    let demand = Demand { cpu: MilliCpus(250 * quarters), ..small() };
                    if usize::from(world.last_id) + items > 250 {
                        continue;
                    }
                    number += 1;
                    let mut wanted = world.wanted(items, demand);
                    wanted.gang = gang.then(|| GangId::from_bytes([number; 16]));
                    if dry {
                        wanted.mode = PlaceMode::Decide;
                    }
                    asked.push(wanted.clone());
                    if wait {
                        world.wait(desk, "any", wanted, 300);
                    } else {
                        world.submit(desk, "any", wanted);
                    }
                }
                Step::Turn(desk) => world.turn(desk),
                Step::Deliver(position) if position < world.log.len() => world.deliver(position),
                Step::Lose(position) if position < world.log.len() => {
                    let (desk, proposal) = world.log.remove(position);
                    let (fleet, now) = (Arc::new(world.cell.fleet.clone()), world.now());
                    world.desks[desk].settle(proposal.number, Outcome::Unknown, &fleet, now);
                }
                Step::Release(position) => {
                    let held = world.cell.fleet.reservations().nth(position).map(|held| held.id);
                    if let Some(id) = held {
                        world.release(id);
                        released = true;
                    }
                }
                Step::Deliver(_) | Step::Lose(_) => {}
            }
            check_capacity(&world.cell.fleet);
        }
        world.run();
        world.ms += 1000;
        world.run();
        check_capacity(&world.cell.fleet);
        prop_assert_eq!(world.answers.len(), asked.len());
        for wanted in asked.iter().filter(|wanted| wanted.gang.is_some()) {
            let held = |item: &&PlaceWish| world.cell.fleet.reservation(item.id).is_some();
            let held = wanted.items.iter().filter(held).count();
            let dry = wanted.mode == PlaceMode::Decide;
            prop_assert!(held == 0 || released || (!dry && held == wanted.items.len()));
        }
        for (_, answer) in &world.answers {
            let answer = answer.as_ref().map_err(|trouble| {
                TestCaseError::fail(format!("{trouble:?}"))
            })?;
            let placed = answer.items.iter().filter(|item| item.is_ok()).count();
            prop_assert!(answer.blocker.is_none() || placed == 0);
        }
    }
}
