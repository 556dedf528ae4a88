//! What an endpoint may hold, against what it holds.
//!
//! Cpu and memory count while they are charged on a host; disks and the number of container VMs
//! from create to the end. So a create asks for the latter, a start for the former, and a
//! placement that is to be held for all four.

use super::{Load, Wish};
use crate::fleet::Fleet;
use berth_model::explanation::Refusal;
use berth_model::rejection::QuotaKind;
use berth_model::{EndpointId, Host, Rejection, Usage};

impl Fleet {
    /// What would not fit any more if the endpoint took `more`; `None` if all does.
    pub fn quota_short(&self, endpoint: EndpointId, more: Usage) -> Option<Refusal> {
        let quota = &self.endpoint(endpoint)?.quota;
        let used = self.usage(endpoint);
        let ask = |what, limit: Option<u64>, used: u64, needed: u64| match limit {
            Some(limit) if needed > 0 && used.saturating_add(needed) > limit => {
                Some(Refusal::QuotaExceeded { what, limit, used, needed })
            }
            Some(_) | None => None,
        };
        ask(QuotaKind::Cpu, quota.cpu.map(|q| q.0), used.cpu.0, more.cpu.0)
            .or_else(|| {
                ask(QuotaKind::Memory, quota.memory.map(|q| q.0), used.memory.0, more.memory.0)
            })
            .or_else(|| ask(QuotaKind::Disk, quota.disk.map(|q| q.0), used.disk.0, more.disk.0))
            .or_else(|| {
                let limit = quota.containers.map(u64::from);
                ask(QuotaKind::Containers, limit, used.containers.into(), more.containers.into())
            })
    }

    /// The same as an answer to a command.
    pub(in super::super) fn check_quota(
        &self,
        endpoint: EndpointId,
        more: Usage,
    ) -> Result<(), Rejection> {
        match self.quota_short(endpoint, more) {
            Some(Refusal::QuotaExceeded { what, limit, used, needed }) => {
                Err(Rejection::QuotaExceeded { what, limit, used, needed })
            }
            Some(_) | None => Ok(()),
        }
    }
}

pub(super) fn quota(fleet: &Fleet, host: &Host, wish: &Wish<'_>) -> Result<(), Refusal> {
    let charge = match wish.load {
        Load::Ever => return Ok(()),
        Load::Now => wish.demand.charge(host.facts.vm_overhead),
    };
    let mut more = Usage { cpu: charge.cpu, memory: charge.memory, ..Usage::default() };
    if wish.is_new() {
        more.disk = wish.demand.disk_total();
        more.containers = 1;
    }
    fleet.quota_short(wish.endpoint, more).map_or(Ok(()), Err)
}
