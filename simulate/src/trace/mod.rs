//! Workloads that were seen in the world, read from files that the user names.
//!
//! ```text
//!  azure:FILE                      arrivals with lifetimes, no hosts
//!  huawei:HOSTS,RACKS,REQUESTS     requests with NUMA widths and rules, hosts and racks
//!  alibaba:NODES,PODS              requests with GPUs, hosts with GPUs
//! ```
//! Files are csv with a header, packed with gzip or not. Columns are found by name, so that their
//! order does not matter and others may stand beside them.
//!
//! Promises: any file gives a trace or an error that names file, line and column. Does not: place
//! anything, nor know any trace's contents.

pub mod alibaba;
pub mod azure;
mod columns;
pub mod huawei;

use alibaba::Alibaba;
use azure::Azure;
use berth_model::{Demand, HostFacts};
use huawei::Huawei;
use std::path::PathBuf;
use std::str::FromStr;

/// Where a trace lies, as `--trace` names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    Azure(PathBuf),
    Huawei { hosts: PathBuf, racks: PathBuf, requests: PathBuf },
    Alibaba { nodes: PathBuf, pods: PathBuf },
}

/// A trace in memory.
#[derive(Clone, Debug)]
pub enum Trace {
    Azure(Azure),
    Huawei(Huawei),
    Alibaba(Alibaba),
}

/// Why there is no trace.
#[derive(Debug, thiserror::Error)]
pub enum TraceError {
    #[error(
        "`{0}` names no trace: write azure:FILE, huawei:HOSTS,RACKS,REQUESTS or \
         alibaba:NODES,PODS"
    )]
    Source(String),
    #[error("cannot open {}", path.display())]
    Open {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    #[error("{} has no column `{column}`; it has {found}", path.display())]
    NoColumn { path: PathBuf, column: &'static str, found: String },
    #[error("{} line {line} cannot be read: {trouble}", path.display())]
    Line { path: PathBuf, line: u64, trouble: String },
    #[error("{} line {line} column `{column}`: `{value}` is not {wanted}", path.display())]
    Value { path: PathBuf, line: u64, column: &'static str, value: String, wanted: &'static str },
    #[error("{} holds no row", path.display())]
    Empty { path: PathBuf },
}

impl FromStr for Source {
    type Err = TraceError;

    fn from_str(text: &str) -> Result<Self, TraceError> {
        let wrong = || TraceError::Source(text.to_owned());
        let (kind, files) = text.split_once(':').ok_or_else(wrong)?;
        let files: Vec<PathBuf> = files.split(',').map(PathBuf::from).collect();
        if files.iter().any(|file| file.as_os_str().is_empty()) {
            return Err(wrong());
        }
        match (kind, files.as_slice()) {
            ("azure", [file]) => Ok(Source::Azure(file.clone())),
            ("huawei", [hosts, racks, requests]) => Ok(Source::Huawei {
                hosts: hosts.clone(),
                racks: racks.clone(),
                requests: requests.clone(),
            }),
            ("alibaba", [nodes, pods]) => {
                Ok(Source::Alibaba { nodes: nodes.clone(), pods: pods.clone() })
            }
            _ => Err(wrong()),
        }
    }
}

impl Source {
    pub fn read(&self) -> Result<Trace, TraceError> {
        Ok(match self {
            Source::Azure(file) => Trace::Azure(Azure::read(file)?),
            Source::Huawei { hosts, racks, requests } => {
                Trace::Huawei(Huawei::read(hosts, racks, requests)?)
            }
            Source::Alibaba { nodes, pods } => Trace::Alibaba(Alibaba::read(nodes, pods)?),
        })
    }
}

impl Trace {
    pub const fn name(&self) -> &'static str {
        match self {
            Trace::Azure(_) => "azure",
            Trace::Huawei(_) => "huawei",
            Trace::Alibaba(_) => "alibaba",
        }
    }

    /// What its requests ask for, in the order of the file; rules are not in it.
    pub fn demands(&self) -> Vec<Demand> {
        match self {
            Trace::Azure(azure) => azure.requests.iter().map(azure::Request::demand).collect(),
            Trace::Huawei(huawei) => huawei.requests.iter().map(huawei::Request::demand).collect(),
            Trace::Alibaba(alibaba) => alibaba.pods.iter().map(alibaba::Pod::demand).collect(),
        }
    }

    /// Its hosts, in the order of the file; none where it has none.
    pub fn hosts(&self) -> Vec<HostFacts> {
        match self {
            Trace::Azure(_) => Vec::new(),
            Trace::Huawei(huawei) => huawei.hosts.iter().map(huawei::Host::facts).collect(),
            Trace::Alibaba(alibaba) => alibaba.nodes.iter().map(alibaba::Node::facts).collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_source_is_a_kind_and_its_files() {
        assert_eq!("azure:a.csv".parse::<Source>().unwrap(), Source::Azure("a.csv".into()));
        let alibaba = Source::Alibaba { nodes: "n".into(), pods: "p.gz".into() };
        assert_eq!("alibaba:n,p.gz".parse::<Source>().unwrap(), alibaba);
        for wrong in ["", "azure", "azure:", "azure:a,b", "huawei:a,b", "alibaba:a,", "google:a"] {
            assert!(wrong.parse::<Source>().is_err(), "{wrong}");
        }
    }
}
