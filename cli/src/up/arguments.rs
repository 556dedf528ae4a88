//! What `berth up` and `berth down` can be told.

use super::isolation::Wish;
use super::network::NAME_MAX;
use super::{identity, ports};
use anyhow::{Context, Result, bail};
use std::path::PathBuf;

/// Start a whole cell on this machine: schedulers, hosts, a Docker endpoint.
#[derive(Clone, Debug, clap::Args)]
pub struct UpArguments {
    /// Directory of vmlinuz, initramfs.img and assets.json; `cargo xtask up` makes and passes it.
    #[arg(long, value_name = "DIR", env = "BERTH_ASSETS")]
    pub assets: Option<PathBuf>,
    /// Keeps all state of the cell [default: $XDG_STATE_HOME/berth or ~/.local/state/berth].
    #[arg(long, value_name = "DIR")]
    pub state: Option<PathBuf>,
    /// How many hosts, 1 to 9.
    #[arg(long, default_value_t = 3)]
    pub hosts: u16,
    /// How many scheduler replicas, an odd number up to 9.
    #[arg(long, default_value_t = 3)]
    pub replicas: u16,
    /// First of the 70 ports of this cell.
    #[arg(long, default_value_t = 7100, value_name = "PORT")]
    pub port_base: u16,
    /// Names bridge, namespaces and firewall table on this machine.
    #[arg(long, default_value = "berth")]
    pub name: String,
    /// A cluster; hosts are dealt to the clusters in turn. May be given several times.
    #[arg(long = "cluster", default_value = "default", value_name = "NAME")]
    pub clusters: Vec<String>,
    /// How hosts are kept apart: each in a network namespace, or plain processes on loopback.
    #[arg(long, value_enum, default_value = "auto")]
    pub isolation: Wish,
    /// CPUs that each host says it has [default: all of this machine, for they are shared by time].
    #[arg(long, value_name = "N")]
    pub host_cpus: Option<u32>,
    /// Memory that each host says it has, in MiB [default: its part of this machine's].
    #[arg(long, value_name = "MIB")]
    pub host_memory_mib: Option<u64>,
    /// What runs the container VMs; simulated ones run nothing, for trying out the control plane.
    #[arg(long, value_enum, default_value = "qemu")]
    pub hypervisor: Hypervisor,
    /// Go to the background once all is ready.
    #[arg(long)]
    pub detach: bool,
    /// Become the leader of a session of its own (for --detach).
    #[arg(long, hide = true)]
    pub own_session: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Hypervisor {
    Qemu,
    Simulated,
}

impl From<Hypervisor> for berth_node::options::HypervisorKind {
    fn from(hypervisor: Hypervisor) -> Self {
        match hypervisor {
            Hypervisor::Qemu => Self::Qemu,
            Hypervisor::Simulated => Self::Simulated,
        }
    }
}

/// Stop the container VMs of a cell and end its processes; state stays.
#[derive(Clone, Debug, clap::Args)]
pub struct DownArguments {
    /// The state directory that `berth up` was given [default: as there].
    #[arg(long, value_name = "DIR")]
    pub state: Option<PathBuf>,
}

impl UpArguments {
    pub fn validate(&self) -> Result<()> {
        if !identity::is_name(&self.name) || self.name.len() > NAME_MAX {
            bail!(
                "--name {}: use up to {NAME_MAX} small letters, digits and dashes, a letter first",
                self.name
            );
        }
        ports::Ports::new(self.port_base)?;
        if self.host_cpus == Some(0) {
            bail!("--host-cpus must be at least 1");
        }
        if self.host_memory_mib.is_some_and(|mib| mib < 128) {
            bail!("--host-memory-mib must be at least 128");
        }
        Ok(())
    }

    pub fn clusters(&self) -> Vec<String> {
        self.clusters.clone()
    }

    pub fn simulated(&self) -> bool {
        self.hypervisor == Hypervisor::Simulated
    }

    /// The assets directory, absolute. Simulated hosts use none and get the state directory.
    pub fn assets(&self) -> Result<PathBuf> {
        match &self.assets {
            Some(assets) => assets
                .canonicalize()
                .with_context(|| format!("--assets {} is not there", assets.display())),
            None if self.simulated() => Ok(PathBuf::from("/nonexistent")),
            None => bail!(
                "--assets is missing: `cargo xtask up` makes the guest kernel and initramfs and \
                 passes their directory"
            ),
        }
    }
}
