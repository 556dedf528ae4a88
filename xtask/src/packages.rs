//! Debian packages: installs what is missing on the search path, and unpacks into the cache what must
//! not be installed (a guest's kernel, programs that only the tests call).
//!
//! Nothing is ever removed or upgraded on purpose, and only packages of [`crate::tools`] are
//! installed. Package lists are refreshed once, and only when they are missing or something was not
//! found or could not be fetched. Downloading needs no rights; installing needs root or sudo, and
//! without either the answer is the line to type.

use std::cell::Cell;
use std::fs;
use std::io::IsTerminal;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

use crate::cache::{self, Cache};
use crate::process::{capture, command, find, succeed};
use crate::steps::say;
use crate::tools::{QEMU, Tool};

pub struct Apt {
    may_install: bool,
    lists_are_fresh: Cell<bool>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Authority {
    Root,
    Sudo,
    Nobody,
}

impl Apt {
    pub fn new(may_install: bool) -> Apt {
        Apt { may_install, lists_are_fresh: Cell::new(false) }
    }

    /// Makes sure that every tool is on the search path.
    ///
    /// QEMU goes first and alone: where `qemu-utils` came from a newer archive than the one that
    /// offers `qemu-system-x86`, asking for both at once is refused, while installing the latter may
    /// take the former away. So what is missing is looked at again after each installation.
    pub fn ensure(&self, tools: &[Tool]) -> Result<()> {
        let missing = missing_of(tools);
        if missing.is_empty() {
            return Ok(());
        }
        say("needed on this machine and not there:");
        for tool in &missing {
            eprintln!("   {:20} {} (package {})", tool.program, tool.why, tool.package);
        }
        if !self.may_install || find("apt-get").is_none() || authority() == Authority::Nobody {
            bail!("{}", what_to_install(&missing));
        }
        let (first, _): (Vec<Tool>, Vec<Tool>) =
            missing.iter().partition(|tool| tool.program == QEMU);
        if !first.is_empty() {
            self.install(&first)?;
        }
        let rest = missing_of(tools);
        if !rest.is_empty() {
            self.install(&rest)?;
        }
        let still = missing_of(tools);
        if !still.is_empty() {
            bail!("installed, and still not found; {}", what_to_install(&still));
        }
        Ok(())
    }

    /// The newest version of a package that the cache has, else fetched from the archive and unpacked
    /// there. `refresh` asks the archive even so.
    pub fn unpacked(&self, cache: &Cache, package: &str, refresh: bool) -> Result<PathBuf> {
        let folder = Path::new("packages").join(package);
        match cache.newest(&folder).filter(|_| !refresh) {
            Some(there) => Ok(there),
            None => self.fetch(cache, &folder, package),
        }
    }

    /// Downloads a package and unpacks it below `folder`, under the name of its version.
    pub fn fetch(&self, cache: &Cache, folder: &Path, package: &str) -> Result<PathBuf> {
        say(&format!("fetching the package {package} (unpacked into the cache, not installed)"));
        let download = cache.path(folder.join(cache::partial("download")));
        let outcome = self.download(&download, package).and_then(|file| {
            let entry = folder.join(version_of(&file)?);
            if cache.path(&entry).is_dir() {
                return Ok(cache.path(&entry));
            }
            cache
                .publish(&entry, |root| succeed(command("dpkg-deb").arg("-x").arg(&file).arg(root)))
        });
        if download.exists() {
            fs::remove_dir_all(&download)?;
        }
        outcome
    }

    /// Runs `attempt` once more, after refreshing the package lists, if it fails.
    pub fn with_fresh_lists<T>(&self, attempt: impl Fn() -> Result<T>) -> Result<T> {
        if !lists_exist() {
            self.refresh_lists()?;
        }
        attempt().or_else(|error| {
            say(&format!("{error:#}; trying once more"));
            self.refresh_lists()?;
            attempt()
        })
    }

    fn download(&self, folder: &Path, package: &str) -> Result<PathBuf> {
        self.with_fresh_lists(|| {
            if folder.exists() {
                fs::remove_dir_all(folder)?;
            }
            fs::create_dir_all(folder)?;
            // As root, apt would hand the download to a user who may not write here, and warn.
            let mut apt = command("apt-get");
            apt.args(["-q", "-o", "APT::Sandbox::User=root", "download", package]);
            succeed(apt.current_dir(folder).stdout(Stdio::from(std::io::stderr())))?;
            let files = fs::read_dir(folder)?.collect::<Result<Vec<_>, _>>()?;
            let file = files.into_iter().map(|file| file.path()).find(|file| is_package(file));
            file.context("apt-get said it downloaded the package, but there is no file")
        })
        .with_context(|| {
            format!("cannot download the Debian package {package}; is the archive reachable?")
        })
    }

    fn install(&self, tools: &[Tool]) -> Result<()> {
        let packages = packages_of(tools);
        say(&format!("installing {}", packages.join(" ")));
        self.with_fresh_lists(|| {
            let mut apt = privileged(&["DEBIAN_FRONTEND=noninteractive", "apt-get"]);
            apt.args(["-q", "-y", "--no-install-recommends", "-o", "DPkg::Lock::Timeout=300"]);
            apt.args(["-o", "Dpkg::Use-Pty=0", "install"]).args(&packages);
            succeed(apt.stdin(Stdio::null()).stdout(Stdio::from(std::io::stderr())))
        })
        .with_context(|| format!("cannot install {}", packages.join(" ")))
    }

    /// Refreshes the package lists, at most once. Some archive of the machine may be out of order
    /// without being one that we need, so a failure is only told.
    fn refresh_lists(&self) -> Result<()> {
        if self.lists_are_fresh.replace(true) {
            return Ok(());
        }
        if !self.may_install || authority() == Authority::Nobody {
            say("the package lists may be old; `sudo apt-get update` refreshes them");
            return Ok(());
        }
        say("refreshing the package lists");
        let mut apt = privileged(&["apt-get", "-q", "update"]);
        if let Err(error) = succeed(apt.stdout(Stdio::from(std::io::stderr()))) {
            say(&format!("{error:#}; going on with the lists that are there"));
        }
        Ok(())
    }
}

/// The concrete package that a meta-package stands for: its dependency that starts with `prefix`.
pub fn dependency_of(meta: &str, prefix: &str) -> Result<String> {
    let answer = capture(command("apt-cache").args(["depends", "--important", meta]))?;
    find_dependency(&answer, prefix)
        .with_context(|| format!("the package {meta} is unknown here or depends on no {prefix}…"))
}

/// Whether the package lists of this machine have the package.
pub fn is_known(package: &str) -> bool {
    let mut show = command("apt-cache");
    show.args(["show", package]).stdout(Stdio::null()).stderr(Stdio::null());
    show.status().is_ok_and(|status| status.success())
}

pub fn is_root() -> bool {
    fs::metadata("/proc/self").is_ok_and(|this| this.uid() == 0)
}

fn authority() -> Authority {
    if is_root() {
        return Authority::Root;
    }
    if find("sudo").is_none() {
        return Authority::Nobody;
    }
    // With a terminal sudo may ask for the password, else it must not need one.
    let silent = || command("sudo").args(["-n", "true"]).stderr(Stdio::null()).status();
    if std::io::stdin().is_terminal() || silent().is_ok_and(|status| status.success()) {
        Authority::Sudo
    } else {
        Authority::Nobody
    }
}

/// A command line run by `env` as root; the caller has made sure that this is allowed.
fn privileged(words: &[&str]) -> Command {
    let mut run = if is_root() {
        command("env")
    } else {
        let mut sudo = command("sudo");
        sudo.arg("env");
        sudo
    };
    run.args(words);
    run
}

fn missing_of(tools: &[Tool]) -> Vec<Tool> {
    tools.iter().copied().filter(|tool| find(tool.program).is_none()).collect()
}

fn packages_of(tools: &[Tool]) -> Vec<&'static str> {
    let mut packages: Vec<&str> = tools.iter().map(|tool| tool.package).collect();
    packages.sort_unstable();
    packages.dedup();
    packages
}

fn what_to_install(missing: &[Tool]) -> String {
    let programs: Vec<&str> = missing.iter().map(|tool| tool.program).collect();
    format!(
        "missing: {}; on Debian, as root: apt-get install --no-install-recommends {}",
        programs.join(", "),
        packages_of(missing).join(" ")
    )
}

fn lists_exist() -> bool {
    fs::read_dir("/var/lib/apt/lists").is_ok_and(|files| {
        files.filter_map(|file| file.ok()).any(|file| {
            let name = file.file_name();
            name.to_string_lossy().contains("_Packages")
        })
    })
}

fn is_package(file: &Path) -> bool {
    file.extension().is_some_and(|extension| extension == "deb")
}

/// `name_version_arch.deb`, where apt writes a colon as `%3a`.
fn version_of(file: &Path) -> Result<String> {
    let name = file.file_stem().and_then(|stem| stem.to_str()).unwrap_or_default();
    match name.split('_').collect::<Vec<_>>()[..] {
        [package, version, architecture] => Ok(format!("{package}_{version}_{architecture}")),
        _ => bail!("{} is not named as a Debian package is", file.display()),
    }
}

fn find_dependency(answer: &str, prefix: &str) -> Option<String> {
    answer.lines().find_map(|line| {
        let (kind, package) = line.trim_start().trim_start_matches('|').split_once(": ")?;
        (kind == "Depends" && package.starts_with(prefix)).then(|| package.trim().to_owned())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const QEMU_SYSTEM: Tool = Tool { program: QEMU, package: "qemu-system-x86", why: "" };

    #[test]
    fn the_concrete_kernel_is_read_from_the_dependencies() {
        let answer = "linux-image-cloud-amd64\n  Depends: linux-image-6.1.0-56-cloud-amd64\n";
        let found = find_dependency(answer, "linux-image-");
        assert_eq!(found.as_deref(), Some("linux-image-6.1.0-56-cloud-amd64"));
    }

    #[test]
    fn of_alternatives_the_first_is_taken() {
        let answer = "meta\n |Depends: linux-image-a\n  Depends: linux-image-b\n";
        assert_eq!(find_dependency(answer, "linux-image-").as_deref(), Some("linux-image-a"));
    }

    #[test]
    fn another_kind_of_relation_is_no_dependency() {
        let answer = "meta\n  Depends: <linux-image>\n  Suggests: linux-image-a\n";
        assert_eq!(find_dependency(answer, "linux-image-"), None);
    }

    #[test]
    fn what_is_missing_is_said_as_a_line_to_type() {
        let other = Tool { program: "qemu-img", package: "qemu-utils", why: "" };
        let text = what_to_install(&[other, QEMU_SYSTEM, other]);
        assert!(text.ends_with("--no-install-recommends qemu-system-x86 qemu-utils"), "{text}");
        assert!(text.starts_with("missing: qemu-img, qemu-system-x86_64"), "{text}");
    }

    #[test]
    fn without_leave_to_install_a_missing_tool_is_an_error() {
        let tool = Tool { program: "no-such-program-anywhere", package: "none", why: "a test" };
        let error = Apt::new(false).ensure(&[tool]).unwrap_err().to_string();
        assert!(error.contains("missing: no-such-program-anywhere"), "{error}");
    }

    #[test]
    fn a_package_file_tells_its_version() {
        let version = version_of(Path::new("/x/qemu_1%3a7.2+dfsg-7_amd64.deb")).unwrap();
        assert_eq!(version, "qemu_1%3a7.2+dfsg-7_amd64");
        assert!(version_of(Path::new("/x/other.deb")).is_err());
    }
}
