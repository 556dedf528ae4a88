//! The smallest change of a refused request, or of what it meets, that would let it in.
//!
//! Cuts are compared by their share of what was asked: a tenth less memory is smaller than a fifth
//! less cpu. What is given up whole counts as in [`cost_of`]: a wish of the request's own as a
//! tenth, what others rely on (a rule, a quota, what is kept for a loss, one more host) the more,
//! the more it takes. Promises: with the change made, some host passes every filter. Does not:
//! combine changes; where only several together would help, there is none.

use super::{Ask, Delta, FILTERS, Load, Mirror, Wish};
use crate::fleet::Fleet;
use crate::fleet::rules::Matched;
use berth_model::explanation::{Refusal, Relaxation};
use berth_model::rejection::QuotaKind;
use berth_model::{Bytes, Demand, EndpointId, Filter, Host, HostId, MilliCpus, Scope};
use std::collections::BTreeMap;
use std::sync::Arc;

/// A smaller demand, what it counts as, and how to say it.
type Cut = (u64, Relaxation, Demand);

/// Cuts that are tried against what clusters keep.
const CUTS_TRIED: usize = 8;
/// Places in which one more host is tried.
const DOMAINS_MAX: usize = 32;

/// What something given up whole counts as, in thousandths of the request.
fn cost_of(relaxation: &Relaxation) -> u64 {
    match relaxation {
        Relaxation::AnyHost
        | Relaxation::AnyCluster
        | Relaxation::AnyDatastore
        | Relaxation::AnyNuma => 100,
        Relaxation::WithoutNetwork(_) | Relaxation::WithoutLabel { .. } => 200,
        Relaxation::WithoutRule(_) => 300,
        Relaxation::LargerQuota { .. } => 400,
        Relaxation::WithoutAdmission => 500,
        Relaxation::OneMoreHost { .. } => 600,
        Relaxation::LessCpu(_)
        | Relaxation::LessMemory(_)
        | Relaxation::LessDisk(_)
        | Relaxation::LessReserved(_)
        | Relaxation::LessResource { .. } => 1000,
    }
}

/// `keeps`: some cluster keeps what the filters cannot tell from sums, so that each change is tried
/// by a mirror before it is suggested.
pub fn smallest(
    fleet: &Fleet,
    ask: &Ask<'_>,
    matched: &Matched,
    keeps: bool,
) -> Option<Relaxation> {
    let wish = ask.wish(matched);
    if keeps && fits(fleet, &wish) {
        return Some(Relaxation::WithoutAdmission);
    }
    let holds = |fleet: &Fleet, ask: &Ask<'_>| {
        !keeps || Mirror::new(Arc::new(fleet.clone())).decide(ask).is_some()
    };
    let mut best: Option<(u64, Relaxation)> = None;
    let mut cuts: Vec<Cut> = fleet.hosts().flat_map(|host| cuts_for(fleet, host, &wish)).collect();
    // Stable, so that the first of equals is kept and the answer is the same everywhere.
    cuts.sort_by_key(|(cost, ..)| *cost);
    let tried = cuts.into_iter().take(CUTS_TRIED);
    let cut = tried.into_iter().find(|(_, _, less)| holds(fleet, &Ask { demand: less, ..*ask }));
    if let Some((cost, relaxation, _)) = cut {
        keep(&mut best, cost, relaxation);
    }
    for (demand, delta, relaxation) in given_up(ask) {
        let freer = Wish { demand: &demand, delta, ..wish };
        let asked = Ask { demand: &demand, delta, ..*ask };
        offer(&mut best, relaxation, || fits(fleet, &freer) && holds(fleet, &asked));
    }
    if !keeps {
        for (position, spoken) in matched.required.iter().enumerate() {
            let mut fewer = matched.clone();
            fewer.required.remove(position);
            let freer = Wish { matched: &fewer, ..wish };
            let relaxation = Relaxation::WithoutRule(spoken.rule.name.clone());
            offer(&mut best, relaxation, || fits(fleet, &freer));
        }
        if let Some(relaxation) = larger_quota(fleet, &wish) {
            keep(&mut best, cost_of(&relaxation), relaxation);
        }
    }
    offer(&mut best, Relaxation::WithoutAdmission, || fits_without_admission(fleet, &wish));
    if let Some(relaxation) = one_more_host(fleet, &wish, |larger| holds(larger, ask)) {
        keep(&mut best, cost_of(&relaxation), relaxation);
    }
    best.map(|(_, relaxation)| relaxation)
}

fn keep(best: &mut Option<(u64, Relaxation)>, cost: u64, relaxation: Relaxation) {
    if best.as_ref().is_none_or(|(least, _)| cost < *least) {
        *best = Some((cost, relaxation));
    }
}

/// Asked only where it would be kept.
fn offer(
    best: &mut Option<(u64, Relaxation)>,
    relaxation: Relaxation,
    helps: impl FnOnce() -> bool,
) {
    let cost = cost_of(&relaxation);
    if best.as_ref().is_none_or(|(least, _)| cost < *least) && helps() {
        *best = Some((cost, relaxation));
    }
}

fn fits(fleet: &Fleet, wish: &Wish<'_>) -> bool {
    fleet.hosts().any(|host| fleet.admit(host, wish).is_ok())
}

/// Smaller demands that would fit on this one host.
fn cuts_for(fleet: &Fleet, host: &Host, wish: &Wish<'_>) -> Vec<Cut> {
    let demand = wish.demand;
    let free = match wish.load {
        Load::Now => fleet.free_on_host(host),
        Load::Ever => fleet.limit_of_host(host),
    };
    let mut cuts = Vec::new();
    let fits = |demand: &Demand| fleet.admit(host, &Wish { demand, ..*wish }).is_ok();

    if MilliCpus::ZERO < free.cpu && free.cpu < demand.cpu {
        let less = Demand { cpu: free.cpu, ..demand.clone() };
        if fits(&less) {
            let cut = demand.cpu.saturating_sub(less.cpu);
            cuts.push((cost(cut.0, demand.cpu.0), Relaxation::LessCpu(cut), less));
        }
    }
    let room = free.memory.saturating_sub(host.facts.vm_overhead);
    if let Some(less) = less_memory(demand, room).filter(fits) {
        let asked = demand.machine_memory.unwrap_or(demand.memory);
        let cut = asked.saturating_sub(less.machine_memory.unwrap_or(less.memory));
        cuts.push((cost(cut.0, asked.0), Relaxation::LessMemory(cut), less));
    }
    let disk = free_disk(fleet, host, wish.delta);
    if Bytes::ZERO < disk && disk < demand.disk {
        let less = Demand { disk, ..demand.clone() };
        if fits(&less) {
            let cut = demand.disk.saturating_sub(disk);
            cuts.push((cost(cut.0, demand.disk.0), Relaxation::LessDisk(cut), less));
        }
    }
    if demand.memory_reservation > Bytes::ZERO {
        let held = if wish.load == Load::Now { host.held.reserved } else { Bytes::ZERO };
        let left = fleet.reservable_on_host(host).saturating_sub(held);
        let less = Demand { memory_reservation: left, ..demand.clone() };
        if left < demand.memory_reservation && fits(&less) {
            let cut = demand.memory_reservation.saturating_sub(left);
            cuts.push((
                cost(cut.0, demand.memory_reservation.0),
                Relaxation::LessReserved(cut),
                less,
            ));
        }
    }
    cuts.extend(fewer_things(fleet, host, wish));
    cuts
}

fn fewer_things(fleet: &Fleet, host: &Host, wish: &Wish<'_>) -> Vec<Cut> {
    let mut cuts = Vec::new();
    for (name, asked) in &wish.demand.resources {
        let all = host.facts.supply.resources.get(name).copied().unwrap_or(0);
        let held = match wish.load {
            Load::Now => host.held.resources.get(name).copied().unwrap_or(0),
            Load::Ever => 0,
        };
        let left = all.saturating_sub(held);
        if left >= *asked {
            continue;
        }
        let mut less = wish.demand.clone();
        match left {
            0 => drop(less.resources.remove(name)),
            left => drop(less.resources.insert(name.clone(), left)),
        }
        if fleet.admit(host, &Wish { demand: &less, ..*wish }).is_ok() {
            let amount = asked - left;
            let relaxation = Relaxation::LessResource { name: name.clone(), amount };
            cuts.push((cost(amount, *asked), relaxation, less));
        }
    }
    cuts
}

/// The demand cut to what fits into `room`: by its limit in whole MiB, or where it names the
/// machine's memory, by that.
fn less_memory(demand: &Demand, room: Bytes) -> Option<Demand> {
    if let Some(machine) = demand.machine_memory {
        let less = Demand {
            machine_memory: Some(room),
            memory_reservation: demand.memory_reservation.min(room),
            ..demand.clone()
        };
        return (Bytes::ZERO < room && room < machine && less.memory <= room).then_some(less);
    }
    let memory = largest_limit(demand, room).filter(|limit| *limit < demand.memory)?;
    Some(Demand { memory, ..demand.clone() })
}

/// The most container memory, in whole MiB, whose class fits into `room`. Classes rise with the
/// limit, so halving finds it.
fn largest_limit(demand: &Demand, room: Bytes) -> Option<Bytes> {
    let fits =
        |mib: u64| Demand { memory: Bytes::mib(mib), ..demand.clone() }.memory_class() <= room;
    let (mut low, mut high) = (0, demand.memory.0 >> 20);
    while low < high {
        let middle = low + (high - low).div_ceil(2);
        if fits(middle) {
            low = middle;
        } else {
            high = middle - 1;
        }
    }
    (low > 0).then(|| Bytes::mib(low))
}

/// The most that one delta disk could take on a datastore of this host.
fn free_disk(fleet: &Fleet, host: &Host, delta: Delta) -> Bytes {
    let free = |id| fleet.datastore(id).map(|store| fleet.free_on_datastore(store));
    match delta {
        Delta::Placed(_) => Bytes::ZERO,
        Delta::New(datastore) => free(datastore).unwrap_or(Bytes::ZERO),
        Delta::Anywhere => {
            host.facts.datastores.keys().filter_map(|id| free(*id)).max().unwrap_or(Bytes::ZERO)
        }
    }
}

/// The request with one of its wishes given up.
fn given_up(ask: &Ask<'_>) -> Vec<(Demand, Delta, Relaxation)> {
    let demand = ask.demand;
    let mut freer = Vec::new();
    if demand.host.is_some() {
        let demand = Demand { host: None, ..demand.clone() };
        freer.push((demand, ask.delta, Relaxation::AnyHost));
    }
    if demand.datastore.is_some() && matches!(ask.delta, Delta::New(_)) {
        let demand = Demand { datastore: None, ..demand.clone() };
        freer.push((demand, Delta::Anywhere, Relaxation::AnyDatastore));
    }
    if demand.cluster.is_some() {
        let demand = Demand { cluster: None, ..demand.clone() };
        freer.push((demand, ask.delta, Relaxation::AnyCluster));
    }
    if demand.numa.is_some() {
        let demand = Demand { numa: None, ..demand.clone() };
        freer.push((demand, ask.delta, Relaxation::AnyNuma));
    }
    for network in &demand.networks {
        let mut fewer = demand.clone();
        fewer.networks.remove(network);
        freer.push((fewer, ask.delta, Relaxation::WithoutNetwork(network.clone())));
    }
    for name in demand.host_labels.keys() {
        let mut fewer = demand.clone();
        fewer.host_labels.remove(name);
        freer.push((fewer, ask.delta, Relaxation::WithoutLabel { name: name.clone() }));
    }
    freer
}

/// The quota that is short, if it is the only one and some host would do otherwise.
fn larger_quota(fleet: &Fleet, wish: &Wish<'_>) -> Option<Relaxation> {
    let unlimited = Wish { endpoint: EndpointId::SYSTEM, ..*wish };
    let mut least: Option<(u64, Relaxation)> = None;
    for host in fleet.hosts() {
        let Err(Refusal::QuotaExceeded { what, limit, used, needed }) = quota(fleet, host, wish)
        else {
            continue;
        };
        if fleet.admit(host, &unlimited).is_err() || is_short_of_more(fleet, host, wish, what) {
            continue;
        }
        let amount = used.saturating_add(needed).saturating_sub(limit);
        if least.as_ref().is_none_or(|(least, _)| amount < *least) {
            least = Some((amount, Relaxation::LargerQuota { what, amount }));
        }
    }
    least.map(|(_, relaxation)| relaxation)
}

fn quota(fleet: &Fleet, host: &Host, wish: &Wish<'_>) -> Result<(), Refusal> {
    let at = Filter::ALL.iter().position(|filter| *filter == Filter::Quota);
    at.and_then(|at| FILTERS.get(at)).map_or(Ok(()), |filter| filter(fleet, host, wish))
}

/// Whether another quota than `what` is short too.
fn is_short_of_more(fleet: &Fleet, host: &Host, wish: &Wish<'_>, what: QuotaKind) -> bool {
    let Some(endpoint) = fleet.endpoint(wish.endpoint) else { return false };
    let used = fleet.usage(wish.endpoint);
    let charge = wish.demand.charge(host.facts.vm_overhead);
    let (disk, one) = if wish.is_new() { (wish.demand.disk_total(), 1) } else { (Bytes::ZERO, 0) };
    let rows = [
        (QuotaKind::Cpu, endpoint.quota.cpu.map(|q| q.0), used.cpu.0, charge.cpu.0),
        (QuotaKind::Memory, endpoint.quota.memory.map(|q| q.0), used.memory.0, charge.memory.0),
        (QuotaKind::Disk, endpoint.quota.disk.map(|q| q.0), used.disk.0, disk.0),
        (
            QuotaKind::Containers,
            endpoint.quota.containers.map(u64::from),
            u64::from(used.containers),
            one,
        ),
    ];
    rows.into_iter().any(|(kind, limit, used, needed)| {
        kind != what && needed > 0 && limit.is_some_and(|limit| used.saturating_add(needed) > limit)
    })
}

fn fits_without_admission(fleet: &Fleet, wish: &Wish<'_>) -> bool {
    let kept = Filter::ALL.iter().zip(FILTERS).filter(|(name, _)| **name != Filter::Admission);
    let filters: Vec<_> = kept.map(|(_, filter)| filter).collect();
    fleet.hosts().any(|host| filters.iter().all(|filter| filter(fleet, host, wish).is_ok()))
}

/// A fault domain and a cluster.
type Stand<'a> = (&'a [(String, String)], berth_model::ClusterId);

/// One more host like one that is there, empty, where that one stands.
fn one_more_host(
    fleet: &Fleet,
    wish: &Wish<'_>,
    holds: impl Fn(&Fleet) -> bool,
) -> Option<Relaxation> {
    let by_domain =
        wish.matched.required.iter().any(|spoken| matches!(spoken.scope(), Some(Scope::Domain(_))));
    let mut tried: BTreeMap<Stand<'_>, HostId> = BTreeMap::new();
    // The largest of each place stands for what could be added there.
    for host in fleet.hosts() {
        let place = (host.facts.supply.domain.as_slice(), host.cluster);
        let size = |id: HostId| {
            fleet.host(id).map(|host| (host.facts.capacity.memory, host.facts.capacity.cpu))
        };
        let known = tried.get(&place).copied();
        if known.is_none_or(|known| size(known) < size(host.id)) {
            tried.insert(place, host.id);
        }
    }
    tried.into_iter().take(DOMAINS_MAX).find_map(|((domain, _), like)| {
        let (larger, id) = fleet.with_one_like(like)?;
        larger.admit(larger.host(id)?, wish).ok().filter(|()| holds(&larger))?;
        let innermost = domain.last().filter(|_| by_domain);
        let domain = innermost.map_or_else(String::new, |(level, name)| format!("{level} {name}"));
        Some(Relaxation::OneMoreHost { domain })
    })
}

/// A cut in thousandths of what was asked, at least one.
fn cost(cut: u64, asked: u64) -> u64 {
    let share = u128::from(cut) * 1000 / u128::from(asked.max(1));
    u64::try_from(share).unwrap_or(u64::MAX).max(1)
}
