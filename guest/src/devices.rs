//! Finding devices by what they are called, never by the order in which they came.
//!
//! Disks are known by virtio-blk serial, ports by name, network interfaces by MAC. Each may appear
//! a little after it is asked for (hot-plug); waiting is on the kernel's own announcements.

use crate::clock;
use crate::trouble::{Trouble, While as _};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fd::OwnedFd;
use rustix::net::netlink::{self, SocketAddrNetlink};
use rustix::net::{AddressFamily, RecvFlags, SocketFlags, SocketType};
use std::fs;
use std::path::PathBuf;

/// How long a device may take to appear. Under load without hardware virtualisation, hot-plug was
/// seen to take over a second.
const APPEAR_NS: u64 = 20_000_000_000;

pub type Port = OwnedFd;

/// The kernel's announcements of devices.
pub struct Uevents(OwnedFd);

impl Uevents {
    pub fn open() -> Result<Uevents, Trouble> {
        let socket = rustix::net::socket_with(
            AddressFamily::NETLINK,
            SocketType::DGRAM,
            SocketFlags::CLOEXEC | SocketFlags::NONBLOCK,
            Some(netlink::KOBJECT_UEVENT),
        )
        .during(|| "open the device announcements")?;
        rustix::net::bind(&socket, &SocketAddrNetlink::new(0, 1))
            .during(|| "listen to device announcements")?;
        Ok(Uevents(socket))
    }

    /// Asks `find` now and after each announcement, until it finds or the time is up.
    pub fn wait_for<T>(
        &mut self,
        what: &str,
        mut find: impl FnMut() -> Result<Option<T>, Trouble>,
    ) -> Result<T, Trouble> {
        let deadline = clock::uptime_ns() + APPEAR_NS;
        loop {
            if let Some(found) = find()? {
                return Ok(found);
            }
            let left = deadline.saturating_sub(clock::uptime_ns());
            if left == 0 {
                return Err(Trouble::new(format!("{what} did not appear")));
            }
            let timeout = Timespec {
                tv_sec: (left / 1_000_000_000) as i64,
                tv_nsec: (left % 1_000_000_000) as i64,
            };
            let mut waiting = [PollFd::new(&self.0, PollFlags::IN)];
            poll(&mut waiting, Some(&timeout)).during(|| "wait for a device")?;
            self.drain();
        }
    }

    /// What an announcement says does not matter: the truth is in /sys. One that was lost to a full
    /// buffer (ENOBUFS) still woke us.
    fn drain(&mut self) {
        let mut buffer = [0; 8192];
        while rustix::net::recv(&self.0, &mut buffer, RecvFlags::DONTWAIT).is_ok() {}
    }
}

/// Opens the virtio-serial port called `name`, without blocking reads and writes.
pub fn open_port(name: &str, uevents: &mut Uevents) -> Result<Port, Trouble> {
    use rustix::fs::{Mode, OFlags, open};
    let device = uevents.wait_for(&format!("virtio-serial port {name}"), || {
        Ok(named("/sys/class/virtio-ports", "name", name).filter(|device| device.exists()))
    })?;
    let flags = OFlags::RDWR | OFlags::NONBLOCK | OFlags::CLOEXEC;
    open(&device, flags, Mode::empty()).during(|| format!("open port {name}"))
}

/// The block device with this virtio-blk serial.
pub fn disk(serial: &str, uevents: &mut Uevents) -> Result<PathBuf, Trouble> {
    uevents.wait_for(&format!("disk with serial {serial}"), || {
        Ok(named("/sys/block", "serial", serial).filter(|device| device.exists()))
    })
}

/// The network interface with this MAC.
pub fn interface(mac: [u8; 6], uevents: &mut Uevents) -> Result<String, Trouble> {
    let text = mac.map(|byte| format!("{byte:02x}")).join(":");
    let device = uevents.wait_for(&format!("network interface {text}"), || {
        Ok(named("/sys/class/net", "address", &text))
    })?;
    device
        .file_name()
        .and_then(|name| name.to_str())
        .map(str::to_string)
        .ok_or_else(|| Trouble::new(format!("network interface {text} has no name")))
}

/// `/dev/<entry>` for the entry of `class` whose attribute has this value.
fn named(class: &str, attribute: &str, value: &str) -> Option<PathBuf> {
    let entries = fs::read_dir(class).ok()?;
    entries.filter_map(Result::ok).find_map(|entry| {
        let found = fs::read_to_string(entry.path().join(attribute)).ok()?;
        (found.trim() == value).then(|| PathBuf::from("/dev").join(entry.file_name()))
    })
}
