//! The nft table of one cell: what its hosts and guests reach of the machine and through it.

use super::shell::{run, run_with_input};
use super::subnet::Subnet;
use anyhow::{Context, Result};
use std::net::Ipv4Addr;

/// The name of the table, in the family `inet`.
pub fn table(name: &str) -> String {
    format!("berth-{name}")
}

/// Puts the table in place, whole, instead of an older one.
pub fn set_up(
    name: &str,
    subnet: Subnet,
    listeners: &[u16],
    name_servers: &[Ipv4Addr],
) -> Result<()> {
    let rules = rules(name, subnet, listeners, name_servers);
    run_with_input("nft", &["-f", "-"], &rules)
        .map(drop)
        .context("cannot set up masquerade for the hosts")
}

pub fn tear_down(name: &str) -> Result<()> {
    let table = table(name);
    if run("nft", &["list", "table", "inet", &table]).is_err() {
        return Ok(());
    }
    run("nft", &["delete", "table", "inet", &table]).map(drop)
}

fn rules(name: &str, subnet: Subnet, listeners: &[u16], name_servers: &[Ipv4Addr]) -> String {
    let table = table(name);
    let bridge = super::network::bridge(name);
    let ports = listeners.iter().map(u16::to_string).collect::<Vec<_>>().join(", ");
    let machine = subnet.bridge();
    let dns: String = name_servers
        .iter()
        .map(|server| {
            format!("    ip daddr {server} meta l4proto {{ tcp, udp }} th dport 53 accept\n")
        })
        .collect();
    // Deleting a table that is not there fails, so it is declared first; all in one transaction.
    format!(
        "table inet {table}\n\
         delete table inet {table}\n\
         table inet {table} {{\n\
         \x20 chain input {{\n\
         \x20   type filter hook input priority -10; policy accept;\n\
         \x20   iifname != \"{bridge}\" accept\n\
         \x20   ct state established,related accept\n\
         \x20   ip daddr {machine} tcp dport {{ {ports} }} accept\n\
         \x20   ip daddr {machine} icmp type echo-request accept\n\
         {dns}\
         \x20   reject\n\
         \x20 }}\n\
         \x20 chain forward {{\n\
         \x20   type filter hook forward priority -10; policy accept;\n\
         \x20   iifname \"{bridge}\" accept\n\
         \x20   oifname != \"{bridge}\" accept\n\
         \x20   ct state established,related accept\n\
         \x20   drop\n\
         \x20 }}\n\
         \x20 chain postrouting {{\n\
         \x20   type nat hook postrouting priority 100; policy accept;\n\
         \x20   ip saddr {subnet} oifname != \"{bridge}\" masquerade\n\
         \x20 }}\n\
         }}\n"
    )
}

/// Whether forwarding is refused by other rules of the machine, as Docker Engine sets them up.
pub fn others_refuse() -> bool {
    run("nft", &["list", "chain", "ip", "filter", "FORWARD"])
        .is_ok_and(|chain| chain.contains("policy drop"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_reach_only_the_named_ports_of_the_machine() {
        let subnet = super::super::subnet::choose("b", &[]).unwrap();
        let rules = rules("b", subnet, &[7131, 7132], &["192.0.2.53".parse().unwrap()]);
        assert!(rules.contains("tcp dport { 7131, 7132 } accept"), "{rules}");
        assert!(rules.contains("ip daddr 192.0.2.53 meta l4proto { tcp, udp } th dport 53 accept"));
        assert!(rules.contains("table inet berth-b {"));
    }
}
