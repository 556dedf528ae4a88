//! Places that are held: taken, kept for longer, given back.
//!
//! ```text
//!  Reserve ──► held ── Release, expiry, a container VM placed on it, a victim's end ──► gone
//! ```
//!
//! Promises: each item is checked again at the index that takes it; a gang is taken whole or not at
//! all; the same reservation asked for twice is held once. Does not: choose a place; nor keep one
//! past its time: expiry goes by the leader's stamp, with whatever command brings it.

use super::admit::{Delta, Disks, Load, Wish, check_shape};
use super::rules::Matched;
use super::{At, Fleet, hash};
use berth_model::change::{Answer, Change};
use berth_model::command::{Reserve, ReserveItem};
use berth_model::event::{Subject, What};
use berth_model::{
    ContainerVm, DatastoreId, Demand, EndpointId, GangId, HostId, Place, PlacementWish, Rejection,
    Reservation, ReservationId, Resources, Timestamp, Victim,
};
use std::sync::Arc;

/// One shape of a `Reserve`, worked out once for all items that share it.
struct Shape {
    wish: Arc<PlacementWish>,
    checked: Result<(), Rejection>,
    hash: u64,
    /// For the endpoint that the last item named.
    matched: Option<(EndpointId, Matched)>,
}

impl Fleet {
    pub(super) fn reserve(&mut self, at: At, reserve: Reserve) -> Answer {
        let Reserve { planned_at: _, wishes, items, gang } = reserve;
        let mut shapes: Vec<Shape> = wishes.into_iter().map(|wish| self.shape(wish)).collect();
        let before = gang.map(|_| self.clone());
        let mut answers = Vec::with_capacity(items.len());
        for item in items {
            answers.push(self.reserve_one(at, &mut shapes, item, gang));
        }
        let broken = answers.iter().find_map(|answer| answer.as_ref().err()).cloned();
        if let (Some(before), Some(broken)) = (before, broken) {
            *self = before;
            for answer in answers.iter_mut().filter(|answer| answer.is_ok()) {
                *answer = Err(Rejection::GangBroken(Box::new(broken.clone())));
            }
        }
        Ok(Change::Reserved { items: answers })
    }

    fn shape(&self, wish: Arc<PlacementWish>) -> Shape {
        let checked = self.check_demand(&wish.demand);
        let hash = hash::wish(&wish);
        Shape { wish, checked, hash, matched: None }
    }

    fn reserve_one(
        &mut self,
        at: At,
        shapes: &mut [Shape],
        item: ReserveItem,
        gang: Option<GangId>,
    ) -> Result<ReservationId, Rejection> {
        let ReserveItem { id, wish, endpoint, place, hold_ms, victims } = item;
        let known = endpoint == EndpointId::SYSTEM || self.endpoints.contains_key(&endpoint);
        if !known || !at.may_touch(endpoint) {
            return Err(Rejection::NoSuchEndpoint);
        }
        let position = usize::try_from(wish).unwrap_or(usize::MAX);
        let shape = shapes.get_mut(position).ok_or_else(|| Rejection::Invalid {
            what: "wish of a reservation".to_owned(),
            value: wish.to_string(),
            rule: "the position of one that the command carries".to_owned(),
        })?;
        if let Some(held) = self.reservations.get(&id) {
            let same = held.meta.endpoint == endpoint && held.wish == shape.wish;
            return if same { Ok(id) } else { Err(Rejection::OtherReservation(id)) };
        }
        shape.checked.clone()?;
        let demand = &shape.wish.demand;
        check_shape(demand, &place)?;
        if shape.matched.as_ref().is_none_or(|(owner, _)| *owner != endpoint) {
            shape.matched = Some((endpoint, self.matched(endpoint, &shape.wish.labels)));
        }
        let matched = shape.matched.as_ref().map_or(Matched::NONE, |(_, matched)| matched);
        let charge = if victims.is_empty() {
            self.admit_place(endpoint, demand, &place, matched)?
        } else {
            let before = self.clone();
            let admitted = self
                .displace_reservations(at, place.host, demand.priority, &victims)
                .and_then(|()| self.admit_place(endpoint, demand, &place, matched));
            match admitted {
                Ok(charge) => charge,
                Err(rejection) => {
                    *self = before;
                    return Err(rejection);
                }
            }
        };
        let held = Reservation {
            id,
            charge,
            wish: Arc::clone(&shape.wish),
            gang,
            place,
            expires_at: hold_ms.map(|hold| Timestamp(self.time.0.saturating_add(hold))),
            meta: at.meta(endpoint, Default::default()),
        };
        self.hold(held, matched, shape.hash);
        self.tell(at, endpoint, Subject::Reservation(id), What::Created);
        Ok(id)
    }

    /// What would be charged there, if it is admitted.
    fn admit_place(
        &self,
        endpoint: EndpointId,
        demand: &Demand,
        place: &Place,
        matched: &Matched,
    ) -> Result<Resources, Rejection> {
        let host = self.host(place.host).ok_or(Rejection::NoSuchHost)?;
        let wish = Wish {
            endpoint,
            demand,
            matched,
            image: None,
            delta: place.delta.map_or(Delta::Anywhere, Delta::New),
            disks: Disks::of(place),
            numa: Some(place.numa),
            load: Load::Now,
        };
        check_pins(demand, place)?;
        self.admit(host, &wish)
            .map_err(|refusal| Rejection::HostRefuses { host: place.host, refusal })?;
        Ok(demand.charge(host.facts.vm_overhead))
    }

    /// Ends reservations on `host` for something of `priority`.
    fn displace_reservations(
        &mut self,
        at: At,
        host: HostId,
        priority: i16,
        victims: &[Victim],
    ) -> Result<(), Rejection> {
        for victim in victims {
            match victim {
                Victim::Reservation(id) => self.displace_reservation(at, host, priority, *id)?,
                Victim::ContainerVm(id) => {
                    return Err(Rejection::NotDisplaceable(format!("container VM {id}")));
                }
            }
        }
        Ok(())
    }

    pub(super) fn displace_reservation(
        &mut self,
        at: At,
        host: HostId,
        priority: i16,
        id: ReservationId,
    ) -> Result<(), Rejection> {
        let may = self.preempts(host)
            && self.reservation(id).is_some_and(|held| {
                held.place.host == host && held.wish.demand.priority < priority
            });
        if !may {
            return Err(Rejection::NotDisplaceable(id.to_string()));
        }
        self.end_reservation(at, id, What::Displaced);
        Ok(())
    }

    /// Whether the policy of the host's cluster lets one displace another.
    pub(super) fn preempts(&self, host: HostId) -> bool {
        let cluster = self.host(host).and_then(|host| self.cluster(host.cluster));
        cluster.is_some_and(|cluster| cluster.policy.preemption)
    }

    /// Ids that are not there, or are another's, are left out of the count.
    pub(super) fn release(&mut self, at: At, ids: &[ReservationId]) -> Answer {
        let mut count = 0;
        for id in ids {
            let held = self.reservation(*id);
            if held.is_some_and(|held| at.may_touch(held.meta.endpoint)) {
                self.end_reservation(at, *id, What::Removed);
                count += 1;
            }
        }
        Ok(if count == 0 { Change::Nothing } else { Change::Released { count } })
    }

    pub(super) fn extend(
        &mut self,
        at: At,
        id: ReservationId,
        expires_at: Option<Timestamp>,
    ) -> Answer {
        let held = self
            .reservation(id)
            .filter(|held| at.may_touch(held.meta.endpoint))
            .ok_or(Rejection::NoSuchReservation(id))?;
        if held.expires_at == expires_at {
            return Ok(Change::Nothing);
        }
        if expires_at.is_some_and(|until| until <= self.time) {
            return Err(Rejection::Invalid {
                what: "end of a reservation".to_owned(),
                value: expires_at.map_or(0, |until| until.0).to_string(),
                rule: "later than now; release it to end it at once".to_owned(),
            });
        }
        let owner = held.meta.endpoint;
        self.change_reservation(at, id, |held| held.expires_at = expires_at);
        self.tell(at, owner, Subject::Reservation(id), What::Changed);
        Ok(Change::Extended { reservation: id })
    }

    /// Those whose time is over give back what they hold.
    pub(super) fn expire_reservations(&mut self) {
        while let Some((until, id)) = self.indexes.expiries.get_min().copied() {
            if until > self.time {
                break;
            }
            let at = At { index: self.index, time: self.time, endpoint: EndpointId::SYSTEM };
            self.end_reservation(at, id, What::Expired);
        }
    }

    /// Takes a reservation out. A container VM that was made on it goes on without.
    pub(super) fn end_reservation(&mut self, at: At, id: ReservationId, why: What) {
        let Some(held) = self.reservations.get(&id).cloned() else { return };
        if let Some(container) = self.indexes.claims.get(&id).copied() {
            self.change_container(at, container, |vm| vm.reservation = None);
        }
        self.let_go(&held);
        self.note_opportunity(at.index);
        self.tell(at, held.meta.endpoint, Subject::Reservation(id), why);
    }

    /// The reservation that a new container VM is to be made on: its own endpoint's, not given to
    /// another, and with room for all that is asked.
    pub(super) fn claimable(
        &self,
        endpoint: EndpointId,
        id: ReservationId,
        demand: &Demand,
    ) -> Result<&Arc<Reservation>, Rejection> {
        let held = self.reservations.get(&id).ok_or(Rejection::NoSuchReservation(id))?;
        let free = !self.indexes.claims.contains_key(&id);
        if free && held.meta.endpoint == endpoint && covers(&held.wish.demand, demand) {
            Ok(held)
        } else {
            Err(Rejection::OtherReservation(id))
        }
    }

    /// The reservation that a container VM is made on, if it still stands.
    pub(super) fn claimed(&self, vm: &ContainerVm) -> Option<&Arc<Reservation>> {
        self.reservations.get(&vm.reservation?)
    }
}

/// Whether what was held for one demand has room for another.
fn covers(held: &Demand, asked: &Demand) -> bool {
    asked.cpu <= held.cpu
        && asked.memory_class() <= held.memory_class()
        && asked.memory_reservation <= held.memory_reservation
        && asked.disk <= held.disk
        && asked.disks.is_empty()
        && held.disks.is_empty()
        && asked.numa == held.numa
        && asked.networks.is_subset(&held.networks)
        && asked
            .resources
            .iter()
            .all(|(name, amount)| held.resources.get(name).is_some_and(|held| amount <= held))
        && (!asked.shares.any() || held.shares.any())
}

/// The filters look at where disks are to go, not at where the demand wants them.
fn check_pins(demand: &Demand, place: &Place) -> Result<(), Rejection> {
    let disks = demand.disks.iter().map(|disk| disk.datastore).zip(&place.disks);
    let delta = place.delta.iter().map(|delta| (demand.datastore, delta));
    for (wanted, chosen) in delta.chain(disks) {
        if let Some(datastore) = wanted.filter(|wanted| wanted != chosen) {
            let refusal = berth_model::Refusal::DatastoreUnreachable { datastore };
            return Err(Rejection::DatastoreRefuses(refusal));
        }
    }
    Ok(())
}

/// The datastores of a place, each once, ascending.
pub(super) fn datastores_of(place: &Place) -> Vec<DatastoreId> {
    let mut all: Vec<DatastoreId> = place.delta.into_iter().chain(place.disks.clone()).collect();
    all.sort_unstable();
    all.dedup();
    all
}
