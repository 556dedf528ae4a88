//! Messages between a node and the agent in a container VM, over the channel of the agent port.
//!
//! ```text
//!  node                                     agent (PID 1)
//!       ◄── Ready{standing: Idle} ───────         once a node says hello
//!       ─── Clock, Entropy ──────────────►
//!       ─── Setup(GuestSpec) ────────────►        mounts, network, process
//!       ◄── Started | StartFailed | SetupFailed
//!       ─── StdinData… Signal Resize LogCredit ►
//!       ◄── StdinCredit… ────────────────
//!       ◄── Exited ──────────────────────         output complete, disks unmounted
//!       ─── PowerOff ────────────────────►        the acknowledgement
//! ```
//! A node process that comes back says hello with a new endpoint and gets `Ready` with the present
//! [`Standing`], after what its predecessor had not taken; it must take repeated news as none.
//!
//! Stopping is the node's: it sends the stop signal, counts the grace and sends SIGKILL, then cuts
//! the power. The agent has no timers of its own but one: it powers off by itself
//! [`LINGER_SECONDS`] after an end that no node acknowledged; the exit is then found in the log's
//! last record.
//!
//! Output does not come this way: it is records on the log port, see `berth_wire::record`. The
//! payload of its exit record is an encoded [`ExitStatus`].
//!
//! New variants go to the end and need a new protocol number.

use crate::ids::ContainerId;
use crate::stream::Sample;
use crate::units::{Bytes, MilliCpus};
use serde::{Deserialize, Serialize};
use std::net::{IpAddr, Ipv4Addr};

/// Versions of this protocol that this build speaks.
pub const PROTOCOL_MIN: u16 = 1;
pub const PROTOCOL_MAX: u16 = 1;

/// Name of the virtio-serial port that carries the channel.
pub const AGENT_PORT: &str = "berth.agent";
/// Name of the virtio-serial port whose host end is the log file.
pub const LOG_PORT: &str = "berth.log";
/// virtio-blk serial of the read-only squashfs disk with the image.
pub const BASE_SERIAL: &str = "base";
/// virtio-blk serial of the writable ext4 disk.
pub const DELTA_SERIAL: &str = "delta";

/// How many bytes of stdin a node may have sent beyond what the process took. The first credit is
/// this much; [`GuestToHost::StdinCredit`] raises it.
pub const STDIN_WINDOW: u64 = 256 << 10;
/// Most bytes of one `StdinData`.
pub const STDIN_DATA_MAX: usize = 64 << 10;
/// What the log may grow beyond its credit: the exit record.
pub const LOG_RESERVE: u64 = 256;
/// How long an ended container VM waits for `PowerOff`.
pub const LINGER_SECONDS: u64 = 60;

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum HostToGuest {
    /// What to run. Taken once in a guest's life.
    Setup(Box<GuestSpec>),
    /// Nanoseconds since 1970 UTC: set the wall clock.
    Clock { unix_ns: u64 },
    /// At least 32 random bytes for the kernel's pool; a guest restored from a template needs them
    /// before anything else.
    Entropy { bytes: Vec<u8> },
    /// At most [`STDIN_DATA_MAX`] bytes, within the credit.
    StdinData { bytes: Vec<u8> },
    /// No more stdin. With a terminal this has no effect, as with Docker.
    StdinEof,
    /// The terminal's size; of no effect without one.
    Resize { rows: u16, columns: u16 },
    /// To the container's main process. As PID 1 of its namespace it does not hear signals that it
    /// has no handler for, SIGKILL and SIGSTOP apart.
    Signal { number: u8 },
    /// The log may grow to this many bytes.
    LogCredit { upto: u64 },
    /// Answer with `Stats`.
    SampleStats,
    /// Ends everything, unmounts and cuts the power. After `Exited` it is the acknowledgement.
    PowerOff,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum GuestToHost {
    /// The agent is there; first message to each node process.
    Ready {
        /// As `uname -r` prints it.
        kernel: String,
        /// Version of the agent.
        agent: String,
        /// Time since the kernel started.
        uptime_ns: u64,
        standing: Standing,
    },
    Started {
        /// In the guest's own numbering.
        pid: u32,
        /// Wall clock, nanoseconds since 1970 UTC.
        time_ns: u64,
    },
    StartFailed(StartFailure),
    /// The container's surroundings could not be made; the text says what and why.
    SetupFailed {
        text: String,
    },
    /// Stdin may be sent up to this many bytes in all, counted over the container's life.
    StdinCredit {
        upto: u64,
    },
    Stats(Box<Sample>),
    /// The process ended, all output is in the log port, the disks are unmounted.
    Exited(ExitStatus),
}

/// Where the agent stands, for a node that knows nothing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Standing {
    /// Waits for `Setup`.
    Idle,
    /// `Setup` was taken; no verdict yet.
    Starting,
    Running {
        pid: u32,
        /// Bytes of stdin that came so far.
        stdin_received: u64,
        /// Bytes of stdin that may have been sent in all.
        stdin_upto: u64,
    },
    /// The process ended; its output is still on the way into the log.
    Ending,
    Exited(ExitStatus),
    StartFailed(StartFailure),
    SetupFailed {
        text: String,
    },
}

/// The process could not be started, in Docker's words.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StartFailure {
    /// 127: not found; 126: found, but not executable; 128: anything else.
    pub code: u8,
    /// Such as `exec: "nope": executable file not found in $PATH`.
    pub text: String,
}

/// How the container's main process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExitStatus {
    pub cause: ExitCause,
    /// The kernel killed a process of the container for want of memory.
    pub oom_killed: bool,
    /// Wall clock, nanoseconds since 1970 UTC.
    pub time_ns: u64,
    /// Bytes of output records in the log before the exit record: the log is whole when the file
    /// has them.
    pub log_bytes: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ExitCause {
    /// Its exit code.
    Code(u8),
    /// The signal that ended it.
    Signal(u8),
}

impl ExitStatus {
    /// As Docker counts: 128 + signal for a process that a signal ended.
    pub fn code(&self) -> i32 {
        match self.cause {
            ExitCause::Code(code) => i32::from(code),
            ExitCause::Signal(signal) => 128 + i32::from(signal),
        }
    }
}

/// All that an agent needs to run a container.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GuestSpec {
    pub container: ContainerId,
    pub hostname: String,
    /// May be empty.
    pub domain_name: String,
    /// virtio-blk serials, at most 20 bytes each.
    pub base_serial: String,
    pub delta_serial: String,
    pub process: ProcessSpec,
    /// `None`: only the loopback interface.
    pub network: Option<GuestNetwork>,
    /// `(name, address)`, further lines of /etc/hosts.
    pub extra_hosts: Vec<(String, String)>,
    /// Limit of the container's cgroup.
    pub memory_limit: Option<Bytes>,
    pub pids_limit: Option<u64>,
    /// CPU time of the container's cgroup, where it is less than its virtual CPUs could give.
    pub cpu_limit: Option<MilliCpus>,
    /// Paths that are created if missing.
    pub volumes: Vec<String>,
    pub tmpfs: Vec<TmpfsMount>,
    /// Size of /dev/shm.
    pub shm_size: Bytes,
    pub read_only_root: bool,
    /// Hard limit of the log in bytes until `LogCredit` raises it; the process blocks there as on a
    /// full pipe.
    pub log_credit: u64,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProcessSpec {
    /// Entrypoint and command; not empty.
    pub arguments: Vec<String>,
    /// `NAME=value`; PATH, HOSTNAME, HOME and (with a terminal) TERM are added where missing.
    pub environment: Vec<String>,
    /// Created if missing; empty means `/`.
    pub working_directory: String,
    /// As Docker gives it: `""`, `user`, `uid`, `user:group`, `uid:gid`.
    pub user: String,
    pub capabilities: Capabilities,
    pub stdio: Stdio,
    /// Further groups by name or number.
    pub groups: Vec<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Stdio {
    /// stdout and stderr apart; stdin is /dev/null unless open.
    Pipes { stdin: bool },
    /// A terminal, its output all in stdout. Its size may be 0 until a `Resize`.
    Terminal { stdin: bool, rows: u16, columns: u16 },
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GuestNetwork {
    /// Of the interface, as QEMU was told; it becomes `eth0`.
    pub mac: [u8; 6],
    pub address: Ipv4Addr,
    pub prefix: u8,
    pub gateway: Option<Ipv4Addr>,
    /// 0 leaves the driver's.
    pub mtu: u32,
    pub dns: Vec<IpAddr>,
    pub dns_search: Vec<String>,
    pub dns_options: Vec<String>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TmpfsMount {
    pub path: String,
    /// `None`: half of the memory, as the kernel has it.
    pub size: Option<Bytes>,
    /// Permission bits.
    pub mode: u32,
}

/// A set of Linux capabilities, one bit each by the kernel's numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Capabilities(pub u64);

impl Capabilities {
    pub const NONE: Capabilities = Capabilities(0);
    pub const ALL: Capabilities = Capabilities((1 << CAPABILITY_NAMES.len()) - 1);
    /// What Docker gives a container by default.
    pub const DOCKER_DEFAULT: Capabilities = Capabilities(
        1 << 0 // CHOWN
            | 1 << 1 // DAC_OVERRIDE
            | 1 << 3 // FOWNER
            | 1 << 4 // FSETID
            | 1 << 5 // KILL
            | 1 << 6 // SETGID
            | 1 << 7 // SETUID
            | 1 << 8 // SETPCAP
            | 1 << 10 // NET_BIND_SERVICE
            | 1 << 13 // NET_RAW
            | 1 << 18 // SYS_CHROOT
            | 1 << 27 // MKNOD
            | 1 << 29 // AUDIT_WRITE
            | 1 << 31, // SETFCAP
    );

    /// The capability called `name`, with or without `CAP_`, in any case.
    pub fn named(name: &str) -> Option<Capabilities> {
        let upper = name.to_ascii_uppercase();
        let bare = upper.strip_prefix("CAP_").unwrap_or(&upper);
        let number = CAPABILITY_NAMES.iter().position(|known| *known == bare)?;
        Some(Capabilities(1 << number))
    }

    pub const fn with(self, other: Capabilities) -> Capabilities {
        Capabilities(self.0 | other.0)
    }

    pub const fn without(self, other: Capabilities) -> Capabilities {
        Capabilities(self.0 & !other.0)
    }

    pub const fn contains(self, other: Capabilities) -> bool {
        self.0 & other.0 == other.0
    }
}

/// Capabilities of Linux 5.9 and later, by number.
pub const CAPABILITY_NAMES: [&str; 41] = [
    "CHOWN",
    "DAC_OVERRIDE",
    "DAC_READ_SEARCH",
    "FOWNER",
    "FSETID",
    "KILL",
    "SETGID",
    "SETUID",
    "SETPCAP",
    "LINUX_IMMUTABLE",
    "NET_BIND_SERVICE",
    "NET_BROADCAST",
    "NET_ADMIN",
    "NET_RAW",
    "IPC_LOCK",
    "IPC_OWNER",
    "SYS_MODULE",
    "SYS_RAWIO",
    "SYS_CHROOT",
    "SYS_PTRACE",
    "SYS_PACCT",
    "SYS_ADMIN",
    "SYS_BOOT",
    "SYS_NICE",
    "SYS_RESOURCE",
    "SYS_TIME",
    "SYS_TTY_CONFIG",
    "MKNOD",
    "LEASE",
    "AUDIT_WRITE",
    "AUDIT_CONTROL",
    "SETFCAP",
    "MAC_OVERRIDE",
    "MAC_ADMIN",
    "SYSLOG",
    "WAKE_ALARM",
    "BLOCK_SUSPEND",
    "AUDIT_READ",
    "PERFMON",
    "BPF",
    "CHECKPOINT_RESTORE",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_capabilities_are_dockers_fourteen() {
        let names: Vec<&str> = CAPABILITY_NAMES
            .iter()
            .copied()
            .filter(|name| {
                let one = Capabilities::named(name).unwrap();
                Capabilities::DOCKER_DEFAULT.contains(one)
            })
            .collect();
        let expected = "CHOWN DAC_OVERRIDE FOWNER FSETID KILL SETGID SETUID SETPCAP \
                        NET_BIND_SERVICE NET_RAW SYS_CHROOT MKNOD AUDIT_WRITE SETFCAP";
        assert_eq!(names.join(" "), expected);
    }

    #[test]
    fn a_capability_is_found_by_any_spelling() {
        let chown = Capabilities::named("cap_chown").unwrap();
        assert_eq!(Capabilities::named("CHOWN"), Some(chown));
        assert_eq!(Capabilities::named("FLY"), None);
        assert!(!Capabilities::ALL.without(chown).contains(chown));
    }

    #[test]
    fn a_signal_counts_128_more() {
        let status = |cause| ExitStatus { cause, oom_killed: false, time_ns: 0, log_bytes: 0 };
        assert_eq!(status(ExitCause::Code(7)).code(), 7);
        assert_eq!(status(ExitCause::Signal(9)).code(), 137);
    }
}
