//! The container's control group: its limits, its device filter, and what it uses.

use crate::calls;
use crate::trouble::{Trouble, While as _};
use berth_model::guest::GuestSpec;
use berth_model::stream::Sample;
use berth_model::units::Bytes;
use rustix::process::Pid;
use std::fs;

const ROOT: &str = "/sys/fs/cgroup";
pub const CONTAINER: &str = "/sys/fs/cgroup/container";

/// Makes the group with the spec's limits.
pub fn make(spec: &GuestSpec) -> Result<(), Trouble> {
    set(&format!("{ROOT}/cgroup.subtree_control"), "+cpu +io +memory +pids")?;
    fs::create_dir_all(CONTAINER).during(|| "make the container's cgroup")?;
    if let Some(limit) = spec.memory_limit {
        set(&format!("{CONTAINER}/memory.max"), &limit.0.to_string())?;
    }
    if let Some(limit) = spec.pids_limit {
        set(&format!("{CONTAINER}/pids.max"), &limit.to_string())?;
    }
    if let Some(limit) = spec.cpu_limit {
        // Microseconds of CPU time in each period of 100 ms; the kernel takes no less than 1 ms.
        let quota = limit.0.saturating_mul(100).max(1000);
        set(&format!("{CONTAINER}/cpu.max"), &format!("{quota} 100000"))?;
    }
    let group = fs::File::open(CONTAINER).during(|| "open the container's cgroup")?;
    calls::attach_device_filter(&group, &device_filter()).during(|| "attach the device filter")
}

/// Moves the calling process into the group.
pub fn join() -> Result<(), Trouble> {
    set(&format!("{CONTAINER}/cgroup.procs"), "0")
}

/// Whether the kernel killed a process of the container for want of memory.
pub fn oom_killed() -> bool {
    let events = read("memory.events");
    field(&events, "oom_kill").is_some_and(|count| count > 0)
}

/// Whether next to nothing of the container's memory could be freed: its processes hold the rest.
pub fn memory_spent() -> bool {
    spent(&read("memory.stat"), number(&read("memory.max")))
}

/// Less than a thirty-second part of the limit is in files and other caches. There is no swap.
fn spent(stat: &str, limit: u64) -> bool {
    let caches = ["inactive_file", "active_file", "slab_reclaimable"];
    let freeable = caches.iter().filter_map(|name| field(stat, name)).fold(0, u64::saturating_add);
    freeable < limit / 32
}

/// The process of the container that holds most memory, as the kernel's own killer would choose.
pub fn largest_process() -> Option<Pid> {
    let resident = |pid: i32| {
        let text = fs::read_to_string(format!("/proc/{pid}/statm")).unwrap_or_default();
        text.split_whitespace().nth(1).map_or(0, number)
    };
    let pids = read("cgroup.procs");
    let largest =
        pids.lines().filter_map(|line| line.parse().ok()).max_by_key(|pid| resident(*pid));
    largest.and_then(Pid::from_raw)
}

/// What the container uses now. What cannot be read counts as zero.
pub fn sample(interface: Option<&str>) -> Sample {
    let network = |counter: &str| {
        let path = format!("/sys/class/net/{}/statistics/{counter}", interface.unwrap_or("none"));
        number(&fs::read_to_string(path).unwrap_or_default())
    };
    let io = read("io.stat");
    Sample {
        cpu_ns: field(&read("cpu.stat"), "usage_usec").unwrap_or(0).saturating_mul(1000),
        memory: Bytes(number(&read("memory.current"))),
        // "max" is no number and reads as zero: no limit.
        memory_limit: Bytes(number(&read("memory.max"))),
        processes: number(&read("pids.current")),
        disk_read: Bytes(total(&io, "rbytes=")),
        disk_written: Bytes(total(&io, "wbytes=")),
        received: Bytes(network("rx_bytes")),
        sent: Bytes(network("tx_bytes")),
    }
}

fn set(path: &str, value: &str) -> Result<(), Trouble> {
    fs::write(path, value).during(|| format!("write {value} to {path}"))
}

fn read(name: &str) -> String {
    fs::read_to_string(format!("{CONTAINER}/{name}")).unwrap_or_default()
}

fn number(text: &str) -> u64 {
    text.trim().parse().unwrap_or(0)
}

/// The value in a file of `name value` lines.
fn field(text: &str, name: &str) -> Option<u64> {
    text.lines().find_map(|line| {
        let (key, value) = line.split_once(' ')?;
        (key == name).then(|| value.trim().parse().ok())?
    })
}

/// The sum of `key=` over all devices of io.stat.
fn total(text: &str, key: &str) -> u64 {
    text.split_whitespace()
        .filter_map(|word| word.strip_prefix(key)?.parse::<u64>().ok())
        .fold(0, u64::saturating_add)
}

/// Docker's default device rules as a program for the kernel: making any node is allowed, using one
/// only if it is null, zero, full, random, urandom, tty, console, ptmx or a terminal. So the
/// agent's port and the disks cannot be opened from the container, whatever nodes it makes.
fn device_filter() -> Vec<u64> {
    const CHARACTER: u32 = 2;
    const MAKE_ONLY: u32 = 1;
    const MEMORY: u32 = 1;
    const TERMINAL_CONTROL: u32 = 5;
    const TERMINALS: u32 = 136;
    // Registers: 1 context, 2 type, 3 major, 4 minor, 5 access.
    let mut program = vec![
        instruction(0x61, 2, 1, 0, 0),
        instruction(0x61, 3, 1, 4, 0),
        instruction(0x61, 4, 1, 8, 0),
        instruction(0xbf, 5, 2, 0, 0),
        instruction(0x77, 5, 0, 0, 16),
        instruction(0x57, 2, 0, 0, 0xffff),
    ];
    // Each rule jumps to the end, over what is left of the rules and the denial.
    let minors = [(MEMORY, [3, 5, 7, 8, 9].as_slice()), (TERMINAL_CONTROL, &[0, 1, 2])];
    let rules: i16 = 3 + minors.iter().map(|(_, minors)| 1 + minors.len() as i16).sum::<i16>();
    let to_allow = |rule: i16| rules - rule - 1 + 2;
    let to_deny = |rule: i16| rules - rule - 1;
    let mut rule = 0;
    let mut push = |make: &dyn Fn(i16) -> u64| {
        program.push(make(rule));
        rule += 1;
    };
    push(&|at| instruction(JUMP_EQUAL, 5, 0, to_allow(at), MAKE_ONLY));
    push(&|at| instruction(JUMP_UNEQUAL, 2, 0, to_deny(at), CHARACTER));
    push(&|at| instruction(JUMP_EQUAL, 3, 0, to_allow(at), TERMINALS));
    for (major, minors) in minors {
        let behind = minors.len() as i16;
        push(&|_| instruction(JUMP_UNEQUAL, 3, 0, behind, major));
        for minor in minors {
            push(&|at| instruction(JUMP_EQUAL, 4, 0, to_allow(at), *minor));
        }
    }
    for verdict in [0, 1] {
        program.push(instruction(0xb7, 0, 0, 0, verdict));
        program.push(instruction(0x95, 0, 0, 0, 0));
    }
    program
}

const JUMP_EQUAL: u8 = 0x15;
const JUMP_UNEQUAL: u8 = 0x55;

/// One instruction of the kernel's machine: code, registers, offset, number.
fn instruction(code: u8, target: u8, source: u8, offset: i16, number: u32) -> u64 {
    u64::from(code)
        | u64::from(target | source << 4) << 8
        | u64::from(offset.cast_unsigned()) << 16
        | u64::from(number) << 32
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Runs the filter as the kernel would, on the few instructions that it uses.
    fn allows(kind: u32, access: u32, major: u32, minor: u32) -> bool {
        let program = device_filter();
        let context = [kind | access << 16, major, minor];
        let mut registers = [0u64; 11];
        let mut at = 0usize;
        loop {
            let instruction = program[at];
            at += 1;
            let target = (instruction >> 8 & 15) as usize;
            let source = (instruction >> 12 & 15) as usize;
            let offset = (instruction >> 16) as i16;
            let number = instruction >> 32;
            let mut jump = |condition: bool| {
                if condition {
                    at = at.checked_add_signed(isize::from(offset)).unwrap();
                }
            };
            match instruction as u8 {
                0x61 => registers[target] = u64::from(context[offset as usize / 4]),
                0xbf => registers[target] = registers[source],
                0x77 => registers[target] >>= number,
                0x57 => registers[target] &= number,
                0xb7 => registers[target] = number,
                JUMP_EQUAL => jump(registers[target] == number),
                JUMP_UNEQUAL => jump(registers[target] != number),
                0x95 => return registers[0] != 0,
                other => panic!("instruction {other:#x}"),
            }
        }
    }

    #[test]
    fn the_filter_allows_dockers_devices_and_no_others() {
        let (block, character) = (1, 2);
        let (make, read, read_write, all) = (1, 2, 6, 7);
        for minor in 0..300 {
            let memory = [3, 5, 7, 8, 9].contains(&minor);
            assert_eq!(allows(character, read_write, 1, minor), memory, "1:{minor}");
            assert_eq!(allows(character, read, 5, minor), minor <= 2, "5:{minor}");
            assert!(allows(character, read_write, 136, minor));
            assert!(allows(block, make, 254, minor) && allows(character, make, 243, minor));
            assert!(!allows(block, read, 254, minor) && !allows(block, read, 136, minor));
            assert!(!allows(character, read, 243, minor) && !allows(character, all, 243, minor));
        }
    }

    #[test]
    fn memory_is_spent_when_files_hold_next_to_none_of_it() {
        let stat = |file: u64| {
            format!("anon 33173504\nfile {file}\ninactive_file {file}\nactive_file 4096\n")
        };
        assert!(spent(&stat(49_152), 32 << 20));
        assert!(!spent(&stat(8 << 20), 32 << 20));
        assert!(!spent("", 0), "without a limit");
    }

    #[test]
    fn files_of_the_kernel_are_read() {
        assert_eq!(field("low 0\noom 3\noom_kill 2\n", "oom_kill"), Some(2));
        let io = "254:16 rbytes=100 wbytes=5 rios=1\n254:0 rbytes=7 wbytes=0\n";
        assert_eq!((total(io, "rbytes="), total(io, "wbytes=")), (107, 5));
        assert_eq!(number("max\n"), 0);
    }
}
