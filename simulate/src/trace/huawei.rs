//! VM requests with NUMA widths and placement rules, hosts with two NUMA nodes, and racks.
//!
//! Columns: hosts `pm_id, CPU1, RAM1, CPU2, RAM2` (free cores and GiB of each NUMA node), racks
//! `host_id, rack_id`, requests `flavor_vcpus, flavor_ram, numa, strategy, group, domain`.
//!
//! Reading: host `i` stands in the rack of `host-i`. A NUMA width of 1 is within one node, 2 is
//! half on each of two. `affinity` keeps a group in one rack, for groups are larger than any host;
//! `anti-affinity` keeps any two of a group off one host; `fault_domain` keeps members of one
//! group that name different domains in different racks.

use super::TraceError;
use super::azure::demand;
use super::columns::{Row, Table};
use crate::cell;
use berth_model::host::NumaNode;
use berth_model::{Bytes, Demand, HostFacts, MilliCpus, Resources, Supply};
use std::collections::BTreeMap;
use std::path::Path;

/// The level of fault domains that racks are.
pub const RACK: &str = "rack";

#[derive(Clone, Debug)]
pub struct Huawei {
    pub hosts: Vec<Host>,
    /// In the order of the file.
    pub requests: Vec<Request>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Host {
    pub id: u32,
    pub numa: [Resources; 2],
    pub rack: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Request {
    pub size: Resources,
    /// 1 or 2.
    pub numa: u8,
    pub rule: Option<Grouped>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Grouped {
    Affinity { group: u64 },
    AntiAffinity { group: u64 },
    FaultDomain { group: u64, domain: u64 },
}

const HOSTS: [&str; 5] = ["pm_id", "CPU1", "RAM1", "CPU2", "RAM2"];
const RACKS: [&str; 2] = ["host_id", "rack_id"];
const REQUESTS: [&str; 6] = ["flavor_vcpus", "flavor_ram", "numa", "strategy", "group", "domain"];

impl Huawei {
    pub fn read(hosts: &Path, racks: &Path, requests: &Path) -> Result<Huawei, TraceError> {
        let racks: BTreeMap<String, String> = Table::open(racks, &RACKS)?
            .rows(|row| Ok((row.text(0).to_owned(), row.text(1).to_owned())))?
            .into_iter()
            .collect();
        let hosts = Table::open(hosts, &HOSTS)?.rows(|row| Host::read(&row, &racks))?;
        let requests = Table::open(requests, &REQUESTS)?.rows(|row| Request::read(&row))?;
        Ok(Huawei { hosts, requests })
    }
}

impl Host {
    fn read(row: &Row<'_>, racks: &BTreeMap<String, String>) -> Result<Host, TraceError> {
        let id = row.number(0)?;
        let rack = racks.get(&format!("host-{id}"));
        let rack = rack.ok_or_else(|| row.not(0, "a host of which the racks' file speaks"))?;
        let node = |cores, memory| -> Result<Resources, TraceError> {
            let cores: u32 = row.number(cores)?;
            Ok(Resources { cpu: MilliCpus::whole(cores.into()), memory: row.gib(memory)? })
        };
        Ok(Host { id, numa: [node(1, 2)?, node(3, 4)?], rack: rack.clone() })
    }

    pub fn facts(&self) -> HostFacts {
        let numa = |(id, capacity): (u16, &Resources)| NumaNode { id, capacity: *capacity };
        let supply = Supply {
            numa: (0..).zip(&self.numa).map(numa).collect(),
            domain: vec![(RACK.to_owned(), self.rack.clone())],
            ..Supply::default()
        };
        HostFacts {
            supply,
            ..cell::facts(format!("host-{}", self.id), self.numa[0] + self.numa[1], Bytes::ZERO)
        }
    }
}

impl Request {
    fn read(row: &Row<'_>) -> Result<Request, TraceError> {
        let cpus: u32 = row.number(0)?;
        let numa = match row.number(2)? {
            numa @ 1..=2 => numa,
            _ => return Err(row.not(2, "1 or 2")),
        };
        let group = || row.label(4)?.ok_or_else(|| row.not(4, "a group"));
        let rule = match row.text(3) {
            "" => None,
            "affinity" => Some(Grouped::Affinity { group: group()? }),
            "anti-affinity" => Some(Grouped::AntiAffinity { group: group()? }),
            "fault_domain" => {
                let domain = row.label(5)?.ok_or_else(|| row.not(5, "a domain"))?;
                Some(Grouped::FaultDomain { group: group()?, domain })
            }
            _ => return Err(row.not(3, "affinity, anti-affinity, fault_domain or nothing")),
        };
        let size = Resources { cpu: MilliCpus::whole(cpus.into()), memory: row.gib(1)? };
        Ok(Request { size, numa, rule })
    }

    pub fn demand(&self) -> Demand {
        Demand { numa: Some(self.numa), ..demand(self.size) }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub fn excerpt() -> Huawei {
        let at = |name: &str| Path::new(env!("CARGO_MANIFEST_DIR")).join("traces").join(name);
        let [hosts, racks, requests] = ["huawei-hosts", "huawei-racks", "huawei-requests"]
            .map(|name| at(&format!("{name}-excerpt.csv")));
        Huawei::read(&hosts, &racks, &requests).unwrap()
    }

    #[test]
    fn the_excerpt_reads_as_it_is_written() {
        let huawei = excerpt();
        assert_eq!((huawei.hosts.len(), huawei.requests.len()), (60, 200));
        let first = &huawei.hosts[0];
        assert_eq!(first.numa[1], Resources { cpu: MilliCpus(32_000), memory: Bytes::gib(64) });
        assert_eq!(first.facts().supply.domain, [("rack".to_owned(), "0".to_owned())]);
        let request = huawei.requests[0];
        assert_eq!(request.rule, Some(Grouped::FaultDomain { group: 0, domain: 1 }));
        assert!(huawei.requests.iter().any(|request| request.numa == 2));
    }
}
