//! The machine as QEMU is told it: the layout that a node uses too.

use crate::machine::Parts;
use crate::{Outcome, tsc_khz};
use berth_model::guest::{AGENT_PORT, BASE_SERIAL, DELTA_SERIAL, LOG_PORT};
use std::env;
use std::fs::File;
use std::path::Path;
use std::process::{Command, Stdio};

/// What a machine has from the start.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Devices {
    All,
    AllButDelta,
    AgentPort,
}

/// The command that boots a machine whose files are in `directory`.
pub fn command(
    parts: &Parts,
    directory: &Path,
    memory_mib: u32,
    devices: Devices,
) -> Outcome<Command> {
    let at = |file: &str| directory.join(file).display().to_string();
    let mut qemu = Command::new("qemu-system-x86_64");
    let set = |name: &str, default: &str| env::var(name).unwrap_or_else(|_| default.to_string());
    qemu.arg("-machine")
        .arg(set("REAL_GUEST_MACHINE", "q35,sata=off,smbus=off,vmport=off,i8042=off,smm=off"));
    qemu.arg("-cpu").arg(set("REAL_GUEST_CPU", "qemu64"));
    qemu.args(["-accel", "tcg", "-smp", "1", "-m", &memory_mib.to_string()]);
    qemu.args(["-nodefaults", "-nographic", "-no-reboot"]);
    let mut pair = |flag: &str, value: String| {
        qemu.arg(flag).arg(value);
    };
    pair("-chardev", format!("file,id=console,path={},append=on", at("console.log")));
    pair("-serial", "chardev:console".to_string());
    pair("-qmp", format!("unix:{},server=on,wait=off", at("qmp")));
    for port in 0..4 {
        let (chassis, slot) = (port + 1, port + 2);
        let place = format!("bus=pcie.0,addr={slot:x},chassis={chassis},slot={chassis}");
        pair("-device", format!("pcie-root-port,id=rp{port},{place}"));
    }
    pair("-device", "virtio-serial-pci,id=serial,bus=pcie.0,addr=1e,max_ports=4".to_string());
    pair("-chardev", format!("socket,id=agent,path={},server=on,wait=off", at("agent")));
    let port = |number: u32, chardev: &str, name: &str| {
        format!("virtserialport,bus=serial.0,nr={number},chardev={chardev},name={name}")
    };
    pair("-device", port(1, "agent", AGENT_PORT));
    if devices != Devices::AgentPort {
        pair("-chardev", format!("file,id=log,path={},append=on", at("log")));
        pair("-device", port(2, "log", LOG_PORT));
        let file = format!("file.driver=file,file.filename={}", parts.base.display());
        pair("-blockdev", format!("driver=raw,node-name=base,read-only=on,{file}"));
        pair("-device", format!("virtio-blk-pci,bus=rp0,drive=base,serial={BASE_SERIAL}"));
        let file = format!("file.driver=file,file.filename={}", at("delta.qcow2"));
        pair("-blockdev", format!("driver=qcow2,node-name=delta,discard=unmap,{file}"));
        pair("-netdev", "user,id=net".to_string());
        let nic = "virtio-net-pci,bus=rp2,netdev=net,mac=52:54:00:00:00:50,romfile=";
        pair("-device", nic.to_string());
    }
    if devices == Devices::All {
        pair("-device", format!("virtio-blk-pci,bus=rp1,drive=delta,serial={DELTA_SERIAL}"));
    }
    qemu.arg("-kernel").arg(&parts.kernel).arg("-initrd").arg(&parts.initramfs);
    qemu.arg("-append").arg(set("REAL_GUEST_APPEND", &kernel_command_line()));
    qemu.args(env::var("REAL_GUEST_QEMU").unwrap_or_default().split_whitespace());
    qemu.stdin(Stdio::null()).stdout(Stdio::null()).stderr(File::create(at("qemu.err"))?);
    Ok(qemu)
}

/// The best found for one virtual CPU without hardware virtualisation; guest/README.md says why.
fn kernel_command_line() -> String {
    let khz = tsc_khz();
    format!(
        "console=ttyS0 quiet panic=-1 no_timer_check tsc=reliable tsc_early_khz={khz} lpj={} \
         nolapic_timer noreplace-smp nokaslr mitigations=off init_on_alloc=0 audit=0 \
         lsm=landlock random.trust_cpu=on rcupdate.rcu_expedited=1 pcie_ports=compat \
         8250.nr_uarts=1 i8042.noaux i8042.nokbd cryptomgr.notests",
        khz * 4
    )
}
