//! Name servers for processes in a network namespace.
//!
//! Where the machine's own resolver listens on loopback, as systemd's does, a host with a namespace
//! of its own could not reach it. Its processes then see another /etc/resolv.conf, which names the
//! servers that the machine's resolver itself asks.

use super::mark::replace_file;
use anyhow::{Context, Result};
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};

/// What a machine's configuration means for its namespaces.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Resolver {
    /// /etc/resolv.conf serves inside, too. These servers must be let through, if they are ours.
    AsOnMachine(Vec<Ipv4Addr>),
    /// Inside, these are to be named instead.
    Instead(Vec<Ipv4Addr>),
    /// The machine's resolver is on loopback, and whom it asks is not known.
    Unknown,
}

pub fn look() -> Resolver {
    let read = |path| std::fs::read_to_string(path).unwrap_or_default();
    decide(&read("/etc/resolv.conf"), &read("/run/systemd/resolve/resolv.conf"))
}

fn decide(machine: &str, upstream: &str) -> Resolver {
    let servers = name_servers(machine);
    if !servers.is_empty() {
        return Resolver::AsOnMachine(servers);
    }
    match name_servers(upstream) {
        upstream if upstream.is_empty() => Resolver::Unknown,
        upstream => Resolver::Instead(upstream),
    }
}

fn name_servers(text: &str) -> Vec<Ipv4Addr> {
    text.lines()
        .filter_map(|line| line.trim().strip_prefix("nameserver")?.trim().parse::<Ipv4Addr>().ok())
        .filter(|address| !address.is_loopback())
        .collect()
}

impl Resolver {
    /// The servers that hosts ask.
    pub fn servers(&self) -> &[Ipv4Addr] {
        match self {
            Resolver::AsOnMachine(servers) | Resolver::Instead(servers) => servers,
            Resolver::Unknown => &[],
        }
    }

    /// Where the file for the namespaces lies, if one is needed.
    pub fn file(&self, state: &Path) -> Option<PathBuf> {
        match self {
            Resolver::Instead(_) => Some(state.join("config/resolv.conf")),
            Resolver::AsOnMachine(_) | Resolver::Unknown => None,
        }
    }

    /// Writes that file.
    pub fn write(&self, state: &Path) -> Result<()> {
        let Some(path) = self.file(state) else { return Ok(()) };
        let text: String =
            self.servers().iter().map(|server| format!("nameserver {server}\n")).collect();
        replace_file(&path, text.as_bytes()).context("cannot name name servers for the hosts")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn servers(texts: &[&str]) -> Vec<Ipv4Addr> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    #[test]
    fn a_resolver_on_loopback_is_passed_over_for_those_that_it_asks() {
        let stub = "# made by hand\nnameserver 127.0.0.53\nsearch x\n";
        let both = "nameserver 127.0.0.53\nnameserver 192.0.2.53\n";
        let upstream = "nameserver 192.0.2.1\nnameserver 2001:db8::1\n";
        assert_eq!(decide(both, upstream), Resolver::AsOnMachine(servers(&["192.0.2.53"])));
        assert_eq!(decide(stub, upstream), Resolver::Instead(servers(&["192.0.2.1"])));
        assert_eq!(decide(stub, ""), Resolver::Unknown);
    }

    #[test]
    fn a_file_is_written_only_where_one_is_needed() {
        let state = tempfile::tempdir().unwrap();
        std::fs::create_dir(state.path().join("config")).unwrap();
        let instead = Resolver::Instead(servers(&["192.0.2.1"]));
        instead.write(state.path()).unwrap();
        let file = instead.file(state.path()).unwrap();
        assert_eq!(std::fs::read_to_string(file).unwrap(), "nameserver 192.0.2.1\n");
        assert_eq!(Resolver::AsOnMachine(Vec::new()).file(state.path()), None);
    }
}
