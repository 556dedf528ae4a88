//! Where everything on some hosts would go, one after the other.
//!
//! A loss follows the restart plan of [`keeping`]: its order, its hosts; what the plan finds no place for
//! is tried as any request. A drain takes the more
//! important first, then the older, and each decision is the mirror's best. Either counts those
//! before it; what moves does not count where it was.

use crate::fleet::Fleet;
use crate::placement::keeping::{self, Key};
use crate::placement::{Ask, Delta, Load, Mirror, explain};
use berth_model::cluster::Admission;
use berth_model::command::{Command, CommandBody, Principal, Reserve, ReserveItem};
use berth_model::report::Fact;
use berth_model::{
    ClusterPolicy, ContainerId, ContainerVm, Demand, EndpointId, Exit, Explanation, HostId, Place,
    PlacementWish, RequestId, ReservationId, Victim,
};
use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Moves {
    /// Index of the fleet that this is true of.
    pub revision_index: u64,
    /// In the order in which they are decided.
    pub moves: Vec<Move>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Move {
    pub subject: Subject,
    pub from: HostId,
    /// Where to, or why nowhere.
    pub to: Result<Place, Box<Explanation>>,
}

/// What has to move.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Subject {
    ContainerVm(ContainerId),
    /// Held places are not moved: whoever holds it asks for another, which would be this.
    Reservation(ReservationId),
}

impl Subject {
    fn of(key: Key) -> Option<Subject> {
        match key {
            Key::Placed(Victim::ContainerVm(id)) => Some(Subject::ContainerVm(id)),
            Key::Placed(Victim::Reservation(id)) => Some(Subject::Reservation(id)),
            Key::Ticket(_) => None,
        }
    }
}

/// The hosts are gone.
pub(super) fn lose(fleet: &Arc<Fleet>, hosts: &[HostId]) -> Moves {
    let mut ahead = Ahead::of(fleet);
    for host in hosts {
        ahead.apply(CommandBody::HostSilent { host: *host });
    }
    // What is kept for a loss is kept for this.
    for cluster in fleet.clusters() {
        if cluster.policy.admission != Admission::Off {
            let policy = ClusterPolicy { admission: Admission::Off, ..cluster.policy.clone() };
            ahead.apply(CommandBody::SetPolicy { cluster: cluster.id, policy });
        }
    }
    let lost: BTreeSet<HostId> = hosts.iter().copied().collect();
    let plan = keeping::restart_plan(fleet, &lost);
    let turn: BTreeMap<Subject, (usize, Option<HostId>)> = plan
        .into_iter()
        .enumerate()
        .filter_map(|(turn, (key, _, to))| Some((Subject::of(key)?, (turn, to))))
        .collect();
    let mut moves = movers(fleet, hosts);
    // What the plan leaves out cannot be moved; it comes last, and its explanation says why.
    moves.sort_by_key(|mover| turn.get(&mover.subject).map_or(usize::MAX, |(turn, _)| *turn));
    for mover in &mut moves {
        if let Some((_, Some(to))) = turn.get(&mover.subject) {
            mover.planned = Some(*to);
        }
    }
    Moves { revision_index: fleet.index(), moves: ahead.place_all(moves) }
}

/// The host takes nothing new, and what is there leaves.
pub(super) fn drain(fleet: &Arc<Fleet>, host: HostId) -> Moves {
    let mut ahead = Ahead::of(fleet);
    ahead.apply(CommandBody::SetMaintenance { host, maintenance: true });
    let moves = movers(fleet, &[host]);
    Moves { revision_index: fleet.index(), moves: ahead.place_all(moves) }
}

/// Loses one host in a copy of the fleet and starts what ran there elsewhere: the mirror of what is
/// left, and how many found no place.
pub(super) fn after_loss(fleet: &Arc<Fleet>, host: HostId) -> (Mirror, u64) {
    let mut ahead = Ahead::of(fleet);
    ahead.apply(CommandBody::HostSilent { host });
    let mut homeless = 0;
    let mut mirror = ahead.emptied(&movers(fleet, &[host]));
    for mover in movers(fleet, &[host]) {
        let ask = mover.ask();
        match mirror.decide(&ask) {
            Some(place) => {
                // Never settled: it stays taken as long as the mirror lives.
                let _ticket = mirror.take(&ask, &place);
            }
            None => homeless += 1,
        }
    }
    (mirror, homeless)
}

/// One that has to go somewhere else.
struct Mover {
    subject: Subject,
    from: HostId,
    endpoint: EndpointId,
    wish: Arc<PlacementWish>,
    delta: Delta,
    /// How the container VM's end is told to the copy.
    ended: Option<Fact>,
    /// Where the restart plan has it.
    planned: Option<HostId>,
}

impl Mover {
    fn of_container(vm: &ContainerVm, from: HostId, fleet: &Fleet) -> Option<Mover> {
        let datastore = vm.datastore?;
        // Pinned to a host that it has to leave, it goes nowhere, which the explanation says.
        let wish = PlacementWish { demand: vm.spec.demand.clone(), labels: vm.labels().clone() };
        let exit = Exit { code: 255, oom_killed: false, error: String::new() };
        let (container, epoch, finished_at) = (vm.id, vm.epoch, fleet.time());
        Some(Mover {
            subject: Subject::ContainerVm(vm.id),
            from,
            endpoint: vm.endpoint(),
            wish: Arc::new(wish),
            delta: Delta::Placed(datastore),
            ended: Some(Fact::VmExited { container, epoch, exit, finished_at }),
            planned: None,
        })
    }

    fn ask(&self) -> Ask<'_> {
        let PlacementWish { demand, labels } = &*self.wish;
        let (endpoint, delta) = (self.endpoint, self.delta);
        Ask {
            endpoint,
            demand,
            labels,
            image: None,
            delta,
            load: Load::Now,
            instead_of: None,
            seed: 0,
        }
    }
}

/// What is on these hosts, in the order in which it is decided.
fn movers(fleet: &Fleet, hosts: &[HostId]) -> Vec<Mover> {
    let mut found = Vec::new();
    for host in hosts {
        let (vms, reservations) = fleet.placed_on(*host);
        for vm in vms {
            let key =
                (Reverse(vm.spec.demand.priority), vm.meta.created, Subject::ContainerVm(vm.id));
            found.extend(Mover::of_container(vm, *host, fleet).map(|mover| (key, mover)));
        }
        for held in reservations {
            let subject = Subject::Reservation(held.id);
            let key = (Reverse(held.wish.demand.priority), held.meta.created, subject);
            let mover = Mover {
                subject,
                from: *host,
                endpoint: held.meta.endpoint,
                wish: Arc::clone(&held.wish),
                delta: held.wish.demand.datastore.map_or(Delta::Anywhere, Delta::New),
                ended: None,
                planned: None,
            };
            found.push((key, mover));
        }
    }
    found.sort_by_key(|(key, _)| *key);
    found.into_iter().map(|(_, mover)| mover).collect()
}

/// A copy of the fleet that goes on.
struct Ahead {
    fleet: Fleet,
}

impl Ahead {
    fn of(fleet: &Fleet) -> Self {
        Self { fleet: fleet.clone() }
    }

    fn apply(&mut self, body: CommandBody) {
        let command = Command {
            principal: Principal::Local,
            endpoint: EndpointId::SYSTEM,
            request: RequestId::from_bytes([0; 16]),
            traceparent: None,
            key: None,
            deadline: None,
            condition: None,
            body,
        };
        // What is rejected changes nothing: a host that is unknown is not lost.
        let _ = self.fleet.apply(self.fleet.index() + 1, self.fleet.time(), command);
    }

    /// Takes the movers away from where they are; the mirror of what is left.
    fn emptied(&mut self, movers: &[Mover]) -> Mirror {
        let mut held = Vec::new();
        for mover in movers {
            match (&mover.subject, &mover.ended) {
                (Subject::Reservation(id), _) => held.push(*id),
                (Subject::ContainerVm(_), Some(fact)) => {
                    let facts = vec![fact.clone()];
                    self.apply(CommandBody::Observe { host: mover.from, facts });
                }
                (Subject::ContainerVm(_), None) => {}
            }
        }
        if !held.is_empty() {
            self.apply(CommandBody::Release { ids: held });
        }
        Mirror::new(Arc::new(self.fleet.clone()))
    }

    fn place_all(&mut self, movers: Vec<Mover>) -> Vec<Move> {
        let mut mirror = self.emptied(&movers);
        let mut moves = Vec::with_capacity(movers.len());
        for mover in movers {
            let ask = mover.ask();
            let planned =
                mover.planned.map(|host| Demand { host: Some(host), ..ask.demand.clone() });
            let found = match &planned {
                Some(demand) => mirror.decide(&Ask { demand, ..ask }),
                None => mirror.decide(&ask),
            };
            let to = match found {
                Some(place) => {
                    let _ticket = mirror.take(&ask, &place);
                    self.hold(&mover, moves.len(), &place);
                    Ok(place)
                }
                None => Err(Box::new(explain(&self.fleet, &ask, Explanation::HOSTS_MAX))),
            };
            moves.push(Move { subject: mover.subject, from: mover.from, to });
        }
        moves
    }

    /// Counts a move in the copy, for explanations of those after it. Its disks are where they
    /// were.
    fn hold(&mut self, mover: &Mover, number: usize, place: &Place) {
        let PlacementWish { demand, labels } = &*mover.wish;
        let demand = Demand {
            disk: berth_model::Bytes::ZERO,
            disks: Vec::new(),
            datastore_labels: Default::default(),
            datastore: None,
            ..demand.clone()
        };
        let mut id = [0xff; 16];
        id[8..].copy_from_slice(&(number as u64).to_be_bytes());
        let item = ReserveItem {
            id: ReservationId::from_bytes(id),
            wish: 0,
            endpoint: mover.endpoint,
            place: Place { delta: None, disks: Vec::new(), ..place.clone() },
            hold_ms: None,
            victims: Vec::new(),
        };
        let wish = Arc::new(PlacementWish { demand, labels: labels.clone() });
        let planned_at = self.fleet.index();
        let reserve = Reserve { planned_at, wishes: vec![wish], items: vec![item], gang: None };
        self.apply(CommandBody::Reserve(Box::new(reserve)));
    }
}
