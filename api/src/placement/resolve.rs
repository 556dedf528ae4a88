//! Requests as the scheduler takes them: names looked up, defaults filled in, contradictions
//! refused.

use super::errors::{Kind, Problem};
use super::lookup;
use super::wish::Wish;
use crate::docker::translate::spec::{self, DiskSize, Wanted, Within};
use crate::docker::translate::{name, signal};
use berth_model::command::NewContainer;
use berth_model::demand::guest_overhead;
use berth_model::endpoint::EndpointDefaults;
use berth_model::view::{ContainerVmRequest, DemandRequest, DiskRequest, PlacementItem, bounds};
use berth_model::{
    Bytes, ContainerId, Demand, DiskDemand, EndpointId, Image, MilliCpus, PlacementWish, Shares,
};
use berth_scheduler::Fleet;
use std::collections::BTreeSet;

/// What an endpoint's container VMs get that do not say.
pub fn defaults(fleet: &Fleet, owner: EndpointId) -> EndpointDefaults {
    fleet.endpoint(owner).map_or_else(EndpointDefaults::default, |found| found.defaults.clone())
}

/// What is asked of a place, disks and networks beside.
fn demand(
    fleet: &Fleet,
    wanted: DemandRequest,
    defaults: &EndpointDefaults,
) -> Result<Demand, Problem> {
    let machine_memory = wanted.machine_memory_bytes.map(Bytes);
    let memory = match (wanted.memory_bytes, machine_memory) {
        (Some(memory), _) => Bytes(memory),
        // As much of the machine as its guest leaves.
        (None, Some(whole)) => whole.saturating_sub(guest_overhead(whole)),
        (None, None) => defaults.memory,
    };
    if let Some(whole) = machine_memory
        && memory + guest_overhead(memory) > whole
    {
        return Err(contradiction(
            "memory_bytes",
            format!("{whole} of machine memory do not hold {memory} beside the guest's own"),
        ));
    }
    let cluster = wanted.cluster.as_deref().map(|name| lookup::cluster(fleet, name));
    let host = wanted.host.as_deref().map(|name| lookup::host(fleet, name));
    let datastore = wanted.datastore.as_deref().map(|name| lookup::datastore(fleet, name));
    let demand = Demand {
        cpu: wanted.cpu_millis.map_or(defaults.cpu, MilliCpus),
        memory,
        machine_memory,
        memory_reservation: Bytes(wanted.memory_reservation_bytes.unwrap_or(0)),
        shares: Shares { cpu: wanted.cpu_shares, memory: wanted.memory_shares },
        disk: wanted.disk_bytes.map_or(defaults.disk, Bytes),
        datastore_labels: wanted.datastore_labels,
        disks: Vec::new(),
        networks: BTreeSet::new(),
        numa: wanted.numa,
        resources: wanted.resources,
        host_labels: wanted.host_labels,
        cluster: cluster.transpose()?.map(|cluster| cluster.id),
        host: host.transpose()?.map(|host| host.id),
        datastore: datastore.transpose()?.map(|datastore| datastore.id),
        priority: wanted.priority.unwrap_or(0),
    };
    if demand.memory_reservation > demand.memory_class() {
        let class = demand.memory_class();
        let detail = format!("it is more than the machine's whole memory of {class}");
        return Err(contradiction("memory_reservation_bytes", detail));
    }
    if demand.disk == Bytes::ZERO && !demand.datastore_labels.is_empty() {
        let detail = "there is no delta disk that they could be asked of; name `disk_bytes`";
        return Err(contradiction("datastore_labels", detail.to_owned()));
    }
    if demand.disk == Bytes::ZERO && demand.datastore.is_some() {
        let detail = "there is no delta disk to put there; name `disk_bytes`";
        return Err(contradiction("datastore", detail.to_owned()));
    }
    Ok(demand)
}

fn contradiction(member: &str, detail: String) -> Problem {
    let at = format!("demand.{member}");
    Problem::new(Kind::Contradiction, format!("{at}: {detail}")).at(at)
}

/// What is to be placed.
pub fn placement(
    fleet: &Fleet,
    owner: EndpointId,
    item: PlacementItem,
) -> Result<PlacementWish, Problem> {
    let PlacementItem { demand: wanted, disks, networks, labels } = item;
    // A placement has the delta that it names, and none of its endpoint's.
    let defaults = EndpointDefaults { disk: Bytes::ZERO, ..defaults(fleet, owner) };
    let mut demand = demand(fleet, wanted, &defaults)?;
    let mut names = BTreeSet::new();
    for disk in disks {
        if !names.insert(disk.name.clone()) {
            let detail = format!("disks: `{}` is there twice", disk.name);
            return Err(Problem::new(Kind::Contradiction, detail).at("disks"));
        }
        demand.disks.push(disk_demand(fleet, disk)?);
    }
    demand.networks = networks.into_iter().collect();
    Ok(PlacementWish { demand, labels })
}

fn disk_demand(fleet: &Fleet, disk: DiskRequest) -> Result<DiskDemand, Problem> {
    let datastore = disk.datastore.as_deref().map(|name| lookup::datastore(fleet, name));
    Ok(DiskDemand {
        name: disk.name,
        size: Bytes(disk.size_bytes),
        labels: disk.labels,
        datastore: datastore.transpose()?.map(|datastore| datastore.id),
    })
}

/// A request for a container VM, resolved against a fleet.
pub struct Resolved {
    pub owner: EndpointId,
    pub new: NewContainer,
    pub image: Image,
}

/// A create request as a container VM of its owner's.
pub fn container_vm(
    fleet: &Fleet,
    wish: &Wish,
    body: ContainerVmRequest,
) -> Result<Resolved, Problem> {
    let owner = lookup::owner(fleet, body.endpoint.as_deref())?;
    let image = lookup::image(fleet, owner, &body.image)?.clone();
    let id = ContainerId::from_bytes(wish.derive("container id"));
    let name = match &body.name {
        Some(name) => name::checked(name)?.to_owned(),
        // The id is as good as random, so names seldom meet; a repeated request makes the same.
        None => name::made_up(draw(id), 1),
    };
    let held = body.reservation.as_deref().map(|id| lookup::reservation(fleet, id)).transpose()?;
    let mut defaults = defaults(fleet, owner);
    let mut asked = body.demand;
    if let Some(held) = held {
        // What it does not say, it takes from what is held for it.
        let held = &held.wish.demand;
        defaults.cpu = held.cpu;
        defaults.memory = held.memory;
        if held.disk > Bytes::ZERO {
            defaults.disk = held.disk;
        }
        if asked.memory_bytes.is_none() && asked.machine_memory_bytes.is_none() {
            asked.machine_memory_bytes = held.machine_memory.map(|memory| memory.0);
            asked.memory_bytes = Some(held.memory.0).filter(|m| *m >= bounds::MEMORY_MIN);
        }
        asked.numa = asked.numa.or(held.numa);
        asked.priority = asked.priority.or(Some(held.priority));
    }
    let demand = demand(fleet, asked, &defaults)?;
    let wanted = Wanted {
        entrypoint: body.entrypoint,
        command: body.command,
        environment: body.environment,
        working_directory: body.working_directory.unwrap_or_default(),
        user: body.user.unwrap_or_default(),
        hostname: body.hostname.unwrap_or_default(),
        stop_signal: body.stop_signal.as_deref().map(signal::parse).transpose()?,
        stop_timeout: body.stop_timeout_seconds,
        cpu: Some(demand.cpu),
        memory: Some(demand.memory),
        disk: Some(DiskSize(demand.disk)),
        network: body.network,
        auto_remove: body.auto_remove,
        labels: body.labels.clone(),
        ..Wanted::default()
    };
    let within = Within::default();
    let merged = spec::merge(id, wanted, &image, &body.image, &defaults, within, String::new())?;
    let mut spec = merged.spec;
    spec.demand = demand;
    let reservation = held.map(|held| held.id);
    let new = NewContainer { id, name, spec, labels: body.labels, reservation };
    Ok(Resolved { owner, new, image })
}

fn draw(id: ContainerId) -> u64 {
    id.as_bytes()[..8].iter().fold(0, |draw, byte| draw << 8 | u64::from(*byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resolved(wanted: DemandRequest) -> Result<Demand, Problem> {
        demand(&Fleet::default(), wanted, &EndpointDefaults::default())
    }

    #[test]
    fn what_is_not_said_is_the_endpoint_s_default() {
        let demand = resolved(DemandRequest::default()).unwrap();
        assert_eq!((demand.cpu, demand.memory), (MilliCpus(1000), Bytes::mib(512)));
    }

    #[test]
    fn a_machine_of_named_size_holds_its_container() {
        let whole = |memory, machine: u64| {
            resolved(DemandRequest {
                memory_bytes: memory,
                machine_memory_bytes: Some(machine << 20),
                ..DemandRequest::default()
            })
        };
        let demand = whole(None, 1024).unwrap();
        assert_eq!(demand.memory_class(), Bytes::gib(1));
        assert!(demand.memory + guest_overhead(demand.memory) <= Bytes::gib(1));
        assert!(whole(Some(512 << 20), 1024).is_ok());
        assert_eq!(whole(Some(1 << 30), 1024).unwrap_err().kind, Kind::Contradiction);
    }

    #[test]
    fn members_that_contradict_each_other_are_refused_by_name() {
        let reserved = DemandRequest {
            memory_bytes: Some(64 << 20),
            memory_reservation_bytes: Some(1 << 40),
            ..DemandRequest::default()
        };
        let problem = resolved(reserved).unwrap_err();
        assert_eq!(problem.at.as_deref(), Some("demand.memory_reservation_bytes"));
        let twice = PlacementItem {
            disks: vec![DiskRequest { name: "a".into(), ..DiskRequest::default() }; 2],
            ..PlacementItem::default()
        };
        let refused = placement(&Fleet::default(), EndpointId::SYSTEM, twice).unwrap_err();
        assert_eq!(refused.kind, Kind::Contradiction);
    }
}
