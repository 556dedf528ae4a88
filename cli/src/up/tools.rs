//! Programs and files that a cell needs on this machine, looked for before anything is started.

use anyhow::{Result, bail};
use std::path::{Path, PathBuf};

/// Program and the Debian package that has it.
const PROGRAMS: [(&str, &str); 4] = [
    ("qemu-system-x86_64", "qemu-system-x86"),
    ("qemu-img", "qemu-utils"),
    ("sqfstar", "squashfs-tools"),
    ("mkfs.ext4", "e2fsprogs"),
];

/// What hosts with namespaces need beside those.
pub const IP: (&str, &str) = ("ip", "iproute2");

const ASSETS: [&str; 3] = ["vmlinuz", "initramfs.img", "assets.json"];

/// Where system programs lie even if the user's PATH does not say so.
const SYSTEM_FOLDERS: [&str; 2] = ["/usr/sbin", "/sbin"];

/// Fails if a program is missing, naming all of them.
pub fn require(simulated: bool) -> Result<()> {
    let programs: &[_] = if simulated { &[] } else { &PROGRAMS };
    let missing: Vec<String> = programs
        .iter()
        .filter(|(program, _)| find(program).is_none())
        .map(|(program, package)| format!("{program} (package {package})"))
        .collect();
    if !missing.is_empty() {
        bail!(
            "missing on this machine: {}; `cargo xtask up` installs what is missing, or install \
             the packages yourself",
            missing.join(", ")
        );
    }
    Ok(())
}

/// PATH and the system folders: what a node needs to find its tools.
pub fn search_path() -> std::ffi::OsString {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = std::env::split_paths(&path).chain(SYSTEM_FOLDERS.iter().map(PathBuf::from));
    // A folder that cannot be joined came joined: then PATH was well as it is.
    std::env::join_paths(folders).unwrap_or(path)
}

/// The whole path of a program; system folders are searched even where PATH lacks them.
pub fn find(program: &str) -> Option<PathBuf> {
    std::env::split_paths(&search_path())
        .map(|folder| folder.join(program))
        .find(|file| is_program(file))
}

fn is_program(file: &Path) -> bool {
    file.is_file() && rustix::fs::access(file, rustix::fs::Access::EXEC_OK).is_ok()
}

/// Fails if `assets` lacks the guest kernel or the initramfs.
pub fn require_assets(assets: &Path) -> Result<()> {
    for name in ASSETS {
        let file = assets.join(name);
        if std::fs::metadata(&file).is_ok_and(|found| found.is_file() && found.len() > 0) {
            continue;
        }
        bail!(
            "{} is missing or empty; `cargo xtask up` makes the guest kernel and initramfs and passes \
                 their directory as --assets",
            file.display()
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_kernel_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let error = require_assets(folder.path()).unwrap_err().to_string();
        assert!(error.contains("vmlinuz is missing"), "{error}");
        for name in ASSETS {
            std::fs::write(folder.path().join(name), "").unwrap();
            assert!(require_assets(folder.path()).is_err(), "{name} is empty");
            std::fs::write(folder.path().join(name), "x").unwrap();
        }
        require_assets(folder.path()).unwrap();
    }

    #[test]
    fn a_program_is_found_by_name_and_a_plain_file_is_none() {
        assert!(find("sh").is_some());
        assert!(find("no-such-program-of-berth").is_none());
    }
}
