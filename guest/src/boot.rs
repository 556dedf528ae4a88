//! From the kernel's hand-over to a machine with file systems, drivers and the agent's port.

use crate::devices::{Port, Uevents};
use crate::power::say;
use crate::trouble::{Trouble, While as _};
use crate::{calls, devices};
use berth_model::guest::AGENT_PORT;
use rustix::mount::{MountFlags, mount};
use std::ffi::CStr;
use std::fs::{self, File};

/// Names of module files in /modules, one a line, each after those it needs.
const MODULE_ORDER: &str = "/modules/order";

/// What the agent works with.
pub struct Machine {
    pub agent: Port,
    pub uevents: Uevents,
    /// Readable when a child has changed state.
    pub signals: rustix::fd::OwnedFd,
}

pub fn boot() -> Result<Machine, Trouble> {
    mount_kernel_file_systems()?;
    let signals = calls::child_signals().during(|| "open a signal descriptor")?;
    let mut uevents = Uevents::open()?;
    load_modules()?;
    // Out of memory inside the container must never end the agent, and with it the VM.
    fs::write("/proc/self/oom_score_adj", "-1000")
        .during(|| "protect the agent from the OOM killer")?;
    let agent = devices::open_port(AGENT_PORT, &mut uevents)?;
    Ok(Machine { agent, uevents, signals })
}

fn mount_kernel_file_systems() -> Result<(), Trouble> {
    const PLAIN: MountFlags = MountFlags::NOSUID.union(MountFlags::NODEV).union(MountFlags::NOEXEC);
    let mounts: [(&str, &str, MountFlags, &CStr); 4] = [
        ("proc", "/proc", PLAIN, c""),
        ("sysfs", "/sys", PLAIN, c""),
        ("devtmpfs", "/dev", MountFlags::NOSUID, c"mode=0755"),
        ("cgroup2", "/sys/fs/cgroup", PLAIN, c"nsdelegate"),
    ];
    for (kind, target, flags, data) in mounts {
        fs::create_dir_all(target).during(|| format!("make {target}"))?;
        mount(kind, target, kind, flags, data).during(|| format!("mount {target}"))?;
    }
    Ok(())
}

/// Loads the modules and frees the memory of their files.
fn load_modules() -> Result<(), Trouble> {
    let order = fs::read_to_string(MODULE_ORDER).during(|| format!("read {MODULE_ORDER}"))?;
    for name in order.lines().map(str::trim).filter(|line| !line.is_empty()) {
        let path = format!("/modules/{name}");
        let file = File::open(&path).during(|| format!("open {path}"))?;
        match rustix::system::finit_module(&file, c"", 0) {
            Ok(()) => {}
            Err(rustix::io::Errno::EXIST) => say(&format!("module {name} is built in")),
            Err(error) => return Err(error).during(|| format!("load module {name}")),
        }
        fs::remove_file(&path).during(|| format!("remove {path}"))?;
    }
    Ok(())
}
