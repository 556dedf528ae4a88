//! Debian file systems, made by mmdebstrap from the package archive.
//!
//! A file system with more packages is made from the ground as well, not on top of another: the upper
//! layer of an image is then the difference of two trees, and nothing is run here as root that
//! mmdebstrap does not run anyway.

use std::fs::{self, File};
use std::path::Path;

use anyhow::{Context, Result};

use crate::images::recipes::{EPOCH, SUITE};
use crate::images::tree::Tree;
use crate::process::{command, succeed};
use crate::steps::say;

/// As in the small variants of Debian's own images: licences stay, the rest of the documents goes.
const LEAN: [&str; 5] = [
    "path-exclude=/usr/share/man/*",
    "path-exclude=/usr/share/locale/*",
    "path-exclude=/usr/share/info/*",
    "path-exclude=/usr/share/doc/*",
    "path-include=/usr/share/doc/*/copyright",
];

/// What mmdebstrap leaves of the machine or of the moment.
const TRACES: [&str; 3] = ["etc/hostname", "etc/resolv.conf", "var/cache/ldconfig/aux-cache"];

/// Makes the file system with these packages and all that they need.
pub fn bootstrap(work: &Path, packages: &[&str]) -> Result<Tree> {
    let name = if packages.is_empty() { "base".to_owned() } else { packages.join("-") };
    let tar = work.join(format!("{name}.tar"));
    let log = work.join(format!("{name}.log"));
    let mut run = command("mmdebstrap");
    run.args(["--variant=apt", "--architectures=amd64", "--format=tar"]);
    run.arg("--aptopt=Acquire::Languages \"none\"");
    run.args(LEAN.map(|option| format!("--dpkgopt={option}")));
    if !packages.is_empty() {
        run.arg(format!("--include={}", packages.join(",")));
    }
    run.arg(SUITE).arg(&tar).env("SOURCE_DATE_EPOCH", EPOCH.to_string());
    let out = File::create(&log).with_context(|| format!("cannot write {}", log.display()))?;
    say(&format!("making a Debian file system ({name})"));
    succeed(run.stdin(std::process::Stdio::null()).stdout(out.try_clone()?).stderr(out))
        .with_context(|| format!("mmdebstrap failed with:\n{}", tail(&log)))?;
    let mut tree = Tree::from_tar(&tar)?;
    for trace in TRACES {
        tree.remove(trace);
    }
    Ok(tree)
}

/// The last lines of a log: it is gone with the directory when the whole has failed.
fn tail(log: &Path) -> String {
    let text = fs::read(log).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(15)..].join("\n")
}
