//! What the agent is told to run, from what was ordered. Pure.

use super::VmSettings;
use berth_model::Bytes;
use berth_model::container::{ContainerSpec, NetworkMode};
use berth_model::guest::{
    BASE_SERIAL, Capabilities, DELTA_SERIAL, GuestNetwork, GuestSpec, ProcessSpec, Stdio,
};
use std::net::{IpAddr, Ipv4Addr};

/// Addresses of QEMU's user-mode network, the same in every container VM.
const ADDRESS: Ipv4Addr = Ipv4Addr::new(10, 0, 2, 15);
const GATEWAY: Ipv4Addr = Ipv4Addr::new(10, 0, 2, 2);
const DNS: Ipv4Addr = Ipv4Addr::new(10, 0, 2, 3);

pub fn guest_spec(settings: &VmSettings, log_limit: Bytes) -> GuestSpec {
    let spec = &settings.order.spec;
    GuestSpec {
        container: settings.container,
        hostname: spec.hostname.clone(),
        domain_name: spec.domain_name.clone(),
        base_serial: BASE_SERIAL.to_owned(),
        delta_serial: DELTA_SERIAL.to_owned(),
        process: process(spec),
        network: match spec.network {
            NetworkMode::None => None,
            NetworkMode::Egress => Some(network(spec, settings.plan().mac())),
        },
        extra_hosts: spec.extra_hosts.clone(),
        memory_limit: Some(spec.demand.memory),
        pids_limit: None,
        // Whole virtual CPUs are their own limit.
        cpu_limit: Some(spec.demand.cpu).filter(|cpu| !cpu.0.is_multiple_of(1000) && cpu.0 > 0),
        volumes: spec.volumes.clone(),
        tmpfs: vec![],
        shm_size: spec.shm_size,
        read_only_root: false,
        log_credit: log_limit.0,
    }
}

fn process(spec: &ContainerSpec) -> ProcessSpec {
    let stdin = spec.open_stdin;
    ProcessSpec {
        arguments: spec.entrypoint.iter().chain(&spec.command).cloned().collect(),
        environment: spec.environment.clone(),
        working_directory: spec.working_directory.clone(),
        user: spec.user.clone(),
        capabilities: Capabilities::DOCKER_DEFAULT,
        stdio: if spec.tty {
            Stdio::Terminal { stdin, rows: 0, columns: 0 }
        } else {
            Stdio::Pipes { stdin }
        },
        groups: vec![],
    }
}

fn network(spec: &ContainerSpec, mac: [u8; 6]) -> GuestNetwork {
    // What is no address cannot be asked; the API refuses it.
    let mut dns: Vec<IpAddr> = spec.dns.iter().filter_map(|dns| dns.parse().ok()).collect();
    if dns.is_empty() {
        dns.push(DNS.into());
    }
    GuestNetwork {
        mac,
        address: ADDRESS,
        prefix: 24,
        gateway: Some(GATEWAY),
        mtu: 0,
        dns,
        dns_search: spec.dns_search.clone(),
        dns_options: vec![],
    }
}
