//! How many more of one shape fit.

use super::{ByCluster, moves};
use crate::fleet::Fleet;
use crate::placement::{Ask, Mirror};
use berth_model::{ClusterId, Demand, EndpointId, Host, HostId, HostState, PlacementWish};
use std::cmp::Reverse;
use std::sync::Arc;

/// Decisions that the question after a loss may cost: about two seconds.
const DECISIONS_MAX: u64 = 2_000_000;
/// Losses that are tried in any case.
const LOSSES_MIN: u64 = 8;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Capacity {
    /// Index of the fleet that this is true of.
    pub revision_index: u64,
    /// How many more fit, `most` at most.
    pub now: u64,
    /// The same in each cluster alone.
    pub clusters: ByCluster,
    /// `None` where no host is connected.
    pub after_loss: Option<AfterLoss>,
}

/// The worst loss of a single host, once what ran there was started elsewhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AfterLoss {
    pub host: HostId,
    /// How many more fit then.
    pub fit: u64,
    /// How many of those that ran there would have no place.
    pub homeless: u64,
    /// How many losses were tried; the largest hosts for this shape come first.
    pub tried: u64,
    /// Whether that were all.
    pub exact: bool,
}

pub(super) fn answer(
    fleet: &Arc<Fleet>,
    endpoint: EndpointId,
    wish: &Arc<PlacementWish>,
    most: u64,
) -> Capacity {
    let mut mirror = Mirror::new(Arc::clone(fleet));
    let now = mirror.room_for(&Ask::hold(endpoint, wish), most);
    let clusters = fleet
        .clusters()
        .filter(|cluster| wish.demand.cluster.is_none_or(|wanted| wanted == cluster.id))
        .map(|cluster| (cluster.id, room_in(&mut mirror, endpoint, wish, cluster.id, most)))
        .collect();
    let after_loss = worst_loss(fleet, endpoint, wish, now, most);
    Capacity { revision_index: fleet.index(), now, clusters, after_loss }
}

fn room_in(
    mirror: &mut Mirror,
    endpoint: EndpointId,
    wish: &PlacementWish,
    cluster: ClusterId,
    most: u64,
) -> u64 {
    let demand = Demand { cluster: Some(cluster), ..wish.demand.clone() };
    let wish = PlacementWish { demand, labels: wish.labels.clone() };
    mirror.room_for(&Ask::hold(endpoint, &wish), most)
}

fn worst_loss(
    fleet: &Arc<Fleet>,
    endpoint: EndpointId,
    wish: &PlacementWish,
    now: u64,
    most: u64,
) -> Option<AfterLoss> {
    let mut hosts: Vec<&Host> = fleet.hosts().filter(|host| is_connected(host)).collect();
    // Whoever holds the most of this shape, free or taken, is missed the most.
    hosts.sort_by_key(|host| (Reverse(holds(fleet, host, &wish.demand)), host.id));
    let cost = now.min(most).max(1);
    let tries = (DECISIONS_MAX / cost).max(LOSSES_MIN).min(hosts.len() as u64);
    let exact = tries == hosts.len() as u64;
    let mut worst: Option<AfterLoss> = None;
    for host in hosts.into_iter().take(usize::try_from(tries).unwrap_or(usize::MAX)) {
        let (mut mirror, homeless) = moves::after_loss(fleet, host.id);
        let fit = mirror.room_for(&Ask::hold(endpoint, wish), most);
        let loss = AfterLoss { host: host.id, fit, homeless, tried: tries, exact };
        let key = |loss: &AfterLoss| (loss.fit, Reverse(loss.homeless), loss.host);
        if worst.as_ref().is_none_or(|worst| key(&loss) < key(worst)) {
            worst = Some(loss);
        }
    }
    worst
}

/// How many of this shape the host's cpu and memory hold, were it empty.
fn holds(fleet: &Fleet, host: &Host, demand: &Demand) -> u64 {
    let (limit, charge) = (fleet.limit_of_host(host), demand.charge(host.facts.vm_overhead));
    let cpu = limit.cpu.0.checked_div(charge.cpu.0).unwrap_or(u64::MAX);
    cpu.min(limit.memory.0.checked_div(charge.memory.0).unwrap_or(u64::MAX))
}

fn is_connected(host: &Host) -> bool {
    match host.state {
        HostState::Connected { .. } => true,
        HostState::Silent { .. } => false,
    }
}
