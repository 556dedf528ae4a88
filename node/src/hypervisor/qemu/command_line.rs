//! QEMU's command line for one container VM. Pure: a plan and what the host found out go in, words
//! come out.
//!
//! Promises: every path is safe from QEMU's own syntax (JSON where QEMU takes it, commas doubled
//! elsewhere); the machine type is pinned, so that a restart under a newer QEMU gives the guest the
//! same machine; addresses of devices never depend on which optional devices there are.
//! Does not: look at files, or know how the process is started.

use crate::hypervisor::{CONSOLE_FILE, LaunchPlan};
use berth_model::Bytes;
use berth_model::container::NetworkMode;
use berth_model::guest::{AGENT_PORT, BASE_SERIAL, DELTA_SERIAL, LOG_PORT};
use berth_model::host::Accelerator;
use serde_json::json;
use std::ffi::OsString;
use std::ops::Range;
use std::path::{Path, PathBuf};

/// Slots behind which devices sit or can be plugged later: base, delta, nic, and room. There is no
/// entropy device: the node seeds a guest through its agent.
const ROOT_PORTS: u32 = 6;

/// What holds for every container VM of a host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Machine {
    /// Such as `pc-q35-7.2`.
    pub machine_type: String,
    pub accelerator: Accelerator,
    pub kernel: PathBuf,
    pub initramfs: PathBuf,
    /// Rate of the host's time stamp counter, which translated guests read as it is.
    pub tsc_khz: Option<u64>,
    pub user_network: UserNetwork,
}

/// What guests reach through the hypervisor's user-mode network.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum UserNetwork {
    /// What the node's own process could reach, the machine's loopback (as 10.0.2.2) included.
    /// Right where the node lives in a network namespace of its own.
    #[default]
    Open,
    /// Nothing at all: the device is there, but no packet leaves the host. For machines whose
    /// loopback serves what guests must not reach.
    Restricted,
}

/// File descriptors of listening sockets that the process inherits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Listeners {
    pub agent: i32,
    pub monitor: i32,
    /// For people with a question, while the node holds the other one.
    pub debug_monitor: i32,
}

/// The words behind the program's name.
pub fn words(machine: &Machine, plan: &LaunchPlan, listeners: Listeners) -> Vec<OsString> {
    let mut words = Words::default();
    words.machine(machine, &plan.name(), &plan.cpu_model, &plan.numa);
    words.processors_and_memory(plan.vcpus, plan.memory, &plan.numa);
    words.console_and_monitors(listeners);
    words.root_ports();
    words.agent_port(listeners);
    words.log_port(&plan.log);
    words.disks(plan);
    match plan.network {
        NetworkMode::None => {}
        NetworkMode::Egress => words.user_network(machine.user_network, plan.mac()),
    }
    words.0
}

/// The same machine with nothing but the agent in it, to see whether a guest comes up.
pub fn probe_words(machine: &Machine, listeners: Listeners) -> Vec<OsString> {
    let mut words = Words::default();
    words.machine(machine, "berth-probe", "host", &[]);
    words.processors_and_memory(1, Bytes::mib(128), &[]);
    words.console_and_monitors(listeners);
    words.agent_port(listeners);
    words.0
}

/// Which virtual CPUs each of the guest's NUMA nodes has: as evenly as they divide, the first ones
/// more; none where there are fewer than nodes.
pub fn processors_of_nodes(vcpus: u64, nodes: usize) -> Vec<Range<u64>> {
    let count = nodes.max(1) as u64;
    let start = |node: u64| node * (vcpus / count) + node.min(vcpus % count);
    (0..count).map(|node| start(node)..start(node + 1)).collect()
}

/// The guest kernel's command line.
///
/// Under translation the calibration loops cost most of a second and go wrong on a busy host, so
/// their results are handed in; a translated guest reads the host's own time stamp counter.
pub fn kernel_command_line(accelerator: Accelerator, tsc_khz: Option<u64>) -> String {
    let mut line = String::from("console=ttyS0 quiet panic=-1 8250.nr_uarts=1 audit=0");
    match accelerator {
        Accelerator::Kvm => {}
        Accelerator::Tcg | Accelerator::Simulated => {
            line.push_str(
                " no_timer_check random.trust_cpu=on mitigations=off nokaslr init_on_alloc=0 \
                 i8042.noaux i8042.nokbd cryptomgr.notests",
            );
            if let Some(khz) = tsc_khz {
                // A jiffy is 4 ms in this kernel.
                line.push_str(&format!(" tsc=reliable tsc_early_khz={khz} lpj={}", khz * 4));
            }
        }
    }
    line
}

fn accelerator(accelerator: Accelerator) -> &'static str {
    match accelerator {
        Accelerator::Kvm => "kvm",
        // Translated code is kept for reuse; 32 MiB hold what an ordinary container runs, where the
        // default of a quarter of the guest's memory is charged to nobody.
        Accelerator::Tcg | Accelerator::Simulated => "tcg,tb-size=32",
    }
}

#[derive(Default)]
struct Words(Vec<OsString>);

impl Words {
    fn flag(&mut self, flag: &str) {
        self.0.push(flag.into());
    }

    fn pair(&mut self, flag: &str, value: impl Into<OsString>) {
        self.0.push(flag.into());
        self.0.push(value.into());
    }

    fn json(&mut self, flag: &str, value: serde_json::Value) {
        self.pair(flag, value.to_string());
    }

    fn machine(&mut self, machine: &Machine, name: &str, cpu_model: &str, numa: &[u16]) {
        self.pair("-name", format!("guest={name},process=berth-vm"));
        self.flag("-nodefaults");
        self.flag("-no-user-config");
        self.flag("-no-reboot");
        self.pair("-display", "none");
        self.pair("-accel", accelerator(machine.accelerator));
        // Memory in several parts is named by the guest's NUMA nodes instead.
        let memory = if numa.len() > 1 { "" } else { "memory-backend=ram," };
        let devices = "sata=off,smm=off,vmport=off,usb=off";
        self.pair("-machine", format!("{},{memory}{devices}", machine.machine_type));
        self.pair("-cpu", cpu_model);
        self.pair("-kernel", &machine.kernel);
        self.pair("-initrd", &machine.initramfs);
        self.pair("-append", kernel_command_line(machine.accelerator, machine.tsc_khz));
    }

    /// `numa` are the host's nodes that memory is bound to. With more than one the guest has as many
    /// itself, each with its part of the virtual CPUs and of the memory.
    fn processors_and_memory(&mut self, vcpus: u64, memory: Bytes, numa: &[u16]) {
        // A socket that lay on two nodes would be a machine that nobody builds.
        let sockets = if numa.len() > 1 { vcpus } else { 1 };
        let cores = vcpus / sockets.max(1);
        self.pair(
            "-smp",
            format!("cpus={vcpus},maxcpus={vcpus},sockets={sockets},cores={cores},threads=1"),
        );
        let memory = memory.as_mib();
        self.pair("-m", format!("size={memory}M"));
        if numa.len() < 2 {
            self.memory_backend("ram", memory, numa.first().copied());
            return;
        }
        let part = memory / numa.len() as u64;
        for (at, (node, range)) in
            numa.iter().zip(processors_of_nodes(vcpus, numa.len())).enumerate()
        {
            // The last has what does not divide.
            let size = if at + 1 == numa.len() { memory - part * at as u64 } else { part };
            self.memory_backend(&format!("ram{at}"), size, Some(*node));
            let mut words = format!("node,nodeid={at},memdev=ram{at}");
            if !range.is_empty() {
                words.push_str(&format!(",cpus={}-{}", range.start, range.end - 1));
            }
            self.pair("-numa", words);
        }
    }

    fn memory_backend(&mut self, id: &str, mib: u64, node: Option<u16>) {
        let mut backend = json!({ "qom-type": "memory-backend-ram", "id": id, "size": mib << 20 });
        if let Some(node) = node {
            backend["host-nodes"] = json!([node]);
            backend["policy"] = json!("bind");
        }
        self.json("-object", backend);
    }

    fn console_and_monitors(&mut self, listeners: Listeners) {
        self.pair("-chardev", format!("file,id=console,path={CONSOLE_FILE},append=on"));
        self.pair("-serial", "chardev:console");
        for (id, fd) in [("monitor", listeners.monitor), ("debug-monitor", listeners.debug_monitor)]
        {
            self.pair("-chardev", format!("socket,id={id},fd={fd},server=on,wait=off"));
            self.pair("-mon", format!("chardev={id},mode=control"));
        }
    }

    fn root_ports(&mut self) {
        for port in 0..ROOT_PORTS {
            self.json(
                "-device",
                json!({
                    "driver": "pcie-root-port", "id": format!("rp{port}"), "bus": "pcie.0",
                    "chassis": port + 1, "slot": port + 1, "addr": format!("{:#x}", port + 2),
                }),
            );
        }
    }

    fn agent_port(&mut self, listeners: Listeners) {
        self.json(
            "-device",
            json!({
                "driver": "virtio-serial-pci", "id": "serial", "bus": "pcie.0", "addr": "0x1e",
                "max_ports": 4,
            }),
        );
        self.pair("-chardev", format!("socket,id=agent,fd={},server=on,wait=off", listeners.agent));
        self.json(
            "-device",
            json!({
                "driver": "virtserialport", "bus": "serial.0", "nr": 1, "chardev": "agent",
                "name": AGENT_PORT,
            }),
        );
    }

    fn log_port(&mut self, log: &Path) {
        let mut chardev = OsString::from("file,id=log,append=on,path=");
        chardev.push(doubled_commas(log));
        self.pair("-chardev", chardev);
        self.json(
            "-device",
            json!({
                "driver": "virtserialport", "bus": "serial.0", "nr": 2, "chardev": "log",
                "name": LOG_PORT,
            }),
        );
    }

    fn disks(&mut self, plan: &LaunchPlan) {
        self.json(
            "-blockdev",
            json!({
                "driver": "raw", "node-name": "base", "read-only": true,
                "file": { "driver": "file", "filename": path_text(&plan.base), "locking": "on" },
            }),
        );
        self.json(
            "-device",
            json!({
                "driver": "virtio-blk-pci", "id": "base-disk", "drive": "base", "bus": "rp0",
                "serial": BASE_SERIAL,
            }),
        );
        self.json(
            "-blockdev",
            json!({
                "driver": "qcow2", "node-name": "delta", "discard": "unmap",
                "file": {
                    "driver": "file", "filename": path_text(&plan.delta), "locking": "on",
                    "discard": "unmap",
                },
            }),
        );
        self.json(
            "-device",
            json!({
                "driver": "virtio-blk-pci", "id": "delta-disk", "drive": "delta", "bus": "rp1",
                "serial": DELTA_SERIAL, "discard": true,
            }),
        );
    }

    fn user_network(&mut self, network: UserNetwork, mac: [u8; 6]) {
        let restricted = match network {
            UserNetwork::Open => false,
            UserNetwork::Restricted => true,
        };
        self.json(
            "-netdev",
            json!({
                "type": "user", "id": "nic", "restrict": restricted, "ipv6": false,
            }),
        );
        self.json(
            "-device",
            json!({
                "driver": "virtio-net-pci", "id": "nic-device", "netdev": "nic", "bus": "rp2",
                "mac": mac_text(mac), "romfile": "",
            }),
        );
    }
}

fn mac_text(mac: [u8; 6]) -> String {
    mac.map(|byte| format!("{byte:02x}")).join(":")
}

/// JSON holds text only; a path of ours that is no UTF-8 is refused when options are checked.
fn path_text(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}

/// QEMU's option syntax ends a value at a comma; a doubled one stands for itself.
fn doubled_commas(path: &Path) -> OsString {
    path_text(path).replace(',', ",,").into()
}

#[cfg(test)]
mod tests;
