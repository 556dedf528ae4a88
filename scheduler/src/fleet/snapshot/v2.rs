//! Version 2 of the snapshot, frozen: objects as `model` has them in version 2, kind by kind, each
//! kind in the order of its ids. Version 1 was never released.

use super::super::departed::Departed;
use super::super::events::EventLog;
use super::super::format::FormatError;
use super::super::indexes::HostRecord;
use super::super::keys::Kept;
use super::super::rules::RuleBook;
use super::super::{Fleet, departed::DepartedLog, keys::Keys};
use berth_model::{
    CellId, Cluster, ContainerId, ContainerVm, Datastore, Endpoint, Event, GangId, Host,
    IdempotencyKey, Image, Incarnation, Meta, Place, PlacementWish, Reservation, ReservationId,
    Resources, Rule, Timestamp,
};
use berth_wire::codec;
use imbl::OrdMap;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Written and read in this order of fields; see `Read` for the same with owned objects.
#[derive(Serialize)]
struct Write<'a> {
    index: u64,
    time: Timestamp,
    cell: Option<CellId>,
    incarnation: Incarnation,
    clusters: Vec<&'a Cluster>,
    endpoints: Vec<&'a Endpoint>,
    hosts: Vec<&'a Host>,
    datastores: Vec<&'a Datastore>,
    images: Vec<&'a Image>,
    containers: Vec<&'a ContainerVm>,
    wishes: Vec<&'a PlacementWish>,
    reservations: Vec<Record>,
    rules: Vec<&'a Rule>,
    departed: Vec<(&'a ContainerId, &'a Departed)>,
    keys: Vec<(&'a IdempotencyKey, &'a Kept)>,
    events_dropped: u64,
    events: Vec<&'a Event>,
}

#[derive(Deserialize)]
struct Read {
    index: u64,
    time: Timestamp,
    cell: Option<CellId>,
    incarnation: Incarnation,
    clusters: Vec<Cluster>,
    endpoints: Vec<Endpoint>,
    hosts: Vec<Host>,
    datastores: Vec<Datastore>,
    images: Vec<Image>,
    containers: Vec<ContainerVm>,
    wishes: Vec<Arc<PlacementWish>>,
    reservations: Vec<Record>,
    rules: Vec<Rule>,
    departed: Vec<(ContainerId, Departed)>,
    keys: Vec<(IdempotencyKey, Kept)>,
    events_dropped: u64,
    events: Vec<Event>,
}

/// A reservation, with the position of its wish: many share one.
#[derive(Serialize, Deserialize)]
struct Record {
    id: ReservationId,
    wish: u32,
    gang: Option<GangId>,
    place: Place,
    charge: Resources,
    expires_at: Option<Timestamp>,
    meta: Meta,
}

/// Each wish once, in the order in which reservations name them first.
fn shared_wishes(fleet: &Fleet) -> (Vec<&PlacementWish>, Vec<Record>) {
    let mut wishes = Vec::new();
    let mut positions = BTreeMap::new();
    let mut records = Vec::with_capacity(fleet.reservations.len());
    for held in fleet.reservations() {
        let shape = (&held.wish.demand, &held.wish.labels);
        let wish = *positions.entry(shape).or_insert_with(|| {
            wishes.push(held.wish.as_ref());
            u32::try_from(wishes.len() - 1).unwrap_or(u32::MAX)
        });
        records.push(Record {
            id: held.id,
            wish,
            gang: held.gang,
            place: held.place.clone(),
            charge: held.charge,
            expires_at: held.expires_at,
            meta: held.meta.clone(),
        });
    }
    (wishes, records)
}

impl Record {
    fn into_reservation(self, wishes: &[Arc<PlacementWish>]) -> Option<Arc<Reservation>> {
        let wish = wishes.get(usize::try_from(self.wish).ok()?)?;
        Some(Arc::new(Reservation {
            id: self.id,
            wish: Arc::clone(wish),
            gang: self.gang,
            place: self.place,
            charge: self.charge,
            expires_at: self.expires_at,
            meta: self.meta,
        }))
    }
}

pub(super) fn encode(fleet: &Fleet) -> Vec<u8> {
    let (wishes, reservations) = shared_wishes(fleet);
    codec::encode(&Write {
        index: fleet.index,
        time: fleet.time,
        cell: fleet.cell,
        incarnation: fleet.incarnation,
        clusters: fleet.clusters().collect(),
        endpoints: fleet.endpoints().collect(),
        hosts: fleet.hosts().collect(),
        datastores: fleet.datastores().collect(),
        images: fleet.images.values().map(AsRef::as_ref).collect(),
        containers: fleet.containers().collect(),
        wishes,
        reservations,
        rules: fleet.rules().map(AsRef::as_ref).collect(),
        departed: fleet.departed.iter().collect(),
        keys: fleet.keys.iter().collect(),
        events_dropped: fleet.events.dropped(),
        events: fleet.events.iter().collect(),
    })
}

/// Without names and indexes.
pub(super) fn decode(payload: &[u8]) -> Result<Fleet, FormatError> {
    let read: Read = codec::decode(payload, payload.len())?;
    let mut departed = DepartedLog::default();
    for (id, record) in read.departed {
        departed.add(id, record);
    }
    let mut keys = Keys::default();
    for (key, kept) in read.keys {
        keys.put(key, kept);
    }
    let mut rules = RuleBook::default();
    for rule in read.rules {
        rules.put(Arc::new(rule));
    }
    let mut reservations = OrdMap::new();
    for record in read.reservations {
        let id = record.id;
        let held = record.into_reservation(&read.wishes).ok_or_else(|| {
            FormatError::Contradiction(format!("{id} has a wish that is not there"))
        })?;
        reservations.insert(id, held);
    }
    Ok(Fleet {
        index: read.index,
        time: read.time,
        cell: read.cell,
        incarnation: read.incarnation,
        clusters: read.clusters.into_iter().map(|o| (o.id, Arc::new(o))).collect(),
        endpoints: read.endpoints.into_iter().map(|o| (o.id, Arc::new(o))).collect(),
        hosts: read.hosts.into_iter().map(|o| (o.id, Arc::new(HostRecord::new(o)))).collect(),
        datastores: read.datastores.into_iter().map(|o| (o.id, Arc::new(o))).collect(),
        images: read.images.into_iter().map(|o| ((o.id, o.meta.endpoint), Arc::new(o))).collect(),
        containers: read.containers.into_iter().map(|o| (o.id, Arc::new(o))).collect(),
        reservations,
        rules,
        departed,
        keys,
        events: EventLog::from_parts(read.events, read.events_dropped),
        ..Fleet::default()
    })
}
