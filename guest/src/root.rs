//! The container's root: base disk below, delta disk above, overlay of both.
//!
//! On the delta disk, beside the overlay's `upper` and `work`: `etc/` with the files that are
//! mounted over the container's, and `exit`, how the last run ended.

use crate::devices::{self, Uevents};
use crate::trouble::{Trouble, While as _};
use berth_model::guest::{ExitCause, ExitStatus, GuestSpec};
use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};
use std::fs;
use std::io::Write as _;

/// All beside each other in the initramfs, so that each can be unmounted while the others stand.
pub const BASE: &str = "/base";
pub const DELTA: &str = "/delta";
pub const ROOT: &str = "/container";
/// Directory of the files that are mounted over the container's.
pub const HOST_FILES: &str = "/delta/etc";
const EXIT: &str = "/delta/exit";

/// The mounted disks.
pub struct Root(());

impl Root {
    pub fn mount(spec: &GuestSpec, uevents: &mut Uevents) -> Result<Root, Trouble> {
        let base = devices::disk(&spec.base_serial, uevents)?;
        let delta = devices::disk(&spec.delta_serial, uevents)?;
        for directory in [BASE, DELTA, ROOT] {
            fs::create_dir_all(directory).during(|| format!("make {directory}"))?;
        }
        mount(&base, BASE, "squashfs", MountFlags::RDONLY, c"")
            .during(|| "mount the base disk (squashfs)")?;
        mount(&delta, DELTA, "ext4", MountFlags::NOATIME, c"")
            .during(|| "mount the delta disk (ext4)")?;
        for directory in ["/delta/upper", "/delta/work", HOST_FILES] {
            fs::create_dir_all(directory).during(|| format!("make {directory}"))?;
        }
        match fs::remove_file(EXIT) {
            Ok(()) => {}
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => return Err(error).during(|| "remove the exit of the last run"),
        }
        let options = c"lowerdir=/base,upperdir=/delta/upper,workdir=/delta/work";
        mount("overlay", ROOT, "overlay", MountFlags::empty(), options)
            .during(|| "mount the overlay of base and delta")?;
        Ok(Root(()))
    }

    /// Writes down how the run ended, so that it is known even if no node ever hears it.
    pub fn record_exit(&self, exit: &ExitStatus) -> Result<(), Trouble> {
        let cause = match exit.cause {
            ExitCause::Code(code) => format!("code={code}"),
            ExitCause::Signal(signal) => format!("signal={signal}"),
        };
        let text = format!("{cause}\noom={}\ntime_ns={}\n", exit.oom_killed, exit.time_ns);
        let mut file = fs::File::create(EXIT).during(|| "write the exit to the delta disk")?;
        file.write_all(text.as_bytes()).during(|| "write the exit to the delta disk")?;
        file.sync_all().during(|| "write the exit to the delta disk")
    }

    /// Unmounts the disks; what is written is on them afterwards. Says what could not be unmounted.
    pub fn unmount(self) -> Result<(), Trouble> {
        let outcome = [ROOT, DELTA, BASE].map(|target| {
            unmount(target, UnmountFlags::empty()).during(|| format!("unmount {target}"))
        });
        // Whatever stays mounted is at least consistent.
        rustix::fs::sync();
        outcome.into_iter().collect()
    }
}
