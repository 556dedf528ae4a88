//! Boots the agent in real guests and holds it to what it promises.
//!
//! `cargo run -p berth-guest --example real_guest -- KERNEL_PACKAGE AGENT WORK [CASE...]`: the
//! directory that Debian's kernel package was unpacked to, the static agent, a directory for disks
//! and logs, and the cases to run (all if none is named). Needs QEMU, squashfs-tools, e2fsprogs and
//! busybox-static. Prints one line a case; ends with 1 if one failed.
#![expect(clippy::print_stdout, reason = "a program for people")]

mod cases;
mod disks;
mod initramfs;
mod machine;
mod qemu;

use machine::Parts;
use std::path::PathBuf;
use std::time::{Duration, Instant};

pub type Outcome<T> = Result<T, Box<dyn std::error::Error>>;

fn main() -> Outcome<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [kernel_package, agent, work, wanted @ ..] = &arguments[..] else {
        return Err("usage: real_guest KERNEL_PACKAGE AGENT WORK [CASE...]".into());
    };
    let (kernel_package, work) = (PathBuf::from(kernel_package), PathBuf::from(work));
    std::fs::create_dir_all(&work)?;
    // Disks name each other by path.
    let work = work.canonicalize()?;
    let initramfs = work.join("initramfs");
    initramfs::write(&initramfs, agent.as_ref(), &kernel_package)?;
    let (base, blank) = disks::make(&work)?;
    let kernel = match std::env::var_os("REAL_GUEST_KERNEL") {
        Some(path) => path.into(),
        None => std::fs::read_dir(kernel_package.join("boot"))?
            .filter_map(Result::ok)
            .map(|entry| entry.path())
            .find(|path| {
                path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("vmlinuz"))
            })
            .ok_or("the kernel package holds no vmlinuz")?,
    };
    let parts = Parts { work, kernel, initramfs, agent: agent.into(), base, blank };
    let mut failed = 0;
    for (name, case) in cases::CASES {
        if !wanted.is_empty() && !wanted.iter().any(|one| one == name) {
            continue;
        }
        let begun = now();
        match case(&parts) {
            Ok(note) => println!("ok    {name} ({:.2} s) {note}", begun.elapsed().as_secs_f64()),
            Err(error) => {
                failed += 1;
                println!("FAIL  {name}: {error}");
            }
        }
    }
    if failed > 0 {
        return Err(format!("{failed} cases failed").into());
    }
    Ok(())
}

#[expect(clippy::disallowed_methods, reason = "measures, and waits with a deadline")]
pub fn now() -> Instant {
    Instant::now()
}

/// How fast this machine's time stamp counter runs: a guest without hardware virtualisation reads
/// the same one, and need not find out by itself.
#[expect(unsafe_code, reason = "the instruction has no safe wrapper")]
pub fn tsc_khz() -> u64 {
    static KHZ: std::sync::OnceLock<u64> = std::sync::OnceLock::new();
    *KHZ.get_or_init(|| {
        // SAFETY: every x86-64 processor has it.
        let count = || unsafe { std::arch::x86_64::_rdtsc() };
        let (begun, first) = (now(), count());
        while begun.elapsed() < Duration::from_millis(50) {
            std::hint::spin_loop();
        }
        let (ticks, took) = (count() - first, begun.elapsed());
        (u128::from(ticks) * 1_000_000 / took.as_nanos()) as u64
    })
}
