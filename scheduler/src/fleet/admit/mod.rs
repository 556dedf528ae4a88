//! Whether a host may take a container VM: the filters, one list for planner and apply.
//!
//! What placement asks before it proposes, apply asks again before it believes: the same list over
//! the fleet of that moment. Promises: what passes here raises no charge above capacity less the
//! reserve, times overcommit, nor above a quota, and breaks no required rule. Does not: prefer
//! anything; that is the score's work in `placement`. Nor prove that a lost host's container VMs
//! would find a place: of the cluster's admission policy only what is cheap is asked here.

mod capacity;
mod demand;
mod disks;
mod numa;
mod quota;

pub(super) use demand::check_shape;
pub use disks::{Chosen, Disks};
pub use numa::numa_share;

use super::Fleet;
use super::rules::Matched;
use berth_model::explanation::Refusal;
use berth_model::{
    Admission, Bytes, Datastore, DatastoreId, Demand, EndpointId, Host, HostId, HostState,
    NumaNodes, Permille, RuleKind,
};
use std::collections::BTreeSet;

/// What is asked of a host.
#[derive(Clone, Copy, Debug)]
pub struct Wish<'a> {
    /// Whose quota counts.
    pub endpoint: EndpointId,
    pub demand: &'a Demand,
    /// The rules that speak of it, see [`Fleet::matched`].
    pub matched: &'a Matched,
    /// Datastores that hold the image's base disk; `None` asks regardless of images.
    pub image: Option<&'a BTreeSet<DatastoreId>>,
    pub delta: Delta,
    pub disks: Disks<'a>,
    /// The NUMA nodes that were chosen; `None` asks whether any would do.
    pub numa: Option<NumaNodes>,
    pub load: Load,
}

/// Where the delta disk is, or is to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Delta {
    /// To be made on any datastore with room for it; none where the demand has no delta.
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
pub const FILTERS: &[Filter] = &[
    availability,
    rules,
    capacity::capacity,
    disks::datastores,
    networks,
    quota::quota,
    admission,
];

impl<'a> Wish<'a> {
    /// For a create: which datastore. Of no endpoint in particular and under no rules, see
    /// [`Self::by`].
    pub fn create(demand: &'a Demand, image: Option<&'a BTreeSet<DatastoreId>>) -> Self {
        Self {
            endpoint: EndpointId::SYSTEM,
            demand,
            matched: Matched::NONE,
            image,
            delta: demand.datastore.map_or(Delta::Anywhere, Delta::New),
            disks: Disks::Anywhere,
            numa: None,
            load: Load::Ever,
        }
    }

    /// For a start: which host reaches `datastore`.
    pub fn start(
        demand: &'a Demand,
        image: Option<&'a BTreeSet<DatastoreId>>,
        datastore: DatastoreId,
    ) -> Self {
        let delta = Delta::Placed(datastore);
        Self { delta, load: Load::Now, ..Self::create(demand, image) }
    }

    /// For both at once: which datastore and which host, were it created and started now.
    pub fn run(demand: &'a Demand, image: Option<&'a BTreeSet<DatastoreId>>) -> Self {
        Self { load: Load::Now, ..Self::create(demand, image) }
    }

    /// Asked by this endpoint, under these rules.
    pub fn by(self, endpoint: EndpointId, matched: &'a Matched) -> Self {
        Self { endpoint, matched, ..self }
    }

    /// Whether it has disks that are still to be charged.
    pub fn is_new(&self) -> bool {
        match self.delta {
            Delta::Anywhere | Delta::New(_) => true,
            Delta::Placed(_) => false,
        }
    }

    /// Whether it asks for some hosts rather than any.
    pub fn picks_hosts(&self) -> bool {
        let demand = self.demand;
        demand.host.is_some()
            || demand.cluster.is_some()
            || !demand.host_labels.is_empty()
            || !demand.networks.is_empty()
            || self.has_host_rules()
    }

    pub(super) fn has_host_rules(&self) -> bool {
        self.matched.required.iter().any(|spoken| match spoken.kind() {
            RuleKind::Hosts { .. } => spoken.subject,
            RuleKind::Together { .. }
            | RuleKind::Apart { .. }
            | RuleKind::AtMost { .. }
            | RuleKind::Spread { .. }
            | RuleKind::Near { .. }
            | RuleKind::Away { .. }
            | RuleKind::Datastores { .. } => false,
        })
    }

    /// Whether the host is one of those that it demands: cluster, host, labels and networks.
    pub fn is_demanded(&self, host: &Host) -> bool {
        demanded(host, self).is_ok() && unreached_network(host, self).is_none()
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

    /// Whether the cluster keeps the host free for the loss of another. Once one is lost that is
    /// not kept itself, none is kept any more.
    pub fn is_kept(&self, host: &Host) -> bool {
        let Some(cluster) = self.cluster(host.cluster) else { return false };
        let Admission::FailoverHosts { hosts } = &cluster.policy.admission else { return false };
        hosts.contains(&host.id)
            && !self
                .hosts_of(host.cluster)
                .any(|other| !hosts.contains(&other.id) && is_silent(other))
    }

    /// All that may be charged on a datastore. Where hosts of several clusters reach it, the most
    /// careful overcommit and the largest reserve count.
    pub fn limit_of_datastore(&self, datastore: &Datastore) -> Bytes {
        let (overcommit, reserve) = self.disk_policy(datastore.id);
        datastore.capacity.permille(left_after(reserve)).permille(overcommit)
    }

    pub fn free_on_datastore(&self, datastore: &Datastore) -> Bytes {
        self.limit_of_datastore(datastore).saturating_sub(datastore.charged)
    }

    /// The least overcommit and the largest reserve of the clusters whose hosts reach it.
    fn disk_policy(&self, id: DatastoreId) -> (Permille, Permille) {
        let mut policy: Option<(Permille, Permille)> = None;
        for cluster in self.levels.clusters_at(id).filter_map(|id| self.cluster(id)) {
            let own = (cluster.policy.disk_overcommit, cluster.policy.disk_reserve);
            policy =
                Some(policy.map_or(own, |(overcommit, reserve)| {
                    (overcommit.min(own.0), reserve.max(own.1))
                }));
        }
        policy.unwrap_or((Permille(1000), Permille(0)))
    }
}

fn left_after(reserve: Permille) -> Permille {
    Permille(1000_u32.saturating_sub(reserve.0))
}

fn is_silent(host: &Host) -> bool {
    match host.state {
        HostState::Silent { .. } => true,
        HostState::Connected { .. } => false,
    }
}

fn availability(_: &Fleet, host: &Host, _: &Wish<'_>) -> Result<(), Refusal> {
    if is_silent(host) {
        Err(Refusal::Silent)
    } else if host.maintenance {
        Err(Refusal::Maintenance)
    } else {
        Ok(())
    }
}

fn rules(fleet: &Fleet, host: &Host, wish: &Wish<'_>) -> Result<(), Refusal> {
    demanded(host, wish)?;
    if wish.matched.required.is_empty() {
        return Ok(());
    }
    fleet.rule_against_host(host, wish, wish.load == Load::Now)
}

fn demanded(host: &Host, wish: &Wish<'_>) -> Result<(), Refusal> {
    let demand = wish.demand;
    if demand.cluster.is_some_and(|cluster| cluster != host.cluster) {
        return Err(Refusal::OtherCluster);
    }
    if demand.host.is_some_and(|wanted| wanted != host.id) {
        return Err(Refusal::OtherHost);
    }
    for (name, value) in &demand.host_labels {
        if host.facts.labels.get(name) != Some(value) {
            return Err(Refusal::LabelMissing { name: name.clone(), value: value.clone() });
        }
    }
    Ok(())
}

fn networks(_: &Fleet, host: &Host, wish: &Wish<'_>) -> Result<(), Refusal> {
    match unreached_network(host, wish) {
        Some(network) => Err(Refusal::NetworkUnreachable { network: network.clone() }),
        None => Ok(()),
    }
}

fn unreached_network<'a>(host: &Host, wish: &Wish<'a>) -> Option<&'a String> {
    let reached = &host.facts.supply.networks;
    wish.demand.networks.iter().find(|network| !reached.contains(*network))
}

/// What of the cluster's admission policy can be told from sums.
fn admission(fleet: &Fleet, host: &Host, wish: &Wish<'_>) -> Result<(), Refusal> {
    let Some(cluster) = fleet.cluster(host.cluster) else { return Ok(()) };
    match &cluster.policy.admission {
        Admission::Off | Admission::HostFailures { .. } | Admission::Slots { .. } => Ok(()),
        Admission::FailoverHosts { hosts } => {
            if hosts.contains(&host.id) && fleet.is_kept(host) {
                return Err(Refusal::FailoverHost);
            }
            Ok(())
        }
        Admission::Percentage { cpu, memory } => match wish.load {
            Load::Ever => Ok(()),
            Load::Now => fleet.kept_share(host, wish, *cpu, *memory),
        },
    }
}

/// Names hosts that a failover policy keeps; for the loss of a host none has to be silent.
pub fn kept_hosts(admission: &Admission) -> Option<&BTreeSet<HostId>> {
    match admission {
        Admission::FailoverHosts { hosts } => Some(hosts),
        Admission::Off
        | Admission::HostFailures { .. }
        | Admission::Percentage { .. }
        | Admission::Slots { .. } => None,
    }
}
