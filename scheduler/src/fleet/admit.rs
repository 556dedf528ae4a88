//! Whether a host may take a container VM: the filters, one list for planner and apply.
//!
//! What placement asks before it proposes, apply asks again before it believes: the same list over
//! the fleet of that moment. Promises: what passes here raises no charge above capacity times
//! overcommit. Does not: prefer anything; that is the score's work in `placement`.

use super::Fleet;
use berth_model::explanation::Refusal;
use berth_model::{Bytes, Datastore, DatastoreId, Demand, Host, HostState, Permille, Resources};
use std::collections::BTreeSet;

/// What is asked of a host.
#[derive(Clone, Copy, Debug)]
pub struct Wish<'a> {
    pub demand: &'a Demand,
    /// Datastores that hold the image's base disk; `None` asks regardless of images.
    pub image: Option<&'a BTreeSet<DatastoreId>>,
    pub delta: Delta,
    pub load: Load,
}

/// Where the delta disk is, or is to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Delta {
    /// To be made on any datastore with room for it.
    Anywhere,
    /// To be made on this one.
    New(DatastoreId),
    /// It lies on this one and is charged there.
    Placed(DatastoreId),
}

/// What of a host's cpu and memory counts as free.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Load {
    /// What nothing placed there holds.
    Now,
    /// All of it: a create asks only that a host could ever take the container VM.
    Ever,
}

/// One reason to refuse a host; the `Ok` of all of them admits it.
pub type Filter = fn(&Fleet, &Host, &Wish<'_>) -> Result<(), Refusal>;

/// In the order of `model::Filter::ALL`: a host is counted under the first that refuses it.
pub const FILTERS: &[Filter] = &[availability, rules, capacity, datastores, networks];

impl<'a> Wish<'a> {
    /// For a create: which datastore.
    pub fn create(demand: &'a Demand, image: Option<&'a BTreeSet<DatastoreId>>) -> Self {
        let delta = demand.datastore.map_or(Delta::Anywhere, Delta::New);
        Self { demand, image, delta, load: Load::Ever }
    }

    /// For a start: which host reaches `datastore`.
    pub fn start(
        demand: &'a Demand,
        image: Option<&'a BTreeSet<DatastoreId>>,
        datastore: DatastoreId,
    ) -> Self {
        Self { demand, image, delta: Delta::Placed(datastore), load: Load::Now }
    }

    /// For both at once: which datastore and which host, were it created and started now.
    pub fn run(demand: &'a Demand, image: Option<&'a BTreeSet<DatastoreId>>) -> Self {
        Self { load: Load::Now, ..Self::create(demand, image) }
    }
}

impl Fleet {
    /// Asks every filter; the first refusal counts.
    pub fn admit(&self, host: &Host, wish: &Wish<'_>) -> Result<(), Refusal> {
        FILTERS.iter().try_for_each(|filter| filter(self, host, wish))
    }

    /// Whether a delta disk may be made on `datastore`: there is room, and a host for it.
    pub fn admit_delta(&self, datastore: &Datastore, wish: &Wish<'_>) -> Result<(), Refusal> {
        let needed = wish.demand.disk;
        let free = self.free_on_datastore(datastore);
        if needed > free {
            return Err(Refusal::DiskShort { needed, free });
        }
        let wish = Wish { delta: Delta::New(datastore.id), ..*wish };
        let mut refusal = Refusal::NoDatastore;
        for host in datastore.hosts.iter().filter_map(|id| self.host(*id)) {
            match self.admit(host, &wish) {
                Ok(()) => return Ok(()),
                Err(refused) => refusal = refused,
            }
        }
        Err(refusal)
    }

    /// All that may be charged on a host.
    pub fn limit_of_host(&self, host: &Host) -> Resources {
        let once = Permille(1000);
        let (cpu, memory) = self.cluster(host.cluster).map_or((once, once), |cluster| {
            (cluster.policy.cpu_overcommit, cluster.policy.memory_overcommit)
        });
        let capacity = host.facts.capacity;
        Resources { cpu: capacity.cpu.permille(cpu), memory: capacity.memory.permille(memory) }
    }

    /// What may still be charged on a host: nothing where its capacity was lowered below that.
    pub fn free_on_host(&self, host: &Host) -> Resources {
        let limit = self.limit_of_host(host);
        Resources {
            cpu: limit.cpu.saturating_sub(host.charged.cpu),
            memory: limit.memory.saturating_sub(host.charged.memory),
        }
    }

    /// All that may be charged on a datastore. Where hosts of several clusters reach it, the most
    /// careful overcommit counts.
    pub fn limit_of_datastore(&self, datastore: &Datastore) -> Bytes {
        let hosts = datastore.hosts.iter().filter_map(|id| self.host(*id));
        let overcommits = hosts
            .filter_map(|host| self.cluster(host.cluster))
            .map(|cluster| cluster.policy.disk_overcommit);
        datastore.capacity.permille(overcommits.min().unwrap_or(Permille(1000)))
    }

    pub fn free_on_datastore(&self, datastore: &Datastore) -> Bytes {
        self.limit_of_datastore(datastore).saturating_sub(datastore.charged)
    }
}

fn availability(_: &Fleet, host: &Host, _: &Wish<'_>) -> Result<(), Refusal> {
    match host.state {
        HostState::Silent { .. } => Err(Refusal::Silent),
        HostState::Connected { .. } if host.maintenance => Err(Refusal::Maintenance),
        HostState::Connected { .. } => Ok(()),
    }
}

fn rules(_: &Fleet, host: &Host, wish: &Wish<'_>) -> Result<(), Refusal> {
    if wish.demand.cluster.is_some_and(|cluster| cluster != host.cluster) {
        return Err(Refusal::OtherCluster);
    }
    if wish.demand.host.is_some_and(|wanted| wanted != host.id) {
        return Err(Refusal::OtherHost);
    }
    Ok(())
}

fn capacity(fleet: &Fleet, host: &Host, wish: &Wish<'_>) -> Result<(), Refusal> {
    let free = match wish.load {
        Load::Now => fleet.free_on_host(host),
        Load::Ever => fleet.limit_of_host(host),
    };
    let needed = wish.demand.charge(host.facts.vm_overhead);
    if needed.cpu > free.cpu {
        return Err(Refusal::CpuShort { needed: needed.cpu, free: free.cpu });
    }
    if needed.memory > free.memory {
        return Err(Refusal::MemoryShort { needed: needed.memory, free: free.memory });
    }
    Ok(())
}

fn datastores(fleet: &Fleet, host: &Host, wish: &Wish<'_>) -> Result<(), Refusal> {
    let reached = &host.facts.datastores;
    if reached.is_empty() {
        return Err(Refusal::NoDatastore);
    }
    if wish.image.is_some_and(|holding| !holding.iter().any(|id| reached.contains_key(id))) {
        return Err(Refusal::ImageUnreachable);
    }
    let needed = wish.demand.disk;
    match wish.delta {
        Delta::Placed(datastore) if reached.contains_key(&datastore) => Ok(()),
        Delta::Placed(datastore) => Err(Refusal::DatastoreUnreachable { datastore }),
        Delta::New(datastore) => match fleet.datastore(datastore) {
            Some(found) if reached.contains_key(&datastore) => {
                let free = fleet.free_on_datastore(found);
                if needed > free { Err(Refusal::DiskShort { needed, free }) } else { Ok(()) }
            }
            Some(_) | None => Err(Refusal::DatastoreUnreachable { datastore }),
        },
        Delta::Anywhere => {
            let stores = reached.keys().filter_map(|id| fleet.datastore(*id));
            let free = stores.map(|store| fleet.free_on_datastore(store)).max();
            let free = free.unwrap_or(Bytes::ZERO);
            if needed > free { Err(Refusal::DiskShort { needed, free }) } else { Ok(()) }
        }
    }
}

/// Every host gives both kinds of network that a container VM can ask for so far.
fn networks(_: &Fleet, _: &Host, _: &Wish<'_>) -> Result<(), Refusal> {
    Ok(())
}
