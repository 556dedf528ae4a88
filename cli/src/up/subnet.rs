//! Which network the hosts of a cell share: `10.83.x.0/24`, where x follows from the cell's name
//! so that it stays the same, and moves on where the machine already knows a route into it.

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};
use std::net::{IpAddr, Ipv4Addr};

/// `10.83.<third>.0/24`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Subnet {
    third: u8,
}

impl Subnet {
    const fn at(third: u8) -> Self {
        Self { third }
    }

    /// The bridge, in the machine's own namespace.
    pub fn bridge(self) -> Ipv4Addr {
        Ipv4Addr::new(10, 83, self.third, 1)
    }

    /// Host `number`, counted from 1 to 200.
    pub fn host(self, number: u16) -> Ipv4Addr {
        let last = u8::try_from(10 + number.min(200)).unwrap_or(u8::MAX);
        Ipv4Addr::new(10, 83, self.third, last)
    }

    fn contains(self, network: Network) -> bool {
        let first = u32::from(Ipv4Addr::new(10, 83, self.third, 0));
        let shorter = network.prefix.min(24);
        let mask = if shorter == 0 { 0 } else { u32::MAX << (32 - shorter) };
        u32::from(network.address) & mask == first & mask
    }
}

impl std::fmt::Display for Subnet {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "10.83.{}.0/24", self.third)
    }
}

/// A network that the machine already reaches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Network {
    address: Ipv4Addr,
    prefix: u32,
}

/// The first subnet for `name` into which no network of `taken` reaches.
pub fn choose(name: &str, taken: &[Network]) -> Option<Subnet> {
    // FNV-1a: any fixed function will do, and this one is short.
    let start = name
        .bytes()
        .fold(0x811c_9dc5_u32, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193));
    (0..254)
        .map(|step| (start.wrapping_add(step) % 254 + 1) as u8)
        .map(Subnet::at)
        .find(|subnet| !taken.iter().any(|network| subnet.contains(*network)))
}

/// Networks out of `ip -json -4 route show table all`, those through `own` left out.
pub fn networks_in_use(routes: &str, own: &str) -> Result<Vec<Network>> {
    #[derive(serde::Deserialize)]
    struct Route {
        dst: String,
        #[serde(default)]
        dev: String,
    }
    let routes: Vec<Route> =
        serde_json::from_str(routes).context("`ip -json route` answered something unexpected")?;
    let parsed = routes.iter().filter(|route| route.dev != own).filter_map(|route| {
        let (address, prefix) = route.dst.split_once('/').unwrap_or((&route.dst, "32"));
        // "default" reaches everything and takes nothing.
        let IpAddr::V4(address) = address.parse().ok()? else { return None };
        let prefix = prefix.parse().ok()?;
        (prefix > 0).then_some(Network { address, prefix })
    });
    Ok(parsed.collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn network(text: &str) -> Network {
        let (address, prefix) = text.split_once('/').unwrap();
        Network { address: address.parse().unwrap(), prefix: prefix.parse().unwrap() }
    }

    #[test]
    fn a_name_always_gets_the_same_subnet() {
        let first = choose("berth", &[]).unwrap();
        assert_eq!(choose("berth", &[]), Some(first));
        assert_ne!(choose("other", &[]), Some(first));
    }

    #[test]
    fn a_subnet_that_the_machine_reaches_is_passed_over() {
        let first = choose("berth", &[]).unwrap();
        let narrow = network(&format!("{}/32", first.host(3)));
        let second = choose("berth", &[narrow]).unwrap();
        assert_ne!(first, second);
        assert_eq!(choose("berth", &[network("10.83.0.0/16")]), None);
        assert_eq!(choose("berth", &[network("10.0.0.0/8")]), None);
        assert_eq!(choose("berth", &[network("10.84.0.0/16")]), Some(first));
    }

    #[test]
    fn the_default_route_and_our_own_bridge_take_nothing() {
        let routes = r#"[
            {"dst":"default","gateway":"192.0.2.1","dev":"eth0"},
            {"dst":"192.0.2.0/24","dev":"eth0"},
            {"type":"local","dst":"10.83.4.1","dev":"b-br"},
            {"dst":"10.83.5.0/24","dev":"c-br"}]"#;
        let taken = networks_in_use(routes, "b-br").unwrap();
        assert_eq!(taken, vec![network("192.0.2.0/24"), network("10.83.5.0/24")]);
    }

    #[test]
    fn hosts_and_bridge_have_addresses_of_their_own() {
        let subnet = Subnet::at(7);
        assert_eq!(subnet.to_string(), "10.83.7.0/24");
        assert_eq!(subnet.bridge().to_string(), "10.83.7.1");
        assert_eq!(subnet.host(1).to_string(), "10.83.7.11");
        assert_eq!(subnet.host(9).to_string(), "10.83.7.19");
    }
}
