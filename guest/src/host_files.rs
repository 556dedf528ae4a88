//! The files that Docker mounts over a container's own: /etc/hostname, /etc/hosts,
//! /etc/resolv.conf.

use crate::root::HOST_FILES;
use crate::trouble::{Trouble, While as _};
use berth_model::guest::GuestSpec;
use std::fmt::Write as _;
use std::fs;

/// Names below /etc.
pub const NAMES: [&str; 3] = ["hostname", "hosts", "resolv.conf"];

/// Writes the files where [`crate::container`] mounts them from.
pub fn write(spec: &GuestSpec) -> Result<(), Trouble> {
    let contents = [format!("{}\n", spec.hostname), hosts(spec), resolver(spec)];
    for (name, content) in NAMES.iter().zip(contents) {
        let path = format!("{HOST_FILES}/{name}");
        fs::write(&path, content).during(|| format!("write {path}"))?;
    }
    Ok(())
}

fn hosts(spec: &GuestSpec) -> String {
    let mut text = String::from(
        "127.0.0.1\tlocalhost\n\
         ::1\tlocalhost ip6-localhost ip6-loopback\n\
         fe00::\tip6-localnet\n\
         ff00::\tip6-mcastprefix\n\
         ff02::1\tip6-allnodes\n\
         ff02::2\tip6-allrouters\n",
    );
    for (name, address) in &spec.extra_hosts {
        let _never_fails = writeln!(text, "{address}\t{name}");
    }
    if let Some(network) = &spec.network {
        let _never_fails = if spec.domain_name.is_empty() {
            writeln!(text, "{}\t{}", network.address, spec.hostname)
        } else {
            let full = format!("{}.{}", spec.hostname, spec.domain_name);
            writeln!(text, "{}\t{full} {}", network.address, spec.hostname)
        };
    }
    text
}

fn resolver(spec: &GuestSpec) -> String {
    let mut text = String::new();
    let Some(network) = &spec.network else { return text };
    for server in &network.dns {
        let _never_fails = writeln!(text, "nameserver {server}");
    }
    if !network.dns_search.is_empty() {
        let _never_fails = writeln!(text, "search {}", network.dns_search.join(" "));
    }
    if !network.dns_options.is_empty() {
        let _never_fails = writeln!(text, "options {}", network.dns_options.join(" "));
    }
    text
}
