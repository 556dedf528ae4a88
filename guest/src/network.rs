//! The guest's network: loopback, and one interface with a fixed IPv4 address.

use crate::calls::{self, InterfaceRequest};
use crate::devices::{self, Uevents};
use crate::trouble::{Trouble, While as _};
use berth_model::guest::GuestNetwork;
use rustix::fd::OwnedFd;
use rustix::net::{AddressFamily, SocketFlags, SocketType, socket_with};
use std::ffi::c_ulong;
use std::fs;
use std::net::Ipv4Addr;

const UP: u32 = libc::IFF_UP as u32;

/// Brings the interfaces up. Returns the name of the one towards the network.
pub fn set_up(
    network: Option<&GuestNetwork>,
    uevents: &mut Uevents,
) -> Result<Option<String>, Trouble> {
    let flags = SocketFlags::CLOEXEC;
    let socket = socket_with(AddressFamily::INET, SocketType::DGRAM, flags, None)
        .during(|| "open a socket to set up the network")?;
    set(&socket, "lo", libc::SIOCSIFFLAGS as c_ulong, "up", |request| request.number(UP))?;
    as_docker_has_it();
    let Some(network) = network else { return Ok(None) };
    let interface = devices::interface(network.mac, uevents)?;
    // Without an IPv6 address there is none to find by router advertisement either, as with Docker.
    write_if_there(&format!("/proc/sys/net/ipv6/conf/{interface}/disable_ipv6"), "1");
    if network.mtu != 0 {
        let call = libc::SIOCSIFMTU as c_ulong;
        set(&socket, &interface, call, "MTU", |request| request.number(network.mtu))?;
    }
    let call = libc::SIOCSIFADDR as c_ulong;
    set(&socket, &interface, call, "address", |request| request.address(network.address))?;
    let call = libc::SIOCSIFNETMASK as c_ulong;
    set(&socket, &interface, call, "netmask", |request| request.address(mask(network.prefix)))?;
    let call = libc::SIOCSIFFLAGS as c_ulong;
    set(&socket, &interface, call, "up", |request| request.number(UP))?;
    if let Some(gateway) = network.gateway {
        calls::add_default_route(&socket, gateway)
            .during(|| format!("add the route over {gateway}"))?;
    }
    Ok(Some(interface))
}

fn set(
    socket: &OwnedFd,
    interface: &str,
    call: c_ulong,
    what: &str,
    fill: impl FnOnce(InterfaceRequest) -> InterfaceRequest,
) -> Result<(), Trouble> {
    let request = InterfaceRequest::new(interface)
        .ok_or_else(|| Trouble::new(format!("interface name {interface} is too long")))?;
    calls::set_interface(socket, call, &fill(request))
        .during(|| format!("set {what} of interface {interface}"))
}

/// Docker lets any user of a container bind low ports and send echo requests.
fn as_docker_has_it() {
    write_if_there("/proc/sys/net/ipv4/ip_unprivileged_port_start", "0");
    write_if_there("/proc/sys/net/ipv4/ping_group_range", "0 2147483647");
}

/// A kernel without the setting has nothing to set.
fn write_if_there(path: &str, value: &str) {
    if let Err(error) = fs::write(path, value) {
        crate::power::say(&format!("write {value} to {path}: {error}"));
    }
}

fn mask(prefix: u8) -> Ipv4Addr {
    let host_bits = 32 - u32::from(prefix.min(32));
    Ipv4Addr::from(u32::MAX.checked_shl(host_bits).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn masks_follow_prefixes() {
        assert_eq!(mask(24), Ipv4Addr::new(255, 255, 255, 0));
        assert_eq!(mask(0), Ipv4Addr::UNSPECIFIED);
        assert_eq!(mask(32), Ipv4Addr::BROADCAST);
        assert_eq!(mask(12), Ipv4Addr::new(255, 240, 0, 0));
    }
}
