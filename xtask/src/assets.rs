//! What a host needs to start a container VM: `vmlinuz`, `initramfs.img` and `assets.json`, which
//! says what the two are made of: `{kernel_release, kernel_sha256, agent_sha256}`.
//!
//! The directory is named after its content, so an asset never changes under a running container VM
//! and is only made again when kernel, agent or modules did change.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use serde_json::json;
use sha2::{Digest, Sha256};

use crate::cache::Cache;
use crate::cargo::Workspace;
use crate::elf;
use crate::initramfs;
use crate::kernel::{self, Kernel};
use crate::kernel_modules::{ModuleTree, parse_wanted};
use crate::packages::Apt;
use crate::steps::Steps;

/// Raised when the layout of the initramfs changes.
const LAYOUT: u32 = 1;

/// Fetches the kernel, builds the agent, and returns the directory.
pub fn prepare(
    steps: &mut Steps,
    workspace: &Workspace,
    cache: &Cache,
    apt: &Apt,
    refresh: bool,
) -> Result<PathBuf> {
    if !cfg!(all(target_arch = "x86_64", target_os = "linux")) {
        bail!("berth runs on x86-64 Linux only");
    }
    let kernel =
        steps.step("guest kernel", "Debian's archive must be reachable the first time", || {
            kernel::prepare(cache, apt, refresh)
        })?;
    let agent =
        steps.step("guest agent", "fix the crate berth-guest", || workspace.build_guest())?;
    steps.step("initramfs", "see which module or file is named below", || {
        let modules = workspace.root.join("guest/modules.txt");
        let modules = fs::read_to_string(&modules)
            .with_context(|| format!("cannot read {}", modules.display()))?;
        assemble(cache, &kernel, &agent, &parse_wanted(&modules))
    })
}

fn assemble(cache: &Cache, kernel: &Kernel, agent: &Path, wanted: &[String]) -> Result<PathBuf> {
    let image = read(&kernel.image)?;
    let agent_bytes = read(agent)?;
    if !elf::is_static_program(&agent_bytes) {
        bail!("{} is not static, the guest could not start it", agent.display());
    }
    let about = json!({
        "kernel_release": kernel.release,
        "kernel_sha256": hex::encode(Sha256::digest(&image)),
        "agent_sha256": hex::encode(Sha256::digest(&agent_bytes)),
    });
    let about = format!("{about:#}\n");
    let key = Sha256::digest(format!("{LAYOUT}\n{about}{}", wanted.join("\n")));
    let entry = Path::new("assets").join(hex::encode(&key[..8]));
    if cache.path(&entry).is_dir() {
        return Ok(cache.path(&entry));
    }
    let modules = ModuleTree::read(&kernel.modules)?.load_order(wanted)?;
    let initramfs = initramfs::build(&agent_bytes, &modules)?;
    cache.publish(&entry, |folder| {
        let files = [
            ("vmlinuz", image.as_slice()),
            ("initramfs.img", &initramfs),
            ("assets.json", about.as_bytes()),
        ];
        for (name, bytes) in files {
            let file = folder.join(name);
            fs::write(&file, bytes).with_context(|| format!("cannot write {}", file.display()))?;
        }
        Ok(())
    })
}

fn read(file: &Path) -> Result<Vec<u8>> {
    fs::read(file).with_context(|| format!("cannot read {}", file.display()))
}
