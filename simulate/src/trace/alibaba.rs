//! Pods that ask for GPUs, and machines that have them.
//!
//! Columns: nodes `sn, cpu_milli, memory_mib, gpu, model`, pods `name, cpu_milli, memory_mib,
//! num_gpu`, as in the lists `openb_node_list_*` and `openb_pod_list_*` of the Alibaba GPU cluster
//! trace of 2023. Others may stand beside them and are not read.
//!
//! Reading: GPUs are countable things of a host by the name of [`GPU`]; a share of one counts as a
//! whole. The model is a label of the host.

use super::TraceError;
use super::azure::demand;
use super::columns::{Row, Table};
use crate::cell;
use berth_model::{Bytes, Demand, HostFacts, MilliCpus, Resources, Supply};
use std::collections::BTreeMap;
use std::path::Path;

pub const GPU: &str = "gpu";
const MODEL: &str = "gpu-model";

#[derive(Clone, Debug)]
pub struct Alibaba {
    pub nodes: Vec<Node>,
    /// In the order of the file.
    pub pods: Vec<Pod>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    pub name: String,
    pub size: Resources,
    pub gpus: u32,
    /// Empty without GPUs.
    pub model: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pod {
    pub size: Resources,
    pub gpus: u32,
}

const NODES: [&str; 5] = ["sn", "cpu_milli", "memory_mib", "gpu", "model"];
const PODS: [&str; 3] = ["cpu_milli", "memory_mib", "num_gpu"];
/// 1 PiB; more is a slip of the pen.
const MEMORY_MIB_MAX: u64 = 1 << 30;

impl Alibaba {
    pub fn read(nodes: &Path, pods: &Path) -> Result<Alibaba, TraceError> {
        let nodes = Table::open(nodes, &NODES)?.rows(|row| {
            let size = size(&row, 1, 2)?;
            let (name, model) = (row.text(0).to_owned(), row.text(4).to_owned());
            Ok(Node { name, size, gpus: row.number(3)?, model })
        })?;
        let pods = Table::open(pods, &PODS)?
            .rows(|row| Ok(Pod { size: size(&row, 0, 1)?, gpus: row.number(2)? }))?;
        Ok(Alibaba { nodes, pods })
    }
}

fn size(row: &Row<'_>, cpu: usize, memory: usize) -> Result<Resources, TraceError> {
    let cpus: u32 = row.number(cpu)?;
    let mib: u64 = row.number(memory)?;
    if mib > MEMORY_MIB_MAX {
        return Err(row.not(memory, "an amount of MiB that a machine can have"));
    }
    Ok(Resources { cpu: MilliCpus(cpus.into()), memory: Bytes::mib(mib) })
}

impl Node {
    pub fn facts(&self) -> HostFacts {
        let mut facts = cell::facts(self.name.clone(), self.size, Bytes::ZERO);
        if self.gpus > 0 {
            facts.supply = Supply {
                resources: BTreeMap::from([(GPU.to_owned(), u64::from(self.gpus))]),
                ..Supply::default()
            };
            facts.labels.insert(MODEL.to_owned(), self.model.clone());
        }
        facts
    }
}

impl Pod {
    pub fn demand(&self) -> Demand {
        let mut demand = demand(self.size);
        if self.gpus > 0 {
            demand.resources.insert(GPU.to_owned(), u64::from(self.gpus));
        }
        demand
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn made_up_lines_in_the_format_are_read() {
        let at = |name: &str| Path::new(env!("CARGO_MANIFEST_DIR")).join("traces").join(name);
        let nodes = at("alibaba-nodes-made-up.csv");
        let alibaba = Alibaba::read(&nodes, &at("alibaba-pods-made-up.csv")).unwrap();
        assert_eq!((alibaba.nodes.len(), alibaba.pods.len()), (4, 8));
        let with = alibaba.nodes[0].facts();
        assert_eq!(with.supply.resources, BTreeMap::from([("gpu".to_owned(), 2)]));
        assert!(alibaba.nodes[3].facts().supply.resources.is_empty());
        assert_eq!(alibaba.pods[0].demand().resources.get(GPU), Some(&1));
        assert!(alibaba.pods[1].demand().resources.is_empty());
    }
}
