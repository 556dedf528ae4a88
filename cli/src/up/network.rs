//! Network namespaces of the hosts of `berth up`, joined by a bridge in the machine's own.
//!
//! ```text
//!   machine: schedulers ── <name>-br 10.83.x.1 ──┬── <name>-v1 ═ eth0 10.83.x.11 in <name>-h1
//!            masquerade to the outside           └── <name>-v2 ═ eth0 10.83.x.12 in <name>-h2
//! ```
//! Promises: guests reach the outside through the machine and nothing of the machine itself but the
//! nodes listeners of their schedulers and its name servers; nobody outside reaches a host. Making
//! is idempotent; tearing down removes all of it, also what a killed `up` left half made.
//! Does not: touch firewall rules of others.

use super::firewall;
use super::resolver::Resolver;
use super::shell::run;
use super::subnet::{self, Subnet};
use super::tools;
use anyhow::{Context, Result, bail};
use std::fs::File;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

/// Shared by all cells of this machine.
const MACHINE_FOLDER: &str = "/run/berth";
const FORWARDING: &str = "/proc/sys/net/ipv4/ip_forward";

/// The names of one cell's network; nothing of it need be there.
#[derive(Clone, Debug)]
pub struct Network {
    pub name: String,
    pub subnet: Subnet,
    /// Number of the last host; they count from 1.
    pub hosts: u16,
}

/// Names of bridges and veth ends are at most 15 bytes long.
pub const NAME_MAX: usize = 11;

pub fn bridge(name: &str) -> String {
    format!("{name}-br")
}

pub fn namespace(name: &str, host: u16) -> String {
    format!("{name}-h{host}")
}

/// The file that stands for the namespace, and that a process enters it by.
pub fn namespace_path(name: &str, host: u16) -> PathBuf {
    Path::new("/run/netns").join(namespace(name, host))
}

/// Whether this process may make namespaces here; if not, why.
pub fn available() -> Result<(), String> {
    if !rustix::process::geteuid().is_root() {
        return Err("not root".to_owned());
    }
    if tools::find(tools::IP.0).is_none() {
        return Err(format!("{} is missing (package {})", tools::IP.0, tools::IP.1));
    }
    let probe = format!("bp-{}", std::process::id());
    run("ip", &["netns", "add", &probe])
        .and_then(|_| run("ip", &["netns", "del", &probe]))
        .and_then(|_| run("ip", &["link", "add", &probe, "type", "bridge"]))
        .and_then(|_| run("ip", &["link", "del", &probe]))
        .map(drop)
        .map_err(|error| format!("{error:#}"))
}

/// Whether a bridge of this name is on the machine.
pub fn exists(name: &str) -> bool {
    has_link(&bridge(name))
}

fn has_link(link: &str) -> bool {
    Path::new("/sys/class/net").join(link).exists()
}

/// The subnet for a cell of this name, among what the machine reaches now.
pub fn choose_subnet(name: &str) -> Result<Subnet> {
    let routes = run("ip", &["-json", "-4", "route", "show", "table", "all"])?;
    let taken = subnet::networks_in_use(&routes, &bridge(name))?;
    subnet::choose(name, &taken)
        .context("every subnet of 10.83.0.0/16 is in use; use --isolation processes")
}

/// Held while one cell chooses and changes what all cells share.
#[derive(Debug)]
pub struct MachineLock {
    _file: File,
}

pub fn lock_machine() -> Result<MachineLock> {
    std::fs::create_dir_all(MACHINE_FOLDER)
        .with_context(|| format!("cannot make {MACHINE_FOLDER}"))?;
    let path = Path::new(MACHINE_FOLDER).join("network.lock");
    let file = File::create(&path).with_context(|| format!("cannot open {}", path.display()))?;
    rustix::fs::flock(file.as_fd(), rustix::fs::FlockOperation::LockExclusive)
        .with_context(|| format!("cannot lock {}", path.display()))?;
    Ok(MachineLock { _file: file })
}

impl Network {
    /// Makes what is missing; answers what a user should know of it. `listeners` are the ports of
    /// the bridge's address that hosts may reach.
    pub fn set_up(
        &self,
        _lock: &MachineLock,
        listeners: &[u16],
        resolver: &Resolver,
    ) -> Result<Vec<String>> {
        self.set_up_bridge()?;
        for host in 1..=self.hosts {
            self.set_up_host(host)
                .with_context(|| format!("cannot join host {host} to the network"))?;
        }
        let mut notes = vec![format!(
            "bridge {} ({}) joins the namespaces {} to {}",
            bridge(&self.name),
            self.subnet,
            namespace(&self.name, 1),
            namespace(&self.name, self.hosts),
        )];
        match self.open_to_the_outside(listeners, resolver) {
            Ok(made) => notes.extend(made),
            Err(error) => notes.push(format!(
                "no firewall rules ({error:#}): guests do not reach the outside, but they do reach \
                 what listens on this machine's own addresses; nftables makes it otherwise"
            )),
        }
        if *resolver == Resolver::Unknown {
            notes.push(
                "this machine's name server is on its loopback, which hosts do not reach: guests \
                 resolve no names unless they are given --dns"
                    .to_owned(),
            );
        }
        Ok(notes)
    }

    fn open_to_the_outside(&self, listeners: &[u16], resolver: &Resolver) -> Result<Vec<String>> {
        firewall::set_up(&self.name, self.subnet, listeners, resolver.servers())?;
        let mut notes = vec![format!(
            "nft table {}: guests go out by masquerade, nothing comes in",
            firewall::table(&self.name)
        )];
        notes.extend(self.hold_forwarding()?);
        if firewall::others_refuse() {
            let bridge = bridge(&self.name);
            notes.push(format!(
                "other rules of this machine refuse forwarding, as Docker Engine's do: allow it \
                 with `iptables -I FORWARD -i {bridge} -j ACCEPT` and `-o {bridge}`, or guests and \
                 hosts do not reach each other or the outside"
            ));
        }
        Ok(notes)
    }

    fn set_up_bridge(&self) -> Result<()> {
        let bridge = bridge(&self.name);
        if !has_link(&bridge) {
            run("ip", &["link", "add", &bridge, "type", "bridge"])?;
        }
        // IPv4 only: nothing of the machine is to be reached by a link-local address either.
        let ipv6 = format!("/proc/sys/net/ipv6/conf/{bridge}/disable_ipv6");
        if Path::new(&ipv6).exists() {
            std::fs::write(&ipv6, "1").with_context(|| format!("cannot write {ipv6}"))?;
        }
        run("ip", &["addr", "replace", &format!("{}/24", self.subnet.bridge()), "dev", &bridge])?;
        run("ip", &["link", "set", &bridge, "up"])?;
        Ok(())
    }

    fn set_up_host(&self, host: u16) -> Result<()> {
        let namespace = namespace(&self.name, host);
        let machine_end = format!("{}-v{host}", self.name);
        if !namespace_path(&self.name, host).exists() {
            run("ip", &["netns", "add", &namespace])?;
        }
        if !has_link(&machine_end) {
            run(
                "ip",
                &[
                    "link",
                    "add",
                    &machine_end,
                    "type",
                    "veth",
                    "peer",
                    "name",
                    "eth0",
                    "netns",
                    &namespace,
                ],
            )?;
        }
        run("ip", &["link", "set", &machine_end, "master", &bridge(&self.name), "up"])?;
        let inside = |arguments: &[&str]| run("ip", &[&["-n", &namespace], arguments].concat());
        let address = format!("{}/24", self.subnet.host(host));
        inside(&["addr", "replace", &address, "dev", "eth0"])?;
        inside(&["link", "set", "lo", "up"])?;
        inside(&["link", "set", "eth0", "up"])?;
        inside(&["route", "replace", "default", "via", &self.subnet.bridge().to_string()])?;
        Ok(())
    }

    /// Removes everything; answers what could not be removed.
    pub fn tear_down(&self) -> Result<()> {
        let lock = lock_machine()?;
        let mut failures = Vec::new();
        let mut attempt = |outcome: Result<()>| {
            failures.extend(outcome.err().map(|error| format!("{error:#}")));
        };
        for host in 1..=self.hosts {
            if namespace_path(&self.name, host).exists() {
                attempt(run("ip", &["netns", "del", &namespace(&self.name, host)]).map(drop));
            }
            // Goes with its namespace, but not if a process still holds that.
            let machine_end = format!("{}-v{host}", self.name);
            if has_link(&machine_end)
                && let Err(error) = run("ip", &["link", "del", &machine_end])
                && has_link(&machine_end)
            {
                attempt(Err(error));
            }
        }
        if exists(&self.name) {
            attempt(run("ip", &["link", "del", &bridge(&self.name)]).map(drop));
        }
        if tools::find("nft").is_some() {
            attempt(firewall::tear_down(&self.name));
        }
        attempt(self.release_forwarding());
        drop(lock);
        if failures.is_empty() {
            return Ok(());
        }
        bail!("not all of the network could be removed: {}", failures.join("; "))
    }

    /// Switches IPv4 forwarding on for as long as any cell of this machine needs it.
    fn hold_forwarding(&self) -> Result<Option<String>> {
        let folder = Path::new(MACHINE_FOLDER).join("forwarding");
        std::fs::create_dir_all(&folder)
            .with_context(|| format!("cannot make {}", folder.display()))?;
        let off = std::fs::read_to_string(FORWARDING)
            .with_context(|| format!("cannot read {FORWARDING}"))?
            .trim()
            == "0";
        if off {
            std::fs::write(folder.join(WAS_OFF), "").context("cannot note the forwarding")?;
            std::fs::write(FORWARDING, "1")
                .with_context(|| format!("cannot write {FORWARDING}"))?;
        }
        std::fs::write(folder.join(&self.name), "").context("cannot note the forwarding")?;
        Ok(off.then(|| {
            "switched net.ipv4.ip_forward on; it goes off again with the last cell".to_owned()
        }))
    }

    fn release_forwarding(&self) -> Result<()> {
        let folder = Path::new(MACHINE_FOLDER).join("forwarding");
        if !folder.exists() {
            return Ok(());
        }
        let own = folder.join(&self.name);
        if own.exists() {
            std::fs::remove_file(&own)
                .with_context(|| format!("cannot remove {}", own.display()))?;
        }
        let others =
            std::fs::read_dir(&folder)?.flatten().any(|entry| entry.file_name() != WAS_OFF);
        if !others && folder.join(WAS_OFF).exists() {
            std::fs::write(FORWARDING, "0")
                .with_context(|| format!("cannot write {FORWARDING}"))?;
            std::fs::remove_file(folder.join(WAS_OFF)).context("cannot forget the forwarding")?;
        }
        Ok(())
    }
}

/// No cell can have this name: it begins with a dot.
const WAS_OFF: &str = ".was-off";
