//! Version 1 of the snapshot, frozen: objects as `model` has them in version 1, kind by kind, each
//! kind in the order of its ids.

use super::super::departed::Departed;
use super::super::format::FormatError;
use super::super::keys::Kept;
use super::super::{Fleet, departed::DepartedLog, keys::Keys};
use berth_model::{
    CellId, Cluster, ContainerId, ContainerVm, Datastore, Endpoint, Host, IdempotencyKey, Image,
    Incarnation, Timestamp,
};
use berth_wire::codec;
use serde::{Deserialize, Serialize};
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
    departed: Vec<(&'a ContainerId, &'a Departed)>,
    keys: Vec<(&'a IdempotencyKey, &'a Kept)>,
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
    departed: Vec<(ContainerId, Departed)>,
    keys: Vec<(IdempotencyKey, Kept)>,
}

pub(super) fn encode(fleet: &Fleet) -> Vec<u8> {
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
        departed: fleet.departed.iter().collect(),
        keys: fleet.keys.iter().collect(),
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
    Ok(Fleet {
        index: read.index,
        time: read.time,
        cell: read.cell,
        incarnation: read.incarnation,
        clusters: read.clusters.into_iter().map(|o| (o.id, Arc::new(o))).collect(),
        endpoints: read.endpoints.into_iter().map(|o| (o.id, Arc::new(o))).collect(),
        hosts: read.hosts.into_iter().map(|o| (o.id, Arc::new(o))).collect(),
        datastores: read.datastores.into_iter().map(|o| (o.id, Arc::new(o))).collect(),
        images: read.images.into_iter().map(|o| ((o.id, o.meta.endpoint), Arc::new(o))).collect(),
        containers: read.containers.into_iter().map(|o| (o.id, Arc::new(o))).collect(),
        departed,
        keys,
        ..Fleet::default()
    })
}
