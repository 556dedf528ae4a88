//! Decisions that are on their way.

use super::Mirror;
use super::sync::Touched;
use super::tickets::{Counts, KeptTicket, Taken, Ticket};
use crate::fleet::admit::numa_share;
use crate::fleet::rules::{Bucket, Matched};
use crate::placement::{Ask, Delta, victims};
use berth_model::reservation::{Place, Victim};
use berth_model::{Bytes, DatastoreId, HostId, NumaNodes, ReservationId, Resources, Scope, Usage};

impl Mirror {
    /// Counts a decision until its ticket is settled and the next fleet is taken over.
    pub fn take(&mut self, ask: &Ask<'_>, place: &Place) -> Ticket {
        self.refresh();
        let matched = self.matched(ask);
        let taken = self.taken(ask, place, &matched);
        self.enter(taken)
    }

    /// The same for the datastore of one that is to be created: only its disk counts.
    pub fn take_datastore(&mut self, ask: &Ask<'_>, datastore: DatastoreId) -> Ticket {
        self.refresh();
        let matched = self.matched(ask);
        let nowhere = HostId::from_bytes([0; 16]);
        let mut taken = self.nothing(ask, nowhere);
        if !self.takes_over(ask.instead_of) {
            self.take_disks(&mut taken, ask, [(datastore, ask.demand.disk)], &matched);
        }
        self.enter(taken)
    }

    /// The decision is committed or dropped; the next sync tells the truth.
    pub fn settle(&mut self, ticket: Ticket) {
        self.tickets.settle(ticket.0);
    }

    /// Who would have to give way for a place: the fewest, of these the least important, of these
    /// the smallest. Only where the cluster's policy lets one displace another.
    pub fn displace(&mut self, ask: &Ask<'_>) -> Option<(Place, Vec<Victim>)> {
        self.refresh();
        victims::displace(&self.foreseen(), ask)
    }

    /// How many more of this shape fit, `most` at most: taken one by one and given back.
    pub fn room_for(&mut self, ask: &Ask<'_>, most: u64) -> u64 {
        let mut tickets = Vec::new();
        while (tickets.len() as u64) < most {
            let Some(place) = self.decide(ask) else { break };
            let ticket = self.take(ask, &place);
            tickets.push(ticket);
        }
        let room = tickets.len() as u64;
        for ticket in tickets.into_iter().rev() {
            self.drop_at_once(ticket);
        }
        room
    }

    /// As if it had never been taken.
    fn drop_at_once(&mut self, ticket: Ticket) {
        let mut touched = Touched::default();
        self.give_back(ticket.0, &mut touched);
        let arrivals = self.arrivals;
        self.read_again(touched);
        self.arrivals = arrivals.saturating_sub(1);
        self.foreseen = None;
    }

    fn enter(&mut self, taken: Taken) -> Ticket {
        self.views.add(&taken, &self.dense.layout);
        if taken.leaf < self.dense.rows.len() {
            self.hosts.add(taken.leaf);
        }
        for (_, store, _) in &taken.disks {
            if (*store as usize) < self.dense.stores.len() {
                self.stores.add(*store as usize);
            }
        }
        if !taken.disks.is_empty() || !taken.groups.is_empty() {
            self.foreseen = None;
        }
        self.arrivals += u64::from(taken.count);
        let number = self.tickets.add(taken);
        if let Some(taken) = self.tickets.get(number) {
            self.dense.enter(number, taken);
        }
        self.keep(number);
        Ticket(number)
    }

    /// Lets what a cluster keeps for restarts know of a ticket.
    pub(super) fn keep(&mut self, number: u32) {
        if self.keeping.is_empty() {
            return;
        }
        let Some(taken) = self.tickets.get(number) else { return };
        if let (Some(newcomer), Some(host)) = (taken.newcomer(), self.fleet.host(taken.host)) {
            self.keeping.take(&self.fleet, host, number, &newcomer);
        }
    }

    fn nothing(&self, ask: &Ask<'_>, host: HostId) -> Taken {
        let leaf = match self.latest {
            (latest, leaf) if latest == host && leaf < self.dense.rows.len() => Some(leaf),
            _ => self.dense.layout.leaf(host),
        };
        Taken {
            host,
            leaf: leaf.unwrap_or(usize::MAX),
            cluster: leaf.map_or(super::layout::NONE, |leaf| self.dense.rows[leaf].cluster),
            charge: Resources::default(),
            reserved: Bytes::ZERO,
            resources: Default::default(),
            numa: NumaNodes::NONE,
            numa_share: Resources::default(),
            count: 0,
            disks: Vec::new(),
            endpoint: ask.endpoint,
            usage: Usage::default(),
            labels: ask.labels.clone(),
            groups: Vec::new(),
            kept: None,
        }
    }

    fn taken(&self, ask: &Ask<'_>, place: &Place, matched: &Matched) -> Taken {
        let mut taken = self.nothing(ask, place.host);
        if self.takes_over(ask.instead_of) {
            return taken;
        }
        let demand = ask.demand;
        let leaf = (taken.leaf < self.dense.rows.len()).then_some(taken.leaf);
        let overhead = leaf.map_or(Bytes::ZERO, |leaf| self.dense.rows[leaf].overhead);
        taken.charge = demand.charge(overhead);
        taken.reserved = demand.memory_reservation;
        taken.resources.clone_from(&demand.resources);
        taken.numa = place.numa;
        taken.numa_share = numa_share(taken.charge, place.numa.count());
        taken.count = 1;
        // Whether or not any cluster keeps room now: one may before the ticket is settled.
        taken.kept = Some(Box::new(KeptTicket {
            demand: demand.clone(),
            seed: ask.seed,
            delta: match ask.delta {
                Delta::Placed(id) => Some(id),
                Delta::Anywhere | Delta::New(_) => place.delta,
            },
            disks: place.disks.clone(),
        }));
        taken.usage =
            Usage { cpu: taken.charge.cpu, memory: taken.charge.memory, ..Usage::default() };
        let disks = place.disks.iter().copied().zip(demand.disks.iter().map(|disk| disk.size));
        let delta = match ask.delta {
            Delta::Placed(_) => None,
            Delta::Anywhere | Delta::New(_) => place.delta.map(|delta| (delta, demand.disk)),
        };
        self.take_disks(&mut taken, ask, delta.into_iter().chain(disks), matched);
        taken
    }

    fn take_disks(
        &self,
        taken: &mut Taken,
        ask: &Ask<'_>,
        disks: impl IntoIterator<Item = (DatastoreId, Bytes)>,
        matched: &Matched,
    ) {
        if ask.wish(matched).is_new() {
            taken.usage.disk = ask.demand.disk_total();
            taken.usage.containers = 1;
        }
        let layout = &self.dense.layout;
        let number = |id| layout.store(id).map_or(super::layout::NONE, |store| store as u32);
        taken.disks = disks.into_iter().map(|(id, size)| (id, number(id), size)).collect();
        taken.groups = self.groups_of(taken, matched);
    }

    /// Counts every ticket anew by the rules as they are now.
    pub(super) fn regroup(&mut self) {
        let numbers: Vec<u32> = self.tickets.iter().map(|(number, _)| number).collect();
        for number in numbers {
            let Some(taken) = self.tickets.get(number) else { continue };
            let matched = self.fleet.matched(taken.endpoint, &taken.labels);
            let groups = self.groups_of(taken, &matched);
            self.tickets.regroup(number, groups);
        }
    }

    /// The counts that it is in: on hosts if it takes of one, on datastores if it has disks.
    fn groups_of(&self, taken: &Taken, matched: &Matched) -> Vec<Counts> {
        if matched.is_empty() {
            return Vec::new();
        }
        let mut disks: Vec<Bucket> =
            taken.disks.iter().map(|(id, ..)| Bucket::datastore(*id)).collect();
        disks.sort_unstable();
        disks.dedup();
        let counted = matched.iter().filter_map(|spoken| {
            let buckets = match spoken.scope()? {
                Scope::Datastore if disks.is_empty() => return None,
                Scope::Datastore => disks.clone(),
                Scope::Host | Scope::Domain(_) | Scope::Cluster if taken.count == 0 => return None,
                scope @ (Scope::Host | Scope::Domain(_) | Scope::Cluster) => {
                    self.buckets_on(scope, taken)
                }
            };
            Some((spoken.key(), spoken.clone(), buckets))
        });
        counted.collect()
    }

    /// Empty where the host has no domain of the level.
    fn buckets_on(&self, scope: &Scope, taken: &Taken) -> Vec<Bucket> {
        match scope {
            Scope::Datastore => Vec::new(),
            Scope::Host => vec![Bucket::host(taken.host)],
            Scope::Domain(_) | Scope::Cluster => {
                let axis = self.dense.layout.axis(scope);
                let number = axis.and_then(|axis| {
                    let number = *axis.of_leaf.get(taken.leaf)? as usize;
                    axis.buckets.get(number).copied()
                });
                number.into_iter().collect()
            }
        }
    }

    pub(super) fn takes_over(&self, reservation: Option<ReservationId>) -> bool {
        reservation.is_some_and(|id| self.fleet.reservation(id).is_some())
    }
}
