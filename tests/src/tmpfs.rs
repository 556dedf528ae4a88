//! A file system of the test's own in memory, whose size can be changed while it is used: what a
//! full disk looks like, without filling one.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// Unmounted when it is dropped; what uses it must be gone by then.
pub struct Tmpfs {
    directory: tempfile::TempDir,
}

impl Tmpfs {
    /// # Panics
    /// If this user may not mount: root may, and whoever has `sudo` without a password.
    pub fn mount(mib: u64) -> Tmpfs {
        let directory = tempfile::Builder::new().prefix("berth-tmpfs-").tempdir();
        let directory = directory.expect("a directory to mount on");
        let options = format!("size={mib}m,mode=0777");
        as_root(&["mount", "-t", "tmpfs", "-o", &options, "tmpfs", text(directory.path())]);
        Tmpfs { directory }
    }

    pub fn path(&self) -> &Path {
        self.directory.path()
    }

    /// Leaves so much room beyond what is used now.
    pub fn shrink_to_free_mib(&self, mib: u64) {
        let used = ask("df", &["--output=used", "--block-size=1K", text(self.path())]);
        let used: u64 = used.lines().nth(1).and_then(|n| n.trim().parse().ok()).expect("a number");
        self.resize(&format!("size={}k", used + mib * 1024));
    }

    pub fn grow_to_mib(&self, mib: u64) {
        self.resize(&format!("size={mib}m"));
    }

    fn resize(&self, size: &str) {
        as_root(&["mount", "-o", &format!("remount,{size}"), text(self.path())]);
    }
}

impl Drop for Tmpfs {
    fn drop(&mut self) {
        match run_as_root(&["umount", text(self.path())]) {
            Ok(output) if output.status.success() => {}
            Ok(output) => eprintln!("umount: {}", String::from_utf8_lossy(&output.stderr)),
            Err(error) => eprintln!("umount: {error}"),
        }
    }
}

/// A directory that stands in for `datastores` in a state directory, so that a cell's datastores
/// lie on this file system.
pub fn put_datastores_on(tmpfs: &Tmpfs, state: &Path) {
    let link: PathBuf = state.join("datastores");
    std::os::unix::fs::symlink(tmpfs.path(), link).expect("a link in the state directory");
}

fn as_root(words: &[&str]) {
    let output = run_as_root(words).expect("mount or sudo can be started");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.success(),
        "{} failed: {said}; this test mounts a file system: run it as root",
        words.join(" ")
    );
}

fn run_as_root(words: &[&str]) -> std::io::Result<Output> {
    if ask("id", &["-u"]).trim() == "0" {
        Command::new(words[0]).args(&words[1..]).output()
    } else {
        Command::new("sudo").arg("-n").args(words).output()
    }
}

fn ask(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).output();
    String::from_utf8_lossy(&output.expect("a program of coreutils").stdout).into_owned()
}

fn text(path: &Path) -> &str {
    path.to_str().expect("a text path")
}
