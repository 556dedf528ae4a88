//! The first command of a cell, and what clusters and endpoints must look like.

use super::names::{check_name, taken};
use super::{At, Fleet};
use berth_model::change::{Answer, Change};
use berth_model::cluster::ClusterPolicy;
use berth_model::command::Bootstrap;
use berth_model::endpoint::EndpointDefaults;
use berth_model::rejection::NameKind;
use berth_model::{Admission, Bytes, EndpointId, MilliCpus, Permille, Rejection};
use std::collections::BTreeSet;

impl Fleet {
    /// Sets the cell up, once. Several replicas may try; all but the first change nothing.
    pub(super) fn bootstrap(&mut self, at: At, bootstrap: Bootstrap) -> Answer {
        if self.cell.is_some() {
            return Ok(Change::Nothing);
        }
        check_distinct(
            NameKind::Cluster,
            bootstrap.clusters.iter().map(|(id, name, _)| (id, name)),
        )?;
        check_distinct(
            NameKind::Endpoint,
            bootstrap.endpoints.iter().map(|(id, name, _)| (id, name)),
        )?;
        for (id, _, policy) in &bootstrap.clusters {
            self.check_policy_of(*id, policy)?;
        }
        for (id, _, defaults) in &bootstrap.endpoints {
            if *id == EndpointId::SYSTEM {
                return Err(id_taken("endpoint id", id));
            }
            check_defaults(defaults)?;
        }
        self.cell = Some(bootstrap.cell);
        for (id, name, policy) in bootstrap.clusters {
            self.add_cluster(at, id, name, policy);
        }
        for (id, name, defaults) in bootstrap.endpoints {
            self.add_endpoint(at, id, name, defaults);
        }
        Ok(Change::Bootstrapped)
    }
}

pub(super) fn id_taken(what: &str, id: &impl ToString) -> Rejection {
    Rejection::Invalid {
        what: what.to_owned(),
        value: id.to_string(),
        rule: "it is in use; draw another".to_owned(),
    }
}

fn check_distinct<'a, Id: Ord + ToString + 'a>(
    kind: NameKind,
    pairs: impl Iterator<Item = (&'a Id, &'a String)>,
) -> Result<(), Rejection> {
    let (mut ids, mut names) = (BTreeSet::new(), BTreeSet::new());
    for (id, name) in pairs {
        check_name(kind, name)?;
        if !names.insert(name) {
            return Err(taken(kind, name));
        }
        if !ids.insert(id) {
            return Err(id_taken(&format!("{kind} id"), id));
        }
    }
    Ok(())
}

/// Whether the values can stand, whatever the cluster.
pub(super) fn check_policy(policy: &ClusterPolicy) -> Result<(), Rejection> {
    check_permille("cpu overcommit", policy.cpu_overcommit, 1000..=16_000)?;
    check_permille("memory overcommit", policy.memory_overcommit, 1000..=4_000)?;
    check_permille("disk overcommit", policy.disk_overcommit, 1000..=20_000)?;
    check_permille("cpu reserve", policy.cpu_reserve, 0..=900)?;
    check_permille("memory reserve", policy.memory_reserve, 0..=900)?;
    check_permille("disk reserve", policy.disk_reserve, 0..=900)?;
    check_admission(&policy.admission)?;
    let model = &policy.cpu_model;
    // It becomes part of a hypervisor's command line, where a comma starts the next setting.
    let fits = model.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.'));
    if model.is_empty() || model.len() > 64 || !fits {
        return Err(Rejection::Invalid {
            what: "cpu model".to_owned(),
            value: model.chars().take(80).collect(),
            rule: "1 to 64 letters, digits, `_`, `-` and `.`".to_owned(),
        });
    }
    Ok(())
}

fn check_admission(admission: &Admission) -> Result<(), Rejection> {
    let count = |what: &str, value: u8, max: u8| {
        if (1..=max).contains(&value) {
            return Ok(());
        }
        let rule = format!("1 to {max}");
        Err(Rejection::Invalid { what: what.to_owned(), value: value.to_string(), rule })
    };
    match admission {
        Admission::Off => Ok(()),
        Admission::HostFailures { count: failures } => {
            count("number of host failures", *failures, 2)
        }
        Admission::Percentage { cpu, memory } => {
            check_permille("share of cpu that is kept", *cpu, 1..=900)?;
            check_permille("share of memory that is kept", *memory, 1..=900)
        }
        Admission::FailoverHosts { hosts } if hosts.is_empty() => Err(zero("failover hosts")),
        Admission::FailoverHosts { .. } => Ok(()),
        Admission::Slots { cpu, memory, failures } => {
            if *cpu == MilliCpus::ZERO {
                return Err(zero("cpu of a slot"));
            }
            if *memory == Bytes::ZERO {
                return Err(zero("memory of a slot"));
            }
            count("number of host failures", *failures, 4)
        }
    }
}

fn check_permille(
    what: &str,
    value: Permille,
    range: std::ops::RangeInclusive<u32>,
) -> Result<(), Rejection> {
    if range.contains(&value.0) {
        return Ok(());
    }
    Err(Rejection::Invalid {
        what: what.to_owned(),
        value: value.0.to_string(),
        rule: format!("thousandths from {} to {}", range.start(), range.end()),
    })
}

pub(super) fn check_defaults(defaults: &EndpointDefaults) -> Result<(), Rejection> {
    if defaults.cpu == MilliCpus::ZERO {
        return Err(zero("default cpu"));
    }
    if defaults.memory == Bytes::ZERO {
        return Err(zero("default memory"));
    }
    if defaults.disk == Bytes::ZERO {
        return Err(zero("default disk"));
    }
    Ok(())
}

fn zero(what: &str) -> Rejection {
    Rejection::Invalid {
        what: what.to_owned(),
        value: "0".to_owned(),
        rule: "more than zero".to_owned(),
    }
}
