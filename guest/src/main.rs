//! The agent inside a container VM: PID 1 of the initramfs.
//!
//! The story, in the order of the modules: [`boot`] mounts the kernel's file systems and loads
//! modules; [`devices`] finds the agent's port by name; then [`agent`] obeys the node: on `Setup` it
//! mounts the disks ([`root`]), sets up [`network`] and [`cgroup`], starts the process
//! ([`container`]), carries its output into the log ([`output`]) and its input to it, and when it
//! has ended unmounts, says so and cuts the power ([`power`]).
//!
//! Promises: whatever happens, this process ends in a power-off with the reason on the console. It
//! trusts the node; it does not trust the container, which is kept off the agent's files, ports and
//! memory by namespaces, capabilities and a device filter. The VM is the boundary towards the host.

mod account;
mod agent;
mod boot;
mod calls;
mod capabilities;
mod cgroup;
mod clock;
mod container;
mod devices;
mod environment;
mod host_files;
mod network;
mod output;
mod power;
mod program;
mod root;
mod source;
mod stall;
mod stdin;
mod trouble;

fn main() {
    // On any other machine a power-off at the end would be a calamity.
    if std::process::id() != 1 {
        eprintln!("berth-guest is PID 1 of a container VM and does nothing anywhere else");
        std::process::exit(1);
    }
    power::panic_means_power_off();
    let reason = match boot::boot().and_then(agent::run) {
        Ok(why) => why.to_string(),
        Err(trouble) => trouble.text(),
    };
    power::off(&reason)
}
