//! Demands, places, and the places that are held.

use super::{cluster_name, datastore_name, explanation, host_name, meta, resources};
use berth_model::view::{
    DecisionView, DemandView, DiskPlaceView, DiskRequest, PlaceView, ReservationView, VictimView,
};
use berth_model::{Demand, Explanation, NumaNodes, Place, Reservation, Victim};
use berth_scheduler::{Fleet, Placed};

pub fn demand(fleet: &Fleet, demand: &Demand) -> DemandView {
    let disks = demand.disks.iter().map(|disk| DiskRequest {
        name: disk.name.clone(),
        size_bytes: disk.size.0,
        labels: disk.labels.clone(),
        datastore: disk.datastore.map(|id| datastore_name(fleet, id)),
    });
    DemandView {
        cpu_millis: demand.cpu.0,
        memory_bytes: demand.memory.0,
        disk_bytes: demand.disk.0,
        machine_memory_bytes: demand.machine_memory.map(|memory| memory.0),
        memory_reservation_bytes: demand.memory_reservation.0,
        cpu_shares: demand.shares.cpu,
        memory_shares: demand.shares.memory,
        numa: demand.numa,
        resources: demand.resources.clone(),
        host_labels: demand.host_labels.clone(),
        datastore_labels: demand.datastore_labels.clone(),
        disks: disks.collect(),
        networks: demand.networks.iter().cloned().collect(),
        cluster: demand.cluster.map(|id| cluster_name(fleet, id)),
        host: demand.host.map(|id| host_name(fleet, id)),
        datastore: demand.datastore.map(|id| datastore_name(fleet, id)),
        priority: demand.priority,
    }
}

pub fn numa_nodes(nodes: NumaNodes) -> Vec<u16> {
    nodes.positions().filter_map(|position| u16::try_from(position).ok()).collect()
}

/// A place for `wanted`.
pub fn place(fleet: &Fleet, wanted: &Demand, place: &Place) -> PlaceView {
    let cluster = fleet.host(place.host).map(|host| cluster_name(fleet, host.cluster));
    let disks = wanted.disks.iter().zip(&place.disks).map(|(disk, datastore)| DiskPlaceView {
        name: disk.name.clone(),
        datastore: datastore_name(fleet, *datastore),
    });
    PlaceView {
        cluster: cluster.unwrap_or_default(),
        host: host_name(fleet, place.host),
        datastore: place.delta.map(|id| datastore_name(fleet, id)),
        disks: disks.collect(),
        numa_nodes: numa_nodes(place.numa),
    }
}

pub fn victim(victim: &Victim) -> VictimView {
    let (kind, id) = match victim {
        Victim::ContainerVm(id) => ("container-vm", id.to_string()),
        Victim::Reservation(id) => ("placement", id.to_string()),
    };
    VictimView { kind: kind.to_owned(), id }
}

/// What was decided of one that asked for `wanted`.
pub fn decision(
    fleet: &Fleet,
    wanted: &Demand,
    decided: &Result<Placed, Box<Explanation>>,
) -> DecisionView {
    match decided {
        Ok(placed) => DecisionView {
            id: placed.reservation.map(|id| id.to_string()),
            place: Some(place(fleet, wanted, &placed.place)),
            victims: placed.victims.iter().map(victim).collect(),
            explanation: None,
        },
        Err(refused) => DecisionView {
            explanation: Some(explanation(fleet, refused)),
            ..DecisionView::default()
        },
    }
}

pub fn reservation(fleet: &Fleet, held: &Reservation) -> ReservationView {
    let mut shown = meta(fleet, &held.meta);
    shown.labels.extend(held.wish.labels.clone());
    ReservationView {
        id: held.id.to_string(),
        meta: shown,
        place: place(fleet, &held.wish.demand, &held.place),
        charged: resources(held.charge),
        demand: demand(fleet, &held.wish.demand),
        gang: held.gang.map(|gang| gang.to_string()),
        expires_at_ms: held.expires_at.map(|at| at.0),
    }
}
