//! Whether KVM really runs a guest here: a device file proves nothing, so one is booted.
//!
//! Promises: the answer comes within a few seconds; a guest that hangs is ended; the answer is kept
//! for this boot of the machine and this QEMU, kernel and agent, and asked for anew when one changes.
//! Does not: tell why KVM does not work.

use super::command_line::{self, Machine};
use super::{QemuOptions, launch, process};
use crate::hypervisor::RunningVm as _;
use berth_model::guest::{GuestToHost, PROTOCOL_MAX, PROTOCOL_MIN};
use berth_model::host::Accelerator;
use berth_wire::channel::{Endpoint, TO_HOST_MESSAGE_MAX};
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

/// With the hardware's help the agent answers in well under one second.
const LIMIT: Duration = Duration::from_secs(5);
const FILE: &str = "accelerator.json";

/// What was found, and what it holds for.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Finding {
    boot_id: String,
    hypervisor: String,
    kernel: Stamp,
    initramfs: Stamp,
    accelerator: Accelerator,
}

/// Changes whenever a file does.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Stamp {
    length: u64,
    modified_ns: i64,
    modified_s: i64,
}

pub async fn accelerator(options: &QemuOptions, machine: &Machine, version: &str) -> Accelerator {
    if std::fs::File::options().read(true).write(true).open("/dev/kvm").is_err() {
        return Accelerator::Tcg;
    }
    let file = options.state_directory.join(FILE);
    let mut finding = Finding {
        boot_id: process::boot_id().unwrap_or_default(),
        hypervisor: format!("{version} {}", machine.machine_type),
        kernel: stamp(&machine.kernel),
        initramfs: stamp(&machine.initramfs),
        accelerator: Accelerator::Tcg,
    };
    for accelerator in [Accelerator::Kvm, Accelerator::Tcg] {
        finding.accelerator = accelerator;
        if kept(&file).as_ref() == Some(&finding) {
            return accelerator;
        }
    }
    finding.accelerator = if boots_under_kvm(options, machine).await {
        Accelerator::Kvm
    } else {
        tracing::warn!("a guest does not come up under KVM here, so guests are translated");
        Accelerator::Tcg
    };
    if let Err(error) = keep(&file, &finding) {
        // It costs a few seconds at the next start, no more.
        tracing::warn!(file = %file.display(), %error, "cannot keep what the probe found");
    }
    finding.accelerator
}

async fn boots_under_kvm(options: &QemuOptions, machine: &Machine) -> bool {
    let run_directory =
        options.state_directory.join(format!("probe.{}", crate::randomness::word()));
    let answered = async {
        std::fs::create_dir_all(&run_directory).ok()?;
        let machine = Machine { accelerator: Accelerator::Kvm, ..machine.clone() };
        let free = Default::default();
        let words = |listeners| command_line::probe_words(&machine, listeners);
        let vm = launch(&options.program, &run_directory, LIMIT, free, words).await.ok()?;
        let heard = tokio::time::timeout(LIMIT, agent_answers(&vm)).await.is_ok_and(|heard| heard);
        vm.power_off().await;
        vm.ended().await;
        heard.then_some(())
    };
    let works = answered.await.is_some();
    if let Err(error) = std::fs::remove_dir_all(&run_directory) {
        tracing::warn!(directory = %run_directory.display(), %error, "cannot remove");
    }
    works
}

async fn agent_answers(vm: &super::QemuVm) -> bool {
    let Ok(mut stream) = vm.guest_link().await else { return false };
    let mut endpoint = Endpoint::host(PROTOCOL_MIN..=PROTOCOL_MAX);
    endpoint.reconnected(rand::random());
    let mut buffer = vec![0; 16 << 10];
    loop {
        let outgoing = endpoint.outgoing();
        let length = outgoing.len();
        if stream.write_all(outgoing).await.is_err() {
            return false;
        }
        endpoint.written(length);
        match stream.read(&mut buffer).await {
            Ok(count @ 1..) if endpoint.receive(&buffer[..count]).is_ok() => {}
            Ok(_) | Err(_) => return false,
        }
        while let Some(message) = endpoint.pop() {
            let message = berth_wire::codec::decode(&message, TO_HOST_MESSAGE_MAX);
            if matches!(message, Ok(GuestToHost::Ready { .. })) {
                return true;
            }
        }
    }
}

fn stamp(path: &Path) -> Stamp {
    use std::os::unix::fs::MetadataExt as _;
    match std::fs::metadata(path) {
        Ok(metadata) => Stamp {
            length: metadata.len(),
            modified_s: metadata.mtime(),
            modified_ns: metadata.mtime_nsec(),
        },
        Err(_) => Stamp { length: 0, modified_s: 0, modified_ns: 0 },
    }
}

fn kept(file: &Path) -> Option<Finding> {
    serde_json::from_slice(&std::fs::read(file).ok()?).ok()
}

fn keep(file: &PathBuf, finding: &Finding) -> std::io::Result<()> {
    std::fs::write(file, serde_json::to_vec_pretty(finding)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_finding_is_kept_until_something_changes() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join(FILE);
        assert_eq!(kept(&file), None);
        let finding = || Finding {
            boot_id: "a".to_owned(),
            hypervisor: "7.2".to_owned(),
            kernel: stamp(Path::new("/proc/self/exe")),
            initramfs: stamp(Path::new("/none")),
            accelerator: Accelerator::Kvm,
        };
        keep(&file, &finding()).unwrap();
        assert_eq!(kept(&file), Some(finding()));
        assert_ne!(kept(&file), Some(Finding { boot_id: "b".to_owned(), ..finding() }));
    }
}
