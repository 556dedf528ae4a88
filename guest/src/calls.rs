//! The few system calls that rustix does not wrap. All `unsafe` of the agent is in this file.
//!
//! The agent has one thread; where that matters, it is said.
#![expect(unsafe_code, reason = "PID 1 needs calls that no crate wraps; each says why it is sound")]

use rustix::fd::{AsFd, AsRawFd as _, FromRawFd as _, OwnedFd, RawFd};
use std::ffi::{CString, c_int, c_ulong};
use std::io::{Error, Result};

/// A descriptor that is readable when a child changed state. SIGCHLD is blocked from here on.
pub fn child_signals() -> Result<OwnedFd> {
    // SAFETY: the set is initialised by sigemptyset before use, and the calls only read it.
    unsafe {
        let mut set = std::mem::zeroed();
        libc::sigemptyset(&mut set);
        libc::sigaddset(&mut set, libc::SIGCHLD);
        check(libc::sigprocmask(libc::SIG_BLOCK, &set, std::ptr::null_mut()))?;
        let fd = check(libc::signalfd(-1, &set, libc::SFD_NONBLOCK | libc::SFD_CLOEXEC))?;
        Ok(OwnedFd::from_raw_fd(fd))
    }
}

/// Gives a new program the signals that it expects: none blocked, none ignored.
pub fn reset_signals() {
    // SAFETY: sets dispositions of this process only; 9, 19 and unknown numbers are refused
    // harmlessly.
    unsafe {
        for signal in 1..=64 {
            libc::signal(signal, libc::SIG_DFL);
        }
        let mut set = std::mem::zeroed();
        libc::sigemptyset(&mut set);
        libc::sigprocmask(libc::SIG_SETMASK, &set, std::ptr::null_mut());
    }
}

/// Forks into new mount, pid, host name and IPC namespaces. 0 in the child, its pid in the parent.
pub fn fork_into_namespaces() -> Result<u32> {
    let flags = libc::CLONE_NEWNS
        | libc::CLONE_NEWPID
        | libc::CLONE_NEWUTS
        | libc::CLONE_NEWIPC
        | libc::SIGCHLD;
    // SAFETY: without CLONE_VM and with no stack given this is fork; the agent has one thread, so
    // the child finds no lock held by another.
    let pid = unsafe { libc::syscall(libc::SYS_clone, flags as c_ulong, 0, 0, 0, 0) };
    if pid < 0 {
        return Err(Error::last_os_error());
    }
    u32::try_from(pid).map_err(Error::other)
}

/// Enters a cgroup namespace whose root is the present cgroup.
pub fn unshare_cgroup() -> Result<()> {
    // SAFETY: touches neither memory nor descriptors of this process.
    check(unsafe { libc::unshare(libc::CLONE_NEWCGROUP) }).map(drop)
}

/// Marks every descriptor above stderr to be closed at exec.
pub fn close_others_at_exec() -> Result<()> {
    const CLOSE_RANGE_CLOEXEC: c_int = 4;
    // SAFETY: changes flags of this process's descriptors only.
    let outcome = unsafe { libc::syscall(libc::SYS_close_range, 3, u32::MAX, CLOSE_RANGE_CLOEXEC) };
    if outcome < 0 { Err(Error::last_os_error()) } else { Ok(()) }
}

/// Becomes another program. Returns only if that failed.
pub fn execute(path: &CString, arguments: &[CString], environment: &[CString]) -> Error {
    let pointers = |strings: &[CString]| {
        let mut pointers: Vec<_> = strings.iter().map(|string| string.as_ptr()).collect();
        pointers.push(std::ptr::null());
        pointers
    };
    let (arguments, environment) = (pointers(arguments), pointers(environment));
    // SAFETY: both arrays end with null and their strings outlive the call.
    unsafe { libc::execve(path.as_ptr(), arguments.as_ptr(), environment.as_ptr()) };
    Error::last_os_error()
}

/// Ends this process at once, without destructors or buffers: for the child of a fork.
pub fn exit_now(code: c_int) -> ! {
    // SAFETY: always allowed.
    unsafe { libc::_exit(code) }
}

/// Sends a signal by number, real-time signals included.
pub fn kill(pid: u32, signal: u8) -> Result<()> {
    let pid = libc::pid_t::try_from(pid).map_err(Error::other)?;
    // SAFETY: no memory is involved.
    check(unsafe { libc::kill(pid, c_int::from(signal)) }).map(drop)
}

/// Adds random bytes to the kernel's pool, counting each as eight bits, and reseeds from it.
pub fn add_entropy(urandom: &impl AsFd, bytes: &[u8]) -> Result<()> {
    const RNDADDENTROPY: c_ulong = 0x4008_5203;
    const RNDRESEEDCRNG: c_ulong = 0x5207;
    let length = u32::try_from(bytes.len()).map_err(Error::other)?;
    // struct rand_pool_info: bits of entropy, length, bytes.
    let mut request = Vec::with_capacity(8 + bytes.len());
    request.extend_from_slice(&length.saturating_mul(8).to_ne_bytes());
    request.extend_from_slice(&length.to_ne_bytes());
    request.extend_from_slice(bytes);
    let fd = urandom.as_fd().as_raw_fd();
    // SAFETY: the kernel reads the two numbers and then `length` bytes, all within `request`; it
    // copies from user memory and needs no alignment.
    check(unsafe { libc::ioctl(fd, RNDADDENTROPY, request.as_ptr()) })?;
    // SAFETY: takes no argument.
    check(unsafe { libc::ioctl(fd, RNDRESEEDCRNG) }).map(drop)
}

/// Unlocks the other end of a terminal's master and opens it.
pub fn open_terminal_slave(master: &impl AsFd) -> Result<OwnedFd> {
    let master = master.as_fd().as_raw_fd();
    let unlocked: c_int = 0;
    // SAFETY: the kernel reads one int.
    check(unsafe { libc::ioctl(master, libc::TIOCSPTLCK, &unlocked) })?;
    let flags = libc::O_RDWR | libc::O_NOCTTY | libc::O_CLOEXEC;
    // SAFETY: takes its argument by value and returns a new descriptor, which nobody else owns.
    unsafe { Ok(OwnedFd::from_raw_fd(check(libc::ioctl(master, libc::TIOCGPTPEER, flags))?)) }
}

/// The number of a terminal: its name below /dev/pts.
pub fn terminal_number(master: &impl AsFd) -> Result<u32> {
    let mut number: libc::c_uint = 0;
    // SAFETY: the kernel writes one unsigned int.
    check(unsafe { libc::ioctl(master.as_fd().as_raw_fd(), libc::TIOCGPTN, &mut number) })?;
    Ok(number)
}

/// An argument of a network interface call: `struct ifreq`.
#[repr(C)]
pub struct InterfaceRequest {
    name: [u8; 16],
    value: [u8; 24],
}

impl InterfaceRequest {
    /// With the name and the union zeroed. `None` if the name is too long.
    pub fn new(interface: &str) -> Option<InterfaceRequest> {
        let mut request = InterfaceRequest { name: [0; 16], value: [0; 24] };
        let name = interface.as_bytes();
        if name.len() > 15 {
            return None;
        }
        request.name[..name.len()].copy_from_slice(name);
        Some(request)
    }

    /// With an IPv4 socket address in the union.
    pub fn address(mut self, address: std::net::Ipv4Addr) -> InterfaceRequest {
        self.value[..16].copy_from_slice(&socket_address(address));
        self
    }

    /// With a number in the union: flags or MTU.
    pub fn number(mut self, number: u32) -> InterfaceRequest {
        self.value[..4].copy_from_slice(&number.to_ne_bytes());
        self
    }
}

/// Sets something of an interface.
pub fn set_interface(socket: &impl AsFd, call: c_ulong, request: &InterfaceRequest) -> Result<()> {
    // SAFETY: the calls that set something read a whole `struct ifreq`, which is 40 bytes on 64-bit
    // Linux.
    check(unsafe { libc::ioctl(socket.as_fd().as_raw_fd(), call, request) }).map(drop)
}

/// Adds a default route over `gateway`.
pub fn add_default_route(socket: &impl AsFd, gateway: std::net::Ipv4Addr) -> Result<()> {
    /// `struct rtentry` of 64-bit Linux.
    #[repr(C)]
    struct Route {
        pad1: c_ulong,
        destination: [u8; 16],
        gateway: [u8; 16],
        mask: [u8; 16],
        flags: u16,
        rest: [u64; 8],
    }
    const UP: u16 = 1;
    const GATEWAY: u16 = 2;
    let any = socket_address(std::net::Ipv4Addr::UNSPECIFIED);
    let route = Route {
        pad1: 0,
        destination: any,
        gateway: socket_address(gateway),
        mask: any,
        flags: UP | GATEWAY,
        rest: [0; 8],
    };
    const { assert!(size_of::<Route>() == 128 && std::mem::offset_of!(Route, rest) == 64) };
    // SAFETY: the kernel reads a `struct rtentry` of 120 bytes; the fields behind the flags are
    // zero, the device pointer among them.
    check(unsafe { libc::ioctl(socket.as_fd().as_raw_fd(), libc::SIOCADDRT as c_ulong, &route) })
        .map(drop)
}

/// A `struct sockaddr_in` without a port.
fn socket_address(address: std::net::Ipv4Addr) -> [u8; 16] {
    let mut bytes = [0; 16];
    bytes[..2].copy_from_slice(&(libc::AF_INET as u16).to_ne_bytes());
    bytes[4..8].copy_from_slice(&address.octets());
    bytes
}

/// Loads a filter over device accesses and attaches it to a cgroup.
pub fn attach_device_filter(cgroup: &impl AsFd, program: &[u64]) -> Result<()> {
    const PROGRAM_LOAD: c_int = 5;
    const PROGRAM_ATTACH: c_int = 8;
    const TYPE_CGROUP_DEVICE: u32 = 15;
    const ATTACH_CGROUP_DEVICE: u32 = 6;
    /// The fields of `union bpf_attr` that loading needs.
    #[repr(C)]
    struct Load {
        program_type: u32,
        count: u32,
        instructions: *const u64,
        license: *const std::ffi::c_char,
        rest: [u64; 12],
    }
    #[repr(C)]
    struct Attach {
        target: u32,
        program: u32,
        attach_type: u32,
        flags: u32,
    }
    let load = Load {
        program_type: TYPE_CGROUP_DEVICE,
        count: u32::try_from(program.len()).map_err(Error::other)?,
        instructions: program.as_ptr(),
        license: c"Apache-2.0".as_ptr(),
        rest: [0; 12],
    };
    // SAFETY: the pointers are valid for the call, the size is that of the struct, the rest is
    // zero.
    let loaded = unsafe { libc::syscall(libc::SYS_bpf, PROGRAM_LOAD, &load, size_of::<Load>()) };
    if loaded < 0 {
        return Err(Error::last_os_error());
    }
    let raw = RawFd::try_from(loaded).map_err(Error::other)?;
    // SAFETY: the call made this descriptor, nobody else owns it.
    let loaded = unsafe { OwnedFd::from_raw_fd(raw) };
    let attach = Attach {
        target: cgroup.as_fd().as_raw_fd() as u32,
        program: loaded.as_raw_fd() as u32,
        attach_type: ATTACH_CGROUP_DEVICE,
        flags: 0,
    };
    // SAFETY: the kernel reads the struct, whose size is given.
    let outcome =
        unsafe { libc::syscall(libc::SYS_bpf, PROGRAM_ATTACH, &attach, size_of::<Attach>()) };
    if outcome < 0 { Err(Error::last_os_error()) } else { Ok(()) }
}

fn check(outcome: c_int) -> Result<c_int> {
    if outcome < 0 { Err(Error::last_os_error()) } else { Ok(outcome) }
}
