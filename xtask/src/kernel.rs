//! The guest's kernel: Debian's kernel for virtual machines, taken from its package.
//!
//! The package is unpacked into the cache and never installed; the machine's own kernel, boot loader
//! and modules stay what they are. Once there, a version is used until a refresh is asked for, so
//! that building needs no network.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::cache::Cache;
use crate::packages::{Apt, dependency_of};

/// A package without content that depends on the newest kernel.
const META_PACKAGE: &str = "linux-image-cloud-amd64";

pub struct Kernel {
    /// As `uname -r` prints it.
    pub release: String,
    pub image: PathBuf,
    pub modules: PathBuf,
}

/// The kernel from the cache, or from the archive.
pub fn prepare(cache: &Cache, apt: &Apt, refresh: bool) -> Result<Kernel> {
    let folder = Path::new("packages").join(META_PACKAGE);
    let unpacked = match cache.newest(&folder).filter(|_| !refresh) {
        Some(there) => there,
        None => {
            let package = apt
                .with_fresh_lists(|| dependency_of(META_PACKAGE, "linux-image-"))
                .context("cannot tell Debian's kernel for virtual machines")?;
            apt.fetch(cache, &folder, &package)?
        }
    };
    Kernel::in_package(&unpacked)
}

impl Kernel {
    fn in_package(unpacked: &Path) -> Result<Kernel> {
        let boot = unpacked.join("boot");
        let release = fs::read_dir(&boot)
            .with_context(|| format!("cannot read {}", boot.display()))?
            .filter_map(|file| file.ok()?.file_name().into_string().ok())
            .find_map(|name| name.strip_prefix("vmlinuz-").map(str::to_owned))
            .with_context(|| {
                format!("no kernel in {}; delete that directory and try again", unpacked.display())
            })?;
        let image = boot.join(format!("vmlinuz-{release}"));
        // A newer Debian may ship `lib` as a link to `usr/lib`, packages then only the latter.
        let roots = ["lib/modules", "usr/lib/modules"];
        let modules = roots
            .map(|root| unpacked.join(root).join(&release))
            .into_iter()
            .find(|folder| folder.is_dir())
            .with_context(|| format!("no modules of {release} in {}", unpacked.display()))?;
        Ok(Kernel { release, image, modules })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_release_is_read_from_the_name_of_the_image() {
        let folder = tempfile::tempdir().unwrap();
        for directory in ["boot", "usr/lib/modules/6.12.1-cloud-amd64"] {
            fs::create_dir_all(folder.path().join(directory)).unwrap();
        }
        fs::write(folder.path().join("boot/System.map-6.12.1-cloud-amd64"), "").unwrap();
        fs::write(folder.path().join("boot/vmlinuz-6.12.1-cloud-amd64"), "").unwrap();
        let kernel = Kernel::in_package(folder.path()).unwrap();
        assert_eq!(kernel.release, "6.12.1-cloud-amd64");
        assert!(kernel.modules.ends_with("usr/lib/modules/6.12.1-cloud-amd64"));
    }

    #[test]
    fn a_package_without_a_kernel_says_what_to_do() {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("boot")).unwrap();
        let error = Kernel::in_package(folder.path()).err().unwrap().to_string();
        assert!(error.contains("delete that directory"), "{error}");
    }
}
