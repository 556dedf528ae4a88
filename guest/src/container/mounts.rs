//! The container's view of files: overlay as root, and Docker's mounts in it.
//!
//! The root is moved over the initramfs's and entered, and the agent's other mounts are gone from
//! this namespace before, so nothing of the agent's can be reached: not by links, not by chroot.
//! A container that was given SYS_ADMIN can unmount its root and then finds the initramfs below it;
//! that holds no more than the agent's own file. Everything inside is mounted from inside, so that
//! links in the image lead nowhere else.

use crate::host_files;
use crate::root::{BASE, DELTA, HOST_FILES, ROOT};
use crate::trouble::{Trouble, While as _};
use berth_model::guest::GuestSpec;
use rustix::fd::OwnedFd;
use rustix::fs::{CWD, FileType, Mode, chmod, makedev, mknodat, symlink};
use rustix::mount::{
    MountFlags, MountPropagationFlags, MoveMountFlags, OpenTreeFlags, UnmountFlags, mount,
    mount_bind_recursive, mount_change, mount_move, mount_remount, move_mount, open_tree, unmount,
};
use std::ffi::{CStr, CString};
use std::fs;
use std::io::ErrorKind;
use std::path::Path;

const NO_SUID_DEV_EXEC: MountFlags =
    MountFlags::NOSUID.union(MountFlags::NODEV).union(MountFlags::NOEXEC);

/// Hidden, as Docker hides them.
const MASKED: [&str; 12] = [
    "/proc/asound",
    "/proc/acpi",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/sys/firmware",
    "/sys/devices/virtual/powercap",
];

const READ_ONLY: [&str; 5] =
    ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"];

/// Name, major, minor, permissions of the devices in /dev.
const DEVICES: [(&str, u32, u32); 6] = [
    ("null", 1, 3),
    ("zero", 1, 5),
    ("full", 1, 7),
    ("random", 1, 8),
    ("urandom", 1, 9),
    ("tty", 5, 0),
];

const LINKS: [(&str, &str); 6] = [
    ("/dev/ptmx", "pts/ptmx"),
    ("/dev/fd", "/proc/self/fd"),
    ("/dev/stdin", "/proc/self/fd/0"),
    ("/dev/stdout", "/proc/self/fd/1"),
    ("/dev/stderr", "/proc/self/fd/2"),
    ("/dev/core", "/proc/kcore"),
];

/// Makes the overlay the root of this namespace, with everything in it that a container expects.
/// The caller is in a mount namespace of its own.
pub fn enter(spec: &GuestSpec) -> Result<(), Trouble> {
    let private = MountPropagationFlags::PRIVATE | MountPropagationFlags::REC;
    mount_change("/", private).during(|| "make mounts private")?;
    let files = detached_host_files()?;
    std::env::set_current_dir(ROOT).during(|| "enter the container's root")?;
    for target in ["/sys/fs/cgroup", "/sys", "/proc", "/dev", DELTA, BASE] {
        unmount(target, UnmountFlags::DETACH).during(|| format!("leave {target}"))?;
    }
    mount_move(".", "/").during(|| "move the container's root into place")?;
    rustix::process::chroot(".").during(|| "change the root")?;
    std::env::set_current_dir("/").during(|| "enter the new root")?;

    kernel_file_systems(spec)?;
    devices()?;
    for (name, file) in host_files::NAMES.iter().zip(&files) {
        attach(file, &format!("/etc/{name}"))?;
    }
    for wanted in &spec.tmpfs {
        make_directory(&wanted.path)?;
        let size = wanted.size.map(|size| format!(",size={}", size.0)).unwrap_or_default();
        let data = c_string(format!("mode={:o}{size}", wanted.mode & 0o7777))?;
        let path = wanted.path.as_str();
        mount("tmpfs", path, "tmpfs", NO_SUID_DEV_EXEC, data.as_c_str())
            .during(|| format!("mount tmpfs {path}"))?;
    }
    for volume in &spec.volumes {
        make_directory(volume)?;
    }
    Ok(())
}

/// What must come after everything else: hides and protects, at the end the root itself.
pub fn protect(spec: &GuestSpec) -> Result<(), Trouble> {
    for path in READ_ONLY {
        if Path::new(path).exists() {
            mount_bind_recursive(path, path).during(|| format!("bind {path}"))?;
            let flags = MountFlags::BIND | MountFlags::RDONLY | NO_SUID_DEV_EXEC;
            mount_remount(path, flags, c"").during(|| format!("make {path} read-only"))?;
        }
    }
    for path in MASKED {
        match fs::metadata(path) {
            Ok(found) if found.is_dir() => {
                let flags = MountFlags::RDONLY | NO_SUID_DEV_EXEC;
                mount("tmpfs", path, "tmpfs", flags, c"size=0k")
                    .during(|| format!("hide {path}"))?;
            }
            Ok(_) => mount_bind_recursive("/dev/null", path).during(|| format!("hide {path}"))?,
            // A kernel without it has nothing to hide.
            Err(_) => {}
        }
    }
    if spec.read_only_root {
        let flags = MountFlags::BIND | MountFlags::RDONLY;
        mount_remount("/", flags, c"").during(|| "make the root read-only")?;
    }
    Ok(())
}

/// Mounts `source` over `target`, which is made an empty file if missing.
pub fn bind_file(source: &str, target: &str) -> Result<(), Trouble> {
    make_file(target)?;
    mount_bind_recursive(source, target).during(|| format!("bind {source} to {target}"))
}

/// Makes a directory and its parents, 0755 and root's, as Docker does.
pub fn make_directory(path: &str) -> Result<(), Trouble> {
    fs::create_dir_all(path).during(|| format!("mkdir {path}"))
}

fn kernel_file_systems(spec: &GuestSpec) -> Result<(), Trouble> {
    let no_suid_exec = MountFlags::NOSUID | MountFlags::NOEXEC;
    let read_only = MountFlags::RDONLY | NO_SUID_DEV_EXEC;
    let shm = c_string(format!("mode=1777,size={}", spec.shm_size.0))?;
    let mounts: [(&str, &str, MountFlags, &CStr); 7] = [
        ("proc", "/proc", NO_SUID_DEV_EXEC, c""),
        ("tmpfs", "/dev", MountFlags::NOSUID | MountFlags::STRICTATIME, c"mode=755,size=65536k"),
        ("devpts", "/dev/pts", no_suid_exec, c"newinstance,ptmxmode=0666,mode=0620,gid=5"),
        ("sysfs", "/sys", read_only, c""),
        ("cgroup2", "/sys/fs/cgroup", read_only, c""),
        ("mqueue", "/dev/mqueue", NO_SUID_DEV_EXEC, c""),
        ("tmpfs", "/dev/shm", NO_SUID_DEV_EXEC, &shm),
    ];
    for (kind, target, flags, data) in mounts {
        // /sys is mounted read-only, and has the directory.
        if target != "/sys/fs/cgroup" {
            make_directory(target)?;
        }
        mount(kind, target, kind, flags, data).during(|| format!("mount {target}"))?;
    }
    Ok(())
}

fn devices() -> Result<(), Trouble> {
    for (name, major, minor) in DEVICES {
        let path = format!("/dev/{name}");
        let mode = Mode::from_raw_mode(0o666);
        mknodat(CWD, path.as_str(), FileType::CharacterDevice, mode, makedev(major, minor))
            .during(|| format!("make {path}"))?;
        // The umask took some of it away.
        chmod(path.as_str(), mode).during(|| format!("open {path} to everybody"))?;
    }
    for (path, target) in LINKS {
        symlink(target, path).during(|| format!("link {path}"))?;
    }
    Ok(())
}

/// The host files as mounts that hang nowhere yet.
fn detached_host_files() -> Result<Vec<OwnedFd>, Trouble> {
    let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    host_files::NAMES
        .iter()
        .map(|name| {
            let path = format!("{HOST_FILES}/{name}");
            open_tree(CWD, path.as_str(), flags).during(|| format!("take {path}"))
        })
        .collect()
}

fn attach(mount: &OwnedFd, target: &str) -> Result<(), Trouble> {
    make_file(target)?;
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_SYMLINKS;
    move_mount(mount, "", CWD, target, flags).during(|| format!("mount {target}"))
}

/// Makes an empty file if there is none, at the end of links if need be: images have
/// /etc/resolv.conf lead to places that only a running system fills.
fn make_file(path: &str) -> Result<(), Trouble> {
    let mut target = Path::new(path).to_path_buf();
    for _ in 0..8 {
        if let Some(parent) = target.parent() {
            fs::create_dir_all(parent).during(|| format!("mkdir {}", parent.display()))?;
        }
        match fs::OpenOptions::new().append(true).create(true).open(&target) {
            Ok(_) => return Ok(()),
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(error) => return Err(error).during(|| format!("make {}", target.display())),
        }
        let next = fs::read_link(&target).during(|| format!("make {}", target.display()))?;
        target = target.parent().unwrap_or(Path::new("/")).join(next);
    }
    Err(Trouble::new(format!("make {path}: too many links")))
}

fn c_string(text: String) -> Result<CString, Trouble> {
    CString::new(text).map_err(|_| Trouble::new("a mount option holds a zero byte"))
}
