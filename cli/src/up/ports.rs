//! Which process of `berth up` listens on which port.
//!
//! ```text
//!  base + i        API of replica i             base + 50      stream listener of a host that has
//!  base + 10 + i   Docker endpoint of replica i                a network namespace of its own
//!  base + 20 + i   raft listener of replica i   base + 50 + i  the same of host i, on loopback
//!  base + 30 + i   nodes listener of replica i  base + 60 + i  metrics of host i
//! ```
//! Replicas and hosts count from 1 to 9.

use anyhow::{Result, bail};
use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::Path;

/// Most replicas, and most hosts, that one port layout has room for.
pub const MEMBERS_MAX: u16 = 9;
/// Ports from the base on that belong to one cell.
pub const SPAN: u16 = 70;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ports {
    base: u16,
}

impl Ports {
    pub fn new(base: u16) -> Result<Self> {
        if !(1024..=u16::MAX - SPAN).contains(&base) {
            bail!("--port-base {base} must lie in 1024 to {}", u16::MAX - SPAN);
        }
        Ok(Self { base })
    }

    pub fn api(self, replica: u16) -> u16 {
        self.base + replica
    }

    pub fn docker(self, replica: u16) -> u16 {
        self.base + 10 + replica
    }

    pub fn raft(self, replica: u16) -> u16 {
        self.base + 20 + replica
    }

    pub fn nodes(self, replica: u16) -> u16 {
        self.base + 30 + replica
    }

    /// `own_namespace`: the host has all ports to itself.
    pub fn stream(self, host: u16, own_namespace: bool) -> u16 {
        self.base + 50 + if own_namespace { 0 } else { host }
    }

    pub fn metrics(self, host: u16) -> u16 {
        self.base + 60 + host
    }
}

/// Fails if anything listens on one of `addresses`, naming the holder where it can be known.
pub fn require_free(addresses: &[SocketAddr], free_range: &str) -> Result<()> {
    for address in addresses {
        if let Err(error) = std::net::TcpListener::bind(address) {
            if error.kind() == std::io::ErrorKind::AddrInUse {
                let holder = holder(address.port())
                    .map_or_else(String::new, |holder| format!(" by {holder}"));
                bail!("port {} is taken{holder}; {free_range}", address.port());
            }
            bail!("cannot listen on {address}: {error}");
        }
    }
    Ok(())
}

/// Who listens on `port`, as far as this user may see: `name (pid 12)`.
fn holder(port: u16) -> Option<String> {
    let mut inodes = BTreeSet::new();
    for table in ["/proc/net/tcp", "/proc/net/tcp6"] {
        let text = std::fs::read_to_string(table).unwrap_or_default();
        inodes.extend(listening_inodes(&text, port));
    }
    for entry in std::fs::read_dir("/proc").ok()?.flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse::<u32>().ok()) else {
            continue;
        };
        if has_socket(&entry.path(), &inodes) {
            let name = std::fs::read_to_string(entry.path().join("comm")).unwrap_or_default();
            return Some(format!("{} (pid {pid})", name.trim()));
        }
    }
    None
}

fn has_socket(process: &Path, inodes: &BTreeSet<u64>) -> bool {
    let Ok(files) = std::fs::read_dir(process.join("fd")) else { return false };
    files.flatten().filter_map(|file| std::fs::read_link(file.path()).ok()).any(|target| {
        target
            .to_str()
            .and_then(|text| text.strip_prefix("socket:[")?.strip_suffix(']')?.parse().ok())
            .is_some_and(|inode| inodes.contains(&inode))
    })
}

/// Inodes of the sockets that listen on `port`, out of a table such as /proc/net/tcp.
fn listening_inodes(table: &str, port: u16) -> Vec<u64> {
    const LISTEN: &str = "0A";
    table
        .lines()
        .skip(1)
        .filter_map(|line| {
            let fields: Vec<&str> = line.split_whitespace().collect();
            let (_, hex) = fields.get(1)?.rsplit_once(':')?;
            let listens = fields.get(3) == Some(&LISTEN)
                && u16::from_str_radix(hex, 16).is_ok_and(|found| found == port);
            listens.then(|| fields.get(9)?.parse().ok()).flatten()
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_two_listeners_of_one_machine_share_a_port() {
        let ports = Ports::new(7100).unwrap();
        let mut taken = BTreeSet::new();
        for member in 1..=MEMBERS_MAX {
            for port in [
                ports.api(member),
                ports.docker(member),
                ports.raft(member),
                ports.nodes(member),
                ports.stream(member, false),
                ports.metrics(member),
            ] {
                assert!(taken.insert(port), "{port} twice");
                assert!((7100..7100 + SPAN).contains(&port), "{port} outside of the span");
            }
        }
        assert!(taken.insert(ports.stream(1, true)));
        assert_eq!(ports.stream(1, true), ports.stream(9, true));
    }

    #[test]
    fn a_base_whose_span_leaves_the_ports_is_refused() {
        assert!(Ports::new(65_500).is_err());
        assert!(Ports::new(80).is_err());
    }

    #[test]
    fn a_taken_port_is_refused_by_name_of_its_holder() {
        let holder = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = holder.local_addr().unwrap();
        let error = require_free(&[address], "choose another --port-base").unwrap_err().to_string();
        assert!(error.contains(&address.port().to_string()), "{error}");
        assert!(error.contains(&format!("pid {}", std::process::id())), "{error}");
        drop(holder);
    }

    #[test]
    fn only_sockets_that_listen_count_as_holders() {
        let table = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n\
            \x20  0: 0100007F:1BBD 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 4711 1\n\
            \x20  1: 0100007F:1BBD 0100007F:8000 01 00000000:00000000 00:00000000 00000000     0        0 4712 1\n";
        assert_eq!(listening_inodes(table, 0x1BBD), vec![4711]);
        assert!(listening_inodes(table, 80).is_empty());
    }
}
