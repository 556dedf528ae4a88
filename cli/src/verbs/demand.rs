//! What a container VM or a placement asks of its place, as flags.

use super::units::{self, parse_bytes, parse_cpus};
use berth_client::view::{DemandRequest, DemandView};

#[derive(Clone, Debug, Default, PartialEq, Eq, clap::Args)]
#[command(next_help_heading = "What it asks of its place")]
pub struct DemandArguments {
    /// CPUs: 2, 0.5.
    #[arg(long, value_parser = parse_cpus)]
    pub cpus: Option<u64>,
    /// Memory limit of the container: 512m, 2g.
    #[arg(long, short, value_parser = parse_bytes)]
    pub memory: Option<u64>,
    /// Memory of the whole machine, in place of the class that holds the limit.
    #[arg(long, value_parser = parse_bytes)]
    pub machine_memory: Option<u64>,
    /// Memory that is never overcommitted.
    #[arg(long, value_name = "MEMORY", value_parser = parse_bytes)]
    pub reserve_memory: Option<u64>,
    /// Weight among the container VMs of a host when cpu is short, 1 to 10000; 100 is usual.
    #[arg(long, value_name = "WEIGHT")]
    pub cpu_shares: Option<u16>,
    /// The same for memory.
    #[arg(long, value_name = "WEIGHT")]
    pub memory_shares: Option<u16>,
    /// Size of its own disk: 8g.
    #[arg(long, value_parser = parse_bytes)]
    pub disk: Option<u64>,
    /// Bind cpu and memory to so many NUMA nodes, 1 or 2.
    #[arg(long, value_name = "NODES")]
    pub numa: Option<u8>,
    /// Countable things of the host: gpu=2; may be given several times.
    #[arg(long = "resource", value_name = "NAME=COUNT", value_parser = parse_resource)]
    pub resources: Vec<(String, u64)>,
    /// Label that the host must carry: name=value; may be given several times.
    #[arg(long = "host-label", value_name = "NAME=VALUE", value_parser = parse_label)]
    pub host_labels: Vec<(String, String)>,
    /// Label that its datastore must carry: name=value; may be given several times.
    #[arg(long = "datastore-label", value_name = "NAME=VALUE", value_parser = parse_label)]
    pub datastore_labels: Vec<(String, String)>,
    /// Only in this cluster.
    #[arg(long)]
    pub cluster: Option<String>,
    /// Only on this host.
    #[arg(long)]
    pub host: Option<String>,
    /// Only on this datastore.
    #[arg(long)]
    pub datastore: Option<String>,
    /// The higher goes first, and may displace the lower where the cluster's policy allows:
    /// -1000 to 1000.
    #[arg(long, allow_hyphen_values = true)]
    pub priority: Option<i16>,
}

impl DemandArguments {
    pub fn request(self) -> DemandRequest {
        DemandRequest {
            cpu_millis: self.cpus,
            memory_bytes: self.memory,
            machine_memory_bytes: self.machine_memory,
            memory_reservation_bytes: self.reserve_memory,
            cpu_shares: self.cpu_shares,
            memory_shares: self.memory_shares,
            disk_bytes: self.disk,
            numa: self.numa,
            resources: self.resources.into_iter().collect(),
            host_labels: self.host_labels.into_iter().collect(),
            datastore_labels: self.datastore_labels.into_iter().collect(),
            cluster: self.cluster,
            host: self.host,
            datastore: self.datastore,
            priority: self.priority,
        }
    }

    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// `name=value`, or a name alone for an empty value.
pub fn parse_label(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').unwrap_or((text, ""));
    match name.is_empty() {
        true => Err(format!("`{text}` is not a label; write it as name=value")),
        false => Ok((name.to_owned(), value.to_owned())),
    }
}

fn parse_resource(text: &str) -> Result<(String, u64), String> {
    let wrong = || format!("`{text}` is not a countable thing; write it as gpu=2");
    let (name, count) = text.split_once('=').ok_or_else(wrong)?;
    let count = count.parse().ok().filter(|count| *count > 0).ok_or_else(wrong)?;
    Ok((name.to_owned(), count))
}

/// A demand in one line.
pub fn described(demand: &DemandView) -> String {
    let mut text = format!("{} cpu", units::cpus(demand.cpu_millis));
    match demand.machine_memory_bytes {
        Some(bytes) => text.push_str(&format!(", {} machine", units::bytes(bytes))),
        None => text.push_str(&format!(", {} memory", units::bytes(demand.memory_bytes))),
    }
    if demand.disk_bytes > 0 {
        text.push_str(&format!(", {} disk", units::bytes(demand.disk_bytes)));
    }
    for disk in &demand.disks {
        text.push_str(&format!(", {} disk {}", units::bytes(disk.size_bytes), disk.name));
    }
    for (name, count) in &demand.resources {
        text.push_str(&format!(", {count} {name}"));
    }
    if let Some(numa) = demand.numa {
        text.push_str(&format!(", {numa} NUMA nodes"));
    }
    for (kind, name) in
        [("cluster", &demand.cluster), ("host", &demand.host), ("datastore", &demand.datastore)]
    {
        if let Some(name) = name {
            text.push_str(&format!(", {kind} {name}"));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn countable_things_are_counted() {
        assert_eq!(parse_resource("gpu=2"), Ok(("gpu".to_owned(), 2)));
        for text in ["gpu", "gpu=", "gpu=0", "gpu=-1", "gpu=two"] {
            assert!(parse_resource(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_label_may_have_no_value() {
        assert_eq!(parse_label("a=b=c"), Ok(("a".to_owned(), "b=c".to_owned())));
        assert_eq!(parse_label("a"), Ok(("a".to_owned(), String::new())));
        assert!(parse_label("=a").is_err());
    }
}
