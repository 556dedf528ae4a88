//! The end of the VM: power off, with the reason on the console.

use rustix::system::{RebootCommand, reboot};

/// Syncs and cuts the power. Should the kernel refuse, PID 1 ends, which panics the kernel, and
/// `panic=-1` on its command line ends the VM.
pub fn off(reason: &str) -> ! {
    say(&format!("power off: {reason}"));
    rustix::fs::sync();
    if let Err(refused) = reboot(RebootCommand::PowerOff) {
        say(&format!("power-off was refused: {refused}"));
    }
    std::process::abort()
}

/// A panic of the agent ends the VM. A crash does so by itself: the kernel panics without PID 1.
pub fn panic_means_power_off() {
    std::panic::set_hook(Box::new(|panic| off(&format!("the agent panicked: {panic}"))));
}

/// One line on the console, which the node keeps as a file.
pub fn say(text: &str) {
    eprintln!("berth-guest: {text}");
}
