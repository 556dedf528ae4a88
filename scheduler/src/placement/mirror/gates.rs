//! What depends on sums that are not a host's: quotas, and shares that clusters keep.
//!
//! Both refuse for all hosts of a cluster alike, but for what the hypervisor costs on each. Promises:
//! as the filters say, with every ticket counted. Does not: know restart plans, see `keeping`.

use super::Mirror;
use super::dense::Policy;
use crate::placement::{Ask, Delta, Load};
use berth_model::cluster::Admission;
use berth_model::{Bytes, Permille, Resources, Usage};

impl Mirror {
    /// By cluster, the most that a hypervisor may cost so that quota and what is kept stand. `None`
    /// where the quota refuses all.
    pub(super) fn gates(&self, ask: &Ask<'_>) -> Option<Vec<Option<Bytes>>> {
        let quota = self.quota_left(ask)?;
        let pinned = ask.demand.cluster;
        let keeps = ask.load == Load::Now
            && self.dense.policies.iter().any(|policy| kept(&policy.admission).is_some());
        if quota == Bytes(u64::MAX) && pinned.is_none() && !keeps {
            return Some(Vec::new());
        }
        let gate = |policy: &Policy| {
            if pinned.is_some_and(|pinned| pinned != policy.id) {
                return None;
            }
            let kept = if keeps { kept(&policy.admission) } else { None };
            let Some((cpu, memory)) = kept else { return Some(quota) };
            let load = self.fleet.load_of_cluster(policy.id);
            let left = |share: Permille| Permille(1000_u32.saturating_sub(share.0));
            let charged = load.charged + policy.taken;
            let limit = Resources {
                cpu: load.limit.cpu.permille(left(cpu)),
                memory: load.limit.memory.permille(left(memory)),
            };
            let needed = charged + ask.demand.charge(Bytes::ZERO);
            if needed.cpu > limit.cpu || needed.memory > limit.memory {
                return None;
            }
            Some(quota.min(limit.memory - needed.memory))
        };
        Some(self.dense.policies.iter().map(gate).collect())
    }

    /// The most that a hypervisor may cost so that the endpoint's quota holds; `None` where it does
    /// not in any case.
    fn quota_left(&self, ask: &Ask<'_>) -> Option<Bytes> {
        const NO_LIMIT: Option<Bytes> = Some(Bytes(u64::MAX));
        if ask.load == Load::Ever {
            return NO_LIMIT;
        }
        let Some(endpoint) = self.fleet.endpoint(ask.endpoint) else { return NO_LIMIT };
        let quota = &endpoint.quota;
        if *quota == Default::default() {
            return NO_LIMIT;
        }
        let used = self.fleet.usage(ask.endpoint);
        let taken = self.tickets.usage.get(&ask.endpoint).copied().unwrap_or_default();
        let mut more = Usage { cpu: ask.demand.cpu, ..Usage::default() };
        if !matches!(ask.delta, Delta::Placed(_)) {
            more.disk = ask.demand.disk_total();
            more.containers = 1;
        }
        let fits = |limit: Option<u64>, used: u64, taken: u64, more: u64| {
            more == 0
                || limit
                    .is_none_or(|limit| used.saturating_add(taken).saturating_add(more) <= limit)
        };
        let counted = u64::from(used.containers) + u64::from(taken.containers);
        let all = fits(quota.cpu.map(|cpu| cpu.0), used.cpu.0, taken.cpu.0, more.cpu.0)
            && fits(quota.disk.map(|disk| disk.0), used.disk.0, taken.disk.0, more.disk.0)
            && fits(quota.containers.map(u64::from), counted, 0, u64::from(more.containers));
        if !all {
            return None;
        }
        let Some(limit) = quota.memory else { return NO_LIMIT };
        let machine = ask.demand.memory_class();
        let needed = used.memory + taken.memory + machine;
        if needed <= limit {
            return Some(limit - needed);
        }
        // What costs nothing needs no quota.
        (machine == Bytes::ZERO).then_some(Bytes::ZERO)
    }
}

fn kept(admission: &Admission) -> Option<(Permille, Permille)> {
    match admission {
        Admission::Percentage { cpu, memory } => Some((*cpu, *memory)),
        Admission::Off
        | Admission::HostFailures { .. }
        | Admission::FailoverHosts { .. }
        | Admission::Slots { .. } => None,
    }
}
